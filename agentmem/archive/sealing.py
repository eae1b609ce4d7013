"""AES-256-GCM: the one file that imports cryptography. What is sealed is read, and moved, by nobody without the key."""

from __future__ import annotations

import os

from agentmem.types.errors import ArchiveKeyError, InvalidInputError, MissingExtraError

KEY_BYTES = 32
_NONCE = 12
_TAG = 16
OVERHEAD = _NONCE + _TAG
"""Bytes that sealing adds."""


def new_key() -> bytes:
    """A random key."""
    return os.urandom(KEY_BYTES)


class Sealer:
    """Seals under one key of 32 bytes, and opens what was.

    Each time with 12 random bytes as nonce: of 2**32 messages under one key, as many as the standard allows, two have
    the same one with a probability below 2**-32, also where processes were forked or a machine was restored from an
    image. Safe for several threads.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise InvalidInputError(f"a key has {KEY_BYTES} bytes, not {len(key)}", field="key")
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as exc:
            raise MissingExtraError("cryptography is not installed; pip install 'agentmem-db[archive]'") from exc
        self._cipher = AESGCM(key)
        self._invalid = InvalidTag

    def seal(self, data: bytes, place: bytes) -> bytes:
        """Nonce, ciphertext, tag. It can only be opened with the same ``place``, which is not kept in it."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, data, place)

    def open(self, sealed: bytes, place: bytes, what: str) -> bytes:
        """What was sealed. Raises ``ArchiveKeyError`` for another key or place, or a single bit that has changed."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], place)
        except (self._invalid, ValueError) as exc:
            raise ArchiveKeyError(
                f"{what} cannot be opened: it was sealed with another key or for another place, or has changed since"
            ) from exc
