"""Results of recent searches, each good until something behind its wall changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from agentmem.retrieval.query import Found
from agentmem.retrieval.walls import Wall
from agentmem.stores.rows import Stored
from agentmem.types.clock import Micros


@dataclass(frozen=True, slots=True)
class Cached:
    """What a search found, with the rows behind it; public objects are made anew for every caller."""

    found: Found
    stored: dict[int, Stored]
    wall: Wall
    at: Micros


class QueryCache:
    """Least recently used out first. The feed says what to drop, so an entry is never older than its scope."""

    def __init__(self, size: int, ttl_minutes: float) -> None:
        self._size = size
        self._ttl = ttl_minutes * 60_000_000
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, Cached] = OrderedDict()
        self._by_wall: dict[Wall, set[Hashable]] = {}
        self._drops = 0
        self.hits = 0
        self.misses = 0

    def get(self, key: Hashable, now: Micros) -> Cached | None:
        """The entry, if there still is a valid one; a clock that was set back makes it invalid too."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or not 0 <= now - entry.at <= self._ttl:
                self.misses += 1
                return None
            self._entries.move_to_end(key)
            self.hits += 1
            return entry

    @property
    def drops(self) -> int:
        """Changes heard of so far; read before a search and given to ``put`` after it."""
        return self._drops

    def put(
        self, key: Hashable, found: Found, stored: dict[int, Stored], *, wall: Wall, drops: int, now: Micros
    ) -> None:
        """Keep a result, unless the store changed since the search began: it may have missed the change."""
        if not self._size:
            return
        with self._lock:
            if drops != self._drops:
                return
            self._entries[key] = Cached(found, stored, wall, now)
            self._by_wall.setdefault(wall, set()).add(key)
            while len(self._entries) > self._size:
                old, entry = self._entries.popitem(last=False)
                keys = self._by_wall[entry.wall]
                keys.discard(old)
                if not keys:
                    del self._by_wall[entry.wall]

    def drop(self, walls: Iterable[Wall] | None) -> None:
        """Forget what was found behind these walls; None: everything."""
        with self._lock:
            self._drops += 1
            if walls is None:
                self._entries.clear()
                self._by_wall.clear()
                return
            for wall in walls:
                for key in self._by_wall.pop(wall, ()):
                    self._entries.pop(key, None)

    def usage(self) -> dict[str, int]:
        return {"entries": len(self._entries), "hits": self.hits, "misses": self.misses}
