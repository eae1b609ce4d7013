"""Text that came from elsewhere as data in a prompt: nothing in it can pass for a turn, an instruction or an end.

A text becomes one line between quotation marks, with JSON's escapes. Beyond those that JSON needs, whatever could end
what surrounds it, change how it is shown, or be a token with a meaning of its own to a model is written as an escape:
angle brackets (tags, ``<|im_start|>``), ``[INST]`` and its like, control characters, line and paragraph separators,
characters that turn the direction of writing, and those that nobody sees.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, tzinfo

_UNSEEN = re.compile(
    "[<>\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
    "\ud800-\udfff]"
)
_BRACKETS = re.compile(r"\[(?=/?[A-Z][A-Z_]*\])")
_NOT_A_NAME = re.compile(r"[^\w @.+-]+")
_LONGEST_NAME = 64


def quoted(text: str) -> str:
    """A text as one line of data, in quotation marks; ``json.loads`` gives it back."""
    return escaped(json.dumps(text, ensure_ascii=False))


def escaped(text: str) -> str:
    """JSON on one line, whose texts can do no more than be read."""
    return _UNSEEN.sub(_escape, _BRACKETS.sub(r"\\u005b", text))


def name(text: str) -> str:
    """A name of somebody's choice as a word in a line: no punctuation that means anything there."""
    return _NOT_A_NAME.sub("_", _UNSEEN.sub("_", text))[:_LONGEST_NAME]


def memory_line(content: str, *, when: datetime, zone: tzinfo, source: str) -> str:
    """A memory as a line: its date, who said it or what kind of record it is, and its text."""
    return f"- [{_date(when, zone)}] {name(source)}: {quoted(content)}"


def inside(text: str) -> str:
    """A text of several lines inside of tags: it stays readable, and cannot end them, nor hide anything."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(_UNSEEN.sub(_shown, _BRACKETS.sub("(", _CONTROL.sub(" ", line))) for line in lines)


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]")


def _shown(found: re.Match[str]) -> str:
    return {"<": "&lt;", ">": "&gt;"}.get(found[0], "")


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code > 0xFFFF:  # as JSON writes it
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"


def _date(when: datetime, zone: tzinfo) -> str:
    try:
        return when.astimezone(zone).date().isoformat()
    except OverflowError:
        return when.date().isoformat()
