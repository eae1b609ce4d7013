"""The two clients: from any loop and thread, closed, forked, shared, in several processes; one set of signatures."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from datetime import timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import trio
from conftest import ROOT, START, FakeClock, HashEmbedder

from agentmem import AgentMemError, AsyncMemory, ClosedError, InvalidInputError, Memory, ScopeError, Settings
from agentmem.agent import sessions
from agentmem.client.asyncvalues import AsyncValuesClient
from agentmem.client.backups import AsyncBackupClient, BackupClient
from agentmem.client.lifecycle import AsyncLifecycleClient, LifecycleClient
from agentmem.client.tiers import AsyncTiersClient, TiersClient
from agentmem.client.values import ValuesClient
from agentmem.types import changes, reports, valueinfo

Open = Callable[..., Memory]
# What the async client takes from the blocking one; not for users.
INSIDE = {"fields", "check_one", "check_many", "handle"}
CALLS: dict[str, dict[str, Any]] = {
    "add": {"item": "x"}, "add_many": {"items": ["x"]}, "add_stream": {"items": ["x"]},
    "vectors": {"ids": ["a"]}, "embed": {"texts": ["x"]},
    "put": {"key": "k", "content": "x"}, "put_many": {"items": [{"key": "k", "content": "x"}]},
    "search": {"query": "x"}, "search_many": {"queries": ["x"]},
    "context": {"query": "x", "max_tokens": 9}, "recent": {"run_id": "r"}, "get": {"id": "x"}, "page": {},
    "iterate": {}, "count": {}, "distinct": {"field": "$kind"},
    "users": {}, "user_page": {}, "runs": {}, "agents": {}, "kinds": {}, "namespaces": {}, "deleted": {},
    "restore_all": {"user_id": "u"},
    "update": {"id": "x", "importance": 0.5}, "delete": {"id": "x"},
    "delete_many": {"ids": ["x"]}, "delete_all": {"user_id": "u"},
    "pop": {"run_id": "r"},
    "erase": {"id": "x"},
    "erase_all": {"user_id": "u"}, "erasures": {"user_id": "u"}, "history": {"id": "x"}, "restore": {"id": "x"},
    "sessions": {},
    "feedback": {"id": "x", "rating": 3}, "touch": {"ids": ["x"]}, "events": {}, "apply": {"changes": []},
    "flush": {}, "warm_up": {}, "stats": {}, "health": {}, "kpis": {}, "verify": {}, "repair": {}, "compact": {},
    "reembed": {"model": HashEmbedder()},
    "lifecycle.sweep": {}, "lifecycle.layers": {}, "lifecycle.scorer": {}, "lifecycle.replay": {},
    "lifecycle.explain": {"id": "x"}, "lifecycle.promote": {"id": "x"},
    "lifecycle.demote": {"id": "x"}, "lifecycle.pin": {"id": "x"}, "lifecycle.unpin": {"id": "x"},
    "tiers.stats": {}, "tiers.explain": {"id": "x"}, "tiers.place": {"scope_or_ids": "x", "tier": "hot"},
    "tiers.archive": {"ids": "x"}, "tiers.rehydrate": {"ids": "x"},
    "values.put": {"key": "k", "value": b"v"}, "values.put_many": {"values": {"k": 1}}, "values.get": {"key": "k"},
    "values.get_many": {"keys": ["k"]}, "values.open": {"key": "k"}, "values.info": {"key": "k"},
    "values.head": {"key": "k"}, "values.exists": {"key": "k"}, "values.list": {},
    "values.query": {"metadata_filter": {}},
    "values.delete": {"key": "k"}, "values.erase": {"key": "k"}, "values.versions": {"key": "k"},
    "values.restore": {"key": "k", "version": 1}, "values.usage": {}, "values.tiers": {},
    "values.move": {"key": "k", "tier": "cold"}, "values.compress": {"key": "k"},
    "values.attach": {"id": "x"}, "values.attachments": {"id": "x"},
    "backup.create": {}, "backup.list": {}, "backup.verify": {}, "backup.prune": {}, "backup.forget": {"user_id": "u"},
    "backup.restore": {}, "backup.restore_user": {"user_id": "u"},
    "backup.snapshots": {}, "backup.drop_snapshot": {"id": "x"},
    "create_snapshot": {}, "snapshots": {}, "restore_snapshot": {"id": "x"}, "drop_snapshot": {"id": "x"},
    "export": {"url": "x"}, "import_": {"url": "x"},
}  # fmt: skip


def python(code: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def public(client: type) -> set[str]:
    return {name for name in dir(client) if not name.startswith("_")} - INSIDE


async def use(memory: AsyncMemory, name: str) -> None:
    """One of everything that goes through threads."""
    id = (await memory.add(f"{name} likes tea", user_id=name)).id
    assert [hit.id for hit in await memory.search("tea", user_id=name)] == [id]
    assert (await memory.update(id, metadata={"seen": True})).version == 2
    async with aclosing(memory.add_stream([f"{name} {n}" for n in range(5)], chunk=2, user_id=name)) as stream:
        assert [len(chunk) async for chunk in stream] == [2, 2, 1]
    assert len([record async for record in memory.iterate(user_id=name)]) == 6
    assert await memory.delete(id)
    assert await memory.get(id) is None


# -- one instance, any loop ------------------------------------------------------------------------------------------


def test_one_instance_in_several_loops(store: Path, embedder: HashEmbedder) -> None:
    memory = AsyncMemory(store, embedder=embedder)
    for n in range(3):
        asyncio.run(use(memory, f"asyncio-{n}"))
    trio.run(use, memory, "trio")
    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(asyncio.run, use(memory, f"thread-{n}")) for n in range(6)]
        waiting += [threads.submit(trio.run, use, memory, f"thread-{n}") for n in range(6, 8)]
        for future in waiting:
            future.result(timeout=60)

    async def finish() -> None:
        assert (await memory.stats()).records == 12 * 5
        report = await memory.verify()
        assert report.ok, report.problems
        await memory.aclose()

    trio.run(finish)


def test_the_blocking_client_inside_a_running_loop(memory: Memory) -> None:
    async def cell() -> int:
        memory.add("from a notebook", user_id="ada")
        return len(memory.search("notebook", user_id="ada"))

    assert asyncio.run(cell()) == 1


def test_the_first_calls_of_many_tasks_open_the_store_once(store: Path, embedder: HashEmbedder) -> None:
    async def main() -> int:
        async with AsyncMemory(store, embedder=embedder) as memory:
            before = threading.active_count()
            await asyncio.gather(*(memory.get(f"nobody-{n}") for n in range(100)))
            return threading.active_count() - before

    # The engine's own threads, and none for each task that waited.
    assert asyncio.run(main()) < 10


def test_a_failed_opening_reaches_everybody_who_waits(tmp_path: Path, embedder: HashEmbedder) -> None:
    file = tmp_path / "file"
    file.write_text("not a store")

    async def main() -> list[Any]:
        memory = AsyncMemory(file, embedder=embedder)
        return await asyncio.gather(*(memory.get("x") for _ in range(20)), return_exceptions=True)

    outcomes = asyncio.run(main())
    assert all(isinstance(outcome, AgentMemError) and "is a file" in str(outcome) for outcome in outcomes)


def test_one_who_stops_waiting_for_the_opening_does_not_stop_the_others(store: Path, embedder: HashEmbedder) -> None:
    async def main() -> None:
        async with AsyncMemory(store, embedder=embedder) as memory:
            tasks = [asyncio.create_task(memory.add(f"fact {n}")) for n in range(10)]
            await asyncio.sleep(0)
            tasks[0].cancel()
            tasks[5].cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert [isinstance(outcome, asyncio.CancelledError) for outcome in done].count(True) == 2
            assert (await memory.stats()).records == 8

    asyncio.run(main())


# -- one set of signatures -------------------------------------------------------------------------------------------


def test_both_clients_have_the_same_names() -> None:
    assert public(AsyncMemory) - {"aclose", "blocking"} == public(Memory) - {"aio"}
    assert public(AsyncLifecycleClient) == public(LifecycleClient)
    assert public(AsyncBackupClient) == public(BackupClient)
    assert public(AsyncTiersClient) == public(TiersClient)
    assert public(AsyncValuesClient) == public(ValuesClient)
    ours = {f"lifecycle.{name}" for name in public(LifecycleClient)}
    ours |= {f"backup.{name}" for name in public(BackupClient)} | {f"tiers.{name}" for name in public(TiersClient)}
    ours |= {f"values.{name}" for name in public(ValuesClient)}
    apart = {"values", "close", "scoped", "userless", "aio", "lifecycle", "backup", "tiers", "session", "blocks"}
    apart |= {"consolidation"}
    assert CALLS.keys() == public(Memory) - apart | ours
    assert {"__aenter__", "__aexit__"} <= vars(AsyncMemory).keys()
    assert {"__enter__", "__exit__"} <= vars(Memory).keys()


def signature(function: Any) -> inspect.Signature:
    """With the annotations' meaning; what is imported on first use only is not there at run time."""
    names = {
        **inspect.unwrap(function).__globals__,
        "Settings": Settings,
        **vars(changes),
        **vars(reports),
        **vars(valueinfo),
        **vars(sessions),
    }
    return inspect.signature(function, eval_str=True, globals=names)


@pytest.mark.parametrize("name", [*sorted(CALLS), "scoped", "userless", "__init__"])
def test_both_clients_take_and_return_the_same(name: str) -> None:
    face, _, method = name.rpartition(".")
    faces = {
        "lifecycle": (LifecycleClient, AsyncLifecycleClient),
        "backup": (BackupClient, AsyncBackupClient),
        "tiers": (TiersClient, AsyncTiersClient),
        "values": (ValuesClient, AsyncValuesClient),
    }
    blocking, waiting = (getattr(owner, method) for owner in faces.get(face, (Memory, AsyncMemory)))
    ours, theirs = signature(blocking), signature(waiting)
    for one, other in zip(ours.parameters.values(), theirs.parameters.values(), strict=True):
        assert (one.name, one.kind, one.default) == (other.name, other.kind, other.default)
        if name != "add_stream" or one.name != "items":
            assert one.annotation == other.annotation, one.name
    if name in ("add_stream", "iterate"):
        assert inspect.isasyncgenfunction(waiting) == (name == "iterate")  # the other checks its arguments at once
        assert ours.return_annotation == Iterator[theirs.return_annotation.__args__[0]]
        assert theirs.return_annotation.__origin__ in (AsyncIterator, AsyncIterable)
    elif name in ("scoped", "userless"):
        assert (ours.return_annotation, theirs.return_annotation) == (Memory, AsyncMemory)
    elif name != "__init__":
        assert inspect.iscoroutinefunction(waiting)
        assert ours.return_annotation == theirs.return_annotation
    assert blocking.__doc__ or name == "__init__"
    assert waiting.__doc__ or name == "__init__"


# -- closed ----------------------------------------------------------------------------------------------------------


def call(memory: Memory, name: str) -> None:
    result = attrgetter(name)(memory)(**CALLS[name])
    if isinstance(result, Iterator):
        list(result)


async def call_async(memory: AsyncMemory, name: str) -> None:
    result = attrgetter(name)(memory)(**CALLS[name])
    if inspect.isasyncgen(result):
        async for _ in result:
            pass
    else:
        await result


@pytest.mark.parametrize("name", CALLS)
def test_a_closed_client_says_so(open_memory: Open, store: Path, embedder: HashEmbedder, name: str) -> None:
    for used in (True, False):
        memory = open_memory()
        view = memory.scoped(user_id="u")
        if used:
            memory.add("x")
        memory.close()
        memory.close()
        for client in (memory, view):
            with pytest.raises(ClosedError, match="open a new one"):
                call(client, name)

    async def main() -> None:
        for used in (True, False):
            memory = AsyncMemory(store, embedder=embedder)
            view = memory.scoped(user_id="u")
            if used:
                await memory.add("x")
            await memory.aclose()
            await memory.aclose()
            for client in (memory, view):
                with pytest.raises(ClosedError, match="open a new one"):
                    await call_async(client, name)

    trio.run(main)
    asyncio.run(main())


def test_closing_keeps_what_is_queued(open_memory: Open, store: Path, clock: FakeClock, embedder: HashEmbedder) -> None:
    async def main(n: int) -> tuple[set[str], int]:
        memory = AsyncMemory(store, clock=clock, embedder=embedder)
        await memory.warm_up()
        tasks = [asyncio.create_task(memory.add(f"round {n}, fact {i}")) for i in range(200)]
        await asyncio.wait(tasks[: n * 40 + 1], return_when=asyncio.FIRST_COMPLETED)
        await memory.aclose()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        kept = {outcome.id for outcome in outcomes if not isinstance(outcome, BaseException)}
        assert all(isinstance(o, ClosedError) for o in outcomes if isinstance(o, BaseException)), outcomes
        return kept, len(outcomes) - len(kept)

    acknowledged = set[str]()
    for n in range(5):
        acknowledged |= asyncio.run(main(n))[0]
    memory = open_memory()
    assert {record.id for record in memory.iterate()} == acknowledged
    assert memory.verify().ok


def test_closing_under_busy_threads(open_memory: Open) -> None:
    for _ in range(5):
        memory = open_memory()
        ids = [memory.add(f"fact {n}", user_id="ada").id for n in range(20)]
        started = threading.Barrier(7)

        def work(
            act: Callable[[], object], memory: Memory = memory, started: threading.Barrier = started
        ) -> BaseException:
            started.wait(30)
            while True:
                try:
                    act()
                except BaseException as exc:
                    return exc

        acts: list[Callable[[], object]] = [
            lambda m=memory: m.search("fact", user_id="ada"), lambda m=memory: m.search("fact 7", mode="keyword"),
            lambda m=memory, ids=ids: m.get(ids[3]), lambda m=memory: list(m.iterate(user_id="ada")),
            lambda m=memory, ids=ids: m.history(ids[0]), lambda m=memory: m.add("again", dedupe=False),
        ]  # fmt: skip
        with ThreadPoolExecutor(6) as threads:
            futures = [threads.submit(work, act) for act in acts]
            started.wait(30)
            memory.add("one more")
            memory.close()
            errors = [future.result(timeout=60) for future in futures]
        assert [type(error) for error in errors] == [ClosedError] * 6, errors
    memory = open_memory()
    assert memory.verify().ok


# -- sharing ---------------------------------------------------------------------------------------------------------


def test_two_clients_share_an_engine(open_memory: Open) -> None:
    first, second = open_memory(), open_memory()
    id = first.add("shared").id
    assert second.get(id)
    assert first.handle.engine() is second.handle.engine()
    first.close()
    first.close()
    assert second.get(id)
    second.add("still here")
    assert second.verify().ok


def test_views_bind_a_scope(memory: Memory) -> None:
    ada, eve = memory.scoped(user_id="ada"), memory.scoped(user_id="eve")
    id = ada.add("Ada's secret").id
    talk = ada.scoped(run_id="talk")
    said = talk.add({"role": "user", "content": "hello"}).id
    assert memory.get(said).run_id == "talk"
    assert [r.id for r in talk.recent(run_id="talk")] == [said]
    assert {r.id for r in ada.iterate()} == {id, said}
    assert [hit.id for hit in ada.search("secret", limit=1)] == [id]
    assert eve.search("secret") == [] == list(eve.iterate())
    assert eve.get(id) is None
    assert eve.delete_all() == 0
    for wrong in (
        lambda: ada.search("x", user_id="eve"),
        lambda: talk.recent(run_id="other"),
        lambda: ada.scoped(user_id="eve"),
    ):
        with pytest.raises(ScopeError, match="is bound to"):
            wrong()
    ada.close()
    assert memory.get(id)
    assert talk.delete_all() == 1
    assert memory.get(id)


def test_a_clock_of_ones_own(open_memory: Open, clock: FakeClock) -> None:
    memory = open_memory()
    record = memory.add("for an hour", ttl=timedelta(hours=1)).record
    assert record.created_at == START
    assert record.expires_at == START + timedelta(hours=1)
    clock.advance(3_599)
    assert memory.get(record.id)
    clock.advance(1)
    assert memory.get(record.id) is None
    assert memory.search("hour") == []
    with pytest.raises(InvalidInputError, match="other settings"):
        open_memory(clock=FakeClock()).stats()


# -- processes -------------------------------------------------------------------------------------------------------

FORK = """
import os, sys, threading
from agentmem import Memory, StoreError
from conftest import HashEmbedder
memory = Memory(sys.argv[1], embedder=HashEmbedder())
view = memory.scoped(user_id="ada")
id = memory.add("before the fork", user_id="ada").id
stop = threading.Event()
def busy():
    while not stop.is_set():
        memory.add("meanwhile", dedupe=False)
thread = threading.Thread(target=busy, daemon=True)
thread.start()
for n in range(5):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for call in (lambda: memory.get(id), lambda: memory.add("x"), lambda: view.search("x"), memory.stats):
                try:
                    call()
                except StoreError as exc:
                    assert "before a fork" in str(exc), exc
                else:
                    raise AssertionError("the old client works in the child")
            memory.close()
            with Memory(sys.argv[1], embedder=HashEmbedder()) as own:
                assert own.get(id).content == "before the fork"
                own.add(f"child {n}", user_id="ada")
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert len(memory.search("child", user_id="ada", mode="keyword")) == n + 1
stop.set()
thread.join()
report = memory.verify()
assert report.ok, report.problems
memory.close()
print("fine")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork(store: Path) -> None:
    assert python(FORK, str(store)) == "fine\n"


BUSY_FORK = """
import os, sys, threading
from agentmem import Memory, Settings
from conftest import HashEmbedder
settings = Settings(lock_timeout_s=5, follower_delay_s=3_600, follower_group=100_000)  # LanceDB dislikes forks
memory = Memory(sys.argv[1], settings=settings, embedder=HashEmbedder())
memory.add("first", user_id="ana")
stop = threading.Event()

def write(name):
    n = 0
    while not stop.is_set():
        memory.add_many([f"{name} {n} {i}" for i in range(600)], user_id=name)
        n += 1

writers = [threading.Thread(target=write, args=(name,), daemon=True) for name in ("ana", "ben")]
for writer in writers:
    writer.start()
for n in range(15):
    child = os.fork()
    if child == 0:
        with Memory(sys.argv[1], settings=settings, embedder=HashEmbedder()) as mine:
            mine.add(f"from child {n}", user_id="child")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, n
stop.set()
for writer in writers:
    writer.join()
assert len(list(memory.iterate(user_id="child"))) == 15
print("fine")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forks_in_the_middle_of_writing(store: Path) -> None:
    assert python(BUSY_FORK, str(store)) == "fine\n"


SEVERAL_FORKS = """
import os, sys, threading, time, warnings
from agentmem import Memory, Settings
from conftest import HashEmbedder
warnings.simplefilter("ignore")
memory = Memory(sys.argv[1], settings=Settings(lock_timeout_s=5, follower_delay_s=3_600), embedder=HashEmbedder())
memory.add("first", user_id="ana")
until = time.monotonic() + 2

def fork():
    while time.monotonic() < until:
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)

def write():
    n = 0
    while time.monotonic() < until:
        n += 1
        memory.add(f"one more {n}", user_id="ana")
        memory.search("one more", user_id="ana", limit=1)

threads = [threading.Thread(target=call, daemon=True) for call in (fork, fork, fork, fork, write, write)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(20)
print("stuck" if any(thread.is_alive() for thread in threads) else memory.add("last", user_id="ana").status, flush=True)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_several_threads_may_fork_at_once(store: Path) -> None:
    assert python(SEVERAL_FORKS, str(store)) == "added\n"


AFTER_LANCEDB = """
import os, signal, sys, warnings
from agentmem import Memory, Settings, StoreError
from conftest import HashEmbedder
warnings.simplefilter("ignore")
settings = Settings(follower_delay_s=0.02, arena_limit=3, large_engine="lancedb")

def opened(path):
    return Memory(path, settings=settings, embedder=HashEmbedder())

def use(memory, name):
    ids = [memory.add(f"{name} likes {what}", user_id="ada").id for what in ("tea", "boats", "the sea", "bees", "rain")]
    memory.update(ids[0], content=f"{name} likes coffee")
    memory.erase(ids[1])
    for mode in ("hybrid", "vector"):
        hits = memory.search(f"{name} likes coffee", user_id="ada", mode=mode, limit=1)
        assert [hit.id for hit in hits] == ids[:1], hits
    memory.stats(), memory.health()

parent = opened(sys.argv[1])
use(parent, "she")
parent.flush()
for n in range(6):
    child = os.fork()
    if not child:
        signal.alarm(60)
        with opened(sys.argv[1]) as memory:
            use(memory, f"child {n}")
            memory.flush()  # the parent sees to it
        with opened(sys.argv[1] + " of its own") as memory:
            use(memory, f"child {n}")
            if n == 0:
                try:
                    memory.flush()
                except StoreError as exc:
                    print("fork" in str(exc), "fork" in memory.verify().problems[0], flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, n
assert parent.verify().problems == []
with opened(sys.argv[1] + " of its own") as memory:
    assert memory.verify().problems == []
    assert len(list(memory.iterate(user_id="ada"))) == 6 * 4
print("fine")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_children_of_a_process_that_has_used_lancedb_do_without(store: Path) -> None:
    """They died of signals, or waited for ever, one of four: LanceDB does not stand a fork."""
    assert python(AFTER_LANCEDB, str(store)).split() == ["True", "True", "fine"]


ORPHAN = """
import os, signal, sys, time
from agentmem import Memory
from conftest import HashEmbedder
memory = Memory(sys.argv[1], embedder=HashEmbedder())
memory.add("before")
gate = memory.handle.engine().commits._gate
assert gate.acquire(5)
child = os.fork()
if child == 0:
    sys.stdin.read()
    os._exit(0)
print("forked", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_lock_dies_with_its_process_and_not_with_its_children(store: Path, open_memory: Open) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN, str(store)],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        assert parent.stdout.readline() == "forked\n"
        parent.wait(timeout=60)
        # The child lives on, waiting for its input to end.
        memory = open_memory()
        assert memory.add("after the death").status == "added"


WRITER = """
import asyncio, sys
from agentmem import AsyncMemory
from conftest import HashEmbedder
async def main(path, name):
    async with AsyncMemory(path, embedder=HashEmbedder()) as memory:
        await memory.warm_up()
        print("ready", flush=True)
        sys.stdin.readline()
        ids = []
        for start in range(0, 300, 20):
            texts = [f"{name} {n}" for n in range(start, start + 20)]
            ids += [r.id for r in await asyncio.gather(*(memory.add(text, user_id=name) for text in texts))]
            hits = await memory.search(texts[-1], user_id=name, limit=300)
            assert {hit.id for hit in hits} == set(ids), (name, start)
        print(*ids)
asyncio.run(main(*sys.argv[1:]))
"""


def test_two_processes_write_at_once(store: Path, open_memory: Open) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store), name],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in ("one", "two")
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    reader = open_memory(clock=None)
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    ids = [writer.communicate(timeout=120)[0].split() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert len(set(ids[0] + ids[1])) == 600
    for name, written in zip(("one", "two"), ids, strict=True):
        assert {record.id for record in reader.iterate(user_id=name)} == set(written)
        assert {hit.id for hit in reader.search("299", user_id=name, limit=300)} == set(written)
    assert reader.stats().events == 600
    report = reader.verify()
    assert report.ok, report.problems
