"""Scope ids as numbers: indexes and vectors carry integers, never text that somebody chose."""

from __future__ import annotations

from agentmem.stores.connection import Connection
from agentmem.types.enums import AllUsers
from agentmem.types.spelling import composed, spellings

_KEPT = 200_000


class Names:
    """Two bounded caches over the ``names`` table; safe to share between threads.

    Numbers are never reused and rows never change, so what is cached stays true. The exception is a name interned by a
    transaction that is then rolled back: ``forget`` drops those.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._uncommitted: dict[str, int] = {}

    def find(self, db: Connection, name: str) -> int | None:
        """The number of a name, or None if it was never stored; of the spellings of a name the given one goes first."""
        for spelling in spellings(name):
            found = self._find_exactly(db, spelling)
            if found is not None:
                return found
        return None

    def _find_exactly(self, db: Connection, name: str) -> int | None:
        found = self._numbers.get(name)
        if found is None:
            rows = db.execute("SELECT n FROM names WHERE value = ?", (name,))
            if not rows:
                return None
            found = self._remember(name, rows[0][0])
        return found

    def intern(self, db: Connection, name: str | AllUsers | None) -> int:
        """The number of a name, given out now if it has none; 0 for None. Only inside a transaction."""
        if name is None:
            return 0
        for spelling in spellings(str(name)):
            # What is not committed must not be found by ``find``, which would remember it.
            found = self._uncommitted.get(spelling) or self._find_exactly(db, spelling)
            if found is not None:
                return found
        text = composed(str(name))
        found = int(db.execute("INSERT INTO names (value) VALUES (?) RETURNING n", (text,))[0][0])
        self._uncommitted[text] = found
        return found

    def name(self, db: Connection, number: int) -> str | None:
        """The name of a number; None for 0."""
        if number == 0:
            return None
        found = self._names.get(number)
        if found is None:
            found = str(db.execute("SELECT value FROM names WHERE n = ?", (number,))[0][0])
            self._remember(found, number)
        return found

    def commit(self) -> None:
        """The transaction is durable: what it interned may be shared."""
        # First, since a finalizer's write on top of this has names of its own.
        uncommitted, self._uncommitted = self._uncommitted, {}
        for name, number in uncommitted.items():
            self._remember(name, number)

    def forget(self) -> None:
        """The transaction was rolled back."""
        self._uncommitted = {}

    def _remember(self, name: str, number: int) -> int:
        if len(self._numbers) >= _KEPT:
            self._numbers = {}
            self._names = {}
        self._numbers[name] = number
        self._names[number] = name
        return number
