"""When two facts are the same, and whether a record still is what was stored: two questions, two hashes.

The *key* of a plain fact, in the column ``fingerprint``, is how a repetition is recognised. The *checksum* covers what
was stored, to the byte, and is what ``verify`` and a salvage judge by; every record has one. Records from before
migration 4 have no checksum; their key was made by another rule, of the text as it was, and stands in for it.
"""

from __future__ import annotations

from hashlib import blake2b
from unicodedata import normalize

from agentmem.stores.rows import Numbers, Stored
from agentmem.types.clock import Micros

_INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
_BLANK = "".join(filter(str.isspace, map(chr, range(0x3001)))) + _INVISIBLE


def canonical(text: str) -> str:
    """A text as far as its words go: composed characters (NFC), line ends as ``\\n``, no blanks or invisible characters
    at its ends."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.strip() if text.isascii() else normalize("NFC", text).strip(_BLANK)


def fact_key(scope: Numbers, role: str | None, kind: str, content: str, occurred_at: Micros | None) -> bytes:
    """What makes two plain facts the same: exact scope, namespace, role, kind, time of the event, and the words.

    ``occurred_at`` None is a time of its own: that of what was said without one. BLAKE2b, 128 bits.
    """
    user, agent, run, space = scope
    where = f"{run} in {space}" if space else run
    text = f"2 {user} {agent} {where} {occurred_at} {len(role or '')} {role} {len(kind)} {kind} "
    return blake2b((text + canonical(content)).encode(), digest_size=16).digest()


def first_fact_key(scope: Numbers, role: str | None, kind: str, content: str) -> bytes:
    """The same by the rule that stores were begun with: exact scope, role, kind and content."""
    text = f"{scope[0]} {scope[1]} {scope[2]} {len(role or '')} {role} {len(kind)} {kind} "
    return blake2b((text + content).encode(), digest_size=16).digest()


def key_of(stored: Stored) -> bytes | None:
    """The key of a record as it is now; None for one that is not to be recognised."""
    if stored.fingerprint is None or stored.retired_at is not None:
        return None  # what holds no more may be said again
    return fact_key(stored.scope, stored.role, stored.kind, stored.content, stored.occurred_at)


def checksum(stored: Stored) -> bytes:
    """Of everything that must not change without an event: whose it is, what it says, what its caller gave (64 bits).

    The rest is compared with the history (state and version), or is the lifecycle's own (its layer and its time there).
    """
    # A zero has one form in the database, whatever its sign was.
    importance = 0.0 if stored.importance == 0 else stored.importance
    # Where a read renews it, the end is an access's, not the record's.
    end = stored.expires_at if stored.sliding is None else None
    numbers = (
        *stored.scope[:3], stored.created_at, stored.occurred_at, end, importance, stored.rating
    )  # fmt: skip
    key = "" if stored.fingerprint is None else stored.fingerprint.hex()
    # Texts hold no NUL.
    parts = (
        stored.id, repr(numbers), stored.role or "", stored.kind, key, stored.metadata or "", stored.content
    )  # fmt: skip
    if more := stored.more:  # what is like most records is signed as it ever was
        parts = (*parts, repr(more))
    return blake2b("\0".join(parts).encode(), digest_size=8).digest()


def is_intact(stored: Stored, noted: bytes | None) -> bool:
    """Whether a record is what was stored, by its checksum, or by what stands in for one that has none."""
    if noted is not None:
        return checksum(stored) == noted
    if stored.fingerprint is None:
        return True
    return first_fact_key(stored.scope, stored.role, stored.kind, stored.content) == stored.fingerprint
