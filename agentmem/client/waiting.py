"""Waiting for a thread's result from whatever event loop is running."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar, cast

import anyio
from anyio.lowlevel import current_token

from agentmem.types.waking import Post, wake

T = TypeVar("T")


async def wait_for(future: Future[T]) -> T:
    """The future's result, under asyncio or trio.

    If the waiting task is cancelled, so is the future: work that is still queued is dropped, work in progress is left
    to finish.
    """
    if not future.done():
        # An asyncio loop or a trio token, told apart without importing asyncio (20 ms that a blocking program saves).
        token = cast("Any", current_token().native_token)
        post: Post = token.call_soon_threadsafe if hasattr(token, "call_soon_threadsafe") else token.run_sync_soon
        done = anyio.Event()
        future.add_done_callback(lambda _: wake(post, done.set))
        try:
            await done.wait()
        except BaseException:
            future.cancel()
            raise
    return future.result()


async def in_thread(call: Callable[[], T]) -> T:
    """Run a rare, long call on a new thread. If the waiting task is cancelled, the call goes on to its end."""
    future = Future[T]()

    def run() -> None:
        future.set_running_or_notify_cancel()
        try:
            future.set_result(call())
        except BaseException as exc:
            future.set_exception(exc)

    threading.Thread(target=run, name="agentmem-call", daemon=True).start()
    return await wait_for(future)
