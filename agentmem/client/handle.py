"""What a client and its scoped views share: one engine, opened on first use and given back once."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from agentmem.types.checks import check_text
from agentmem.types.clock import Clock
from agentmem.types.errors import ClosedError, InvalidInputError, StoreError, shown
from agentmem.types.ports import Embedder

if TYPE_CHECKING:
    from agentmem.engine.engine import Engine
    from agentmem.settings import Settings
    from agentmem.types.reports import VerifyReport

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
        if settings is not None:
            _check_settings(settings)
        if clock is not None and not callable(clock):
            message = f"clock must be a function that returns an aware datetime, not {type(clock).__name__}"
            raise InvalidInputError(message, field="clock")
        self.path = Path(DEFAULT_PATH if path is None else _checked_path(path))
        self._settings = settings
        self._embedder = embedder
        self._clock = clock
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._waiting_lock = threading.Lock()
        self._engine: Engine | None = None
        self._closed = False
        self._waiting = list[Future[None]]()

    def __reduce__(self) -> str:
        raise TypeError(
            "a client cannot be pickled or copied: it holds threads, locks and open files of this process. Threads "
            f"share one client; another process opens the store for itself, with Memory({str(self.path)!r})"
        )

    @cached_property
    def settings(self) -> Settings:
        """What the store is opened with. pydantic is imported here, not with the package."""
        from agentmem.settings import Settings

        return self._settings or Settings()

    @property
    def is_open(self) -> bool:
        return self._engine is not None

    def engine(self, *, any_model: bool = False) -> Engine:
        """The engine, opened now if need be; ``any_model`` as for ``Engine.acquire``.

        Raises ``ClosedError`` after ``close`` and ``StoreError`` after a fork.
        """
        if self._closed:
            raise ClosedError("this client was closed; open a new one")
        if os.getpid() != self._pid:
            raise StoreError("this client was made before a fork; make a new one in the child process")
        if self._engine is None:
            with self._lock:
                if self._engine is None and not self._closed:
                    from agentmem.engine.engine import Engine

                    self._engine = Engine.acquire(
                        self.path, self.settings, self._embedder, self._clock, any_model=any_model
                    )
        if self._engine is None:
            raise ClosedError("this client was closed; open a new one")
        return self._engine

    def opening(self, *, any_model: bool = False) -> Future[None]:
        """Completes when the engine is open, or with the error. However many wait, one thread opens it."""
        future = Future[None]()
        with self._waiting_lock:
            self._waiting.append(future)
            first = len(self._waiting) == 1
        if first:
            threading.Thread(target=self._open_for_all, args=(any_model,), name="agentmem-open", daemon=True).start()
        return future

    def _open_for_all(self, any_model: bool) -> None:
        error: BaseException | None = None
        try:
            self.engine(any_model=any_model)
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

    def salvage(self) -> VerifyReport:
        """See ``salvage.salvage``. The engine is closed for it, and opened again by the next call."""
        from agentmem.operations.salvage import salvage

        with self._lock:
            if self._closed:
                raise ClosedError("this client was closed; open a new one")
            engine, self._engine = self._engine, None
            if engine is not None:
                engine.release()
            return salvage(self.path, self.settings, self._embedder)

    def close(self) -> None:
        """Give the engine back; calling it again does nothing."""
        with self._lock:
            engine, self._engine, self._closed = self._engine, None, True
        if engine is not None and os.getpid() == self._pid:
            engine.release()


def _check_settings(settings: object) -> None:
    from agentmem.settings import Settings

    if not isinstance(settings, Settings):
        raise InvalidInputError(f"settings must be a Settings, not {type(settings).__name__}", field="settings")


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
