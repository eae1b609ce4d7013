"""What can be done with an open store, one verb per file: functions of the engine and checked arguments.

No operation checks what a caller gave (``client`` did), and none keeps state between calls. May import ``engine`` and
below. The files are imported when they are first used, as ``operations.search`` and so on: with them comes the engine,
and a client that is only constructed needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentmem import filters
from agentmem.types.lazily import lazily

if TYPE_CHECKING:
    from agentmem.operations import (
        add,
        apply,
        change,
        compact,
        context,
        derived,
        distinct,
        erase,
        glacier,
        groups,
        keys,
        lifecycle,
        page,
        pop,
        read,
        reembed,
        repair,
        restore,
        salvage,
        scorer,
        search,
        stats,
        tiers,
        touch,
        turns,
        verify,
    )

__all__ = [
    "add",
    "apply",
    "change",
    "compact",
    "context",
    "derived",
    "distinct",
    "erase",
    "glacier",
    "groups",
    "keys",
    "lifecycle",
    "page",
    "pop",
    "read",
    "reembed",
    "repair",
    "restore",
    "salvage",
    "scorer",
    "search",
    "stats",
    "tiers",
    "touch",
    "turns",
    "verify",
]

__getattr__, _load = lazily(__name__, __all__)


def load() -> None:
    """Import all of them and what they need, so that a signal handler that comes later needs to import nothing."""
    if any(name not in globals() for name in __all__):
        filters.load()
        _load()
