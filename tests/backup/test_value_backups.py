"""Backups, moments, exports and salvage have values as they have records."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FakeClock, HashEmbedder
from inspecting import files_with

import agentmem
from agentmem import Memory, Settings, StoreCorruptError, StoreError
from agentmem.stores import chunkfiles
from agentmem.stores.chunkfiles import ChunkFiles

MB = 1_048_576


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def memory(open_memory: Callable[..., Memory], place: Path) -> Memory:
    return open_memory(settings=Settings(backup={"url": str(place)}))


def restored(place: Path, into: Path, open_memory: Callable[..., Memory], **which: object) -> Memory:
    agentmem.restore(str(place), into, **which)  # pyright: ignore
    return open_memory(into)


def test_a_backup_has_them(memory: Memory, place: Path, tmp_path: Path, open_memory: Callable[..., Memory]) -> None:
    array = np.arange(300_000)
    memory.values.put("large", array, user_id="ana")
    memory.values.put("small", {"a": 1}, user_id="ana", namespace=("desk",))
    memory.values.put("nobody's", noise(MB))
    memory.backup.create()
    memory.values.put("small", {"a": 2}, user_id="ana", namespace=("desk",))
    memory.values.put("later", noise(MB, 1), user_id="ana")
    memory.values.put("copy", array, user_id="ana")
    memory.values.put("gone", noise(MB, 2), user_id="ana")
    memory.values.erase("gone", user_id="ana")
    memory.backup.create("incremental")
    assert memory.backup.verify().ok
    there = restored(place, tmp_path / "there", open_memory)
    assert np.array_equal(there.values.get("large", user_id="ana"), array)
    assert np.array_equal(there.values.get("copy", user_id="ana"), array)
    assert there.values.get("small", user_id="ana", namespace=("desk",)) == {"a": 2}
    assert there.values.get("later", user_id="ana") == noise(MB, 1)
    assert there.values.get("nobody's") == noise(MB)
    assert there.values.get("gone", user_id="ana") is None
    assert there.verify().problems == []
    assert there.values.usage().bytes == memory.values.usage().bytes
    there.values.put("large", noise(MB, 5), user_id="ana")
    assert there.values.restore("large", 1, user_id="ana").kind == "array"
    assert np.array_equal(there.values.get("large", user_id="ana"), array)


def test_an_increment_has_what_is_new_alone(memory: Memory, place: Path) -> None:
    memory.values.put("k", noise(3 * MB))
    memory.backup.create()
    memory.values.put("same", noise(3 * MB))
    second = memory.backup.create("incremental")
    assert second.kind == "incremental"
    assert second.bytes < MB
    memory.values.put("new", noise(MB, 1))
    assert MB < memory.backup.create("incremental").bytes < 2 * MB


def test_a_value_that_is_packed_anew_meanwhile(
    open_memory: Callable[..., Memory], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(
        backup={"url": str(place)}, glacier={"url": str(tmp_path / "ice")}, values={"compression": "none"}
    )
    memory = open_memory(settings=settings)
    half = bytes(each & 15 for each in noise(MB))
    read = ChunkFiles.read

    def packing(self: ChunkFiles, name: str) -> bytes:
        with monkeypatch.context() as inside:
            inside.setattr(ChunkFiles, "read", read)
            memory.values.compress("k")
        return read(self, name)

    def meanwhile(call: Callable[[], Any]) -> Any:
        memory.values.put("k", half)
        with monkeypatch.context() as patch:
            patch.setattr(ChunkFiles, "read", packing)
            made = call()
        assert memory.values.usage().stored < 0.6 * MB
        return made

    meanwhile(memory.backup.create)
    there = restored(place, tmp_path / "there", open_memory)
    assert there.values.get("k") == half
    assert there.verify().ok
    memory.values.erase("k")
    assert meanwhile(memory.verify).problems == []
    memory.values.erase("k")
    assert meanwhile(lambda: memory.values.move("k", "glacier")).tier == "glacier"
    assert memory.values.get("k") == half


def test_a_moment(
    memory: Memory, place: Path, tmp_path: Path, clock: FakeClock, open_memory: Callable[..., Memory]
) -> None:
    moments = list[object]()
    bodies = [noise(MB), b"small", noise(MB, 2), noise(MB), {"n": 5}]
    for n, body in enumerate(bodies):
        memory.values.put("k", body)
        memory.values.put(f"only-{n}", noise(100_000, n))
        moments.append(clock())
        clock.advance(60)
        if n in (0, 2):
            memory.backup.create("incremental" if n else "full")
            memory.values.erase("only-0") if not n else None
    memory.values.delete("k")
    memory.compact()
    memory.backup.create("incremental")
    for n, body in enumerate(bodies):
        there = restored(place, tmp_path / f"at-{n}", open_memory, at=moments[n])
        assert there.values.get("k") == body
        assert there.values.get("only-0") is None
        assert there.values.exists(f"only-{n + 1}") is False
        assert not n or there.values.get(f"only-{n}") == noise(100_000, n)
        assert there.verify().problems == []


def test_restoring_in_place(memory: Memory, store: Path) -> None:
    memory.values.put("k", noise(MB), user_id="ana")
    snapshot = memory.create_snapshot("before")
    memory.values.put("k", noise(MB, 1), user_id="ana")
    memory.values.put("new", noise(MB, 2), user_id="ana")
    memory.restore_snapshot(snapshot)
    assert memory.values.get("k", user_id="ana") == noise(MB)
    assert memory.values.get("new", user_id="ana") is None
    assert memory.verify().problems == []
    assert len([path for path in (store / "values").rglob("*") if path.is_file()]) == 1


def test_what_was_erased_is_in_no_store_that_is_made(
    memory: Memory, place: Path, tmp_path: Path, open_memory: Callable[..., Memory]
) -> None:
    memory.values.put("k", b"aTOKENvalue" * 30_000)
    memory.backup.create()
    assert "backups" in memory.values.erase("k").pending
    memory.backup.create("incremental")
    there = restored(place, tmp_path / "there", open_memory)
    there.compact()
    assert there.values.usage().chunks == 0
    assert files_with(tmp_path / "there", "TOKEN") == {}


def test_an_export_of_one_user(
    memory: Memory, tmp_path: Path, clock: FakeClock, open_memory: Callable[..., Memory]
) -> None:
    memory.values.put("k", noise(MB), user_id="ana")
    memory.values.put("k", {"n": 2}, user_id="ana")
    memory.values.put("k", noise(MB, 1), user_id="ana")
    memory.values.put("k", b"ruiTOKEN" * 50_000, user_id="rui")
    memory.export(tmp_path / "out", user_id="ana")
    assert files_with(tmp_path / "out", "ruiTOKEN") == {}
    other = open_memory(tmp_path / "other")
    other.values.put("mine", noise(MB, 1), user_id="ana")
    other.values.put("k", noise(MB, 7), user_id="zoe")
    report = other.import_(tmp_path / "out", user_id="ana")
    assert report.added == 1
    assert other.values.get("k", user_id="ana") == noise(MB, 1)
    assert other.values.get("k", user_id="zoe") == noise(MB, 7)
    assert other.values.usage().bytes == 3 * MB + len('{"n":2}')
    assert other.values.restore("k", 2, user_id="ana").kind == "json"
    assert other.values.get("k", user_id="ana") == {"n": 2}
    assert other.values.restore("k", 1, user_id="ana").version == 5
    assert other.values.get("k", user_id="ana") == noise(MB)
    assert other.verify().problems == []
    assert other.import_(tmp_path / "out", user_id="ana").present == 1
    assert memory.verify().ok


def test_one_user_of_a_backup_comes_back(memory: Memory) -> None:
    memory.values.put("k", noise(MB), user_id="ana")
    memory.values.put("changed", noise(MB, 1), user_id="ana")
    memory.backup.create()
    memory.values.delete("k", user_id="ana")
    memory.values.put("changed", noise(MB, 2), user_id="ana")
    memory.backup.restore_user("ana", overwrite=True)
    assert memory.values.get("k", user_id="ana") == noise(MB)
    assert memory.values.get("changed", user_id="ana") == noise(MB, 1)
    assert memory.verify().problems == []


def test_a_damaged_value_holds_no_backup_up(
    memory: Memory, store: Path, place: Path, tmp_path: Path, open_memory: Callable[..., Memory]
) -> None:
    info = memory.values.put("bad", noise(MB))
    memory.values.put("good", noise(MB, 1))
    [first, *_] = sorted(path for path in (store / "values").rglob("*") if path.is_file())
    first.write_bytes(b"nonsense")
    memory.backup.create()
    there = restored(place, tmp_path / "there", open_memory)
    named = [problem for problem in there.verify().problems if "value of record" in problem]
    assert len(named) == 1
    broken = "bad" if info.id in named[0] else "good"
    with pytest.raises(StoreCorruptError):
        there.values.get(broken)
    other = {"bad": "good", "good": "bad"}[broken]
    assert there.values.get(other) == noise(MB, int(other == "good"))
    memory.values.put("bad", noise(MB))
    memory.values.put("good", noise(MB, 1))
    memory.backup.create("incremental")
    mended = restored(place, tmp_path / "mended", open_memory)
    assert mended.values.get("bad") == noise(MB)
    assert mended.values.get("good") == noise(MB, 1)
    assert mended.verify().ok


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The system opens no files of values."""

    def opened(path: Path, *args: Any, **more: Any) -> Any:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(chunkfiles, "open", opened, raising=False)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EACCES, errno.ENOMEM])
def test_what_cannot_be_opened_now_is_not_left_out(
    memory: Memory,
    place: Path,
    tmp_path: Path,
    open_memory: Callable[..., Memory],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    info = memory.values.put("k", noise(MB))
    with monkeypatch.context() as refusing:
        refuse(refusing, number)
        for call in (memory.backup.create, memory.create_snapshot, lambda: memory.export(tmp_path / "bag")):
            with pytest.raises(StoreError, match=os.strerror(number)) as caught:
                call()
            assert not isinstance(caught.value, StoreCorruptError)
        with pytest.raises(StoreError, match=os.strerror(number)) as caught:
            memory.values.get("k")
        assert not isinstance(caught.value, StoreCorruptError)
        [problem] = memory.verify().problems
        assert info.id in problem
        assert os.strerror(number) in problem
    assert memory.backup.list() == []
    memory.backup.create()
    assert restored(place, tmp_path / "there", open_memory).values.get("k") == noise(MB)
    memory.values.put("later", noise(MB, 1))
    with monkeypatch.context() as refusing:
        refuse(refusing, number)
        with pytest.raises(StoreError, match=os.strerror(number)):
            memory.backup.create("incremental")
    memory.backup.create("incremental")
    assert restored(place, tmp_path / "again", open_memory).values.get("later") == noise(MB, 1)
    assert memory.verify().ok


def test_what_the_disk_cannot_read_is_damaged(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.values.put("k", noise(MB))
    with monkeypatch.context() as refusing:
        refuse(refusing, errno.EIO)
        memory.backup.create()
        with pytest.raises(StoreCorruptError):
            memory.values.get("k")


def test_a_sealed_backup(open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cryptography")
    monkeypatch.setenv("MASTER", "00" * 32)
    settings = Settings(
        backup={"url": str(tmp_path / "b"), "encryption": "env:MASTER", "keyring": str(tmp_path / "keys")}
    )
    memory = open_memory(settings=settings)
    memory.values.put("k", b"aTOKENvalue" * 30_000, user_id="ana")
    memory.values.put("k", noise(MB), user_id="rui")
    memory.backup.create()
    assert files_with(tmp_path / "b", "TOKEN") == {}
    memory.erase_all(user_id="ana")
    agentmem.restore(str(tmp_path / "b"), tmp_path / "there", encryption="env:MASTER", keyring=str(tmp_path / "keys"))
    there = open_memory(tmp_path / "there")
    assert there.values.get("k", user_id="rui") == noise(MB)
    assert there.values.get("k", user_id="ana") is None
    assert there.verify().ok


def test_salvage(open_memory: Callable[..., Memory], store: Path) -> None:
    memory = open_memory()
    memory.values.put("large", noise(MB), user_id="ana")
    memory.values.put("small", [1, 2], user_id="ana")
    assert memory.repair(salvage=True).problems == []
    assert memory.values.get("large", user_id="ana") == noise(MB)
    assert memory.values.get("small", user_id="ana") == [1, 2]
    assert memory.verify().ok
    memory.values.put("more", noise(MB, 1), user_id="ana")
    memory.close()
    with Memory(store, embedder=HashEmbedder()) as again:
        assert again.values.get("more", user_id="ana") == noise(MB, 1)
