"""Stores that are only read: on read-only volumes, by users who may not write, beside those who do."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, FakeClock, HashEmbedder

from agentmem import (
    AsyncMemory,
    Memory,
    ModelMismatchError,
    ReadOnlyError,
    Settings,
    StoreCorruptError,
    StoreError,
    StoreGoneError,
    StoreVersionError,
)

Open = Callable[..., Memory]
FACTS = [f"the lighthouse number {n} has a {colour} lamp" for n, colour in enumerate(["red", "green", "white"] * 10)]


def python(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    header = "import os, sys, time\nfrom agentmem import *\nfrom conftest import HashEmbedder\nwords = HashEmbedder()\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    return subprocess.Popen(
        [sys.executable, "-c", header + code, *map(str, arguments)],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def output(process: subprocess.Popen[str], given: str | None = None) -> list[str]:
    out, err = process.communicate(given, timeout=120)
    assert process.returncode == 0, err
    return out.splitlines()


def left(folder: Path) -> dict[str, tuple[bytes, int]]:
    """What lies in a folder, to the byte, and when it was written."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def killed(store: Path) -> None:
    """Add two records and die, so that they are in the log only."""
    code = "memory = Memory(sys.argv[1], embedder=words)\n"
    code += "memory.add_many(['the foghorn is loud', 'the pier is long'], user_id='ida')\nos._exit(0)"
    output(python(code, store))
    assert (store / "agentmem.db-wal").stat().st_size


@pytest.fixture
def filled(store: Path, open_memory: Open) -> Path:
    """A store of thirty records of Ida's, closed as it should be."""
    with open_memory() as memory:
        memory.add_many(FACTS, user_id="ida", metadata={"about": "lights"})
        memory.add("the ferry leaves at nine", user_id="ida", run_id="monday", role="user", id="ferry")
        memory.update("ferry", metadata={"line": 4})
        memory.flush()
    return store


@pytest.fixture
def read_only_mount(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Shows a folder a second time, where nothing can be written."""
    made = list[Path]()

    def mount(folder: Path) -> Path:
        point = tmp_path / f"mounted-{len(made)}"
        point.mkdir()
        done = subprocess.run(["mount", "--bind", str(folder), str(point)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"may not mount here: {done.stderr.strip()}")
        made.append(point)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(point)], check=True, capture_output=True)
        return point

    yield mount
    for point in made:
        subprocess.run(["umount", "-l", str(point)], check=True)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's temporary files go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def read_everything(memory: Memory) -> None:
    """Each operation that reads."""
    assert [hit.id for hit in memory.search("when does the ferry leave?", user_id="ida", limit=1)] == ["ferry"]
    assert len(memory.search("green lamp", user_id="ida", mode="keyword", filters={"about": "lights"})) == 10
    assert "ferry" in memory.context("ferry", user_id="ida", max_tokens=1000)
    assert len(list(memory.iterate(user_id="ida"))) >= 31
    assert [record.id for record in memory.recent(run_id="monday", user_id="ida")] == ["ferry"]
    assert memory.get("ferry") is not None
    assert [event.event for event in memory.history("ferry")] == ["ADD", "UPDATE"]
    assert memory.scoped(user_id="ida").get("ferry") is not None
    assert memory.delete_all(user_id="ida", dry_run=True) >= 31
    assert memory.lifecycle.explain("ferry").state == "live"
    assert memory.stats().records >= 31
    assert memory.health().ok
    memory.warm_up()


# -- where nothing can be written ------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["closed", "killed", "killed, no index"])
def test_a_read_only_volume(filled: Path, open_memory: Open, read_only_mount: Any, state: str) -> None:
    if state != "closed":
        killed(filled)
    if state == "killed, no index":
        (filled / "agentmem.db-shm").unlink()
    mounted = read_only_mount(filled)
    before = left(filled)
    with open_memory(mounted, read_only=True) as memory:
        read_everything(memory)
        memory.search("ferry", user_id="ida")
        contents = {record.content for record in memory.iterate(user_id="ida")}
        assert ("the foghorn is loud" in contents) == (state != "closed")
        assert bool(memory.search("foghorn", user_id="ida", mode="keyword")) == (state != "closed")
        report = memory.verify()
        assert report.ok, report.problems
    assert left(filled) == before
    with pytest.raises(ReadOnlyError, match=r"on a read-only file system.*read_only=True"):
        open_memory(mounted).search("ferry", user_id="ida")
    with pytest.raises(StoreError, match="Read-only file system"):
        open_memory(mounted / "new").add("x", user_id="ida")
    with pytest.raises(StoreError, match="there is no store"):
        open_memory(mounted / "new", read_only=True).stats()
    assert left(filled) == before


@pytest.mark.parametrize("state", ["closed", "killed", "killed, no index"])
def test_nothing_is_made_where_it_could_be(filled: Path, open_memory: Open, state: str) -> None:
    if state != "closed":
        killed(filled)
    if state == "killed, no index":
        (filled / "agentmem.db-shm").unlink()
    before = left(filled)
    with open_memory(read_only=True) as memory:
        read_everything(memory)
        assert len(list(memory.iterate(user_id="ida"))) == (31 if state == "closed" else 33)
        time.sleep(1)  # what others do in the background
    after = left(filled)
    for name in ("agentmem.db-shm",):  # where a killed process left it, it is made anew, as by everybody
        before.pop(name, None)
        after.pop(name, None)
    assert after == before


def test_a_user_who_may_not_write(filled: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    code = """
with Memory(sys.argv[2], embedder=words) as memory:  # what is imported when it is first needed, while that is allowed
    memory.add("x", user_id="ida")
    memory.search("x", user_id="ida")
    list(memory.iterate(user_id="ida"))
with Memory(sys.argv[2], embedder=words, read_only=True) as memory:
    memory.stats()
os.setgid(65534)
os.setuid(65534)
try:
    Memory(sys.argv[1], embedder=words).stats()
except ReadOnlyError as exc:
    print("may not be written by this user" in str(exc), "read_only=True" in str(exc), flush=True)
with Memory(sys.argv[1], embedder=words, read_only=True) as memory:
    print(memory.search("ferry", user_id="ida", limit=1)[0].id, memory.stats().records, flush=True)
    for line in sys.stdin:
        [hit] = memory.search(line, user_id="ida", limit=1)
        print(len(list(memory.iterate(user_id="ida"))), hit.content, flush=True)
"""
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    for file in (filled, *filled.rglob("*")):
        file.chmod(0o755 if file.is_dir() else 0o644)
    process = python(code, filled, tmp_path / "warm", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "True True\n"
    assert process.stdout.readline() == "ferry 31\n"
    with Memory(filled, embedder=HashEmbedder()) as writer:
        for n, word in enumerate(("in", "out", "high")):
            writer.add(f"the tide is {word}", user_id="ida")
            for file in filled.glob("agentmem.db*"):
                file.chmod(0o644)
            process.stdin.write(f"the tide is {word}\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{32 + n} the tide is {word}\n"
    assert output(process, "") == []


# -- what is refused -------------------------------------------------------------------------------------------------


def test_changes_are_refused_at_once(filled: Path, open_memory: Open, embedder: HashEmbedder) -> None:
    memory = open_memory(read_only=True)
    memory.stats()
    before = left(filled)
    calls: list[Callable[[], object]] = [
        lambda: memory.add("x", user_id="ida"),
        lambda: memory.add_many(["x"], user_id="ida"),
        lambda: list(memory.add_stream(iter(["x"]), user_id="ida")),
        lambda: memory.update("ferry", content="y"),
        lambda: memory.update("absent", importance=0.5),
        lambda: memory.delete("ferry"),
        lambda: memory.delete("absent"),
        lambda: memory.delete_all(user_id="ida"),
        lambda: memory.delete_all(user_id="nobody"),
        lambda: memory.restore("ferry"),
        lambda: memory.feedback("ferry", rating=5),
        lambda: memory.erase("ferry"),
        lambda: memory.erase_all(user_id="ida"),
        lambda: memory.erase_all(user_id="nobody"),
        lambda: memory.lifecycle.pin("ferry"),
        lambda: memory.lifecycle.unpin("ferry"),
        lambda: memory.lifecycle.promote("ferry"),
        lambda: memory.lifecycle.demote("ferry"),
        lambda: memory.lifecycle.sweep(),
        lambda: memory.lifecycle.sweep(dry_run=True),
        lambda: memory.scoped(user_id="ida").add("x"),
        lambda: memory.repair(),
        lambda: memory.repair(salvage=True),
        lambda: memory.handle.salvage(),
        lambda: memory.reembed(HashEmbedder()),
        memory.compact,
    ]
    for call in calls:
        with pytest.raises(ReadOnlyError, match="read_only"):
            call()
    read_everything(memory)
    assert left(filled) == before


def test_async_clients(filled: Path, clock: FakeClock, embedder: HashEmbedder) -> None:
    async def use() -> None:
        async with AsyncMemory(filled, clock=clock, embedder=embedder, read_only=True) as memory:
            found, page, health = await asyncio.gather(
                memory.search("ferry", user_id="ida", limit=1), memory.page(user_id="ida"), memory.health()
            )
            assert (found[0].id, len(page.records), health.ok) == ("ferry", 31, True)
            for call in (memory.add("x", user_id="ida"), memory.delete("ferry"), memory.compact()):
                with pytest.raises(ReadOnlyError):
                    await call
            await memory.flush()

    asyncio.run(use())


def test_what_cannot_be_read(open_memory: Open, store: Path, filled: Path) -> None:
    for name in ("absent", "empty", "file"):
        path = store.parent / name
        if name == "empty":
            path.mkdir()
        elif name == "file":
            path.write_text("mine")
        with pytest.raises(StoreError, match="is a file" if name == "file" else "there is no store"):
            open_memory(path, read_only=True).stats()
    assert not (store.parent / "absent").exists()
    assert not list((store.parent / "empty").iterdir())

    class Other(HashEmbedder):
        name = "another-model"

    with pytest.raises(ModelMismatchError):
        open_memory(read_only=True, embedder=Other()).stats()
    (filled / "agentmem.db").write_bytes(os.urandom(8_192))
    with pytest.raises(StoreCorruptError):
        open_memory(read_only=True).stats()


# -- beside those who write ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("mounted", [False, True])
def test_every_commit_is_seen_with_the_next_call(
    filled: Path, open_memory: Open, read_only_mount: Any, mounted: bool
) -> None:
    """Writers come and go: the log is made, grows, is brought into the database and removed."""
    where = read_only_mount(filled) if mounted else filled
    code = "\n".join([
        "with Memory(sys.argv[1], embedder=words, read_only=True) as memory:",
        "    for line in sys.stdin:",
        "        hits = memory.search(line, user_id='ida', limit=1)",
        "        print(hits[0].content, len(list(memory.iterate(user_id='ida'))), flush=True)",
    ])  # fmt: skip
    readers = [python(code, where, stdin=subprocess.PIPE) for _ in range(2)]
    here = open_memory(where, read_only=True)
    count = 31
    words = iter("anchor bell compass deck engine flag gangway hatch island".split())
    for _ in range(3):
        with open_memory() as writer:
            for step in range(3):
                text = f"the {next(words)} is painted"
                writer.add(text, user_id="ida")
                count += 1
                if step == 1:
                    writer.compact()
                for reader in readers:
                    assert reader.stdin is not None
                    assert reader.stdout is not None
                    reader.stdin.write(f"{text}\n")
                    reader.stdin.flush()
                    assert reader.stdout.readline() == f"{text} {count}\n"
                assert here.search(text, user_id="ida", limit=1)[0].content == text
                assert len(list(here.iterate(user_id="ida"))) == count
    for reader in readers:
        assert output(reader, "") == []
    here.close()
    with open_memory() as memory:
        assert memory.verify().ok
        assert memory.stats().records == count


def test_readers_and_a_writer_in_one_process(filled: Path, open_memory: Open) -> None:
    reader, writer, second = open_memory(read_only=True), open_memory(), open_memory(read_only=True)
    assert reader.handle.engine() is second.handle.engine()
    for n in range(20):
        id = writer.add(f"the gull number {n} is asleep", user_id="ida").id
        assert reader.get(id) is not None
        assert reader.search(f"gull number {n}", user_id="ida", limit=1)[0].id == id
    reader.close()
    writer.add("the heron is awake", user_id="ida")
    # The writer's locks are all there: another process does not take itself for the last one.
    code = (
        "with Memory(sys.argv[1], embedder=words) as memory: print(memory.add('the owl is out', user_id='ida').status)"
    )
    assert output(python(code, filled)) == ["added"]
    assert len(list(second.iterate(user_id="ida"))) == 31 + 22
    writer.add("the swan is white", user_id="ida")
    writer.close()
    assert len(list(second.iterate(user_id="ida"))) == 31 + 23
    second.close()
    with open_memory() as memory:
        assert memory.verify().ok


def test_reading_is_not_use(filled: Path, open_memory: Open) -> None:
    with open_memory(read_only=True) as reader:
        for _ in range(5):
            reader.search("ferry", user_id="ida")
            reader.get("ferry")
        assert reader.lifecycle.explain("ferry").accesses == 0
    with open_memory() as memory:
        assert memory.lifecycle.explain("ferry").accesses == 0


@pytest.mark.parametrize("swap", ["deleted", "replaced"])
def test_a_store_that_is_gone(filled: Path, open_memory: Open, swap: str) -> None:
    reader = open_memory(read_only=True)
    read_everything(reader)
    shutil.copytree(filled, filled.parent / "copy")
    shutil.rmtree(filled)
    if swap == "replaced":
        (filled.parent / "copy").rename(filled)
    with pytest.raises(StoreGoneError):
        reader.search("ferry", user_id="ida")
    health = reader.health()
    assert not health.ok
    assert health.store_error
    reader.close()
    if swap == "replaced":
        read_everything(open_memory(read_only=True))


def test_large_scopes(filled: Path, open_memory: Open, read_only_mount: Any, caplog: pytest.LogCaptureFixture) -> None:
    """LanceDB and the keyword index as far as others have brought them, the rest from the records."""
    large = {"settings": Settings(arena_limit=10, follower_delay_s=0.02)}
    with open_memory(**large) as memory:
        memory.flush()
    expected = None
    mounted = read_only_mount(filled)
    for behind in (False, True):
        if behind:
            with open_memory(settings=Settings(arena_limit=10, follower_delay_s=3600, follower_group=10**5)) as memory:
                memory.add("the white lamp is new", user_id="ida")
        with open_memory(mounted, read_only=True, **large) as memory:
            hits = memory.search("white lamp", user_id="ida", limit=5)
            found = [(hit.content, hit.score) for hit in hits]
            assert (found[0][0] == "the white lamp is new") == behind
            assert found != expected
            expected = found
            report = memory.verify()
            assert report.ok, report.problems
            if memory.health().vectors_behind:
                with pytest.raises(ReadOnlyError, match="behind"):
                    memory.flush()
            else:
                memory.flush()
    assert not [record for record in caplog.records if "keyword" in record.getMessage()]


@pytest.mark.slow
@pytest.mark.parametrize("state", ["closed", "killed", "killed, no index"])
def test_a_store_of_an_older_version(
    filled: Path, open_memory: Open, caplog: pytest.LogCaptureFixture, temporary: Path, state: str
) -> None:
    if state != "closed":
        killed(filled)
    # As it was before the third migration.
    undo = "DELETE FROM migrations WHERE name = '0003_facts_by_user'; DROP INDEX records_by_fact;"
    undo += "CREATE INDEX records_by_fingerprint ON records (fingerprint) WHERE state = 0 AND fingerprint IS NOT NULL"
    code = "import sqlite3; db = sqlite3.connect(sys.argv[1]); db.executescript(sys.argv[2]); db.commit()\n"
    output(python(code + "os._exit(0)" if state != "closed" else code + "db.close()", filled / "agentmem.db", undo))
    if state == "killed, no index":
        (filled / "agentmem.db-shm").unlink()
    before = {name: content for name, (content, _) in left(filled).items() if not name.endswith("-shm")}
    with open_memory(read_only=True) as memory:
        read_everything(memory)
        assert len(list(memory.iterate(user_id="ida"))) == (31 if state == "closed" else 33)
        with pytest.raises(ReadOnlyError):
            memory.add("x", user_id="ida")
        assert memory.verify().ok
        assert list(temporary.iterdir())
    assert not list(temporary.iterdir())
    assert {name: content for name, (content, _) in left(filled).items() if not name.endswith("-shm")} == before
    assert any("older version" in record.getMessage() for record in caplog.records)
    with open_memory() as memory:
        assert memory.verify().ok


def test_a_store_of_a_newer_version(filled: Path, open_memory: Open) -> None:
    code = "import sqlite3; db = sqlite3.connect(sys.argv[1])\n"
    code += "db.execute(\"INSERT INTO migrations VALUES ('9998_next', 0)\"); db.commit(); db.close()"
    output(python(code, filled / "agentmem.db"))
    with pytest.raises(StoreVersionError, match="9998_next"):
        open_memory(read_only=True).stats()


@pytest.mark.slow
def test_readers_beside_writers_for_a_while(filled: Path, open_memory: Open, read_only_mount: Any) -> None:
    """Two writers that open, add, compact and close; three readers that must never see a thing twice or half."""
    writer = """
end, n = time.monotonic() + 15, 0
while time.monotonic() < end:
    with Memory(sys.argv[1], embedder=words) as memory:
        for _ in range(20):
            memory.add_many([f"{sys.argv[2]} {n} {i}" for i in range(5)], user_id=sys.argv[2])
            n += 1
        if n % 3 == 0:
            memory.compact()
print(n * 5)
"""
    reader = """
end, looks, most = time.monotonic() + 15, 0, {}
with Memory(sys.argv[1], embedder=words, read_only=True) as memory:
    while time.monotonic() < end:
        for user in ("port", "starboard"):
            found = [record.content for record in memory.iterate(user_id=user)]
            assert len(set(found)) == len(found), "twice"
            assert len(found) >= most.get(user, 0), "fewer than before"
            most[user] = len(found)
            looks += 1
            if found:
                assert memory.search(found[0], user_id=user, limit=1)[0].content == found[0]
print(looks)
"""
    mounted = read_only_mount(filled)
    processes = [python(writer, filled, name) for name in ("port", "starboard")]
    looking = [python(reader, where) for where in (filled, mounted, mounted)]
    counts = [int(output(process)[0]) for process in processes]
    assert all(int(output(process)[0]) > 10 for process in looking)
    with open_memory() as memory:
        assert [len(list(memory.iterate(user_id=name))) for name in ("port", "starboard")] == counts
        assert memory.verify().ok


def test_many_threads_on_one_reader(filled: Path, open_memory: Open) -> None:
    reader, failed, stop = open_memory(read_only=True), list[BaseException](), threading.Event()

    def read() -> None:
        try:
            while not stop.is_set():
                assert len(reader.page(user_id="ida", limit=500).records) >= 31
                assert reader.search("ferry", user_id="ida", limit=1)[0].id == "ferry"
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    code = "for n in range(4):\n    with Memory(sys.argv[1], embedder=words) as memory: memory.add(f'pebble {n}')"
    output(python(code, filled))
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed, failed
