"""Hits by plain similarity, and hits further down: the same from memory and from large scopes."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FakeClock

from agentmem import AsyncMemory, InvalidInputError, Memory, Settings

DEGREES = (170, 0, 25, 60, 26, 100, 91, 180, 89)


class Angles:
    """Texts with a number: that angle on a circle."""

    name = "angles"
    dim = 8

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([self.embed_query(text) for text in texts], np.float32).reshape(len(texts), self.dim)

    def embed_query(self, text: str) -> np.ndarray:
        found = re.search(r"-?\d+", text)
        angle = math.radians(float(found[0])) if found else 0.0
        return np.array([math.cos(angle), math.sin(angle)] + [0.0] * 6, np.float32)


def name(degrees: int) -> str:
    """An id, so that by id the largest angle comes first."""
    return f"{400 - degrees}"


@pytest.fixture(params=[50_000, 3], ids=["small", "large"])
def memory(request: pytest.FixtureRequest, open_memory: Callable[..., Memory], clock: FakeClock) -> Memory:
    """Directions whose age, importance and words speak against their angle."""
    made = open_memory(embedder=Angles(), settings=Settings(arena_limit=request.param))
    for degrees in DEGREES:
        clock.advance(40 * 86_400)
        text = f"bearing {degrees}" if degrees > 90 else f"the turn of {degrees} degrees"
        made.add(text, id=name(degrees), user_id="mira", importance=degrees / 180, metadata={"left": degrees > 89})
    made.feedback(name(60), rating=5)
    return made


def ids(hits: Any) -> list[int]:
    return [400 - int(hit.id) for hit in hits]


def test_similarity_is_the_order_and_the_score(memory: Memory) -> None:
    found = memory.search("bearing 0", user_id="mira", rank="similarity", limit=20)
    assert ids(found) == sorted(DEGREES)
    for hit in found:
        assert hit.score == hit.similarity == pytest.approx(math.cos(math.radians(400 - int(hit.id))), abs=1e-6)
    assert found[-1].score == pytest.approx(-1)
    assert ids(memory.search("bearing 0", user_id="mira", rank="similarity", limit=3)) == [0, 25, 26]
    assert ids(memory.search("bearing 180", user_id="mira", rank="similarity")) == sorted(DEGREES, reverse=True)


def test_the_score_stays_the_default(memory: Memory) -> None:
    for mode in ("hybrid", "vector"):
        one = memory.search("bearing 0", user_id="mira", mode=mode, limit=20)
        other = memory.search("bearing 0", user_id="mira", mode=mode, rank="score", limit=20)
        assert ids(one) == ids(other) != sorted(DEGREES)
        assert all(0 <= hit.score <= 1 for hit in one)


@pytest.mark.parametrize("mode", ["hybrid", "vector"])
def test_words_have_no_say(memory: Memory, mode: Any) -> None:
    found = memory.search("bearing 0", user_id="mira", mode=mode, rank="similarity", limit=20, explain=True)
    assert ids(found) == sorted(DEGREES)
    assert all(hit.details is not None and hit.details.keyword == 0 for hit in found)


def test_restrictions_hold_as_ever(memory: Memory) -> None:
    def found(**options: Any) -> list[int]:
        return ids(memory.search("bearing 0", user_id="mira", rank="similarity", **options))

    assert found(min_similarity=0) == [0, 25, 26, 60, 89]
    assert found(min_similarity=-0.5) == [0, 25, 26, 60, 89, 91, 100]
    assert found(filters={"left": True}) == [91, 100, 170, 180]
    assert found(filters={"left": True}, limit=2, offset=1) == [100, 170]
    memory.delete(name(25))
    memory.update(name(100), content="bearing 10")
    assert found(limit=3) == [0, 100, 26]


@pytest.mark.parametrize("options", [{}, {"mode": "vector"}, {"mode": "keyword"}, {"rank": "similarity"}], ids=str)
def test_an_offset_passes_over_the_best(memory: Memory, options: Any) -> None:
    every = memory.search("bearing turn 30", user_id="mira", limit=20, **options)
    for offset in range(len(every) + 2):
        for limit in (1, 4, 20):
            part = memory.search("bearing turn 30", user_id="mira", limit=limit, offset=offset, **options)
            assert ids(part) == ids(every)[offset : offset + limit]
            assert [hit.score for hit in part] == pytest.approx([hit.score for hit in every[offset : offset + limit]])


def test_what_makes_no_sense_is_refused(memory: Memory) -> None:
    def refused(field: str, *words: str, **options: Any) -> None:
        with pytest.raises(InvalidInputError) as caught:
            memory.search("bearing 0", user_id="mira", **options)
        assert caught.value.field == field
        assert all(word in str(caught.value) for word in words), str(caught.value)

    refused("rank", "cosine", "score, similarity", rank="cosine")
    refused("rank", "keyword", rank="similarity", mode="keyword")
    refused("mode", rank="similarity", mode="words")
    for offset in (-1, True, 1.5, "2", None):
        refused("offset", "int from 0", offset=offset)
    refused("offset", "10,000", "iterate()", offset=9_991, limit=10)
    assert memory.search("bearing 0", user_id="mira", offset=9_990, limit=10) == []


def test_the_waiting_client_and_views_take_both(memory: Memory, store: Path, clock: FakeClock) -> None:
    wanted = ids(memory.scoped(user_id="mira").search("bearing 0", rank="similarity", offset=2, limit=2))
    assert wanted == [26, 60]

    async def main() -> None:
        async with AsyncMemory(store, embedder=Angles(), settings=memory.handle.settings, clock=clock) as waiting:
            assert (
                ids(await waiting.search("bearing 0", user_id="mira", rank="similarity", offset=2, limit=2)) == wanted
            )

    asyncio.run(main())
