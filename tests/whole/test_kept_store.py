"""A store that an older version wrote opens, verifies, and answers as it did then.

``data/store-0.1.tar.gz`` is the folder of a store as version 0.1 left it when it was copied while open: a part of it is
in the write-ahead log only. ``data/store-0.1.json`` has what that version said of it.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias
from unicodedata import normalize

import pytest
from conftest import ROOT, FakeClock
from inspecting import files_with, sql

from agentmem import ALL, Memory, NotFoundError, Settings

DATA = ROOT / "tests" / "data"
Open: TypeAlias = Callable[..., Memory]
VERSIONS = [file.name.removesuffix(".tar.gz") for file in sorted(DATA.glob("store-*.tar.gz"))]


@pytest.fixture(params=VERSIONS)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """The store's folder, unpacked, and the answers."""
    with tarfile.open(DATA / f"{request.param}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "store", json.loads((DATA / f"{request.param}.json").read_text(encoding="utf-8"))


@pytest.fixture(params=[50_000, 5], ids=["arenas", "large scopes"])
def opened(
    request: pytest.FixtureRequest, kept: tuple[Path, dict[str, Any]], open_memory: Callable[..., Memory]
) -> tuple[Memory, dict[str, Any]]:
    path, answers = kept
    settings = Settings(arena_limit=request.param, follower_delay_s=0.02, lifecycle={"sweep_interval_s": 0})
    clock = FakeClock(datetime.fromisoformat(answers["now"]))
    return open_memory(path, settings=settings, clock=clock, embedder=None), answers


def test_there_are_kept_stores() -> None:
    assert VERSIONS


def test_everything_is_in_order(opened: tuple[Memory, dict[str, Any]]) -> None:
    memory, answers = opened
    report = memory.verify()
    assert report.problems == []
    stats = memory.stats()
    assert {name: getattr(stats, name) for name in answers["stats"]} == answers["stats"]
    assert memory.health().vector_rebuilds == 0


def test_every_record_is_there_with_its_history(opened: tuple[Memory, dict[str, Any]]) -> None:
    memory, answers = opened
    found = {record.id: record.to_dict() for record in memory.iterate(user_id=ALL)}
    assert found.keys() == answers["records"].keys()
    for id, record in answers["records"].items():
        assert {name: found[id][name] for name in record} == record
    for id, history in answers["histories"].items():
        events = [event.to_dict() for event in memory.history(id)]
        assert [{name: event[name] for name in old} for event, old in zip(events, history, strict=True)] == history


def test_searches_find_what_they_found(opened: tuple[Memory, dict[str, Any]]) -> None:
    memory, answers = opened
    for search in answers["searches"]:
        hits = memory.search(**search["arguments"])
        best, _, similarity = search["hits"][0]
        assert hits[0].id == best, search["arguments"]
        assert hits[0].similarity == pytest.approx(similarity, abs=1e-4), search["arguments"]
        assert {hit.id for hit in hits[:3]} & {hit[0] for hit in search["hits"][:3]}


def test_lives_go_on_as_they_were(opened: tuple[Memory, dict[str, Any]]) -> None:
    memory, answers = opened
    for id, life in answers["explained"].items():
        found = memory.lifecycle.explain(id).to_dict()
        life["because"] = life["because"].replace("by by hand", "by hand")  # that version stammered
        assert {name: found[name] for name in life} == life


def test_facts_are_known_as_the_same_as_before(kept: tuple[Path, dict[str, Any]], open_memory: Open) -> None:
    path, answers = kept
    memory = open_memory(path, clock=FakeClock(datetime.fromisoformat(answers["now"])), embedder=None)
    plain = {"role": None, "run_id": None}
    facts = [r for r in answers["records"].values() if r | plain == r and len(r["id"]) == 36]  # no id of the caller's
    assert len(facts) > 5
    for record in facts:
        same = {name: record[name] for name in ("user_id", "agent_id", "kind", "occurred_at", "layer")}
        for text in (record["content"], f" {record['content']}\r\n", normalize("NFD", record["content"])):
            added = memory.add(text, **same)
            assert added.status in ("duplicate", "refreshed"), record
            if text == record["content"]:
                assert added.id == record["id"]
        assert memory.add(record["content"], **same | {"occurred_at": "2001-02-03T04:05:06Z"}).status == "added"
    memory.flush()
    assert memory.verify().problems == []


def test_what_was_erased_goes_after_a_while(kept: tuple[Path, dict[str, Any]], open_memory: Open) -> None:
    path, answers = kept
    clock = FakeClock(datetime.fromisoformat(answers["now"]))
    memory = open_memory(path, clock=clock, embedder=None)
    erased = answers["erased"]
    assert [event.event for event in memory.history(erased)][-1] == "ERASE"
    memory.compact()
    assert files_with(path, erased) == {}
    assert memory.add("The same id, another life.", id=erased, user_id="ana").status == "added"
    memory.erase(erased)
    clock.advance(31 * 86_400)
    memory.compact()
    with pytest.raises(NotFoundError):
        memory.history(erased)
    assert sql(memory, "SELECT count(*) FROM records WHERE state = 2") == [(0,)]
    memory.erase_all(user_id="ana")
    memory.compact()
    assert {value for (value,) in sql(memory, "SELECT value FROM names")} & {"ana"} == set()
    assert memory.verify().problems == []


def test_it_takes_new_memories_and_changes(
    kept: tuple[Path, dict[str, Any]], open_memory: Callable[..., Memory]
) -> None:
    path, answers = kept
    clock = FakeClock(datetime.fromisoformat(answers["now"]))
    memory = open_memory(path, clock=clock, embedder=None)
    again = memory.add("Ana plays the cello in a quartet.", user_id="ana", kind="hobby")
    assert again.status == "duplicate"
    new = memory.add("Ana sold her cello.", user_id="ana", kind="hobby")
    assert new.status == "added"
    assert new.id not in answers["records"]
    memory.restore(answers["deleted"])
    memory.update(again.id, importance=1)
    memory.flush()
    assert memory.verify().problems == []
    assert memory.history(new.id)[0].seq > answers["stats"]["events"]


def test_it_is_read_where_it_may_not_be_changed(
    kept: tuple[Path, dict[str, Any]], open_memory: Callable[..., Memory]
) -> None:
    path, answers = kept
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and file.suffix != ".db-shm"}
    clock = FakeClock(datetime.fromisoformat(answers["now"]))
    with open_memory(path, clock=clock, embedder=None, read_only=True) as memory:
        assert {record.id for record in memory.iterate(user_id=ALL)} == answers["records"].keys()
        for search in answers["searches"]:
            assert memory.search(**search["arguments"])[0].id == search["hits"][0][0]
    assert {
        file: file.read_bytes() for file in path.rglob("*") if file.is_file() and file.suffix != ".db-shm"
    } == before
