"""A store used on top of a call that is in progress: in signal handlers, in finalizers, on the way out of a program."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import linecache
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, START, HashEmbedder

from agentmem import AsyncMemory, ClosedError, EmbeddingError, InvalidInputError, Memory, Settings, StoreError

Open = Callable[..., Memory]
STUCK = 15
"""Seconds after which the test run is ended, with the place where it stands."""


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    # A test that hangs in a lock is not ended by an exception.
    faulthandler.dump_traceback_later(STUCK * 16, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


class Interruption:
    """Calls something once, on top of the ``nth`` line of the package that this thread comes to.

    That is every place at which a signal handler or a finalizer may run, and more.
    """

    def __init__(self, nth: int, call: Callable[[], object]) -> None:
        self.nth = nth
        self.seen = 0
        self.where = ""
        self._call = call

    def __enter__(self) -> Interruption:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: Any, event: str, _: object) -> Any:
        if f"{os.sep}agentmem{os.sep}" not in frame.f_code.co_filename:
            return None
        if event == "line":
            self.seen += 1
            if self.seen == self.nth:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                sys.settrace(None)
                self._call()
        return self._trace


def places(act: Callable[[], object], most: int) -> list[int]:
    """Numbers of lines to interrupt: all that ``act`` comes to, or ``most`` of them."""
    with Interruption(-1, lambda: None) as counted:
        act()
    assert counted.seen > 10
    numbers = range(1, counted.seen + 1)
    return list(numbers) if len(numbers) <= most else random.Random(counted.seen).sample(numbers, most)


@pytest.fixture
def small(open_memory: Open) -> Memory:
    """Scopes of up to five records are searched in memory, larger ones are not."""
    memory = open_memory(settings=Settings(arena_limit=5, follower_delay_s=0.05))
    memory.add_many([f"a note about lamp {n}" for n in range(3)], user_id="few")
    memory.add_many([f"a note about kettle {n}" for n in range(12)], user_id="many")
    memory.flush()
    memory.search("lamp", user_id="few")
    memory.search("kettle", user_id="many")
    return memory


@pytest.mark.parametrize("what", ["search", "search large", "cached search", "add", "get", "update", "page", "stats"])
def test_any_call_stands_another_one_on_top_of_each_of_its_lines(small: Memory, what: str) -> None:
    memory, number = small, iter(range(10**6))
    kept = memory.add("the one to look for", user_id="few", dedupe=False).id
    memory.delete(kept)
    kept = memory.add("a thimble", user_id="other").id
    acts: dict[str, Callable[[], object]] = {
        "search": lambda: memory.search(f"lamp {next(number)}", user_id="few"),
        "search large": lambda: memory.search(f"kettle {next(number)}", user_id="many"),
        "cached search": lambda: memory.search("lamp", user_id="few"),
        "add": lambda: memory.add(f"a stone {next(number)}", user_id="stones"),
        "get": lambda: memory.get(kept),
        "update": lambda: memory.update(kept, content=f"a thimble {next(number)}"),
        "page": lambda: memory.page(user_id="many", limit=4),
        "stats": memory.stats,
    }
    added = dict[str, str]()

    def interrupt() -> None:
        text = f"pebble {next(number)}"
        id = memory.add(text, user_id="handler").id
        added[id] = text
        # What was added a moment ago, in the scope that was interrupted as in others.
        assert memory.search(text, user_id="handler", limit=1)[0].id == id
        assert memory.search("lamp 2", user_id="few", limit=1)[0].content == "a note about lamp 2"
        assert memory.search("kettle 7", user_id="many", limit=1)[0].content == "a note about kettle 7"
        assert memory.get(id) is not None

    acts[what]()
    for nth in places(acts[what], 60):
        with Interruption(nth, interrupt) as interruption:
            acts[what]()
        assert interruption.where or interruption.seen < nth
    assert added
    assert {record.id for record in memory.iterate(user_id="handler")} == added.keys()
    assert memory.search("lamp 1", user_id="few", limit=1)[0].content == "a note about lamp 1"
    assert memory.verify().ok


def test_an_add_that_embeds_for_itself_stands_another_one_on_top_of_each_of_its_lines(open_memory: Open) -> None:
    memory, number = open_memory(embedder=None), iter(range(10**6))

    def act() -> None:
        memory.add(f"a lone stone {next(number)}", user_id="stones")

    def interrupt() -> None:
        text = f"pebble {next(number)}"
        assert memory.search(text, user_id="handler", limit=1)[:1] == []
        id = memory.add(text, user_id="handler").id
        assert memory.search(text, user_id="handler", limit=1)[0].id == id
        memory.delete(id)

    act()
    for nth in places(act, 60):
        with Interruption(nth, interrupt):
            act()
    stored = {record.content for record in memory.iterate(user_id="stones")}
    assert len(stored) == memory.count(user_id="stones") > 60
    assert memory.verify().ok


@pytest.mark.slow
def test_an_add_that_embeds_for_itself_may_be_cut_short_anywhere(open_memory: Open) -> None:
    memory, known = open_memory(embedder=None), set[str]()

    def cut() -> None:
        raise Late

    memory.add("a stone", user_id="stones")
    for nth in places(lambda: memory.add("another stone", user_id="stones"), 100):
        text = f"stone {nth}"
        try:
            with Interruption(nth, cut):
                memory.add(text, user_id="stones")
            known.add(text)
        except (Late, EmbeddingError):  # of the model's own, as far as anybody can tell
            pass
        text = f"right after {nth}"
        memory.add(text, user_id="stones")
        known.add(text)
        best = memory.search(text, user_id="stones", limit=1, mode="vector")
        assert (best[0].content, round(best[0].similarity, 3)) == (text, 1)
    assert known <= {record.content for record in memory.iterate(user_id="stones")}
    assert memory.verify().ok


@pytest.mark.parametrize("what", ["search", "search large", "add", "update", "delete_all", "erase"])
def test_closing_on_top_of_a_call_ends_that_and_loses_nothing(open_memory: Open, what: str) -> None:
    settings = Settings(arena_limit=5, follower_delay_s=3_600)
    with open_memory(settings=settings) as first:
        first.add_many([f"a note about kettle {n}" for n in range(12)], user_id="many")
    known = 12
    memory = open_memory(settings=settings)

    def act() -> None:
        memory.search("warm", user_id="few")
        if what.startswith("search"):
            memory.search("kettle 3", user_id="many" if "large" in what else "few")
        elif what == "delete_all":
            memory.delete_all(user_id="nobody")
        else:
            id = memory.add("a spoon", user_id="spoons", dedupe=False).id
            if what == "update":
                memory.update(id, content="a fork")
            elif what == "erase":
                memory.erase(id)

    act()
    for nth in places(act, 25):
        memory = open_memory(settings=settings)
        memory.search("warm", user_id="few")
        started = time.monotonic()
        with Interruption(nth, memory.close) as interruption, suppress(ClosedError):
            act()
        if not interruption.where:
            continue
        assert time.monotonic() - started < 20
        with pytest.raises(ClosedError):
            memory.add("too late")
        again = open_memory(settings=settings)
        assert len(list(again.iterate(user_id="many"))) == known
        again.close()
    memory = open_memory(settings=settings)
    assert memory.verify().ok


def test_opening_stands_everything_on_top_of_it(tmp_path: Path, embedder: HashEmbedder) -> None:
    memories = [Memory(tmp_path / str(n), embedder=embedder) for n in range(200)]
    left = iter(memories)
    memory = next(left)
    numbers = places(lambda: memory.add("a chair"), 30)
    memory.close()
    for nth in numbers:
        for what in ("add", "close", "another"):
            memory = next(left, None) or Memory(tmp_path / f"{nth}-{what}", embedder=embedder)

            def interrupt(memory: Memory = memory, what: str = what) -> None:
                if what == "add":
                    assert memory.add("a table").status == "added"
                elif what == "close":
                    memory.close()
                else:
                    with Memory(memory.handle.path, embedder=embedder) as other:
                        assert other.add("a stool").status == "added"

            with Interruption(nth, interrupt) as interruption:
                try:
                    memory.add("a chair")
                except ClosedError:
                    assert what == "close"
            if interruption.where and what != "close":
                assert len(list(memory.iterate())) == 2, interruption.where
            memory.close()


# -- exceptions ------------------------------------------------------------------------------------------------------


class Late(Exception):
    """What a framework's handler raises in a call that takes too long."""


MENDED = ("arena.py", "postings.py", "conversation.py", "residents.py", "querycache.py", "cache.py")


def test_whatever_a_handler_cuts_short_is_right_the_next_time(open_memory: Open) -> None:
    """Not on top of each line, but raising there: in whatever holds a state that later calls rely on."""
    memory = open_memory(settings=Settings(embedding_cache_size=8, query_cache_size=4))
    number, known = iter(range(10**6)), dict[str, str]()

    def act() -> None:
        n = next(number)
        id = memory.add(f"lantern {n}", user_id="ana", run_id="talk", dedupe=False).id
        known[id] = f"lantern {n}"
        memory.search(f"lantern {n}", user_id="ana")
        memory.search(f"lantern {n}", user_id="ana")
        memory.update(id, content=f"lantern {n} of brass")
        known[id] = f"lantern {n} of brass"
        memory.search(f"brass {n % 3}", user_id="ana")

    class Cut(Interruption):
        def _trace(self, frame: Any, event: str, _: object) -> Any:
            if os.path.basename(frame.f_code.co_filename) not in MENDED:
                return None
            # A signal's handler is not called between the end of a block and what is in its ``finally``.
            last = ("if held_here(self._lock):", "self._lock.release()")
            line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            if event == "line" and line not in last:
                self.seen += 1
                if self.seen == self.nth:
                    raise Late
            return self._trace

    for _ in range(8):
        act()
    with Cut(-1, lambda: None) as counted:
        act()
    cut = 0
    for nth in random.Random(1).sample(range(1, counted.seen + 1), min(150, counted.seen)):
        try:
            with Cut(nth, lambda: None):
                act()
        except (Late, EmbeddingError):  # of the embedder's own, as far as anybody can tell
            cut += 1
        id, text = random.Random(nth).choice(list(known.items()))
        if memory.get(id).content == text:  # else it was cut short between the change and its note here
            assert id in [hit.id for hit in memory.search(text, user_id="ana", limit=10)]
    assert cut > 50
    assert memory.verify().ok
    for record in memory.iterate(user_id="ana"):
        best = memory.search(record.content, user_id="ana", limit=5, mode="vector")
        assert record.id in [hit.id for hit in best if hit.similarity > 0.99]


@pytest.fixture
def alarm() -> Iterator[Callable[[Callable[[], object], float, float], None]]:
    """Calls something in a signal handler, at random instants, never on top of itself."""
    before = signal.getsignal(signal.SIGALRM)
    chance = random.Random(5)

    def start(call: Callable[[], object], shortest: float, longest: float) -> None:
        def handler(*_: object) -> None:
            try:
                call()
            finally:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(shortest, longest))

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, shortest)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


Alarm = Callable[[Callable[[], object], float, float], None]


def test_a_handlers_exception_comes_out_as_it_is(
    open_memory: Open, alarm: Alarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One that is raised on top of a finalizer goes no further.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    memory = open_memory()
    memory.add("a violin", user_id="ana")
    inside, raised = False, 0

    def late() -> None:
        if inside:
            raise Late

    alarm(late, 0.0005, 0.004)
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        try:
            inside = True
            memory.search(f"violin {raised}", user_id="ana")
            memory.add("a cello", user_id="ana")
            inside = False
        except Late:  # and not a StoreError or an EmbeddingError
            inside = False
            raised += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert raised > 20
    assert memory.search("violin", user_id="ana", limit=1)[0].content == "a violin"
    assert memory.verify().ok


def test_a_handler_uses_what_the_main_thread_uses(open_memory: Open, alarm: Alarm) -> None:
    memory, handled = open_memory(), list[str]()
    memory.add("a drum", user_id="ana")

    def handler() -> None:
        n = len(handled)
        handled.append(memory.add(f"beat {n}", user_id="ben").id)
        assert memory.search(f"beat {n}", user_id="ben", limit=1)[0].id == handled[n]
        assert memory.search("drum", user_id="ana", limit=1)[0].content == "a drum"

    alarm(handler, 0.0005, 0.005)
    deadline, n = time.monotonic() + 2, 0
    while time.monotonic() < deadline or len(handled) < 20:
        memory.search(f"drum {n}", user_id="ana")
        memory.search("drum", user_id="ana")
        n += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert {record.id for record in memory.iterate(user_id="ben")} == set(handled)


def test_a_handler_in_an_event_loop_uses_a_blocking_client(store: Path, embedder: HashEmbedder, alarm: Alarm) -> None:
    handled = list[str]()
    with Memory(store, embedder=embedder) as blocking:

        def handler() -> None:
            handled.append(blocking.add(f"note {len(handled)}", user_id="ben").id)
            blocking.search("note", user_id="ben")

        async def worker(memory: AsyncMemory, name: str, until: float) -> int:
            n = 0
            while time.monotonic() < until:
                await memory.add(f"{name} {n}", user_id="ana")
                await memory.search(f"{name} {n - 1}", user_id="ana")
                n += 1
            return n

        async def main() -> int:
            async with AsyncMemory(store, embedder=embedder) as memory:
                await memory.add("the first", user_id="ana")
                alarm(handler, 0.0005, 0.006)
                until = time.monotonic() + 2
                done = await asyncio.gather(*(worker(memory, f"task {n}", until) for n in range(6)))
                signal.setitimer(signal.ITIMER_REAL, 0)
                return sum(done)

        done = asyncio.run(main())
        assert len(handled) > 10
        assert len(list(blocking.iterate(user_id="ben"))) == len(handled)
        assert len(list(blocking.iterate(user_id="ana"))) == done + 1
        assert blocking.verify().ok


# -- finalizers ------------------------------------------------------------------------------------------------------


class Littering(HashEmbedder):
    """Leaves garbage on the threads that embed."""

    litter: Callable[[], object] = staticmethod(lambda: None)

    def embed_documents(self, texts: Sequence[str]) -> Any:
        self.litter()
        return super().embed_documents(texts)


def test_finalizers_write_and_search_on_whichever_thread_they_run(open_memory: Open) -> None:
    kept, on, inside, left = list[str](), set[str](), threading.local(), deque[str]()
    over = threading.Event()

    class Session:
        """Garbage in a circle, as objects with callbacks to themselves are."""

        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            if not over.is_set() and not getattr(inside, "yes", False):  # one collection may finalize many of these
                inside.yes = True
                kept.append(memory.add(f"session {len(kept)} ended", user_id="ben", dedupe=False).id)
                assert memory.search("session ended", user_id="ben")
                on.add(threading.current_thread().name.rstrip("0123456789"))
                inside.yes = False

    def litter() -> None:
        """One piece for each that is asked for: what a finalizer does is not to make more of it."""
        with suppress(IndexError):
            left.pop()
            Session()

    def clock() -> datetime:
        if threading.current_thread().name == "agentmem-commit":
            litter()  # in the middle of a transaction
        return START

    embedder = Littering()
    memory = open_memory(embedder=embedder, clock=clock, settings=Settings(embed_threads=1))
    memory.add("opened", user_id="eve")
    memory.search("opened", user_id="eve")  # while that is loaded, finalizers are told so
    embedder.litter = litter
    threshold, n = gc.get_threshold(), 0
    try:
        gc.set_threshold(50, 3, 3)
        deadline = time.monotonic() + 60
        while not {"agentmem-commit", "agentmem-embed-", "MainThread"} <= on or n < 30:
            assert time.monotonic() < deadline, on
            left.extend("ab")
            memory.add_many([f"item {n} {i}" for i in range(20)], user_id="ana", dedupe=False)
            Session()
            if n % 10 == 0:
                gc.collect()  # on this thread, which by chance it may not be for long
            n += 1
    finally:
        gc.set_threshold(*threshold)
        left.clear()
        over.set()  # a collection that another thread has begun leaves this one nothing to do
        gc.collect()  # none is to end in the middle of what follows
    assert {record.id for record in memory.iterate(user_id="ben")} >= set(kept)
    assert len(set(kept)) == len(kept)
    # The transactions that gave way were run again, once.
    assert sorted(record.content for record in memory.iterate(user_id="ana")) == sorted(
        f"item {k} {i}" for k in range(n) for i in range(20)
    )
    report = memory.verify()
    assert report.ok, report.problems


def test_what_is_refused_to_a_finalizer_is_not_stored_later(open_memory: Open) -> None:
    stored, refused, inside = list[str](), list[str](), threading.local()

    def clock() -> datetime:
        if threading.current_thread().name == "agentmem-commit" and not getattr(inside, "yes", False):
            inside.yes = True  # as if a finalizer ran there, in the middle of each transaction
            text = f"session {len(stored) + len(refused)} ended"
            try:
                memory.add(text, user_id="ben", dedupe=False)
                stored.append(text)
            except StoreError:
                refused.append(text)
            inside.yes = False
        return START

    memory = open_memory(clock=clock)
    for n in range(3):
        memory.add(f"item {n}", user_id="ana")
    assert len(refused) == 3
    inside.yes = True
    assert sorted(one.content for one in memory.iterate(user_id="ben")) == sorted(stored)
    assert sorted(one.content for one in memory.iterate(user_id="ana")) == ["item 0", "item 1", "item 2"]


def test_a_finalizer_at_a_threads_end_does_not_wait_for_other_threads(open_memory: Open) -> None:
    # The garbage collector may call one in there, from Python 3.12 on.
    limbo = getattr(threading, "_active_limbo_lock")  # noqa: B009
    memory = open_memory()
    with limbo, pytest.raises(StoreError, match="middle of a thread's end"):
        memory.add("session ended", user_id="ben")
    memory.add("item", user_id="ben")
    with limbo:
        memory.add("session ended", user_id="ben")
    assert memory.count(user_id="ben") == 2


def test_a_finalizer_in_a_transaction_opens_the_store_anew(open_memory: Open) -> None:
    added, inside = list[str](), list[bool]()

    def clock() -> datetime:
        if threading.current_thread().name == "agentmem-commit" and not inside:
            inside.append(True)  # as if a finalizer ran there, in the middle of a transaction
            memory.close()
            with open_memory() as another:
                added.append(another.add("session ended", user_id="ben").id)
        return START

    memory = open_memory(clock=clock)
    memory.add("item", user_id="ana")
    with open_memory() as again:
        assert [one.id for one in again.iterate(user_id="ben")] == added
        assert [one.content for one in again.iterate(user_id="ana")] == ["item"]


@pytest.mark.slow
def test_a_finalizer_may_close_what_another_thread_uses(open_memory: Open, store: Path) -> None:
    for _ in range(20):
        memory = open_memory()
        memory.add("a bell", user_id="ana")

        class Owner:
            def __init__(self, memory: Memory) -> None:
                self.me, self.memory = self, memory

            def __del__(self) -> None:
                self.memory.close()

        owner = Owner(memory)
        del owner
        with Interruption(40, gc.collect), suppress(ClosedError):
            memory.search("bell", user_id="ana")
        with pytest.raises(ClosedError):
            memory.search("bell", user_id="ana")
        with open_memory() as again:
            assert again.search("bell", user_id="ana", limit=1)[0].content == "a bell"


def test_waiting_for_what_is_interrupted_is_refused_at_once(small: Memory) -> None:
    refused = list[str]()

    def flush() -> None:
        try:
            small.flush()
        except StoreError as exc:
            refused.append(str(exc))

    for nth in places(lambda: small.search("kettle", user_id="many"), 20):
        with Interruption(nth, flush):
            small.search(f"kettle {nth}", user_id="many")
    assert len(refused) > 5
    assert "on top of a call" in refused[0]
    small.flush()


# -- clients that are dropped ----------------------------------------------------------------------------------------


def test_a_dropped_client_gives_its_store_back(store: Path, embedder: HashEmbedder) -> None:
    for size in (10, 20, 30, 0):
        memory = Memory(store, embedder=embedder, settings=Settings(query_cache_size=size))
        view = memory.scoped(user_id="ana")
        assert view.add(f"with {size}").status == "added"
        with pytest.raises(InvalidInputError, match="other settings"):
            Memory(store, embedder=embedder, settings=Settings(query_cache_size=99)).stats()
        del memory
        with pytest.raises(InvalidInputError, match="other settings"):
            Memory(store, embedder=embedder, settings=Settings(query_cache_size=99)).stats()
        assert len(list(view.iterate())) > 0  # the view is a client, too
        del view
    with Memory(store, embedder=embedder) as memory:
        assert len(list(memory.iterate(user_id="ana"))) == 4


def test_a_dropped_client_ends_its_threads(store: Path, embedder: HashEmbedder) -> None:
    before = threading.active_count()
    for _ in range(10):
        Memory(store, embedder=embedder).add("left alone", dedupe=False)
    deadline = time.monotonic() + 20
    while threading.active_count() > before:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)
    with Memory(store, embedder=embedder) as memory:
        assert memory.stats().records == 10


@pytest.mark.slow
def test_clients_dropped_in_circles_while_others_open(tmp_path: Path, embedder: HashEmbedder) -> None:
    for n in range(15):
        memory = Memory(tmp_path / str(n % 5), embedder=embedder, settings=Settings(query_cache_size=n))
        memory.add(f"round {n}")
        memory.circle = memory  # pyright: ignore[reportAttributeAccessIssue]
        del memory
        nth, collected = 200 * n, Interruption(20 + 3 * n, gc.collect)
        with collected, Memory(tmp_path / "other", embedder=embedder) as other:
            other.add(f"other {nth}")
        gc.collect()
    for n in range(5):
        with Memory(tmp_path / str(n), embedder=embedder) as memory:
            assert len(list(memory.iterate())) == 3


def test_a_failed_opening_keeps_nothing(tmp_path: Path, embedder: HashEmbedder) -> None:
    path = tmp_path / "later"
    path.write_text("a file")
    memory = Memory(path, embedder=embedder)
    for _ in range(3):
        with pytest.raises(StoreError, match="is a file"):
            memory.add("x")
    path.unlink()
    assert memory.add("x").status == "added"
    memory.close()


# -- forks -----------------------------------------------------------------------------------------------------------

FORKED = """
import os, sys, threading
from agentmem import AsyncMemory, Memory
from conftest import HashEmbedder

made, waiting = Memory(sys.argv[1], embedder=HashEmbedder()), AsyncMemory(sys.argv[1], embedder=HashEmbedder())
view, used = made.scoped(user_id="ana"), Memory(sys.argv[1] + "-used", embedder=HashEmbedder())
used.add("opened by the parent")
for n in range(3):
    child = os.fork()
    if child == 0:
        import asyncio
        view.add(f"by child {n}")
        asyncio.run(waiting.add(f"by child {n}, awaited", user_id="ana"))
        assert made.search(f"child {n}", user_id="ana")
        made.close()
        try:
            used.add("x")
        except Exception as exc:
            print(type(exc).__name__, exc, flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
print(sorted(record.content for record in view.iterate()), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_client_that_was_not_used_yet_works_in_each_child(store: Path) -> None:
    lines = run(FORKED, str(store)).splitlines()
    assert lines[:3] == ["StoreError this client was opened before a fork; make a new one in the child process"] * 3
    assert lines[3] == str(sorted(f"by child {n}{more}" for n in range(3) for more in ("", ", awaited")))


# -- the way out -----------------------------------------------------------------------------------------------------

ENDING = """
import atexit, os, signal, sys
from agentmem import Memory
from conftest import HashEmbedder

memory = Memory(sys.argv[1], embedder=HashEmbedder())
memory.add("the first", user_id="ana")
def end(*_):
    if "add" in sys.argv[2]:
        os.write(1, f"{memory.add('the last', user_id='ana').id}\\n".encode())
    if "close" in sys.argv[2]:
        memory.close()
    sys.exit(0)
if sys.argv[2] != "default":
    signal.signal(signal.SIGTERM, end)
if sys.argv[2] == "atexit":
    atexit.register(memory.close)
print("ready", flush=True)
n = 0
while True:
    os.write(1, f"{memory.add(f'number {n}', user_id='ana').id}\\n".encode())
    memory.search(f"number {n}", user_id="ana")
    n += 1
"""


@pytest.mark.parametrize("way", ["close", "add, close", "add", "exit", "atexit", "default"])
def test_a_program_that_is_told_to_end_ends_and_has_stored_what_it_said(store: Path, way: str) -> None:
    for instant in (0.005, 0.09):
        with child(ENDING, str(store), way) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(instant)
            process.send_signal(signal.SIGTERM)
            said, errors = process.communicate(timeout=20)
        assert process.returncode == (-signal.SIGTERM if way == "default" else 0), errors
        assert errors == ""
        ids = [line for line in said.splitlines(keepends=True) if line.endswith("\n")]
        with Memory(store, embedder=HashEmbedder()) as memory:
            assert {id.strip() for id in ids} <= {record.id for record in memory.iterate(user_id="ana")}
            assert memory.verify().ok


def test_a_handler_that_registered_late_finds_its_store_open_at_exit(store: Path) -> None:
    code = """
import atexit, sys
from agentmem import Memory
from conftest import HashEmbedder
memory = Memory(sys.argv[1], embedder=HashEmbedder())
atexit.register(lambda: print(memory.add("goodbye").status, flush=True))
memory.add("hello")
"""
    assert run(code, str(store)) == "added\n"


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run(code: str, *arguments: str) -> str:
    with child(code, *arguments) as process:
        said, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return said


IMPORTS_ON_MAIN = """
import sys, threading
import agentmem
from agentmem import Memory, Settings

found = []

class Watcher:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("agentmem") and threading.current_thread() is threading.main_thread():
            found.append(name)

memory = Memory(sys.argv[1])
sys.meta_path.insert(0, Watcher())
try:
    eval(sys.argv[2])
except agentmem.AgentMemError:
    pass  # what it refuses is not the point
print(*found)
"""


@pytest.mark.parametrize(
    "call",
    [
        "memory.add({'content': 'a bell', 'kind': 'fact', 'metadata': {'n': 1}}, user_id='ana')",
        "memory.add_many(['a bell', 'a book'], user_id='ana', on_error='skip', source='list')",
        "memory.search('bell', user_id='ana', filters={'n': {'$gt': 0}}, time_zone='Europe/Berlin')",
        "memory.context('bell', user_id='ana', max_tokens=100)",
        "memory.page(user_id='ana', filters={'$kind': 'fact'}, since='2025-01-01')",
        "memory.deleted(user_id='ana')",
        "memory.deleted(user_id='ana', cursor='1')",
        "memory.update('nobody', content='b')",
        "memory.count(user_id='ana')",
        "memory.get('nobody')",
        "memory.delete_all(user_id='ana')",
        "memory.stats()",
    ],
)
def test_the_first_call_imports_nothing_where_it_may_be_interrupted(store: Path, call: str) -> None:
    """A handler on top of it would meet modules that are half there."""
    run = subprocess.run(
        [sys.executable, "-c", IMPORTS_ON_MAIN, str(store), call], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (run.stdout, run.stderr) == ("\n", "")
