"""What a client and its scoped views share: one engine, opened on first use and given back once."""

from __future__ import annotations

import os
from concurrent.futures import Future
from datetime import datetime, tzinfo
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, cast

from agentmem import operations
from agentmem.engine.sharing import Lease, acquire
from agentmem.types.checks import check_text
from agentmem.types.clock import Clock
from agentmem.types.errors import ClosedError, InvalidInputError, StoreError, shown
from agentmem.types.ports import Embedder
from agentmem.types.promise import Promise, aside, promised
from agentmem.types.zones import check_zone, is_zone

if TYPE_CHECKING:
    from agentmem.engine.engine import Engine
    from agentmem.settings import Settings
    from agentmem.types.reports import VerifyReport

DEFAULT_PATH = ".agentmem"


class _Rescue:
    """A salvage, for which the other threads wait."""

    def __init__(self) -> None:
        self.thread = get_ident()
        self.ended = Promise[None]()


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
        self._embedder = embedder
        self._clock = clock
        self._lease: Lease | None = None
        self._opening: Promise[None] | None = None
        self._settings_now = settings
        self._closed = False
        self._rescue: _Rescue | None = None

    def __reduce__(self) -> str:
        raise TypeError(
            "a client cannot be pickled or copied: it holds threads, locks and open files of this process. Threads "
            f"share one client; another process opens the store for itself, with Memory({str(self.path)!r})"
        )

    @property
    def settings(self) -> Settings:
        """What the store is opened with. pydantic is imported here, not with the package."""
        if self._settings_now is None:
            self._settings_now = aside(_settings)
        return self._settings_now

    def zone(self) -> tzinfo:
        """Whose days are meant where a call names no time zone: the setting's, else that of the clock, else UTC."""
        named = self.settings.retrieval.time_zone
        if named is None and self._clock is not None:
            shown = cast("object", self._clock())
            if isinstance(shown, datetime) and is_zone(zone := shown.tzinfo):
                return zone
        return check_zone(named or "UTC")

    @property
    def is_open(self) -> bool:
        return self._lease is not None

    def engine(self, *, any_model: bool = False) -> Engine:
        """The engine, opened now if need be; ``any_model`` as for ``sharing.acquire``.

        Raises ``ClosedError`` after ``close`` and, in a process that was forked since it was opened, ``StoreError``.
        """
        lease = self._lease or self._open(any_model)
        if lease.pid != os.getpid():
            raise StoreError("this client was opened before a fork; make a new one in the child process")
        return lease.engine

    def _open(self, any_model: bool) -> Lease:
        operations.load()
        while (rescue := self._rescue) is not None:
            if rescue.thread == get_ident():
                raise StoreError(
                    f"{self.path} is being salvaged by the call that this one interrupted; repeat it later"
                )
            rescue.ended.result()
        if not self._closed:
            try:
                lease = acquire(self.path, self.settings, self._embedder, self._clock, any_model=any_model)
            except Exception:
                # Another thread of this client was faster, and may have moved the store to another model by now.
                if self._lease is None:
                    raise
            else:
                # Other threads may have been here meanwhile, and a signal handler on top of this: one lease is kept.
                if self._lease is None and not self._closed:
                    self._lease = lease
                else:
                    lease.release()
        kept = self._lease
        if kept is None:
            raise ClosedError("this client was closed; open a new one")
        return kept

    def opening(self, *, any_model: bool = False) -> Future[None]:
        """Completes when the engine is open, or with the error. However many wait, one thread opens it."""
        opening, future = self._opening, Promise[None]()
        if opening is None or opening.done():
            opening = self._opening = promised(lambda: self._open_for_all(any_model))
        opening.add_done_callback(lambda done: _pass_on(done, future))
        return future

    def _open_for_all(self, any_model: bool) -> None:
        self.engine(any_model=any_model)

    def salvage(self) -> VerifyReport:
        """See ``salvage.salvage``. The engine is closed for it, and opened again by the next call."""
        if self._closed:
            raise ClosedError("this client was closed; open a new one")
        self._rescue = rescue = _Rescue()
        try:
            self._give_back()
            return operations.salvage.salvage(self.path, self.settings, self._embedder)
        finally:
            self._rescue = None
            rescue.ended.set_result(None)

    def close(self) -> None:
        """Give the engine back; calling it again does nothing."""
        self._closed = True
        self._give_back()

    def _give_back(self) -> None:
        # A client that is not closed gives it back when it is garbage collected, the lease with it.
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()


def _settings() -> Settings:
    from agentmem.settings import Settings

    return Settings()


def _pass_on(done: Future[None], future: Future[None]) -> None:
    if future.set_running_or_notify_cancel():
        error = done.exception()
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


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
