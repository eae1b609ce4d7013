"""Many callers at once: cancellation, models that fail or hang, neighbours in one commit, the event loop's stalls."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

import anyio.lowlevel
import numpy as np
import psutil
import pytest
import trio
import trio.lowlevel
import trio.testing
from conftest import HashEmbedder

from agentmem import AsyncMemory, ConflictError, EmbeddingError, Memory, Settings, StoreError
from agentmem.stores.commit import Write

Open = Callable[..., Memory]
Main = Callable[[], Awaitable[Any]]
PATIENCE = 30


class ModelError(Exception):
    """Somebody's model failed."""


class Moody(HashEmbedder):
    """An embedder that can be told to fail, to return nonsense, or to wait."""

    def __init__(self) -> None:
        self.poison = ""
        self.error: BaseException = ModelError("out of memory")
        self.spoil: Callable[[np.ndarray], Any] | None = None
        self.open = threading.Event()
        self.open.set()
        self.inside = threading.Semaphore(0)
        self.calls = list[list[str]]()

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        self.calls.append(list(texts))
        self._wait()
        if self.poison and any(self.poison in text for text in texts):
            raise self.error
        vectors = super().embed_documents(texts)
        return vectors if self.spoil is None else self.spoil(vectors)

    def embed_query(self, text: str) -> np.ndarray:
        self._wait()
        vector = super().embed_query(text)
        return vector if self.spoil is None else self.spoil(vector[None])

    def _wait(self) -> None:
        if not self.open.is_set():
            self.inside.release()
            assert self.open.wait(PATIENCE)


@pytest.fixture
def moody() -> Iterator[Moody]:
    embedder = Moody()
    yield embedder
    embedder.open.set()


# -- cancellation ----------------------------------------------------------------------------------------------------

LOOPS = ["asyncio", "trio"]


def run(loop: str, main: Main) -> None:
    if loop == "trio":
        trio.run(main)
    else:
        asyncio.run(main())


async def cancelled_after(loop: str, seconds: float, work: Main) -> None:
    """Run something and cancel it after some time."""
    if loop == "trio":
        with trio.move_on_after(seconds):
            await work()
        return
    task = asyncio.ensure_future(work())
    await asyncio.wait([task], timeout=seconds)
    task.cancel()
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome


@pytest.mark.parametrize("loop", LOOPS)
def test_add_many_cancelled_anywhere_is_all_or_nothing(loop: str, store: Path, embedder: HashEmbedder) -> None:
    chance = random.Random(7)
    acknowledged = dict[str, int]()

    async def main() -> None:
        async with AsyncMemory(store, embedder=embedder) as memory:
            await memory.warm_up()
            started = time.perf_counter()
            await memory.add_many([f"first {i}" for i in range(400)], user_id="first")
            whole = time.perf_counter() - started
            for n in range(25):
                size = chance.choice([1, 40, 60, 400])

                async def add(n: int = n, size: int = size) -> None:
                    results = await memory.add_many([f"batch {n} item {i}" for i in range(size)], user_id=f"u{n}")
                    acknowledged[f"u{n}"] = len(results)

                # At once, somewhere on the way, or never.
                seconds = {0: 0.0, 4: float(PATIENCE)}.get(n % 5, chance.random() * (2 * whole * size / 400 + 0.004))
                await cancelled_after(loop, seconds, add)
                # The next call finds the client at work.
                assert (await memory.add(f"after {n}", user_id="after")).status == "added"
            # Whatever was in flight is decided once later writes are durable on both embedding threads.
            await memory.add_many([f"last {i}" for i in range(60)], user_id="after")
            sizes = {n: len([r async for r in memory.iterate(user_id=f"u{n}")]) for n in range(25)}
            report = await memory.verify()
            assert report.ok, report.problems
            for n, size in sizes.items():
                assert size in (0, 1, 40, 60, 400)
                assert size == acknowledged.get(f"u{n}", size)
            assert 0 < len(acknowledged) < 25, "they were not cancelled at many points"

    run(loop, main)
    with Memory(store, embedder=embedder) as memory:
        assert memory.verify().ok
        for n in range(25):
            count = sum(1 for _ in memory.iterate(user_id=f"u{n}"))
            assert count in (0, 1, 40, 60, 400)
            assert count == acknowledged.get(f"u{n}", count)


@pytest.mark.parametrize("loop", LOOPS)
def test_add_stream_cancelled_anywhere_keeps_whole_chunks(loop: str, store: Path, embedder: HashEmbedder) -> None:
    chance = random.Random(11)
    acknowledged = {n: list[str]() for n in range(20)}

    async def slow(n: int) -> AsyncIterator[str]:
        for i in range(600):
            if i % 50 == 0:
                await anyio.lowlevel.checkpoint()
            yield f"stream {n} item {i}"

    async def main() -> None:
        async with AsyncMemory(store, embedder=embedder) as memory:
            await memory.warm_up()
            for n in range(20):

                async def add(n: int = n) -> None:
                    async with aclosing(slow(n)) as source:
                        items = source if n % 2 else [f"stream {n} item {i}" for i in range(600)]
                        async with aclosing(memory.add_stream(items, chunk=60, user_id=f"u{n}")) as stream:
                            async for results in stream:
                                acknowledged[n] += [result.id for result in results]

                await cancelled_after(loop, chance.random() * 0.15, add)
                assert (await memory.add(f"after {n}", user_id="after")).status == "added"
            report = await memory.verify()
            assert report.ok, report.problems

    run(loop, main)
    stopped = 0
    with Memory(store, embedder=embedder) as memory:
        assert memory.verify().ok
        for n, ids in acknowledged.items():
            found = [record.id for record in memory.iterate(user_id=f"u{n}", order="oldest")]
            assert len(ids) % 60 == 0 == len(found) % 60
            assert set(ids) <= set(found)
            assert len(found) - len(ids) <= 2 * 60, "more than what was in flight"
            stopped += len(ids) < 600
    assert stopped, "no stream was cancelled on its way"


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_cancelled_while_it_waits_is_not_stored(loop: str, store: Path, moody: Moody) -> None:
    async def main() -> None:
        async with AsyncMemory(store, embedder=moody, settings=Settings(embed_threads=1)) as memory:
            await memory.add("opened")
            moody.open.clear()
            # The first one is in the model, the others wait behind it.
            results = list[str]()

            async def add(text: str) -> None:
                results.append((await memory.add(text)).id)

            if loop == "trio":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(add, "in the model")
                    await trio.to_thread.run_sync(moody.inside.acquire)
                    scope = trio.CancelScope()

                    async def later() -> None:
                        with scope:
                            await add("waiting")

                    nursery.start_soon(later)
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
                    await trio.testing.wait_all_tasks_blocked()
                    moody.open.set()
            else:
                first = asyncio.create_task(add("in the model"))
                await asyncio.to_thread(moody.inside.acquire)
                second = asyncio.create_task(add("waiting"))
                await asyncio.sleep(0)
                second.cancel()
                await asyncio.wait([second])
                moody.open.set()
                await first
            assert len(results) == 1
            assert [record.content async for record in memory.iterate(order="oldest")] == ["opened", "in the model"]
            assert not any("waiting" in texts for texts in moody.calls)

    run(loop, main)


# -- models that fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ModelError("no"), SystemExit(3), asyncio.CancelledError("no"), MemoryError()], ids=repr
)
def test_a_text_the_model_fails_on_fails_alone(open_memory: Open, moody: Moody, error: BaseException) -> None:
    memory = open_memory(embedder=moody, settings=Settings(embed_threads=1))
    memory.add("opened")
    moody.poison, moody.error = "poison", error
    moody.open.clear()
    with ThreadPoolExecutor(12) as threads:
        gate = threads.submit(memory.add, "holds the model")
        assert moody.inside.acquire(timeout=PATIENCE)
        fine = [threads.submit(memory.add, f"fine {n}") for n in range(5)]
        bad = threads.submit(memory.add, "this is poison")
        batch = threads.submit(memory.add_many, ["good company", "poison again", "good too"])
        while_queued(memory, 7)
        moody.open.set()
        assert [future.result(PATIENCE).status for future in (gate, *fine)] == ["added"] * 6
        for future in (bad, batch):
            with pytest.raises(EmbeddingError, match=r"hashed-words-32.*failed"):
                future.result(PATIENCE)
    assert any(len(texts) > 5 for texts in moody.calls), "they were not embedded together"
    assert {r.content for r in memory.iterate()} == {"opened", "holds the model", *(f"fine {n}" for n in range(5))}
    moody.poison = ""
    assert memory.add("this is poison").status == "added"
    assert memory.verify().ok


class Meeting(Moody):
    """Its first calls with a hundred texts and more go on when there are two of them at once."""

    def __init__(self) -> None:
        super().__init__()
        self.barrier = threading.Barrier(2, timeout=PATIENCE)
        self.met = False

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        vectors = super().embed_documents(texts)
        if len(texts) >= 100 and not self.met:
            self.barrier.wait()
            self.met = True
        return vectors


def test_batches_that_wait_together_are_shared_by_the_workers(open_memory: Open) -> None:
    model = Meeting()
    memory = open_memory(embedder=model)
    memory.add("opened")
    model.open.clear()
    with ThreadPoolExecutor(6) as threads:
        for n in range(2):
            threads.submit(memory.add, f"holds a worker, {n}")
            assert model.inside.acquire(timeout=PATIENCE)
        batches = [threads.submit(memory.add_many, [f"batch {n} item {i}" for i in range(100)]) for n in range(4)]
        while_queued(memory, 4)
        model.open.set()
        for batch in batches:
            assert len(batch.result(PATIENCE)) == 100, "one worker took everything"


def while_queued(memory: Memory, jobs: int) -> None:
    """Wait until so many requests wait for the model."""
    queue = memory.handle.engine().adding.batcher._queue
    deadline = time.monotonic() + PATIENCE
    while len(queue) < jobs:
        assert time.monotonic() < deadline
        time.sleep(0.001)


SPOILED: dict[str, Callable[[np.ndarray], Any]] = {
    "nan": lambda v: v * np.nan,
    "infinite": lambda v: v * np.inf,
    "zero": lambda v: v * 0,
    "one of them zero": lambda v: np.vstack([v[:-1], v[-1:] * 0]),
    "too few": lambda v: v[:-1],
    "too many": lambda v: np.vstack([v, v]),
    "too wide": lambda v: np.hstack([v, v]),
    "too narrow": lambda v: v[:, :-1],
    "flat": lambda v: v.ravel(),
    "nothing": lambda v: None,
    "text": lambda v: "vectors",
    "a dict": lambda v: {"data": v},
    "objects": lambda v: np.full(v.shape, object()),
}


@pytest.mark.parametrize("how", SPOILED)
@pytest.mark.parametrize("cache", [0, 100])
def test_vectors_that_are_none_are_not_stored_and_not_kept(
    open_memory: Open, moody: Moody, how: str, cache: int
) -> None:
    memory = open_memory(embedder=moody, settings=Settings(embedding_cache_size=cache))
    memory.add_many(["one", "two"], user_id="ada")
    id = memory.add("three", user_id="ada").id
    before = memory.stats().events
    moody.spoil = SPOILED[how]
    for call in (
        lambda: memory.add_many(["four", "five"], user_id="ada"),
        lambda: memory.update(id, content="five and a half"),
        lambda: memory.add("six", user_id="ada"),
        lambda: memory.search("four or five", user_id="ada") if how != "flat" else memory.add("six"),
    ):
        with pytest.raises(EmbeddingError, match="hashed-words-32"):
            call()
    assert memory.stats().events == before
    moody.spoil = None
    # The same texts again: neither a bad vector nor a neighbour's was kept for them.
    assert [r.status for r in memory.add_many(["four", "five"], user_id="ada")] == ["added"] * 2
    assert memory.add("six", user_id="ada").status == "added"
    for text in ("four", "five", "six"):
        best = memory.search(text, user_id="ada", mode="vector", limit=1)[0]
        assert best.content == text
        assert best.similarity == pytest.approx(1, abs=1e-5)
    assert memory.verify().ok


@pytest.mark.parametrize("cache", [0, 100])
def test_a_model_that_cannot_be_loaded_is_an_embedding_error(open_memory: Open, moody: Moody, cache: int) -> None:
    memory = open_memory(embedder=moody, settings=Settings(embedding_cache_size=cache))
    moody.spoil = SPOILED["nan"]
    with pytest.raises(EmbeddingError, match="hashed-words-32"):
        memory.warm_up()

    def missing(text: str) -> np.ndarray:
        raise OSError("no such weights")

    moody.embed_query = missing
    with pytest.raises(EmbeddingError, match="no such weights") as raised:
        memory.warm_up()
    assert isinstance(raised.value.__cause__, OSError)


def test_a_model_that_hangs_keeps_nobody_else(store: Path, moody: Moody) -> None:
    async def main() -> None:
        async with AsyncMemory(store, embedder=moody) as memory:
            id = (await memory.add("Ada likes tea", user_id="ada")).id
            moody.open.clear()
            stuck = [asyncio.ensure_future(memory.search(f"query {n}", user_id="ada")) for n in range(8)]
            stuck += [asyncio.ensure_future(memory.add(f"fact {n}", user_id="ada")) for n in range(8)]
            stuck += [asyncio.ensure_future(memory.update(id, content=f"text {n}")) for n in range(4)]
            await asyncio.to_thread(moody.inside.acquire)
            async with asyncio.timeout(PATIENCE):
                for _ in range(3):
                    assert await memory.get(id) is not None
                    assert [hit.id for hit in await memory.search("tea", user_id="ada", mode="keyword")] == [id]
                    assert len((await memory.page(user_id="ada")).records) == 1
                    assert (await memory.stats()).records == 1
                    await memory.feedback(id, rating=4)
                    await memory.update(id, importance=0.5, metadata={"seen": True})
            assert not any(task.done() for task in stuck)
            moody.open.set()
            await asyncio.gather(*stuck)
            assert (await memory.verify()).ok

    asyncio.run(main())


# -- neighbours in one commit ----------------------------------------------------------------------------------------


def test_one_conflict_does_not_hurt_the_others_of_its_group(open_memory: Open) -> None:
    memory = open_memory()
    taken = memory.add("mine", id="taken", user_id="ada").id
    version = memory.get(taken).version
    engine = memory.handle.engine()
    inside, release = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        inside.set()
        assert release.wait(PATIENCE)

    with ThreadPoolExecutor(40) as threads:
        held = engine.commits.submit(Write(hold))
        assert inside.wait(PATIENCE)
        # All of these wait behind the transaction that is held open, and become one group.
        fine = [threads.submit(memory.add, f"fine {n}", user_id="ada") for n in range(20)]
        thief = threads.submit(memory.add, "stolen", id="taken", user_id="eve")
        batch = threads.submit(memory.add_many, ["new", {"content": "other", "id": "taken"}], user_id="eve")
        stale = threads.submit(memory.update, taken, importance=0.1, if_version=version + 7)
        good = threads.submit(memory.update, taken, importance=0.9, if_version=version)
        queue = engine.commits._queue
        deadline = time.monotonic() + PATIENCE
        while len(queue) < 24:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        release.set()
        held.result(PATIENCE)
        assert [future.result(PATIENCE).status for future in fine] == ["added"] * 20
        assert good.result(PATIENCE).importance == 0.9
        for future in (thief, batch, stale):
            with pytest.raises(ConflictError):
                future.result(PATIENCE)
    assert memory.stats().records == 21
    assert [event.event for event in memory.history(taken)] == ["ADD", "UPDATE"]
    assert list(memory.iterate(user_id="eve")) == []
    assert memory.verify().ok


@pytest.mark.parametrize("loop", LOOPS)
def test_tasks_of_one_group_are_woken_with_one_signal(
    loop: str, store: Path, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals = 0

    def counted(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def count(*args: Any, **kwargs: Any) -> object:
            nonlocal signals
            signals += threading.current_thread().name == "agentmem-commit"
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, count)

    counted(asyncio.BaseEventLoop, "call_soon_threadsafe")
    counted(trio.lowlevel.TrioToken, "run_sync_soon")

    async def main() -> None:
        async with AsyncMemory(store, embedder=embedder) as memory, anyio.create_task_group() as tasks:
            await memory.warm_up()
            commits = memory._blocking.handle.engine().commits
            inside, release = threading.Event(), threading.Event()

            def hold(_: object) -> None:
                inside.set()
                assert release.wait(PATIENCE)

            commits.submit(Write(hold))
            assert await anyio.to_thread.run_sync(inside.wait, PATIENCE)
            for n in range(40):
                tasks.start_soon(memory.add, f"fact {n}")
            with anyio.fail_after(PATIENCE):
                while len(commits._queue) < 40:  # noqa: ASYNC110
                    await anyio.sleep(0.001)
            release.set()

    run(loop, main)
    assert signals == 1


def test_work_that_breaks_the_commit_thread_breaks_only_itself(open_memory: Open) -> None:
    memory = open_memory()

    class Panic(BaseException):
        """What the database driver raises where it panics."""

    def panic(_: object) -> None:
        raise Panic

    failed = memory.handle.engine().commits.submit(Write(panic))
    with pytest.raises((Panic, StoreError)):
        failed.result(PATIENCE)
    assert memory.add("life goes on").status == "added"
    assert memory.verify().ok


# -- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_long_stream_needs_no_memory_and_stores_what_it_acknowledges(store: Path, embedder: HashEmbedder) -> None:
    produced = 0

    def items() -> Iterator[str]:
        nonlocal produced
        for produced in range(1, 30_001):
            yield f"item number {produced} of many"

    held = list[int]()

    async def main() -> None:
        nonlocal produced
        # LanceDB, whose caches grow up to their limits, is left out of it.
        apart = Settings(follower_group=100_000, follower_delay_s=3_600)
        async with AsyncMemory(store, embedder=embedder, settings=apart) as memory:
            await memory.warm_up()
            total = 0
            async with aclosing(memory.add_stream(items(), chunk=500, user_id="ada", dedupe=False)) as stream:
                async for results in stream:
                    total += len(results)
                    # No further than the chunks in flight ahead of what was acknowledged.
                    assert produced - total <= 2 * 500
                    if total % 5_000 == 0:
                        gc.collect()
                        held.append(psutil.Process().memory_info().rss)
            assert total == 30_000 == (await memory.stats()).records

            async with aclosing(memory.add_stream(items(), chunk=500, user_id="bob", dedupe=False)) as stream:
                async for _ in stream:
                    break
            # What is in a transaction by then may be committed, what waits may not, and nothing follows.
            await memory.add("a later write", user_id="eve")
            stored = len([record async for record in memory.iterate(user_id="bob")])
            assert stored in (500, 1_000)
            assert stored <= produced <= 1_000
            await memory.add_many([f"later {n}" for n in range(100)], user_id="eve")
            assert len([record async for record in memory.iterate(user_id="bob")]) == stored

    asyncio.run(main())
    # The embedding cache fills during the first 10,000; the other 20,000 would need 20 MB as text and results alone.
    assert max(held[2:]) - held[2] < 8_000_000, held


def test_a_blocking_stream_that_is_left_stores_nothing_further(memory: Memory) -> None:
    pulled = 0

    def items() -> Iterator[str]:
        nonlocal pulled
        for pulled in range(1, 10_001):
            yield f"item {pulled}"

    stream = memory.add_stream(items(), chunk=100, user_id="ada")
    assert len(next(stream)) == 100
    stream.close()
    memory.add("a later write")
    count = sum(1 for _ in memory.iterate(user_id="ada"))
    assert count in (100, 200)
    assert count <= pulled <= 200


# -- the event loop --------------------------------------------------------------------------------------------------


def test_large_items_are_checked_off_the_loop(store: Path, embedder: HashEmbedder) -> None:
    numbers = {"n": [0] * 30_000}
    heavy: list[Any] = [{"content": f"fact {n}", "metadata": numbers} for n in range(30)]

    async def main() -> None:
        loop_thread, checked_in = threading.get_ident(), set[int]()

        class Numbers(dict[str, Any]):
            """Metadata that notes who reads it."""

            def items(self) -> Any:
                checked_in.add(threading.get_ident())
                return super().items()

        async with AsyncMemory(store, embedder=embedder) as memory:
            await memory.add("light", metadata=Numbers(a=1))
            assert checked_in == {loop_thread}
            checked_in.clear()
            await memory.add("heavy", metadata=Numbers(numbers))
            await memory.add_many([{"content": f"heavy {n}", "metadata": Numbers(numbers)} for n in range(3)])
            await memory.add_many(["a", "b"], metadata=Numbers(numbers))
            await memory.add_many([str(n) for n in range(2_000)], metadata=Numbers(a=1))
            async with aclosing(memory.add_stream(iter(heavy), metadata=Numbers(numbers), chunk=10)) as stream:
                assert [len(chunk) async for chunk in stream] == [10, 10, 10]
            assert checked_in
            assert loop_thread not in checked_in
            assert (await memory.stats()).records == 1 + 1 + 3 + 2 + 2_000 + 30

    asyncio.run(main())


async def watch(lags: list[float], stop: asyncio.Event) -> None:
    """Note, every 2 ms, by how many milliseconds a timer of the loop is late."""
    while not stop.is_set():
        due = time.perf_counter() + 0.002
        await asyncio.sleep(0.002)
        lags.append(1_000 * (time.perf_counter() - due))


def test_the_event_loop_does_not_stall(store: Path, record_property: Callable[[str, object], None]) -> None:
    """100 clients on the bundled model: what matters is how long others on the same loop wait."""

    async def client(memory: AsyncMemory, n: int) -> int:
        chance, ids = random.Random(n), list[str]()
        user = f"user-{n % 20}"
        for _ in range(15):
            what = chance.random()
            if what < 0.5 or not ids:
                text = " ".join(chance.choices(WORDS, k=20))
                ids.append((await memory.add(text, user_id=user, dedupe=False)).id)
            elif what < 0.85:
                assert await memory.search(" ".join(chance.choices(WORDS, k=4)), user_id=user)
            else:
                assert await memory.get(chance.choice(ids))
        return len(ids)

    async def main() -> Round:
        lags = list[float]()
        async with AsyncMemory(store) as memory:
            # Opening imports the engine and the model: a cost of the first call, not of load.
            await memory.warm_up()
            before = (await memory.stats()).records
            stop, busy = asyncio.Event(), foreign_seconds()
            started = time.perf_counter()
            watcher = asyncio.create_task(watch(lags, stop))
            added = sum(await asyncio.gather(*(client(memory, n) for n in range(100))))
            stop.set()
            await watcher
            foreign = (foreign_seconds() - busy) / (time.perf_counter() - started)
            assert (await memory.stats()).records == before + added
        lags.sort()
        return Round(lags[len(lags) // 2], lags[int(len(lags) * 0.99)], lags[-1], foreign)

    # Other programs only add to a stall, so that the best of some rounds tells what is ours.
    rounds = [asyncio.run(main())]
    while rounds[-1].p99 > 20 and len(rounds) < 4:
        rounds.append(asyncio.run(main()))
    record_property("event loop", str(rounds))
    if rounds[-1].p99 > 20 and all(one.foreign_cores > 0.3 for one in rounds):
        pytest.skip(f"other programs keep the processors busy: {rounds}")
    assert rounds[-1].p99 <= 20, rounds


class Round(NamedTuple):
    """How late the loop's timers were, in milliseconds, and how much of the machine was not ours meanwhile."""

    p50: float
    p99: float
    max: float
    foreign_cores: float


def foreign_seconds() -> float:
    """Processor time that all other programs have used so far."""
    machine, ours = psutil.cpu_times(), psutil.Process().cpu_times()
    return machine.user + machine.nice + machine.system - ours.user - ours.system


WORDS = """tea coffee piano violin garden river mountain winter summer breakfast ticket train harbour museum painting
recipe bicycle letter doctor holiday birthday neighbour kitchen library island concert market bridge village""".split()


class FirstComesLast(HashEmbedder):
    """Holds the first chunk back until a later one is stored, or a second has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.overtaken: Callable[[], bool] = lambda: False

    def embed_documents(self, texts: Sequence[str]) -> Any:
        deadline = time.monotonic() + 1
        while "item 0" in texts and not self.overtaken() and time.monotonic() < deadline:
            time.sleep(0.01)
        return super().embed_documents(texts)


def test_a_stream_keeps_its_order_when_chunks_overtake_each_other(store: Path) -> None:
    items = [{"content": f"item {n}", "id": str(n)} for n in range(20)]
    embedder = FirstComesLast()
    with Memory(store, embedder=embedder, settings=Settings(batch_size=1)) as memory:
        embedder.overtaken = lambda: memory.get("5") is not None
        assert [len(chunk) for chunk in memory.add_stream(items, chunk=5, user_id="ada")] == [5, 5, 5, 5]
        stored = [record.id for record in memory.iterate(user_id="ada", order="oldest")]
    assert stored == [item["id"] for item in items]


def test_a_callers_own_model_never_embeds_documents_on_the_callers_thread(open_memory: Callable[..., Memory]) -> None:
    # It may hold a lock, and an add in a signal handler on top of it would wait for that for ever.
    where = set[str]()

    class Watched(HashEmbedder):
        def embed_documents(self, texts: Sequence[str]) -> Any:
            where.add(threading.current_thread().name)
            return super().embed_documents(texts)

    memory = open_memory(embedder=Watched())
    for number in range(20):
        memory.add(f"a note {number}", user_id="ana")
    memory.add_many(["one", "two"], user_id="ana")
    assert where <= {"agentmem-embed-0", "agentmem-embed-1"}
