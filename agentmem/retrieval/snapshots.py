"""Arenas on the disk, of scopes that are not small, so that a process that opens the store need not take every text
apart again.

They are derived: a file that is damaged, or was made with another model, by other rules, or from another history than
this store's is removed, and made anew. No text is in them, but ids, and what codes and hashed words tell of it; so
files from before something was erased are removed, too.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem.retrieval.arena import Arena
from agentmem.retrieval.walls import Wall, walls_of
from agentmem.stores import arrayfile, meta
from agentmem.stores.folder import ARENAS, Folder, path_of
from agentmem.stores.records import Records
from agentmem.text.terms import VERSION
from agentmem.types.errors import ClosedError, NotFoundError, StoreError
from agentmem.types.promise import promised

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FORMAT = 4
AGAIN_S = 60.0
"""Seconds after which what has changed may be kept again."""
CHANGES, _SHARE = 2_000, 0.02
"""Changes, and which part of all records, that make it worth while to keep an arena once more."""
_EVENTS = 2_000
"""That are read at once."""
_LAST_WAIT = 0.8
"""Seconds that closing waits for what is being written."""
_ABANDONED_S = 3_600.0
"""After which nobody goes on with a file that was begun."""

log = logging.getLogger("agentmem")


class Snapshots:
    """The files of one store and one model. Safe to use from many threads and processes."""

    def __init__(self, store: Callable[[], Folder], records: Records, *, read_only: bool) -> None:
        """``store`` gives the store's folder, held open, so that nothing is written beside another store that takes its
        place, and raises ``ClosedError``. ``read_only``: nothing is written or removed."""
        self._read_only = read_only
        self._store = store
        self._records = records
        self._closing = False
        self._kept = dict[Wall, tuple[int, float]]()
        """How many slots an arena had when it was last kept, and when that was."""
        self._writing = list[Future[None]]()

    def load(self, wall: Wall, arena: Arena, most: int | None = None) -> set[int] | None:
        """Fill an arena, which is empty, from the wall's file; the rows that have to be read anew, None without.

        None as well where there were more events than ``most`` since it was kept.
        """
        seq = self._load(wall, arena, most)
        if seq is None:
            return None
        self._kept[wall] = arena.slots, time.monotonic()
        return self._changed_after(wall, seq) | arena.incomplete

    def keep(self, wall: Wall, arena: Arena, seq: int) -> None:
        """Keep the arena for the next start if much has changed since; it has everything up to the event ``seq``."""
        slots, at = self._kept.get(wall, (0, 0.0))
        if arena.slots - slots > max(CHANGES, _SHARE * slots) and time.monotonic() - at > AGAIN_S:
            self.save(wall, arena, seq)

    def save(self, wall: Wall, arena: Arena, seq: int) -> None:
        """The same however much that is."""
        if self._closing or self._read_only or not arena.is_worth_keeping:
            return
        self._kept[wall] = arena.slots, time.monotonic()
        event = self._records.event_at(seq)
        if event is None:  # it is gone
            return
        arena.scrub()  # of what was erased, here or by another process, nothing may come to the disk
        values, arrays = arena.saved()
        header = {**self._made_by(wall, arena), "event": [seq, *event], "values": values}
        self._writing = [each for each in self._writing if not each.done()]
        self._writing.append(promised(lambda: self._write(wall, header, arrays)))

    def stop(self) -> None:
        """Keep nothing more."""
        self._closing = True

    def close(self) -> None:
        """The same, and wait for what is being written, but not for long."""
        self.stop()
        until = time.monotonic() + _LAST_WAIT
        for each in self._writing:
            with suppress(TimeoutError):
                each.exception(max(0.0, until - time.monotonic()))

    def _load(self, wall: Wall, arena: Arena, most: int | None) -> int | None:
        store = self._store()
        path = _file(store, wall)
        try:
            header = arrayfile.read_header(path)
            if not self._is_valid(header, wall, arena):
                self._unlink(path)
                return None
            if most is not None and self._records.last_seq() - header["event"][0] > most:
                return None
            header, arrays = arrayfile.read(path)
            arena.restore(header["values"], arrays)
            return int(header["event"][0])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, OSError) as exc:
            log.warning("what was kept of a scope cannot be used, and is made anew: %s", exc)
            self._unlink(path)
            return None

    def _write(self, wall: Wall, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        """What cannot be written is left out: it costs the next process time."""
        try:
            store = self._store()
        except ClosedError:
            return
        path = _file(store, wall)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._remove_abandoned(path.parent)
            arrayfile.write(path, header, arrays)
            # Somebody may have removed all files after an erase, and before this one was there.
            if self._records.erased_after(header["event"][0]):
                path.unlink()
        except FileNotFoundError:
            pass
        except (OSError, StoreError) as exc:
            log.warning("a scope could not be kept for the next start: %s", exc)

    def remove(self) -> bool:
        """Remove every file, other processes' and those that were left half written included; False if some stay."""
        self._kept.clear()
        gone = True
        try:
            with os.scandir(path_of(self._store()) / ARENAS) as entries:
                for entry in entries:
                    try:
                        os.unlink(entry.path)
                    except FileNotFoundError:
                        continue
                    except OSError:
                        gone = False
        except (FileNotFoundError, ClosedError):
            pass
        except OSError:
            gone = False
        return gone

    @staticmethod
    def _remove_abandoned(folder: Path) -> None:
        """Remove what killed processes have left half written."""
        for path in folder.glob("*.new"):
            with suppress(FileNotFoundError):
                if abs(time.time() - path.stat().st_mtime) > _ABANDONED_S:  # a clock may have been ahead
                    path.unlink()

    def _unlink(self, path: Path) -> None:
        if not self._read_only:
            with suppress(OSError):
                path.unlink()

    def _changed_after(self, wall: Wall, seq: int) -> set[int]:
        """Rows behind a wall that changed after an event."""
        rows = set[int]()
        while events := self._records.events_after(seq, _EVENTS):
            for _, row, user, agent, run, space, _ in events:
                path = None
                if wall.path is not None and row:
                    with suppress(NotFoundError):  # erased since, with all that lay in it
                        path = self._records.names.path(self._records.db, space)
                if row and wall in walls_of(user, agent, run, space, path):
                    rows.add(row)
            seq = events[-1].seq
        return rows

    def _made_by(self, wall: Wall, arena: Arena) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "wall": repr(tuple(wall)),
            "model": [self._records.meta(key) for key in (meta.MODEL, meta.DIM, meta.MODEL_FINGERPRINT)],
            "generation": self._records.generation,
            "kind": arena.kind,
            "terms": VERSION,
        }

    def _is_valid(self, header: dict[str, Any], wall: Wall, arena: Arena) -> bool:
        """Whether it was made by what there is now, from a history that this store's goes on from."""
        made_by = self._made_by(wall, arena)
        if {name: header.get(name) for name in made_by} != made_by:
            return False
        seq, *event = header["event"]
        return self._records.event_at(seq) == tuple(event) and not self._records.erased_after(seq)


def _file(store: Folder, wall: Wall) -> Path:
    return path_of(store) / ARENAS / f"{hashlib.sha256(repr(tuple(wall)).encode()).hexdigest()[:20]}.arena"
