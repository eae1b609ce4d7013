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
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice

from typing_extensions import override

from agentmem.embedding import fingerprint_of, open_embedder
from agentmem.embedding.batcher import embed_documents
from agentmem.engine.engine import Engine
from agentmem.engine.opening import Spec, note_model
from agentmem.indexes.feed import follow
from agentmem.stores import archived, embeddings, forms, meta
from agentmem.stores.commit import Write
from agentmem.stores.folder import REEMBED_LOCK
from agentmem.stores.locks import FileLock
from agentmem.stores.records import Records
from agentmem.stores.rows import Stored
from agentmem.stores.schema import ERASED
from agentmem.stores.upkeep import remove_old_generations
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros
from agentmem.types.enums import EventType, Given
from agentmem.types.errors import InvalidInputError, StoreError, StoreLockedError
from agentmem.types.forms import OF_CONTENT
from agentmem.types.ports import Embedder, FeedEvent, FeedFollower
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
    after event ``seq`` by the feed; ``given`` says what becomes of vectors that callers gave.
    """

    generation: int
    model: str
    dim: int
    fingerprint: str | None
    row: int
    last: int
    seq: int
    given: Given = "refuse"

    def save(self, repository: Repository) -> None:
        repository.set_meta(meta.NEXT_GENERATION, json.dumps(asdict(self)))


def reembed(engine: Engine, model: Spec, progress: Progress | None = None, given: Given = "refuse") -> ReembedReport:
    """Embed every record with another model and make it the store's; see ``Memory.reembed``."""
    engine.check_writable()
    engine.check_process()
    # No cache while all records pass through once; what is erased meanwhile must not stay in one either.
    embedder = open_embedder(model, cache_size=0)
    lock = FileLock(engine.path / REEMBED_LOCK)
    try:
        if not lock.try_acquire():
            raise StoreLockedError(f"{engine.path} is being reembedded already; wait for that to end")
        engine.check_model()
        old = engine.embedder.name
        move = _MoveToModel(engine, embedder, model, _begin(engine, embedder, given))
        move.copy(progress)
        move.finish()
        with suppress(StoreError):  # the store has moved by now; the follower removes what is left
            remove_old_generations(engine.commits)
        engine.follower.poke()
    finally:
        lock.close()
    return ReembedReport(from_model=old, to_model=embedder.name, records=move.embedded)


def _begin(engine: Engine, embedder: Embedder, given: Given) -> _Plan:
    """Take up the plan for this model, or make one; vectors of a plan for another model are dropped."""
    repository = engine.repository
    wanted = (embedder.name, embedder.dim, fingerprint_of(embedder))
    saved = repository.meta(meta.NEXT_GENERATION)
    plan = None if saved is None else _Plan(**json.loads(saved))
    held = (repository.meta(meta.MODEL), int(repository.meta(meta.DIM)), repository.meta(meta.MODEL_FINGERPRINT))
    if wanted == held:
        if plan is not None:
            engine.write(lambda repository: repository.set_meta(meta.NEXT_GENERATION, None))
            remove_old_generations(engine.commits)
        raise InvalidInputError(f"the store already uses {embedder.name!r}", field="model")
    _check_given(repository, embedder.dim, given)
    if plan is None or (plan.model, plan.dim, plan.fingerprint, plan.given) != (*wanted, given):
        plan = engine.write(lambda repository: _make_plan(repository, *wanted, given))
    remove_old_generations(engine.commits)
    return plan


def _check_given(records: Records, dim: int, given: Given) -> None:
    """Raise ``InvalidInputError`` where there are vectors that callers gave, and nobody said what becomes of them."""
    old = int(records.meta(meta.DIM))
    if given == "embed" or (given == "keep" and dim == old):
        return
    count = embeddings.count_given(records.db)
    if not count:
        return
    what = f"{count:,} records have vectors that their caller gave"
    embed = 'given="embed" has what these records say embedded in their place'
    if given == "refuse":
        why = f', which no model makes anew; given="keep" keeps them, for a model that they fit, {embed}'
    else:
        why = f" and that have {old:,} numbers, not the {dim:,} of the new model, so that they cannot be kept; {embed}"
    raise InvalidInputError(what + why, field="given")


def _make_plan(repository: Repository, model: str, dim: int, fingerprint: str | None, given: Given) -> _Plan:
    last, seq = repository.last_row(), repository.last_seq()
    plan = _Plan(repository.new_generation(), model, dim, fingerprint, row=0, last=last, seq=seq, given=given)
    plan.save(repository)
    return plan


class _MoveToModel(FeedFollower):
    """One run of a move to another model. Follows the feed by embedding what has changed."""

    def __init__(self, engine: Engine, embedder: Embedder, given: Spec, plan: _Plan) -> None:
        self.embedded = 0
        """Embeddings made by this run."""
        self._engine = engine
        self._embedder = embedder
        self._given = given
        self._plan = plan
        self._waiting = False
        """Whether embeddings are made inside of transactions, so that writers wait for them."""
        self._inside: Repository | None = None
        """The transaction that all of it belongs to, while there is one."""

    def copy(self, progress: Progress | None) -> None:
        """Embed all records by row number, from where the plan is."""
        while self._plan.row < self._plan.last:
            high = min(self._plan.row + GROUP, self._plan.last)
            rows = self._engine.repository.rows_between("1", (), self._plan.row, high)
            self._plan = replace(self._plan, row=high)
            self._embed(rows)
            if progress is not None:
                progress(self._plan.row, self._plan.last)

    def finish(self) -> None:
        """Embed what changed meanwhile, and move the store to the new model.

        Each round has what was written during the one before, so the rounds get shorter, unless writers outpace the
        model. Then they are made to wait: at first a little for every few changes, and if even that is not enough, for
        all that is left.
        """
        before, everything, records = math.inf, False, self._engine.repository
        while True:
            left = records.last_seq() - self._plan.seq
            if left > before / 2:
                self._waiting, everything = True, self._waiting
            before = left
            if left > FINAL and not everything:
                follow(self, records, records.last_seq())
            elif self._flip(math.inf if everything else FINAL):
                return

    # -- following the feed ------------------------------------------------------------------------------------------

    @property
    @override
    def group(self) -> int:
        return FINAL if self._waiting else GROUP

    @override
    def applied_seq(self) -> int:
        return self._plan.seq

    @override
    def apply(self, events: Sequence[FeedEvent], after: int) -> None:
        self._plan = replace(self._plan, seq=events[-1].seq)
        rows = sorted({event.row for event in events if not event.touch})
        if self._inside is None:
            self._embed(rows)
        else:
            self._put(self._inside, self._vectors(self._inside, rows))

    # -- inside ------------------------------------------------------------------------------------------------------

    def _embed(self, rows: Sequence[int]) -> None:
        """Embed records as they are now and store their vectors together with the plan's progress."""
        made = None if self._waiting else self._vectors(self._engine.repository, rows)

        def store(repository: Repository) -> int:
            vectors = self._vectors(repository, rows) if made is None else made
            embeddings.put(repository.db, f"embeddings_{self._plan.generation}", vectors)
            self._plan.save(repository)
            return len(vectors)

        self.embedded += self._engine.write(store, rows=len(rows))

    def _vectors(self, records: Records, rows: Sequence[int]) -> dict[int, tuple[int, bytes]]:
        """By row, what the column ``vectors`` is to say of a record, and its embeddings by the new model."""
        every = [stored for stored in records.find_rows(rows) if stored.state != ERASED]
        away = archived.places(records.db, [stored.row for stored in every])
        found = [stored for stored in every if stored.row not in away]
        texts = records.texts((stored.row, stored.vectors, stored.body) for stored in found)
        kept = self._kept(records, [stored for stored in found if stored.vectors < 0])
        wanted = {
            stored.row: texts.get(stored.row) or [stored.content]
            for stored in found
            if stored.vectors and stored.row not in kept and (stored.content or stored.has_texts)
        }
        made = iter(embed_documents(self._embedder, [text for each in wanted.values() for text in each]))
        vectors = {
            row: (len(each) + 1 if row in texts else OF_CONTENT, b"".join(islice(made, len(each))))
            for row, each in wanted.items()
        }
        return {**{stored.row: (0, b"") for stored in every}, **vectors, **kept}

    def _kept(self, records: Records, given: Sequence[Stored]) -> dict[int, tuple[int, bytes]]:
        if not given or self._plan.given == "embed":
            return {}
        _check_given(records, self._plan.dim, self._plan.given)
        vectors = records.vectors(given)
        return {stored.row: (stored.vectors, vectors[stored.row]) for stored in given}

    def _put(self, repository: Repository, vectors: dict[int, tuple[int, bytes]]) -> None:
        embeddings.put(repository.db, f"embeddings_{self._plan.generation}", vectors)
        self.embedded += len(vectors)

    def _flip(self, most: float) -> bool:
        """Make the new generation the current one, with what changed meanwhile; False if that is more than ``most``."""
        engine, opened = self._engine, list[Embedder]()

        def flip(repository: Repository) -> bool:
            last = repository.last_seq()
            if last - self._plan.seq > most:
                return False
            self._inside = repository
            follow(self, repository, last)
            if self._plan.given == "embed":
                while rows := forms.take_for_embedded(repository.db):
                    repository.sign(rows)
            _record_flip(repository, engine.embedder.name, self._embedder.name, engine.now())
            repository.set_meta(meta.GENERATION, self._plan.generation)
            note_model(repository.db, self._embedder, self._given)
            repository.set_meta(meta.NEXT_GENERATION, None)
            repository.set_meta(meta.LANCE_APPLIED, 0)
            repository.set_meta(meta.LANCE_STATE, None)
            size = engine.settings.performance.embedding_cache_size
            opened.append(open_embedder(self._embedder, cache_size=size))
            return True

        def adopt() -> None:
            for embedder in opened:
                engine.adopt(self._plan.generation, embedder, self._given)

        write = Write(flip, committed=adopt)
        engine.moving = write.future
        try:
            return engine.commits.submit(write).result()
        except BaseException:
            write.future.cancel()  # whoever waits for it, where it was not even submitted
            raise


def _record_flip(repository: Repository, old: str, new: str, now: Micros) -> None:
    data = json.dumps({"from": old, "to": new})
    repository.note_events([(0, EventType.REEMBED, now, 0, data)])
