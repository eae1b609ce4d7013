"""What gets room in a prompt first: runs that speak of what is asked, who was asked about, answers before questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from agentmem import Memory, SearchHit, Settings
from agentmem.retrieval.choosing import LOOKED_AT, by_worth

Said = tuple[str | dict[str, Any], float, float | None]
"""A text, or an item, with the score and the similarity that it is found with."""


def hits(memory: Memory, said: Sequence[Said]) -> list[SearchHit]:
    results = memory.add_many([item for item, _, _ in said], user_id="ana", dedupe=False)
    return [
        SearchHit(score, similarity, result.record)
        for result, (_, score, similarity) in zip(results, said, strict=True)
    ]


def order(query: str, found: Sequence[SearchHit], **given: Any) -> list[int]:
    told: dict[str, Any] = {"mode": "hybrid", "rank": "score", **given}
    return by_worth(query, found, **told)


def turn(text: str, run: str, **given: Any) -> dict[str, Any]:
    return {"content": text, "run_id": run, **given}


def test_the_run_that_is_nearest_comes_first(memory: Memory) -> None:
    said: list[Said] = [
        (turn("so it was", "shopping"), 0.42, 0.2),
        (turn("it was fun", "trip"), 0.40, 0.1),
        (turn("we sailed to Naxos", "trip"), 0.39, 0.8),
    ]
    assert order("sailing", hits(memory, said)) == [1, 2, 0]


def test_a_much_better_memory_stays_first(memory: Memory) -> None:
    said: list[Said] = [(turn("so it was", "shopping"), 0.7, 0.2), (turn("we sailed to Naxos", "trip"), 0.3, 0.8)]
    assert order("sailing", hits(memory, said)) == [0, 1]


def test_runs_of_the_same_name_are_apart_by_agent(memory: Memory) -> None:
    said: list[Said] = [
        (turn("it was fun", "trip", agent_id="coach"), 0.41, 0.1),
        (turn("it was good", "trip", agent_id="pilot"), 0.40, 0.1),
        (turn("we sailed to Naxos", "trip", agent_id="pilot"), 0.39, 0.8),
    ]
    assert order("sailing", hits(memory, said)) == [1, 2, 0]


def test_without_runs_the_ranking_stays(memory: Memory) -> None:
    said: list[Said] = [(f"gull {n}", 0.5 - n / 100, n / 10) for n in range(9)]
    assert order("gull", hits(memory, said)) == list(range(9))


def test_the_question_itself_says_nothing_of_its_run(memory: Memory) -> None:
    said: list[Said] = [
        (turn("where we sailed", "today"), 0.50, 1.0),
        (turn("hello there", "today"), 0.40, 0.1),
        (turn("it was fun", "trip"), 0.39, 0.2),
        (turn("we sailed to Naxos", "trip"), 0.38, 0.8),
    ]
    assert order("where we sailed", hits(memory, said)) == [2, 3, 0, 1]


def test_nothing_is_near_where_nothing_is_similar(memory: Memory) -> None:
    said: list[Said] = [(turn(f"gull {n}", str(n)), 0.5 - n / 100, None) for n in range(5)]
    assert order("gull", hits(memory, said), mode="keyword") == list(range(5))


@pytest.mark.parametrize(
    ("ben", "mia"),
    [
        ("Ben: I play the violin", "Mia: I play the oboe"),
        ("Ben Kerr\N{FULLWIDTH COLON} I play the violin", "Mia Löw\N{FULLWIDTH COLON} I play the oboe"),
        ({"content": "I play the violin", "role": "Ben"}, {"content": "I play the oboe", "role": "Mia"}),
        ({"content": "Ben: I play the violin", "role": "user"}, {"content": "Mia: I play the oboe", "role": "user"}),
    ],
)
def test_who_is_asked_about_speaks_first(memory: Memory, ben: Any, mia: Any) -> None:
    found = hits(memory, [(ben, 0.42, None), (mia, 0.40, None)])
    assert order("What does Mia play?", found) == [1, 0]
    assert order("WHAT DOES MIA'S SISTER PLAY", found) == [1, 0]
    assert order("What do Mia and Ben play?", found) == [0, 1]
    assert order("What does Nik play?", found) == [0, 1]
    assert order("What does Mia play?", found, mode="vector") == [0, 1]


def test_what_nobody_says_is_nobody_elses(memory: Memory) -> None:
    found = hits(memory, [("the oboe is hers", 0.41, None), ("Mia: I play the oboe", 0.40, None)])
    assert order("What does Mia play?", found) == [0, 1]


def test_function_words_are_no_names(memory: Memory) -> None:
    found = hits(memory, [("the plan: sail to Naxos", 0.41, None), ("what we did: sail to Faro", 0.40, None)])
    assert order("what did we do?", found) == [0, 1]


def test_answers_have_room_before_questions(memory: Memory) -> None:
    found = hits(memory, [("which boat goes to Naxos?", 0.42, None), ("the boat to Naxos is blue", 0.40, None)])
    assert order("boat", found) == [1, 0]
    assert order("boat", found, mode="vector") == order("boat", found, weigh_questions=False) == [0, 1]


def test_by_similarity_alone_hits_stay_as_they_are(memory: Memory) -> None:
    found = hits(memory, [("which boat?", 0.2, 0.2), ("a boat", 0.19, 0.19), ("no", -0.3, -0.3)])
    assert order("boat", found, rank="similarity") == [0, 1, 2]


def test_further_hits_follow_as_they_come(memory: Memory) -> None:
    said: list[Said] = [(turn(f"gull {n}?", str(n % 7)), 1 - n / 200, n % 13 / 13) for n in range(LOOKED_AT + 40)]
    found = hits(memory, said)
    whole = order("gull", found)
    assert sorted(whole[:LOOKED_AT]) == list(range(LOOKED_AT))
    assert whole[LOOKED_AT:] == list(range(LOOKED_AT, len(found)))
    assert whole == [*order("gull", found[:LOOKED_AT]), *whole[LOOKED_AT:]]
    assert whole != list(range(len(found)))


def test_contexts_and_prompts_choose_by_it(memory: Memory) -> None:
    memory.add_many(["Ben: Mia, an oboe", "Mia: Ben, an oboe"], user_id="ana")
    assert memory.search("Mia's oboe", user_id="ana")[0].content == "Ben: Mia, an oboe"
    assert memory.context("Mia's oboe", max_tokens=12, user_id="ana") == '2025-03-01:\n- "Mia: Ben, an oboe"'
    prompt = memory.session("later", user_id="ana").prompt("Mia's oboe", max_tokens=72, recall_share=1)
    assert "Mia: Ben, an oboe" in prompt.text()
    assert "Ben: Mia, an oboe" not in prompt.text()


def test_questions_are_weighed_as_the_settings_say(open_memory: Callable[..., Memory]) -> None:
    memory = open_memory(settings=Settings(retrieval={"weigh_questions": False}))
    memory.add_many(["Which boat is here?", "Which boat is here!"], user_id="ana")
    assert memory.context("boat", max_tokens=11, user_id="ana").endswith("- Which boat is here?")
