"""From what is added to drafts: every item is checked here, once, before anything is embedded or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from agentmem.client.checks import check_batch, check_content, check_id, check_layer, check_scope, check_ttl
from agentmem.types.checks import check_instant, check_label, check_number
from agentmem.types.enums import Layer
from agentmem.types.errors import InvalidInputError, ScopeError, shown
from agentmem.types.inputs import Draft, Item, NewMemoryFields, Scope, is_new_memory
from agentmem.types.metadata import metadata_json

if TYPE_CHECKING:
    from agentmem.settings import Settings


SESSION_KINDS = frozenset({"session_data", "recent_query", "temporary_context", "interaction"})


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
        metadata=metadata_json(fields.metadata, settings.max_metadata_bytes),
        importance=None if fields.importance is None else check_number(fields.importance, "importance", 0, 1),
        ttl=None if fields.ttl is None else check_ttl(fields.ttl),
        occurred_at=None if fields.occurred_at is None else check_instant(fields.occurred_at, "occurred_at"),
        id=None if fields.id is None else check_id(fields.id),
        dedupe=not distinct if fields.dedupe is None else fields.dedupe,
    )


def default_layer(role: str | None, kind: str, settings: Settings) -> Layer:
    """What is said in passing lives a day; what a caller chose to state is kept."""
    return Layer.INTERACT if role is not None or kind in SESSION_KINDS else settings.default_layer


def within(bound: Scope, given: Scope) -> Scope:
    """The bound scope, narrowed by the ids that were given. Raises ``ScopeError`` where they contradict it."""
    merged = list[Any]()
    for name in ("user_id", "agent_id", "run_id"):
        fixed, wanted = getattr(bound, name), getattr(given, name)
        if wanted is not None and wanted != fixed and (fixed is not None or name == "user_id"):
            raise ScopeError(f"{name} is bound by scoped() and cannot be {wanted!r}; use the unbound memory for that")
        merged.append(fixed if wanted is None else wanted)
    return Scope(*merged)


def draft_one(item: Item, fields: NewMemoryFields, settings: Settings, bound: Scope | None) -> Draft:
    """Check one item."""
    made = draft(item, fields, settings)
    if bound is not None:
        within(bound, made.scope)
    return made


def draft_batch(
    items: object, fields: NewMemoryFields, settings: Settings, bound: Scope | None, first_index: int
) -> list[Draft]:
    """Check a batch; ``first_index`` is the position of its first item for the caller."""
    drafts = draft_many(check_batch(items), fields, settings, first_index)
    if bound is not None:
        for index, made in enumerate(drafts, first_index):
            try:
                within(bound, made.scope)
            except ScopeError as exc:
                raise ScopeError(f"item {index}: {exc}", index=index) from exc
    return drafts
