"""A second process that has a store open and does what the test tells it, for as long as the test runs."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from conftest import ROOT, FakeClock, HashEmbedder

from agentmem import Memory, Settings


class Companion:
    """Calls of ``Memory``, made by the other process at the time that ``clock`` shows here; what they raise is raised.

    What iterates comes back as a list.
    """

    def __init__(self) -> None:
        where = {"cwd": ROOT, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        paths = f"import sys; sys.path[:0] = {[str(ROOT / 'tests'), str(ROOT)]!r}; import companion; companion.serve()"
        self._process = subprocess.Popen([sys.executable, "-c", paths], **where)
        self.clock = FakeClock()

    def open(self, path: Path, clock: FakeClock) -> None:
        """Open a store, and close the one before."""
        self.clock = clock
        self._ask("open", (path,), {})

    def close(self) -> None:
        """Close the store."""
        self._ask("close", (), {})

    def end(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)

    @property
    def lifecycle(self) -> _Part:
        return _Part(self, "lifecycle.")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments, **named: self._ask(name, arguments, named)

    def _ask(self, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump((self.clock.now, name, arguments, named), self._process.stdin)
        self._process.stdin.flush()
        fine, result = pickle.load(self._process.stdout)
        if fine:
            return result
        raise result


class _Part:
    """The same calls of a part of it."""

    def __init__(self, companion: Companion, prefix: str) -> None:
        self._companion, self._prefix = companion, prefix

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(self._companion, self._prefix + name)


def serve() -> None:
    """Do what is asked until there is nothing more to read."""
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    clock, memory = FakeClock(), None
    while True:
        try:
            clock.now, name, arguments, named = pickle.load(sys.stdin.buffer)
        except EOFError:
            break
        try:
            if name in ("open", "close"):
                if memory is not None:
                    memory.close()
                memory = Memory(*arguments, clock=clock, embedder=HashEmbedder(), settings=QUIET) if arguments else None
                result = None
            else:
                call: Any = memory
                for part in name.split("."):
                    call = getattr(call, part)
                result = call(*arguments, **named)
            answer = (True, list(result) if isinstance(result, Iterator) else result)
        except Exception as exc:
            answer = (False, exc)
        pickle.dump(answer, answers)
        answers.flush()
    if memory is not None:
        memory.close()


QUIET = Settings(lifecycle={"sweep_interval_s": 0})
"""Without a sweep of its own, whose time nobody knows."""
