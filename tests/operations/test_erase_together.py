"""Erasing while others have the store open, beside changes of model, before a salvage, and in the middle of a crash."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, FakeClock, HashEmbedder
from inspecting import files_with, live, sql, wait_until

from agentmem import Memory, NotFoundError, Settings
from agentmem.client.border import Border
from agentmem.client.options import AddOptions
from agentmem.operations import add
from agentmem.stores import erasure, meta
from agentmem.stores.connection import Connection
from agentmem.stores.folder import DATABASE
from agentmem.stores.names import Names
from agentmem.stores.writes import Repository
from agentmem.types.inputs import Draft

QUIET = {"lifecycle": {"sweep_interval_s": 0}}
SMALL = Settings(**QUIET)
DAY = 86_400
Open = Callable[..., Memory]


def drafts_of(memory: Memory, text: str, **options: Any) -> list[Draft]:
    border = Border(memory.handle)
    return border.draft(text, border.defaults(AddOptions(**options)))


OTHER = """
import sys
from agentmem import Memory, Settings
sys.path.insert(0, sys.argv[2])
from conftest import HashEmbedder
options = Settings(arena_limit=int(sys.argv[3]), follower_delay_s=0.02, lifecycle={"sweep_interval_s": 0})
with Memory(sys.argv[1], settings=options, embedder=HashEmbedder()) as memory:
    for line in sys.stdin:
        outcome = eval(line)
        print(repr(outcome), flush=True)
"""


@pytest.fixture
def other_process(store: Path) -> Iterator[Callable[[int], Callable[[str], Any]]]:
    """Starts a process that has the store open and evaluates expressions with ``memory``."""
    with ExitStack() as stack:

        def start(limit: int) -> Callable[[str], Any]:
            process = subprocess.Popen(
                [sys.executable, "-c", OTHER, str(store), str(ROOT / "tests"), str(limit)],
                env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            stdin, stdout = process.stdin, process.stdout

            def ask(expression: str) -> Any:
                stdin.write(expression + "\n")
                stdin.flush()
                return eval(stdout.readline())

            def stop() -> None:
                stdin.close()
                assert process.wait(60) == 0
                stdout.close()

            stack.callback(stop)
            return ask

        yield start


@pytest.mark.slow
@pytest.mark.parametrize("limit", [50_000, 5])
def test_a_process_with_everything_cached_follows(
    store: Path, other_process: Callable[[int], Callable[[str], Any]], limit: int
) -> None:
    """Names, arenas, results: whatever it held of the user is gone, and what it writes is under the new number."""
    ask = other_process(limit)
    with Memory(store, settings=Settings(follower_delay_s=0.02, **QUIET), embedder=HashEmbedder()) as memory:
        for turn in range(3):
            memory.add_many([f"zoe note {n}" for n in range(30)], user_id="zoe", run_id=f"run {turn}")
            memory.add("ben's own note", user_id="ben")
            for mode in ("hybrid", "keyword", "vector"):
                assert ask(f"len(memory.search('note', user_id='zoe', mode={mode!r}, limit=50))") == 30
            assert ask("len(memory.search('note', user_id='ben'))") == 1
            memory.erase_all(user_id="zoe")
            memory.compact()
            assert sql(memory, "SELECT count(*) FROM names WHERE value = 'zoe'") == [(0,)]
            for call in (
                "search('note', user_id='zoe')",
                "page(user_id='zoe').records",
                f"recent(run_id='run {turn}', user_id='zoe')",
            ):
                assert ask(f"len(memory.{call})") == 0
            assert ask("memory.add('zoe is back', user_id='zoe', run_id='new').status") == "added"
            assert [hit.content for hit in memory.search("back", user_id="zoe")] == ["zoe is back"]
            assert sql(memory, "SELECT count(*) FROM names WHERE value = 'zoe'") == [(1,)]
            assert ask("[hit.content for hit in memory.search('back', user_id='zoe')]") == ["zoe is back"]
            assert ask("[hit.record.user_id for hit in memory.search('note', user_id='ben')]") == ["ben"]
            memory.erase_all(user_id="zoe")
            memory.compact()
        assert ask("memory.delete_all(user_id='zoe'), memory.erase_all(user_id='zoe').erased") == (0, 0)
        assert ask("memory.verify().problems") == memory.verify().problems == []


@pytest.mark.slow
def test_a_reader_that_is_behind_drops_what_it_holds(
    store: Path, other_process: Callable[[int], Callable[[str], Any]]
) -> None:
    ask = other_process(50_000)
    with Memory(store, settings=Settings(follower_delay_s=0.02, **QUIET), embedder=HashEmbedder()) as memory:
        memory.add_many([f"zoe note {n}" for n in range(30)], user_id="zoe")
        memory.add("ben's own note", user_id="ben")
        assert ask("len(memory.search('note', user_id=__import__('agentmem').ALL, limit=50))") == 31
        memory.erase_all(user_id="zoe")
        memory.compact()
        assert sql(memory, "SELECT count(*) FROM history")[0][0] < 5
        found = ask("[hit.content for hit in memory.search('note', user_id=__import__('agentmem').ALL, limit=50)]")
        assert found == ["ben's own note"]
        assert ask("memory.stats().arenas['records']") == 1


@pytest.mark.slow
def test_while_others_write_search_and_purge(store: Path) -> None:
    """Users come and go at full speed; nobody sees another's, nothing dangles, and what was acknowledged is there."""
    problems, stop = list[str](), threading.Event()
    options = Settings(follower_delay_s=0.02, follower_group=20, arena_limit=40, **QUIET)
    memory = Memory(store, settings=options, embedder=HashEmbedder())

    def come_and_go(user: str) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            ids = {
                one.id for one in memory.add_many([f"{user} {turn} {n}" for n in range(7)], user_id=user, run_id="r")
            }
            found = memory.search(f"{user} {turn}", user_id=user, limit=20)
            if {hit.id for hit in found} != ids or any(hit.record.user_id != user for hit in found):
                problems.append(f"{user} {turn}: {found}")
            if {record.id for record in memory.iterate(user_id=user)} != ids:
                problems.append(f"{user} {turn}: listed otherwise")
            if memory.erase_all(user_id=user).erased != 7:
                problems.append(f"{user} {turn}: not all of it was erased")

    def compact() -> None:
        while not stop.is_set():
            memory.compact()

    with memory:
        threads = [threading.Thread(target=come_and_go, args=(f"user {n}",)) for n in range(3)]
        threads.append(threading.Thread(target=compact))
        for thread in threads:
            thread.start()
        time.sleep(4)
        stop.set()
        for thread in threads:
            thread.join()
        assert problems == []
        memory.compact()
        assert memory.verify().problems == []
        assert sql(memory, "SELECT count(*) FROM records") == sql(memory, "SELECT count(*) FROM names") == [(0,)]


# -- the rest of the house ---------------------------------------------------------------------------------------------


def test_while_the_store_moves_to_another_model(open_memory: Open, store: Path) -> None:
    class Other(HashEmbedder):
        name = "other"

    memory = open_memory(settings=Settings(follower_delay_s=0.02, **QUIET))
    live(memory, "ben", "run of ben", 700)
    live(memory, "zoe", "run of zoe", 700)
    memory.flush()

    def on_the_way(done: int, total: int) -> None:
        if done < total and memory.page(user_id="zoe").records:
            memory.erase_all(user_id="zoe")
            memory.compact()

    memory.reembed(Other(), progress=on_the_way)
    memory.compact()
    assert files_with(store, "zoe") == {}
    assert memory.verify().problems == []
    assert sql(memory, "SELECT count(*) FROM embeddings_2") == [(721,)]
    assert len(memory.search("note", user_id="ben", limit=1_000)) == 720


def test_a_salvage_keeps_the_proof_and_the_dead(open_memory: Open, store: Path, clock: FakeClock) -> None:
    memory = open_memory(settings=SMALL)
    live(memory, "zoe", "run of zoe")
    ids = live(memory, "ben", "run of ben")
    memory.erase(ids[5])
    memory.erase("ben/profile")
    memory.add("chosen again", id="ben/profile", user_id="ben")
    memory.erase_all(user_id="zoe")
    memory.compact()
    last = sql(memory, "SELECT name, seq FROM sqlite_sequence WHERE name IN ('names', 'records') ORDER BY name")
    memory.close()
    data = bytearray((store / "agentmem.db").read_bytes())
    at = data.index(b"ben note 44")
    data[at + 1] ^= 1
    (store / "agentmem.db").write_bytes(data)
    memory = open_memory(settings=SMALL)
    assert memory.repair(salvage=True).counts["altered"] == 1
    assert [line.records for line in memory.erasures(user_id="zoe")] == [81]
    assert [event.event for event in memory.history(ids[5])] == ["ADD", "ERASE"]
    assert len(memory.history("ben/profile")) == 1
    assert sql(memory, "SELECT name, seq FROM sqlite_sequence WHERE name IN ('names', 'records') ORDER BY name") == last
    clock.advance(31 * DAY)
    memory.compact()
    assert memory.verify().problems == []
    assert sql(memory, "SELECT count(*) FROM records WHERE state = 2") == [(0,)]


def test_verify_sees_what_dangles(memory: Memory) -> None:
    memory.add_many(["one", "two", "three"], user_id="zoe")
    memory.erase(memory.page(user_id="zoe").records[0].id)

    def spoil(statement: str) -> list[str]:
        memory.handle.engine().write(lambda repository: repository.db.execute(statement))
        return [problem for problem in memory.verify().problems if "lancedb" not in problem]

    assert memory.verify().ok
    assert any("has no name" in problem for problem in spoil("DELETE FROM names"))
    assert any("still has its id" in problem for problem in spoil("UPDATE records SET id = 'x' WHERE state = 2"))
    assert any("belong to no record" in problem for problem in spoil("DELETE FROM records WHERE row = 1"))


def test_an_add_that_an_erase_overtakes_was_one(memory: Memory) -> None:
    """The record and the user are gone before the call that added them has come back."""
    engine, before = memory.handle.engine(), memory.add("from before", user_id="zoe")
    [created] = add.submit(engine, drafts_of(memory, "soon gone", user_id="zoe")).result()
    memory.erase_all(user_id="zoe")
    memory.compact()
    assert memory.search("gone", user_id="zoe") == []
    [added] = add.results(engine, [created])
    assert (added.id, added.status) == (created.stored.id, "added")
    with pytest.raises(NotFoundError, match="erased"):
        _ = added.record
    assert before.record.content == "from before"


def test_a_crash_between_the_groups_is_made_good_by_the_next_call(memory: Memory) -> None:
    """Some erased, the rest not, and no event after them: as a kill in the middle of ``erase_all`` leaves it."""
    memory.add_many([f"note {n}" for n in range(10)], user_id="zoe")

    def half(repository: Repository) -> None:
        now = memory.handle.engine().now()
        found = list(repository.find_rows(range(1, 6)))
        erasure.erase(repository, found, now, erasure.AT_ONCE)
        erasure.note_person(repository, "zoe", len(found), now, None)
        repository.set_meta(meta.LANCE_PURGE, repository.last_seq())

    memory.handle.engine().write(half)
    memory.compact()
    assert memory.verify().problems == []
    assert len(memory.search("note", user_id="zoe")) == 5
    assert memory.erase_all(user_id="zoe").erased == 5
    memory.compact()
    assert [line.records for line in memory.erasures(user_id="zoe")] == [5, 5]
    assert sql(memory, "SELECT count(*) FROM names") == [(0,)]
    assert timedelta(microseconds=erasure.KEPT) == timedelta(days=30)


@pytest.mark.slow
def test_who_has_the_store_open_finishes_what_a_killed_process_began(
    store: Path, other_process: Callable[[int], Callable[[str], Any]]
) -> None:
    """Killed right after names were removed, while the database file still has them."""
    ask = other_process(50_000)
    assert ask("memory.count(user_id='ben')") == 0
    script = """
import os, sys
from agentmem import Memory, Settings
from agentmem.stores import erasure
sys.path.insert(0, sys.argv[2])
from conftest import HashEmbedder
memory = Memory(sys.argv[1], settings=Settings(lifecycle={"sweep_interval_s": 0}), embedder=HashEmbedder())
memory.add("soon gone", user_id="zoe-of-old", run_id="the only run")
memory.flush()
engine = memory.handle.engine()
engine.lifecycle.stop()  # nothing goes by itself
memory.erase_all(user_id="zoe-of-old")
memory.flush()
engine.write(lambda repository: erasure.purge(repository, engine.now()))
os._exit(0)
"""
    command = [sys.executable, "-c", script, str(store), str(ROOT / "tests")]
    subprocess.run(command, check=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)})
    wait_until(lambda: files_with(store, "zoe-of-old", "the only run") == {})


def test_an_erase_that_was_killed_halfway_can_be_repeated(open_memory: Open, store: Path) -> None:
    """Killed after its transaction: the words are in the keyword index, and pages in the log."""
    memory = open_memory(settings=Settings(arena_limit=0, follower_delay_s=0.02, **QUIET))
    memory.add_many(["an unforgettable sentence", "another"], user_id="zoe")
    memory.flush()
    wait_until(lambda: sql(memory, "SELECT count(*) FROM keyword_lengths") == [(2,)])
    id = memory.search("unforgettable", user_id="zoe")[0].id
    engine = memory.handle.engine()

    def erase(repository: Repository) -> None:
        erasure.erase(repository, list(repository.find_rows([1])), engine.now(), engine.now() + erasure.KEPT)

    engine.write(erase)
    assert files_with(store, "unforgett")
    assert memory.erase(id).erased == 0
    assert files_with(store, "unforgett") == {}


def test_what_is_added_in_the_transaction_that_removes_names_gets_new_ones(memory: Memory) -> None:
    memory.add("gone", user_id="zoe", run_id="old")
    memory.search("gone", user_id="zoe", run_id="old")  # both names are cached
    memory.flush()
    memory.erase_all(user_id="zoe")
    memory.flush()
    engine = memory.handle.engine()
    [draft] = drafts_of(memory, "here", user_id="zoe", run_id="old")
    vector = HashEmbedder().embed_query("here").tobytes()

    def both(repository: Repository) -> None:
        assert erasure.purge(repository, engine.now())[:2] == (1, 2)
        repository.batch_create([draft], [vector], engine.now())

    engine.write(both)
    [record] = memory.iterate(user_id="zoe", run_id="old")
    assert (record.content, record.user_id, record.run_id) == ("here", "zoe", "old")
    assert sql(memory, "SELECT n FROM names") == [(3,), (4,)]
    memory.flush()
    assert memory.verify().problems == []


def test_a_lookup_that_a_removal_overtakes_is_not_kept(memory: Memory, store: Path) -> None:
    memory.add("x", user_id="zoe")
    names, epochs = Names(), count(1)

    class Slow(Connection):
        def execute(self, *args: Any, **kwargs: Any) -> list[Any]:
            rows = super().execute(*args, **kwargs)
            names.follow(next(epochs))  # another thread has seen that names were removed
            return rows

    with closing(Slow(store / DATABASE)) as slow:
        assert names.find(slow, "zoe") == 1
        assert names.name(slow, 1) == "zoe"
    with closing(Connection(store / DATABASE)) as db:
        memory.erase_all(user_id="zoe")
        memory.compact()
        assert names.find(db, "zoe") is None
        with pytest.raises(NotFoundError):
            names.name(db, 1)
