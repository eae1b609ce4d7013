"""Reading small archives ahead: what comes next is fetched, whole and several at once, while one is being taken over.

An increment of a store is a dozen objects of a few kilobytes each, and in a bucket each takes as long as the way there
and back: one after the other, a hundred increments take most of a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress

from agentmem.archive.objects import Content, Objects
from agentmem.types.errors import ArchiveError
from agentmem.types.pool import Pool

_AT_ONCE = 8
"""Archives that are fetched at once, and are in memory."""
_LARGEST = 2**20
"""Bytes of an archive that is fetched whole."""


class Ahead:
    """The objects of a place, of which those of ``archives`` are asked for in this order, each archive's together.

    What is not here is read as ever, so that whatever is wrong is told by whoever asks for it. To be closed.
    """

    def __init__(self, objects: Objects, archives: Sequence[str]) -> None:
        self._objects, self._left = objects, list(reversed(archives))
        self._threads = Pool(_AT_ONCE, "agentmem-ahead")
        self._coming = dict[str, Future[dict[str, bytes]]]()
        self._go_on()

    @property
    def url(self) -> str:
        """Where the objects are."""
        return self._objects.url

    def get(self, key: str) -> Content:
        """See ``Objects.get``; what is fetched has no stamp."""
        data = self._at_hand(key)
        return self._objects.get(key) if data is None else Content(data, "")

    def read(self, key: str, start: int, length: int) -> bytes:
        """See ``Objects.read``."""
        data = self._at_hand(key)
        whole = data is not None and start + length <= len(data)
        return data[start : start + length] if data is not None and whole else self._objects.read(key, start, length)

    def done(self, archive: str) -> None:
        """Let go of an archive, and fetch another one."""
        if self._coming.pop(archive, None) is not None:
            self._go_on()

    def close(self) -> None:
        """Fetch nothing more."""
        self._left.clear()
        self._coming.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _go_on(self) -> None:
        while self._left and len(self._coming) < _AT_ONCE:
            archive = self._left.pop()
            self._coming[archive] = self._threads.submit(self._fetched, archive)

    def _at_hand(self, key: str) -> bytes | None:
        found = next((self._coming[name] for name in self._coming if key.startswith(f"{name}/")), None)
        return None if found is None else found.result().get(key)

    def _fetched(self, archive: str) -> dict[str, bytes]:
        found = dict[str, bytes]()
        with suppress(ArchiveError):
            there = list(self._objects.list(archive))
            if sum(info.size for info in there) <= _LARGEST:
                found.update((info.key, self._objects.get(info.key).data) for info in there)
        return found
