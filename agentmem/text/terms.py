"""Text to terms: the one tokenizer of keyword search, for memories and for questions.

What a word is, and which terms it has, is said in ``words`` and ``folding``.
"""

from __future__ import annotations

import re

from agentmem.text.words import LONGEST, forms_of, plain_words, stem, words_in

VERSION = 2
"""Counts up whenever a text has other terms than before: what was indexed with the old ones is indexed again."""
_MOST = 30_000
"""Words, and pieces of text between blanks, whose terms are kept: some 10 MB of each."""
_LONGEST_PIECE = 24
"""Characters. Longer ones are sentences of a script without blanks, which do not come again."""
_SENTENCE = re.compile(r"[^.!?\n\u3002\uff01\uff1f\u061f]+[.!?\s\u3002\uff01\uff1f\u061f]*")
_ASKS = re.compile(r"[?\uff1f\u061f]\s*$")


def terms(text: str) -> list[str]:
    """The terms of a text, in order, repeated as they occur."""
    return terms_and_length(text)[0]


def terms_and_length(text: str) -> tuple[list[str], int]:
    """The terms of a text, and how many words it has: those that a word is found by besides make it no longer."""
    text = text.casefold()
    if (plain := plain_words(text)) is not None:
        return list(map(stem, plain)), len(plain)
    found, length = list[str](), 0
    for chunk in text.split():
        terms, words = _pieces[chunk]
        found += terms
        length += words
    return found, length


def asking(text: str) -> float:
    """The share of a text, in characters, that are questions, in [0, 1]: sentences that end in a question mark."""
    if "?" not in text and "\uff1f" not in text and "\u061f" not in text:
        return 0.0
    sentences = _SENTENCE.findall(text)
    asked = sum(len(sentence) for sentence in sentences if _ASKS.search(sentence))
    return asked / (sum(map(len, sentences)) or 1)


class _Words(dict[str, tuple[tuple[str, ...], int]]):
    """The terms of words met before, and how many words they count for."""

    def __missing__(self, word: str) -> tuple[tuple[str, ...], int]:
        found = list(forms_of(word))
        entry = tuple(term for form in found for term in form.terms), sum(not form.beside for form in found)
        if len(word) <= LONGEST:
            if len(self) >= _MOST:
                self.clear()
            self[word] = entry
        return entry


class _Pieces(dict[str, tuple[tuple[str, ...], int]]):
    """The same of what stands between blanks, with its punctuation: most of it was met before."""

    def __missing__(self, piece: str) -> tuple[tuple[str, ...], int]:
        found, length = list[str](), 0
        for word in words_in(piece):
            terms, words = _words[word]
            found += terms
            length += words
        entry = tuple(found), length
        if len(piece) <= _LONGEST_PIECE:
            if len(self) >= _MOST:
                self.clear()
            self[piece] = entry
        return entry


_words, _pieces = _Words(), _Pieces()
