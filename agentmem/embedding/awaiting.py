"""Coroutines for threads that wait: one event loop, on a thread of its own, for all async models of this process.

One and always the same, since what such models are made of, connection pools above all, belongs to the loop that first
used it. The thread ends with the process.
"""

from __future__ import annotations

import asyncio
import os
from _thread import start_new_thread
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from threading import get_ident
from typing import Any

from agentmem.types.errors import EmbeddingError
from agentmem.types.promise import Promise


class _Loop:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = 0

    def run(self) -> None:
        self.thread = get_ident()
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


_loops = dict[int, _Loop]()
"""By process: threads do not survive a fork."""


def finished(call: Callable[[], object]) -> object:
    """What ``call`` returns, awaited if need be, with all of it done on the loop's thread.

    Raises ``EmbeddingError`` on that very thread, which cannot wait for itself.
    """
    running = _running()
    if running.thread == get_ident():
        raise EmbeddingError(
            "an async model was called from within itself; await its own functions there, not a store that uses it"
        )
    promise, tasks = Promise[object](), list[asyncio.Task[None]]()
    running.loop.call_soon_threadsafe(lambda: tasks.append(running.loop.create_task(_keep(promise, call))))
    try:
        return promise.plain_result()
    except BaseException:
        # Also where whoever waits was interrupted: nobody wants the result any more.
        running.loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
        raise


def _running() -> _Loop:
    process = os.getpid()
    found = _loops.get(process)
    if found is None:
        made = _Loop()
        found = _loops.setdefault(process, made)
        if found is made:
            start_new_thread(made.run, ())
        else:  # another thread was faster
            made.loop.close()
    return found


async def _keep(promise: Promise[object], call: Callable[[], object]) -> None:
    try:
        result = call()
        if isawaitable(result):
            awaited: Awaitable[Any] = result
            result = await awaited
    except asyncio.CancelledError as exc:
        error = EmbeddingError("the model's call was cancelled")
        error.__cause__ = exc
        promise.set_exception(error)
    except BaseException as exc:
        # Whatever a model raises, the loop goes on: others wait for it, too.
        promise.set_exception(exc)
    else:
        promise.set_result(result)
