"""What callers do with single records: explain, promote, demote, pin, unpin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from agentmem.lifecycle.expiry import Due, due
from agentmem.lifecycle.promotion import Criterion, judge
from agentmem.lifecycle.rules import NEXT, PREVIOUS, Rules
from agentmem.lifecycle.sessions import Sessions
from agentmem.operations.glacier import once_here, thaw
from agentmem.operations.read import must_find, record
from agentmem.stores import accounting, transitions
from agentmem.stores.past import WAS
from agentmem.stores.rows import Stored, Subject, Transition, kept, not_found, visible
from agentmem.stores.schema import ARCHIVED, DELETED, ERASED, EXPIRED, LIVE
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros, to_datetime
from agentmem.types.enums import EventType, Layer
from agentmem.types.errors import InvalidInputError
from agentmem.types.inputs import Scope
from agentmem.types.records import HistoryEvent, MemoryRecord
from agentmem.types.reports import Explanation, Requirement

if TYPE_CHECKING:
    from agentmem.engine.engine import Engine

_BY_HAND = "by hand"
"""The rule of what callers ask for."""
_STATE = {LIVE: "live", DELETED: "deleted", EXPIRED: "expired", ARCHIVED: "archived"}
_PLACING = ("ADD", "PROMOTE", "DEMOTE", "DELETE", "EXPIRE", "EVICT", "RESTORE")
"""Events that bring a record to where it is; and so does an UPDATE that moved it, since it was added again."""


def explain(engine: Engine, id: str, scope: Scope | None) -> Explanation:
    """See ``Memory.lifecycle.explain``. What this process has noted of its use is written down first."""
    engine.lifecycle.write_down()
    stored = must_find(engine, id, scope, any_state=True)
    if stored.state == ERASED:
        raise not_found(id)
    [subject] = transitions.subjects(engine.repository.db, [stored.row])
    now, rules = engine.now(), engine.lifecycle.rules
    events = engine.repository.history(stored.row, id)
    event = [event for event in events if event.event in _PLACING or _moved(event)][-1]
    verdict = judge(subject, now, rules)
    criteria = (*verdict.criteria, *verdict.required)
    missing = verdict.required if rules.gate == "any" and any(c.met for c in verdict.criteria) else criteria
    coming = _due(engine, subject, now) if subject.state == LIVE else None
    restorable = subject.state == EXPIRED and (subject.expires_at is None or subject.expires_at > now)
    return Explanation(
        id=id,
        state=_STATE[subject.state] if subject.state != LIVE or visible(stored, now) else "expired",
        layer=Layer(subject.layer),
        kind=subject.kind,
        pinned=bool(subject.pinned),
        since=event.at,
        because=_because(event),
        accesses=subject.accesses,
        first_access=None if subject.first_at is None else to_datetime(subject.first_at),
        last_access=None if subject.last_at is None else to_datetime(subject.last_at),
        score=verdict.total,
        components=verdict.score.to_dict(),
        target_layer=verdict.target,
        target_kind=None if verdict.target is None else verdict.kind,
        eligible=verdict.eligible and subject.state == LIVE,
        gate=rules.gate,
        scorer="formula" if verdict.learned is None else verdict.learned.version,
        requirements=tuple(Requirement(*criterion, criterion.met) for criterion in criteria),
        lacks=_lacks(subject, missing),
        due_at=None if coming is None else to_datetime(coming.at),
        due_rule=None if coming is None else coming.rule,
        restorable_until=to_datetime(subject.updated_at + rules.grace) if restorable else None,
    )


def _due(engine: Engine, subject: Subject, now: Micros) -> Due | None:
    """When a record's time is over, that of its session included."""
    coming = due(subject, engine.lifecycle.rules)
    if coming is None or coming.rule == "ttl":
        return coming
    session = Sessions(engine.repository, now).of([subject.row]).get(subject.row)
    if session is None or (session.end is not None and session.end <= coming.at):
        return coming
    return None if session.end is None else Due(session.end, "session")


def _lacks(subject: Subject, criteria: tuple[Criterion, ...]) -> tuple[str, ...]:
    names = dict.fromkeys(criterion.name for criterion in criteria if not criterion.met)
    return (*names, *(["unpinned"] if subject.pinned and Layer(subject.layer) in NEXT else []))


def _moved(event: HistoryEvent) -> bool:
    return event.event == EventType.UPDATE and "layer" in event.data


def _because(event: HistoryEvent) -> str:
    data = event.data
    if _moved(event):
        return f"moved up from {data['layer']} when it was added again"
    if event.event == EventType.ADD:
        return "added"
    if event.event in (EventType.PROMOTE, EventType.DEMOTE):
        return f"{event.event.lower()}d from {data.get('from')} {_by(data)}, score {data.get('score')}"
    if event.event in (EventType.EXPIRE, EventType.EVICT):
        word = "expired" if event.event == EventType.EXPIRE else "evicted"
        return f"{word} from {data.get('from')} {_by(data)}, threshold {data.get('threshold')}"
    return f"{event.event.lower()}d"


def _by(data: Mapping[str, Any]) -> str:
    rule = data.get("rule")
    return _BY_HAND if rule == _BY_HAND else f"by {rule}"


def promote(engine: Engine, id: str, scope: Scope | None) -> MemoryRecord:
    """Move a record up a layer, whatever its score."""
    return _move(engine, id, scope, EventType.PROMOTE)


def demote(engine: Engine, id: str, scope: Scope | None) -> MemoryRecord:
    """Move a record down a layer."""
    return _move(engine, id, scope, EventType.DEMOTE)


def pin(engine: Engine, id: str, scope: Scope | None) -> MemoryRecord:
    """Keep a record where it is."""
    return _change(engine, id, scope, partial(_pin, pinned=True))


def unpin(engine: Engine, id: str, scope: Scope | None) -> MemoryRecord:
    """Let the rules have a record again."""
    return _change(engine, id, scope, partial(_pin, pinned=False))


def _change(
    engine: Engine, id: str, scope: Scope | None, run: Callable[[Repository, Subject, Micros, Rules], object]
) -> MemoryRecord:
    engine.check_writable()
    engine.lifecycle.write_down()
    engine.check()
    key = engine.key(scope, anywhere=True)

    def write(repository: Repository) -> Stored:
        now = engine.now()
        stored = None if key is None else repository.find_by_id(id, key)
        if stored is None or not kept(stored, now):
            raise not_found(id)
        repository.check_here([stored])
        [subject] = transitions.subjects(repository.db, [stored.row])
        run(repository, subject, now, engine.lifecycle.rules)
        [changed] = repository.find_rows([stored.row])
        return changed

    return record(engine, once_here(lambda: thaw(engine, [id], scope), lambda: engine.write(write)))


def _move(engine: Engine, id: str, scope: Scope | None, event: EventType) -> MemoryRecord:
    def run(repository: Repository, subject: Subject, now: Micros, rules: Rules) -> None:
        verdict = judge(subject, now, rules)
        up = event is EventType.PROMOTE
        target = (NEXT if up else PREVIOUS).get(Layer(subject.layer))
        if target is None:
            end = "highest" if up else "lowest"
            raise InvalidInputError(f"record {id!r} is in the {end} layer already, {subject.layer}", field="id")
        kind = verdict.kind if up else subject.kind
        data: dict[str, Any] = {"from": subject.layer, "to": target, **verdict.data()}
        if kind != subject.kind:
            data |= {"kind": subject.kind, "new_kind": kind}
        data |= {WAS: {"aged_from": subject.aged_from}}
        transitions.apply(repository, [Transition(subject, event, _BY_HAND, data, target, kind)], now)
        transitions.renew(repository.db, subject.row, now)

    return _change(engine, id, scope, run)


def _pin(repository: Repository, subject: Subject, now: Micros, rules: Rules, *, pinned: bool) -> None:
    if bool(subject.pinned) == pinned:
        return
    event = EventType.PIN if pinned else EventType.UNPIN
    data = {"rule": _BY_HAND, "layer": subject.layer, "components": judge(subject, now, rules).score.to_dict()}
    data |= {WAS: {"aged_from": subject.aged_from}}
    transitions.renew(repository.db, subject.row, now, pinned=pinned)
    transitions.note(repository, subject, event, now, data)
    accounting.touch(repository.db, [subject.row])
