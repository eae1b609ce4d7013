"""Keys of a filter: how a dotted key is written, and which paths into the metadata it may mean."""

from __future__ import annotations

import re
from itertools import combinations, pairwise
from typing import NamedTuple, TypeAlias

Path: TypeAlias = tuple[str, ...]
"""Keys from the outermost in; at least one."""


class InData(NamedTuple):
    """Paths into a record's data instead of its metadata; the empty one leads to the data itself."""

    paths: tuple[Path, ...]


_DATA = "$data"
MAX_READ_ALL = 4
"""A key of up to so many parts is read in every way."""

_DOT = re.compile(r"(\\*)\.")
_DOLLAR = re.compile(r"(\\+)\$")


def paths_of(key: str) -> tuple[Path, ...]:
    r"""What a key means: first the path on which each dot leads into an object, then those with dots inside of keys.

    ``a.b`` may be the key ``b`` in the object ``a``, or the key ``a.b``. A longer key than ``MAX_READ_ALL`` parts is
    either all path or all key. A dot after a backslash is a part of its key, and with one of those in it a key has one
    meaning; two backslashes before a dot are one backslash and a dot that leads on. A first ``\$`` is a dollar sign.
    """
    start = _DOLLAR.match(key)
    parts, explicit, at = [""], start is not None, 0
    if start is not None:
        parts[0], at = "\\" * (len(start[1]) // 2) + "$", start.end()
    for found in _DOT.finditer(key, at):
        slashes = len(found[1])
        explicit = explicit or slashes > 0
        parts[-1] += key[at : found.start()] + "\\" * (slashes // 2)
        at = found.end()
        if slashes % 2:
            parts[-1] += "."
        else:
            parts.append("")
    parts[-1] += key[at:]
    return (tuple(parts),) if explicit or len(parts) == 1 else tuple(_readings(parts))


def in_data(key: str) -> InData | None:
    """What a key means that names a record's data, ``$data``, or something in it, ``$data.a.b``; else None."""
    if key == _DATA:
        return InData(((),))
    return InData(paths_of(key[len(_DATA) + 1 :])) if key.startswith(f"{_DATA}.") else None


def _readings(parts: list[str]) -> list[Path]:
    last = len(parts)
    if last > MAX_READ_ALL:
        return [tuple(parts), (".".join(parts),)]
    found: list[Path] = []
    for dots in range(last - 1, -1, -1):
        for cuts in combinations(range(1, last), dots):
            bounds = (0, *cuts, last)
            found.append(tuple(".".join(parts[a:b]) for a, b in pairwise(bounds)))
    return found
