"""Threads for the calls of async clients. Handing a call over takes no lock, and none that other programs share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from agentmem.types.errors import ClosedError
from agentmem.types.promise import Promise, Service, keep

T = TypeVar("T")


class Workers:
    """Up to ``most`` threads, started as they are needed, that run calls in the order in which they came."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._queue: deque[tuple[Callable[[], Any], Promise[Any]]] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()
        """Rung for all that is queued."""
        self._threads = list[Service]()
        self._idle = 0
        self._closing = False
        self._ended = False

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Run a call; its future can be cancelled until it begins. Raises ``ClosedError`` after ``close``."""
        if self._closing:
            raise ClosedError("this client was closed; open a new one")
        promise = Promise[T]()
        self._queue.append((call, promise))
        self._bell.put(None)
        if self._idle < len(self._queue) and len(self._threads) < self._most:
            self._start()
        if self._ended:
            self._refuse_rest()  # it came after the last look of the threads
        return promise

    def close(self, patience: float | None = None) -> None:
        """Finish what is queued, then stop; wait no longer than ``patience`` seconds for each thread."""
        self._closing = True
        self._bell.put(None)
        with suppress(TimeoutError):
            for thread in self._threads:
                if thread.ident is not None:  # a signal handler may have raised before it was started
                    thread.ended.result(patience)
        self._ended = True
        self._refuse_rest()

    def _start(self) -> None:
        thread = Service(self._loop, f"{self._name}-{len(self._threads)}")
        self._threads.append(thread)
        thread.start()

    def _loop(self) -> None:
        while self._queue or not self._closing:
            if not self._queue:
                self._idle += 1
                self._bell.get()
                self._idle -= 1
                continue
            with suppress(IndexError):
                _run(*self._queue.popleft())
        self._bell.put(None)  # for the next one to end

    def _refuse_rest(self) -> None:
        while self._queue:
            with suppress(IndexError):  # the other of two who do this was faster
                _, promise = self._queue.popleft()
                if promise.set_running_or_notify_cancel():
                    promise.set_exception(ClosedError("this client was closed; open a new one"))


def _run(call: Callable[[], Any], promise: Promise[Any]) -> None:
    if promise.set_running_or_notify_cancel():
        keep(promise, call)
