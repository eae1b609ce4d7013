"""What is yet to be looked at, as one record of the user: watermark, parts of the batch at hand, dead letters, lease.

The watermark is the row of the last message whose results are stored. The messages after it are cut into a batch, the
batch into parts where an answer was of no use. A part leaves in the transaction that stores what became of it, and with
the last one the watermark moves on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import isnan
from typing import Any

KEY = "queue"
DONE = 500
"""Inputs that are known to have been paid for."""
LEASED, CLOSED = timedelta(minutes=15), timedelta(days=1)
"""No lease and no pause is longer: what ends later was noted by a clock that was wrong."""


@dataclass(frozen=True)
class Part:
    """Messages, by row, that are looked at together; how often that was tried; inputs that led to nothing."""

    rows: tuple[int, ...]
    tries: int = 0
    tried: tuple[str, ...] = ()
    why: str = ""

    def data(self) -> dict[str, Any]:
        """As it is kept."""
        return {"rows": list(self.rows), "tries": self.tries, "tried": list(self.tried), "why": self.why}


@dataclass(frozen=True)
class Dead:
    """A message that no answer of use was had for."""

    row: int
    why: str
    at: str
    tried: tuple[str, ...] = ()

    def data(self) -> dict[str, Any]:
        """As it is kept."""
        return {"row": self.row, "why": self.why, "at": self.at, "tried": list(self.tried)}


@dataclass(frozen=True)
class Queue:
    """All of it. ``version`` is that of the record it was read from."""

    watermark: int = 0
    until: int = 0
    """The last row of the batch at hand."""
    parts: tuple[Part, ...] = ()
    dead: tuple[Dead, ...] = ()
    owner: str | None = None
    leased_until: datetime | None = None
    failures: int = 0
    """Times in a row that the endpoint failed."""
    closed_until: datetime | None = None
    """When it is to be tried again."""
    done: tuple[str, ...] = ()
    store: str = ""
    """Whose rows these are."""
    anew: bool = False
    """Whether it was begun anew, since the rows were those of another store. Not kept."""
    version: int = 0

    @classmethod
    def of(cls, data: Mapping[str, Any], version: int, store: str) -> Queue:
        """What a record says. One that came from another store, whose rows mean nothing here, is begun anew: what was
        looked at there is looked at again, rather than not at all."""
        if data.get("store") != store:
            return cls(store=store, anew=bool(data), version=version)
        return cls(
            watermark=data.get("watermark", 0),
            until=data.get("until", 0),
            parts=tuple(
                Part(tuple(one["rows"]), one["tries"], tuple(one["tried"]), one["why"]) for one in data.get("parts", ())
            ),
            dead=tuple(Dead(one["row"], one["why"], one["at"], tuple(one["tried"])) for one in data.get("dead", ())),
            owner=data.get("owner"),
            leased_until=_time(data.get("leased_until")),
            failures=data.get("failures", 0),
            closed_until=_time(data.get("closed_until")),
            done=tuple(data.get("done", ())),
            store=store,
            version=version,
        )

    def data(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "watermark": self.watermark,
            "until": self.until,
            "parts": [part.data() for part in self.parts],
            "dead": [each.data() for each in self.dead],
            "owner": self.owner,
            "leased_until": None if self.leased_until is None else self.leased_until.isoformat(),
            "failures": self.failures,
            "closed_until": None if self.closed_until is None else self.closed_until.isoformat(),
            "done": list(self.done[-DONE:]),
            "store": self.store,
        }

    def is_leased(self, owner: str, now: datetime) -> bool:
        """Whether somebody else is at it."""
        return self.owner not in (None, owner) and ahead(self.leased_until, now, LEASED)

    def is_closed(self, now: datetime) -> bool:
        """Whether the endpoint is to be left alone."""
        return ahead(self.closed_until, now, CLOSED)

    def leased(self, owner: str, until: datetime) -> Queue:
        """The same, taken or renewed."""
        return replace(self, owner=owner, leased_until=until)

    def cut(self, rows: Sequence[int]) -> Queue:
        """With a new batch at hand."""
        return replace(self, parts=(Part(tuple(rows)),), until=rows[-1])

    def without_first(self) -> Queue:
        """With what became of the first part stored; with the last one the watermark moves."""
        rest = self.parts[1:]
        return replace(self, parts=rest, watermark=self.watermark if rest else max(self.watermark, self.until))

    def split_first(self, why: str, digest: str, now: datetime) -> Queue:
        """With the first part in halves, or among the dead letters if it is one message alone."""
        part = self.parts[0]
        tried = (*part.tried, digest) if digest else part.tried
        if len(part.rows) <= 1:
            dead = [Dead(row, why, now.isoformat(), tried) for row in part.rows]
            return replace(self.without_first(), dead=(*self.dead, *dead))
        half = len(part.rows) // 2
        halves = (Part(part.rows[:half], 0, tried, why), Part(part.rows[half:], 0, tried, why))
        return replace(self, parts=(*halves, *self.parts[1:]))

    def first_last(self) -> Queue:
        """With the first part behind the others."""
        return replace(self, parts=(*self.parts[1:], *self.parts[:1]))

    def failed(self, now: datetime, most: int, after: float | None) -> Queue:
        """After one more failure of the endpoint; from ``most`` in a row on it is left alone, ever longer."""
        failures = self.failures + 1
        if after is None and failures < most:
            return replace(self, failures=failures)
        return replace(self, failures=failures, closed_until=now + pause(failures, most, after))

    def answered(self) -> Queue:
        """After an answer: the endpoint is there."""
        return replace(self, failures=0, closed_until=None)


def pause(failures: int, most: int, after: float | None) -> timedelta:
    """For how long an endpoint is left alone after so many failures in a row; ``after`` is what it asks for."""
    seconds = min(3_600.0, 60.0 * 2 ** min(10, max(0, failures - most)))
    if after is not None:  # what it says is no reason to ask without a pause, however often
        said = 60.0 if isnan(after) else min(max(after, 1.0), CLOSED.total_seconds())
        seconds = said if failures < most else max(said, seconds)
    return timedelta(seconds=seconds)


def ahead(until: datetime | None, now: datetime, most: timedelta) -> bool:
    """Whether an end lies ahead, as far as the clock that noted it was right."""
    return until is not None and now < until <= now + most


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
