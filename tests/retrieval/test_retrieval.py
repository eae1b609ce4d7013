"""What search understands beyond the words of one memory: conversations, similar words, dates, misspellings."""

# ruff: noqa: RUF001
from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import START, FakeClock
from oracle import STOP_WORDS

from agentmem import Memory, SearchHit, Settings
from agentmem.text.dates import ranges_of
from agentmem.text.stopwords import is_stop
from agentmem.text.terms import asking
from agentmem.text.words import forms
from agentmem.types.clock import to_datetime, to_micros

SMALL, LARGE = Settings(), Settings(arena_limit=0)
PLAIN: dict[str, Any] = {
    "neighbours": 0, "similar_words": False, "stop_words": False, "weigh_questions": False, "question_dates": False,
    "mend_typos": False,
}  # fmt: skip
TALK = [
    "Where did you spend the holidays?",
    "In a hut above Grindelwald.",
    "Was it cold?",
    "Only at night.",
    "And how is the new job?",
    "The people are kind.",
]


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
def memory(request: pytest.FixtureRequest, open_memory: Callable[..., Memory]) -> Memory:
    return open_memory(settings=request.param, embedder=None)


def scores(memory: Memory, query: str, **scope: Any) -> dict[str, float]:
    return {hit.content: hit.score for hit in memory.search(query, limit=100, **scope)}


def first(memory: Memory, query: str, **options: Any) -> SearchHit:
    return memory.search(query, limit=1, explain=True, **options)[0]


# -- conversations ---------------------------------------------------------------------------------------------------


def test_an_answer_is_found_by_the_words_of_the_question_before_it(memory: Memory) -> None:
    memory.add_many(TALK, user_id="ana", run_id="monday")
    memory.add_many([f"Note {n} about the garden." for n in range(20)], user_id="ana")
    question, hit = memory.search("Where was the last holiday spent?", user_id="ana", limit=2, explain=True)
    assert question.content == TALK[0]
    assert hit.content == "In a hut above Grindelwald."
    assert hit.details is not None
    assert hit.details.context > hit.details.exact + hit.details.similar


def test_words_of_others_conversations_do_not_count(memory: Memory) -> None:
    """Neighbours are of the same user, agent and run."""
    answer = "In a hut above Grindelwald."
    memory.add(answer, user_id="ana", run_id="monday", agent_id="guide", id="z")
    before = scores(memory, "holidays", user_id="ana", run_id="monday", agent_id="guide")
    others = [
        {"user_id": "ben", "run_id": "monday", "agent_id": "guide"},
        {"run_id": "monday", "agent_id": "guide"},
        {"user_id": "ana", "run_id": "tuesday", "agent_id": "guide"},
        {"user_id": "ana", "run_id": "monday", "agent_id": "cook"},
        {"user_id": "ana", "run_id": "monday"},
        {"user_id": "ana"},
    ]
    for scope in others:
        memory.add("holidays, holidays, holidays", **scope)
    after = first(memory, "holidays", user_id="ana", run_id="monday", agent_id="guide")
    assert before.keys() == {answer}
    assert after.details is not None
    assert after.details.keyword == 0


@pytest.mark.parametrize("how", ["delete", "erase", "update", "expire"])
def test_what_a_neighbour_said_counts_as_long_as_it_is_there(memory: Memory, clock: FakeClock, how: str) -> None:
    memory.add("In a hut above Grindelwald.", user_id="ana", run_id="monday")
    memory.add("We talked about the weather.", user_id="ana")
    without = scores(memory, "secret holidays", user_id="ana")
    said = {"content": "A secret about the holidays.", "ttl": 60 if how == "expire" else None}
    id = memory.add(said, user_id="ana", run_id="monday").id
    answer = "In a hut above Grindelwald."
    assert scores(memory, "secret holidays", user_id="ana")[answer] > without[answer] + 0.05
    if how == "expire":
        clock.advance(60)
    elif how == "update":
        memory.update(id, content="It rained.")
    else:
        getattr(memory, how)(id)
    memory.flush()
    hits = memory.search("secret holidays", user_id="ana", explain=True)
    [hit] = [hit for hit in hits if hit.content == answer]
    assert hit.details is not None
    assert hit.details.context == 0
    if how in ("delete", "erase"):
        assert scores(memory, "secret holidays", user_id="ana") == pytest.approx(without, abs=1e-6)


def test_a_cached_result_ends_when_a_neighbour_does(memory: Memory, clock: FakeClock) -> None:
    memory.add("In a hut above Grindelwald.", user_id="ana", run_id="monday")
    memory.add({"content": "A secret about the holidays.", "ttl": 60}, user_id="ana", run_id="monday")
    memory.add("The weather changed.", user_id="ana", run_id="monday")

    def context() -> float:
        hits = memory.search("holidays", user_id="ana", limit=3, explain=True)
        return {hit.content: hit.details.context for hit in hits if hit.details}["The weather changed."]

    assert context() == context() > 0
    clock.advance(60)
    assert context() == 0


def test_large_scopes_score_what_they_find_as_small_ones_do(open_memory: Callable[..., Memory], tmp_path: Path) -> None:
    """More records than are scored with their neighbours, and runs whose names other users use too."""
    texts = [f"{TALK[n % 6]} {('tulips', 'kiln', 'cello', 'ferry')[n * 7 % 4]} {n}" for n in range(360)]
    stores = [
        open_memory(path=tmp_path / name, settings=options, embedder=None)
        for name, options in (("small", SMALL), ("large", LARGE))
    ]
    for memory in stores:
        for first_of in range(0, len(texts), 12):
            for user in ("ana", "ben", "cleo"):
                run = f"run {first_of % 36}"
                memory.add_many(texts[first_of : first_of + 12], user_id=user, run_id=run, dedupe=False)
    for query in (
        "Where was the holiday with tulips?",
        "Is the cello at the new job kind?",
        "kiln 77",
        "cold at night",
    ):
        for options in ({}, {"run_id": "run 12"}, {"kinds": ["fact", "message"]}):
            exact, large = (
                {hit.content: hit.score for hit in memory.search(query, user_id="ben", limit=20, **options)}
                for memory in stores
            )
            assert len(large) == 20
            assert len(exact.keys() & large.keys()) >= 15
            for content in exact.keys() & large.keys():
                assert large[content] == pytest.approx(exact[content], abs=1e-5)


def test_what_was_said_later_does_not_count_under_as_of(memory: Memory, clock: FakeClock) -> None:
    memory.add("In a hut above Grindelwald.", user_id="ana", run_id="monday")
    clock.advance(3_600)
    memory.add("Those were holidays!", user_id="ana", run_id="monday")
    [hit] = memory.search("holidays", user_id="ana", as_of=START, explain=True)
    assert hit.details is not None
    assert hit.details.context == 0


def test_turns_keep_their_order_when_one_is_deleted_changed_and_restored(memory: Memory) -> None:
    ids = [added.id for added in memory.add_many(TALK, user_id="ana", run_id="monday")]
    whole = scores(memory, "How is the job, and who are the people?", user_id="ana")
    memory.search("job", user_id="ana")
    memory.delete(ids[2])
    memory.update(ids[4], content="Silence.")
    memory.search("job", user_id="ana")
    memory.restore(ids[2])
    memory.update(ids[4], content=TALK[4])
    assert scores(memory, "How is the job, and who are the people?", user_id="ana") == pytest.approx(whole, abs=1e-6)


def test_keyword_mode_wants_a_word_in_the_memory_itself(memory: Memory) -> None:
    memory.add_many(TALK, user_id="ana", run_id="monday")
    assert set(scores(memory, "holidays", user_id="ana", mode="keyword")) == {TALK[0]}
    assert not memory.search("vacation", user_id="ana", mode="keyword")


def test_questions_count_less_than_what_tells_something(memory: Memory) -> None:
    memory.add_many(["Is the dentist nice?", "The dentist is nice."], user_id="ana")
    telling, question = memory.search("dentist nice", user_id="ana", explain=True)
    assert telling.content == "The dentist is nice."
    assert telling.details is not None
    assert question.details is not None
    assert (telling.details.telling, question.details.telling) == (pytest.approx(0.95), pytest.approx(0.75))


@pytest.mark.parametrize(
    ("text", "share"),
    [("", 0), ("Yes.", 0), ("Really?", 1), ("好吗？", 1), ("ab. cd?", 3 / 7), ("??", 0), ("a? b? c", 6 / 7)],
)
def test_the_share_of_questions(text: str, share: float) -> None:
    assert asking(text) == pytest.approx(share)


# -- words -----------------------------------------------------------------------------------------------------------


def test_a_word_finds_words_of_the_same_meaning(memory: Memory) -> None:
    memory.add_many(["Her spouse is a pilot.", "Her cello is old.", "Her car is red."], user_id="ana")
    hit = first(memory, "What does the husband do?", user_id="ana")
    assert hit.content == "Her spouse is a pilot."
    assert hit.details is not None
    assert hit.details.similar_terms == ("spous",)
    assert hit.details.similar > 0
    assert hit.details.exact == 0


def test_function_words_do_not_outweigh_what_is_asked_about(memory: Memory) -> None:
    memory.add_many([f"Ana planted tulips in bed {n}." for n in range(30)], user_id="ana")
    memory.add_many(["What a day! When did it end?", "The dentist moved."], user_id="ana")
    assert first(memory, "What did the dentist do, and when?", user_id="ana").content == "The dentist moved."


def test_a_question_of_function_words_alone_still_finds(memory: Memory) -> None:
    memory.add_many(["Who is she?", "Nothing here."], user_id="ana")
    assert first(memory, "who is she", user_id="ana", mode="keyword").content == "Who is she?"


def test_the_oracles_function_words_are_the_librarys() -> None:
    assert all(is_stop(form) for word in STOP_WORDS for form in forms(word))


def test_a_misspelled_name_is_found(open_memory: Callable[..., Memory]) -> None:
    memory = open_memory(embedder=None)
    memory.add_many(["Katarzyna plays chess.", "Wendell plays chess.", "Zürich ist schön."], user_id="ana")
    for query in ("Katarzina", "Katazryna", "Katarzynaa", "Katarzna"):
        hit = first(memory, query, user_id="ana", mode="keyword")
        assert hit.content == "Katarzyna plays chess."
    assert not memory.search("Katharsina", user_id="ana", mode="keyword")
    assert not memory.search("Katarzina", user_id="ben", mode="keyword")
    memory.add("Katarzina plays the flute.", user_id="ana")
    [hit] = memory.search("Katarzina", user_id="ana", mode="keyword")
    assert hit.content == "Katarzina plays the flute.", "a word that is there is not mended"


def test_others_vocabulary_shows_nowhere(memory: Memory) -> None:
    memory.add_many(["Her spouse is a pilot.", "Katarzyna plays chess."], user_id="ana")
    queries = ("husband", "Katarzina", "holidays")
    before = [scores(memory, query, user_id="ana") for query in queries]
    memory.add_many(["husband and wife", "Katarzina", "vacation"], user_id="ben", run_id="x")
    memory.add_many(["husband and wife", "Katarzina", "vacation"])
    assert [scores(memory, query, user_id="ana") for query in queries] == before


# -- dates -----------------------------------------------------------------------------------------------------------


def test_a_date_in_the_question_favours_memories_from_then(memory: Memory, clock: FakeClock) -> None:
    for month in range(1, 13):
        memory.add(f"Dinner number {month}.", user_id="ana", occurred_at=datetime(2024, month, 14, tzinfo=UTC))
    for question, number in (
        ("Who came to dinner in May 2024?", 5),
        ("Wer kam im Mai 2024 zum dinner?", 5),
        ("the dinner of 2024-08-14", 8),
        ("dinner on November 14th, 2024", 11),
        ("dinner in march", 3),
    ):
        hit = first(memory, question, user_id="ana")
        assert hit.content == f"Dinner number {number}."
        assert hit.details is not None
        assert hit.details.date == pytest.approx(1)
    clock.now = datetime(2024, 7, 15, 9, tzinfo=UTC)
    assert first(memory, "dinner yesterday", user_id="ana").content == "Dinner number 7."
    assert first(memory, "dinner a month ago", user_id="ana").content == "Dinner number 6."
    plain = first(memory, "Who may march in to dinner?", user_id="ana")
    assert plain.details is not None
    assert plain.details.date is None


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What happened on 7 May 2023?", [("2023-05-07", 1)]),
        ("le 7 mai 2023", [("2023-05-07", 1)]),
        ("am 7. März 2023", [("2023-03-07", 1)]),
        ("el 7 de mayo de 2023", [("2023-05-07", 1)]),
        ("May 7th, 2023", [("2023-05-07", 1)]),
        ("in February 2024", [("2024-02-01", 29)]),
        ("2023-05", [("2023-05-01", 31)]),
        ("in 2022", [("2022-01-01", 365)]),
        ("today", [("2025-03-01", 1)]),
        ("last week", [("2025-02-17", 7)]),
        ("this month", [("2025-03-01", 31)]),
        ("last year", [("2024-01-01", 366)]),
        ("last Monday", [("2025-02-24", 1)]),
        ("two weeks ago", [("2025-02-12", 7)]),
        ("31 June 2023", []),
        ("invoice 4711, room 2023.5", []),
        ("May I march?", []),
        ("31 June 2023 or 1 July 2023", [("2023-07-01", 1)]),
        ("May 9999, 2023-99-99, " + "1 " * 2_000 + "x " + "may " * 500, []),
    ],
)
def test_dates_are_understood(question: str, expected: list[tuple[str, int]]) -> None:
    found = [(to_datetime(start), to_datetime(end)) for start, end in ranges_of(question, to_micros(START))]
    assert [(start.date().isoformat(), (end - start) / timedelta(days=1)) for start, end in found] == expected


# -- any texts -------------------------------------------------------------------------------------------------------

LANGUAGES = {
    "de": [
        ("Meine Schwester arbeitet als Tierärztin in Bremen.", "Was arbeitet die Schwester?"),
        ("Am Sonntag backen wir immer Brot.", "Wann wird Brot gebacken? Wann backen wir?"),
        ("Das Fahrrad steht im Keller neben der Heizung.", "Wo ist das Fahrrad?"),
        ("Der Arzt hat mir Eisen verschrieben.", "Was hat der Arzt verschrieben?"),
        ("Wir fahren im Sommer nach Dänemark.", "Wohin fahren wir im Sommer?"),
        ("Mein Chef heißt Herr Öztürk.", "Wie heißt der Chef?"),
    ],
    "fr": [
        ("Ma voisine élève des abeilles sur le toit.", "Que fait la voisine sur le toit ?"),
        ("Le train pour Lyon part à six heures.", "Quand part le train pour Lyon ?"),
        ("J'ai rangé les clés dans le tiroir bleu.", "Où sont les clés ?"),
        ("Mon frère est allergique aux noix.", "Qui est allergique aux noix ?"),
        ("Nous avons adopté un chat noir.", "Quel chat avons-nous adopté ?"),
    ],
    "ru": [
        ("Моя сестра живёт в Казани.", "Где живёт сестра?"),
        ("Кот спит на старом кресле.", "Кто спит на кресле?"),
        ("В пятницу у меня экзамен по химии.", "Когда экзамен по химии?"),
        ("Бабушка печёт пироги с вишней.", "Что печёт бабушка?"),
    ],
    "zh": [
        ("我妹妹在上海当医生。", "妹妹在哪里工作？上海吗？"),
        ("星期五我有化学考试。", "化学考试是什么时候？"),
        ("钥匙放在蓝色的抽屉里。", "钥匙在哪里？"),
        ("猫喜欢睡在旧椅子上。", "猫睡在哪里？"),
    ],
}


def found_first(memory: Memory, pairs: list[tuple[str, str]], **options: Any) -> int:
    return sum(memory.search(question, limit=1, **options)[0].content == text for text, question in pairs)


@pytest.mark.parametrize("language", LANGUAGES)
def test_other_languages_are_searched_at_least_as_well_as_by_plain_words(
    language: str, open_memory: Callable[..., Memory], tmp_path: Path
) -> None:
    """No speakers, no conversation, and words that the table of similar words does not know."""
    pairs = LANGUAGES[language]
    texts = [text for text, _ in pairs]
    plain = open_memory(
        path=tmp_path / "plain", settings=Settings(retrieval={**PLAIN, "vector_weight": 0}), embedder=None
    )
    full = open_memory(path=tmp_path / "full", embedder=None)
    for memory in (plain, full):
        memory.add_many(texts, user_id="x")
    by_words = found_first(plain, pairs, user_id="x")
    assert found_first(full, pairs, user_id="x") >= by_words
    assert by_words >= len(pairs) - 1


def test_everything_off_is_plain_search(open_memory: Callable[..., Memory]) -> None:
    memory = open_memory(settings=Settings(retrieval=PLAIN), embedder=None)
    memory.add_many(TALK, user_id="ana", run_id="monday")
    for hit in memory.search("Where were the holidays in May 2023?", user_id="ana", explain=True):
        parts = hit.details
        assert parts is not None
        assert (parts.similar, parts.context, parts.date, parts.telling) == (0, 0, None, 1)


def test_answers_do_not_depend_on_the_process(tmp_path: Path) -> None:
    """Terms are kept as Python's hashes, which differ from process to process."""
    code = (
        "import sys\nfrom datetime import UTC, datetime\nfrom agentmem import Memory\n"
        "with Memory(sys.argv[1], clock=lambda: datetime(2100, 1, 1, tzinfo=UTC)) as memory:\n"
        "    for query in ('the holiday by the lake', 'who has a dog?', 'a hut in 2024'):\n"
        "        print([(hit.id, round(hit.score, 6)) for hit in memory.search(query, user_id='ana', limit=50)])\n"
    )
    with Memory(tmp_path / "store") as memory:
        texts = [f"{turn} It was day {n} of our vacation with the puppy." for n in range(8) for turn in TALK]
        memory.add_many(
            [{"content": text, "id": f"{n:03}"} for n, text in enumerate(texts)], user_id="ana", run_id="monday"
        )
    printed = set[str]()
    for seed in ("1", "2", "3"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "store")],
            capture_output=True, text=True, check=True, env=os.environ | {"PYTHONHASHSEED": seed},
        )  # fmt: skip
        printed.add(done.stdout)
    assert len(printed) == 1
