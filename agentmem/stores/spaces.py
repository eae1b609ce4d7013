"""Namespaces as bytes: what is interned in ``names`` beside the scope ids, which are text there.

A namespace is one user's: the entry begins with the number of that user, 8 bytes in big-endian order, then comes the
path, each part ended by a slash. So everything below a path is one range of the index, and a number that stands for a
namespace says whose it is, too.
"""

from __future__ import annotations

from collections.abc import Sequence

OWN = b"$"
"""How the paths of the package's own namespaces begin."""
_USER = 8
_END = b"\xff"
"""After every path: no UTF-8 has it."""


def path_of(parts: Sequence[str]) -> bytes:
    """A path as it is stored; empty for the root."""
    return b"".join(part.replace("%", "%25").replace("/", "%2F").encode() + b"/" for part in parts)


def parts_of(path: bytes) -> tuple[str, ...]:
    """The parts of a stored path."""
    found = path.decode().split("/")[:-1]
    return tuple(part.replace("%2F", "/").replace("%25", "%") for part in found)


def prefixes(path: bytes) -> list[bytes]:
    """The paths that this one lies below, from the root's, and itself."""
    return [b"", *(path[: at + 1] for at, byte in enumerate(path) if byte == 0x2F)]


def entry(user: int, path: bytes) -> bytes:
    """A user's namespace as ``names`` has it."""
    return user.to_bytes(_USER, "big") + path


def path_in(entry: bytes) -> bytes:
    """The path in an entry."""
    return entry[_USER:]


def below(user: int, path: bytes) -> tuple[bytes, bytes]:
    """The range, its end excluded, of a user's namespaces at a path and below."""
    first = entry(user, path)
    return first, first + _END
