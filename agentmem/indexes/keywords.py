"""Keyword search in scopes too large for memory: an FTS5 index inside libSQL that follows the feed.

It is kept only once some scope can be that large (``needed``), holds the same terms as the arenas do, and carries the
scope as numbered terms (``u7``), so that no id's text is ever tokenized. It only proposes candidates and counts; the
score is computed from the records themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from agentmem.retrieval.matching import Statistics
from agentmem.stores.connection import Connection
from agentmem.stores.repository import Repository
from agentmem.stores.rows import ScopeKey
from agentmem.text.question import Word
from agentmem.text.terms import terms

GROUP = 200
"""Changes indexed in one transaction: about 10 ms."""
PROPOSAL_POSTINGS = 20_000
"""Ranking costs time per matching record, so proposals use the rarest terms until they match this many."""
_APPLIED = "keywords_applied_seq"


def applied_seq(repository: Repository) -> int:
    """The last event that the index has seen."""
    return int(repository.meta(_APPLIED) or 0)


def needed(repository: Repository, limit: int) -> bool:
    """Whether the store is too large for every scope to be sure to fit into an arena."""
    return repository.count("r.state = 0", (), limit + 1) > limit


def apply_next(repository: Repository) -> int:
    """Index the next group of changes, inside a transaction; returns how many events that were."""
    seq = applied_seq(repository)
    events = repository.events_after(seq, GROUP)
    if not events:
        return 0
    db = repository.db
    rows = sorted({event[1] for event in events})
    totals: Counter[tuple[int, int, int]] = Counter()
    counts: Counter[tuple[int, int, int]] = Counter()
    scopes = {event[1]: (event[2], event[3], event[4]) for event in events}
    for row, length in list(db.select_in("SELECT row, terms FROM keyword_lengths WHERE row IN ({})", rows)):
        totals[scopes[row]] -= length
        counts[scopes[row]] -= 1
        db.execute("DELETE FROM keywords WHERE rowid = ?", (row,))
        db.execute("DELETE FROM keyword_lengths WHERE row = ?", (row,))
    postings = list[tuple[int, str, str]]()
    lengths = list[tuple[int, int]]()
    for stored in repository.find_rows(rows):
        if stored.state == 0:
            words = terms(stored.content)
            scope = (stored.user, stored.agent, stored.run)
            postings.append((stored.row, " ".join(_scope_terms(ScopeKey(*scope))), " ".join(words)))
            lengths.append((stored.row, len(words)))
            totals[scope] += len(words)
            counts[scope] += 1
    db.executemany("INSERT INTO keywords (rowid, scope, terms) VALUES (?,?,?)", postings)
    db.executemany("INSERT INTO keyword_lengths VALUES (?,?)", lengths)
    db.executemany(
        "INSERT INTO keyword_totals VALUES (?,?,?,?,?) ON CONFLICT DO UPDATE SET "
        "documents = documents + excluded.documents, terms = terms + excluded.terms",
        [(*scope, counts[scope], totals[scope]) for scope in counts],
    )
    db.execute("INSERT INTO keywords (keywords, rank) VALUES ('merge', 200)")
    repository.set_meta(_APPLIED, events[-1][0])
    return len(events)


def purge(db: Connection) -> None:
    """Merge the whole index, a little at a time, so that nothing of a removed record's terms is left in it."""
    pages = -500  # negative: begin a merge of everything, as 'optimize' would do in one go
    while True:
        before = db.execute("SELECT total_changes()")[0][0]
        db.execute("INSERT INTO keywords (keywords, rank) VALUES ('merge', ?)", (pages,))
        if db.execute("SELECT total_changes()")[0][0] - before < 2:
            return
        pages = 500


def rebuild(repository: Repository) -> None:
    """Empty the index, inside a transaction; it fills again from the start of the feed."""
    repository.db.execute("INSERT INTO keywords (keywords) VALUES ('delete-all')")
    repository.db.execute("DELETE FROM keyword_lengths")
    repository.db.execute("DELETE FROM keyword_totals")
    repository.set_meta(_APPLIED, 0)


def statistics(repository: Repository, scope: ScopeKey, words: Sequence[Word]) -> Statistics:
    """What BM25 must know of a scope."""
    conditions = [f"{name} = {value}" for name, value in zip(scope._fields, scope, strict=True) if value is not None]
    where = " AND ".join(conditions) or "1"
    documents, length = repository.db.execute(
        f"SELECT coalesce(sum(documents), 0), coalesce(sum(terms), 0) FROM keyword_totals WHERE {where}"
    )[0]
    containing = {word.term: _count(repository, scope, word.term) for word in words}
    similar = {
        word.term
        for word in words
        if word.similar and not containing[word.term] and _any(repository, scope, [term for term, _ in word.similar])
    }
    return Statistics(documents, length / documents if documents else 0.0, containing, frozenset(similar))


def propose(repository: Repository, scope: ScopeKey, containing: dict[str, int], wanted: int) -> tuple[list[int], bool]:
    """Rows of the scope that match best by FTS5's own ranking, and whether they are all that match any word."""
    chosen = list[str]()
    postings = 0
    known = sorted((count, word) for word, count in containing.items() if count)
    for count, word in known:
        if postings < wanted or postings + count <= PROPOSAL_POSTINGS:
            chosen.append(word)
            postings += count
    if not chosen:
        return [], True
    rows = repository.db.execute(
        "SELECT rowid FROM keywords WHERE keywords MATCH ? ORDER BY rank LIMIT ?", (_match(scope, chosen), wanted)
    )
    return [row[0] for row in rows], len(chosen) == len(known) and len(rows) < wanted


def _count(repository: Repository, scope: ScopeKey, word: str) -> int:
    return repository.db.execute("SELECT count(*) FROM keywords WHERE keywords MATCH ?", (_match(scope, [word]),))[0][0]


def _any(repository: Repository, scope: ScopeKey, words: Sequence[str]) -> bool:
    sql = "SELECT 1 FROM keywords WHERE keywords MATCH ? LIMIT 1"
    return bool(repository.db.execute(sql, (_match(scope, words),)))


def _match(scope: ScopeKey, words: Sequence[str]) -> str:
    """An FTS5 expression. Terms hold letters and digits only, and are quoted all the same."""
    wanted = "terms : (" + " OR ".join(f'"{word}"' for word in words) + ")"
    walls = [f'scope : "{term}"' for term in _scope_terms(scope)]
    return " AND ".join([*walls, wanted])


def _scope_terms(scope: ScopeKey) -> list[str]:
    return [f"{name[0]}{value}" for name, value in zip(scope._fields, scope, strict=True) if value is not None]
