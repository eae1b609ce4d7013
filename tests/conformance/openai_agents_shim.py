"""Puts our session in the place of the SDK's SQLiteSession, for its own tests.

Those give the path of a database: its sessions are those of a user of one store. Each in memory has a user of its own.
"""

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path
from typing import Any

import agents
import agents.memory as theirs
from agents.memory import sqlite_session

from agentmem import Memory
from agentmem.adapters.openai_agents import AgentMemSession

_FOLDER = tempfile.TemporaryDirectory()
_MEMORY = Memory(Path(_FOLDER.name) / "store")
_USERS = count()


class _Session(AgentMemSession):
    def __init__(self, session_id: str, db_path: Any = ":memory:", **options: Any) -> None:
        user = f"user {next(_USERS)}" if str(db_path) == ":memory:" else str(db_path)
        super().__init__(session_id, _MEMORY, user_id=user, **options)


for module in (agents, theirs, sqlite_session):
    module.SQLiteSession = _Session  # type: ignore[attr-defined]


def pytest_unconfigure() -> None:
    """Closes the store."""
    _MEMORY.close()
    _FOLDER.cleanup()
