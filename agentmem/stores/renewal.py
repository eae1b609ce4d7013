"""What reads put off: the end of records that slide. No version, and an event that only the feed knows.

Of a record's TOUCH events the last one is kept: whoever follows the feed learns by that one what the record is now, and
a record that is read all day long would have a thousand of them. Functions expect to be inside a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from agentmem.stores import past
from agentmem.stores.facts import checksum
from agentmem.stores.rows import Stored, exact
from agentmem.stores.schema import LIVE
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros
from agentmem.types.enums import EventType

SHARE = 10
"""A read is written down once this part of the span has passed since the last one that was."""


class Renewal(NamedTuple):
    """A read of a record that slides by a span: when it was, and when the record would have been over."""

    span: Micros
    at: Micros
    end: Micros


def is_due(span: Micros, end: Micros, at: Micros) -> bool:
    """Whether a read at that time is to be written down, of what would be over at ``end``."""
    return at + span - end >= max(span // SHARE, 1)


def renew(repository: Repository, reads: Iterable[tuple[int, Renewal]]) -> None:
    """Put off the end of records that were read. What has changed its span since, or has gone, is left as it is."""
    noted = dict(reads)
    if not noted:
        return
    sql = (
        f"SELECT row, sliding, expires_at, version FROM records WHERE row IN ({{}}) AND state = {LIVE} "
        "AND sliding IS NOT NULL"
    )
    changed = [
        (row, version, noted[row].at + span, noted[row].at, end, span)
        for row, span, end, version in repository.db.select_in(sql, noted)
        if span == noted[row].span and is_due(span, end, noted[row].at)
    ]
    repository.db.executemany(
        "UPDATE records SET expires_at = ? WHERE row = ?", [(end, row) for row, _, end, *_ in changed]
    )
    note(repository, [Touched(row, version, at, end, span) for row, version, _, at, end, span in changed])


def set_ends(
    repository: Repository, changes: Iterable[tuple[Stored, Micros | None, Micros | None]], now: Micros
) -> None:
    """Have live records be over at another time (None: never), and slide by another span (None: not)."""
    pairs = [(old, old._replace(expires_at=end, sliding=span)) for old, end, span in changes]
    changed = [(old, new) for old, new in pairs if new != old]
    repository.db.executemany(
        "UPDATE records SET expires_at = ?, sliding = ?, checksum = ? WHERE row = ?",
        [(exact(new.expires_at), new.sliding, checksum(new), new.row) for _, new in changed],
    )
    note(repository, [Touched(new.row, new.version, now, old.expires_at, old.sliding) for old, new in changed])


class Touched(NamedTuple):
    """A record whose end was set, at its version and when, and what it was: the end and the span of before."""

    row: int
    version: int
    at: Micros
    end: Micros | None
    span: Micros | None


def note(repository: Repository, touched: Sequence[Touched]) -> None:
    """Append TOUCH events, in place of those before."""
    db, rows = repository.db, [each.row for each in touched]
    # Without the index, SQLite would look through the events of all.
    sql = "SELECT seq, row, data FROM history INDEXED BY history_by_row WHERE row IN ({}) AND event = 'TOUCH'"
    before = {row: (seq, data) for seq, row, data in db.select_in(sql, rows)}
    db.executemany("DELETE FROM history WHERE seq = ? AND event = 'TOUCH'", [(seq,) for seq, _ in before.values()])
    repository.note_events(
        (one.row, EventType.TOUCH, one.at, one.version, past.touched(one.end, one.span, before.get(one.row)))
        for one in touched
    )
