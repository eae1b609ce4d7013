"""Archives that are damaged, missing or out of reach: typed errors, nothing lost; ``verify`` tells."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive.servers import cloud, environment
from glacier.test_archiving import settings_of

from agentmem import Memory, Settings
from agentmem.archive.folder import FolderObjects
from agentmem.errors import (
    ArchiveCorruptError,
    ArchiveError,
    ArchiveKeyError,
    ArchiveUnavailableError,
    DiskFullError,
    ObjectNotFoundError,
)


def packs(folder: Path) -> list[Path]:
    return [path for path in (folder / "ice").rglob("packs/*") if path.is_file()]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("damage", "error"), [(flip, ArchiveCorruptError), (cut, ArchiveCorruptError), (Path.unlink, ObjectNotFoundError)]
)
@pytest.mark.parametrize(
    "what",
    ["packs", pytest.param("catalogue", marks=pytest.mark.slow), pytest.param("manifest", marks=pytest.mark.slow)],
)
def test_damage_is_told_and_an_older_copy_mends_it(
    open_memory: Callable[..., Memory],
    tmp_path: Path,
    what: str,
    damage: Callable[[Path], None],
    error: type[Exception],
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    id = memory.add("text", user_id="ana").id
    memory.tiers.archive(id)
    whole = {path: path.read_bytes() for path in (tmp_path / "ice").rglob("*") if path.is_file()}
    [path] = [path for path in whole if what in str(path.relative_to(tmp_path))]
    damage(path)
    memory.close()
    again = open_memory(settings=settings_of(tmp_path))
    with pytest.raises(error):
        again.get(id)
    with pytest.raises(error):
        again.tiers.rehydrate(id)
    [problem] = again.verify().problems
    assert problem.startswith("archive ")
    assert again.repair().problems  # there is no other copy
    path.write_bytes(whole[path])
    again.tiers.rehydrate(id)
    again.tiers.archive(id)
    [newer] = [other for other in (tmp_path / "ice").rglob("packs/*") if other.is_file() and other not in whole]
    flip(newer)
    assert again.verify().problems
    assert again.repair().problems == []
    record = again.get(id)
    assert record is not None
    assert (record.content, record.archived) == ("text", False)


def test_an_older_archive_stands_in_for_one_that_is_gone(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    id, given = memory.add("text", user_id="ana").id, memory.add("given", user_id="ana", vector=np.eye(32)[3]).id
    before = [each.vectors.tobytes() for each in memory.vectors([id, given]) if each is not None]
    memory.tiers.archive([id, given])
    memory.tiers.rehydrate([id, given])
    older = {path for path in (tmp_path / "ice").iterdir() if path.is_dir()}
    memory.tiers.archive([id, given])
    [newer] = {path for path in (tmp_path / "ice").iterdir() if path.is_dir()} - older
    shutil.rmtree(newer)
    memory.close()
    again = open_memory(settings=settings_of(tmp_path))
    assert {hit.content for hit in again.search("text", user_id="ana", include_glacier=True)} == {"text", "given"}
    assert again.verify().problems
    assert again.repair().problems == []
    assert [each.vectors.tobytes() for each in again.vectors([id, given]) if each is not None] == before


def test_another_master_key(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    from agentmem.archive.masterkey import new_master_key

    keys = {"encryption": f"file:{tmp_path / 'master.key'}", "keyring": str(tmp_path / "keys")}
    (tmp_path / "master.key").write_text(new_master_key())
    with Memory(tmp_path / "s", settings=settings_of(tmp_path, **keys)) as memory:
        id = memory.add("text", user_id="ana", vector=[1.0] + [0.0] * 255).id
        memory.tiers.archive(id)
    right = (tmp_path / "master.key").read_text()
    (tmp_path / "master.key").write_text(new_master_key())
    with Memory(tmp_path / "s", settings=settings_of(tmp_path, **keys)) as memory:
        with pytest.raises(ArchiveKeyError):
            memory.get(id)
        [problem] = memory.verify().problems
        assert "master key" in problem
    (tmp_path / "master.key").write_text(right)
    with Memory(tmp_path / "s", settings=settings_of(tmp_path, **keys)) as memory:
        record = memory.get(id)
        assert record is not None
        assert record.content == "text"


def test_keys_that_are_not_mounted(tmp_path: Path, open_memory: Callable[..., Memory]) -> None:
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    from agentmem.archive.masterkey import new_master_key

    keys = {"encryption": f"file:{tmp_path / 'master.key'}", "keyring": str(tmp_path / "keys")}
    (tmp_path / "master.key").write_text(new_master_key())
    memory = open_memory(settings=settings_of(tmp_path, **keys))
    first, second = memory.add("first", user_id="ana").id, memory.add("second", user_id="ana").id
    memory.tiers.archive(first)
    memory.close()
    (tmp_path / "keys").rename(tmp_path / "away")
    (tmp_path / "keys").mkdir()
    memory = open_memory(settings=settings_of(tmp_path, **keys))
    with pytest.raises(ArchiveKeyError, match="was sealed with the keyring"):
        memory.tiers.archive(second)
    assert "archives" in memory.erase(first).pending
    memory.close()
    shutil.rmtree(tmp_path / "keys")
    (tmp_path / "away").rename(tmp_path / "keys")
    memory = open_memory(settings=settings_of(tmp_path, **keys))
    assert memory.tiers.archive(second).archived == 1
    record = memory.get(second)
    assert record is not None
    assert (record.content, record.archived) == ("second", True)
    assert memory.verify().problems == []


@pytest.mark.parametrize("most", range(5))
def test_an_upload_that_breaks_off_leaves_nothing(
    open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    id = memory.add("text", user_id="ana").id
    left, real = [most], FolderObjects.create

    def full(self: FolderObjects, key: str, data: bytes) -> Any:
        if not left[0]:
            raise DiskFullError("no space left")
        left[0] -= 1
        return real(self, key, data)

    monkeypatch.setattr(FolderObjects, "create", full)
    if most < 4:
        with pytest.raises(DiskFullError):
            memory.tiers.archive(id)
    else:
        memory.tiers.archive(id)
    monkeypatch.setattr(FolderObjects, "create", real)
    record = memory.get(id)
    assert record is not None
    assert (record.content, record.archived) == ("text", most >= 4)
    assert bool(packs(tmp_path)) == (most >= 4)
    assert memory.verify().problems == []


def test_what_is_read_back_is_compared(
    open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    id, real = memory.add("text", user_id="ana").id, FolderObjects.create

    def lying(self: FolderObjects, key: str, data: bytes) -> Any:
        return real(self, key, data[:-1] + b"x" if "packs" in key else data)

    monkeypatch.setattr(FolderObjects, "create", lying)
    with pytest.raises(ArchiveCorruptError):
        memory.tiers.archive(id)
    record = memory.get(id)
    assert record is not None
    assert not record.archived
    assert not packs(tmp_path)


@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_in_a_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_memory: Callable[..., Memory], kind: str
) -> None:
    pytest.importorskip("obstore", reason="obstore is not installed")
    with cloud(kind, tmp_path, "ice") as (url, port):
        for name, value in environment(kind, port).items():
            if name != "AWS_REGION":
                monkeypatch.setenv(name, value)
        region = {"region": "eu-central-1"} if kind == "s3" else {}
        glacier = {"url": f"{url}ice", "prefix": "old/ones", **region}
        memory = open_memory(settings=Settings(glacier=glacier))
        ids = [one.id for one in memory.add_many([f"text {n}" for n in range(20)], user_id="ana")]
        report = memory.tiers.archive(user_id="ana")
        assert (report.archived, report.archives) == (20, 1)
        record = memory.get(ids[3])
        assert record is not None
        assert record.content == "text 3"
        memory.erase(ids[3])
        assert memory.tiers.rehydrate(ids[:3]) == 3
        assert memory.verify().problems == []
        assert (memory.tiers.stats()["glacier"].requests or 0) > 10


def unreachable(*_: object) -> bytes:
    raise ArchiveUnavailableError("down")


def test_out_of_reach(open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    id = memory.add("text", user_id="ana").id
    memory.tiers.archive(id)
    with monkeypatch.context() as patch:
        for name in ("get", "read", "list", "create"):
            patch.setattr(FolderObjects, name, unreachable)
        with pytest.raises(ArchiveUnavailableError):
            memory.tiers.rehydrate(id)
        with pytest.raises(ArchiveError):
            memory.get(id)
        [problem] = memory.verify().problems
        assert "cannot be read" in problem
        assert memory.repair().problems
        assert memory.search("text", user_id="ana") == []
    record = memory.get(id)
    assert record is not None
    assert record.content == "text"
    assert memory.repair().problems == []
