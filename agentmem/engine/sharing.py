"""One engine for each store of this process, whoever asks for it: opened by the first client, closed after the last.

Clients come and go in any state of the program: in a signal handler, on top of a call that it interrupted, or in the
garbage collector. So engines are opened and closed on threads of their own, and clients only wait for those: what a
handler interrupts is never in the middle of it. The lock here is held for bookkeeping, and by threads of callers alone.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from _thread import start_new_thread
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from agentmem.indexes.driver import on_loop
from agentmem.stores.forks import transaction_lock
from agentmem.types.errors import ClosedError, StoreError
from agentmem.types.promise import Promise, keep, on_service, promised
from agentmem.types.reentry import on_top, within_threading

if TYPE_CHECKING:
    from agentmem.engine.engine import Engine
    from agentmem.engine.opening import Spec
    from agentmem.settings import Settings
    from agentmem.types.clock import Clock

T = TypeVar("T")
Key: TypeAlias = tuple[str, bool]
"""The path of a store, and whether it is only read."""
PATIENCE = 1.0
"""Seconds that closing waits for those who may be waiting for the call that it interrupted."""
EXIT_PATIENCE = 5.0
"""Seconds that the end of the process waits for stores that nobody has closed."""
BACKUP_PATIENCE = 30.0
"""And for what works beside them: the last backup, to a bucket perhaps."""

log = logging.getLogger("agentmem")
_lock = threading.RLock()
_shared: dict[Key, _Shared] = {}
_displaced = set["_Shared"]()
"""Engines whose files are no longer at the path, where another store may lie; they are closed with their clients."""
_numbers = count()
_endings = set[Promise[None]]()
_left = SimpleQueue[tuple[Promise[Any], Callable[[], Any]]]()
_standing_by = list[int]()
_inherited = list["_Shared"]()
"""Engines of the process that this one was forked from: kept, since closing their files would disturb them there."""


class Lease:
    """What one client has of a shared engine; nobody else refers to it, so it ends with the client.

    ``engine`` is there once ``acquire`` has returned it.
    """

    engine: Engine

    def __init__(self, shared: _Shared) -> None:
        self.pid = os.getpid()
        self._shared = shared
        self._number = next(_numbers)
        shared.leases.add(self._number)

    def open(self) -> None:
        """Wait for the engine. Raises what kept it from opening."""
        self.engine = self._shared.engine()

    def release(self) -> None:
        """Give it back; the last one closes the engine, after everything queued is durable."""
        self._shared.leases.discard(self._number)
        if os.getpid() == self.pid:
            self._shared.end_if_unused()

    def __del__(self) -> None:
        # By the garbage collector, on top of whatever a thread is doing: this waits for nothing, and for no lock.
        if self._number in self._shared.leases and os.getpid() == self.pid and not sys.is_finalizing():
            self._shared.leases.discard(self._number)
            _aside(self._shared.end_if_unused)


def acquire(
    path: Path,
    settings: Settings,
    embedder: Spec,
    clock: Clock | None,
    *,
    any_model: bool,
    read_only: bool = False,
    keeping: object = None,
) -> Lease:
    """A share of the process's engine for this path, which is opened if need be.

    With ``any_model``, a store of another model is opened all the same; nothing can be embedded until it is moved. With
    ``read_only`` it is the engine of those who only read. ``keeping`` is referred to until the engine is closed.

    Raises ``StoreError`` and its kin for a path that cannot hold a store, ``ModelMismatchError`` for a store of
    another model, ``InvalidInputError`` if the path is already open with other settings.
    """
    key = os.path.realpath(path), read_only
    if not _standing_by:
        with suppress(RuntimeError):  # the interpreter is about to end; opening will say so
            _standing_by.append(start_new_thread(_stand_by, ()))
    while True:
        with _lock:
            found = _shared.get(key)
            if found is not None and found.is_over() and _shared.get(key) is found:
                del _shared[key]
                if found.leases:
                    _displaced.add(found)
            mine = _Shared(key, settings, embedder, clock, any_model, keeping)
            shared = _shared.setdefault(key, mine)
            lease = Lease(shared)
        # A signal handler on top of this may have been the last to give it back.
        if _shared.get(key) is shared:
            break
        lease.release()
    try:
        lease.open()
        if shared is not mine:
            lease.engine.check_same(settings, embedder, clock, any_model=any_model)
    except Exception:
        lease.release()
        raise
    return lease


class _Shared:
    """An engine from before it is opened until it is closed, and who has a share in it."""

    def __init__(
        self,
        key: Key,
        settings: Settings,
        embedder: Spec,
        clock: Clock | None,
        any_model: bool,
        keeping: object,
    ) -> None:
        self.leases = set[int]()
        self._key = key
        self._path, self._read_only = key
        self._keeping = keeping
        self._make = (settings, embedder, clock, any_model)
        self._openers = set[int]()
        self._taken = threading.Lock()
        self._opened = Promise["Engine"]()
        self._closing = threading.Lock()

    def engine(self) -> Engine:
        """The engine, opened now on a thread of its own if nobody has begun that."""
        if not self._opened.done() and within_threading():
            raise StoreError(
                f"{self._path} cannot be opened by a finalizer that the garbage collector called in the middle of a "
                "thread's end, where no thread can begin; nothing was done. Open it before"
            )
        if not self._taken.locked():
            # Whoever was to start the thread may have been interrupted before that. The first of several does it.
            try:
                start_new_thread(self._open, ())
            except RuntimeError as exc:
                raise StoreError(f"{self._path} cannot be opened: {exc}") from exc
        if threading.get_ident() in self._openers:
            raise StoreError(
                f"{self._path} is being opened by this very thread, which the garbage collector interrupted to call a "
                "finalizer that uses the store; open it before"
            )
        return self._opened.result()

    def _open(self) -> None:
        thread = threading.get_ident()
        try:
            self._openers.add(thread)
            if self._taken.acquire(blocking=False):
                self._make_engine()
        finally:
            self._openers.discard(thread)

    def _make_engine(self) -> None:
        settings, embedder, clock, any_model = self._make
        try:
            with transaction_lock():
                engine = self._kind()(Path(self._path), settings, embedder, clock, any_model=any_model)
        except BaseException as exc:
            self._opened.set_exception(exc)
        else:
            self._opened.set_result(engine)

    def _kind(self) -> type[Engine]:
        if self._read_only:
            from agentmem.engine.reading import ReadingEngine

            return ReadingEngine
        from agentmem.engine.engine import Engine

        return Engine

    def is_over(self) -> bool:
        """Whether there is nothing to share any more: it failed to open, its store is no longer at the path, or all
        clients are gone and it is closed."""
        if self._opened.done() and self._opened.exception() is not None:
            return True
        if self.leases:
            return self._opened.done() and not self._opened.result().is_at_path()
        _aside(self.end_if_unused)
        return True

    def end_if_unused(self) -> None:
        """Take it from those that can be shared, if nobody has a share, and close it, once."""
        with _lock:
            if self.leases:
                return
            if _shared.get(self._key) is self:
                del _shared[self._key]
            if self.leases:  # a signal handler's client, on top of this
                _shared.setdefault(self._key, self)
                return
            _displaced.discard(self)
        self.close()

    def close(self) -> None:
        """Close the engine and wait for that.

        On top of another call of this thread, which may have what the engine's threads wait for, wait only until
        everything queued is durable; on one of those threads, for nothing.
        """
        interrupting, needed = on_top(), on_service() or on_loop()
        durable, ended = self.begin_to_close(PATIENCE if interrupting or needed else None)
        if interrupting or needed:
            ended.add_done_callback(_log_failure)
        if not needed:
            (durable if interrupting else ended).result()

    @property
    def is_accompanied(self) -> bool:
        """Whether something works beside the engine, which has its own to do before that is closed."""
        opened = self._opened
        return opened.done() and opened.exception() is None and opened.result().companion is not None

    def begin_to_close(
        self, patience: float | None, beside: float | None = None
    ) -> tuple[Promise[None], Promise[None]]:
        """Have it closed, once; promises that everything queued is durable, and that it is closed.

        ``beside``: seconds for what works beside it, where that are others.
        """
        durable = Promise[None]()
        if not self._closing.acquire(blocking=False):
            durable.set_result(None)
            return durable, durable
        ended = _elsewhere(lambda: self._close(patience, patience if beside is None else beside, durable))
        _endings.add(ended)
        ended.add_done_callback(lambda _: _endings.discard(ended))
        return durable, ended

    def _close(self, patience: float | None, beside: float | None, durable: Promise[None]) -> None:
        try:
            if self._taken.acquire(blocking=False):
                self._opened.set_exception(ClosedError("the client was closed before it was open; open a new one"))
            if self._opened.exception() is None:
                self._opened.result().close(patience, beside, durable)
        finally:
            self._keeping = None
            if not durable.done():
                durable.set_result(None)


def _aside(call: Callable[[], object]) -> None:
    """Run something that nobody waits for."""
    _elsewhere(call).add_done_callback(_log_failure)


def _log_failure(ended: Future[Any]) -> None:
    error = ended.exception()
    if error is not None:
        log.warning("a store could not be closed as it should be: %s", error)


def _elsewhere(call: Callable[[], T]) -> Promise[T]:
    """Run something on another thread: a new one or, while the interpreter ends and starts none, the last one left."""
    try:
        return promised(call)
    except RuntimeError:
        promise = Promise[T]()
        _left.put((promise, call))
        return promise


def _stand_by() -> None:
    while True:
        keep(*_left.get())


def _at_exit() -> None:
    """Close what is still open: threads that come back from a model's own code to no interpreter abort the process."""
    left = [*_shared.values(), *_displaced]
    deadline = time.monotonic() + EXIT_PATIENCE
    if any(shared.is_accompanied for shared in left):
        deadline += BACKUP_PATIENCE
    ending = [shared.begin_to_close(PATIENCE, BACKUP_PATIENCE)[1] for shared in left]
    for ended in [*ending, *_endings]:
        with suppress(Exception):
            ended.result(max(0.0, deadline - time.monotonic()))


# As early as can be, so that whatever the program itself registers comes before it, and finds its stores open.
atexit.register(_at_exit)


def _after_fork() -> None:
    """A child begins with nothing open; what the parent has open stays the parent's."""
    global _lock
    _lock = threading.RLock()
    _inherited.extend([*_shared.values(), *_displaced])
    _shared.clear()
    _displaced.clear()
    _endings.clear()
    _standing_by.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
