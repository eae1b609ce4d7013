"""Telling that a call runs on top of another one."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from agentmem.types.once import once
from agentmem.types.reentry import AcrossForks, from_handler, held_here, on_top


class Late(Exception):
    """What a framework raises in a call that takes too long."""


@pytest.fixture
def alarm() -> Iterator[Callable[[object], None]]:
    """Sets a handler and has the signal come in a moment."""
    before = signal.getsignal(signal.SIGALRM)

    def set_(handler: object) -> None:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.01)

    yield set_
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def caught() -> BaseException:
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            sum(range(100))
    except Exception as exc:
        return exc
    raise AssertionError("no signal came")


class Limit:
    def __call__(self, *_: object) -> None:
        raise Late

    def method(self, *_: object) -> None:
        self(*_)


def function(*_: object) -> None:
    deeper()


def deeper() -> None:
    raise Late


@pytest.mark.parametrize(
    "handler", [function, lambda *_: deeper(), Limit(), Limit().method], ids=["function", "lambda", "object", "method"]
)
def test_what_a_handler_raises_is_known(alarm: Callable[[object], None], handler: object) -> None:
    alarm(handler)
    error = caught()
    assert isinstance(error, Late)
    assert from_handler(error)


def test_other_errors_are_not_taken_for_a_handlers(alarm: Callable[[object], None]) -> None:
    alarm(lambda *_: None)
    with pytest.raises(ZeroDivisionError) as raised:
        _ = 1 // 0
    assert not from_handler(raised.value)
    assert not from_handler(Late())
    signal.signal(signal.SIGALRM, function)
    with pytest.raises(Late) as raised_here:
        deeper()
    assert not from_handler(raised_here.value)


def test_a_lock_knows_who_has_it() -> None:
    lock, held = threading.RLock(), list[bool]()
    assert not held_here(lock)
    with lock:
        assert held_here(lock)
        thread = threading.Thread(target=lambda: held.append(held_here(lock)))
        thread.start()
        thread.join()
    assert not held_here(lock)
    assert held == [False]


def test_a_call_from_a_callback_is_on_top() -> None:
    # Called by the test, with nothing of the package below it.
    assert not on_top()
    seen = list[bool]()

    class Asks:
        @once
        def value(self) -> int:
            seen.append(through_the_package())
            return 1

    def through_the_package() -> bool:
        class Again:
            @once
            def value(self) -> bool:
                return on_top()

        return Again().value

    assert Asks().value == 1
    assert seen == [True]


def test_once_computes_once_and_keeps_it_with_the_object() -> None:
    class Costly:
        computed = 0

        @once
        def value(self) -> list[int]:
            """What costs."""
            Costly.computed += 1
            return [Costly.computed]

    first, second = Costly(), Costly()
    assert first.value is first.value
    assert first.value == [1]
    assert second.value == [2]
    assert Costly.value.__doc__ == "What costs."


def test_a_thread_that_has_forked_gives_back_its_own_locks() -> None:
    """Another one may be about to fork, and holds some, too."""
    mine, its, across, done = threading.RLock(), threading.RLock(), AcrossForks(), threading.Event()
    taken = threading.Event()

    def fork() -> None:
        across.take([its])
        taken.set()
        done.wait(10)
        across.give_back()

    other = threading.Thread(target=fork)
    across.take([mine])
    other.start()
    assert taken.wait(10)
    across.give_back()
    assert not held_here(mine)
    assert not its.acquire(blocking=False)
    done.set()
    other.join()
    assert its.acquire(blocking=False)


def test_what_is_not_free_in_time_is_gone_without() -> None:
    busy, free, across = threading.RLock(), threading.RLock(), AcrossForks()
    holder = threading.Thread(target=busy.acquire)
    holder.start()
    holder.join()
    across.take([busy, free], 0.01)
    assert held_here(free)
    across.give_back()
    assert not held_here(free)
