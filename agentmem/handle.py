"""What a client and its scoped views share: one engine, opened on first use and given back once."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from agentmem.clock import Clock
from agentmem.errors import ClosedError, InvalidInputError, StoreError, shown
from agentmem.ports import Embedder
from agentmem.settings import Settings
from agentmem.validation import check_text

if TYPE_CHECKING:
    from agentmem.orchestrator import Engine

DEFAULT_PATH = ".agentmem"


class Handle:
    """Thread-safe. Constructing one touches no disk and imports nothing heavy."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        settings: Settings | None,
        embedder: str | os.PathLike[str] | Embedder | None,
        clock: Clock | None,
    ) -> None:
        if settings is not None and not isinstance(settings, Settings):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"settings must be a Settings, not {type(settings).__name__}", field="settings")
        if clock is not None and not callable(clock):
            message = f"clock must be a function that returns an aware datetime, not {type(clock).__name__}"
            raise InvalidInputError(message, field="clock")
        self.path = Path(DEFAULT_PATH if path is None else _checked_path(path))
        self.settings = settings or Settings()
        self._embedder = embedder
        self._clock = clock
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._waiting_lock = threading.Lock()
        self._engine: Engine | None = None
        self._closed = False
        self._waiting = list[Future[None]]()

    @property
    def is_open(self) -> bool:
        return self._engine is not None

    def engine(self) -> Engine:
        """The engine, opened now if need be. Raises ``ClosedError`` after ``close`` and ``StoreError`` after a fork."""
        if self._closed:
            raise ClosedError("this client was closed; open a new one")
        if os.getpid() != self._pid:
            raise StoreError("this client was made before a fork; make a new one in the child process")
        if self._engine is None:
            with self._lock:
                if self._engine is None and not self._closed:
                    from agentmem.orchestrator import Engine

                    self._engine = Engine.acquire(self.path, self.settings, self._embedder, self._clock)
        if self._engine is None:
            raise ClosedError("this client was closed; open a new one")
        return self._engine

    def opening(self) -> Future[None]:
        """Completes when the engine is open, or with the error. However many wait, one thread opens it."""
        future = Future[None]()
        with self._waiting_lock:
            self._waiting.append(future)
            first = len(self._waiting) == 1
        if first:
            threading.Thread(target=self._open_for_all, name="agentmem-open", daemon=True).start()
        return future

    def _open_for_all(self) -> None:
        error: BaseException | None = None
        try:
            self.engine()
        except BaseException as exc:
            error = exc
        with self._waiting_lock:
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            if future.set_running_or_notify_cancel():
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)

    def close(self) -> None:
        """Give the engine back; calling it again does nothing."""
        with self._lock:
            engine, self._engine, self._closed = self._engine, None, True
        if engine is not None and os.getpid() == self._pid:
            engine.release()


def _checked_path(path: object) -> str:
    try:
        name = os.fspath(path)  # pyright: ignore[reportArgumentType, reportCallIssue, reportUnknownVariableType]
    except TypeError:
        name = None
    if not isinstance(name, str) or not name:
        raise InvalidInputError(f"path must be a folder's path, not {shown(path)}", field="path")
    # The database engine takes file names as UTF-8 only.
    check_text(name, "path")
    return name
