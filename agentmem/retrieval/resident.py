"""What is kept of a wall that is searched in memory, and of all of them together."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from threading import RLock

from agentmem.retrieval.arena import Arena
from agentmem.retrieval.building import Building
from agentmem.retrieval.near import Near
from agentmem.retrieval.walls import Wall
from agentmem.types.reentry import Lock


@dataclass(slots=True)
class Resident:
    """A wall's arena with its lock, and the rows that changed since it was last brought up to date: ``dirty``, of which
    ``altered`` are not merely new.

    ``too_large``: no exact arena can hold the wall. ``building`` is that of an arena of codes, ``missed`` the rows that
    changed since it began, None where none is being built. ``unclean``: something that is in the arena was erased.
    ``near`` are the hot and warm records of a wall that has no arena.
    """

    lock: Lock = field(default_factory=RLock)
    arena: Arena | None = None
    dirty: set[int] = field(default_factory=set[int])
    altered: set[int] = field(default_factory=set[int])
    nbytes: int = 0
    large: bool = False
    too_large: bool = False
    building: Building | None = None
    missed: set[int] | None = None
    unclean: bool = False
    near: Near | None = None


@dataclass(slots=True)
class Held:
    """Every resident, least recently used first, and the bytes of exact arenas and of those of codes."""

    by_wall: OrderedDict[Wall, Resident] = field(default_factory=OrderedDict[Wall, Resident])
    exact: int = 0
    large: int = 0

    def account(self, resident: Resident, nbytes: int, large: bool) -> None:
        """Take note of what an arena holds."""
        self.exact += (0 if large else nbytes) - (0 if resident.large else resident.nbytes)
        self.large += (nbytes if large else 0) - (resident.nbytes if resident.large else 0)
        resident.nbytes, resident.large = nbytes, large

    def drop(self, wall: Wall) -> None:
        """Hold a wall's arena no more."""
        resident = self.by_wall.pop(wall)
        self.account(resident, 0, resident.large)

    def drop_oldest(self, large: bool, budget: int, used: Wall) -> None:
        """Drop the least recently used arenas of a kind, but not the one in use, until they fit into a budget."""
        if (self.large if large else self.exact) <= budget:
            return
        for wall in list(self.by_wall):
            resident = self.by_wall[wall]
            if wall != used and resident.large == large and resident.building is None:
                self.drop(wall)
            if (self.large if large else self.exact) <= budget:
                return
