"""What mem0's calls take and return, as values: ids, messages, payloads, filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from hashlib import md5
from typing import Any, TypeAlias, cast

from agentmem import ALL, HistoryEvent, InvalidInputError, MemoryRecord

Payload: TypeAlias = dict[str, Any]
IDS = ("user_id", "agent_id", "run_id")
_PROMOTED = (*IDS, "actor_id", "role", "attributed_to", "expiration_date")
_CORE = {"data", "hash", "created_at", "updated_at", "id", "text_lemmatized", *_PROMOTED}
_OPERATORS = {"eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "contains", "icontains"}


def scope_id(value: Any, name: str) -> str | None:
    """An id as text, without blanks around it; None is none."""
    if value is None:
        return None
    if value == "*" and name == "user_id":
        raise InvalidInputError(
            "user_id '*' is no user; for everybody's memories leave it out and name an agent or a run"
        )
    text = str(value).strip()
    if not text or any(map(str.isspace, text)):
        fault = "contain whitespace" if text else "be empty or whitespace-only"
        raise InvalidInputError(f"Invalid {name}: cannot {fault}. Provide a valid identifier.", field=name)
    return text


def day(value: Any) -> str:
    if isinstance(value, datetime):
        value = value.date()
    try:
        return value.isoformat() if isinstance(value, date) else date.fromisoformat(value).isoformat()
    except (TypeError, ValueError) as exc:
        raise InvalidInputError(
            "expiration_date must be a valid date in YYYY-MM-DD format.", field="expiration_date"
        ) from exc


def check(more: Mapping[str, Any], call: str, top_k: Any, threshold: Any = None) -> None:
    if given := sorted(set(IDS).intersection(more)):
        raise InvalidInputError(
            f"Top-level entity parameters {', '.join(given)} are not supported in {call}(). "
            "Use filters={'user_id': '...'} instead."
        )
    if more:
        raise TypeError(f"{call}() has no argument {sorted(more)[0]!r}; top_k says how many, filters which ones")
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 0:
        raise InvalidInputError(f"Invalid top_k: {top_k}. Must be a non-negative integer.", field="top_k")
    if threshold is not None and not 0 <= threshold <= 1:
        raise InvalidInputError(f"Invalid threshold: {threshold}. Must be between 0 and 1 (inclusive).")


# -- what is stored --------------------------------------------------------------------------------------------------


def own(metadata: Mapping[str, Any] | None) -> Payload:
    """A caller's metadata, without what says whose a memory is: only the arguments say that."""
    return {name: value for name, value in (metadata or {}).items() if name not in {*IDS, "actor_id"}}


def messages_of(messages: Any) -> list[tuple[Payload, str]]:
    """Role and author of each message that has a text, and the text."""
    if isinstance(messages, str):
        messages = {"role": "user", "content": messages}
    if isinstance(messages, Mapping):
        messages = [messages]
    if not isinstance(messages, list):
        raise InvalidInputError("messages must be str, dict, or list[dict]", field="messages")
    found = list[tuple[Payload, str]]()
    for message in cast("list[Any]", messages):
        role, text = message.get("role"), message.get("content")
        about = {"role": role} | ({"actor_id": message["name"]} if message.get("name") else {})
        if isinstance(text, list):
            parts = cast("list[Any]", text)
            texts = [str(part["text"]) for part in parts if "text" in part]
            about, text = {"role": role}, " ".join(texts) if texts else None
        if isinstance(text, str) and role is not None and role != "system":
            found.append((about, text))
    return found


def payload_of(values: Payload, text: str) -> Payload:
    """What mem0 calls so: its own values after the caller's, since filters look at the beginning only."""
    now = datetime.now(UTC).isoformat()
    rest = {name: value for name, value in values.items() if name not in ("hash", "created_at", "updated_at", "data")}
    created = values.get("created_at") or now
    updated = now if "data" in values else created
    digest = md5(text.encode(errors="surrogatepass"), usedforsecurity=False).hexdigest()
    return {**rest, "hash": digest, "created_at": created, "updated_at": updated, "data": text}


def expiry_of(payload: Payload) -> Payload:
    """The metadata of the record: the day after which a memory is left out, for a filter of every search."""
    try:
        return {"expiration_date": date.fromisoformat(str(payload.get("expiration_date"))).isoformat()}
    except ValueError:
        return {}


def shown(record: MemoryRecord) -> dict[str, Any]:
    """A memory as mem0 returns it."""
    payload: Payload = record.data
    more = {name: value for name, value in payload.items() if name not in _CORE}
    return {
        "id": record.id, "memory": payload["data"], "hash": payload["hash"], "metadata": more or None,
        "created_at": payload["created_at"], "updated_at": payload["updated_at"],
        **{name: payload[name] for name in _PROMOTED if name in payload},
    }  # fmt: skip


def history_of(record: MemoryRecord, events: Sequence[HistoryEvent]) -> list[dict[str, Any]]:
    payload: Payload = record.data
    told, text = list[dict[str, Any]](), payload["data"]
    for event in reversed(events):
        kind = event.event.value
        if kind not in ("ADD", "UPDATE", "DELETE"):
            continue
        old = None if kind == "ADD" else event.data.get("content", text)
        told.append(
            {
                "id": str(event.seq), "memory_id": record.id, "old_memory": old,
                "new_memory": None if kind == "DELETE" else text, "event": kind, "created_at": payload["created_at"],
                "updated_at": payload["created_at"] if kind == "ADD" else event.at.isoformat(),
                "is_deleted": kind == "DELETE", "actor_id": payload.get("actor_id"), "role": payload.get("role"),
            }
        )  # fmt: skip
        text = text if old is None else old
    return told[::-1]


def missing(id: str) -> InvalidInputError:
    return InvalidInputError(f"Memory with id {id} not found", field="memory_id")


# -- what is asked for -----------------------------------------------------------------------------------------------


def where(filters: Mapping[str, Any] | None, show_expired: bool) -> tuple[Payload, Payload | None]:
    """The scope that mem0's filters mean, everybody's where no user is named, and the other conditions as a filter."""
    rest = dict(filters or {})
    given = {name: rest.pop(name) for name in IDS if name in rest}
    if all(value is None for value in given.values()):
        raise InvalidInputError(
            "filters must contain at least one of: user_id, agent_id, run_id. Example: filters={'user_id': 'u1'}",
            field="filters",
        )
    scope: Payload = {name: scope_id(value, name) for name, value in given.items() if name == "user_id" or value != "*"}
    scope["user_id"] = scope.get("user_id") or ALL
    conditions = [_filter(rest)]
    if not show_expired:
        today = datetime.now(UTC).date().isoformat()
        conditions.append({"$or": [{"expiration_date": None}, {"expiration_date": {"$gte": today}}]})
    return scope, _together("$and", conditions)


def _together(operator: str, conditions: Sequence[Payload | None]) -> Payload | None:
    """Conditions with an operator between them; what asks for nothing is left out."""
    asked = [condition for condition in conditions if condition is not None]
    return {operator: asked} if asked else None


def _filter(filters: Mapping[str, Any]) -> Payload | None:
    """mem0's filter language as agentmem's; None where it asks for nothing."""
    conditions = list[Payload | None]()
    for key, value in filters.items():
        name = {"$and": "AND", "$or": "OR", "$not": "NOT"}.get(key, key)
        if name not in ("AND", "OR", "NOT"):
            conditions.append(_condition(f"$data.{key}", value))
            continue
        if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in cast("list[Any]", value)):
            raise InvalidInputError(f"{name} operator requires a list of conditions", field="filters")
        parts = [_filter(each) for each in cast("list[Mapping[str, Any]]", value)]
        if name == "NOT":
            conditions += [None if part is None else {"$not": part} for part in parts]
        else:
            conditions.append(_together(f"${name.lower()}", parts))
    return _together("$and", conditions)


def _condition(path: str, value: Any) -> Payload | None:
    if not isinstance(value, Mapping):
        return None if value == "*" else {path: {"$in" if isinstance(value, list) else "$eq": value}}
    tests = list[Payload]()
    for operator, operand in cast("Mapping[str, Any]", value).items():
        if operator not in _OPERATORS:
            raise InvalidInputError(f"Unsupported metadata filter operator: {operator}", field="filters")
        if operator in ("ne", "nin"):  # as mem0 has it, they ask for the key, too
            tests.append({path: {"$exists": True}})
        tests.append({path: {f"${operator}": _instant(operand) if operator in ("gt", "gte", "lt", "lte") else operand}})
    return _together("$and", tests)


def _instant(operand: Any) -> Any:
    """A time that is written as text, as a time."""
    try:
        time = datetime.fromisoformat(operand)
    except (TypeError, ValueError):
        return operand
    return time if time.tzinfo else time.replace(tzinfo=UTC)
