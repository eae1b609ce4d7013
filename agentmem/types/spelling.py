"""How a name may be spelled: the same letters in several encodings, and characters that nobody can see.

A letter with a mark has a composed spelling (é, U+00E9) and a decomposed one (e, U+0301); keyboards and file systems
differ in which they make, readers see no difference, and Unicode calls them equivalent. Names are stored composed
(normalisation form C), and found in either spelling.
"""

from __future__ import annotations

import re
from unicodedata import name, normalize

# Blanks, controls, marks of direction, and what has no width or no ink and stands in no word.
_LOOSE = (
    r"\s\x00-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    r"\ufeff\uffa0\ufff9-\ufffb"
)
# With them the rest of Unicode's Default_Ignorable_Code_Point: joiners, selectors and tags are parts of words and of
# emoji, but are nothing by themselves.
_UNSEEN = (
    _LOOSE + r"\u034f\u17b4\u17b5\u180b-\u180f\u200c\u200d\ufe00-\ufe0f\ufff0-\ufff8\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_BLANK = re.compile(f"[{_UNSEEN}]*")
_ENDS = re.compile(rf"\A[{_LOOSE}]+|[{_LOOSE}]+\Z")


def is_blank(text: str) -> bool:
    """Whether there is nothing in it to be seen: it is empty, or all blanks, controls and invisible characters."""
    first = text[:1]
    if first.isascii() and first.isalnum():  # nearly always, and five times as fast
        return False
    return _BLANK.fullmatch(text) is not None


def trimmed(text: str) -> str:
    """The text without the blanks and invisible characters around it."""
    return _ENDS.sub("", text)


def is_plain(text: str) -> bool:
    """Whether it is ASCII that is all to be seen, at its ends, too: nothing of it needs a second look.

    Not the only names that are fine, but nearly all, and every record has some.
    """
    return text.isascii() and text.isprintable() and text[:1] > " " and text[-1] != " "


def described(character: str) -> str:
    """A character that cannot be shown, for messages: ``a blank``, ``ZERO WIDTH SPACE (U+200B)``."""
    if character == " ":
        return "a blank"
    return f"{name(character, 'a control character')} (U+{ord(character):04X})"


def composed(text: str) -> str:
    """The spelling in which names are stored: Unicode's normalisation form C."""
    return text if text.isascii() else normalize("NFC", text)


def spellings(text: str) -> tuple[str, ...]:
    """The spellings under which a name may have been stored, in the order in which they are looked for.

    First the given one, since a store of before names were composed may have two that differ in nothing else; then the
    composed one, then the decomposed one.
    """
    if text.isascii():
        return (text,)
    return tuple(dict.fromkeys((text, normalize("NFC", text), normalize("NFD", text))))
