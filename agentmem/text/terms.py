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
_SENTENCE = re.compile(r"[^.!?\n\u3002\uff01\uff1f\u061f]+[.!?\s\u3002\uff01\uff1f\u061f]*")
_ASKS = re.compile(r"[?\uff1f\u061f]\s*$")
_ASCII_TERM = re.compile(r"[a-z0-9]+")
_english: Callable[[str], str] = cast("Any", py_rust_stemmers).SnowballStemmer("english").stem_word
_LONGEST = 64
"""Longer runs are hashes or encoded data; their first characters are enough to tell them apart."""


def terms(text: str) -> list[str]:
    """The terms of a text, in order, repeated as they occur."""
    return [stem(word) for word in spellings(text)]


def spellings(text: str) -> list[str]:
    """The words behind the terms, as they are spelled, case-folded."""
    if text.isascii():
        return _ASCII_TERM.findall(text.lower())
    return _TERM.findall(unicodedata.normalize("NFKC", text).casefold())


def asking(text: str) -> float:
    """The share of a text, in characters, that are questions, in [0, 1]: sentences that end in a question mark."""
    if "?" not in text and "\uff1f" not in text and "\u061f" not in text:
        return 0.0
    sentences = _SENTENCE.findall(text)
    asked = sum(len(sentence) for sentence in sentences if _ASKS.search(sentence))
    return asked / (sum(map(len, sentences)) or 1)


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """The term of a case-folded word."""
    word = word[:_LONGEST]
    return _english(word) if word.isascii() else word
