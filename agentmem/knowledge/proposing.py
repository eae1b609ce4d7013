"""What is proposed without a model: facts that say the same or contradict each other, and facts nobody says any more.

Nothing is changed by it: whoever approves decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

from agentmem.knowledge.guards import canonical
from agentmem.knowledge.ports import Fact, KnowledgeStore, Learn, Span
from agentmem.types.clock import to_micros
from agentmem.types.ids import uuid7s

ALIKE = 0.6
"""The least cosine of facts that are compared."""
SHARED = 0.6
"""The least share of words that both have, numbers and negations apart."""
_NUMBERS = re.compile(r"\d+")
_NEGATIONS = frozenset(
    "not no never none nobody nothing cannot without neither nor t nicht kein keine keinen nie niemals nichts ohne non "
    "ne pas jamais aucun sans rien nunca nada sin nao não nunca sem mai senza niet geen nooit".split()
)
_DATES = frozenset(
    "monday tuesday wednesday thursday friday saturday sunday january february march april may june july august "
    "september october november december today tomorrow yesterday".split()
)


def unsaid(store: KnowledgeStore, run: str, known: frozenset[str]) -> list[Learn]:
    """A RETRACT for each fact all of whose sources were deleted; ``known`` are proposals that there are, by key."""
    return [
        _proposal(store, run, key, fact, None, "all that it was drawn from was taken back")
        for fact, _ in store.unsaid()
        if (key := key_of("RETRACT", fact.id, None)) not in known
    ]


def pairs(store: KnowledgeStore, run: str, known: frozenset[str], facts: int) -> list[Learn]:
    """A SUPERSEDE of the older by the newer one for facts of one subject that say the same, or differ in a number, a
    date or a negation alone; each is in one proposal at most."""
    made, used = list[Learn](), set[str]()
    for fact in store.facts(facts):
        for other, similarity in store.alike(fact, 10):
            older, newer = sorted((fact, other), key=lambda one: (one.at, one.id))
            if similarity < ALIKE or {older.id, newer.id} & used:
                continue
            reason = difference(older, newer)
            key = key_of("SUPERSEDE", older.id, newer.id)
            if reason is not None and key not in known:
                used |= {older.id, newer.id}
                made.append(_proposal(store, run, key, older, newer, reason))
    return made


def difference(one: Fact, other: Fact) -> str | None:
    """In what two facts differ so that the newer one may take the place of the older; None if that cannot be told."""
    if canonical(one.subject) != canonical(other.subject):
        return None
    (words, numbers, negated), (others, other_numbers, other_negated) = map(_taken_apart, (one.text, other.text))
    if not words | others or len(words & others) < SHARED * len(words | others):
        return None
    if numbers != other_numbers:
        return "another number or date"
    if negated != other_negated:
        return "one of them is negated"
    return "they say the same" if words == others else None


def _taken_apart(text: str) -> tuple[set[str], set[str], bool]:
    words = canonical(text).split()
    numbers = {word for word in words if _NUMBERS.search(word) or word in _DATES}
    negated = sum(word in _NEGATIONS or word.endswith("nt") for word in words) % 2 == 1
    rest = {word for word in words if word not in numbers and word not in _NEGATIONS and not word.endswith("nt")}
    return rest, numbers, negated


def key_of(op: str, target: str, by: str | None) -> str:
    """What a proposal is recognised by, without the ids that are in it."""
    return sha256(f"{op} {target} {by}".encode()).hexdigest()[:24]


def keys_of(proposals: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The same for what is proposed."""
    for data in proposals:
        if data["target"] is not None:
            yield key_of(data["op"], data["target"], data["by"])


def _proposal(store: KnowledgeStore, run: str, key: str, target: Fact, by: Fact | None, reason: str) -> Learn:
    now = store.now()
    [id] = uuid7s(1, to_micros(now))
    source = target if by is None else by
    return Learn(
        id,
        "",
        [Span(source.id, 0, 0)],
        {},
        proposal={
            "op": "RETRACT" if by is None else "SUPERSEDE",
            "subject": target.subject,
            "target": target.id,
            "target_version": target.version,
            "by": None if by is None else by.id,
            "reason": reason,
            "run": run,
            "proposed_at": now.isoformat(),
            "at": None,
            "valid_from": None,
            "valid_to": None,
            "unsaid": by is None,
        },
    )
