"""The files under an open store: deleted, moved away, replaced, as a whole or in part.

Nothing is said to be stored that is not, nothing that was stored is lost, and no other store is written to.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, FakeClock, HashEmbedder

from agentmem import AsyncMemory, ClosedError, Memory, Settings, StoreError, StoreGoneError

Open = Callable[..., Memory]
Swap = Callable[[Path], None]


def contents(memory: Memory, user: str = "ida") -> list[str]:
    return [record.content for record in memory.iterate(user_id=user, order="oldest")]


def kept(path: Path) -> list[str]:
    """What a store holds that nobody has open, and that is whole."""
    with Memory(path, embedder=HashEmbedder()) as memory:
        report = memory.verify()
        assert report.ok, report.problems
        return contents(memory)


def child(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def until(done: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def backup(store: Path) -> Path:
    """A copy of the store as it is in its files, made by another process: a copy made here would drop our locks."""
    copy = store.parent / "backup"
    subprocess.run(["cp", "-r", str(store), str(copy)], check=True)
    return copy


# -- the whole folder ------------------------------------------------------------------------------------------------


def deleted(store: Path) -> None:
    shutil.rmtree(store)


def moved_away(store: Path) -> None:
    store.rename(store.parent / "away")


def emptied(store: Path) -> None:
    for file in store.iterdir():
        shutil.rmtree(file) if file.is_dir() else file.unlink()


def a_file_instead(store: Path) -> None:
    shutil.rmtree(store)
    store.write_text("not a folder")


def restored(store: Path) -> None:
    shutil.rmtree(store)
    shutil.copytree(store.parent / "backup", store)


def restored_beside(store: Path) -> None:
    store.rename(store.parent / "away")
    shutil.copytree(store.parent / "backup", store)


def restored_inside(store: Path) -> None:
    """The folder stays, and so do the lock files."""
    for file in store.glob("agentmem.db*"):
        file.unlink()
    shutil.copy(store.parent / "backup" / "agentmem.db", store)


def restored_by_name(store: Path) -> None:
    """As rsync does it: a new file takes the name of the database, the log stays."""
    shutil.copy(store.parent / "backup" / "agentmem.db", store / "arriving")
    os.replace(store / "arriving", store / "agentmem.db")


GONE: list[Swap] = [deleted, moved_away, emptied, a_file_instead]
RESTORED: list[Swap] = [restored, restored_beside, restored_inside, restored_by_name]


@pytest.fixture
def backed_up(store: Path, open_memory: Open) -> Memory:
    """A client of a store that holds two memories, of which a backup has the first."""
    with open_memory() as memory:
        memory.add("the boat is called Fulmar", user_id="ida", id="boat")
        memory.flush()
    backup(store)
    memory = open_memory()
    memory.add("the berth is number nine", user_id="ida", id="berth")
    return memory


@pytest.mark.parametrize("swap", GONE + RESTORED)
def test_nothing_is_acknowledged_and_nothing_answered(backed_up: Memory, store: Path, swap: Swap) -> None:
    memory = backed_up
    assert memory.health().ok
    swap(store)
    calls: list[Callable[[], object]] = [
        lambda: memory.add("lost?", user_id="ida"),
        lambda: memory.add_many(["lost?", "lost too?"], user_id="ida"),
        lambda: list(memory.add_stream(iter(["lost?"]), user_id="ida")),
        lambda: memory.update("boat", content="the boat is called Petrel"),
        lambda: memory.delete("boat"),
        lambda: memory.erase("boat"),
        lambda: memory.feedback("boat", rating=4),
        lambda: memory.lifecycle.pin("boat"),
        lambda: memory.lifecycle.sweep(),
        lambda: memory.search("boat", user_id="ida"),
        lambda: memory.context("boat", user_id="ida", max_tokens=100),
        lambda: memory.page(user_id="ida"),
        lambda: memory.get("boat"),
        lambda: memory.history("boat"),
        lambda: memory.scoped(user_id="ida").get("boat"),
        memory.stats,
        memory.flush,
        memory.verify,
        memory.compact,
    ]
    for call in calls:
        with pytest.raises(StoreGoneError, match="close it and open a new one"):
            call()
    health = memory.health()
    assert not health.ok
    assert health.store_error is not None
    assert str(store) in health.store_error
    begun = time.monotonic()
    memory.close()
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("swap", [deleted, moved_away, emptied])
@pytest.mark.parametrize("old_closes_first", [True, False])
def test_a_new_client_begins_anew(
    backed_up: Memory, open_memory: Open, store: Path, swap: Swap, old_closes_first: bool
) -> None:
    swap(store)
    if old_closes_first:
        backed_up.close()
    new = open_memory()
    assert contents(new) == []
    assert new.search("boat berth", user_id="ida") == []
    assert new.add("the mooring is red", user_id="ida").status == "added"
    with pytest.raises(ClosedError if old_closes_first else StoreGoneError):
        backed_up.add("nowhere", user_id="ida")
    backed_up.close()
    assert new.health().ok
    new.add("the jetty is wet", user_id="ida")
    new.close()
    assert kept(store) == ["the mooring is red", "the jetty is wet"]
    if swap is moved_away:
        assert kept(store.parent / "away") == ["the boat is called Fulmar", "the berth is number nine"]


@pytest.mark.parametrize("swap", RESTORED)
@pytest.mark.parametrize("old_closes_first", [True, False])
@pytest.mark.parametrize("noticed", [True, False])
def test_a_new_client_has_the_backup(
    backed_up: Memory, open_memory: Open, store: Path, swap: Swap, old_closes_first: bool, noticed: bool
) -> None:
    swap(store)
    if noticed:
        with pytest.raises(StoreGoneError):
            backed_up.add("nowhere", user_id="ida")
    if old_closes_first:
        backed_up.close()
    new = open_memory()
    assert contents(new) == ["the boat is called Fulmar"]
    assert [hit.id for hit in new.search("boat berth", user_id="ida")] == ["boat"]
    assert new.add("the mooring is red", user_id="ida").status == "added"
    backed_up.close()
    new.add("the jetty is wet", user_id="ida")
    new.flush()
    report = new.verify()
    assert report.ok, report.problems
    new.close()
    assert kept(store) == ["the boat is called Fulmar", "the mooring is red", "the jetty is wet"]
    if swap is restored_beside:
        assert kept(store.parent / "away") == ["the boat is called Fulmar", "the berth is number nine"]
    aside = list(store.glob("replaced-*"))
    # The log that belongs to the database of before is kept, and nobody takes it for the new one's.
    assert len(aside) == (swap is restored_by_name)
    for folder in aside:
        assert b"the berth is number nine" in (folder / "agentmem.db-wal").read_bytes()


def test_a_database_that_was_deleted_from_beside_its_log(open_memory: Open, store: Path) -> None:
    memory = open_memory(settings=Settings(follower_delay_s=3600))
    memory.add("the boat is called Fulmar", user_id="ida")
    (store / "agentmem.db").unlink()
    with pytest.raises(StoreGoneError):
        memory.add("nowhere", user_id="ida")
    new = open_memory()
    assert contents(new) == []
    new.add("the mooring is red", user_id="ida")
    memory.close()
    new.close()
    assert kept(store) == ["the mooring is red"]


def test_a_folder_that_comes_back_is_the_same_store(backed_up: Memory, store: Path) -> None:
    moved_away(store)
    with pytest.raises(StoreGoneError):
        backed_up.add("nowhere", user_id="ida")
    (store.parent / "away").rename(store)
    backed_up.add("the mooring is red", user_id="ida")
    assert contents(backed_up)[-1] == "the mooring is red"
    until(lambda: backed_up.health().ok)


def test_a_symlink_that_is_switched(open_memory: Open, tmp_path: Path) -> None:
    link, first, second = tmp_path / "current", tmp_path / "release-1", tmp_path / "release-2"
    for folder in (first, second):
        with open_memory(folder) as memory:
            memory.add(f"this is {folder.name}", user_id="ida")
    link.symlink_to(first)
    memory, direct = open_memory(link), open_memory(first)
    memory.add("the boat is called Fulmar", user_id="ida")
    link.unlink()
    link.symlink_to(second)
    with pytest.raises(StoreGoneError, match="current"):
        memory.add("to which?", user_id="ida")
    with pytest.raises(StoreGoneError):
        memory.search("boat", user_id="ida")
    assert not memory.health().ok
    # Whoever named the folder itself is not concerned.
    direct.add("the berth is number nine", user_id="ida")
    new = open_memory(link)
    new.add("the mooring is red", user_id="ida")
    assert contents(new) == ["this is release-2", "the mooring is red"]
    assert contents(direct) == ["this is release-1", "the boat is called Fulmar", "the berth is number nine"]


@pytest.mark.parametrize("swap", [deleted, restored_beside])
def test_under_the_transaction(
    backed_up: Memory, open_memory: Open, store: Path, embedder: HashEmbedder, swap: Swap
) -> None:
    """The clock is read between the look before the transaction and the one before the acknowledgement."""
    backed_up.close()
    armed = list[Swap]()

    def clock() -> datetime:
        if armed:
            armed.pop()(store)
        return datetime.now(UTC)

    memory = open_memory(clock=clock)
    memory.add("the mooring is red", user_id="ida")
    armed.append(swap)
    with pytest.raises(StoreGoneError, match="if that was kept"):
        memory.add_many(["the jetty is wet", "the light is green"], user_id="ida")
    assert not armed
    memory.close()
    if swap is restored_beside:
        assert kept(store) == ["the boat is called Fulmar"]
        assert kept(store.parent / "away")[-2:] == ["the jetty is wet", "the light is green"]


def test_async_clients(backed_up: Memory, store: Path, clock: FakeClock, embedder: HashEmbedder) -> None:
    async def use() -> None:
        async with AsyncMemory(store, clock=clock, embedder=embedder) as memory:
            assert (await memory.get("boat")) is not None
            moved_away(store)
            results = await asyncio.gather(
                memory.add("nowhere", user_id="ida"),
                memory.search("boat", user_id="ida"),
                memory.delete("boat"),
                return_exceptions=True,
            )
            assert [type(result) for result in results] == [StoreGoneError] * 3
            health = await memory.health()
            assert not health.ok
            assert health.store_error

    asyncio.run(use())


def test_the_background_says_so_once_and_writes_to_nobody(
    backed_up: Memory, store: Path, open_memory: Open, caplog: pytest.LogCaptureFixture
) -> None:
    backed_up.close()
    eager = Settings(follower_delay_s=0.01, follower_group=1)
    memory = open_memory(settings=eager)
    memory.flush()
    with caplog.at_level(logging.WARNING, "agentmem"):
        restored(store)
        shutil.rmtree(store / "lance")
        before = {file: file.read_bytes() for file in store.rglob("*") if file.is_file()}
        until(lambda: bool(caplog.records))
        time.sleep(1.5)  # two rounds of the background work
    assert len(caplog.records) == 1
    assert "took its place" in caplog.records[0].getMessage()
    memory.close()
    assert {file: file.read_bytes() for file in store.rglob("*") if file.is_file()} == before


# -- parts of it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "noticed"),
    [
        ("agentmem.db-wal", "by an add"),
        ("agentmem.db-wal", "in the background"),
        ("agentmem.db-wal", "when it is closed"),
        ("agentmem.db-shm", "in the background"),
        ("agentmem.db-shm", "when it is closed"),
    ],
)
def test_a_log_that_was_deleted_loses_nothing(open_memory: Open, store: Path, name: str, noticed: str) -> None:
    memory = open_memory()
    memory.add("the boat is called Fulmar", user_id="ida")
    (store / name).unlink()
    if noticed == "by an add":
        with pytest.raises(StoreGoneError, match=rf"{name} was removed.*nothing is lost"):
            memory.add("nowhere", user_id="ida")
    elif noticed == "in the background":
        until(lambda: "nothing is lost" in (memory.health().store_error or ""))
        with pytest.raises(StoreGoneError):
            memory.search("boat", user_id="ida")
    if noticed != "when it is closed":
        with open_memory() as new:
            assert contents(new) == ["the boat is called Fulmar"]
    memory.close()
    assert kept(store) == ["the boat is called Fulmar"]


def test_who_opens_before_it_is_noticed_has_to_wait(open_memory: Open, store: Path) -> None:
    code = """
import sys
from agentmem import Memory
from conftest import HashEmbedder
memory = Memory(sys.argv[1], embedder=HashEmbedder())
memory.add("the boat is called Fulmar", user_id="ida")
print("added", flush=True)
sys.stdin.readline()
memory.close()
"""
    process = child(code, store, stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "added\n"
    process.send_signal(signal.SIGSTOP)
    (store / "agentmem.db-wal").unlink()
    with pytest.raises(StoreGoneError, match="close it there"):
        open_memory().stats()
    process.send_signal(signal.SIGCONT)
    process.communicate("\n", timeout=60)
    assert contents(open_memory()) == ["the boat is called Fulmar"]


def test_a_deleted_log_is_saved_before_a_kill(open_memory: Open, store: Path) -> None:
    code = """
import sys, time
from agentmem import Memory
from conftest import HashEmbedder
memory = Memory(sys.argv[1], embedder=HashEmbedder())
memory.add("the boat is called Fulmar", user_id="ida")
print("added", flush=True)
while "nothing is lost" not in (memory.health().store_error or ""):
    time.sleep(0.01)
print("saved", flush=True)
time.sleep(60)
"""
    process = child(code, store)
    assert process.stdout is not None
    assert process.stdout.readline() == "added\n"
    (store / "agentmem.db-wal").unlink()
    assert process.stdout.readline() == "saved\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert kept(store) == ["the boat is called Fulmar"]


HOLDER = """
import sys
from agentmem import AgentMemError, Memory
from conftest import HashEmbedder
memory = Memory(sys.argv[1], embedder=HashEmbedder())
print(memory.add("the boat is called Fulmar", user_id="ida").status, flush=True)
for line in sys.stdin:
    try:
        if line == "close\\n":
            memory.close()
            print("closed", flush=True)
        elif line == "again\\n":
            print(Memory(sys.argv[1], embedder=HashEmbedder()).stats(), flush=True)
        else:
            print(memory.add(line, user_id="ida").status, flush=True)
    except AgentMemError as exc:
        print(type(exc).__name__, exc, flush=True)
"""


@pytest.mark.parametrize("closes", [True, False])
def test_a_log_that_was_replaced_harms_nobody(open_memory: Open, store: Path, closes: bool) -> None:
    """Somebody tidies up: locks, log and index are deleted under a client that is not looking, another one opens."""
    holder = child(HOLDER, store, stdin=subprocess.PIPE)

    def answer(to: str = "") -> str:
        assert holder.stdin is not None
        assert holder.stdout is not None
        if to:
            holder.stdin.write(f"{to}\n")
            holder.stdin.flush()
        return holder.stdout.readline()

    assert answer() == "added\n"
    holder.send_signal(signal.SIGSTOP)
    for file in [*store.glob("*.lock"), store / "agentmem.db-wal", store / "agentmem.db-shm"]:
        file.unlink()
    memory = open_memory()
    assert contents(memory) == []
    memory.add("the mooring is red", user_id="ida")
    holder.send_signal(signal.SIGCONT)
    assert "a copy of it is in" in answer("nowhere")
    memory.add("the jetty is wet", user_id="ida")
    memory.close()
    assert "end the program" in answer("again")
    if closes:
        assert answer("close") == "closed\n"
    holder.communicate(timeout=60)
    assert holder.returncode == 0
    assert kept(store) == ["the mooring is red", "the jetty is wet"]
    [aside] = store.glob("replaced-*/agentmem.db-wal")
    assert b"the boat is called Fulmar" in aside.read_bytes()


def test_a_database_that_is_overwritten_in_place(backed_up: Memory, store: Path) -> None:
    backed_up.add_many([f"buoy number {n} is green" for n in range(300)], user_id="ida")
    backed_up.compact()  # what was added is in the database, whose log is empty
    subprocess.run(["cp", str(store.parent / "backup" / "agentmem.db"), str(store / "agentmem.db")], check=True)
    with pytest.raises(StoreError):
        backed_up.add("nowhere", user_id="ida")
    assert not backed_up.health().ok
    with pytest.raises(StoreError):
        backed_up.search("boat", user_id="ida")


def test_a_database_that_is_overwritten_beside_a_log_that_hides_it(backed_up: Memory, store: Path) -> None:
    """Counters and newest rows are in the log, and what lies in between is no longer there."""
    backed_up.add_many([f"buoy number {n} is green" for n in range(300)], user_id="ida")
    backed_up.compact()
    backed_up.add("the mooring is red", user_id="ida")
    subprocess.run(["cp", str(store.parent / "backup" / "agentmem.db"), str(store / "agentmem.db")], check=True)
    with pytest.raises(StoreGoneError, match="overwritten in place"):
        backed_up.add("nowhere", user_id="ida")
    assert not backed_up.health().ok


@pytest.mark.slow
def test_checkpoints_of_other_processes_are_no_reason(backed_up: Memory, store: Path) -> None:
    code = "import sys; from agentmem import Memory; from conftest import HashEmbedder\n"
    code += "with Memory(sys.argv[1], embedder=HashEmbedder()) as memory:\n"
    code += "    for line in sys.stdin:\n"
    code += "        memory.add(line, user_id='ida'); memory.compact(); print('done', flush=True)\n"
    other = child(code, store, stdin=subprocess.PIPE)
    assert other.stdin is not None
    assert other.stdout is not None
    for n in range(5):
        other.stdin.write(f"oar {n}\n")
        other.stdin.flush()
        assert other.stdout.readline() == "done\n"
        backed_up.add(f"sail {n}", user_id="ida")
        backed_up.compact()
    assert other.communicate(timeout=60)[0] == ""
    assert len(contents(backed_up)) == 12


def test_what_only_looks_like_it_is_no_reason(backed_up: Memory, store: Path) -> None:
    """Another SQLite brings the log into the database, or somebody touches the files."""
    backed_up.add("the mooring is red", user_id="ida")
    code = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1])\n"
    code += "print(db.execute('PRAGMA wal_checkpoint(PASSIVE)').fetchall(), flush=True)\n"
    assert child(code, store / "agentmem.db").communicate(timeout=60)[0]
    backed_up.add("the jetty is wet", user_id="ida")
    for file in store.glob("agentmem.db*"):
        os.utime(file)
        file.chmod(0o640)
    backed_up.add("the light is green", user_id="ida")
    assert len(contents(backed_up)) == 5
    assert backed_up.health().ok


LOCKED = """
import sys, threading, time
from agentmem import Memory
from conftest import HashEmbedder
memory = Memory(sys.argv[1], embedder=HashEmbedder())
memory.warm_up()
print("ready", flush=True)
sys.stdin.readline()
for n in range(200):
    memory.add(f"{sys.argv[2]} {n}", user_id="ida")
memory.close()
"""


def test_lock_files_that_are_deleted_under_writers(open_memory: Open, store: Path) -> None:
    writers = [child(LOCKED, store, name, stdin=subprocess.PIPE) for name in ("port", "starboard")]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdin is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    memory = open_memory()
    while any(writer.poll() is None for writer in writers):
        for lock in store.glob("*.lock"):
            lock.unlink()
        memory.add(f"mast {time.monotonic()}", user_id="ben")
        time.sleep(0.005)
    for writer in writers:
        _, err = writer.communicate(timeout=60)
        assert writer.returncode == 0, err
    assert sorted(contents(memory)) == sorted(f"{name} {n}" for name in ("port", "starboard") for n in range(200))
    memory.flush()
    report = memory.verify()
    assert report.ok, report.problems


def test_a_salvage_knows_of_a_client_whose_lock_file_was_deleted(open_memory: Open, store: Path) -> None:
    memory = open_memory()
    memory.add("the boat is called Fulmar", user_id="ida")
    (store / "open.lock").unlink()
    until((store / "open.lock").exists)
    code = "import sys; from pathlib import Path; from agentmem import Settings, StoreLockedError\n"
    code += "from agentmem.operations.salvage import salvage; from conftest import HashEmbedder\n"
    code += "try: salvage(Path(sys.argv[1]), Settings(), HashEmbedder())\nexcept StoreLockedError: print('refused')"
    out, err = child(code, store).communicate(timeout=60)
    assert (out, err) == ("refused\n", "")
    memory.add("the berth is number nine", user_id="ida")


UNPACKED = {
    # New files take the names, lock files and all; the log has no counterpart.
    "tar": 'tar -C "$0/backup" -cf - . | tar -C "$1" -xf -',
    # The same files get another content.
    "copy": 'cp -r "$0/backup/." "$1"',
    "archive": 'cp -a "$0/backup/." "$1"',
    "database": 'cp -p "$0/backup/agentmem.db" "$1"',
    # The new file may get the number of the one that was deleted.
    "deleted": 'rm "$1/agentmem.db" && cp "$0/backup/agentmem.db" "$1"',
}
WRITER = """
import os, sys
from agentmem import Memory
from conftest import HashEmbedder
memory = Memory(sys.argv[1], embedder=HashEmbedder())
for n in range(3):
    memory.add_many([f"buoy {n}.{i}" for i in range(100)], user_id="ida")
    memory.compact()
memory.add("the berth is number nine", user_id="ida")
print("ready", flush=True)
sys.stdin.readline()
try:
    memory.add("nowhere", user_id="ida")
except Exception as exc:
    print(type(exc).__name__, flush=True)
memory.close()
"""


def writer(store: Path) -> subprocess.Popen[str]:
    process = child(WRITER, store, stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.slow
@pytest.mark.parametrize("way", UNPACKED)
@pytest.mark.parametrize("killed", [False, True])
def test_a_backup_that_is_unpacked_over_it(
    open_memory: Open, store: Path, way: str, killed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with open_memory() as memory:
        memory.add("the boat is called Fulmar", user_id="ida")
    backup(store)
    process = writer(store)
    if killed:
        process.kill()
        process.wait()
    subprocess.run(["sh", "-c", UNPACKED[way], str(store.parent), str(store)], check=True, timeout=60)
    assert process.communicate("" if killed else "\n", timeout=60)[0] == ("" if killed else "StoreGoneError\n")
    assert kept(store) == ["the boat is called Fulmar"]
    [log] = store.glob("replaced-*/agentmem.db-wal")
    assert b"the berth is number nine" in log.read_bytes()
    assert any("the log was moved" in record.getMessage() for record in caplog.records)


@pytest.mark.slow
@pytest.mark.parametrize("open_still", [False, True])
def test_a_folder_is_copied_with_its_log(open_memory: Open, store: Path, open_still: bool) -> None:
    """As it was left by a kill, or while nobody writes."""
    process = writer(store)
    if not open_still:
        process.kill()
        process.wait()
    for name in ("first", "second"):
        subprocess.run(["cp", "-a", str(store), str(store.parent / name)], check=True)
        found = kept(store.parent / name)
        assert len(found) == 301
        assert found[-1] == "the berth is number nine"
        assert not list((store.parent / name).glob("replaced-*"))
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_opens_disturbs_nobody(backed_up: Memory, store: Path) -> None:
    code = "import os, sys; from agentmem import Memory; from conftest import HashEmbedder\n"
    code += "from agentmem.stores.files import OpenFiles\n"
    code += "OpenFiles.connect = lambda *_, **__: os._exit(3)\n"
    code += "Memory(sys.argv[1], embedder=HashEmbedder()).stats()"
    killed = child(code, store)
    killed.communicate(timeout=60)
    assert killed.returncode == 3
    code = "import sys; from agentmem import Memory; from conftest import HashEmbedder\n"
    code += "with Memory(sys.argv[1], embedder=HashEmbedder()) as memory: print(memory.add('x', user_id='ida').status)"
    assert child(code, store).communicate(timeout=60)[0] == "added\n"
    backed_up.add("the mooring is red", user_id="ida")
    assert len(contents(backed_up)) == 4


def test_a_log_left_by_a_crash_beside_a_restored_database(backed_up: Memory, store: Path) -> None:
    """The folder as a killed process leaves it: only the database in it is then replaced."""
    backed_up.close()
    code = """
import os, sys
from agentmem import Memory
from conftest import HashEmbedder
Memory(sys.argv[1], embedder=HashEmbedder()).add("the mooring is red", user_id="ida")
os._exit(0)
"""
    child(code, store).communicate(timeout=60)
    assert (store / "agentmem.db-wal").stat().st_size
    saved = store.parent / "untouched"
    shutil.copytree(store, saved)  # a whole copy is a store, with the log that belongs to it
    assert kept(saved)[-1] == "the mooring is red"
    restored_by_name(store)
    assert kept(store) == ["the boat is called Fulmar"]
    assert len(list(store.glob("replaced-*"))) == 1


@pytest.fixture
def mounts(tmp_path: Path) -> Any:
    made = list[Path]()

    def mount(*arguments: str, at: Path) -> None:
        done = subprocess.run(["mount", *arguments, str(at)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"may not mount here: {done.stderr.strip()}")
        made.append(at)

    yield mount
    for at in reversed(made):
        subprocess.run(["umount", "-l", str(at)], check=False, capture_output=True)


def test_another_folder_is_mounted_over_it(open_memory: Open, tmp_path: Path, mounts: Any) -> None:
    store, other = tmp_path / "store", tmp_path / "other"
    for folder in (store, other):
        with open_memory(folder) as memory:
            memory.add(f"this is {folder.name}", user_id="ida")
    memory = open_memory(store)
    memory.add("the boat is called Fulmar", user_id="ida")
    mounts("--bind", str(other), at=store)
    with pytest.raises(StoreGoneError):
        memory.add("to which?", user_id="ida")
    assert contents(open_memory(store)) == ["this is other"]
    memory.close()
    open_memory(store).close()
    assert kept(other) == ["this is other"]


def test_a_volume_that_is_unmounted(open_memory: Open, tmp_path: Path, mounts: Any) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounts("-t", "tmpfs", "-o", "size=32m", "tmpfs", at=disk)
    memory = open_memory(disk / "store")
    memory.add("the boat is called Fulmar", user_id="ida")
    subprocess.run(["umount", "-l", str(disk)], check=True)
    with pytest.raises(StoreGoneError):
        memory.add("nowhere", user_id="ida")
    assert not (disk / "store").exists()
    memory.close()
    assert not (disk / "store").exists()


def test_one_store_by_two_paths(open_memory: Open, tmp_path: Path, mounts: Any) -> None:
    store, second = tmp_path / "store", tmp_path / "second"
    second.mkdir()
    memory = open_memory(store)
    memory.add("the boat is called Fulmar", user_id="ida")
    mounts("--bind", str(store), at=second)
    same = open_memory(second)
    same.add("the berth is number nine", user_id="ida")
    memory.add("the mooring is red", user_id="ida")
    assert contents(same) == contents(memory)
    assert len(contents(memory)) == 3
    memory.close()
    same.add("the jetty is wet", user_id="ida")
    same.close()
    assert len(kept(store)) == 4
