"""A pool of threads that still works while a program ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from typing_extensions import override

T = TypeVar("T")


class Pool(ThreadPoolExecutor):
    """``ThreadPoolExecutor`` that calls on its caller's own thread what it can have no thread for.

    Python's refuses all work from the moment on when the main thread has ended. Others may go on for as long as they
    like after that, and what the program has left open is closed then. So no call may wait for what is submitted later.
    """

    @override
    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        if threading.main_thread().is_alive():
            try:
                return super().submit(fn, *args, **kwargs)
            except RuntimeError:
                if threading.main_thread().is_alive():
                    raise
        future = Future[T]()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as exc:
            future.set_exception(exc)
        return future
