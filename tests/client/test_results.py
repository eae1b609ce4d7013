"""Results go where a program sends them: JSON, pickle, copies, sets, pydantic; and records go back in."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
import pickle
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import START, FakeClock, HashEmbedder
from pydantic import BaseModel, TypeAdapter

import agentmem
from agentmem import (
    ALL,
    AddResult,
    AddResults,
    AsyncMemory,
    InvalidInputError,
    Memory,
    MemoryRecord,
    NamespaceCount,
    ScopeError,
    SearchResults,
    VerifyReport,
)
from agentmem.types.plain import Plain

Open = Callable[..., Memory]
RESULTS = sorted(
    name
    for name in agentmem.__all__
    if isinstance(value := getattr(agentmem, name), type) and issubclass(value, (Plain, SearchResults, AddResults))
)
LISTS = {"SearchResults": ("hits", "trace", "skipped_archived"), "AddResults": ("results", "skipped")}
"""Results that are lists, and what their ``to_dict`` has."""


def _erasure(memory: Memory) -> Any:
    memory.add("the last boat", user_id="kim")
    memory.erase_all(user_id="kim")
    return memory.erasures(user_id="kim")[0]


@pytest.fixture
def results(memory: Memory) -> dict[str, Any]:
    """One of each result; what is inside of one is a result as well."""
    added = memory.add(
        {"role": "user", "content": "the ferry leaves at nine", "metadata": {"tags": ["sea"], "n": {"x": 1.5}}},
        user_id="lou", run_id="trip", id="ferry", ttl=9_999, occurred_at=START,
    )  # fmt: skip
    memory.update("ferry", metadata={"quay": 4}, importance=0.25)
    memory.feedback("ferry", rating=4)
    hits = memory.search("ferry", user_id="lou", explain=True)
    many = memory.add_many(["ticket office", {"text": 1}], on_error="skip", user_id="lou")
    sweep = memory.lifecycle.sweep(START + timedelta(days=3), dry_run=True)
    stats, explained = memory.stats(), memory.lifecycle.explain("ferry")
    assert sweep.moves
    session, blocks = memory.session("tide", user_id="ana"), memory.blocks(user_id="ana")
    block = blocks.create("human", "likes the sea")
    [turn] = session.append({"role": "user", "content": [{"type": "text", "text": "low tide is at four today"}]})
    summary = session.summarize(keep=0)
    assert summary is not None
    prompt = session.prompt(max_tokens=60)
    backup = agentmem.BackupInfo("harbour-1", "full", 9, START, 4_096, 3, None)
    memory.values.put("heights", np.arange(6.0).reshape(3, 2), user_id="lou")
    value = memory.values.put("tides", {"low": 4}, user_id="lou", metadata={"quay": 4})
    return {
        **_knowledge(memory),
        "Kpis": memory.kpis(),
        "Latency": memory.kpis().search_latency,
        "ValueInfo": value,
        "ValueHead": memory.values.head("heights", user_id="lou"),
        "ValueVersion": memory.values.versions("tides", user_id="lou")[0],
        "ValueTier": memory.values.tiers()["warm"],
        "ValueUsage": memory.values.usage(),
        "BackupInfo": backup,
        "Block": block,
        "BlockVersion": blocks.history("human")[0],
        "SessionInfo": session.info(),
        "Turn": turn,
        "Summary": summary,
        "SummaryLine": summary.lines[0],
        "Section": prompt.sections[0],
        "Manifest": prompt.manifest,
        "Trimmed": prompt.manifest.trimmed[0],
        "BackupHealth": agentmem.BackupHealth(START, 4.5, 0, 0, None),
        "RestoreReport": agentmem.RestoreReport("/tmp/again", backup, 3, 7, 0, 0, False),
        "Vectors": memory.vectors(["ferry"])[0],
        "AddResult": added,
        "AddResults": many,
        "Skipped": many.skipped[0],
        "MemoryRecord": memory.get("ferry"),
        "SearchHit": hits[0],
        "SearchResults": hits,
        "HitDetails": hits[0].details,
        "SearchTrace": hits.trace,
        "NamespaceCount": _namespace(memory),
        "Group": memory.runs(user_id="lou")[0],
        "UserPage": memory.user_page(limit=1),
        "KnownUser": memory.user_page(limit=1).users[0],
        "HistoryEvent": memory.history("ferry")[1],
        "StoreEvent": memory.events()[0],
        "Page": memory.page(user_id="lou"),
        "Explanation": explained,
        "Requirement": explained.requirements[0],
        "SweepReport": sweep,
        "Move": sweep.moves[0],
        "Stats": stats,
        "LayerStats": stats.layers["interact"],
        "Health": memory.health(),
        "VerifyReport": VerifyReport(False, {"records": 3}, ["record 'x': odd"]),
        "TierStats": memory.tiers.stats()["hot"],
        "Residence": memory.tiers.explain("ferry"),
        "ScorerReport": memory.lifecycle.scorer(),
        "ScorerReplay": memory.lifecycle.replay(),
        "EraseReport": memory.erase("ferry"),
        "Erasure": _erasure(memory),
        "HoldingBackup": agentmem.HoldingBackup("8a51-1", "snapshot", START, None),
        "ImportReport": agentmem.ImportReport(2, 0, 1, ("a",), (), ("b",), 0),
        "ArchiveReport": agentmem.ArchiveReport(3, 1, 1, 4_096),
        "ReembedReport": agentmem.ReembedReport("one", "other", 3),
    }


def _knowledge(memory: Memory) -> dict[str, Any]:
    spend = agentmem.Spend(calls=1, input_tokens=80, output_tokens=9)
    refusal = agentmem.Refusal("ADD", "the quote is not in message 1", "at ten")
    return {
        "Spend": spend,
        "DaySpend": agentmem.DaySpend("2026-03-01", spend),
        "Refusal": refusal,
        "DeadLetter": agentmem.DeadLetter("ferry", "no answer that can be read", START),
        "Proposal": agentmem.Proposal(
            "p", "SUPERSEDE", "at ten", "ferry", "ferry", None, "said so", "r", ("at ten",), START, None
        ),
        "ConsolidationReport": agentmem.ConsolidationReport("r", "done", refused=(refusal,), spend=spend),
        "ConsolidationState": memory.consolidation(user_id="lou").state(),
        "Evidence": agentmem.Evidence("ferry", 0, 9),
    }


def _namespace(memory: Memory) -> NamespaceCount:
    memory.put("quay", "the ferry is at quay 4", namespace=("harbour", "today"))
    [found] = memory.namespaces()
    return found


def test_there_is_one_of_each(results: dict[str, Any]) -> None:
    assert set(results) == set(RESULTS)
    assert all(type(value).__name__ == name for name, value in results.items())


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_json(results: dict[str, Any], name: str) -> None:
    value = results[name]
    plain = value.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert exact(plain)
    names = set(LISTS[name]) if name in LISTS else {field.name for field in dataclasses.fields(value)}
    assert plain.keys() == names
    if name not in LISTS:
        assert dataclasses.asdict(value).keys() == names
        assert vars(value).keys() == names


def exact(value: Any) -> bool:
    """Whether nothing in it is of a type of ours."""
    if isinstance(value, dict):
        return type(value) is dict and all(type(key) is str and exact(item) for key, item in value.items())
    return all(map(exact, value)) if type(value) is list else type(value) in (str, int, float, bool, type(None))


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_can_be_copied_and_sent(memory: Memory, results: dict[str, Any], name: str) -> None:
    value = results[name]
    memory.close()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(value, protocol))
        assert type(again) is type(value)
        assert again == value
        assert again.to_dict() == value.to_dict()
    for again in (copy.copy(value), copy.deepcopy(value)):
        assert again == value
    deep = copy.deepcopy(results["MemoryRecord"])
    deep.metadata["tags"].append("x")
    assert deep != results["MemoryRecord"]
    assert results["MemoryRecord"].metadata["tags"] == ["sea"]


@pytest.mark.parametrize("name", [name for name in RESULTS if name not in LISTS])
def test_equal_results_are_one_in_a_set(results: dict[str, Any], name: str) -> None:
    value = results[name]
    assert len({value, copy.deepcopy(value)}) == 1
    assert {value: 1}[copy.deepcopy(value)] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, None)


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_an_answer_of_a_web_endpoint(results: dict[str, Any], name: str) -> None:
    kind, value = getattr(agentmem, name), results[name]
    adapter = TypeAdapter(kind)
    assert adapter.json_schema()
    told = json.loads(adapter.dump_json(value))
    plain = value.to_dict()
    expected = plain[LISTS[name][0]] if name in LISTS else plain
    assert _same(told, expected)
    again = adapter.validate_json(adapter.dump_json(value))
    assert type(again) is kind
    assert again == value
    model = type("Answer", (BaseModel,), {"__annotations__": {"result": kind}})
    assert model(result=value).model_dump_json()


def _same(told: Any, expected: Any) -> bool:
    """Whether two JSON values are the same but for how an instant is written."""
    if isinstance(expected, dict):
        return told.keys() == expected.keys() and all(_same(told[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(told) == len(expected) and all(map(_same, told, expected))
    return told == (expected.replace("+00:00", "Z") if isinstance(expected, str) else expected) or told == expected


def test_a_hit_has_what_its_record_has(memory: Memory) -> None:
    memory.add({"role": "assistant", "content": "low tide at four"}, user_id="lou", agent_id="a", run_id="r",
               metadata={"k": 1}, occurred_at=START)  # fmt: skip
    hits = memory.search("tide", user_id="lou")
    [hit] = set(hits)
    record = hit.record
    told = (hit.id, hit.content, hit.user_id, hit.agent_id, hit.run_id, hit.role, hit.kind, hit.layer, hit.metadata)
    assert told == (
        record.id, "low tide at four", "lou", "a", "r", "assistant", "message", record.layer, {"k": 1}
    )  # fmt: skip
    assert (hit.created_at, hit.occurred_at) == (record.created_at, START)


def test_what_was_added_is_known_without_its_store(memory: Memory) -> None:
    results = memory.add_many(["one", "two", "one"], user_id="lou", agent_id="a")
    memory.close()
    assert [(r.record.content, r.record.user_id, r.record.agent_id) for r in results] == [
        ("one", "lou", "a"), ("two", "lou", "a"), ("one", "lou", "a"),
    ]  # fmt: skip
    assert results[0] != results[2]
    assert results[0] == AddResult(results[0].id, "added", results[0].record)
    assert results[0].record is results[0].record
    assert not hasattr(results[1], "nothing")
    assert repr(results[1]) == f"AddResult(id={results[1].id!r}, status='added')"


# -- records that return -----------------------------------------------------------------------------------------------


@pytest.fixture
def other(open_memory: Open, tmp_path: Path) -> Memory:
    return open_memory(tmp_path / "other")


def fill(memory: Memory, clock: FakeClock) -> list[MemoryRecord]:
    memory.add("collects shells", user_id="lou", metadata={"deep": {"a": [1, None, "é"]}}, importance=0.7)
    clock.advance(60)
    memory.add_many(
        [{"role": "user", "content": f"wave {n}", "occurred_at": START - timedelta(days=n)} for n in range(3)],
        user_id="lou", run_id="beach", agent_id="guide",
    )  # fmt: skip
    memory.add("parking until noon", user_id="kai", ttl=3_600, id="parking", kind="reminder", layer="insights")
    memory.add("of nobody")
    memory.update("parking", content="parking until two")
    memory.feedback("parking", rating=5)
    memory.lifecycle.pin("parking")
    return list(memory.iterate(user_id=ALL, order="oldest"))


STAYS = (
    "id", "content", "user_id", "agent_id", "run_id", "role", "kind", "layer", "metadata", "importance", "expires_at"
)  # fmt: skip


@pytest.mark.parametrize("form", ["dict", "json", "record"])
def test_records_of_one_store_are_items_of_another(memory: Memory, other: Memory, clock: FakeClock, form: str) -> None:
    records = fill(memory, clock)
    clock.advance(600)
    make = {"dict": lambda r: r.to_dict(), "json": lambda r: json.loads(json.dumps(r.to_dict())), "record": lambda r: r}
    results = other.add_many([make[form](record) for record in records])
    assert {result.status for result in results} == {"added"}
    moved = list(other.iterate(user_id=ALL, order="oldest"))
    for record, again in zip(records, moved, strict=True):
        assert all(getattr(record, name) == getattr(again, name) for name in STAYS)
        assert again.occurred_at == (record.occurred_at or record.created_at)
        assert (again.version, again.rating, again.pinned, again.created_at) == (1, None, False, clock.now)
    twice = other.add_many([make[form](record) for record in records])
    assert [(result.id, result.status) for result in twice] == [(record.id, "duplicate") for record in records]
    assert [r.content for r in other.recent(run_id="beach", user_id="lou")] == ["wave 2", "wave 1", "wave 0"]


def test_a_promise_holds_in_the_other_store(memory: Memory, other: Memory, clock: FakeClock) -> None:
    record = memory.add("parking until noon", user_id="kai", ttl=3_600).record
    for status in ("added", "duplicate", "duplicate"):
        clock.advance(0.25)
        result = other.add(record)
        assert (result.status, result.record.expires_at) == (status, record.expires_at)
    record = memory.add("parking until one", user_id="kai", ttl=3_600).record
    clock.advance(3_601)
    assert other.add(record).status == "added"
    clock.advance(0.001)
    assert list(other.iterate(user_id="kai")) == []
    assert other.add({**record.to_dict(), "id": None, "ttl": 60}).record.expires_at == clock.now + timedelta(minutes=1)


def test_a_record_can_be_given_to_somebody_else(memory: Memory, other: Memory) -> None:
    dump = memory.add("collects shells", user_id="lou", metadata={"a": 1}).record.to_dict()
    assert other.add({**dump, "user_id": "kai"}).record.user_id == "kai"
    assert other.add({**dump, "id": None}, user_id="kai").record.user_id == "lou"
    with pytest.raises(ScopeError):
        other.scoped(user_id="kai").add(dump)
    memory.add("of nobody", id="n")
    assert other.add(memory.get("n") or "", user_id="kai").record.user_id == "kai"


def test_what_a_store_counts_itself_cannot_be_made_up(memory: Memory) -> None:
    for field, value in {"version": 7, "rating": 5.0, "pinned": True, "updated_at": START.isoformat()}.items():
        with pytest.raises(InvalidInputError, match=field):
            memory.add({"content": "x", field: value})
    dump = memory.add("x", user_id="lou").record.to_dict()
    for field, bad in {"created_at": "yesterday", "layer": "attic", "extra": 1, "expires_at": "soon"}.items():
        with pytest.raises(InvalidInputError):
            memory.add({**dump, "id": "new", field: bad})
    assert memory.get("new") is None


def test_records_return_through_streams_and_the_waiting_client(
    memory: Memory, clock: FakeClock, tmp_path: Path, embedder: HashEmbedder
) -> None:
    records = fill(memory, clock)

    async def main() -> None:
        async with AsyncMemory(tmp_path / "third", clock=clock, embedder=embedder) as waiting:
            assert (await waiting.add(records[0].to_dict())).id == records[0].id
            assert [r.status for r in await waiting.add_many(records[:2])] == ["duplicate", "added"]
            async for results in waiting.add_stream(r.to_dict() for r in records):
                assert [r.id for r in results] == [r.id for r in records]

    asyncio.run(main())
