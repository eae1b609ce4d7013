"""What a store must answer, worked out the slow and obvious way. Imports nothing from the package.

Records are plain objects in a list, times are datetimes, arithmetic is float64, and every search looks at everything.
The formulas are those of the documentation, written down a second time.
"""

from __future__ import annotations

import itertools
import json
import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from heapq import merge
from pathlib import Path
from typing import Any

import numpy as np
from filter_oracle import matches, stored
from oracle_words import forms, length, stemmed, terms

EVERYBODY = object()
"""As ``user``: every user's records."""
TOLERANCE = 1e-5
K1, B = 0.6, 0.5
VECTOR_WEIGHT, KEYWORD_WEIGHT = 0.3, 0.7
ASKING, UNASKED = 0.2, 0.05
BEFORE, AFTER, DECAY, NEIGHBOURS = 0.6, 0.4, 0.6, 4
SIMILAR, TYPO, STOP, SPELLED = 0.6, 0.8, 0.1, 0.3
_ENDS = ".!?\n\u3002\uff01\uff1f\u061f"
STOP_WORDS = frozenset("a in is not of or s she the to für".split())
"""Those of the package's function words that occur in queries here; a test holds the queries to it."""
SIMILAR_WORDS = Path(__file__).parent.parent / "agentmem" / "text" / "similar_words.npz"
TTL = {"interact": timedelta(hours=24), "insights": timedelta(days=90)}
GRACE = timedelta(days=30)
KEPT = timedelta(days=30)
LAYERS = ("interact", "insights", "assets")
NEXT = {"interact": "insights", "insights": "assets"}
BECOMES = {
    ("interact", "session_data"): "pattern",
    ("interact", "recent_query"): "learned_context",
    ("interact", "temporary_context"): "snippet",
    ("interact", "interaction"): "solution",
    ("insights", "pattern"): "code_documentation",
    ("insights", "learned_context"): "system_knowledge",
    ("insights", "snippet"): "best_practice",
    ("insights", "solution"): "core_concept",
}
SESSION_KINDS = ("session_data", "recent_query", "temporary_context", "interaction")
_numbers = itertools.count()


class Refused(Exception):
    """The operation must fail; the argument names the error that says so."""


@dataclass
class Scope:
    user: Any = None
    agent: str | None = None
    run: str | None = None


@dataclass
class State:
    """What a version of a record consists of."""

    content: str
    metadata: dict[str, Any]
    importance: float | None
    expires: datetime | None

    def replaced(self) -> dict[str, Any]:
        """The values as an event shows them that replaced them."""
        return {
            "content": self.content,
            "metadata": self.metadata or None,
            "importance": self.importance,
            "expires_at": self.expires and self.expires.isoformat(),
        }


@dataclass
class Event:
    name: str
    version: int
    at: datetime
    data: dict[str, Any] = field(default_factory=dict)


@dataclass
class Row:
    id: str | None
    scope: Scope
    role: str | None
    kind: str
    layer: str
    state: State
    created: datetime
    updated: datetime
    occurred: datetime | None
    dedupe: bool
    rating: float | None = None
    pinned: bool = False
    aged_from: datetime | None = None
    version: int = 1
    life: str = "live"
    versions: dict[int, State] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    key: int = field(default_factory=lambda: next(_numbers))
    """Stays with the row when it is copied."""

    def public(self) -> dict[str, Any]:
        """The fields that a caller sees."""
        return {
            "id": self.id,
            "content": self.state.content,
            "user_id": self.scope.user,
            "agent_id": self.scope.agent,
            "run_id": self.scope.run,
            "role": self.role,
            "kind": self.kind,
            "layer": self.layer,
            "metadata": self.state.metadata,
            "importance": self.state.importance,
            "rating": self.rating,
            "created_at": self.created,
            "updated_at": self.updated,
            "occurred_at": self.occurred,
            "expires_at": self.state.expires,
            "version": self.version,
            "pinned": self.pinned,
            "namespace": (),
            "key": None,
            "data": None,
            "embedding": "content",
            "archived": False,
            "sliding": None,
            "valid_from": None,
            "valid_to": None,
            "retired_at": None,
            "superseded_by": None,
        }


@dataclass
class Hit:
    id: str
    score: float
    similarity: float
    keyword: float
    recency: float


class Oracle:
    """A store as a list of rows."""

    def __init__(self, embed: Callable[[str], Sequence[float]], clock: Callable[[], datetime]) -> None:
        self.embed = embed
        self.clock = clock
        self.rows: list[Row] = []
        self.erasures: list[tuple[Any, datetime, int]] = []
        """Of users: who, when, how many records."""

    # -- reading -----------------------------------------------------------------------------------------------------

    def visible(self, row: Row) -> bool:
        return row.life == "live" and (row.state.expires is None or row.state.expires > self.clock())

    def within(self, scope: Scope | None) -> list[Row]:
        """Visible rows of a scope, in the order in which they were added; None means everybody's."""
        return [row for row in self.rows if self.visible(row) and admits(scope, row)]

    def listed(
        self,
        scope: Scope,
        filters: Mapping[str, Any] | None = None,
        kinds: Sequence[str] | None = None,
        layers: Sequence[str] | None = None,
    ) -> list[Row]:
        return [
            row
            for row in self.within(scope)
            if matches(row.state.metadata, filters, row.public())
            and (kinds is None or row.kind in kinds)
            and (layers is None or row.layer in layers)
        ]

    def happened(self, rows: list[Row]) -> list[Row]:
        """Rows in the order of adding, by the time of the event; what has no date stands where it was added."""
        plain = [(row.created, n, row) for n, row in enumerate(rows) if row.occurred is None]
        dated = sorted((row.occurred, n, row) for n, row in enumerate(rows) if row.occurred is not None)
        return [row for _, _, row in merge(plain, dated, key=lambda entry: entry[:2])]

    def departed(self, scope: Scope, why: str, filters: Mapping[str, Any] | None) -> list[Row]:
        """What was deleted, or has expired, and can come back, in the order in which it went."""
        now = self.clock()
        found = [
            row
            for row in self.rows
            if row.life == why
            and admits(scope, row)
            and matches(row.state.metadata, filters, row.public())
            and (row.state.expires is None or row.state.expires > now)
            and (why == "deleted" or row.updated + GRACE > now)
        ]
        return sorted(found, key=lambda row: row.updated)

    def find(self, id: str | None, bound: Scope | None = None, *, hidden_too: bool = False) -> Row:
        """The record with this id; ``hidden_too`` in any state, and if there is none what stays of an erased one."""
        there = [row for row in self.rows if row.id == id and admits(bound, row)]
        for row in there:
            if row.life not in ("erased", "gone") and (hidden_too or self.visible(row)):
                return row
        erased = [row for row in there if self.is_kept(row)]
        if not hidden_too or not erased:
            raise Refused("NotFoundError")
        return erased[-1]

    def is_kept(self, row: Row) -> bool:
        """Whether the row is what stays of an erased record for a while."""
        return row.life == "erased" and row.updated + KEPT > self.clock()

    def counts(self) -> dict[str, int]:
        return {life: sum(row.life == life for row in self.rows) for life in ("live", "deleted", "expired")} | {
            "events": sum(len(row.events) for row in self.rows) + len(self.erasures)
        }

    # -- writing -----------------------------------------------------------------------------------------------------

    def add(self, items: Iterable[Mapping[str, Any]]) -> list[tuple[str, Row, dict[str, Any]]]:
        """Each item's status, its row, and that row's fields right after it; the caller gives new rows their ids."""
        rows, outcomes = list(self.rows), []
        now = self.clock()
        for item in items:
            scope = Scope(item.get("user_id"), item.get("agent_id"), item.get("run_id"))
            content, role, id = item["content"], item.get("role"), item.get("id")
            kind = item.get("kind") or ("message" if role else "fact")
            plain = role is None and scope.run is None and id is None
            dedupe = plain if item.get("dedupe") is None else item["dedupe"]
            occurred, ttl = item.get("occurred_at"), item.get("ttl")
            expires = None if ttl is None else now + timedelta(seconds=ttl)
            layer = item.get("layer") or ("interact" if role or kind in SESSION_KINDS else "assets")
            same = [row for row in rows if id is not None and row.id == id and row.life not in ("erased", "gone")]
            if same:
                if not (self.visible(same[0]) and same[0].scope == scope and alike(same[0].state.content, content)):
                    raise Refused("ConflictError")
                if occurred not in (None, same[0].occurred):
                    raise Refused("ConflictError")
            elif dedupe:
                same = [
                    row
                    for row in rows
                    if self.visible(row)
                    and row.dedupe
                    and (row.scope, row.role, row.kind, row.occurred) == (scope, role, kind, occurred)
                    and alike(row.state.content, content)
                ]
            if same:
                at = next(n for n, row in enumerate(rows) if row is same[0])
                rows[at] = deepcopy(rows[at])  # a batch that is refused further on changes nothing
                refreshed = self._repeat(rows[at], layer, item, expires)
                outcomes.append(("refreshed" if refreshed else "duplicate", rows[at], rows[at].public()))
                continue
            state = State(content, stored(item.get("metadata") or {}), item.get("importance"), expires)
            row = Row(id, scope, role, kind, layer, state, now, now, occurred, dedupe)
            row.versions[1] = state
            row.events.append(Event("ADD", 1, now))
            rows.append(row)
            outcomes.append(("added", row, row.public()))
        self.rows = rows
        return [(status, next(row for row in rows if row.key == was.key), public) for status, was, public in outcomes]

    def _repeat(self, row: Row, layer: str, item: Mapping[str, Any], expires: datetime | None) -> bool:
        """What was added before is added again; whether that brought anything new."""
        old, given = row.state, stored(item.get("metadata") or {})
        row.aged_from = max(row.aged_from or row.created, self.clock())
        kept = {key: value for key, value in given.items() if key in old.metadata or value is not None}
        metadata = old.metadata | kept
        for key, value in kept.items():
            if value is None and old.metadata[key] is not None:
                del metadata[key]
        importance = old.importance if item.get("importance") is None else item["importance"]
        if old.expires is None or (expires is not None and expires < old.expires):
            expires = old.expires
        was = row.layer
        row.layer = max(row.layer, layer, key=LAYERS.index)
        data = {} if row.layer == was else {"layer": was}
        return self._change(row, State(old.content, metadata, importance, expires), "UPDATE", data=data)

    def update(
        self, id: str, changes: Mapping[str, Any], if_version: int | None = None, bound: Scope | None = None
    ) -> Row:
        row = self.find(id, bound)
        if if_version is not None and row.version != if_version:
            raise Refused("ConflictError")
        old = row.state
        metadata = dict(old.metadata)
        if "metadata" in changes:
            given = changes["metadata"]
            metadata = {} if given is None else metadata | stored(given)
            metadata = {key: value for key, value in metadata.items() if not (key in (given or {}) and value is None)}
        expires = old.expires
        if "ttl" in changes:
            expires = None if changes["ttl"] is None else self.clock() + timedelta(seconds=changes["ttl"])
        new = State(changes.get("content", old.content), metadata, changes.get("importance", old.importance), expires)
        self._change(row, new, "UPDATE")
        return row

    def delete(self, id: str, bound: Scope | None = None) -> bool:
        try:
            row = self.find(id, bound)
        except Refused:
            return False
        row.life = "deleted"
        self._event(row, "DELETE")
        return True

    def delete_all(self, scope: Scope, filters: Mapping[str, Any] | None, dry_run: bool) -> int:
        found = self.listed(scope, filters)
        if not dry_run:
            for row in found:
                self.delete(str(row.id))
        return len(found)

    def restore_all(self, scope: Scope, why: str, filters: Mapping[str, Any] | None, dry_run: bool) -> int:
        found = self.departed(scope, why, filters)
        if not dry_run:
            for row in found:
                self.restore(str(row.id))
        return len(found)

    def restore(self, id: str, version: int | None = None, bound: Scope | None = None) -> Row:
        row = self.find(id, bound, hidden_too=True)
        if row.life == "erased" or (row.state.expires is not None and row.state.expires <= self.clock()):
            raise Refused("NotFoundError")
        if row.life == "expired":
            if row.updated + GRACE <= self.clock():
                raise Refused("NotFoundError")
            row.aged_from = self.clock()
        if version is not None and version not in row.versions:
            raise Refused("NotFoundError")
        revived = row.life in ("deleted", "expired")
        row.life = "live"
        self._change(row, row.state if version is None else row.versions[version], "RESTORE", even_if_same=revived)
        return row

    def feedback(self, id: str, data: Mapping[str, Any], bound: Scope | None = None) -> None:
        row = self.find(id, bound)
        if data.get("rating") is not None:
            row.rating = data["rating"]
        kept = {key: value for key, value in data.items() if value is not None}
        row.events.append(Event("FEEDBACK", row.version, self.clock(), kept))

    def erase(self, id: str, bound: Scope | None = None) -> int:
        row = self.find(id, bound, hidden_too=True)
        if row.life == "erased":
            return 0
        self._erase(row)
        return 1

    def erase_all(self, user: Any) -> int:
        mine = [row for row in self.rows if row.scope.user == user]
        there = [row for row in mine if row.life not in ("erased", "gone")]
        kept = [row for row in mine if self.is_kept(row)]
        for row in there:
            self._erase(row)
        for row in (*there, *kept):
            row.life = "gone"
        if there or kept:
            self.erasures.append((user, self.clock(), len(there) + len(kept)))
        return len(there)

    def erase_scope(self, scope: Scope) -> int:
        there = [row for row in self.rows if row.life not in ("erased", "gone") and admits(scope, row)]
        for row in there:
            self._erase(row)
        return len(there)

    def _erase(self, row: Row) -> None:
        row.life = "erased"
        row.events = [Event(event.name, event.version, event.at) for event in row.events]
        self._event(row, "ERASE")

    # -- the lifecycle -----------------------------------------------------------------------------------------------

    def sweep(self) -> tuple[int, int, int]:
        """Nothing here is used often enough to be promoted; returns how many were promoted, expired, erased."""
        now = self.clock()
        expired = erased = 0
        for row in self.rows:
            if row.life == "expired" and row.updated + GRACE <= now:
                self._erase(row)
                erased += 1
            promised = row.state.expires is not None and row.state.expires <= now
            over = row.layer in TTL and not row.pinned and (row.aged_from or row.created) + TTL[row.layer] <= now
            if row.life == "live" and (promised or over):
                row.life = "expired"
                self._event(row, "EXPIRE")
                expired += 1
        return 0, expired, erased

    def move(self, id: str, name: str, bound: Scope | None = None) -> Row:
        row = self.find(id, bound)
        target = NEXT.get(row.layer) if name == "PROMOTE" else {b: a for a, b in NEXT.items()}.get(row.layer)
        if target is None:
            raise Refused("InvalidInputError")
        if name == "PROMOTE":
            row.kind = BECOMES.get((row.layer, row.kind), row.kind)
        row.layer, row.aged_from = target, self.clock()
        self._event(row, name)
        return row

    def pin(self, id: str, pinned: bool, bound: Scope | None = None) -> Row:
        row = self.find(id, bound)
        if row.pinned != pinned:
            row.pinned, row.aged_from = pinned, self.clock()
            row.events.append(Event("PIN" if pinned else "UNPIN", row.version, row.aged_from))
        return row

    def _change(
        self,
        row: Row,
        new: State,
        name: str,
        *,
        even_if_same: bool = False,
        data: Mapping[str, Any] | None = None,
    ) -> bool:
        was, becomes = row.state.replaced(), new.replaced()
        replaced = {name: was[name] for name in was if json.dumps(was[name]) != json.dumps(becomes[name])}
        replaced |= data or {}
        if replaced or even_if_same:
            row.state = new
            self._event(row, name, replaced)
        return bool(replaced)

    def _event(self, row: Row, name: str, data: dict[str, Any] | None = None) -> None:
        row.version += 1
        row.updated = self.clock()
        row.versions[row.version] = row.state
        row.events.append(Event(name, row.version, row.updated, data or {}))

    # -- searching ---------------------------------------------------------------------------------------------------

    def search(
        self,
        query: str,
        scope: Scope,
        *,
        mode: str = "hybrid",
        filters: Mapping[str, Any] | None = None,
        kinds: Sequence[str] | None = None,
        layers: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        as_of: datetime | None = None,
        min_similarity: float | None = None,
        mend_typos: bool = True,
    ) -> list[Hit]:
        """Everything that may be found, best first, ties by id. Queries name no dates."""
        now = self.clock()
        measured_from = now if as_of is None else min(now, as_of)
        keyword = self._keywords(query, scope, as_of, mend_typos)
        hits = []
        for row in self.listed(scope, filters, kinds, layers):
            when = row.occurred or row.created
            if (since is not None and when < since) or (until is not None and when >= until):
                continue
            if as_of is not None and row.created > as_of:
                continue
            similarity = cosine(self.embed(query), self.embed(row.state.content))
            words, has_word = keyword(row)
            if (mode == "keyword" and not has_word) or (min_similarity is not None and similarity < min_similarity):
                continue
            vector = min(1.0, max(0.0, similarity))
            base = {"vector": vector, "keyword": words, "hybrid": VECTOR_WEIGHT * vector + KEYWORD_WEIGHT * words}[mode]
            if mode != "vector":
                earlier = self._beside(row, -1, as_of)
                asked = asking(earlier[0].state.content) if earlier and earlier[0] is not None else 0.0
                base *= 1 - ASKING * asking(row.state.content) - UNASKED * (1 - asked)
            days = max(0.0, (measured_from - when).total_seconds() / 86_400)
            recency = 2 ** (-days / 30)
            importance = 0.5 if row.state.importance is None else row.state.importance
            rating = 0.5 if row.rating is None else (row.rating - 1) / 4
            bonus = 0.5 * recency + 0.3 * importance + 0.2 * rating
            hits.append(Hit(str(row.id), base * (0.9 + 0.1 * bonus), similarity, words, recency))
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))

    def _beside(self, row: Row, direction: int, as_of: datetime | None) -> list[Row | None]:
        """The next turns of the row's run in a direction; None for one that has expired or was not there yet."""
        if row.scope.run is None:
            return []
        run = [each for each in self.rows if each.life == "live" and each.scope == row.scope]
        at = next(n for n, each in enumerate(run) if each is row)
        turns = run[:at][::-1] if direction < 0 else run[at + 1 :]
        return [
            each if self.visible(each) and (as_of is None or each.created <= as_of) else None
            for each in turns[:NEIGHBOURS]
        ]

    def _keywords(
        self, query: str, scope: Scope, as_of: datetime | None, mend_typos: bool
    ) -> Callable[[Row], tuple[float, bool]]:
        """A row's keyword part, and whether it has a word of the query; statistics are those of the scope's wall."""
        behind = [row.state.content for row in self.rows if row.life == "live" and admits(wall(scope), row)]
        total, terms = len(behind), [words(text) for text in behind]
        mean = sum(map(length, behind)) / total if total else 1.0

        def containing(word: str) -> int:
            return sum(word in text for text in terms)

        def rarity(word: str) -> float:
            return math.log(1 + (total - containing(word) + 0.5) / (containing(word) + 0.5))

        asked = list[_Asked]()
        for form in forms(query):
            accented = bool(form.spelled) and not form.spelled.isascii()
            stop = form.light or (form.spelled if accented else form.term) in STOP_WORDS
            if all(form.term != each.word for each in asked):
                own = {form.term: 1.0} | form.others
                alike = {} if stop else dict(similar(form.term))
                known = any(containing(other) for other in own | alike)
                if not known and mend_typos and may_be_misspelled(form.folded, form.term):
                    own |= dict.fromkeys(one_edit_away(form.folded), TYPO)
                    known = any(containing(other) for other in own)
                asked.append(_Asked(form.term, rarity(form.term) if known else 0.0, stop, own, alike))
            if form.spelled and all(form.spelled != each.word for each in asked):
                worth = SPELLED * rarity(form.spelled) if containing(form.spelled) else 0.0
                asked.append(_Asked(form.spelled, worth, stop, {form.spelled: 1.0}, {}, form.term))
        for each in asked:
            each.worth *= STOP if each.stop else 1.0
            if any(other.spells == each.word and containing(other.word) for other in asked):
                each.worth *= 1 - SPELLED
        bound = sum(each.worth for each in asked)

        def scored(row: Row) -> tuple[float, bool]:
            near = [(row, 1.0)]
            for direction, weight in ((-1, BEFORE), (1, AFTER)):
                turns = self._beside(row, direction, as_of)
                near += [(turn, weight * DECAY**steps) for steps, turn in enumerate(turns) if turn is not None]
            texts = [(words(turn.state.content), weight) for turn, weight in near]
            heard_length = sum(weight * length(turn.state.content) for turn, weight in near)
            damping = K1 * (1 - B + B * heard_length / (mean or 1.0))
            found = 0.0
            for each in asked:
                heard = texts[:1] if each.stop else texts
                counts = each.alike | each.own
                frequency = sum(
                    weight * factor * text.count(other) for text, weight in heard for other, factor in counts.items()
                )
                found += each.worth * frequency / (frequency + damping) if frequency else 0.0
            has_word = any(word in texts[0][0] for each in asked for word in each.own)
            return (found / bound if bound else 0.0), has_word

        return scored


@dataclass
class _Asked:
    """A word of a query: what it is worth, the terms that are the word itself, those that mean about the same."""

    word: str
    worth: float
    stop: bool
    own: dict[str, float]
    alike: dict[str, float]
    spells: str = ""


def admits(scope: Scope | None, row: Row) -> bool:
    """Whether a row lies within a scope: the user is a wall, the other ids narrow."""
    if scope is None:
        return True
    return (
        (scope.user is EVERYBODY or row.scope.user == scope.user)
        and (scope.agent is None or row.scope.agent == scope.agent)
        and (scope.run is None or row.scope.run == scope.run)
    )


def alike(one: str, other: str) -> bool:
    """Whether two texts have the same words: composed or not, whatever the line ends, with blanks around or not."""
    plain = [unicodedata.normalize("NFC", "\n".join(text.split("\r\n"))) for text in (one, other)]
    return plain[0].strip() == plain[1].strip()


def wall(scope: Scope) -> Scope:
    """The scope whose words are counted: the user's; of records without a user the agent's, else the run's."""
    if scope.user is not None:
        return Scope(scope.user)
    if scope.agent is not None:
        return Scope(None, scope.agent)
    return Scope(None, None, scope.run)


@cache
def words(text: str) -> list[str]:
    """The terms of a text."""
    return terms(text)


@cache
def _similar_table() -> dict[str, dict[str, float]]:
    with np.load(SIMILAR_WORDS) as file:
        known = bytes(file["words"]).decode().split("\n")
        start, other, cosine = (file[name].tolist() for name in ("start", "other", "cosine"))
    table = dict[str, dict[str, float]]()
    for n, word in enumerate(known):
        pairs = zip(other[start[n] : start[n + 1]], cosine[start[n] : start[n + 1]], strict=True)
        table[word] = {known[o]: SIMILAR * (c / 255 - 0.5) / 0.5 for o, c in pairs if c / 255 > 0.5}
    return table


def similar(word: str) -> dict[str, float]:
    return _similar_table().get(word, {})


def may_be_misspelled(spelling: str, word: str) -> bool:
    known = word in _similar_table() or word in STOP_WORDS
    return 5 <= len(spelling) <= 20 and spelling.isalpha() and not known


def one_edit_away(spelling: str) -> set[str]:
    """Terms of every string that differs by one letter added, left out or changed, or by two swapped."""
    alphabets = ("abcdefghijklmnopqrstuvwxyz", "абвгдежзийклмнопрстуфхцчшщъыьэюяіїєґ", "αβγδεζηθικλμνξοπρστυφχψω")
    letters = set(spelling).union(*(alphabet for alphabet in alphabets if set(spelling) & set(alphabet)))
    found = set[str]()
    for n in range(len(spelling) + 1):
        found |= {spelling[:n] + letter + spelling[n:] for letter in letters}
        if n < len(spelling):
            found |= {spelling[:n] + letter + spelling[n + 1 :] for letter in letters}
            found.add(spelling[:n] + spelling[n + 1 :])
        if n + 1 < len(spelling):
            found.add(spelling[:n] + spelling[n + 1] + spelling[n] + spelling[n + 2 :])
    return {stemmed(each) for each in found} - {stemmed(spelling)}


def asking(text: str) -> float:
    """The share of a text's characters that belong to sentences that end in a question mark."""
    sentences, closing = [""], True
    for char in text:
        if char in _ENDS:
            closing = True
            if not sentences[-1]:
                continue  # punctuation before anything was said
        elif closing and not char.isspace():
            sentences.append("")
            closing = False
        sentences[-1] += char
    asked = [sentence for sentence in sentences if sentence.rstrip().endswith(("?", "\uff1f", "\u061f"))]
    return sum(map(len, asked)) / (sum(map(len, sentences)) or 1)


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    a, b = [float(x) for x in left], [float(x) for x in right]
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def check_hits(hits: Sequence[Any], expected: Sequence[Hit], limit: int) -> None:
    """The hits are the best ``limit`` of what was expected, in that order, up to ties within the tolerance."""
    assert len(hits) == min(limit, len(expected)), f"{len(hits)} hits instead of {min(limit, len(expected))}"
    assert len({hit.id for hit in hits}) == len(hits)
    scores = {hit.id: hit for hit in expected}
    assert {hit.id for hit in hits} <= scores.keys(), "found what must not be found"
    for hit, in_its_place in zip(hits, expected, strict=False):
        own = scores[hit.id]
        assert close(hit.score, own.score), f"{hit} should have scored {own}"
        assert close(hit.score, in_its_place.score), f"{hit} is in the place of {in_its_place}"
        assert hit.similarity is None or close(hit.similarity, own.similarity), f"{hit} is similar by {own}"
        assert 0 <= hit.score <= 1
    assert list(hits) == sorted(hits, key=lambda hit: (-hit.score, hit.id))


def close(one: float, other: float) -> bool:
    return abs(one - other) <= TOLERANCE
