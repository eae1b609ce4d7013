"""``Memory.tiers``, the place where its operations are documented, and ``AsyncMemory.tiers``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast, get_args

from agentmem import operations
from agentmem.client.border import within
from agentmem.client.checks import check_id, check_ids, check_scope
from agentmem.types.enums import Id, Tier
from agentmem.types.errors import InvalidInputError, ScopeError, shown
from agentmem.types.inputs import Scope

if TYPE_CHECKING:
    from agentmem.client.handle import Handle
    from agentmem.types.reports import Residence, TierStats
else:
    from agentmem.types.named import Residence, TierStats

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

    async def place(self, scope_or_ids: Id | Sequence[Id] | Mapping[str, Any], tier: Tier | None) -> int:
        """See ``TiersClient.place``."""
        return await self._wait(self._blocking.place, scope_or_ids, tier)
