"""Folders for temporary files, which are gone when the program ends."""

from __future__ import annotations

import atexit
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from agentmem.types.errors import StoreError
from agentmem.types.promise import aside
from agentmem.types.refusals import refusal

_made: dict[str, tuple[int, Callable[..., object]]] = {}
"""The folders that are there: who made each, and what removes it."""
_removed = deque[tuple[str, int, Callable[..., object]]](maxlen=100)
"""The last that were removed: a thread of LanceDB's that was about to write may make such a folder anew."""
_TRIES, _PAUSE = 10, 0.05


class PrivateFolder:
    """A temporary folder for its owner alone: made when it is first asked for, removed with all that is in it.

    That is when nobody refers to this any more, or the program ends. A forked child leaves its parent's alone. No lock
    is taken, so that a signal handler and the garbage collector can use it, too.
    """

    def __init__(self) -> None:
        self._paths: dict[str, Path] = {}

    def open(self) -> Path:
        """The folder. Raises ``StoreError`` where none can be made."""
        if not self._paths:
            made = aside(_make)
            # Of several that were made at once, one is kept.
            if self._paths.setdefault("", made) is not made:
                _remove(made)
        return self._paths[""]

    def remove(self) -> None:
        """Remove it; ``open`` makes another."""
        path = self._paths.pop("", None)
        if path is not None:
            _remove(path)

    def __del__(self) -> None:
        self.remove()


def _make() -> Path:
    import shutil  # 5 ms with what comes along, which few programs need
    import tempfile

    try:
        path = tempfile.mkdtemp(prefix="agentmem-")
    except OSError as exc:
        raise StoreError(f"there is no place for temporary files: {refusal(exc)}") from exc
    _made[path] = os.getpid(), shutil.rmtree
    return Path(path)


def _remove(path: str | Path) -> None:
    pid, remove = _made.pop(str(path), (0, None))
    if remove is not None and pid == os.getpid():
        _removed.append((str(path), pid, remove))
        remove(path, ignore_errors=True)


def _at_exit() -> None:
    for path in list(_made):
        _remove(path)
    for path, pid, remove in list(_removed):
        for _ in range(_TRIES if pid == os.getpid() else 0):
            if not os.path.exists(path):
                break
            remove(path, ignore_errors=True)
            time.sleep(_PAUSE)


# Before whatever closes stores registers: what comes first is called last.
atexit.register(_at_exit)
