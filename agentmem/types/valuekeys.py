"""Where the records are that are values, and how a memory names those that it carries."""

from __future__ import annotations

ROOM = "$values"
"""The namespace of all values; one of the caller's lies below it."""
ATTACHMENTS = "attachments"
"""In a memory's metadata: the keys of the values that it carries, a list."""
