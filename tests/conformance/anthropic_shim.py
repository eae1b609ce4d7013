"""Puts our memory tools in the place of Anthropic's on the file system, for its own tests.

Those read and write files on the disk: what lies there is taken in before each command, and what the tool has is
written down after it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import anyio
from anthropic.lib.tools import _beta_builtin_memory_tool as theirs

from agentmem import Memory
from agentmem.adapters.anthropic import NAMESPACE, AgentMemTool, AsyncAgentMemTool

_FOLDER = tempfile.TemporaryDirectory()
_MEMORY = Memory(Path(_FOLDER.name) / "store")
_USERS = count()


class _OnDisk:
    """The commands of a tool, each between reading the folder and writing it."""

    def __init__(self, commands: Any, root: Path, user_id: str) -> None:
        self._commands, self._root, self._user = commands, root, user_id

    def __getattr__(self, name: str) -> Callable[..., str]:
        def command(*args: Any) -> str:
            self._take_in()
            try:
                return getattr(self._commands, name)(*args)
            finally:
                self._write_down()

        return command

    def _take_in(self) -> None:
        for file in [path for path in self._root.rglob("*") if path.is_file()]:
            key = file.relative_to(self._root).as_posix()
            if _MEMORY.get(key=key, user_id=self._user, namespace=NAMESPACE) is None:
                _MEMORY.apply([self._commands._put(key, file.read_bytes().decode(), 0)])

    def _write_down(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)
        self._root.mkdir(parents=True)
        for record in _MEMORY.iterate(user_id=self._user, namespace=NAMESPACE, kinds=["file"]):
            file = self._root / str(record.key)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(record.data, encoding="utf-8", newline="")


class _Sync(AgentMemTool):
    def __init__(self, base_path: str = "./memory") -> None:
        user = f"user {next(_USERS)}"
        super().__init__(_MEMORY, user_id=user)
        self.base_path: Any = Path(base_path)
        self.memory_root: Any = self.base_path / "memories"
        self.memory_root.mkdir(parents=True, exist_ok=True)
        self._files: Any = _OnDisk(self._files, self.memory_root, user)


class _Async(AsyncAgentMemTool):
    def __init__(self, base_path: str = "./memory") -> None:
        user = f"user {next(_USERS)}"
        super().__init__(_MEMORY, user_id=user)
        self.base_path: Any = anyio.Path(base_path)
        self.memory_root: Any = self.base_path / "memories"
        self._files: Any = _OnDisk(self._files, Path(base_path) / "memories", user)


theirs.BetaLocalFilesystemMemoryTool = _Sync  # type: ignore[misc]
theirs.BetaAsyncLocalFilesystemMemoryTool = _Async  # type: ignore[misc]


def pytest_unconfigure() -> None:
    """Closes the store."""
    _MEMORY.close()
    _FOLDER.cleanup()
