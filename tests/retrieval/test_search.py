"""Search as a caller sees it, in scopes that are searched exactly, in larger ones, and where those stay on the disk."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import START, FakeClock, HashEmbedder
from hypothesis import given, settings
from hypothesis import strategies as st
from length import examples
from oracle import TOLERANCE, Oracle, Scope, check_hits, close

from agentmem import ALL, DiskFullError, InvalidInputError, Memory, NotFoundError, ScopeError, SearchResults, Settings
from agentmem.indexes.keywords import KeywordIndex
from agentmem.stores.folder import WRITE_LOCK
from agentmem.stores.locks import FileLock

SMALL, LARGE = Settings(), Settings(arena_limit=0, large_wait_s=60)
DISK = Settings(arena_limit=0, large_engine="lancedb")


@pytest.fixture(params=[SMALL, LARGE, DISK], ids=["small", "large", "disk"])
def memory(request: pytest.FixtureRequest, open_memory: Callable[..., Memory]) -> Memory:
    """A client whose scopes are searched exactly in memory, one that holds codes of them, one that holds nothing."""
    return open_memory(settings=request.param)


def texts(hits: SearchResults) -> list[str]:
    return [hit.content for hit in hits]


# -- what is found ---------------------------------------------------------------------------------------------------


def test_keyword_mode_finds_only_records_with_a_word_of_the_query(memory: Memory) -> None:
    memory.add_many(["The cat sleeps", "Dogs bark", "cats and dogs"], user_id="alice")
    assert set(texts(memory.search("a cat", user_id="alice", mode="keyword"))) == {"The cat sleeps", "cats and dogs"}
    assert memory.search("parrot", user_id="alice", mode="keyword") == []
    assert memory.search("?!", user_id="alice", mode="keyword") == []


@pytest.mark.parametrize("mode", ["hybrid", "vector"])
def test_other_modes_find_as_many_as_there_are(memory: Memory, mode: Any) -> None:
    memory.add_many([f"note {n}" for n in range(12)], user_id="alice")
    assert len(memory.search("something else", user_id="alice", mode=mode)) == 10
    assert len(memory.search("something else", user_id="alice", mode=mode, limit=100)) == 12
    assert memory.search("note 7", user_id="alice", mode=mode, limit=1)[0].content == "note 7"


def test_a_similarity_is_given_where_something_was_embedded(memory: Memory) -> None:
    memory.add("green tea", user_id="alice")
    for mode, similarity in (("hybrid", 1), ("vector", 1), ("keyword", None)):
        [hit] = memory.search("green tea", user_id="alice", mode=mode)
        assert hit.similarity == (None if similarity is None else pytest.approx(similarity, abs=TOLERANCE))


def test_a_shared_word_finds_what_the_embedding_does_not(memory: Memory, embedder: HashEmbedder) -> None:
    query = "invoice 4711"
    vector = embedder.embed_query(query)
    candidates = (f"w{n} w{n} w{n} 4711" for n in range(1_000))
    memory.add(next(text for text in candidates if embedder.embed_query(text) @ vector < 0), user_id="alice")
    [hit] = memory.search(query, user_id="alice")
    assert hit.similarity is not None
    assert hit.similarity < 0
    assert hit.score > 0.05


def test_equal_scores_are_ordered_by_id(memory: Memory) -> None:
    ids = ["m", "b", "z", "a", "k"]
    for id in ids:
        memory.add("the same text", id=id, user_id="alice")
    assert [hit.id for hit in memory.search("same text", user_id="alice")] == sorted(ids)
    assert [hit.id for hit in memory.search("same text", user_id="alice", limit=2)] == ["a", "b"]


@pytest.mark.parametrize("limit", [0, -1, 10**9, True, 1.5, "3"])
def test_a_limit_that_is_none_is_refused(open_memory: Callable[..., Memory], limit: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        open_memory().search("tea", limit=limit)
    assert caught.value.field == "limit"


# -- filters hold before the cut -------------------------------------------------------------------------------------


def test_the_cut_comes_after_every_restriction(memory: Memory, clock: FakeClock) -> None:
    """300 records are nearer to the query than the three that the caller allows."""
    memory.add_many([{"content": f"green tea {n}", "metadata": {"tag": "near"}} for n in range(300)], user_id="alice")
    clock.advance(10)
    wanted = [
        memory.add(text, user_id="alice", agent_id="cook", kind="recipe", layer="insights", metadata={"tag": "far"}).id
        for text in ("bread", "butter", "jam and tea")
    ]
    for restriction in (
        {"filters": {"tag": "far"}},
        {"filters": {"tag": {"$ne": "near"}}},
        {"kinds": ["recipe", "unheard of"]},
        {"layers": ["insights"]},
        {"agent_id": "cook"},
        {"since": clock.now},
        {"filters": {"tag": "far"}, "kinds": ["recipe"], "layers": ["insights"], "since": clock.now},
    ):
        for mode in ("hybrid", "vector"):
            hits = memory.search("green tea", user_id="alice", limit=3, mode=mode, **restriction)
            assert sorted(hit.id for hit in hits) == sorted(wanted)
        [hit] = memory.search("green tea", user_id="alice", limit=3, mode="keyword", **restriction)
        assert hit.id == wanted[2]


@pytest.mark.parametrize("mode", ["hybrid", "vector", "keyword"])
def test_expired_and_deleted_records_take_nobodys_place(memory: Memory, clock: FakeClock, mode: Any) -> None:
    memory.add_many([{"content": "tea", "ttl": 60}] * 220, user_id="alice", dedupe=False)
    deleted = memory.add_many(["tea"] * 220, user_id="alice", dedupe=False)
    memory.add_many([f"tea with bread {n}" for n in range(3)], user_id="alice")
    memory.flush()
    clock.advance(61)
    for each in deleted:
        memory.delete(each.id)
    for floor in (None, 0.1):
        hits = memory.search("tea", user_id="alice", mode=mode, min_similarity=floor, limit=3)
        assert sorted(texts(hits)) == [f"tea with bread {n}" for n in range(3)]


def test_min_similarity_is_the_least_cosine(memory: Memory) -> None:
    memory.add_many(["green tea", "green tea and bread", "bread and butter"], user_id="alice")
    similar = {hit.content: hit.similarity for hit in memory.search("green tea", user_id="alice", mode="vector")}
    for mode in ("hybrid", "vector"):
        for floor in (-1, 0.0, 0.4, 0.99):
            hits = memory.search("green tea", user_id="alice", mode=mode, min_similarity=floor)
            assert set(texts(hits)) == {text for text, cosine in similar.items() if cosine >= floor}
    words = memory.search("tea bread", user_id="alice", mode="keyword", min_similarity=0.99)
    assert words == []


def test_since_is_inclusive_and_until_is_not(memory: Memory, clock: FakeClock) -> None:
    memory.add("tea now", user_id="alice")
    memory.add("tea then", user_id="alice", occurred_at=START - timedelta(days=10))
    clock.advance(3_600)
    memory.add("tea later", user_id="alice")

    def found(**when: Any) -> set[str]:
        return {text.removeprefix("tea ") for text in texts(memory.search("tea", user_id="alice", **when))}

    later = START + timedelta(hours=1)
    assert found(since=START) == {"now", "later"}
    assert found(since=START + timedelta(microseconds=1)) == {"later"}
    assert found(until=START) == {"then"}
    assert found(until=later) == {"now", "then"}
    assert found(since=START, until=later) == {"now"}
    assert found(since="2025-03-01T13:00:00+01:00", until=later.isoformat()) == {"now"}
    assert found(since=START - timedelta(days=10), until=START) == {"then"}


def test_as_of_leaves_out_what_was_added_later_and_measures_recency_from_then(memory: Memory, clock: FakeClock) -> None:
    memory.add("tea", user_id="alice")
    clock.advance(30 * 86_400)
    memory.add("tea too", user_id="alice")
    [hit] = memory.search("tea", user_id="alice", as_of=START, explain=True)
    assert hit.content == "tea"
    assert hit.details is not None
    assert hit.details.recency == pytest.approx(1)
    first, _ = sorted(memory.search("tea", user_id="alice", explain=True), key=lambda hit: hit.content)
    assert first.details is not None
    assert first.details.recency == pytest.approx(0.5)


def test_what_expired_since_stays_hidden_under_as_of_and_hides_no_other(memory: Memory, clock: FakeClock) -> None:
    memory.add("tea", user_id="alice", ttl=60)
    memory.add("tea and bread", user_id="alice")
    clock.advance(61)
    assert texts(memory.search("tea", user_id="alice", as_of=START, limit=1)) == ["tea and bread"]


# -- scores and explanations -----------------------------------------------------------------------------------------


def test_details_add_up_to_the_score(memory: Memory, clock: FakeClock) -> None:
    rated = memory.add("green tea in the morning", user_id="alice", importance=0.9)
    memory.add("the tea house runs out of bread", user_id="alice", occurred_at=START - timedelta(days=15))
    memory.add("running shoes", user_id="alice", importance=0)
    memory.feedback(rated.id, rating=5)
    clock.advance(86_400)
    shares = {"hybrid": (0.3, 0.7), "vector": (1, 0), "keyword": (0, 1)}
    for mode, (vector, keyword) in shares.items():
        hits = memory.search("morning tea run", user_id="alice", mode=mode, explain=True)
        assert len(hits) == 3
        for hit in hits:
            parts = hit.details
            assert parts is not None
            bonus = 0.5 * parts.recency + 0.3 * parts.importance + 0.2 * parts.rating
            base = vector * parts.vector + keyword * parts.keyword
            assert close(hit.score, base * parts.telling * (0.9 + 0.1 * bonus))
            assert close(parts.keyword, parts.exact + parts.similar + parts.context)
            if mode != "keyword":
                assert hit.similarity is not None
                assert close(parts.vector, max(0.0, hit.similarity))
    details = {hit.content: hit.details for hit in memory.search("morning tea run", user_id="alice", explain=True)}
    first, second, third = details.values()
    assert {first and first.matched_terms, second and second.matched_terms, third and third.matched_terms} == {
        ("morn", "tea"),
        ("tea", "run"),
        ("run",),
    }
    morning = details["green tea in the morning"]
    assert morning is not None
    assert (morning.importance, morning.rating) == (pytest.approx(0.9), 1)


def test_the_trace_says_how_it_was_done(memory: Memory, request: pytest.FixtureRequest) -> None:
    memory.add_many(["green tea", "bread"], user_id="alice")
    trace = memory.search("tea", user_id="alice", limit=1, explain=True).trace
    assert trace is not None
    assert not trace.cached
    assert trace.candidates == 2
    assert trace.milliseconds
    assert all(spent >= 0 for spent in trace.milliseconds.values())
    disk = "disk" in request.node.name
    assert trace.engines == (("codes",) if "large" in request.node.name else ("arena",)) or disk
    if disk:
        assert {"tail", "keywords"} <= set(trace.engines)
        memory.flush()
        trace = memory.search("some tea", user_id="alice", limit=1, explain=True).trace
        assert trace is not None
        assert {"lance", "keywords"} <= set(trace.engines)
        assert "tail" not in trace.engines


def test_nothing_is_explained_unasked(memory: Memory) -> None:
    memory.add("green tea", user_id="alice")
    hits = memory.search("tea", user_id="alice")
    assert hits.trace is None
    assert hits[0].details is None
    assert memory.search("tea", user_id="nobody", explain=True).trace is not None


def test_extreme_values_keep_scores_within_bounds(memory: Memory) -> None:
    for importance in (0, 1):
        for rating in (1, 5):
            for when in (datetime(1, 1, 2, tzinfo=UTC), START, datetime(9999, 12, 30, tzinfo=UTC)):
                added = memory.add("tea " * 500, user_id="alice", dedupe=False, importance=importance, occurred_at=when)
                memory.feedback(added.id, rating=rating)
    for mode in ("hybrid", "vector", "keyword"):
        hits = memory.search("tea", user_id="alice", mode=mode, limit=100)
        assert len(hits) == 12
        assert all(0 < hit.score <= 1 for hit in hits)
        assert (
            len({round(hit.score, 4) for hit in hits}) == 7
        )  # an importance of 1 and a rating of 5 weigh as much as age


def test_anothers_words_do_not_move_a_score(memory: Memory) -> None:
    memory.add_many(["green tea", "bread"], user_id="alice")
    before = [(hit.id, hit.score) for hit in memory.search("tea", user_id="alice", mode="keyword")]
    memory.add_many([f"tea {n}" for n in range(50)], user_id="bob")
    memory.add_many([f"tea {n}" for n in range(50)])
    assert [(hit.id, hit.score) for hit in memory.search("tea", user_id="alice", mode="keyword")] == before


# -- scopes ----------------------------------------------------------------------------------------------------------


def test_a_user_is_a_wall(memory: Memory) -> None:
    for user in (None, "alice", "bob"):
        for agent in (None, "cook"):
            memory.add(f"tea of {user} and {agent}", user_id=user, agent_id=agent)
    found = {
        (user, agent): set(texts(memory.search("tea", user_id=user, agent_id=agent, limit=100)))
        for user in (None, "alice", "bob", ALL, "user-1", "")
        if user != ""
        for agent in (None, "cook", "waiter")
    }
    assert found[None, None] == {"tea of None and None", "tea of None and cook"}
    assert found[None, "cook"] == {"tea of None and cook"}
    assert found["alice", None] == {"tea of alice and None", "tea of alice and cook"}
    assert found["alice", "cook"] == {"tea of alice and cook"}
    assert found[ALL, "cook"] == {f"tea of {user} and cook" for user in (None, "alice", "bob")}
    assert len(found[ALL, None]) == 6
    assert found["user-1", None] == found["bob", "waiter"] == set()


def test_ids_that_look_alike_are_different(memory: Memory) -> None:
    users = ["user-1", "user_1", "user 1", "USER-1", "\uff55ser-1", "u7", "' OR 1=1 --", '"', "%", "*"]
    for user in users:
        memory.add(f"tea of {user!r}", user_id=user)
    for user in users:
        for mode in ("hybrid", "keyword", "vector"):
            assert texts(memory.search("tea", user_id=user, mode=mode)) == [f"tea of {user!r}"]


def test_a_foreign_id_is_absent_to_a_view(memory: Memory) -> None:
    alice, bob = memory.scoped(user_id="alice"), memory.scoped(user_id="bob")
    theirs = bob.add("tea of Bob's", metadata={"n": 1}).id
    assert alice.get(theirs) is None
    assert alice.delete(theirs) is False
    for change in (
        lambda: alice.update(theirs, content="mine now"),
        lambda: alice.history(theirs),
        lambda: alice.erase(theirs),
        lambda: alice.feedback(theirs, rating=1),
        lambda: alice.restore(theirs),
        lambda: alice.restore(theirs, version=1),
    ):
        with pytest.raises(NotFoundError) as foreign:
            change()
        with pytest.raises(NotFoundError) as unknown:
            alice.history("unknown")
        assert str(foreign.value).replace(theirs, "unknown") == str(unknown.value)
    assert alice.search("tea") == []
    assert list(alice.iterate()) == []
    record = bob.get(theirs)
    assert record is not None
    assert (record.content, record.version, record.rating) == ("tea of Bob's", 1, None)
    assert len(bob.history(theirs)) == 1


def test_a_view_narrows_and_refuses_what_contradicts_it(memory: Memory) -> None:
    view = memory.scoped(user_id="alice", agent_id="cook")
    view.add("tea in run 1", run_id="1")
    view.add("tea in run 2", run_id="2")
    memory.add("tea of another agent", user_id="alice", agent_id="waiter")
    assert texts(view.search("tea", run_id="1")) == ["tea in run 1"]
    assert set(texts(view.search("tea", user_id="alice"))) == {"tea in run 1", "tea in run 2"}
    assert view.scoped(run_id="2").search("tea")[0].record.run_id == "2"
    for call in (
        lambda: view.search("tea", user_id="bob"),
        lambda: view.search("tea", user_id=ALL),
        lambda: view.search("tea", agent_id="waiter"),
        lambda: view.add("tea", user_id="bob"),
        lambda: view.add({"content": "tea", "agent_id": "waiter"}),
        lambda: view.delete_all(user_id="bob"),
        lambda: view.scoped(user_id="bob"),
        lambda: view.page(user_id=ALL),
        lambda: memory.scoped(agent_id="cook").search("tea", user_id="alice"),
        lambda: memory.scoped(),
        lambda: memory.add("tea", user_id=ALL),
    ):
        with pytest.raises(ScopeError):
            call()


# -- the cache -------------------------------------------------------------------------------------------------------


@contextmanager
def counted(memory: Memory, hits: int) -> Iterator[None]:
    before = memory.stats().query_cache["hits"]
    yield
    assert memory.stats().query_cache["hits"] - before == hits


def test_a_repeated_search_is_answered_from_the_cache(memory: Memory) -> None:
    memory.add("green tea", user_id="alice")
    first = memory.search("tea", user_id="alice")
    with counted(memory, 1):
        again = memory.search("tea", user_id="alice", explain=True)
    assert again.trace is not None
    assert again.trace.cached
    assert [(hit.id, hit.score, hit.record) for hit in again] == [(hit.id, hit.score, hit.record) for hit in first]
    with counted(memory, 0):
        memory.search("tea", user_id="alice", limit=5)
        memory.search("tea", user_id="bob")
        memory.search("tea")


def test_a_change_behind_the_wall_ends_a_cached_result(memory: Memory) -> None:
    kept = memory.add("green tea", user_id="alice").id

    def changes() -> Iterator[Any]:
        added = memory.add("tea with bread", user_id="alice").id
        yield added
        yield memory.update(added, content="tea without bread")
        yield memory.update(added, metadata={"n": 1})
        yield memory.feedback(kept, rating=5)
        yield memory.delete(added)
        yield memory.restore(added)
        yield memory.erase(added)
        yield memory.delete_all(user_id="alice")

    seen = []
    memory.search("tea", user_id="alice")
    for _ in changes():
        with counted(memory, 0):
            seen.append([(hit.content, hit.record.metadata) for hit in memory.search("tea", user_id="alice")])
        with counted(memory, 1):
            memory.search("tea", user_id="alice")
    tea, bread = ("green tea", {}), ("tea with bread", {})
    without, tagged = ("tea without bread", {}), ("tea without bread", {"n": 1})
    assert [sorted(found, key=str) for found in seen] == [
        sorted(found, key=str)
        for found in ([tea, bread], [tea, without], [tea, tagged], [tea, tagged], [tea], [tea, tagged], [tea], [])
    ]


def test_a_change_elsewhere_leaves_a_cached_result(memory: Memory) -> None:
    memory.add("green tea", user_id="alice")
    memory.search("tea", user_id="alice")
    memory.search("tea", user_id=ALL)
    memory.add("black tea", user_id="bob")
    with counted(memory, 1):
        memory.search("tea", user_id="alice")
    assert len(memory.search("tea", user_id=ALL)) == 2


def test_time_ends_a_cached_result(memory: Memory, clock: FakeClock) -> None:
    memory.add("green tea", user_id="alice", ttl=60)
    memory.add("black tea", user_id="alice")
    assert len(memory.search("tea", user_id="alice")) == 2
    clock.advance(59)
    assert len(memory.search("tea", user_id="alice")) == 2
    clock.advance(1)
    assert texts(memory.search("tea", user_id="alice")) == ["black tea"]
    [before] = memory.search("tea", user_id="alice")
    clock.advance(30 * 86_400)
    with counted(memory, 0):
        [after] = memory.search("tea", user_id="alice")
    assert after.score < before.score


def test_what_a_caller_does_to_a_result_stays_with_the_caller(memory: Memory) -> None:
    added = memory.add("green tea", user_id="alice", metadata={"tags": ["a"], "deep": {"x": 1}})
    for _ in range(2):
        hits = memory.search("tea", user_id="alice")
        assert hits[0].record.metadata == {"tags": ["a"], "deep": {"x": 1}}
        hits[0].record.metadata["tags"].append("b")
        hits[0].record.metadata["deep"]["x"] = 2
        hits[0].record.metadata["new"] = True
        hits.clear()
        added.record.metadata.clear()
    record = memory.get(added.id)
    assert record is not None
    assert record.metadata == {"tags": ["a"], "deep": {"x": 1}}


def test_a_cache_of_no_entries_is_no_cache(open_memory: Callable[..., Memory]) -> None:
    memory = open_memory(settings=Settings(query_cache_size=0))
    memory.add("green tea")
    with counted(memory, 0):
        assert len(memory.search("tea")) == len(memory.search("tea")) == 1


# -- context, recent, pages ------------------------------------------------------------------------------------------


def words_of(text: str) -> int:
    return len(text.split())


def test_context_keeps_the_budget_and_the_order_of_events(memory: Memory, clock: FakeClock) -> None:
    for text in ("green tea at eight", "Green  TEA at eight", "black tea at noon", "tea " * 30 + "all day", "no sugar"):
        memory.add(text, user_id="alice", dedupe=False)
        clock.advance(86_400)
    memory.add("tea long ago", user_id="alice", occurred_at=START - timedelta(days=365))
    for budget in (1, 5, 6, 12, 20, 40, 1_000):
        text = memory.context("tea", max_tokens=budget, user_id="alice", count_tokens=words_of)
        assert words_of(text) <= budget
        days = [line for line in text.splitlines() if line.startswith("20")]
        assert days == sorted(days)
        assert text.lower().count("at eight") <= 1
    assert "tea long ago" in text
    assert text.startswith("2024-03-01:\n- tea long ago\n")
    assert "no sugar" in text
    assert text.count("\n- ") == 5
    assert memory.context("tea", max_tokens=3, user_id="alice", count_tokens=words_of) == ""
    assert memory.context("tea", max_tokens=100, user_id="nobody") == ""


def test_a_long_memory_does_not_keep_short_ones_out_of_the_context(memory: Memory) -> None:
    memory.add("tea " * 100, user_id="alice")
    memory.add("tea with bread", user_id="alice")
    text = memory.context("tea", max_tokens=20, user_id="alice", count_tokens=words_of)
    assert text.endswith("tea with bread")
    assert len(text.splitlines()) == 2


def test_recent_continues_a_conversation(memory: Memory, clock: FakeClock) -> None:
    for n in range(6):
        clock.advance(1)
        memory.add({"role": "user" if n % 2 else "assistant", "content": f"turn {n}"}, user_id="alice", run_id="r")
    memory.add({"role": "user", "content": "another talk"}, user_id="alice", run_id="s")
    memory.add({"role": "user", "content": "another's talk"}, user_id="bob", run_id="r")
    turns = memory.recent(run_id="r", user_id="alice", limit=3)
    assert [(turn.role, turn.content) for turn in turns] == [
        ("user", "turn 3"),
        ("assistant", "turn 4"),
        ("user", "turn 5"),
    ]
    assert memory.recent(run_id="r") == []
    assert len(memory.scoped(user_id="alice").recent(run_id="r")) == 6
    assert len(memory.recent(run_id="r", user_id=ALL)) == 7


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_pages_neither_repeat_nor_lose_records_while_others_come_and_go(memory: Memory, order: Any) -> None:
    ids = [memory.add(f"note {n}", user_id="alice").id for n in range(20)]
    seen, cursor = [], None
    for step in range(20):
        page = memory.page(user_id="alice", order=order, limit=3, cursor=cursor)
        seen += [record.id for record in page.records]
        cursor = page.cursor
        if cursor is None:
            break
        memory.add(f"newcomer {step}", user_id="alice")
        memory.delete(seen[0])
        memory.delete(seen[-1])
    old = [id for id in seen if id in ids]
    assert old == (ids[::-1] if order == "newest" else ids)
    assert len(seen) == len(set(seen))


def test_pages_and_iterate_take_filters(memory: Memory, clock: FakeClock) -> None:
    for n in range(10):
        memory.add(f"note {n}", user_id="alice", metadata={"n": n}, kind="odd" if n % 2 else "even")
    memory.add("gone", user_id="alice", ttl=1, metadata={"n": 5}, kind="odd")
    clock.advance(2)
    found = memory.iterate(user_id="alice", filters={"n": {"$gte": 3}}, kinds=["odd"], order="oldest")
    assert [record.metadata["n"] for record in found] == [3, 5, 7, 9]
    page = memory.page(user_id="alice", filters={"n": {"$gte": 3}}, kinds=["odd"], limit=4)
    assert len(page.records) == 4
    assert page.cursor is None


def test_a_cursor_belongs_to_its_order(memory: Memory) -> None:
    memory.add_many(["one", "two", "three"], user_id="alice")
    cursor = memory.page(user_id="alice", limit=1).cursor
    for wrong in (f"oldest:{cursor}", "nonsense", "newest:-1", "newest:", 7, "newest:" + "9" * 30):
        with pytest.raises(InvalidInputError):
            memory.page(user_id="alice", limit=1, cursor=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError):
        memory.page(user_id="alice", order="oldest", cursor=cursor)


# -- every engine gives the same answer ------------------------------------------------------------------------------

VOCABULARY = [
    "tea",
    "green",
    "bread",
    "run",
    "running",
    "日",
    "naïve",
    "1",
    "shoes",
    "house",
    "in",
    "the",
    "coffee",
    "tea?",
]
SPELLINGS = (
    "naive Müller mueller müller Muller für fur thé the Lodz Łódź мой мои пять c C++ C# .NET net node.js nodejs $5 "
    "서울에서 서울은 집이 집에서 집 शहर 🍣 👍🏽 👍 كِتَاب كتاب"
).split()
words = st.sampled_from(VOCABULARY) | st.sampled_from(SPELLINGS)
sentences = st.lists(words, min_size=1, max_size=8).map(" ".join)
questions = st.lists(words | st.sampled_from(["footwear", "brade", "a", "Lódzz"]), min_size=1, max_size=6).map(" ".join)
records = st.fixed_dictionaries(
    {"content": sentences},
    optional={
        "importance": st.sampled_from([0.0, 0.3, 1.0]),
        "metadata": st.sampled_from([{"tag": "a"}, {"tag": "b"}]),
        "kind": st.sampled_from(["fact", "pattern"]),
        "agent_id": st.sampled_from(["cook", "waiter"]),
        "run_id": st.sampled_from(["monday", "tuesday"]),
        "occurred_at": st.sampled_from([START - timedelta(days=90), START - timedelta(days=3)]),
        "ttl": st.just(60.0),
    },
)


@pytest.mark.slow
@pytest.mark.long
@settings(max_examples=examples(40, 400))
@given(
    batch=st.lists(records, min_size=1, max_size=60),
    drained=st.integers(0, 60),
    deleted=st.sets(st.integers(0, 59), max_size=10),
    searches=st.lists(
        st.tuples(
            questions,
            st.sampled_from([1, 5, 50]),
            st.fixed_dictionaries(
                {"mode": st.sampled_from(["hybrid", "vector", "keyword"])},
                optional={
                    "filters": st.just({"tag": "a"}),
                    "kinds": st.just(["pattern"]),
                    "since": st.just(START - timedelta(days=10)),
                    "min_similarity": st.just(0.33),
                    "as_of": st.just(START + timedelta(seconds=30)),
                },
            ),
            st.sampled_from([None, "cook"]),
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_small_and_large_scopes_and_the_oracle_agree(
    batch: list[dict[str, Any]],
    drained: int,
    deleted: set[int],
    searches: list[tuple[str, int, dict[str, Any], str | None]],
) -> None:
    """The same records in memory, as codes, and partly in LanceDB, partly not yet; with deleted and expired ones."""
    clock, embedder = FakeClock(), HashEmbedder()
    oracle = Oracle(embedder.embed_query, clock)
    rows = oracle.add({"user_id": "alice", "dedupe": False, "id": f"{n:02}", **item} for n, item in enumerate(batch))
    with tempfile.TemporaryDirectory() as folder:
        stores = [
            Memory(Path(folder) / name, settings=options, clock=clock, embedder=embedder)
            for name, options in (("small", SMALL), ("large", LARGE), ("disk", DISK))
        ]
        for memory in stores:
            items = [{"id": f"{n:02}", **item} for n, item in enumerate(batch)]
            memory.add_many(items[:drained], user_id="alice", dedupe=False)
            memory.flush()
            memory.add_many(items[drained:], user_id="alice", dedupe=False)
            for n in sorted(deleted):
                memory.delete(f"{n:02}")
        for n in sorted(deleted & set(range(len(rows)))):
            oracle.delete(f"{n:02}")
        clock.advance(61)
        for query, limit, restrictions, agent in searches:
            for memory, mends in zip(stores, (True, True, False), strict=True):
                expected = oracle.search(query, Scope("alice", agent), mend_typos=mends, **restrictions)
                hits = memory.search(query, user_id="alice", agent_id=agent, limit=limit, **restrictions)
                check_hits(hits, expected, limit)
        for memory in stores:
            memory.close()


@pytest.mark.parametrize("mode", ["keyword", "hybrid"])
def test_words_that_the_index_has_not_seen_yet_are_found(
    open_memory: Callable[..., Memory], monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    def full(*_: object) -> None:
        raise DiskFullError("no space left")

    memory = open_memory(settings=Settings(arena_limit=10, large_engine="lancedb"))
    memory.add_many([f"the garden of number {n}" for n in range(40)], user_id="ada")
    memory.search("garden", user_id="ada", mode=mode)
    monkeypatch.setattr(KeywordIndex, "apply", full)
    late = memory.add("a zebra in the garden", user_id="ada").id
    memory.update(late, content="a zeppelin over the garden")
    memory.add("a zebra and a zeppelin", user_id="ben")
    assert [hit.id for hit in memory.search("zeppelin", user_id="ada", mode=mode, limit=1)] == [late]
    assert memory.search("zeppelin garden", user_id="ada", mode=mode, limit=5)[0].id == late
    assert not memory.search("zebra", user_id="ada", mode="keyword")
    assert late in [hit.id for hit in memory.search("garden", user_id="ada", mode="keyword", limit=41)]


def test_a_keyword_index_that_cannot_be_written_is_told_of_once(
    open_memory: Callable[..., Memory], store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory = open_memory(
        settings=Settings(arena_limit=0, large_engine="lancedb", lock_timeout_s=0.05, query_cache_size=0)
    )
    memory.handle.engine().follower.close()  # which would index, too
    lock = FileLock(store / WRITE_LOCK)

    def told() -> int:
        return sum("by a search" in record.message for record in caplog.records)

    for times in (1, 2):
        memory.add(f"a ferry to island {times}", user_id="ada")
        assert lock.acquire(10)
        for _ in range(3):
            assert len(memory.search("ferry", user_id="ada", mode="keyword")) == times
        assert told() == times
        lock.release()
        memory.search("ferry", user_id="ada", mode="keyword")  # it catches up
        assert told() == times
    lock.close()
