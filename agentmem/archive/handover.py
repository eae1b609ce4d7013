"""An iterable that is run on the caller's thread, and consumed on another one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

_WAITING = 2
_LOOK_S = 0.1


class _Stopped(Exception):
    """Raised inside of the consumer when the source has failed, so that it cleans up. Never leaves this file."""


class _End:
    pass


_END: Final = _End()


def hand_over(source: Iterable[bytes], consume: Callable[[Iterator[bytes]], None]) -> None:
    """Call ``consume`` with what ``source`` yields; return when it has returned, raise what either of them raises.

    For obstore, which takes the next part on a thread where nothing else may be asked of obstore: a source that reads
    objects itself would end the process' ability to.
    """
    waiting = queue.Queue[bytes | _End | None](_WAITING)
    failed = list[BaseException]()

    def items() -> Iterator[bytes]:
        while not isinstance(item := waiting.get(), _End):
            if item is None:
                raise _Stopped
            yield item

    def run() -> None:
        try:
            consume(items())
        except BaseException as exc:
            failed.append(exc)

    thread = threading.Thread(target=run, name="agentmem-upload", daemon=True)

    def offer(item: bytes | _End | None) -> None:
        while thread.is_alive():
            try:
                return waiting.put(item, timeout=_LOOK_S)
            except queue.Full:
                continue

    thread.start()
    try:
        for chunk in source:
            offer(chunk)
            if failed:
                break
        offer(_END)
    except BaseException:
        offer(None)
        raise
    finally:
        thread.join()
    if failed:
        raise failed[0]
