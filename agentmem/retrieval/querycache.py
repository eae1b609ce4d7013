"""Results of recent searches, each good until something behind its wall changes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from threading import RLock

from agentmem.retrieval.query import Found
from agentmem.retrieval.walls import Wall
from agentmem.stores.rows import Stored
from agentmem.types.clock import Micros


@dataclass(slots=True)
class Cached:
    """What a search found, with the rows behind it; public objects are made anew for every caller."""

    found: Found
    stored: dict[int, Stored]
    wall: Wall
    at: Micros
    uses: int
    """How often accesses were written down by the time that those of the rows were read."""


class QueryCache:
    """Least recently used out first. The feed says what to drop, so an entry is never older than its scope.

    Also where a signal handler raises in the middle of a change, or comes by here on top of one.
    """

    def __init__(self, size: int, ttl_minutes: float) -> None:
        self._size = size
        self._ttl = ttl_minutes * 60_000_000
        self._lock = RLock()
        self._entries: OrderedDict[Hashable, Cached] = OrderedDict()
        self._by_wall: dict[Wall, set[Hashable]] = {}
        """Has the key of every entry; more than that do no harm."""
        self._drops = 0
        self.hits = 0
        self.misses = 0

    def get(self, key: Hashable, now: Micros) -> Cached | None:
        """The entry, if there still is a valid one; a clock that was set back makes it invalid too."""
        with self._lock:
            entries = self._entries
            entry = entries.get(key)
            if entry is None or not 0 <= now - entry.at <= self._ttl:
                self.misses += 1
                return None
            with suppress(KeyError):  # dropped by what came on top of this
                entries.move_to_end(key)
            self.hits += 1
            return entry

    @property
    def drops(self) -> int:
        """Changes heard of so far; read before a search and given to ``put`` after it."""
        return self._drops

    def put(
        self,
        key: Hashable,
        found: Found,
        stored: dict[int, Stored],
        *,
        wall: Wall,
        drops: int,
        now: Micros,
        uses: int = 0,
    ) -> None:
        """Keep a result, unless the store changed since the search began: it may have missed the change."""
        if not self._size:
            return
        with self._lock:
            if drops != self._drops:
                return
            entries, by_wall = self._entries, self._by_wall
            by_wall.setdefault(wall, set()).add(key)
            entries[key] = Cached(found, stored, wall, now, uses)
            if drops != self._drops:
                # Dropped by what came on top of this, before it was there.
                entries.pop(key, None)
                _forget(by_wall, wall, key)
            while len(entries) > self._size:
                with suppress(KeyError):
                    old, entry = entries.popitem(last=False)
                    _forget(by_wall, entry.wall, old)

    def drop(self, walls: Iterable[Wall] | None) -> None:
        """Forget what was found behind these walls; None: everything."""
        if walls is None:
            # Without the lock: the commit thread, which calls this, waits for nobody who searches.
            # New ones, so that whoever is in the middle of the old ones goes on with those.
            self._drops += 1
            self._entries, self._by_wall = OrderedDict(), {}
            return
        with self._lock:
            self._drops += 1
            entries, by_wall = self._entries, self._by_wall
            for wall in walls:
                for key in tuple(by_wall.get(wall, ())):
                    entries.pop(key, None)
                by_wall.pop(wall, None)

    def usage(self) -> dict[str, int]:
        return {"entries": len(self._entries), "hits": self.hits, "misses": self.misses}


def _forget(by_wall: dict[Wall, set[Hashable]], wall: Wall, key: Hashable) -> None:
    keys = by_wall.get(wall)
    if keys is not None:
        keys.discard(key)
        if not keys:
            by_wall.pop(wall, None)
