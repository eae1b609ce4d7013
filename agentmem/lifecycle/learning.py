"""Learning from a store's own past whether a record will be used again within its layer's time.

An example is a record as it was at some moment after a use, or after it was added, and what became of it: whether it
was used again within half of its layer's time to live from then. It is taken when that is known, which is at the next
use, or when the record expires; until then nothing is kept of it. Only moments count from which on the record had that
long to live: else the last half of each life would say that nothing is used again, because it could not be. They are
chosen from a few times after the use, so that records which have just been used are compared with such, and old ones
with old ones. An example has the record's features and its score by the formula; neither text nor id, nor an instant.

There are at most ``MOST`` of each kind, the newest. From ``ENOUGH`` on models are made of them, after sweeps. By
``"auto"`` a model scores where it tells better than the formula what is used again; by ``"learned"`` from the first
one on. The models of before are kept, so that what they decided can be computed again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentmem.lifecycle.model import FEATURES, Model
from agentmem.lifecycle.promotion_score import score
from agentmem.lifecycle.rules import Rules
from agentmem.lifecycle.scorer import features
from agentmem.stores import meta, transitions
from agentmem.stores.records import Records
from agentmem.stores.rows import Subject
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros
from agentmem.types.enums import Layer

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 1_000
"""Examples of each kind that are kept: 24 bytes each."""
ENOUGH = 500
"""Examples from which on a model is made; a tenth of them have to be of the rarer kind."""
MARGIN = 0.02
"""By how much more of all pairs a model has to be right, for it to take the formula's place."""
GROWN = 0.5
"""Examples that came since the last model, as a part of those that there are, from which another one is made."""
PER_GROUP = 10
"""Uses in a transaction that examples are made of: the others of it say much the same, and each costs a read."""
TOGETHER = 100
"""Examples that are written down at once."""
KEPT = 20
"""Models that are kept."""
AFTER = (0.0, 1 / 64, 1 / 16, 1 / 4, 1 / 2)
"""After which parts of its layer's time to live a record is looked at, since its last use."""
WITHIN = 1 / 2
"""The part of its layer's time to live within which a record has to be used again."""
_WIDTH = 2 + len(FEATURES)

log = logging.getLogger("agentmem")


class Learner:
    """The examples and models of one store. ``used`` and ``expired`` are called inside of transactions."""

    def __init__(self, rules: Rules, mode: str) -> None:
        self._rules = rules
        self.mode = mode
        self._found = list[list[float]]()
        self._seen: Any = None

    @property
    def learns(self) -> bool:
        """Whether anybody wants to know."""
        return self.mode != "formula"

    # -- examples ----------------------------------------------------------------------------------------------------

    def used(self, records: Records, uses: Sequence[tuple[Any, ...]]) -> None:
        """Records are used, ``(row, times, first_at, ...)``, which has yet to be written down."""
        if not self.learns:
            return
        chosen = sorted((use for use in uses if use[1] and use[2] is not None), key=lambda use: _mixed(use[0], use[2]))
        first = {use[0]: use[2] for use in chosen[:PER_GROUP]}
        for subject in transitions.subjects(records.db, first):
            self._take(subject, first[subject.row], used=True)

    def expired(self, subjects: Iterable[Subject], now: Micros) -> None:
        """The time of these is over, and nobody used them again."""
        for subject in subjects if self.learns else ():
            self._take(subject, now, used=False)

    def _take(self, subject: Subject, end: Micros, *, used: bool) -> None:
        """A time without use comes to its end."""
        span = self._rules.ttl[subject.layer]
        if not span or subject.layer == Layer.ASSETS:
            return
        at = subject.used_at + round(span * AFTER[_mixed(subject.row, end) % len(AFTER)])
        if at >= end or at + span * WITHIN > subject.aged_from + span:
            return  # it was not without use for as long, or could not be used again for long enough
        again = used and end - at <= span * WITHIN
        known = features(subject, at)
        self._found.append([float(again), score(subject, at, self._rules).total, *(known[name] for name in FEATURES)])

    def write_down(
        self, write: Callable[[Callable[[Repository], object], int], object], *, at_last: bool = False
    ) -> None:
        """Keep the examples that were found, once that is worth a transaction, or if it is ``at_last``."""
        if len(self._found) < (1 if at_last else TOGETHER):
            return
        found, self._found = self._found, []
        write(lambda repository: _keep(repository, found), 1)

    # -- models ------------------------------------------------------------------------------------------------------

    def load(self, records: Records) -> None:
        """Score by the model that is in use by now, which another process may have made."""
        if not self.learns:
            return
        noted = records.meta(meta.SCORER)
        if noted == self._seen:
            return
        state = _State.of(noted)
        self._seen = noted
        self._rules.scorer.model = state.in_use(self.mode)

    def train(
        self,
        records: Records,
        write: Callable[[Callable[[Repository], object], int], object],
        now: Micros,
    ) -> None:
        """Make another model, if there are enough new examples; it scores from then on, if it is the better scorer."""
        if not self.learns:
            return
        state = _State.of(records.meta(meta.SCORER))
        held = _examples(records.meta(meta.SCORER_EXAMPLES))
        again = int((held[:, 0] > 0).sum())
        if len(held) < ENOUGH or min(again, len(held) - again) < ENOUGH // 10:
            return
        if state.models and state.seen - state.trained < GROWN * len(held):
            return
        from agentmem.lifecycle.training import train

        values = held.astype("float64")
        model = train(values[:, 0], values[:, 1], values[:, 2:])

        def run(repository: Repository) -> None:
            newest = _State.of(repository.meta(meta.SCORER))
            if newest.trained == state.trained:  # else another process was quicker
                newest.add(model, now, state.seen)
                repository.set_meta(meta.SCORER, newest.to_json())

        write(run, 1)
        self.load(records)


class _State:
    """What the store knows of its scorers: how many examples there ever were, and the last models."""

    def __init__(self, seen: int = 0, trained: int = 0, made: int = 0, models: Sequence[Model] = ()) -> None:
        self.seen, self.trained, self.made = seen, trained, made
        self.models = list(models)

    @classmethod
    def of(cls, noted: str | None) -> _State:
        if noted is None:
            return cls()
        try:
            held = json.loads(noted)
            models = [Model.from_json(text) for text in held["models"]]
            return cls(int(held["seen"]), int(held["trained"]), int(held["made"]), models)
        except (ValueError, KeyError, TypeError) as exc:
            log.warning("the models of the learned scorer cannot be read, and are made anew: %s", exc)
            return cls()

    def to_json(self) -> str:
        models = [model.to_json() for model in self.models]
        return json.dumps({"seen": self.seen, "trained": self.trained, "made": self.made, "models": models})

    def add(self, model: Model, now: Micros, trained: int) -> None:
        self.models = [*self.models, replace(model, number=self.made + 1, made=now)][-KEPT:]
        self.made, self.trained = self.made + 1, trained

    def in_use(self, mode: str) -> Model | None:
        """The model that scores; None: the formula does."""
        if not self.models or mode == "formula":
            return None
        newest = self.models[-1]
        return newest if mode == "learned" or newest.auc >= newest.formula_auc + MARGIN else None


def models_of(records: Records) -> tuple[list[Model], int, int]:
    """The last models of a store, the newest last; how many examples it has, and how many of those were used again."""
    held = _examples(records.meta(meta.SCORER_EXAMPLES))
    return _State.of(records.meta(meta.SCORER)).models, len(held), int((held[:, 0] > 0).sum())


def _keep(repository: Repository, found: Sequence[Sequence[float]]) -> None:
    import numpy as np

    held = _examples(repository.meta(meta.SCORER_EXAMPLES))
    every = np.concatenate([held, np.array(found, np.float16)])
    newest = np.concatenate([np.flatnonzero((every[:, 0] > 0) == kind)[-MOST:] for kind in (False, True)])
    state = _State.of(repository.meta(meta.SCORER))
    state.seen += len(found)
    repository.set_meta(meta.SCORER_EXAMPLES, every[np.sort(newest)].tobytes())
    repository.set_meta(meta.SCORER, state.to_json())


def _examples(held: bytes | None) -> NDArray[Any]:
    """A row each: whether it was used again, its score by the formula, its features."""
    import numpy as np

    found = np.frombuffer(held or b"", np.uint8)
    if len(found) % (2 * _WIDTH):
        return np.empty((0, _WIDTH), np.float16)  # of other features
    return found.view(np.float16).reshape(-1, _WIDTH)


def _mixed(row: int, at: Micros) -> int:
    """A number that looks like chance, and is the same for the same use."""
    mixed = (row * 0x9E3779B97F4A7C15 + at * 0xC2B2AE3D27D4EB4F) % 2**64
    return (mixed ^ (mixed >> 29)) * 0xBF58476D1CE4E5B9 % 2**64 >> 24
