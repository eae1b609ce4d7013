"""What stands in front of codes is made here, in the background: on a graphics card, or as a graph."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import RLock
from typing import TYPE_CHECKING, Literal

import numpy as np

from agentmem.indexes import gpu
from agentmem.indexes.fronts import Front, Fronted
from agentmem.indexes.hnsw import Hnsw, bytes_of_graph
from agentmem.retrieval.reading import READ
from agentmem.stores.records import Records
from agentmem.types.patience import Pace
from agentmem.types.ports import VectorEngine
from agentmem.types.promise import promised

if TYPE_CHECKING:
    from agentmem.settings import Settings
    from agentmem.types.ports import Ints

_REST = 9.0
"""Beside writers it gets a tenth of the time."""
GB, MB = 10**9, 1_048_576

log = logging.getLogger("agentmem")


class Fronts:
    """Makes the fronts of one store and one model, one at a time. Safe to use from many threads."""

    def __init__(self, records: Records, dim: int, settings: Settings, activity: Callable[[], object]) -> None:
        """``activity`` changes while others write."""
        self._records, self._dim, self._activity = records, dim, activity
        self._hot, self._performance = settings.tiers.hot, settings.performance
        self._engine = settings.engine_of_large
        self._budget = settings.mb_of_large * MB
        self._turn = RLock()
        self._closing = False
        self.made = 0
        """How many were made and offered to codes."""
        self.fallbacks = 0
        """How often codes answered in the place of something that failed."""
        self.last_error: str | None = None
        """Why, the last time."""

    def before(self, codes: VectorEngine) -> VectorEngine:
        """The same codes, with room in front of them if anything is to stand there."""
        return Fronted(codes, self._failed) if self._wanted() else codes

    def see_to(self, codes: VectorEngine, live: int, rows: Callable[[], Ints]) -> None:
        """Have a front made if one is due; ``rows`` are those of the records whose vectors these are, 0 for none, and
        ``live`` is how many there are of the others."""
        if isinstance(codes, Fronted) and not self._closing and codes.due(live, self._hot.gc_threshold):
            codes.begin()
            known = rows()
            try:
                promised(lambda: self._make(codes, known))
            except RuntimeError:  # the interpreter is about to end
                codes.give_up()

    def stop(self) -> None:
        """Begin nothing more, and have what was begun stop."""
        self._closing = True

    def _failed(self, error: str) -> None:
        self.fallbacks += 1
        self.last_error = error

    # -- on a thread of its own --------------------------------------------------------------------------------------

    def _make(self, codes: Fronted, rows: Ints) -> None:
        front: Front | None = None
        numbers = np.flatnonzero(rows)
        try:
            with self._turn:
                front = self._new(len(numbers))
                codes.refused = front is None
                if front is not None and (numbers := self._fill(front, numbers, rows)) is not None:
                    codes.offer(front, numbers, len(rows))
                    self.made += 1
                elif front is not None:
                    front.close()
        except Exception as exc:  # whatever it is, codes go on
            if front is not None:
                front.close()
            if not self._closing:
                codes.failed(exc)
        finally:
            codes.give_up()

    def _fill(self, front: Front, numbers: Ints, rows: Ints) -> Ints | None:
        """The numbers of those that have a vector, which are in the front now; None if it is to stop."""
        pace = Pace(self._activity, _REST)
        filled: list[Ints] = []
        for start in range(0, len(numbers), READ):
            if self._closing:
                return None
            part = numbers[start : start + READ]
            found = self._records.vectors_of(rows[part].tolist())
            there = np.array([row in found for row in rows[part].tolist()], np.bool_)
            if there.any():
                vectors = np.frombuffer(b"".join(found[row] for row in rows[part[there]].tolist()), np.float32)
                front.append(vectors.reshape(-1, self._dim))
                filled.append(part[there])
            pace()
        return np.concatenate([np.empty(0, np.int64), *filled])

    def _wanted(self) -> bool:
        device = self._hot.device
        return self._engine == "hnsw" or (device == "auto" and gpu.worth_asking()) or "cuda" in device

    def _new(self, size: int) -> Front | None:
        """An empty front for so many vectors; None if none has room for them."""
        precision: Literal["float16", "float32"] = self._hot.precision
        devices = gpu.chosen(self._hot.device)
        copies = len(devices) if self._hot.cards == "replicas" else 1
        if devices and copies * size * gpu.bytes_on_card(self._dim, precision) <= self._hot.device_size_gb * GB:
            return gpu.Gpu(self._dim, devices, precision, replicas=copies > 1)
        performance = self._performance
        graph = size * bytes_of_graph(self._dim, performance.hnsw_m)
        if self._engine == "hnsw" and graph <= self._budget:
            return Hnsw(
                self._dim,
                size,
                m=performance.hnsw_m,
                ef_construction=performance.hnsw_ef_construction,
                ef=performance.hnsw_ef_search,
            )
        log.info("nothing has room for %d vectors in front of their codes", size)
        return None
