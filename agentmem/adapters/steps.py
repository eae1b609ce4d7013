"""One body for a blocking and an async method: a generator of calls of ``Memory``, and who makes them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

from agentmem import Memory

T = TypeVar("T")

Call = tuple[str, dict[str, Any]]
"""A method's name and its arguments."""
Steps = Generator[Call, Any, T]
"""Yields calls, is sent what each returned, and returns the result. An error is raised where the call was yielded."""


def run(memory: Memory, steps: Steps[T]) -> T:
    """Make the calls on this thread."""
    try:
        name, arguments = next(steps)
        while True:
            try:
                result = getattr(memory, name)(**arguments)
            except Exception as exc:
                name, arguments = steps.throw(exc)
            else:
                name, arguments = steps.send(result)
    except StopIteration as done:
        return done.value


async def arun(memory: Memory, steps: Steps[T]) -> T:
    """The same, for event loops."""
    client: Any = memory.aio
    try:
        name, arguments = next(steps)
        while True:
            try:
                result = await getattr(client, name)(**arguments)
            except Exception as exc:
                name, arguments = steps.throw(exc)
            else:
                name, arguments = steps.send(result)
    except StopIteration as done:
        return done.value
