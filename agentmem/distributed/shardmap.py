"""Which shard has whose memories: a small object, versioned, that every client reads and one at a time replaces.

A user's id is hashed into one of 4,096 slots, and slots belong to shards; single users may be assigned to a shard of
their own. A shard has a ``turn``, one more each time that it moves: its actor is named by it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from agentmem.archive.objects import Objects
from agentmem.types.errors import (
    ArchiveCorruptError,
    InvalidInputError,
    NotFoundError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
)
from agentmem.types.spelling import composed

KEY = "map"
SLOTS = 4_096
"""As many as three hexadecimal digits have, in which ids name theirs."""


@dataclass(frozen=True, slots=True)
class ShardMap:
    """Immutable. ``slots`` has the shard of each slot, ``turns`` the turn of each shard, ``users`` the users that are
    assigned by name; ``id`` tells one cluster from another. ``leaving`` are users, or slots as ``#17``, that are on
    their way to another shard: nothing of theirs is written meanwhile."""

    id: str
    version: int
    slots: tuple[str, ...]
    turns: Mapping[str, int]
    users: Mapping[str, str] = field(default_factory=dict[str, str])
    leaving: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def shards(self) -> list[str]:
        """The names of all shards."""
        return sorted(self.turns)

    def shard_of(self, user: str | None) -> str:
        """Where a user's memories are; None: nobody's."""
        if self.users and user is not None and (assigned := self.users.get(composed(user))) is not None:
            return assigned
        return self.slots[slot_of(user)]

    def is_leaving(self, user: str | None) -> bool:
        """Whether a user is on his way to another shard."""
        return bool(self.leaving) and (
            f"#{slot_of(user)}" in self.leaving or (user is not None and composed(user) in self.leaving)
        )

    def staying(self, shard: str) -> ShardMap:
        """The map where none of a shard's users is on his way any more."""

        def of(entry: str) -> str:
            return self.slots[int(entry[1:])] if is_slot(entry) else self.shard_of(entry)

        return replace(self, leaving={entry: to for entry, to in self.leaving.items() if of(entry) != shard})

    def hinted(self, id: str) -> str | None:
        """The shard that an id which was made here names; it may have moved on since. None for other ids."""
        return self.slots[int(id[-3:], 16)] if is_made_here(id) else None

    def actor(self, shard: str) -> str:
        """The name of a shard's actor. Raises ``NotFoundError``."""
        if shard not in self.turns:
            raise NotFoundError(f"there is no shard {shard!r}; there are {', '.join(self.shards)}")
        return f"agentmem-{self.id}-{shard}-{self.turns[shard]}"


def slot_of(user: str | None) -> int:
    """The slot of a user, however the id is spelled."""
    text = "" if user is None else f"u{composed(user)}"
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4], "big") % SLOTS


def is_slot(entry: str) -> bool:
    """Whether what is on its way is a slot, and not a user."""
    return entry.startswith("#") and entry[1:].isdecimal()


def with_slot(id: str, slot: int) -> str:
    """A new id that names a slot."""
    return f"{id[:-3]}{slot:03x}"


def is_made_here(id: str) -> bool:
    """Whether an id may be one that names a slot: a UUID of version 7 in its plain form."""
    return len(id) == 36 and id[14] == "7" and id[8] == id[13] == id[18] == id[23] == "-" and _is_hex(id[-3:])


def _is_hex(text: str) -> bool:
    return all(each in "0123456789abcdef" for each in text)


def shard_name(number: int) -> str:
    """``s000`` and so on."""
    return f"s{number:03d}"


def new_map(shards: int) -> ShardMap:
    """One for so many shards, each with the same share of the slots."""
    if not 1 <= shards <= SLOTS:
        raise InvalidInputError(f"shards must be between 1 and {SLOTS:,}, not {shards}", field="shards")
    names = [shard_name(number) for number in range(shards)]
    slots = tuple(names[slot * shards // SLOTS] for slot in range(SLOTS))
    return ShardMap(secrets.token_hex(4), 1, slots, dict.fromkeys(names, 0))


class MapObject:
    """The map of the cluster at a URL. Thread-safe."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._known: ShardMap | None = None

    def known(self) -> ShardMap:
        """As it was when it was last read."""
        return self._known or self.read()

    def read(self) -> ShardMap:
        """As it is now. Raises ``ObjectNotFoundError`` where there is no cluster."""
        found = self._objects.get(KEY)
        self._known = _map(found.data, f"{self._objects.url}/{KEY}")
        return self._known

    def create(self, shards: int) -> ShardMap:
        """The map that there is, or a new one for so many shards."""
        try:
            return self.read()
        except ObjectNotFoundError:
            try:
                self._objects.create(KEY, _packed(new_map(shards)))
            except ObjectExistsError:
                pass
            return self.read()

    def change(self, make: Callable[[ShardMap], ShardMap]) -> ShardMap:
        """Replace the map by what ``make`` makes of it, called again where somebody else was faster."""
        while True:
            found = self._objects.get(KEY)
            now = _map(found.data, f"{self._objects.url}/{KEY}")
            new = replace(make(now), version=now.version + 1)
            try:
                self._objects.swap(KEY, _packed(new), found.stamp)
            except ObjectChangedError:
                continue
            self._known = new
            return new


def _packed(made: ShardMap) -> bytes:
    ranges = list[tuple[int, str]]()
    for slot, shard in enumerate(made.slots):
        if not ranges or ranges[-1][1] != shard:
            ranges.append((slot, shard))
    values: dict[str, Any] = {
        "format": 1, "id": made.id, "version": made.version, "slots": ranges, "turns": dict(made.turns),
        "users": dict(made.users), "leaving": dict(made.leaving),
    }  # fmt: skip
    return json.dumps(values, sort_keys=True).encode()


def _map(data: bytes, where: str) -> ShardMap:
    try:
        values = json.loads(data)
        slots = list[str]()
        ranges: list[tuple[int, str]] = [*values["slots"], (SLOTS, "")]
        for (first, shard), (end, _) in pairwise(ranges):
            slots += [shard] * (end - first)
        made = ShardMap(
            values["id"], values["version"], tuple(slots), values["turns"], values["users"], values["leaving"]
        )
    except (ValueError, KeyError, TypeError) as exc:
        raise ArchiveCorruptError(f"{where} is no map of a cluster: {exc}") from exc
    if len(made.slots) != SLOTS or values["format"] != 1:
        raise ArchiveCorruptError(f"{where} is no map of a cluster of this version")
    return made
