"""Text to terms: the one tokenizer of keyword search, for memories and for queries.

Terms are runs of letters and digits, case-folded (NFKC), ASCII ones reduced to their English stem (Snowball). Scripts
written without spaces (Han, Kana, Thai, Lao, Khmer, Myanmar) are split into single characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import py_rust_stemmers

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TERM = re.compile(rf"[{_UNSPACED}\U00020000-\U0003ffff]|[^\W_{_UNSPACED}\U00020000-\U0003ffff]+")
_ASCII_TERM = re.compile(r"[a-z0-9]+")
_english: Callable[[str], str] = cast("Any", py_rust_stemmers).SnowballStemmer("english").stem_word
_LONGEST = 64
"""Longer runs are hashes or encoded data; their first characters are enough to tell them apart."""


def terms(text: str) -> list[str]:
    """The terms of a text, in order, repeated as they occur."""
    if text.isascii():
        return [_stem(word) for word in _ASCII_TERM.findall(text.lower())]
    folded = unicodedata.normalize("NFKC", text).casefold()
    return [_stem(word) for word in _TERM.findall(folded)]


@lru_cache(maxsize=50_000)
def _stem(word: str) -> str:
    word = word[:_LONGEST]
    return _english(word) if word.isascii() else word
