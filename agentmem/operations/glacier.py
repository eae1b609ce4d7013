"""Moving records to archives and back; and what other operations do first where a record lies in one.

What reads a record by its id or key, or lists archived ones, fetches what it says. What changes one makes it whole
first, but for deleting and erasing, which need nothing of the archive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from agentmem.operations.read import find
from agentmem.stores import archived, keys
from agentmem.stores.rows import AwayError, Stored, not_found
from agentmem.stores.schema import ARCHIVED, ERASED, LIVE
from agentmem.stores.timeline import Conditions
from agentmem.types.inputs import Draft, Scope
from agentmem.types.reports import ArchiveReport

if TYPE_CHECKING:
    from agentmem.engine.engine import Engine

T = TypeVar("T")
_ATTEMPTS = 5
Progress = Callable[[int], object]


def archive(
    engine: Engine, scope: Scope, conditions: Conditions, *, dry_run: bool, progress: Progress = lambda done: None
) -> ArchiveReport:
    """Move the live records of a scope that satisfy the conditions; see ``TiersClient.archive``."""
    engine.check()
    return _archive(engine, _matching(engine, scope, conditions), dry_run, progress)


def archive_ids(
    engine: Engine,
    ids: Sequence[str],
    scope: Scope | None,
    *,
    dry_run: bool,
    progress: Progress = lambda done: None,
) -> ArchiveReport:
    """The same of some records. Raises ``NotFoundError`` for one that is neither live nor archived."""
    found = dict[int, Stored]()
    for id in ids:
        stored = find(engine, id, scope, any_state=True)
        if stored is None or stored.state not in (LIVE, ARCHIVED):
            raise not_found(id)
        found[stored.row] = stored
    return _archive(engine, sorted(found), dry_run, progress)


def _archive(engine: Engine, rows: Iterable[int], dry_run: bool, progress: Progress) -> ArchiveReport:
    if dry_run:
        looked = leaving = 0
        for stored in engine.repository.find_rows(rows):
            looked, leaving = looked + 1, leaving + archived.may_leave(engine.repository, stored)
        return ArchiveReport(leaving, looked - leaving, 0, 0, dry_run=True)
    from agentmem.glacier import writing

    return writing.archive(engine, rows, progress=progress)


def _matching(engine: Engine, scope: Scope, conditions: Conditions) -> Iterator[int]:
    """The scope's live records that satisfy the conditions; those added meanwhile are left out."""
    key, records = engine.key(scope), engine.repository
    if key is None:
        return iter(())
    tests = " AND ".join(["r.row <= ?", *conditions[0]])
    return records.matching(key, tests, (records.last_row(), *conditions[1]))


def rehydrate(engine: Engine, ids: Sequence[str], scope: Scope | None) -> int:
    """Bring records back; how many lay in archives. Raises ``NotFoundError``; see ``TiersClient.rehydrate``."""
    engine.check_writable()
    found = dict[int, Stored]()
    for id in ids:
        stored = find(engine, id, scope, any_state=True)
        if stored is None or stored.state == ERASED:
            raise not_found(id)
        found[stored.row] = stored
    away = archived.places(engine.repository.db, found)
    if not away:
        return 0
    from agentmem.glacier import returning

    return returning.rehydrate(engine, [found[row] for row in sorted(away)])


# -- before other operations -------------------------------------------------------------------------------------------


def once_here(bring: Callable[[], None], change: Callable[[], T]) -> T:
    """Change records once ``bring`` has made them whole; again where they were archived in between.

    Raises ``AwayError``, a ``ConflictError``, where that happens time and again.
    """
    for _ in range(_ATTEMPTS):
        bring()
        with suppress(AwayError):
            return change()
    bring()
    return change()


def is_away(exc: Exception) -> bool:
    """Whether a change was not made since a record has gone to an archive: with ``once_here`` it is."""
    return isinstance(exc, AwayError)


def thaw(engine: Engine, ids: Iterable[str], scope: Scope | None) -> None:
    """Make records whole that are to be changed; ids that are nobody's are passed over."""
    if archived.is_used(engine.repository.db):
        found = (find(engine, id, scope, any_state=True) for id in ids)
        thaw_rows(engine, [stored.row for stored in found if stored is not None and stored.state != ERASED])


def thaw_keys(engine: Engine, places: Iterable[tuple[str, Scope]]) -> None:
    """The same of records by their keys, each in the namespace of a scope."""
    if archived.is_used(engine.repository.db):
        engine.check()
        found = (keys.find(engine.repository, key, engine.key(scope)) for key, scope in places)
        thaw_rows(engine, [stored.row for stored in found if stored is not None])


def thaw_drafts(engine: Engine, drafts: Sequence[Draft]) -> None:
    """The same of what drafts are to replace."""
    if archived.is_used(engine.repository.db):
        places = [(draft.key, Scope(draft.scope.user_id, None, None, draft.scope.namespace)) for draft in drafts]
        thaw_keys(engine, [(key, scope) for key, scope in places if key is not None])


def thaw_rows(engine: Engine, rows: Sequence[int]) -> None:
    """The same of records by row."""
    if archived.places(engine.repository.db, rows):
        from agentmem.glacier import returning

        returning.thaw(engine, rows)
