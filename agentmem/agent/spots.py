"""What a summary is made of: places in turns, and sentences that a model wrote, with the places that say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from hashlib import blake2b
from typing import Any, NamedTuple

from agentmem.agent.extracting import ranked
from agentmem.agent.ports import SessionPlace
from agentmem.agent.quoting import memory_line
from agentmem.agent.tokens import Count
from agentmem.agent.turns import Turn
from agentmem.types.changes import Add, Delete, Evidence, Operation
from agentmem.types.enums import Layer
from agentmem.types.newmemory import NewMemory
from agentmem.types.plain import Plain


@dataclass(frozen=True)
class SummaryLine(Plain):
    """A sentence of a turn, with the id of that turn, its role and time; or one that a model wrote, of the role
    ``summary``, with the id and the time of the first turn that says so. ``sources`` are the ids of
    all that do."""

    turn_id: str
    role: str
    at: datetime
    text: str
    sources: tuple[str, ...] = ()


def line_of(line: SummaryLine, zone: tzinfo) -> str:
    """A sentence as a line of a prompt."""
    return memory_line(line.text, when=line.at, zone=zone, source=line.role)


WRITTEN = "summary"
"""The role of what a model wrote."""


class Spot(NamedTuple):
    """Where a sentence is: with ``line`` that of a model, by the id of its record; else the words of the one place.

    ``places`` are turns, from and to which character, and a mark of the words there: a sentence is gone as soon as one
    of them is, or says something else.
    """

    line: str
    places: tuple[tuple[str, int, int, str], ...]

    @classmethod
    def of(cls, data: Sequence[Any]) -> Spot:
        """As it was kept."""
        if isinstance(data[0], str) and len(data) == 4:
            return cls("", ((data[0], data[1], data[2], data[3]),))
        return cls(data[0], tuple((id, start, end, each) for id, start, end, each in data[1]))

    def data(self) -> list[Any]:
        """As it is kept."""
        return [self.line, [list(each) for each in self.places]] if self.line else list(self.places[0])

    @property
    def ids(self) -> tuple[str, ...]:
        """The turns."""
        return tuple(dict.fromkeys(id for id, *_ in self.places))

    def read(self, turns: Mapping[str, Turn], texts: Mapping[str, str]) -> SummaryLine | None:
        """The sentence, as the turns are now; None if it is gone."""
        if any(id not in turns or mark(turns[id].content[a:b]) != each for id, a, b, each in self.places):
            return None
        id, start, end, _ = self.places[0]
        role = WRITTEN if self.line else turns[id].role  # nobody said what a model wrote
        text = texts.get(self.line) if self.line else turns[id].content[start:end]
        return None if text is None else SummaryLine(id, role, turns[id].at, text, self.ids)


class Draft:
    """A summary in the making: candidates, in the order of the turns, of which ``chosen`` are those that fit."""

    def __init__(self, covered: Sequence[Turn], model: str | None = None, there: set[str] | None = None) -> None:
        self._turns = {turn.id: turn for turn in covered}
        self._at = {turn.id: at for at, turn in enumerate(covered)}
        own: list[tuple[Turn, Spot | None]] = [(turn, None) for turn in covered]
        self._candidates = [] if model is not None else own
        self._model = model
        self._there = there or set()
        """Ids of sentences that were written before."""
        self.new = list[tuple[Spot, str]]()
        self.chunks = list[dict[str, Any]]()
        self.failures = list[str]()

    def take(self, part: Sequence[Turn], spots: Sequence[tuple[Spot, str]], *, whole: bool) -> None:
        """What a model wrote of turns; where that is not the whole, those of which it wrote nothing for themselves."""
        for spot, text in spots:
            first = self._turns[spot.places[0][0]]
            self._candidates.append((replace(first, content=text, role=WRITTEN), spot))
        if not whole:
            said = {id for spot, _ in spots for id in spot.ids}
            self._candidates += [(turn, None) for turn in part if turn.id not in said]

    def chosen(self, max_tokens: int, count: Count, zone: tzinfo) -> list[Spot]:
        """Those that say most and repeat each other least, as many as fit, in the order of the turns."""
        picked, used, said = list[Spot](), 0, set[str]()
        for turn, text, spot in self._by_worth():
            if (words := text.casefold()) in said:
                continue
            tokens = count(line_of(SummaryLine("", turn.role, turn.at, text), zone) + "\n")
            if used + tokens <= max_tokens:
                used += tokens
                said.add(words)
                picked.append(spot)
        return sorted(picked, key=lambda spot: (self._at[spot.places[0][0]], spot.places[0][1:3]))

    def _by_worth(self) -> Iterator[tuple[Turn, str, Spot]]:
        """Sentences of turns, and those of the model as wholes, what says most first."""
        left = {at: spot for at, (_, spot) in enumerate(self._candidates) if spot is not None}
        for one in ranked([turn for turn, _ in self._candidates]):
            turn, spot = self._candidates[one.turn]
            if spot is None:
                yield turn, one.text, Spot("", ((turn.id, one.start, one.end, mark(one.text)),))
            elif left.pop(one.turn, None) is not None:
                yield turn, turn.content, spot
        for at, spot in left.items():  # too short, or too long, to be weighed
            turn, _ = self._candidates[at]
            yield turn, turn.content, spot

    def data(self) -> dict[str, Any]:
        """What is kept besides; nothing where no model was asked."""
        if self._model is None:
            return {}
        return {"model": self._model, "chunks": self.chunks, "failures": self.failures}

    def cited(self) -> set[str]:
        """Turns that new sentences are drawn from."""
        return {id for spot, _ in self.new for id in spot.ids}

    def changes(self, place: SessionPlace, there: set[str]) -> list[Operation]:
        """Sentences that come, each erased with the last turn that says so, and those that nothing names any more."""
        kept = {spot[0] for chunk in self.chunks for spot in chunk["spots"]}
        added: list[Operation] = [
            Add(
                NewMemory(
                    id=spot.line, content=text, kind="summary", layer=Layer.INTERACT, agent_id=place.agent_id,
                    run_id=place.run_id, embed=False, dedupe=False,
                ),
                evidence=[Evidence(id, start, end) for id, start, end, _ in spot.places],
            )
            for spot, text in self.new
            if there.issuperset(spot.ids)
        ]  # fmt: skip
        return [*added, *(Delete(id) for id in self._there - kept)]


def mark(text: str) -> str:
    """What tells whether a sentence is still the one that was chosen; nothing of it can be read from this."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
