"""Puts our repository in the place of the one in memory that Strands' tests of its session manager use."""

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path

from tests.fixtures import mock_session_repository as theirs  # of the folder that they are run in

from agentmem import Memory
from agentmem.adapters.strands import AgentMemSessionRepository

_FOLDER = tempfile.TemporaryDirectory()
_MEMORY = Memory(Path(_FOLDER.name) / "store")
_USERS = count()


class _Repository(AgentMemSessionRepository):
    def __init__(self) -> None:
        super().__init__(_MEMORY, user_id=f"user {next(_USERS)}")


theirs.MockedSessionRepository = _Repository  # type: ignore[misc]


def pytest_unconfigure() -> None:
    """Closes the store."""
    _MEMORY.close()
    _FOLDER.cleanup()
