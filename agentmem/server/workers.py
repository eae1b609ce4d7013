"""Several processes that serve from one socket: started anew when they die, and ended together.

uvicorn's own supervisor asks each worker whether it lives, and waits for the answer: while one that is being started or
was killed does not answer, it hears no signal and replaces nobody.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import connection, get_context, parent_process
from multiprocessing.context import SpawnProcess
from socket import socket
from typing import Any

FAILED_TO_START = 3
"""The exit code of a worker that would fail again."""
_SOON_S = 2.0
"""A worker that dies within this of its start is started anew after it only."""

log = logging.getLogger("agentmem.server")
Work = Callable[[Any, socket], int]


def supervise(work: Work, options: Any, listening: socket, count: int) -> int:
    """Have ``count`` processes do ``work(options, listening)`` until SIGTERM or SIGINT; an exit code.

    Processes are spawned: one that is forked from a process with threads, or with an open store, may stand still.
    """
    context = get_context("spawn")
    ended = threading.Event()
    wakes, wake = os.pipe()

    def end(number: int, frame: object) -> None:
        ended.set()
        os.write(wake, b"\0")

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    workers = dict[SpawnProcess, float]()

    def start() -> None:
        worker = context.Process(target=_begin, args=(work, options, listening))
        worker.start()
        workers[worker] = time.monotonic()

    code = 0
    try:
        for _ in range(count):
            start()
        while not ended.is_set():
            connection.wait([wakes, *(worker.sentinel for worker in workers)])
            for worker in [worker for worker in workers if worker.exitcode is not None]:
                lived = time.monotonic() - workers.pop(worker)
                if ended.is_set():
                    break
                if worker.exitcode == FAILED_TO_START:
                    code = FAILED_TO_START
                    ended.set()
                    break
                log.warning("the worker %s died (%s); another takes its place", worker.pid, worker.exitcode)
                if lived < _SOON_S:
                    ended.wait(_SOON_S - lived)
                if not ended.is_set():
                    start()
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(wakes)
        os.close(wake)
    return code


def _begin(work: Work, options: Any, listening: socket) -> None:
    """In the process that was started."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    threading.Thread(target=_end_with_parent, name="agentmem-parent", daemon=True).start()
    raise SystemExit(work(options, listening))


def _end_with_parent() -> None:
    """Nobody replaces workers, or ends them, whose parent was killed."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
