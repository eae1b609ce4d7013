"""Korean words: the particles at their ends, and pairs of syllables in place of words.

Particles are written onto the noun (서울에서, 서울은), compounds without a blank (서울대학교), and no rule tells either
apart from the noun itself without a dictionary. So a word is indexed as its overlapping pairs of syllables, which for
Korean retrieve about as well as morphological analysis does (Lee and Ahn, "Using n-grams for Korean text retrieval",
SIGIR 1996), and particles are used for what pairs cannot do: to find a noun of one syllable (집에서), and to see that
the pairs at a word's end say little about it.
"""

from __future__ import annotations

from typing import NamedTuple

_PARTICLES = frozenset(
    """
    은 는 이 가 을 를 에 의 와 과 도 만 로 나 랑 께 야 에서 에게 에게서 한테 한테서 께서 으로 까지 부터
    보다 처럼 마다 조차 마저 밖에 에만 이나 이랑 하고 만큼 대로 에는 에도 이란 이라 라고 라는 이야 이요 이에요
    예요 입니다 입니까 인데 이고 이며 이다
    """.split()
)
_LONGEST = max(map(len, _PARTICLES))


class Parts(NamedTuple):
    """A word of two or more syllables as ``pairs``, of which all after the first ``telling`` ones are about particles.

    ``noun`` is what is left without them if that is one syllable, else empty; ``certain`` if that is no guess.
    """

    pairs: tuple[str, ...]
    telling: int
    noun: str
    certain: bool


def is_particle(word: str) -> bool:
    """Whether this is a particle, as what follows a word in Latin letters or a number may be."""
    return word in _PARTICLES


def parts_of(word: str) -> Parts:
    """Take a run of at least two Hangul syllables apart."""
    stem, noun = word, _without_particle(word)
    while len(noun) > 1:
        stem, noun = noun, _without_particle(noun)
    pairs = tuple(word[at : at + 2] for at in range(len(word) - 1))
    # One syllable and a particle of one may as well be a noun of two (사과, 아이, 휴가), and are if a particle follows.
    certain = bool(noun) and len(stem) > 2
    if len(stem) == 2 and stem != word:
        noun = ""
    return Parts(pairs, 1 if certain else len(stem) - 1, noun, certain)


def _without_particle(word: str) -> str:
    """The word without its longest particle; empty if it ends in none, or is nothing else."""
    for length in range(min(_LONGEST, len(word) - 1), 0, -1):
        if word[-length:] in _PARTICLES:
            return word[:-length]
    return ""
