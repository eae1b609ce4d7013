"""Erasing: every trace of a text, and of a person, from libSQL now and from what is derived in the background."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from agentmem.embedding.cache import CachedEmbedder
from agentmem.engine.engine import Engine
from agentmem.engine.metering import metered
from agentmem.operations.page import matching
from agentmem.operations.read import find, find_erased
from agentmem.stores import archived, derived, erasure, meta
from agentmem.stores.alone import remove_copies
from agentmem.stores.chunkupkeep import remove_files
from agentmem.stores.folder import is_set_aside, path_of
from agentmem.stores.rows import Stored, not_found
from agentmem.stores.schema import ERASED
from agentmem.stores.upkeep import empty_wal
from agentmem.stores.writes import Repository
from agentmem.text import similar, words
from agentmem.types.clock import Micros
from agentmem.types.inputs import Scope
from agentmem.types.reports import EraseReport, Erasure


@metered("erase")
def erase(engine: Engine, id: str, scope: Scope | None) -> EraseReport:
    """Erase one record, in whatever state. Raises ``NotFoundError``."""
    engine.check_writable()
    stored = find(engine, id, scope, any_state=True)
    if stored is None:
        if find_erased(engine, id, scope) is None:
            raise not_found(id)
        return EraseReport(0, tuple(_wipe(engine)))
    count = engine.write(partial(_erase, [stored], engine.now, scope or Scope()))
    if count:
        _forget(engine)
    return EraseReport(count, tuple(_wipe(engine)))


@metered("erase")
def erase_matching(engine: Engine, scopes: Sequence[Scope]) -> EraseReport:
    """Erase every record of some scopes, deleted ones too, as if one by one: for a while it can be told that there were
    any, and their users stay."""
    engine.check_writable()
    count = 0
    for scope in scopes:
        for found in matching(engine, scope, deleted_too=True):
            count += engine.write(partial(_erase, found, engine.now, scope))
    if count:
        _forget(engine)
    return EraseReport(count, tuple(_wipe(engine)))


@metered("erase")
def erase_all(engine: Engine, scope: Scope) -> EraseReport:
    """Erase every record of a user, deleted ones too, and what stays of those that were erased before.

    One line says so. Everything else goes as soon as every copy has seen it, ids that nobody else has included.
    """
    engine.check_writable()
    user_id, count, line = str(scope.user_id), 0, None
    number = engine.repository.names.find(engine.repository.db, user_id)
    for found in matching(engine, scope, deleted_too=True):
        erased, line = engine.write(partial(_erase_and_note, found, user_id, engine.now, line))
        count += erased
    while True:
        hastened, line = engine.write(partial(_hasten_and_note, scope, user_id, engine.now, line))
        if hastened < erasure.MARKED:
            break
    ids = []
    if line is not None:
        engine.write(lambda repository: erasure.mark(repository, engine.now()))
        _forget(engine)
        ids = ["ids"]
    shut = _forget_user(engine, user_id, number)
    pending = _wipe(engine)
    if not shut and "archives" not in pending:
        pending.append("archives")
    return EraseReport(count, (*pending, *ids))


def erasures(engine: Engine, user_id: str) -> list[Erasure]:
    """What stays of a user whose records were erased."""
    engine.check()
    return erasure.erasures(engine.repository, user_id)


def _erase(found: Iterable[Stored], now: Callable[[], Micros], by: Scope | None, repository: Repository) -> int:
    """Erase those of the records that are not erased yet, now that the transaction has begun, with what they carry of
    whom ``by`` narrows to; without it, they are all of a user's, and nothing stays to tell of them."""
    current = [item for item in repository.find_rows(item.row for item in found) if item.state != ERASED]
    current += derived.orphans(repository, current)
    instant = now()
    until = erasure.AT_ONCE if by is None else instant + erasure.KEPT
    count = erasure.erase(repository, current, instant, until, carried=by)
    if current:
        repository.set_meta(meta.LANCE_PURGE, repository.last_seq())
    return count


def _erase_and_note(
    found: Iterable[Stored], user_id: str, now: Callable[[], Micros], line: int | None, repository: Repository
) -> tuple[int, int | None]:
    count = _erase(found, now, None, repository)
    return count, erasure.note_person(repository, user_id, count, now(), line) if count else line


def _hasten_and_note(
    scope: Scope, user_id: str, now: Callable[[], Micros], line: int | None, repository: Repository
) -> tuple[int, int | None]:
    key = repository.scope_key(scope, anywhere=True)
    count = 0 if key is None else erasure.hasten(repository, key, now())
    return count, erasure.note_person(repository, user_id, count, now(), line) if count else line


def _bury(engine: Engine) -> bool:
    """Have what was erased leave the archives that it was in; False if that cannot be done now."""
    if not archived.is_due(engine.repository.db):
        return True
    from agentmem.glacier import burying

    return burying.bury_now(engine)


def _forget_user(engine: Engine, user_id: str, number: int | None) -> bool:
    """Where archives are sealed, delete the key of a user who was erased, so that no copy of them can be read, older
    ones of a bucket either; False if that cannot be done now.

    Also where nothing of the user lay in them any more, or this call erased nothing: one before may have failed in it.
    """
    db = engine.repository.db
    if not engine.settings.glacier.encryption or not (archived.burials(db) or archived.archives(db)):
        return True
    from agentmem.glacier import burying

    return burying.forget_user(engine, user_id, number)


def _forget(engine: Engine) -> None:
    """Have what was erased leave the memory of this process."""
    engine.retriever.residents.forget()
    if engine.values is not None:
        engine.values.drop_outdated(anyway=True)
    words.stem.cache_clear()
    similar.similar_terms.cache_clear()
    if isinstance(engine.embedder, CachedEmbedder):
        engine.embedder.clear()


def _wipe(engine: Engine) -> list[str]:
    """Have what was erased leave everything that is derived; what that will still take.

    Also where this call erased nothing: the one that did may have been killed before it came to this.
    """
    gone = [engine.retriever.residents.remove_files(), remove_copies(engine.path)]
    pending = [] if all(gone) else ["files"]
    if not _bury(engine):
        pending.append("archives")
    engine.keywords.drop_outdated()
    if engine.keywords.applied_seq():
        engine.follower.index_keywords()
        engine.keywords.purge()
    if not remove_files(engine.commits, engine.repository.db, engine.held):
        pending.append("values")
    if not empty_wal(engine.commits):
        pending.append("write-ahead log")
    if engine.repository.meta(meta.LANCE_PURGE):
        pending.append("lancedb")
    if is_set_aside(path_of(engine.held)):
        pending.append("set aside")
    engine.follower.poke()
    return pending
