"""What a sweep does about archives: cold records go there instead of expiring, and what was erased leaves them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from agentmem.engine.engine import Engine
from agentmem.glacier import burying, writing
from agentmem.glacier.place import archives_of
from agentmem.stores import archived

_DAY = 86_400_000_000
_MOST = 10_000
"""Values that a sweep archives."""


def look_after(engine: Engine) -> None:
    """Have the sweeps of an engine see to its archives."""
    engine.lifecycle.freeze = partial(_freeze, engine)


def _freeze(engine: Engine, rows: Sequence[int], pause: Callable[[], object]) -> int:
    burying.bury_now(engine)
    leaving = [*rows, *_idle_values(engine)]
    return writing.archive(engine, leaving, pause).archived if leaving else 0


def _idle_values(engine: Engine) -> list[int]:
    """Values that nobody has used for so long that they are to be archived."""
    days = engine.settings.values.cold_to_glacier_days
    if days is None:
        return []
    failed = archives_of(engine).failed
    found = archived.idle_values(engine.repository.db, engine.now() - round(days * _DAY), 0, _MOST)
    return [row for row in found if row not in failed]
