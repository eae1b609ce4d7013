"""Several stores that have a part of the records each answer as one that has all of them."""

import random

import pytest
from conftest import FakeClock, HashEmbedder

from agentmem import ALL, Memory
from agentmem.client.partial import corpus_of, search_part, summed

WORDS = (
    "red wall blue garden violin teacher colour colours paint painting receive london walk walked table chairs music "
    "weather rain kitchen doctor hospital colour-blind café cafe coffee"
).split() + [f"w{number}" for number in range(120)]
MISSPELLED = "violon hopsital gardn kitchn wether recieve".split()


@pytest.fixture(scope="module")
def stores() -> tuple[Memory, list[Memory]]:
    clock, chosen = FakeClock(), random.Random(3)
    one = Memory(":memory:", clock=clock, embedder=HashEmbedder())
    parts = [Memory(":memory:", clock=clock, embedder=HashEmbedder()) for _ in range(3)]
    for user in range(24):
        items = [
            {
                "role": chosen.choice(["user", "assistant"]),
                "content": " ".join(chosen.choices(WORDS, k=chosen.randint(3, 14))) + chosen.choice(["", "?", "."]),
                "id": f"{user}-{number}",
                "run_id": f"r{number // 5}",
            }
            for number in range(15)
        ]
        one.add_many(items, user_id=f"u{user}")
        parts[user % 3].add_many(items, user_id=f"u{user}")
    return one, parts


@pytest.mark.parametrize("mode", ["hybrid", "keyword", "vector"])
def test_everybody_is_searched_by_the_same_weights(stores: tuple[Memory, list[Memory]], mode: str) -> None:
    one, parts = stores
    chosen = random.Random(5)
    for _ in range(25):
        query = " ".join(chosen.choices(WORDS + MISSPELLED, k=chosen.randint(1, 5)))
        options = {"user_id": ALL, "limit": 10, "mode": mode}
        expected = [(hit.id, hit.score) for hit in one.search(query, **options)]
        corpus = summed([corpus_of(part, query, options) for part in parts])
        hits = [hit for part in parts for hit in search_part(part, query, corpus, options)]
        found = sorted(((hit.id, hit.score) for hit in hits), key=lambda hit: (-hit[1], hit[0]))[:10]
        assert [id for id, _ in found] == [id for id, _ in expected], query
        # The sums of a matrix product have another order where it has other columns.
        assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-6)


def test_what_a_part_has_alone_weighs_otherwise(stores: tuple[Memory, list[Memory]]) -> None:
    _, parts = stores
    alone = corpus_of(parts[0], "violin", {"user_id": ALL})
    together = summed([corpus_of(part, "violin", {"user_id": ALL}) for part in parts])
    assert together.documents == 3 * alone.documents
    assert dict(together.containing)["violin"] > dict(alone.containing)["violin"]


def test_a_word_that_any_part_has_is_nowhere_taken_for_misspelled(stores: tuple[Memory, list[Memory]]) -> None:
    _, parts = stores
    parts[0].add("a gardn", user_id="u0", id="odd")
    counted = [corpus_of(part, "gardn", {"user_id": ALL}) for part in parts]
    assert counted[1].mended
    assert not summed(counted).mended
    parts[0].erase("odd")
