"""``reembed``: move a store from model to model while it is written and searched, and kill the mover every time."""

from __future__ import annotations

import multiprocessing
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from agentmem import ALL, Memory, ModelMismatchError
from agentmem.embedding import open_embedder
from agentmem.types.ports import Embedder
from stress.ledger import Checks
from stress.measure import Figure
from stress.options import Json, Path_, Seed
from stress.outcome import Outcome, console, plain
from stress.store import BATCH, fresh_folder, progress
from stress.texts import Profile, maker, question

READER, WRITER = "reader", "writer"
ADDERS = 2
LIMIT = 10
SAMPLE = 500
"""Vectors compared with the model's after each kill; at the end it is all of them."""
EVERYBODY_EACH = 20
"""One search of so many goes over the whole store."""


class Mirrored(Embedder):
    """The bundled model with its dimensions in reverse order: as large, as fast, and nothing like it."""

    def __init__(self) -> None:
        self._inner = open_embedder(cache_size=0)

    @property
    def name(self) -> str:
        return "stress/mirrored-256"

    @property
    def dim(self) -> int:
        return self._inner.dim

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        return np.ascontiguousarray(self._inner.embed_documents(texts)[:, ::-1])

    def embed_query(self, text: str) -> np.ndarray:
        return np.ascontiguousarray(self._inner.embed_query(text)[::-1])


@dataclass
class State:
    """What the store must hold, and what was seen of it."""

    expected: dict[str, str]
    loaded: int
    checks: Checks = field(default_factory=Checks)
    unacknowledged: int = 0
    compared: int = 0
    moved: int = 0
    kills: int = 0
    resumed: int = 0


def reembed(
    records: Annotated[int, typer.Option(min=LIMIT, max=1_000_000, help="Records in the store.")] = 100_000,
    kills: Annotated[int, typer.Option(min=0, max=1_000, help="Movers that are killed.")] = 20,
    model: Annotated[
        str | None, typer.Option(help="Model to move to and back, a name or folder; left out, a made-up one.")
    ] = None,
    rate: Annotated[float, typer.Option(min=1, help="Records per second that a move is taken to do.")] = 5_000,
    seed: Seed = 0,
    path: Path_ = None,
    json_file: Json = None,
) -> None:
    """Move a store to another model and back, kill the process that does it, and look for anything lost or mixed.

    A child moves the store to whichever of two models it has not, while it adds and searches all along, and is sent
    SIGKILL at a random instant within the time that a whole move takes. Then the store is reopened: its vectors must
    all be there and of one model, and with them everything that was acknowledged. The next child goes on. At the end a
    move is left to finish, and every record and every vector is compared.
    """
    outcome = Outcome("reembed", plain(locals()))
    pick = random.Random(seed)
    figures = {name: outcome.figure(name) for name in ("add", "search", "search everybody")}
    started = time.perf_counter()
    with fresh_folder(path) as folder, progress("kills", kills) as ticker:
        state = State(_load(folder, records, seed), records)
        loaded = time.perf_counter() - started
        for number in range(kills):
            _kill_one(folder, model, seed, number, pick.uniform(0, 2 + records / rate), state, figures)
            with _opened(folder) as memory:
                _check_generation(memory, state, pick)
            ticker.at(number + 1, f"{number + 1} kills, {state.moved} moves done, {state.checks.lost} lost")
        with _opened(folder) as memory:
            before = time.perf_counter()
            last = memory.reembed(_other(memory, model))
            state.moved += 1
            outcome.notes["last_move_s"] = round(time.perf_counter() - before, 1)
            outcome.notes["last_move_records"] = last.records
            outcome.measure_store(memory, folder)
            _check_everything(memory, state)
    outcome.checks = state.checks
    outcome.notes |= {
        "kills": state.kills, "moves_finished": state.moved, "moves_taken_up_again": state.resumed,
        "kept_though_unacknowledged": state.unacknowledged, "vectors_compared": state.compared,
        "load_s": round(loaded, 1), "total_s": round(time.perf_counter() - started, 1),
    }  # fmt: skip
    outcome.finish(json_file)


def _load(folder: Path, records: int, seed: int) -> dict[str, str]:
    """Fill the store; the first few records are the ones that are searched for."""
    text = maker(Profile.DIALOGUE, seed)
    expected = dict[str, str]()
    with Memory(folder) as memory:
        for batch in range(-(-records // BATCH)):
            texts = [text(batch, item) for item in range(min(BATCH, records - batch * BATCH))]
            user = READER if batch == 0 else f"user-{batch}"
            expected.update(zip((added.id for added in memory.add_many(texts, user_id=user)), texts, strict=True))
    return expected


@contextmanager
def _opened(folder: Path) -> Iterator[Memory]:
    """A client with the model that the store has."""
    memory = Memory(folder)
    try:
        memory.health()
    except ModelMismatchError:
        memory = Memory(folder, embedder=Mirrored())
    with memory:
        yield memory


def _other(memory: Memory, model: str | None) -> str | Embedder | None:
    """The one of the two models that the store has not."""
    if memory.handle.engine().embedder.name != open_embedder().name:
        return None
    return Mirrored() if model is None else model


# -- the child ---------------------------------------------------------------------------------------------------------


def _move(pipe: Connection, folder: Path, model: str | None, seed: int, number: int) -> None:
    """Move the store, adding and searching until killed, and say what is done as it is done."""
    speaking = threading.Lock()

    def say(*words: Any) -> None:
        with speaking:
            pipe.send(words)

    with _opened(folder) as memory:
        text, ask = maker(Profile.DIALOGUE, seed), question(seed)

        def add(adder: int) -> None:
            item = adder
            while True:
                content = text(1_000_000 + number, item)
                at = time.perf_counter()
                id = memory.add(content, user_id=WRITER).id
                say("add", time.perf_counter() - at, id, content)
                item += ADDERS

        def search() -> None:
            asked = number * 1_000_000
            while True:
                asked += 1
                everybody = asked % EVERYBODY_EACH == 0
                at = time.perf_counter()
                hits = memory.search(ask(asked), user_id=ALL if everybody else READER, limit=LIMIT)
                say("search everybody" if everybody else "search", time.perf_counter() - at, len(hits))

        def guarded(run: Any, *args: Any) -> None:
            try:
                run(*args)
            except BaseException as exc:
                say("failed", f"{type(exc).__name__}: {exc}")
                raise

        plan = memory.handle.engine().repository.meta("next_generation")
        say("moving", plan is not None)
        threads = [threading.Thread(target=guarded, args=(add, n), daemon=True) for n in range(ADDERS)]
        threads.append(threading.Thread(target=guarded, args=(search,), daemon=True))
        for thread in threads:
            thread.start()
        guarded(memory.reembed, _other(memory, model))
        say("moved")
        threading.Event().wait()  # and go on adding and searching with the new model


def _kill_one(
    folder: Path, model: str | None, seed: int, number: int, seconds: float, state: State, figures: dict[str, Figure]
) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_move, args=(theirs, folder, model, seed, number), daemon=True)
    child.start()
    theirs.close()
    deadline, begun = time.monotonic() + 120, 0.0
    with ours:
        while True:
            try:
                if not ours.poll(max(0.0, deadline - time.monotonic())):
                    child.kill()
                    deadline = time.monotonic() + 60
                    state.kills += 1
                    continue
                what, *words = ours.recv()
            except (EOFError, OSError):  # killed in the middle of a message, perhaps
                break
            if what == "moving":
                begun = time.monotonic()
                deadline = begun + seconds
                state.resumed += words[0]
            elif what == "moved":
                state.moved += 1
            elif what == "failed":
                state.checks.problems.append(f"child {number}: {words[0]}")
            else:
                figures[what].record(words[0])
                if what == "add":
                    state.expected[words[1]] = words[2]
                else:
                    state.checks.short += words[1] < LIMIT
    child.join(60)
    for figure in figures.values():
        figure.seconds += time.monotonic() - begun if begun else 0.0
    if child.exitcode != -signal.SIGKILL:
        state.checks.problems.append(f"child {number} ended with {child.exitcode}")


# -- the checks --------------------------------------------------------------------------------------------------------


def _check_generation(memory: Memory, state: State, pick: random.Random) -> None:
    """All vectors of the store's model are there; some of them, the newest too, are what the model gives."""
    engine = memory.handle.engine()
    repository = engine.repository
    count, whole = repository.db.execute(
        f"SELECT count(*), sum(length(e.vector) = ?) FROM records r LEFT JOIN {repository.embeddings} e USING (row)",
        (engine.embedder.dim * 4,),
    )[0]
    if count != whole:
        state.checks.problems.append(f"only {whole} of {count} records have a vector of {engine.embedder.name}")
    last = repository.last_row()
    rows = {pick.randint(1, last) for _ in range(SAMPLE)} | set(range(max(1, last - 50), last + 1))
    _compare(memory, sorted(rows), state)
    for id, text in islice(state.expected.items(), state.loaded, None):
        record = memory.get(id)
        state.checks.lost += record is None
        state.checks.altered += record is not None and record.content != text


def _compare(memory: Memory, rows: Sequence[int], state: State) -> None:
    """Compare stored vectors with the model's."""
    engine = memory.handle.engine()
    sql = (
        f"SELECT r.content, e.vector FROM records r JOIN {engine.repository.embeddings} e USING (row) "
        "WHERE r.row IN ({})"
    )
    found = list(engine.repository.db.select_in(sql, rows))
    stored = np.frombuffer(b"".join(vector for _, vector in found), np.float32).reshape(len(found), -1)
    made = engine.embedder.embed_documents([content for content, _ in found])
    made = made / np.linalg.norm(made, axis=1, keepdims=True)
    wrong = int((np.abs(stored - made).max(axis=1) > 1e-4).sum()) if len(found) else 0
    if wrong:
        state.checks.problems.append(f"{wrong} of {len(found)} vectors are not those of {engine.embedder.name}")
    state.compared += len(found)


def _check_everything(memory: Memory, state: State) -> None:
    """Every record, every vector, and the store's own opinion."""
    console.print("comparing every record and every vector")
    checks, repository = state.checks, memory.handle.engine().repository
    missing = dict(state.expected)
    for record in memory.iterate(user_id=ALL, order="oldest"):
        checks.records += 1
        text = missing.pop(record.id, None)
        if text is None:
            # Its acknowledgement was on the way when the process was killed.
            state.unacknowledged += 1
        elif text != record.content:
            checks.altered += 1
    checks.lost += len(missing)
    if state.unacknowledged > ADDERS * state.kills:
        checks.unexpected += state.unacknowledged - ADDERS * state.kills
    for low, high in repository.windows("1", ()):
        _compare(memory, repository.rows_between("1", (), low, high), state)
    report = memory.verify()
    checks.vectors = report.counts["lancedb"]
    checks.problems += report.problems
    if tables := set(repository.embedding_tables()) - {repository.embeddings}:
        checks.problems.append(f"left over: {', '.join(sorted(tables))}")
