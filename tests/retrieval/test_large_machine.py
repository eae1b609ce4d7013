"""Random changes of scopes that are held as codes, beside a store that holds the same exactly, and a plain dict.

The dict says who may be found: nobody else's records, nothing that is deleted or over, always as many as there are. The
exact arena, which other tests compare with slow arithmetic, says what each scores: by words of its own, misspelled and
similar ones, its neighbours', dates, one vector or several.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import START, FakeClock, HashEmbedder
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from length import examples

from agentmem import ALL, Memory, SearchResults, Settings
from agentmem.indexes import delta
from agentmem.retrieval import largearena, masks, snapshots, sparse

LIMIT = 100
QUIET = {"lifecycle": {"sweep_interval_s": 0}, "query_cache_size": 0}
TOLERANCE = 2e-5
NEVER = datetime.max.replace(tzinfo=START.tzinfo)
SUBJECTS = "harbour lantern copper meadow winter engine paper violin garden river wedding silver".split()
DETAILS = "old new blue quiet heavy broken famous hidden narrow yellow distant simple".split()
SCOPES: list[dict[str, Any]] = [
    {"user_id": "ana"},
    {"user_id": "ana", "run_id": "monday"},
    {"user_id": "ana", "agent_id": "cook"},
    {"user_id": "ana", "namespace": ("notes",)},
    {"user_id": "ben"},
    {"user_id": "ana", "namespace": ("notes", "travel")},
    {"user_id": "ana", "under": ("notes",)},
    {"user_id": ALL},
    {"user_id": ALL, "under": ()},
]
RESTRICTIONS: list[dict[str, Any]] = [
    {}, {}, {},
    {"filters": {"share": {"$lt": 2}}},
    {"filters": {"share": {"$lt": 30}}},
    {"filters": {"n": {"$gte": 40, "$lt": 90}}},
    {"kinds": ["pattern"]},
    {"since": START - timedelta(days=10), "until": START},
    {"as_of": START + timedelta(hours=1)},
    {"min_similarity": 0.3},
    {"rank": "similarity"},
]  # fmt: skip
QUERIES = [
    "a quiet harbour", "the harbor and a lantren", "a marriage by the rivers", "copper yesterday", "violin in May 2024",
    "what about the famous engine?", "paper 7", "an unheard of zeppelin", "the",
]  # fmt: skip


@dataclass
class Row:
    user: str | None
    namespace: tuple[str, ...]
    agent: str | None
    run: str | None
    kind: str
    content: str
    metadata: dict[str, Any]
    when: datetime
    added: datetime
    ends: datetime
    parts: int
    live: bool = True
    erased: bool = False


picks = st.integers(0, 10_000)
embeds = st.sampled_from([None, None, None, None, None, False, ["a zeppelin"], ["an old copper", "the quiet meadow"]])
batches = st.lists(
    st.tuples(picks, st.sampled_from(SCOPES[:6]), embeds, st.sampled_from([None, None, 60, 7_200])),
    min_size=1,
    max_size=6,
)


def text_of(n: int) -> str:
    return f"the {DETAILS[n % 12]} {SUBJECTS[n // 12 % 12]} and a {SUBJECTS[n // 7 % 12]} {n % 97}"


class Machine(RuleBasedStateMachine):
    """Two stores and a dict, moved in step."""

    engine = "int8"
    wanted = found = 0
    """Hits that exact searches had, and how many of those of codes score as much, place by place."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.embedder = FakeClock(), HashEmbedder()
        self.folder = Path(tempfile.mkdtemp(prefix="agentmem-machine-"))
        self.rows = dict[str, Row]()
        self.asked = 0
        self.exact, self.coded = self._open("exact"), self._open("coded")

    def _open(self, name: str) -> Memory:
        large = {"arena_limit": LIMIT, "large_engine": self.engine, "large_wait_s": 60} if name == "coded" else {}
        options = Settings(**{**QUIET, **large})
        return Memory(self.folder / name, settings=options, clock=self.clock, embedder=self.embedder)

    def _both(self, name: str, *args: Any, **kwargs: Any) -> None:
        for memory in (self.exact, self.coded):
            getattr(memory, name)(*args, **kwargs)

    def _live(self, pick: int) -> str | None:
        live = [id for id, row in self.rows.items() if self._visible(row)]
        return live[pick % len(live)] if live else None

    def _visible(self, row: Row) -> bool:
        return row.live and row.ends > self.clock.now

    @initialize(seed=picks)
    def fill(self, seed: int) -> None:
        self.asked = seed
        for scope, count in ((SCOPES[0], 130), (SCOPES[3], 110), (SCOPES[4], 20)):
            self._add([(seed + 31 * n, {**scope, "run_id": [None, "monday"][n % 2]}, None, None) for n in range(count)])

    @rule(items=batches)
    def add(self, items: list[tuple[int, dict[str, Any], Any, int | None]]) -> None:
        self._add(items)
        number, scope, embed, _ = items[-1]
        if embed is None:  # the very next search finds it
            hits = self.coded.search(text_of(number), mode="vector", limit=1, rank="similarity", **scope)
            assert hits[0].similarity == pytest.approx(1, abs=1e-5)

    def _add(self, items: list[tuple[int, dict[str, Any], Any, int | None]]) -> None:
        batch = list[dict[str, Any]]()
        for number, scope, embed, ttl in items:
            id, now, when = f"{len(self.rows):05}", self.clock.now, [None, START - timedelta(days=number % 400)]
            item = {
                **scope,
                "id": id,
                "content": text_of(number),
                "metadata": {"share": number % 100, "n": len(self.rows)},
                "kind": ["fact", "pattern"][number % 2],
                "occurred_at": when[number % 3 % 2],
                "importance": [None, 0.1, 1.0][number % 3],
                "ttl": ttl,
                "embed": embed,
            }
            batch.append({name: value for name, value in item.items() if value is not None})
            self.rows[id] = Row(
                scope["user_id"], scope.get("namespace", ()), scope.get("agent_id"), scope.get("run_id"),
                item["kind"], item["content"], item["metadata"], item["occurred_at"] or now, now,
                NEVER if ttl is None else now + timedelta(seconds=ttl), parts_of(embed),
            )  # fmt: skip
        self._both("add_many", batch, dedupe=False)

    @rule(pick=picks)
    def delete(self, pick: int) -> None:
        id = self._live(pick)
        if id is not None:
            self._both("delete", id)
            self.rows[id].live = False
            hits = self.coded.search(self.rows[id].content, user_id=ALL, under=(), mode="vector", limit=3)
            assert id not in [hit.id for hit in hits]

    @rule(pick=picks)
    def restore(self, pick: int) -> None:
        now = self.clock.now
        gone = [id for id, row in self.rows.items() if not row.live and not row.erased and row.ends > now]
        if gone:
            self._both("restore", gone[pick % len(gone)])
            self.rows[gone[pick % len(gone)]].live = True

    @rule(pick=picks, number=picks)
    def update_content(self, pick: int, number: int) -> None:
        id = self._live(pick)
        if id is not None:
            self._both("update", id, content=text_of(number))
            self.rows[id].content = text_of(number)

    @rule(pick=picks, embed=embeds.filter(lambda embed: embed is not None))
    def update_vectors(self, pick: int, embed: Any) -> None:
        id = self._live(pick)
        if id is not None:
            self._both("update", id, embed=embed)
            self.rows[id].parts = parts_of(embed)

    @rule(pick=picks, share=st.integers(0, 99))
    def update_metadata(self, pick: int, share: int) -> None:
        id = self._live(pick)
        if id is not None:
            self._both("update", id, metadata={"share": share})
            self.rows[id].metadata["share"] = share

    @rule(pick=picks, rating=st.sampled_from([1.0, 5.0]))
    def rate(self, pick: int, rating: float) -> None:
        id = self._live(pick)
        if id is not None:
            self._both("feedback", id, rating=rating)

    @rule(pick=picks)
    def erase(self, pick: int) -> None:
        id = self._live(pick)
        if id is not None:
            self._both("erase", id)
            self.rows[id].live, self.rows[id].erased = False, True

    @rule(seconds=st.sampled_from([1, 61, 3_600, 20_000]))
    def advance(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def sweep(self) -> None:
        for memory in (self.exact, self.coded):
            memory.lifecycle.sweep()

    @rule()
    def reopen(self) -> None:
        self.coded.close()
        self.coded = self._open("coded")

    @invariant()
    def answers(self) -> None:
        """Three searches after each step, so that all that can be asked comes up soon."""
        for _ in range(3 if self.rows else 0):
            n = self.asked = self.asked + 1
            mode, limit = ["hybrid", "vector", "keyword"][n % 3], [1, 10, 60][n // 3 % 3]
            scope, restriction = SCOPES[n // 2 % len(SCOPES)], RESTRICTIONS[n % len(RESTRICTIONS)]
            self.search(QUERIES[n // 5 % len(QUERIES)], scope, restriction, mode, limit)

    def search(self, query: str, scope: dict[str, Any], restriction: dict[str, Any], mode: Any, limit: int) -> None:
        if mode == "keyword" and "rank" in restriction:
            return
        options = {"mode": mode, **scope, **restriction}
        every = self.exact.search(query, limit=1_000, **options)
        hits = self.coded.search(query, limit=limit, explain=True, **options)
        there = {id for id, row in self.rows.items() if self._visible(row) and admits(scope, restriction, row)}
        with_vector = {id for id in there if self.rows[id].parts}
        assert {hit.id for hit in every} <= there
        if mode != "keyword" and "min_similarity" not in restriction:
            assert {hit.id for hit in every} >= with_vector
        assert len(hits) == min(limit, len(every))
        self._check(hits, every)

    def _check(self, hits: SearchResults, every: SearchResults) -> None:
        truth = {hit.id: hit for hit in every}
        for hit in hits:
            assert hit.id in truth, "found what must not be found"
            assert hit.score == pytest.approx(truth[hit.id].score, abs=TOLERANCE)
            assert hit.similarity == pytest.approx(truth[hit.id].similarity, abs=TOLERANCE)
            assert hit.record.metadata == truth[hit.id].record.metadata
        kind = type(self)
        kind.wanted += len(hits)
        kind.found += sum(one.score >= other.score - TOLERANCE for one, other in zip(hits, every, strict=False))

    def teardown(self) -> None:
        try:
            for scope in (SCOPES[0], SCOPES[-1]):
                trace = self.coded.search("harbour", explain=True, **scope).trace
                assert trace is not None
                assert trace.engines == ("codes",)
            report = self.coded.verify()
            assert report.ok, report.problems
        finally:
            self.exact.close()
            self.coded.close()
            shutil.rmtree(self.folder)


def parts_of(embed: Any) -> int:
    return 1 if embed is None or embed is True else len(embed) if embed else 0


def admits(scope: dict[str, Any], restriction: dict[str, Any], row: Row) -> bool:
    """Whether a record lies in a scope and is let through by what restricts a search, in plain terms."""
    user, under = scope["user_id"], scope.get("under")
    inside = row.namespace == scope.get("namespace", ()) if under is None else row.namespace[: len(under)] == under
    if not inside or (user is not ALL and row.user != user):
        return False
    if any(scope.get(name) not in (None, value) for name, value in (("agent_id", row.agent), ("run_id", row.run))):
        return False
    for name, test in restriction.get("filters", {}).items():
        value = row.metadata[name]
        if not (test.get("$gte", -1) <= value < test["$lt"]):
            return False
    return (
        row.kind in restriction.get("kinds", [row.kind])
        and restriction.get("since", row.when) <= row.when
        and row.when < restriction.get("until", NEVER)
        and row.added <= restriction.get("as_of", row.added)
    )


@contextmanager
def few() -> Iterator[None]:
    """So few are proposed and read that what is found depends on the codes, even in a small test; and function words
    are put off. What comes later is coded in small pieces; filters are tested on columns, and scopes kept, soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse, "FREQUENT", 5)
        patch.setattr(largearena, "PROPOSED", 60)
        patch.setattr(largearena, "FINALISTS", 40)
        patch.setattr(delta, "LEAST", 8)
        patch.setattr(delta, "PIECE", 5)
        patch.setattr(delta, "BLOCK_BYTES", 7 * 4 * 4)  # a few vectors
        patch.setattr(masks, "_FEW", 5)
        patch.setattr(masks, "_BEFORE", 0)
        patch.setattr(snapshots, "AGAIN_S", -1.0)
        patch.setattr(snapshots, "CHANGES", 3)
        yield


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("coding", ["int8", "rabitq"])
def test_scopes_held_as_codes_answer_as_exact_ones(coding: Any) -> None:
    if coding == "rabitq":
        pytest.importorskip("faiss", reason="the extra faiss is not installed")

    class Coded(Machine):
        engine = coding

    with few():
        more = examples(1, 10)
        run_state_machine_as_test(Coded, settings=settings(max_examples=6 * more, stateful_step_count=30))
    assert Coded.wanted > 1_000
    assert Coded.found >= 0.99 * Coded.wanted, (Coded.found, Coded.wanted)
