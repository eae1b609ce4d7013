"""What of values a process has at hand: the hot ones on a graphics card, the warm ones in memory, as they were unpacked
and checked.

All of them lie on the disk, or in an archive, too: what is held is a copy, told by the record's row and the version of
its body, so that no read ever gets another version than the record names. What room there is goes to those that were
read last and matter most. Without a card, and for what is no array, hot is memory as well, which is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from threading import RLock
from typing import Any, cast

from typing_extensions import override

from agentmem.engine.engine import Engine
from agentmem.stores import archived, placements
from agentmem.stores.rows import Stored
from agentmem.stores.schema import ARCHIVED
from agentmem.types.clock import Micros
from agentmem.types.enums import Tier
from agentmem.types.errors import InvalidInputError
from agentmem.types.valueinfo import ValueTier
from agentmem.values import kinds
from agentmem.values.devices import Device, OnDevice, chosen
from agentmem.values.kinds import Whole
from agentmem.values.reading import Content, Found

_GB = 10**9
_HOUR = 3_600 * 10**6
_LARGEST = 0.25
"""A value that nobody has placed takes no more than so much of what is for warm ones."""
_LOWER: dict[Tier, Tier | None] = {"hot": "warm", "warm": None}
_RECENT = 60 * 10**6
_COMPARED = 64
"""Where there is no room, of so many that were read longest ago the one goes that is worth the least."""


class InMemory(Whole):
    """Bytes of a value that are held."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.size = len(body)

    @override
    def bytes(self, start: int, end: int) -> bytes:
        return self._body[start:end]

    @override
    def fill(self, buffer: memoryview, start: int) -> None:
        buffer[:] = memoryview(self._body)[start : start + len(buffer)]


@dataclass
class _Entry:
    body: int
    digest: str
    """That of the content: a store that went back to an earlier time gives rows and versions out again."""
    tier: Tier
    whole: Whole
    size: int
    used: Micros
    importance: float

    def is_of(self, stored: Stored, about: Mapping[str, Any]) -> bool:
        return self.body == stored.body and self.digest == about["digest"]

    def worth(self, now: Micros) -> float:
        return (0.5 + self.importance) / (max(0, now - self.used) + _RECENT)


class Holding:
    """What one engine holds. Thread-safe."""

    def __init__(self, engine: Engine) -> None:
        wanted = engine.settings.values
        self._engine, self._wanted = engine, wanted
        self._room: dict[Tier, int] = {
            "hot": round(wanted.hot_size_gb * _GB), "warm": round(wanted.warm_size_gb * _GB)
        }  # fmt: skip
        self._idle: dict[Tier, float] = {
            "hot": wanted.hot_idle_hours * _HOUR, "warm": wanted.warm_idle_hours * _HOUR
        }  # fmt: skip
        self._turn = RLock()
        self._entries = dict[int, _Entry]()
        """By row; what was read last comes last."""
        self._used = Counter[str]()
        """Bytes in each tier."""
        self._hits = Counter[str]()
        self._fallbacks = 0
        self._seen: int | None = None
        self._looks = 0
        """How often what is outdated was let go of."""
        self._device: Device | None = None
        self._asked = False

    # -- reading -----------------------------------------------------------------------------------------------------

    def content(self, found: Found, *, whole: bool) -> Whole:
        """Where to read a value from; one that belongs into memory, and was not there, is now.

        ``whole``: all of it is wanted; of others parts are read where they lie, unless they were placed.
        """
        stored, about, placed, _ = found
        now, size, looks = self._engine.now(), int(about["size"]), self._looks
        held = self._held(stored, about, now)
        if held is not None:
            return held
        # Read with the record. Kept for what is read at once, and no longer: the value may be erased after that.
        only = found.first if whole and found.first is not None and found.first.size >= size else None
        content = Content(self._engine, stored, size, only)
        tier = self._belongs(placed, size, whole=whole)
        self._count("glacier" if stored.state == ARCHIVED else "cold")
        if tier is None or not self.has_room(tier, size):
            return content
        if not (whole or placed is not None):
            return content
        read = InMemory(content.bytes(0, size))
        self.hold(stored, about, read, tier, looks)
        return read

    @property
    def looks(self) -> int:
        """What to ask before a value is read that is to be held."""
        return self._looks

    def hold(self, stored: Stored, about: Mapping[str, Any], whole: InMemory, tier: Tier, looks: int) -> None:
        """Have a value at hand in a tier, or in the next one where that has no room.

        It may have been erased since it was read, which began after so many ``looks``.
        """
        if stored.body is None:
            return
        kept: Whole = whole
        if tier == "hot":
            device = self._card() if about["kind"] == kinds.ARRAY else None
            moved = None if device is None else _copied(device, whole)
            with self._turn:
                self._fallbacks += moved is None
            kept = moved or whole
        importance = 0.5 if stored.importance is None else stored.importance
        entry = _Entry(stored.body, str(about["digest"]), tier, kept, whole.size, self._engine.now(), importance)
        with self._turn:
            self._take(stored.row)
            self._add(stored.row, entry)
            looked = looks != self._looks
        if looked:
            self.drop_outdated(anyway=True)

    def _held(self, stored: Stored, about: Mapping[str, Any], now: Micros) -> Whole | None:
        with self._turn:
            entry = self._entries.get(stored.row)
            if entry is None:
                return None
            self._take(stored.row)
            if not entry.is_of(stored, about):
                return None
            entry.used = now
            self._put(stored.row, entry)
            self._hits[entry.tier] += 1
            return entry.whole

    def _belongs(self, placed: str | None, size: int, *, whole: bool) -> Tier | None:
        """The tier that a value which is read is to be in, None for none."""
        if placed is not None:
            return None if placed == "cold" else cast("Tier", placed)
        return "warm" if whole and size <= _LARGEST * self._room["warm"] else None

    def _count(self, tier: str) -> None:
        with self._turn:
            self._hits[tier] += 1

    # -- room --------------------------------------------------------------------------------------------------------

    def has_room(self, tier: Tier | None, size: int) -> bool:
        """Whether a value of that size could be held in a tier, or in one below."""
        while tier is not None:
            if size <= self._room[tier]:
                return True
            tier = _LOWER[tier]
        return False

    def _add(self, row: int, entry: _Entry) -> None:
        now, tier = self._engine.now(), entry.tier
        if entry.size > self._room[tier]:
            self._sink(row, entry)
            return
        room = self._room[tier]
        if tier == "hot" and self._used[tier] + entry.size > self._wanted.hot_gc_threshold * room:
            self.drop_outdated()
        while self._used[tier] + entry.size > room:
            there = ((key, each) for key, each in self._entries.items() if each.tier == tier)
            least = min(islice(there, _COMPARED), key=lambda one: (one[1].worth(now), one[0]))[0]
            if (taken := self._take(least)) is not None:
                self._sink(least, taken)
        self._put(row, entry)

    def _put(self, row: int, entry: _Entry) -> None:
        self._entries[row] = entry
        self._used[entry.tier] += entry.size

    def _take(self, row: int) -> _Entry | None:
        entry = self._entries.pop(row, None)
        if entry is not None:
            self._used[entry.tier] -= entry.size
        return entry

    def _sink(self, row: int, entry: _Entry) -> None:
        """A tier has no room for a value, or its time there is over: it goes to the next one."""
        lower = _LOWER[entry.tier]
        if lower is None or entry.size > self._room[lower]:
            return
        if isinstance(entry.whole, OnDevice):
            entry.whole = InMemory(entry.whole.bytes(0, entry.size))
        entry.tier = lower
        self._add(row, entry)

    def tidy(self) -> None:
        """Let go of what was not read for as long as its tier says, unless it was placed, and of what is outdated."""
        self.drop_outdated()
        now = self._engine.now()
        with self._turn:
            idle = [row for row, each in self._entries.items() if now - each.used >= self._idle[each.tier]]
        placed = {row for row in idle if placements.placed(self._engine.repository.db, row) is not None}
        with self._turn:
            for row in idle:
                entry = self._entries.get(row)
                if row in placed or entry is None or now - entry.used < self._idle[entry.tier]:
                    continue
                self._take(row)
                if entry.tier == "hot" and now - entry.used < self._idle["warm"]:
                    self._sink(row, entry)

    def drop_outdated(self, *, anyway: bool = False) -> None:
        """Let go of what was erased, deleted or replaced, here or in another process."""
        records = self._engine.repository
        seen = records.last_seq()
        with self._turn:
            rows = list(self._entries)
            self._looks += anyway or seen != self._seen
            if not rows or (seen == self._seen and not anyway):
                return
            self._seen = seen
        there = {stored.row: stored.body for stored in records.find_rows(rows) if archived.is_there(stored)}
        with self._turn:
            for row in rows:
                if row in self._entries and there.get(row) != self._entries[row].body:
                    self._take(row)

    def drop(self, rows: Sequence[int]) -> None:
        """Let go of values."""
        with self._turn:
            for row in rows:
                self._take(row)

    def clear(self) -> None:
        """Let go of all."""
        with self._turn:
            self._entries.clear()
            self._used.clear()

    # -- what there is -----------------------------------------------------------------------------------------------

    def tier_of(self, stored: Stored, about: Mapping[str, Any]) -> Tier:
        """Where a value that is here is read from."""
        with self._turn:
            entry = self._entries.get(stored.row)
            return entry.tier if entry is not None and entry.is_of(stored, about) else "cold"

    def on_device(self, stored: Stored, about: Mapping[str, Any]) -> Any:
        """The array on the card, a copy; None where it is not on one."""
        with self._turn:
            entry = self._entries.get(stored.row)
        if entry is None or not entry.is_of(stored, about) or not isinstance(entry.whole, OnDevice):
            return None
        return entry.whole.array(about)

    def stats(self) -> dict[str, ValueTier]:
        """What is hot and warm, and how often each tier was read."""
        with self._turn:
            made = dict[str, ValueTier]()
            for tier in ("hot", "warm"):
                sizes = [each.size for each in self._entries.values() if each.tier == tier]
                device = self._device.name if self._device is not None and tier == "hot" else None
                made[tier] = ValueTier(
                    len(sizes), sum(sizes), self._room[tier], self._hits[tier], device,
                    self._fallbacks if tier == "hot" else 0,
                )  # fmt: skip
            return made

    @property
    def hits(self) -> Counter[str]:
        """Reads by tier."""
        return self._hits

    def _card(self) -> Device | None:
        with self._turn:
            if not self._asked:
                self._device = chosen(self._wanted.device)
                self._asked = True
            return self._device


def _copied(device: Device, whole: InMemory) -> OnDevice | None:
    """The bytes on a card; None where it has no room, or fails: memory does then."""
    try:
        return device.copied(whole.bytes(0, whole.size))
    except InvalidInputError:
        raise
    except Exception:  # each library has its own
        return None


def holding_of(engine: Engine) -> Holding:
    """What an engine holds."""
    found = engine.values
    if not isinstance(found, Holding):
        found = engine.values = Holding(engine)
    return found
