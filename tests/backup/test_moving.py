"""Users taken elsewhere: the same ids, times, history and hits, however often it is begun, and nothing of others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from backup.test_backups import QUIET, grep, lived
from conftest import FakeClock, HashEmbedder

import agentmem
from agentmem import (
    ALL,
    AsyncMemory,
    InvalidInputError,
    Memory,
    ModelMismatchError,
    NotFoundError,
    ScopeError,
    Settings,
    StoreLockedError,
)
from agentmem.errors import ArchiveKeyError


class Other(HashEmbedder):
    name = "another"


@pytest.fixture
def memory(open_memory: Callable[..., Memory], clock: FakeClock) -> Memory:
    memory = open_memory(settings=QUIET)
    lived(memory, clock)
    return memory


@pytest.fixture
def target(open_memory: Callable[..., Memory], clock: FakeClock, tmp_path: Path) -> Memory:
    """Another store, in which rows, names and events have other numbers."""
    target = open_memory(tmp_path / "target", settings=QUIET)
    target.add_many([f"something else {n}" for n in range(7)], user_id="zoe", agent_id="cook", run_id="r9")
    target.add("ben was here before", user_id="ben")
    clock.advance(3_600)
    return target


def told(memory: Memory, user: Any) -> Iterator[Any]:
    """What a store says of a user, numbers of events aside."""
    for record in sorted(memory.iterate(user_id=user), key=lambda record: record.id):
        [vectors] = memory.vectors([record.id])
        assert vectors is not None
        held = [vector.round(6).tolist() for vector in vectors.vectors]
        history = [(event.event, event.at, event.version, event.data) for event in memory.history(record.id)]
        yield record, vectors.embedding, vectors.texts, held, history


def test_a_user_is_found_there_as_here(memory: Memory, target: Memory, tmp_path: Path) -> None:
    made = memory.export(tmp_path / "ana", user_id="ana", description="for the road")
    assert (made.kind, made.description) == ("export", "for the road")
    report = target.import_(tmp_path / "ana")
    assert (report.added, report.present, report.embedded) == (made.records, 0, 0)
    assert (report.taken_ids, report.taken_keys) == ((), ())
    assert list(told(target, "ana")) == list(told(memory, "ana"))
    assert target.verify().problems == []
    for query in ("harbour lights", "windmill", "form", "likes blue"):
        for mode in ("hybrid", "vector", "keyword"):
            expected = memory.search(query, user_id="ana", mode=mode, under=(), limit=20)
            found = target.search(query, user_id="ana", mode=mode, under=(), limit=20)
            assert [hit.id for hit in found] == [hit.id for hit in expected]
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-6)
    key = memory.get(key="colours", user_id="ana", namespace=("likes", "much"))
    assert key is not None
    assert target.get(key="colours", user_id="ana", namespace=("likes", "much")) == key
    assert target.get(key="form", user_id="nobody") is None
    assert target.stats().deleted == memory.stats().deleted
    events = target.stats().events
    again = target.import_(tmp_path / "ana")
    assert (again.added, again.present) == (0, made.records)
    assert target.stats().events == events
    assert target.count(user_id="zoe") == 7
    target.lifecycle.sweep()
    assert target.verify().problems == []


def test_everybody_and_nobody(memory: Memory, target: Memory, tmp_path: Path) -> None:
    nobodys = memory.export(tmp_path / "nobody", user_id=None).records
    assert target.import_(tmp_path / "nobody").added == nobodys == 3
    assert target.count(under=()) == memory.count(under=()) == 2  # one has expired
    memory.export(tmp_path / "all")
    report = target.import_(tmp_path / "all")
    assert report.present == nobodys
    for user in ("ana", None):
        assert list(told(target, user)) == list(told(memory, user))
    assert target.count(user_id="ben") == memory.count(user_id="ben") + 1
    assert target.verify().problems == []
    assert agentmem.restore(tmp_path / "all", tmp_path / "again").records >= memory.count(user_id=ALL)


def test_of_others_an_export_tells_nothing(memory: Memory, tmp_path: Path, clock: FakeClock) -> None:
    memory.add("a token of ben's", user_id="ben", run_id="r-of-ben")
    memory.erase(memory.add("a token that was erased", user_id="ana").id)
    memory.export(tmp_path / "ana", user_id="ana")
    agentmem.restore(tmp_path / "ana", tmp_path / "again")
    with Memory(tmp_path / "again", settings=QUIET, embedder=HashEmbedder(), clock=clock) as again:
        assert again.count(user_id=ALL, under=()) == memory.count(user_id="ana", under=())
        assert again.verify().problems == []
        names = [value for (value,) in again.handle.engine().repository.db.execute("SELECT value FROM names")]
        assert {"ben", "eve", "cook"}.isdisjoint(names)
        assert again.erasures(user_id="eve") == []
    assert grep([tmp_path / "again"], b"a token") == []


def test_into_a_store_of_another_model(memory: Memory, open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    memory.export(tmp_path / "ana", user_id="ana")
    other = open_memory(tmp_path / "other", embedder=Other(), settings=QUIET)
    report = other.import_(tmp_path / "ana")
    assert report.embedded == report.added > 30
    assert other.verify().problems == []
    assert [hit.id for hit in other.search("windmill", user_id="ana", limit=1)] == [
        hit.id for hit in memory.search("windmill", user_id="ana", limit=1)
    ]
    memory.add("given", user_id="given", vector=[1.0] * 32)
    memory.export(tmp_path / "given", user_id="given")
    with pytest.raises(ModelMismatchError, match="were given for"):
        other.import_(tmp_path / "given")
    assert other.count(user_id="given") == 0


def test_what_is_taken_is_left_out_and_told(memory: Memory, target: Memory, tmp_path: Path) -> None:
    mine = memory.add("mine", user_id="ana", id="one").id
    keyed = memory.put("colour", "mine", user_id="ana").id
    target.add("another's", user_id="zoe", id="one")
    target.put("colour", "here already", user_id="ana")
    memory.export(tmp_path / "ana", user_id="ana")
    report = target.import_(tmp_path / "ana")
    assert (report.taken_ids, report.taken_keys) == ((mine,), (keyed,))
    assert target.get(mine).content == "another's"  # pyright: ignore[reportOptionalMemberAccess]
    assert target.get(key="colour", user_id="ana").content == "here already"  # pyright: ignore[reportOptionalMemberAccess]
    assert target.verify().problems == []


def test_an_import_that_was_broken_off_goes_on(
    memory: Memory, target: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.add_many([f"many {n}" for n in range(500)], user_id="ana")
    made = memory.export(tmp_path / "ana", user_id="ana")
    calls = list[int]()

    def broken(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:  # also where a transaction that others take part in is replayed
            raise KeyboardInterrupt
        return take(*arguments, **options)

    from agentmem.backup import moving
    from agentmem.stores.merging import take

    with monkeypatch.context() as patch:
        patch.setattr(moving, "take", broken)
        with pytest.raises(KeyboardInterrupt):
            target.import_(tmp_path / "ana")
    report = target.import_(tmp_path / "ana")
    assert report.added + report.present == made.records
    assert report.present == 200
    assert list(told(target, "ana")) == list(told(memory, "ana"))


def test_moments_before_an_import_come_back_without_it(
    memory: Memory, target: Memory, tmp_path: Path, clock: FakeClock, open_memory: Callable[..., Memory]
) -> None:
    memory.export(tmp_path / "ana", user_id="ana")
    target.close()
    chosen = Settings(backup={"url": str(tmp_path / "backups")}, lifecycle=QUIET.lifecycle)
    target = open_memory(tmp_path / "target", settings=chosen)
    target.backup.create()
    before = clock() - timedelta(seconds=1)
    clock.advance(60)
    moved = target.import_(tmp_path / "ana").added
    target.erase(next(target.iterate(user_id="ana")).id)
    clock.advance(60)
    after = clock()
    target.add("after it", user_id="zoe")
    made = target.backup.create("incremental")
    assert target.backup.verify().ok
    assert agentmem.restore(tmp_path / "backups", tmp_path / "before", at=before).records == 8
    restored = agentmem.restore(tmp_path / "backups", tmp_path / "after", at=after - timedelta(seconds=1))
    assert restored.records == 8 + moved
    assert open_memory(tmp_path / "after", settings=chosen).verify().problems == []
    assert agentmem.restore(tmp_path / "backups", tmp_path / "now").seq == made.seq


def test_sealed(memory: Memory, target: Memory, tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    from agentmem.archive.masterkey import new_master_key

    (tmp_path / "master.key").write_text(new_master_key())
    sealed = {"encryption": f"file:{tmp_path / 'master.key'}", "keyring": str(tmp_path / "keys")}
    memory.export(tmp_path / "ana", user_id="ana", **sealed)
    with pytest.raises(ArchiveKeyError):
        target.import_(tmp_path / "ana")
    assert target.import_(tmp_path / "ana", **sealed).added > 30
    assert list(told(target, "ana")) == list(told(memory, "ana"))


def test_what_is_refused(memory: Memory, target: Memory, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nothing is stored for the user 'nobody'"):
        memory.export(tmp_path / "nobody", user_id="nobody")
    assert not (tmp_path / "nobody").exists()
    with pytest.raises(NotFoundError, match="there are no backups"):
        target.import_(tmp_path / "nowhere")
    for call in (memory.export, target.import_):
        with pytest.raises(InvalidInputError):
            call(tmp_path / "x", user_id=3)  # pyright: ignore[reportArgumentType]
        with pytest.raises(ScopeError):
            getattr(memory.scoped(user_id="ana"), call.__name__)(tmp_path / "x")
    assert target.import_(memory.export(tmp_path / "ana", user_id="ana") and tmp_path / "ana").added


def test_async(memory: Memory, tmp_path: Path) -> None:
    async def main() -> None:
        memory.export(tmp_path / "ana", user_id="ana")
        async with AsyncMemory(tmp_path / "async", settings=QUIET, embedder=HashEmbedder()) as other:
            assert (await other.import_(tmp_path / "ana")).added
            assert (await other.export(tmp_path / "further", user_id="ana")).records

    asyncio.run(main())


# -- a user of a store that is in use ----------------------------------------------------------------------------------


@pytest.fixture
def backed_up(open_memory: Callable[..., Memory], tmp_path: Path) -> Memory:
    return open_memory(settings=Settings(backup={"url": str(tmp_path / "backups")}, lifecycle=QUIET.lifecycle))


def texts(memory: Memory, user: str = "ana") -> list[str]:
    return sorted(record.content for record in memory.iterate(user_id=user))


def test_a_user_comes_back_and_nobody_else(backed_up: Memory, clock: FakeClock) -> None:
    memory = backed_up
    gone, changed, stays = (memory.add(text, user_id="ana").id for text in ("gone", "changed", "stays"))
    keyed = memory.put("colour", "blue", user_id="ana", data={"n": 1}).id
    erased = memory.add("erased", user_id="ana").id
    other = memory.add("ben's", user_id="ben").id
    moment = clock()
    made = memory.backup.create()
    clock.advance(60)
    memory.delete_many([gone, other, keyed])
    memory.erase(erased)
    memory.update(changed, content="changed since", data={"more": [1]})
    memory.add("new", user_id="ana")
    memory.add("ben's new", user_id="ben")
    report = memory.backup.restore_user("ana", id=made.id)
    assert (report.added, report.restored, report.present, report.changed) == (0, 2, 1, (changed,))
    assert texts(memory) == ["blue", "changed since", "gone", "new", "stays"]
    assert texts(memory, "ben") == ["ben's new"]
    assert [event.event for event in memory.history(gone)] == ["ADD", "DELETE", "RESTORE"]
    assert memory.get(keyed).data == {"n": 1}  # pyright: ignore[reportOptionalMemberAccess]
    again = memory.backup.restore_user("ana", at=moment, overwrite=True)
    assert (again.restored, again.changed) == (1, ())
    record = memory.get(changed)
    assert record is not None
    assert (record.content, record.data) == ("changed", None)
    assert memory.search("gone", user_id="ana")[0].id == gone
    assert memory.get(stays) is not None
    assert memory.verify().problems == []
    assert memory.backup.create("incremental").kind == "incremental"
    assert memory.backup.verify().problems == []


def test_a_key_that_is_taken_by_now(backed_up: Memory) -> None:
    memory = backed_up
    old = memory.put("colour", "blue", user_id="ana").id
    made = memory.backup.create()
    memory.delete(old)
    memory.put("colour", "green", user_id="ana")
    report = memory.backup.restore_user("ana", id=made.id)
    assert (report.restored, report.taken_keys) in ((0, (old,)), (0, ()))
    assert texts(memory) == ["green"]


def test_one_at_a_time(backed_up: Memory) -> None:
    memory = backed_up
    memory.add("one", user_id="ana")
    memory.backup.create()

    def again(*_: int) -> None:
        with pytest.raises(StoreLockedError, match="or imported"):
            memory.backup.restore_user("ana")

    memory.backup.restore_user("ana", progress=again)
    for user in (3, ALL):
        with pytest.raises(InvalidInputError):
            memory.backup.restore_user(user)  # pyright: ignore[reportArgumentType]
