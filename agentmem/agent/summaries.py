"""Summaries: which sentences stand for the turns that no longer fit. They are kept as places in the turns, not as text,
so that a turn that is deleted, changed or erased is gone from the summary, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from hashlib import blake2b
from typing import Any, cast

from agentmem.agent.extracting import ranked
from agentmem.agent.pairs import groups
from agentmem.agent.ports import AgentStore, SessionPlace
from agentmem.agent.quoting import memory_line
from agentmem.agent.tokens import Count
from agentmem.agent.turns import Turn
from agentmem.agent.until import until_alone
from agentmem.types.changes import Put
from agentmem.types.errors import ConflictError
from agentmem.types.plain import Plain
from agentmem.types.sessionkeys import SESSIONS, SUMMARIES


@dataclass(frozen=True)
class SummaryLine(Plain):
    """A sentence of a turn, with the id of that turn, its role and time."""

    turn_id: str
    role: str
    at: datetime
    text: str


@dataclass(frozen=True)
class Summary(Plain):
    """What stands for the turns from ``first_id`` to ``last_id``, ``covered`` of them, which stay where they are.

    ``left_out`` are the ids of those of which no sentence is in it.
    """

    first_id: str
    last_id: str
    covered: int
    lines: tuple[SummaryLine, ...]
    left_out: tuple[str, ...]
    version: int

    @property
    def text(self) -> str:
        """The sentences, a line each, oldest first."""
        return "\n".join(line.text for line in self.lines)


def read(store: AgentStore, place: SessionPlace) -> Summary | None:
    """The summary of a session as its turns are now; None if there is none."""
    record = store.get(SUMMARIES, place.key)
    session = None if record is None else store.get(SESSIONS, place.key)
    if record is None or session is None:
        return None
    data = cast("dict[str, Any]", record.data)
    if data["session"] != session.id:
        return None
    picked = cast("list[list[Any]]", data["picked"])
    turns = {turn.id: turn for turn in store.find(place, [each[0] for each in picked])}
    lines = list[SummaryLine]()
    for id, start, end, mark in picked:
        turn = turns.get(id)
        if turn is not None and _mark(text := turn.content[start:end]) == mark:
            lines.append(SummaryLine(id, turn.role, turn.at, text))
    left_out = tuple(cast("list[str]", data["left_out"]))
    return Summary(data["first"], data["last"], data["covered"], tuple(lines), left_out, record.version)


def make(
    store: AgentStore,
    place: SessionPlace,
    turns: Sequence[Turn],
    keep: int,
    max_tokens: int,
    count: Count,
    zone: tzinfo,
) -> Summary | None:
    """Summarise all turns but the last ``keep``, calls with their results; None if those are all."""
    covered = _covered(turns, keep)
    if not covered:
        return None
    picked, used, said = list[tuple[int, int, int]](), 0, set[str]()
    for one in ranked(covered):
        if (words := one.text.casefold()) in said:
            continue
        tokens = count(line_of(SummaryLine("", covered[one.turn].role, covered[one.turn].at, one.text), zone) + "\n")
        if used + tokens <= max_tokens:
            used += tokens
            said.add(words)
            picked.append((one.turn, one.start, one.end))
    picked.sort()
    chosen = {at for at, _, _ in picked}

    def store_it() -> None:
        session, record = store.get(SESSIONS, place.key), store.get(SUMMARIES, place.key)
        if session is None:
            raise ConflictError(f"the session {place.run_id!r} is over, or was deleted meanwhile")
        data = {
            "session": session.id,
            "first": covered[0].id,
            "last": covered[-1].id,
            "covered": len(covered),
            "picked": [
                [covered[at].id, start, end, _mark(covered[at].content[start:end])] for at, start, end in picked
            ],
            "left_out": [turn.id for at, turn in enumerate(covered) if at not in chosen],
        }
        put = Put(
            place.key,
            data=data,
            kind="summary",
            layer="interact",
            agent_id=place.agent_id,
            run_id=place.run_id,
            embed=False,
            if_version=0 if record is None else record.version,
            **store.place(SUMMARIES),
        )
        store.apply([put])

    until_alone(store_it)
    return read(store, place)


def line_of(line: SummaryLine, zone: tzinfo) -> str:
    """A sentence as a line of a prompt."""
    return memory_line(line.text, when=line.at, zone=zone, source=line.role)


def _covered(turns: Sequence[Turn], keep: int) -> Sequence[Turn]:
    """Those before the last ``keep``; a call stays with its results."""
    end = 0
    for group in groups(turns):
        last = group.positions[-1] + 1
        if last > len(turns) - keep:
            break
        end = last
    return turns[:end]


def _mark(text: str) -> str:
    """What tells whether a sentence is still the one that was chosen; nothing of it can be read from this."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
