"""What can be done with values: functions of the engine and of arguments that were checked, as ``operations`` are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

from agentmem.engine.engine import Engine
from agentmem.operations import change
from agentmem.stores import chunks, documents, keys
from agentmem.stores.rows import Patch, Stored
from agentmem.types.clock import Micros, to_datetime
from agentmem.types.data import parsed
from agentmem.types.enums import EventType
from agentmem.types.errors import ConflictError, NotFoundError
from agentmem.types.inputs import Draft, Scope
from agentmem.types.records import HistoryEvent, MemoryRecord
from agentmem.types.valueinfo import ValueInfo, ValueUsage, ValueVersion
from agentmem.types.valuekeys import ATTACHMENTS
from agentmem.values import kinds, reading, writing

_VERSIONED = ("ADD", "UPDATE", "RESTORE")


def put(engine: Engine, scope: Scope, items: Sequence[tuple[Draft, object]], *, as_pickle: bool) -> list[ValueInfo]:
    """Store values, each with the draft of its record: see ``Memory.values.put_many``."""

    def encode(value: object) -> Callable[[], kinds.Encoded]:
        return lambda: kinds.encode(value, as_pickle=as_pickle)

    made = writing.put(engine, scope, [(draft, encode(value)) for draft, value in items])
    return [_info(one.stored, parsed(str(one.data))[chunks.MARK], scope) for one in made]


def get(
    engine: Engine, key: str, scope: Scope, default: Any, part: tuple[int | None, int | None] | None, *, pickled: bool
) -> Any:
    """A value, or a part of it: see ``Memory.values.get``."""
    found = _find(engine, key, scope)
    if found is None:
        return default
    stored, about = found
    content = reading.Content(engine, stored, int(about["size"]))
    if part is not None:
        return kinds.decode_part(about, content, *part)
    if about["kind"] == kinds.STREAM:
        return reading.opened(content)
    return kinds.decode(about, content, pickled=pickled)


def open_stream(engine: Engine, key: str, scope: Scope) -> BinaryIO:
    """A value's bytes as a file: see ``Memory.values.open``."""
    found = _find(engine, key, scope)
    if found is None:
        raise _absent(key)
    return reading.opened(reading.Content(engine, found[0], int(found[1]["size"])))


def info(engine: Engine, key: str, scope: Scope) -> ValueInfo | None:
    """What a value is."""
    found = _find(engine, key, scope)
    return None if found is None else _info(*found, scope)


def exists(engine: Engine, key: str, scope: Scope) -> bool:
    """Whether there is a value with this key."""
    return reading.find(engine, key, scope) is not None


def listed(engine: Engine, prefix: str, after: str | None, limit: int, scope: Scope) -> list[ValueInfo]:
    """The next values whose keys begin so, by key."""
    engine.check()
    now, found = engine.now(), list[Stored]()
    while len(found) < limit:
        page = keys.listed(engine.repository, engine.key(scope), prefix, after, limit)
        found += (stored for stored in page if stored.expires_at is None or stored.expires_at > now)
        if len(page) < limit:
            break
        after = str(page[-1].key)
    return _infos(engine, found[:limit], scope)


def with_ids(engine: Engine, ids: Sequence[str], scope: Scope) -> list[ValueInfo]:
    """The values of records, in the order of their ids; those that are gone are left out."""
    by_id = {stored.id: stored for stored in engine.repository.find_ids(list(ids))}
    return _infos(engine, [by_id[id] for id in ids if id in by_id], scope)


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
    body, made = stored.body, list[ValueVersion]()
    sizes = documents.versions(engine.repository.db, stored.row)
    for event in reversed(events):
        about = None
        if body in sizes:
            at = stored._replace(body=body, body_size=sizes[body])
            about = reading.description(engine, at)
        kind, size = (None, None) if about is None else (about["kind"], int(about["size"]))
        made.append(ValueVersion(event.version, EventType(event.event), event.at, kind, size))
        body = event.data.get("body", body)
    return made[::-1]


def restore(engine: Engine, key: str, version: int | None, scope: Scope) -> ValueInfo:
    """Go back to a version: see ``Memory.values.restore``."""
    stored = reading.find(engine, key, scope)
    if stored is None:
        raise _absent(key)
    if version is not None and version not in [each.version for each in _events(engine, stored)]:
        raise NotFoundError(f"the value with the key {key!r} has no version {version}; versions() lists them")
    change.restore(engine, stored.id, version, scope)
    found = info(engine, key, scope)
    if found is None:
        raise ConflictError(f"the value with the key {key!r} was deleted meanwhile")
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


def usage(engine: Engine) -> ValueUsage:
    """What all values take."""
    engine.check()
    return ValueUsage(*chunks.usage(engine.repository.db))


def _find(engine: Engine, key: str, scope: Scope) -> tuple[Stored, dict[str, Any]] | None:
    stored = reading.find(engine, key, scope)
    about = None if stored is None else reading.description(engine, stored)
    return None if stored is None or about is None else (stored, about)


def _infos(engine: Engine, found: Sequence[Stored], scope: Scope) -> list[ValueInfo]:
    texts = engine.repository.data_of(found)
    described = ((stored, reading.described(texts.get(stored.row), stored)) for stored in found)
    return [_info(stored, about, scope) for stored, about in described if about is not None]


def _info(stored: Stored, about: Mapping[str, Any], scope: Scope) -> ValueInfo:
    dtype = about.get("dtype")
    shape = about.get("shape")
    if about["kind"] == kinds.TABLE:
        shape = (about["rows"], len(about["columns"]))
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
        user_id=None if scope.user_id is None else str(scope.user_id),
        namespace=(scope.namespace or ())[1:],
        digest=str(about["digest"]),
    )


def _datetime(at: Micros | None) -> Any:
    return None if at is None else to_datetime(at)


def _absent(key: str) -> NotFoundError:
    return NotFoundError(f"there is no value with the key {key!r} here")
