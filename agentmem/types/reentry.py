"""Telling that a call runs on top of another one of the same thread: from a signal handler, from the garbage collector.

What is shared between threads is guarded by re-entrant locks, since a plain one would never be free for such a call.
Whoever changes something in several steps under one asks ``held_here`` first: a call on top of another would find it in
between two of them.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from operator import methodcaller
from types import CodeType, FrameType
from typing import Any, TypeAlias

Lock: TypeAlias = "threading.RLock"  # a function by name, a class to type checkers


def held_here(lock: Lock) -> bool:
    """Whether this thread holds the lock, and so is on top of what it was doing under it."""
    return lock._is_owned()  # pyright: ignore[reportPrivateUsage, reportUnknownVariableType, reportUnknownMemberType, reportAttributeAccessIssue]


class AcrossForks:
    """Locks that a thread takes before it forks, and gives back after that. Several threads may be about to fork."""

    def __init__(self) -> None:
        self._held = dict[int, list[Lock]]()

    def take(self, locks: Iterable[Lock], timeout: float = -1) -> None:
        """Take what is free within so many seconds each."""
        held = self._held.setdefault(threading.get_ident(), [])
        # In one step, as the interpreter sees it: whatever a signal handler raises, what was taken is in the list.
        held.extend(filter(methodcaller("acquire", timeout=timeout), locks))

    def give_back(self) -> None:
        """Give back what this thread has taken."""
        held = self._held.pop(threading.get_ident(), [])
        while held:
            held.pop().release()


def within_threading() -> bool:
    """Whether this was called in the middle of a thread's beginning or end, by the garbage collector: until it returns
    no other thread can begin."""
    lock: Any = getattr(threading, "_active_limbo_lock", None)
    return hasattr(lock, "_is_owned") and lock._is_owned()


def on_top() -> bool:
    """Whether the public call that is in progress runs on top of another one on the same thread.

    Frames of a signal handler, and of what the garbage collector calls, lie on top of the frames that they interrupt.
    So there are frames of this package, then others, and then some of this package again.
    """
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and _ours(frame):
        frame = frame.f_back
    while frame is not None and not _ours(frame):
        frame = frame.f_back
    return frame is not None


def importing_elsewhere() -> bool:
    """Whether a call of this package is in the middle of an import, on another thread."""
    locks: Any = getattr(sys.modules.get("_frozen_importlib"), "_module_locks", {})
    owners: set[Any] = {getattr(made(), "owner", None) for made in list(locks.values())}
    frames = sys._current_frames() if owners else {}  # pyright: ignore[reportPrivateUsage]
    for owner in owners - {None, threading.get_ident()}:
        frame = frames.get(owner)
        while frame is not None:
            if str(frame.f_globals.get("__name__", "")).startswith("agentmem."):
                return True
            frame = frame.f_back
    return False


def from_handler(error: BaseException) -> bool:
    """Whether a signal handler raised this: it is not an error of what was interrupted, and is not to be taken for one.

    Python raises it wherever the main thread happens to be. That is how frameworks end what takes too long, with
    exceptions of their own.
    """
    if error.__traceback__ is None or threading.get_ident() != threading.main_thread().ident:
        return False
    handlers = set(_handlers())
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code in handlers:
            return True
        step = step.tb_next
    return False


def _ours(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    # The command line is a program that uses the package.
    return name.startswith("agentmem.") and not name.startswith("agentmem.cli")


def _handlers() -> Iterator[CodeType]:
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        if callable(handler):
            # A function, a bound method, or an object that can be called.
            for function in (handler, getattr(handler, "__func__", None), type(handler).__call__):
                code = getattr(function, "__code__", None)
                if isinstance(code, CodeType):
                    yield code
