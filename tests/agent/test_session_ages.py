"""How long sessions live, and what is in them: by the test's clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest
from conftest import START, FakeClock

from agentmem import DiskFullError, Memory, Settings
from agentmem.stores.rows import Stored
from agentmem.stores.writes import Repository

Open = Callable[..., Memory]
DAY = 86_400
SETTINGS = Settings(lifecycle={"sweep_interval_s": 0})


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


@pytest.fixture
def memory(open_memory: Open) -> Memory:
    return open_memory(settings=SETTINGS)


def later(memory: Memory, clock: FakeClock, days: float) -> None:
    clock.advance(days * DAY)
    memory.lifecycle.sweep()


def test_a_day_a_week_a_year_later(memory: Memory, clock: FakeClock) -> None:
    session = memory.session("r", user_id="ana")
    session.append(user("The ferry leaves at nine."))
    session.working.set({"task": "book the ferry"})
    memory.add(user("Said in passing."), user_id="ana", run_id="no-session")
    for days in (1.5, 6, 60):
        later(memory, clock, days)
        assert session.count() == 1
        assert session.working.get() == {"task": "book the ferry"}
    assert memory.recent(run_id="no-session", user_id="ana") == []

    session.append(user("I am back."))  # 67.5 days after the first turn
    later(memory, clock, 89)
    assert [turn.content for turn in session.turns()] == ["The ferry leaves at nine.", "I am back."]
    assert session.working.get() == {"task": "book the ferry"}

    later(memory, clock, 365)
    assert (session.turns(), session.info(), session.working.get()) == ([], None, {})
    assert memory.sessions(user_id="ana") == []
    assert memory.count(user_id="ana", under=()) == 0
    assert memory.verify().ok


def test_what_is_over_is_over_before_any_sweep(memory: Memory, clock: FakeClock) -> None:
    session = memory.session("r", user_id="ana", ttl=3_600)
    session.append(user("x"))
    session.working.set({"a": 1})
    clock.advance(3_600)
    assert session.count() == 1  # never earlier than promised
    clock.advance(400)
    assert (session.count(), session.turns(), session.info(), session.working.get()) == (0, [], None, {})
    session.append(user("y"))
    assert [turn.content for turn in session.turns()] == ["y"]
    assert session.working.get() == {}
    memory.lifecycle.sweep()
    assert [turn.content for turn in session.turns()] == ["y"]


def test_each_append_puts_the_end_off(memory: Memory, clock: FakeClock) -> None:
    session = memory.session("r", user_id="ana", ttl=timedelta(days=2))
    for number in range(10):
        session.append(user(str(number)))
        info = session.info()
        assert info is not None
        assert info.ends_at is not None
        assert timedelta(days=2) <= info.ends_at - clock.now <= timedelta(days=2.2)
        later(memory, clock, 1.9)
        assert session.count() == number + 1
    later(memory, clock, 0.4)
    assert session.count() == 0


def test_reading_does_not_put_it_off(memory: Memory, clock: FakeClock) -> None:
    session = memory.session("r", user_id="ana", ttl=timedelta(days=2))
    session.append(user("x"))
    for _ in range(3):
        clock.advance(0.8 * DAY)
        session.turns()
        session.info()
    assert session.info() is None


def test_a_session_for_good(memory: Memory, clock: FakeClock) -> None:
    session = memory.session("r", user_id="ana", ttl=None)
    session.append(user("x"))
    for _ in range(4):
        later(memory, clock, 200)
    assert session.count() == 1


def test_turns_in_insights_age_with_the_session(memory: Memory, clock: FakeClock) -> None:
    session = memory.session("r", user_id="ana")
    [turn] = session.append(user("x"))
    memory.lifecycle.promote(turn.id)
    for _ in range(3):
        later(memory, clock, 60)
        session.append(user("y"))
    assert session.count() == 4
    explained = memory.lifecycle.explain(turn.id)
    assert explained.due_rule == "session"
    later(memory, clock, 120)
    assert session.count() == 0


def test_the_agents_session_and_that_of_the_whole_run(memory: Memory, clock: FakeClock) -> None:
    memory.session("r", user_id="ana", ttl=timedelta(days=200)).append(user("from the run"))
    memory.session("r", user_id="ana", agent_id="bot", ttl=timedelta(days=2)).append(user("from the agent"))
    later(memory, clock, 100)
    # What the agent said is said in the run, whose session goes on.
    assert memory.session("r", user_id="ana").count() == 2
    assert memory.session("r", user_id="ana", agent_id="bot").info() is None


def test_an_open_session_loses_no_turns_where_room_is_needed(open_memory: Open, clock: FakeClock) -> None:
    settings = Settings(
        lifecycle={"sweep_interval_s": 0}, layers={"interact": {"max_size_mb": 0.02}}, performance={"arena_limit": 100}
    )
    memory = open_memory(settings=settings)
    held, closed = memory.session("open", user_id="ana"), memory.session("closed", user_id="ana")
    for number in range(20):
        held.append(user(f"{number} " + "held " * 40))
        closed.append(user(f"{number} " + "done " * 40))
        memory.add(user(f"{number} " + "said " * 40), user_id="ana", run_id="none")
    closed.close()
    later(memory, clock, 0.1)
    assert held.count() == 20
    assert closed.count() + len(memory.recent(run_id="none", user_id="ana", limit=50)) < 40
    # Those that were put off until the session's end are held, too, and go once it is closed.
    later(memory, clock, 3)
    assert held.count() == 20
    held.close()
    for number in range(40):
        memory.add(user(f"{number} " + "more " * 40), user_id="ana", run_id="none")
    memory.lifecycle.sweep()
    assert held.count() < 20


def test_dry_runs_tell_nothing_of_what_a_session_keeps(memory: Memory, clock: FakeClock) -> None:
    memory.session("r", user_id="ana").append(user("x"))
    report = memory.lifecycle.sweep(START + timedelta(days=10), dry_run=True)
    assert report.expired == 0
    assert memory.lifecycle.sweep(START + timedelta(days=100), dry_run=True).expired > 0


@pytest.mark.parametrize("count", [3, 1_200])
def test_a_deletion_that_fails_leaves_the_session(memory: Memory, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    session = memory.session("r", user_id="ana", embed=False)
    session.append([user(f"turn {number}") for number in range(count)])
    session.rename("a title")
    session.working.set({"a": 1})
    session.summarize(keep=1)
    session.close()
    delete, left = Repository.delete_rows, 0

    def fails(repository: Repository, found: Sequence[Stored], now: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise DiskFullError("the disk is full")
        delete(repository, found, now)

    with monkeypatch.context() as patch:
        patch.setattr(Repository, "delete_rows", fails)
        for allowed in range(4):
            left = allowed
            with pytest.raises(DiskFullError):
                session.delete()
            info = session.info()
            assert info is not None
            assert (info.title, session.working.get(), session.count() > 0) == ("a title", {"a": 1}, True)
            assert count > 500 or session.count() == count
    assert session.delete()
    assert (session.info(), session.working.get(), session.summary(), session.turns()) == (None, {}, None, [])
    assert memory.count(user_id="ana", under=()) == 0
    assert not session.delete()
