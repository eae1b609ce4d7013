"""Texts that come from elsewhere, as contents of records."""

from __future__ import annotations

import re

LONGEST = 262_144
"""Characters of a text that are embedded and searched: all that a content holds by the default settings."""
_UNFIT = re.compile(r"[\x00\ud800-\udfff]")


def fitting(text: str) -> str | None:
    """The beginning of a text, U+FFFD in place of NULs and half characters; None where nothing is to be seen in it."""
    fit = _UNFIT.sub("\ufffd", text[:LONGEST])
    return fit if any(map(str.isprintable, "".join(fit.split()))) else None
