"""Summaries: which sentences stand for the turns that no longer fit. They are kept as places in the turns, not as text,
so that a turn that is deleted, changed or erased is gone from the summary, too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any, cast
from uuid import uuid4

from agentmem.agent.pairs import groups
from agentmem.agent.ports import AgentStore, SessionPlace, Writer, Written
from agentmem.agent.spots import Draft, Spot, SummaryLine, mark
from agentmem.agent.tokens import Count
from agentmem.agent.turns import Turn
from agentmem.agent.until import until_alone
from agentmem.types.changes import Put
from agentmem.types.errors import ConflictError
from agentmem.types.plain import Plain
from agentmem.types.sessionkeys import SESSIONS, SUMMARIES

CHUNK = 40
"""Turns that a model is asked about together; those that it was asked about before it is not asked about again."""
_MANY = 1_000


@dataclass(frozen=True)
class Summary(Plain):
    """What stands for the turns from ``first_id`` to ``last_id``, ``covered`` of them, which stay where they are.

    ``left_out`` are the ids of those of which nothing is in it. ``model`` is the name of the model that wrote it, and
    ``failures`` is what it was not had for, and why: there, and without a model, sentences of the turns stand.
    """

    first_id: str
    last_id: str
    covered: int
    lines: tuple[SummaryLine, ...]
    left_out: tuple[str, ...]
    version: int
    model: str | None = None
    failures: tuple[str, ...] = ()

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
    places = [Spot.of(each) for each in data["picked"]]
    turns = {turn.id: turn for turn in store.find(place, list({id for spot in places for id in spot.ids}))}
    texts = _texts(store, place) if any(spot.line for spot in places) else {}
    lines = [line for spot in places if (line := spot.read(turns, texts)) is not None]
    left_out, failures = (tuple(cast("list[str]", data.get(name, []))) for name in ("left_out", "failures"))
    model = cast("str | None", data.get("model"))
    return Summary(
        data["first"], data["last"], data["covered"], tuple(lines), left_out, record.version, model, failures
    )


def written(store: AgentStore, place: SessionPlace) -> list[str]:
    """Ids of the sentences that a model wrote for a session."""
    return list(_texts(store, place))


def _texts(store: AgentStore, place: SessionPlace) -> dict[str, str]:
    found = store.list(SUMMARIES, agent_id=place.agent_id, run_id=place.run_id, limit=_MANY, offset=0)
    return {one.id: one.content for one in found if one.key is None and one.agent_id == place.agent_id}


def make(
    store: AgentStore,
    place: SessionPlace,
    turns: Sequence[Turn],
    keep: int,
    max_tokens: int,
    count: Count,
    zone: tzinfo,
    writer: Writer | None = None,
) -> Summary | None:
    """Summarise all turns but the last ``keep``, calls with their results; None if those are all."""
    covered = _covered(turns, keep)
    if not covered:
        return None
    draft = Draft(covered) if writer is None else _written(store, place, covered, max_tokens, writer)
    picked = draft.chosen(max_tokens, count, zone)
    chosen = {id for spot in picked for id in spot.ids}

    def store_it() -> None:
        session, record = store.get(SESSIONS, place.key), store.get(SUMMARIES, place.key)
        if session is None:
            raise ConflictError(f"the session {place.run_id!r} is over, or was deleted meanwhile")
        data = {
            "session": session.id,
            "first": covered[0].id,
            "last": covered[-1].id,
            "covered": len(covered),
            "picked": [spot.data() for spot in picked],
            "left_out": [turn.id for turn in covered if turn.id not in chosen],
            **draft.data(),
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
        there = {turn.id for turn in store.find(place, list(chosen | draft.cited()))}
        store.apply([*draft.changes(place, there), put], SUMMARIES)

    until_alone(store_it)
    return read(store, place)


def _written(store: AgentStore, place: SessionPlace, covered: Sequence[Turn], max_tokens: int, writer: Writer) -> Draft:
    """What a model says of turns, a chunk at a time; what it said of one that is as it was is taken over."""
    record, texts = store.get(SUMMARIES, place.key), _texts(store, place)
    data = cast("dict[str, Any]", record.data) if record is not None else {}
    before = {one["digest"]: one for one in data.get("chunks", ()) if data.get("model") == writer.name}
    draft, stopped = Draft(covered, writer.name, set(texts)), False
    for start in range(0, len(covered), CHUNK):
        part = covered[start : start + CHUNK]
        digest = mark(json.dumps([[turn.id, turn.content] for turn in part]))
        known = before.get(digest)
        if known is not None:
            spots = [Spot.of(each) for each in known["spots"]]
            there = [(spot, texts[spot.line]) for spot in spots if spot.line in texts]
            draft.take(part, there, whole=not known["failures"])
            draft.failures += known["failures"]
            draft.chunks.append(known)
            continue
        said = [turn for turn in part if turn.content]
        share = max(1, max_tokens * len(part) // len(covered))
        made = Written([], [], False) if stopped else writer.write(said, share) if said else Written([], [], True)
        stopped = stopped or not made.final
        contents = {turn.id: turn.content for turn in part}
        spots = [
            (Spot(str(uuid4()), tuple((id, a, b, mark(contents[id][a:b])) for id, a, b in line.sources)), line.text)
            for line in made.lines
        ]
        draft.take(part, spots, whole=made.final and not made.failures)
        draft.failures += made.failures
        draft.new += spots
        if made.final:
            draft.chunks.append(
                {"digest": digest, "spots": [spot.data() for spot, _ in spots], "failures": made.failures}
            )
    return draft


def _covered(turns: Sequence[Turn], keep: int) -> Sequence[Turn]:
    """Those before the last ``keep``; a call stays with its results."""
    end = 0
    for group in groups(turns):
        last = group.positions[-1] + 1
        if last > len(turns) - keep:
            break
        end = last
    return turns[:end]
