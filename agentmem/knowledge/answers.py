"""A model's answer as operations. What it says is checked here for its form, and in ``guards`` for its substance."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Literal, cast

from agentmem.knowledge.ports import Reply

Op = Literal["ADD", "SUPERSEDE", "RETRACT", "NOOP"]
OPS: tuple[Op, ...] = ("ADD", "SUPERSEDE", "RETRACT", "NOOP")
MOST = 100
"""Operations of one answer."""
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"^```(?:json)?[ \t]*\n(.*?)\n[ \t]*```", re.DOTALL | re.MULTILINE)
"""What models put before an answer, and around it."""


class InvalidAnswerError(Exception):
    """An answer that is none; the text says why, without what it said."""


@dataclass(frozen=True, slots=True)
class Quote:
    """Words of a message, by the name that it was shown under."""

    message: str
    words: str


@dataclass(frozen=True, slots=True)
class Claim:
    """An operation as a model has it."""

    op: Op
    target: str | None
    text: str
    subject: str
    evidence: tuple[Quote, ...]
    reason: str
    valid_from: str | None
    valid_to: str | None


def sound(reply: object) -> Reply:
    """What a model of anybody's returned as an answer: one that is none is empty, and tokens that are none unsaid."""
    if not isinstance(reply, Reply) or not isinstance(cast("object", reply.text), str):
        return Reply("", None, None)
    if _count(reply.input_tokens) is None or _count(reply.output_tokens) is None:
        return reply._replace(input_tokens=None, output_tokens=None)
    return reply


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def read(text: str) -> list[Claim]:
    """The operations of an answer. Raises ``InvalidAnswerError``."""
    return [_claim(one) for one in _listed(text, "operations")]


def read_lines(text: str) -> list[tuple[str, tuple[Quote, ...]]]:
    """The lines of a summary, each with its evidence. Raises ``InvalidAnswerError``."""
    found = list[tuple[str, tuple[Quote, ...]]]()
    for one in _listed(text, "lines"):
        if not isinstance(one, Mapping):
            raise InvalidAnswerError("a line that is no object")
        said = cast("Mapping[str, Any]", one)
        found.append((" ".join(_text(said, "text").split()), _quotes(said)))
    return found


def _listed(text: str, name: str) -> list[object]:
    if not text.strip():
        raise InvalidAnswerError("an empty answer, or a refusal")
    said = _THOUGHT.sub("", text, count=1)
    fenced = None if said.lstrip().startswith("{") else _FENCE.search(said)
    try:
        found: object = json.loads(fenced[1] if fenced else said)
    except (ValueError, RecursionError) as exc:
        raise InvalidAnswerError("not JSON") from exc
    listed = cast("Mapping[str, object]", found).get(name) if isinstance(found, Mapping) else None
    if not isinstance(listed, list):
        raise InvalidAnswerError(f"JSON without a list of {name}")
    each = cast("list[object]", listed)
    if len(each) > MOST:
        raise InvalidAnswerError(f"{len(each):,} {name}, more than {MOST}")
    return each


def _claim(one: object) -> Claim:
    if not isinstance(one, Mapping):
        raise InvalidAnswerError("an operation that is no object")
    said = cast("Mapping[str, Any]", one)
    op = said.get("op")
    if op not in OPS:
        raise InvalidAnswerError("an operation that is none of ADD, SUPERSEDE, RETRACT, NOOP")
    return Claim(
        op,
        _text(said, "target") or None,
        _text(said, "text"),
        _text(said, "subject"),
        _quotes(said),
        _text(said, "reason")[:500],
        _text(said, "valid_from") or None,
        _text(said, "valid_to") or None,
    )


def _quotes(said: Mapping[str, Any]) -> tuple[Quote, ...]:
    evidence: object = said.get("evidence") or ()
    if not isinstance(evidence, Sequence) or isinstance(evidence, str):
        raise InvalidAnswerError("evidence that is no list")
    return tuple(_quote(each) for each in cast("Sequence[object]", evidence)[:MOST])


def _quote(each: object) -> Quote:
    if not isinstance(each, Mapping):
        raise InvalidAnswerError("evidence that is no object")
    said = cast("Mapping[str, Any]", each)
    return Quote(_text(said, "message"), _text(said, "quote"))


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidAnswerError(f"{name} is no text")
    return re.sub(r"[\x00\ud800-\udfff]", "\ufffd", value).strip()


def instant(text: str | None, zone: tzinfo) -> datetime | None:
    """A date or time as a model writes it, of the zone where it names none.

    Raises ``ValueError`` or ``OverflowError``.
    """
    if text is None:
        return None
    found = datetime.fromisoformat(text)
    found = found.replace(tzinfo=zone) if found.tzinfo is None else found
    found.astimezone(UTC)  # what is no time in UTC cannot be stored
    return found
