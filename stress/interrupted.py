"""The programs that ``interrupts`` interrupts: by signals, by the garbage collector, by being told to end.

Started with a ``Job`` on standard input. What is about to be added and what was added goes to standard output, a JSON
line each, from handlers and finalizers too. A program that stands still says where, and ends with code 3.
"""

from __future__ import annotations

import asyncio
import atexit
import faulthandler
import gc
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

from agentmem import AgentMemError, AsyncMemory, ClosedError, Memory, Settings
from stress.victim import HashedWords

STUCK = 25.0
"""Seconds without progress after which a program is taken to hang."""
USERS = ("ada", "bob", "eve")
SHORTEST, LONGEST = 0.0003, 0.008
"""Seconds between two signals."""


@dataclass
class Job:
    """What to do. ``way`` is how a program ends that is told to, ``large`` has scopes searched outside of memory."""

    program: str
    path: str
    seed: int
    interrupts: int
    way: str = ""
    large: bool = False
    model: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Stop(Exception):
    """What a handler raises, as frameworks do that limit the time of a call."""


class Program:
    """One store, one client that is used all along, and what interrupts its use."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.pick = random.Random(job.seed)
        self.interrupts = 0
        self.numbers = count()
        self.kept = dict[str, tuple[str, str]]()
        """User and text of what was acknowledged, by id."""
        self.memory = self.client()

    def client(self) -> Memory:
        job = self.job
        settings = Settings(
            arena_limit=20 if job.large else 50_000, follower_delay_s=0.2, lifecycle={"sweep_interval_s": 1}
        )
        return Memory(job.path, settings=settings, embedder=None if job.model else HashedWords())

    @property
    def wanted(self) -> bool:
        return self.interrupts < self.job.interrupts

    # -- what is done, by the program and by what interrupts it ------------------------------------------------------

    def add(self, memory: Memory) -> None:
        user, text = self.pick.choice(USERS), self.text()
        say(begin=text)
        self.acknowledge(memory.add(text, user_id=user, dedupe=False).id, user, text)

    def acknowledge(self, id: str, user: str, text: str) -> None:
        self.kept[id] = user, text
        say(added=id, text=text)

    def text(self) -> str:
        return f"w{next(self.numbers)}x{self.job.seed} harbour lantern {self.pick.choice(USERS)}"

    def search(self, memory: Memory) -> None:
        """Something new, or what is in the cache, or what was just added: that must be found."""
        kept = list(self.kept.copy().items())
        if not kept or self.pick.random() < 0.3:
            memory.search(f"harbour {self.pick.randrange(40)}", user_id=self.pick.choice(USERS))
            return
        id, (user, text) = kept[-1] if self.pick.random() < 0.5 else self.pick.choice(kept)
        found = [hit.id for hit in memory.search(text, user_id=user, limit=5)]
        if id not in found:
            say(problem=f"{text!r} was not found among {len(kept)}")

    def read(self, memory: Memory) -> None:
        kept = list(self.kept.copy())
        if kept and memory.get(id := self.pick.choice(kept)) is None:
            say(problem=f"{id} is gone")

    def update(self, memory: Memory) -> None:
        if self.kept:
            id = self.pick.choice(list(self.kept.copy()))
            memory.update(id, content=self.kept[id][1], importance=self.pick.random())

    def open_another(self) -> None:
        with self.client() as other:
            self.add(other)

    def close(self) -> None:
        """Close the client under whoever uses it; a new one takes its place."""
        old, self.memory = self.memory, self.client()
        old.close()

    def something(self) -> None:
        """What the program itself does."""
        act = self.pick.choice([self.add, self.search, self.search, self.search, self.read, self.update])
        try:
            act(self.memory)
        except ClosedError:
            pass  # by a handler

    def interrupt(self) -> None:
        """What a handler or a finalizer does."""
        act = self.pick.choice([*[lambda: self.add(self.memory)] * 3, *[lambda: self.search(self.memory)] * 3,
                                lambda: self.read(self.memory), lambda: self.update(self.memory),
                                self.close, self.open_another])  # fmt: skip
        try:
            act()
        except ClosedError:
            pass
        except AgentMemError as exc:
            say(refused=f"{type(exc).__name__}: {exc}")
        self.interrupts += 1
        faulthandler.dump_traceback_later(STUCK, exit=True)

    def check(self) -> None:
        """With the client that was interrupted all along: everything acknowledged is there and is found."""
        for id in list(self.kept.copy()):
            if self.memory.get(id) is None:
                say(problem=f"{id} is gone in the end")
        for id, (user, text) in self.pick.sample(list(self.kept.copy().items()), min(60, len(self.kept))):
            if id not in [hit.id for hit in self.memory.search(text, user_id=user, limit=5)]:
                say(problem=f"{text!r} is not found in the end")
        report = self.memory.verify()
        if not report.ok:
            say(problem=f"verify: {report.problems[:3]}")
        self.memory.close()

    # -- the programs ------------------------------------------------------------------------------------------------

    def on_alarm(self, call: Callable[[], object]) -> None:
        """Have ``call`` called at random instants, until there were enough; handlers do not nest."""

        def again() -> None:
            if self.wanted:
                signal.setitimer(signal.ITIMER_REAL, self.pick.uniform(SHORTEST, LONGEST))

        def handler(*_: object) -> None:
            try:
                call()
            finally:
                again()

        signal.signal(signal.SIGALRM, handler)
        again()

    def script(self) -> None:
        self.on_alarm(self.interrupt)
        while self.wanted:
            self.something()

    def raising(self) -> None:
        """The handler raises; whatever was cut short is tried again."""

        def stop() -> None:
            frame = sys._getframe()
            while frame is not None and frame.f_code is not Program.something.__code__:
                frame = frame.f_back
            if frame is None:
                return  # on the way from one thing to the next
            self.interrupts += 1
            faulthandler.dump_traceback_later(STUCK, exit=True)
            raise (Stop if self.interrupts % 2 else KeyboardInterrupt)

        self.on_alarm(stop)
        while self.wanted:
            try:
                while self.wanted:
                    self.something()
            except (Stop, KeyboardInterrupt):
                pass
            except AgentMemError as exc:
                say(problem=f"a handler's exception became {type(exc).__name__}: {exc}")
        signal.signal(signal.SIGALRM, signal.SIG_IGN)

    def threads(self) -> None:
        """Threads that work, and a main thread that starts more of them."""
        pause = threading.Event()

        def work() -> None:
            while self.wanted:
                self.something()
                pause.wait(0.002)

        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        self.on_alarm(self.interrupt)
        with ThreadPoolExecutor(4) as pool:
            while self.wanted:
                pool.submit(self.something)
                thread = threading.Thread(target=self.something)
                thread.start()
                self.something()
                thread.join()

    def loop(self) -> None:
        """An event loop; the handler uses a blocking client, on top of whatever the loop does."""

        async def task(memory: AsyncMemory) -> None:
            while self.wanted:
                if self.pick.random() < 0.4:
                    user, text = self.pick.choice(USERS), self.text()
                    say(begin=text)
                    self.acknowledge((await memory.add(text, user_id=user, dedupe=False)).id, user, text)
                elif self.pick.random() < 0.1:
                    hurried = asyncio.create_task(memory.add(self.announced(), user_id="ada", dedupe=False))
                    await asyncio.sleep(self.pick.random() / 500)
                    hurried.cancel()
                    await asyncio.gather(hurried, return_exceptions=True)
                else:
                    await memory.search(f"harbour {self.pick.randrange(40)}", user_id=self.pick.choice(USERS))

        async def main() -> None:
            async with AsyncMemory(self.job.path, settings=self.memory.handle.settings, embedder=embedder) as memory:
                self.on_alarm(self.interrupt)
                await asyncio.gather(*(task(memory) for _ in range(8)))

        embedder = None if self.job.model else HashedWords()
        asyncio.run(main())

    def announced(self) -> str:
        text = self.text()
        say(begin=text)
        return text

    def finalizers(self) -> None:
        """Garbage that uses the store when it is collected, on whichever thread that happens to be."""
        program, inside = self, threading.local()

        class Session:
            def __init__(self) -> None:
                self.me = self

            def __del__(self) -> None:
                if not getattr(inside, "yes", False):
                    inside.yes = True
                    program.interrupt()
                    inside.yes = False

        def work() -> None:
            for n in count():
                if not self.wanted:
                    return
                if n % 3 == 0:
                    Session()
                self.something()

        gc.set_threshold(60, 5, 5)
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        work()
        for thread in threads:
            thread.join()
        gc.set_threshold(700, 10, 10)
        gc.collect()  # what is left would come in the middle of the check

    def ending(self) -> None:
        """Writes until it is told to end, and does that in one of the usual ways."""
        way = self.job.way

        def end(*_: object) -> None:
            if "add" in way:
                self.add(self.memory)
            if "close" in way:
                self.memory.close()
            sys.exit(0)

        if way != "default":
            signal.signal(signal.SIGTERM, end)
        if way == "atexit":
            atexit.register(self.memory.close)
        say(ready=True)
        while True:
            self.something()


def say(**line: Any) -> None:
    os.write(1, (json.dumps(line) + "\n").encode())


def main() -> None:
    program = Program(Job(**json.loads(sys.stdin.readline())))
    faulthandler.enable()
    faulthandler.dump_traceback_later(STUCK, exit=True)
    if program.job.program != "ending":
        program.add(program.memory)
    started = time.perf_counter()
    getattr(program, program.job.program)()
    seconds = time.perf_counter() - started
    faulthandler.dump_traceback_later(3 * STUCK, exit=True)
    program.check()
    say(done=program.interrupts, seconds=round(seconds, 2))


if __name__ == "__main__":
    main()
