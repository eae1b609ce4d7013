"""Names that come from elsewhere, however they are spelled, as ids, keys and parts of namespaces."""

from __future__ import annotations

from hashlib import sha256
from urllib.parse import quote

LONGEST = 400
"""Characters of a name that is kept readable."""
_READABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


def name(text: str) -> str:
    """What stands for a text where an id is wanted: one-to-one, itself if it is short and of plain characters.

    Others are written with ``%``, as in URLs, and those that are too long then as a hash; an empty one has a name, too.
    """
    inside = _READABLE if text == text.strip(" ") else _READABLE.strip()
    quoted = quote(text, safe=inside, errors="surrogatepass") or "%"
    if len(quoted) <= LONGEST:
        return quoted
    return "%#" + sha256(text.encode("utf-8", "surrogatepass")).hexdigest()  # as no text is quoted
