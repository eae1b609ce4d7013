"""Moving a store to another model while it is read and written, with kills, other processes and models that fail."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from hashlib import shake_256
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, HashEmbedder

from agentmem import ALL, AsyncMemory, EmbeddingError, InvalidInputError, Memory, ModelMismatchError, StoreLockedError
from agentmem.client.partial import corpus_of
from agentmem.embedding import open_embedder
from agentmem.engine.engine import Engine
from agentmem.operations import erase as erasing
from agentmem.operations import reembed as reembedding
from agentmem.stores import connection
from agentmem.types.ports import Embedder

MINILM = ROOT.parent / "shared" / "models" / "minilm-int8"


class Words(HashEmbedder):
    """As ``HashEmbedder``, with other vectors for another name, of any length."""

    def __init__(self, name: str = "words-a", dim: int = 32) -> None:
        self.name, self.dim = name, dim

    def embed_query(self, text: str) -> np.ndarray:
        words = re.findall(r"\w+", text.lower()) or [text]
        digests = (shake_256(f"{self.name} {word}".encode()).digest(2 * self.dim) for word in words)
        return sum(np.frombuffer(digest, np.int16).astype(np.float32) for digest in digests)


class Hooked(Words):
    """Calls ``hook`` with the texts before it embeds any, but not where writers wait for it."""

    def __init__(self, hook: Callable[[Sequence[str]], object], name: str = "words-b", dim: int = 32) -> None:
        super().__init__(name, dim)
        self._hook = hook

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        if threading.current_thread().name not in ("agentmem-commit", "agentmem-embed-0", "agentmem-embed-1"):
            self._hook(texts)
        return super().embed_documents(texts)


A, B = Words("words-a", 32), Words("words-b", 32)


def sentences(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    words = ["river", "copper", "violin", "harvest", "signal", "meadow", "engine", "lantern", "winter", "orchard"]
    return [f"{seed}-{n} " + " ".join(rng.choices(words, k=6)) for n in range(count)]


def fill(memory: Memory, count: int, *, user: str = "u", seed: int = 0) -> list[str]:
    return [added.id for added in memory.add_many(sentences(count, seed), user_id=user)]


def contents(memory: Memory) -> dict[str, str]:
    return {record.id: record.content for record in memory.iterate(user_id=ALL)}


def check_vectors(memory: Memory, embedder: Embedder) -> None:
    """Every vector in libSQL is the model's for what the record says now, LanceDB's are those, nothing else is left."""
    report = memory.verify()
    assert report.ok, report.problems
    repository = memory.handle.engine().repository
    assert repository.embedding_tables() == [repository.embeddings]
    rows = repository.db.execute(
        f"SELECT state, content, vector FROM records LEFT JOIN {repository.embeddings} USING (row)"
    )
    assert all((vector is None) == (state == 2) for state, _, vector in rows)
    kept = [(content, vector) for state, content, vector in rows if state != 2]
    expected = embedder.embed_documents([content for content, _ in kept])
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    found = np.frombuffer(b"".join(vector for _, vector in kept), np.float32).reshape(len(kept), embedder.dim)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert report.counts["embeddings"] == len(kept)
    assert [name for name in os.listdir(memory.handle.path / "lance") if name.endswith(".lance")] == [
        f"vectors_{repository.generation}.lance"
    ]


def plan_of(memory: Memory) -> dict[str, Any] | None:
    saved = memory.handle.engine().repository.meta("next_generation")
    return None if saved is None else json.loads(saved)


# -- the move itself ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not MINILM.is_dir(), reason="needs ../shared/models/minilm-int8")
def test_from_the_bundled_model_to_a_folder_and_back(store: Path) -> None:
    told = list[tuple[int, int]]()
    with Memory(store) as memory:
        fill(memory, 150)
        report = memory.reembed(MINILM, progress=lambda done, total: told.append((done, total)))
        assert (report.from_model, report.records) == ("agentmem/minilm-static-256", 150)
        assert report.to_model.startswith("minilm-int8@")
        assert told[-1] == (150, 150)
        check_vectors(memory, open_embedder(MINILM, cache_size=0))
        assert len(memory.search("violin in the orchard", user_id="u", mode="vector")) == 10
    # Without being told, a store opens with the model that it was moved to.
    with Memory(store) as memory:
        assert memory.stats().model == report.to_model
        memory.add("one more", user_id="u")
        assert memory.reembed(None).to_model == "agentmem/minilm-static-256"
        check_vectors(memory, open_embedder(cache_size=0))
    with Memory(store) as memory:
        assert memory.stats().dim == 256
        with pytest.raises(InvalidInputError, match="already uses 'agentmem/minilm-static-256'"):
            memory.reembed(None)


def test_an_empty_store(store: Path) -> None:
    with Memory(store, embedder=A) as memory:
        assert memory.reembed(B).records == 0
        assert memory.add("first").status == "added"
        check_vectors(memory, B)


def test_disk_space_comes_back(store: Path) -> None:
    small, large = Words("small", 256), Words("large", 256)
    with Memory(store, embedder=small) as memory:
        fill(memory, 3_000)
        memory.compact()
        before = memory.stats().bytes
        memory.reembed(large)
        memory.compact()
        after = memory.stats().bytes
        assert after["libsql"] < 1.1 * before["libsql"]
        assert after["lancedb"] < 1.1 * before["lancedb"]
        check_vectors(memory, large)


@pytest.mark.slow
def test_many_writers_and_readers_all_along(store: Path) -> None:
    rounds_left = 40
    turn = threading.Condition()

    def wait_for_traffic(_: object) -> None:
        nonlocal rounds_left
        with turn:
            rounds_left = 40
            turn.wait_for(lambda: rounds_left <= 0, 2)  # in vain where writers wait for the flip

    def tick() -> None:
        nonlocal rounds_left
        with turn:
            rounds_left -= 1
            turn.notify_all()

    target = Hooked(wait_for_traffic, dim=48)
    with Memory(store, embedder=A) as memory:
        fixed = dict(zip(fill(memory, 120, user="reader"), sentences(120), strict=True))
        own = {seed: fill(memory, 350, user=f"w{seed}", seed=seed) for seed in range(1, 5)}
        expected = contents(memory)
        erased = set[str]()
        lock, done = threading.Lock(), threading.Event()

        def write(seed: int) -> None:
            rng, ids = random.Random(seed), own[seed]
            gone = list[str]()
            for step in range(100_000):
                if done.is_set():
                    return
                what = rng.random()
                id = ids.pop(rng.randrange(len(ids))) if what > 0.4 else ""
                if what <= 0.4:
                    id = memory.add(text := f"{seed} new {step} violin", user_id=f"w{seed}").id
                    with lock:
                        expected[id] = text
                elif what < 0.7:
                    memory.update(id, content=(text := f"{seed} changed {step} copper"))
                    with lock:
                        expected[id] = text
                elif what < 0.8:
                    memory.delete(id)
                    gone.append(id)
                    with lock:
                        text = expected.pop(id)
                    if rng.random() < 0.5:
                        memory.restore(gone.pop())
                        with lock:
                            expected[id] = text
                elif what < 0.9:
                    memory.erase(id)
                    with lock:
                        expected.pop(id)
                        erased.add(id)
                else:
                    version = memory.get(id).version
                    memory.update(id, content=f"{seed} passing {step}")
                    memory.restore(id, version=version)
                if id in expected:
                    ids.append(id)
                tick()

        def read(seed: int) -> None:
            rng = random.Random(seed)
            models = (A, Words("words-b", 48))
            while not done.is_set():
                query = " ".join(rng.choices(["river", "copper", "lantern", "winter"], k=3))
                hits = memory.search(query, user_id="reader", limit=20, mode="vector")
                assert len(hits) == 20
                assert any(
                    all(abs(hit.similarity - cosine(model, query, fixed[hit.id])) < 1e-3 for hit in hits)
                    for model in models
                ), "the hits of one search are of one model"
                assert memory.get(rng.choice(list(fixed))) is not None
                tick()

        with ThreadPoolExecutor(7) as pool:
            running = [pool.submit(write, seed) for seed in own] + [pool.submit(read, seed) for seed in (8, 9)]
            try:
                assert memory.reembed(target).records >= 1_520
                wait_for_traffic(None)
            finally:
                done.set()
            for future in running:
                future.result()
        assert contents(memory) == expected
        assert not any(memory.get(id) for id in erased)
        check_vectors(memory, Words("words-b", 48))


def cosine(model: Embedder, one: str, other: str) -> float:
    a, b = model.embed_query(one), model.embed_query(other)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_calls_that_meet_the_flip_wait_for_the_new_model(store: Path) -> None:
    committed, asked = threading.Event(), threading.Event()
    with Memory(store, embedder=A) as memory, ThreadPoolExecutor(4) as pool:
        first = fill(memory, 30)[0]
        engine = memory.handle.engine()
        adopt = engine.adopt

        def adopt_late(*args: Any) -> None:
            committed.set()
            asked.wait(10)
            adopt(*args)

        engine.adopt = adopt_late
        moved = pool.submit(memory.reembed, B)
        assert committed.wait(10)
        calls = [
            pool.submit(memory.search, "river", user_id="u", limit=30),
            pool.submit(memory.get, first),
            pool.submit(memory.add, "in between", user_id="u"),
        ]
        asked.set()
        assert len(calls[0].result(10)) == 30
        assert calls[1].result(10).id == first
        assert calls[2].result(10).status == "added"
        moved.result(10)
        check_vectors(memory, B)


def test_an_erasure_that_was_committed_before_the_flip_ends_well_during_it(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does whatever else follows the feed while the process that moved the store has yet to go on with it."""
    committed, asked = threading.Event(), threading.Event()
    erased = threading.Barrier(2, timeout=10)
    forget = erasing._forget  # pyright: ignore[reportPrivateUsage]

    def forget_late(engine: Engine) -> None:
        erased.wait()
        assert committed.wait(10)
        forget(engine)

    with Memory(store, embedder=A) as memory, ThreadPoolExecutor(4) as pool:
        ids = fill(memory, 30)
        memory.search("river", user_id="u")  # so that there is an arena
        monkeypatch.setattr(erasing, "_forget", forget_late)
        engine = memory.handle.engine()
        adopt = engine.adopt

        def adopt_late(*args: Any) -> None:
            committed.set()
            assert asked.wait(10)
            adopt(*args)

        engine.adopt = adopt_late
        erasing_one = pool.submit(memory.erase, ids[0])
        erased.wait()
        moved = pool.submit(memory.reembed, B)
        assert committed.wait(10)
        calls = [erasing_one, pool.submit(memory.verify), pool.submit(corpus_of, memory, "river", {"user_id": "u"})]
        assert not wait(calls[:2], timeout=0.5, return_when=FIRST_COMPLETED).done, "they wait for the new model"
        asked.set()
        assert calls[0].result(10).erased == 1
        assert calls[1].result(10).ok
        assert calls[2].result(10).documents == 29
        moved.result(10)
        assert len(memory.search("river", user_id="u", limit=40)) == 29
        check_vectors(memory, B)


def test_writers_that_outpace_the_model_are_made_to_wait(store: Path) -> None:
    with Memory(store, embedder=A) as memory:
        fill(memory, 400)
        made = iter(range(1, 100))
        target = Hooked(lambda texts: fill(memory, 2 * len(texts), seed=next(made)), dim=16)
        memory.reembed(target)
        check_vectors(memory, Words("words-b", 16))
        assert memory.stats().records > 1_200


def test_nothing_of_what_is_erased_during_the_copy_is_stored(store: Path) -> None:
    found = list[Any]()

    def erase_some(texts: Sequence[str]) -> None:
        if not found:
            found.extend(islice(memory.iterate(user_id="u", order="oldest"), 3))
            for record in found:
                assert record.content in texts
                memory.erase(record.id)

    def stop(done: int, _: int) -> None:
        if done >= reembedding.GROUP:
            raise KeyboardInterrupt

    with Memory(store, embedder=A) as memory:
        fill(memory, reembedding.GROUP + 10)
        with pytest.raises(KeyboardInterrupt):
            memory.reembed(Hooked(erase_some), progress=stop)
        table = f"embeddings_{plan_of(memory)['generation']}"
        rows = memory.handle.engine().repository.db.execute(f"SELECT count(*) FROM {table}")[0][0]
        assert rows == reembedding.GROUP - 3
        assert memory.reembed(B).records == 10
        check_vectors(memory, B)


# -- moves that end early ----------------------------------------------------------------------------------------------


class Broken(Words):
    """Fails from the second call on."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._calls = 0

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        self._calls += 1
        if self._calls > 1:
            raise RuntimeError("out of order")
        return super().embed_documents(texts)


def test_a_model_that_fails_leaves_the_store_as_it_is_and_the_work_done_for_the_next_try(store: Path) -> None:
    with Memory(store, embedder=A) as memory:
        fill(memory, 700)
        with pytest.raises(EmbeddingError, match="out of order"):
            memory.reembed(Broken("words-b"))
        assert memory.stats().model == "words-a"
        memory.update(next(memory.iterate(user_id="u")).id, content="changed in between")
        memory.add("added in between", user_id="u")
    with Memory(store, embedder=A) as memory:
        assert memory.reembed(B).records == 200 + 2
        check_vectors(memory, B)


def test_a_move_to_a_third_model_drops_the_unfinished_one(store: Path) -> None:
    with Memory(store, embedder=A) as memory:
        fill(memory, 700)
        with pytest.raises(EmbeddingError):
            memory.reembed(Broken("words-c"))
        assert plan_of(memory)["model"] == "words-c"
        assert memory.reembed(B).records == 700
        assert plan_of(memory) is None
        check_vectors(memory, B)


def test_the_model_that_the_store_has_gives_up_an_unfinished_move(store: Path) -> None:
    with Memory(store, embedder=A) as memory:
        fill(memory, 700)
        with pytest.raises(EmbeddingError):
            memory.reembed(Broken("words-c"))
        with pytest.raises(InvalidInputError, match="already uses 'words-a'"):
            memory.reembed(A)
        assert plan_of(memory) is None
        check_vectors(memory, A)


# -- opening afterwards ------------------------------------------------------------------------------------------------


def test_opening_with_another_model_names_both_and_the_command(store: Path) -> None:
    with Memory(store, embedder=A) as memory:
        fill(memory, 10)
        memory.reembed(Words("words-b", 64))
        # Another client in the same process, too.
        with Memory(store, embedder=A) as other, pytest.raises(ModelMismatchError, match=r"'words-b' \(64 .*'words-a'"):
            other.get("x")
        with Memory(store) as other:
            assert other.stats().model == "words-b"
    for given, named in ((None, "agentmem/minilm-static-256"), (A, "words-a")):
        with Memory(store, embedder=given) as memory, pytest.raises(ModelMismatchError) as caught:
            memory.get("x")
        for part in ("'words-b' (64 dimensions)", repr(named), "agentmem reembed"):
            assert part in str(caught.value)


def test_a_store_whose_model_is_gone_can_be_moved(store: Path) -> None:
    with Memory(store, embedder=A) as memory:
        fill(memory, 10)
    entered, go = threading.Event(), threading.Event()

    def wait(_: object) -> None:
        entered.set()
        go.wait(10)

    with Memory(store, embedder=B) as memory, ThreadPoolExecutor(1) as pool:
        moved = pool.submit(memory.reembed, Hooked(wait))
        assert entered.wait(10)
        with pytest.raises(EmbeddingError, match="'words-a' is not at hand"):
            memory.add("too early", user_id="u")
        assert len(memory.search("violin", user_id="u", mode="keyword")) > 0
        go.set()
        assert moved.result(10).from_model == "words-a"
        memory.add("now", user_id="u")
        check_vectors(memory, B)


def test_files_that_changed_under_the_same_name_are_another_model(store: Path) -> None:
    with Memory(store) as memory:
        fill(memory, 10)
        memory.handle.engine().write(lambda repository: repository.set_meta("fingerprint", "of an older release"))
    with Memory(store) as memory, pytest.raises(ModelMismatchError, match=r"whose files differ.*agentmem reembed"):
        memory.get("x")
    with Memory(store) as memory:
        assert memory.reembed(None).records == 10
        check_vectors(memory, open_embedder(cache_size=0))


def test_async(store: Path) -> None:
    async def main() -> None:
        async with AsyncMemory(store, embedder=A) as memory:
            await memory.add_many(sentences(300), user_id="u")
            moving = asyncio.create_task(memory.reembed(B))
            added = 0
            while not moving.done():
                await memory.add(f"meanwhile {added}", user_id="w")
                added += 1
                assert len(await memory.search("river", user_id="u", limit=7)) == 7
            assert (await moving).to_model == "words-b"
            assert (await memory.stats()).records == 300 + added
        with Memory(store, embedder=B) as blocking:
            check_vectors(blocking, B)

    asyncio.run(main())


# -- other processes ---------------------------------------------------------------------------------------------------


def obey(pipe: Connection, path: Path) -> None:
    """A second process with the store open under the model of before."""
    from agentmem.retrieval import residents

    with Memory(path, embedder=A) as memory:
        while (call := pipe.recv()) is not None:
            name, args, kwargs = call
            try:
                if name == "forget the feed":
                    residents.BACKLOG = 0
                    pipe.send(None)
                    continue
                outcome = getattr(memory, name)(*args, **kwargs)
                pipe.send(len(outcome) if name == "search" else getattr(outcome, "id", outcome))
            except Exception as exc:
                pipe.send(exc)


@contextmanager
def another_process(path: Path) -> Iterator[Callable[..., Any]]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=obey, args=(theirs, path), daemon=True)
    process.start()

    def call(name: str, *args: Any, **kwargs: Any) -> Any:
        ours.send((name, args, kwargs))
        return ours.recv()

    with ours, theirs:
        yield call
        ours.send(None)
        process.join(30)
    assert process.exitcode == 0


def test_a_process_that_has_the_store_open(store: Path) -> None:
    with Memory(store, embedder=A) as memory, another_process(store) as call:
        first = fill(memory, 600)[0]
        assert call("search", "river", user_id="u") == 10
        assert call("search", "river", user_id="u") == 10
        theirs = list[str]()

        def add_there(_: object) -> None:
            theirs.append(call("add", f"from the other process {len(theirs)}", user_id="u"))
            assert call("update", theirs[0], content=f"changed there {len(theirs)}") == theirs[0]
            assert call("search", "river", user_id="u", limit=20) == 20

        memory.reembed(Hooked(add_there))
        assert len(theirs) >= 2
        for name, args in (
            ("get", (first,)),
            ("search", ("river",)),
            ("add", ("too late",)),
            ("update", (first,)),
            ("flush", ()),
            ("stats", ()),
            ("verify", ()),
            ("forget the feed", ()),
            ("search", ("copper",)),
        ):
            found = call(name, *args, **({"content": "x"} if name == "update" else {}))
            if name != "forget the feed":
                assert isinstance(found, ModelMismatchError), (name, found)
                assert "'words-b'" in str(found)
        assert memory.stats().records == 600 + len(theirs)
        assert all(memory.get(id) is not None for id in theirs)
        check_vectors(memory, B)


def test_one_move_at_a_time(store: Path) -> None:
    with Memory(store, embedder=A) as memory, another_process(store) as call:
        fill(memory, 20)
        refused = list[Any]()

        def try_too(_: object) -> None:
            refused.append(call("reembed", None))
            with pytest.raises(StoreLockedError, match="being reembedded already"):
                memory.reembed(Words("words-c"))

        memory.reembed(Hooked(try_too))
        assert refused
        assert all(isinstance(error, StoreLockedError) for error in refused)
        check_vectors(memory, B)


def move_and_add(pipe: Connection, path: Path, die_at: str) -> None:
    """Moves the store to whichever model it has not, adding all the while, and says what was acknowledged."""

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    calls = 0

    class Deadly(Words):
        def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
            nonlocal calls
            calls += 1
            if die_at == f"embedding {calls}":
                die()
            return super().embed_documents(texts)

    if die_at == "flipped":
        Engine.adopt = die
    if die_at == "adopted":
        reembedding.remove_old_generations = lambda _: die() if calls else None
    if die_at == "removing":
        connection.Connection.vacuum = die
    current = pipe.recv()
    with Memory(path, embedder=Words(current)) as memory:
        stop = threading.Event()

        def add() -> None:
            number = 0
            while not stop.is_set():
                text = f"child {os.getpid()} {number} lantern"
                pipe.send((memory.add(text, user_id="child").id, text))
                number += 1

        adding = threading.Thread(target=add)
        adding.start()
        memory.reembed(Deadly("words-b" if current == "words-a" else "words-a"))
        stop.set()
        adding.join()


def received(pipe: Connection) -> dict[str, str]:
    """All that was acknowledged until the other end died."""
    found = dict[str, str]()
    while True:
        try:
            id, text = pipe.recv()
        except (EOFError, ConnectionResetError):
            return found
        found[id] = text


PLACES = ["embedding 1", "embedding 3", "flipped", "adopted", "removing"]


@pytest.mark.slow
def test_kills(store: Path) -> None:
    rng = random.Random(3)
    context = multiprocessing.get_context("spawn")
    with Memory(store, embedder=A) as memory:
        fill(memory, 2_500)
        expected = contents(memory)
    current = "words-a"
    for trial, place in enumerate([*PLACES, *["somewhere"] * 3]):
        ours, theirs = context.Pipe()
        process = context.Process(target=move_and_add, args=(theirs, store, place))
        process.start()
        theirs.close()
        ours.send(current)
        with ours:
            if place == "somewhere":
                id, text = ours.recv()
                expected[id] = text
                process.join(rng.uniform(0, 0.3))
                process.kill()
            expected |= received(ours)
        process.join(30)
        # Where it was to die it did, or the place is no longer one.
        assert process.exitcode == -signal.SIGKILL or (place == "somewhere" and process.exitcode == 0)
        model = model_of(store)
        with Memory(store, embedder=model) as memory:
            if place in ("flipped", "adopted", "removing"):
                assert model.name != current
            current = model.name
            found = contents(memory)
            # At most one add was on its way back when the process died.
            assert len(found.items() - expected.items()) <= 1
            assert not expected.items() - found.items()
            expected = found
            generation = memory.handle.engine().repository.generation
            memory.flush()
            if plan_of(memory) is None:
                check_vectors(memory, model)
            else:
                report = memory.verify()
                assert report.ok, (trial, place, report.problems)
            assert f"embeddings_{generation}" in memory.handle.engine().repository.embedding_tables()
    with Memory(store, embedder=model_of(store)) as memory:
        other = B if current == "words-a" else A
        memory.reembed(other)
        assert contents(memory) == expected
        check_vectors(memory, other)


def model_of(path: Path) -> Words:
    """Either of the two, whichever the store has."""
    with Memory(path, embedder=A) as memory:
        try:
            memory.stats()
            return A
        except ModelMismatchError:
            return B
