"""What is on record about a record: the events of every operation, going back to any version, and erasing for good."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import START, FakeClock, HashEmbedder

from agentmem import ConflictError, EventType, HistoryEvent, Memory, MemoryRecord, NotFoundError, Settings

LARGE = Settings(arena_limit=0)


def last(memory: Memory, id: str) -> HistoryEvent:
    return memory.history(id)[-1]


def token() -> str:
    """A word that occurs nowhere else, in lower case: indexes may fold it."""
    return "zq" + uuid.uuid4().hex


# -- events ----------------------------------------------------------------------------------------------------------


def test_each_operation_leaves_its_event(memory: Memory, clock: FakeClock) -> None:
    id = memory.add("green tea", user_id="alice", metadata={"n": 1}, importance=0.5).id
    expected: list[tuple[str, int, dict[str, Any]]] = [("ADD", 1, {})]

    def check(event: str, version: int, data: dict[str, Any]) -> None:
        expected.append((event, version, data))
        found = memory.history(id)
        assert [(e.event, e.version, e.data) for e in found] == expected
        assert found[-1].at == clock.now
        assert {e.id for e in found} == {id}
        assert [e.seq for e in found] == sorted({e.seq for e in found})
        clock.advance(60)

    clock.advance(60)
    memory.update(id, content="black tea")
    check("UPDATE", 2, {"content": "green tea"})
    memory.update(id, metadata={"n": None, "m": [1, {"x": "日"}]}, importance=None)
    check("UPDATE", 3, {"metadata": {"n": 1}, "importance": 0.5})
    memory.update(id, ttl=timedelta(hours=1))
    expires = clock.now + timedelta(hours=1)
    check("UPDATE", 4, {"expires_at": None})
    memory.update(id, ttl=None, metadata=None)
    check("UPDATE", 5, {"expires_at": expires.isoformat(), "metadata": {"m": [1, {"x": "日"}]}})
    memory.feedback(id, rating=4, query="what tea?")
    check("FEEDBACK", 5, {"rating": 4, "query": "what tea?"})
    memory.feedback(id, accepted=False)
    check("FEEDBACK", 5, {"accepted": False})
    assert memory.delete(id)
    check("DELETE", 6, {})
    memory.restore(id)
    check("RESTORE", 7, {})
    memory.restore(id, version=1)
    check("RESTORE", 8, {"content": "black tea", "metadata": None, "importance": None})
    memory.delete_all(user_id="alice")
    check("DELETE", 9, {})


def test_what_changes_nothing_leaves_no_event(memory: Memory) -> None:
    id = memory.add("green tea", id="tea", metadata={"n": 1}, importance=0.5).id
    memory.add("green tea", id="tea")
    memory.update(id, content="green tea", metadata={"n": 1, "absent": None}, importance=0.5)
    memory.restore(id)
    memory.restore(id, version=1)
    assert memory.delete("unknown") is False
    memory.delete_all(user_id="nobody")
    with pytest.raises(ConflictError):
        memory.update(id, content="black tea", if_version=2)
    with pytest.raises(ConflictError):
        memory.add("black tea", id="tea")
    [event] = memory.history(id)
    assert (event.event, event.version) == (EventType.ADD, 1)
    record = memory.get(id)
    assert record is not None
    assert record.version == 1
    assert memory.stats().events == 1


def test_an_event_is_json_ready(memory: Memory) -> None:
    id = memory.add("green tea").id
    memory.update(id, ttl=60)
    memory.update(id, ttl=120)
    assert last(memory, id).to_dict() == {
        "seq": 3,
        "id": id,
        "event": "UPDATE",
        "at": START.isoformat(),
        "version": 3,
        "data": {"expires_at": (START + timedelta(seconds=60)).isoformat()},
    }


def test_history_of_what_never_was(memory: Memory) -> None:
    with pytest.raises(NotFoundError):
        memory.history("unknown")
    assert issubclass(NotFoundError, LookupError)


def test_history_outlives_deletion_and_reopening(open_memory: Callable[..., Memory], store: Path) -> None:
    memory = open_memory()
    id = memory.add("green tea").id
    memory.update(id, content="black tea")
    memory.delete(id)
    before = memory.history(id)
    memory.close()
    assert open_memory().history(id) == before
    assert len(before) == 3


def test_a_long_history_is_complete(memory: Memory) -> None:
    id = memory.add("note 0").id
    for n in range(1, 1_101):
        memory.update(id, importance=n / 2_000)
    events = memory.history(id)
    assert [event.version for event in events] == list(range(1, 1_102))
    assert memory.restore(id, version=600).importance == 599 / 2_000


# -- going back ------------------------------------------------------------------------------------------------------


def test_any_version_can_be_restored_exactly(memory: Memory, clock: FakeClock, embedder: HashEmbedder) -> None:
    id = memory.add("version one", user_id="alice", metadata={"n": 1, "deep": {"x": [1, None]}}, importance=0.25).id
    changes: list[dict[str, Any]] = [
        {"content": "version two"},
        {"metadata": {"n": None, "new": True}},
        {"importance": None},
        {"content": "version five", "metadata": None, "importance": 1.0},
        {"metadata": {"n": 6}},
    ]
    versions = {1: memory.get(id)}
    for change in changes:
        record = memory.update(id, **change)
        versions[record.version] = record
    assert list(versions) == [1, 2, 3, 4, 5, 6]
    memory.delete(id)

    def what(record: MemoryRecord | None) -> tuple[Any, ...]:
        assert record is not None
        return record.content, record.metadata, record.importance

    for back_to in (3, 1, 6, 2, 5, 4, 1):
        clock.advance(1)
        restored = memory.restore(id, version=back_to)
        assert what(restored) == what(memory.get(id)) == what(versions[back_to])
        assert restored.version == last(memory, id).version
        assert last(memory, id).event == "RESTORE"
        assert restored.created_at == START
        assert restored.updated_at == clock.now
        # The embedding came back with the content.
        [hit] = memory.search(restored.content, user_id="alice", mode="vector")
        assert hit.similarity == pytest.approx(1, abs=1e-5)
        versions[restored.version] = restored
    # What restoring made are versions too.
    for back_to, wanted in list(versions.items()):
        assert what(memory.restore(id, version=back_to)) == what(wanted)
    assert memory.verify().ok


@pytest.mark.parametrize("version", [0, -1, 3, 10**6])
def test_a_version_that_never_was_is_not_found(memory: Memory, version: int) -> None:
    id = memory.add("green tea").id
    memory.update(id, content="black tea")
    with pytest.raises(NotFoundError):
        memory.restore(id, version=version)
    assert len(memory.history(id)) == 2


def test_what_expired_is_never_rescued(memory: Memory, clock: FakeClock) -> None:
    id = memory.add("green tea", ttl=60).id
    deleted = memory.add("black tea", ttl=60).id
    memory.delete(deleted)
    clock.advance(60)
    for gone in (id, deleted):
        for version in (None, 1):
            with pytest.raises(NotFoundError):
                memory.restore(gone, version=version)
        assert memory.get(gone) is None
        assert memory.history(gone)[0].event == "ADD"
    with pytest.raises(NotFoundError):
        memory.update(id, ttl=None)
    assert memory.delete(id) is False


def test_a_restored_fact_is_a_duplicate_again(memory: Memory) -> None:
    id = memory.add("green tea", user_id="alice").id
    memory.update(id, content="black tea")
    assert memory.add("black tea", user_id="alice").id == id
    other = memory.add("green tea", user_id="alice")
    assert other.status == "added"
    memory.delete(other.id)
    memory.restore(id, version=1)
    assert memory.add("green tea", user_id="alice").id == id
    memory.delete(id)
    assert memory.add("green tea", user_id="alice").status == "added"


# -- erasing ---------------------------------------------------------------------------------------------------------


def files_with(folder: Path, secret: bytes) -> list[str]:
    """Files below a folder that contain some bytes."""
    return [
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and secret in path.read_bytes()
    ]


class SignEmbedder(HashEmbedder):
    """Vectors of length one to the last bit, so that they are stored as they are."""

    name = "hashed-signs-64"
    dim = 64

    def embed_query(self, text: str) -> np.ndarray:
        bits = np.unpackbits(np.frombuffer(blake2b(text.encode(), digest_size=8).digest(), np.uint8))
        return (0.125 - 0.25 * bits).astype(np.float32)


@pytest.mark.parametrize("settings", [Settings(), LARGE], ids=["small", "large"])
@pytest.mark.parametrize("deleted_before", [False, True])
def test_nothing_of_an_erased_record_is_left_on_disk(
    open_memory: Callable[..., Memory], store: Path, settings: Settings, deleted_before: bool
) -> None:
    embedder = SignEmbedder()
    memory = open_memory(settings=settings, embedder=embedder)
    memory.add_many([f"tea number {n}" for n in range(50)], user_id="alice")
    secrets = {name: token() for name in ("first", "second", "key", "value", "newer", "query", "kind", "role")}
    id = memory.add(
        f"Her secret is {secrets['first']}",
        user_id="alice",
        metadata={secrets["key"]: secrets["value"], "plain": 1},
        kind=secrets["kind"],
        role=secrets["role"],
    ).id
    kept = memory.add(f"kept {(marker := token())}", user_id="alice").id
    memory.search(secrets["first"], user_id="alice")
    memory.flush()
    memory.update(id, content=f"It became {secrets['second']}", metadata={"later": secrets["newer"]})
    memory.feedback(id, rating=1, query=f"who has {secrets['query']}?")
    memory.search(secrets["second"], user_id="alice", mode="keyword")
    memory.flush()
    contents = f"Her secret is {secrets['first']}", f"It became {secrets['second']}"
    vectors = {text: embedder.embed_query(text).tobytes() for text in contents}
    # The search below would find them: in the database, without the prefixes that a word index leaves out, in LanceDB.
    parts = {name: secret[6:].encode() for name, secret in secrets.items()}
    assert all(files_with(store, part) for part in parts.values())
    assert all(any(path.startswith("lance/") for path in files_with(store, vector)) for vector in vectors.values())
    if deleted_before:
        memory.delete(id)

    report = memory.erase(id)
    assert report.erased == 1
    for name, part in parts.items():
        found = [path for path in files_with(store, part) if path.startswith("agentmem.db")]
        assert not found, f"{name} is in {found} when erase returns"
    memory.flush()

    def all_gone() -> None:
        for name, part in parts.items():
            assert files_with(store, part) == [], name
        for text, vector in vectors.items():
            assert files_with(store, vector) == [], text
            assert files_with(store, vector[:128]) == [], text

    all_gone()
    assert memory.verify().ok
    memory.close()
    all_gone()
    again = open_memory(settings=settings, embedder=embedder)
    assert files_with(store, marker.encode())
    record = again.get(kept)
    assert record is not None
    assert record.content == f"kept {marker}"
    assert len(again.search("tea", user_id="alice", limit=100)) == 51


def test_an_erased_record_keeps_its_chain_of_events_without_their_contents(memory: Memory) -> None:
    id = memory.add("a secret", id="chosen", user_id="alice").id
    memory.update(id, content="another secret", metadata={"n": 1})
    memory.feedback(id, rating=5, query="secret?")
    memory.delete(id)
    memory.restore(id)
    memory.erase(id)
    assert [(event.event, event.version, event.data) for event in memory.history(id)] == [
        ("ADD", 1, {}),
        ("UPDATE", 2, {}),
        ("FEEDBACK", 2, {}),
        ("DELETE", 3, {}),
        ("RESTORE", 4, {}),
        ("ERASE", 5, {}),
    ]


def test_an_erased_record_is_gone_for_every_operation(memory: Memory) -> None:
    id = memory.add("a secret", id="chosen", user_id="alice").id
    memory.erase(id)
    assert memory.get(id) is None
    assert memory.delete(id) is False
    assert memory.search("secret", user_id="alice") == []
    assert list(memory.iterate(user_id="alice")) == []
    for call in (
        lambda: memory.update(id, content="back"),
        lambda: memory.restore(id),
        lambda: memory.restore(id, version=1),
        lambda: memory.feedback(id, rating=1),
        lambda: memory.erase("unknown"),
    ):
        with pytest.raises(NotFoundError):
            call()
    assert memory.erase(id).erased == 0
    assert memory.add("a secret", user_id="alice").status == "added"
    stats = memory.stats()
    assert (stats.records, stats.deleted) == (1, 0)


@pytest.mark.parametrize("settings", [Settings(), LARGE], ids=["small", "large"])
def test_erase_all_takes_everything_of_a_user_and_nothing_else(
    open_memory: Callable[..., Memory], store: Path, settings: Settings
) -> None:
    memory = open_memory(settings=settings)
    secret, public = token(), token()
    memory.add_many([f"{secret} note {n}" for n in range(30)], user_id="alice", agent_id="cook", run_id="r")
    deleted = memory.add(f"{secret} deleted", user_id="alice").id
    memory.delete(deleted)
    memory.add_many([f"{public} note {n}" for n in range(5)], user_id="bob", agent_id="cook")
    memory.add(f"{public} note of nobody", agent_id="cook")
    memory.search(secret, user_id="alice")
    memory.flush()
    report = memory.erase_all(user_id="alice")
    assert report.erased == 31
    memory.flush()
    assert files_with(store, secret[6:].encode()) == []
    assert memory.search("note", user_id="alice") == []
    assert len(memory.search("note", user_id="bob")) == 5
    assert len(memory.search("note")) == 1
    assert memory.verify().ok
    assert memory.erase_all(user_id="alice").erased == 0
