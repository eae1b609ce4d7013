"""Walls: the sets of records that are searched, counted and cached as one.

A scope lies behind the wall of its user; without a user behind that of its agent, else of its run; the records of
nobody in particular, and those of everybody (``ALL``), form walls of their own. So does each namespace, whatever agent
and run its records have, and what lies at a path and below. Keyword statistics are a wall's.
"""

from __future__ import annotations

from typing import NamedTuple

from agentmem.stores.records import Records
from agentmem.stores.rows import ScopeKey
from agentmem.stores.spaces import prefixes


class Wall(NamedTuple):
    """``user`` is None for everybody; ``agent`` and ``run`` are set only on walls inside ``user=0``.

    ``space`` is the number of a user's namespace, ``path`` that of several: everybody's, or also those ``below`` it.
    """

    user: int | None
    agent: int | None = None
    run: int | None = None
    space: int = 0
    path: bytes | None = None
    below: bool = False

    def key(self, records: Records) -> ScopeKey | None:
        """The wall as a scope, for SQL; None if nothing lies behind it."""
        if self.path is None:
            return ScopeKey(self.user, self.agent, self.run, self.space)
        return records.key_at(self.user, self.path, below=self.below)


EVERYBODY = Wall(None)


def wall_of(scope: ScopeKey) -> Wall:
    """The wall behind which a scope lies."""
    if scope.path is not None:
        return Wall(scope.user, path=scope.path, below=scope.below)
    if scope.space:
        return Wall(scope.user, space=scope.space)
    if scope.user is None or scope.user:
        return Wall(scope.user)
    if scope.agent:
        return Wall(0, agent=scope.agent)
    if scope.run:
        return Wall(0, run=scope.run)
    return Wall(0)


def walls_of(user: int, agent: int, run: int, space: int = 0, path: bytes | None = None) -> list[Wall]:
    """Every wall that a record of these numbers lies behind.

    ``path`` is that of its namespace. Without one, those walls are left out that hold several namespaces.
    """
    several = list[Wall]()
    if path is not None:
        several = [Wall(one, path=each, below=True) for each in prefixes(path) for one in (user, None)]
    if space and path is not None:
        several.append(Wall(None, path=path))
    if space:
        return [Wall(user, space=space), *several]
    walls = [EVERYBODY, Wall(user), *several]
    if not user:
        if agent:
            walls.append(Wall(0, agent=agent))
        if run:
            walls.append(Wall(0, run=run))
    return walls
