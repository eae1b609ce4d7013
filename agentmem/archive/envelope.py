"""Small objects, manifests and keys: a line that says what follows, with its SHA-256, then that."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from agentmem.types.errors import ArchiveCorruptError, ArchiveVersionError

FORMAT = 1
"""Of everything that is written here. A reader refuses what is newer."""

_LINE = re.compile(rb"agentmem ([a-z]{1,20}) ([1-9][0-9]{0,8}) ([0-9a-f]{64})\n")


def wrapped(kind: str, body: bytes) -> bytes:
    """An object of that kind (``a-z``) with this body."""
    return b"agentmem %s %d %s\n" % (kind.encode(), FORMAT, hashlib.sha256(body).hexdigest().encode()) + body


def unwrapped(kind: str, data: bytes, where: str) -> bytes:
    """The body of an object that has to be of that kind.

    Raises ``ArchiveCorruptError`` where any bit has changed, or it is something else, and ``ArchiveVersionError``.
    """
    line = _LINE.match(data)
    if line is None:
        raise ArchiveCorruptError(f"{where} does not begin as an object of agentmem; it is damaged, or somebody else's")
    if int(line[2]) > FORMAT:
        raise ArchiveVersionError(
            f"{where} was written by a newer version of agentmem (format {int(line[2])}, this one reads {FORMAT}); "
            "upgrade with: pip install -U agentmem-db"
        )
    body = data[line.end() :]
    if hashlib.sha256(body).hexdigest().encode() != line[3] or data[: line.end()] != wrapped(kind, body)[: line.end()]:
        found = line[1].decode()
        raise ArchiveCorruptError(
            f"{where} is damaged: its SHA-256 is not the one that it names"
            if found == kind
            else f"{where} is a {found}, not a {kind}"
        )
    return body


def packed(values: dict[str, Any]) -> bytes:
    """JSON, the same for the same values."""
    return json.dumps(values, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def unpacked(body: bytes, where: str) -> dict[str, Any]:
    """A JSON object. Raises ``ArchiveCorruptError``."""
    try:
        found = json.loads(body)
    except ValueError as exc:
        raise ArchiveCorruptError(f"{where} holds no JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise ArchiveCorruptError(f"{where} holds JSON that is no object")
    return found  # pyright: ignore[reportUnknownVariableType]
