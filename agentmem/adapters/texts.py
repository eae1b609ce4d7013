"""Texts that come from elsewhere, as those that a memory is embedded by."""

from __future__ import annotations

import re
from unicodedata import category

LONGEST = 16_384
"""Characters of a text that are embedded, where it is not the content."""
MOST = 262_144
"""Characters that a content holds by the default settings, whatever they are."""
BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Characters of nothing but space that count as printable."""
_UNFIT = re.compile(r"[\x00\ud800-\udfff]")


def embeddable(text: str) -> str:
    """The beginning of a text without what no content can hold, NULs and half characters; empty if none of it shows."""
    fit = _UNFIT.sub(" ", text[:LONGEST]).strip()
    return fit if any(map(_shows, fit)) else ""


def fitting(text: str) -> str | None:
    """The beginning of a text as a content, U+FFFD in place of what none can hold; None if none of it shows."""
    fit = _UNFIT.sub("\ufffd", text[:MOST])
    return fit if any(map(_shows, fit)) else None


def is_content(text: str) -> bool:
    """Whether a text may be a content as it is, however many bytes its characters take."""
    return len(text) < MOST and _UNFIT.search(text) is None and any(map(_shows, text))


def _shows(character: str) -> bool:
    # What is printable and no mark on something else; a blank is printable, too.
    if character in BLANK_LETTERS or character == " " or not character.isprintable():
        return False
    return not category(character).startswith("M")
