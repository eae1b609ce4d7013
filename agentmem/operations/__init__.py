"""What can be done with an open store, one verb per file: functions of the engine and checked arguments.

No operation checks what a caller gave (``client`` did), and none keeps state between calls. May import ``engine`` and
below. The files are imported when they are first used, as ``operations.search`` and so on: with them comes the engine,
and a client that is only constructed needs none.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from agentmem.types.promise import aside

if TYPE_CHECKING:
    from agentmem.operations import (
        add,
        change,
        compact,
        context,
        erase,
        groups,
        lifecycle,
        page,
        read,
        reembed,
        repair,
        restore,
        salvage,
        search,
        stats,
        verify,
    )

__all__ = [
    "add",
    "change",
    "compact",
    "context",
    "erase",
    "groups",
    "lifecycle",
    "page",
    "read",
    "reembed",
    "repair",
    "restore",
    "salvage",
    "search",
    "stats",
    "verify",
]


def load() -> None:
    """Import all of them, so that a signal handler that comes later needs to import nothing."""
    if any(name not in globals() for name in __all__):
        aside(lambda: [import_module(f"agentmem.operations.{name}") for name in __all__])


def __getattr__(name: str) -> Any:
    if name in __all__:
        # Aside: a signal handler that comes meanwhile and uses the store must not meet modules that are half there.
        return aside(partial(import_module, f"agentmem.operations.{name}"))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
