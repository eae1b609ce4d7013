"""Records leave for archives and come back, the same to the bit; what calls do with them meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FakeClock, HashEmbedder

import agentmem
from agentmem import (
    ALL,
    AsyncMemory,
    ConflictError,
    InvalidInputError,
    Memory,
    NotFoundError,
    Put,
    ScopeError,
    Settings,
    Update,
)
from agentmem.glacier import uploading, writing

SECRET = "xylophone"


def settings_of(folder: Path, **more: Any) -> Settings:
    return Settings(glacier={"url": str(folder / "ice")} | more, lifecycle={"sweep_interval_s": 0})


@pytest.fixture
def sealing(tmp_path: Path) -> dict[str, str]:
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    from agentmem.archive.masterkey import new_master_key

    (tmp_path / "master.key").write_text(new_master_key())
    return {"encryption": f"file:{tmp_path / 'master.key'}", "keyring": str(tmp_path / "keys")}


def fill(memory: Memory) -> list[str]:
    """Records of every form."""
    ids = [memory.add(f"plain {n}", user_id="ana", metadata={"n": n}).id for n in range(5)]
    ids.append(memory.add("given", user_id="ana", vector=np.eye(32)[3]).id)
    ids.append(memory.add("by texts", user_id="ana", embed=["one", "another"], data={"deep": [1, {"x": None}]}).id)
    ids.append(memory.add({"role": "user", "content": "said"}, user_id="ana", run_id="r", layer="assets").id)
    ids.append(memory.add("", user_id="ana", data={"only": "data", "long": "d" * 200_000}).id)
    ids.append(memory.put("key", "by key", user_id="ana", namespace=("a", "b"), data=[1, 2]).id)
    ids.append(memory.add("nobody's", agent_id="agent").id)
    ids.append(memory.add("ben's", user_id="ben", importance=0.25, occurred_at="2020-02-03T04:05:06+00:00").id)
    memory.update(ids[0], content="plain 0, changed", data={"new": True})
    memory.feedback(ids[1], rating=4)
    memory.lifecycle.pin(ids[2])
    return ids


def said(memory: Memory, ids: list[str]) -> list[Any]:
    """All that there is to a record but where it lies, and when it was last used."""
    found = list[Any]()
    for id in ids:
        record = memory.get(id, touch=False)
        assert record is not None
        values = record.to_dict()
        del values["archived"], values["last_accessed"]
        found.append((values, [event for event in memory.history(id) if event.event not in ("ARCHIVE", "REHYDRATE")]))
    return found


def vectors_of(memory: Memory, ids: list[str]) -> list[Any]:
    return [(each.embedding, each.vectors.tobytes(), each.texts) for each in memory.vectors(ids) if each is not None]


@pytest.mark.parametrize("sealed", [False, True])
def test_there_and_back_to_the_bit(
    open_memory: Callable[..., Memory], tmp_path: Path, sealing: dict[str, str], sealed: bool
) -> None:
    memory = open_memory(settings=settings_of(tmp_path, **(sealing if sealed else {})))
    ids = fill(memory)
    before, vectors = said(memory, ids), vectors_of(memory, ids)
    query = [memory.search("plain said by", user_id="ana", mode=mode, touch=False) for mode in ("vector", "hybrid")]
    report = memory.tiers.archive(ids)
    assert (report.archived, report.skipped, report.archives) == (len(ids), 0, 1)
    assert report.bytes > 0
    assert memory.stats().archived == len(ids)
    assert memory.stats().records == 0
    assert memory.verify().problems == []
    assert all(record is not None and record.archived for record in map(memory.get, ids))
    assert said(memory, ids) == before
    assert memory.search("plain", user_id="ana") == []
    assert memory.tiers.stats()["glacier"].objects == 3
    assert memory.tiers.rehydrate(ids) == len(ids)
    assert memory.tiers.rehydrate(ids) == 0
    assert said(memory, ids) == before
    assert vectors_of(memory, ids) == vectors
    again = [memory.search("plain said by", user_id="ana", mode=mode, touch=False) for mode in ("vector", "hybrid")]
    assert [[(hit.id, hit.score) for hit in hits] for hits in again] == [
        [(hit.id, hit.score) for hit in hits] for hits in query
    ]
    assert memory.verify().problems == []
    assert [event.event for event in memory.history(ids[0])][-2:] == ["ARCHIVE", "REHYDRATE"]


def test_which_ones(open_memory: Callable[..., Memory], clock: FakeClock, tmp_path: Path) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    old = memory.add("old", user_id="ana", metadata={"a": 1}).id
    clock.advance(3_600)
    cut = clock()
    clock.advance(1)
    ended = memory.add("has an end", user_id="ana", ttl=600).id
    message = memory.add({"role": "user", "content": "hello"}, user_id="ana").id
    other = memory.add("ben's", user_id="ben").id
    assert memory.tiers.archive(user_id="ana", before=cut, dry_run=True).archived == 1
    assert memory.stats().archived == 0
    assert memory.tiers.archive(user_id="ana", before=cut).archived == 1
    assert [record.id for record in memory.page(user_id="ana", archived=True).records] == [old]
    assert memory.tiers.archive(user_id="ana", kinds=["message"]).archived == 1
    report = memory.tiers.archive(user_id="ana")
    assert (report.archived, report.skipped) == (0, 1)
    assert memory.tiers.archive(ended).skipped == 1
    assert [record.id for record in memory.page(user_id="ana").records] == [ended]
    page = memory.page(user_id="ana", archived=True, limit=1)
    assert [record.content for record in page.records] == ["hello"]
    assert [record.id for record in memory.page(user_id="ana", archived=True, cursor=page.cursor).records] == [old]
    assert memory.page(user_id="ana", archived=True, filters={"a": 1}).records[0].id == old
    assert memory.page(user_id="ben", archived=True).records == []
    assert memory.scoped(user_id="ben").tiers.archive(other).archived == 1
    for view in (memory.scoped(user_id="ben").tiers,):
        with pytest.raises(NotFoundError):
            view.archive(message)
        with pytest.raises(NotFoundError):
            view.rehydrate(message)
    with pytest.raises(ScopeError):
        memory.tiers.archive()
    with pytest.raises(ScopeError):
        memory.tiers.archive(user_id=ALL)
    with pytest.raises(InvalidInputError, match="not both"):
        memory.tiers.archive(old, user_id="ana")
    with pytest.raises(InvalidInputError, match="by"):
        memory.page(user_id="ana", archived=True, by="event")
    clock.advance(1_000)
    assert memory.get(ended) is None


def test_without_a_place(open_memory: Callable[..., Memory]) -> None:
    memory = open_memory()
    id = memory.add("stays", user_id="ana").id
    with pytest.raises(InvalidInputError, match=r"glacier\.url"):
        memory.tiers.archive(id)
    assert memory.tiers.rehydrate(id) == 0
    assert "glacier" not in memory.tiers.stats()
    with pytest.raises(InvalidInputError, match=r"glacier\.url"):
        Settings(glacier={"cold_to_glacier": True})


def test_what_changes_a_record_brings_it_back(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    changes: list[Callable[[str], object]] = [
        lambda id: memory.update(id, metadata={"b": 2}),
        lambda id: memory.feedback(id, accepted=True),
        lambda id: memory.lifecycle.pin(id),
        lambda id: memory.touch([id]),
        lambda id: memory.restore(id, version=1),
        lambda id: memory.apply([Update(id, importance=0.5)]),
    ]
    for n, change in enumerate(changes):
        id = memory.add(f"text {n}", user_id="ana").id
        memory.tiers.archive(id)
        change(id)
        record = memory.get(id)
        assert record is not None
        assert (record.content, record.archived) == (f"text {n}", False)
    assert memory.verify().problems == []


def test_keys_stay_and_a_put_replaces(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    id = memory.put("k", "first", user_id="ana").id
    memory.tiers.archive(user_id="ana")
    found = memory.get(key="k", user_id="ana")
    assert found is not None
    assert (found.id, found.content, found.archived) == (id, "first", True)
    with pytest.raises(ConflictError):
        memory.put("k", "not first", user_id="ana", if_version=0)
    replaced = memory.put("k", "second", user_id="ana", if_version=1)
    assert (replaced.id, replaced.record.version, replaced.record.archived) == (id, 2, False)
    assert memory.restore(id, version=1).content == "first"
    memory.tiers.archive(id)
    memory.apply([Put("k", "third", user_id="ana")])
    assert memory.search("third", user_id="ana")[0].id == id
    memory.tiers.archive(id)
    assert memory.delete(key="k", user_id="ana")
    assert memory.get(key="k", user_id="ana") is None
    assert memory.put("k", "another", user_id="ana").id != id
    assert memory.verify().problems == []


def test_deleting_needs_no_archive_and_can_be_undone(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    one, two, three = (memory.add(f"text {n}", user_id="ana").id for n in range(3))
    memory.tiers.archive(user_id="ana")
    hidden = (tmp_path / "ice").rename(tmp_path / "away")
    assert memory.delete(one)
    assert not memory.delete(one)
    assert memory.delete_all(user_id="ana", dry_run=True) == 2
    assert memory.delete_all(user_id="ana") == 2
    assert memory.get(two) is None
    hidden.rename(tmp_path / "ice")
    gone = memory.get(one, deleted=True)
    assert gone is not None
    assert gone.content == "text 0"
    assert {record.content for record in memory.deleted(user_id="ana").records} == {"text 0", "text 1", "text 2"}
    assert memory.restore(one).content == "text 0"
    assert memory.restore_all(user_id="ana") == 2
    assert {hit.id for hit in memory.search("text", user_id="ana")} == {one, two, three}
    assert memory.verify().problems == []


def test_what_changes_while_it_is_uploaded_stays(
    open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    ids = [memory.add(f"{SECRET} {n}", user_id="ana").id for n in range(4)]
    real = uploading.upload

    def slow(*args: Any) -> uploading.Uploaded:
        memory.update(ids[0], content="changed")
        memory.delete(ids[1])
        memory.erase(ids[2])
        memory.feedback(ids[3], rating=2)
        return real(*args)

    monkeypatch.setattr(writing, "upload", slow)
    report = memory.tiers.archive(user_id="ana")
    assert (report.archived, report.skipped) == (0, 4)
    assert not list((tmp_path / "ice").rglob("packs/*"))
    assert memory.verify().problems == []
    record = memory.get(ids[0])
    assert record is not None
    assert record.content == "changed"


@pytest.mark.parametrize("after", [False, True])
def test_an_error_around_the_commit_loses_nothing(
    open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    id, real = memory.add("text", user_id="ana").id, writing.commit

    def broken(*args: Any) -> set[int]:
        if after:
            real(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "commit", broken)
    with pytest.raises(KeyboardInterrupt):
        memory.tiers.archive(id)
    record = memory.get(id)
    assert record is not None
    assert (record.content, record.archived) == ("text", after)
    assert bool(list((tmp_path / "ice").rglob("packs/*"))) == after
    assert memory.verify().problems == []


def test_many_in_several_archives_which_become_one(
    open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    monkeypatch.setattr(writing, "ROWS", 10)
    ids = [one.id for one in memory.add_many([f"text {n}" for n in range(35)], user_id="ana")]
    seen = list[int]()
    report = memory.tiers.archive(user_id="ana", progress=seen.append)
    assert (report.archived, report.archives) == (35, 4)
    assert seen[-1] == 35
    before = memory.tiers.stats()["glacier"]
    for n in range(5):
        ids.append(memory.add(f"one {n}", user_id="ana").id)
        memory.tiers.archive(ids[-1])
    names = {event.data["archive"] for event in memory.history(ids[0]) if event.event == "ARCHIVE"}
    assert len(names) == 2  # it was merged
    assert memory.verify().problems == []
    assert before.objects == 12
    assert memory.tiers.rehydrate(ids) == 40
    assert {record.content for record in memory.iterate(user_id="ana")} == {
        *(f"text {n}" for n in range(35)), *(f"one {n}" for n in range(5))
    }  # fmt: skip


def test_another_model(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    class Other(HashEmbedder):
        name = "hashed-words-other"
        dim = 24

        def embed_query(self, text: str) -> np.ndarray:
            found = super().embed_query(text + " x")[:24]
            return found / np.linalg.norm(found)

    memory = open_memory(settings=settings_of(tmp_path))
    id = memory.add("green tea", user_id="ana").id
    memory.tiers.archive(id)
    memory.reembed(Other())
    assert memory.verify().problems == []
    assert memory.tiers.rehydrate(id) == 1
    assert memory.search("green tea", user_id="ana", mode="vector")[0].similarity == pytest.approx(1)
    assert memory.verify().problems == []


def test_cold_ones_go_there_instead_of_expiring(
    open_memory: Callable[..., Memory], clock: FakeClock, tmp_path: Path
) -> None:
    memory = open_memory(settings=settings_of(tmp_path, cold_to_glacier=True))
    cold = memory.add({"role": "user", "content": "good morning"}, user_id="ana").id
    ended = memory.add({"role": "user", "content": "for an hour"}, user_id="ana", ttl=3_600).id
    asset = memory.add("an asset", user_id="ana").id
    clock.advance(2 * 86_400)
    planned = memory.lifecycle.sweep(dry_run=True)
    assert (planned.archived, planned.expired, planned.moves[-1].event) == (1, 1, "ARCHIVE")
    (tmp_path / "ice").write_text("no folder")
    with pytest.raises(agentmem.AgentMemError):
        memory.lifecycle.sweep()
    assert memory.get(cold, touch=False) is not None
    (tmp_path / "ice").unlink()
    report = memory.lifecycle.sweep()
    assert (report.archived, report.expired) == (1, 0)
    record = memory.get(cold)
    assert record is not None
    assert (record.content, record.archived) == ("good morning", True)
    assert memory.lifecycle.explain(cold).state == "archived"
    assert memory.get(ended) is None
    assert memory.get(asset) is not None
    assert memory.lifecycle.sweep().archived == 0
    memory.tiers.rehydrate(cold)
    assert memory.lifecycle.sweep().archived == 0  # its time begins anew
    assert memory.verify().problems == []


@pytest.mark.parametrize("end", ["clear", "delete"])
def test_a_session_that_goes_takes_its_archived_turns_along(
    open_memory: Callable[..., Memory], tmp_path: Path, end: str
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    session = memory.session("r", user_id="ana")
    turns = [turn.id for turn in session.append([{"role": "user", "content": f"{SECRET} {n}"} for n in range(1_200)])]
    others = [
        memory.session("r2", user_id="ana").append({"role": "user", "content": SECRET})[0].id,
        memory.session("r", user_id="ben").append({"role": "user", "content": SECRET})[0].id,
        memory.add(SECRET, user_id="ana", run_id="r").id,
    ]
    memory.tiers.archive(turns[:1_100] + others)
    if end == "clear":
        assert session.clear() == 1_200
    else:
        assert session.delete()
    assert [memory.get(id) for id in turns[::100]] == [None] * 12
    assert len(memory.page(user_id="ana", archived=True).records) == 2
    assert all(memory.get(id) for id in others)
    memory.session("r", user_id="ana").append({"role": "user", "content": "anew"})
    assert [turn.content for turn in session.turns()] == ["anew"]
    memory.restore(turns[0])  # fetches it
    assert [turn.content for turn in session.turns()] == [f"{SECRET} 0", "anew"]
    assert memory.verify().problems == []


def test_async(tmp_path: Path) -> None:
    async def main() -> None:
        settings = settings_of(tmp_path)
        async with AsyncMemory(tmp_path / "s", settings=settings, embedder=HashEmbedder()) as memory:
            id = (await memory.add("text", user_id="ana")).id
            assert (await memory.tiers.archive(user_id="ana")).archived == 1
            assert [record.id for record in (await memory.page(user_id="ana", archived=True)).records] == [id]
            assert await memory.tiers.rehydrate([id]) == 1

    asyncio.run(main())
