"""Warnings about filters that find nothing, where the caller probably meant something else."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

from agentmem import filters as language
from agentmem import operations
from agentmem.types.errors import FilterWarning
from agentmem.types.inputs import Scope

if TYPE_CHECKING:
    from agentmem.engine.engine import Engine
    from agentmem.stores.timeline import Conditions


class FieldHints:
    """Tells, once for each field, that a filter on ``user_id`` and the like asks metadata, which has no such key."""

    def __init__(self) -> None:
        self._looked_for = set[str]()

    def after_nothing(self, engine: Engine, scope: Scope, filters: Mapping[str, object] | None) -> None:
        """To be called where a filter was given and nothing was found."""
        tree = language.parsing.parse_filter(filters)
        if tree is None:
            return
        names = (set(language.never.keys_of(tree)) & set[str](language.fields.FIELDS)) - self._looked_for
        for name in sorted(names):
            if not _any(engine, scope, ([], [])):
                return
            self._looked_for.add(name)
            asked = language.sqlite.compile_filter({name: {"$exists": True}}, column="r.metadata")
            assert asked is not None
            arguments = language.fields.ARGUMENTS
            if not _any(engine, scope, ([asked.sql], asked.params)):
                instead = f"pass {arguments[name]}, or " if name in arguments else ""
                warn_of_filter(
                    f"the filter asks metadata for {name!r}, which none of these memories has there; for the field "
                    f"{name} of the memory itself {instead}write '${name}' in the filter"
                )


def _any(engine: Engine, scope: Scope, conditions: Conditions) -> bool:
    from agentmem.stores.timeline import Range

    listing = operations.page.Listing(scope, conditions, Range())
    return bool(operations.page.page(engine, listing, 1).records)


def warn_of_filter(message: str) -> None:
    """A ``FilterWarning`` that points at the caller's line; by default Python shows it once for each line."""
    level, frame = 1, sys._getframe()  # pyright: ignore[reportPrivateUsage]
    while frame is not None and str(frame.f_globals.get("__name__")).split(".")[0] == "agentmem":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, FilterWarning, stacklevel=level)
