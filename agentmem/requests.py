"""From the arguments of public calls to what the engine takes, for both clients."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast, get_args

from agentmem.clock import Micros
from agentmem.errors import InvalidInputError, ScopeError, shown
from agentmem.models import UNSET, AddResult, Item, Mode, Order
from agentmem.retrieval.filters import compile_filter
from agentmem.stores.connection import Value
from agentmem.stores.rows import Created, Patch
from agentmem.validation import (
    MAX_QUERY,
    Draft,
    NewMemoryFields,
    Scope,
    check_batch,
    check_content,
    check_instant,
    check_labels,
    check_layer,
    check_limit,
    check_number,
    check_query,
    check_text,
    check_ttl,
    draft,
    draft_many,
    is_new_memory,
    metadata_json,
)

if TYPE_CHECKING:
    from agentmem.orchestrator import Engine
    from agentmem.searching import Search
    from agentmem.settings import Settings

MODES: tuple[str, ...] = get_args(Mode)
ORDERS: tuple[str, ...] = get_args(Order)
MAX_CHUNK = 10_000


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


def add_results(created: Sequence[Created], engine: Engine) -> list[AddResult]:
    """The public form of what an add did."""
    return [AddResult(c.stored.id, c.status, partial(engine.record, c.stored)) for c in created]


def check_stream(items: object) -> Iterator[Item] | AsyncIterable[Item]:
    """What yields the items of a stream; refuses what is one item, or none."""
    if isinstance(items, AsyncIterable):
        return cast("AsyncIterable[Item]", items)
    kind = type(items).__name__
    if not is_new_memory(items) and not isinstance(items, (str, bytes, Mapping)) and isinstance(items, Iterable):
        with suppress(TypeError):  # an array without dimensions, say
            return iter(cast("Iterable[Item]", items))
    raise InvalidInputError(f"add_stream takes an iterable of items, not {kind}; for one item use add()", field="items")


def check_chunk(chunk: object) -> None:
    if isinstance(chunk, bool) or not isinstance(chunk, int) or not 1 <= chunk <= MAX_CHUNK:
        raise InvalidInputError(f"chunk must be an int from 1 to {MAX_CHUNK:,}, not {shown(chunk)}", field="chunk")


def check_tokens(max_tokens: object) -> None:
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
        message = f"max_tokens must be an int of at least 1, not {shown(max_tokens)}"
        raise InvalidInputError(message, field="max_tokens")


def check_flag(value: object, field: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidInputError(f"{field} must be True or False, not {shown(value)}", field=field)
    return value


def check_version(value: object, field: str) -> int | None:
    """A record's version, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**63:
        raise InvalidInputError(f"{field} must be a record's version, an int, not {shown(value)}", field=field)
    return value


def token_counter(count_tokens: object) -> Callable[[str], int]:
    """The caller's function, with what it returns checked."""
    if not callable(count_tokens):
        raise InvalidInputError(
            f"count_tokens must be a function from text to int, not {type(count_tokens).__name__}", field="count_tokens"
        )

    def counted(text: str) -> int:
        count = count_tokens(text)
        if not isinstance(count, int):
            raise InvalidInputError(f"count_tokens returned {shown(count)} instead of an int", field="count_tokens")
        return count

    return counted


def search_request(
    query: object,
    scope: Scope,
    limit: object,
    filters: Mapping[str, object] | None,
    kinds: object,
    layers: object,
    since: object,
    until: object,
    as_of: object,
    mode: object,
    min_similarity: object,
) -> Search:
    """Check the arguments of a search."""
    from agentmem.searching import Search

    if not isinstance(mode, str) or mode not in MODES:
        raise InvalidInputError(f"mode={shown(mode)} is not one of {', '.join(MODES)}", field="mode")
    first = None if since is None else check_instant(since, "since")
    end = None if until is None else check_instant(until, "until")
    if first is not None and end is not None and first > end:
        raise InvalidInputError("since is after until, so that nothing could match; swap them", field="since")
    return Search(
        query=check_query(query),
        scope=scope,
        limit=check_limit(limit),
        condition=compile_filter(filters, column="r.metadata"),
        kinds=None if kinds is None else tuple(check_labels(kinds, "kinds")),
        layers=None if layers is None else tuple(_layers(layers)),
        since=first,
        until=end,
        as_of=None if as_of is None else check_instant(as_of, "as_of"),
        mode=cast("Mode", mode),
        min_similarity=None if min_similarity is None else check_number(min_similarity, "min_similarity", -1, 1),
    )


def conditions(filters: Mapping[str, object] | None, kinds: object, layers: object) -> tuple[list[str], list[Value]]:
    """Filters of ``page`` as SQL conditions on ``records r``."""
    where, params = list[str](), list[Value]()
    compiled = compile_filter(filters, column="r.metadata")
    if compiled is not None:
        where.append(f"({compiled.sql})")
        params += compiled.params
    for column, labels in (
        ("kind", None if kinds is None else check_labels(kinds, "kinds")),
        ("layer", None if layers is None else _layers(layers)),
    ):
        if labels is not None:
            where.append(f"r.{column} IN ({','.join('?' * len(labels))})")
            params += labels
    return where, params


def _layers(layers: object) -> list[str]:
    return [check_layer(label, "layers").value for label in check_labels(layers, "layers")]


def cursor_row(order: object, cursor: object) -> int | None:
    """The row number after which a page goes on."""
    if not isinstance(order, str) or order not in ORDERS:
        raise InvalidInputError(f"order={shown(order)} is not one of {', '.join(ORDERS)}", field="order")
    if cursor is None:
        return None
    direction, _, row = cursor.partition(":") if isinstance(cursor, str) else ("", "", "")
    if direction != order or not row.isascii() or not row.isdigit() or len(row) > 18:
        raise InvalidInputError(
            f"cursor={shown(cursor)} is not one that page(order={order!r}) returned; "
            "pass the last page's cursor unchanged",
            field="cursor",
        )
    return int(row)


def patch_of(
    content: object,
    metadata: object,
    ttl: object,
    importance: object,
    if_version: object,
    settings: Settings,
    now: Micros,
) -> Patch:
    """Check the arguments of an update."""
    values = dict[str, Value]()
    merge: dict[str, Any] | None = None
    if content is not UNSET:
        values["content"] = check_content(content, settings)
    if metadata is None:
        values["metadata"] = None
    elif metadata is not UNSET:
        text = metadata_json(metadata, settings)
        merge = {} if text is None else json.loads(text)
    if ttl is not UNSET:
        values["expires_at"] = None if ttl is None else now + check_ttl(ttl)
    if importance is not UNSET:
        values["importance"] = None if importance is None else check_number(importance, "importance", 0, 1)
    wanted = check_version(if_version, "if_version")
    if not values and merge is None:
        raise InvalidInputError("update() was given nothing to change", field="content")
    return Patch(values, metadata_merge=merge, metadata_limit=settings.max_metadata_bytes, if_version=wanted)


def feedback_data(rating: object, accepted: object, query: object) -> dict[str, Any]:
    """What a FEEDBACK event records."""
    if rating is None and accepted is None:
        raise InvalidInputError("feedback() needs rating (1 to 5) or accepted (True or False)", field="rating")
    if accepted is not None:
        check_flag(accepted, "accepted")
    if query is not None and len(check_text(query, "query")) > MAX_QUERY:
        raise InvalidInputError(f"query has more than {MAX_QUERY:,} characters; give the question only", field="query")
    data = {
        "rating": None if rating is None else check_number(rating, "rating", 1, 5),
        "accepted": accepted,
        "query": None if query is None else check_text(query, "query"),
    }
    return {key: value for key, value in data.items() if value is not None}
