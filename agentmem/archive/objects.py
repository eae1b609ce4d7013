"""The port for objects: named bytes in a folder or bucket, written once or swapped, never changed in part."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from agentmem.types.clock import Micros
from agentmem.types.errors import InvalidInputError, shown

_SEGMENT = r"[a-z0-9][a-z0-9._=-]*"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_LONGEST = 500


class ObjectInfo(NamedTuple):
    """What is known of an object without reading it: bytes, and the time of its last write where it is kept."""

    key: str
    size: int
    modified: Micros


class Content(NamedTuple):
    """An object's bytes, and the stamp that they had."""

    data: bytes
    stamp: str


class Readable(Protocol):
    """What reading an archive takes of ``Objects``."""

    @property
    def url(self) -> str: ...

    def get(self, key: str) -> Content: ...

    def read(self, key: str, start: int, length: int) -> bytes: ...


class Objects(Readable, Protocol):
    """Objects under one URL, a folder's or a bucket's.

    **Keys** are relative to the URL: segments of ``a-z 0-9 . _ - =``, each beginning with a letter or digit, joined by
    ``/``, at most 500 characters. Others raise ``InvalidInputError``. A key is an object or a folder of others, not
    both.

    **Stamps** are opaque, and change with an object's content. An object that gets back the content of an earlier
    time may get back its stamp, so whatever is swapped holds a counter or something random.

    **Whole or not at all**: a reader sees all bytes of a write or none, whenever the writer dies. A write that has
    returned is durable, and seen by every read that begins afterwards, in any process.

    **Own writes are known**: where an answer is lost and the write is tried again, what then stands in its way may be
    that very write. That is no conflict, and the call returns as if the answer had come.

    **Errors**, besides those of each method: ``ArchiveUnavailableError`` for no network, a server that is down or
    throttles, a body that was cut, each after every attempt that the implementation makes; ``ArchiveAccessError``
    where credentials or permissions are refused; ``DiskFullError``; ``ArchiveError`` for the rest, a bucket that does
    not exist for instance. After an error of a write, all of it may be there, or nothing.

    Called from several threads at once. Implementations take no lock that a reader would wait for.
    """

    @property
    def url(self) -> str:
        """Where the objects are, for messages; without credentials."""
        ...

    def create(self, key: str, data: bytes) -> str:
        """Write an object that does not exist yet; its stamp. Raises ``ObjectExistsError``.

        Of any number of writers of the same key one succeeds.
        """
        ...

    def swap(self, key: str, data: bytes, stamp: str) -> str:
        """Replace an object that still has this stamp; the new one. Raises ``ObjectChangedError``, also if it is gone.

        Of any number of writers with the same stamp one succeeds. Where an answer was lost and another writer came
        next, this raises although its content was there for a moment: whoever fails, reads again.
        """
        ...

    def upload(self, key: str, chunks: Iterable[bytes]) -> ObjectInfo:
        """Write a new object in parts, for content that is not held in memory. Raises ``ObjectExistsError``.

        The content is visible once the last chunk is taken. If ``chunks`` raises, nothing is, and the error goes on.
        Two uploads of one key at once may both succeed, so the key holds something random. Memory: some 64 MB.
        """
        ...

    def get(self, key: str) -> Content:
        """All of an object. Raises ``ObjectNotFoundError``."""
        ...

    def read(self, key: str, start: int, length: int) -> bytes:
        """``length`` bytes from ``start``, both at least 0; exactly as many.

        Raises ``ObjectNotFoundError``, and ``ArchiveCorruptError`` if the object ends before.
        """
        ...

    def head(self, key: str) -> ObjectInfo:
        """What is known of an object. Raises ``ObjectNotFoundError``."""
        ...

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        """Every object below a folder, itself a key (``""``: all), in no particular order.

        What is created or deleted meanwhile may be missing or there. An empty or missing folder has none.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; none there is no error. Durable as a write is."""
        ...

    def sweep(self, folder: str = "") -> None:
        """Remove, durably, what writers of objects below a folder (``""``: all) have left when they were killed.

        Nothing of a writer that lives. Where it cannot be told that a writer is dead, what it left is removed a day
        after its last write, or by the server's own rules.
        """
        ...

    def keeps_versions(self) -> bool:
        """Whether what was deleted or replaced can still be read, by its version. Found out by trying, which writes."""
        ...


def is_key(name: str) -> bool:
    """Whether an object of ours may be called so."""
    return len(name) <= _LONGEST and _KEY.fullmatch(name) is not None


def check_key(key: str) -> str:
    """The key, if it is one. Raises ``InvalidInputError``."""
    if not is_key(key):
        raise InvalidInputError(
            f"{shown(key)} is no key of an object: segments of a-z, 0-9, '.', '_', '-' and '=' joined by '/', "
            f"at most {_LONGEST} characters",
            field="key",
        )
    return key


def check_folder(folder: str) -> str:
    """The folder to list, if it is one. Raises ``InvalidInputError``."""
    return check_key(folder) if folder else folder


def check_range(start: int, length: int) -> None:
    """Raises ``InvalidInputError`` for a range that no object has."""
    if start < 0 or length < 0:
        raise InvalidInputError(f"no range begins at {start} and has {length} bytes", field="start")
