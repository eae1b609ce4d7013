"""Vectors on graphics cards, by FAISS: all of them are compared, at once.

``faiss-gpu`` has the same import name as ``faiss-cpu``, and more in it; it imports on machines without a card, where
there are 0 of them. Its flat indexes take no mask (https://github.com/facebookresearch/faiss/issues/3114), and give
back 2,048 at most: where more would have to be asked for, so that enough of them are allowed, codes answer.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from typing_extensions import override

from agentmem.indexes.fronts import Front
from agentmem.indexes.rabitq import library
from agentmem.types.ports import EngineError

if TYPE_CHECKING:
    from agentmem.types.ports import Bools, Ints, Vector

MOST = 2_048
"""Vectors that a search on a card gives back at most."""
_MORE = 1.2
"""Times as many are asked for as should be enough."""
Precision = Literal["float16", "float32"]


def cards() -> int:
    """How many graphics cards FAISS can use; 0 also without FAISS, or where only ``faiss-cpu`` is installed."""
    if find_spec("faiss") is None:
        return 0
    try:
        faiss = library()
        return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0
    except Exception:  # a driver that does not fit says so in many ways, none of which is ours
        return 0


def worth_asking() -> bool:
    """Whether there may be a card, as far as that can be told without loading FAISS."""
    return find_spec("faiss") is not None and os.path.exists("/dev/nvidiactl")


def chosen(device: str) -> tuple[int, ...]:
    """The cards that a setting means: ``auto`` and ``cuda`` all there are, ``cuda:1`` that one; () for none.

    Raises ``EngineError`` where one was asked for by name and is not there.
    """
    if device == "auto":
        return tuple(range(cards())) if worth_asking() else ()
    there = cards()
    named = re.fullmatch(r"cuda(?::(\d+))?", device)
    if named is None:
        return ()
    wanted = tuple(range(there)) if named[1] is None else (int(named[1]),)
    if not wanted or max(wanted) >= there:
        how = "pip install 'agentmem-db[gpu]'" if not there else f"there are cuda:0 to cuda:{there - 1}"
        raise EngineError(f"tiers.hot.device is {device!r}, and FAISS sees {there} graphics cards; {how}")
    return wanted


def bytes_on_card(dim: int, precision: Precision) -> int:
    """What a vector takes."""
    return dim * (2 if precision == "float16" else 4)


class Gpu(Front):
    """A flat index on each of the cards, which share the vectors among them; or as ``replicas``, which have all."""

    def __init__(self, dim: int, devices: tuple[int, ...], precision: Precision, *, replicas: bool = False) -> None:
        self._dim, self._bytes = dim, bytes_on_card(dim, precision) * (len(devices) if replicas else 1)
        self._replicas = replicas
        self._used = 0
        self._indexes = list[Any]()
        self._starts = list[list[tuple[int, int]]]()
        """For each card: the number in its index of the first vector of a block, and that vector's own number."""
        self._held = list[Any]()
        """Memory on the cards, which has to outlive the indexes."""
        self._turn = 0
        try:
            faiss = library()
            for device in devices:
                resources = faiss.StandardGpuResources()
                config = faiss.GpuIndexFlatConfig()
                config.device = device
                config.useFloat16 = precision == "float16"
                self._held.append(resources)
                self._indexes.append(faiss.GpuIndexFlatIP(resources, dim, config))
                self._starts.append([])
        except Exception as exc:
            self.close()
            raise EngineError(f"FAISS cannot use the graphics card: {exc}") from exc

    @property
    @override
    def name(self) -> str:
        return "gpu"

    @property
    @override
    def nbytes(self) -> int:
        return self._used * self._bytes

    @override
    def __len__(self) -> int:
        return self._used

    @override
    def append(self, vectors: Vector) -> None:
        cards = range(len(self._indexes)) if self._replicas else [self._next()]
        for at in cards:
            index = self._indexes[at]
            self._starts[at].append((int(index.ntotal), self._used))
            try:
                index.add(np.ascontiguousarray(vectors, np.float32))
            except Exception as exc:
                raise EngineError(f"the graphics card takes no more vectors: {exc}") from exc
        self._used += len(vectors)

    @override
    def nearest(self, vector: Vector, k: int, allowed: Bools) -> tuple[Ints, Vector] | None:
        return self.nearest_many(vector.reshape(1, -1), k, allowed)[0]

    @override
    def nearest_many(self, vectors: Vector, k: int, allowed: Bools) -> list[tuple[Ints, Vector] | None]:
        there = int(np.count_nonzero(allowed))
        asked = k if there == self._used else round(_MORE * k * self._used / max(1, there)) + 10
        if not there or k > there or asked > MOST:
            return [None] * len(vectors)
        queries = np.ascontiguousarray(vectors, np.float32)
        found: list[tuple[Ints, Vector]] = []
        try:
            for at in [self._next()] if self._replicas else range(len(self._indexes)):
                index = self._indexes[at]
                if index.ntotal:
                    similar, inside = index.search(queries, min(asked, int(index.ntotal)))
                    found.append((_numbers(inside, self._starts[at]), similar))
        except Exception as exc:  # out of memory, a card that is lost: whatever it is, codes go on
            raise EngineError(f"the graphics card failed: {exc}") from exc
        numbers = np.concatenate([each[0] for each in found], axis=1)
        similar = np.concatenate([each[1] for each in found], axis=1)
        return [_passing(*each, asked, k, allowed) for each in zip(numbers, similar, strict=True)]

    @override
    def close(self) -> None:
        self._indexes, self._held, self._used = [], [], 0

    def _next(self) -> int:
        """The card whose turn it is."""
        self._turn += 1
        return (self._turn - 1) % len(self._indexes)


def _passing(numbers: Ints, similar: Vector, asked: int, k: int, allowed: Bools) -> tuple[Ints, Vector] | None:
    """The ``k`` nearest that are allowed; None if there may be nearer ones than those that were found."""
    order = np.argsort(-similar, kind="stable")[:asked]  # beyond that, another card may have nearer ones
    numbers, similar = numbers[order], similar[order]
    passing = np.flatnonzero((numbers >= 0) & allowed[numbers])[:k]
    return None if len(passing) < k else (numbers[passing], similar[passing].astype(np.float32))


def _numbers(inside: Ints, starts: list[tuple[int, int]]) -> Ints:
    """Vectors' own numbers, of those that they have in a card's index; -1 stays."""
    first, own = (np.array(column, np.int64) for column in zip(*starts, strict=True))
    block = np.searchsorted(first, inside, "right") - 1
    return np.where(inside < 0, -1, own[np.maximum(block, 0)] + inside - first[np.maximum(block, 0)])
