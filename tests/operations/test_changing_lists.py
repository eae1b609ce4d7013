"""Lists and deletions by filter while another process changes the records: only what satisfies the filter counts."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agentmem import Memory

SECONDS = 1.5
CHANGES = """
import itertools, sys
from contextlib import suppress
from agentmem import AgentMemError, Memory, Update
with Memory(sys.argv[1]) as memory:
    ids = [record.id for record in memory.iterate(namespace=("c",))]
    print("ready", flush=True)
    for turn in itertools.count():
        with suppress(AgentMemError):
            memory.apply([Update(id, metadata={"at": "ab"[turn % 2]}) for id in ids])
        if turn % 9 == 0:
            for id in ids:
                memory.restore(id)
"""
TAKES = """
import sys
from agentmem import ConflictError, Memory, Update
with Memory(sys.argv[1]) as memory:
    print("ready", flush=True)
    sys.stdin.readline()
    while found := memory.page(namespace=("c",), filters={"at": "a"}, order="oldest", limit=3).records:
        try:
            memory.apply([Update(one.id, metadata={"at": "b"}, if_version=one.version) for one in found])
        except ConflictError:
            continue
        print(*(one.content for one in found), flush=True)
"""


def begun(code: str, folder: Path) -> subprocess.Popen[str]:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    child = subprocess.Popen([sys.executable, "-c", code, str(folder)], **pipes)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


@contextmanager
def changing(folder: Path) -> Generator[None]:
    child = begun(CHANGES, folder)
    try:
        yield
    finally:
        child.kill()
        child.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Memory(tmp_path / "store") as memory:
        memory.put_many(
            [{"key": f"k{n}", "content": f"n{n}", "metadata": {"at": "a"}, "namespace": ("c",)} for n in range(30)]
        )
    return tmp_path / "store"


def test_a_page_has_what_its_filter_asks_for_as_it_is_read(folder: Path) -> None:
    pages = 0
    with Memory(folder) as memory, changing(folder):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            found = memory.page(namespace=("c",), filters={"at": "a"}, by=("added", "updated")[pages % 2], limit=10)
            assert all(record.metadata == {"at": "a"} for record in found.records)
            pages += bool(found.records)
    assert pages


@pytest.mark.slow
def test_takers_of_what_is_left_take_each_once(folder: Path) -> None:
    for _ in range(2):
        children = [begun(TAKES, folder) for _ in range(3)]
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        taken = [name for child in children for name in child.communicate()[0].split()]
        assert sorted(taken) == sorted(f"n{n}" for n in range(30))
        with Memory(folder) as memory:
            for record in memory.iterate(namespace=("c",)):
                memory.update(record.id, metadata={"at": "a"})


def test_what_was_changed_meanwhile_is_not_deleted(folder: Path) -> None:
    with Memory(folder) as memory:
        ids = [record.id for record in memory.iterate(namespace=("c",))]
        with changing(folder):
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                memory.delete_all(namespace=("c",), filters={"at": "b"})
        deleted = 0
        for id in ids:
            record = memory.get(id, deleted=True)
            assert record is not None
            at = record.metadata
            for event in reversed(memory.history(id)):  # an update tells what was there before it
                at = event.data.get("metadata", at)
                assert event.event != "DELETE" or at == {"at": "b"}
                deleted += event.event == "DELETE"
    assert deleted
