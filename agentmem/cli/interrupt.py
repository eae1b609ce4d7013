"""Ctrl-C: while many are added, what is on its way into the store is finished and reported first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


class Interrupted(Exception):
    """The items end here because somebody said so."""


class Interrupt:
    """Within it the first Ctrl-C ends ``items``, a second one whatever runs."""

    def __init__(self) -> None:
        self._wanted = False
        self._reading = False
        self._replaced = False

    def __enter__(self) -> Interrupt:
        ours = threading.current_thread() is threading.main_thread()
        if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handle)
            self._replaced = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._replaced:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def items(self, source: Iterable[T]) -> Iterator[T]:
        """The same; raises ``Interrupted`` after a Ctrl-C, at once where it waits for more of them."""
        iterator = iter(source)
        while True:
            try:
                self._reading = True
                if self._wanted:
                    raise Interrupted
                item = next(iterator)
            except StopIteration:
                return
            except KeyboardInterrupt as exc:
                raise Interrupted from exc
            finally:
                self._reading = False
            yield item

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._reading or self._wanted:
            self._wanted = True
            raise KeyboardInterrupt
        self._wanted = True


@contextmanager
def stopped() -> Generator[threading.Event]:
    """Within it SIGINT and SIGTERM set an event, for a command that goes on until it is stopped. A second one ends it
    as ever."""
    event = threading.Event()
    before = dict[signal.Signals, Any]()

    def stop(number: int, frame: FrameType | None) -> None:
        event.set()
        restore()

    def restore() -> None:
        while before:
            signal.signal(*before.popitem())

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, stop)
    try:
        yield event
    finally:
        restore()
