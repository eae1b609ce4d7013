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


@pytest.mark.parametrize("end", ["close", "kill", "close a reader"])
def test_a_forked_child_has_its_store_when_the_parent_is_gone(store: Path, end: str) -> None:
    """The child took itself for holding the parent's locks, and the log was removed while it had that open."""
    other = Memory(store, embedder=HashEmbedder())
    other.add("before")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(store), end],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        assert parent.stdout.readline() == ("killed\n" if end == "kill" else "closed\n")
        other.close()
        with Memory(store, embedder=HashEmbedder()) as other:
            other.add("another came by")
        assert parent.communicate("\n", timeout=60) == ("added second\n", "")
    with Memory(store, embedder=HashEmbedder()) as memory:
        assert memory.count() == 4
        assert memory.verify().ok
