"""Which turns belong together: a call of a tool and its results, which no chat API takes one without the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from agentmem.agent.calls import NAMELESS, Calls, calls_of
from agentmem.agent.turns import Turn
from agentmem.types.data import parsed

_SHORT = 4_096
_NOTHING = Calls()
_RESULT = Calls(got=(NAMELESS,))


@dataclass(frozen=True, slots=True)
class Group:
    """Turns that go into a prompt together or not at all, by position.

    ``open`` are calls without a result, ``orphans`` results without a call; either makes it one that cannot be shown,
    unless an open call is the last thing that happened. So does a thought of which nothing came, ``unfinished``.
    """

    positions: tuple[int, ...]
    open: frozenset[str] = frozenset()
    orphans: frozenset[str] = frozenset()
    unfinished: bool = False

    @property
    def whole(self) -> bool:
        """Whether all calls have their results, and the other way round."""
        return not self.open and not self.orphans and not self.unfinished


class _Pairing:
    """Goes through the turns from the first to the last. A call without an id has one of ours here."""

    def __init__(self, turns: int) -> None:
        self.ends = list(range(turns))
        self.open_at = dict[str, int]()
        self.orphans_at = dict[int, set[str]]()
        self._calls = dict[str, int]()
        self._last: int | None = None
        """Where a call was made last."""

    def take(self, at: int, calls: Calls) -> None:
        # A tool of the API's own is called and answered in one message.
        own = [id for id in calls.made if id in calls.got and id and id not in self.open_at]
        for id in calls.got:
            if id not in own:
                self._answer(at, id)
        for number, id in enumerate(calls.made):
            if id not in own:
                self._call(at, id or f"\0{at}.{number}")

    def _call(self, at: int, id: str) -> None:
        self._last = self._calls[id] = self.open_at[id] = at

    def _answer(self, at: int, id: str) -> None:
        if id == NAMELESS:  # it answers what was called last, and of that what has waited longest
            id = next((open for open, where in self.open_at.items() if where == self._last), NAMELESS)
        started = self._calls.get(id) if id else self._last
        if started is None:
            self.orphans_at.setdefault(at, set()).add(id)
        else:
            self.ends[started] = max(self.ends[started], at)
            self.open_at.pop(id, None)


def groups(turns: Sequence[Turn]) -> list[Group]:
    """The turns as groups, in their order. Most are of one turn."""
    pairing, unfinished = _Pairing(len(turns)), set[int]()
    for at, turn in enumerate(turns):
        calls = _calls_in(turn)
        if calls.thought:
            if at + 1 < len(turns) and turns[at + 1].role == turn.role:
                pairing.ends[at] = at + 1
            else:
                unfinished.add(at)
        elif calls is not _NOTHING:
            pairing.take(at, calls)
    found, at = list[Group](), 0
    while at < len(turns):
        end, walked = pairing.ends[at], at
        while walked < end:
            walked += 1
            end = max(end, pairing.ends[walked])
        inside = range(at, end + 1)
        found.append(
            Group(
                tuple(inside),
                frozenset(id for id, where in pairing.open_at.items() if where in inside),
                frozenset(id for where in inside for id in pairing.orphans_at.get(where, ())),
                any(where in inside for where in unfinished),
            )
        )
        at = end + 1
    return found


def _calls_in(turn: Turn) -> Calls:
    if turn.data is None:
        return _RESULT if turn.role in ("tool", "function") else _NOTHING
    return _known(turn.data) if len(turn.data) <= _SHORT else _read(turn.data)


def _read(data: str) -> Calls:
    message = parsed(data)
    return calls_of(cast("Mapping[str, Any]", message)) if isinstance(message, dict) else _NOTHING


_known = lru_cache(4_096)(_read)
"""The same turns come again with every prompt."""
