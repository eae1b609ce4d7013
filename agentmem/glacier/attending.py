"""What a sweep does about archives: cold records go there instead of expiring, and what was erased leaves them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from agentmem.engine.engine import Engine
from agentmem.glacier import burying, writing


def look_after(engine: Engine) -> None:
    """Have the sweeps of an engine see to its archives."""
    engine.lifecycle.freeze = partial(_freeze, engine)


def _freeze(engine: Engine, rows: Sequence[int], pause: Callable[[], object]) -> int:
    burying.bury_now(engine)
    return writing.archive(engine, rows, pause).archived if rows else 0
