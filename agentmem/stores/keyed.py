"""Keyed hashes: what is left of an id after an erase. Whoever has the store and the id can tell; nobody else can.

HMAC-SHA-256 (RFC 2104), cut to 128 bits, under a key that was made with the store.
"""

from __future__ import annotations

import hmac
import os

_ID, _PERSON, _KEY = b"id\0", b"user\0", b"key\0"


def new_key() -> bytes:
    """A key for a store."""
    return os.urandom(32)


def tombstone_id(key: bytes, id: str, row: int) -> bytes:
    """What stands in the place of an erased record's id. As bytes it is no id that a caller can choose.

    The row makes it one of a kind: an id may be erased, chosen again, and erased again.
    """
    return _hash(key, _ID, id) + row.to_bytes(8, "big")


def tombstone_range(key: bytes, id: str) -> tuple[bytes, bytes]:
    """The first and the last that ``tombstone_id`` can make of an id."""
    digest = _hash(key, _ID, id)
    return digest + bytes(8), digest + b"\xff" * 8


def former_key(key: bytes, name: str) -> bytes:
    """What stands for the key of a record that was erased."""
    return _hash(key, _KEY, name)


def person(key: bytes, user_id: str) -> bytes:
    """What stands for a user all of whose records were erased."""
    return _hash(key, _PERSON, user_id)


def _hash(key: bytes, purpose: bytes, text: str) -> bytes:
    return hmac.digest(key, purpose + text.encode(), "sha256")[:16]
