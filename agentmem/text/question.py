"""A question as keyword search sees it: its words, what may stand for each of them, and the dates it names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from agentmem.text.similar import is_known, similar_terms
from agentmem.text.stopwords import STOP_TERMS, STOP_WEIGHT
from agentmem.text.terms import spellings, stem

MAX_WORDS = 64
"""Distinct words of a question that are looked at, the first ones."""
TYPO_WEIGHT = 0.8
"""What a word counts that may be meant by a misspelled one."""
_SHORTEST_TYPO, _LONGEST_TYPO = 5, 20
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Word(NamedTuple):
    """A word of the question: its term, what that counts, terms that stand for it, and its spelling."""

    term: str
    weight: float = 1.0
    similar: tuple[tuple[str, float], ...] = ()
    spelling: str = ""


def words_of(question: str, *, stop_words: bool, similar_words: bool) -> tuple[Word, ...]:
    """The distinct words, in order."""
    words = dict[str, Word]()
    for spelling in spellings(question):
        term = stem(spelling)
        if term not in words:
            stop = term in STOP_TERMS
            weight = STOP_WEIGHT if stop and stop_words else 1.0
            words[term] = Word(term, weight, similar_terms(term) if similar_words and not stop else (), spelling)
            if len(words) == MAX_WORDS:
                break
    return tuple(words.values())


def may_be_misspelled(word: Word) -> bool:
    """Whether a word that no memory has is worth looking for under other spellings."""
    spelling = word.spelling
    return (
        _SHORTEST_TYPO <= len(spelling) <= _LONGEST_TYPO
        and spelling.isalpha()
        and word.weight == 1
        and not is_known(word.term)
    )


def respellings(spelling: str) -> set[str]:
    """Terms of everything that is one edit away from a word: a letter left out, added, changed, or two swapped.

    Norvig's "How to Write a Spelling Corrector" (2007). New letters are a to z and the word's own.
    """
    found = {stem(each) for each in _edits(spelling)}
    found.discard(stem(spelling))
    return found


def _edits(word: str) -> Iterator[str]:
    letters = sorted({*_LETTERS, *word}) if word.isascii() else sorted(set(word))
    for at in range(len(word) + 1):
        head, tail = word[:at], word[at:]
        if tail:
            yield head + tail[1:]
        if len(tail) > 1:
            yield head + tail[1] + tail[0] + tail[2:]
        for letter in letters:
            yield head + letter + tail
            if tail:
                yield head + letter + tail[1:]
