"""One scope's records in memory, searched exactly.

An arena holds columns, not objects: a slot per record in numpy arrays that grow by doubling, the terms of all records
(``postings``), and who follows whom in a conversation (``conversation``). A query scans them; for the sizes an arena is
allowed to have that is fast enough.

A changed record gets a new slot; the old one is only marked dead. Records with several vectors, or none, are few: what
they have beside one vector lies apart (``several``), and costs nothing where there are none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from agentmem.indexes.exact import cosines
from agentmem.indexes.growing import grown
from agentmem.indexes.keywords import Statistics
from agentmem.retrieval import scoring
from agentmem.retrieval.conversation import Links
from agentmem.retrieval.corpus import Corpus
from agentmem.retrieval.estimates import last_of
from agentmem.retrieval.matching import DenseMatcher, Matcher, Matches
from agentmem.retrieval.postings import Postings, lasting
from agentmem.retrieval.query import NEVER, Candidate, Parts, Query
from agentmem.retrieval.several import Nearest, Several
from agentmem.text.dates import closeness
from agentmem.text.terms import asking, terms_and_length
from agentmem.types.clock import Micros
from agentmem.types.ports import Entry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Bools, Vector

T = TypeVar("T")
_NONE = float("nan")
_SLOT = np.dtype(
    [
        ("row", "i8"), ("user", "i8"), ("agent", "i8"), ("run", "i8"), ("created", "i8"), ("when", "i8"),
        ("expires", "i8"), ("version", "i8"), ("kind", "i4"), ("layer", "i4"), ("importance", "f4"), ("rating", "f4"),
        ("length", "f4"), ("asks", "f4"), ("live", "?"),
    ]
)  # fmt: skip

TOGETHER = 5_000
"""Records from which comparing several queries with all of them at once saves time."""
ROOM = 1.02
"""Room left for what comes, where the number of records is known."""
_FILLED = 2_000
"""Vectors that are read at once."""


class Scored(NamedTuple):
    """Slots with their similarity, what they score and what of that is beside the scores."""

    slots: NDArray[np.intp]
    similarity: Vector | None
    scores: scoring.Scores
    date: Vector | None
    telling: Vector | None
    near: Nearest | None = None
    first: Vector | None = None
    """Of the slots' first vectors, where there are others."""


class Arena:
    """Not thread-safe: the owner holds a lock around each call."""

    ENGINE = "arena"
    """What it is called in traces."""
    _GROWTH = 2.0
    _IN_PLACE = ("live", "expires", "rating", "length", "asks")
    """Columns that change where they are."""

    def __init__(self, dim: int, number: Callable[[str], int] = hash, expected: int = 0) -> None:
        """``number`` tells words apart; an arena is kept on the disk only with numbers that are the same in every
        process (``postings.lasting``). ``expected``: about how many records there will be."""
        self._dim = dim
        self._used = 0
        self._vectors: Vector = np.empty((16, dim), np.float32)
        self._columns: dict[str, NDArray[Any]] = {name: np.empty(16, _SLOT[name]) for name in _SLOT.names or ()}
        self._ids: list[str] = []
        self._slot_of: dict[int, int] = {}
        self._labels: dict[str, int] = {}
        self._postings = Postings(number)
        self._links = Links()
        self._several: Several | None = None
        """While there is a record that has not one vector."""
        self.incomplete: set[int] = set()
        """After ``restore``: rows that have to be read again, since they have not one vector."""
        if expected:
            self._reserve(int(expected * ROOM))

    def __len__(self) -> int:
        return len(self._slot_of)

    @property
    def nbytes(self) -> int:
        """Memory held, approximately: ids and dictionary entries are counted at 200 bytes a record."""
        return self._common_bytes + self._vectors.nbytes + 200 * self._used

    @property
    def size(self) -> int:
        """The records, and as many more as they have vectors after the first."""
        return len(self) + (0 if self._several is None else len(self._several) - self._several.dead)

    @property
    def kind(self) -> str:
        """What it is called where it is kept."""
        return "exact"

    @property
    def slots(self) -> int:
        """Slots that were given out, dead ones included; grows with each change."""
        return self._used

    @property
    def is_worth_keeping(self) -> bool:
        """Whether it would help another process: most records have one vector, and need not be read again."""
        few = self._several is None or len(self._several.slots) < self._used // 5
        return few and self._postings.number is lasting

    @property
    def _common_bytes(self) -> int:
        columns = sum(array.nbytes for array in self._columns.values())
        several = 0 if self._several is None else self._several.nbytes
        return columns + self._postings.nbytes + self._links.nbytes + several

    @property
    def wasteful(self) -> bool:
        """Whether so many slots are dead that loading afresh is better than going on."""
        several = self._several
        if several is not None and several.dead > 1_000 and 2 * several.dead > len(several):
            return True
        return self._used > 1_000 and self._used > 2 * len(self)

    def versions(self) -> dict[int, int]:
        """The version held of each record, by row number."""
        live = self._column("live")
        return dict(zip(self._column("row")[live].tolist(), self._column("version")[live].tolist(), strict=True))

    def next_expiry(self, now: Micros) -> Micros:
        """The next instant at which a record expires; ``NEVER`` if none does."""
        expires = self._column("expires")[self._column("live")]
        return int(expires[expires > now].min(initial=NEVER))

    def remove(self, row: int) -> None:
        """Forget a record; unknown rows are ignored."""
        slot = self._pop(row)
        if slot is not None:
            self._columns["live"][slot] = False
            if self._several is not None:
                self._several.remove(slot)
            run = self._run_of(slot)
            if run[2]:
                self._links.remove(slot, run)

    def upsert(self, entries: Sequence[Entry]) -> None:
        """Add records, or replace them by their current state."""
        if self._known([entry.row for entry in entries]):
            entries = [entry for entry in entries if not self._renew(entry)]
            for entry in entries:
                self.remove(entry.row)
        if not entries:
            return
        start, end = self._used, self._used + len(entries)
        self._reserve(end)
        self._put(entries, self._first_vectors(entries, start), start)
        # Column by column: half the time of going through the entries for each of them.
        said = dict(zip(Entry._fields, zip(*entries, strict=True), strict=True))
        values: dict[str, Any] = {name: _single(said[name]) for name in ("row", "user", "agent", "run", "version")}
        values |= {
            "created": _single(said["created_at"]),
            "when": _filled(said["occurred_at"], said["created_at"]),
            "expires": _filled(said["expires_at"], repeat(NEVER)),
            "importance": _filled(said["importance"], repeat(_NONE)),
            "rating": _filled(said["rating"], repeat(_NONE)),
            "kind": self._codes(said["kind"]),
            "layer": self._codes(said["layer"]),
        }
        for name, column in values.items():
            self._columns[name][start:end] = column
        self._columns["live"][start:end] = True
        words = [entry.words for entry in entries] if any(said["said"]) else said["content"]
        self._take_texts(list(zip(words, said["content"], strict=True)), start)
        if any(said["run"]):
            for slot, entry in enumerate(entries, start):
                if entry.run:
                    self._links.add(slot, (entry.user, entry.agent, entry.run), self._columns["row"])
        self._used = end

    def search(self, query: Query, statistics: Statistics | None = None) -> list[Candidate]:
        """The best ``limit`` records that the query allows, best first, ties by id.

        ``statistics`` are those of the whole scope where the arena holds only a part of it.
        """
        present = self._present(query)
        allowed = self._allowed(query, present)
        first = None if query.vector is None else self._similarities(query, query.vector)
        near = self._nearest(query)
        matches = None if not query.lexical else self._matches(query, self._matcher(query, present), statistics)
        self._restrict(allowed, query, matches, near)
        similarity = first
        if first is not None and near is not None:
            similarity = np.maximum(first, near.extra)
            similarity[near.bare] = 0
        if similarity is not None and query.search.min_similarity is not None:
            allowed &= similarity >= query.search.min_similarity
        slots = np.flatnonzero(allowed)
        scored = self._score(query, present, slots, None if similarity is None else similarity[slots], matches)
        if first is not None and near is not None:
            scored = scored._replace(near=near, first=first[slots])
        return self._best(query, scored, matches)

    def corpus(self, query: Query) -> Corpus:
        """What the query's words weigh here."""
        matcher = self._matcher(query, self._present(query))
        return matcher.corpus(query.words, mend_typos=query.tuning.mend_typos)

    # -- saving ------------------------------------------------------------------------------------------------------

    def scrub(self) -> None:
        """Leave no words of what was removed or replaced."""
        dead = ~self._column("live")
        if dead.any():
            self._drop(dead)

    def saved(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What ``restore`` needs: values as JSON has them, and arrays, which do not change any more."""
        values, arrays = self._saved()
        live = self._column("live").tolist()
        ids = [id if there else "" for id, there in zip(self._ids, live, strict=True)]
        arrays["ids"] = np.frombuffer("".join(ids).encode(), np.uint8)
        arrays["id lengths"] = np.array([len(id) for id in ids], np.int32)
        return values, arrays

    def restore(self, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what another one saved. Raises ``ValueError`` if it does not fit. ``fill`` comes next."""
        lengths = arrays["id lengths"].tolist()
        self._restore(values, arrays, len(lengths))
        text, at, self._ids = arrays["ids"].tobytes().decode(), 0, []
        for length in lengths:
            self._ids.append(text[at : at + length])
            at += length
        self._vectors = np.zeros((len(lengths), self._dim), np.float32)
        live = np.flatnonzero(self._column("live"))
        self._slot_of = dict(zip(self._column("row")[live].tolist(), live.tolist(), strict=True))

    def fill(self, vectors_of: Callable[[Sequence[int]], Mapping[int, bytes]]) -> set[int]:
        """Take the vectors, which are not saved; the rows that have none, or another number of them."""
        size, lacking, rows = 4 * self._dim, set[int](), list(self._slot_of)
        for start in range(0, len(rows), _FILLED):
            part = rows[start : start + _FILLED]
            found = {row: vector for row, vector in vectors_of(part).items() if vector and len(vector) == size}
            vectors = np.frombuffer(b"".join(found.values()), np.float32)
            self._vectors[[self._slot_of[row] for row in found]] = vectors.reshape(-1, self._dim)
            lacking.update(set(part) - found.keys())
        return lacking

    def _saved(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """All but vectors, codes and ids."""
        arrays = {f"column {name}": self._column(name) for name in self._columns}
        arrays |= {f"words {name}": array for name, array in self._postings.saved().items()}
        arrays |= {"links before": self._links.before[: self._used], "links after": self._links.after[: self._used]}
        for name in (*(f"column {name}" for name in self._IN_PLACE), "links before", "links after"):
            arrays[name] = arrays[name].copy()
        apart = np.empty(0, np.int64) if self._several is None else self._several.slots
        arrays["incomplete"] = self._column("row")[apart[self._column("live")[apart]]]
        return {"labels": dict(self._labels)}, arrays

    def _restore(self, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], slots: int) -> None:
        columns = {name: arrays[f"column {name}"] for name in self._columns}
        if {len(column) for column in columns.values()} != {slots}:
            raise ValueError(f"there are not {slots} records")
        self._columns = {name: np.asarray(column, self._columns[name].dtype) for name, column in columns.items()}
        self._used = slots
        self._labels = dict(values["labels"])
        self._postings.restore(part_of("words", arrays))
        self.incomplete = set(arrays["incomplete"].tolist())
        before, after = (np.asarray(arrays[f"links {name}"], np.int32) for name in ("before", "after"))
        last = np.flatnonzero(self._column("live") & (self._column("run") != 0) & (after < 0))
        self._links.restore(before, after, {self._run_of(int(slot)): int(slot) for slot in last})

    def _drop(self, dead: Bools) -> None:
        """Leave no words of some slots."""
        self._postings.drop(dead)
        if self._several is not None:
            self._several.scrub(dead)
        for name in ("length", "asks"):
            self._column(name)[dead] = 0

    # -- inside ------------------------------------------------------------------------------------------------------

    def _similarities(self, query: Query, vector: Vector) -> Vector:
        if query.batch is None or self._used < TOGETHER:
            return cosines(self._vectors[: self._used], vector)
        return query.batch.similarities(self._vectors, self._used)

    def _known(self, rows: Sequence[int]) -> bool:
        """Whether any of these records has a slot."""
        return not self._slot_of.keys().isdisjoint(rows)

    def _pop(self, row: int) -> int | None:
        """The slot of a record, which is no longer its slot; None if it has none."""
        return self._slot_of.pop(row, None)

    def _slot(self, row: int) -> int:
        """The slot of a record, -1 if it has none."""
        return self._slot_of.get(row, -1)

    def _put(self, entries: Sequence[Entry], vectors: Vector, start: int) -> None:
        """Keep what is no column: the vectors, the ids, which slot a record has."""
        self._vectors[start : start + len(entries)] = vectors
        self._ids += [entry.id for entry in entries]
        self._slot_of.update((entry.row, slot) for slot, entry in enumerate(entries, start))

    def _first_vectors(self, entries: Sequence[Entry], start: int) -> Vector:
        """The first vector of each entry; what is more, or less, is noted for the slots from ``start`` on."""
        size = 4 * self._dim
        if all(len(entry.vector) == size for entry in entries):
            vectors = np.frombuffer(b"".join([entry.vector for entry in entries]), np.float32)
            return vectors.reshape(len(entries), self._dim)
        if self._several is None:
            self._several = Several(self._dim)
        first = np.zeros((len(entries), self._dim), np.float32)
        first[:, 0] = 1  # of those that have none, so that it has a length; nobody asks for it
        for at, entry in enumerate(entries):
            vectors = np.frombuffer(entry.vector, np.float32).reshape(-1, self._dim)
            if len(vectors):
                first[at] = vectors[0]
            if len(vectors) != 1:
                self._several.add(start + at, vectors)
        return first

    def _nearest(self, query: Query) -> Nearest | None:
        """What the query finds beside first vectors; None where there is nothing else."""
        if self._several is None or query.vector is None:
            return None
        return self._several.nearest(query.vector, self._used)

    @staticmethod
    def _restrict(allowed: Bools, query: Query, matches: Matches | None, near: Nearest | None) -> None:
        """Take out what no word finds where one has to. Without a vector, a record is found by its words alone, and
        not where there is a floor."""
        if matches is not None and query.search.mode == "keyword":
            allowed &= matches.has_word
        if near is not None:
            findable = ~near.bare
            if matches is not None and query.search.min_similarity is None:
                findable |= matches.has_word
            allowed &= findable

    def _column(self, name: str) -> NDArray[Any]:
        return self._columns[name][: self._used]

    def _score(
        self, query: Query, present: Bools, slots: NDArray[np.intp], similarity: Vector | None, matches: Matches | None
    ) -> Scored:
        """Score some slots; ``similarity`` is theirs."""
        when = self._column("when")[slots]
        date = closeness(when, query.dates) if query.dates and query.lexical else None
        telling = self._telling(slots, present) if query.weigh_questions and query.lexical else None
        scores = scoring.score(
            query.search.mode,
            similarity=similarity,
            keyword=None if matches is None else matches.keyword[slots],
            date=date,
            telling=telling,
            when=when,
            importance=self._column("importance")[slots],
            rating=self._column("rating")[slots],
            now=query.measured_from,
            vector_weight=query.tuning.vector_weight,
            rank=query.search.rank,
        )
        return Scored(slots, similarity, scores, date, telling)

    def _best(self, query: Query, scored: Scored, matches: Matches | None) -> list[Candidate]:
        chosen = top(scored.scores.score, query.limit)
        slots = scored.slots[chosen]
        shares = None if matches is None else matches.shares(slots)
        date, telling = scored.date, scored.telling
        found = list[Candidate]()
        for n, (at, id) in enumerate(zip(chosen.tolist(), self._ids_of(slots), strict=True)):
            parts = None
            if shares is not None:
                parts = Parts(
                    *shares[n],
                    None if date is None else float(date[at]),
                    1.0 if telling is None else float(telling[at]),
                )
            found.append(self._candidate(scored, at, id, parts))
        return sorted(found, key=lambda c: (-c.score, c.id))[: query.limit]

    def _renew(self, entry: Entry) -> bool:
        """Whether a record is here at the same version, as after a rating or when a read has put its end off."""
        slot = self._slot_of.get(entry.row)
        if slot is None or self._columns["version"][slot] != entry.version:
            return False
        self._columns["expires"][slot] = NEVER if entry.expires_at is None else entry.expires_at
        self._columns["rating"][slot] = float("nan") if entry.rating is None else entry.rating
        return True

    def _candidate(self, scored: Scored, at: int, id: str, parts: Parts | None) -> Candidate:
        slot, scores, part = int(scored.slots[at]), scored.scores, None
        similarity = None if scored.similarity is None else float(scored.similarity[at])
        if self._several is not None and scored.near is not None and scored.first is not None:
            similarity = None if scored.near.bare[slot] else similarity
            part = self._several.part(slot, float(scored.first[at]), scored.near)
        return Candidate(
            float(scores.score[at]), id, int(self._columns["row"][slot]),
            int(self._columns["version"][slot]), similarity, float(scores.vector[at]), float(scores.keyword[at]),
            float(scores.recency[at]), float(scores.importance[at]), float(scores.rating[at]), parts, part,
        )  # fmt: skip

    def _take_texts(self, texts: Sequence[tuple[str, str]], start: int) -> None:
        """Words come in, of slots from ``start`` on: of each the text that they are looked for in, and its content."""
        self._take_words(texts, start)

    def _take_words(self, texts: Sequence[tuple[str, str]], start: int) -> None:
        found = [terms_and_length(words) for words, _ in texts]
        end = start + len(texts)
        self._columns["length"][start:end] = [length for _, length in found]
        self._columns["asks"][start:end] = [asking(content) for _, content in texts]
        self._postings.append([Counter(terms) for terms, _ in found], start)

    def _ids_of(self, slots: NDArray[np.intp]) -> list[str]:
        return [self._ids[slot] for slot in slots]

    def _run_of(self, slot: int) -> tuple[int, int, int]:
        columns = self._columns
        return int(columns["user"][slot]), int(columns["agent"][slot]), int(columns["run"][slot])

    def _present(self, query: Query) -> Bools:
        """Records that were there at the time that is searched; only these have a say as neighbours."""
        present = self._column("live") & (self._column("expires") > query.now)
        if query.search.as_of is not None:
            present &= self._column("created") <= query.search.as_of
        if query.hidden:
            slots = [slot for row in query.hidden if (slot := self._slot(row)) >= 0]
            present[slots] = False
        return present

    def _allowed(self, query: Query, present: Bools) -> Bools:
        column, allowed = self._column, present.copy()
        for name, value in (("agent", query.scope.agent), ("run", query.scope.run)):
            if value is not None:
                allowed &= column(name) == value
        for name, labels in (("kind", query.search.kinds), ("layer", query.search.layers)):
            if labels is not None:
                admitted = np.zeros(len(self._labels) + 1, np.bool_)
                admitted[[self._labels.get(label, -1) for label in labels]] = True
                admitted[-1] = False
                allowed &= admitted[column(name)]
        if query.search.since is not None:
            allowed &= column("when") >= query.search.since
        if query.search.until is not None:
            allowed &= column("when") < query.search.until
        if query.rows is not None:
            allowed &= np.isin(column("row"), query.rows)
        return allowed

    def _matcher(self, query: Query, present: Bools) -> Matcher:
        steps = self._links.steps(self._used, query.neighbours)
        return DenseMatcher(self._postings, self._column("live"), present, self._column("length"), steps)

    @staticmethod
    def _matches(query: Query, matcher: Matcher, statistics: Statistics | None) -> Matches:
        if statistics is None:
            statistics = matcher.statistics(query.words)
        return matcher.match(query.words, statistics, mend_typos=query.tuning.mend_typos)

    def _telling(self, slots: NDArray[np.intp], present: Bools) -> Vector:
        asks, before = self._column("asks"), self._links.before[slots]
        asked = np.where((before >= 0) & present[before], asks[before], np.float32(0))
        return scoring.telling(asks[slots], asked)

    def _code(self, label: str) -> int:
        return self._labels.setdefault(label, len(self._labels))

    def _codes(self, labels: Sequence[str]) -> int | list[int]:
        found = _single(labels)
        return self._code(found) if isinstance(found, str) else list(map(self._code, found))

    def _reserve(self, slots: int) -> None:
        held = len(self._columns["row"])
        if slots <= held:
            return
        size = max(slots, int(self._GROWTH * held))
        if len(self._vectors):
            self._vectors = grown(self._vectors, size)
        self._columns = {name: grown(column, size) for name, column in self._columns.items()}
        self._links.reserve(size)


def _single(values: Sequence[T]) -> T | Sequence[T]:
    """The values, or the one that they all are, as is usual: numpy fills a column with it in no time."""
    return values[0] if values.count(values[0]) == len(values) else values


def _filled(values: Sequence[T | None], instead: Iterable[T]) -> T | Sequence[T]:
    """What there is, and where there is nothing what comes at its place instead; as ``_single`` does."""
    if values.count(None) < len(values):
        return _single([other if value is None else value for value, other in zip(values, instead, strict=False)])
    return next(iter(instead)) if isinstance(instead, repeat) else _single(list(instead))


def top(scores: Vector, limit: int) -> NDArray[np.intp]:
    """Positions of the best ``limit`` scores in no order, with everything that ties with the last of them."""
    if len(scores) <= limit:
        return np.arange(len(scores))
    return np.flatnonzero(scores >= last_of(scores, limit))


def part_of(name: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays of one part, without its name before theirs."""
    return {key.removeprefix(f"{name} "): array for key, array in arrays.items() if key.startswith(f"{name} ")}
