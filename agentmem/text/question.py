"""A question as keyword search sees it: its words, what may stand for each of them, and the dates it names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from agentmem.text.similar import is_known, similar_terms
from agentmem.text.stopwords import STOP_WEIGHT, is_stop
from agentmem.text.words import forms, stem

MAX_WORDS = 64
"""Distinct words of a question that are looked at, the first ones."""
TYPO_WEIGHT = 0.8
"""What a word counts that may be meant by a misspelled one."""
SPELLED_SHARE = 0.3
"""Of a word's weight, what a memory must have it for as it was spelled; the rest is for any spelling."""
_SHORTEST_TYPO, _LONGEST_TYPO = 5, 20
_ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz",
    "αβγδεζηθικλμνξοπρστυφχψω",
    "абвгдежзийклмнопрстуфхцчшщъыьэюяіїєґ",
    "אבגדהוזחטיךכלםמןנסעףפץצקרשת",
    "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
)


class Word(NamedTuple):
    """A word of the question: its term, what that counts, terms that stand for it, and its spelling.

    ``variants`` are other spellings of the word itself, ``similar`` other words of about its meaning, each with what it
    counts. A word ``of`` another one is that word as it was spelled: memories that have it so come first.
    """

    term: str
    weight: float = 1.0
    similar: tuple[tuple[str, float], ...] = ()
    spelling: str = ""
    variants: tuple[tuple[str, float], ...] = ()
    of: str = ""


def words_of(question: str, *, stop_words: bool, similar_words: bool) -> tuple[Word, ...]:
    """The distinct words, in order; after each that says more by its spelling, the word as it was spelled."""
    words, taken = dict[str, Word](), 0
    for form in forms(question):
        stop = form.light or is_stop(form)
        weight = STOP_WEIGHT if stop and stop_words else 1.0
        if form.term not in words:
            if taken == MAX_WORDS:
                break
            taken += 1
            similar = similar_terms(form.term) if similar_words and not stop else ()
            words[form.term] = Word(form.term, weight, similar, form.folded, form.others)
        if form.spelled and form.spelled not in words:
            words[form.spelled] = Word(form.spelled, weight, of=form.term)
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

    Norvig's "How to Write a Spelling Corrector" (2007). New letters are those of the word and of its alphabets.
    """
    found = {stem(each) for each in _edits(spelling)}
    found.discard(stem(spelling))
    return found


def _edits(word: str) -> Iterator[str]:
    letters = set(word)
    letters = sorted(letters.union(*(alphabet for alphabet in _ALPHABETS if not letters.isdisjoint(alphabet))))
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
