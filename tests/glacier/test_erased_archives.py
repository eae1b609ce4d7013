"""What is erased leaves the archives, too: nothing that the store or its archives still have tells of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from archive.killed import unfinished
from conftest import FakeClock
from glacier.test_archiving import SECRET, settings_of

import agentmem
from agentmem import Memory
from agentmem.archive.folder import FolderObjects
from agentmem.archive.home import open_place
from agentmem.archive.reading import ArchiveReader
from agentmem.errors import ArchiveKeyError, ArchiveUnavailableError, DiskFullError
from agentmem.glacier import burying, writing
from agentmem.glacier.bodies import TABLE
from agentmem.stores.folder import ARCHIVE_LOCK


@pytest.fixture
def sealing(tmp_path: Path) -> dict[str, str]:
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    from agentmem.archive.masterkey import new_master_key

    (tmp_path / "master.key").write_text(new_master_key())
    return {"encryption": f"file:{tmp_path / 'master.key'}", "keyring": str(tmp_path / "keys")}


def everything(folder: Path, sealing: dict[str, str]) -> Iterator[tuple[Path, bytes]]:
    """Every byte of store and archives, the archives also as what can be read of them with all keys that are left."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, path.read_bytes()
    place = open_place(str(folder / "ice"), sealing.get("encryption"), sealing.get("keyring"), read_only=True)
    for info in FolderObjects(folder / "ice").list():
        if info.key.endswith("/manifest"):
            reader = ArchiveReader(place.objects, info.key.removesuffix("/manifest"), keyring=place.keyring)
            for block in reader.read(TABLE.name):
                yield folder / "ice" / info.key, repr(block.rows).encode()


def holding(folder: Path, text: str, sealing: dict[str, str]) -> list[Path]:
    return [path for path, data in everything(folder, sealing) if text.encode() in data]


def test_where_archives_cannot_be_locked_the_rest_goes_at_once(
    open_memory: Callable[..., Memory], tmp_path: Path
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    id, other = (memory.add(f"{SECRET} {n}", user_id="ana").id for n in range(2))
    memory.tiers.archive([id, other])
    lock = memory.handle.path / ARCHIVE_LOCK
    lock.unlink()
    lock.mkdir()
    report = memory.erase(id)
    assert (report.erased, "archives" in report.pending, "write-ahead log" in report.pending) == (1, True, False)
    assert holding(tmp_path, f"{SECRET} 0", {})
    lock.rmdir()
    assert "archives" not in memory.erase(other).pending
    memory.flush()
    assert holding(tmp_path, SECRET, {}) == []


@pytest.mark.parametrize(("sealed", "back"), [(False, True), (True, False)])
def test_one_record(
    open_memory: Callable[..., Memory], tmp_path: Path, sealing: dict[str, str], sealed: bool, back: bool
) -> None:
    keys = sealing if sealed else {}
    memory = open_memory(settings=settings_of(tmp_path, **keys))
    id = memory.add(SECRET, user_id="ana", data={"also": SECRET}).id
    others = [memory.add(f"text {n}", user_id=user).id for n, user in enumerate(["ana", "ben"] * 3)]
    memory.tiers.archive([id, *others])
    if back:  # the archive still has a copy
        memory.tiers.rehydrate([id, others[0]])
    assert holding(tmp_path / "ice", SECRET, {}) == [] if sealed else True
    assert any("ice" not in str(path) for path in holding(tmp_path, SECRET, keys))
    report = memory.erase(id)
    assert report.erased == 1
    assert "archives" not in report.pending
    memory.flush()
    memory.compact()
    assert holding(tmp_path, SECRET, keys) == []
    for n, other in enumerate(others):
        record = memory.get(other)
        assert record is not None
        assert record.content == f"text {n}"
    assert memory.verify().problems == []


def test_older_copies_of_sealed_archives_are_shut_where_records_were_erased_one_by_one(
    open_memory: Callable[..., Memory], tmp_path: Path, sealing: dict[str, str]
) -> None:
    memory = open_memory(settings=settings_of(tmp_path, **sealing))
    id = memory.add(SECRET, user_id="ana").id
    memory.tiers.archive([id, memory.add("ben's", user_id="ben").id])
    shutil.copytree(tmp_path / "ice", tmp_path / "older")
    memory.erase(id)
    shutil.copytree(tmp_path / "older", tmp_path / "ice", dirs_exist_ok=True)
    assert holding(tmp_path, SECRET, sealing)
    list_of = FolderObjects.list

    def unreachable(objects: FolderObjects, folder: str = "") -> Any:
        if objects.url == str(tmp_path / "keys"):
            raise ArchiveUnavailableError("the disk with the keys does not answer")
        return list_of(objects, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FolderObjects, "list", unreachable)
        assert "archives" in memory.erase_all(user_id="ana").pending
    assert "archives" not in memory.erase_all(user_id="ana").pending
    memory.flush()
    memory.compact()
    assert holding(tmp_path, SECRET, sealing) == []
    assert memory.verify().problems == []


@pytest.mark.parametrize("sealed", [False, True])
def test_a_user(open_memory: Callable[..., Memory], tmp_path: Path, sealing: dict[str, str], sealed: bool) -> None:
    keys = sealing if sealed else {}
    memory = open_memory(settings=settings_of(tmp_path, **keys))
    for n in range(3):
        memory.add(f"{SECRET} {n}", user_id="ana")
    other = memory.add("ben's", user_id="ben").id
    memory.tiers.archive(user_id="ana")
    memory.tiers.archive(user_id="ben")
    before = {path: path.read_bytes() for path in (tmp_path / "ice").rglob("*") if path.is_file()}
    report = memory.erase_all(user_id="ana")
    assert (report.erased, {*report.pending} - {"lancedb"}) == (3, {"ids"})
    memory.compact()
    assert holding(tmp_path, SECRET, keys) == []
    record = memory.get(other)
    assert record is not None
    assert record.content == "ben's"
    if sealed:  # a copy that somebody has made of the bucket is of no use either
        for path, data in before.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        assert holding(tmp_path, SECRET, keys) == []
    memory.add("back again", user_id="ana")
    memory.tiers.archive(user_id="ana")
    assert [record.content for record in memory.page(user_id="ana", archived=True).records] == ["back again"]
    assert memory.verify().problems == []


def test_a_place_that_is_away_is_told_of_and_caught_up_with(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    id, other = memory.add(SECRET, user_id="ana").id, memory.add("other", user_id="ana").id
    memory.tiers.archive([id, other])
    ice = tmp_path / "ice"
    ice.rename(tmp_path / "away")
    ice.mkdir()  # as where a disk is not mounted
    assert "archives" in memory.erase(id).pending
    assert not memory.repair().ok
    memory.lifecycle.sweep()
    ice.rename(tmp_path / "nothing")
    (tmp_path / "away").rename(ice)
    memory.lifecycle.sweep()
    memory.compact()
    assert holding(tmp_path, SECRET, {}) == []
    record = memory.get(other)
    assert record is not None
    assert record.content == "other"
    assert memory.repair().problems == []


class Killed(BaseException):
    pass


@pytest.mark.parametrize("point", ["write", "_note", "_remove", "_done"])
@pytest.mark.parametrize("after", [pytest.param(False, marks=pytest.mark.slow), True])
def test_broken_off_anywhere_it_is_completed(
    open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, after: bool
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    id, other = memory.add(SECRET, user_id="ana").id, memory.add("other", user_id="ana").id
    memory.tiers.archive([id, other])
    real = getattr(burying, point)

    def killed(*args: Any, **more: Any) -> Any:
        if after:
            real(*args, **more)
        raise Killed

    monkeypatch.setattr(burying, point, killed)
    with pytest.raises(Killed):
        memory.erase(id)
    monkeypatch.setattr(burying, point, real)
    record = memory.get(other)
    assert record is not None
    assert record.content == "other"
    memory.add("something else", user_id="ana")
    memory.lifecycle.sweep()
    memory.compact()
    assert holding(tmp_path, SECRET, {}) == []
    assert memory.verify().problems == []
    assert len({path.parent for path in (tmp_path / "ice").rglob("manifest")}) == 1


def kill_archiving(memory: Memory, monkeypatch: pytest.MonkeyPatch, id: str) -> None:
    """An archive is written, and its writer killed before the store lets go of what is in it."""

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(writing, "commit", killed)
        patch.setattr(writing.burying, "discard", killed)
        with pytest.raises(Killed):
            memory.tiers.archive(id)


@pytest.mark.parametrize("sealed", [False, True])
def test_what_killed_writers_have_left_goes_with_what_is_erased(
    open_memory: Callable[..., Memory],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sealing: dict[str, str],
    sealed: bool,
) -> None:
    keys = sealing if sealed else {}
    memory = open_memory(settings=settings_of(tmp_path, **keys))
    id, other = memory.add(SECRET, user_id="ana").id, memory.add("other", user_id="ana").id
    kill_archiving(memory, monkeypatch, id)
    assert any("ice" in str(path) for path in holding(tmp_path, SECRET, keys))
    memory.erase(other)
    assert not list((tmp_path / "ice").rglob("manifest"))
    kill_archiving(memory, monkeypatch, id)
    report = memory.erase(id)
    assert "archives" not in report.pending
    memory.compact()
    assert holding(tmp_path, SECRET, keys) == []
    assert not list((tmp_path / "ice").rglob("manifest"))


def test_while_another_one_writes_archives_an_erase_does_not_wait_for_that(
    open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    id, other = memory.add(SECRET, user_id="ana").id, memory.add("other", user_id="ana").id
    real, pending = writing.commit, list[str]()

    def meanwhile(*args: Any) -> Any:
        pending.extend(memory.erase(id).pending)
        return real(*args)

    monkeypatch.setattr(writing, "commit", meanwhile)
    monkeypatch.setattr("agentmem.glacier.place._PATIENCE", 600)
    memory.tiers.archive([id, other])
    assert "archives" in pending
    memory.compact()
    assert holding(tmp_path, SECRET, {}) == []
    record = memory.get(other)
    assert record is not None
    assert record.content == "other"


def test_what_a_writer_had_not_finished_goes_with_what_is_erased(
    open_memory: Callable[..., Memory], tmp_path: Path, sealing: dict[str, str]
) -> None:
    memory, ice = open_memory(settings=settings_of(tmp_path, **sealing)), FolderObjects(tmp_path / "ice")
    ids = [memory.add(f"text {n}", user_id=user).id for n, user in enumerate(("ana", "ben", "ana"))]
    memory.tiers.archive(ids)
    names = [path.name for path in (tmp_path / "ice").iterdir() if path.is_dir()]
    for name in names:
        unfinished(ice, f"{name}/000002/packs/a", SECRET.encode())
        unfinished(ice, f"{name}/000003/packs/a", SECRET.encode())
    assert holding(tmp_path, SECRET, sealing)
    assert "archives" not in memory.erase(ids[0]).pending
    assert holding(tmp_path, SECRET, sealing) == []
    for folder in (tmp_path / "keys" / "keys").iterdir():
        unfinished(FolderObjects(tmp_path / "keys"), f"keys/{folder.name}/a", SECRET.encode())
    for user in ("ana", "ben"):
        memory.erase_all(user_id=user)
    assert holding(tmp_path, SECRET, sealing) == []


def test_grace_over(open_memory: Callable[..., Memory], clock: FakeClock, tmp_path: Path) -> None:
    """What came back, expired and is erased by a sweep leaves the archive, too."""
    memory = open_memory(settings=settings_of(tmp_path))
    id = memory.add({"role": "user", "content": SECRET}, user_id="ana").id
    memory.tiers.archive(id)
    memory.tiers.rehydrate(id)
    clock.advance(2 * 86_400)
    assert memory.lifecycle.sweep().expired == 1
    clock.advance(31 * 86_400)
    assert memory.lifecycle.sweep().erased == 1
    assert holding(tmp_path / "ice", SECRET, {}) == []
    clock.advance(60 * 86_400)
    memory.repair()
    assert not list((tmp_path / "ice").rglob("manifest"))


def test_a_key_that_is_gone_is_told_of(
    open_memory: Callable[..., Memory], tmp_path: Path, sealing: dict[str, str]
) -> None:
    memory = open_memory(settings=settings_of(tmp_path, **sealing))
    id = memory.add("text", user_id="ana").id
    memory.tiers.archive(id)
    for path in (tmp_path / "keys" / "keys").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(agentmem.AgentMemError, match=r"key"):
        memory.get(id)
    assert not memory.verify().ok
    assert issubclass(ArchiveKeyError, agentmem.AgentMemError)


def test_archives_from_before_they_were_sealed(
    open_memory: Callable[..., Memory], tmp_path: Path, sealing: dict[str, str]
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    memory.tiers.archive([memory.add(SECRET, user_id="ana").id, memory.add("ben's", user_id="ben").id])
    memory.close()
    memory = open_memory(settings=settings_of(tmp_path, **sealing))
    memory.tiers.archive(memory.add(f"{SECRET}, sealed", user_id="ana").id)
    assert "archives" not in memory.erase_all(user_id="ana").pending
    memory.compact()
    assert holding(tmp_path, SECRET, sealing) == []
    assert [record.content for record in memory.page(user_id="ben", archived=True).records] == ["ben's"]
    assert memory.verify().problems == []


@pytest.mark.parametrize("removed", [False, True])
def test_a_damaged_archive_holds_up_no_other_and_goes_when_nothing_lies_in_it(
    open_memory: Callable[..., Memory], tmp_path: Path, removed: bool
) -> None:
    memory = open_memory(settings=settings_of(tmp_path, keep_days=10_000))
    erased, whole = memory.add(SECRET, user_id="ana").id, memory.add("ben's", user_id="ben").id
    memory.tiers.archive([erased, whole])
    [pack] = (path for path in (tmp_path / "ice").rglob("packs/*") if path.is_file())
    data = pack.read_bytes()
    others = [memory.add(f"{SECRET} {n}", user_id="carl").id for n in range(2)]
    for other in others:
        memory.tiers.archive(other)
    if removed:
        memory.tiers.rehydrate(whole)
        pack.unlink()
    else:  # the first block, which is Ana's
        pack.write_bytes(data[:20] + bytes([data[20] ^ 1]) + data[21:])
    for id in (erased, *others):
        assert ("archives" in memory.erase(id).pending) is not removed
    assert [path for path in (tmp_path / "ice").rglob("packs/*") if path.is_file()] == ([] if removed else [pack])
    fresh = memory.add("new", user_id="ana").id
    assert memory.tiers.archive(fresh).archived == 1
    report = memory.repair()
    assert report.problems == []
    for id, text in ((whole, "ben's"), (fresh, "new")):
        record = memory.get(id)
        assert record is not None
        assert record.content == text
    assert "archives" not in memory.erase(memory.add("more", user_id="ana").id).pending
    assert not list((tmp_path / "ice").glob(f"{pack.parts[-4]}/**/manifest"))


def test_a_full_disk_holds_up_what_is_to_leave_archives_and_nothing_else(
    open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    id, other = memory.add(SECRET, user_id="ana").id, memory.add("other", user_id="ana").id
    memory.tiers.archive([id, other])
    here = memory.add(f"{SECRET}, here", user_id="ana").id

    def full(self: FolderObjects, key: str, data: bytes) -> str:
        raise DiskFullError(f"{key}: no space left")

    with monkeypatch.context() as patch:
        patch.setattr(FolderObjects, "create", full)
        assert "archives" in memory.erase(id).pending
        assert "archives" in memory.erase(here).pending
        memory.repair()
        memory.lifecycle.sweep()
    assert "archives" not in memory.erase(memory.add("more", user_id="ana").id).pending
    memory.compact()
    assert holding(tmp_path, SECRET, {}) == []
    assert [record.content for record in memory.page(user_id="ana", archived=True).records] == ["other"]


def test_what_a_user_who_came_back_has_archived_meanwhile_is_not_shut(
    open_memory: Callable[..., Memory],
    tmp_path: Path,
    sealing: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the transaction that erases a user and the end of his key, another process archives what he says next."""
    memory, other = (open_memory(settings=settings_of(tmp_path, **sealing)) for _ in range(2))
    memory.tiers.archive(memory.add(SECRET, user_id="ana").id)
    came, forget = list[str](), burying.forget_user

    def late(*arguments: Any) -> bool:
        came.append(other.add("what is said anew", user_id="ana").id)
        other.tiers.archive(came[0])
        return forget(*arguments)

    monkeypatch.setattr(burying, "forget_user", late)
    memory.erase_all(user_id="ana")
    monkeypatch.undo()
    assert other.tiers.rehydrate(came) == 1
    found = other.get(came[0])
    assert found is not None
    assert found.content == "what is said anew"
    assert other.verify().ok
    memory.flush()
    assert holding(tmp_path, SECRET, sealing) == []


@pytest.mark.parametrize("sealed", [False, True])
def test_what_one_agent_knows_of_a_user(
    open_memory: Callable[..., Memory], tmp_path: Path, sealing: dict[str, str], sealed: bool
) -> None:
    keys = sealing if sealed else {}
    memory = open_memory(settings=settings_of(tmp_path, **keys))
    memory.add(SECRET, user_id="ana", agent_id="x")
    other = memory.add("for y", user_id="ana", agent_id="y").id
    memory.tiers.archive(user_id="ana")
    report = memory.erase_all(user_id="ana", agent_id="x")
    assert (report.erased, {*report.pending} - {"lancedb"}) == (1, set())
    assert memory.tiers.rehydrate([other]) == 1
    assert [record.content for record in memory.iterate(user_id="ana")] == ["for y"]
    memory.compact()
    assert holding(tmp_path, SECRET, keys) == []
    assert memory.verify().problems == []
