"""What a client and its scoped views share: one engine, opened on first use and given back once."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime, tzinfo
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, TypeVar, cast

from agentmem import operations
from agentmem.client.checks import check_flag
from agentmem.client.places import IN_MEMORY, resolve
from agentmem.engine.sharing import Lease, acquire
from agentmem.stores.private import PrivateFolder
from agentmem.types.clock import Clock
from agentmem.types.errors import ClosedError, InvalidInputError, StoreError
from agentmem.types.once import once
from agentmem.types.ports import AnyEmbedder
from agentmem.types.promise import Promise, aside, promised
from agentmem.types.zones import check_zone, is_zone

if TYPE_CHECKING:
    from agentmem.engine.engine import Engine
    from agentmem.settings import Settings
    from agentmem.types.reports import VerifyReport

T = TypeVar("T")


class _Rescue:
    """A salvage or a restore, for which the other threads wait."""

    def __init__(self) -> None:
        self.thread = get_ident()
        self.ended = Promise[None]()


class Handle:
    """Thread-safe. Constructing one touches no disk and imports nothing heavy."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        settings: Settings | None,
        embedder: AnyEmbedder,
        clock: Clock | None,
        *,
        read_only: bool = False,
    ) -> None:
        if settings is not None:
            _check_settings(settings)
        if clock is not None and not callable(clock):
            message = f"clock must be a function that returns an aware datetime, not {type(clock).__name__}"
            raise InvalidInputError(message, field="clock")
        self._folder = resolve(path)
        self._private: PrivateFolder | None = PrivateFolder()
        self.read_only = check_flag(read_only, "read_only")
        if self._folder is None and read_only:
            message = f"there is nothing to read in {IN_MEMORY!r}, a store that begins empty; leave out read_only"
            raise InvalidInputError(message, field="read_only")
        self._embedder = embedder
        self._clock = clock
        self._lease: Lease | None = None
        self._opening: Promise[None] | None = None
        self._settings_now = settings
        self._closed = False
        self._rescue: _Rescue | None = None
        self.any_model = False
        """Whether a store whose model is not at hand is opened all the same, for what embeds nothing."""

    def __reduce__(self) -> str:
        raise TypeError(
            "a client cannot be pickled or copied: it holds threads, locks and open files of this process. Threads "
            f"share one client; another process opens the store for itself, with Memory({self._named()!r})"
        )

    def _named(self) -> str:
        return IN_MEMORY if self._folder is None else str(self._folder)

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
    def path(self) -> Path:
        """The store's folder, absolute. That of a ``:memory:`` store is made now if need be.

        Raises ``ClosedError`` for a ``:memory:`` store after ``close``, with which it is gone.
        """
        if self._folder is not None:
            return self._folder
        private = self._private
        if private is None:
            raise ClosedError("this client was closed, and its store in memory went with it; open a new one")
        return private.open()

    @once
    def database(self) -> str:
        """The path of the database, as the caller named it: it may lead elsewhere by now."""
        from agentmem.stores.folder import DATABASE

        return os.path.join(self.path, DATABASE)

    @property
    def is_open(self) -> bool:
        return self._lease is not None

    def engine(self, *, any_model: bool = False, even_gone: bool = False, to_commit: bool = False) -> Engine:
        """The engine, opened now if need be; ``any_model`` as for ``sharing.acquire``.

        Raises ``ClosedError`` after ``close``, in a process that was forked since it was opened ``StoreError``, and
        ``StoreGoneError`` once the path leads to another store or to none, unless ``even_gone``. With ``to_commit``,
        for what ends in a commit, that is left to it where the path is the engine's own: it looks at that anyway.
        """
        lease = self._lease or self._open(any_model)
        if lease.pid != os.getpid():
            raise StoreError("this client was opened before a fork; make a new one in the child process")
        if not (even_gone or (to_commit and self.database == lease.engine.database)):
            lease.engine.check_at(self.database)
        return lease.engine

    def _open(self, any_model: bool) -> Lease:
        operations.load()
        while (rescue := self._rescue) is not None:
            if rescue.thread == get_ident():
                raise StoreError(
                    f"{self.path} is being salvaged or restored by the call that this one interrupted; repeat it later"
                )
            rescue.ended.result()
        private = self._private
        named = self.settings.embedder if self._embedder is None else self._embedder
        if isinstance(named, str):
            from agentmem.embedding.naming import imported

            self._embedder = aside(lambda: imported(named))
        if not self._closed and private is not None:
            try:
                lease = acquire(
                    self._folder or private.open(), self.settings, self._embedder, self._clock,
                    any_model=any_model or self.any_model, read_only=self.read_only, keeping=private,
                )  # fmt: skip
            except Exception:
                # Another thread of this client was faster, and may have moved the store to another model by now.
                if self._lease is None:
                    raise
            else:
                if self.settings.backup.by_itself:
                    from agentmem.backup.continuous import attend

                    try:
                        attend(lease.engine)
                    except BaseException:
                        lease.release()
                        raise
                if self.settings.glacier.url and not self.read_only:
                    from agentmem.glacier.attending import look_after

                    look_after(lease.engine)
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
        return self.apart(lambda: operations.salvage.salvage(self.path, self.settings, self._embedder))

    def apart(self, run: Callable[[], T]) -> T:
        """Run something while this client has the store closed; its other threads wait for that and open it again."""
        if self._closed:
            raise ClosedError("this client was closed; open a new one")
        if self.read_only:
            self.engine().check_writable()
        self._embedder = self.embedder
        self._rescue = rescue = _Rescue()
        try:
            self._give_back()
            return run()
        finally:
            self._rescue = None
            rescue.ended.set_result(None)

    @property
    def embedder(self) -> AnyEmbedder:
        """The model as the caller named it, or the one that the store was moved to since."""
        lease = self._lease
        return self._embedder if lease is None else lease.engine.given

    def close(self) -> None:
        """Give the engine back; calling it again does nothing."""
        self._closed = True
        self._private = None  # with the last that refers to it, the engine, a private store's folder goes
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
