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
from typing import Any, Literal, TypeAlias

from agentmem.lifecycle import table
from agentmem.lifecycle.expiry import promise, review, worth
from agentmem.lifecycle.pressure import EASED, HIGH, pressure
from agentmem.lifecycle.promotion import Verdict, judge
from agentmem.lifecycle.subject import Rules, Subject
from agentmem.stores.repository import Repository
from agentmem.stores.schema import EXPIRED, LIVE
from agentmem.types.clock import Micros, to_datetime
from agentmem.types.enums import EventType, Layer, Pressure
from agentmem.types.reports import Move, SweepReport

BATCH = 50
"""Records per transaction: two or three milliseconds, for which writers wait."""
SCAN = 2_000
"""Rows per read where a layer is searched for what to evict."""
SHOWN = 10_000
RULES = "lifecycle_rules"
"""In ``meta``: the promotion rules of the last sweep; after a change everything used is looked at once more."""
_DOWNWARDS = (Layer.ASSETS, Layer.INSIGHTS, Layer.INTERACT)


class _Wait(Enum):
    """In place of a step: the record has moved in this sweep; the next one looks at it again."""

    LATER = "later"


Decision: TypeAlias = "table.Step | Literal[_Wait.LATER] | None"


class Sweep:
    """One sweep at ``now``. ``write(run, rows)`` runs something in a transaction; ``pause()`` comes between batches."""

    def __init__(
        self,
        repository: Repository,
        write: Callable[[Callable[[Repository], Any], int], Any],
        rules: Rules,
        now: Micros,
        vector_bytes: int,
        *,
        dry_run: bool = False,
        pause: Callable[[], object] = lambda: None,
    ) -> None:
        self._repository = repository
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
        self._moved = set[int]()
        """Rows that a dry run would have moved by now; a real one sees that by the records."""

    def run(self) -> SweepReport:
        """Do it all; see the module."""
        self._notice_changed_rules()
        self._promote_used()
        self._each(partial(table.promised, self._repository, self._now), self._keep_promise)
        for layer in _DOWNWARDS:
            ttl = self._rules.ttl[layer]
            if ttl:
                self._review_all(layer, self._now - ttl)
        for layer in _DOWNWARDS:
            self._relieve(layer)
        self._erase_what_is_past_grace()
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
        )

    # -- walking -----------------------------------------------------------------------------------------------------

    def _each(
        self,
        find: Callable[[table.Place, int], list[table.Place]],
        decide: Callable[[Repository, Subject], Decision],
    ) -> None:
        """Walk through what is due, a transaction for each batch."""
        at = table.START
        while found := find(at, BATCH):
            self._batch([row for _, row in found], decide)
            at = found[-1]

    def _review_all(self, layer: Layer, until: Micros) -> None:
        """Walk through a layer's queue, and take out what is dealt with or out of date."""
        at = table.START
        while found := table.aged(self._repository, layer, until, at, BATCH):
            decide = partial(self._review, layer=layer)
            self._batch(list(dict.fromkeys(row for _, row in found)), decide, partial(_unqueue, layer, found))
            at = found[-1]

    def _promote_used(self) -> None:
        after = 0
        while rows := table.touched(self._repository, after, BATCH):
            self._batch(rows, self._promote, partial(_seen, rows))
            after = rows[-1]

    def _batch(
        self,
        rows: Sequence[int],
        decide: Callable[[Repository, Subject], Decision],
        also: Callable[[Repository, set[int], set[int]], object] | None = None,
    ) -> None:
        """Decide about the rows and do it, in one transaction, and count it once that is durable.

        ``also`` is told in that transaction which of the rows moved and which are to be looked at again.
        """

        def run(repository: Repository) -> tuple[list[table.Step], set[int]]:
            room = _Room(repository, self._rules, self._vector)
            steps, blocked, later = list[table.Step](), set[int](), set[int]()
            for subject in table.subjects(repository, rows):
                step = decide(repository, subject) if subject.state == LIVE else None
                if step is _Wait.LATER:
                    later.add(subject.row)
                elif step is not None and step.layer is not None and not room.take(step):
                    blocked.add(subject.row)
                elif step is not None:
                    steps.append(step)
            if not self._dry_run:
                table.apply(repository, steps, self._now)
                if also is not None:
                    also(repository, {step.subject.row for step in steps}, blocked | later)
            return steps, blocked

        steps, blocked = run(self._repository) if self._dry_run else self._write(run, len(rows))
        self._examined += len(rows)
        self._blocked.update(blocked)
        for step in steps:
            self._counts[step.event] += 1
        if self._dry_run:
            self._moved.update(step.subject.row for step in steps)
            self._moves += [_move(step) for step in steps][: SHOWN - len(self._moves)]
        self._pause()

    # -- deciding ----------------------------------------------------------------------------------------------------

    def _promote(self, repository: Repository, subject: Subject) -> Decision:
        promised = promise(subject)
        if promised is not None and promised.at <= self._now:
            return None
        verdict = judge(subject, self._now, self._rules)
        if not verdict.eligible or verdict.target is None:
            return None
        if subject.updated_at >= self._now and table.promoted_since(repository, subject.row, self._now):
            return _Wait.LATER
        data = {
            "from": subject.layer,
            "to": verdict.target,
            "gate": self._rules.gate,
            **verdict.data(),
            **_kinds(subject, verdict),
        }
        return table.Step(subject, EventType.PROMOTE, "promotion", data, verdict.target, verdict.kind)

    def _keep_promise(self, repository: Repository, subject: Subject) -> Decision:
        at = promise(subject)
        if at is None or at.at > self._now:
            return None
        return table.Step(subject, EventType.EXPIRE, at.rule, self._because(subject, at.at))

    def _review(self, repository: Repository, subject: Subject, layer: Layer) -> Decision:
        at = review(subject, self._rules)
        if at is None or at.at > self._now or subject.layer != layer or subject.row in self._moved:
            return None
        decision = self._promote(repository, subject)
        if decision is not None:
            return decision
        # Promoted in this very sweep, maybe by another process.
        if subject.updated_at >= self._now and table.promoted_since(repository, subject.row, self._now):
            return _Wait.LATER
        return table.Step(subject, EventType.EXPIRE, at.rule, self._because(subject, at.at))

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
        records, used, before = table.sizes(self._repository)[layer]
        limit = self._rules.limit[layer]
        total = used + records * self._vector
        level = pressure(total / limit, Pressure(before))
        if level is Pressure.HIGH and self._rules.policy[layer] != "never":
            # Down to where the level ends, so that the layer is not searched again for each record added.
            self._evict(layer, total - round(limit * EASED[level]), total / limit)
            records, used, _ = table.sizes(self._repository)[layer]
            level = pressure((used + records * self._vector) / limit, level)
        if level != before and not self._dry_run:
            self._write(lambda repository: table.note_pressure(repository, layer, level), 1)

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
        at = table.START
        while found := table.aged(self._repository, layer, self._now, at, SCAN):
            for start in range(0, len(found), BATCH):
                part = {row: begun for begun, row in found[start : start + BATCH]}
                for subject in table.subjects(self._repository, part):
                    here = subject.state == LIVE and not subject.pinned and subject.layer == layer
                    if here and subject.aged_from == part[subject.row] and subject.row not in self._moved:
                        yield subject
            self._examined += len(found)
            at = found[-1]
            self._pause()

    def _evicted(
        self, repository: Repository, subject: Subject, layer: Layer, worths: dict[int, float], share: float
    ) -> Decision:
        if subject.layer != layer or subject.pinned:
            return None
        data = {
            "from": layer,
            "policy": self._rules.policy[layer],
            "worth": worths[subject.row],
            "used": round(share, 4),
            "threshold": HIGH,
            "components": judge(subject, self._now, self._rules).score.to_dict(),
        }
        return table.Step(subject, EventType.EVICT, "layer size", data)

    def _erase_what_is_past_grace(self) -> None:
        until = self._now - self._rules.grace
        at = table.START
        while found := table.past_grace(self._repository, until, at, BATCH):
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
        noted = repr((self._rules.thresholds, self._rules.gate, self._rules.half_life, self._rules.frequent))
        before = self._repository.meta(RULES)
        if before == noted or self._dry_run:
            return
        after: int | None = 0 if before is not None else None
        while after is not None:
            after = self._write(partial(table.touch_all, after=after, most=BATCH), BATCH)
            self._pause()
        self._write(lambda repository: repository.set_meta(RULES, noted), 1)


class _Room:
    """What fits into layers that evict nothing, within one transaction."""

    def __init__(self, repository: Repository, rules: Rules, vector: int) -> None:
        self._vector = vector
        self._left = {
            layer: rules.limit[layer] - used - records * vector
            for layer, (records, used, _) in table.sizes(repository).items()
            if rules.policy[layer] == "never"
        }

    def take(self, step: table.Step) -> bool:
        """Whether there is room for a record that moves; if so it is taken."""
        left = self._left.get(str(step.layer))
        if left is None:
            return True
        left -= step.subject.size + self._vector
        if left < 0:
            return False
        self._left[str(step.layer)] = left
        return True


def _erase(rows: Sequence[int], until: Micros, now: Micros, repository: Repository) -> int:
    found = [item for item in repository.find_rows(rows) if item.state == EXPIRED and item.updated_at <= until]
    repository.erase_rows(found, now)
    return len(found)


def _unqueue(
    layer: Layer, found: Sequence[table.Place], repository: Repository, moved: set[int], left: set[int]
) -> None:
    table.unqueue(repository, layer, [place for place in found if place[1] not in left])


def _seen(rows: Sequence[int], repository: Repository, moved: set[int], left: set[int]) -> None:
    # What has moved may move on at once.
    table.seen(repository, [row for row in rows if row not in moved and row not in left])


def _kinds(subject: Subject, verdict: Verdict) -> dict[str, Any]:
    return {} if verdict.kind == subject.kind else {"kind": subject.kind, "new_kind": verdict.kind}


def _move(step: table.Step) -> Move:
    subject = step.subject
    return Move(
        subject.id, step.event, Layer(subject.layer), None if step.layer is None else Layer(step.layer), step.rule
    )
