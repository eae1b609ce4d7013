"""``Memory.tiers``, the place where its operations are documented, and ``AsyncMemory.tiers``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast, get_args

from agentmem import operations
from agentmem.client.arguments import archivable
from agentmem.client.border import within
from agentmem.client.checks import check_flag, check_id, check_ids, check_scope
from agentmem.types.enums import Id, Layer, Namespace, Tier, UserId, When
from agentmem.types.errors import InvalidInputError, ScopeError, shown
from agentmem.types.inputs import Scope

if TYPE_CHECKING:
    from agentmem.client.handle import Handle
    from agentmem.types.reports import ArchiveReport, Residence, TierStats
else:
    from agentmem.types.named import ArchiveReport, Residence, TierStats

_TIERS: tuple[Tier, ...] = get_args(Tier)
_INSTEAD = 'a scope is a mapping, such as {"user_id": "ana"}'
_SCOPE = ("user_id", "agent_id", "run_id", "namespace", "under")


class TiersClient:
    """Which memories of large scopes are at hand as they are: see docs/tiers.md."""

    def __init__(self, handle: Handle, bound: Scope | None) -> None:
        self._handle = handle
        self._bound = bound

    def stats(self) -> dict[str, TierStats]:
        """What is hot, warm and cold in this process, by tier: records, bytes, budget, hits, times.

        With archives (docs/glacier.md) also ``glacier``: the records that lie there, the objects and bytes of the
        archives that this store has written, and the requests that this process has made there.

        Raises ``ScopeError`` on a scoped view, since tiers hold everybody's records.
        """
        engine = self._handle.engine()
        if self._bound is not None:
            raise ScopeError("tiers hold everybody's records; call stats() on the memory, not on a scoped view")
        return operations.tiers.stats(engine)

    def explain(self, id: Id) -> Residence:
        """Where a record's vector is at hand in this process, where it belongs, and why. Raises ``NotFoundError``."""
        return operations.tiers.explain(self._handle.engine(), check_id(id), self._bound)

    def place(self, scope_or_ids: Id | Sequence[Id] | Mapping[str, Any], tier: Tier | None) -> int:
        """Have records in a tier whatever their use and score; None lets the rules have them again.

        Of an id, of several, or of a scope: ``place({"user_id": "ana"}, "hot")`` places what Ana has now. Returns how
        many were placed. It is kept until it is taken back or the record is erased, is no event, and is in no backup.
        What finds no room in its tier goes to the next one.

        Raises ``NotFoundError`` for an id that is not there, ``ScopeError``, ``InvalidInputError``.
        """
        if tier is not None and tier not in _TIERS:
            raise InvalidInputError(f"tier must be one of {', '.join(_TIERS)} or None, not {shown(tier)}", field="tier")
        engine = self._handle.engine()
        if isinstance(scope_or_ids, Mapping):
            where = self._scope(scope_or_ids)
            return operations.tiers.place(engine, None, where, self._bound, tier)
        given: object = scope_or_ids
        several = isinstance(given, Sequence) and not isinstance(given, (str, bytes))
        ids = check_ids(cast("object", given), "place", _INSTEAD) if several else [check_id(given)]
        return operations.tiers.place(engine, ids, Scope(), self._bound, tier)

    def archive(
        self,
        ids: Id | Sequence[Id] | None = None,
        *,
        user_id: UserId = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        filters: Mapping[str, object] | None = None,
        kinds: Sequence[str] | None = None,
        layers: Sequence[Layer | str] | None = None,
        before: When | None = None,
        dry_run: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> ArchiveReport:
        """Move records to archives in the place that ``[memory.glacier]`` names: those of some ids, or of a scope.

        Text, vectors and data leave the store; the rest of the row and the history stay. With ``before``, only those
        that were added before that. ``user_id=ALL``, everybody's, takes one of the other arguments besides. What has a
        ``ttl`` stays, since it is to be gone at its end. A record is let go of once its copy was read back; one that
        is changed meanwhile stays. See docs/glacier.md for what calls do with archived records.

        ``progress`` is called with the records that were looked at so far. Raises ``NotFoundError`` for an id that is
        not there, ``ScopeError``, ``InvalidInputError`` where no place is set, ``StoreLockedError`` while another
        process archives, ``ArchiveError`` and below where the place cannot be used. What was moved until then stays
        moved; nothing is lost.
        """
        wanted = check_flag(dry_run, "dry_run")
        more: Any = {} if progress is None else {"progress": progress}
        scope = check_scope(user_id, agent_id, run_id, namespace, under)
        parts = (filters, kinds, layers, before)
        engine = self._handle.engine()
        if ids is not None:
            if scope != Scope() or any(part is not None for part in parts):
                raise InvalidInputError("archive() takes ids, or says which otherwise, not both", field="ids")
            return operations.glacier.archive_ids(
                engine, self._ids(ids, "archive"), self._bound, dry_run=wanted, **more
            )
        zone = self._handle.zone()
        which = archivable(scope, filters, kinds, layers, before, zone, bound=self._bound is not None)
        scope = scope if self._bound is None else within(self._bound, scope)
        return operations.glacier.archive(engine, scope, which, dry_run=wanted, **more)

    def rehydrate(self, ids: Id | Sequence[Id]) -> int:
        """Bring records back from archives, the same to the bit; returns how many lay there.

        The time of each in its layer begins anew. Raises ``NotFoundError`` for an id that is not there,
        ``CapacityError`` for a layer without room, ``ArchiveError`` and below for what cannot be read; what came back
        until then stays.
        """
        return operations.glacier.rehydrate(self._handle.engine(), self._ids(ids, "rehydrate"), self._bound)

    @staticmethod
    def _ids(given: object, call: str) -> list[str]:
        if isinstance(given, Sequence) and not isinstance(given, (str, bytes)):
            return check_ids(cast("object", given), call, "user_id= is for a scope")
        return [check_id(given)]

    def _scope(self, given: Mapping[str, Any]) -> Scope:
        unknown = next((name for name in given if name not in _SCOPE), None)
        if unknown is not None:
            raise InvalidInputError(
                f"{shown(unknown)} says nothing about a scope; there are {', '.join(_SCOPE)}", field="scope_or_ids"
            )
        where = check_scope(*(given.get(name) for name in _SCOPE), write=True)
        if self._bound is not None:
            return within(self._bound, where)
        if where == Scope():
            raise ScopeError("place() needs ids, or a scope with at least one of " + ", ".join(_SCOPE))
        return where


class AsyncTiersClient:
    """``TiersClient`` for event loops: the same operations; what they mean is said there."""

    def __init__(self, blocking: TiersClient, wait: Callable[..., Awaitable[Any]]) -> None:
        self._blocking = blocking
        self._wait = wait

    async def stats(self) -> dict[str, TierStats]:
        """See ``TiersClient.stats``."""
        return await self._wait(self._blocking.stats)

    async def explain(self, id: Id) -> Residence:
        """See ``TiersClient.explain``."""
        return await self._wait(self._blocking.explain, id)

    async def archive(
        self,
        ids: Id | Sequence[Id] | None = None,
        *,
        user_id: UserId = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        filters: Mapping[str, object] | None = None,
        kinds: Sequence[str] | None = None,
        layers: Sequence[Layer | str] | None = None,
        before: When | None = None,
        dry_run: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> ArchiveReport:
        """See ``TiersClient.archive``. ``progress`` is called on another thread."""
        return await self._wait(
            self._blocking.archive, ids, user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace,
            under=under, filters=filters, kinds=kinds, layers=layers, before=before, dry_run=dry_run, progress=progress,
        )  # fmt: skip

    async def rehydrate(self, ids: Id | Sequence[Id]) -> int:
        """See ``TiersClient.rehydrate``."""
        return await self._wait(self._blocking.rehydrate, ids)

    async def place(self, scope_or_ids: Id | Sequence[Id] | Mapping[str, Any], tier: Tier | None) -> int:
        """See ``TiersClient.place``."""
        return await self._wait(self._blocking.place, scope_or_ids, tier)
