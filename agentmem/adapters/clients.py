"""The client that an adapter stands on: one that was handed in and stays its owner's to close, or one of a path."""

from __future__ import annotations

import os
from threading import Lock
from typing import Self

from agentmem import AsyncMemory, InvalidInputError, Memory, Settings

AnyMemory = Memory | AsyncMemory | str | os.PathLike[str] | None
"""An open client or a view of one, or the path of a store; None is the path that ``Memory`` takes by itself."""


class Client:
    """The blocking client for ``memory``. One of a path is opened on use, after ``close`` once more."""

    def __init__(self, memory: AnyMemory, settings: Settings | None = None) -> None:
        self._lock = Lock()
        self._path: str | os.PathLike[str] | None = None
        self._given = self._own = None
        if isinstance(memory, AsyncMemory):
            self._given = memory.blocking
        elif isinstance(memory, Memory):
            self._given = memory
        elif memory is None or isinstance(memory, (str, os.PathLike)):  # pyright: ignore[reportUnnecessaryIsInstance]
            self._path = memory
        else:
            raise InvalidInputError(
                f"memory must be a Memory, an AsyncMemory or a path, not a {type(memory).__name__}", field="memory"
            )
        if self._given is not None and settings is not None:
            raise InvalidInputError("settings are for a store that is opened here; the client has its own")
        self._settings = settings

    def __deepcopy__(self, memo: object) -> Self:
        """This one: a copy of what stands on it, as frameworks make them, has the same store."""
        return self

    @property
    def memory(self) -> Memory:
        """The client, open."""
        if self._given is not None:
            return self._given
        with self._lock:
            if self._own is None:
                self._own = Memory(self._path, settings=self._settings)
            return self._own

    def close(self) -> None:
        """Close what was opened here."""
        with self._lock:
            own, self._own = self._own, None
        if own is not None:
            own.close()
