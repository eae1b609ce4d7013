"""Words that mean about the same, so that "husband" finds "wedding" and "married".

The table was made from the bundled model's token vectors (tools/build_similar_words.py) and comes with the package: it
is the same for every store and says nothing of anybody's texts. It knows 15,000 English word stems. Each query word is
matched with its most similar ones, as in soft cosine (Sidorov et al., 2014) and late interaction (Khattab and Zaharia,
"ColBERT", 2020), but sparsely: pairs below a cosine of 0.5 do not count.
"""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIMILAR_WEIGHT = 0.6
"""What a word counts that is as good as the same; at a cosine of 0.5 it counts nothing, in between in proportion."""
_LEAST = 0.5
_FILE = Path(__file__).with_name("similar_words.npz")


class _Table(NamedTuple):
    words: list[str]
    number: dict[str, int]
    start: NDArray[np.uint32]
    other: NDArray[np.uint16]
    cosine: NDArray[np.uint8]


@cache
def _table() -> _Table:
    with np.load(_FILE) as arrays:
        words = arrays["words"].tobytes().decode().split("\n")
        number = {word: index for index, word in enumerate(words)}
        return _Table(words, number, arrays["start"], arrays["other"], arrays["cosine"])


def load() -> None:
    """Read the table now (10 ms), so that no search has to open a file."""
    _table()


def is_known(term: str) -> bool:
    """Whether the table has the term, so that it is no misspelling."""
    return term in _table().number


@lru_cache(maxsize=4_096)
def similar_terms(term: str) -> tuple[tuple[str, float], ...]:
    """Terms that stand for this one, with what they count of it, in (0, ``SIMILAR_WEIGHT``); the best first."""
    table = _table()
    index = table.number.get(term)
    if index is None:
        return ()
    span = slice(int(table.start[index]), int(table.start[index + 1]))
    found = list[tuple[str, float]]()
    for other, cosine in zip(table.other[span], table.cosine[span], strict=True):
        factor = SIMILAR_WEIGHT * (int(cosine) / 255 - _LEAST) / (1 - _LEAST)
        if factor > 0:
            found.append((table.words[int(other)], factor))
    return tuple(found)
