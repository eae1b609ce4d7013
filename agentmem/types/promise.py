"""A future that nobody holds a lock of, and threads that can be waited for in any state of the program.

A signal handler runs on top of whatever its thread was doing, and so does what the garbage collector calls. If that was
holding a lock, it goes on holding it until the handler returns; so a handler that waits for a thread that waits for
that lock waits for ever. ``concurrent.futures.Future`` and ``threading.Condition`` are guarded by such locks, those
held by waiters included. Here every step is one that the interpreter does not interrupt.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from _imp import lock_held
from _thread import allocate_lock, start_new_thread
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from importlib import import_module
from typing import Any, TypeVar

from agentmem.types.errors import StoreError
from agentmem.types.reentry import AcrossForks, importing_elsewhere

T = TypeVar("T")
_BEGUN, _CANCELLED = "begun", "cancelled"
_PATIENCE = 10.0
"""Seconds that a fork waits for what is being loaded."""

log = logging.getLogger("agentmem")


class _Local(threading.local):
    serve: Callable[[Promise[Any]], object] | None = None
    service = False


_local = _Local()


class Promise(Future[T]):
    """``concurrent.futures.Future`` for those who call its methods; ``concurrent.futures.wait`` does not take it.

    Whatever it is interrupted in, any other thread can complete, cancel or wait for the same promise, and so can the
    interrupting call on the same thread.
    """

    def __init__(self) -> None:
        # Not Future's own, which makes the lock.
        self._fate: dict[str, str] = {}
        self._calls: deque[Callable[[Future[T]], object]] = deque()
        self._landed = False
        self._value: Any = None
        self._error: BaseException | None = None

    # -- for those who wait --------------------------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> T:
        if _local.serve is not None and timeout is None and not self._landed:
            _local.serve(self)
        try:
            return self.plain_result(timeout)
        finally:
            del self  # an error's traceback has this frame, and would keep what has the error

    def plain_result(self, timeout: float | None = None) -> T:
        """The result, waited for as it is where nothing has to be served meanwhile."""
        self._wait(timeout)
        if self._error is not None:
            try:
                raise self._error
            finally:
                del self
        if self.cancelled():
            raise CancelledError
        return self._value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._wait(timeout)
        if self.cancelled():
            raise CancelledError
        return self._error

    def done(self) -> bool:
        return self._landed

    def cancelled(self) -> bool:
        return self._fate.get("") is _CANCELLED

    def running(self) -> bool:
        return self._fate.get("") is _BEGUN and not self._landed

    def cancel(self) -> bool:
        if self._fate.setdefault("", _CANCELLED) is not _CANCELLED:
            return False
        self._land()
        return True

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        self._calls.append(fn)
        if self._landed:
            self._call()

    # -- for whoever does the work -------------------------------------------------------------------------------------

    def set_running_or_notify_cancel(self) -> bool:
        if self._fate.setdefault("", _BEGUN) is _BEGUN:
            return True
        self._land()  # also where whoever cancelled it was interrupted before that
        return False

    def set_result(self, result: T) -> None:
        self._finish(result, None)

    def set_exception(self, exception: BaseException | None) -> None:
        self._finish(None, exception)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _finish(self, value: Any, error: BaseException | None) -> None:
        if self._landed or self._fate.setdefault("", _BEGUN) is not _BEGUN:
            raise InvalidStateError(f"this promise is {'cancelled' if self.cancelled() else 'kept'} already")
        self._value, self._error = value, error
        self._land()

    def _land(self) -> None:
        # In this order, with ``add_done_callback`` in the other: whatever is added is seen by one of the two.
        self._landed = True
        self._call()

    def _call(self) -> None:
        while self._calls:
            try:
                call = self._calls.popleft()
            except IndexError:
                return
            try:
                call(self)
            except Exception:
                log.exception("a callback of a promise failed")

    def _wait(self, timeout: float | None) -> None:
        if self._landed:
            return
        barrier = allocate_lock()
        barrier.acquire()
        self._calls.append(lambda _: barrier.release())
        if not self._landed and not barrier.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            raise TimeoutError

    def __repr__(self) -> str:
        state = "kept" if self._landed else self._fate.get("", "pending")
        return f"<Promise at {id(self):#x}, {self._fate.get('') if self.cancelled() else state}>"


def promised(call: Callable[[], T]) -> Promise[T]:
    """What ``call`` returns or raises, once it has run on a thread of its own.

    Unlike ``threading.Thread.start`` this waits for nothing. Raises ``RuntimeError`` where no thread can be started,
    because the interpreter is about to end, for one.
    """
    promise = Promise[T]()
    start_new_thread(keep, (promise, call))
    return promise


def aside(call: Callable[[], T]) -> T:
    """What ``call`` returns or raises: something that is made once, and takes its time, such as an import or a model.

    Runs on a thread of its own, so that whatever interrupts this one can wait for the same, and does not find it half
    done. ``call`` waits for no promise; what the garbage collector calls on top of it may not either.
    """
    # Within an import, other threads cannot begin one: what this thread interrupted may be one of the program's.
    if _local.serve is _refuse or lock_held():
        return call()
    promise = Promise[T]()
    try:
        start_new_thread(_load, (promise, call))
    except RuntimeError:  # the interpreter is about to end
        return call()
    return promise.plain_result()


def keep(promise: Promise[T], call: Callable[[], T]) -> None:
    """Keep a promise with what ``call`` returns or raises."""
    try:
        result = call()
    except BaseException as exc:
        promise.set_exception(exc)
    else:
        promise.set_result(result)


def _load(promise: Promise[T], call: Callable[[], T]) -> None:
    _local.serve = _refuse
    with _forking:
        _loads.add(promise)
    try:
        keep(promise, call)
    finally:
        _loads.discard(promise)


# Forks wait for what is being loaded, a second or so, and nothing more is begun until they are done. Else the locks of
# the modules that a thread was importing are held for ever in the child, and whoever loads them there waits as long.
# One of these modules has functions for before and after a fork, and may not be loaded while one waits.
import_module("concurrent.futures.thread")
_forking, _loads, _held = threading.RLock(), set[Promise[Any]](), AcrossForks()


def _before_fork() -> None:
    # Not for ever: whoever forks may be in the middle of an import itself, which the loading waits for.
    until = time.monotonic() + _PATIENCE
    while True:
        _held.take([_forking])
        waiting = (_loads and _local.serve is not _refuse) or importing_elsewhere()
        if not waiting or time.monotonic() > until:
            return
        _held.give_back()
        time.sleep(0.001)


def _in_child() -> None:
    _loads.clear()
    _held.give_back()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_held.give_back, after_in_child=_in_child)


def _refuse(promise: Promise[Any]) -> None:
    raise StoreError(
        "the store was used by a finalizer that the garbage collector called while a part of the library was being "
        "loaded, and cannot wait for that; nothing was done. Close or write to the store before, outside of finalizers"
    )


class Service(threading.Thread):
    """A thread that others of this package rely on; the process may end under it.

    A finalizer that the garbage collector calls on it may wait for a promise that only this thread can keep: then
    ``serve(promise)`` is called instead, to go on with the work until that is kept.
    """

    def __init__(
        self, work: Callable[[], object], name: str, serve: Callable[[Promise[Any]], object] | None = None
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._serve = serve
        self.ended = Promise[None]()
        """Kept when the thread has done its last; ``join`` would take locks of the module ``threading``."""

    def run(self) -> None:
        _local.service, _local.serve = True, self._serve
        try:
            self._work()
        finally:
            self.ended.set_result(None)


def on_service() -> bool:
    """Whether this is one of the package's own threads, so that waiting for all of them would have no end."""
    return _local.service
