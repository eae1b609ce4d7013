"""When facts hold, and what they were drawn from.

A fact says since when and until when it holds in the world (``valid_from``, ``valid_to``), and the store notes when it
learned that it holds no more (``retired_at``), and which record took its place (``superseded_by``). It stays; searches
pass over it. The two clocks are independent: what was known at one time about another is asked with both.

Sources are named by row, so that nothing of one that was erased stays in the facts that were drawn from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from agentmem.stores.connection import Connection, Value
from agentmem.stores.rows import ScopeKey, Stored
from agentmem.stores.schema import ARCHIVED
from agentmem.types.clock import Micros
from agentmem.types.errors import ConflictError
from agentmem.types.inputs import Validity

_CHUNK = 5_000
_TIMES = {"records_retired": "retired_at", "records_valid_from": "valid_from", "records_valid_to": "valid_to"}
"""Columns that hide a record, by the index of those that have one."""
_ANY_RETIRED = "SELECT 1 FROM records INDEXED BY records_retired WHERE retired_at IS NOT NULL LIMIT 1"


class Held(NamedTuple):
    """A source of a fact: its row, and which characters of its content say it (None: all of it)."""

    row: int
    first: int | None
    end: int | None


def sources_of(stored: Stored) -> list[Held]:
    """What a fact was drawn from."""
    return [] if stored.evidence is None else [Held(*each) for each in json.loads(stored.evidence)]


def retiring(stored: Stored, now: Micros) -> dict[str, Value]:
    """What changes in a record that holds no more, besides until when it held."""
    return {} if stored.retired_at is not None else {"retired_at": now, "stated_to": stored.valid_to}


def reviving(stored: Stored) -> dict[str, Value]:
    """What changes in a record that holds again, as it was said before it was retired."""
    if stored.retired_at is None:
        return {}
    return {"retired_at": None, "superseded_by": None, "valid_to": stored.stated_to, "stated_to": None}


def begin(stored: Stored, validity: Validity, found: Sequence[Stored | None]) -> Stored:
    """A new record with what is said of when it holds; ``found`` are its sources, as they are there.

    Raises ``ConflictError`` for one that is not there.
    """
    held = list[tuple[int, int | None, int | None]]()
    for source, there in zip(validity.sources, found, strict=True):
        if there is None or there.user != stored.user:
            raise ConflictError(f"there is no record {source.id!r} here, which a fact is to be drawn from")
        said = None if there.state == ARCHIVED else there.content[source.first : source.end]
        if source.words is not None and said is not None and said != source.words:
            raise ConflictError(f"record {source.id!r} says something else now than a fact is to be drawn from")
        held.append((there.row, source.first, source.end))
    return stored._replace(
        valid_from=validity.valid_from,
        valid_to=validity.valid_to,
        retired_at=validity.retired_at,
        evidence=json.dumps(held) if held else None,
    )


def not_holding(db: Connection, key: ScopeKey, *, valid_at: Micros | None, as_of: Micros | None) -> list[int]:
    """Rows of a scope, and maybe some beside it, that are passed over.

    Without ``valid_at`` those that were retired, by ``as_of``. With it, what did not hold at that time of the world, as
    far as was known by ``as_of``: an end that was learned later, by retiring, was not known.
    """
    # Where nothing was ever retired, as in most stores, a statement so short takes a fifth of the time of the other.
    if valid_at is None and not db.execute(_ANY_RETIRED):
        return []
    indexes = ["records_retired"] if valid_at is None else list(_TIMES)
    found = {one.row: one for one in _timed(db, key, indexes)}
    return [row for row, one in found.items() if not holds(one, valid_at, as_of)]


class _Times(NamedTuple):
    row: int
    valid_from: Micros | None
    valid_to: Micros | None
    retired_at: Micros | None
    stated_to: Micros | None


def _known(one: _Times | Stored, as_of: Micros | None) -> bool:
    """Whether it was known by then that it was retired."""
    return one.retired_at is not None and (as_of is None or one.retired_at <= as_of)


def holds(one: _Times | Stored, valid_at: Micros | None, as_of: Micros | None) -> bool:
    """Whether a record holds, or held at a time of the world, as far as was known by ``as_of`` (None: is known)."""
    if valid_at is None:
        return not _known(one, as_of)
    if one.valid_from is not None and valid_at < one.valid_from:
        return False
    if _known(one, as_of):  # without an end it never held, as far as is known
        return one.valid_to is not None and valid_at < one.valid_to
    until = one.valid_to if one.retired_at is None else one.stated_to
    return until is None or valid_at < until


def _timed(db: Connection, key: ScopeKey, indexes: Iterable[str]) -> Iterator[_Times]:
    tests, params = list[str](), list[Value]()
    for column, value in (("user", key.user), ("space", key.space)):
        if value is not None:
            tests.append(f"AND r.{column} = ?")
            params.append(value)
    columns = ", ".join(f"r.{name}" for name in _Times._fields)
    for index in indexes:
        # By the keys of the index, which are in this order.
        after: tuple[Value, ...] = (-1, -1, -1)
        sql = (
            f"SELECT r.user, r.space, {columns} FROM records r INDEXED BY {index} WHERE r.{_TIMES[index]} IS NOT NULL "
            f"{' '.join(tests)} AND (r.user, r.space, r.row) > (?, ?, ?) ORDER BY r.user, r.space, r.row LIMIT ?"
        )
        while found := db.execute(sql, (*params, *after, _CHUNK)):
            yield from (_Times(*row[2:]) for row in found)
            if len(found) < _CHUNK:
                break
            after = found[-1][:3]


def renumbered(stored: Stored, ids: Mapping[int, str], rows: Mapping[str, int]) -> Stored:
    """A record of another store, with the numbers that others have here; what is not here is left out."""
    here = {row: rows[id] for row, id in ids.items() if id in rows}
    held = [(here[one.row], one.first, one.end) for one in sources_of(stored) if one.row in here]
    by = None if stored.superseded_by is None else here.get(stored.superseded_by)
    return stored._replace(evidence=json.dumps(held) if held else None, superseded_by=by)
