"""Programs that fork after they have used a store, as servers do that load the application before their workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, HashEmbedder

from agentmem import Memory

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

PARENT = """
import os, signal, sys
from agentmem import Memory
from conftest import HashEmbedder

path, end = sys.argv[1:]
Memory(path, embedder=HashEmbedder()).add("before")
parent = Memory(path, embedder=HashEmbedder(), read_only=end == "close a reader")
parent.search("before")
if not os.fork():
    memory = Memory(path, embedder=HashEmbedder())
    print(memory.add("first").status, flush=True)
    sys.stdin.readline()
    print(memory.add("second").status, memory.search("second", mode="keyword")[0].content, flush=True)
    memory.close()
    os._exit(0)
os.read(int(sys.stdin.readline()), 1)
"""
PARENT = """
import os, signal, sys
from agentmem import Memory
from conftest import HashEmbedder

path, end = sys.argv[1:]
parent = Memory(path, embedder=HashEmbedder(), read_only=end == "close a reader")
parent.search("before")
told, tell = os.pipe()
if not os.fork():
    memory = Memory(path, embedder=HashEmbedder())
    memory.add("first")
    os.write(tell, b".")
    sys.stdin.readline()
    print(memory.add("second").status, memory.search("second", mode="keyword")[0].content, flush=True)
    memory.close()
    os._exit(0)
os.read(told, 1)
if end == "kill":
    print("killed", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
parent.close()
print("closed", flush=True)
"""


OPENING = """
import os, signal, sys, threading, time
from agentmem import Memory
from conftest import HashEmbedder

for n in range(10):
    path = f"{sys.argv[1]}-{n}"
    parent = Memory(path, embedder=HashEmbedder())
    thread = threading.Thread(target=lambda: parent.add("by the parent"))
    thread.start()
    children = []
    for k in range(3):
        time.sleep((3 * n + k) % 10 * 0.001)
        child = os.fork()
        if not child:
            signal.alarm(20)
            with Memory(path, embedder=HashEmbedder()) as memory:
                memory.add(f"by child {k}")
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0], n
    thread.join()
    assert parent.count() == 4 and parent.verify().ok
    parent.close()
print("fine")
"""
IN_THE_MIDDLE = """
import os, sys, threading
from agentmem import Memory, StoreError
from agentmem.stores import forks
from conftest import HashEmbedder

forks._PATIENCE = 0.1
memory = Memory(sys.argv[1], embedder=HashEmbedder())
memory.add("before")
inside, go_on = threading.Event(), threading.Event()
memory.handle.engine().commits.begun.subscribe(lambda _: (inside.set(), go_on.wait(30)))
thread = threading.Thread(target=memory.add, args=["a long one"])
thread.start()
inside.wait(30)
child = os.fork()
if not child:
    try:
        Memory(sys.argv[1], embedder=HashEmbedder()).add("by the child")
    except StoreError as exc:
        print("long transaction" in str(exc), "spawn" in str(exc), flush=True)
    Memory(sys.argv[1] + "-other", embedder=HashEmbedder()).add("by the child")
    os._exit(0)
go_on.set()
thread.join()
assert os.waitpid(child, 0)[1] == 0
print(memory.add("after").status, memory.count(), memory.verify().ok)
"""

AFTER_LANCEDB = """
import os, sys
from agentmem import Memory
from conftest import HashEmbedder

parent = Memory(sys.argv[1], embedder=HashEmbedder())
parent.add("before")
parent.flush()
assert "lancedb" in sys.modules
child = os.fork()
if not child:
    print(Memory(sys.argv[1], embedder=HashEmbedder()).add("by the child").status, flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""

IMPORTING = """
import os, signal, sys, threading, time
from agentmem import Memory
from conftest import HashEmbedder

parent = Memory(sys.argv[1], embedder=HashEmbedder())
parent.add("before")


class Slow:
    def find_spec(self, name, path=None, target=None):
        if threading.current_thread() is thread and not begun.is_set():
            begun.set()
            time.sleep(0.5)


begun = threading.Event()
sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=lambda: parent.export(sys.argv[2] + "/export"))
thread.start()
begun.wait(20)
child = os.fork()
if not child:
    signal.alarm(20)
    memory = Memory(sys.argv[1], embedder=HashEmbedder())
    print(memory.add("by the child").status, flush=True)
    memory.export(sys.argv[2] + "/child")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
thread.join()
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, *map(str, arguments)],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("end", ["close", "kill", "close a reader"])
def test_a_forked_child_has_its_store_when_the_parent_is_gone(store: Path, end: str) -> None:
    """The child took itself for holding the parent's locks, and the log was removed while it had that open."""
    other = Memory(store, embedder=HashEmbedder())
    other.add("before")
    with start(PARENT, store, end) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == ("killed\n" if end == "kill" else "closed\n")
        other.close()
        with Memory(store, embedder=HashEmbedder()) as other:
            other.add("another came by")
        assert parent.communicate("\n", timeout=60) == ("added second\n", "")
    with Memory(store, embedder=HashEmbedder()) as memory:
        assert memory.count() == 4
        assert memory.verify().ok


def test_a_fork_waits_for_a_store_that_is_being_opened(store: Path) -> None:
    """Two of five children could never write, and kept all others from it, or waited for a module for ever."""
    with start(OPENING, store) as parent:
        assert parent.communicate(timeout=120) == ("fine\n", "")


def test_a_child_of_a_long_transaction_is_told_so(store: Path) -> None:
    """It waited for half a minute, and so did whoever wrote, since it had the lock between processes meanwhile."""
    with start(IN_THE_MIDDLE, store) as parent:
        assert parent.communicate(timeout=60) == ("True True\nadded 3 True\n", "")


def test_a_fork_warns_of_nothing_that_is_seen_to(store: Path) -> None:
    """LanceDB warned of itself in every child, which does not use it."""
    with start(AFTER_LANCEDB, store) as parent:
        assert parent.communicate(timeout=60) == ("added\n", "")


def test_a_fork_waits_for_what_a_call_imports(store: Path) -> None:
    """A child waited for ever for the module that a thread of its parent was importing."""
    with start(IMPORTING, store, store.parent) as parent:
        assert parent.communicate(timeout=60) == ("added\n", "")
