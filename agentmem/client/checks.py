"""The border: every value from outside is checked here, once, before anything is embedded or written."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, cast, get_args

from agentmem.types.checks import MAX_ID, check_label, check_name, check_text
from agentmem.types.checks import check_count as check_count
from agentmem.types.checks import check_flag as check_flag
from agentmem.types.clock import Micros
from agentmem.types.enums import ALL, Given, Layer
from agentmem.types.errors import InvalidInputError, ScopeError, shown
from agentmem.types.inputs import Item, Scope, is_new_memory
from agentmem.types.spelling import composed, is_blank, is_plain, spellings
from agentmem.types.values import as_number

if TYPE_CHECKING:
    from agentmem.settings import Settings


MAX_BATCH = 10_000
MAX_CHANGES = 1_000
MAX_LIMIT = 10_000
MAX_OFFSET = 1_000_000_000
MAX_QUERY = 100_000
MAX_LABELS = 1_000
MAX_KEY = 2_048
MAX_DEPTH = 32
MAX_PATH = 2_048
RESERVED = "$"
"""How the first name of a namespace begins that belongs to the package."""
_LONGEST_TTL = 100 * 365 * 86_400
_LAYERS = {layer.value: layer for layer in Layer}


def check_content(value: object, settings: Settings, field: str = "content") -> str:
    """Text worth remembering: with something to be seen in it, not longer than the settings allow."""
    text = check_text(value, field)
    if is_blank(text):
        only = " (it has only characters that nobody can see)" if text else ""
        raise InvalidInputError(f"{field} is empty{only}; there is nothing to remember", field=field)
    if len(text) * 4 > settings.max_content_bytes and (size := len(text.encode())) > settings.max_content_bytes:
        raise InvalidInputError(
            f"{field} has {size:,} bytes, more than max_content_bytes={settings.max_content_bytes:,}; "
            "split it into passages and add each one",
            field=field,
        )
    return text


def check_contents(value: object, settings: Settings) -> list[str]:
    """A list of up to 10,000 texts; a bad one raises with its position."""
    return _check_each(value, "embed", "texts", "write [text] for one", lambda text: check_content(text, settings))


def check_queries(value: object) -> list[object]:
    """A list of up to 10,000 queries; each is checked where it is searched for."""
    kind = type(value).__name__
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise InvalidInputError(f"search_many takes a list of queries, not {kind}; use search for one", field="queries")
    given = cast("Sequence[object]", value)
    if len(given) > MAX_BATCH:
        raise InvalidInputError(
            f"search_many takes at most {MAX_BATCH:,} queries at once, got {len(given):,}; give them in parts",
            field="queries",
        )
    return [*given]


def is_nothing(content: object) -> bool:
    """Whether a content says that there is none."""
    return content is None or (isinstance(content, str) and not content)


def check_query(value: object) -> str:
    """Text to search with."""
    text = check_text(value, "query")
    if is_blank(text):
        raise InvalidInputError("query is empty; to list records without a query use page()", field="query")
    if len(text) > MAX_QUERY:
        raise InvalidInputError(
            f"query has {len(text):,} characters, more than {MAX_QUERY:,}; search with the question, not the document",
            field="query",
        )
    return text


def check_scope(
    user_id: object,
    agent_id: object,
    run_id: object,
    namespace: object = None,
    under: object = None,
    *,
    write: bool = False,
) -> Scope:
    """A scope whose ids are text, ints or UUIDs (or absent); ``ALL`` only as ``user_id`` and only in reads."""
    if user_id is ALL and write:
        raise ScopeError("user_id=ALL is for reads only; name the user to write for")
    user = ALL if user_id is ALL else _scope_id(user_id, "user_id")
    agent, run = _scope_id(agent_id, "agent_id"), _scope_id(run_id, "run_id")
    if namespace is None and under is None:
        return Scope(user, agent, run)
    if namespace is not None and under is not None:
        raise ScopeError("namespace= means one namespace, under= all below one; give one of them")
    if namespace is not None:
        return Scope(user, agent, run, check_namespace(namespace, "namespace"))
    return Scope(user, agent, run, None, check_namespace(under, "under"))


def check_namespace(value: object, field: str) -> tuple[str, ...]:
    """A path of names: text, ints or UUIDs."""
    if type(value) is tuple and _is_plain_path(cast("tuple[object, ...]", value)):
        return cast("tuple[str, ...]", value)
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        advice = f"write ({value!r},)" if isinstance(value, str) else "such as ('threads', '7')"
        raise ScopeError(f"{field} must be a sequence of names, {advice}, not {shown(value)}")
    parts = cast("Sequence[object]", value)
    if len(parts) > MAX_DEPTH:
        raise ScopeError(f"{field} has {len(parts):,} parts, more than {MAX_DEPTH}")
    try:
        path = tuple(composed(check_name(part, field)) for part in parts)
    except InvalidInputError as exc:
        raise ScopeError(str(exc)) from exc
    if sum(len(part) for part in path) > MAX_PATH:
        raise ScopeError(f"{field} has more than {MAX_PATH:,} characters")
    return path


def _is_plain_path(parts: tuple[object, ...]) -> bool:
    """Whether it is a path as it stands, as nearly all are; what else is one is looked at closely."""
    if len(parts) > MAX_DEPTH:
        return False
    size = 0
    for part in parts:
        if type(part) is not str or len(part) > MAX_ID or not is_plain(part):
            return False
        size += len(part)
    return size <= MAX_PATH


def refuse_reserved(path: Sequence[str] | None, field: str) -> None:
    """Raise ``ScopeError`` for a namespace that belongs to the package."""
    if path and path[0].startswith(RESERVED):
        raise ScopeError(
            f"{field}={tuple(path)!r}: namespaces whose first name begins with {RESERVED!r} are the package's own; "
            "choose another name"
        )


def check_key(value: object) -> str:
    """What a record is put by, as it is."""
    text = check_text(value, "key")
    if not text:
        raise InvalidInputError("key is empty; name what is to be found by it", field="key")
    if len(text) * 4 > MAX_KEY and (size := len(text.encode())) > MAX_KEY:
        raise InvalidInputError(f"key has {size:,} bytes, more than {MAX_KEY:,}; put a hash of it", field="key")
    return text


def _scope_id(value: object, name: str) -> str | None:
    if value is None:
        return None
    if value is ALL:
        raise ScopeError(f"{name}=ALL has no meaning; leave {name} out to match every {name[:-3]}")
    try:
        return check_name(value, name)
    except InvalidInputError as exc:
        raise ScopeError(str(exc)) from exc


def check_id(value: object) -> str:
    """A record's id, as it is spelled."""
    return check_name(value, "id")


def check_given(value: object) -> Given:
    """What becomes of vectors that callers gave."""
    if not isinstance(value, str) or value not in get_args(Given):
        raise InvalidInputError(f"given={shown(value)} is not one of {', '.join(get_args(Given))}", field="given")
    return cast("Given", value)


def check_ids(value: object, call: str, instead: str) -> list[str]:
    """A list of up to 10,000 ids; one that is none raises with its position."""
    return _check_each(value, call, "ids", instead, check_id)


def _check_each(value: object, call: str, field: str, instead: str, check: Callable[[object], str]) -> list[str]:
    kind = type(value).__name__
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise InvalidInputError(f"{call} takes a list of {field}, not {kind}; {instead}", field=field)
    given = cast("Sequence[object]", value)
    if len(given) > MAX_BATCH:
        raise InvalidInputError(
            f"{call} takes at most {MAX_BATCH:,} {field} at once, got {len(given):,}; give them in parts", field=field
        )
    checked = list[str]()
    for index, one in enumerate(given):
        try:
            checked.append(check(one))
        except InvalidInputError as exc:
            raise InvalidInputError(f"{field}[{index}]: {exc}", field=field, index=index) from exc
    return checked


def check_limit(value: object) -> int:
    """How many results: 1 to 10,000."""
    number = as_number(value)
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MAX_LIMIT:
        raise InvalidInputError(
            f"limit must be an int from 1 to {MAX_LIMIT:,}, not {shown(value)}; to read everything use iterate()",
            field="limit",
        )
    return number


def check_offset(value: object) -> int:
    """How many results to pass over: 0 or more."""
    number = as_number(value)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MAX_OFFSET:
        raise InvalidInputError(
            f"offset must be an int from 0 to {MAX_OFFSET:,}, not {shown(value)}; to go on, pass a page's cursor",
            field="offset",
        )
    return number


def check_turns(value: object) -> int:
    """How many turns to take: 1 to 10,000, which go in one transaction."""
    number = as_number(value)
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MAX_LIMIT:
        raise InvalidInputError(
            f"n must be an int from 1 to {MAX_LIMIT:,}, not {shown(value)}; to delete all of a conversation use "
            "delete_all()",
            field="n",
        )
    return number


def check_ttl(value: object) -> Micros:
    """A time to live, as a timedelta or seconds, in microseconds."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else as_number(value)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= _LONGEST_TTL:
        raise InvalidInputError(
            "ttl must be a timedelta or seconds, such as timedelta(hours=1) or 3600, more than 0 and up to 100 years, "
            f"not {shown(value)}",
            field="ttl",
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
    return [spelling for item in labels for spelling in spellings(check_label(item, field))]


def check_batch(items: object, call: str = "add_many") -> Sequence[Item]:
    """A sequence of at most 10,000 items."""
    kind = type(items).__name__
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Sequence):
        raise InvalidInputError(
            f"{call} takes a list of items, not {kind}"
            + "; add() takes one, add_stream() any iterable" * (call == "add_many"),
            field="items",
        )
    batch = cast("Sequence[Item]", items)
    if len(batch) > MAX_BATCH:
        raise InvalidInputError(
            f"{call} takes at most {MAX_BATCH:,} items at once, got {len(batch):,}; "
            + ("use add_stream()" if call == "add_many" else "split them"),
            field="items",
        )
    return batch


def check_changes(changes: object) -> Sequence[object]:
    """A sequence of at most 1,000 changes for ``apply``, at least one."""
    kind = type(changes).__name__
    if isinstance(changes, (str, bytes, Mapping)) or not isinstance(changes, Sequence):
        raise InvalidInputError(
            f"apply takes a list of Add, Put, Update, Delete and Touch, not {kind}", field="changes"
        )
    several = cast("Sequence[object]", changes)
    if len(several) > MAX_CHANGES:
        raise InvalidInputError(
            f"apply takes at most {MAX_CHANGES:,} changes at once, got {len(several):,}: others wait for as long; "
            "put_many, add_many and delete_many take more",
            field="changes",
        )
    return several


MAX_CHUNK = 10_000


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
    number = as_number(chunk)
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MAX_CHUNK:
        raise InvalidInputError(f"chunk must be an int from 1 to {MAX_CHUNK:,}, not {shown(chunk)}", field="chunk")


def check_tokens(max_tokens: object) -> None:
    number = as_number(max_tokens)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        message = f"max_tokens must be an int of at least 1, not {shown(max_tokens)}"
        raise InvalidInputError(message, field="max_tokens")


def check_version(value: object, field: str) -> int | None:
    """A record's version, or None."""
    if value is None:
        return None
    number = as_number(value)
    if isinstance(number, bool) or not isinstance(number, int) or abs(number) >= 2**63:
        raise InvalidInputError(f"{field} must be a record's version, an int, not {shown(value)}", field=field)
    return number


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
