"""Values go to archives and come back the same to the bit; what calls do with them meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from glacier.test_archiving import sealing, settings_of
from glacier.test_changes_meanwhile import once
from inspecting import sql

import agentmem
from agentmem import InvalidInputError, Memory, NotFoundError, StoreCorruptError
from agentmem.errors import ArchiveCorruptError, ArchiveError
from agentmem.glacier import merging, uploading
from agentmem.values import reading

__all__ = ["sealing"]
MB = 1_048_576


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def same(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and first.tobytes("A") == second.tobytes("A")
    return type(first) is type(second) and bool(first == second)


VALUES: dict[str, Any] = {
    "array": np.asfortranarray(np.arange(300_000.0).reshape(300, 1_000)),
    "bytes": noise(3 * MB + 17),
    "empty": b"",
    "json": {"deep": [1, None, {"x": 2.5}]},
    "repeated": bytes(3 * MB),
    "small": b"one",
    "table": pa.table({"n": list(range(50_000)), "s": [str(n) for n in range(50_000)]}),
    "text": "words" * 20_000,
}


def files_that_have(folder: Path, part: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and part in path.read_bytes()]


def local_files(store: Path) -> list[Path]:
    return [path for path in (store / "values").rglob("*") if path.is_file()]


@pytest.mark.parametrize("sealed", [False, True])
def test_there_and_back_to_the_bit(
    open_memory: Callable[..., Memory], store: Path, tmp_path: Path, sealing: dict[str, str], sealed: bool
) -> None:
    memory = open_memory(settings=settings_of(tmp_path, **(sealing if sealed else {})))
    values = memory.values
    for key, value in VALUES.items():
        values.put(key, noise(100_000, 9), user_id="ana", metadata={"key": key})
        values.put(key, value, user_id="ana", metadata={"key": key})
    before = {info.key: info.digest for info in values.list(user_id="ana")}
    for key in VALUES:
        assert values.move(key, "glacier", user_id="ana").tier == "glacier"
    assert values.usage().chunks == 0
    assert local_files(store) == []
    assert memory.verify().problems == []
    assert all(same(value, values.get(key, user_id="ana")) for key, value in VALUES.items())
    assert {info.key: info.digest for info in values.list(user_id="ana")} == before
    assert {info.tier for info in values.list(user_id="ana")} == {"glacier"}
    assert [info.key for info in values.query({"key": {"$in": ["text", "array"]}}, user_id="ana")] == ["text", "array"]
    assert values.get("bytes", start=MB, end=2 * MB, user_id="ana") == VALUES["bytes"][MB : 2 * MB]
    assert same(values.get("array", start=7, end=9, user_id="ana"), np.asfortranarray(VALUES["array"][7:9]))
    with values.open("bytes", user_id="ana") as file:
        file.seek(-10, 2)
        assert file.read() == VALUES["bytes"][-10:]
    assert [each.size for each in values.versions("small", user_id="ana")] == [100_000, 3]
    if sealed:
        assert files_that_have(tmp_path / "ice", noise(100_000, 9)[:64]) == []
    for key in VALUES:
        assert values.move(key, "cold", user_id="ana").tier == "cold"
    assert all(same(value, values.get(key, user_id="ana")) for key, value in VALUES.items())
    assert {info.key: info.digest for info in values.list(user_id="ana")} == before
    assert values.restore("small", 1, user_id="ana").size == 100_000
    assert values.get("small", user_id="ana") == noise(100_000, 9)
    assert memory.verify().problems == []


def test_a_put_into_the_glacier(open_memory: Callable[..., Memory], store: Path, tmp_path: Path) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    info = memory.values.put("k", noise(MB), tier="glacier")
    assert (info.tier, local_files(store), memory.values.usage().chunks) == ("glacier", [], 0)
    assert memory.values.put_many({str(n): noise(70_000, n) for n in range(5)}, tier="glacier")[4].tier == "glacier"
    assert memory.tiers.stats()["glacier"].records == 6
    with pytest.raises(InvalidInputError, match="ttl is not archived"):
        memory.values.put("ends", b"x", ttl=60, tier="glacier")
    assert not memory.values.exists("ends")
    memory.values.put("ends", b"x", ttl=60)
    with pytest.raises(InvalidInputError, match="ttl is not archived"):
        memory.values.move("ends", "glacier")
    again = memory.values.put("k", b"new", if_version=info.version)
    assert (memory.values.get("k"), again.version, again.tier) == (b"new", 2, "cold")
    assert memory.values.restore("k", 1).size == MB
    assert memory.values.delete("1")
    assert memory.values.get("1") is None
    assert memory.verify().problems == []


def test_no_place_for_archives(memory: Memory) -> None:
    with pytest.raises(InvalidInputError, match=r"glacier\.url"):
        memory.values.put("k", b"x", tier="glacier")
    assert not memory.values.exists("k")
    memory.values.put("k", b"x")
    with pytest.raises(InvalidInputError, match=r"glacier\.url"):
        memory.values.move("k", "glacier")
    with pytest.raises(NotFoundError):
        memory.values.move("none", "cold")
    with pytest.raises(InvalidInputError, match="tier must be one of hot, warm, cold, glacier"):
        memory.values.move("k", "ice")  # pyright: ignore


def test_a_copy_that_reads_back_wrong_lets_go_of_nothing(
    open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    memory.values.put("k", noise(2 * MB))
    real = uploading.ArchiveReader.read

    def read(self: Any, table: str, **options: Any) -> Any:
        for found in real(self, table, **options):
            yield found._replace(rows=found.rows[1:]) if table == "chunks" else found

    with monkeypatch.context() as patch:
        patch.setattr(uploading.ArchiveReader, "read", read)
        with pytest.raises(ArchiveCorruptError, match="does not give back"):
            memory.values.move("k", "glacier")
    assert memory.values.usage().chunks == 1
    assert memory.values.get("k") == noise(2 * MB)
    assert memory.values.move("k", "glacier").tier == "glacier"
    assert len({path.parts[-3] for path in (tmp_path / "ice").rglob("manifest")}) == 1


def test_a_damaged_value_stays(open_memory: Callable[..., Memory], store: Path, tmp_path: Path) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    memory.values.put("bad", noise(2 * MB))
    [path, *_] = local_files(store)
    body = bytearray(path.read_bytes())
    body[7] ^= 1
    path.write_bytes(body)
    memory.values.put("good", noise(MB, 1))
    with pytest.raises(StoreCorruptError, match="is damaged, so that it was not archived"):
        memory.values.move("bad", "glacier")
    info = memory.values.info("bad")
    assert info is not None
    assert info.tier == "cold"
    assert memory.values.move("good", "glacier").tier == "glacier"
    memory.values.put("bad", noise(2 * MB))
    assert memory.values.move("bad", "glacier").tier == "glacier"
    assert memory.values.get("bad") == noise(2 * MB)
    assert memory.verify().problems == []


@pytest.mark.parametrize("change", ["flip", "remove"])
def test_a_damaged_archive(open_memory: Callable[..., Memory], tmp_path: Path, change: str) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    value = noise(2 * MB)
    memory.values.put("k", value, tier="glacier")
    packs = sorted((tmp_path / "ice").rglob("packs/*"), key=lambda path: path.stat().st_size)
    body = bytearray(packs[-1].read_bytes())
    body[-1_000] ^= 1
    packs[-1].unlink()
    if change == "flip":
        packs[-1].write_bytes(body)
    with pytest.raises(ArchiveError):
        memory.values.get("k")
    with pytest.raises(ArchiveError):
        memory.values.move("k", "cold")
    assert any("archive" in problem for problem in memory.verify().problems)
    assert memory.values.usage().chunks == 0
    packs[-1].write_bytes(bytes(body[:-1_000]) + bytes([body[-1_000] ^ 1]) + bytes(body[-999:]))
    assert memory.values.get("k") == value


def test_an_older_copy_is_taken_where_the_archive_is_damaged(
    open_memory: Callable[..., Memory], tmp_path: Path
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    value = noise(2 * MB)
    memory.values.put("k", value, tier="glacier")
    first = set((tmp_path / "ice").rglob("packs/*"))
    memory.values.move("k", "cold")
    memory.values.move("k", "glacier")
    for path in set((tmp_path / "ice").rglob("packs/*")) - first:
        path.write_bytes(path.read_bytes()[:-9])
    memory.close()
    memory = open_memory(settings=settings_of(tmp_path))
    assert memory.values.get("k") == value
    assert memory.verify().problems != []
    assert memory.repair().problems == []
    info = memory.values.info("k")
    assert info is not None
    assert info.tier != "glacier"
    assert memory.values.get("k") == value
    assert memory.verify().problems == []


@pytest.mark.parametrize("sealed", [False, True])
def test_what_is_erased_is_nowhere(
    open_memory: Callable[..., Memory], tmp_path: Path, sealing: dict[str, str], sealed: bool
) -> None:
    memory = open_memory(settings=settings_of(tmp_path, **(sealing if sealed else {})))
    secret, other = b"xylophone" * 20_000, noise(2 * MB, 3)
    memory.values.put_many({"k": secret, "other": other}, user_id="ana", tier="glacier")
    memory.values.put("k", secret, user_id="ben", tier="glacier")
    assert memory.values.get("k", user_id="ana") == secret
    memory.values.move("k", "warm", user_id="ana")
    memory.values.move("k", "glacier", user_id="ana")
    assert memory.values.erase("k", user_id="ana").erased == 1
    assert memory.values.get("other", user_id="ana") == other
    report = memory.erase_all(user_id="ben")
    assert "archives" not in report.pending
    assert memory.values.get("k", user_id="ben") is None
    memory.close()
    assert files_that_have(tmp_path, b"xylophonexylophone") == []
    memory = open_memory(settings=settings_of(tmp_path, **(sealing if sealed else {})))
    assert memory.values.get("other", user_id="ana") == other
    assert memory.verify().problems == []


def test_what_is_deleted_comes_back(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    info = memory.values.put("k", noise(MB), tier="glacier")
    assert memory.values.delete("k")
    assert memory.verify().problems == []
    memory.restore(info.id)
    assert memory.values.get("k") == noise(MB)
    assert memory.verify().problems == []


def test_small_archives_are_merged(open_memory: Callable[..., Memory], tmp_path: Path, sealing: dict[str, str]) -> None:
    memory = open_memory(settings=settings_of(tmp_path, **sealing))
    for n in range(merging._MANY):
        memory.values.put(f"k{n}", noise(100_000, n), user_id="ana" if n % 2 else "ben", tier="glacier")
    [line] = sql(memory, "SELECT count(DISTINCT archive) FROM archived")
    assert line == (1,)
    for n in range(merging._MANY):
        assert memory.values.get(f"k{n}", user_id="ana" if n % 2 else "ben") == noise(100_000, n)
    assert memory.verify().problems == []


def test_it_leaves_while_it_is_read(
    open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    value = noise(8 * MB)
    memory.values.put("k", value)
    with memory.values.open("k") as file:
        head = file.read(MB)
        memory.values.move("k", "glacier")
        assert head + file.read() == value
    with memory.values.open("k") as file:
        head = file.read(MB)
        memory.values.move("k", "cold")
        assert head + file.read() == value
    once(monkeypatch, reading.chunks, "parts", lambda: memory.values.move("k", "glacier"), after=True)
    assert memory.values.get("k") == value


def test_it_is_replaced_while_it_leaves(
    open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    memory.values.put("k", noise(MB))
    once(monkeypatch, uploading, "ArchiveReader", lambda: memory.values.put("k", b"new"), after=False)
    assert memory.values.move("k", "glacier").tier == "glacier"
    assert memory.values.get("k") == b"new"
    assert memory.values.restore("k", 1).size == MB
    assert memory.values.get("k") == noise(MB)
    assert memory.verify().problems == []
    memory.values.erase("k")
    assert [path for path in (tmp_path / "ice").rglob("*") if path.parent.name == "packs"] == []


def test_idle_values_go_by_themselves(open_memory: Callable[..., Memory], clock: Any, tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    settings = agentmem.Settings(
        glacier={"url": str(tmp_path / "ice")}, lifecycle={"sweep_interval_s": 0}, values={"cold_to_glacier_days": 30}
    )
    memory = open_memory(settings=settings)
    for key in ("idle", "read", "held", "warm"):
        memory.values.put(key, noise(100_000), hold=key in ("held", "warm"), tier="warm" if key == "warm" else "cold")
    memory.values.put("ends", b"x", ttl=10**7)
    clock.advance(20 * 86_400)
    assert memory.values.get("read") == noise(100_000)
    memory.lifecycle.sweep()
    clock.advance(15 * 86_400)
    memory.values.put("new", b"new")
    memory.lifecycle.sweep()
    assert {info.key: info.tier for info in memory.values.list() if info.tier == "glacier"} == {"idle": "glacier"}
    clock.advance(31 * 86_400)
    memory.lifecycle.sweep()
    assert {info.key for info in memory.values.list() if info.tier != "glacier"} == {"held", "warm", "ends"}
    with pytest.raises(InvalidInputError, match=r"glacier\.url is not"):
        agentmem.Settings(values={"cold_to_glacier_days": 30})


def test_archived_memories_keep_their_values(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    record = memory.add("Ana at the beach", user_id="ana")
    memory.values.put("photo", noise(MB), user_id="ana")
    memory.values.attach(record.id, "photo")
    memory.tiers.archive(record.id)
    assert [info.key for info in memory.values.attachments(record.id)] == ["photo"]
    memory.values.move("photo", "glacier", user_id="ana")
    assert [info.tier for info in memory.values.attachments(record.id)] == ["glacier"]
    assert memory.values.get("photo", user_id="ana") == noise(MB)
    found = memory.search("beach", user_id="ana", include_glacier=True)
    assert found[0].record.metadata == {"attachments": ["photo"]}
    memory.values.put("map", b"map", user_id="ana")
    assert [info.key for info in memory.values.attach(record.id, "map")] == ["photo", "map"]
    memory.tiers.archive(record.id)
    memory.erase(record.id)
    assert memory.values.list(user_id="ana") == []
    memory.close()
    assert files_that_have(tmp_path, noise(MB)[:64]) == []


def test_backups_know_archived_values(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    settings = agentmem.Settings(
        glacier={"url": str(tmp_path / "ice")}, backup={"url": str(tmp_path / "backups")},
        lifecycle={"sweep_interval_s": 0},
    )  # fmt: skip
    memory = open_memory(settings=settings)
    memory.values.put("k", noise(2 * MB), user_id="ana")
    memory.backup.create()
    memory.values.move("k", "glacier", user_id="ana")
    memory.values.put("later", noise(MB, 1), user_id="ana")
    memory.backup.create()
    memory.values.move("k", "cold", user_id="ana")
    memory.values.move("later", "glacier", user_id="ana")
    last = memory.backup.create()
    expected = {1: {"k": noise(2 * MB)}, 2: {"k": noise(2 * MB), "later": noise(MB, 1)}}
    for number, backup in enumerate(memory.backup.list(), 1):
        agentmem.restore(str(tmp_path / "backups"), tmp_path / f"restored-{number}", seq=backup.seq)
        restored = open_memory(tmp_path / f"restored-{number}", settings=settings)
        assert restored.verify().problems == []
        assert restored.values.get_many(["k", "later"], user_id="ana") == expected[min(number, 2)]
        restored.close()
    assert last.seq
