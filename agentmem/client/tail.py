"""The last turns of a session in memory: right in every process, since they are only used where the feed has moved on
without them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import RLock
from typing import TYPE_CHECKING, TypeAlias

from agentmem import operations
from agentmem.types.clock import Micros
from agentmem.types.inputs import Scope
from agentmem.types.reentry import held_here

if TYPE_CHECKING:
    from agentmem.agent.turns import Turn
    from agentmem.engine.engine import Engine
    from agentmem.operations.turns import Turn as Row

Public: TypeAlias = "Callable[[Sequence[Row]], list[Turn]]"
_MOST = 4_000
"""Turns kept of one session."""
_EACH = 600
"""Bytes of a turn beside its texts."""
_NEVER = 2**62


class Tail:
    """What was read of one session: its last turns, as of an event of the feed. Thread-safe."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._forget()

    def _forget(self) -> None:
        self._turns = list["Turn"]()
        self._whole = False
        """Whether there are no turns before these."""
        self._seq = -1
        self._until: Micros = 0
        self.nbytes = 0

    def read(self, engine: Engine, scope: Scope, limit: int, public: Public) -> list[Turn]:
        """The last ``limit`` turns, oldest first, as of now.

        ``public`` makes turns of rows; they are made once, and shared, since nothing changes them. It is not kept: it
        knows the client, which is not to live for as long as this.
        """
        if held_here(self._lock):  # in a signal handler, on top of a read that is in the middle of this
            return public(operations.turns.newest(engine, scope, limit))
        with self._lock:
            seq, now = operations.turns.seq(engine), engine.now()
            if now >= self._until:
                self._forget()
            elif seq != self._seq:
                self._follow(engine, scope, seq, public)
            if self._seq < 0 or (limit > len(self._turns) and not self._whole):
                return self._load(engine, scope, seq, limit, public)
            return self._turns[-limit:]

    def _follow(self, engine: Engine, scope: Scope, seq: int, public: Public) -> None:
        """Bring it up to an event."""
        last = self._turns[-1].row if self._turns else 0
        changed = operations.turns.changed(engine, scope, self._seq, last)
        new = operations.turns.newest(engine, scope, _MOST, after=last) if changed is not None and changed.more else []
        if changed is None or len(new) == _MOST:
            self._forget()
            return
        if new or changed.gone:
            kept = [turn for turn in self._turns if turn.row not in changed.gone]
            self._keep(kept + public(new), new, whole=self._whole)
        self._seq = seq

    def _load(self, engine: Engine, scope: Scope, seq: int, limit: int, public: Public) -> list[Turn]:
        found = operations.turns.newest(engine, scope, limit)
        self._until = _NEVER
        shown = self._keep(public(found), found, whole=len(found) < limit)
        self._seq = seq
        return shown

    def _keep(self, turns: list[Turn], new: Sequence[Row], *, whole: bool) -> list[Turn]:
        """Keep the last of the turns, of which these rows are new; returns all of them."""
        self._turns, self._whole = turns[-_MOST:], whole and len(turns) <= _MOST
        ends = [row.expires_at for row in new if row.expires_at is not None]
        self._until = min(self._until, *ends) if ends else self._until
        self.nbytes = sum(_EACH + len(turn.content) + len(turn.data or "") for turn in self._turns)
        return turns
