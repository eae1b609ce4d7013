"""Runs, proposals, caps, leases and taking back, with models that are scripted in the same process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from typing import Any

import anyio
import pytest
from conftest import START, FakeClock, HashEmbedder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_endpoint import likes, operation, shown
from scripted_model import Scripted, Told, cites, facts, said

from agentmem import AsyncMemory, ConflictError, InvalidInputError, Memory, NotFoundError, ScopeError, Settings
from agentmem.errors import ModelError
from agentmem.ports import Reply

_USERS = count()


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory, clock: FakeClock) -> Iterator[Memory]:
    chosen = Settings(
        consolidation={"batch_messages": 4, "max_run_tokens": None, "max_user_day_tokens": None, "max_day_tokens": None}
    )
    with Memory(tmp_path_factory.mktemp("kept"), embedder=HashEmbedder(), clock=clock, settings=chosen) as memory:
        yield memory


@pytest.fixture
def ana() -> str:
    """Another user in each test."""
    return f"ana {next(_USERS)}"


def test_each_message_is_looked_at_once(memory: Memory, ana: str) -> None:
    said(memory, ana, *(f"I like thing{n}" for n in range(10)))
    model = Scripted(likes)
    consolidation = memory.consolidation(user_id=ana, model=model)
    assert consolidation.state().waiting == 10
    limited = consolidation.run(batches=1)
    assert (limited.status, limited.messages, limited.added) == ("limited", 4, 4)
    rest = consolidation.run()
    assert (rest.status, rest.messages, rest.added) == ("done", 6, 6)
    assert consolidation.run().messages == 0
    assert len(model.asked) == 3
    said(memory, ana, "I like thing3")
    assert consolidation.run().unchanged == 1
    assert facts(memory, ana) == {f"Likes thing{n}." for n in range(10)}
    assert consolidation.state().waiting == 0
    assert memory.events(limit=1)
    found = memory.search("likes thing3", user_id=ana, kinds=["fact"], limit=1)[0].record
    assert found.metadata["subject"] == "user"
    assert found.metadata["learned_by"] == limited.run_id


@pytest.mark.parametrize("most", [24, pytest.param(200, marks=pytest.mark.slow)])
def test_over_retirement_is_stopped_by_form_and_all_of_it_can_be_reverted(
    open_memory: Callable[..., Memory], clock: FakeClock, most: int
) -> None:
    """Scripted supersessions, half of them wrong in known ways."""
    memory = open_memory(clock=clock, settings=Settings(consolidation={"batch_messages": 1, "max_run_tokens": None}))
    right, wrong = 0, 0
    user = "many"
    for n in range(most):
        memory.add(
            {
                "content": f"Likes old{n}.", "metadata": {"subject": f"s{n}"}, "occurred_at": START,
                "valid_from": START - timedelta(days=10),
            },
            user_id=user,
        )  # fmt: skip
    before = facts(memory, user)
    assert len(before) == most
    for n in range(most):
        said(memory, user, f"s{n} likes new{n} and not old{n} any more")

    def answer(asked: dict[str, Any]) -> Told:
        nonlocal right, wrong
        known, [message] = shown(asked)
        n = int(message["text"].split()[0][1:])
        target = next(fact["id"] for fact in known if fact["text"] == f"Likes old{n}.")
        other = next(fact["id"] for fact in known if fact["id"] != target)
        good = operation(
            op="SUPERSEDE", target=target, text=f"Likes new{n}.", subject=f"s{n}",
            evidence=[{"message": message["id"], "quote": f"likes new{n}"}],
        )  # fmt: skip
        if n % 2 == 0:
            right += 1
            return [good]
        wrong += 1
        ways: list[Told] = [
            [{**good, "target": "f999"}],
            [good, {**good, "op": "RETRACT"}],
            [{**good, "evidence": []}],
            [{**good, "evidence": [{"message": message["id"], "quote": "likes something else"}]}],
            [{**good, "target": other}],
            [{**good, "valid_from": "2025-02-01"}],
            [{**good, "text": f"Likes old{n}."}],
            [{**good, "text": ""}],
            [{**good, "text": f"Likes new{n + 1000}."}],
            [{**good, "target": None}],
            [{**good, "evidence": [{"message": "m7", "quote": f"likes new{n}"}]}],
            [{**good, "valid_to": "2020-01-01"}],
        ]
        return ways[n // 2 % len(ways)]

    consolidation = memory.consolidation(user_id=user, model=Scripted(answer))
    clock.advance(60)
    proposed = consolidation.run(dry_run=True)
    assert (right, wrong, proposed.proposed, proposed.dead) == (most // 2,) * 4
    assert facts(memory, user) == before
    done = consolidation.approve(run_id=proposed.run_id)
    assert (done.superseded, done.refused) == (most // 2, ())
    new = {f"Likes new{n}." for n in range(0, most, 2)} | {f"Likes old{n}." for n in range(1, most, 2)}
    assert facts(memory, user) == new
    assert facts(memory, user, valid_at=START - timedelta(days=1)) == before
    reverted = consolidation.revert(done.run_id)
    assert (reverted.retracted, reverted.added) == (most // 2,) * 2
    assert facts(memory, user) == before
    assert facts(memory, user, as_of=clock.now - timedelta(seconds=30)) == before
    with pytest.raises(NotFoundError):
        consolidation.revert(done.run_id)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    caps=st.fixed_dictionaries(
        {},
        optional={
            "max_run_tokens": st.integers(0, 20_000),
            "max_user_day_tokens": st.integers(0, 20_000),
            "max_day_tokens": st.integers(0, 20_000),
            "max_run_money": st.floats(0, 0.02),
            "max_user_day_money": st.floats(0, 0.02),
            "max_day_money": st.floats(0, 0.02),
        },
    ),
    used=st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 200)), min_size=1, max_size=6),
)
def test_no_cap_is_ever_exceeded(
    tmp_path_factory: pytest.TempPathFactory, caps: dict[str, Any], used: list[tuple[int, int]]
) -> None:
    clock = FakeClock()
    chosen = {
        "max_run_tokens": None, "max_user_day_tokens": None, "max_day_tokens": None, "batch_messages": 1,
        "max_output_tokens": 200, "price_input": 1.0, "price_output": 4.0, **caps,
    }  # fmt: skip
    calls = iter(used * 10)

    class Model(Scripted):
        def complete(self, *args: Any, **more: Any) -> Reply:
            self.used = next(calls)
            self.asked.append({})
            if self.used[1] % 5 == 1:
                raise ModelError("failed", "down", paid=True)
            return Reply('{"operations": []}', *self.used)

    folder = tmp_path_factory.mktemp("caps")
    with Memory(folder, embedder=HashEmbedder(), clock=clock, settings=Settings(consolidation=chosen)) as memory:
        for user in ("ana", "ben"):
            said(memory, user, *(f"I like thing{n}" for n in range(3)))
        for _ in range(2):
            for user in ("ana", "ben"):
                run = memory.consolidation(user_id=user, model=Model(likes)).run()
                state = memory.consolidation(user_id=user).state()
                for spend, name in ((run.spend, "run"), (state.today, "user_day"), (state.store_today, "day")):
                    assert spend.tokens <= caps.get(f"max_{name}_tokens", 10**9)
                    assert spend.money <= caps.get(f"max_{name}_money", 10**9)
            clock.advance(3_600)


def test_proposals_are_approved_rejected_and_go_stale(memory: Memory, clock: FakeClock, ana: str) -> None:
    said(memory, ana, "I like tea", "I like rain", "I like chess")
    consolidation = memory.consolidation(user_id=ana, model=Scripted(likes))
    run = consolidation.run(dry_run=True)
    assert (run.proposed, run.added, facts(memory, ana)) == (3, 0, set())
    tea, rain, chess = consolidation.proposals(run_id=run.run_id)
    assert (tea.op, tea.text, tea.quotes, tea.reason) == ("ADD", "Likes tea.", ("I like tea",), "it was said")
    assert consolidation.run().messages == 0
    assert consolidation.approve([tea.id]).added == 1
    assert consolidation.reject([rain.id]) == 1
    assert [one.id for one in consolidation.proposals()] == [chess.id]
    with pytest.raises(NotFoundError):
        consolidation.approve([tea.id])
    with pytest.raises(InvalidInputError):
        consolidation.approve(chess.id)
    assert facts(memory, ana) == {"Likes tea."}
    [old] = memory.search("likes", user_id=ana, kinds=["fact"], limit=1)
    said(memory, ana, "no tea for me")

    def retract(asked: dict[str, Any]) -> Told:
        return [operation(op="RETRACT", target="f1", evidence=cites(asked, "no tea for me"))]

    assert memory.consolidation(user_id=ana, model=Scripted(retract)).run(dry_run=True).proposed == 1
    memory.update(old.id, importance=0.9)
    report = consolidation.approve()
    assert (report.added, [one.why for one in report.refused]) == (1, ["what it goes on from was changed meanwhile"])
    assert facts(memory, ana) == {"Likes tea.", "Likes chess."}
    assert [one.op for one in consolidation.proposals()] == ["RETRACT"]


def test_a_fact_that_is_changed_while_the_model_thinks_is_left(memory: Memory, ana: str) -> None:
    old = memory.add("Likes tea.", user_id=ana)
    said(memory, ana, "no tea for me, I like rain")

    def slow(asked: dict[str, Any]) -> Told:
        memory.update(old.id, metadata={"checked": True})
        return [
            operation(op="RETRACT", target="f1", evidence=cites(asked, "no tea for me, I like rain")),
            *likes(asked),
        ]

    report = memory.consolidation(user_id=ana, model=Scripted(slow)).run()
    assert (report.retracted, report.added, len(report.refused)) == (0, 1, 1)
    assert facts(memory, ana) == {"Likes tea.", "Likes rain."}


def test_a_later_run_is_reverted_first(memory: Memory, ana: str) -> None:
    said(memory, ana, "I like tea")
    first = memory.consolidation(user_id=ana, model=Scripted(likes)).run()
    said(memory, ana, "no tea for me")

    def retract(asked: dict[str, Any]) -> Told:
        return [operation(op="RETRACT", target="f1", evidence=cites(asked, "no tea for me"))]

    consolidation = memory.consolidation(user_id=ana, model=Scripted(retract))
    second = consolidation.run()
    assert second.retracted == 1
    assert facts(memory, ana) == set()
    with pytest.raises(ConflictError):
        consolidation.revert(first.run_id)
    consolidation.revert(second.run_id)
    assert facts(memory, ana) == {"Likes tea."}
    consolidation.revert(first.run_id)
    assert facts(memory, ana) == set()


def test_one_run_at_a_time(memory: Memory, clock: FakeClock, ana: str) -> None:
    said(memory, ana, "I like tea")
    busy = list[str]()

    def meanwhile(asked: dict[str, Any]) -> Told:
        if not busy:
            other = memory.consolidation(user_id=ana, model=Scripted(likes))
            busy.append(other.run().status)
            assert other.state().running
            clock.advance(121)  # longer than a call and what it leads to may take
            busy.append(other.run().status)
        return likes(asked)

    report = memory.consolidation(user_id=ana, model=Scripted(meanwhile)).run()
    assert busy == ["busy", "done"]
    assert (report.status, report.added) == ("lost", 0)
    assert facts(memory, ana) == {"Likes tea."}
    assert not memory.consolidation(user_id=ana).state().running


def test_users_consolidate_at_the_same_time(memory: Memory) -> None:
    users, reports = [f"user {n}" for n in range(6)], list[Any]()
    for user in users:
        said(memory, user, *(f"I like thing{n}" for n in range(8)))

    def work(user: str) -> None:
        reports.append(memory.consolidation(user_id=user, model=Scripted(likes)).run())

    before = memory.consolidation().state().store_today
    threads = [threading.Thread(target=work, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(one.status, one.added) for one in reports] == [("done", 8)] * 6
    after = memory.consolidation().state().store_today
    assert (after.calls - before.calls, after.tokens - before.tokens) == (12, 12 * 150)


def test_what_was_taken_back_is_proposed_to_be_retracted(memory: Memory, ana: str) -> None:
    session = memory.session("r", user_id=ana)
    session.append([{"role": "user", "content": "I like tea"}, {"role": "user", "content": "I like rain"}])
    consolidation = memory.consolidation(user_id=ana, model=Scripted(likes))
    assert consolidation.run().added == 2
    session.pop()
    report = consolidation.run()
    assert (report.messages, report.proposed) == (0, 1)
    [proposal] = consolidation.proposals()
    assert (proposal.op, proposal.reason) == ("RETRACT", "all that it was drawn from was taken back")
    assert consolidation.run().proposed == 0
    assert facts(memory, ana) == {"Likes tea.", "Likes rain."}
    consolidation.approve()
    assert facts(memory, ana) == {"Likes tea."}


def test_facts_and_proposals_die_with_what_was_erased(memory: Memory, clock: FakeClock, ana: str) -> None:
    tea, rain = said(memory, ana, "I like tea", "I like rain")
    consolidation = memory.consolidation(user_id=ana, model=Scripted(likes))
    consolidation.run(dry_run=True)
    assert memory.erase(tea).erased == 2
    assert [one.text for one in consolidation.proposals()] == ["Likes rain."]
    consolidation.approve()
    assert memory.erase(rain).erased >= 2
    assert facts(memory, ana) == set()
    memory.erase_all(user_id=ana)
    assert memory.namespaces(user_id=ana, under=()) == []
    assert consolidation.state().waiting == 0


def test_an_expired_source_leaves_the_fact(memory: Memory, clock: FakeClock, ana: str) -> None:
    memory.add({"role": "user", "content": "I like tea"}, user_id=ana, ttl=60)
    consolidation = memory.consolidation(user_id=ana, model=Scripted(likes))
    assert consolidation.run().added == 1
    clock.advance(61)
    memory.lifecycle.sweep()
    assert consolidation.run().proposed == 0
    assert facts(memory, ana) == {"Likes tea."}
    [fact] = memory.search("likes", user_id=ana, kinds=["fact"], limit=1)
    [source] = consolidation.evidence(fact.id)
    assert (source.first, source.end, source.state) == (0, 10, "expired")
    memory.erase(source.id)
    with pytest.raises(NotFoundError):
        consolidation.evidence(fact.id)


def test_what_is_proposed_without_a_model(memory: Memory, clock: FakeClock, ana: str) -> None:
    texts = [
        "Flies to Rome with the whole family on Monday", "Flies to Rome with the whole family on Friday",
        "Has 2 cats at home", "Has 3 cats at home", "Eats meat every day", "Does not eat meat", "Lives in Faro",
        "Is not afraid of big dogs", "Is afraid of big dogs",
    ]  # fmt: skip
    for text in texts:
        clock.advance(60)
        memory.add(text, user_id=ana)
    memory.add({"content": "Has 4 cats at home", "metadata": {"subject": "Ben"}}, user_id=ana)
    consolidation = memory.consolidation(user_id=ana)
    found = consolidation.propose()
    pairs = {(memory.get(one.target).content, memory.get(one.by).content) for one in found}  # type: ignore[union-attr, arg-type]
    assert pairs == {
        ("Has 2 cats at home", "Has 3 cats at home"),
        ("Flies to Rome with the whole family on Monday", "Flies to Rome with the whole family on Friday"),
        ("Is not afraid of big dogs", "Is afraid of big dogs"),
    }
    assert consolidation.propose() == []
    cats = next(one for one in found if "number" in one.reason and "cats" in memory.get(one.by).content)  # type: ignore[union-attr, arg-type]
    consolidation.reject([one.id for one in found if one.id != cats.id])
    assert consolidation.approve().superseded == 1
    assert consolidation.propose() == []
    left = facts(memory, ana)
    assert "Has 2 cats at home" not in left
    assert len(left) == 9
    with pytest.raises(InvalidInputError):
        consolidation.run()


def test_walls(memory: Memory, ana: str) -> None:
    said(memory, ana, "I like tea")
    memory.add({"role": "user", "content": "I like rain"}, user_id=ana, namespace=("work",))
    work = memory.scoped(user_id=ana, namespace=("work",)).consolidation(model=Scripted(likes))
    assert work.run().messages == 1
    assert facts(memory, ana) == set()
    assert facts(memory, ana, namespace=("work",)) == {"Likes rain."}
    assert memory.consolidation(user_id=ana, model=Scripted(likes)).run().added == 1
    assert memory.consolidation(user_id="somebody else").state().waiting == 0
    with pytest.raises(ScopeError):
        memory.scoped(user_id=ana).consolidation(user_id="somebody else")
    with pytest.raises(InvalidInputError):
        memory.consolidation(user_id=ana, model=3)  # type: ignore[arg-type]


def test_for_event_loops(open_memory: Callable[..., Memory], store: Any) -> None:
    with Memory(store, embedder=HashEmbedder()) as memory:
        said(memory, "ana", "I like tea")

    async def work() -> None:
        async with AsyncMemory(store, embedder=HashEmbedder()) as memory:
            consolidation = memory.consolidation(user_id="ana", model=Scripted(likes))
            run = await consolidation.run(dry_run=True)
            assert len(await consolidation.proposals(run_id=run.run_id)) == 1
            done = await consolidation.approve()
            assert (await consolidation.state()).proposals == 0
            assert (await consolidation.revert(done.run_id)).retracted == 1
            assert await consolidation.reject() == 0
            assert await consolidation.retry() == 0
            assert await consolidation.propose() == []
            assert len(await consolidation.spend(everybody=True)) == 1

    anyio.run(work)
