"""Where callers want vectors to be at hand, and which records were of use lately: what residency goes by.

A placement is a wish of its caller's, and no event: the record is what it was. It goes when the record is erased.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from agentmem.stores import transitions
from agentmem.stores.connection import Connection
from agentmem.stores.rows import Subject
from agentmem.stores.schema import LIVE
from agentmem.types.clock import Micros

READ = 500
"""Rows per read: a few milliseconds, during which libSQL lets no other thread run."""


class Used(NamedTuple):
    """A live record that was used or placed: whose it is, where it is placed, its vectors, and what it is worth by."""

    subject: Subject
    user: int
    agent: int
    run: int
    space: int
    vectors: int
    placed: str | None


def place(db: Connection, rows: Iterable[int], tier: str | None) -> None:
    """Place records in a tier; None takes it back. Inside a transaction."""
    if tier is None:
        db.executemany("DELETE FROM placements WHERE row = ?", [(row,) for row in rows])
    else:
        db.executemany("INSERT OR REPLACE INTO placements VALUES (?, ?)", [(row, tier) for row in rows])


def placed(db: Connection, row: int) -> str | None:
    """The tier that a record was placed in."""
    found = db.execute("SELECT tier FROM placements WHERE row = ?", (row,))
    return found[0][0] if found else None


def used(db: Connection, since: Micros) -> Iterator[list[Used]]:
    """Live records that were used since, or are placed in a tier, each once, some hundreds at a time."""
    sql, after = "SELECT row, last_at FROM accesses WHERE row > ? ORDER BY row LIMIT ?", 0
    while found := db.execute(sql, (after, 4 * READ)):
        after = found[-1][0]
        recent = [row for row, at in found if at is not None and at >= since]
        for start in range(0, len(recent), READ):
            yield [one for one in of_rows(db, recent[start : start + READ]) if one.placed is None]
    after = 0
    while found := db.execute("SELECT row FROM placements WHERE row > ? ORDER BY row LIMIT ?", (after, READ)):
        after = found[-1][0]
        yield of_rows(db, [row for (row,) in found])


def of_rows(db: Connection, rows: Sequence[int]) -> list[Used]:
    """Those of the rows that are live."""
    sql = (
        "SELECT r.row, r.user, r.agent, r.run, r.space, r.vectors, p.tier FROM records r "
        f"LEFT JOIN placements p ON p.row = r.row WHERE r.row IN ({{}}) AND r.state = {LIVE}"
    )
    where = {row[0]: row[1:] for row in db.select_in(sql, rows)}
    return [Used(subject, *where[subject.row]) for subject in transitions.subjects(db, rows) if subject.row in where]
