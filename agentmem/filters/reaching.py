"""What is at the paths of a filter's key in one record's metadata, in Python: the rules are those of ``language``."""

from __future__ import annotations

from collections.abc import Iterator

from agentmem.filters.paths import Path
from agentmem.types.values import Json


def values_at(metadata: Json, paths: tuple[Path, ...]) -> Iterator[Json]:
    """The values to which any of the paths leads, of a list its elements; missing ones are none."""
    for path in paths:
        for value in _reached(metadata, path):
            if isinstance(value, list):
                yield from value
            else:
                yield value


def _reached(value: Json, path: Path) -> Iterator[Json]:
    if not path:
        yield value
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                yield from _reached(item, path)
    elif isinstance(value, dict) and path[0] in value:
        yield from _reached(value[path[0]], path[1:])
