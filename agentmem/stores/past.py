"""What events say for whoever takes them back: values that changed beside those that the history shows.

An event's data hold, by column, what a change replaced, and that is what the history of a record shows. What a caller
never set but the record as it was then needs, such as when its time in its layer began, stands in there under ``WAS``.
Of the rest, version, state and the time of the last change, every event before it tells.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from agentmem.stores.rows import Stored

WAS = "was"
GIVEN = "given"
"""In there: embeddings that a caller gave, in base64, which nothing can make again."""
RECOGNISED = "recognised"
"""In there: a repetition of the record was recognised, and is so no more."""
EARLIER = "earlier"
"""In that of a TOUCH: those that it took the place of, ``[seq, end, span]`` each with what they replaced."""
MOVED = "moved"
"""In there: when an event came from another store, which is later than it happened."""
_EARLIER = 10


def replaced(old: Stored, new: Stored, given: bytes = b"") -> dict[str, Any]:
    """What a change replaced that its data do not tell; ``given`` are embeddings that it replaced."""
    was = dict[str, Any]()
    if old.aged_from != new.aged_from:
        was["aged_from"] = old.aged_from
    if old.fingerprint is not None and new.fingerprint is None:
        was[RECOGNISED] = True
    if given:
        was[GIVEN] = base64.b64encode(given).decode()
    return was


def with_past(data: dict[str, Any], was: dict[str, Any]) -> str | None:
    """An event's data as they are stored."""
    if was:
        data = {**data, WAS: was}
    return json.dumps(data, ensure_ascii=False) if data else None


def shown(data: str | None) -> dict[str, Any]:
    """What the history shows of an event's data."""
    found: dict[str, Any] = json.loads(data) if data else {}
    found.pop(WAS, None)
    return found


def was(data: dict[str, Any]) -> dict[str, Any]:
    """What an event's data say for whoever takes it back."""
    found = data.get(WAS)
    return found if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def came_at(at: int, data: str | None) -> int:
    """When an event of that time, with these data, became one of this store's."""
    return at if not data or MOVED not in data else int(was(json.loads(data)).get(MOVED, at))


def touched(end: int | None, span: int | None, before: tuple[int, str | None] | None) -> str:
    """The data of a TOUCH, with the end and the span that it replaced, in the place of one before: its number and data.

    Of many the last ones are kept, and the first.
    """
    earlier = list[Sequence[Any]]()
    if before is not None:
        known = was(json.loads(before[1])) if before[1] else {}
        earlier = list(known.get(EARLIER, ()))
        if "expires_at" in known:
            earlier.append([before[0], known["expires_at"], known.get("sliding")])
        if len(earlier) > _EARLIER:
            del earlier[1 : len(earlier) - _EARLIER + 1]
    data: dict[str, Any] = {"expires_at": end, "sliding": span}
    if earlier:
        data[EARLIER] = earlier
    return json.dumps({WAS: data})
