"""Removing backups that are older than anybody wants to go back to: which, and in which order.

Everything is kept for some hours, then the last full backup of each day for some days, then of each week for some
weeks; snapshots stay, and so do the newest backup and whatever a backup that stays goes on from. Since any later backup
can be taken back to a moment, fewer of them mean that more is taken back, not that moments are lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from agentmem.archive.objects import Objects
from agentmem.backup import lineage
from agentmem.backup.lineage import Entry
from agentmem.backup.moment import Places
from agentmem.types.clock import Micros

_HOUR: Micros = 3_600_000_000
_DAY, _WEEK = 24 * _HOUR, 7 * 24 * _HOUR


class Retention(NamedTuple):
    """How long backups are kept: all for so many hours, then one full one for each of so many days and weeks."""

    hours: float
    days: int
    weeks: int


def outdated(
    places: Places, lineage: str, retention: Retention, now: Micros, dropped: Collection[int] = ()
) -> list[Entry]:
    """The backups of a lineage that are kept no longer, oldest first; ``dropped`` are numbers of snapshots that are
    like any full backup by now."""
    entries = _dated([entry for entry in places.all() if entry.lineage == lineage], now)
    if not entries:
        return []
    newest = max(entries, key=lambda entry: entry.number)
    kept = {newest.number}
    kept.update(entry.number for entry in entries if entry.kind == "snapshot" and entry.number not in dropped)
    kept.update(entry.number for entry in entries if now - entry.at < retention.hours * _HOUR)
    whole = [entry for entry in entries if entry.after is None]
    kept |= _last_of_each(whole, _DAY, now - retention.days * _DAY)
    kept |= _last_of_each(whole, _WEEK, now - retention.weeks * _WEEK)
    for entry in sorted(entries, key=lambda entry: -entry.number):
        if entry.number in kept and entry.after is not None:
            kept.add(entry.number - 1)
    return sorted((entry for entry in entries if entry.number not in kept), key=lambda entry: entry.number)


def _dated(entries: Iterable[Entry], now: Micros) -> list[Entry]:
    """The same, none of them later than now: where the clock was ahead, as old as what was made next."""
    found, latest = list[Entry](), now
    for entry in sorted(entries, key=lambda entry: -entry.number):
        latest = min(latest, entry.at) if entry.at > now else entry.at
        found.append(replace(entry, at=latest))
    return found


def _last_of_each(entries: Iterable[Entry], span: Micros, since: Micros) -> set[int]:
    last = dict[int, Entry]()
    for entry in entries:
        known = last.get(entry.at // span)
        if entry.at >= since and (known is None or known.number < entry.number):
            last[entry.at // span] = entry
    return {entry.number for entry in last.values()}


def remove(objects: Objects, entries: Sequence[Entry]) -> None:
    """Remove backups: first that they are one, so that none is left that lacks something."""
    for entry in reversed(entries):
        objects.delete(lineage.key_of(entry))
    for entry in entries:
        _remove_archive(objects, entry.archive)
        if entry.kind == "snapshot":
            objects.delete(lineage.dropped_key(entry))


def remove_leftovers(objects: Objects, name: str) -> list[str]:
    """Remove what writers and removals that were killed have left in a lineage; the archives that are of no backup and
    stay, since another store of this lineage may be writing them: until the next backup is there.

    Only while no backup of that lineage is being made.
    """
    number = max(lineage.numbers(objects, name), default=0)
    named = {entry.archive for entry in Places(objects).all()}
    found = {"/".join(info.key.split("/")[:3]) for info in objects.list(f"{name}/backups")}
    left = sorted(found - named)
    gone = [archive for archive in left if int(archive.rpartition("/")[2].partition("-")[0]) <= number]
    for archive in gone:
        _remove_archive(objects, archive)
    objects.sweep(name)
    return [archive for archive in left if archive not in gone]


def _remove_archive(objects: Objects, archive: str) -> None:
    keys = [info.key for info in objects.list(archive)]
    for key in sorted(keys, key=lambda key: not key.endswith("/manifest")):
        objects.delete(key)
    objects.sweep(archive)
