"""Keyword search in scopes too large for memory: an FTS5 index inside libSQL that follows the feed.

It is kept only once some scope can be that large (``needed``), holds the same terms as the arenas do, and carries the
scope as numbered terms (``u7``), so that no id's text is ever tokenized. It only proposes candidates and counts; the
score is computed from the records themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from typing_extensions import override

from agentmem.stores import bodies, meta
from agentmem.stores.commit import GroupCommit, Task, Write
from agentmem.stores.connection import Connection
from agentmem.stores.records import LIVE_ONLY, Records
from agentmem.stores.rows import ScopeKey
from agentmem.stores.schema import LIVE
from agentmem.stores.writes import Repository
from agentmem.text.question import Word
from agentmem.text.terms import VERSION, terms_and_length
from agentmem.types.ports import FeedCopy, FeedEvent

GROUP = 200
"""Changes indexed in one transaction: about 10 ms."""
PROPOSAL_POSTINGS = 20_000
"""Ranking costs time per matching record, so proposals use the rarest terms until they match this many."""
_COLUMNS = ("user", "agent", "run")
_OWNERS = 200
"""Namespaces that are named by one expression."""
_WIDE = tuple((sign, chr(ord(sign) + 0xFEE0)) for sign in "+#.$-")
"""Signs are indexed at full width, which no term has: FTS5 would take the plain ones for blanks, and C++ for c."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What BM25 must know of a scope: its records, their mean length in terms, how many have each of the query's terms,
    and which of the terms that none has are there in a similar one, or as if they were misspelled."""

    documents: int
    mean_length: float
    containing: dict[str, int]
    similar: frozenset[str] = frozenset()
    mended: frozenset[str] = frozenset()


class KeywordIndex(FeedCopy):
    """The index of one store. Reads on the reading connection, writes through the process's one writer."""

    def __init__(self, records: Records, commits: GroupCommit) -> None:
        self._records = records
        self._commits = commits

    @property
    @override
    def name(self) -> str:
        return "keywords"

    @property
    @override
    def group(self) -> int:
        return GROUP

    def needed(self, limit: int) -> bool:
        """Whether the store is too large for every scope to be sure to fit into an arena."""
        return self._records.count(LIVE_ONLY, (), limit + 1) > limit

    @override
    def applied_seq(self) -> int:
        return _applied(self._records)

    def drop_outdated(self) -> None:
        """Empty the index if an older version of the package made it; it is made again where it is needed."""
        if _is_outdated(self._records) and self._records.meta(meta.KEYWORDS_APPLIED):
            self.reset()

    @override
    def apply(self, events: Sequence[FeedEvent], after: int) -> None:
        self._commits.submit(Write(partial(_index, events, after), rows=GROUP), background=True).result()

    @override
    def check(self) -> list[str]:
        applied, db = self.applied_seq(), self._records.db
        if not applied:
            return []
        # What changes meanwhile is not the index's fault.
        settled = "row NOT IN (SELECT row FROM history WHERE seq > ?)"
        missing = db.execute(
            f"SELECT count(*) FROM records WHERE state = {LIVE} AND row NOT IN (SELECT row FROM keyword_lengths) "
            f"AND {settled}", (applied,),
        )[0][0]  # fmt: skip
        extra = db.execute(
            f"SELECT count(*) FROM keyword_lengths WHERE row NOT IN (SELECT row FROM records WHERE state = {LIVE}) "
            f"AND {settled}", (applied,),
        )[0][0]  # fmt: skip
        return [f"{self.name}: {missing} records are missing and {extra} are left over"] if missing or extra else []

    @override
    def reset(self) -> None:
        self._commits.submit(Write(_empty)).result()

    def purge(self) -> None:
        """Merge the whole index, a little at a time, so that nothing of a removed record's terms is left in it."""
        self._commits.submit(Task(_merge)).result()

    def statistics(self, scope: ScopeKey, words: Sequence[Word]) -> Statistics:
        """What BM25 must know of a scope."""
        documents = length = 0
        for part in _parts(scope):
            where = " AND ".join(
                f"{name} IN ({', '.join(map(str, numbers))})" for name, numbers in part.items() if numbers
            )
            found = self._records.db.execute(
                f"SELECT coalesce(sum(documents), 0), coalesce(sum(terms), 0) FROM keyword_totals WHERE {where or '1'}"
            )[0]
            documents, length = documents + found[0], length + found[1]
        wanted = dict.fromkeys(term for word in words for term in (word.term, *(other for other, _ in word.variants)))
        containing = {term: self._count(scope, term) for term in wanted}
        similar = {
            word.term
            for word in words
            if not containing[word.term]
            and (
                any(containing[term] for term, _ in word.variants)
                or (word.similar and self._any(scope, [term for term, _ in word.similar]))
            )
        }
        return Statistics(documents, length / documents if documents else 0.0, containing, frozenset(similar))

    def propose(self, scope: ScopeKey, containing: dict[str, int], wanted: int) -> tuple[list[int], bool]:
        """Rows of the scope that match best by FTS5's own ranking, and whether they are all that match any word."""
        chosen, postings = list[str](), 0
        known = sorted((count, word) for word, count in containing.items() if count)
        for count, word in known:
            if postings < wanted or postings + count <= PROPOSAL_POSTINGS:
                chosen.append(word)
                postings += count
        if not chosen:
            return [], True
        sql = "SELECT rowid FROM keywords WHERE keywords MATCH ? ORDER BY rank LIMIT ?"
        found = [self._records.db.execute(sql, (expression, wanted)) for expression in _matches(scope, chosen)]
        every = len(chosen) == len(known) and all(len(rows) < wanted for rows in found)
        return [row[0] for rows in found for row in rows], every

    def _count(self, scope: ScopeKey, word: str) -> int:
        sql = "SELECT count(*) FROM keywords WHERE keywords MATCH ?"
        return sum(self._records.db.execute(sql, (expression,))[0][0] for expression in _matches(scope, [word]))

    def _any(self, scope: ScopeKey, words: Sequence[str]) -> bool:
        sql = "SELECT 1 FROM keywords WHERE keywords MATCH ? LIMIT 1"
        return any(self._records.db.execute(sql, (expression,)) for expression in _matches(scope, words))


def _applied(records: Records) -> int:
    return 0 if _is_outdated(records) else int(records.meta(meta.KEYWORDS_APPLIED) or 0)


def _is_outdated(records: Records) -> bool:
    """Whether what the index holds was made by other rules than those of this version."""
    return int(records.meta(meta.KEYWORDS_TERMS) or 1) != VERSION


def _index(events: Sequence[FeedEvent], after: int, repository: Repository) -> None:
    """Index what changed, inside a transaction; nothing if the index is no longer where it was."""
    if _applied(repository) != after:
        return
    if _is_outdated(repository):
        _empty(repository)
    db = repository.db
    rows = sorted({event.row for event in events if not event.touch})
    totals: Counter[tuple[int, int, int]] = Counter()
    counts: Counter[tuple[int, int, int]] = Counter()
    scopes = {event.row: (event.owner, event.agent, event.run) for event in events}
    for row, length in list(db.select_in("SELECT row, terms FROM keyword_lengths WHERE row IN ({})", rows)):
        totals[scopes[row]] -= length
        counts[scopes[row]] -= 1
        db.execute("DELETE FROM keywords WHERE rowid = ?", (row,))
        db.execute("DELETE FROM keyword_lengths WHERE row = ?", (row,))
    postings, lengths = list[tuple[int, str, str]](), list[tuple[int, int]]()
    live = [stored for stored in repository.find_rows(rows) if stored.state == LIVE]
    texts = repository.texts((stored.row, stored.vectors, stored.body) for stored in live)
    for stored in live:
        beside = bodies.beside(stored.content, texts.get(stored.row, ()))
        terms, length = terms_and_length(f"{stored.content}\n{beside}" if beside else stored.content)
        scope = (stored.space or stored.user, stored.agent, stored.run)
        named = " ".join(f"{name[0]}{number}" for name, number in zip(_COLUMNS, scope, strict=True))
        postings.append((stored.row, named, _encoded(" ".join(terms))))
        lengths.append((stored.row, length))
        totals[scope] += length
        counts[scope] += 1
    db.executemany("INSERT INTO keywords (rowid, scope, terms) VALUES (?,?,?)", postings)
    db.executemany("INSERT INTO keyword_lengths VALUES (?,?)", lengths)
    db.executemany(
        "INSERT INTO keyword_totals VALUES (?,?,?,?,?) ON CONFLICT DO UPDATE SET "
        "documents = documents + excluded.documents, terms = terms + excluded.terms",
        [(*scope, counts[scope], totals[scope]) for scope in counts],
    )
    db.executemany(
        "DELETE FROM keyword_totals WHERE user = ? AND agent = ? AND run = ? AND documents = 0", list(scopes.values())
    )
    db.execute("INSERT INTO keywords (keywords, rank) VALUES ('merge', 200)")
    repository.set_meta(meta.KEYWORDS_APPLIED, events[-1].seq)


def _empty(repository: Repository) -> None:
    repository.db.execute("INSERT INTO keywords (keywords) VALUES ('delete-all')")
    repository.db.execute("DELETE FROM keyword_lengths")
    repository.db.execute("DELETE FROM keyword_totals")
    repository.set_meta(meta.KEYWORDS_APPLIED, 0)
    repository.set_meta(meta.KEYWORDS_TERMS, VERSION)


def _merge(db: Connection) -> None:
    pages = -500  # negative: begin a merge of everything, as 'optimize' would do in one go
    while True:
        before = db.execute("SELECT total_changes()")[0][0]
        db.execute("INSERT INTO keywords (keywords, rank) VALUES ('merge', ?)", (pages,))
        if db.execute("SELECT total_changes()")[0][0] - before < 2:
            return
        pages = 500


def _matches(scope: ScopeKey, words: Sequence[str]) -> list[str]:
    """FTS5 expressions that match each record of the scope with any of the words once. Terms hold no quotation marks,
    and are quoted."""
    wanted = "terms : (" + " OR ".join(f'"{_encoded(word)}"' for word in words) + ")"
    found = list[str]()
    for part in _parts(scope):
        named = [[f'"{name[0]}{number}"' for number in numbers] for name, numbers in part.items() if numbers]
        found.append(" AND ".join([*(f"scope : ({' OR '.join(terms)})" for terms in named), wanted]))
    return found


def _parts(scope: ScopeKey) -> list[dict[str, tuple[int, ...]]]:
    """The numbers by which records of a scope are known, by column (empty: any), so many at a time as FTS5 takes."""
    owners = scope.owners
    chunks = [()] if owners is None else [owners[at : at + _OWNERS] for at in range(0, len(owners), _OWNERS)]
    others = [() if number is None else (number,) for number in (scope.agent, scope.run)]
    return [dict(zip(_COLUMNS, (chunk, *others), strict=True)) for chunk in chunks]


def _encoded(terms: str) -> str:
    for sign, wide in _WIDE:
        terms = terms.replace(sign, wide)
    return terms
