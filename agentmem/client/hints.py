"""What somebody may have meant: field names as other libraries and exports have them, and misspelled ones."""

from __future__ import annotations

from collections.abc import Iterable

_CALLED_OTHERWISE = {
    "content": "text message body data memory value page_content prompt",
    "user_id": "user uid user_name username owner customer customer_id",
    "agent_id": "agent assistant_id bot bot_id app_id",
    "run_id": "run session session_id conversation conversation_id thread thread_id chat chat_id",
    "role": "author sender speaker from who",
    "kind": "type category memory_type",
    "metadata": "meta tags attributes properties extra additional_kwargs",
    "occurred_at": "timestamp time date datetime created created_at sent_at ts at when",
    "ttl": "expires expires_in expires_at expiry max_age",
    "importance": "priority weight score",
    "id": "key uuid _id memory_id record_id message_id",
}
_MEANT = {other: name for name, others in _CALLED_OTHERWISE.items() for other in others.split()}


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for what resembles one of the names, else a full stop."""
    if not isinstance(name, str) or len(name) > 50:
        return "."
    known = list(names)
    given = name.strip().lower().replace("-", "_").replace(" ", "_")
    meant = given if given in known else _MEANT.get(given)
    if meant is None:
        from difflib import get_close_matches  # only where something is wrong

        meant = next(iter(get_close_matches(given, known, 1, 0.75)), None)
    return f"; did you mean {meant!r}?" if meant in known else "."
