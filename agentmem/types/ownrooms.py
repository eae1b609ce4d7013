"""The package's own namespaces in which something lies for a namespace of the caller's, below them."""

from __future__ import annotations

from agentmem.types.sessionkeys import BLOCKS, OF_SESSIONS, SESSIONS
from agentmem.types.valuekeys import ROOM

KNOWLEDGE, PROPOSALS = "$knowledge", "$proposals"
"""Of consolidation: bookkeeping by key, and what waits to be approved."""
LEARNED = (KNOWLEDGE, "of")
"""Bookkeeping for one namespace."""
OWN_ROOMS = ((ROOM,), (SESSIONS,), *((room,) for room in OF_SESSIONS), (BLOCKS,), (PROPOSALS,), LEARNED)
