"""What an erase leaves: of a record its events for a while, of a person one line, and nothing that tells who."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeClock
from inspecting import files_with, live, sql, wait_until

from agentmem import ALL, ConflictError, Memory, NotFoundError, Settings
from agentmem.stores import erasure, meta
from agentmem.stores.folder import DAMAGED, DATABASE, FOLLOWER_LOCK, REPLACED, RESTORING, SALVAGE, new_folder
from agentmem.stores.locks import FileLock
from agentmem.stores.writes import Repository
from agentmem.text.similar import similar_terms
from agentmem.text.words import stem

QUIET = {"lifecycle": {"sweep_interval_s": 0}}
SMALL, LARGE = Settings(**QUIET), Settings(arena_limit=0, follower_delay_s=0.02, large_wait_s=60, **QUIET)
DISK = Settings(arena_limit=0, follower_delay_s=0.02, large_engine="lancedb", **QUIET)
DAY = 86_400
Open = Callable[..., Memory]


# -- a person --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["arenas/old.arena", RESTORING, SALVAGE, f"{SALVAGE}-wal"])
def test_files_that_cannot_be_removed_hold_nothing_up(open_memory: Open, store: Path, name: str) -> None:
    memory = open_memory(settings=SMALL)
    first, second = (memory.add(text, user_id="ana").id for text in ("the boat is in the harbour", "the cat is away"))
    stuck = store / name  # nobody can unlink a folder
    stuck.mkdir(parents=True)
    assert "files" in memory.erase(first).pending
    memory.flush()
    assert not files_with(store, "harbour")
    stuck.rmdir()
    assert "files" not in memory.erase(second).pending


@pytest.mark.parametrize("what", [DAMAGED, REPLACED])
def test_what_was_set_aside_is_told_of(open_memory: Open, store: Path, what: str) -> None:
    memory = open_memory(settings=SMALL)
    id = memory.add("the boat is in the harbour", user_id="ana").record.id
    aside = new_folder(store, what)
    (aside / DATABASE).write_text("the boat is in the harbour")
    assert "set aside" in memory.erase(id).pending
    assert "set aside" in memory.erase_all(user_id="ana").pending
    shutil.rmtree(aside)
    memory.add("the boat sank", user_id="ana")
    assert "set aside" not in memory.erase_all(user_id="ana").pending


@pytest.mark.parametrize("settings", [SMALL, LARGE, DISK], ids=["small", "large", "disk"])
def test_nothing_on_disk_tells_of_an_erased_user(open_memory: Open, store: Path, settings: Settings) -> None:
    memory = open_memory(settings=settings)
    who, run = f"{uuid.uuid4().hex}@mail.example", f"chat {uuid.uuid4().hex}"
    ids = live(memory, who, run)
    live(memory, "ben", "chat of ben")
    first = sql(memory, "SELECT n FROM names WHERE value = ?", who)[0][0]
    memory.flush()
    assert files_with(store, who, run)
    report = memory.erase_all(user_id=who)
    assert report.erased == 81
    assert "ids" in report.pending
    memory.compact()
    memory.flush()
    assert files_with(store, who, run, *ids) == {}
    assert memory.verify().problems == []
    for table in ("accesses", "due", "history", "keyword_lengths", memory.handle.engine().repository.embeddings):
        left = sql(memory, f"SELECT count(*) FROM {table} WHERE row != 0 AND row NOT IN (SELECT row FROM records)")
        assert left == [(0,)], table
    assert sql(memory, "SELECT count(*) FROM keyword_totals WHERE user = ?", first) == [(0,)]
    assert sql(memory, "SELECT count(*) FROM records WHERE user = ?", first) == [(0,)]
    # Others have kept everything: also what they share with the user.
    assert len(list(memory.iterate(user_id="ben"))) == 80
    assert len(list(memory.iterate(user_id=ALL, agent_id="helper"))) == 20
    memory.close()
    assert files_with(store, who, run, *ids) == {}
    again = open_memory(settings=settings)
    assert again.search("note", user_id=who) == []
    with pytest.raises(NotFoundError):
        again.history(ids[0])
    assert again.verify().ok


def test_one_line_is_left_and_proves_it(memory: Memory, store: Path, clock: FakeClock) -> None:
    live(memory, "zoe", "r")
    live(memory, "ben", "r")
    erased = memory.page(user_id="zoe").records[0].id
    memory.erase(erased)
    assert memory.erasures(user_id="zoe") == []
    clock.advance(DAY)
    assert memory.erase_all(user_id="zoe").erased == 80
    memory.compact()
    [line] = memory.erasures(user_id="zoe")
    assert (line.at, line.records) == (clock.now, 81)
    assert memory.erasures(user_id="ben") == memory.erasures(user_id="Zoe") == []
    assert memory.erase_all(user_id="zoe").erased == 0
    assert len(memory.erasures(user_id="zoe")) == 1
    clock.advance(DAY)
    memory.add("back again", user_id="zoe")
    assert memory.erase_all(user_id="zoe").erased == 1
    assert [line.records for line in memory.erasures(user_id="zoe")] == [81, 1]
    assert sql(memory, "SELECT count(*), max(length(who)) FROM erasures") == [(2, 16)]


def test_it_goes_by_itself_once_every_copy_has_seen_it(open_memory: Open, store: Path) -> None:
    memory = open_memory(settings=Settings(follower_delay_s=0.02, **QUIET))
    who = uuid.uuid4().hex
    live(memory, who, f"run of {who}", 500)
    memory.flush()
    memory.erase_all(user_id=who)
    wait_until(lambda: files_with(store, who) == {})
    assert sql(memory, "SELECT count(*) FROM records") == [(0,)]
    assert memory.verify().problems == []


def test_nothing_goes_before_every_copy_has_seen_it(open_memory: Open, store: Path) -> None:
    lock = FileLock(store / FOLLOWER_LOCK)
    store.mkdir()
    assert lock.acquire(1)  # somebody else is bringing LanceDB up to date, and takes his time
    memory = open_memory(settings=Settings(follower_delay_s=0.02, **QUIET))
    live(memory, "zoe", "r")
    memory.erase_all(user_id="zoe")
    time.sleep(1.5)
    assert sql(memory, "SELECT count(*) FROM records WHERE state = 2")[0][0] == 81
    with pytest.raises(NotFoundError):
        memory.history("zoe/profile")
    lock.close()
    wait_until(lambda: sql(memory, "SELECT count(*) FROM records") == [(0,)])
    memory.flush()
    assert memory.verify().problems == []


def test_a_clock_that_is_set_back_keeps_nobody(memory: Memory, clock: FakeClock, store: Path) -> None:
    live(memory, "zoe", "r")
    clock.advance(400 * DAY)
    memory.erase_all(user_id="zoe")
    clock.advance(-400 * DAY)
    memory.compact()
    assert files_with(store, "zoe") == {}


def test_ids_that_others_use_stay(memory: Memory) -> None:
    """A run that a deleted record of another user is in, an agent, a user that is also an agent."""
    memory.add("one", user_id="zoe", run_id="shared", agent_id="helper")
    memory.add("two", user_id="zoe", run_id="own", agent_id="own agent")
    memory.add("three", user_id="ben", agent_id="zoe")
    hidden = memory.add("four", user_id="ben", run_id="shared").id
    memory.add("five", agent_id="helper")
    memory.delete(hidden)
    memory.erase_all(user_id="zoe")
    memory.compact()
    names = {value for (value,) in sql(memory, "SELECT value FROM names")}
    assert names == {"zoe", "ben", "shared", "helper"}
    assert memory.restore(hidden).run_id == "shared"
    assert [record.content for record in memory.iterate(user_id="ben", agent_id="zoe")] == ["three"]
    memory.erase_all(user_id="ben")
    memory.compact()
    assert {value for (value,) in sql(memory, "SELECT value FROM names")} == {"helper"}
    assert memory.verify().ok


def test_a_user_who_comes_back_is_a_new_one(open_memory: Open) -> None:
    memory, other = open_memory(settings=SMALL), open_memory(settings=SMALL)
    for turn in range(3):
        live(memory, "zoe", f"run {turn}")
        assert len(other.search("note", user_id="zoe", limit=100)) == 80
        memory.erase_all(user_id="zoe")
        memory.compact()
        assert other.search("note", user_id="zoe") == []
        assert sql(memory, "SELECT count(*) FROM names WHERE value = 'zoe'") == [(0,)]
    assert memory.add("zoe again", user_id="zoe").status == "added"
    assert [hit.content for hit in other.search("again", user_id="zoe")] == ["zoe again"]
    assert sql(memory, "SELECT n FROM names") > [(9,)]  # user, run and agent, three times; none is given out again
    assert memory.verify().ok


@pytest.mark.parametrize("scope", [{"user_id": "zoe"}, {"user_id": ALL, "agent_id": "maid"}])
def test_an_answer_from_before_a_user_came_back_is_not_given_again(memory: Memory, scope: dict[str, Any]) -> None:
    memory.add("the lamp is green", user_id="zoe", agent_id="maid")
    memory.flush()
    memory.erase_all(user_id="zoe")
    assert memory.search("which colour?", **scope) == []  # under numbers that are removed later
    memory.compact()
    memory.add("the lamp is blue", user_id="zoe", agent_id="maid")
    assert [hit.content for hit in memory.search("which colour?", **scope)] == ["the lamp is blue"]


def test_the_file_comes_back_to_its_size(memory: Memory, store: Path) -> None:
    sizes = []
    for cycle in range(4):
        memory.add_many([f"cycle {cycle}: {n} {'some words ' * 20}" for n in range(500)], user_id=f"user {cycle}")
        memory.erase_all(user_id=f"user {cycle}")
        memory.flush()
        memory.compact()
        sizes.append((store / "agentmem.db").stat().st_size)
    assert max(sizes) - sizes[0] < 50 * 500
    assert sizes[-1] <= 72 * 4_096  # pages, about as many as a new store has
    given = dict(sql(memory, "SELECT name, seq FROM sqlite_sequence"))
    assert (given["records"], given["names"]) == (2_000, 4)  # none of them is given out twice
    assert given["history"] >= 4_000


def test_a_view_of_a_part_erases_that_part(memory: Memory, clock: FakeClock) -> None:
    memory.add("kept", user_id="zoe", agent_id="one")
    gone = memory.add("gone", user_id="zoe", agent_id="two").id
    assert memory.scoped(user_id="zoe", agent_id="two").erase_all(user_id="zoe").erased == 1
    assert [record.content for record in memory.iterate(user_id="zoe")] == ["kept"]
    assert [event.event for event in memory.history(gone)] == ["ADD", "ERASE"]  # as of what is erased one by one
    clock.advance(31 * DAY)
    memory.compact()
    assert {value for (value,) in sql(memory, "SELECT value FROM names")} == {"zoe", "one"}


# -- a record --------------------------------------------------------------------------------------------------------


def test_an_id_is_free_after_an_erase(memory: Memory, clock: FakeClock, store: Path) -> None:
    chosen = f"doc {uuid.uuid4().hex}"
    events = []
    for n in range(3):
        assert memory.add(f"text {n}", id=chosen, user_id="ana").status == "added"
        events.append([event.seq for event in memory.history(chosen)])
        memory.erase(chosen)
        assert [(e.event, e.id) for e in memory.history(chosen)] == [("ADD", chosen), ("ERASE", chosen)]
        assert memory.history(chosen)[0].seq == events[-1][0]
        assert memory.erase(chosen).erased == 0
        clock.advance(1)
    memory.compact()
    assert files_with(store, chosen) == {}
    assert memory.add("text", id=chosen, user_id="ben").status == "added"
    assert len(memory.history(chosen)) == 1
    assert [e.event for e in memory.scoped(user_id="ana").history(chosen)] == ["ADD", "ERASE"]
    with pytest.raises(NotFoundError):
        memory.scoped(user_id="eve").history(chosen)
    with pytest.raises(ConflictError):
        memory.add("other", id=chosen, user_id="ana")
    assert memory.verify().ok


@pytest.mark.parametrize("gone", ["deleted", "past its ttl", "expired", "changed"])
@pytest.mark.parametrize("many", [False, True])
def test_what_a_refused_id_advises_works(memory: Memory, clock: FakeClock, gone: str, many: bool) -> None:
    options = {"past its ttl": {"ttl": 60}, "expired": {"role": "user"}}.get(gone, {})
    memory.add("first text", id="page-4", user_id="kai", **options)
    if gone == "deleted":
        memory.delete("page-4")
    clock.advance(2 * DAY)
    memory.lifecycle.sweep()

    def add_again() -> str:
        item = {"content": "second text", "id": "page-4"}
        return (
            memory.add_many([{"content": "beside it"}, item], user_id="kai")[1].status
            if many
            else (memory.add(item, user_id="kai").status)
        )

    with pytest.raises(ConflictError, match=r"restore\('page-4'\)|erase\('page-4'\)|update the record") as refused:
        add_again()
    if "restore" in str(refused.value):
        assert memory.restore("page-4").content == "first text"
        assert memory.update("page-4", content="second text").version == 4
        memory.delete("page-4")
    memory.erase("page-4")
    assert add_again() == "added"
    assert memory.get("page-4").content == "second text"
    assert len(memory.history("page-4")) == 1
    assert memory.verify().ok


def test_its_events_stay_for_thirty_days(open_memory: Open, clock: FakeClock, store: Path) -> None:
    memory = open_memory(settings=Settings(follower_delay_s=0.02, **QUIET))
    id = memory.add("a secret", id="plan", user_id="zoe").id
    memory.update(id, metadata={"a": 1})
    memory.erase(id)
    memory.compact()
    clock.advance(30 * DAY - 1)
    memory.compact()
    assert [event.event for event in memory.history(id)] == ["ADD", "UPDATE", "ERASE"]
    clock.advance(1)
    with pytest.raises(NotFoundError):
        memory.history(id)
    with pytest.raises(NotFoundError):
        memory.erase(id)
    memory.add("something newer", user_id="ben")
    wait_until(lambda: sql(memory, "SELECT count(*) FROM records WHERE state = 2") == [(0,)])
    wait_until(lambda: files_with(store, "zoe") == {})
    assert memory.verify().problems == []


@pytest.mark.slow
@pytest.mark.parametrize("outdated", [False, True])
def test_an_index_of_words_that_nobody_needs_any_more_keeps_nothing(
    open_memory: Open, clock: FakeClock, outdated: bool
) -> None:
    memory = open_memory(settings=LARGE)
    memory.add_many([{"content": f"turn {n}", "role": "user"} for n in range(90)], user_id="zoe")
    memory.flush()
    wait_until(lambda: sql(memory, "SELECT count(*) FROM keyword_lengths") == [(90,)])
    memory.close()
    memory = open_memory(settings=SMALL)
    if outdated:
        memory.handle.engine().write(lambda repository: repository.set_meta(meta.KEYWORDS_TERMS, 1))
    for days in (2, 31, 30):
        clock.advance(days * DAY)
        memory.lifecycle.sweep()
    memory.add("newer", user_id="ben")
    wait_until(lambda: sql(memory, "SELECT count(*) FROM records") == [(1,)])
    assert sql(memory, "SELECT value FROM names") == [("ben",)]
    assert memory.verify().problems == []


def test_what_waits_for_its_copies_does_not_hold_up_the_rest(memory: Memory) -> None:
    memory.add_many([f"note {n}" for n in range(260)], user_id="zoe")
    memory.flush()
    engine = memory.handle.engine()

    def some(repository: Repository) -> None:
        now = engine.now()
        erasure.erase(repository, list(repository.find_rows(range(251, 261))), now, erasure.AT_ONCE)
        passed = repository.last_seq()
        erasure.erase(repository, list(repository.find_rows(range(1, 251))), now, erasure.AT_ONCE)
        repository.set_meta(meta.LANCE_APPLIED, passed)
        # In the same transaction, so that nobody brings LanceDB up to date meanwhile.
        first = erasure.purge(repository, now)
        assert (first.rows, first.next) == (0, (erasure.AT_ONCE, 200))
        assert erasure.purge(repository, now, (erasure.AT_ONCE, 200)).rows == 10

    engine.write(some)
    memory.compact()
    assert sql(memory, "SELECT count(*) FROM records") == [(0,)]


def test_the_newest_event_stays_until_there_is_a_newer_one(open_memory: Open, clock: FakeClock) -> None:
    memory = open_memory(settings=Settings(follower_delay_s=0.02, **QUIET))
    for id in ("one", "two"):
        memory.add(id, id=id, user_id="zoe")
    for id in ("one", "two"):
        memory.erase(id)
    memory.flush()
    clock.advance(30 * DAY)
    wait_until(lambda: sql(memory, "SELECT count(*) FROM records") == [(1,)])
    time.sleep(1)
    before = memory.stats().events
    assert sql(memory, "SELECT max(seq) FROM history") == [(before,)]
    memory.compact()
    assert sql(memory, "SELECT count(*) FROM records") == sql(memory, "SELECT count(*) FROM names") == [(0,)]
    assert memory.stats().events == before + 1
    for _ in range(3):
        memory.compact()
    assert memory.stats().events == before + 1
    assert memory.verify().ok
    assert memory.health().vectors_behind == 0


def test_what_a_sweep_erases_goes_as_well(open_memory: Open, clock: FakeClock) -> None:
    memory = open_memory(settings=Settings(follower_delay_s=0.02, **QUIET))
    turns = [{"content": f"turn {n}", "role": "user", "run_id": f"chat {n}"} for n in range(300)]
    ids = [one.id for one in memory.add_many(turns, user_id="zoe")]
    for days, state in ((2, 3), (31, 2)):
        clock.advance(days * DAY)
        memory.lifecycle.sweep()
        assert sql(memory, "SELECT state, count(*) FROM records GROUP BY state") == [(state, 300)]
    assert [event.event for event in memory.history(ids[7])] == ["ADD", "EXPIRE", "ERASE"]
    clock.advance(30 * DAY)
    memory.compact()
    for table in ("records", "names", "due", "accesses"):
        assert sql(memory, f"SELECT count(*) FROM {table}") == [(0,)], table
    assert memory.verify().problems == []


def test_no_cache_of_words_keeps_an_erased_one(memory: Memory) -> None:
    id = memory.add("the password is qwyzzlefrax", user_id="ana").id
    assert memory.search("qwyzzlefrax", user_id="ana", mode="keyword")
    for cached in (stem, similar_terms):
        before = cached.cache_info().hits
        cached("qwyzzlefrax")
        assert cached.cache_info().hits == before + 1
    memory.erase(id)
    for cached in (stem, similar_terms):
        before = cached.cache_info().misses
        cached("qwyzzlefrax")
        assert cached.cache_info().misses == before + 1
