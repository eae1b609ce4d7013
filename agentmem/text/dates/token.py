"""A token, and what the tokens of words and numbers are made with."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any, NamedTuple

CJK = "\u3005-\u3007\u3040-\u30ff\u3400-\u9fff"
NUMERALS = "〇零一二两兩三四五六七八九十"
_VALUES = {char: value for value, chars in enumerate("〇零 一 二两兩 三 四 五 六 七 八 九".split()) for char in chars}


class Token(NamedTuple):
    """A piece of the question, from one character to another, with its kind and what that says.

    A word is folded; ``capital`` says that its first letter was a capital though nothing but a name asks for one,
    ``hyphen`` that one joins it to what is before.
    """

    kind: str
    value: Any
    start: int
    end: int
    word: str = ""
    capital: bool = False
    hyphen: bool = False


Day = tuple[int | None, int, int | None]
"""Year, month, day: None where it was not said. Month 0 is the ten years from the year on."""


@lru_cache(maxsize=4_096)
def fold(word: str) -> str:
    """A word without case and accents."""
    word = word.casefold()
    if word.isascii():
        return word
    return "".join(char for char in unicodedata.normalize("NFD", word) if not unicodedata.combining(char))


def numeral(text: str) -> int | None:
    """A number in digits, in Chinese numerals up to 99, or in four of them digit by digit."""
    if text[0] not in _VALUES and text[0] != "十":
        return int(text)
    if "十" not in text:
        return int("".join(str(_VALUES[char]) for char in text)) if len(text) in (1, 4) else None
    tens, _, ones = text.partition("十")
    if len(tens) > 1 or len(ones) > 1 or ones == "十":
        return None
    return (_VALUES[tens] if tens else 1) * 10 + (_VALUES[ones] if ones else 0)
