"""Who owns a store that lives in a folder or bucket: one object, replaced only by whoever knows what it says.

It holds an epoch, which each new owner raises, the owner's token, and the last increment that counts. An owner who
ships an increment names it here, with the stamp that it knows; whoever takes the store over raises the epoch the same
way. So one of the two comes first: an increment that was named before is in what the next owner restores, and one that
was not is refused, also to an owner who was stopped in the middle and wakes up later.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict, dataclass, replace
from threading import Lock

from agentmem.archive.envelope import packed, unpacked, unwrapped, wrapped
from agentmem.archive.objects import Content, Objects
from agentmem.backup.lineage import Entry
from agentmem.types.clock import Micros
from agentmem.types.errors import (
    ArchiveCorruptError,
    FencedError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
)

KEY = "owner"
_KIND = "owner"


@dataclass(frozen=True, slots=True)
class Claim:
    """What the object says. ``token`` is the owner's; ``lineage`` and ``number`` name the last increment that counts,
    None and 0 for none, ``seq`` its last event, ``at`` when it was made. Of two owners to be, one with a lower ``turn``
    gives way: it was started before the other one. ``name`` is what the owner calls itself."""

    epoch: int
    turn: int
    token: str
    name: str
    lineage: str | None = None
    number: int = 0
    seq: int = 0
    at: Micros | None = None


def read(objects: Objects) -> Claim | None:
    """Who owns it now; None if nobody ever did."""
    try:
        found = objects.get(KEY)
    except ObjectNotFoundError:
        return None
    return _claim(objects, found)


class Fence:
    """One owner's claim, from when it is taken until somebody else takes it. Thread-safe."""

    def __init__(self, objects: Objects, name: str, turn: int = 0) -> None:
        self._objects, self._name, self._turn = objects, name, turn
        self._swapping = Lock()
        self._claim: Claim | None = None
        self._stamp = ""
        self._lost: str | None = None
        self.checked_at = float("-inf")
        """When it was last seen to be this owner's, by the monotonic clock."""

    @property
    def claim(self) -> Claim:
        """What this owner last wrote."""
        assert self._claim is not None
        return self._claim

    def take(self) -> Claim | None:
        """Own it from now on, whoever did before; what the object said then, None for the first owner ever.

        Raises ``FencedError`` for one whose turn is over.
        """
        while True:
            try:
                found = self._objects.get(KEY)
            except ObjectNotFoundError:
                before, stamp, mine = None, None, Claim(1, self._turn, secrets.token_hex(8), self._name)
            else:
                before, stamp = _claim(self._objects, found), found.stamp
                if before.turn > self._turn:
                    raise FencedError(
                        f"{self._objects.url} was handed on: its owner is to be number {before.turn}, and this is "
                        f"number {self._turn}"
                    )
                mine = replace(
                    before, epoch=before.epoch + 1, turn=self._turn, token=secrets.token_hex(8), name=self._name
                )
            data = _packed(mine)
            try:
                self._stamp = self._objects.create(KEY, data) if stamp is None else self._objects.swap(KEY, data, stamp)
            except (ObjectChangedError, ObjectExistsError):
                continue  # somebody was faster; of what he says this goes on
            self._claim = mine
            return before

    def check(self) -> None:
        """Raise ``FencedError`` if it is somebody else's by now. Asks the object."""
        begun = time.monotonic()
        try:
            found = _claim(self._objects, self._objects.get(KEY))
        except ObjectNotFoundError:
            raise self._fenced("the object that says whose it is is gone") from None
        if found.token != self.claim.token:
            raise self._fenced(f"it belongs to {found.name!r} since epoch {found.epoch}")
        if self._lost is not None:
            raise FencedError(self._lost)
        self.checked_at = begun

    def advance(self, entry: Entry) -> None:
        """Have an increment count. Raises ``FencedError`` if it is somebody else's by now: then it does not."""
        with self._swapping:
            mine = replace(self.claim, lineage=entry.lineage, number=entry.number, seq=entry.seq, at=entry.at)
            try:
                self._stamp = self._objects.swap(KEY, _packed(mine), self._stamp)
            except ObjectChangedError:
                self.check()
                raise self._fenced("the object that says whose it is was written by somebody else") from None
            self._claim = mine

    def _fenced(self, why: str) -> FencedError:
        self._lost = (
            f"{self._objects.url}: this process owned it in epoch {self.claim.epoch}, and {why}; nothing is written "
            "here any more"
        )
        return FencedError(self._lost)


def _packed(claim: Claim) -> bytes:
    # The epoch and the number only ever grow, so that no content comes back, and no stamp.
    return wrapped(_KIND, packed(asdict(claim)))


def _claim(objects: Objects, found: Content) -> Claim:
    where = f"{objects.url}/{KEY}"
    try:
        return Claim(**unpacked(unwrapped(_KIND, found.data, where), where))
    except TypeError as exc:
        raise ArchiveCorruptError(f"{where} does not say who owns what lies there: {exc}") from exc
