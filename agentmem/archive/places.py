"""Which place a block has, which no other block can take, and what stands for its user in the clear."""

from __future__ import annotations

import hashlib

from agentmem.archive.envelope import FORMAT


def place(archive: str, table: str, tag: str, number: int, rows: int, raw: int) -> bytes:
    """What a sealed block is bound to, as associated data; all of it is known from manifest and catalogue."""
    return f"agentmem block {FORMAT} {archive} {table} {tag} {number} {rows} {raw}".encode()


def plain_tag(archive: str, user: str | None) -> str:
    """The tag of a user in an archive that is not sealed: a hash, whoever can read the archive may know the user."""
    who = b"nobody" if user is None else b"user " + user.encode()
    return hashlib.sha256(archive.encode() + b" " + who).hexdigest()[:32]
