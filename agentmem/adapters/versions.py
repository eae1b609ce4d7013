"""Which versions of a framework its adapter was tried with, and what to do where another one is there, or none."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from agentmem import MissingExtraError

_NUMBERS = re.compile(r"\d+")


def require(distribution: str, *, at_least: str, below: str, extra: str) -> None:
    """Raise ``MissingExtraError``, with the command that mends it, unless a fitting version is installed."""
    command = f"pip install 'agentmem-db[{extra}]'"
    try:
        found = version(distribution)
    except PackageNotFoundError as exc:
        raise MissingExtraError(f"{distribution} is not installed; {command}") from exc
    if not _parts(at_least) <= _parts(found) < _parts(below):
        raise MissingExtraError(
            f"{distribution} {found} is installed; this adapter is for {at_least} and later, below {below}: {command}"
        )


def _parts(text: str) -> tuple[int, ...]:
    """``1.12.0rc1`` as (1, 12, 0): a version before its release counts as that."""
    release = re.match(r"[\d.]*", text)
    return tuple(map(int, _NUMBERS.findall(release[0] if release else "")))
