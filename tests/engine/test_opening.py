"""Opening a store: what cannot be one, what is damaged, what another process or version left, and what it costs."""

from __future__ import annotations

import gc
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, FakeClock, HashEmbedder

from agentmem import (
    InvalidInputError,
    Memory,
    ModelMismatchError,
    Settings,
    StoreCorruptError,
    StoreError,
    StoreVersionError,
)
from agentmem.stores.locks import refuse_network_filesystem

Open = Callable[..., Memory]


def sql(database: Path, *statements: str) -> None:
    """Change a database from another process: two SQLite libraries in one would undo each other's locks."""
    code = "import sqlite3, sys\n"
    code += "with sqlite3.connect(sys.argv[1]) as db:\n for s in sys.argv[2:]: db.execute(s)\ndb.close()"
    subprocess.run([sys.executable, "-c", code, str(database), *statements], check=True, timeout=60)


def python(code: str, *arguments: str, cwd: Path | None = None) -> str:
    """Run a program that uses the package; what it printed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def fill(open_memory: Open, count: int = 5, **options: Any) -> None:
    with open_memory(**options) as memory:
        memory.add_many([f"fact number {n}" for n in range(count)], user_id="ada")


def left(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# -- paths that cannot be a store ------------------------------------------------------------------------------------


def test_a_path_that_is_a_file(open_memory: Open, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    with pytest.raises(StoreError, match=r"is a file.*name another path"):
        open_memory(file).stats()
    with pytest.raises(StoreError, match="choose a folder you own"):
        open_memory(file / "below").stats()
    assert file.read_text() == "mine"
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_a_path_that_cannot_be_written(open_memory: Open, tmp_path: Path) -> None:
    # /proc refuses new folders to root as well; a closed folder refuses them to everybody else.
    places = [Path("/proc/agentmem")] if Path("/proc/self").exists() else []
    if os.geteuid() != 0:
        (tmp_path / "closed").mkdir(mode=0o500)
        places.append(tmp_path / "closed" / "store")
    if not places:
        pytest.skip("no place here that this user may not write to")
    for place in places:
        with pytest.raises(StoreError, match="choose a folder you own"):
            open_memory(place).add("x")
        assert not place.exists()


def test_a_store_that_became_read_only(open_memory: Open, store: Path, tmp_path: Path) -> None:
    fill(open_memory)
    mount = tmp_path / "mounted"
    mount.mkdir()
    mounted = subprocess.run(["mount", "--bind", str(store), str(mount)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("may not mount here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(mount)], check=True, capture_output=True)
        with pytest.raises(StoreError, match="choose a folder you own"):
            open_memory(mount).stats()
    finally:
        subprocess.run(["umount", str(mount)], check=True)
    assert open_memory().stats().records == 5


@pytest.mark.parametrize("name", ["x" * 5_000, "a/" * 3_000], ids=["name", "path"])
def test_a_path_that_is_too_long(open_memory: Open, tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="cannot be used as a store"):
        open_memory(tmp_path / name).stats()


@pytest.mark.parametrize(
    "name", ["it's", "a b", "50%", "q?x=1", "#1", "\u00e9\U0001f600", "\u202eevil", "file:x", "new\nline"]
)
def test_paths_with_strange_names(open_memory: Open, tmp_path: Path, name: str) -> None:
    fill(open_memory, path=tmp_path / name)
    assert open_memory(tmp_path / name).stats().records == 5
    assert os.listdir(tmp_path) == [name]


def test_network_filesystems_are_refused() -> None:
    mounts = "/dev/sda1 / ext4 rw 0 0\nserver:/x /mnt/my\\040share nfs4 rw 0 0\n"
    mounts += "/dev/sdb /mnt/my\\040share/local ext4 rw 0 0\n"
    refuse_network_filesystem(Path("/home/ada/store"), mounts)
    refuse_network_filesystem(Path("/mnt/my share/local/store"), mounts)
    refuse_network_filesystem(Path("/mnt/my shared/store"), mounts)
    for path in ("/mnt/my share", "/mnt/my share/a/store"):
        with pytest.raises(StoreError, match=r"network file system \(nfs4 at /mnt/my share\).*local disk"):
            refuse_network_filesystem(Path(path), mounts)
    refuse_network_filesystem(Path("/x"), "")
    refuse_network_filesystem(Path("/x"), "garbage\n\n")


# -- databases that are not ours, or no longer whole -----------------------------------------------------------------


def test_a_store_of_a_newer_version(open_memory: Open, store: Path) -> None:
    fill(open_memory)
    sql(store / "agentmem.db", "INSERT INTO migrations VALUES ('9999_future', 0)")
    before = left(store)
    with pytest.raises(StoreVersionError, match=r"9999_future.*pip install -U agentmem-db"):
        open_memory().stats()
    assert left(store)["agentmem.db"] == before["agentmem.db"]
    sql(store / "agentmem.db", "DELETE FROM migrations WHERE name = '9999_future'")
    assert open_memory().stats().records == 5


def test_somebody_elses_database(open_memory: Open, store: Path) -> None:
    store.mkdir()
    sql(store / "agentmem.db", "CREATE TABLE invoices (n)", "INSERT INTO invoices VALUES (1)")
    with pytest.raises(StoreCorruptError, match=r"not one of this library.*another path"):
        open_memory().stats()
    sql(store / "agentmem.db", "INSERT INTO invoices SELECT n + 1 FROM invoices")


@pytest.mark.parametrize("damage", ["garbage", "truncated", "header"])
def test_a_damaged_database(open_memory: Open, store: Path, damage: str) -> None:
    fill(open_memory, count=300)
    database = store / "agentmem.db"
    whole = database.read_bytes()
    if damage == "garbage":
        database.write_bytes(os.urandom(8_192))
    elif damage == "header":
        database.write_bytes(bytes(100) + whole[100:])
    else:
        database.write_bytes(whole[:4_096])
    with pytest.raises(StoreCorruptError, match="backup"):
        list(open_memory().iterate(user_id="ada"))
    database.write_bytes(whole)
    memory = open_memory()
    assert len(list(memory.iterate(user_id="ada"))) == 300
    assert memory.verify().ok


def test_an_opening_that_failed_leaves_no_threads_and_no_lock(open_memory: Open, store: Path) -> None:
    import threading

    fill(open_memory)
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(ModelMismatchError):
            open_memory(embedder=Other()).stats()
    assert threading.active_count() == before
    assert open_memory().stats().records == 5


# -- LanceDB is derived ----------------------------------------------------------------------------------------------


def test_vectors_without_memories(open_memory: Open, store: Path) -> None:
    fill(open_memory)
    with open_memory() as memory:
        memory.flush()
    for file in store.glob("agentmem.db*"):
        file.unlink()
    with pytest.raises(StoreCorruptError, match=r"no agentmem\.db.*backup.*start empty"):
        open_memory().stats()
    shutil.rmtree(store / "lance")
    assert open_memory().stats().records == 0


@pytest.mark.parametrize(
    "damage", ["gone", "a file", "no data", "no manifests", "zeroed manifests", "zeroed data", "older"]
)
def test_half_a_lance_folder_heals(open_memory: Open, store: Path, damage: str) -> None:
    # An arena holds ten records here, so that searches do need LanceDB.
    options = {"settings": Settings(arena_limit=10, follower_delay_s=0.05)}
    lance = store / "lance"
    with open_memory(**options) as memory:
        memory.add_many([f"fact number {n}" for n in range(30)], user_id="ada")
        memory.flush()
        older = shutil.copytree(lance, store / "older")
        memory.add_many([f"later fact {n}" for n in range(30)], user_id="ada")
        memory.flush()
        expected = [(hit.id, hit.score) for hit in memory.search("fact number 7", user_id="ada", limit=5)]
    shutil.move(older, older := store.parent / "older")
    if damage in ("gone", "a file", "older"):
        shutil.rmtree(lance)
    if damage == "a file":
        lance.write_text("not a folder")
    elif damage == "older":
        shutil.move(older, lance)
    for file in [file for file in lance.rglob("*") if file.is_file()] if lance.is_dir() and damage != "older" else []:
        matches = file.suffix == ".manifest" if "manifests" in damage else "data" in file.parts
        if matches and damage.startswith("no "):
            file.unlink()
        elif matches:
            file.write_bytes(bytes(0 if "manifests" in damage else file.stat().st_size))
    memory = open_memory(**options)
    assert [(hit.id, hit.score) for hit in memory.search("fact number 7", user_id="ada", limit=5)] == expected
    memory.flush()
    report = memory.verify()
    assert report.ok, report.problems
    assert report.counts["lancedb"] == 60
    assert [(hit.id, hit.score) for hit in memory.search("fact number 7", user_id="ada", limit=5)] == expected
    assert memory.health().ok


# -- models and settings ---------------------------------------------------------------------------------------------


class Other(HashEmbedder):
    name = "another-model"


class Wider(HashEmbedder):
    dim = 64


@pytest.mark.parametrize("other", [Other(), Wider()], ids=["name", "dim"])
def test_another_model(open_memory: Open, store: Path, other: HashEmbedder) -> None:
    fill(open_memory)
    with pytest.raises(ModelMismatchError) as caught:
        open_memory(embedder=other).search("fact")
    for word in ("hashed-words-32", "32", other.name, str(other.dim), str(store)):
        assert word in str(caught.value)
    memory = open_memory()
    with pytest.raises(ModelMismatchError):
        open_memory(embedder=other).search("fact")
    assert memory.search("fact", user_id="ada")
    assert memory.verify().ok


def test_one_path_has_one_engine(open_memory: Open, store: Path, tmp_path: Path, clock: FakeClock) -> None:
    memory = open_memory()
    id = memory.add("shared").id
    for options in ({"settings": Settings(batch_size=5)}, {"clock": FakeClock()}, {"clock": None}):
        with pytest.raises(InvalidInputError, match=r"already open in this process.*same ones"):
            open_memory(**options).stats()
    (tmp_path / "link").symlink_to(store)
    for path in (tmp_path / "link", store / ".." / "store", os.path.relpath(store)):
        second = open_memory(path, embedder=HashEmbedder())
        assert second.get(id) == memory.get(id)
        assert second.handle.engine() is memory.handle.engine()
    memory.close()
    assert open_memory().get(id)


# -- what opening costs, and what it leaves --------------------------------------------------------------------------


def test_importing_and_constructing_are_cheap(tmp_path: Path) -> None:
    code = """
import sys, time
start = time.process_time()
import agentmem
took = time.process_time() - start
agentmem.Memory(), agentmem.AsyncMemory(), agentmem.Memory("somewhere").scoped(user_id="ada")
print(took, *[name for name in ("numpy", "lancedb", "pyarrow", "fastembed", "onnxruntime") if name in sys.modules])
"""
    runs = [python(code, cwd=tmp_path).split() for _ in range(5)]
    assert [run[1:] for run in runs] == [[]] * 5
    assert min(float(run[0]) for run in runs) < 0.15
    assert not list(tmp_path.iterdir())


def test_scoped_use_needs_no_lancedb(tmp_path: Path) -> None:
    code = """
import sys
import threading
from agentmem import Memory
with Memory() as memory:
    id = memory.add("Ada likes tea", user_id="ada").id
    assert [hit.id for hit in memory.search("what does Ada drink?", user_id="ada")] == [id]
    memory.update(id, metadata={"seen": True})
    memory.delete(id)
    print([name for name in ("lancedb", "pyarrow", "fastembed", "asyncio") if name in sys.modules])
"""
    assert python(code, cwd=tmp_path) == "[]\n"
    assert os.listdir(tmp_path) == [".agentmem"]


@pytest.mark.slow
def test_vectors_are_checked_without_lancedb(tmp_path: Path) -> None:
    """Whoever only reads is spared its 130 MB, and the seconds that loading it takes."""
    code = """
import sys
import threading
from agentmem import Memory
with Memory() as memory:
    memory.{call}
    memory.flush()
    print("lancedb" in sys.modules, memory.health().vector_rebuilds)
"""
    assert python(code.format(call="add('Ada likes tea', user_id='ada')"), cwd=tmp_path) == "True 0\n"
    searching = code.format(call="search('tea', user_id='ada')")
    assert python(searching, cwd=tmp_path) == "False 0\n"
    for file in (tmp_path / ".agentmem" / "lance").rglob("*.lance"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-1])
    assert python(searching, cwd=tmp_path) == "True 1\n"
    assert python(searching, cwd=tmp_path) == "False 0\n"


@pytest.mark.slow
def test_lancedb_is_loaded_in_a_pause_of_those_who_add(tmp_path: Path) -> None:
    code = """
import sys, time
from agentmem import Memory, Settings
from agentmem.engine import follower
follower._PAUSE, follower._LOAD_WITHIN = {pause}, {within}
deadline = time.monotonic() + 60
with Memory(settings=Settings(follower_group=1, follower_delay_s=0)) as memory:
    for n in range({adds}):
        memory.add(f"fact {{n}}", user_id="ada")
        if "lancedb" in sys.modules or time.monotonic() > deadline:
            break
    print("lancedb" in sys.modules)
    while memory.health().vectors_behind and time.monotonic() < deadline:
        time.sleep(0.01)
    print(memory.health().vectors_behind)
"""
    assert python(code.format(pause=2, within=60, adds=500), cwd=tmp_path) == "False\n0\n"
    # Those who never pause are not waited for without end.
    assert python(code.format(pause=0.05, within=0.5, adds=10**9), cwd=tmp_path) == "True\n0\n"


def test_closing_closes_every_file(open_memory: Open, store: Path) -> None:
    fill(open_memory)
    with open_memory() as memory:
        memory.search("tea")
    opened = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert not [name for name in opened if name.startswith(f"{store}/agentmem.db")]
    assert not list(store.glob("agentmem.db-*"))  # whoever closes last merges the log


def test_a_store_is_its_owners(open_memory: Open, store: Path) -> None:
    before = os.umask(0)
    try:
        fill(open_memory)
        with open_memory() as memory:
            memory.flush()
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.stat().st_mode) == 0o700
    for file in store.glob("*"):
        if file.is_file():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_process_that_just_ends_keeps_what_was_acknowledged(store: Path, open_memory: Open) -> None:
    code = """
import sys
import threading
from agentmem import Memory
from conftest import HashEmbedder
memory = Memory(sys.argv[1], embedder=HashEmbedder())
for n in range(20):
    memory.add(f"fact number {n}", user_id="ada")
print(memory.stats().records)
"""
    assert python(code, str(store), cwd=ROOT) == "20\n"
    memory = open_memory()
    assert sorted(record.content for record in memory.iterate(user_id="ada")) == sorted(
        f"fact number {n}" for n in range(20)
    )
    assert memory.verify().ok


def test_an_async_program_that_just_ends(store: Path, open_memory: Open) -> None:
    code = """
import asyncio, sys
from agentmem import AsyncMemory
from conftest import HashEmbedder
async def main():
    memory = AsyncMemory(sys.argv[1], embedder=HashEmbedder())
    print(len(await asyncio.gather(*(memory.add(f"fact number {n}", user_id="ada") for n in range(20)))))
asyncio.run(main())
"""
    assert python(code, str(store), cwd=ROOT) == "20\n"
    assert open_memory().stats().records == 20


def test_closing_keeps_nobody_from_writing_who_keeps_it_waiting(open_memory: Callable[..., Memory]) -> None:
    """As in a signal handler on top of a statement, while another thread closes the client that it is of."""
    memory = open_memory()
    memory.add("the kite is red", user_id="ida")
    db = memory.handle.engine().repository.db
    assert db.still(0)
    closing = threading.Thread(target=memory.close)
    closing.start()
    with open_memory() as other:
        for n in range(40):
            assert other.add(f"the kite has {n} ribbons", user_id="ida").status == "added"
        assert closing.is_alive()
        db.go_on()
        closing.join(20)
        assert not closing.is_alive()


def test_what_is_closed_holds_nothing_of_its_folder(open_memory: Open, store: Path) -> None:
    """Not even until it is collected: a program that closes what it opens does not run out of descriptors."""
    body = bytes(range(256)) * 4_096

    def held() -> list[str]:
        links = list(Path("/proc/self/fd").iterdir())
        return [where for link in links if link.is_symlink() and (where := os.readlink(link)).startswith(str(store))]

    gc.disable()
    try:
        closed = list[Memory]()
        for _ in range(3):
            memory, other = open_memory(), open_memory()
            memory.values.put("k", body)
            assert other.values.get("k") == body
            memory.close()
            assert other.values.get("k") == body  # which goes on
            stream = other.values.open("k")
            other.close()
            closed += memory, other
            del stream
            assert held() == []
    finally:
        gc.enable()
