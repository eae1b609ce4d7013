"""From the arguments of public calls to what the operations take, for both clients.

Functions that import do ``operations.load()`` before: what interrupts a first call and uses the store itself, such as a
signal handler, must not meet modules that are half there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, cast, get_args

from agentmem import filters as language
from agentmem import operations
from agentmem.client.checks import (
    MAX_LIMIT,
    MAX_QUERY,
    check_content,
    check_flag,
    check_labels,
    check_layer,
    check_limit,
    check_offset,
    check_query,
    check_ttl,
    check_version,
    is_nothing,
)
from agentmem.client.drafts import slides
from agentmem.client.filterhints import warn_of_filter
from agentmem.client.forms import check_one_vector, new_form, no_form
from agentmem.types.checks import check_number, check_text
from agentmem.types.clock import Micros
from agentmem.types.data import data_json
from agentmem.types.enums import ALL, UNSET, By, Gone, Mode, Order, Rank
from agentmem.types.errors import FilterError, InvalidInputError, ScopeError, shown
from agentmem.types.inputs import Scope
from agentmem.types.metadata import metadata_json
from agentmem.types.values import text_fault
from agentmem.types.zones import check_local_instant

if TYPE_CHECKING:
    from agentmem.client.options import PageOptions, SearchOptions
    from agentmem.filters.parsing import Target
    from agentmem.filters.sqlite import CompiledFilter
    from agentmem.operations.page import Listing

    operations.load()
    from agentmem.operations.restore import Departed
    from agentmem.retrieval.query import Search
    from agentmem.settings import Settings
    from agentmem.stores.connection import Value
    from agentmem.stores.rows import Patch, Place
    from agentmem.stores.timeline import Conditions


MODES: tuple[str, ...] = get_args(Mode)
RANKS: tuple[str, ...] = get_args(Rank)
ORDERS: tuple[str, ...] = get_args(Order)
BYS: tuple[str, ...] = get_args(By)
GONE: tuple[str, ...] = get_args(Gone)


def search_request(query: object, scope: Scope, options: SearchOptions, zone: tzinfo) -> Search:
    """Check the arguments of a search; its scope and time zone were checked before."""
    operations.load()
    from agentmem.retrieval.query import Search

    mode, rank = _ranked(options.mode, options.rank)
    vector = None if options.vector is None else check_one_vector(options.vector)
    if query is None:
        if vector is None:
            raise InvalidInputError("search() needs a query, or a vector", field="query")
        mode = _without_words(mode)
    if vector is not None and mode == "keyword" and options.min_similarity is None:
        raise InvalidInputError(
            'mode="keyword" compares no embeddings, so that a vector says nothing; leave out one of them',
            field="vector",
        )
    limit, offset = _reach(options.limit, options.offset)
    first, end = span(options.since, options.until, zone)
    kinds, layers, as_of, least = options.kinds, options.layers, options.as_of, options.min_similarity
    return Search(
        query="" if query is None else check_query(query),
        scope=scope,
        limit=limit,
        condition=condition_of(options.filters),
        kinds=None if kinds is None else tuple(check_labels(kinds, "kinds")),
        layers=None if layers is None else tuple(_layers(layers)),
        since=first,
        until=end,
        as_of=None if as_of is None else check_local_instant(as_of, "as_of", zone),
        valid_at=None if options.valid_at is None else check_local_instant(options.valid_at, "valid_at", zone),
        mode=mode,
        rank=rank,
        min_similarity=None if least is None else check_number(least, "min_similarity", -1, 1),
        zone=zone,
        offset=offset,
        vector=vector,
        archived=check_flag(options.include_glacier, "include_glacier"),
    )


def _without_words(mode: Mode) -> Mode:
    """How to search with a vector alone."""
    if mode == "keyword":
        raise InvalidInputError('mode="keyword" looks for the words of a query; give one', field="query")
    return "vector"


def _ranked(mode: object, rank: object) -> tuple[Mode, Rank]:
    """How to search. By similarity alone words have no say, so that the search is one by meaning."""
    wanted, order = cast("Mode", _one_of(MODES, mode, "mode")), cast("Rank", _one_of(RANKS, rank, "rank"))
    if order == "score":
        return wanted, order
    if wanted == "keyword":
        raise InvalidInputError(
            'mode="keyword" compares no embeddings, which rank="similarity" orders by; leave out one of them',
            field="rank",
        )
    return "vector", order


def _reach(limit: object, offset: object) -> tuple[int, int]:
    """How many hits, and how many better ones to pass over: both are found and scored."""
    most, passed = check_limit(limit), check_offset(offset)
    if most + passed > MAX_LIMIT:
        raise InvalidInputError(
            f"offset={passed:,} with limit={most:,} is beyond the best {MAX_LIMIT:,} hits, which is as far as a search "
            "goes; ask a narrower question, or read everything with iterate()",
            field="offset",
        )
    return most, passed


def span(since: object, until: object, zone: tzinfo) -> tuple[Micros | None, Micros | None]:
    """The instants between which an event lies; None: no end. A time without an offset is one of the zone."""
    first = None if since is None else check_local_instant(since, "since", zone)
    end = None if until is None else check_local_instant(until, "until", zone)
    if first is not None and end is not None and first > end:
        raise InvalidInputError("since is after until, so that nothing could match; swap them", field="since")
    return first, end


def condition_of(filters: Mapping[str, object] | None) -> CompiledFilter | None:
    """A filter as a condition on ``records r``; warns where it can never match. Raises ``FilterError``."""
    if filters is None:
        return None
    tree = language.parsing.parse_filter(filters)
    if tree is None:
        return None
    key = language.never.contradiction(tree)
    if key is not None:
        warn_of_filter(f"the filter can never match: no value of {shown(key)} is all that it asks of it")
    return language.sqlite.compile_tree(tree, column="r.metadata")


def conditions(filters: Mapping[str, object] | None, kinds: object, layers: object) -> tuple[list[str], list[Value]]:
    """Filters of ``page`` as SQL conditions on ``records r``."""
    where = list[str]()
    params: list[Value] = []
    compiled = condition_of(filters)
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


def _one_of(choices: tuple[str, ...], value: object, field: str) -> str:
    if not isinstance(value, str) or value not in choices:
        raise InvalidInputError(f"{field}={shown(value)} is not one of {', '.join(choices)}", field=field)
    return value


def listing(scope: Scope, options: PageOptions, zone: tzinfo) -> Listing:
    """Check the arguments of a list; its scope and time zone were checked before."""
    operations.load()
    from agentmem.operations.page import Listing, place_of
    from agentmem.stores.timeline import Range

    order, by = check_order(options.order, options.by)
    cursor = cast("object", options.cursor)
    after = place_of(order, by, cursor) if isinstance(cursor, str) else None
    if cursor is not None and after is None:
        raise InvalidInputError(
            f"cursor={shown(cursor)} is not one that page(order={order!r}, by={by!r}) returned; "
            "pass the last page's cursor unchanged, with the same arguments",
            field="cursor",
        )
    offset = check_offset(options.offset)
    if offset and cursor is not None:
        raise InvalidInputError(
            f"offset={offset:,} and cursor exclude each other: a cursor says itself where to go on", field="offset"
        )
    away = check_flag(options.archived, "archived")
    if away and by != "added":
        raise InvalidInputError(f'archived=True goes with by="added" only, not with {by!r}', field="by")
    return Listing(
        scope,
        conditions(options.filters, options.kinds, options.layers),
        Range(*span(options.since, options.until, zone)),
        order=order,
        by=by,
        after=after,
        offset=offset,
        data=check_flag(options.data, "data"),
        archived=away,
    )


def doomed(
    scope: Scope, filters: Mapping[str, object] | None, before: object, zone: tzinfo, *, bound: bool
) -> Conditions:
    """Which records of a scope ``delete_all`` is to delete. Raises ``ScopeError`` where that may be too many.

    ``bound``: a view is asked, so that it is clear whose are meant, those of no user included.
    """
    operations.load()
    from agentmem.stores.timeline import added_before

    where, params = conditions(filters, None, None)
    if before is not None:
        times, limits = added_before(check_local_instant(before, "before", zone))
        where, params = [*where, *times], [*params, *limits]
    if scope in (Scope(), Scope(under=())) and not bound:
        raise ScopeError(
            "delete_all() needs user_id, agent_id, run_id, namespace or under, so that nothing is wiped by accident; "
            "user_id=ALL, with before or filters, is for everybody's records"
        )
    if scope in (Scope(ALL), Scope(ALL, under=())) and not where:
        raise ScopeError(
            "delete_all(user_id=ALL) alone would delete every record of every user; say which with before, filters, "
            "agent_id, run_id, namespace or under"
        )
    return where, params


def archivable(
    scope: Scope,
    filters: Mapping[str, object] | None,
    kinds: object,
    layers: object,
    before: object,
    zone: tzinfo,
    *,
    bound: bool,
) -> Conditions:
    """Which records of a scope ``archive`` is to move. Raises ``ScopeError`` where that may be too many.

    ``bound``: a view is asked, so that it is clear whose are meant.
    """
    operations.load()
    from agentmem.stores.timeline import added_before

    where, params = conditions(filters, kinds, layers)
    if before is not None:
        times, limits = added_before(check_local_instant(before, "before", zone))
        where, params = [*where, *times], [*params, *limits]
    if not bound and (
        scope in (Scope(), Scope(under=())) or (scope in (Scope(ALL), Scope(ALL, under=())) and not where)
    ):
        raise ScopeError(
            "archive() needs ids, user_id, agent_id, run_id, namespace or under; user_id=ALL, with before, kinds, "
            "layers or filters, is for everybody's records"
        )
    return where, params


def departed(scope: Scope, why: object, options: PageOptions, zone: tzinfo) -> Departed:
    """Check which deleted or expired records are meant; the scope and the time zone were checked before."""
    operations.load()
    from agentmem.operations.restore import Departed
    from agentmem.stores.timeline import Range

    reason = cast("Gone", _one_of(GONE, why, "why"))
    return Departed(
        scope, reason, conditions(options.filters, None, None), Range(*span(options.since, options.until, zone))
    )


def check_departed_cursor(why: Gone, cursor: object) -> Place | None:
    """The place after which a list of deleted or expired records goes on."""
    operations.load()
    from agentmem.operations.restore import place_of

    if cursor is None:
        return None
    place = place_of(why, cursor) if isinstance(cursor, str) else None
    if place is None:
        raise InvalidInputError(
            f"cursor={shown(cursor)} is not one that deleted(why={why!r}) returned; "
            "pass the last page's cursor unchanged, with the same arguments",
            field="cursor",
        )
    return place


def check_users_cursor(cursor: object, prefix: str) -> tuple[str, str]:
    """How and where a list of users goes on."""
    kind = "v" if prefix else "n"
    text = cursor if isinstance(cursor, str) and text_fault(cursor) is None else ""
    if not text.startswith(kind) or (kind == "n" and not re.fullmatch(r"\d{1,18}", text[1:], re.ASCII)):
        raise InvalidInputError(
            f"cursor={shown(cursor)} is not one that user_page(prefix={shown(prefix)}) returned; pass the last page's "
            "cursor unchanged, with the same prefix",
            field="cursor",
        )
    return kind, text[1:]


def field_of(field: object) -> Target:
    """What a field means whose values are wanted. Raises ``InvalidInputError``."""
    operations.load()
    if not isinstance(field, str) or not field:
        raise InvalidInputError(
            f'field must be the name of a field, such as "topic" or "$kind", not {shown(field)}', field="field"
        )
    try:
        return language.parsing.parse_field(field)
    except FilterError as exc:
        raise InvalidInputError(str(exc), field="field") from exc


def check_order(order: object, by: object) -> tuple[Order, By]:
    """How a list is ordered."""
    return cast("Order", _one_of(ORDERS, order, "order")), cast("By", _one_of(BYS, by, "by"))


def patch_of(
    settings: Settings,
    now: Micros,
    *,
    content: object,
    metadata: object,
    merge: object,
    ttl: object,
    sliding: object,
    importance: object,
    data: object,
    if_version: object,
    embed: object,
    vector: object,
) -> Patch:
    """Check the arguments of an update."""
    from agentmem.stores.rows import Patch

    values: dict[str, Value] = {}
    merged: dict[str, Any] | None = None
    if content is not UNSET:
        values["content"] = "" if is_nothing(content) else check_content(content, settings)
    merging = check_flag(merge, "merge")
    if metadata is UNSET:
        if not merging:
            raise InvalidInputError(
                "merge=False says how metadata is stored, and there is none; give metadata, too, or leave merge out",
                field="merge",
            )
    elif metadata is None:
        values["metadata"] = None
    else:
        text = metadata_json(metadata, settings.max_metadata_bytes)
        if merging:
            merged = {} if text is None else json.loads(text)
        else:
            values["metadata"] = text
    span = None if ttl is UNSET or ttl is None else check_ttl(ttl)
    if ttl is not UNSET:
        values["expires_at"] = None if span is None else now + span
    if sliding is not UNSET:
        values["sliding"] = slides(sliding, span if span is None else span / 1_000_000)
    if importance is not UNSET:
        values["importance"] = None if importance is None else check_number(importance, "importance", 0, 1)
    wanted = check_version(if_version, "if_version")
    form = None if embed is UNSET and vector is UNSET else new_form(embed, vector, settings, unset=UNSET)
    new = UNSET if data is UNSET else data_json(data)
    if not values and merged is None and form is None and new is UNSET:
        raise InvalidInputError("update() was given nothing to change", field="content")
    if values.get("content") == "" and form is None:
        form = no_form()
    return Patch(
        values, metadata_merge=merged, metadata_limit=settings.max_metadata_bytes, if_version=wanted, form=form,
        data=new, span=span,
    )  # fmt: skip


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
