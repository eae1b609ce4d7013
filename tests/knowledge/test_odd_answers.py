"""Answers that look right and cannot be stored, and models that break their word: each is paid for once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any
from unicodedata import normalize

import pytest
from conftest import FakeClock, HashEmbedder
from scripted_endpoint import likes, operation, shown
from scripted_model import Scripted, Told, cites, facts, said

from agentmem import CapacityError, Memory, Settings
from agentmem.client.knowing import KnowledgeDesk
from agentmem.errors import ModelError
from agentmem.knowledge import guards
from agentmem.knowledge.ports import Change, Learn
from agentmem.ports import Reply

_USERS = count()


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory, clock: FakeClock) -> Iterator[Memory]:
    chosen = Settings(consolidation={"max_user_day_tokens": None}, retrieval={"time_zone": "Asia/Tokyo"})
    with Memory(tmp_path_factory.mktemp("odd"), embedder=HashEmbedder(), clock=clock, settings=chosen) as memory:
        yield memory


@pytest.fixture
def ana() -> str:
    """Another user in each test."""
    return f"odd {next(_USERS)}"


@pytest.mark.parametrize(
    "odd",
    [
        {"subject": "x" * 100_000},
        {"valid_from": "0001-01-01T00:00:00+14:00"},
        {"valid_to": "9999-12-31T23:59:59-14:00"},
        {"valid_from": "0001-01-01"},
        {"text": "\u200b\u2060"},
        {"op": "RETRACT", "target": "f1", "valid_to": "2019-01-01"},
    ],
)
def test_what_cannot_be_stored_is_refused_and_the_rest_is_kept(memory: Memory, ana: str, odd: dict[str, Any]) -> None:
    memory.add({"content": "Likes rain.", "valid_from": "2020-01-01"}, user_id=ana)
    said(memory, ana, "I like tea", "I like chess")

    def answer(asked: dict[str, Any]) -> Told:
        return [{**operation(text="Likes tea.", evidence=cites(asked, "I like tea")), **odd}, *likes(asked)[1:]]

    model = Scripted(answer)
    consolidation = memory.consolidation(user_id=ana, model=model)
    report = consolidation.run()
    assert (report.status, report.messages, len(report.refused)) == ("done", 2, 1)
    assert facts(memory, ana) == {"Likes rain.", "Likes chess."}
    consolidation.run()
    assert len(model.asked) == 1


class Breaking(Scripted):
    """Answers with whatever it is."""

    def __init__(self, reply: Any) -> None:
        super().__init__(likes)
        self.reply = reply

    def complete(self, *args: Any, **more: Any) -> Reply:
        super().complete(*args, **more)
        assert len(self.asked) < 50, "asked again and again"
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


@pytest.mark.parametrize("reply", [None, {"operations": []}, Reply(None, 1, 1), Reply(b"{}", 1, 1), "{}"])  # type: ignore[arg-type]
def test_what_is_no_answer_is_not_asked_for_again(memory: Memory, ana: str, reply: Any) -> None:
    said(memory, ana, "I like tea", "I like rain")
    model = Breaking(reply)
    consolidation = memory.consolidation(user_id=ana, model=model)
    report = consolidation.run()
    assert (report.status, report.dead, len(report.failures), len(model.asked)) == ("done", 2, 3, 3)
    assert report.spend.calls == 3
    consolidation.run()
    assert len(model.asked) == 3


@pytest.mark.parametrize("used", [(-(10**6), 5), (math.nan, 5), (1.5, 2), (True, 2), ("5", 2), (math.inf, 1)])
def test_tokens_that_are_none_count_as_what_was_reserved(memory: Memory, ana: str, used: Any) -> None:
    said(memory, ana, "I like tea")
    report = memory.consolidation(user_id=ana, model=Scripted(likes, used)).run()
    assert (report.status, report.added) == ("done", 1)
    assert report.spend.output_tokens == 1_500
    assert report.spend.input_tokens > 1_000


def test_an_error_of_the_model_is_the_callers_and_the_endpoint_is_left_alone(memory: Memory, ana: str) -> None:
    said(memory, ana, "I like tea")
    model = Breaking(ZeroDivisionError("a bug"))
    consolidation = memory.consolidation(user_id=ana, model=model)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            consolidation.run()
    assert consolidation.run().status == "closed"
    assert (len(model.asked), consolidation.state().today.calls, consolidation.state().waiting) == (3, 3, 1)


@pytest.mark.parametrize("after", [0, -5, math.nan, math.inf, 1e-9])
def test_too_many_requests_are_a_pause_whatever_the_endpoint_says(memory: Memory, ana: str, after: float) -> None:
    said(memory, ana, "I like tea")
    model = Breaking(ModelError("too many", "busy", paid=False, retry_after=after))
    consolidation = memory.consolidation(user_id=ana, model=model)
    assert consolidation.run().status == "closed"
    assert len(model.asked) == 1


def test_a_store_that_takes_no_facts_is_not_asked_for_again_and_again(
    memory: Memory, ana: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where its layer is full: bookkeeping has room still, facts have none."""
    said(memory, ana, "I like tea")
    consolidation = memory.consolidation(user_id=ana, model=(model := Scripted(likes)))
    commit = KnowledgeDesk.commit

    def full(desk: KnowledgeDesk, changes: Sequence[Change]) -> None:
        if any(isinstance(change, Learn) for change in changes):
            raise CapacityError("the layer assets is full")
        commit(desk, changes)

    with monkeypatch.context() as patched:
        patched.setattr(KnowledgeDesk, "commit", full)
        with pytest.raises(CapacityError):
            consolidation.run()
    assert consolidation.run().status == "closed"
    assert (len(model.asked), consolidation.state().waiting) == (1, 1)
    assert consolidation.state().today.tokens == 150


def test_times_at_the_ends_of_the_calendar(memory: Memory, ana: str) -> None:
    for at in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
        memory.add({"content": f"Likes {at[:4]}.", "valid_from": at}, user_id=ana)
        memory.add({"role": "user", "content": f"I like rain{at[:4]}", "occurred_at": at}, user_id=ana)
    assert memory.consolidation(user_id=ana, model=Scripted(likes)).run().added == 2


def test_days_are_those_that_were_shown(memory: Memory, clock: FakeClock, ana: str) -> None:
    """In Tokyo it is another day already."""
    memory.add({"role": "user", "content": "I moved today", "occurred_at": "2025-01-31T20:00:00Z"}, user_id=ana)

    def answer(asked: dict[str, Any]) -> Told:
        assert shown(asked)[1][0]["at"].startswith("2025-02-01")
        return [operation(text="Moved on 1 February 2025.", evidence=cites(asked, "I moved today"))]

    assert memory.consolidation(user_id=ana, model=Scripted(answer)).run().added == 1


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        ("I'm from Faro", "I\u2019m from Faro, you know"),
        ('called "Rex"', "He is called \u201cRex\u201d."),
        ("2019-2021", "From 2019\u20132021."),
        ("three cats", "I have three\u00a0cats"),
        ("em S\u00e3o Paulo", "Vivo em Sa\u0303o Paulo, sim"),
        ("\uc11c\uc6b8", "\u110b\u1167 \u1109\u1165\u110b\u116e\u11af\u110b\u1166"),
    ],
)
def test_a_quote_may_have_other_marks(quote: str, text: str) -> None:
    place = guards.find_quote(quote, text)
    assert place is not None
    assert normalize("NFC", text[slice(*place)]).translate(guards.MARKS).split() == quote.split()


@pytest.mark.parametrize(
    ("said", "fact", "kept"),
    [
        ("J'ai 10 000 euros", "A 10000 euros.", True),
        ("I have 1,500 records", "Has 1500 records.", True),
        ("I have 1500 records", "Has 1.500 records.", True),
        ("I have 1500 records", "Has 15 records.", False),
        ("Vivo em Sa\u0303o Paulo", "Vive em S\u00e3o Paulo.", True),
        ("I have 12 and 345 records", "Has 12345 records.", False),
    ],
)
def test_numbers_and_names_may_be_written_in_another_way(
    memory: Memory, ana: str, said: str, fact: str, kept: bool
) -> None:
    memory.add({"role": "user", "content": said}, user_id=ana)
    model = Scripted(lambda asked: [operation(text=fact, evidence=cites(asked, said))])
    assert memory.consolidation(user_id=ana, model=model).run().added == kept
