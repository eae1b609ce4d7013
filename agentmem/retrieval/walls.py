"""Walls: the sets of records that are searched, counted and cached as one.

A scope lies behind the wall of its user; without a user behind that of its agent, else of its run; the records of
nobody in particular, and those of everybody (``ALL``), form walls of their own. Keyword statistics are a wall's.
"""

from __future__ import annotations

from typing import NamedTuple

from agentmem.stores.rows import ScopeKey


class Wall(NamedTuple):
    """``user`` is None for everybody; ``agent`` and ``run`` are set only on walls inside ``user=0``."""

    user: int | None
    agent: int | None = None
    run: int | None = None

    def key(self) -> ScopeKey:
        """The wall as a scope, for SQL."""
        return ScopeKey(self.user, self.agent, self.run)


EVERYBODY = Wall(None)


def wall_of(scope: ScopeKey) -> Wall:
    """The wall behind which a scope lies."""
    if scope.user is None or scope.user:
        return Wall(scope.user)
    if scope.agent:
        return Wall(0, agent=scope.agent)
    if scope.run:
        return Wall(0, run=scope.run)
    return Wall(0)


def walls_of(user: int, agent: int, run: int) -> list[Wall]:
    """Every wall that a record of these numbers lies behind."""
    walls = [EVERYBODY, Wall(user)]
    if not user:
        if agent:
            walls.append(Wall(0, agent=agent))
        if run:
            walls.append(Wall(0, run=run))
    return walls
