"""Any text as a name of a scope or a namespace: the ids that other frameworks have may be empty, blank or long."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from unicodedata import normalize
from urllib.parse import quote, unquote
from uuid import UUID

from agentmem import InvalidInputError, ScopeError
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
    """A name of at most 256 characters for any text, another one for each; the text itself wherever it may be one.

    What is no text is refused: frameworks that check their own types would store it, and then not read it again.
    """
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"an id must be text, not {text!r}; write str(...)")
    name = escaped(text) or EMPTY
    if len(name) <= LONGEST:
        return name
    return _HASHED + sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def id_label(id: object) -> str:
    """The same for an id, which may be an int or a UUID, as in all of agentmem."""
    if isinstance(id, bool) or not isinstance(id, (str, int, UUID)):
        raise InvalidInputError(f"an id must be text, an int or a UUID, not {id!r}")
    return label_of(str(id))


def names_of(namespace: Iterable[str]) -> tuple[str, ...]:
    """A namespace that was given as a sequence of names; a text would be one of its letters."""
    if isinstance(namespace, str):
        raise ScopeError(f"namespace must be a sequence of names, write ({namespace!r},), not {namespace!r}")
    return tuple(namespace)


def text_of(label: str) -> str | None:
    """The text that ``label_of`` made a label of; None of one too long to be read from its label."""
    if label.startswith(_HASHED):
        return None
    return "" if label == EMPTY else unescaped(label)
