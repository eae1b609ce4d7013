"""``memory.backup`` and ``agentmem.restore``, as users have them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from archive.killed import unfinished
from archive.servers import cloud, environment
from conftest import FakeClock, HashEmbedder

import agentmem
from agentmem import AsyncMemory, InvalidInputError, Memory, NotFoundError, ScopeError, Settings, StoreError
from agentmem.archive.folder import FolderObjects
from agentmem.archive.reading import ArchiveReader
from agentmem.errors import ArchiveKeyError, DiskFullError, ObjectNotFoundError


@pytest.fixture
def sealed(tmp_path: Path) -> dict[str, str]:
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    from agentmem.archive.masterkey import new_master_key

    (tmp_path / "master.key").write_text(new_master_key())
    return {"encryption": f"file:{tmp_path / 'master.key'}", "keyring": str(tmp_path / "keys")}


def with_backup(tmp_path: Path, **more: str) -> Settings:
    return Settings(backup={"url": str(tmp_path / "backups")} | more)


def test_there_and_back(open_memory: Callable[..., Memory], clock: FakeClock, tmp_path: Path) -> None:
    memory = open_memory(settings=with_backup(tmp_path))
    assert memory.backup.list() == []
    memory.add("one", user_id="ana")
    seen = list[tuple[int, int]]()
    first = memory.backup.create(description="the first", progress=lambda *at: seen.append(at))
    assert (first.kind, first.records, first.description, first.at) == ("full", 1, "the first", clock())
    assert first.bytes > 0
    assert seen == [(1, 1)]
    clock.advance(60)
    memory.add("two", user_id="ana")
    second = memory.backup.create()
    assert memory.backup.list() == [first, second]
    for id in (None, first.id, second.id):
        report = memory.backup.verify(id)
        assert (report.ok, report.problems) == (True, [])
        assert report.counts["records"] == (1 if id == first.id else 2)
    for id, expected in ((None, second), (first.id, first)):
        folder = tmp_path / f"again-{id}"
        report = agentmem.restore(tmp_path / "backups", folder, id=id)
        assert (report.path, report.backup, report.records) == (str(folder), expected, expected.records)
        again = open_memory(folder)
        assert again.count(user_id="ana") == expected.records
        assert again.verify().ok


def test_async(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncMemory(tmp_path / "s", settings=with_backup(tmp_path), embedder=HashEmbedder()) as memory:
            await memory.add("one", user_id="ana")
            made = await memory.backup.create()
            assert await memory.backup.list() == [made]
            assert (await memory.backup.verify()).ok

    asyncio.run(main())


def test_a_user_is_forgotten(open_memory: Callable[..., Memory], tmp_path: Path, sealed: dict[str, str]) -> None:
    memory = open_memory(settings=with_backup(tmp_path, **sealed))
    memory.add("what ana says", user_id="ana")
    memory.add("what ben says", user_id="ben")
    made = memory.backup.create()
    memory.erase_all(user_id="ana")
    assert not memory.backup.forget(user_id="ana")  # erasing has
    assert memory.backup.verify().ok
    report = agentmem.restore(tmp_path / "backups", tmp_path / "again", **sealed)
    assert (report.records, report.backup.records) == (1, made.records) == (1, 2)
    assert [record.content for record in open_memory(tmp_path / "again").iterate(user_id=agentmem.ALL)] == [
        "what ben says"
    ]
    with pytest.raises(ArchiveKeyError):
        agentmem.restore(tmp_path / "backups", tmp_path / "without")
    with pytest.raises(ObjectNotFoundError):
        agentmem.restore(tmp_path / "backups", tmp_path / "without", **sealed | {"keyring": str(tmp_path / "none")})
    assert not (tmp_path / "none").exists()
    assert not (tmp_path / "without").exists()


def test_damage_is_told(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    memory = open_memory(settings=with_backup(tmp_path))
    memory.add("one", user_id="ana")
    memory.backup.create()
    memory.backup.create()
    [first, *_] = sorted((tmp_path / "backups").rglob("chain/*"))
    whole = first.read_bytes()
    first.write_bytes(whole[:-1] + b"?")
    with pytest.raises(agentmem.errors.ArchiveCorruptError):
        memory.backup.list()
    first.write_bytes(whole)
    [pack, *_] = sorted((tmp_path / "backups").rglob("packs/*"), key=lambda path: path.stat().st_mtime_ns)[::-1]
    pack.write_bytes(pack.read_bytes()[:-1])
    report = memory.backup.verify()
    assert not report.ok
    assert "archive:" in report.problems[0]


def test_what_is_refused(open_memory: Callable[..., Memory], tmp_path: Path, sealed: dict[str, str]) -> None:
    nowhere = open_memory()
    calls: list[Callable[[Memory], Any]] = [
        lambda memory: memory.backup.create(),
        lambda memory: memory.backup.list(),
        lambda memory: memory.backup.verify(),
        lambda memory: memory.backup.forget(user_id="ana"),
    ]
    for call in calls:
        with pytest.raises(InvalidInputError, match=r"set backup\.url"):
            call(nowhere)
        with pytest.raises(ScopeError, match="everybody's records"):
            call(nowhere.scoped(user_id="ana"))
    nowhere.close()
    memory = open_memory(settings=with_backup(tmp_path))
    for wrong in ({"kind": "half"}, {"description": 3}, {"new_lineage": 1}):
        with pytest.raises(InvalidInputError):
            memory.backup.create(**wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidInputError, match="not sealed"):
        memory.backup.forget(user_id="ana")
    for call in (lambda: memory.backup.verify(), lambda: agentmem.restore(tmp_path / "backups", tmp_path / "again")):
        with pytest.raises(NotFoundError, match="no backups"):
            call()
    memory.add("one")
    made = memory.backup.create()
    with pytest.raises(NotFoundError, match=f"the newest is {made.id}"):
        memory.backup.verify("another")
    with pytest.raises(StoreError, match="another folder"):
        agentmem.restore(tmp_path / "backups", tmp_path / "store")
    memory.close()
    inside = sealed | {"keyring": str(tmp_path / "backups" / "keys")}
    halves = [({half: sealed[half]}, "only one of them") for half in sealed]
    for chosen, says in (*halves, (inside, "another folder or bucket")):
        with Memory(tmp_path / "store", settings=with_backup(tmp_path, **chosen), embedder=HashEmbedder()) as memory:
            with pytest.raises(InvalidInputError, match=says):
                memory.backup.create()
            assert not (tmp_path / "keys").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_a_bucket_that_the_environment_describes(
    open_memory: Callable[..., Memory],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sealed: dict[str, str],
    kind: str,
) -> None:
    pytest.importorskip("obstore", reason="obstore is not installed")
    with cloud(kind, tmp_path, "backups") as (url, port):
        for name, value in environment(kind, port).items():
            monkeypatch.setenv(name, value)
        url = f"{url}backups/agentmem"
        memory = open_memory(settings=with_backup(tmp_path, **sealed | {"url": url}))
        memory.add_many([f"memory {n}" for n in range(50)], user_id="ana")
        assert memory.backup.list() == []
        made = memory.backup.create()
        assert memory.backup.list() == [made]
        seq = memory.events(limit=1000)[-1].seq
        memory.delete(memory.add("later", user_id="ben").id)
        memory.backup.create("incremental")
        assert memory.backup.verify().ok
        assert agentmem.restore(url, tmp_path / "again", **sealed).records == 51
        assert open_memory(tmp_path / "again").verify().ok
        memory.add_many([f"more {n}" for n in range(50)], user_id="ben")
        memory.backup.create("incremental")
        assert agentmem.restore(url, tmp_path / "then", seq=seq, **sealed).records == 50
        assert "backups" not in memory.erase_all(user_id="ben").pending
        assert agentmem.restore(url, tmp_path / "forgotten", **sealed).records == 50


def test_a_key_that_could_not_be_deleted_goes_before_the_next_backup(
    open_memory: Callable[..., Memory], tmp_path: Path, sealed: dict[str, str]
) -> None:
    memory = open_memory(settings=with_backup(tmp_path, **sealed))
    memory.add("what ana says", user_id="ana")
    memory.add("what ben says", user_id="ben")
    memory.backup.create()
    keys, away = Path(sealed["keyring"]), tmp_path / "away"
    keys.rename(away)
    keys.write_text("in the way")
    assert "backups" in memory.erase_all(user_id="ana").pending
    memory.close()
    keys.unlink()
    away.rename(keys)
    memory = open_memory(settings=with_backup(tmp_path, **sealed))
    memory.add("ana is back", user_id="ana")
    memory.backup.create("incremental")
    everybody: list[tuple[str, dict[str, Any], list[str]]] = [
        ("first", {"seq": 2}, ["what ben says"]),
        ("last", {}, ["ana is back", "what ben says"]),
    ]
    for folder, moment, contents in everybody:
        agentmem.restore(tmp_path / "backups", tmp_path / folder, **sealed, **moment)
        again = open_memory(tmp_path / folder)
        assert sorted(record.content for record in again.iterate(user_id=agentmem.ALL)) == contents
        assert again.verify().problems == []
    assert "backups" not in memory.erase_all(user_id="ana").pending


def test_a_full_disk_holds_up_the_backups_and_nothing_else(
    open_memory: Callable[..., Memory], tmp_path: Path, sealed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = open_memory(settings=with_backup(tmp_path, **sealed))
    memory.add("what ana says", user_id="ana")
    memory.add("what ben says", user_id="ben")
    memory.backup.create()

    def full(self: FolderObjects, key: str, *_: Any) -> str:
        raise DiskFullError(f"{key}: no space left")

    with monkeypatch.context() as patch:
        for write in ("create", "upload", "swap"):
            patch.setattr(FolderObjects, write, full)
        assert "backups" in memory.erase_all(user_id="ana", rewrite_backups=True).pending
    assert [record.content for record in memory.iterate(user_id=agentmem.ALL)] == ["what ben says"]
    assert "backups" not in memory.erase_all(user_id="ana", rewrite_backups=True).pending


def test_who_is_forgotten_and_goes_on_is_backed_up_anew(
    open_memory: Callable[..., Memory], tmp_path: Path, sealed: dict[str, str]
) -> None:
    memory = open_memory(settings=with_backup(tmp_path, **sealed))
    id = memory.add("what ana says", user_id="ana").id
    memory.backup.create()
    assert memory.backup.forget(user_id="ana")
    memory.update(id, importance=0.5)
    assert memory.backup.create("incremental").kind == "full"
    report = agentmem.restore(tmp_path / "backups", tmp_path / "again", **sealed)
    assert report.records == 1
    assert memory.backup.create("incremental").kind == "incremental"


def test_erase_says_which_backups_still_hold_it(
    open_memory: Callable[..., Memory], tmp_path: Path, clock: FakeClock
) -> None:
    chosen = {"url": str(tmp_path / "backups"), "keep_hours": 1, "keep_days": 2, "keep_weeks": 0}
    memory = open_memory(settings=Settings(backup=chosen))
    empty = memory.backup.create()
    one = memory.add("a token of ana's", user_id="ana").id
    before = memory.add("ben's own", user_id="ben").id
    first = memory.backup.create("incremental")
    memory.add("what ben says", user_id="ben")
    without = memory.backup.create("incremental")
    memory.update(one, importance=0.5)
    last = memory.backup.create("incremental")
    kept = memory.backup.create("snapshot", description="kept")
    assert memory.erase(before).pending[-1] == "backups"
    assert "backups" not in memory.erase(memory.add("new", user_id="ben").id).pending
    report = memory.erase_all(user_id="ana")
    assert report.pending[-1] == "backups"
    assert [one.id for one in report.backups] == [first.id, last.id, kept.id]
    ends = [None if one.until is None else (one.until - clock()).total_seconds() / 3_600 for one in report.backups]
    assert ends == [1, 1, None]
    assert {empty.id, without.id}.isdisjoint({one.id for one in report.backups})
    memory.compact()  # with what stayed of the user, what told of backups has gone
    assert memory.erase_all(user_id="ana").backups == ()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("rewrite", [False, True])
def test_backups_hold_what_was_erased_before_its_user(
    open_memory: Callable[..., Memory], tmp_path: Path, rewrite: bool
) -> None:
    memory = open_memory(settings=with_backup(tmp_path))
    memory.add("of ben", user_id="ben")
    without = memory.backup.create()
    ids = [memory.add("of ana", user_id="ana", run_id="private").id, memory.values.put("v", b"x", user_id="ana").id]
    made = memory.backup.create("incremental")
    memory.erase(ids[0])
    memory.values.erase("v", user_id="ana")
    report = memory.erase_all(user_id="ana", rewrite_backups=rewrite)
    assert ("backups" in report.pending) is not rewrite
    assert [one.id for one in report.backups] == ([] if rewrite else [made.id])
    left = memory.backup.list()
    assert [one.id for one in left] == [without.id, left[-1].id if rewrite else made.id]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("rewrite", [False, True])
def test_what_killed_backups_have_left_is_told_of_and_goes(
    open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rewrite: bool
) -> None:
    memory, secret = open_memory(settings=with_backup(tmp_path)), "a quite secret token"

    def killed(*_: object) -> None:
        raise Killed

    def broken_off(user: str) -> None:
        memory.add(f"what {user} says", user_id=user, run_id=secret)
        with monkeypatch.context() as patch:
            patch.setattr("agentmem.backup.lineage.add", killed)
            with pytest.raises(Killed):
                memory.backup.create()
        [manifest] = (tmp_path / "backups").rglob("manifest")
        unfinished(FolderObjects(manifest.parent), "packs/a", secret.encode())

    def holding() -> list[Path]:
        paths = [path for path in (tmp_path / "backups").rglob("*") if path.is_file()]
        return [path for path in paths if secret.encode() in path.read_bytes()]

    memory.add("of ben", user_id="ben")
    broken_off("ana")
    assert holding()
    report = memory.erase_all(user_id="ana", rewrite_backups=rewrite)
    assert (report.backups, "backups" in report.pending) == ((), not rewrite)
    if not rewrite:
        memory.backup.create()  # another store may have been at the broken one until now
        memory.add("new", user_id="carl")
        assert "backups" not in memory.erase_all(user_id="carl").pending
    assert holding() == []
    assert len(list((tmp_path / "backups").rglob("manifest"))) == 1
    assert memory.backup.verify().ok


@pytest.mark.parametrize("kind", ["full", "incremental"])
def test_backups_are_rewritten_on_request(open_memory: Callable[..., Memory], tmp_path: Path, kind: Any) -> None:
    memory = open_memory(settings=with_backup(tmp_path))
    memory.add("what ben says", user_id="ben")
    before = memory.backup.create()
    memory.add("a quite secret token", user_id="ana", run_id="ana-in-private")
    seq = memory.backup.create(kind).seq
    memory.backup.create("snapshot")
    memory.add("more of ben", user_id="ben")
    memory.backup.create("incremental")
    report = memory.erase_all(user_id="ana", rewrite_backups=True)
    assert report.backups == ()
    assert "backups" not in report.pending
    left = memory.backup.list()
    assert [one.id for one in left] == [before.id, left[-1].id]
    assert memory.backup.verify().ok
    for number, moment in enumerate(({}, {"seq": seq}, {"id": before.id})):
        agentmem.restore(tmp_path / "backups", tmp_path / f"again {number}", **moment)
        again = open_memory(tmp_path / f"again {number}")
        assert again.count(user_id="ana") == 0
        assert again.count(user_id="ben") == (2 if not moment else 1)
    objects = FolderObjects(tmp_path / "backups")
    for key in [info.key for info in objects.list() if info.key.endswith("/manifest")]:
        reader = ArchiveReader(objects, key.removesuffix("/manifest"))
        blocks = [block for table in reader.manifest.tables for block in reader.read(table.table.name)]
        rows = [row for block in blocks for row in block.rows]
        assert "ben" in repr(rows)
        assert not [row for row in rows if "ana" in repr(row) or "private" in repr(row)]


def test_an_erased_user_of_a_restored_store_is_in_what_it_came_from(
    open_memory: Callable[..., Memory], tmp_path: Path
) -> None:
    memory = open_memory(settings=with_backup(tmp_path))
    memory.add("what ana says", user_id="ana")
    made = memory.backup.create()
    agentmem.restore(tmp_path / "backups", tmp_path / "again")
    again = open_memory(tmp_path / "again", settings=with_backup(tmp_path))
    again.backup.create()
    assert [one.id for one in again.erase_all(user_id="ana", rewrite_backups=True).backups] == [made.id]


def test_where_backups_cannot_be_reached_erasing_goes_on(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    memory = open_memory(settings=with_backup(tmp_path))
    memory.add("what ana says", user_id="ana")
    memory.backup.create()
    (tmp_path / "backups").rename(tmp_path / "away")
    (tmp_path / "backups").write_text("in the way")
    report = memory.erase_all(user_id="ana")
    assert (report.erased, report.pending[-1], report.backups) == (1, "backups", ())


def test_erasing_what_one_agent_knows_of_a_user_leaves_the_rest_readable(
    open_memory: Callable[..., Memory], tmp_path: Path, sealed: dict[str, str]
) -> None:
    """The key that sealed backups hold a user's records under is all of the user's."""
    memory = open_memory(settings=with_backup(tmp_path, **sealed))
    memory.add("what ana says to x", user_id="ana", agent_id="x")
    memory.add("what ana says to y", user_id="ana", agent_id="y")
    memory.backup.create()
    report = memory.scoped(user_id="ana", agent_id="x").erase_all()
    assert (report.erased, "backups" in report.pending, "ids" in report.pending) == (1, True, False)
    memory.add("later", user_id="ben")
    memory.backup.create("incremental")
    agentmem.restore(tmp_path / "backups", tmp_path / "again", **sealed)
    again = open_memory(tmp_path / "again")
    assert sorted(record.content for record in again.iterate(user_id=agentmem.ALL)) == ["later", "what ana says to y"]
    assert memory.erasures(user_id="ana") == []
