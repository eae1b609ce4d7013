"""The arena of a large scope: vectors are codes, ids stay in libSQL, and words are matched where they occur.

Everything a search needs of a record but its text is a column, as in a small arena. Codes and words propose; what may
be among the best is scored from the vectors themselves, which are read for a few hundred records. So the answers are
those of a small arena, but for a vector that its code makes look far less similar than it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from agentmem.indexes.exact import cosines
from agentmem.indexes.fronts import Fronted
from agentmem.indexes.keywords import Statistics
from agentmem.retrieval import scoring
from agentmem.retrieval.arena import ROOM, Arena, part_of, top
from agentmem.retrieval.estimates import LEAST, Score, above, last_of, words_worth, worth_of
from agentmem.retrieval.held import Held
from agentmem.retrieval.living import Living
from agentmem.retrieval.masks import Masks
from agentmem.retrieval.matching import Matcher, Matches
from agentmem.retrieval.postings import lasting
from agentmem.retrieval.query import NEVER, Candidate, Query
from agentmem.retrieval.reading import READ
from agentmem.retrieval.several import Nearest
from agentmem.retrieval.sparse import SparseMatcher
from agentmem.retrieval.tiermap import TierMap
from agentmem.retrieval.unread import NOTHING, Unread
from agentmem.stores.records import Records
from agentmem.stores.rows import ScopeKey
from agentmem.types.clock import Micros
from agentmem.types.ports import Entry, VectorEngine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem.types.ports import Bools, Ints, Vector

PROPOSED = 1_000
"""Vectors that the codes propose, 10 for each hit that is wanted if that is more."""
FINALISTS = 400
"""Records whose vectors are read, 4 for each hit that is wanted if that is more: some 3 ms."""
_MANY = 1_000_000
"""Records beyond which as many are read as are proposed."""
_WIDER = 4
"""How many times as many are looked at where the first ones may not have been enough."""
_MARGIN = 0.1
"""How far a cosine told from codes may be from its own, where there is a floor for it."""
_ROUNDING = 1e-5
"""How far a cosine may be from itself, computed in another way."""
MOST_UNREAD = 16 * 1_048_576
"""Bytes of texts that wait for somebody to ask for their words."""


class LargeArena(Arena):
    """Not thread-safe: the owner holds a lock around each call."""

    ENGINE = "codes"
    _GROWTH = 1.2
    _IN_PLACE = ("live", "length", "asks")

    def __init__(
        self, dim: int, codes: VectorEngine, records: Records, key: Callable[[], ScopeKey | None], expected: int = 0
    ) -> None:
        """``key``: the wall as a scope, for SQL, as of now; ``expected``: about how many records there will be."""
        super().__init__(dim, lasting)
        self.codes = codes
        self._records = records
        self._vectors = np.empty((0, dim), np.float32)
        self._unread = Unread()
        """Texts whose words nobody has asked for yet."""
        self._ordered = self._top = 0
        """The first so many slots hold ascending rows, up to this one."""
        self._moved = dict[int, int]()
        """Slots of rows that are not among those, or that changed since."""
        self._count = 0
        self._living = Living()
        self._most = (0, 0.5, 3.0)
        """The greatest time, importance and rating that any record has had."""
        self._masks = Masks(records, key)
        self._overwritten: Ints = np.empty(0, np.int64)
        """Slots of what was erased, of which nothing is left in front of the codes either."""
        self.held: Held | None = None
        """While any record is hot or warm."""
        if expected:
            self._reserve(int(expected * ROOM))

    def __len__(self) -> int:
        return self._count

    @property
    @override
    def nbytes(self) -> int:
        held = 0 if self.held is None else self.held.nbytes
        further = self._masks.nbytes + self._unread.nbytes + 200 * len(self._moved) + held
        return self._common_bytes + self.codes.nbytes + further

    @property
    @override
    def kind(self) -> str:
        return self.codes.kind

    def rows(self) -> Ints:
        """A copy of the row of each slot, 0 where nothing is in it any more."""
        return np.where(self._column("live"), self._column("row"), 0)

    @override
    def upsert(self, entries: Sequence[Entry]) -> None:
        start = self._used
        super().upsert(entries)
        new = {name: self._columns[name][start : self._used] for name in ("when", "importance", "rating", "expires")}
        self._most = _greatest(self._most, new)
        self._living.add(new["expires"])

    def settle(self) -> None:
        """Code vectors that were added, and sort words in among the rest, where it is many of them; for whoever adds a
        great deal."""
        self.codes.settle()
        self._read()
        self._postings.sort(max(500_000, self._postings.size // 3))

    @override
    def scrub(self) -> None:
        """Leave nothing of what was removed or replaced: neither codes nor words. What stands in front of codes may
        keep what was not erased."""
        dead = ~self._column("live")
        if not dead.any():
            return
        self._unread.scrub(self._column("live"))
        numbers = np.flatnonzero(dead)
        if isinstance(self.codes, Fronted):
            rows, new = self._column("row")[numbers], ~np.isin(numbers, self._overwritten)
            kept = self._records.not_erased(rows[new].tolist())
            erased = numbers[new][~np.isin(rows[new], list(kept))]
            self.codes.blank(erased)
            self._overwritten = np.concatenate([self._overwritten, erased])
        self.codes.retire(numbers)
        self._masks.forget()
        if self.held is not None:
            self.held.scrub(dead)
        self._drop(dead)

    def hold(self, tiers: TierMap, most: int) -> bool:
        """Hold the vectors of these records, by row, as they are, and of no others; False if some are yet to come.

        ``most``: how many are read by one call.
        """
        if not tiers:
            self.held = None
            return True
        if self.held is None:
            self.held = Held(self._dim)
        held = self.held
        if held.tiers is not tiers:
            held.want(tiers)
        missing = held.missing()
        rows = [row for row in missing[:most].tolist() if self._slot(row) >= 0]
        found = self._records.vectors_of(rows)
        there = [row for row in rows if row in found]
        held.seen(missing[:most])  # what has no slot yet is put when it comes
        if there:
            vectors = np.frombuffer(b"".join(found[row] for row in there), np.float32).reshape(-1, self._dim)
            held.put(np.array(there, np.int64), np.array([self._slot(row) for row in there], np.int64), vectors)
        return len(missing) <= most

    @override
    def next_expiry(self, now: Micros) -> Micros:
        live, expires = self._column("live"), self._column("expires")
        first = self._living.first_expiry(live, expires)
        return first if first > now else int(expires.min(initial=NEVER, where=live & (expires > now)))

    # -- searching ---------------------------------------------------------------------------------------------------

    @override
    def search(self, query: Query, statistics: Statistics | None = None) -> list[Candidate]:
        # Where every slot is scored, or a word alone makes a hit of one, all words are wanted at once.
        puts_off = query.search.rank == "score" and self._several is None
        if query.search.mode == "keyword":
            puts_off &= query.vector is None and not query.dates
        found = self._search(query, statistics, puts_off=True) if puts_off else None
        if found is None:
            found = self._search(query, statistics, puts_off=False)
        return found or []

    def _search(self, query: Query, statistics: Statistics | None, *, puts_off: bool) -> list[Candidate] | None:
        """The hits; None if the words that are put off may decide which they are."""
        present = self._present(query)
        allowed = self._allowed(query, present)
        matches = None
        if query.lexical:
            matches = self._matches(query, self._matcher(query, present, puts_off=puts_off), statistics)
        near = self._nearest(query)
        if query.vector is None and matches is not None and matches.slack:
            slots = self._worth_completing(allowed, query, matches)
            return (
                None if slots is None else self._best(query, self._score(query, present, slots, None, matches), matches)
            )
        self._restrict(allowed, query, matches, near)
        if query.vector is None:
            slots = np.flatnonzero(allowed)
            if matches is not None and not query.dates:
                slots = slots[above(matches.keyword[slots], query.limit)]
            return self._best(query, self._score(query, present, slots, None, matches), matches)
        return self._search_near(query, query.vector, present, allowed, matches, near)

    @staticmethod
    def _worth_completing(allowed: Bools, query: Query, matches: Matches) -> NDArray[np.intp] | None:
        """Slots that may be among the best by words alone, completed; None if what was put off may decide."""
        keyword, sure = matches.keyword, allowed & matches.has_word
        if np.count_nonzero(sure) < query.limit:
            return None
        least = last_of(keyword[sure], query.limit) * LEAST
        if matches.slack >= least:
            return None
        # A word that neighbours lend makes no hit of a slot; one that was put off may.
        slots = np.flatnonzero(allowed & (keyword + np.float32(matches.slack) >= np.float32(least)))
        matches.complete(slots)
        return slots[matches.has_word[slots]]

    def _search_near(
        self,
        query: Query,
        vector: Vector,
        present: Bools,
        allowed: Bools,
        matches: Matches | None,
        beside: Nearest | None,
    ) -> list[Candidate]:
        """Propose, estimate what each scores, and read the vectors of those that may be among the best.

        One more is estimated than is read: it says what those that are left out score at most. Once more with more of
        each, where some of them may be better than the last hit.
        """
        there, many = int(np.count_nonzero(allowed)), self._used > _MANY
        near, most = max(PROPOSED, 10 * query.limit), max(PROPOSED if many else FINALISTS, 4 * query.limit)

        def score(slots: NDArray[np.intp], similar: Vector) -> Vector:
            return self._score(query, present, slots, similar, matches).scores.score

        held = self._held_best(query, vector, allowed, matches, beside, score) if there > FINALISTS else None
        again = True
        while True:
            if beside is None:
                slots, similar, unseen = self._proposals(query, vector, near, most + 1, there, allowed, matches, score)
            else:
                slots, similar, unseen = self._proposals_beside(
                    query, vector, near, most + 1, there, allowed, matches, score, beside
                )
            if matches is not None and query.search.rank == "score":
                worth = worth_of(query, slots, similar, matches, most + 1, score)
                slots, similar = slots[worth], similar[worth]
            sure = 0
            if held is not None:
                others = ~np.isin(slots, held[0])
                sure = len(held[0])
                slots = np.concatenate([held[0], slots[others]])
                similar = np.concatenate([held[1], similar[others]])
            estimated = score(slots, similar)
            left_out = (
                -np.inf if unseen is None else self._most_that(query, unseen, 0 if matches is None else matches.slack)
            )
            if len(slots) > most:
                order = np.argpartition(-estimated, most)
                left_out = max(left_out, float(estimated[order[most]]))
                kept = order[:most]
                if sure:
                    kept = np.union1d(kept, top(estimated[:sure], query.limit))
                slots, similar = slots[kept], similar[kept]
            first = exact = self._similarity(slots, similar, vector)
            if beside is not None:
                exact = np.maximum(first, beside.extra[slots])
                exact[beside.bare[slots]] = 0
            if (floor := query.search.min_similarity) is not None:
                passing = exact >= floor
                slots, exact, first = slots[passing], exact[passing], first[passing]
            scored = self._score(query, present, slots, exact, matches)._replace(near=beside, first=first)
            enough = len(slots) >= query.limit
            last = last_of(scored.scores.score, query.limit) if enough else -np.inf
            if left_out < last or left_out == -np.inf or (enough and not again):
                return self._best(query, scored, matches)
            again = False
            near, most = _WIDER * near, _WIDER * most

    def _held_best(
        self,
        query: Query,
        vector: Vector,
        allowed: Bools,
        matches: Matches | None,
        beside: Nearest | None,
        score: Score,
    ) -> tuple[NDArray[np.intp], Vector] | None:
        """Of what is held exactly, whatever may be a hit, with its cosine."""
        if self.held is None:
            return None
        slots, similar = self.held.nearest(vector, allowed)
        if beside is not None:
            similar = np.maximum(similar, beside.extra[slots])
            similar[beside.bare[slots]] = 0
        if (floor := query.search.min_similarity) is not None:
            passing = similar >= floor - _ROUNDING
            slots, similar = slots[passing], similar[passing]
        if query.search.rank == "similarity":
            worth = top(similar, query.limit)
        else:
            worth = worth_of(query, slots, similar, matches, query.limit, score)
        return slots[worth], similar[worth]

    def _proposals(
        self,
        query: Query,
        vector: Vector,
        near: int,
        wanted: int,
        there: int,
        allowed: Bools,
        matches: Matches | None,
        score: Score,
    ) -> tuple[NDArray[np.intp], Vector, float | None]:
        """Slots that may be among the best ``wanted`` and about their similarity, or the most that it can be; and the
        most that it can be of the slots that are left out, None if none of those can be a hit.
        """
        if there <= FINALISTS:
            return np.flatnonzero(allowed), np.ones(there, np.float32), None
        if query.batch is None:
            numbers, similar = self.codes.nearest(vector, near, allowed)
        else:
            numbers, similar = query.batch.nearest(self.codes, near, allowed)
        rest = float(similar[-1]) if len(numbers) < there else None
        floor = query.search.min_similarity
        if rest is None or (floor is not None and rest < floor - _MARGIN):
            return numbers, similar, None
        if query.search.mode == "vector" or matches is None:
            return numbers, similar, rest
        least = 0.0
        if query.search.mode == "hybrid" and query.search.rank == "score":
            least = words_worth(query, matches, allowed, rest, wanted, score)
        # A date alone may make a hit of a slot.
        everything = query.search.mode == "keyword" or (bool(query.dates) and not least)
        if everything:
            chosen = allowed
        else:
            chosen = allowed & (matches.keyword > np.float32(least))
            chosen[numbers] = True
        slots = np.flatnonzero(chosen)
        estimate = np.full(len(slots), rest, np.float32)
        estimate[np.searchsorted(slots, numbers)] = similar
        return slots, estimate, None if everything else rest

    def _proposals_beside(
        self,
        query: Query,
        vector: Vector,
        near: int,
        wanted: int,
        there: int,
        allowed: Bools,
        matches: Matches | None,
        score: Score,
        beside: Nearest,
    ) -> tuple[NDArray[np.intp], Vector, float | None]:
        """The same where records have further vectors, which are all compared, or none."""
        if there <= FINALISTS:
            return self._proposals(query, vector, near, wanted, there, allowed, matches, score)
        coded = allowed & ~beside.bare
        held = int(np.count_nonzero(coded))
        slots, similar, unseen = self._proposals(query, vector, near, wanted, held, coded, matches, score)
        others = float(similar.min(initial=1)) if unseen is None else unseen
        estimate = np.full(self._used, others, np.float32)
        estimate[slots] = similar
        estimate = np.maximum(estimate, beside.extra)
        estimate[beside.bare] = 0
        chosen = allowed & (beside.bare | (beside.extra >= -1))
        chosen[slots] = True
        found = np.flatnonzero(chosen)
        return found, estimate[found], unseen

    def _most_that(self, query: Query, similarity: float, keyword: float) -> float:
        """The most that a record can score that is no more similar than that, and whose keyword part is no more."""
        when, importance, rating = self._most
        found = scoring.score(
            query.search.mode,
            similarity=np.array([similarity], np.float32),
            keyword=np.array([keyword], np.float32),
            date=np.ones(1, np.float32) if query.dates and query.lexical else None,
            telling=None,
            when=np.array([when], np.int64),
            importance=np.array([importance], np.float32),
            rating=np.array([rating], np.float32),
            now=query.measured_from,
            vector_weight=query.tuning.vector_weight,
            rank=query.search.rank,
        )
        return float(found.score[0])

    def _similarity(self, slots: NDArray[np.intp], estimate: Vector, vector: Vector) -> Vector:
        """Cosines from the vectors in libSQL; the estimate where a record has just gone, as is seen when it is read."""
        rows = self._column("row")[slots]
        found = self._records.vectors_of(rows.tolist())
        exact = estimate.copy()
        if found:
            at = np.argsort(rows)
            held = np.fromiter(found, np.int64, len(found))
            vectors = np.frombuffer(b"".join(found.values()), np.float32).reshape(len(found), self._dim)
            exact[at[np.searchsorted(rows, held, sorter=at)]] = cosines(vectors, vector)
        return exact

    # -- inside ------------------------------------------------------------------------------------------------------

    @override
    def _present(self, query: Query) -> Bools:
        live = self._column("live")
        everything = query.search.as_of is None and not query.hidden
        if everything and self._living.first_expiry(live, self._column("expires")) > query.now:
            return live
        return super()._present(query)

    @override
    def _allowed(self, query: Query, present: Bools) -> Bools:
        allowed = super()._allowed(query, present)
        if query.search.condition is not None:
            allowed &= self._masks.of(query.search.condition, self._column("row"), self._column("live"))
        return allowed

    @override
    def _matcher(self, query: Query, present: Bools, *, puts_off: bool = False) -> Matcher:
        self._read()
        return SparseMatcher(
            self._postings,
            present,
            self._column("length"),
            (self._count, self._living.words),
            self._living.dead(self._column("live")),
            self._links,
            query.neighbours,
            puts_off=puts_off,
        )

    @override
    def _known(self, rows: Sequence[int]) -> bool:
        new = min(rows, default=0) > self._top and self._moved.keys().isdisjoint(rows)
        return not new and any(self._slot(row) >= 0 for row in rows)

    @override
    def _pop(self, row: int) -> int | None:
        slot = self._slot(row)
        if slot < 0:
            return None
        self._moved.pop(row, None)
        self._count -= 1
        self._living.remove(int(self._columns["length"][slot]), int(self._columns["expires"][slot]))
        return slot

    def _slot(self, row: int) -> int:
        """The slot of a record, -1 if it has none."""
        slot = self._moved.get(row)
        if slot is None and row <= self._top:
            rows = self._columns["row"][: self._ordered]
            at = int(np.searchsorted(rows, row))
            if rows[at] == row and self._columns["live"][at]:
                slot = at
        return -1 if slot is None else slot

    @override
    def _renew(self, entry: Entry) -> bool:
        return False  # masks rely on it that nothing in a slot changes

    @override
    def _put(self, entries: Sequence[Entry], vectors: Vector, start: int) -> None:
        self.codes.append(vectors)
        self._count += len(entries)
        rows = np.array([entry.row for entry in entries], np.int64)
        if self.held is not None:
            self.held.put(rows, np.arange(start, start + len(rows)), vectors)
        if self._ordered == start and rows[0] > self._top and (np.diff(rows) > 0).all():
            self._ordered += len(rows)
            self._top = int(rows[-1])
        else:
            self._moved.update(zip(rows.tolist(), range(start, start + len(rows)), strict=True))

    @override
    def _take_texts(self, texts: Sequence[tuple[str, str]], start: int) -> None:
        end = start + len(texts)
        self._columns["length"][start:end] = self._columns["asks"][start:end] = 0
        self._unread.add(texts, start)
        if self._unread.nbytes > MOST_UNREAD:
            self._read(MOST_UNREAD)

    def _read(self, most: int = 0) -> None:
        """Take the words of texts that were left for later, until so many bytes of those are left."""
        while self._unread.nbytes > most:
            texts, start = self._unread.pop(self._columns["live"])
            self._take_words(texts, start)
            self._living.words += int(self._columns["length"][start : start + len(texts)].sum(dtype=np.float64))

    @override
    def _ids_of(self, slots: NDArray[np.intp]) -> list[str]:
        rows = self._column("row")[slots].tolist()
        ids = self._records.ids_of(rows)
        return [ids.get(row, "") for row in rows]

    # -- saving ------------------------------------------------------------------------------------------------------

    @override
    def saved(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        values, arrays = self._saved()
        arrays |= {f"codes {name}": array for name, array in self.codes.saved().items()}
        unread = self._used if self._unread.first is None else self._unread.first
        return {**values, "ordered": self._ordered, "most": self._most, "unread": unread}, arrays

    @override
    def restore(self, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """The same, with nothing to fill: there are no vectors."""
        self.codes.restore(part_of("codes", arrays))
        self._restore(values, arrays, len(self.codes))
        self._ordered, self._most = int(values["ordered"]), tuple(values["most"])
        self._unread.clear()
        live, rows = self._column("live"), self._column("row")
        self._top = int(rows[self._ordered - 1]) if self._ordered else 0
        self._count = int(np.count_nonzero(live))
        self._living.recount(live, self._column("length"))
        moved = self._ordered + np.flatnonzero(live[self._ordered :])
        self._moved = dict(zip(rows[moved].tolist(), moved.tolist(), strict=True))
        for start in range(int(values["unread"]), self._used, READ):
            self._read_later(start, min(start + READ, self._used))

    def _read_later(self, start: int, end: int) -> None:
        """Take the texts of slots whose words nobody had asked for when they were saved."""
        rows, live = self._column("row")[start:end], self._column("live")[start:end]
        there = self._records.whole(self._records.entries_of(rows[live].tolist()))
        found = {entry.row: entry for piece in there for entry in piece}
        entries = [found.get(row) for row in rows.tolist()]
        self._unread.add([NOTHING if entry is None else (entry.words, entry.content) for entry in entries], start)


def _greatest(most: tuple[int, float, float], new: Mapping[str, NDArray[Any]]) -> tuple[int, float, float]:
    when, importance, rating = most
    return (
        max(when, int(new["when"].max(initial=0))),
        max(importance, float(np.fmax.reduce(new["importance"], initial=0.0))),
        max(rating, float(np.fmax.reduce(new["rating"], initial=0.0))),
    )
