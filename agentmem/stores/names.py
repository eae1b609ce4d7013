"""Scope ids and namespaces as numbers: indexes and vectors carry integers, never text that somebody chose."""

from __future__ import annotations

from collections.abc import Sequence

from agentmem.stores import meta, spaces
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
        self.numbers = dict[str | bytes, int]()
        self.names = dict[int, str | bytes]()

    def remember(self, name: str | bytes, number: int) -> None:
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
        self._uncommitted: dict[str | bytes, int] = {}
        self._removed = False
        """Whether the transaction at hand has removed names, so that what is cached says nothing in it."""

    @property
    def epoch(self) -> int:
        """The one that what is cached is of."""
        return self._cache.epoch

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

    def find_space(self, db: Connection, entry: bytes) -> int | None:
        """The number of a namespace, as ``stores.spaces`` makes its entry; None if nobody ever had it."""
        return self._find_exactly(db, entry)

    def spaces_below(self, db: Connection, user: int | None, path: bytes, *, exactly: bool = False) -> list[int]:
        """The numbers of a user's namespaces at a path and below (``exactly``: at it alone); None: of everybody's."""
        if user is not None:
            sql = "SELECT n FROM names WHERE value >= ? AND value < ?"
            return [row[0] for row in db.execute(sql, spaces.below(user, path))]
        length = "length(value) = ?" if exactly else "length(value) >= ?"
        sql = f"SELECT n FROM names WHERE value >= x'' AND substr(value, 9, ?) = ? AND {length}"
        return [row[0] for row in db.execute(sql, (len(path), path, 8 + len(path)))]

    def _find_exactly(self, db: Connection, name: str | bytes) -> int | None:
        cache = self._room()
        found = cache.numbers.get(name)
        if found is None:
            found = self._read(db, name)
            # What is not committed may be rolled back, and its number be the next name's.
            if found is not None and name not in self._uncommitted:
                cache.remember(name, found)
        return found

    def intern(self, db: Connection, name: str | AllUsers | None) -> int:
        """The number of a name, given out now if it has none; 0 for None. Only inside a transaction."""
        if name is None:
            return 0
        look = self._read if self._removed else self._find_exactly
        for spelling in spellings(str(name)):
            found = self._uncommitted.get(spelling) or look(db, spelling)
            if found is not None:
                return found
        text = composed(str(name))
        return self._give(db, text)

    def intern_space(self, db: Connection, entry: bytes) -> int:
        """The number of a namespace, given out now if it has none. Only inside a transaction."""
        look = self._read if self._removed else self._find_exactly
        return self._uncommitted.get(entry) or look(db, entry) or self._give(db, entry)

    def _give(self, db: Connection, name: str | bytes) -> int:
        found = int(db.execute("INSERT INTO names (value) VALUES (?) RETURNING n", (name,))[0][0])
        self._uncommitted[name] = found
        return found

    def path(self, db: Connection, number: int) -> bytes:
        """The path of a namespace's number; the root's for 0. Raises as ``name`` does."""
        return spaces.path_in(self._value(db, number)) if number else b""  # pyright: ignore[reportArgumentType]

    def name(self, db: Connection, number: int) -> str | None:
        """The name of a number; None for 0. Raises ``NotFoundError`` for one that was removed."""
        return None if number == 0 else self._value(db, number)  # pyright: ignore[reportReturnType]

    def _value(self, db: Connection, number: int) -> str | bytes:
        found = self._cache.names.get(number)
        if found is None:
            cache = self._room()  # before the look, since a removal may overtake that
            rows = db.execute("SELECT value FROM names WHERE n = ?", (number,))
            if not rows:
                raise NotFoundError("the record was erased meanwhile, and so was whose it was")
            found = rows[0][0]
            if found not in self._uncommitted:
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

    def mark(self) -> dict[str | bytes, int]:
        """What the transaction has interned so far, for ``back_to``."""
        return dict(self._uncommitted)

    def back_to(self, mark: dict[str | bytes, int]) -> None:
        """The transaction was rolled back to a savepoint, where it had interned this."""
        self._uncommitted = mark

    def forget(self) -> None:
        """The transaction is over, or was rolled back."""
        self._uncommitted, self._removed = {}, False

    def _read(self, db: Connection, name: str | bytes) -> int | None:
        rows = db.execute("SELECT n FROM names WHERE value = ?", (name,))
        return int(rows[0][0]) if rows else None

    def _room(self) -> _Cache:
        """The cache, replaced by an empty one if it is full."""
        cache = self._cache
        if len(cache.numbers) >= _KEPT:
            cache = self._cache = _Cache(cache.epoch)
        return cache
