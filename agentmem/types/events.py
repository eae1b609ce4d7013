"""Something that happens in one part and that others want to hear of, without either knowing the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, ParamSpec

P = ParamSpec("P")


class Event(Generic[P]):
    """Call it when it happens; whoever subscribed is called in turn, on the same thread, before that returns.

    What a subscriber raises comes out of the call: one that may refuse what happens does it that way.
    """

    def __init__(self) -> None:
        self._subscribers: list[Callable[P, object]] = []

    def subscribe(self, call: Callable[P, object]) -> None:
        """Have ``call`` called from now on. Not while the event may be happening on another thread."""
        self._subscribers.append(call)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> None:
        for call in self._subscribers:
            call(*args, **kwargs)
