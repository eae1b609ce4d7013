"""``Memory.values``, the place where its operations are documented; ``asyncvalues.py`` has those of ``AsyncMemory``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO, cast, get_args

from agentmem import operations
from agentmem.client.border import Border
from agentmem.client.checks import check_count, check_flag, check_id, check_key, check_limit, check_version
from agentmem.client.erasing import erase_one
from agentmem.client.options import AddOptions, PageOptions
from agentmem.types.checks import check_text
from agentmem.types.enums import Id, Layer, Namespace, Ttl, ValueTierName
from agentmem.types.errors import ConflictError, InvalidInputError, NotFoundError, ScopeError, shown
from agentmem.types.inputs import Scope
from agentmem.types.promise import aside
from agentmem.types.records import MemoryRecord
from agentmem.types.valuekeys import ATTACHMENTS, ROOM
from agentmem.types.values import as_number

if TYPE_CHECKING:
    from agentmem.types.reports import EraseReport
    from agentmem.types.valueinfo import ValueHead, ValueInfo, ValueTier, ValueUsage, ValueVersion
else:
    from agentmem.types.named import EraseReport, ValueHead, ValueInfo, ValueTier, ValueUsage, ValueVersion

_TIERS: tuple[ValueTierName, ...] = get_args(ValueTierName)
_MOST, _HARDEST = 10_000, 19
_ATTEMPTS = 100


class ValuesClient:
    """Bytes, texts, JSON, arrays, tables, files and streams by key: see docs/artifacts.md.

    A value is a record by key in a namespace of its own, so it has a user, versions, a history, metadata and a ``ttl``
    like any other, and searches never meet it.
    """

    def __init__(self, border: Border) -> None:
        self._border = border

    # -- putting -----------------------------------------------------------------------------------------------------

    def put(
        self,
        key: str,
        value: object,
        *,
        user_id: Id | None = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        metadata: Mapping[str, Any] | None = None,
        importance: float | None = None,
        ttl: Ttl | None = None,
        if_version: int | None = None,
        tier: ValueTierName | None = None,
        hold: bool = False,
        pickle: bool = False,
    ) -> ValueInfo:
        """Store a value under a key; what has the key already is replaced, and stays as a version.

        ``value`` is bytes, a str, what JSON has, a NumPy array or another library's that hands it over by DLPack, a
        table of Arrow, pandas or polars, or a stream: a ``Path``, an open binary file, an iterator of bytes, of
        whatever length; memory is taken for half a megabyte of it at a time. It is durable when this returns, and
        ``get`` gives it back as it went in. With ``pickle=True`` anything that Python pickles; reading that back runs
        what is in it.

        ``if_version`` makes it conditional on the version that was read; 0 means that there must be none.

        ``tier`` is where it begins, see ``move``: "hot", "warm", "cold" or "glacier". The rules move it on from there,
        unless ``hold`` says that it stays.

        Raises ``InvalidInputError`` for what none of these is, ``ConflictError``, ``DiskFullError`` and what
        ``Memory.put`` does; then nothing has changed.
        """
        said = {"metadata": metadata, "importance": importance, "ttl": ttl}
        return self._put(
            (user_id, agent_id, run_id, namespace), said, [(key, value, if_version)], (tier, hold), pickle
        )[0]

    def put_many(
        self,
        values: Mapping[str, object],
        *,
        user_id: Id | None = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        metadata: Mapping[str, Any] | None = None,
        importance: float | None = None,
        ttl: Ttl | None = None,
        tier: ValueTierName | None = None,
        hold: bool = False,
        pickle: bool = False,
    ) -> list[ValueInfo]:
        """Store up to 10,000 values by their keys in one transaction: all of them or, if one cannot be, none.

        Fifty times as fast as one by one where values are small, since all of them wait for the disk together.
        """
        if not isinstance(cast("object", values), Mapping):
            raise InvalidInputError(f"put_many takes a mapping of keys to values, not {shown(values)}", field="values")
        if len(values) > _MOST:
            raise InvalidInputError(f"put_many takes at most {_MOST:,} values, got {len(values):,}", field="values")
        said = {"metadata": metadata, "importance": importance, "ttl": ttl}
        items = [(key, value, None) for key, value in values.items()]
        return self._put((user_id, agent_id, run_id, namespace), said, items, (tier, hold), pickle)

    def _put(
        self,
        place: tuple[object, object, object, object],
        said: Mapping[str, Any],
        items: Sequence[tuple[object, object, object]],
        placing: tuple[object, object],
        pickle: object,
    ) -> list[ValueInfo]:
        scope, as_pickle, wanted = self._place(*place), check_flag(pickle, "pickle"), _placing(*placing)
        ours = self._ours(scope)
        options = AddOptions(namespace=scope.namespace, kind="value", layer=Layer.ASSETS, embed=False, data={}, **said)
        defaults = ours.defaults(options)
        drafts = ours.keyed_alike(((key, if_version) for key, _, if_version in items), defaults)
        if not drafts:
            return []
        given = [(draft, value) for draft, (_, value, _) in zip(drafts, items, strict=True)]
        return _verbs().put(self._border.handle.engine(to_commit=True), scope, given, wanted, as_pickle=as_pickle)

    # -- reading -----------------------------------------------------------------------------------------------------

    def get(
        self,
        key: str,
        default: Any = None,
        *,
        start: int | None = None,
        end: int | None = None,
        user_id: Id | None = None,
        namespace: Namespace | None = None,
        device: bool = False,
        pickle: bool = False,
        touch: bool = True,
    ) -> Any:
        """The value of a key as it went in; ``default`` where there is none, or it was deleted or has expired.

        With ``start`` or ``end``, which count as those of a slice, a part: rows of arrays and tables, else bytes. What
        lies outside is not read, but for the rest of the frames (512 KiB) at its ends. A stream comes as what ``open``
        gives. An array of another library comes as that library's where it is installed, else as NumPy's. With
        ``device=True`` a whole array that is hot on a graphics card comes as one there, of PyTorch or CuPy, whichever
        holds it; others come as without. With ``touch=False`` looking is no use of it.

        Raises ``StoreCorruptError`` where anything of it is not what was stored, ``InvalidInputError`` for a part of
        what has none, and for a pickle, unless ``pickle=True``: only for what you have put yourself.
        """
        low, high = _bound(start, "start"), _bound(end, "end")
        part = None if low is None and high is None else (low, high)
        place, pickled = self._place(user_id, None, None, namespace), check_flag(pickle, "pickle")
        there, used = check_flag(device, "device"), check_flag(touch, "touch")
        engine = self._border.handle.engine()
        return _verbs().get(engine, check_key(key), place, default, part, pickled=pickled, device=there, touch=used)

    def get_many(
        self,
        keys: Iterable[str],
        *,
        user_id: Id | None = None,
        namespace: Namespace | None = None,
        pickle: bool = False,
        touch: bool = True,
    ) -> dict[str, Any]:
        """The values of keys, by key; those that are not there are left out."""
        if isinstance(keys, (str, bytes)) or not isinstance(cast("object", keys), Iterable):
            raise InvalidInputError(f"get_many takes keys, a list of them, not {shown(keys)}", field="keys")
        missing, found = object(), dict[str, Any]()
        for key in keys:
            value = self.get(key, missing, user_id=user_id, namespace=namespace, pickle=pickle, touch=touch)
            if value is not missing:
                found[key] = value
        return found

    def open(
        self, key: str, *, user_id: Id | None = None, namespace: Namespace | None = None, touch: bool = True
    ) -> BinaryIO:
        """The bytes of a value, of whatever kind, as a file that is read: what is skipped is not read.

        It goes on reading the version that it began with when the value is replaced. With ``touch=False`` looking is no
        use of it. Raises ``NotFoundError``.
        """
        place, used = self._place(user_id, None, None, namespace), check_flag(touch, "touch")
        return _verbs().open_stream(self._border.handle.engine(), check_key(key), place, touch=used)

    def head(
        self,
        key: str,
        limit: int = 20,
        *,
        user_id: Id | None = None,
        namespace: Namespace | None = None,
        touch: bool = True,
    ) -> ValueHead:
        """The first rows of an array or a table as texts, to be looked at: no library is imported for it, and no more
        is read than what is shown lies in.

        Raises ``NotFoundError``, and ``InvalidInputError`` for a value of another kind, or whose rows are too large.
        """
        most, used = check_limit(limit), check_flag(touch, "touch")
        place = self._place(user_id, None, None, namespace)
        return _verbs().head(self._border.handle.engine(), check_key(key), place, most, touch=used)

    def info(self, key: str, *, user_id: Id | None = None, namespace: Namespace | None = None) -> ValueInfo | None:
        """What the value of a key is, without reading it; None where there is none."""
        place = self._place(user_id, None, None, namespace)
        return _verbs().info(self._border.handle.engine(), check_key(key), place)

    def exists(self, key: str, *, user_id: Id | None = None, namespace: Namespace | None = None) -> bool:
        """Whether there is a value with this key."""
        place = self._place(user_id, None, None, namespace)
        return _verbs().exists(self._border.handle.engine(), check_key(key), place)

    def list(
        self,
        prefix: str = "",
        *,
        user_id: Id | None = None,
        namespace: Namespace | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[ValueInfo]:
        """The values whose keys begin with ``prefix``, by their keys; ``after`` is the last one of the page before."""
        wanted, most = check_text(prefix, "prefix"), check_limit(limit)
        begin = None if after is None else check_text(after, "after")
        place = self._place(user_id, None, None, namespace)
        return _verbs().listed(self._border.handle.engine(), wanted, begin, most, place)

    def query(
        self,
        metadata_filter: Mapping[str, object],
        *,
        user_id: Id | None = None,
        namespace: Namespace | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[ValueInfo]:
        """The values whose metadata meet a filter (docs/filters.md), the newest first."""
        place = self._place(user_id, None, None, namespace)
        options = PageOptions(
            namespace=place.namespace, filters=metadata_filter, limit=check_limit(limit),
            offset=check_count(offset, "offset", 0), touch=False, data=False,
        )  # fmt: skip
        return _verbs().infos(self._border.handle.engine(), self._ours(place).rows(options), place)

    # -- changing ----------------------------------------------------------------------------------------------------

    def delete(
        self,
        key: str,
        *,
        user_id: Id | None = None,
        namespace: Namespace | None = None,
        if_version: int | None = None,
    ) -> bool:
        """Hide a value, which ``Memory.restore`` brings back by its id; False if there was none.

        Raises ``ConflictError`` if it is not at ``if_version``.
        """
        place, wanted = self._place(user_id, None, None, namespace), check_version(if_version, "if_version")
        return operations.keys.delete(self._border.handle.engine(), check_key(key), place, if_version=wanted)

    def erase(self, key: str, *, user_id: Id | None = None, namespace: Namespace | None = None) -> EraseReport:
        """Remove all that was ever put under a key, what was deleted included, for good: see ``Memory.erase``.

        What another value has of the same bytes stays with that one. Raises ``NotFoundError``.
        """
        place = self._place(user_id, None, None, namespace)
        ids = _verbs().ids_of(self._border.handle.engine(), check_key(key), place)
        reports = [erase_one(self._border.handle, id, place) for id in ids]
        pending = dict.fromkeys(what for report in reports for what in report.pending)
        return replace(reports[-1], erased=sum(report.erased for report in reports), pending=tuple(pending))

    def versions(
        self, key: str, *, user_id: Id | None = None, namespace: Namespace | None = None
    ) -> list[ValueVersion]:
        """What a value has been, oldest first. The bytes of the last ten versions that changed any are kept.

        Raises ``NotFoundError``.
        """
        place = self._place(user_id, None, None, namespace)
        return _verbs().versions(self._border.handle.engine(), check_key(key), place)

    def restore(
        self, key: str, version: int, *, user_id: Id | None = None, namespace: Namespace | None = None
    ) -> ValueInfo:
        """Go back to what a value was at a version, as a new version. Raises ``NotFoundError``."""
        place, wanted = self._place(user_id, None, None, namespace), check_version(version, "version")
        return _verbs().restore(self._border.handle.engine(), check_key(key), wanted, place)

    def move(
        self,
        key: str,
        tier: ValueTierName | None,
        *,
        user_id: Id | None = None,
        namespace: Namespace | None = None,
        hold: bool = False,
    ) -> ValueInfo:
        """Have a value lie elsewhere: "hot" on a graphics card or else in memory, "warm" in memory, both of this
        process and besides the disk; "cold" on the disk; "glacier" in the archives of ``[memory.glacier]``.

        From there the rules move it on: by use, with the hours and days of ``[memory.values]``. With ``hold`` it stays
        in its tier, in every process, also where the store is opened anew; None gives it back to the rules. Whatever
        its tier, ``get`` gives the same. A value leaves the disk once its copy in the archive was read back; reading it
        leaves it there.

        Raises ``NotFoundError``, ``ConflictError`` where it is changed all the while, ``InvalidInputError`` where there
        are no archives and for a value with a ``ttl``, ``StoreCorruptError`` for a damaged one, ``ArchiveError`` and
        below.
        """
        place, wanted = self._place(user_id, None, None, namespace), _placing(tier, hold)
        return _verbs().move(self._border.handle.engine(), check_key(key), place, wanted)

    def compress(
        self, key: str, *, level: int = 9, user_id: Id | None = None, namespace: Namespace | None = None
    ) -> int:
        """Pack all versions of a value by zstd at a level of 1 to 19; by how many bytes it takes less on the disk now.

        What is in an archive stays as it is, and so does what would get no smaller. Raises ``NotFoundError``.
        """
        wanted = check_count(level, "level", 1)
        if wanted > _HARDEST:
            raise InvalidInputError(f"level must be 1 to {_HARDEST}, not {shown(level)}", field="level")
        place = self._place(user_id, None, None, namespace)
        return _verbs().compress(self._border.handle.engine(), check_key(key), place, wanted)

    def tiers(self) -> dict[str, ValueTier]:
        """What of values is hot, warm, cold and in the glacier: how many, their bytes, and reads by this process.

        Raises ``ScopeError`` on a scoped view: it is everybody's.
        """
        engine = self._border.handle.engine()
        if self._border.bound is not None:
            raise ScopeError("tiers() counts everybody's values; call it on the memory, not on a scoped view")
        return _verbs().tiers(engine)

    def attach(self, id: Id, *keys: str) -> list[ValueInfo]:
        """Have a memory carry values of its user and namespace; all that it carries then, in this order.

        Their keys are in its metadata, as ``attachments``. Whoever erases the memory erases them, too, unless another
        one carries them. Raises ``NotFoundError`` for a memory or a value that is not there.
        """
        wanted = [check_key(key) for key in keys]
        for _ in range(_ATTEMPTS):
            record, place = self._carrier(id)
            for key in wanted:
                if not _verbs().exists(self._border.handle.engine(), key, place):
                    raise NotFoundError(f"there is no value with the key {key!r} of the user and namespace of {id!r}")
            carried = _carried(record)
            every = list(dict.fromkeys([*carried, *wanted]))
            if every == carried:
                break
            with suppress(ConflictError):  # it was changed since it was read
                _verbs().carry(self._border.handle.engine(), record, every, self._border.bound)
                break
        else:
            raise ConflictError(f"record {id!r} is being changed all the time; attach values when that is over")
        return self.attachments(id)

    def attachments(self, id: Id) -> list[ValueInfo]:
        """The values that a memory carries, without those that are gone. Raises ``NotFoundError``."""
        record, place = self._carrier(id)
        found = (_verbs().info(self._border.handle.engine(), key, place) for key in _carried(record))
        return [info for info in found if info is not None]

    def usage(self) -> ValueUsage:
        """What the values of the store take. Raises ``ScopeError`` on a scoped view: it is everybody's."""
        engine = self._border.handle.engine()
        if self._border.bound is not None:
            raise ScopeError("usage() counts everybody's values; call it on the memory, not on a scoped view")
        return _verbs().usage(engine)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _place(self, user: object, agent: object, run: object, namespace: object) -> Scope:
        """The namespace of the values of a call."""
        scope = self._border.place(user, agent, run, namespace)
        return Scope(scope.user_id, scope.agent_id, scope.run_id, (ROOM, *(scope.namespace or ())))

    def _carrier(self, id: object) -> tuple[MemoryRecord, Scope]:
        """A memory, and where the values are that it may carry."""
        engine, name = self._border.handle.engine(), check_id(id)
        record = operations.read.get(engine, name, self._border.bound, deleted=False, data=False, touch=False)
        if record is None:
            raise NotFoundError(f"there is no record with the id {name!r} here")
        bound = self._border.bound or Scope()
        return record, Scope(record.user_id, bound.agent_id, bound.run_id, (ROOM, *record.namespace))

    def _ours(self, place: Scope) -> Border:
        """The border of whom a place belongs to, where the package's own namespaces may be named."""
        return Border(self._border.handle, replace(place, namespace=None), ours=True)


def _carried(record: MemoryRecord) -> list[str]:
    listed = cast("object", (record.metadata or {}).get(ATTACHMENTS))
    return [key for key in cast("list[object]", listed) if isinstance(key, str)] if isinstance(listed, list) else []


def _placing(tier: object, hold: object) -> tuple[ValueTierName | None, bool]:
    if tier is not None and tier not in _TIERS:
        raise InvalidInputError(f"tier must be one of {', '.join(_TIERS)} or None, not {shown(tier)}", field="tier")
    if check_flag(hold, "hold") and tier is None:
        raise InvalidInputError("hold=True says that a value stays in its tier: say tier=, too", field="hold")
    return tier, bool(hold)


def _bound(value: object, field: str) -> int | None:
    number = as_number(value)
    if number is None or (isinstance(number, int) and not isinstance(number, bool)):
        return number
    raise InvalidInputError(f"{field} must be an int or None, not {shown(value)}", field=field)


@cache
def _verbs() -> Any:
    """What does all this; with it come NumPy and what else values need."""
    return aside(lambda: import_module("agentmem.values.verbs"))
