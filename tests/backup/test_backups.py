"""Backups: what comes back is the store as it was at one event, also where it was in use, and nothing else can come."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeClock, HashEmbedder

import agentmem
from agentmem import ALL, Memory, Settings
from agentmem.archive.folder import FolderObjects
from agentmem.archive.objects import Objects
from agentmem.archive.reading import ArchiveReader
from agentmem.backup import create as creating
from agentmem.backup import lineage
from agentmem.backup.create import create
from agentmem.backup.restore import restore
from agentmem.stores.connection import Connection
from agentmem.stores.copying import Source
from agentmem.types.errors import (
    ArchiveCorruptError,
    ArchiveError,
    ArchiveKeyError,
    ConflictError,
    ReadOnlyError,
    StoreError,
    StoreLockedError,
    StoreVersionError,
)

QUIET = Settings(lifecycle={"sweep_interval_s": 0})
OWN = ("names", "meta", "erasures", "sqlite_sequence")
DERIVED = ("due", "layers", "migrations")
"""Compared by ``verify`` instead."""


@pytest.fixture
def objects(tmp_path: Path) -> FolderObjects:
    return FolderObjects(tmp_path / "backups")


def ring_in(folder: Path) -> Any:
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    from agentmem.archive.keyring import KeyRing
    from agentmem.archive.masterkey import MasterKey

    return KeyRing.open(FolderObjects(folder), MasterKey(b"m" * 32))


@pytest.fixture(params=["plain", "sealed"])
def ring(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return ring_in(tmp_path / "keys") if request.param == "sealed" else None


def lived(memory: Memory, clock: FakeClock) -> None:
    """A store with some of everything."""
    ids = [one.id for one in memory.add_many([f"the harbour has {n} lights" for n in range(40)], user_id="ana")]
    memory.add_many([{"role": "user", "content": f"turn {n}"} for n in range(6)], user_id="ben", run_id="r1")
    memory.add("nobody's own", metadata={"deep": {"list": [1, None, "ä"]}}, occurred_at=clock(), importance=0.3)
    memory.add("an agent's", agent_id="cook", ttl=3_600)
    memory.put("colours", "blue", user_id="ana", namespace=("likes", "much"))
    memory.put("colours", "green", user_id="ana", namespace=("likes", "much"))
    memory.search("harbour lights", user_id="ana")
    clock.advance(60)
    memory.update(ids[0], content="a windmill", metadata={"changed": True})
    memory.feedback(ids[1], rating=5)
    memory.lifecycle.pin(ids[2])
    memory.lifecycle.demote(ids[3])
    memory.delete(ids[4])
    memory.delete(ids[5])
    memory.restore(ids[5])
    memory.erase(ids[6])
    memory.add("somebody to be erased", user_id="eve", agent_id="cook")
    memory.erase_all(user_id="eve")
    memory.put("form", "a form", data={"big": "x" * 300_000, "n": [1, None]}, embed=["one text", "two texts"])
    memory.put("form", "a form", data={"small": 1}, embed=["three texts", "four"])
    memory.add("never embedded", embed=False, user_id="ben")
    memory.compact()  # what stays of whom it was goes now, and not while the store is compared


def tables(path: Path) -> dict[str, list[Any]]:
    """Every row of the store's own tables, as the database has them."""
    with closing(Connection(path / "agentmem.db")) as db:
        return dumped(db)


def dumped(db: Connection) -> dict[str, list[Any]]:
    names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    names = [name for name in names if not name.startswith(("keyword", "sqlite_")) and name not in DERIVED]
    found = {name: sorted(db.execute(f"SELECT * FROM {name}"), key=repr) for name in names}
    found["sqlite_sequence"] = sorted(db.execute("SELECT * FROM sqlite_sequence"))
    kept = ("model", "dim", "fingerprint", "model_spec", "erasure_key", "first_keys_row", "purged_seq", "former_keys")
    found["meta"] = [row for row in found["meta"] if row[0] in kept]
    found["accesses"] = [row[:6] for row in found["accesses"]]  # without what tells sweeps where to look
    return found


def newest(objects: Objects) -> lineage.Entry:
    return [entry for entry, _ in lineage.entries(objects)][-1]


# -- all of it ---------------------------------------------------------------------------------------------------------


def test_a_restored_store_is_the_store(
    open_memory: Callable[..., Memory], clock: FakeClock, objects: FolderObjects, ring: Any, tmp_path: Path
) -> None:
    memory = open_memory(settings=QUIET)
    lived(memory, clock)
    memory.compact()  # or what is left of who was erased would go in the background, before or after
    engine = memory.handle.engine()
    seen = list[tuple[int, int]]()
    entry = create(engine, objects, ring, description="all of it", progress=lambda *at: seen.append(at))
    assert (entry.number, entry.previous, entry.description, entry.kind) == (1, None, "all of it", "full")
    assert entry.seq == engine.repository.last_seq()
    assert seen[-1] == (entry.records, entry.records)
    assert newest(objects) == entry
    assert list(ArchiveReader(objects, entry.archive, keyring=ring).problems()) == []

    assert restore(objects, entry, tmp_path / "again", ring) == entry.records
    memory.close()
    assert tables(tmp_path / "again") == tables(tmp_path / "store")
    again = open_memory(tmp_path / "again", settings=QUIET)
    assert again.verify().problems == []
    original = open_memory(settings=QUIET)
    for query in ("harbour lights", "windmill", "turn"):
        for scope in ({"user_id": "ana"}, {"user_id": "ben"}, {}, {"user_id": ALL}):
            found, expected = again.search(query, **scope), original.search(query, **scope)
            assert [(hit.id, hit.score, hit.record) for hit in found] == [
                (hit.id, hit.score, hit.record) for hit in expected
            ]
    for record in original.iterate(user_id=ALL):
        assert again.history(record.id) == original.history(record.id)
    new = again.add("after it", user_id="ana")
    assert again.get(new.id) is not None


def test_an_empty_store(open_memory: Callable[..., Memory], objects: FolderObjects, ring: Any, tmp_path: Path) -> None:
    entry = create(open_memory().handle.engine(), objects, ring)
    assert restore(objects, entry, tmp_path / "again", ring) == 0
    again = open_memory(tmp_path / "again")
    again.add("first", user_id="ana")
    assert again.verify().ok


def test_numbers_are_not_given_out_again(
    open_memory: Callable[..., Memory], objects: FolderObjects, tmp_path: Path
) -> None:
    memory = open_memory()
    memory.add("one", user_id="ana")
    memory.erase_all(user_id="ana")
    memory.compact()
    last = memory.handle.engine().repository.last_row()
    restore(objects, create(memory.handle.engine(), objects), tmp_path / "again")
    again = open_memory(tmp_path / "again")
    again.add("two", user_id="ana")
    assert again.handle.engine().repository.last_row() == last + 1
    assert again.verify().ok


# -- while it is in use ------------------------------------------------------------------------------------------------


class Busy(FolderObjects):
    """A place that lets something happen to the store each time that a pack is written."""

    def __init__(self, path: Path, happen: Callable[[], object]) -> None:
        super().__init__(path)
        self.happen = happen

    def create(self, key: str, data: bytes) -> str:
        if "/packs/" in key:
            self.happen()
        return super().create(key, data)


@pytest.mark.parametrize("few", [0, 1_000])
def test_what_happens_meanwhile_is_there_or_not_but_whole(
    open_memory: Callable[..., Memory],
    clock: FakeClock,
    ring: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    few: int,
) -> None:
    monkeypatch.setattr("agentmem.archive.writing.ROWS", 20)
    monkeypatch.setattr("agentmem.archive.writing._PACK_BYTES", 6_000)
    monkeypatch.setattr("agentmem.stores.copying._MOST_ROWS", 40)
    monkeypatch.setattr("agentmem.backup.copy._FEW", few)
    memory = open_memory(settings=QUIET)
    lived(memory, clock)
    memory.add_many([f"light number {n}" for n in range(200)], user_id="ana")
    ids = [record.id for record in memory.iterate(user_id="ana")]
    happened, turn = list[int](), iter(range(10_000))

    def happen() -> None:
        n = next(turn)
        if n < 40:
            memory.update(ids[n], content=f"changed {n}", metadata={"n": n})
            memory.delete(ids[-1 - n])
            memory.add(f"added {n}", user_id=f"user {n % 3}", run_id=f"run {n}")
            if n % 5 == 0:
                memory.erase(ids[60 + n])
            if n % 10 == 0:
                memory.erase_all(user_id=f"user {n % 3}")
                memory.compact()
            happened.append(memory.handle.engine().repository.last_seq())

    # What the last transaction of the backup sees is what has to come out.
    expected, noted = list[dict[str, list[Any]]](), Source.noted

    def look(source: Source) -> list[Any]:
        expected.append(dumped(source.db))
        return noted(source)

    monkeypatch.setattr(Source, "noted", look)
    objects = Busy(tmp_path / "backups", happen)
    entry = create(memory.handle.engine(), objects, ring)
    assert happened[0] <= entry.seq <= memory.handle.engine().repository.last_seq()
    restore(objects, entry, tmp_path / "again", ring)
    assert open_memory(tmp_path / "again", settings=QUIET).verify().problems == []
    [before], after = expected, tables(tmp_path / "again")
    assert entry.seq == max(row[0] for row in before["history"])
    # Tombstones that were removed meanwhile may be there still, and names that only they had may be missing.
    there = {row[0] for row in before["records"]}
    extra = {row[0] for row in after["records"] if row[0] not in there}
    assert all(row[5] == 2 for row in after["records"] if row[0] in extra)
    names = {number for row in before["records"] for number in row[2:5]}
    before["names"] = [row for row in before["names"] if row[0] in names]
    after["names"] = [row for row in after["names"] if row[0] in names]
    for name, rows in before.items():
        row = 1 if name == "history" else 0
        assert [found for found in after[name] if name in OWN or found[row] not in extra] == rows, name


def test_writers_and_a_backup_at_once(
    open_memory: Callable[..., Memory], objects: FolderObjects, tmp_path: Path
) -> None:
    memory = open_memory(settings=QUIET)
    memory.add_many([f"light {n}" for n in range(2_000)], user_id="ana")
    acknowledged, stop = list[str](), threading.Event()

    def write(user: str) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            acknowledged.append(memory.add(f"{user} says {n}", user_id=user).id)

    threads = [threading.Thread(target=write, args=(f"writer {n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    entries = list[tuple[lineage.Entry, int]]()
    for _ in range(3):
        known = len(acknowledged)
        entries.append((create(memory.handle.engine(), objects), known))
    stop.set()
    for thread in threads:
        thread.join()
    for entry, known in entries:
        folder = tmp_path / entry.id
        assert restore(objects, entry, folder) == entry.records
        again = open_memory(folder, settings=QUIET)
        assert again.verify().ok
        assert all(again.get(id) is not None for id in acknowledged[:known])
        again.close()
    assert [entry.number for entry, _ in entries] == [1, 2, 3]


# -- who may add the next ----------------------------------------------------------------------------------------------


def test_each_backup_names_the_one_before(open_memory: Callable[..., Memory], objects: FolderObjects) -> None:
    memory = open_memory()
    for n in range(3):
        memory.add(f"memory {n}")
        create(memory.handle.engine(), objects)
    found = list(lineage.entries(objects))
    assert [entry.number for entry, _ in found] == [1, 2, 3]
    assert [entry.previous for entry, _ in found] == [None, found[0][1], found[1][1]]
    assert len({entry.lineage for entry, _ in found}) == 1


def test_an_old_disk_that_comes_back_overwrites_nothing(
    open_memory: Callable[..., Memory], objects: FolderObjects, tmp_path: Path
) -> None:
    memory = open_memory()
    memory.add("one")
    create(memory.handle.engine(), objects)
    memory.close()
    shutil.copytree(tmp_path / "store", tmp_path / "old")
    memory = open_memory()
    create(memory.handle.engine(), objects)
    old = open_memory(tmp_path / "old")
    before = sorted(found.key for found in objects.list())
    with pytest.raises(ConflictError, match="a copy of a store, or an older state of it"):
        create(old.handle.engine(), objects)
    assert sorted(found.key for found in objects.list()) == before
    assert create(memory.handle.engine(), objects).number == 3
    entry = create(old.handle.engine(), objects, new_lineage=True)
    assert (entry.number, entry.previous) == (1, None)
    assert create(old.handle.engine(), objects).number == 2
    assert create(memory.handle.engine(), objects).number == 4


def test_two_copies_at_once(open_memory: Callable[..., Memory], objects: FolderObjects, tmp_path: Path) -> None:
    memory = open_memory()
    memory.add("one")
    create(memory.handle.engine(), objects)
    memory.close()
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    memory, copy, both = open_memory(), open_memory(tmp_path / "copy"), threading.Barrier(2)

    class Slow(FolderObjects):
        def create(self, key: str, data: bytes) -> str:
            if "/chain/" in key:
                both.wait(20)
            return super().create(key, data)

    outcomes = list[object]()

    def run(one: Memory) -> None:
        try:
            outcomes.append(create(one.handle.engine(), Slow(objects.url)).number)
        except ConflictError:
            outcomes.append("refused")

    threads = [threading.Thread(target=run, args=(one,)) for one in (memory, copy)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == ["2", "refused"]


def test_a_restored_store_begins_a_lineage(
    open_memory: Callable[..., Memory], objects: FolderObjects, tmp_path: Path
) -> None:
    memory = open_memory()
    memory.add("one")
    entry = create(memory.handle.engine(), objects)
    restore(objects, entry, tmp_path / "again")
    other = create(open_memory(tmp_path / "again").handle.engine(), objects)
    assert other.lineage != entry.lineage
    assert create(memory.handle.engine(), objects).number == 2
    assert len(list(lineage.entries(objects))) == 3


class Killed(BaseException):
    pass


class Killing(FolderObjects):
    """A place that the process dies at: before or after it writes an object of that kind."""

    def __init__(self, path: str, kind: str, *, after: bool) -> None:
        super().__init__(path)
        self.kind, self.after, self.dead = kind, after, False

    def create(self, key: str, data: bytes) -> str:
        dies = self.kind in key
        if self.dead or (dies and not self.after):
            self.dead = True
            raise Killed
        stamp = super().create(key, data)
        if dies:
            self.dead = True
            raise Killed
        return stamp

    def delete(self, key: str) -> None:
        if self.dead:
            raise Killed
        super().delete(key)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", ["/packs/", "/catalogue/records", "/catalogue/names", "/manifest", "/chain/"])
def test_killed_at_each_step(
    open_memory: Callable[..., Memory], objects: FolderObjects, tmp_path: Path, kind: str, after: bool
) -> None:
    memory = open_memory(settings=QUIET)
    memory.add("one", user_id="ana")
    first = create(memory.handle.engine(), objects)
    memory.add("two", user_id="ana")
    with pytest.raises(Killed):
        create(memory.handle.engine(), Killing(objects.url, kind, after=after))
    complete = [entry for entry, _ in lineage.entries(objects)]
    assert complete[0] == first
    assert len(complete) == (2 if (kind, after) == ("/chain/", True) else 1)
    for entry in complete:
        assert list(ArchiveReader(objects, entry.archive).problems()) == []
    again = create(memory.handle.engine(), objects)
    assert again.number == len(complete) + 1
    found = list(lineage.entries(objects))
    assert [entry.previous for entry, _ in found] == [None, *(sha256 for _, sha256 in found[:-1])]
    assert restore(objects, again, tmp_path / "again") == 2


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_one_backup_at_a_time(open_memory: Callable[..., Memory], objects: FolderObjects, tmp_path: Path) -> None:
    memory = open_memory()
    memory.add("one")

    def second() -> None:
        with pytest.raises(StoreLockedError, match="already"):
            create(memory.handle.engine(), objects)
        with pytest.raises(StoreLockedError, match="already"):
            creating.forget(memory.handle.engine(), ring_in(tmp_path / "keys"), "ana")

    assert create(memory.handle.engine(), Busy(Path(objects.url), second)).number == 1


def test_a_store_that_is_only_read(open_memory: Callable[..., Memory], objects: FolderObjects) -> None:
    open_memory().add("one")
    reading = open_memory(read_only=True)
    with pytest.raises(ReadOnlyError):
        create(reading.handle.engine(), objects)


def test_a_store_that_moves_to_another_model(
    open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(HashEmbedder):
        name = "another"

    memory = open_memory()
    memory.add_many([f"memory {n}" for n in range(50)])
    monkeypatch.setattr("agentmem.archive.writing._PACK_BYTES", 3_000)
    monkeypatch.setattr("agentmem.archive.writing.ROWS", 5)
    moves = [lambda: memory.reembed(Other())]
    objects = Busy(tmp_path / "backups", lambda: moves and moves.pop()())
    with pytest.raises(StoreError, match="moved to another model"):
        create(memory.handle.engine(), objects)
    assert list(objects.list()) == []
    entry = create(memory.handle.engine(), objects)
    restore(objects, entry, tmp_path / "again")
    assert open_memory(tmp_path / "again", embedder=Other()).verify().ok


@pytest.fixture
def backed_up(open_memory: Callable[..., Memory], objects: FolderObjects) -> lineage.Entry:
    memory = open_memory()
    memory.add_many([f"memory {n}" for n in range(20)], user_id="ana")
    return create(memory.handle.engine(), objects)


@pytest.mark.slow
def test_a_restore_that_is_killed_leaves_no_store(
    open_memory: Callable[..., Memory], objects: FolderObjects, tmp_path: Path
) -> None:
    memory = open_memory()
    memory.add_many([f"memory {n}" for n in range(3_000)], user_id="ana")
    entry, into = create(memory.handle.engine(), objects), tmp_path / "again"
    code = f"import agentmem; print(flush=True); agentmem.restore({objects.url!r}, {str(into)!r}, progress=print)"
    for lines in (1, 2, 4):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.kill()
        process.wait()
        process.stdout.close()
        assert not (into / "agentmem.db").exists() or restored_whole(open_memory, into)
    if not (into / "agentmem.db").exists():
        restore(objects, entry, into)
    assert restored_whole(open_memory, into)
    assert sorted(path.name for path in into.glob("*restoring*")) == []


def restored_whole(open_memory: Callable[..., Memory], into: Path) -> bool:
    with open_memory(into) as again:
        return again.verify().ok and again.count(user_id="ana") == 3_000


def test_restoring_over_a_store_is_refused(backed_up: lineage.Entry, objects: FolderObjects, store: Path) -> None:
    with pytest.raises(StoreError, match="restore into another folder"):
        restore(objects, backed_up, store)


@pytest.mark.parametrize("what", ["packs", "catalogue", "manifest"])
def test_a_damaged_backup_makes_no_store(
    backed_up: lineage.Entry, objects: FolderObjects, tmp_path: Path, what: str
) -> None:
    path = next(Path(objects.url, found.key) for found in objects.list(backed_up.archive) if what in found.key)
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError):
        restore(objects, backed_up, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_another_archive_in_its_place_is_noticed(
    backed_up: lineage.Entry, objects: FolderObjects, open_memory: Callable[..., Memory], tmp_path: Path
) -> None:
    other = create(open_memory().handle.engine(), objects)
    shutil.rmtree(Path(objects.url, backed_up.archive))
    shutil.copytree(Path(objects.url, other.archive), Path(objects.url, backed_up.archive))
    with pytest.raises(ArchiveCorruptError, match="is not the archive"):
        restore(objects, backed_up, tmp_path / "again")


# -- keys --------------------------------------------------------------------------------------------------------------


def grep(folders: Sequence[Path], token: bytes) -> list[Path]:
    return [path for folder in folders for path in folder.rglob("*") if path.is_file() and token in path.read_bytes()]


def test_who_was_erased_is_in_no_copy(
    open_memory: Callable[..., Memory], objects: FolderObjects, tmp_path: Path
) -> None:
    ring = ring_in(tmp_path / "keys")
    memory = open_memory()
    memory.add("the-token-of-ana, quite secret", user_id="ana", run_id="ana-in-private")
    memory.add("what ben says", user_id="ben")
    entry = create(memory.handle.engine(), objects, ring)
    shutil.copytree(objects.url, tmp_path / "copy")
    memory.erase_all(user_id="ana")
    assert ring.delete("ana")
    assert grep([tmp_path / "backups", tmp_path / "copy", tmp_path / "keys"], b"ana") == []
    for number, home in enumerate((objects, FolderObjects(tmp_path / "copy"))):
        folder = tmp_path / f"again {number}"
        assert restore(home, entry, folder, ring_in(tmp_path / "keys")) == 1
        again = open_memory(folder)
        assert [record.content for record in again.iterate(user_id=ALL)] == ["what ben says"]
        assert again.verify().ok
        again.close()
        assert grep([folder], b"the-token") == grep([folder], b"ana-in-private") == []


def test_without_the_keyring_nothing_is_restored(
    open_memory: Callable[..., Memory], objects: FolderObjects, tmp_path: Path
) -> None:
    memory = open_memory()
    memory.add("one", user_id="ana")
    entry = create(memory.handle.engine(), objects, ring_in(tmp_path / "keys"))
    with pytest.raises(ArchiveKeyError):
        restore(objects, entry, tmp_path / "again")
    with pytest.raises(ArchiveKeyError):
        restore(objects, entry, tmp_path / "again", ring_in(tmp_path / "other"))
    assert not (tmp_path / "again").exists()


def test_a_backup_of_a_newer_version_is_refused(tmp_path: Path, objects: FolderObjects) -> None:
    with Memory(tmp_path / "store", embedder=HashEmbedder()) as memory:
        memory.add("what this version knows of")
        with closing(Connection(tmp_path / "store" / "agentmem.db")) as db:
            db.execute("INSERT INTO migrations VALUES ('9999_later', 0)")
        create(memory.handle.engine(), objects)
    with pytest.raises(StoreVersionError, match="9999_later"):
        agentmem.restore(str(tmp_path / "backups"), tmp_path / "restored")
    assert not (tmp_path / "restored").exists() or not any((tmp_path / "restored").iterdir())
    with Memory(tmp_path / "other", embedder=HashEmbedder()) as other, pytest.raises(StoreVersionError):
        other.import_(str(tmp_path / "backups"), user_id=None)
