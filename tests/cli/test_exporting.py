"""What is exported from one store and imported into another: every kind of memory, as it was."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shell import Shell

from agentmem import ALL, Memory, MemoryRecord
from agentmem.cli.streams import appearing

DIM = 256
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Évora"}'}}
TURNS: list[dict[str, Any]] = [
    {
        "role": "user",
        "content": [{"type": "text", "text": "How is it in Évora?"}, {"type": "image_url", "image_url": 7}],
    },
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "18 degrees"},
    {"role": "assistant", "content": "It is mild."},
    {"type": "function_call", "id": "fc_1", "call_id": "c2", "name": "tide", "arguments": "{}"},
]
ODD = {"nul": "a\0b", "half": "\ud83d", "big": 10**40, "inf": float("inf"), "deep": [[[{}]]], "": None}


def vector(*numbers: float) -> list[float]:
    return [*numbers, *[0.0] * (DIM - len(numbers))]


def fill(memory: Memory) -> None:
    """A store with one of each kind."""
    ana = memory.scoped(user_id="ana")
    ana.add("Ana lives by the harbour.", metadata={"tags": ["home", "sea"], "n": 1.5}, importance=0.25)
    ana.add(
        "Ana sailed to Faro.", occurred_at="2021-05-04T10:00+01:00", kind="trip", layer="insights", agent_id="diary"
    )
    ana.add_many(TURNS, run_id="monday")
    ana.put("state", data=ODD, namespace=("agents", "a/b"))
    ana.put("tone", "Short answers.", metadata={"by": "ana"}, role="system", agent_id="clerk", run_id="r")
    ana.put("tone", "Long answers about ferries.", namespace=("drafts",), importance=0.75, layer="interact")
    ana.put("tone", "Longer answers about ferries.", namespace=("drafts",), importance=0.75, layer="interact")
    ana.put("seat", "By the window.", ttl=3600, sliding=True)
    ana.add("Gone in a day or so.", ttl=90_000)
    ana.add("The whole report, summed up.", embed=["storms in winter", "calm in summer"])
    ana.add("A photo of the harbour.", vector=[vector(1, 0, 1), vector(0, 1)])
    ana.put("photo", "Another photo.", vector=vector(0, 0, 1, 1), data={"file": "p.png"}, namespace=("drafts",))
    ana.add("Found by its words alone.", embed=False, id="quiet-😀")
    ana.add({}, data=[1, "two", None], namespace=("lists",))
    memory.add("Nobody's own.", user_id=None)
    memory.put("tone", "Nobody's tone.", user_id=None)
    memory.put("tone", "Bo's tone.", user_id="bo", id="bo-tone")
    rated = memory.put("rated", "Rated, and kept.", user_id="bo").id
    memory.feedback(rated, rating=4)
    memory.lifecycle.pin(rated)
    memory.delete(memory.put("gone", "Deleted.", user_id="bo").id)


def all_of(memory: Memory) -> list[MemoryRecord]:
    return list(memory.iterate(user_id=ALL, under=(), order="oldest", touch=False))


def as_said(record: MemoryRecord) -> dict[str, Any]:
    """A record without what each store counts by itself, and with the time that it has when it comes back."""
    left = {name: value for name, value in record.to_dict().items() if name not in COUNTED}
    return {**left, "occurred_at": left["occurred_at"] or record.to_dict()["created_at"]}


COUNTED = ("created_at", "updated_at", "version", "last_accessed")


def finds(memory: Memory) -> list[Any]:
    """What searches find, with the cosines."""
    asked: list[Any] = []
    for user in ("ana", "bo", None):
        for where in ({}, {"namespace": ("drafts",)}, {"under": ()}):
            every = {**where, "user_id": user, "limit": 50, "touch": False}
            for query, mode in (("long answers", "hybrid"), ("storms in winter", "vector"), ("found", "keyword")):
                hits = memory.search(query, mode=mode, **every)
                asked.append({hit.id: hit.similarity and round(hit.similarity, 5) for hit in hits})
            hits = memory.search(vector=vector(0, 0, 1), rank="similarity", **every)
            asked.append([(hit.id, round(hit.score, 6)) for hit in hits])
    return asked


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store with one of each kind, and its export."""
    folder = tmp_path_factory.mktemp("exported")
    with Memory(folder / "store") as memory:
        fill(memory)
    file = folder / "all.jsonl"
    Shell(folder / "store").json("export", str(file), "--all-users")
    return folder / "store", file


def test_every_kind_comes_back_as_it_was(exported: tuple[Path, Path], tmp_path: Path) -> None:
    store, file = exported
    other = Shell(tmp_path / "other")
    results = other.json("add", "--file", file)
    assert {one["status"] for one in results} == {"added"}
    with Memory(store) as memory, Memory(other.folder) as again:
        before, after = all_of(memory), all_of(again)
        assert [as_said(record) for record in after] == [as_said(record) for record in before]
        assert [record.message for record in after] == [record.message for record in before]
        for one, two in pairwise([memory, again]):
            ids = [record.id for record in before]
            for old, new in zip(one.vectors(ids), two.vectors(ids), strict=True):
                assert (new.embedding, new.texts, len(new.vectors)) == (old.embedding, old.texts, len(old.vectors))
                np.testing.assert_allclose(new.vectors, old.vectors, atol=1e-6)
            assert finds(one) == finds(two)
        for record in before:
            if record.key is not None:
                where = {"key": record.key, "namespace": record.namespace, "user_id": record.user_id}
                found = again.get(**where, touch=False)
                assert found is not None
                assert (found.id, found.version) == (record.id, 1)
        again.flush()
        assert again.verify().problems == []


@pytest.mark.parametrize("where", ["the same store", "another store", "by another path"])
def test_importing_again_changes_nothing(exported: tuple[Path, Path], tmp_path: Path, where: str) -> None:
    store, file = exported
    shell = Shell(store if where == "the same store" else tmp_path / "other")
    if where != "the same store":
        shell.json("add", "--file", file)
    with Memory(shell.folder) as memory:
        before, last = all_of(memory), memory.events(after=0, limit=1000)[-1].seq
    options = ("--source", "another name") if where == "by another path" else ()
    assert {one["status"] for one in shell.json("add", "--file", file, *options)} == {"duplicate"}
    with Memory(shell.folder) as memory:
        assert all_of(memory) == before
        assert {str(event.event) for event in memory.events(after=last)} <= {"TOUCH"}
        memory.flush()
        assert memory.verify().problems == []


def test_a_key_that_another_has_is_left_out_by_name(exported: tuple[Path, Path], tmp_path: Path) -> None:
    store, file = exported
    shell = Shell(tmp_path / "other")
    mine = shell.json("put", "tone", "A tone of their own.", "--user", "bo")["id"]
    lines = file.read_text().splitlines()
    at = next(n for n, line in enumerate(lines, 1) if json.loads(line)["id"] == "bo-tone")
    assert f"its key 'tone' is that of '{mine}'" in shell.error("add", "--file", file)
    result = shell("add", "--file", file, "--on-conflict", "skip", "--source", "again")
    assert result.exit_code == 3
    [left_out] = [one for one in json.loads(result.stdout) if one["status"] == "skipped"]
    assert left_out["line"] == at
    assert "'bo-tone'" in left_out["reason"]
    assert f"line {at}: " in result.stderr
    with Memory(store) as memory, Memory(shell.folder) as again:
        wanted = {record.id for record in all_of(memory)} - {"bo-tone"} | {mine}
        assert {record.id for record in all_of(again)} == wanted
        assert again.get(key="tone", user_id="bo").content == "A tone of their own."  # pyright: ignore[reportOptionalMemberAccess]
    assert shell("add", "--file", file, "--on-conflict", "skip").exit_code == 3


def test_what_has_ended_meanwhile_does_not_stop_an_import(tmp_path: Path) -> None:
    file, shell = tmp_path / "old.jsonl", Shell(tmp_path / "store")
    past = "2020-01-01T00:00:00+00:00"
    record = {
        "content": "x", "created_at": past, "updated_at": past, "version": 3, "expires_at": "2020-02-01T00:00:00+00:00",
    }  # fmt: skip
    lines = [{**record, "id": "a"}, {**record, "id": "b", "key": "k"}, {"content": "stays", "id": "c"}]
    file.write_text("\n".join(map(json.dumps, lines)))
    assert [one["status"] for one in shell.json("add", "--file", file)] == ["added"] * 3
    for _ in range(2):
        assert [one["status"] for one in shell.json("add", "--file", file)] == ["duplicate"] * 3
    assert [one["status"] for one in shell.json("add", "--file", file, "--on-error", "skip")] == ["duplicate"] * 3
    assert shell.texts() == ["stays"]
    assert shell.json("put", "k", "free again")["status"] == "added"
    with Memory(shell.folder) as memory:
        memory.lifecycle.sweep()
        memory.flush()
        assert memory.verify().problems == []
    assert [one["status"] for one in shell.json("add", "--file", file)] == ["duplicate"] * 3


def test_marks_that_an_interruption_cost_are_made_good(exported: tuple[Path, Path], tmp_path: Path) -> None:
    _, file = exported
    shell = Shell(tmp_path / "other")
    with Memory(shell.folder) as memory:
        memory.add_many([json.loads(line) for line in file.read_text().splitlines()])
    shell.json("add", "--file", file)
    record = shell.json("get", "--key", "rated", "--user", "bo")
    assert (record["rating"], record["pinned"]) == (4, True)
    with Memory(shell.folder) as memory:
        memory.lifecycle.unpin(record["id"])
    shell.json("add", "--file", file)
    assert shell.json("get", record["id"])["pinned"] is False


def test_marks_are_set_once_whoever_else_imports_or_was_killed_between_them(
    exported: tuple[Path, Path], tmp_path: Path
) -> None:
    _, file = exported
    shell = Shell(tmp_path / "other")
    with Memory(shell.folder) as memory:
        items = [json.loads(line) for line in file.read_text().splitlines()]
        memory.add_many(items)
        [rated] = [item["id"] for item in items if item["rating"]]
        memory.feedback(rated, rating=4)
    shell.json("add", "--file", file)
    assert [event["event"] for event in shell.json("history", rated)] == ["ADD", "FEEDBACK", "PIN"]
    shell.json("add", "--file", file)
    assert len(shell.json("history", rated)) == 3


def test_of_two_exports_to_one_file_one_is_refused(exported: tuple[Path, Path], tmp_path: Path) -> None:
    store, file = exported
    shell, target = Shell(store), tmp_path / "all.jsonl"
    with appearing(target) as first:
        first.write(b"begun")
        said = shell.error("export", target, "--all-users")
        assert "all.jsonl is being written by another process" in said
        first.write(b" and ended")
    assert target.read_bytes() == b"begun and ended"
    (tmp_path / "all.jsonl.partial").write_bytes(b"what was killed has left" * 10_000)
    shell.json("export", target, "--all-users")
    assert target.read_bytes() == file.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["all.jsonl"]


names = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=8)
keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
times = st.none() | st.integers(-(10**10), 10**10).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
put = st.fixed_dictionaries(
    {"key": keys, "content": st.sampled_from(["ferry", "storm", "Évora", "a\nb", "=1+1"])},
    optional={
        "namespace": st.lists(names, max_size=3).map(tuple),
        "user_id": names,
        "agent_id": names,
        "run_id": names,
        "role": names,
        "kind": names,
        "layer": st.sampled_from(["interact", "insights", "assets"]),
        "metadata": st.dictionaries(names, st.booleans() | names | st.floats(0, 9), max_size=3),
        "importance": st.floats(0, 1),
        "ttl": st.integers(3600, 10**8),
        "sliding": st.just(True),
        "occurred_at": times,
        "embed": st.sampled_from([True, False, ["ferry", "calm"]]),
        "data": data,
    },
)


@pytest.mark.slow
@settings(max_examples=10)
@given(items=st.lists(put, min_size=1, max_size=12, unique_by=lambda item: item["key"]))
def test_whatever_is_put_comes_back(items: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shells = [Shell(Path(folder, name)) for name in ("one", "two")]
        with Memory(shells[0].folder) as memory:
            for item in items:
                if "ttl" not in item:
                    item.pop("sliding", None)
                key, content = item.pop("key"), item.pop("content")
                memory.put(key, content, **item)
            before = all_of(memory)
        file = Path(folder, "all.jsonl")
        shells[0].json("export", str(file), "--all-users")
        for status in ("added", "duplicate"):
            assert {one["status"] for one in shells[1].json("add", "--file", file)} == {status}
            with Memory(shells[1].folder) as memory:
                assert [as_said(record) for record in all_of(memory)] == [as_said(record) for record in before]
