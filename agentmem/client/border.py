"""From the arguments of a call to what it does, for both clients; each value is checked here, once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import tzinfo
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from agentmem import operations
from agentmem.client.arguments import (
    check_departed_cursor,
    check_order,
    check_users_cursor,
    departed,
    doomed,
    field_of,
    listing,
    search_request,
)
from agentmem.client.checks import (
    RESERVED,
    check_batch,
    check_count,
    check_flag,
    check_key,
    check_limit,
    check_queries,
    check_scope,
    check_tokens,
    check_turns,
    check_version,
    is_nothing,
    refuse_reserved,
    token_counter,
)
from agentmem.client.drafts import draft, fields_of
from agentmem.client.erasing import erase_scope, erase_user
from agentmem.client.filterhints import FieldHints
from agentmem.client.importing import Importing
from agentmem.client.options import AddOptions, PageOptions, SearchOptions
from agentmem.types.checks import check_text
from agentmem.types.enums import ALL
from agentmem.types.errors import InvalidInputError, ScopeError
from agentmem.types.inputs import Draft, Item, Scope
from agentmem.types.records import MemoryRecord, Page, SearchResults, StoreEvent
from agentmem.types.reports import EraseReport
from agentmem.types.spelling import composed
from agentmem.types.valuekeys import ROOM
from agentmem.types.zones import check_zone

if TYPE_CHECKING:
    from agentmem.client.handle import Handle
    from agentmem.operations.search import Choose
    from agentmem.retrieval.corpus import Corpus
    from agentmem.retrieval.query import Search
    from agentmem.stores.rows import Stored
    from agentmem.types.reports import Group, NamespaceCount, UserPage

ITERATED = 500
"""Records that ``iterate`` reads at a time."""
_ELSEWHERE = "use a memory that is not bound to it, or a session of its own"
"""A view, a session or a key of a server may have bound what a call contradicts."""


class Border:
    """One store's handle and the scope that ``scoped`` bound (None: none). Belongs to no event loop.

    What reads runs to its end here; what adds is checked here and submitted by the client, which waits in its own way.
    """

    def __init__(self, handle: Handle, bound: Scope | None = None, *, ours: bool = False) -> None:
        """``ours``: for the package itself, which may name the namespaces that are its own."""
        self.handle = handle
        self.bound = bound
        self._ours = ours
        self._hints = FieldHints()

    def scoped(
        self, user_id: object, agent_id: object, run_id: object, namespace: object = None, under: object = None
    ) -> Border:
        """The same store with a scope bound. Raises ``ScopeError`` for no scope at all, or not in this one."""
        if all(one is None for one in (user_id, agent_id, run_id, namespace, under)):
            raise ScopeError(
                "scoped() needs at least one of user_id, agent_id, run_id, namespace, under; userless() is for no user"
            )
        return Border(self.handle, self.scope(user_id, agent_id, run_id, namespace, under, write=True))

    def userless(self, agent_id: object, run_id: object) -> Border:
        """The same store with no user bound. Raises ``ScopeError`` in a view of a user."""
        scope = self.scope(None, agent_id, run_id, write=True)
        if scope.user_id is not None:
            bound = f"user_id is bound by scoped() to {scope.user_id!r}"
            raise ScopeError(f"{bound}; call userless() on the unbound memory")
        return Border(self.handle, scope)

    def where(self, id: str) -> Scope | None:
        """What a record is in, for what goes by its id: all that is bound, or the values of a namespace that is."""
        bound = self.bound
        if bound is None or (bound.namespace is None and bound.under is None):
            return bound
        values = bound.inside(ROOM)
        return bound if operations.read.find(self.handle.engine(), id, values, any_state=True) is None else values

    def own(self) -> Border:
        """The same user, or no user, where the package's own namespaces may be named. Not narrowed to an agent."""
        return Border(self.handle, Scope(None if self.bound is None else self.bound.user_id), ours=True)

    def scope(
        self,
        user_id: object,
        agent_id: object,
        run_id: object,
        namespace: object = None,
        under: object = None,
        *,
        write: bool = False,
    ) -> Scope:
        """The scope of a call: what is bound, narrowed by what is given."""
        given = check_scope(user_id, agent_id, run_id, namespace, under, write=write)
        if not self._is_ours:
            refuse_reserved(given.namespace, "namespace")
            refuse_reserved(given.under, "under")
        return given if self.bound is None else within(self.bound, given)

    @property
    def _is_ours(self) -> bool:
        """Whether this is a view that the package made for itself, or of a namespace of its own."""
        path = None if self.bound is None else self.bound.namespace or self.bound.under
        return self._ours or (bool(path) and path[0].startswith(RESERVED))

    def _scope_of(self, options: SearchOptions | PageOptions, *, write: bool = False) -> Scope:
        return self.scope(
            options.user_id, options.agent_id, options.run_id, options.namespace, options.under, write=write
        )

    # -- adding ------------------------------------------------------------------------------------------------------

    def defaults(self, options: AddOptions) -> AddOptions:
        """The arguments of an add call, with the bound scope in them. Only the scope is checked by now."""
        scope = self.place(options.user_id, options.agent_id, options.run_id, options.namespace)
        if self.bound is None:
            return options
        return replace(
            options, user_id=scope.user_id, agent_id=scope.agent_id, run_id=scope.run_id, namespace=scope.namespace
        )

    def place(self, user_id: object, agent_id: object, run_id: object, namespace: object) -> Scope:
        """The scope of a call that puts something somewhere, or finds it there: in one namespace.

        Where all below a namespace is bound and none is given, it is that one.
        """
        return one_place(self.scope(user_id, agent_id, run_id, namespace, write=True))

    def draft(self, item: Item, defaults: AddOptions) -> list[Draft]:
        """Check one item; a list of it, as the engine takes it."""
        return [self.admit(draft(item, defaults, self.handle.settings))]

    def keyed(self, key: object, item: object, defaults: AddOptions, if_version: object) -> Draft:
        """Check one item that is put by a key."""
        wanted = _wanted(if_version)
        given: object = dict[str, object]() if is_nothing(item) else item
        made = self.admit(draft(given, defaults, self.handle.settings))
        if made.validity is not None:
            raise InvalidInputError(
                "valid_from and valid_to are for what is added; what has a key is replaced by what is put",
                field="valid_from",
            )
        return made.put_by(check_key(key), wanted)

    def keyed_alike(self, keys: Iterable[tuple[object, object]], defaults: AddOptions) -> list[Draft]:
        """Check keys, each with the version that it must be at, of which all else is what the arguments say."""
        made = self.admit(draft({}, defaults, self.handle.settings))
        return [made.put_by(check_key(key), _wanted(if_version)) for key, if_version in keys]

    def keyed_batch(self, items: object, defaults: AddOptions) -> list[Draft]:
        """Check items that are put by their keys."""
        batch = check_batch(items, "put_many")
        made, names = list[Draft](), set[object]()
        for index, item in enumerate(batch):
            try:
                if isinstance(item, MemoryRecord):
                    given = fields_of(item)
                elif isinstance(item, Mapping):
                    given = dict(item)
                else:
                    raise InvalidInputError(
                        "an item must be a mapping with 'key' and 'content' or 'data', or a record", field="item"
                    )
                key, if_version = given.pop("key", None), given.pop("if_version", None)
                one = self.keyed(key, given, defaults, if_version)
                place, id = one.place, None if one.id is None else composed(one.id)
                if place in names:
                    raise InvalidInputError(f"the key {one.key!r} occurs twice; put it once", field="key")
                if id is not None and id in names:
                    raise InvalidInputError(f"the id {one.id!r} occurs twice; each record has its own", field="id")
            except InvalidInputError as exc:
                exc.index = index
                raise
            names |= {place, id}
            made.append(one)
        return made

    def by_key(self, id: object, key: object, namespace: object, user_id: object) -> tuple[str, Scope] | None:
        """A key and where it is, for a call that takes an id or a key; None for an id."""
        if (id is None) == (key is None):
            raise InvalidInputError("give an id or a key, one of them", field="id" if key is None else "key")
        if key is None:
            if namespace is not None or user_id is not None:
                raise InvalidInputError("namespace and user_id say where a key is; an id needs neither", field="id")
            return None
        return check_key(key), self.place(user_id, None, None, namespace)

    def admit(self, made: Draft) -> Draft:
        """The draft in the bound scope. Raises ``ScopeError`` for one that lies outside of it."""
        return made if self.bound is None else replace(made, scope=one_place(within(self.bound, made.scope)))

    def importing(
        self, options: AddOptions, *, on_error: object, on_conflict: object, repair: object, source: object
    ) -> Importing:
        """What checks the items of a call that takes many. Only the scope and these are checked by now."""
        return Importing(
            self.handle, self.defaults(options), self.admit,
            on_error=on_error, on_conflict=on_conflict, repair=repair, source=source,
        )  # fmt: skip

    # -- finding -----------------------------------------------------------------------------------------------------

    def search(
        self, query: object, options: SearchOptions, *, choose: Choose | None = None, corpus: Corpus | None = None
    ) -> SearchResults:
        """See ``Memory.search``; with ``choose``, only the hits that it returns the positions of count as found.

        ``corpus`` is what the words weigh where other stores have the rest of the records.
        """
        scope = self._scope_of(options)
        check_flag(options.explain, "explain")
        check_flag(options.data, "data")
        request = search_request(query, scope, options, self._zone(options))
        if corpus is not None:
            request = replace(request, corpus=corpus)
        used = check_flag(options.touch, "touch")
        engine = self.handle.engine()
        found = operations.search.search(
            engine, request, explain=options.explain, data=options.data, touch=used, choose=choose
        )
        if not found and not options.offset and choose is None:
            self.hint(scope, options.filters)
        return found

    def corpus(self, query: object, options: SearchOptions) -> Corpus:
        """What the words of a search weigh in its scope here."""
        request = search_request(query, self._scope_of(options), options, self._zone(options))
        return operations.search.corpus(self.handle.engine(), request)

    def searches(self, queries: object, options: SearchOptions) -> list[Callable[[], SearchResults]]:
        """See ``Memory.search_many``: one call for each query, all of them checked by now."""
        scope, found = self._scope_of(options), list[Callable[[], SearchResults]]()
        explain, data = check_flag(options.explain, "explain"), check_flag(options.data, "data")
        used, zone = check_flag(options.touch, "touch"), self._zone(options)
        requests: list[Search] = []
        for index, query in enumerate(check_queries(queries)):
            try:
                requests.append(search_request(query, scope, options, zone))
            except InvalidInputError as exc:
                raise InvalidInputError(f"queries[{index}]: {exc}", field=exc.field, index=index) from exc
        for start in range(0, len(requests), operations.search.TOGETHER):
            part = requests[start : start + operations.search.TOGETHER]
            several = operations.search.Together([request.query for request in part]) if len(part) > 1 else None
            for number, request in enumerate(part):
                together = None if several is None else (several, number)
                run = partial(
                    operations.search.search, request=request, explain=explain, data=data, touch=used, together=together
                )
                found.append(lambda run=run: run(self.handle.engine()))
        return found

    def context(self, query: object, options: SearchOptions, *, max_tokens: int, count_tokens: object) -> str:
        """See ``Memory.context``; ``limit`` is not the caller's to choose."""
        check_tokens(max_tokens)
        counter = None if count_tokens is None else token_counter(count_tokens)
        scope = self._scope_of(options)
        request = search_request(query, scope, options, self._zone(options))
        used = check_flag(options.touch, "touch")
        return operations.context.context(self.handle.engine(), request, max_tokens, counter, touch=used)

    def _zone(self, options: SearchOptions) -> tzinfo:
        return self.handle.zone() if options.time_zone is None else check_zone(options.time_zone)

    def page(self, options: PageOptions, *, small: bool = False) -> Page:
        """See ``Memory.page``. A ``small`` one ends before its limit where its records have much data."""
        scope = self._scope_of(options)
        wanted, used = check_limit(options.limit), check_flag(options.touch, "touch")
        meant = listing(scope, options, self.handle.zone())
        found = operations.page.page(self.handle.engine(), meant, wanted, touch=used, small=small)
        if not found.records and options.cursor is None and not options.offset:
            self.hint(scope, options.filters)
        return found

    def rows(self, options: PageOptions) -> list[Stored]:
        """The records of a page as rows, those among them that lie in archives."""
        scope = self._scope_of(options)
        wanted, meant = check_limit(options.limit), listing(scope, options, self.handle.zone())
        found = operations.page.with_archived(self.handle.engine(), meant, wanted)
        if not found and not options.offset:
            self.hint(scope, options.filters)
        return found

    def hint(self, scope: Scope, filters: Mapping[str, object] | None) -> None:
        """Warn where a filter found nothing because it asks metadata for a record's own field."""
        if filters:
            self._hints.after_nothing(self.handle.engine(), scope, filters)

    def recent(self, options: PageOptions) -> list[MemoryRecord]:
        """See ``Memory.recent``."""
        scope = self._scope_of(options)
        if scope.run_id is None:
            raise ScopeError("recent() needs run_id, the conversation to continue")
        return self.page(options).records[::-1]

    def pop(self, options: PageOptions, n: object) -> list[MemoryRecord]:
        """See ``Memory.pop``."""
        scope = self._scope_of(options, write=True)
        if scope.run_id is None:
            raise ScopeError("pop() needs run_id, the conversation to take the last turns of")
        wanted = check_turns(n)
        return operations.pop.pop(self.handle.engine(), listing(scope, options, self.handle.zone()), wanted)

    def count(self, options: PageOptions) -> int:
        """See ``Memory.count``."""
        scope = self._scope_of(options)
        return operations.groups.count(self.handle.engine(), listing(scope, options, self.handle.zone()))

    def distinct(self, field: object, options: PageOptions) -> list[Any]:
        """See ``Memory.distinct``."""
        scope = self._scope_of(options)
        wanted = field_of(field)
        return operations.distinct.distinct(self.handle.engine(), listing(scope, options, self.handle.zone()), wanted)

    def groups(self, by: str, options: PageOptions) -> list[Group]:
        """See ``Memory.users`` and its kin."""
        return operations.groups.groups(self.handle.engine(), self._scope_of(options), by)

    def users(self, agent_id: object, run_id: object) -> list[Group]:
        """See ``Memory.users``. A view has the users that it is bound to, however many there are besides."""
        who = ALL if self.bound is None else None
        options = PageOptions(user_id=who, agent_id=cast("Any", agent_id), run_id=cast("Any", run_id))
        return self.groups("users", options)

    def user_page(self, prefix: object, limit: object, cursor: object, *, most: object) -> UserPage:
        """See ``Memory.user_page``."""
        engine = self.handle.engine()
        if self.bound is not None:
            raise ScopeError("user_page() tells of everybody; call it on the unbound memory")
        begins = check_text(prefix, "prefix")
        place = None if cursor is None else check_users_cursor(cursor, begins)
        by_size = check_flag(most, "most")
        if by_size and (begins or place):
            raise InvalidInputError("most has no pages, and no prefix: it gives the first of all users", field="most")
        return operations.groups.user_page(engine, composed(begins), check_limit(limit), place, most=by_size)

    def namespaces(
        self, user_id: object, under: object, depth: object, limit: object, offset: object
    ) -> list[NamespaceCount]:
        """See ``Memory.namespaces``."""
        # What a view is bound to decides, as long as nobody asks for more than it has.
        wanted = None if self.bound is not None and not under else under
        scope = self.scope(user_id, None, None, None, wanted)
        path = scope.under if scope.namespace is None else scope.namespace
        at = replace(scope, namespace=None, under=path or (), agent_id=None, run_id=None)
        cut = None if depth is None else check_count(depth, "depth", 1)
        return operations.groups.namespaces(
            self.handle.engine(), at, cut, check_limit(limit), check_count(offset, "offset", 0)
        )

    def events(self, after: object, before: object, order: object, limit: object) -> list[StoreEvent]:
        """See ``Memory.events``."""
        engine = self.handle.engine()
        if self.bound is not None:
            raise ScopeError("events() tells of everybody's records; call it on the unbound memory")
        until = None if before is None else check_count(before, "before", 0)
        newest = check_order(order, "added")[0] == "newest"
        return operations.read.events(
            engine, check_count(after, "after", 0), until, check_limit(limit), newest_first=newest
        )

    # -- deleting ----------------------------------------------------------------------------------------------------

    def delete_all(self, options: PageOptions, before: object, dry_run: object) -> int:
        """See ``Memory.delete_all``."""
        wanted = check_flag(dry_run, "dry_run")
        scope = self._scope_of(options)
        bound = self.bound is not None
        which = doomed(scope, options.filters, before, self.handle.zone(), bound=bound)
        count = operations.change.delete_matching(self.handle.engine(), scope, which, dry_run=wanted)
        if not count:
            self.hint(scope, options.filters)
        return count

    def erase_all(self, options: PageOptions, rewrite_backups: object) -> EraseReport:
        """See ``Memory.erase_all``."""
        rewrite, scope = check_flag(rewrite_backups, "rewrite_backups"), self._scope_of(options)
        scope = replace(scope, under=scope.under or None)  # erased is what lies anywhere
        if scope == Scope(ALL) or (scope == Scope() and self.bound is None):
            raise ScopeError(
                "erase_all() needs the user_id whose records are to be erased, or agent_id, run_id, namespace or under"
            )
        if scope.user_id is not None and scope == Scope(scope.user_id):
            return erase_user(self.handle, scope, rewrite=rewrite)
        if rewrite:
            raise InvalidInputError(
                "rewrite_backups=True is for all of a user: leave agent_id, run_id, namespace and under out",
                field="rewrite_backups",
            )
        return erase_scope(self.handle, scope)

    # -- what is gone ------------------------------------------------------------------------------------------------

    def deleted(self, options: PageOptions, why: object) -> Page:
        """See ``Memory.deleted``."""
        scope = self._scope_of(options)
        meant = departed(scope, why, options, self.handle.zone())
        limit, after = check_limit(options.limit), check_departed_cursor(meant.why, options.cursor)
        return operations.restore.page(self.handle.engine(), meant, limit, after)

    def restore_all(self, options: PageOptions, why: object, dry_run: object) -> int:
        """See ``Memory.restore_all``."""
        scope = self._scope_of(options, write=True)
        if scope == Scope() and self.bound is None:
            raise ScopeError(
                "restore_all() needs user_id, agent_id or run_id, so that not everything comes back at once"
            )
        meant = departed(scope, why, options, self.handle.zone())
        wanted = check_flag(dry_run, "dry_run")
        return operations.restore.restore_all(self.handle.engine(), meant, dry_run=wanted)


def _wanted(if_version: object) -> int | None:
    """The version that the record of a key must be at; 0: there must be none."""
    wanted = check_version(if_version, "if_version")
    if wanted is not None and wanted < 0:
        raise InvalidInputError(f"if_version={wanted} is no version; 0 means that there is none", field="if_version")
    return wanted


def words_only(options: SearchOptions) -> bool:
    """Whether the search needs no embedding of its query, as far as unchecked arguments tell."""
    mode = cast("object", options.mode)
    if options.vector is not None:
        return True
    return isinstance(mode, str) and mode == "keyword" and options.min_similarity is None


def within(bound: Scope, given: Scope) -> Scope:
    """The bound scope, narrowed by the ids that were given. Raises ``ScopeError`` where they contradict it."""
    merged = list[Any]()
    for name in ("user_id", "agent_id", "run_id"):
        fixed, wanted = getattr(bound, name), getattr(given, name)
        if wanted is not None and fixed is not None and wanted is not ALL and composed(wanted) == composed(fixed):
            wanted = None  # the same name: how the bound one is spelled decides
        if wanted is not None and wanted != fixed and (fixed is not None or name == "user_id"):
            to = "no user" if fixed is None else repr(fixed)
            raise ScopeError(f"{name} is bound to {to} here and cannot be {wanted!r}; {_ELSEWHERE}")
        merged.append(fixed if wanted is None else wanted)
    user, agent, run = merged
    namespace, under = _namespaces_within(bound, given)
    return Scope(user, agent, run, namespace, under)


def _namespaces_within(bound: Scope, given: Scope) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """The same for the namespace and what is below one."""
    namespace, under = given.namespace, given.under
    wanted = namespace if under is None else under
    if wanted is None:
        return bound.namespace, bound.under
    inside = bound.namespace in (None, namespace) and (bound.under is None or wanted[: len(bound.under)] == bound.under)
    if not inside:
        name = "namespace" if under is None else "under"
        raise ScopeError(f"{name}={wanted!r} is not in what is bound here; {_ELSEWHERE}")
    return namespace, under


def one_place(scope: Scope) -> Scope:
    """The scope with one namespace; what was bound ``under`` one lies in that."""
    return scope if scope.under is None else replace(scope, namespace=scope.under, under=None)
