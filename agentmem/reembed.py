"""Moving a store to another model while it is in use.

The new model's vectors grow in a table of their own (a *generation*) beside the current one, first all records by row
number, then whatever the feed says has changed since. Progress is committed with the vectors, so a killed run is taken
up where it was. One short transaction then makes the new generation the current one: until it, every search and every
write uses the old one whole; after it, the new one whole. Each transaction checks the generation, so a writer that
embedded with the old model embeds again (here) or is told to reopen (in another process).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import count

from agentmem.clock import Micros
from agentmem.embedding import fingerprint_of, open_embedder
from agentmem.embedding.batcher import embed_documents
from agentmem.errors import InvalidInputError, StoreLockedError
from agentmem.models import EventType, ReembedReport
from agentmem.orchestrator import Engine, with_model
from agentmem.ports import Embedder
from agentmem.stores.commit import Task, Write
from agentmem.stores.connection import CHUNK, Connection
from agentmem.stores.locks import FileLock
from agentmem.stores.repository import Repository
from agentmem.stores.schema import ERASED

GROUP = 500
"""Records per transaction."""
FINAL = 100
"""Changes that are embedded inside the last transaction, while writers wait; more take another round first."""
_ROUNDS = 20
"""Rounds after which the rest is embedded in the last transaction however much it is: writers outpace the model."""
_NEXT = "next_generation"

Progress = Callable[[int, int], object]
"""Called with the records embedded so far and their number."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """A generation in the making: its model, the last row copied, and the feed's position up to which it is current."""

    generation: int
    model: str
    dim: int
    fingerprint: str | None
    row: int
    seq: int

    def save(self, repository: Repository) -> None:
        repository.set_meta(_NEXT, json.dumps(asdict(self)))


def reembed(
    engine: Engine, model: str | os.PathLike[str] | Embedder | None, progress: Progress | None = None
) -> ReembedReport:
    """Embed every record with another model and make it the store's; see ``Memory.reembed``."""
    engine.check_process()
    embedder = open_embedder(model, cache_size=engine.settings.embedding_cache_size)
    old = engine.model
    if _same(embedder, old.embedder):
        raise InvalidInputError(f"the store already uses {embedder.name!r}", field="model")
    lock = FileLock(engine.path / "reembed.lock")
    try:
        if not lock.try_acquire():
            raise StoreLockedError(f"{engine.path} is being reembedded already; wait for that to end")
        plan = _begin(engine, embedder)
        plan, embedded = _copy(engine, embedder, plan, progress)
        for attempt in count(1):
            plan, changed = _catch_up(engine, embedder, plan, FINAL if attempt < _ROUNDS else None)
            embedded += changed
            if _flip(engine, embedder, model, plan, None if attempt >= _ROUNDS else FINAL):
                break
        old.lance.reset()
        remove_old_generations(engine)
    finally:
        lock.close()
    return ReembedReport(from_model=old.embedder.name, to_model=embedder.name, records=embedded)


def remove_old_generations(engine: Engine) -> None:
    """Delete the vectors of models that the store no longer uses, a few at a time."""
    keep = {engine.repository.embeddings}
    plan = _read_plan(engine.repository)
    if plan is not None:
        keep.add(f"embeddings_{plan.generation}")
    for table in engine.repository.embedding_tables():
        if table not in keep:
            while engine.write(partial(_delete_some, table)):
                pass
            engine.commits.submit(Task(partial(_drop, table))).result()


def _same(one: Embedder, other: Embedder) -> bool:
    return (one.name, one.dim, fingerprint_of(one)) == (other.name, other.dim, fingerprint_of(other))


def _begin(engine: Engine, embedder: Embedder) -> _Plan:
    """Take up the plan for this model, or make one; vectors of a plan for another model are dropped."""
    plan = _read_plan(engine.repository)
    wanted = (embedder.name, embedder.dim, fingerprint_of(embedder))
    if plan is not None and (plan.model, plan.dim, plan.fingerprint) == wanted:
        return plan
    tables = [int(table.rpartition("_")[2]) for table in engine.repository.embedding_tables()]
    fresh = _Plan(max(tables) + 1, *wanted, row=0, seq=engine.repository.last_seq())

    def begin(repository: Repository) -> None:
        repository.db.execute(
            f"CREATE TABLE embeddings_{fresh.generation} (row INTEGER PRIMARY KEY, vector BLOB NOT NULL)"
        )
        fresh.save(repository)

    engine.write(begin)
    remove_old_generations(engine)
    return fresh


def _read_plan(repository: Repository) -> _Plan | None:
    saved = repository.meta(_NEXT)
    return None if saved is None else _Plan(**json.loads(saved))


def _copy(engine: Engine, embedder: Embedder, plan: _Plan, progress: Progress | None) -> tuple[_Plan, int]:
    """Embed all records by row number, from where the plan is."""
    embedded, last = 0, engine.repository.last_row()
    while rows := engine.repository.rows_after(plan.row, GROUP):
        plan = replace(plan, row=rows[-1])
        embedded += _embed(engine, embedder, plan, rows)
        if progress is not None:
            progress(min(plan.row, last), last)
    return plan, embedded


def _catch_up(engine: Engine, embedder: Embedder, plan: _Plan, stop: int | None) -> tuple[_Plan, int]:
    """Embed what changed since, until no more than ``stop`` changes are left."""
    embedded = 0
    while stop is not None and engine.repository.last_seq() - plan.seq > stop:
        events = engine.repository.events_after(plan.seq, GROUP)
        plan = replace(plan, seq=events[-1][0])
        embedded += _embed(engine, embedder, plan, sorted({event[1] for event in events}))
    return plan, embedded


def _embed(engine: Engine, embedder: Embedder, plan: _Plan, rows: Sequence[int]) -> int:
    """Embed records as they are now and store their vectors together with the plan's progress."""
    vectors = _vectors(engine.repository, embedder, rows)

    def store(repository: Repository) -> None:
        _replace(repository, plan, rows, vectors)
        plan.save(repository)

    engine.write(store, rows=len(rows))
    return len(vectors)


def _vectors(repository: Repository, embedder: Embedder, rows: Sequence[int]) -> dict[int, bytes]:
    texts = {stored.row: stored.content for stored in repository.find_rows(rows) if stored.state != ERASED}
    return dict(zip(texts, embed_documents(embedder, list(texts.values())), strict=True))


def _replace(repository: Repository, plan: _Plan, rows: Sequence[int], vectors: dict[int, bytes]) -> None:
    """Store vectors; rows without one were erased. A change that came in between is in the feed and is done again."""
    table = f"embeddings_{plan.generation}"
    erased = [(row,) for row in rows if row not in vectors]
    repository.db.executemany(f"DELETE FROM {table} WHERE row = ?", erased)
    repository.db.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?,?)", list(vectors.items()))


def _flip(
    engine: Engine,
    embedder: Embedder,
    given: str | os.PathLike[str] | Embedder | None,
    plan: _Plan,
    most: int | None,
) -> bool:
    """Make the new generation the current one, unless more than ``most`` changes came in between."""

    def flip(repository: Repository) -> bool:
        left = repository.last_seq() - plan.seq
        if most is not None and left > most:
            return False
        seq = plan.seq
        while events := repository.events_after(seq, GROUP):
            rows = sorted({event[1] for event in events})
            _replace(repository, plan, rows, _vectors(repository, embedder, rows))
            seq = events[-1][0]
        _record_flip(repository, engine.embedder.name, embedder.name, engine.now())
        repository.set_meta("generation", plan.generation)
        with_model(repository, embedder, given)
        repository.set_meta(_NEXT, None)
        repository.set_meta("lance_applied_seq", 0)
        repository.set_meta("lance_state", None)
        done.append(True)
        return True

    done = list[bool]()
    return engine.commits.submit(
        Write(flip, committed=lambda: engine.adopt(plan.generation, embedder) if done else None)
    ).result()


def _record_flip(repository: Repository, old: str, new: str, now: Micros) -> None:
    data = json.dumps({"from": old, "to": new})
    repository.db.execute(
        "INSERT INTO history (row, event, at, version, data) VALUES (0, ?, ?, 0, ?)",
        (EventType.REEMBED.value, now, data),
    )


def _delete_some(table: str, repository: Repository) -> bool:
    rows = repository.db.execute(f"SELECT row FROM {table} LIMIT {CHUNK}")
    repository.db.executemany(f"DELETE FROM {table} WHERE row = ?", rows)
    return bool(rows)


def _drop(table: str, db: Connection) -> None:
    db.execute(f"DROP TABLE IF EXISTS {table}")
