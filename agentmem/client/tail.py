"""The last turns of a session in memory: right in every process, since they are only used where the feed has moved on
without them."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING

from agentmem import operations
from agentmem.types.clock import Micros
from agentmem.types.inputs import Scope
from agentmem.types.reentry import held_here

if TYPE_CHECKING:
    from agentmem.engine.engine import Engine
    from agentmem.operations.turns import Turn

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

    def read(self, engine: Engine, scope: Scope, limit: int) -> list[Turn]:
        """The last ``limit`` turns, oldest first, as of now."""
        if held_here(self._lock):  # in a signal handler, on top of a read that is in the middle of this
            return operations.turns.newest(engine, scope, limit)
        with self._lock:
            seq, now = operations.turns.seq(engine), engine.now()
            if now >= self._until:
                self._forget()
            elif seq != self._seq:
                self._follow(engine, scope, seq)
            if self._seq < 0 or (limit > len(self._turns) and not self._whole):
                return self._load(engine, scope, seq, limit)
            return self._turns[-limit:]

    def _follow(self, engine: Engine, scope: Scope, seq: int) -> None:
        """Bring it up to an event."""
        last = self._turns[-1].row if self._turns else 0
        changed = operations.turns.changed(engine, scope, self._seq, last)
        if changed is True:
            self._forget()
            return
        if changed is False:
            new = operations.turns.newest(engine, scope, _MOST, after=last)
            if len(new) == _MOST:
                self._forget()
                return
            self._keep(self._turns + new, whole=self._whole)
        self._seq = seq

    def _load(self, engine: Engine, scope: Scope, seq: int, limit: int) -> list[Turn]:
        found = operations.turns.newest(engine, scope, limit)
        self._keep(found, whole=len(found) < limit)
        self._seq = seq
        return found

    def _keep(self, turns: list[Turn], *, whole: bool) -> None:
        self._turns, self._whole = turns[-_MOST:], whole and len(turns) <= _MOST
        self._until = min((turn.expires_at for turn in self._turns if turn.expires_at is not None), default=_NEVER)
        self.nbytes = sum(_EACH + len(turn.content) + len(turn.data or "") for turn in self._turns)
