"""A sweep: promote what is eligible, then expire what is due, then make room where a layer is too full.

It finds its records by index, so its cost grows with what was used and what is due, not with what is stored. Each batch
is one short transaction in which every record is read again and judged as it is by then: two processes that sweep at
once move a record once, and what a caller changes in between counts. A record moves at most once per sweep, so one
that has just been promoted is not expired by the layer it came to.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

from agentmem.lifecycle.expiry import promise, review, worth
from agentmem.lifecycle.pressure import EASED, HIGH, pressure
from agentmem.lifecycle.promotion import Verdict, judge
from agentmem.lifecycle.promotion_score import score
from agentmem.lifecycle.rules import DAY, HOUR, Rules
from agentmem.lifecycle.sessions import Sessions, Standing
from agentmem.stores import accounting, archived, erasure, meta, transitions
from agentmem.stores.records import Records
from agentmem.stores.rows import Place, Subject, Transition
from agentmem.stores.schema import EXPIRED, LIVE
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros, to_datetime
from agentmem.types.enums import EventType, Layer, Pressure
from agentmem.types.reports import Move, SweepReport

BATCH = 50
"""Records per transaction: two or three milliseconds, for which writers wait."""
SCAN = 2_000
"""Rows per read where a layer is searched for what to evict."""
SHOWN = 10_000
_DOWNWARDS = (Layer.ASSETS, Layer.INSIGHTS, Layer.INTERACT)


_BY_LAYER = "layer ttl"
_FOREVER = 2**52
"""After every time."""


class _Postponed(NamedTuple):
    """In place of a transition: the record belongs to a session that goes on, so its time in its layer begins anew."""

    subject: Subject
    begun: Micros


class _Wait(Enum):
    """In place of a transition: the record has moved in this sweep; the next one looks at it again."""

    LATER = "later"
    FROZEN = "frozen"
    """It is to be archived instead of expiring: at the end, outside of this transaction."""


Decision: TypeAlias = "Transition | _Postponed | Literal[_Wait.LATER, _Wait.FROZEN] | None"
Freeze: TypeAlias = "Callable[[Sequence[int]], int]"
"""Has records go to archives, by row, maybe none; how many did. May raise ``ArchiveError`` and below."""


class Sweep:
    """One sweep at ``now``. ``write(run, rows)`` runs something in a transaction; ``pause()`` comes between batches."""

    def __init__(
        self,
        records: Records,
        write: Callable[[Callable[[Repository], Any], int], Any],
        rules: Rules,
        *,
        now: Micros,
        vector_bytes: int,
        dry_run: bool = False,
        pause: Callable[[], object] = lambda: None,
        freeze: Freeze | None = None,
        over: Callable[[Sequence[Subject], Micros], object] = lambda subjects, now: None,
    ) -> None:
        """``over`` is told of those whose time in their layer has come to its end, in the transaction that says so."""
        self._records = records
        self._write = write
        self._rules = rules
        self._now = now
        self._vector = vector_bytes
        self._dry_run = dry_run
        self._pause = pause
        self._counts = Counter[EventType]()
        self._examined = 0
        self._blocked = set[int]()
        self._moves = list[Move]()
        self._freeze = freeze
        self._over = over
        self._frozen = dict[int, None]()
        self._moved = set[int]()
        """Rows that a dry run would have moved by now; a real one sees that by the records."""
        self._rows: Sequence[int] = ()
        self._standing: dict[int, Standing] | None = None
        """Of the rows at hand those whose session is not over; None before anybody has asked."""

    def run(self) -> SweepReport:
        """Do it all; see the module."""
        self._notice_changed_rules()
        self._promote_used()
        self._each(partial(transitions.promised, self._records.db, self._now), self._keep_promise)
        for layer in _DOWNWARDS:
            ttl = self._rules.ttl[layer]
            if ttl:
                self._review_all(layer, self._now - ttl)
        for layer in _DOWNWARDS:
            self._relieve(layer)
        self._erase_what_is_past_grace()
        # Last, so that a bucket that cannot be reached holds up nothing else; what is not archived stays as it is.
        frozen = len(self._frozen)
        if self._freeze is not None and not self._dry_run:
            frozen = self._freeze(list(self._frozen))
        count = self._counts
        return SweepReport(
            at=to_datetime(self._now),
            promoted=count[EventType.PROMOTE],
            expired=count[EventType.EXPIRE],
            evicted=count[EventType.EVICT],
            erased=count[EventType.ERASE],
            blocked=len(self._blocked),
            examined=self._examined,
            moves=tuple(self._moves),
            archived=frozen,
        )

    # -- walking -----------------------------------------------------------------------------------------------------

    def _each(
        self,
        find: Callable[[Place, int], list[Place]],
        decide: Callable[[Records, Subject], Decision],
    ) -> None:
        """Walk through what is due, a transaction for each batch."""
        at = transitions.START
        while found := find(at, BATCH):
            self._batch([row for _, row in found], decide)
            at = found[-1]

    def _review_all(self, layer: Layer, until: Micros) -> None:
        """Walk through a layer's queue, and take out what is dealt with or out of date."""
        at = transitions.START
        while found := accounting.aged(self._records.db, layer, until, at, BATCH):
            decide = partial(self._review, layer=layer)
            self._batch(list(dict.fromkeys(row for _, row in found)), decide, partial(_unqueue, layer, found))
            at = found[-1]

    def _promote_used(self) -> None:
        after = 0
        while rows := accounting.touched(self._records.db, after, BATCH):
            self._batch(rows, self._promote, partial(_seen, rows))
            after = rows[-1]

    def _batch(
        self,
        rows: Sequence[int],
        decide: Callable[[Records, Subject], Decision],
        also: Callable[[Repository, set[int], set[int]], object] | None = None,
    ) -> None:
        """Decide about the rows and do it, in one transaction, and count it once that is durable.

        ``also`` is told in that transaction which of the rows moved and which are to be looked at again.
        """

        def run(repository: Repository) -> tuple[list[Transition], set[int]]:
            chosen, blocked, later, postponed = self._decide(repository, rows, decide)
            transitions.apply(repository, chosen, self._now)
            self._over([one.subject for one in chosen if one.rule == _BY_LAYER], self._now)
            if also is not None:
                also(repository, {one.subject.row for one in chosen}, blocked | later)
            transitions.postpone(repository.db, [(one.subject.row, one.begun) for one in postponed])
            return chosen, blocked

        if self._dry_run:
            chosen, blocked, *_ = self._decide(self._records, rows, decide)
        else:
            chosen, blocked = self._write(run, len(rows))
        self._examined += len(rows)
        self._blocked.update(blocked)
        for one in chosen:
            self._counts[one.event] += 1
        if self._dry_run:
            self._moved.update(one.subject.row for one in chosen)
            self._moves += [_move(one) for one in chosen][: SHOWN - len(self._moves)]
        self._pause()

    def _decide(
        self, records: Records, rows: Sequence[int], decide: Callable[[Records, Subject], Decision]
    ) -> tuple[list[Transition], set[int], set[int], list[_Postponed]]:
        """What is to happen to the rows; which of them find no room, which have to wait for the next sweep, and which
        are looked at again when their session is over."""
        room = _Room(records, self._rules, self._vector)
        self._rows, self._standing = rows, None
        chosen, blocked, later = list[Transition](), set[int](), set[int]()
        postponed, frozen = list[_Postponed](), list[Subject]()
        for subject in transitions.subjects(records.db, rows):
            decision = decide(records, subject) if subject.state == LIVE else None
            if decision is _Wait.FROZEN:
                frozen.append(subject)
                later.add(subject.row)
            elif decision is _Wait.LATER:
                later.add(subject.row)
            elif isinstance(decision, _Postponed):
                postponed.append(decision)
            elif decision is not None and decision.layer is not None and not room.take(decision):
                blocked.add(subject.row)
            elif decision is not None:
                chosen.append(decision)
        self._keep_frozen(frozen)
        return chosen, blocked, later, postponed

    def _keep_frozen(self, found: Sequence[Subject]) -> None:
        self._frozen.update(dict.fromkeys(subject.row for subject in found))
        if self._dry_run:
            moves = [Move(one.id, EventType.ARCHIVE, Layer(one.layer), None, "layer ttl") for one in found]
            self._moves += moves[: SHOWN - len(self._moves)]

    # -- deciding ----------------------------------------------------------------------------------------------------

    def _promote(self, records: Records, subject: Subject) -> Decision:
        promised = promise(subject)
        if promised is not None and promised.at <= self._now:
            return None
        verdict = judge(subject, self._now, self._rules)
        if not verdict.eligible or verdict.target is None:
            return None
        if self._has_moved(records, subject):
            return _Wait.LATER
        data = {
            "from": subject.layer,
            "to": verdict.target,
            "gate": self._rules.gate,
            **verdict.data(),
            **_kinds(subject, verdict),
        }
        return Transition(subject, EventType.PROMOTE, "promotion", data, verdict.target, verdict.kind)

    def _keep_promise(self, records: Records, subject: Subject) -> Decision:
        at = promise(subject)
        if at is None or at.at > self._now:
            return None
        return Transition(subject, EventType.EXPIRE, at.rule, self._because(subject, at.at))

    def _review(self, records: Records, subject: Subject, layer: Layer) -> Decision:
        at = review(subject, self._rules)
        if at is None or at.at > self._now or subject.layer != layer or subject.row in self._moved:
            return None
        decision = self._promote(records, subject)
        if decision is not None:
            return decision
        if self._has_moved(records, subject):
            return _Wait.LATER
        session = self._session(records, subject.row)
        if session is not None:
            # It comes up again when the session is over as of now; one that never is is looked at once a day.
            again = self._now + max(DAY, self._rules.ttl[layer]) if session.end is None else session.end
            return _Postponed(subject, again - self._rules.ttl[layer])
        if self._freeze is not None and layer in self._rules.archived and self._may_leave(records, subject.row):
            return _Wait.FROZEN
        return Transition(subject, EventType.EXPIRE, at.rule, self._because(subject, at.at))

    def _has_moved(self, records: Records, subject: Subject) -> bool:
        """Whether it was promoted in this very sweep, maybe by another process.

        What is dated long after now was written while the clock was ahead, and is not waited for.
        """
        ahead = subject.updated_at - self._now
        return 0 <= ahead < HOUR and transitions.promoted_since(records.db, subject.row, self._now)

    def _session(self, records: Records, row: int) -> Standing | None:
        """How the session stands that one of the rows at hand belongs to."""
        if self._standing is None:
            self._standing = Sessions(records, self._now).of(self._rows)
        return self._standing.get(row)

    @staticmethod
    def _may_leave(records: Records, row: int) -> bool:
        return any(archived.may_leave(records, stored) for stored in records.find_rows([row]))

    def _because(self, subject: Subject, due_at: Micros) -> dict[str, Any]:
        verdict = judge(subject, self._now, self._rules)
        return {
            "from": subject.layer,
            "threshold": to_datetime(due_at).isoformat(),
            **verdict.data(),
            "lacks": [criterion.name for criterion in (*verdict.criteria, *verdict.required) if not criterion.met],
        }

    # -- making room -------------------------------------------------------------------------------------------------

    def _relieve(self, layer: Layer) -> None:
        """Note a layer's pressure; where it is high, evict what is worth least until it is not."""
        records, used, before = accounting.sizes(self._records.db)[layer]
        limit = self._rules.limit[layer]
        total = used + records * self._vector
        level = pressure(total / limit, Pressure(before))
        if level is Pressure.HIGH and self._rules.policy[layer] != "never":
            # Down to where the level ends, so that the layer is not searched again for each record added.
            self._evict(layer, total - round(limit * EASED[level]), total / limit)
            records, used, _ = accounting.sizes(self._records.db)[layer]
            level = pressure((used + records * self._vector) / limit, level)
        if level != before and not self._dry_run:
            self._write(lambda repository: accounting.note_pressure(repository.db, layer, level), 1)

    def _evict(self, layer: Layer, excess: int, share: float) -> None:
        chosen = self._least_worthy(layer, excess)
        for start in range(0, len(chosen), BATCH):
            worths = {row: value for value, row in chosen[start : start + BATCH]}
            decide = partial(self._evicted, layer=layer, worths=worths, share=share)
            self._batch(list(worths), decide)

    def _least_worthy(self, layer: Layer, excess: int) -> list[tuple[float, int]]:
        """``(worth, row)`` of the records that go first, as many as hold ``excess`` bytes; ties by age."""
        kept = list[tuple[float, int, int]]()  # a heap whose first is the worthiest: all of it negated
        held = 0
        for subject in self._all_of(layer):
            full = subject._replace(size=subject.size + self._vector)
            heapq.heappush(kept, (-worth(full, self._now, self._rules), -subject.row, full.size))
            held += full.size
            while held - kept[0][2] >= excess:
                held -= heapq.heappop(kept)[2]
        return sorted((-value, -row) for value, row, _ in kept)

    def _all_of(self, layer: Layer) -> Iterator[Subject]:
        at, sessions = transitions.START, Sessions(self._records, self._now)
        # What belongs to a session may be queued for a time to come.
        while found := accounting.aged(self._records.db, layer, _FOREVER, at, SCAN):
            for start in range(0, len(found), BATCH):
                part = {row: begun for begun, row in found[start : start + BATCH]}
                taken = {row for row, session in sessions.of(part).items() if session.open}
                for subject in transitions.subjects(self._records.db, part):
                    here = subject.state == LIVE and not subject.pinned and subject.layer == layer
                    here = here and subject.aged_from == part[subject.row] and subject.row not in taken
                    if here and subject.row not in self._moved:
                        yield subject
            self._examined += len(found)
            at = found[-1]
            self._pause()

    def _evicted(
        self, records: Records, subject: Subject, layer: Layer, worths: dict[int, float], share: float
    ) -> Decision:
        if subject.layer != layer or subject.pinned:
            return None
        session = self._session(records, subject.row)
        if session is not None and session.open:
            return None
        data = {
            "from": layer,
            "policy": self._rules.policy[layer],
            "worth": worths[subject.row],
            "used": round(share, 4),
            "threshold": HIGH,
            "components": score(subject, self._now, self._rules).to_dict(),
        }
        return Transition(subject, EventType.EVICT, "layer size", data)

    def _erase_what_is_past_grace(self) -> None:
        until = self._now - self._rules.grace
        at = transitions.START
        while found := transitions.past_grace(self._records.db, until, at, BATCH):
            rows = [row for _, row in found]
            if self._dry_run:
                self._counts[EventType.ERASE] += len(rows)
            else:
                self._counts[EventType.ERASE] += self._write(partial(_erase, rows, until, self._now), len(rows))
            self._examined += len(rows)
            at = found[-1]
            self._pause()

    def _notice_changed_rules(self) -> None:
        """Have everything that was ever used looked at again if other rules apply than in the last sweep."""
        rules, model = self._rules, self._rules.scorer.model
        noted = repr((rules.thresholds, rules.gate, rules.half_life, rules.frequent))
        if model is not None:
            noted += f" {model.version}"
        before = self._records.meta(meta.LIFECYCLE_RULES)
        if before == noted or self._dry_run:
            return
        after: int | None = 0 if before is not None else None
        while after is not None:
            after = self._write(partial(_touch_all, after), BATCH)
            self._pause()
        self._write(lambda repository: repository.set_meta(meta.LIFECYCLE_RULES, noted), 1)


class _Room:
    """What fits into layers that evict nothing, within one transaction."""

    def __init__(self, records: Records, rules: Rules, vector: int) -> None:
        self._vector = vector
        self._left = {
            layer: rules.limit[layer] - used - records * vector
            for layer, (records, used, _) in accounting.sizes(records.db).items()
            if rules.policy[layer] == "never"
        }

    def take(self, transition: Transition) -> bool:
        """Whether there is room for a record that moves; if so it is taken."""
        left = self._left.get(str(transition.layer))
        if left is None:
            return True
        left -= transition.subject.size + self._vector
        if left < 0:
            return False
        self._left[str(transition.layer)] = left
        return True


def _erase(rows: Sequence[int], until: Micros, now: Micros, repository: Repository) -> int:
    found = [item for item in repository.find_rows(rows) if item.state == EXPIRED and item.updated_at <= until]
    erasure.erase(repository, found, now, now + erasure.KEPT)
    return len(found)


def _unqueue(layer: Layer, found: Sequence[Place], repository: Repository, moved: set[int], left: set[int]) -> None:
    accounting.unqueue(repository.db, layer, [place for place in found if place[1] not in left])


def _seen(rows: Sequence[int], repository: Repository, moved: set[int], left: set[int]) -> None:
    # What has moved may move on at once.
    accounting.seen(repository.db, [row for row in rows if row not in moved and row not in left])


def _kinds(subject: Subject, verdict: Verdict) -> dict[str, Any]:
    return {} if verdict.kind == subject.kind else {"kind": subject.kind, "new_kind": verdict.kind}


def _touch_all(after: int, repository: Repository) -> int | None:
    return accounting.touch_all(repository.db, after, BATCH)


def _move(one: Transition) -> Move:
    layer = None if one.layer is None else Layer(one.layer)
    return Move(one.subject.id, one.event, Layer(one.subject.layer), layer, one.rule)
