"""Looking into a store behind the back of the package: its files, its tables; and a life to erase."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentmem import Memory
from agentmem.stores.folder import ARENAS


def files_with(folder: Path, *words: str) -> dict[str, list[str]]:
    """Which files below a folder contain which of the words.

    Not where this process has the store open and another one, too: closing the database's file drops this one's locks.
    """
    data = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found = {word: [str(path.relative_to(folder)) for path in data if word.encode() in data[path]] for word in words}
    return {word: files for word, files in found.items() if files}


def sql(memory: Memory, statement: str, *params: Any) -> list[Any]:
    """The rows of a statement on the store that a client has open."""
    return memory.handle.engine().repository.db.execute(statement, params)


def wait_until(done: Callable[[], object], seconds: float = 30) -> None:
    """Wait for something that happens in the background."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def live(memory: Memory, user: str, run: str, facts: int = 60) -> list[str]:
    """A user's life: facts, 20 turns, one id of his own; changes, feedback, accesses, one deleted, one pinned."""
    items = [{"content": f"{user} note {n}", "metadata": {"by": user}} for n in range(facts)]
    turns = [{"content": f"{user} said {n}", "role": "user", "run_id": run, "agent_id": "helper"} for n in range(20)]
    ids = [one.id for one in memory.add_many(items + turns, user_id=user)]
    memory.add("mine", id=f"{user}/profile", user_id=user)
    memory.update(ids[0], content=f"{user} moved", metadata={"to": user})
    memory.feedback(ids[1], rating=4, query=f"where does {user} live?")
    memory.delete(ids[2])
    memory.lifecycle.pin(ids[-1])
    memory.lifecycle.promote(ids[-1])
    memory.search(f"{user} note", user_id=user)
    memory.lifecycle.explain(ids[0])
    return ids


def kept_arenas(store: Path) -> list[Path]:
    """The files of scopes that are kept for the next process."""
    return sorted((store / ARENAS).glob("*.arena"))


def wait_until_kept(store: Path, before: bytes | None = None) -> Path:
    """The file of a scope, once there is one, and it says something else than before."""
    wait_until(lambda: (files := kept_arenas(store)) and files[0].read_bytes() != before, 60)
    return kept_arenas(store)[0]
