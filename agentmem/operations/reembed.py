"""Moving a store to another model while it is in use.

The new model's vectors grow in a table of their own (a *generation*) beside the current one, first all records by row
number, then whatever the feed says has changed since. Progress is committed with the vectors, so a killed run is taken
up where it was. One short transaction then makes the new generation the current one: until it, every search and every
write uses the old one whole; after it, the new one whole. Each transaction checks the generation, so a writer that
embedded with the old model embeds again (here) or is told to reopen (in another process).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from agentmem.embedding import fingerprint_of, open_embedder
from agentmem.embedding.batcher import embed_documents
from agentmem.engine.engine import Engine, Spec, with_model
from agentmem.stores.commit import Write
from agentmem.stores.locks import FileLock
from agentmem.stores.repository import NEXT_GENERATION, Repository
from agentmem.stores.schema import ERASED
from agentmem.stores.upkeep import remove_old_generations
from agentmem.types.clock import Micros
from agentmem.types.enums import EventType
from agentmem.types.errors import InvalidInputError, StoreError, StoreLockedError
from agentmem.types.ports import Embedder
from agentmem.types.reports import ReembedReport

GROUP = 500
"""Records per transaction."""
FINAL = 100
"""Changes that are embedded inside a transaction, while writers wait."""

Progress = Callable[[int, int], object]
"""Called with the records embedded so far and their number."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """A generation in the making.

    It is of ``model``, has the records up to ``row``, is to have those up to ``last`` by row number, and what was there
    after event ``seq`` by the feed.
    """

    generation: int
    model: str
    dim: int
    fingerprint: str | None
    row: int
    last: int
    seq: int

    def save(self, repository: Repository) -> None:
        repository.set_meta(NEXT_GENERATION, json.dumps(asdict(self)))


def reembed(
    engine: Engine, model: str | os.PathLike[str] | Embedder | None, progress: Progress | None = None
) -> ReembedReport:
    """Embed every record with another model and make it the store's; see ``Memory.reembed``."""
    engine.check_process()
    # No cache while all records pass through once; what is erased meanwhile must not stay in one either.
    embedder = open_embedder(model, cache_size=0)
    lock = FileLock(engine.path / "reembed.lock")
    try:
        if not lock.try_acquire():
            raise StoreLockedError(f"{engine.path} is being reembedded already; wait for that to end")
        engine.check_model()
        old = engine.embedder.name
        plan = _begin(engine, embedder)
        plan, embedded = _copy(engine, embedder, plan, progress)
        embedded += _finish(engine, embedder, model, plan)
        with suppress(StoreError):  # the store has moved by now; the follower removes what is left
            remove_old_generations(engine.commits)
        engine.follower.poke()
    finally:
        lock.close()
    return ReembedReport(from_model=old, to_model=embedder.name, records=embedded)


def _begin(engine: Engine, embedder: Embedder) -> _Plan:
    """Take up the plan for this model, or make one; vectors of a plan for another model are dropped."""
    repository = engine.repository
    wanted = (embedder.name, embedder.dim, fingerprint_of(embedder))
    saved = repository.meta(NEXT_GENERATION)
    plan = None if saved is None else _Plan(**json.loads(saved))
    if wanted == (repository.meta("model"), int(repository.meta("dim")), repository.meta("fingerprint")):
        if plan is not None:
            engine.write(lambda repository: repository.set_meta(NEXT_GENERATION, None))
            remove_old_generations(engine.commits)
        raise InvalidInputError(f"the store already uses {embedder.name!r}", field="model")
    if plan is None or (plan.model, plan.dim, plan.fingerprint) != wanted:
        plan = engine.write(lambda repository: _make_plan(repository, *wanted))
    remove_old_generations(engine.commits)
    return plan


def _make_plan(repository: Repository, model: str, dim: int, fingerprint: str | None) -> _Plan:
    generation = 1 + max(int(table.rpartition("_")[2]) for table in repository.embedding_tables())
    repository.db.execute(f"CREATE TABLE embeddings_{generation} (row INTEGER PRIMARY KEY, vector BLOB NOT NULL)")
    last, seq = repository.last_row(), repository.last_seq()
    plan = _Plan(generation, model, dim, fingerprint, row=0, last=last, seq=seq)
    plan.save(repository)
    return plan


def _copy(engine: Engine, embedder: Embedder, plan: _Plan, progress: Progress | None) -> tuple[_Plan, int]:
    """Embed all records by row number, from where the plan is."""
    embedded = 0
    while plan.row < plan.last:
        high = min(plan.row + GROUP, plan.last)
        rows = engine.repository.rows_between("1", (), plan.row, high)
        plan = replace(plan, row=high)
        embedded += _embed(engine, embedder, plan, rows)
        if progress is not None:
            progress(plan.row, plan.last)
    return plan, embedded


def _finish(engine: Engine, embedder: Embedder, given: Spec, plan: _Plan) -> int:
    """Embed what changed meanwhile, and move the store to the new model; returns how many embeddings that took.

    Each round has what was written during the one before, so the rounds get shorter, unless writers outpace the model.
    Then they are made to wait: at first a little for every few changes, and if even that is not enough, for all that
    is left.
    """
    embedded, before, waiting, everything = 0, math.inf, False, False
    while True:
        left = engine.repository.last_seq() - plan.seq
        if left > before / 2:
            waiting, everything = True, waiting
        before = left
        if left <= FINAL or everything:
            changed = _flip(engine, embedder, given, plan, math.inf if everything else FINAL)
            if changed is not None:
                return embedded + changed
        else:
            plan, changed = _catch_up(engine, embedder, plan, waiting)
            embedded += changed


def _catch_up(engine: Engine, embedder: Embedder, plan: _Plan, waiting: bool) -> tuple[_Plan, int]:
    """Embed what has changed until now, with ``waiting`` inside of transactions."""
    embedded, end = 0, engine.repository.last_seq()
    while plan.seq < end:
        events = engine.repository.events_after(plan.seq, FINAL if waiting else GROUP)
        plan = replace(plan, seq=events[-1][0])
        embedded += _embed(engine, embedder, plan, sorted({event[1] for event in events}), waiting)
    return plan, embedded


def _embed(engine: Engine, embedder: Embedder, plan: _Plan, rows: Sequence[int], waiting: bool = False) -> int:
    """Embed records as they are now and store their vectors together with the plan's progress."""
    made = None if waiting else _vectors(engine.repository, embedder, rows)

    def store(repository: Repository) -> int:
        vectors = _vectors(repository, embedder, rows) if made is None else made
        _put(repository, plan, vectors)
        plan.save(repository)
        return len(vectors)

    return engine.write(store, rows=len(rows))


def _vectors(repository: Repository, embedder: Embedder, rows: Sequence[int]) -> dict[int, bytes]:
    texts = {stored.row: stored.content for stored in repository.find_rows(rows) if stored.state != ERASED}
    return dict(zip(texts, embed_documents(embedder, list(texts.values())), strict=True))


def _put(repository: Repository, plan: _Plan, vectors: dict[int, bytes]) -> None:
    """Store vectors. A text that has changed since is in the feed and is done again; of an erased one nothing is kept.

    (Erasing removes vectors from all generations, so none of an erased record can be there before.)
    """
    repository.db.executemany(
        f"INSERT OR REPLACE INTO embeddings_{plan.generation} SELECT ?, ? FROM records WHERE row = ? AND state != ?",
        [(row, vector, row, ERASED) for row, vector in vectors.items()],
    )


def _flip(engine: Engine, embedder: Embedder, given: Spec, plan: _Plan, most: float) -> int | None:
    """Make the new generation the current one, with what changed in between; None if that is more than ``most``."""

    def flip(repository: Repository) -> int | None:
        if repository.last_seq() - plan.seq > most:
            return None
        embedded, seq = 0, plan.seq
        while events := repository.events_after(seq, GROUP):
            vectors = _vectors(repository, embedder, sorted({event[1] for event in events}))
            _put(repository, plan, vectors)
            embedded, seq = embedded + len(vectors), events[-1][0]
        _record_flip(repository, engine.embedder.name, embedder.name, engine.now())
        repository.set_meta("generation", plan.generation)
        with_model(repository, embedder, given)
        repository.set_meta(NEXT_GENERATION, None)
        repository.set_meta("lance_applied_seq", 0)
        repository.set_meta("lance_state", None)
        flipped.append(open_embedder(embedder, cache_size=engine.settings.performance.embedding_cache_size))
        return embedded

    def adopt() -> None:
        for opened in flipped:
            engine.adopt(plan.generation, opened, given)

    flipped = list[Embedder]()
    with engine.moving:
        return engine.commits.submit(Write(flip, committed=adopt)).result()


def _record_flip(repository: Repository, old: str, new: str, now: Micros) -> None:
    data = json.dumps({"from": old, "to": new})
    repository.db.execute(
        "INSERT INTO history (row, event, at, version, data) VALUES (0, ?, ?, 0, ?)",
        (EventType.REEMBED.value, now, data),
    )
