"""From operations to changes of the store: as facts at once, or as proposals; and from proposals to facts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

from agentmem.knowledge.guards import Accepted
from agentmem.knowledge.ports import Change, Discard, Learn, Proposed, Retire
from agentmem.knowledge.reports import Proposal
from agentmem.types.clock import to_micros
from agentmem.types.ids import uuid7s

LEARNED, RETIRED = "learned_by", "retired_by"
"""In the metadata of facts: the run that made or retired them. Why it retired them stands nowhere: that may quote what
is erased one day."""


def changes_of(
    accepted: Sequence[Accepted], run: str, now: datetime, *, dry_run: bool
) -> tuple[list[Change], list[int]]:
    """What operations come to, with the position of the operation for each change."""
    made, owners = list[Change](), list[int]()
    ids = iter(uuid7s(len(accepted), to_micros(now)))
    for position, one in enumerate(accepted):
        if one.op == "NOOP":
            continue
        changes = [_proposal(one, next(ids), run, now)] if dry_run else _facts(one, next(ids), run)
        made += changes
        owners += [position] * len(changes)
    return made, owners


def _facts(one: Accepted, id: str, run: str) -> list[Change]:
    retiring = {RETIRED: run}
    if one.op == "RETRACT" and one.target is not None:
        return [Retire(one.target.id, one.target.version, None, one.valid_to, retiring)]
    metadata = {"subject": one.subject, LEARNED: run, "reason": one.reason}
    made: list[Change] = [Learn(id, one.text, one.spans, metadata, one.at, one.valid_from, one.valid_to)]
    if one.target is not None:
        made.append(Retire(one.target.id, one.target.version, id, None, retiring))
    return made


def _proposal(one: Accepted, id: str, run: str, now: datetime) -> Learn:
    target = one.target
    return Learn(
        id,
        one.text,
        one.spans,
        {},
        proposal={
            "op": one.op,
            "subject": one.subject,
            "target": None if target is None else target.id,
            "target_version": 0 if target is None else target.version,
            "by": None,
            "reason": one.reason,
            "run": run,
            "proposed_at": now.isoformat(),
            "at": _text(one.at),
            "valid_from": _text(one.valid_from),
            "valid_to": _text(one.valid_to),
            "said": [print_of(span.words) for span in one.spans if span.words is not None],
        },
    )


def print_of(words: str) -> str:
    """By what it is seen that words are others now; too short to tell what they were, should they be erased."""
    return sha256(words.encode("utf-8", "surrogatepass")).hexdigest()[:6]


def says_so_still(one: Proposed) -> bool:
    """Whether what a proposal was drawn from says what it said then, as far as it can be read."""
    said = one.data.get("said", ())
    return not said or all(print_of(words) in said for _, words in one.sources if words)


def approved(one: Proposed, run: str, now: datetime) -> list[Change]:
    """What a proposal comes to."""
    data, target = one.data, one.data["target"]
    retiring = {RETIRED: run}
    since, until = _time(data["valid_from"]), _time(data["valid_to"])
    made, by = list[Change](), data["by"]
    if data["op"] in ("ADD", "SUPERSEDE") and by is None:
        [by] = uuid7s(1, to_micros(now))
        metadata = {"subject": data["subject"], LEARNED: run, "reason": data["reason"]}
        spans = [span for span, _ in one.sources]
        made.append(Learn(by, one.text, spans, metadata, _time(data["at"]), since, until))
    if target is not None:
        ended = until if data["op"] == "RETRACT" else None
        made.append(Retire(target, data["target_version"], by, ended, retiring))
    return [*made, Discard(one.id, one.version)]


def shown(one: Proposed) -> Proposal:
    """A proposal as a caller sees it."""
    data: dict[str, Any] = one.data
    return Proposal(
        one.id, data["op"], one.text, data["subject"], data["target"], data["by"], data["reason"], data["run"],
        tuple(said for _, said in one.sources), _time(data["valid_from"]), _time(data["valid_to"]),
    )  # fmt: skip


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
