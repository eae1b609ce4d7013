"""Choosing the sentences that say most of many turns: maximal marginal relevance (Carbonell and Goldstein, 1998).

A sentence is worth how near it is to all that was said, in the words that are rare there, less how near it is to what
was chosen before it. Words alone decide: no model, so that the same turns give the same sentences everywhere.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agentmem.agent.turns import Turn

_SENTENCE = re.compile(r"[^\n.!?…。\uff01\uff1f]+(?:[.!?…。\uff01\uff1f]+(?=\s|$|[^\s.!?…。\uff01\uff1f])|\n|$)")
_WORD = re.compile(r"\w+")
_SHORTEST, _LONGEST = 12, 600
"""Characters of a sentence that may be chosen."""
_CONSIDERED = 400
"""Sentences that are weighed against each other: those that are nearest to all that was said."""
_NOVELTY = 0.4
"""How much counts that a sentence says what the others do not."""
_ROLES = {"user": 1.0, "assistant": 0.9, "tool": 0.6}
_ASKING = 0.6
"""What a question is worth of what it would be worth as a statement."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A part of a turn's text: which turn, by position, and from where to where."""

    turn: int
    start: int
    end: int
    text: str


def ranked(turns: Sequence[Turn]) -> Iterator[Sentence]:
    """Sentences of the turns, the one that says most first; each as far as it adds something to those before it."""
    sentences = [one for at, turn in enumerate(turns) for one in _sentences(at, turn.content)]
    words = [Counter(_WORD.findall(one.text.casefold())) for one in sentences]
    frequency = Counter(word for each in words for word in each)
    total = len(sentences)
    vectors = [
        _unit({word: count * math.log((total + 1) / frequency[word]) for word, count in each.items()}) for each in words
    ]
    centroid = dict[str, float]()
    for vector in vectors:
        for word, value in vector.items():
            centroid[word] = centroid.get(word, 0.0) + value
    middle = _unit(centroid)
    worth = [
        _dot(vector, middle)
        * _ROLES.get(turns[one.turn].role, 0.8)
        * (_ASKING if one.text.endswith(("?", "\uff1f")) else 1)
        for one, vector in zip(sentences, vectors, strict=True)
    ]
    left = sorted(range(total), key=lambda at: (-worth[at], at))[:_CONSIDERED]
    near = dict.fromkeys(left, 0.0)
    while left:
        best = max(left, key=lambda at: ((1 - _NOVELTY) * worth[at] - _NOVELTY * near[at], -at))
        left.remove(best)
        yield sentences[best]
        for at in left:
            near[at] = max(near[at], _dot(vectors[at], vectors[best]))


def _sentences(at: int, text: str) -> Iterator[Sentence]:
    for found in _SENTENCE.finditer(text):
        said = found[0].strip()
        if _SHORTEST <= len(said) <= _LONGEST:
            start = found.start() + found[0].index(said)
            yield Sentence(at, start, start + len(said), said)


def _unit(vector: dict[str, float]) -> dict[str, float]:
    length = math.sqrt(sum(value * value for value in vector.values()))
    return {word: value / length for word, value in vector.items()} if length else {}


def _dot(one: dict[str, float], other: dict[str, float]) -> float:
    if len(other) < len(one):
        one, other = other, one
    return sum(value * other[word] for word, value in one.items() if word in other)
