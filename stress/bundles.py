"""Made-up vectors, cheap enough not to be what is measured: of some thousand subjects, each with many memories."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cached_property
from typing import Any
from zlib import crc32

import numpy as np

from stress.year import WORDS

DIM = 256
_SUBJECTS = 2_003
_FIRST, _SECOND = 1_009, 9_973
ASKED = 1_000_000_007
"""Questions are numbered from here on, records from 0."""


class Bundles:
    """An embedder whose vectors follow from the number that a text begins with; those of one subject are near."""

    dim = DIM
    name = f"bundles-{DIM}"

    def embed_documents(self, texts: Sequence[str]) -> Any:
        numbers = np.array([_number(text) for text in texts], np.uint64)
        subjects, first, second = self._pools
        mixed = (numbers ^ (numbers >> np.uint64(15))) * np.uint64(0x9E3779B97F4A7C15)
        found = subjects[numbers % np.uint64(_SUBJECTS)] + 0.7 * first[(mixed >> np.uint64(20)) % np.uint64(_FIRST)]
        found += 0.7 * second[(mixed >> np.uint64(36)) % np.uint64(_SECOND)]
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)

    def embed_query(self, text: str) -> Any:
        return self.embed_documents([text])[0]

    @cached_property
    def _pools(self) -> tuple[Any, Any, Any]:
        pick = np.random.default_rng(5)
        made = [pick.standard_normal((size, DIM)).astype(np.float32) for size in (_SUBJECTS, _FIRST, _SECOND)]
        return made[0], made[1], made[2]


def _number(text: str) -> int:
    number = text[1:].partition(" ")[0]
    return int(number) if number.isdecimal() else crc32(text.encode())


def text_of(number: int) -> str:
    """A record, or from ``ASKED`` on a question."""
    return f"n{number} {' '.join(random.Random(number).choices(WORDS, k=6))}"
