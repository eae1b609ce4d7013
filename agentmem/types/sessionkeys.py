"""Where the records are that belong to sessions: the package's own namespaces, and the keys in them.

A namespace of the caller's lies below each of them, so that sessions of two namespaces have nothing in common.
"""

from __future__ import annotations

import json
from hashlib import sha256

from agentmem.types.spelling import composed

SESSIONS = "$sessions"
"""One record for each session, by ``session_key``; it says when the session is over, and whether it was closed."""
WORKING = "$working"
"""Its working memory, by the same key."""
SUMMARIES = "$summaries"
"""Its summaries."""
BLOCKS = "$blocks"
"""Blocks, by agent and label."""
OF_SESSIONS = (WORKING, SUMMARIES)
"""What lives as long as its session, as turns do."""
CLOSED = "closed_at"
"""In the metadata of a session's record: when it was closed; absent while it is open."""
_LONGEST = 2_000


def session_key(agent_id: str | None, run_id: str) -> str:
    """The key of a session; of ids that are longer than a key may be, a hash of them."""
    return pair_key(agent_id, run_id)


def pair_key(first: str | None, second: str) -> str:
    """Two names as one key, however they are spelled."""
    key = json.dumps([None if first is None else composed(first), composed(second)], ensure_ascii=False)
    return key if len(key.encode()) <= _LONGEST else f"#{sha256(key.encode()).hexdigest()}"
