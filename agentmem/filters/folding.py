"""Text without regard to case, for SQLite, which folds ASCII only: as patterns that name every spelling of a character.

The folding is Unicode's simple one: each character for itself, so that a text keeps its length. ``ß`` is ``ẞ`` and not
``ss``, a Greek sigma is the same at the end of a word, the i without a dot is another letter, and accents count.
"""

from __future__ import annotations

from functools import cache

from agentmem.filters.sql import Sql, bind, join

MAX_FOLDED = 1_000
"""Characters of an operand: a pattern may have 50,000 bytes, and a character takes up to 20 of them."""
_CASED_BELOW = 0x1F000
"""No character from here on has an upper and a lower case."""
_SPECIAL = frozenset("*?[")


def fold(character: str) -> str:
    """What a character and those that differ from it in nothing but case have in common."""
    for folded in (character.casefold(), character.lower()):
        if len(folded) == 1:
            return folded
    return character


def has(value: Sql, text: str) -> Sql:
    """Whether a text has this one in it, in whatever case."""
    return join(value, " GLOB ", bind(f"*{_pattern(text)}*"))


def equals(value: Sql, text: str) -> Sql:
    """Whether a text is this one, in whatever case."""
    return join(value, " GLOB ", bind(_pattern(text)))


def _pattern(text: str) -> str:
    return "".join(map(_any_case, text))


def _any_case(character: str) -> str:
    every = _spellings().get(fold(character), character)
    return f"[{every}]" if len(every) > 1 or every in _SPECIAL else every


@cache
def _spellings() -> dict[str, str]:
    """The characters that fold to one, where there are several."""
    found = dict[str, str]()
    for character in map(chr, range(_CASED_BELOW)):
        folded = fold(character)
        if folded != character:
            found[folded] = found.get(folded, folded) + character
    return found
