"""The endpoints, a file for each area; those that are called most often need no place of their own, the router looks
each up by its path."""

from agentmem.server.routes import (
    admin,
    backups,
    blocks,
    changing,
    consolidation,
    health,
    keyed,
    keys,
    lifecycle,
    live,
    memories,
    prompts,
    search,
    sessions,
    streams,
    tiers,
    values,
)

_AREAS = (
    memories.area, streams.area, changing.area, keyed.area, search.area, sessions.area, prompts.area, blocks.area,
    lifecycle.area, tiers.area, values.area, consolidation.area, live.area, admin.area, backups.area,
    keys.area, health.area,
)  # fmt: skip
ENDPOINTS = [endpoint for area in _AREAS for endpoint in area.endpoints]
"""All of them, in the order of the documentation."""
