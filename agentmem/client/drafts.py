"""From what is added to drafts: every item is checked here, once, before anything is embedded or written."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping, Sequence, Set
from dataclasses import fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from agentmem.client.checks import (
    RESERVED,
    check_content,
    check_flag,
    check_id,
    check_key,
    check_layer,
    check_namespace,
    check_scope,
    check_ttl,
    is_nothing,
    refuse_reserved,
)
from agentmem.client.forms import form_of, no_form
from agentmem.client.hints import did_you_mean
from agentmem.client.messages import Message, as_message, may_have, of_object, theirs
from agentmem.client.options import AddOptions
from agentmem.client.returned import as_item, end_of, is_record
from agentmem.types.checks import check_instant, check_label, check_number
from agentmem.types.clock import Micros
from agentmem.types.data import data_json
from agentmem.types.enums import Layer, Namespace
from agentmem.types.errors import InvalidInputError, shown
from agentmem.types.inputs import Draft, Validity, is_new_memory
from agentmem.types.metadata import metadata_json
from agentmem.types.records import MemoryRecord
from agentmem.types.spelling import composed

if TYPE_CHECKING:
    from agentmem.settings import Settings


_LIGHT = 1_000


def is_light(*values: object) -> bool:
    """Whether checking these takes an event loop a millisecond or so: about a thousand values, kilobytes of text."""
    room, left = _LIGHT, list(values)
    while left:
        value = left.pop()
        room -= 1
        if isinstance(value, str):
            room -= len(value) >> 10
        elif value is None:
            continue
        elif isinstance(value, (Mapping, Sequence, Set)) and not isinstance(value, bytes):
            parts = cast("Mapping[object, object] | Sequence[object] | Set[object]", value)
            if len(parts) > room:
                return False
            left += parts.values() if isinstance(parts, Mapping) else parts
        elif is_new_memory(value) or isinstance(value, MemoryRecord):
            left += (value.content, value.metadata, value.data)
            if is_new_memory(value):
                left += (value.embed, value.vector)
        elif callable(getattr(type(value), "model_dump", None)):
            return False  # whatever is in it
        if room < 0:
            return False
    return True


_NAMES = tuple(field.name for field in fields(AddOptions))
_FIELDS = frozenset({"content", *_NAMES})


def draft(item: object, defaults: AddOptions, settings: Settings, *, returned: bool = False) -> Draft:
    """Check one item against everything the store requires.

    ``returned``: it came out of a store, so that it may lie in a namespace of the package's own.
    """
    if isinstance(item, str):
        return _draft(item, defaults, settings)
    if isinstance(item, MemoryRecord):
        return _returned(fields_of(item), defaults, settings)
    if is_new_memory(item):
        given: dict[str, object] = {name: value for name, value in item if value is not None}
    elif isinstance(item, Mapping):
        said = cast("Mapping[str, object]", item)
        given = {key: value for key, value in said.items() if value is not None}
        unknown: list[object] = [key for key in given if key not in _FIELDS]
        if unknown and is_record(said):
            return _returned(said, defaults, settings)
        strange = [key for key in unknown if not isinstance(key, str) or not may_have(given, key, _is_mistaken)]
        if strange:
            raise _unknown("record" if "record" in unknown else strange[0])
        content = given.get("content")
        if unknown or not isinstance(content, str) or not content.strip():
            message = as_message(said, _FIELDS, defaults.role)
            if message is not None:
                return _of_message(message, given, defaults, settings)
        if unknown:
            raise _unknown(unknown[0])
        if "content" not in given and given.get("data", defaults.data) is None:
            raise InvalidInputError("an item needs 'content', the text to remember, or 'data'", field="content")
    elif (message := of_object(item, defaults.role)) is not None:
        return _of_message(message, {}, defaults, settings)
    else:
        raise InvalidInputError(
            f"an item must be text, a mapping with 'content', a chat message, a NewMemory or a MemoryRecord, not "
            f"{type(item).__name__}" + "; several at once are for add_many() or add_stream()" * _is_many(item),
            field="item",
        )
    if not returned and (namespace := given.get("namespace")) is not None and not _is_reserved(defaults.namespace):
        refuse_reserved(check_namespace(namespace, "namespace"), "namespace")
    content = given.pop("content", None)
    return _draft(content, _options(given, defaults), settings)


def fields_of(record: MemoryRecord) -> dict[str, Any]:
    """A record as a mapping of its fields, whose values are as they are."""
    return {each.name: getattr(record, each.name) for each in fields(record)}


def _of_message(message: Message, given: Mapping[str, object], defaults: AddOptions, settings: Settings) -> Draft:
    """A message, and what is said of it besides."""
    said = {key: value for key, value in given.items() if key not in theirs(given)} | {"role": message.role}
    if message.data is not None and defaults.data is not None:
        raise InvalidInputError("what a message has besides its text is its data; leave data out", field="data")
    return _draft(message.text, _options(said, defaults), settings, message.data)


def _options(given: Mapping[str, object], defaults: AddOptions) -> AddOptions:
    """What an item says of itself, and else the arguments."""
    values: dict[str, Any] = {name: given.get(name, getattr(defaults, name)) for name in _NAMES}
    if "embed" in given or "vector" in given:  # what it says itself goes before
        values.update(embed=given.get("embed"), vector=given.get("vector"))
    return AddOptions(**values)


def _is_mistaken(field: object) -> bool:
    """Whether a field that items do not have seems to be one of theirs by another name."""
    return did_you_mean(field, _FIELDS) != "."


def _is_reserved(namespace: Namespace | None) -> bool:
    """Whether a namespace is the package's own; only its own views fall back to one."""
    return bool(namespace) and str(namespace[0]).startswith(RESERVED)


def _returned(record: Mapping[str, Any], defaults: AddOptions, settings: Settings) -> Draft:
    """A record as it came out of a store, with the key that it has there and the end that it has."""
    made, end = draft(as_item(record), defaults, settings, returned=True), end_of(record)
    if (retired := record.get("retired_at")) is not None:
        known = Validity() if made.validity is None else made.validity
        made = replace(made, dedupe=False, validity=known._replace(retired_at=check_instant(retired, "retired_at")))
    key = record.get("key")
    if key is not None:
        made = replace(made, key=check_key(key), dedupe=False)
    return made if end is None else replace(made, expires_at=end)


_HINTS = {
    "record": "; pass the 'record' of a result alone.",
    "key": "; put() and put_many() store by a key, and a whole record keeps the one that it had.",
    "if_version": "; put() and put_many() take it, beside a key.",
}


def _unknown(name: object) -> InvalidInputError:
    """The error for a field that no item has."""
    hint = _HINTS.get(name) if isinstance(name, str) else None
    hint = did_you_mean(name, _FIELDS) if hint is None else hint
    return InvalidInputError(
        f"an item has no field {shown(name)}{hint} It may have {', '.join(sorted(_FIELDS))}; "
        "put anything else into metadata",
        field=name if isinstance(name, str) else None,
    )


def _is_many(item: object) -> bool:
    return isinstance(item, (Iterable, AsyncIterable)) and not isinstance(item, (bytes, bytearray))


def _draft(content: object, options: AddOptions, settings: Settings, message: str | None = None) -> Draft:
    data = data_json(options.data) if message is None else message
    text = "" if data is not None and is_nothing(content) else check_content(content, settings)
    scope = check_scope(options.user_id, options.agent_id, options.run_id, options.namespace, write=True)
    role = None if options.role is None else composed(check_label(options.role, "role"))
    kind = ("message" if role else "fact") if options.kind is None else composed(check_label(options.kind, "kind"))
    dedupe = cast("object", options.dedupe)
    if dedupe is not None and not isinstance(dedupe, bool):
        raise InvalidInputError(f"dedupe must be True, False or None, not {shown(dedupe)}", field="dedupe")
    if dedupe and data is not None:
        raise InvalidInputError(
            "dedupe=True is for facts that are the same by their words; with data each is another one", field="dedupe"
        )
    plain = options.embed is None and options.vector is None
    form = None if plain else form_of(options.embed, options.vector, settings)
    # A caller who chose an id wants it findable, and a message may well be said twice; data may say something else.
    distinct = role is not None or scope.run_id is not None or options.id is not None or data is not None
    validity = _validity(options.valid_from, options.valid_to)
    distinct = distinct or validity is not None
    return Draft(
        content=text,
        scope=scope,
        role=role,
        kind=kind,
        layer=check_layer(options.layer) if options.layer is not None else default_layer(role, kind, settings),
        metadata=metadata_json(options.metadata, settings.max_metadata_bytes),
        metadata_limit=settings.max_metadata_bytes,
        importance=None if options.importance is None else check_number(options.importance, "importance", 0, 1),
        ttl=None if options.ttl is None else check_ttl(options.ttl),
        occurred_at=None if options.occurred_at is None else check_instant(options.occurred_at, "occurred_at"),
        id=None if options.id is None else check_id(options.id),
        dedupe=not distinct if dedupe is None else dedupe,
        form=no_form() if form is None and not text else form,
        data=data,
        sliding=slides(options.sliding, options.ttl),
        validity=validity,
    )


def _validity(since: object, until: object) -> Validity | None:
    """When what is added holds; None where that was not said."""
    if since is None and until is None:
        return None
    first = None if since is None else check_instant(since, "valid_from")
    end = None if until is None else check_instant(until, "valid_to")
    if first is not None and end is not None and first >= end:
        raise InvalidInputError("valid_to is not after valid_from, so that it would hold at no time", field="valid_to")
    return Validity(first, end)


def slides(sliding: object, ttl: object) -> Micros | None:
    """By how much a read puts off the end of what has this ``ttl``; None if it does not."""
    if sliding is None or not check_flag(sliding, "sliding"):
        return None
    if ttl is None:
        raise InvalidInputError("sliding=True says that reads put off the end; give the ttl, too", field="sliding")
    return check_ttl(ttl)


def default_layer(role: str | None, kind: str, settings: Settings) -> Layer:
    """What is said in passing lives a day, unless the settings say otherwise; what a caller chose to state is kept."""
    if kind in session_kinds():
        return Layer.INTERACT
    return settings.default_layer if role is None else settings.message_layer


@cache
def session_kinds() -> frozenset[str]:
    """The kinds that begin in the lowest layer: those that become something else when they leave it."""
    # With the first item, not with the package: the rules belong to the engine, which is open by then.
    from agentmem.lifecycle.promotion import EDGES

    return frozenset(kind for layer, kind in EDGES if layer == Layer.INTERACT)
