"""Packages whose modules are imported when they are first used, so that importing the package costs nothing.

A module-level ``__getattr__`` (PEP 562) made by ``lazily``. A signal handler may interrupt such an import and use the
same modules; it must not meet them half there, so they are imported aside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from agentmem.types.promise import aside


def lazily(package: str, names: Sequence[str]) -> tuple[Callable[[str], Any], Callable[[], None]]:
    """``__getattr__`` for a package with these modules, and what imports all of them at once."""

    def attribute(name: str) -> Any:
        if name in names:
            return aside(partial(import_module, f"{package}.{name}"))
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def load() -> None:
        aside(lambda: [import_module(f"{package}.{name}") for name in names])

    return attribute, load
