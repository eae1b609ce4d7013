"""Texts that come from elsewhere, as those that a memory is embedded by."""

from __future__ import annotations

import re

LONGEST = 16_384
"""Characters of a text that are embedded, where it is not the content."""
_UNFIT = re.compile(r"[\x00\ud800-\udfff]")


def embeddable(text: str) -> str:
    """The beginning of a text without what no content can hold, NULs and half characters; empty for blanks."""
    return _UNFIT.sub(" ", text[:LONGEST]).strip()


def is_content(text: str) -> bool:
    """Whether a text may be a content as it is, however many bytes its characters take."""
    return not text.isspace() and 0 < len(text) < 262_144 and _UNFIT.search(text) is None
