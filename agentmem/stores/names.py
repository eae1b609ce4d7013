"""Scope ids as numbers: indexes and vectors carry integers, never text that somebody chose."""

from __future__ import annotations

from collections.abc import Sequence

from agentmem.stores import meta
from agentmem.stores.connection import Connection
from agentmem.types.enums import AllUsers
from agentmem.types.errors import NotFoundError
from agentmem.types.spelling import composed, spellings

_KEPT = 200_000


class _Cache:
    """What was read at one epoch. Replaced, never emptied: who began a lookup before goes on with the one of before."""

    __slots__ = ("epoch", "names", "numbers")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.numbers = dict[str, int]()
        self.names = dict[int, str]()

    def remember(self, name: str, number: int) -> None:
        self.numbers[name] = number
        self.names[number] = name


class Names:
    """Two bounded caches over the ``names`` table; safe to share between threads, and takes no locks, so that a signal
    handler may use it on top of anything.

    Numbers are never reused, but a name that nobody has any more is removed, and comes back under another number. Each
    removal bumps an epoch, which is read with every transaction and before every read of a scope (``follow``); what is
    cached is of one epoch. A name that was interned by a transaction is cached once that is durable (``commit``), and
    not at all if it is rolled back (``forget``).
    """

    def __init__(self) -> None:
        self._cache = _Cache(0)
        self._uncommitted: dict[str, int] = {}
        self._removed = False
        """Whether the transaction at hand has removed names, so that what is cached says nothing in it."""

    def follow(self, epoch: int) -> None:
        """The store is at this epoch: what was cached before it may be wrong."""
        # Inside a transaction that removes names the epoch may yet be rolled back, and come again from elsewhere.
        if epoch > self._cache.epoch and not self._removed:
            self._cache = _Cache(epoch)

    def find(self, db: Connection, name: str) -> int | None:
        """The number of a name, or None if nobody has it; of the spellings of a name the given one goes first."""
        for spelling in spellings(name):
            found = self._find_exactly(db, spelling)
            if found is not None:
                return found
        return None

    def _find_exactly(self, db: Connection, name: str) -> int | None:
        cache = self._room()
        found = cache.numbers.get(name)
        if found is None:
            found = self._read(db, name)
            if found is not None:
                cache.remember(name, found)
        return found

    def intern(self, db: Connection, name: str | AllUsers | None) -> int:
        """The number of a name, given out now if it has none; 0 for None. Only inside a transaction."""
        if name is None:
            return 0
        look = self._read if self._removed else self._find_exactly
        for spelling in spellings(str(name)):
            # What is not committed must not be found by ``find``, which would remember it.
            found = self._uncommitted.get(spelling) or look(db, spelling)
            if found is not None:
                return found
        text = composed(str(name))
        found = int(db.execute("INSERT INTO names (value) VALUES (?) RETURNING n", (text,))[0][0])
        self._uncommitted[text] = found
        return found

    def name(self, db: Connection, number: int) -> str | None:
        """The name of a number; None for 0. Raises ``NotFoundError`` for one that was removed."""
        if number == 0:
            return None
        cache = self._room()
        found = cache.names.get(number)
        if found is None:
            rows = db.execute("SELECT value FROM names WHERE n = ?", (number,))
            if not rows:
                raise NotFoundError("the record was erased meanwhile, and so was whose it was")
            found = str(rows[0][0])
            cache.remember(found, number)
        return found

    def remove(self, db: Connection, numbers: Sequence[int]) -> None:
        """Remove names that nobody has any more. Only inside a transaction."""
        self._removed = True
        db.executemany("DELETE FROM names WHERE n = ?", [(number,) for number in numbers])
        meta.put(db, meta.NAMES_EPOCH, int(meta.get(db, meta.NAMES_EPOCH) or 0) + 1)

    def commit(self) -> None:
        """The transaction is durable: what it interned may be shared."""
        # In one step and first, since a finalizer's write on top of this has names of its own.
        uncommitted, self._uncommitted, removed, self._removed = self._uncommitted, {}, self._removed, False
        if not removed:
            cache = self._room()
            for name, number in uncommitted.items():
                cache.remember(name, number)

    def forget(self) -> None:
        """The transaction is over, or was rolled back."""
        self._uncommitted, self._removed = {}, False

    def _read(self, db: Connection, name: str) -> int | None:
        rows = db.execute("SELECT n FROM names WHERE value = ?", (name,))
        return int(rows[0][0]) if rows else None

    def _room(self) -> _Cache:
        """The cache, replaced by an empty one if it is full."""
        cache = self._cache
        if len(cache.numbers) >= _KEPT:
            cache = self._cache = _Cache(cache.epoch)
        return cache
