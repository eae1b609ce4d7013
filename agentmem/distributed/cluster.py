"""``Cluster``: one memory of many shards, each a store that Ray keeps somewhere and that lives in object storage."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agentmem.archive.opening import open_objects
from agentmem.client.memory import Memory
from agentmem.client.partial import summed
from agentmem.distributed import clusteractors
from agentmem.distributed import clustermerge as merging
from agentmem.distributed import clustermoves as moves
from agentmem.distributed.clusterasking import Asking
from agentmem.distributed.clustercalls import (
    CALLS,
    FACES,
    NOT_HERE,
    Rule,
    bound,
    new_ids,
    parts_of,
    signature,
    user_of_item,
)
from agentmem.distributed.clustercore import Core, SplitError, answered, partly
from agentmem.distributed.clusterfaces import Face, face
from agentmem.distributed.shardmap import MapObject, ShardMap
from agentmem.distributed.shards import Ack, ShardSpec, ShardStatus
from agentmem.types.checks import check_count, check_number
from agentmem.types.clock import Clock
from agentmem.types.enums import ALL
from agentmem.types.errors import (
    InvalidInputError,
    ObjectNotFoundError,
    ScopeError,
    ShardUnavailableError,
    StoreError,
)
from agentmem.types.ports import AnyEmbedder
from agentmem.types.records import AddResult, AddResults, MemoryRecord, Page

if TYPE_CHECKING:
    from agentmem.settings import Settings
    from agentmem.types.reports import EraseReport

_PAGE = 200
_LONGEST_S = 31_536_000
"""Seconds: a year."""


class Cluster(Asking):
    """A memory in several shards, with the calls of ``Memory``; see docs/scale.md.

    ``url`` is the folder or bucket where it lives; ``shards`` how many it is to have, if it is a new one. This process
    is connected to Ray before (``ray.init``, or ``clusterlocal.start`` for this machine alone). A user's memories are
    in one shard, so that whatever names its user asks one store; with ``user_id=ALL`` all are asked, and what they
    answer is what one store would.

    ``ack`` says when a write is acknowledged: with ``"replicated"``, once it is also where its shard would come back
    from; with ``"local"``, once it is durable where the shard runs, and what was written in the last ``interval_s``
    seconds is lost with that machine. ``root`` is the folder of the stores on each machine. ``options`` are Ray's for
    the actors (``num_cpus``, ``num_gpus``, ``resources``). A call that nobody answers is made again for ``patience_s``
    seconds; of ``in_flight`` calls to one shard from this process, more wait.

    Safe to share between threads. ``settings``, ``embedder`` and ``clock`` are those of the shards, and of a cluster
    that runs already as it was started with.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        shards: int = 8,
        ack: Ack = "replicated",
        root: str | os.PathLike[str] | None = None,
        interval_s: float = 5.0,
        settings: Settings | None = None,
        embedder: AnyEmbedder = None,
        clock: Clock | None = None,
        options: Mapping[str, Any] | None = None,
        patience_s: float = 60.0,
        in_flight: int = 64,
    ) -> None:
        place = place_of(url)
        if ack not in ("local", "replicated"):
            raise InvalidInputError(f"ack must be 'local' or 'replicated', not {ack!r}", field="ack")
        check_number(interval_s, "interval_s", 0.001, _LONGEST_S)
        check_number(patience_s, "patience_s", 0, _LONGEST_S)
        check_count(in_flight, "in_flight", 1)
        check_count(shards, "shards", 1)
        folder = os.path.join(tempfile.gettempdir(), "agentmem-shards") if root is None else os.path.abspath(root)
        spec = ShardSpec(
            url=place, shard="", turn=0, root=folder, interval_s=interval_s, settings=settings, embedder=embedder,
            clock=clock, options=options or {},
        )  # fmt: skip
        self._core = Core(spec, shards, patience_s, in_flight)
        self._ack: Ack = ack
        self._bound: dict[str, Any] | None = {}

    @classmethod
    def on(cls, core: Core, ack: Ack, scope: dict[str, Any] | None) -> Cluster:
        """One on shards that are reached already; ``scope`` is what a view binds, None for nobody's."""
        made = cls.__new__(cls)
        made._core, made._ack, made._bound = core, ack, scope
        return made

    @classmethod
    def running(cls, url: str | os.PathLike[str], *, patience_s: float = 60.0) -> Cluster:
        """The cluster of a place as it runs, with what it was started with. Raises ``StoreError`` where none does."""
        clusteractors.connect()
        place = place_of(url)
        try:
            made = MapObject(open_objects(place)).read()
        except ObjectNotFoundError as exc:
            raise StoreError(f"there is no cluster at {place}; Cluster({place!r}, shards=...) makes one") from exc
        found = (clusteractors.find(made.actor(shard)) for shard in made.shards)
        spec = next((clusteractors.spec_of(actor) for actor in found if actor is not None), None)
        if spec is None:
            raise StoreError(f"no shard of {place} runs in this Ray; Cluster({place!r}, ...) starts them")
        return cls(
            place, root=spec.root, interval_s=spec.interval_s, settings=spec.settings, embedder=spec.embedder,
            clock=spec.clock, options=spec.options, patience_s=patience_s,
        )  # fmt: skip

    def __reduce__(self) -> tuple[Any, ...]:
        # For Ray's tasks and actors, each of which reaches the shards for itself.
        return _reached, (self._core.spec, self._core.patience_s, self._core.in_flight, self._ack, self._bound)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the shards. They go on, for others; ``shutdown`` ends them. Every call after it raises
        ``ClosedError``."""
        self._core.close()

    def shutdown(self) -> None:
        """Ship what is left and end every shard. The next ``Cluster`` of the place starts them again."""
        moves.shutdown(self._core)

    # -- views ---------------------------------------------------------------------------------------------------------

    def scoped(self, **scope: Any) -> Cluster:
        """A view with the scope bound, as ``Memory.scoped``; of one user, all of its calls go to one shard."""
        if not scope or all(value is None for value in scope.values()):
            raise ScopeError("scoped() needs at least one of user_id, agent_id, run_id, namespace, under")
        if self._bound is None:
            raise ScopeError("userless() is bound to no user; call scoped() on the unbound cluster")
        return self._view({**self._bound, **{name: value for name, value in scope.items() if value is not None}})

    def userless(self) -> Cluster:
        """A view of what was stored without a user."""
        if self._bound:
            raise ScopeError("call userless() on the unbound cluster")
        return self._view(None)

    def _view(self, scope: dict[str, Any] | None) -> Cluster:
        return Cluster.on(self._core, self._ack, scope)

    # -- the cluster itself --------------------------------------------------------------------------------------------

    def shards(self) -> dict[str, ShardStatus | ShardUnavailableError]:
        """How each shard is doing, where it runs, and how far behind what would come back of it is."""
        return self._core.statuses()

    def map(self) -> ShardMap:
        """Which shard has whose memories, as it is now."""
        return self._core.maps.read()

    def shard_of(self, user_id: str | None) -> str:
        """The shard that has a user's memories."""
        return self.map().shard_of(user_id)

    def move(self, shard: str, *, node: str | None = None) -> moves.MoveReport:
        """Move a shard to another node (the beginning of its id; None: wherever Ray has room), while it serves."""
        return moves.move(self._core, shard, node)

    def drain(self, node: str) -> list[moves.MoveReport]:
        """Move every shard away from a node, one after the other; for an upgrade, or to give the machine back."""
        return moves.drain(self._core, node)

    def add_shard(self) -> moves.SplitReport:
        """One more shard, to which users of the largest ones move while they are served."""
        return moves.add_shard(self._core)

    def move_users(self, users: Sequence[str], shard: str | None = None) -> moves.SplitReport:
        """Give users who are much used to a shard of their own, a new one (None) or another one that there is."""
        return moves.move_users(self._core, users, shard)

    # -- calls ---------------------------------------------------------------------------------------------------------

    def add(self, item: Any, **options: Any) -> AddResult:
        """See ``Memory.add``."""
        named = bound("add", (item,), options)
        user = user_of_item(item, self._user(named))
        return self._ask_user(user, "add", (named.pop("item"),), named, CALLS["add"])

    def add_many(self, items: Sequence[Any], **options: Any) -> AddResults:
        """See ``Memory.add_many``; all or none of the items of each shard, whose users are of no other."""
        return self._add_many("add_many", items, options)

    def put_many(self, items: Sequence[Any], **options: Any) -> AddResults:
        """See ``Memory.put_many``; all or none of the items of each shard."""
        return self._add_many("put_many", items, options)

    def erase_all(self, **options: Any) -> EraseReport:
        """See ``Memory.erase_all``. Every shard is asked: what the user left where he was before goes, too."""
        named = bound("erase_all", (), options)
        found = answered(self._ask_all("erase_all", named, CALLS["erase_all"]))
        user = self._user(named)
        return merging.erased(list(found.values())) if user is ALL else found[self.shard_of(user)]

    def add_stream(self, items: Iterable[Any], *, chunk: int = 1_000, **options: Any) -> Iterator[AddResults]:
        """See ``Memory.add_stream``; each list is acknowledged."""
        going = iter(items)
        while part := list(islice(going, chunk)):
            yield self.add_many(part, **options)

    def iterate(self, **options: Any) -> Iterator[MemoryRecord]:
        """See ``Memory.iterate``."""
        cursor: str | None = None
        while True:
            page: Page = self.page(**options, limit=_PAGE, **({} if cursor is None else {"cursor": cursor}))
            yield from page.records
            cursor = page.cursor
            if cursor is None:
                return

    def _add_many(self, name: str, items: Sequence[Any], options: dict[str, Any]) -> AddResults:
        named = bound(name, (items,), options)
        named.pop("items")
        default, given = self._user(named), list(items)
        ids = [new_ids(1, user_of_item(item, default))[0] for item in given]
        found, skipped = dict[int, AddResult](), list[Any]()
        todo = list(range(len(given)))
        while todo:
            parts = parts_of([given[index] for index in todo], default, self._core.maps.known())
            sent = [[todo[at] for at in places] for places in parts.values()]
            todo = list[int]()

            def send(places: list[int]) -> tuple[list[int], AddResults | None]:
                users = tuple(dict.fromkeys(user_of_item(given[index], default) for index in places))
                part = [given[index] for index in places]
                try:
                    result = self._ask_users(
                        users, name, (part,), named, CALLS[name], ids=tuple(ids[index] for index in places)
                    )
                except SplitError:
                    return places, None
                except InvalidInputError as exc:
                    if exc.index is not None:
                        exc.index = places[exc.index]
                    raise
                return places, result

            for places, result in self._core.each(send, sent) if len(sent) > 1 else [send(each) for each in sent]:
                if result is None:
                    todo += places
                    continue
                left = {one.index for one in result.skipped}
                kept = [index for at, index in enumerate(places) if at not in left]
                found.update(zip(kept, result, strict=True))
                skipped += [type(one)(places[one.index], *_rest(one)) for one in result.skipped]
        return AddResults([found[index] for index in sorted(found)], sorted(skipped, key=lambda one: one.index))

    def _call(self, name: str, rule: Rule, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        arguments = bound(name, given, named)
        one = self._bound is None or self._bound.get("user_id") is not None
        if one or (rule.route == "user" and arguments.get("user_id") is not ALL):
            return self._ask_user(self._user(arguments), name, (), arguments, rule)
        if rule.route == "id" and arguments.get("key") is not None:
            return self._ask_user(arguments.get("user_id"), name, (), arguments, rule)
        if rule.route == "user":
            return self._everybody(name, arguments, rule)
        if rule.route == "id":
            return self._by_id(name, arguments, rule)
        if rule.route == "any":
            return self._ask_user(None, name, (), arguments, rule)
        found = answered(self._ask_all(name, arguments, rule))
        if rule.route == "ids":
            return merging.one_each(list(found.values()))
        return merging.groups(list(found.values())) if rule.merge == "groups" else found

    def _everybody(self, name: str, arguments: dict[str, Any], rule: Rule) -> Any:
        if rule.merge == "search":
            return self._search(arguments)
        if rule.merge == "search_many":
            queries = arguments.pop("queries")
            return [self._search({"query": query, **arguments}) for query in queries]
        if rule.merge == "page":
            return self._page(arguments)
        if rule.merge is None:
            raise ScopeError(f"{name}() is one user's here; user_id=ALL is for search, page, count, distinct and lists")
        found = list(answered(self._ask_all(name, arguments, rule)).values())
        if rule.merge == "total":
            return sum(found)
        return merging.distinct(found) if rule.merge == "distinct" else merging.groups(found)

    def _search(self, arguments: dict[str, Any]) -> merging.ClusterResults:
        options = dict(arguments)
        query, limit, offset = options.pop("query", None), options.pop("limit", 10), options.pop("offset", 0)
        rule, short = CALLS["search"], min(self._core.patience_s, 10.0)
        counted = self._ask_all("corpus_of", {"query": query, "options": {**options, "limit": limit}}, rule, short)
        corpora, silent = partly(counted)
        more = {**options, "limit": limit + offset, "touch": False}
        part = {"query": query, "corpus": summed(list(corpora.values())), "options": more}
        parts, missing = partly(self._ask_all("search_part", part, rule, short, corpora))
        home, rank = self._core.maps.known().shard_of, options.get("rank", "score")
        return merging.hits(parts, home, rank, limit, offset, sorted({*missing, *silent}))

    def _page(self, arguments: dict[str, Any]) -> Page:
        options = dict(arguments)
        limit, by, order = int(options.pop("limit", 100)), options.get("by", "added"), options.get("order", "newest")
        if options.pop("offset", 0):
            raise InvalidInputError(
                "offset is for one user's page; use the cursor of a page of everybody", field="offset"
            )
        going = merging.cursors_of(options.pop("cursor", None), self._core.maps.known().shards)

        def read(which: Mapping[str, int]) -> dict[str, Page]:
            calls = {
                shard: self._made("page", (), {**options, "limit": count, "cursor": going[shard] or None}, False)
                for shard, count in which.items()
            }
            return answered(self._core.ask_several(calls, again=True))

        pages = read(dict.fromkeys(going, limit))
        chosen = merging.ordered({shard: page.records for shard, page in pages.items()}, by, order)[:limit]
        taken = {shard: sum(one == shard for one, _ in chosen) for shard in going}
        cut = {shard: count for shard, count in taken.items() if 0 < count < len(pages[shard].records)}
        again = read(cut) if cut else {}
        cursors = {
            shard: again[shard].cursor if shard in again else pages[shard].cursor if taken[shard] else going[shard]
            for shard in going
            if taken[shard] or pages[shard].records
        }
        return Page([record for _, record in chosen], merging.cursor_of(cursors))


def _reached(spec: ShardSpec, patience_s: float, in_flight: int, ack: Ack, scope: dict[str, Any] | None) -> Cluster:
    return Cluster.on(Core(spec, 1, patience_s, in_flight), ack, scope)


def place_of(url: str | os.PathLike[str]) -> str:
    """The URL of a place, which may be a folder's path."""
    place = os.fspath(url)
    if not place:
        raise InvalidInputError("url is empty; give the folder or bucket where the cluster lives", field="url")
    return place if len(urlsplit(place).scheme) > 1 else os.path.abspath(place)


def _rest(skipped: Any) -> tuple[Any, ...]:
    return tuple(getattr(skipped, name) for name in skipped.__dataclass_fields__ if name != "index")


def _method(name: str, rule: Rule) -> Callable[..., Any]:
    @wraps(getattr(Memory, name))
    def call(self: Cluster, *given: Any, **named: Any) -> Any:
        return self._call(name, rule, given, named)  # pyright: ignore[reportPrivateUsage]

    return call


def _refusal(name: str, instead: str) -> Callable[..., Any]:
    def call(self: Cluster, *given: Any, **named: Any) -> Any:
        raise InvalidInputError(f"a cluster has no {name}(): {instead}")

    return call


def _complete() -> None:
    """Give the class every call of ``Memory`` that it does not have yet."""
    for name, rule in CALLS.items():
        if name not in vars(Cluster):
            setattr(Cluster, name, _method(name, rule))
    for name, instead in NOT_HERE.items():
        setattr(Cluster, name, _refusal(name, instead))
    for name in FACES:
        if isinstance(vars(Memory)[name], property):
            setattr(Cluster, name, property(lambda self, name=name: face(self, name)))
        else:
            setattr(Cluster, name, _opener(name))


def _opener(name: str) -> Callable[..., Face]:
    @wraps(getattr(Memory, name))
    def call(self: Cluster, *given: Any, **named: Any) -> Face:
        signature(name).bind(*given, **named)
        return face(self, name, (given, named))

    return call


_complete()
