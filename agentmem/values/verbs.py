"""What can be done with values: functions of the engine and of arguments that were checked, as ``operations`` are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

from agentmem.engine.engine import Engine
from agentmem.operations import change, read
from agentmem.stores import chunks, keys, placements
from agentmem.stores.rows import Patch, Stored, kept
from agentmem.types.clock import Micros, to_datetime
from agentmem.types.data import parsed
from agentmem.types.enums import EventType
from agentmem.types.errors import AgentMemError, ConflictError, NotFoundError, StoreCorruptError
from agentmem.types.inputs import Draft, Scope
from agentmem.types.records import HistoryEvent, MemoryRecord
from agentmem.types.valueinfo import ValueHead, ValueInfo, ValueTier, ValueUsage, ValueVersion
from agentmem.types.valuekeys import ATTACHMENTS
from agentmem.values import glance, kinds, moving, packing, reading, writing
from agentmem.values.holding import holding_of
from agentmem.values.moving import Placing

_VERSIONED = ("ADD", "UPDATE", "RESTORE")
_ATTEMPTS = 5
"""How often a value is moved that is changed while it is."""


def put(
    engine: Engine, scope: Scope, items: Sequence[tuple[Draft, object]], placing: Placing, *, as_pickle: bool
) -> list[ValueInfo]:
    """Store values, each with the draft of its record: see ``Memory.values.put_many``."""
    tier, hold = placing
    moving.check(engine, tier, [draft for draft, _ in items])

    def encode(value: object) -> Callable[[], kinds.Encoded]:
        return lambda: kinds.encode(value, as_pickle=as_pickle)

    made = writing.put(engine, scope, [(draft, encode(value)) for draft, value in items], tier if hold else None)
    found = [(one.stored, parsed(str(one.data))[chunks.MARK]) for one in made]
    if tier is not None:
        found = moving.into(engine, found, tier)
    return [_info(engine, stored, about, scope) for stored, about in found]


def get(
    engine: Engine,
    key: str,
    scope: Scope,
    default: Any,
    part: tuple[int | None, int | None] | None,
    *,
    pickled: bool,
    device: bool,
    touch: bool,
) -> Any:
    """A value, or a part of it: see ``Memory.values.get``."""
    found = _find(engine, key, scope, chunk=part is None)
    if found is None:
        return default
    stored, about = found.stored, found.about
    if about["kind"] == kinds.PICKLE and not pickled:
        raise kinds.is_pickle()
    holding = holding_of(engine)
    if touch:
        read.used(engine, stored, engine.now())
    try:
        content = holding.content(found, whole=part is None and about["kind"] != kinds.STREAM)
        if device and part is None and (there := holding.on_device(stored, about)) is not None:
            return there
        if part is None and about["kind"] == kinds.STREAM:
            return reading.opened(content, int(about["size"]))
        if part is not None:
            return kinds.decode_part(about, content, *part)
        return kinds.decode(about, content, pickled=pickled)
    except AgentMemError:
        raise
    except (LookupError, TypeError, ValueError, OSError) as exc:
        if about["kind"] == kinds.PICKLE:
            raise  # whatever is in it
        raise _no_such_kind(stored, exc) from exc


def open_stream(engine: Engine, key: str, scope: Scope, *, touch: bool) -> BinaryIO:
    """A value's bytes as a file: see ``Memory.values.open``."""
    found = _find(engine, key, scope)
    if found is None:
        raise _absent(key)
    if touch:
        read.used(engine, found.stored, engine.now())
    return reading.opened(holding_of(engine).content(found, whole=False), int(found.about["size"]))


def head(engine: Engine, key: str, scope: Scope, limit: int, *, touch: bool) -> ValueHead:
    """The first rows of a value: see ``Memory.values.head``."""
    found = _find(engine, key, scope)
    if found is None:
        raise _absent(key)
    if touch:
        read.used(engine, found.stored, engine.now())
    try:
        return glance.head(found.about, holding_of(engine).content(found, whole=False), limit)
    except AgentMemError:
        raise
    except (LookupError, TypeError, ValueError, OSError) as exc:
        raise _no_such_kind(found.stored, exc) from exc


def info(engine: Engine, key: str, scope: Scope) -> ValueInfo | None:
    """What a value is."""
    found = _find(engine, key, scope)
    return None if found is None else _info(engine, found.stored, found.about, scope)


def exists(engine: Engine, key: str, scope: Scope) -> bool:
    """Whether there is a value with this key."""
    return reading.find(engine, key, scope) is not None


def listed(engine: Engine, prefix: str, after: str | None, limit: int, scope: Scope) -> list[ValueInfo]:
    """The next values whose keys begin so, by key."""
    engine.check()
    now, found = engine.now(), list[Stored]()
    while len(found) < limit:
        page = keys.listed(engine.repository, engine.key(scope), prefix, after, limit, archived=True)
        found += (stored for stored in page if stored.expires_at is None or stored.expires_at > now)
        if len(page) < limit:
            break
        after = str(page[-1].key)
    return infos(engine, found[:limit], scope)


def ids_of(engine: Engine, key: str, scope: Scope) -> list[str]:
    """The records that have, or had, a key. Raises ``NotFoundError`` for none."""
    engine.check()
    found = keys.everything_of(engine.repository, key, engine.key(scope))
    if not found:
        raise _absent(key)
    return [stored.id for stored in found]


def versions(engine: Engine, key: str, scope: Scope) -> list[ValueVersion]:
    """What a value has been: see ``Memory.values.versions``."""
    stored = reading.find(engine, key, scope)
    if stored is None:
        raise _absent(key)
    events = _events(engine, stored)
    body, made, said = stored.body, list[ValueVersion](), reading.every_description(engine, stored)
    for event in reversed(events):
        about = None if body is None else said.get(body)
        kind, size = (None, None) if about is None else (about["kind"], int(about["size"]))
        made.append(ValueVersion(event.version, EventType(event.event), event.at, kind, size))
        body = event.data.get("body", body)
    return made[::-1]


def restore(engine: Engine, key: str, version: int | None, scope: Scope) -> ValueInfo:
    """Go back to a version: see ``Memory.values.restore``."""
    last = None
    while True:
        stored = reading.find(engine, key, scope)
        if stored is None:
            raise _absent(key)
        if version is not None and version not in [each.version for each in _events(engine, stored)]:
            raise NotFoundError(f"the value with the key {key!r} has no version {version}; versions() lists them")
        try:
            change.restore(engine, stored.id, version, scope)
        except ConflictError:
            if stored.id == last:
                raise
            last = stored.id  # it was deleted since it was found, and another one has the key
            continue
        found = info(engine, key, scope)
        if found is None:
            raise _absent(key)
        return found


def _events(engine: Engine, stored: Stored) -> list[HistoryEvent]:
    return [each for each in engine.repository.history(stored.row, stored.id) if each.event in _VERSIONED]


def carry(engine: Engine, record: MemoryRecord, keys: Sequence[str], scope: Scope | None) -> None:
    """Have a record that is at its version carry values. Raises ``ConflictError`` if it is not."""
    patch = Patch(
        {}, metadata_merge={ATTACHMENTS: list(keys)}, metadata_limit=engine.settings.max_metadata_bytes,
        if_version=record.version,
    )  # fmt: skip
    change.update(engine, record.id, patch, scope)


def move(engine: Engine, key: str, scope: Scope, placing: Placing) -> ValueInfo:
    """Have a value lie elsewhere: see ``Memory.values.move``."""
    for left in reversed(range(_ATTEMPTS)):
        found = _find(engine, key, scope)
        if found is None:
            raise _absent(key)
        try:
            moving.move(engine, found.stored, found.about, *placing)
            break
        except ConflictError:
            if not left:
                raise
    found = _find(engine, key, scope)
    if found is None:
        raise _absent(key)
    return _info(engine, found.stored, found.about, scope)


def compress(engine: Engine, key: str, scope: Scope, level: int) -> int:
    """Pack a value anew: see ``Memory.values.compress``."""
    stored = reading.find(engine, key, scope)
    if stored is None:
        raise _absent(key)
    return packing.repack(engine, stored, level)


def tiers(engine: Engine) -> dict[str, ValueTier]:
    """What lies where: see ``Memory.values.tiers``."""
    engine.check()
    return moving.stats(engine)


def usage(engine: Engine) -> ValueUsage:
    """What all values take."""
    engine.check()
    return ValueUsage(*chunks.usage(engine.repository.db))


def _find(engine: Engine, key: str, scope: Scope, *, chunk: bool = False) -> reading.Found | None:
    """A value and what it is. It may be replaced or erased, or go to an archive, while that is being read."""
    known, found = reading.look(engine, key, scope, chunk=chunk)
    if known:
        return found
    before = None
    while (stored := reading.find(engine, key, scope)) is not None:
        text = reading.texts(engine, [stored]).get(stored.row)
        if text is not None or stored.body is None or stored == before:
            about = reading.described(text, stored)
            placed = placements.placed(engine.repository.db, stored.row)
            return None if about is None else reading.Found(stored, about, placed)
        before = stored
    return None


def infos(engine: Engine, found: Sequence[Stored], scope: Scope) -> list[ValueInfo]:
    """What values are, as they are now, without those that are gone."""
    texts, before = reading.texts(engine, found), list[Stored]()
    while lost := [stored for stored in found if stored.row not in texts and stored.body is not None]:
        if lost == before:
            break  # nobody has changed them, so that they are damaged
        now = {one.row: one for one in engine.repository.find_rows(one.row for one in lost) if kept(one, engine.now())}
        gone = {stored.row for stored in lost} - now.keys()
        found = [now.get(stored.row, stored) for stored in found if stored.row not in gone]
        texts |= reading.texts(engine, list(now.values()))
        before = lost
    described = ((stored, reading.described(texts.get(stored.row), stored)) for stored in found)
    return [_info(engine, stored, about, scope) for stored, about in described if about is not None]


def _info(engine: Engine, stored: Stored, about: Mapping[str, Any], scope: Scope) -> ValueInfo:
    dtype = about.get("dtype")
    shape = about.get("shape")
    if about["kind"] == kinds.TABLE:
        shape = (about.get("rows", 0), len(about.get("columns", ())))
    return ValueInfo(
        key=str(stored.key),
        id=stored.id,
        kind=str(about["kind"]),
        size=int(about["size"]),
        version=stored.version,
        created_at=to_datetime(stored.created_at),
        updated_at=to_datetime(stored.updated_at),
        expires_at=_datetime(stored.expires_at),
        metadata=json.loads(stored.metadata) if stored.metadata else {},
        shape=None if shape is None else tuple(shape),
        dtype=None if dtype is None else dtype if isinstance(dtype, str) else json.dumps(dtype),
        order=about.get("order"),
        user_id=None if scope.user_id is None else str(scope.user_id),
        namespace=(scope.namespace or ())[1:],
        digest=str(about["digest"]),
        tier=moving.tier_of(engine, stored, about),
    )


def _datetime(at: Micros | None) -> Any:
    return None if at is None else to_datetime(at)


def _no_such_kind(stored: Stored, exc: Exception) -> StoreCorruptError:
    return StoreCorruptError(f"the value of record {stored.id!r} is not of the kind that it says: {exc}")


def _absent(key: str) -> NotFoundError:
    return NotFoundError(f"there is no value with the key {key!r} here")
