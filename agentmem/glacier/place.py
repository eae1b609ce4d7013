"""Where archives lie: opened when they are first needed, their requests counted, the last few of them kept open."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from threading import RLock
from typing import TypeVar

from typing_extensions import override

from agentmem.archive.home import Place, open_place
from agentmem.archive.keyring import KeyRing
from agentmem.archive.objects import Content, ObjectInfo, Objects
from agentmem.archive.reading import ArchiveReader
from agentmem.engine.engine import Engine
from agentmem.settings import Glacier
from agentmem.stores import archived
from agentmem.stores.folder import ARCHIVE_LOCK
from agentmem.stores.locks import FileLock
from agentmem.types.errors import ArchiveCorruptError, ObjectExistsError, ObjectNotFoundError, StoreLockedError
from agentmem.types.patience import attempts

T = TypeVar("T")
_OPEN = 64
"""Archives of which the manifest and the catalogue are kept, a few KB each."""
_MARK = "archives"
_PATIENCE = 10.0
"""Seconds for which one waits for another who changes archives."""


class Counted(Objects):
    """Objects whose requests are counted: one for each call, as a bucket's owner pays for them."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.requests = 0

    @property
    @override
    def url(self) -> str:
        return self._objects.url

    @override
    def create(self, key: str, data: bytes) -> str:
        self.requests += 1
        return self._objects.create(key, data)

    @override
    def swap(self, key: str, data: bytes, stamp: str) -> str:
        self.requests += 1
        return self._objects.swap(key, data, stamp)

    @override
    def upload(self, key: str, chunks: Iterable[bytes]) -> ObjectInfo:
        self.requests += 1
        return self._objects.upload(key, chunks)

    @override
    def get(self, key: str) -> Content:
        self.requests += 1
        return self._objects.get(key)

    @override
    def read(self, key: str, start: int, length: int) -> bytes:
        self.requests += 1
        return self._objects.read(key, start, length)

    @override
    def head(self, key: str) -> ObjectInfo:
        self.requests += 1
        return self._objects.head(key)

    @override
    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        self.requests += 1
        return self._objects.list(folder)

    @override
    def delete(self, key: str) -> None:
        self.requests += 1
        self._objects.delete(key)

    @override
    def sweep(self, folder: str = "") -> None:
        self._objects.sweep(folder)

    @override
    def keeps_versions(self) -> bool:
        self.requests += 1
        return self._objects.keeps_versions()


class Archives:
    """The archives of one engine. Thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = RLock()
        self._objects: Counted | None = None
        self._rings: dict[bool, KeyRing | None] = {}
        self._readers = OrderedDict[str, ArchiveReader]()
        self.failed = set[int]()
        """Rows of damaged values, with which sweeps do not try again."""

    @property
    def settings(self) -> Glacier:
        return self._engine.settings.glacier

    @property
    def requests(self) -> int:
        """How many were made since the engine was opened."""
        return 0 if self._objects is None else self._objects.requests

    def open(self, *, read_only: bool) -> tuple[Objects, KeyRing | None]:
        """The objects and, where archives are sealed, the keys.

        Raises ``InvalidInputError`` where no place is set, and what ``open_place`` raises.
        """
        with self._lock:
            if self._objects is None or read_only not in self._rings:
                place = self._open(read_only)
                self._objects = self._objects or Counted(place.objects)
                self._rings[read_only] = place.keyring
            return self._objects, self._rings[read_only]

    def _open(self, read_only: bool) -> Place:
        chosen = self.settings
        url = chosen.url
        if url and chosen.prefix:
            url = f"{url.rstrip('/')}/{chosen.prefix}"
        region = chosen.region if url and url.startswith("s3://") else None
        options = None if region is None else {"region": region}
        return open_place(
            url, chosen.encryption, chosen.keyring, options=options, read_only=read_only, what="archives",
            example="glacier.url, AGENTMEM_MEMORY__GLACIER__URL=/archives/memories or "
            "Settings(glacier={'url': '/archives/memories'})",
        )  # fmt: skip

    def check_there(self) -> None:
        """Raise ``ObjectNotFoundError`` where the place is not the one that archives were written to.

        A disk that is not mounted, or another bucket, looks like a place without archives: what is to leave those would
        count as gone. So a place has a mark, from its first archive on.
        """
        objects, _ = self.open(read_only=False)
        try:
            objects.head(_MARK)
        except ObjectNotFoundError as exc:
            db = self._engine.repository.db
            if archived.is_used(db) or any(line.state == archived.WRITTEN for line in archived.archives(db)):
                raise ObjectNotFoundError(
                    f"no archives are at {objects.url}, and this store has written some: is that the place, and is it "
                    "mounted?"
                ) from exc
            with suppress(ObjectExistsError):
                objects.create(_MARK, b"agentmem archives\n")

    def check_keys(self) -> None:
        """Raise ``ArchiveKeyError`` where the keys are not those of what lies there already.

        A disk with keys that is not mounted looks like a new keyring: what was sealed with that would be lost with it.
        """
        name = archived.newest_place(self._engine.repository.db)
        if name is not None and self.settings.encryption:
            with suppress(ArchiveCorruptError, ObjectNotFoundError):  # a damaged one tells nothing
                self.reading(name, lambda reader: reader.manifest.keyring)

    # -- reading -----------------------------------------------------------------------------------------------------

    def reading(self, name: str, run: Callable[[ArchiveReader], T]) -> T:
        """Run something with an archive; once more if it was written anew meanwhile, by another process say.

        One at a time: a reader has the keys of one user at hand. Raises ``ObjectNotFoundError`` for one that is gone.
        """
        with self._lock:
            try:
                return run(self._reader(name))
            except ObjectNotFoundError:
                self._readers.pop(name, None)
                return run(self._reader(name, anew=True))

    def bare(self, name: str) -> ArchiveReader:
        """An archive without any keys, to be looked at for damage. Raises as ``reading`` does, and for another master
        key what ``open`` raises."""
        with self._lock:
            objects, _ = self.open(read_only=True)
            line = archived.archive(self._engine.repository.db, name)
            if line is not None:
                with suppress(ObjectNotFoundError):  # another store that knows it may have written it anew
                    return ArchiveReader(objects, folder_of(name, line.generation), keep=True)
            return ArchiveReader(objects, folder_of(name, newest(objects, name)), keep=True)

    def forget(self, name: str) -> None:
        """Open an archive anew when it is next read: it was written again."""
        with self._lock:
            self._readers.pop(name, None)

    def _reader(self, name: str, *, anew: bool = False) -> ArchiveReader:
        found = self._readers.get(name)
        if found is None:
            objects, keyring = self.open(read_only=True)
            line = archived.archive(self._engine.repository.db, name)
            number = line.generation if line is not None and not anew else newest(objects, name)
            found = self._readers[name] = ArchiveReader(objects, folder_of(name, number), keyring=keyring, keep=True)
            while len(self._readers) > _OPEN:
                self._readers.popitem(last=False)
        self._readers.move_to_end(name)
        return found


def folder_of(name: str, generation: int) -> str:
    """Where an archive lies as it was written for the n-th time."""
    return f"{name}/{generation:06}"


def generations(objects: Objects, name: str) -> dict[int, list[str]]:
    """The objects of an archive, by how often it had been written."""
    found = dict[int, list[str]]()
    for info in objects.list(name):
        number = info.key.removeprefix(f"{name}/").partition("/")[0]
        if number.isdecimal():
            found.setdefault(int(number), []).append(info.key)
    return found


def newest(objects: Objects, name: str) -> int:
    """The last time that an archive was written and completed. Raises ``ObjectNotFoundError``."""
    found = generations(objects, name)
    whole = [number for number, keys in found.items() if f"{folder_of(name, number)}/manifest" in keys]
    if not whole:
        raise ObjectNotFoundError(f"the archive {objects.url}/{name} is not there")
    return max(whole)


def archives_of(engine: Engine) -> Archives:
    """What an engine has at hand of its archives."""
    found = engine.glacier
    if not isinstance(found, Archives):
        found = engine.glacier = Archives(engine)
    return found


@contextmanager
def alone(engine: Engine, patience: float = _PATIENCE) -> Generator[None]:
    """While this lasts, nobody else moves records of the store to archives, or changes those.

    Raises ``StoreLockedError`` if somebody does for so many seconds.
    """
    lock = FileLock(engine.path / ARCHIVE_LOCK)
    with closing(lock):
        for _ in attempts(patience):
            if lock.try_acquire():
                break
        else:
            raise StoreLockedError(f"archives of {engine.path} are being written already; wait for that to end")
        yield
