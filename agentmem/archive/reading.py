"""Reading an archive: the blocks that are wanted, in the order in which they were written, checked one by one."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Final, NamedTuple

from agentmem.archive.blocks import Block, decoded, read_catalogue
from agentmem.archive.keyring import KeyRing, UserKey
from agentmem.archive.manifest import TableContent, read_manifest
from agentmem.archive.objects import Readable
from agentmem.archive.places import place, plain_tag
from agentmem.types.errors import ArchiveCorruptError, ArchiveError, ArchiveKeyError, ObjectNotFoundError
from agentmem.types.pool import Pool

_READ_BYTES = 8 * 2**20
_READS_AT_ONCE = 2
_GAP_BYTES = 64 * 2**10
"""What is read and not wanted, rather than asking once more."""


class _Everybody:
    pass


EVERYBODY: Final = _Everybody()
"""In place of a user: the rows of all."""


class Rows(NamedTuple):
    """A block that was read: its line in the catalogue, and its rows, the values in the order of the columns."""

    block: Block
    rows: list[tuple[Any, ...]]


class ArchiveReader:
    """Reads the archive ``name``. Raises what reading its manifest raises, and ``ArchiveKeyError`` for another keyring.

    Without a keyring, a sealed archive can only be checked for damage. Memory: about 50 MB, whatever its size, besides
    the keys of all users, where they are needed.
    """

    def __init__(self, objects: Readable, name: str, *, keyring: KeyRing | None = None, keep: bool = False) -> None:
        """With ``keep``, catalogues stay in memory once they were read: a few hundred bytes a block."""
        self._kept: dict[str, list[Block]] | None = {} if keep else None
        self._objects, self._name, self._keyring = objects, name, keyring
        self.manifest, self.sha256 = read_manifest(objects, name)
        """What it holds, and the SHA-256 of the manifest's object."""
        if self.manifest.keyring is None:
            self._keyring = None
        elif keyring is not None and keyring.id != self.manifest.keyring:
            raise ArchiveKeyError(
                f"{objects.url}/{name} was sealed with the keyring {self.manifest.keyring}, and {keyring.url} is "
                f"{keyring.id}"
            )
        self._keys: dict[str, UserKey] | None = None
        self._deleted = frozenset[str]()

    def blocks(self, table: str) -> Iterator[Block]:
        """The table's catalogue, by number. Raises ``ArchiveCorruptError`` where it is damaged or incomplete."""
        if self._kept is None:
            return self._listed(table)
        if table not in self._kept:
            self._kept[table] = list(self._listed(table))
        return iter(self._kept[table])

    def _listed(self, table: str) -> Iterator[Block]:
        content = self.manifest.content(table)
        number = 0
        for part in content.catalogue:
            where = f"{self._objects.url}/{part.key}"
            data = self._objects.get(part.key).data
            if len(data) != part.size or hashlib.sha256(data).hexdigest() != part.sha256:
                raise ArchiveCorruptError(f"{where} is damaged: it is not the one that the manifest names")
            for block in read_catalogue(content.table, data, where):
                if block.number != number:
                    raise ArchiveCorruptError(f"{where} lists block {block.number} where {number} should be")
                yield block
                number += 1
        if number != content.blocks:
            raise ArchiveCorruptError(
                f"{number} blocks of table {table} are listed, and the manifest has {content.blocks}"
            )

    def read(
        self,
        table: str,
        *,
        user: str | _Everybody | None = EVERYBODY,
        wanted: Callable[[Block], bool] = lambda block: True,
    ) -> Iterator[Rows]:
        """The rows of a table, block by block; with ``user`` of one alone, with ``wanted`` those whose block it wants.

        Blocks whose key was deleted are passed over. Raises ``ArchiveKeyError`` where a key is missing otherwise,
        ``ArchiveCorruptError``, and what ``Objects.read`` raises.
        """
        content = self.manifest.content(table)
        blocks = (block for block in self.blocks(table) if wanted(block))
        if not isinstance(user, _Everybody):
            keys = self._tags_of(user)
            blocks = (block for block in blocks if block.tag in keys)
        elif self.manifest.keyring is not None:
            self._load_keys()
            blocks = (block for block in blocks if block.tag not in self._deleted)
        for block, data in self._fetched(blocks):
            if isinstance(data, ArchiveError):
                raise data
            yield Rows(block, self._opened(content, block, data))

    def unreadable(self, table: str) -> int:
        """Rows of the table whose key was deleted. Raises as ``read`` does."""
        if self.manifest.keyring is None:
            return 0
        self._load_keys()
        return sum(block.rows for block in self.blocks(table) if block.tag in self._deleted)

    def problems(self) -> Iterator[str]:
        """What is wrong with the archive, looking at every byte; nothing if it is whole.

        Hashes are compared; blocks whose key is at hand are opened and counted, too. An object that is missing is a
        problem, one that cannot be reached an error.
        """
        if self.manifest.keyring is not None and self._keyring is not None:
            self._load_keys()
        for content in self.manifest.tables:
            name, rows, found = content.table.name, 0, False
            try:
                for block, data in self._fetched(self.blocks(name)):
                    rows += block.rows
                    try:
                        if isinstance(data, ArchiveError):
                            raise data
                        if (self._keyring is None and self.manifest.keyring is not None) or block.tag in self._deleted:
                            self._checked(content, block, data)
                        else:
                            self._opened(content, block, data)
                    except (ArchiveCorruptError, ArchiveKeyError, ObjectNotFoundError) as exc:
                        found = True
                        yield str(exc)
            except (ArchiveCorruptError, ObjectNotFoundError) as exc:
                yield str(exc)
            else:
                if rows != content.rows and not found:
                    yield f"{self._name}: table {name} has {rows} rows, and the manifest says {content.rows}"

    # -- blocks --------------------------------------------------------------------------------------------------------

    def _fetched(self, blocks: Iterable[Block]) -> Iterator[tuple[Block, bytes | ArchiveError]]:
        """Each block with its bytes, or why there are none; neighbours come in one request, the next is under way."""
        reading = deque[tuple[list[Block], Future[bytes]]]()
        groups = _neighbours(blocks)
        with Pool(_READS_AT_ONCE, "agentmem-archive") as threads:
            try:
                while True:
                    while len(reading) < _READS_AT_ONCE and (group := next(groups, None)):
                        size = group[-1].offset + group[-1].size - group[0].offset
                        reading.append(
                            (group, threads.submit(self._objects.read, group[0].pack, group[0].offset, size))
                        )
                    if not reading:
                        return
                    group, future = reading.popleft()
                    try:
                        data = memoryview(future.result())
                    except ObjectNotFoundError as exc:
                        yield from ((block, exc) for block in group)
                        continue
                    except ArchiveCorruptError:  # as one that was cut off, whose beginning can be read
                        yield from map(self._alone, group)
                        continue
                    for block in group:
                        start = block.offset - group[0].offset
                        yield block, bytes(data[start : start + block.size])
            finally:
                for _, future in reading:
                    future.cancel()

    def _alone(self, block: Block) -> tuple[Block, bytes | ArchiveError]:
        try:
            return block, self._objects.read(block.pack, block.offset, block.size)
        except (ArchiveCorruptError, ObjectNotFoundError) as exc:
            return block, exc

    def _checked(self, content: TableContent, block: Block, data: bytes) -> str:
        """What to call the block in messages. Raises ``ArchiveCorruptError`` where its bytes are not those written."""
        where = f"block {block.number} of table {content.table.name} in {self._objects.url}/{block.pack}"
        if hashlib.sha256(data).hexdigest() != block.sha256:
            raise ArchiveCorruptError(f"{where} is damaged: its SHA-256 is not the one in the catalogue")
        return where

    def _opened(self, content: TableContent, block: Block, data: bytes) -> list[tuple[Any, ...]]:
        where = self._checked(content, block, data)
        if self.manifest.keyring is not None:
            key = self._key(block.tag, where)
            bound = place(self.manifest.id, content.table.name, block.tag, block.number, block.rows, block.raw)
            data = key.sealer.open(data, bound, where)
        return decoded(content.table, data, block.raw, block.rows, where)

    # -- keys ----------------------------------------------------------------------------------------------------------

    def _key(self, tag: str, where: str) -> UserKey:
        key = None if self._keys is None else self._keys.get(tag)
        if key is None:
            erased = tag in self._deleted
            why = "was deleted" if erased else "is not in the keyring"
            raise ArchiveKeyError(f"{where} cannot be opened: its key {tag} {why}", erased=erased)
        return key

    def _need_keyring(self) -> KeyRing:
        if self._keyring is None:
            raise ArchiveKeyError(
                f"{self._objects.url}/{self._name} is sealed; give the master key (encryption=) and the place of the "
                f"users' keys (keyring=), the keyring {self.manifest.keyring}"
            )
        return self._keyring

    def _load_keys(self) -> None:
        ring = self._need_keyring()
        # In this order a key that is deleted meanwhile counts as deleted.
        self._keys = ring.keys()
        self._deleted = frozenset(ring.deleted())

    def _tags_of(self, user: str | None) -> set[str]:
        if self.manifest.keyring is None:
            return {plain_tag(self.manifest.id, user)}
        self._keys = {key.tag: key for key in self._need_keyring().keys_of(user)}
        return set(self._keys)


def _neighbours(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """Blocks that are near one another in one pack, as many as are read at once."""
    group = list[Block]()
    for block in blocks:
        if group and (
            block.pack != group[0].pack
            or not 0 <= block.offset - group[-1].offset - group[-1].size <= _GAP_BYTES
            or block.offset + block.size - group[0].offset > _READ_BYTES
        ):
            yield group
            group = []
        group.append(block)
    if group:
        yield group
