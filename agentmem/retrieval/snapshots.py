"""Arenas of large scopes on the disk, so that a process that opens the store need not take every text apart again.

They are derived: a file that is damaged, or was made with another model, by other rules, or from another history than
this store's is removed, and made anew. No text is in them, but what codes and hashed words tell of it; so files from
before something was erased are removed, too.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem.retrieval.largearena import LargeArena
from agentmem.retrieval.walls import Wall
from agentmem.stores import arrayfile, meta
from agentmem.stores.folder import ARENAS, Folder, path_of
from agentmem.stores.records import Records
from agentmem.text.terms import VERSION
from agentmem.types.errors import ClosedError, StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FORMAT = 2

log = logging.getLogger("agentmem")


class Snapshots:
    """The files of one store and one model. Safe to use from many threads and processes."""

    def __init__(self, store: Callable[[], Folder], records: Records, *, read_only: bool) -> None:
        """``store`` gives the store's folder, held open, so that nothing is written beside another store that takes its
        place, and raises ``ClosedError``. ``read_only``: nothing is written or removed."""
        self._read_only = read_only
        self._store = store
        self._records = records

    def load(self, wall: Wall, arena: LargeArena) -> int | None:
        """Fill an arena, which is empty, from the wall's file; the event up to which it is complete, None without."""
        store = self._store()
        path = _file(store, wall)
        try:
            header = arrayfile.read_header(path)
            if not self._is_valid(header, wall, arena):
                self._unlink(path)
                return None
            header, arrays = arrayfile.read(path)
            arena.restore(header["values"], arrays)
            return int(header["event"][0])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, OSError) as exc:
            log.warning("what was kept of a large scope cannot be used, and is made anew: %s", exc)
            self._unlink(path)
            return None

    def prepare(self, wall: Wall, arena: LargeArena, seq: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
        """What ``save`` writes of an arena that has everything up to the event ``seq``.

        None if that event is gone, or nothing may be written, or it would not help.
        """
        wanted = arena.is_worth_keeping and not self._read_only
        event = self._records.event_at(seq) if wanted else None
        if event is None:
            return None
        values, arrays = arena.saved()
        return {**self._made_by(wall, arena), "event": [seq, *event], "values": values}, arrays

    def save(self, wall: Wall, prepared: tuple[dict[str, Any], dict[str, NDArray[Any]]]) -> None:
        """Write what ``prepare`` returned. What cannot be written is left out: it costs the next process time."""
        header, arrays = prepared
        try:
            store = self._store()
        except ClosedError:
            return
        path = _file(store, wall)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            arrayfile.write(path, header, arrays)
            # Somebody may have removed all files after an erase, and before this one was there.
            if self._records.erased_after(header["event"][0]):
                path.unlink()
        except FileNotFoundError:
            pass
        except (OSError, StoreError) as exc:
            log.warning("a large scope could not be kept for the next start: %s", exc)

    def remove(self) -> None:
        """Remove every file, other processes' and those that were left half written included."""
        with suppress(FileNotFoundError, ClosedError):
            store = self._store()
            for entry in os.scandir(path_of(store) / ARENAS):
                with suppress(FileNotFoundError):
                    os.unlink(entry.path)

    def _unlink(self, path: Path) -> None:
        if not self._read_only:
            with suppress(OSError):
                path.unlink()

    def _made_by(self, wall: Wall, arena: LargeArena) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "wall": repr(tuple(wall)),
            "model": [self._records.meta(key) for key in (meta.MODEL, meta.DIM, meta.MODEL_FINGERPRINT)],
            "generation": self._records.generation,
            "codes": arena.codes.kind,
            "terms": VERSION,
        }

    def _is_valid(self, header: dict[str, Any], wall: Wall, arena: LargeArena) -> bool:
        """Whether it was made by what there is now, from a history that this store's goes on from."""
        made_by = self._made_by(wall, arena)
        if {name: header.get(name) for name in made_by} != made_by:
            return False
        seq, *event = header["event"]
        return self._records.event_at(seq) == tuple(event) and not self._records.erased_after(seq)


def _file(store: Folder, wall: Wall) -> Path:
    return path_of(store) / ARENAS / f"{hashlib.sha256(repr(tuple(wall)).encode()).hexdigest()[:20]}.arena"
