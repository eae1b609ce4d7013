"""The border: every value from outside is checked here, once, before anything is embedded or written.

The rules follow from what the store can hold faithfully: its driver cuts text at NUL, fails on lone surrogates and
turns integers beyond 63 bits into floats, so such values are refused rather than changed.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from agentmem.clock import Micros, to_micros
from agentmem.errors import InvalidInputError, ScopeError, shown
from agentmem.models import ALL, Item, Layer, UserId

if TYPE_CHECKING:
    from agentmem.newmemory import NewMemory
    from agentmem.settings import Settings

MAX_ID = 512
MAX_LABEL = 128
MAX_DEPTH = 32
MAX_BATCH = 10_000
MAX_LIMIT = 10_000
MAX_QUERY = 100_000
MAX_LABELS = 1_000
_MAX_INT = 2**63 - 1
_LONGEST_TTL = 100 * 365 * 86_400
_LAYERS = {layer.value: layer for layer in Layer}
SESSION_KINDS = frozenset({"session_data", "recent_query", "temporary_context", "interaction"})


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose records. ``user_id`` is a wall, the others narrow; see ``Memory.search``."""

    user_id: UserId = None
    agent_id: str | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A checked item, ready to be embedded and stored. ``id`` is None where the store is to choose one."""

    content: str
    scope: Scope
    role: str | None
    kind: str
    layer: Layer
    metadata: str | None
    importance: float | None
    ttl: Micros | None
    occurred_at: Micros | None
    id: str | None
    dedupe: bool


def check_text(value: object, field: str) -> str:
    """``value`` as a plain str, if the store can hold it unchanged."""
    if not isinstance(value, str):
        raise InvalidInputError(f"{field} must be a str, not {type(value).__name__}", field=field)
    if "\x00" in value:
        raise InvalidInputError(f"{field} contains a NUL character at {value.index(chr(0))}; remove it", field=field)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise InvalidInputError(
                f"{field} contains a lone surrogate at {exc.start}; decode the text with errors='replace'", field=field
            ) from exc
    # Not str(value), which is "Role.USER" for a member of an enum whose text is "user".
    return value if type(value) is str else str.__str__(value)


def check_content(value: object, settings: Settings, field: str = "content") -> str:
    """Text worth remembering: not blank, not longer than the settings allow."""
    text = check_text(value, field)
    if not text or text.isspace():
        raise InvalidInputError(f"{field} is empty; there is nothing to remember", field=field)
    if len(text) * 4 > settings.max_content_bytes and (size := len(text.encode())) > settings.max_content_bytes:
        raise InvalidInputError(
            f"{field} has {size:,} bytes, more than max_content_bytes={settings.max_content_bytes:,}; "
            "split it into passages and add each one",
            field=field,
        )
    return text


def check_query(value: object) -> str:
    """Text to search with."""
    text = check_text(value, "query")
    if not text or text.isspace():
        raise InvalidInputError("query is empty; to list records without a query use page()", field="query")
    if len(text) > MAX_QUERY:
        raise InvalidInputError(
            f"query has {len(text):,} characters, more than {MAX_QUERY:,}; search with the question, not the document",
            field="query",
        )
    return text


def check_label(value: object, field: str, longest: int = MAX_LABEL) -> str:
    """A short, non-empty name such as a role, a kind or an id."""
    text = check_text(value, field)
    if not text or text.isspace():
        raise InvalidInputError(f"{field} is empty; leave it out or give it a value", field=field)
    if len(text) > longest:
        raise InvalidInputError(f"{field} has {len(text):,} characters, more than {longest}", field=field)
    return text


def check_scope(user_id: object, agent_id: object, run_id: object, *, write: bool = False) -> Scope:
    """A scope whose ids are non-empty text (or absent); ``ALL`` only as ``user_id`` and only in reads."""
    if user_id is ALL and write:
        raise ScopeError("user_id=ALL is for reads only; name the user to write for")
    user: UserId = ALL if user_id is ALL else _scope_id(user_id, "user_id")
    return Scope(user, _scope_id(agent_id, "agent_id"), _scope_id(run_id, "run_id"))


def _scope_id(value: object, name: str) -> str | None:
    if value is None:
        return None
    if value is ALL:
        raise ScopeError(f"{name}=ALL has no meaning; leave {name} out to match every {name[:-3]}")
    try:
        return check_label(value, name, MAX_ID)
    except InvalidInputError as exc:
        raise ScopeError(str(exc)) from exc


def check_id(value: object) -> str:
    """A record's id."""
    return check_label(value, "id", MAX_ID)


def check_number(value: object, field: str, low: float, high: float) -> float:
    """A finite number within [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InvalidInputError(f"{field} must be a number from {low:g} to {high:g}, not {shown(value)}", field=field)
    return float(value)


def check_limit(value: object) -> int:
    """How many results: 1 to 10,000."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_LIMIT:
        raise InvalidInputError(
            f"limit must be an int from 1 to {MAX_LIMIT:,}, not {shown(value)}; to read everything use iterate()",
            field="limit",
        )
    return value


def check_instant(value: object, field: str) -> Micros:
    """An aware datetime, or ISO 8601 text with an offset, as microseconds."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as exc:
            raise InvalidInputError(
                f"{field}={shown(value)} is not an ISO 8601 date and time, such as 2025-03-01T12:00:00+00:00",
                field=field,
            ) from exc
    if not isinstance(value, datetime):
        raise InvalidInputError(f"{field} must be a datetime or ISO 8601 text, not {type(value).__name__}", field=field)
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidInputError(
            f"{field}={value.isoformat()} has no time zone; add one, for example .replace(tzinfo=timezone.utc)",
            field=field,
        )
    try:
        return to_micros(value.astimezone(UTC))
    except OverflowError as exc:
        raise InvalidInputError(
            f"{field}={value.isoformat()} is outside of the years 1 to 9999 in UTC", field=field
        ) from exc


def check_ttl(value: object) -> Micros:
    """A time to live, as a timedelta or seconds, in microseconds."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= _LONGEST_TTL:
        raise InvalidInputError(
            f"ttl must be a timedelta or seconds, more than 0 and up to 100 years, not {shown(value)}", field="ttl"
        )
    return max(1, round(seconds * 1_000_000))


def check_layer(value: object, field: str = "layer") -> Layer:
    """One of the three layers."""
    layer = _LAYERS.get(value) if isinstance(value, str) else None
    if layer is None:
        names = ", ".join(_LAYERS)
        raise InvalidInputError(f"{field}={shown(value)} is not a layer; the layers are {names}", field=field)
    return layer


def check_labels(value: object, field: str) -> list[str]:
    """A non-empty list of names, for ``kinds`` and ``layers``."""
    got = shown(value)
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) or not value:
        raise InvalidInputError(f"{field} must be a non-empty list of names, not {got}", field=field)
    labels = cast("Sequence[object]", value)
    if len(labels) > MAX_LABELS:
        raise InvalidInputError(f"{field} has {len(labels):,} names, more than {MAX_LABELS:,}", field=field)
    return [check_label(item, field) for item in labels]


def metadata_json(value: object, settings: Settings) -> str | None:
    """Metadata as JSON text; ``None`` when there is none. Dates become ISO 8601 text, tuples become lists."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"metadata must be a mapping, not {type(value).__name__}", field="metadata")
    if not value:
        return None
    limit = settings.max_metadata_bytes
    clean = _Cleaner(limit).clean(cast("Mapping[object, object]", value), "metadata")
    text = json.dumps(clean, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    check_metadata_size(text, limit)
    return text


def check_metadata_size(text: str, limit: int) -> None:
    """Refuse metadata whose JSON is longer than ``limit`` bytes."""
    if len(text) * 4 > limit and (size := len(text.encode())) > limit:
        raise _too_much_metadata(f"{size:,}", limit)


def _too_much_metadata(size: str, limit: int) -> InvalidInputError:
    return InvalidInputError(
        f"metadata has {size} bytes of JSON, more than max_metadata_bytes={limit:,}; put long text into content",
        field="metadata",
    )


class _Cleaner:
    """Copies a value as JSON can hold it and SQLite can read it back, or raises naming where it cannot.

    Stops once the copy is sure to need more than ``limit`` bytes of JSON: a few lists that hold each other several
    times would otherwise unfold into more than fits into memory.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._room = limit

    def clean(self, value: object, path: str, depth: int = 0) -> Any:
        if value is None or isinstance(value, bool):
            self._take(4)
            return value
        if isinstance(value, str):
            return self._text(value, path)
        if isinstance(value, int):
            self._take(1)
            if not -_MAX_INT - 1 <= value <= _MAX_INT:
                raise InvalidInputError(f"{path} is an int beyond 63 bits; store it as text", field="metadata")
            return int(value)
        if isinstance(value, float):
            self._take(1)
            if not math.isfinite(value):
                raise InvalidInputError(f"{path} is {value}; JSON has no such number, use None", field="metadata")
            return float(value)
        if isinstance(value, (datetime, date)):
            return self._text(value.isoformat(), path)
        if depth >= MAX_DEPTH:
            raise InvalidInputError(f"{path} is nested more than {MAX_DEPTH} deep; flatten it", field="metadata")
        self._take(2)
        if isinstance(value, Mapping):
            return self._object(cast("Mapping[object, object]", value), path, depth)
        if isinstance(value, (list, tuple)):
            items = cast("Sequence[object]", value)
            return [self.clean(item, f"{path}[{at}]", depth + 1) for at, item in enumerate(items)]
        raise InvalidInputError(
            f"{path} is a {type(value).__name__}, which JSON cannot hold; "
            "use text, numbers, bools, None, lists or dicts",
            field="metadata",
        )

    def _object(self, value: Mapping[object, object], path: str, depth: int) -> dict[str, Any]:
        clean: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidInputError(f"{path} has the key {shown(key)}; keys must be text", field="metadata")
            name = self._text(key, f"a key of {path}")
            clean[name] = self.clean(item, f"{path}.{name}", depth + 1)
        return clean

    def _text(self, value: str, path: str) -> str:
        self._take(len(value) + 2)
        try:
            return check_text(value, path)
        except InvalidInputError as exc:
            raise InvalidInputError(str(exc), field="metadata") from exc

    def _take(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise _too_much_metadata(f"more than {self._limit:,}", self._limit)


def check_batch(items: object) -> Sequence[Item]:
    """A sequence of at most 10,000 items."""
    kind = type(items).__name__
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Sequence):
        raise InvalidInputError(
            f"add_many takes a list of items, not {kind}; add() takes one, add_stream() any iterable",
            field="items",
        )
    batch = cast("Sequence[Item]", items)
    if len(batch) > MAX_BATCH:
        raise InvalidInputError(
            f"add_many takes at most {MAX_BATCH:,} items at once, got {len(batch):,}; use add_stream()", field="items"
        )
    return batch


def draft_many(
    items: Sequence[Item], defaults: NewMemoryFields, settings: Settings, first_index: int = 0
) -> list[Draft]:
    """Drafts of all items; a bad one raises with its position, counted from ``first_index``, as ``.index``."""
    drafts: list[Draft] = []
    for index, item in enumerate(items, first_index):
        try:
            drafts.append(draft(item, defaults, settings))
        except InvalidInputError as exc:
            raise InvalidInputError(f"item {index}: {exc}", field=exc.field, index=index) from exc
        except ScopeError as exc:
            raise ScopeError(f"item {index}: {exc}", index=index) from exc
    return drafts


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMemoryFields:
    """The keyword arguments of an add call: what an item that says nothing itself falls back to."""

    user_id: object = None
    agent_id: object = None
    run_id: object = None
    role: object = None
    kind: object = None
    layer: object = None
    metadata: object = None
    importance: object = None
    ttl: object = None
    occurred_at: object = None
    id: object = None
    dedupe: object = None


_LIGHT = 1_000


def is_light(*values: object) -> bool:
    """Whether checking these takes an event loop a millisecond or so: about a thousand values, kilobytes of text."""
    room, left = _LIGHT, list(values)
    while left:
        value = left.pop()
        room -= 1
        if isinstance(value, str):
            room -= len(value) >> 10
        elif isinstance(value, (Mapping, Sequence)) and not isinstance(value, bytes):
            parts = cast("Mapping[object, object] | Sequence[object]", value)
            if len(parts) > room:
                return False
            left += parts.values() if isinstance(parts, Mapping) else parts
        elif is_new_memory(value):
            left += (value.content, value.metadata)
        if room < 0:
            return False
    return True


_FIELDS = frozenset({"content", *NewMemoryFields.__slots__})


def is_new_memory(item: object) -> TypeGuard[NewMemory]:
    """Whether the item is a ``NewMemory``; without importing pydantic where nobody has made one."""
    module = sys.modules.get("agentmem.newmemory")
    return module is not None and isinstance(item, module.NewMemory)


def draft(item: object, defaults: NewMemoryFields, settings: Settings) -> Draft:
    """Check one item against everything the store requires."""
    if isinstance(item, str):
        return _draft(item, defaults, settings)
    if is_new_memory(item):
        given: dict[str, object] = {name: value for name, value in item if value is not None}
    elif isinstance(item, Mapping):
        given = {key: value for key, value in cast("Mapping[str, object]", item).items() if value is not None}
        unknown: list[object] = [key for key in given if key not in _FIELDS]
        if unknown:
            raise InvalidInputError(
                f"an item has no field {shown(unknown[0])}; it may have {', '.join(sorted(_FIELDS))}. "
                "Put anything else into metadata",
                field=unknown[0] if isinstance(unknown[0], str) else None,
            )
        if "content" not in given:
            raise InvalidInputError("an item needs 'content', the text to remember", field="content")
    else:
        raise InvalidInputError(
            f"an item must be text, a mapping with 'content', or a NewMemory, not {type(item).__name__}", field="item"
        )
    content = given.pop("content")
    fields = {name: given.get(name, getattr(defaults, name)) for name in NewMemoryFields.__slots__}
    return _draft(content, NewMemoryFields(**fields), settings)


def _draft(content: object, fields: NewMemoryFields, settings: Settings) -> Draft:
    text = check_content(content, settings)
    scope = check_scope(fields.user_id, fields.agent_id, fields.run_id, write=True)
    role = None if fields.role is None else check_label(fields.role, "role")
    kind = ("message" if role else "fact") if fields.kind is None else check_label(fields.kind, "kind")
    if fields.dedupe is not None and not isinstance(fields.dedupe, bool):
        raise InvalidInputError(f"dedupe must be True, False or None, not {shown(fields.dedupe)}", field="dedupe")
    # A caller who chose an id wants it findable, and a message may well be said twice.
    distinct = role is not None or scope.run_id is not None or fields.id is not None
    return Draft(
        content=text,
        scope=scope,
        role=role,
        kind=kind,
        layer=check_layer(fields.layer) if fields.layer is not None else default_layer(role, kind, settings),
        metadata=metadata_json(fields.metadata, settings),
        importance=None if fields.importance is None else check_number(fields.importance, "importance", 0, 1),
        ttl=None if fields.ttl is None else check_ttl(fields.ttl),
        occurred_at=None if fields.occurred_at is None else check_instant(fields.occurred_at, "occurred_at"),
        id=None if fields.id is None else check_id(fields.id),
        dedupe=not distinct if fields.dedupe is None else fields.dedupe,
    )


def default_layer(role: str | None, kind: str, settings: Settings) -> Layer:
    """What is said in passing lives a day; what a caller chose to state is kept."""
    return Layer.INTERACT if role is not None or kind in SESSION_KINDS else settings.default_layer
