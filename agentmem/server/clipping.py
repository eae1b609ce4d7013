"""Answers cut to what fits on a page, for those who look and do not need every word (``Prefer: clip=N``, RFC 7240)."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, cast

import orjson

from agentmem.server.answers import JSON, Answer, dumps

_CLIP = re.compile(rb"(?:^|[,;\s])clip\s*=\s*\"?(\d{1,9})\"?(?:$|[,;\s])", re.IGNORECASE)
_WHOLE = ("metadata", "data", "message", "value")
"""Names of what callers put there, which may be of any size and shape."""
_TIMES = 8
"""How many times the length of a text all of such a thing may have."""


def clipped(answer: Answer, headers: dict[bytes, bytes]) -> Answer:
    """The answer with texts of at most so many characters, if that is preferred; what was cut ends with ``…``."""
    wanted = _CLIP.search(headers.get(b"prefer", b""))
    if wanted is None or answer.lines is not None or answer.status >= 300 or JSON not in answer.headers:
        return answer
    most = max(1, int(wanted[1]))
    applied = (b"preference-applied", b"clip=%d" % most)
    return replace(answer, body=dumps(_cut(orjson.loads(answer.body), most)), headers=(*answer.headers, applied))


def _cut(value: Any, most: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= most else f"{value[:most]}…"
    if isinstance(value, list):
        return [_cut(one, most) for one in cast("list[Any]", value)]
    if isinstance(value, dict):
        found = cast("dict[str, Any]", value)
        return {name: _Room(most).cut(one) if name in _WHOLE else _cut(one, most) for name, one in found.items()}
    return value


class _Room:
    """What is left for one thing of a caller's."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = most * _TIMES

    def cut(self, value: Any) -> Any:
        """The value, as far as there is room for it."""
        if isinstance(value, str):
            most = max(1, min(self._most, self._left))
            self._left -= min(len(value), most)
            return value if len(value) <= most else f"{value[:most]}…"
        if isinstance(value, list):
            items = list[Any]()
            for one in cast("list[Any]", value):
                if self._left <= 0:
                    return [*items, "…"]
                self._left -= 2
                items.append(self.cut(one))
            return items
        if isinstance(value, dict):
            made = dict[str, Any]()
            for name, one in cast("dict[str, Any]", value).items():
                if self._left <= 0:
                    return {**made, "…": "…"}
                self._left -= len(name) + 4
                made[name] = self.cut(one)
            return made
        self._left -= 8
        return value
