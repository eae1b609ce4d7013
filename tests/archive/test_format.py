"""Archives: what was written comes back, to whom it belongs, and nothing that has changed goes unnoticed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmem.archive import writing
from agentmem.archive.blocks import Block, catalogue, read_catalogue
from agentmem.archive.envelope import wrapped
from agentmem.archive.folder import FolderObjects
from agentmem.archive.manifest import CataloguePart, read_manifest
from agentmem.archive.reading import ArchiveReader
from agentmem.archive.tables import Table
from agentmem.archive.writing import ArchiveWriter, Written
from agentmem.types.errors import (
    ArchiveCorruptError,
    ArchiveError,
    ArchiveKeyError,
    ArchiveVersionError,
    InvalidInputError,
    ObjectExistsError,
    ObjectNotFoundError,
)

RECORDS = Table(
    "records",
    (("row", "int"), ("content", "text"), ("importance", "float"), ("vector", "bytes"), ("at", "int")),
    ("row", "at"),
)
HISTORY = Table("history", (("seq", "int"), ("event", "text")), ("seq",))
NAME = "backups/0001"

INTEGERS = st.none() | st.integers(-(2**63), 2**63 - 1)
ROWS = st.tuples(
    INTEGERS,
    st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.none() | st.floats(allow_nan=False),
    st.none() | st.binary(max_size=40),
    INTEGERS,
)
USERS = st.none() | st.sampled_from(["ana", "ben", "", "ädele", "nobody", "user ana"])


@pytest.fixture
def objects(tmp_path: Path) -> FolderObjects:
    return FolderObjects(tmp_path / "data")


@pytest.fixture(params=["plain", "sealed"])
def ring(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return ring_in(tmp_path / "keys") if request.param == "sealed" else None


def ring_in(folder: Path) -> Any:
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    from agentmem.archive.keyring import KeyRing
    from agentmem.archive.masterkey import MasterKey

    return KeyRing.open(FolderObjects(folder), MasterKey(b"m" * 32))


def some_rows(count: int, start: int = 0) -> list[tuple[Any, ...]]:
    return [(n, f"memory {n} of the harbour", n / 7, b"%d" % n * 9, n * 1_000) for n in range(start, start + count)]


def filled(objects: FolderObjects, ring: Any, name: str = NAME) -> Written:
    writer = ArchiveWriter(objects, name, [RECORDS, HISTORY], keyring=ring, model={"name": "m", "dim": 9})
    for user, rows in (("ana", some_rows(30)), ("ben", some_rows(20, 30)), (None, some_rows(5, 50))):
        writer.add("records", user, rows)
        writer.add("history", user, [(row[0], "ADD") for row in rows])
    return writer.finish({"kind": "full"})


def written(objects: FolderObjects, rows: list[Any]) -> Written:
    with ArchiveWriter(objects, NAME, [RECORDS]) as writer:
        writer.add("records", "ana", rows)
        return writer.finish()


def everything(reader: ArchiveReader, table: str = "records", **options: Any) -> list[tuple[Any, ...]]:
    return sorted((row for read in reader.read(table, **options) for row in read.rows), key=repr)


# -- what comes back ---------------------------------------------------------------------------------------------------


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(USERS, st.lists(ROWS, max_size=8)), max_size=8), st.sampled_from([1, 3, 1_000]))
def test_everything_comes_back(
    ring: Any, tmp_path_factory: pytest.TempPathFactory, adds: list[tuple[str | None, list[Any]]], rows: int
) -> None:
    objects = FolderObjects(tmp_path_factory.mktemp("data"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(writing, "ROWS", rows)
        writer = ArchiveWriter(objects, NAME, [RECORDS, HISTORY], keyring=ring, model={"name": "m"})
        expected = defaultdict[str | None, list[Any]](list)
        for user, added in adds:
            writer.add("records", user, added)
            expected[user] += added
        written = writer.finish({"of": "a test"})
    reader = ArchiveReader(objects, NAME, keyring=ring)
    assert reader.manifest == written.manifest
    assert reader.sha256 == written.sha256
    assert (reader.manifest.model, reader.manifest.about) == ({"name": "m"}, {"of": "a test"})
    every = [row for added in expected.values() for row in added]
    assert everything(reader) == sorted(every, key=repr)
    assert everything(reader, "history") == []
    for user in (*expected, "stranger"):
        assert [row for read in reader.read("records", user=user) for row in read.rows] == expected[user]
    for read in reader.read("records"):
        assert 1 <= len(read.rows) == read.block.rows <= rows
        for place, zone in zip((0, 4), read.block.zones, strict=True):
            values = [row[place] for row in read.rows if row[place] is not None]
            assert zone == ((min(values), max(values)) if values else None)
    assert list(reader.problems()) == []
    assert reader.manifest.content("records").rows == len(every)
    assert written.size == sum(found.size for found in objects.list())


def test_zones_spare_reading(objects: FolderObjects, ring: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "ROWS", 10)
    filled(objects, ring)
    reader = ArchiveReader(objects, NAME, keyring=ring)
    found = list(reader.read("records", wanted=lambda block: bool(block.zones[0] and block.zones[0][1] >= 45)))
    assert [read.rows[0][0] for read in found] == [40, 50]


def test_blocks_near_one_another_come_in_one_request(
    objects: FolderObjects, ring: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "ROWS", 1)
    filled(objects, ring)  # a block of each table for each row, in turn
    reader, reads = ArchiveReader(objects, NAME, keyring=ring), list[str]()
    expected = everything(reader)
    real = FolderObjects.read

    def read(self: FolderObjects, name: str, start: int, size: int) -> bytes:
        reads.append(name)
        return real(self, name, start, size)

    monkeypatch.setattr(FolderObjects, "read", read)
    assert everything(reader) == expected
    assert len(reads) <= 3
    pack = pack_of(objects, reader)
    pack.write_bytes(pack.read_bytes()[: pack.stat().st_size // 2])
    whole, lost = 0, 0
    for _, data in reader._fetched(list(reader.blocks("records"))):
        lost += isinstance(data, ArchiveError)
        whole += not isinstance(data, ArchiveError)
    assert whole > 20
    assert lost > 20


def pack_of(objects: FolderObjects, reader: ArchiveReader) -> Path:
    return Path(objects.url.removeprefix("file://")) / next(iter(reader.blocks("records"))).pack


def test_many_packs_and_catalogue_parts(objects: FolderObjects, ring: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ROWS", 3), ("_PACK_BYTES", 2_000), ("_CATALOGUE_BLOCKS", 4), ("_WAITING_BYTES", 4_000)):
        monkeypatch.setattr(writing, name, value)
    filled(objects, ring)
    reader = ArchiveReader(objects, NAME, keyring=ring)
    assert len(reader.manifest.content("records").catalogue) > 3
    assert len(list(objects.list(f"{NAME}/packs"))) > 3
    assert everything(reader) == sorted(some_rows(55), key=repr)
    assert everything(reader, user="ben") == sorted(some_rows(20, 30), key=repr)
    assert list(reader.problems()) == []


def test_users_that_come_mixed_wait_for_company(objects: FolderObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = ArchiveWriter(objects, NAME, [RECORDS])
    for number in range(2_000):
        writer.add("records", f"user {number % 10}", some_rows(1, number))
    assert writer.finish().manifest.content("records").blocks == 10


@pytest.mark.parametrize(
    "row", [(1, "a", 1.0, b"b"), (1, "a", 1.0, b"b", 1, 2), ("1", "a", 1.0, b"b", 1), (2**63, "a", 1.0, b"b", 1)]
)
def test_rows_that_are_not_the_tables(objects: FolderObjects, row: Any) -> None:
    with pytest.raises(InvalidInputError, match="records"):
        written(objects, [row])
    with pytest.raises(InvalidInputError, match="no table 'values'"), ArchiveWriter(objects, NAME, [RECORDS]) as writer:
        writer.add("values", "ana", [row])
    assert list(objects.list()) == []


@pytest.mark.parametrize(
    ("columns", "zones"),
    [
        ((), ()),
        ((("A", "int"),), ()),
        ((("a", "date"),), ()),
        ((("a", "int"), ("a", "int")), ()),
        ((("a", "text"),), ("a",)),
    ],
)
def test_tables_that_cannot_be(columns: Any, zones: Any) -> None:
    with pytest.raises(InvalidInputError):
        Table("records", columns, zones)


# -- the manifest comes last -------------------------------------------------------------------------------------------


def test_without_a_manifest_there_is_no_archive(objects: FolderObjects, ring: Any) -> None:
    with ArchiveWriter(objects, NAME, [RECORDS], keyring=ring) as writer:
        writer.add("records", "ana", some_rows(1_500))
        with pytest.raises(ObjectNotFoundError):
            ArchiveReader(objects, NAME, keyring=ring)
    assert list(objects.list()) == []


def test_a_name_is_used_once(objects: FolderObjects, ring: Any) -> None:
    before = filled(objects, ring)
    kept = sorted(found.key for found in objects.list())
    with pytest.raises(ObjectExistsError), ArchiveWriter(objects, NAME, [RECORDS], keyring=ring) as writer:
        writer.finish()
    assert read_manifest(objects, NAME)[1] == before.sha256
    assert sorted(found.key for found in objects.list()) == kept


class Broken(FolderObjects):
    """A folder whose disk stops taking anything after so many writes."""

    def __init__(self, path: Path, writes: int) -> None:
        super().__init__(path)
        self.writes = writes

    def create(self, key: str, data: bytes) -> str:
        self.writes -= 1
        if self.writes < 0:
            raise ArchiveError("the disk is gone")
        return super().create(key, data)


@pytest.mark.parametrize("writes", range(4))
def test_what_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    monkeypatch.setattr(writing, "_PACK_BYTES", 3_000)
    monkeypatch.setattr(writing, "ROWS", 20)
    objects = Broken(tmp_path / "data", writes)
    with pytest.raises(ArchiveError, match="disk is gone"):
        filled(objects, None)
    with pytest.raises(ObjectNotFoundError):
        ArchiveReader(objects, NAME)


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_bit_that_has_changed_is_noticed(ring: Any, tmp_path: Path, data: st.DataObject) -> None:
    root = tmp_path / "data"
    if not root.exists():
        filled(FolderObjects(root), ring)
    path = data.draw(
        st.sampled_from(sorted(path for path in root.rglob("*") if path.is_file() and path.name[0] != "."))
    )
    whole = path.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[position] ^= data.draw(st.integers(1, 255))
    try:
        path.write_bytes(changed)
        assert problems(FolderObjects(root), ring)
        path.write_bytes(whole[:position])
        assert problems(FolderObjects(root), ring)
        path.unlink()
        assert problems(FolderObjects(root), ring)
    finally:
        path.write_bytes(whole)
    assert not problems(FolderObjects(root), ring)


def problems(objects: FolderObjects, ring: Any) -> list[str]:
    try:
        found = list(ArchiveReader(objects, NAME, keyring=ring).problems())
    except (ArchiveCorruptError, ArchiveVersionError, ObjectNotFoundError) as exc:
        return [str(exc)]
    if ring is not None:  # hashes alone say the same
        assert bool(found) == bool(list(ArchiveReader(objects, NAME).problems()))
    if found:
        reader = ArchiveReader(objects, NAME, keyring=ring)
        with pytest.raises((ArchiveCorruptError, ObjectNotFoundError)):
            (everything(reader), everything(reader, "history"))
    return found


def test_all_damage_is_listed(objects: FolderObjects, ring: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "ROWS", 10)
    filled(objects, ring)
    [pack] = objects.list(f"{NAME}/packs")
    path = Path(objects.url, pack.key)
    blocks = list(ArchiveReader(objects, NAME).blocks("records"))
    changed = bytearray(path.read_bytes())
    for block in (blocks[1], blocks[3]):
        changed[block.offset + 5] ^= 1
    path.write_bytes(changed)
    found = list(ArchiveReader(objects, NAME, keyring=ring).problems())
    assert len(found) == 2
    assert "block 1 of table records" in found[0]
    assert "block 3 of table records" in found[1]


def test_a_newer_archive_is_refused(objects: FolderObjects) -> None:
    objects.create(f"{NAME}/manifest", wrapped("manifest", b"{}").replace(b" 1 ", b" 2 ", 1))
    with pytest.raises(ArchiveVersionError, match="newer version"):
        ArchiveReader(objects, NAME)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"tables": [{}], "sealed": null}', b"\xff"])
def test_what_is_no_manifest(objects: FolderObjects, body: bytes) -> None:
    objects.create(f"{NAME}/manifest", wrapped("manifest", body))
    with pytest.raises(ArchiveCorruptError):
        ArchiveReader(objects, NAME)


def test_another_kind_of_object_is_no_manifest(objects: FolderObjects) -> None:
    objects.create(f"{NAME}/manifest", wrapped("ring", b"{}"))
    with pytest.raises(ArchiveCorruptError, match="is a ring, not a manifest"):
        ArchiveReader(objects, NAME)


# -- sealed ------------------------------------------------------------------------------------------------------------


def test_nothing_is_in_the_clear(tmp_path: Path) -> None:
    ring = ring_in(tmp_path / "keys")
    objects = FolderObjects(tmp_path / "data")
    with ArchiveWriter(objects, NAME, [RECORDS], keyring=ring) as writer:
        writer.add("records", "ana@example.org", [(1, "the-token-of-ana", 0.5, b"v" * 40, 2)])
        writer.finish()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            text = path.read_bytes() + str(path.relative_to(tmp_path)).encode()
            assert b"ana" not in text, path
            assert b"vvvvvv" not in text, path
            assert b"the-token" not in text, path


def test_no_nonce_is_used_twice(objects: FolderObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "ROWS", 1)
    ring = ring_in(tmp_path / "keys")
    filled(objects, ring)
    filled(objects, ring, "backups/0002")
    nonces = [
        objects.read(block.pack, block.offset, 12)
        for name in (NAME, "backups/0002")
        for table in ("records", "history")
        for block in ArchiveReader(objects, name).blocks(table)
    ]
    assert len(set(nonces)) == len(nonces) == 220


def forge(objects: FolderObjects, change: Any) -> None:
    """Write the archive's first catalogue anew, with hashes that are right."""
    manifest = read_manifest(objects, NAME)[0]
    content = manifest.content("records")
    [part] = content.catalogue
    data = catalogue(RECORDS, change(list(read_catalogue(RECORDS, objects.get(part.key).data, ""))))
    forged = CataloguePart(part.key, len(data), hashlib.sha256(data).hexdigest(), part.blocks)
    tables = tuple(replace(one, catalogue=(forged,)) if one is content else one for one in manifest.tables)
    for key, new in ((part.key, data), (f"{NAME}/manifest", replace(manifest, tables=tables).to_bytes())):
        objects.delete(key)
        objects.create(key, new)


def exchanged(blocks: list[Block]) -> list[Block]:
    one, two, *rest = blocks
    fields = ("pack", "offset", "size", "sha256", "rows", "raw", "zones")
    first, second = ({field: getattr(block, field) for field in fields} for block in (one, two))
    return [one._replace(**second), two._replace(**first), *rest]


def reordered(blocks: list[Block]) -> list[Block]:
    one, two, *rest = blocks
    return [two._replace(number=0), one._replace(number=1), *rest]


@pytest.mark.parametrize("change", [exchanged, reordered])
def test_blocks_cannot_be_exchanged(
    objects: FolderObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    monkeypatch.setattr(writing, "ROWS", 10)
    ring = ring_in(tmp_path / "keys")
    filled(objects, ring)
    forge(objects, change)
    reader = ArchiveReader(objects, NAME, keyring=ring)
    with pytest.raises(ArchiveKeyError, match="for another place"):
        everything(reader)
    assert len(list(reader.problems())) == 2


def test_a_block_of_another_archive_is_not_taken(objects: FolderObjects, tmp_path: Path) -> None:
    ring = ring_in(tmp_path / "keys")
    filled(objects, ring, "backups/0002")
    [other] = list(ArchiveReader(objects, "backups/0002").blocks("records"))[:1]
    filled(objects, ring)
    forge(objects, lambda blocks: [other, *blocks[1:]])
    with pytest.raises(ArchiveKeyError, match="for another place"):
        everything(ArchiveReader(objects, NAME, keyring=ring))


def test_without_the_keyring_only_hashes_are_checked(objects: FolderObjects, tmp_path: Path) -> None:
    filled(objects, ring_in(tmp_path / "keys"))
    reader = ArchiveReader(objects, NAME)
    assert list(reader.problems()) == []
    with pytest.raises(ArchiveKeyError, match="give the master key"):
        everything(reader)
    with pytest.raises(ArchiveKeyError, match="was sealed with the keyring"):
        ArchiveReader(objects, NAME, keyring=ring_in(tmp_path / "other"))


def test_a_deleted_key_takes_every_copy_with_it(objects: FolderObjects, tmp_path: Path) -> None:
    ring = ring_in(tmp_path / "keys")
    filled(objects, ring)
    shutil.copytree(objects.url, tmp_path / "copy")
    assert ring.delete("ana")
    for home in (objects, FolderObjects(tmp_path / "copy")):
        reader = ArchiveReader(home, NAME, keyring=ring_in(tmp_path / "keys"))
        assert everything(reader) == sorted(some_rows(25, 30), key=repr)
        assert everything(reader, user="ana") == []
        assert reader.unreadable("records") == 30
        assert list(reader.problems()) == []
    # Who comes back gets another key; what was sealed under the old one stays shut.
    filled(objects, ring, "backups/0002")
    assert everything(ArchiveReader(objects, "backups/0002", keyring=ring), user="ana") == sorted(
        some_rows(30), key=repr
    )
    assert everything(ArchiveReader(objects, NAME, keyring=ring), user="ana") == []


def test_a_lost_key_is_not_taken_for_a_deleted_one(objects: FolderObjects, tmp_path: Path) -> None:
    ring = ring_in(tmp_path / "keys")
    filled(objects, ring)
    [lost, *_] = FolderObjects(tmp_path / "keys").list("keys")
    FolderObjects(tmp_path / "keys").delete(lost.key)
    reader = ArchiveReader(objects, NAME, keyring=ring)
    with pytest.raises(ArchiveKeyError, match="not in the keyring") as caught:
        everything(reader)
    assert not caught.value.erased
    assert len(list(reader.problems())) == 2


def test_a_key_that_goes_while_an_archive_is_written(objects: FolderObjects, tmp_path: Path) -> None:
    ring = ring_in(tmp_path / "keys")
    writer = ArchiveWriter(objects, NAME, [RECORDS], keyring=ring)
    writer.add("records", "ana", some_rows(1_000))
    writer.add("records", "ben", some_rows(1_000))
    ring.delete("ana")
    assert writer.finish().unreadable == ["ana"]


def test_the_keyring_does_not_lie_with_the_archive(tmp_path: Path) -> None:
    ring = ring_in(tmp_path / "data" / "keys")
    for place in ("data", "data/keys", "data/keys/archive"):
        with pytest.raises(InvalidInputError, match="another folder or bucket"):
            ArchiveWriter(FolderObjects(tmp_path / place), NAME, [RECORDS], keyring=ring)
    ArchiveWriter(FolderObjects(tmp_path / "data2"), NAME, [RECORDS], keyring=ring).abandon()


# -- memory ------------------------------------------------------------------------------------------------------------

LARGE = """
import random, resource, sys
from agentmem.archive.folder import FolderObjects
from agentmem.archive.reading import ArchiveReader
from agentmem.archive.tables import Table
from agentmem.archive.writing import ArchiveWriter
table = Table("records", (("row", "int"), ("content", "text"), ("vector", "bytes")), ("row",))
objects, count, some = FolderObjects(sys.argv[1]), int(sys.argv[2]), random.Random(1)
writer = ArchiveWriter(objects, "large", [table])
for start in range(0, count, 50):
    rows = [(n, f"{n} {'harbour lights ' * 9}", some.randbytes(1_024)) for n in range(start, start + 50)]
    writer.add("records", f"user {some.randrange(1_000)}", rows)
writer.finish()
assert sum(len(read.rows) for read in ArchiveReader(objects, "large").read("records")) == count
assert list(ArchiveReader(objects, "large").problems()) == []
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1_024) / 1_024)
"""


@pytest.fixture(params=[20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def count(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.mark.timeout(1_800)
def test_memory_does_not_grow_with_the_archive(tmp_path: Path, count: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path), str(count)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    print(f"{count} rows: {float(done.stdout):.0f} MiB")  # noqa: T201
    assert float(done.stdout) < 300
