"""Any text as a name of a scope or a namespace: the ids that other frameworks have may be empty, blank or long."""

from __future__ import annotations

from hashlib import sha256
from unicodedata import normalize
from urllib.parse import quote, unquote

from agentmem.adapters.texts import BLANK_LETTERS

LONGEST = 256
"""Characters of a name that still says the text; of longer ones it is a hash."""
EMPTY = "%"
_HASHED = "%~"
_ESCAPED = BLANK_LETTERS | {"%"}


def escaped(text: str) -> str:
    """A text as a name, which says what can be seen: what cannot, and per cent signs, as in a URL."""
    plain = text.isprintable() and text == text.strip() == normalize("NFC", text) and not _ESCAPED & set(text)
    return text if plain else quote(text, safe="", errors="surrogatepass")


def unescaped(name: str) -> str:
    """What ``escaped`` made a name of."""
    return unquote(name, errors="surrogatepass")


def label_of(text: str) -> str:
    """A name of at most 256 characters for any text, another one for each; the text itself wherever it may be one."""
    name = escaped(text) or EMPTY
    if len(name) <= LONGEST:
        return name
    return _HASHED + sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def text_of(label: str) -> str | None:
    """The text that ``label_of`` made a label of; None of one too long to be read from its label."""
    if label.startswith(_HASHED):
        return None
    return "" if label == EMPTY else unescaped(label)
