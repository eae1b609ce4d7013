"""Promises: what ``concurrent.futures`` promises, kept without a lock, and threads that serve while they wait."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from agentmem.types.errors import StoreError
from agentmem.types.promise import Promise, Service, aside, on_service, promised

PATIENCE = 20


def test_it_is_kept_once() -> None:
    promise = Promise[int]()
    assert not promise.done()
    assert not promise.running()
    with pytest.raises(TimeoutError):
        promise.result(0)
    assert promise.set_running_or_notify_cancel()
    assert promise.running()
    promise.set_result(7)
    assert promise.done()
    assert not promise.running()
    assert not promise.cancel()
    assert promise.result() == promise.result(0) == 7
    assert promise.exception() is None
    with pytest.raises(InvalidStateError, match="kept already"):
        promise.set_result(8)
    assert promise.result() == 7


def test_it_is_broken_with_the_error() -> None:
    promise, error = Promise[int](), ValueError("no")
    promise.set_exception(error)
    assert promise.exception() is error
    with pytest.raises(ValueError, match="no") as caught:
        promise.result()
    assert caught.value is error


def test_either_it_begins_or_it_is_cancelled() -> None:
    promise = Promise[int]()
    assert promise.cancel()
    assert promise.cancel()
    assert promise.cancelled()
    assert promise.done()
    assert not promise.set_running_or_notify_cancel()
    with pytest.raises(CancelledError):
        promise.result()
    with pytest.raises(InvalidStateError, match="cancelled"):
        promise.set_result(1)
    begun = Promise[int]()
    assert begun.set_running_or_notify_cancel()
    assert not begun.cancel()
    assert not begun.cancelled()


def test_everybody_who_waits_hears_of_it_once() -> None:
    for _ in range(200):
        promise, heard = Promise[int](), list[int]()
        barrier = threading.Barrier(6)

        def listen(promise: Promise[int] = promise, heard: list[int] = heard, b: threading.Barrier = barrier) -> int:
            b.wait(PATIENCE)
            promise.add_done_callback(lambda done: heard.append(done.result()))
            return promise.result(PATIENCE)

        with ThreadPoolExecutor(6) as threads:
            waiting = [threads.submit(listen) for _ in range(5)]
            barrier.wait(PATIENCE)
            promise.set_result(3)
            assert [one.result(PATIENCE) for one in waiting] == [3] * 5
        assert heard == [3] * 5


def test_of_those_who_begin_and_cancel_at_once_one_wins() -> None:
    for _ in range(300):
        promise, barrier = Promise[int](), threading.Barrier(2)
        with ThreadPoolExecutor(1) as threads:
            cancelled = threads.submit(lambda p=promise, b=barrier: (b.wait(PATIENCE), p.cancel())[1])
            barrier.wait(PATIENCE)
            begun = promise.set_running_or_notify_cancel()
            assert begun != cancelled.result(PATIENCE)


def test_a_callback_that_fails_keeps_no_other_from_being_called(caplog: pytest.LogCaptureFixture) -> None:
    promise, heard = Promise[int](), list[str]()
    promise.add_done_callback(lambda _: 1 // 0)
    promise.add_done_callback(lambda _: heard.append("second"))
    with caplog.at_level(logging.ERROR, "agentmem"):
        promise.set_result(1)
    assert heard == ["second"]
    assert "ZeroDivisionError" in caplog.text


def test_an_error_that_was_raised_is_not_kept_alive() -> None:
    class Mine(Exception):
        pass

    promise = Promise[int]()
    promise.set_exception(Mine())
    error = weakref.ref(promise.exception())
    gc.disable()
    try:
        with suppress(Mine):
            promise.result()
        del promise
        assert error() is None
    finally:
        gc.enable()


def test_asyncio_can_await_it() -> None:
    async def main() -> int:
        return await asyncio.wrap_future(promised(lambda: 41)) + 1

    assert asyncio.run(main()) == 42


# -- whoever interrupts ----------------------------------------------------------------------------------------------


def at_every_line(act: Any, call: Any) -> int:
    """Run ``act`` again and again, each time with ``call`` on top of another line of the module; how many there are."""
    from agentmem.types import promise as module

    nth = 0
    while True:
        nth += 1
        left = nth

        def trace(frame: Any, event: str, _: Any) -> Any:
            nonlocal left
            if frame.f_code.co_filename != module.__file__:
                return None
            if event == "line":
                left -= 1
                if left == 0:
                    sys.settrace(None)
                    call()
            return trace

        sys.settrace(trace)
        try:
            act()
        finally:
            sys.settrace(None)
        if left > 0:
            return nth


def test_another_thread_can_keep_what_this_one_was_interrupted_in() -> None:
    promise = Promise[int]()

    def begin() -> None:
        nonlocal promise
        promise = Promise[int]()

    def elsewhere() -> None:
        # As a handler would wait for a thread that completes what the interrupted frame uses.
        thread = threading.Thread(target=lambda: promise.done() or promise.set_result(5))
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "it waits for what was interrupted"

    def use() -> None:
        begin()
        heard = list[int]()
        promise.add_done_callback(lambda done: heard.append(done.result()))
        timer = threading.Timer(0.05, lambda: promise.done() or promise.set_result(5))
        timer.start()
        assert promise.result(PATIENCE) == 5
        timer.join()
        assert heard == [5]

    assert at_every_line(use, elsewhere) > 10


def test_something_loaded_aside_is_whole_for_whoever_interrupts() -> None:
    loads = list[int]()

    def load() -> int:
        time.sleep(0.001)
        loads.append(1)
        return len(loads)

    assert aside(load) == 1
    assert at_every_line(lambda: aside(load), lambda: aside(load)) > 2


def test_what_is_loaded_may_load_more_and_may_not_wait() -> None:
    assert aside(lambda: aside(lambda: threading.get_ident()) == threading.get_ident())
    with pytest.raises(StoreError, match="finalizer"):
        aside(lambda: Promise[int]().result())


def test_errors_come_from_aside_as_they_are() -> None:
    with pytest.raises(KeyError, match="nothing"):
        aside(lambda: {}["nothing"])


# -- threads that serve ----------------------------------------------------------------------------------------------


def test_a_service_serves_while_something_on_top_of_it_waits() -> None:
    work, done = SimpleQueue[Any](), list[str]()

    def step() -> bool:
        item = work.get(timeout=PATIENCE)
        if item is not None:
            item()
        return item is not None

    def serve(promise: Promise[Any]) -> None:
        while not promise.done():
            step()

    def loop() -> None:
        while step():
            pass

    service = Service(loop, "test-service", serve)
    service.start()

    def needs_more() -> None:
        # Only this thread can do it.
        promise = Promise[int]()
        work.put(lambda: promise.set_result(9))
        done.append(f"got {promise.result()} on {'service' if on_service() else 'another'}")
        work.put(None)

    work.put(needs_more)
    service.ended.result(PATIENCE)
    service.join()
    assert done == ["got 9 on service"]
    assert not on_service()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_service_that_fails_has_ended_all_the_same() -> None:
    def fail() -> None:
        raise SystemExit

    service = Service(fail, "test-service")
    service.start()
    service.ended.result(PATIENCE)
    service.join()


FORKED = """
import os, signal, sys, threading, time
sys.path.insert(0, sys.argv[1])
from agentmem.types.promise import aside

def load():
    import slow
    return slow.DONE

threading.Thread(target=aside, args=(load,)).start()
while "slow" not in sys.modules:
    time.sleep(0.001)
pid = os.fork()
if not pid:
    signal.alarm(20)  # the lock of a module that a thread was importing is held for ever in the child
    print(load(), aside(load), flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), aside(load))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_waits_for_what_is_being_loaded(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(0.5)\nDONE = 7\n")
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.split() == ["7", "7", "0", "7"]
    assert found.stderr == ""


def test_what_is_being_loaded_may_fork(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import os\nif not os.fork():\n    os._exit(0)\nos.wait()\nDONE = 7\n")
    code = "import sys; sys.path.insert(0, sys.argv[1]); from agentmem.types.promise import aside\n"
    code += "from importlib import import_module; print(aside(lambda: import_module('slow')).DONE)"
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    begun = time.monotonic()
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.split() == ["7"]
    assert time.monotonic() - begun < 9
