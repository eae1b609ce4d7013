"""What is said where the system refuses: in processes of their own, whose limits are lowered."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from agentmem import Memory, StoreError
from agentmem.types.refusals import refusal

BEGIN = """
import json, os, resource, sys
from agentmem import AgentMemError, Memory

def limit(which, most):
    resource.setrlimit(which, (most, resource.getrlimit(which)[1]))

def told(call):
    try:
        call()
    except AgentMemError as exc:
        return str(exc)
    return None
"""
FILES = (
    BEGIN
    + """
with Memory(sys.argv[1]) as memory:
    id = memory.add("Ida keeps bees.", user_id="ida").id
    memory.search("bees", user_id="ida")
    assert memory.verify().ok
    said = []
    for left in range(4):
        limit(resource.RLIMIT_NOFILE, 200)
        opened = []
        try:
            while True:
                opened.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            for each in opened[:left]:
                os.close(each)
            del opened[:left]
        said += [told(memory.verify), told(lambda: Memory(sys.argv[1] + "-other").add("Ida left."))]
        for each in opened:
            os.close(each)
    assert memory.get(id).content == "Ida keeps bees."
    assert memory.verify().ok
    print(json.dumps([text for text in said if text]))
"""
)
SIZE = (
    BEGIN
    + """
with Memory(sys.argv[1]) as memory:
    memory.add("Ida keeps bees.", user_id="ida")
    memory.flush()
    limit(resource.RLIMIT_FSIZE, 700_000)
    added = 1

    def go_on():
        global added
        while added < 3_000:
            memory.add(f"{added} " + "x" * 400, user_id="ida")
            added += 1

    said = [told(go_on), told(lambda: memory.values.put("k", os.urandom(3_000_000)))]
    limit(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
    memory.add("Ida is back.", user_id="ida")
    assert memory.stats().records == added + 1
    assert memory.verify().ok
    print(json.dumps(said))
"""
)


def told(script: str, store: Path) -> list[str]:
    done = subprocess.run([sys.executable, "-c", script, str(store)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_too_few_descriptors_are_called_that(store: Path) -> None:
    texts = told(FILES, store)
    assert len(texts) >= 4
    for text in texts:
        assert "Too many open files" in text
        assert "ulimit -n" in text
        assert "permissions" not in text


def test_files_that_may_not_grow_are_called_that(store: Path) -> None:
    for text in told(SIZE, store):
        assert "ulimit -f" in text


def test_what_is_not_known_is_said_as_it_is(store: Path) -> None:
    assert refusal(OSError(errno.EIO, "Input/output error")) == "Input/output error"
    assert refusal(OSError("a reason"), "look") == "a reason; look"
    file = store.parent / "a file"
    file.touch()
    with pytest.raises(StoreError, match="Not a directory; choose a folder you own"):
        Memory(file / "store").add("Ida keeps bees.")
