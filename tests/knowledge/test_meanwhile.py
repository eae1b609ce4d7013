"""What happens to messages, facts, clocks and stores while a run is at it, or between a draft and its approval."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeClock, HashEmbedder
from scripted_endpoint import likes, operation, shown
from scripted_model import Scripted, Told, facts, said

from agentmem import Add, ConflictError, Memory, NewMemory, ScopeError, Settings, SetValidity
from agentmem.errors import ModelError

_USERS = count()


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory, clock: FakeClock) -> Iterator[Memory]:
    with Memory(tmp_path_factory.mktemp("while"), embedder=HashEmbedder(), clock=clock) as memory:
        yield memory


@pytest.fixture
def ana() -> str:
    """Another user in each test."""
    return f"while {next(_USERS)}"


def only(memory: Memory, user: str) -> str:
    [found] = memory.search("likes", user_id=user, kinds=["fact"], limit=5)
    return found.id


def test_a_message_that_is_edited_in_flight_is_looked_at_as_it_is_now(memory: Memory, ana: str) -> None:
    [id] = said(memory, ana, "I like tea")

    def edited(asked: dict[str, Any]) -> Told:
        memory.update(id, content="I like rain")
        return likes(asked)

    model = Scripted(edited)
    report = memory.consolidation(user_id=ana, model=model).run()
    assert (report.added, report.spend.calls, facts(memory, ana)) == (1, 2, {"Likes rain."})


def test_one_that_is_edited_again_and_again_ends_nothing(memory: Memory, ana: str) -> None:
    [id, _] = said(memory, ana, "I like tea", "I like chess")
    edits = count()

    def edited(asked: dict[str, Any]) -> Told:
        told = likes(asked)
        memory.update(id, content=f"I like thing{next(edits)}")
        return told

    report = memory.consolidation(user_id=ana, model=Scripted(edited)).run()
    assert report.status == "done"
    assert report.spend.calls <= 6
    assert "Likes chess." in facts(memory, ana)
    assert len(report.refused) == 1


def test_metadata_that_is_edited_in_flight_is_no_matter(memory: Memory, ana: str) -> None:
    [id] = said(memory, ana, "I like tea")

    def edited(asked: dict[str, Any]) -> Told:
        memory.update(id, metadata={"seen": True})
        return likes(asked)

    model = Scripted(edited)
    assert memory.consolidation(user_id=ana, model=model).run().added == 1
    assert len(model.asked) == 1


def test_a_draft_whose_source_says_something_else_now_is_not_approved(memory: Memory, ana: str) -> None:
    [tea, _] = said(memory, ana, "I like tea", "I like rain")
    consolidation = memory.consolidation(user_id=ana, model=Scripted(likes))
    consolidation.run(dry_run=True)
    memory.update(tea, content="I hate tea")
    report = consolidation.approve()
    assert (report.added, [one.why for one in report.refused]) == (
        1,
        ["what it was drawn from says something else now"],
    )
    assert facts(memory, ana) == {"Likes rain."}


def test_drafts_that_say_the_same_make_one_fact(memory: Memory, clock: FakeClock, ana: str) -> None:
    consolidation = memory.consolidation(user_id=ana, model=Scripted(likes))
    for _ in range(2):
        said(memory, ana, "I like tea")
        consolidation.run(dry_run=True)
        clock.advance(60)
    report = consolidation.approve()
    assert (report.added, report.unchanged, consolidation.proposals()) == (1, 1, [])
    said(memory, ana, "I like rain")
    consolidation.run(dry_run=True)
    memory.add("likes rain", user_id=ana)
    assert consolidation.approve().unchanged == 1
    assert facts(memory, ana) == {"Likes tea.", "likes rain"}


def test_what_was_said_again_is_not_retracted(memory: Memory, ana: str) -> None:
    [tea] = said(memory, ana, "I like tea")
    consolidation = memory.consolidation(user_id=ana, model=Scripted(likes))
    consolidation.run()
    memory.delete(tea)
    [proposal] = consolidation.propose()
    memory.restore(tea)
    [refusal] = consolidation.approve([proposal.id]).refused
    assert refusal.why == "what its target was drawn from is there again"
    assert facts(memory, ana) == {"Likes tea."}


def test_what_expired_can_still_be_approved(memory: Memory, clock: FakeClock, ana: str) -> None:
    """A message lives for a day, and whoever approves takes two."""
    tea, rain, chess = said(memory, ana, "I like tea", "I like rain", "I like chess")
    consolidation = memory.consolidation(user_id=ana, model=Scripted(likes))
    run = consolidation.run(dry_run=True)
    memory.delete(rain)
    clock.advance(2 * 86_400)
    memory.lifecycle.sweep()
    memory.erase(chess)
    report = consolidation.approve(run_id=run.run_id)
    assert (report.added, [one.text for one in report.refused]) == (1, ["Likes rain."])
    assert [one.state for one in consolidation.evidence(only(memory, ana))] == ["expired"]
    memory.erase(tea)
    assert facts(memory, ana) == set()


def test_a_message_that_expires_in_flight_is_evidence(memory: Memory, clock: FakeClock, ana: str) -> None:
    memory.add({"role": "user", "content": "I like tea"}, user_id=ana, ttl=60)

    def slow(asked: dict[str, Any]) -> Told:
        clock.advance(61)
        return likes(asked)

    assert memory.consolidation(user_id=ana, model=Scripted(slow)).run().added == 1


def test_the_users_day_is_one_whatever_the_namespace(open_memory: Callable[..., Memory], clock: FakeClock) -> None:
    memory = open_memory(clock=clock, settings=Settings(consolidation={"max_user_day_tokens": 6_000}))
    model = Scripted(likes, (1_000, 1_000))
    for n in range(4):
        memory.add({"role": "user", "content": "I like tea"}, user_id="ana", namespace=(f"n{n}",))
    memory.add({"role": "user", "content": "I like tea"})
    told = [memory.consolidation(user_id="ana", namespace=(f"n{n}",), model=model).run().status for n in range(4)]
    assert told == ["done", "done", "capped", "capped"]
    assert memory.consolidation(user_id="ana").state().today.tokens == 4_000
    assert memory.consolidation(model=model).run().status == "done"
    assert memory.consolidation().state().today.tokens == 2_000
    assert memory.consolidation(user_id="ana").spend(everybody=True)[0].spend.tokens == 6_000


def test_a_clock_that_was_years_ahead_holds_nothing_up(memory: Memory, clock: FakeClock, ana: str) -> None:
    def ahead(asked: dict[str, Any]) -> Told:
        clock.advance(-5 * 365 * 86_400)
        other = memory.consolidation(user_id=ana, model=Scripted(likes))
        assert not other.state().running
        assert other.run().added == 1
        return likes(asked)

    clock.advance(5 * 365 * 86_400)
    said(memory, ana, "I like tea")
    report = memory.consolidation(user_id=ana, model=Scripted(ahead)).run()
    assert (report.status, facts(memory, ana)) == ("lost", {"Likes tea."})

    def busy(asked: dict[str, Any]) -> Told:
        raise ModelError("too many", "busy", paid=False)

    said(memory, ana, "I like rain")
    clock.advance(5 * 365 * 86_400)
    assert memory.consolidation(user_id=ana, model=Scripted(busy)).run().status == "closed"
    clock.advance(-5 * 365 * 86_400)
    assert memory.consolidation(user_id=ana).state().closed_until is None
    assert memory.consolidation(user_id=ana, model=Scripted(likes)).run().status == "done"


def moves(asked: dict[str, Any]) -> Told:
    known, new = shown(asked)
    name = new[-1]["text"].split()[-1]
    return [
        operation(
            op="SUPERSEDE" if known else "ADD", target=known[0]["id"] if known else None, text=f"Likes {name}.",
            evidence=[{"message": new[-1]["id"], "quote": name}],
        )
    ]  # fmt: skip


def test_corrections_at_one_instant_and_of_what_is_still_to_begin(memory: Memory, clock: FakeClock, ana: str) -> None:
    """As in a conversation that was imported without times, and where a plan is changed before its day."""
    consolidation = memory.consolidation(user_id=ana, model=Scripted(moves))
    for name in ("tea", "rain", "chess"):
        said(memory, ana, f"no wait, rather {name}")
        assert consolidation.run().refused == ()
        assert facts(memory, ana) == {f"Likes {name}."}
    memory.apply([SetValidity(only(memory, ana), valid_from=clock.now + timedelta(days=30))])
    said(memory, ana, "I have changed my plans, it is boats")
    assert consolidation.run().superseded == 1
    assert facts(memory, ana, valid_at=clock.now + timedelta(days=31)) == {"Likes boats."}
    assert facts(memory, ana, valid_at=clock.now) == set()


def test_what_was_superseded_by_hand_since_is_not_reverted_past(memory: Memory, clock: FakeClock, ana: str) -> None:
    consolidation = memory.consolidation(user_id=ana, model=Scripted(moves))
    said(memory, ana, "I like tea")
    consolidation.run()
    clock.advance(60)
    said(memory, ana, "now rather rain")
    second = consolidation.run()
    rain = only(memory, ana)
    hand = f"hand {ana}"
    memory.apply([Add(NewMemory(id=hand, content="Likes chess.", user_id=ana)), SetValidity(rain, superseded_by=hand)])
    with pytest.raises(ConflictError, match="by hand"):
        consolidation.revert(second.run_id)
    assert facts(memory, ana) == {"Likes chess."}
    memory.apply([SetValidity(rain, retired=False), SetValidity(hand, retired=True)])
    consolidation.revert(second.run_id)
    assert facts(memory, ana) == {"Likes tea."}


def test_nothing_takes_the_place_of_what_took_its_place(memory: Memory, ana: str) -> None:
    ids = [memory.add(f"Likes thing{n}.", user_id=ana).id for n in range(3)]
    memory.apply([SetValidity(ids[0], superseded_by=ids[1]), SetValidity(ids[1], superseded_by=ids[2])])
    with pytest.raises(ConflictError, match="takes its place already"):
        memory.apply([SetValidity(ids[2], superseded_by=ids[0])])
    assert facts(memory, ana) == {"Likes thing2."}


def test_a_view_of_an_agent_or_a_run_has_no_consolidation(memory: Memory, ana: str) -> None:
    """It would show what was said to others."""
    for bound in ({"agent_id": "shop"}, {"run_id": "r"}):
        with pytest.raises(ScopeError):
            memory.scoped(user_id=ana, **bound).consolidation(model=Scripted(likes))


def test_a_store_that_was_imported_says_that_it_begins_anew(
    memory: Memory, open_memory: Callable[..., Memory], clock: FakeClock, ana: str, tmp_path: Path
) -> None:
    said(memory, ana, "I like tea")
    memory.consolidation(user_id=ana, model=Scripted(likes)).run()
    memory.export(str(tmp_path / "out"), user_id=ana)
    elsewhere = open_memory(clock=clock)
    elsewhere.import_(str(tmp_path / "out"))
    consolidation = elsewhere.consolidation(user_id=ana, model=Scripted(likes))
    assert consolidation.state().waiting == 1
    report = consolidation.run()
    assert "another store" in report.detail
    assert (report.added, report.unchanged, facts(elsewhere, ana)) == (0, 1, {"Likes tea."})
    assert consolidation.run().detail == ""
    assert sum(day.spend.calls for day in consolidation.spend()) == 2


def test_clocks_that_go_back_between_a_fact_and_its_end(memory: Memory, clock: FakeClock, ana: str) -> None:
    fact = memory.add({"content": "Likes tea.", "valid_from": clock.now}, user_id=ana).id
    clock.advance(-86_400)
    memory.apply([SetValidity(fact, retired=True)])
    assert facts(memory, ana) == set()
    clock.advance(86_400 + 60)
    assert facts(memory, ana) == set()
    assert facts(memory, ana, as_of=clock.now - timedelta(seconds=30)) == set()
