"""Wakes tasks of event loops from other threads, many of them with one signal.

A signal is a system call, during which the loop's thread takes the interpreter's lock and runs what it was woken for;
whoever sends one for each of many tasks waits for the lock as often.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import TypeAlias

Call: TypeAlias = Callable[[], object]
Post: TypeAlias = Callable[[Call], object]
"""Has an event loop call something soon, such as asyncio's ``call_soon_threadsafe``; equal for the same loop."""


class _Held(threading.local):
    calls: dict[Post, list[Call]] | None = None


_held = _Held()


def wake(post: Post, call: Call) -> None:
    """Have ``call`` run on the loop of ``post``; at the end of ``together`` inside of it."""
    if _held.calls is None:
        _post(post, [call])
    else:
        _held.calls.setdefault(post, []).append(call)


@contextmanager
def together() -> Generator[None]:
    """Hold what this thread wakes back until the end, and then send each loop one signal for all of it."""
    _held.calls = calls = dict[Post, list[Call]]()
    try:
        yield
    finally:
        _held.calls = None
        for post, waiting in calls.items():
            _post(post, waiting)


def _post(post: Post, calls: list[Call]) -> None:
    def run() -> None:
        for call in calls:
            call()

    # The loop may be gone by now: then nobody is waiting either.
    with suppress(RuntimeError):
        post(run)
