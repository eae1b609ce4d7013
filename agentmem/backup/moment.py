"""Which backups a moment is made of: one that was made after it, from which later events are taken back, those that
this one goes on from, and those made since, which say what was erased since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agentmem.archive.objects import Objects
from agentmem.backup import lineage
from agentmem.backup.lineage import Entry
from agentmem.types.clock import END, Micros, to_datetime
from agentmem.types.errors import ArchiveCorruptError, InvalidInputError, NotFoundError, shown


class Moment(NamedTuple):
    """What is to be restored."""

    chain: list[Entry]
    """The backup that is read last, and before it those that it goes on from; the first stands by itself."""
    seq: int | None
    """Go back to this event; None: not by a number."""
    at: Micros | None
    """Go back to the last event at this instant or before."""
    later: list[tuple[Entry, int | None]]
    """Backups that were made after that, each with the last row that is the same record there; None: all are."""


class Places:
    """All backups of a place. One whose entry is damaged keeps nobody from what does not depend on it."""

    def __init__(self, objects: Objects) -> None:
        self._url = objects.url
        self._entries = dict[str, dict[int, Entry]]()
        self._hashes = dict[tuple[str, int], str]()
        self._damaged = dict[tuple[str, int], ArchiveCorruptError]()
        for name, number, read in lineage.every(objects):
            if isinstance(read, ArchiveCorruptError):
                self._damaged[name, number] = read
                continue
            entry, sha256 = read
            self._entries.setdefault(entry.lineage, {})[entry.number] = entry
            self._hashes[entry.lineage, entry.number] = sha256

    def check_all(self) -> None:
        """Raise the error of an entry that is damaged."""
        for error in self._damaged.values():
            raise error

    def all(self) -> list[Entry]:
        """Every backup that can be read, oldest first: those of a lineage by their numbers, whatever the clock said.

        Beside other lineages, one that was made while the clock was ahead counts as no later than those after it.
        """
        dated = list[tuple[Micros, int, Entry]]()
        for numbers in self._entries.values():
            at = END
            for number, entry in sorted(numbers.items(), reverse=True):
                at = min(at, entry.at)
                dated.append((at, number, entry))
        return [entry for *_, entry in sorted(dated, key=lambda one: one[:2])]

    def find(self, id: str | None) -> Entry:
        """A backup by its id; None: the newest. Raises ``NotFoundError``."""
        found = self.all()
        if not found:
            raise NotFoundError(f"there are no backups in {self._url}")
        for entry in found:
            if entry.id == id:
                return entry
        if id is not None:
            raise NotFoundError(f"there is no backup {shown(id)} in {self._url}; the newest is {found[-1].id}")
        return found[-1]

    def chain(self, entry: Entry) -> list[Entry]:
        """A backup with those that it goes on from, first the one that stands by itself.

        Raises ``ArchiveCorruptError`` where one is missing, or is not the one that was.
        """
        found = [entry]
        while found[0].after is not None:
            number = found[0].number - 1
            before = self._entries[entry.lineage].get(number)
            if before is None:
                raise ArchiveCorruptError(
                    f"the backup {entry.id} goes on from number {number} of its lineage, which is not in {self._url} "
                    "any more; restore a full one, or one that goes on from a later full one"
                )
            self.check_previous(found[0])
            found.insert(0, before)
        return found

    def check_previous(self, entry: Entry) -> None:
        """Raise ``ArchiveCorruptError`` where the backup before, if it is there, is not the one that was."""
        before = self._entries[entry.lineage].get(entry.number - 1)
        if before is not None and self._hashes[before.lineage, before.number] != entry.previous:
            raise ArchiveCorruptError(f"the backup {before.id} is not the one that {entry.id} was made after")

    def choose(self, id: str | None = None, *, at: Micros | None = None, seq: int | None = None) -> Moment:
        """What a moment is made of: the newest backup, that with an id, or the state at an event or an instant.

        ``id`` with one of those says which backup to take later events back from. Raises ``InvalidInputError`` for both
        of them, ``NotFoundError`` for what no backup reaches, and what ``chain`` raises.
        """
        if at is not None and seq is not None:
            raise InvalidInputError("a moment is named by its time or by its seq, not by both", field="seq")
        named = None if id is None else self.find(id)
        if at is None and seq is None:
            last = self.find(id)
            return Moment(self.chain(last), None, None, self._later(last))
        numbered = sorted(self._lineage(named, at).items())
        entries = [entry for _, entry in numbered]
        reach = [entry for entry in entries if _reaches(entry, at, seq)] if named is None else [named]
        if named is not None and not _reaches(named, at, seq) and seq is not None:
            raise NotFoundError(f"the backup {named.id} ends at event {named.seq:,}, before {seq:,}")
        if seq is not None and not reach:
            raise NotFoundError(
                f"no backup in {self._url} has event {seq:,} yet: the newest, {entries[-1].id}, ends at "
                f"{entries[-1].seq:,}"
            )
        if at is not None:
            reach = self._by_time(entries, at) if named is None else reach
        return self._first_complete(reach, at, seq)

    def _first_complete(self, reach: Sequence[Entry], at: Micros | None, seq: int | None) -> Moment:
        """Of backups from which a moment can be made, the first for which everything is there."""
        problem: ArchiveCorruptError | None = None
        for entry in reach:
            try:
                chain = self.chain(entry)
            except ArchiveCorruptError as exc:
                problem = problem or exc
                continue
            exactly = seq == entry.seq
            if not exactly and not entry.migrations:
                raise NotFoundError(f"{entry.id} is of an older version, and can be restored as a whole only")
            return Moment(chain, None if exactly else seq, at, self._later(entry))
        assert problem is not None
        raise problem

    def _by_time(self, entries: Sequence[Entry], at: Micros) -> list[Entry]:
        """The backup that has the last event at an instant or before, and those after it.

        Where the clock was set back, later events may have an earlier time: that is what ``first_at`` is for.
        """
        begun = [n for n, entry in enumerate(entries) if entry.first_at is not None and entry.first_at <= at]
        if not begun:
            began = min((entry.first_at for entry in entries if entry.first_at is not None), default=None)
            when = "" if began is None else f"; the first event was at {to_datetime(began).isoformat()}"
            raise NotFoundError(f"nothing had happened at {to_datetime(at).isoformat()} yet{when}")
        return list(entries[begun[-1] :])

    def _lineage(self, named: Entry | None, at: Micros | None) -> dict[int, Entry]:
        """The lineage that a moment is of: that of a backup, that which was going on at an instant, or the newest's."""
        if named is not None:
            return self._entries[named.lineage]
        newest = self.find(None)
        if at is None:
            return self._entries[newest.lineage]
        began = {name: min(_began(entry) for entry in found.values()) for name, found in self._entries.items()}
        current = [name for name in began if began[name] <= at]
        first = min(began, key=lambda name: began[name])
        return self._entries[max(current, key=lambda name: began[name]) if current else first]

    def _later(self, last: Entry) -> list[tuple[Entry, int | None]]:
        """Backups made after one: of its lineage, and of stores that were restored from that.

        Raises the error of one that is damaged, if what it says of erasures is in none that can be read.
        """
        own = sorted((n, entry) for n, entry in self._entries[last.lineage].items() if n > last.number)
        found: list[tuple[Entry, int | None]] = [(entry, None) for _, entry in own]
        limits, todo = {last.lineage: 2**62}, [last.lineage]
        while todo:
            parent = todo.pop()
            for name, entries in self._entries.items():
                newest = entries[max(entries)]
                if newest.parent == parent and name not in limits:
                    limits[name] = min(limits[parent], newest.parent_row)
                    todo.append(name)
                    found += [(entries[number], limits[name]) for number in sorted(entries)]
        for (name, number), error in self._damaged.items():
            entries = self._entries.get(name, {})
            whole = any(each.after is None and each.number > number for each in entries.values())
            concerned = number > last.number if name == last.lineage else name in limits or not entries
            if concerned and not whole:
                raise ArchiveCorruptError(
                    f"{error}; it may say what was erased since. To restore without it, remove it from {self._url}, or "
                    "have the store make a full backup"
                )
        return found


def _began(entry: Entry) -> Micros:
    return entry.at if entry.began is None else entry.began


def _reaches(entry: Entry, at: Micros | None, seq: int | None) -> bool:
    return at is not None or (seq is not None and entry.seq >= seq)
