"""Where a store is: paths as people write them, resolved once, and the private store behind ``:memory:``."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, HashEmbedder

from agentmem import AsyncMemory, InvalidInputError, Memory, StoreError

Open = Callable[..., Memory]


def python(code: str, *arguments: object, cwd: Path, **variables: str) -> list[str]:
    header = "import os, sys\nfrom agentmem import *\nfrom conftest import HashEmbedder\nwords = HashEmbedder()\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))), **variables}
    done = subprocess.run(
        [sys.executable, "-c", header + code, *map(str, arguments)],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.splitlines()


# -- resolved when the client is made --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["notes", "./notes", "deep/er/notes", "../here/notes", Path("notes"), None])
@pytest.mark.parametrize("client", [Memory, AsyncMemory])
def test_a_relative_path_means_what_it_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Any, client: Any
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    memory = client(path, embedder=HashEmbedder())
    assert list(here.iterdir()) == []  # a constructor makes nothing
    monkeypatch.chdir(there)
    if client is Memory:
        memory.add("the key is under the pot", user_id="ida")
        memory.close()
    else:
        import anyio

        async def use() -> None:
            await memory.add("the key is under the pot", user_id="ida")
            await memory.aclose()

        anyio.run(use)
    assert list(there.iterdir()) == []
    expected = here / (".agentmem" if path is None else path)
    with Memory(expected, embedder=HashEmbedder()) as again:
        assert again.stats().records == 1


def test_a_client_outlives_the_working_directory(tmp_path: Path) -> None:
    code = """
os.mkdir("short-lived")
os.chdir("short-lived")
first = Memory("../kept", embedder=words)
os.rmdir(os.getcwd())
first.add("still here", user_id="ida")
first.close()
for path in ("relative", None):
    try:
        Memory(path)
    except StoreError as exc:
        print(exc)
Memory(sys.argv[1], embedder=words).add("absolute", user_id="ida")
"""
    said = python(code, tmp_path / "absolute", cwd=tmp_path)
    assert len(said) == 2
    assert all("working directory is gone" in line and "absolute path" in line for line in said)
    assert {path.name for path in tmp_path.iterdir()} == {"absolute", "kept"}


def test_a_link_is_followed_when_it_is_opened(open_memory: Open, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with open_memory(tmp_path / "link") as memory:
        memory.add("through a link", user_id="ida")
    assert (tmp_path / "target" / "agentmem.db").exists()
    # What the system makes of "..": the folder above the target, not the one above the link.
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "short").symlink_to(tmp_path / "a" / "b")
    with open_memory(f"{tmp_path}/short/../beside") as memory:
        memory.add("beside b", user_id="ida")
    assert (tmp_path / "a" / "beside" / "agentmem.db").exists()


# -- home folders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["~/notes", Path("~/notes"), "~/deep/notes"])
def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Any) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with Memory(path, embedder=HashEmbedder()) as memory:
        memory.add("at home", user_id="ida")
    assert (tmp_path / "home" / Path(*Path(path).parts[1:]) / "agentmem.db").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["home"]


def test_the_home_folder_of_somebody(tmp_path: Path) -> None:
    import pwd

    me = pwd.getpwuid(os.getuid())
    assert Memory(f"~{me.pw_name}/notes").handle.path == Path(me.pw_dir) / "notes"
    assert Memory("~").handle.path == Path(os.path.expanduser("~"))
    with pytest.raises(InvalidInputError, match=r"home folder of '~nobody-of-that-name'.*\./~nobody"):
        Memory("~nobody-of-that-name/notes")
    assert Memory("./~nobody-of-that-name").handle.path == Path.cwd() / "~nobody-of-that-name"
    assert Memory("notes~").handle.path == Path.cwd() / "notes~"
    assert Memory("a/~/b").handle.path == Path.cwd() / "a" / "~" / "b"


# -- what is no folder here ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("sqlite:///agent.db", "write 'agent.db'"),
        ("sqlite:////var/agent", "write '/var/agent'"),
        ("sqlite+aiosqlite:///agent.db", "name that"),
        ("sqlite://", "write ':memory:'"),
        ("sqlite:///:memory:", "write ':memory:'"),
        ("sqlite::memory:", "write ':memory:'"),
        ("file::memory:?cache=shared", "write ':memory:'"),
        ("file:///var/agent", "write '/var/agent'"),
        ("file:agent?mode=ro", "write 'agent'"),
        ("FILE:///var/agent", "write '/var/agent'"),
        ("memory://", "write ':memory:'"),
        ("libsql:///agent", "write 'agent'"),
        ("libsql://me.example.org", "name that, such as './memories'"),
        ("http://localhost:8000", "name that"),
        ("https://example.org/x", "name that"),
        ("s3://bucket/prefix", "name that"),
        ("gs://bucket", "name that"),
        ("postgresql+psycopg://u:p@h/db", "name that"),
        ("redis://localhost:6379/0", "name that"),
        (":memory:x:", "':memory:' is a private store"),
        ("::memory::", "':memory:' is a private store"),
        ("C:\\Users\\ida\\notes", "path of Windows"),
        ("d:/notes", "path of Windows"),
        ("\\\\server\\share", "path of Windows"),
        ("data\\notes", "write 'data/notes'"),
        (".\\notes", "write './notes'"),
        ("$HOME/notes", "os.path.expandvars"),
        ("${XDG_DATA_HOME}/notes", "os.path.expandvars"),
        ("%APPDATA%\\notes", "os.path.expandvars"),
    ],
)
@pytest.mark.parametrize("wrap", [str, Path])
def test_what_is_no_folder_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, meant: str, wrap: Callable[[str], Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    for client in (Memory, AsyncMemory):
        with pytest.raises(InvalidInputError) as caught:
            client(wrap(path))
        assert caught.value.field == "path"
        if wrap is str:  # pathlib has dropped slashes
            assert meant in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["", " ", "\t\n", b"notes", b"", 7, 1.5, ["notes"], object(), "a\0b", "\ud800"])
def test_what_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError) as caught:
        Memory(path)
    assert caught.value.field == "path"
    assert ("os.fsdecode" in str(caught.value)) == isinstance(path, bytes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "path", ["user:17", "2026-11-26T10:00", "a b", "50%", "#1", "c", "notes~", "notes.db", "x=$y", "-p", "http"]
)
def test_names_that_are_nothing_else(
    open_memory: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_memory(path) as memory:
        memory.add("x", user_id="ida")
    assert os.listdir(tmp_path) == [path]


@pytest.mark.parametrize("name", ["sqlite:", "file:x", "~", "$HOME", "C:\\x", "a\\b", ":x:"])
def test_any_name_can_be_meant(open_memory: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (f"./{name}", tmp_path / name, f"{tmp_path}/{name}"):
        with open_memory(path) as memory:
            memory.add("x", user_id="ida")
    assert os.listdir(tmp_path) == [name]


class Folder:
    """What ``os.PathLike`` means."""

    def __init__(self, name: Any) -> None:
        self.name = name

    def __fspath__(self) -> Any:
        return self.name


def test_path_likes(open_memory: Open, tmp_path: Path) -> None:
    assert Memory(Folder(str(tmp_path))).handle.path == tmp_path
    with pytest.raises(InvalidInputError, match=r"os\.fsdecode"):
        Memory(Folder(b"x"))


def test_files_of_a_store_are_no_store(open_memory: Open, store: Path) -> None:
    with open_memory() as memory:
        memory.add("x", user_id="ida")
        memory.flush()
    before = sorted(file.name for file in store.iterdir())
    with pytest.raises(StoreError, match=rf"name its folder, {store}"):
        open_memory(store / "agentmem.db").stats()
    for inside in (store / "lance", store / "lance" / "vectors_1.lance" / "x"):
        with pytest.raises(StoreError, match="inside of the store"):
            open_memory(inside).stats()
    assert sorted(file.name for file in store.iterdir()) == before
    # A folder that happens to be called so is as good as any.
    with open_memory(store.parent / "lance" / "mine") as memory:
        memory.add("y", user_id="ida")


# -- :memory: --------------------------------------------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's temporary files go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize("path", [":memory:", Path(":memory:")])
def test_a_private_store(temporary: Path, path: Any) -> None:
    first, second = Memory(path, embedder=HashEmbedder()), Memory(path, embedder=HashEmbedder())
    assert os.listdir(temporary) == []
    id = first.add("the kettle is on", user_id="ida").id
    second.add("the lamp is lit", user_id="ida")
    assert [record.content for record in first.iterate(user_id="ida")] == ["the kettle is on"]
    assert [record.content for record in second.iterate(user_id="ida")] == ["the lamp is lit"]
    view = first.scoped(user_id="ida")
    view.add("the window is open")
    assert first.stats().records == 2
    assert first.search("kettle", user_id="ida")[0].id == id
    first.flush()
    assert first.verify().ok
    assert len(os.listdir(temporary)) == 2
    assert all(os.stat(temporary / name).st_mode & 0o077 == 0 for name in os.listdir(temporary))
    view.close()
    assert first.get(id) is not None
    first.close()
    first.close()
    assert len(os.listdir(temporary)) == 1
    second.close()
    assert os.listdir(temporary) == []
    assert os.listdir(temporary.parent) == ["temporary"]


def test_an_unused_private_store_leaves_nothing(temporary: Path) -> None:
    Memory(":memory:").close()
    assert os.listdir(temporary) == []


def test_private_stores_are_gone_at_exit(tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    code = """
import asyncio, gc
memory = Memory(":memory:", embedder=words)
memory.add("the kettle is on", user_id="ida")
memory.search("kettle", user_id="ida")
dropped = Memory(":memory:", embedder=words)
dropped.add("the lamp is lit", user_id="ida")
del dropped
gc.collect()
async def use():
    await AsyncMemory(":memory:", embedder=words).add("the window is open", user_id="ida")
asyncio.run(use())
print(len(os.listdir(os.environ["TMPDIR"])))
"""
    said = python(code, cwd=tmp_path, TMPDIR=str(tmp_path / "temporary"))
    assert said[0] in ("2", "3")
    assert os.listdir(tmp_path / "temporary") == []
    assert os.listdir(tmp_path) == ["temporary"]


def test_what_is_written_while_a_private_folder_is_removed_goes_at_exit(tmp_path: Path) -> None:
    code = """
import threading
from agentmem.stores.private import PrivateFolder
folder = PrivateFolder()
path, over, writing = folder.open(), threading.Event(), threading.Event()
def write():
    number = 0
    while not over.is_set():
        try:
            os.makedirs(path / "part", exist_ok=True)
            (path / "part" / str(number)).touch()
            number += 1
        except OSError:
            pass
        writing.set()
threads = [threading.Thread(target=write) for _ in range(4)]
for thread in threads:
    thread.start()
writing.wait()
del folder
over.set()
for thread in threads:
    thread.join()
os.makedirs(path / "part", exist_ok=True)
"""
    python(code, cwd=tmp_path, TMPDIR=str(tmp_path))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_leaves_it_alone(tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    code = """
memory = Memory(":memory:", embedder=words)
memory.add("the kettle is on", user_id="ida")
if (child := os.fork()) == 0:
    try:
        memory.add("in the child", user_id="ida")
    except StoreError:
        print("refused", flush=True)
    memory.close()
    mine = Memory(":memory:", embedder=words)
    mine.add("the child's own", user_id="ida")
    print(mine.stats().records, flush=True)
    sys.exit()
os.waitpid(child, 0)
memory.add("the lamp is lit", user_id="ida")
print(memory.stats().records, memory.health().ok, len(os.listdir(os.environ["TMPDIR"])))
"""
    said = python(code, cwd=tmp_path, TMPDIR=str(tmp_path / "temporary"))
    assert said == ["refused", "1", "2 True 1"]
    assert os.listdir(tmp_path / "temporary") == []


def test_a_dropped_private_client_is_not_kept_alive(temporary: Path) -> None:
    import weakref

    memory = Memory(":memory:", embedder=HashEmbedder())
    memory.add("x", user_id="ida")
    handle = weakref.ref(memory.handle)
    memory.close()
    del memory
    gc.collect()
    assert handle() is None


def test_nothing_to_read_in_a_new_private_store() -> None:
    with pytest.raises(InvalidInputError, match="begins empty") as caught:
        Memory(":memory:", read_only=True)
    assert caught.value.field == "read_only"
    for wrong in ("yes", 1, None):
        with pytest.raises(InvalidInputError, match="read_only"):
            Memory("x", read_only=wrong)  # pyright: ignore[reportArgumentType]
