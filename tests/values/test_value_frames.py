"""Chunks of several frames: each is read and checked by itself, and all that holds for chunks holds for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

import agentmem
from agentmem import Memory, Settings, StoreCorruptError
from agentmem.stores.chunkfiles import ChunkFiles
from agentmem.stores.chunkframes import FRAME, FRAMES, frames
from agentmem.values import cutting

MB = 1_048_576
CHUNK = 8 * FRAME


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def mixed(size: int, seed: int = 0) -> bytes:
    """What packs in one frame and does not in the next."""
    parts = [noise(FRAME, seed + n) if n % 2 else bytes([seed, n]) * (FRAME // 2) for n in range(-(-size // FRAME))]
    return b"".join(parts)[:size]


def files(store: Path) -> list[Path]:
    return sorted(path for path in (store / "values").rglob("*") if path.is_file())


def changed(path: Path, body: bytes) -> None:
    path.unlink()  # a file that is linked elsewhere stays there as it is
    path.write_bytes(body)


def flipped(body: bytes, at: int) -> bytes:
    return body[:at] + bytes([body[at] ^ 8]) + body[at + 1 :]


@pytest.fixture(params=["none", "auto"])
def packing(request: pytest.FixtureRequest, open_memory: Callable[..., Memory]) -> Memory:
    return open_memory(settings=Settings(values={"compression": request.param, "warm_size_gb": 0}))


def old_chunks(patch: pytest.MonkeyPatch) -> None:
    """Have values be cut as before there were chunks of several frames."""
    patch.setattr(cutting, "_FRAMES", 1)


@pytest.mark.parametrize("size", [FRAME, FRAME + 1, CHUNK - 1, CHUNK, CHUNK + FRAME, CHUNK + FRAME + 1, 3 * CHUNK + 5])
def test_chunks_of_every_length(packing: Memory, size: int) -> None:
    body = mixed(size)
    packing.values.put("k", body)
    assert packing.values.get("k") == body
    assert packing.values.open("k").read() == body
    for start in (0, 1, FRAME - 1, FRAME, CHUNK - 1, CHUNK, size - 1):
        for length in (1, FRAME, CHUNK + 2):
            assert packing.values.get("k", start=start, end=start + length) == body[start : start + length]
    assert packing.values.usage().chunks == -(-size // CHUNK)
    found = packing.handle.engine().repository.db.execute("SELECT codec, size, checksum FROM chunks")
    for codec, length, checksum in found:
        assert (codec == FRAMES) == (length > FRAME) == (len(checksum) > 32)
        assert [each.size for each in frames(codec, length, checksum)][:-1] == [FRAME] * ((length - 1) // FRAME)
    assert packing.verify().ok


def test_a_flipped_bit_in_any_frame(packing: Memory, store: Path) -> None:
    body = mixed(CHUNK + 700_000)
    info = packing.values.put("k", body)
    sql = "SELECT start, codec, size, checksum, file FROM value_chunks JOIN chunks ON n = chunk"
    for start, codec, size, checksum, file in packing.handle.engine().repository.db.execute(sql):
        path = store / "values" / file[:2] / file
        whole = path.read_bytes()
        for frame in frames(codec, size, checksum):
            changed(path, flipped(whole, frame.at + (frame.stored or 1) - 1))
            for read in (
                lambda: packing.values.get("k"),
                lambda: packing.values.open("k").read(),
                lambda at=start + frame.start: packing.values.get("k", start=at, end=at + 1),
            ):
                with pytest.raises(StoreCorruptError, match=f"{info.id}.* chunk at byte {start:,} is not what was"):
                    read()
            # The others are read as ever.
            assert packing.values.get("k", start=0, end=start + frame.start) == body[: start + frame.start]
            after = start + frame.start + frame.size
            assert packing.values.get("k", start=after) == body[after:]
            assert packing.verify().problems == [
                f"value of record {info.id!r}: its chunk at byte {start:,} is not what was stored"
            ]
        packing.values.put("k", body)
        assert packing.values.get("k") == body
        assert packing.verify().ok


@pytest.mark.parametrize("change", ["cut", "cut a frame", "lengthen", "swap", "empty", "remove"])
def test_a_file_that_is_another(packing: Memory, store: Path, change: str) -> None:
    body = mixed(CHUNK)
    info = packing.values.put("k", body)
    [path] = files(store)
    whole = path.read_bytes()
    if change == "remove":
        path.unlink()
    else:
        last = len(whole) - FRAME
        made = {"cut": whole[:-1], "cut a frame": whole[:last], "lengthen": whole + b"!", "empty": b""}
        changed(path, made.get(change, whole[last:] + whole[:last]))
    if change == "lengthen":  # no byte of what it should have is another
        assert packing.values.get("k") == body
    else:
        with pytest.raises(StoreCorruptError, match=info.id):
            packing.values.get("k")
    assert [info.id in problem for problem in packing.verify().problems] == [True]
    packing.values.put("k", body)
    assert packing.values.get("k") == body
    assert packing.verify().ok


@pytest.mark.parametrize("where", ["files", "database"])
def test_a_table_that_is_another(memory: Memory, where: str) -> None:
    body = mixed(CHUNK) if where == "files" else bytes(CHUNK)
    info = memory.values.put("k", body)
    engine = memory.handle.engine()
    [(table, file)] = engine.repository.db.execute("SELECT checksum, file FROM chunks")
    assert (file is None) == (where == "database")
    several = [flipped(table, at) for at in range(0, len(table), 7)]
    several += [table[:-1], table[:-41], table[:32], b"", table + bytes(41), sha256(b"").digest()]
    for one in [*several, "text", 5]:
        engine.write(lambda r, one=one: r.db.execute("UPDATE chunks SET checksum = ?", (one,)))
        for read in (lambda: memory.values.get("k"), lambda: memory.values.open("k").read(1)):
            with pytest.raises(StoreCorruptError, match=info.id):
                read()
        assert memory.values.compress("k") == 0
    assert [info.id in problem for problem in memory.verify().problems] == [True]
    memory.values.put("k", body)
    assert memory.values.get("k") == body
    assert memory.verify().ok


def test_a_part_reads_no_more_frames_than_it_lies_in(packing: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    body, read, sizes = noise(6 * MB), ChunkFiles.read, list[int]()
    packing.values.put("k", body)

    def counted(self: ChunkFiles, name: str, at: int = 0, count: int | None = None) -> bytes:
        sizes.append(len(found := read(self, name, at, count)))
        return found

    monkeypatch.setattr(ChunkFiles, "read", counted)
    for start in (0, 1, FRAME - 500_000, CHUNK - 500_000, 3_141_592):
        sizes.clear()
        assert packing.values.get("k", start=start, end=start + 1_000_000) == body[start : start + 1_000_000]
        assert sum(sizes) <= 3 * FRAME


def test_no_content_is_taken_for_a_chunk_of_several(memory: Memory) -> None:
    body = noise(2 * FRAME)
    hashes = sha256(body[:FRAME]).digest() + sha256(body[FRAME:]).digest()
    memory.values.put("large", body)
    memory.values.put("small", hashes)
    assert memory.values.get("large") == body
    assert memory.values.get("small") == hashes
    assert memory.values.usage().chunks == 2


def test_what_grows_at_its_end_shares_what_it_was(packing: Memory, store: Path) -> None:
    body = noise(3 * CHUNK)
    packing.values.put("k", body)
    packing.values.put("k", body + noise(100_000, 1))
    packing.values.put("other", body)
    usage = packing.values.usage()
    assert (usage.chunks, usage.bytes) == (4, 3 * CHUNK + 100_000)
    assert packing.values.get("k") == body + noise(100_000, 1)
    packing.values.erase("k")
    assert packing.values.get("other") == body
    assert len(files(store)) == 3
    packing.values.erase("other")
    assert files(store) == []


def test_compress_packs_frames(open_memory: Callable[..., Memory], store: Path) -> None:
    memory = open_memory(settings=Settings(values={"compression": "none"}))
    body = mixed(CHUNK + 700_000)
    memory.values.put("k", body)
    stream = memory.values.open("k")
    assert stream.read(10) == body[:10]
    assert memory.values.compress("k") > MB
    assert memory.values.usage().stored == sum(path.stat().st_size for path in files(store)) < len(body) - MB
    assert memory.values.compress("k") == 0
    assert memory.values.get("k") == body[:10] + stream.read() == body
    assert memory.verify().ok


# -- stores of before --------------------------------------------------------------------------------------------------


@pytest.fixture
def both(open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Memory:
    """A store with values that were cut as before, and others."""
    settings = Settings(backup={"url": str(tmp_path / "backups")}, glacier={"url": str(tmp_path / "archives")})
    memory = open_memory(settings=settings)
    with monkeypatch.context() as patch:
        old_chunks(patch)
        memory.values.put("old", mixed(CHUNK + 5))
        memory.values.put("grown", mixed(CHUNK))
    memory.values.put("grown", mixed(CHUNK) + b"more")
    memory.values.put("new", mixed(CHUNK + 5, 1))
    return memory


def check_both(memory: Memory) -> None:
    assert memory.values.get("old") == mixed(CHUNK + 5)
    assert memory.values.get("old", start=FRAME - 1, end=CHUNK + 1) == mixed(CHUNK + 5)[FRAME - 1 : CHUNK + 1]
    assert memory.values.get("grown") == mixed(CHUNK) + b"more"
    assert memory.values.get("new") == mixed(CHUNK + 5, 1)
    assert memory.verify().problems == []


def codecs(memory: Memory) -> Iterator[tuple[str, int]]:
    yield from memory.handle.engine().repository.db.execute("SELECT codec, size FROM chunks ORDER BY n")


def test_old_chunks_are_read_as_ever(both: Memory) -> None:
    assert [(codec == FRAMES, size) for codec, size in codecs(both)] == (
        [(False, FRAME)] * 8 + [(False, 5), (True, CHUNK), (False, 4), (True, CHUNK), (False, 5)]
    )
    check_both(both)
    for key in ("old", "new"):
        both.values.compress(key)
    check_both(both)
    old = both.values.info("old")
    both.values.put("old", mixed(CHUNK + 5))  # shares what ``grown`` has by now
    new = both.values.info("old")
    assert old is not None
    assert new is not None
    assert (old.version, new.version) == (1, 2)
    check_both(both)
    both.values.restore("old", 1)
    both.values.restore("grown", 1)
    assert both.values.get("old") == mixed(CHUNK + 5)
    assert both.values.get("grown") == mixed(CHUNK)
    for key in ("old", "grown", "new"):
        both.values.erase(key)
    both.compact()
    assert both.values.usage().chunks == 0


def test_an_old_chunk_that_is_damaged(both: Memory, store: Path) -> None:
    info = both.values.info("old")
    assert info is not None
    engine = both.handle.engine()
    [(file,)] = engine.repository.db.execute("SELECT file FROM chunks WHERE file IS NOT NULL ORDER BY n LIMIT 1")
    path = store / "values" / file[:2] / file
    changed(path, flipped(path.read_bytes(), 1_000))
    with pytest.raises(StoreCorruptError, match=f"{info.id}.* at byte 524,288 is not what was stored"):
        both.values.get("old")
    both.values.put("old", mixed(CHUNK + 5))
    assert both.values.get("old") == mixed(CHUNK + 5)
    problems = both.verify().problems  # what it was before still has it, and so has what ``grown`` was
    assert [info.id in problem for problem in problems] == [True, False]
    assert all(problem.endswith("its chunk at byte 524,288 is not what was stored") for problem in problems)


def test_old_and_new_chunks_in_backups_and_archives(
    both: Memory, open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both.backup.create()
    with monkeypatch.context() as patch:
        old_chunks(patch)
        both.values.put("old, later", mixed(CHUNK, 7))
    both.values.put("new, later", mixed(CHUNK, 8))
    both.backup.create("incremental")
    assert both.backup.verify().ok
    agentmem.restore(str(tmp_path / "backups"), tmp_path / "there")
    there = open_memory(tmp_path / "there")
    check_both(there)
    assert there.values.get("old, later") == mixed(CHUNK, 7)
    assert there.values.get("new, later") == mixed(CHUNK, 8)
    assert list(codecs(there)) == list(codecs(both))
    for key in ("old", "grown", "new"):
        both.values.move(key, "glacier")
        assert both.values.get(key, start=CHUNK - 1, end=CHUNK + 1) is not None
    check_both(both)
    for key in ("old", "grown", "new"):
        both.values.move(key, "cold")
    check_both(both)
