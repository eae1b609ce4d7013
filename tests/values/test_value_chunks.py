"""Chunks: what is damaged is named and never returned, what nobody refers to goes, and nothing else ever does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, HashEmbedder

from agentmem import ConflictError, DiskFullError, Memory, StoreCorruptError, StoreError, StoreGoneError
from agentmem.stores import chunkfiles
from agentmem.stores.chunkfiles import ChunkFiles, Staging
from stress.victim import HashedWords

MB = 1_048_576


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def files(store: Path) -> list[Path]:
    return sorted(path for path in (store / "values").rglob("*") if path.is_file())


def flip(path: Path, at: int = 1_000) -> None:
    body = bytearray(path.read_bytes())
    body[at] ^= 4
    path.write_bytes(body)


def test_a_flipped_bit_is_named_and_never_returned(memory: Memory, store: Path) -> None:
    info = memory.values.put("k", noise(2 * MB))
    flip(files(store)[0])
    memory.values.put("other", noise(MB, 1))
    with pytest.raises(StoreCorruptError, match=f"{info.id}.*is not what was stored") as caught:
        memory.values.get("k")
    assert "put the value again" in str(caught.value)
    report = memory.verify()
    assert [problem for problem in report.problems if info.id in problem] == report.problems
    assert len(report.problems) == 1
    assert memory.repair().problems == report.problems
    assert memory.values.get("other") == noise(MB, 1)


@pytest.mark.parametrize(
    ("change", "compression"),
    [("flip", True), ("flip", False), ("cut", True), ("lengthen", False), ("remove", True)],
)
def test_putting_it_again_mends_it(memory: Memory, store: Path, change: str, compression: bool) -> None:
    body = noise(200_000).hex().encode() if compression else noise(400_000)
    memory.values.put("k", body)
    memory.values.put("same", body)
    [path] = files(store)
    if change == "flip":
        flip(path)
    elif change == "cut":
        os.truncate(path, 5)
    elif change == "lengthen":
        path.write_bytes(path.read_bytes() + b"!")
    else:
        path.unlink()
    with pytest.raises(StoreCorruptError):
        memory.values.get("same")
    assert not memory.verify().ok
    memory.values.put("k", body)
    assert memory.values.get("k") == memory.values.get("same") == body
    assert memory.verify().ok
    assert len(files(store)) == 1


def test_a_flip_inside_of_the_database(memory: Memory) -> None:
    info = memory.values.put("k", b"a small value")
    memory.handle.engine().write(lambda r: r.db.execute("UPDATE chunks SET body = ?", (b"A small value",)))
    with pytest.raises(StoreCorruptError, match=info.id):
        memory.values.get("k")
    assert info.id in memory.verify().problems[0]
    memory.values.put("k", b"a small value")
    assert memory.values.get("k") == b"a small value"
    assert memory.verify().ok


@pytest.mark.parametrize("start", [0, 4 * MB])
@pytest.mark.parametrize("what", ["bytes", "array"])
def test_references_that_are_lost_are_named(memory: Memory, start: int, what: str) -> None:
    body = noise(6 * MB)
    info = memory.values.put("k", body if what == "bytes" else np.frombuffer(body, np.uint8))
    memory.handle.engine().write(lambda r: r.db.execute("DELETE FROM value_chunks WHERE start = ?", (start,)))
    with pytest.raises(StoreCorruptError, match=f"no bytes from {start:,}"):
        memory.values.get("k")
    with pytest.raises(StoreCorruptError, match=f"no bytes from {start + 5:,}"):
        memory.values.get("k", start=start + 5)
    with pytest.raises(StoreCorruptError, match=f"no bytes from {start:,}"):
        memory.values.open("k").read()
    assert any(info.id in problem and "not 6,291,456" in problem for problem in memory.verify().problems)


def test_what_a_killed_put_left_is_removed(open_memory: Callable[..., Memory], store: Path) -> None:
    memory = open_memory()
    memory.values.put("k", noise(MB))
    kept = files(store)
    left = Staging(store / "values")
    left.write(noise(MB, 1))
    left.leave()
    memory.repair()
    assert files(store) == kept
    left = Staging(store / "values")
    left.write(noise(MB, 2))
    left.leave()
    memory.close()
    assert open_memory().values.get("k") == noise(MB)
    assert files(store) == kept


def test_what_a_put_holds_is_left_alone(memory: Memory, store: Path) -> None:
    def slowly() -> Iterator[bytes]:
        yield noise(MB)
        memory.repair()
        memory.compact()
        yield noise(MB, 1)

    memory.values.put("k", slowly())
    assert memory.values.open("k").read() == noise(MB) + noise(MB, 1)
    assert memory.verify().ok


def test_a_folder_that_was_committed_and_not_moved(
    open_memory: Callable[..., Memory], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = open_memory()
    monkeypatch.setattr(chunkfiles, "_move", lambda *_: None)
    memory.values.put("k", noise(MB))
    monkeypatch.undo()
    assert [path.parts[-3] for path in files(store)] == ["new"]
    assert memory.values.get("k") == noise(MB)
    memory.close()
    again = open_memory()
    assert again.values.get("k") == noise(MB)
    assert "new" not in [path.parts[-3] for path in files(store)]
    assert again.verify().ok


def test_a_chunk_that_goes_while_it_is_about_to_be_shared(memory: Memory, store: Path) -> None:
    memory.values.put("old", noise(12 * MB))

    def slowly() -> Iterator[bytes]:
        yield noise(12 * MB)  # shares what the old value has, so far
        yield b""
        memory.values.erase("old")
        memory.compact()
        assert memory.values.usage().chunks == 0

    memory.values.put("new", slowly())
    assert memory.values.open("new").read() == noise(12 * MB)
    assert memory.verify().ok
    assert len(files(store)) == 3


@pytest.mark.parametrize("then", ["read", "erase"])
def test_a_file_that_moves_to_its_place_between_two_looks(
    memory: Memory, store: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    move, waiting = chunkfiles._move, list[Callable[[], None]]()
    with monkeypatch.context() as patch:
        patch.setattr(chunkfiles, "_move", lambda *where: waiting.append(lambda: move(*where)))
        memory.values.put("k", noise(MB))

    def moved_first(run: Callable[..., Any], path: Path, *rest: Any, **options: Any) -> Any:
        while waiting and "new" in Path(path).parts:  # it was not in its place, and is before somebody looks here
            waiting.pop()()
        return run(path, *rest, **options)

    monkeypatch.setattr(chunkfiles, "open", partial(moved_first, open), raising=False)
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path, **options: moved_first(unlink, path, **options))
    if then == "read":
        assert memory.values.get("k") == noise(MB)
    else:
        memory.values.erase("k")
        assert files(store) == []


def test_a_folder_that_goes_while_every_file_is_looked_at(memory: Memory, store: Path) -> None:
    memory.values.put("k", noise(MB))
    left: list[str] = []

    def named(folder: str) -> set[str]:
        left.append(folder)
        memory.values.erase("k")
        return set()

    assert ChunkFiles(store).sweep(named) == 0
    assert left
    assert files(store) == []


def test_a_value_that_is_erased_while_it_is_read(memory: Memory) -> None:
    memory.values.put("k", noise(3 * MB))
    stream = memory.values.open("k")
    assert stream.read(10) == noise(3 * MB)[:10]
    memory.values.put("k", b"another")
    assert stream.read(2 * MB) == noise(3 * MB)[10 : 2 * MB + 10]
    memory.values.erase("k")
    from agentmem import NotFoundError

    with pytest.raises(NotFoundError, match="while it was being read"):
        stream.read()


def test_refused_puts_leave_nothing(memory: Memory, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.values.put("k", 1)
    with pytest.raises(ConflictError):
        memory.values.put("k", noise(MB), if_version=9)
    assert files(store) == []

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(DiskFullError, match="nothing of this was kept"):
            memory.values.put("k", noise(MB))
    assert files(store) == []
    assert "the disk is full" in str(memory.health().last_write_error)
    assert memory.values.get("k") == 1
    assert memory.values.put("k", noise(MB)).version == 2
    assert memory.health().ok


def test_what_takes_the_place_of_a_store_is_left_alone(
    open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, Memory(tmp_path / "other", embedder=HashEmbedder()) as other:
        patch.setattr(chunkfiles, "_move", lambda *_: None)
        other.values.put("k", noise(MB, 1))
    memory = open_memory(tmp_path / "here")
    memory.values.put("k", noise(MB))
    (tmp_path / "here").rename(tmp_path / "moved")
    (tmp_path / "other").rename(tmp_path / "here")
    for call in (lambda: memory.values.put("n", noise(MB, 2)), memory.compact, memory.repair):
        with pytest.raises(StoreGoneError):
            call()
    memory.close()
    for folder, seed in (("here", 1), ("moved", 0)):
        with Memory(tmp_path / folder, embedder=HashEmbedder()) as again:
            assert again.values.get("k") == noise(MB, seed)
            assert again.verify().ok


def test_a_store_that_is_gone_says_so(memory: Memory, store: Path) -> None:
    memory.values.put("k", noise(MB))
    shutil.rmtree(store)
    with pytest.raises(StoreGoneError):
        memory.values.put("k", noise(MB, 1))
    assert not store.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_stream_is_not_read_in_a_forked_child(memory: Memory) -> None:
    memory.values.put("k", noise(2 * MB))
    stream = memory.values.open("k")
    stream.read(10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # this process has threads, and the child calls one thing
        child = os.fork()
    if child == 0:
        status = 1
        with suppress(BaseException):
            try:
                stream.read()
            except StoreError as exc:
                status = 0 if "before a fork" in str(exc) else 2
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(stream.read()) == 2 * MB - 10


def test_an_error_names_the_folder_that_the_caller_knows(memory: Memory, store: Path) -> None:
    memory.add("The store is there.")
    (store / "values").write_text("in the way")
    with pytest.raises(
        StoreError, match=f"^{store}/values/new/.* cannot be written: Not a directory; look at the disk"
    ):
        memory.values.put("k", noise(MB))
    (store / "values").unlink()
    memory.values.put("k", noise(MB))
    assert memory.values.get("k") == noise(MB)


def test_names_of_files_lead_nowhere_else(tmp_path: Path) -> None:
    files = ChunkFiles(tmp_path)
    with files.stage() as staging:
        name = staging.write(b"body")
        assert files.read(name) == b"body"
        assert staging.link("no/file") is None


WRITER = """
import sys
from agentmem import Memory
import numpy as np
path, who = sys.argv[1], int(sys.argv[2])
with Memory(path) as memory:
    for n in range(12):
        body = np.random.default_rng(n % 3).bytes(700_000)
        memory.values.put(f"{who}", body, user_id="ana")
        assert memory.values.get(f"{who}", user_id="ana") == body
        if n % 4 == 3:
            memory.values.erase(f"{who}", user_id="ana")
            memory.compact()
        memory.values.put("counter", n, user_id="ana")
"""


@pytest.mark.slow
def test_two_processes_share_put_and_collect(open_memory: Callable[..., Memory], store: Path) -> None:
    with Memory(store) as first:
        first.values.put("counter", 0, user_id="ana")
    several = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(store), str(who)], cwd=ROOT, env=os.environ.copy())
        for who in range(2)
    ]
    assert [one.wait(120) for one in several] == [0, 0]
    with Memory(store) as memory:
        assert memory.verify().ok
        assert memory.values.usage().bytes < 50
        info = memory.values.info("counter", user_id="ana")
        assert info is not None
        assert info.version == 25
    assert files(store) == []


COUNTER = """
import sys, threading
from agentmem import ConflictError, Memory
from stress.victim import HashedWords
def count():
    for _ in range(15):
        while True:
            info = memory.values.info("n")
            try:
                memory.values.put("n", memory.values.get("n") + 1, if_version=info.version)
            except ConflictError:
                continue
            break
with Memory(sys.argv[1], embedder=HashedWords()) as memory:
    threads = [threading.Thread(target=count) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
"""


@pytest.mark.slow
def test_two_processes_of_two_threads_count(store: Path) -> None:
    with Memory(store, embedder=HashedWords()) as memory:
        memory.values.put("n", 0)
    several = [subprocess.Popen([sys.executable, "-c", COUNTER, str(store)], cwd=ROOT) for _ in range(2)]
    assert [one.wait(120) for one in several] == [0, 0]
    with Memory(store, embedder=HashedWords()) as memory:
        info = memory.values.info("n")
        assert info is not None
        assert (memory.values.get("n"), info.version) == (60, 61)
        assert memory.verify().ok


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("body", "text"), ("body", None), ("codec", "none such"), ("codec", b"none"), ("size", 5), ("size", "many"),
        ("stored", "many"), ("checksum", "text"), ("file", "x/0"), ("file", b"x/0"), ("file", 7),
    ],
)  # fmt: skip
def test_a_row_that_is_no_chunks_is_named(memory: Memory, column: str, value: object) -> None:
    memory.values.put("k", b"text ")
    memory.handle.engine().write(lambda r: r.db.execute(f"UPDATE chunks SET {column} = ?", (value,)))
    for read in (
        lambda: memory.values.get("k"),
        lambda: memory.values.get("k", start=0, end=2),
        lambda: memory.values.open("k").read(),
    ):
        with suppress(StoreCorruptError):
            assert read() in (b"text ", b"te")
    memory.verify()
    if column != "file":
        memory.values.put("k", b"text ")
        assert memory.values.get("k") == b"text "
