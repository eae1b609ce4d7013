"""Writing an archive: rows become blocks in packs, catalogues say where they are, and the manifest comes last."""

from __future__ import annotations

import hashlib
import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

from agentmem.archive.blocks import Block, catalogue, encoded
from agentmem.archive.keyring import KeyRing, UserKey
from agentmem.archive.manifest import CataloguePart, Manifest, TableContent, manifest_key
from agentmem.archive.objects import Objects
from agentmem.archive.places import place, plain_tag
from agentmem.archive.tables import Row, Table
from agentmem.types.clock import now_micros
from agentmem.types.errors import AgentMemError, InvalidInputError
from agentmem.types.pool import Pool

ROWS = 1_000
"""In a block, at most."""
_BLOCK_BYTES = 4 * 2**20
_PACK_BYTES = 8 * 2**20
_PACKS_AT_ONCE = 2
_WAITING_BYTES = 32 * 2**20
_CATALOGUE_BLOCKS = 20_000
_KEYS_KEPT = 10_000
# Of a row and of a value in Python, beside texts and bytes.
_ROW_COST, _VALUE_COST = 60, 32
_SIZED = frozenset({str, bytes})


class Written(NamedTuple):
    """An archive that is complete: its manifest, the SHA-256 of that, its bytes, and who of its users lost his key
    while it was written; what it holds of those can be read no more."""

    manifest: Manifest
    sha256: str
    size: int
    unreadable: list[str | None]


@dataclass
class _Output:
    table: Table
    zones: tuple[int, ...]
    sized: tuple[int, ...]
    """Columns of texts and bytes."""
    blocks: list[Block]
    parts: list[CataloguePart]
    count: int = 0
    rows: int = 0
    size: int = 0


@dataclass
class _Waiting:
    rows: list[Row]
    size: int = 0


class ArchiveWriter:
    """Writes the archive ``name`` of these tables, an archive being all objects below that key.

    ``add`` rows in any order, then ``finish``; left without that, as a context manager, it removes what it wrote. Rows
    of one user that come together make larger blocks. Memory: about 100 MB, whatever the number of rows. For one
    thread at a time. With a keyring each block is sealed under its user's key; a keyring that lies inside of the
    archive's place, or around it, is refused.
    """

    def __init__(
        self,
        objects: Objects,
        name: str,
        tables: Sequence[Table],
        *,
        keyring: KeyRing | None = None,
        model: Mapping[str, Any] | None = None,
    ) -> None:
        manifest_key(name)
        if keyring is not None:
            refuse_together(keyring.url, objects.url)
        self._objects, self._name, self._keyring = objects, name, keyring
        self._model = dict(model or {})
        self._id = secrets.token_hex(16)
        self._outputs = {
            table.name: _Output(
                table,
                tuple(table.names.index(zone) for zone in table.zones),
                tuple(place for place, (_, kind) in enumerate(table.columns) if kind in ("text", "bytes")),
                [],
                [],
            )
            for table in tables
        }
        self._waiting = dict[tuple[str, str | None], _Waiting]()
        self._waiting_size = 0
        self._keys = dict[str | None, UserKey]()
        self._tags = dict[str, str | None]()
        self._pack, self._pack_key = bytearray(), self._new_pack()
        self._uploads = deque[Future[str]]()
        self._threads = Pool(_PACKS_AT_ONCE, "agentmem-archive")
        self._written = list[str]()
        self._done = False

    def add(self, table: str, user: str | None, rows: Sequence[Row]) -> None:
        """More rows of a table, all of one user (None: of nobody in particular).

        Raises ``InvalidInputError`` for rows that are not the table's, at the latest when their block is full, and what
        ``Objects.create`` raises for any block so far.
        """
        output = self._outputs.get(table)
        if output is None:
            raise InvalidInputError(f"the archive has no table {table!r}; it has: {', '.join(self._outputs)}")
        waiting = self._waiting.get((table, user))
        if waiting is None:
            waiting = self._waiting[table, user] = _Waiting([])
        fixed, sized = _ROW_COST + _VALUE_COST * len(output.table.columns), output.sized
        for row in rows:
            try:
                cost = fixed + sum([len(value) for place in sized if type(value := row[place]) in _SIZED])
            except IndexError:  # it is not the table's, as is told when the block is full
                cost = fixed
            waiting.rows.append(row)
            waiting.size += cost
            self._waiting_size += cost
            if len(waiting.rows) >= ROWS or waiting.size >= _BLOCK_BYTES:
                self._flush(table, user)
                waiting = self._waiting[table, user] = _Waiting([])
        if self._waiting_size > _WAITING_BYTES:
            self._make_room()

    def finish(self, about: Mapping[str, Any] | None = None) -> Written:
        """Write what is left, the catalogues, and the manifest with ``about`` (JSON). Nothing can be added after that.

        Raises ``ObjectExistsError`` where there is an archive of that name.
        """
        for table, user in list(self._waiting):
            self._flush(table, user)
        self._send_pack()
        while self._uploads:
            self._uploads.popleft().result()
        for output in self._outputs.values():
            self._send_catalogue(output)
        contents = tuple(
            TableContent(output.table, output.rows, output.count, output.size, tuple(output.parts))
            for output in self._outputs.values()
        )
        ring = None if self._keyring is None else self._keyring.id
        manifest = Manifest(self._id, now_micros(), ring, contents, self._model, dict(about or {}))
        data = manifest.to_bytes()
        deleted = set[str]() if self._keyring is None else self._keyring.deleted()
        self._objects.create(manifest_key(self._name), data)
        self._done = True
        self._threads.shutdown()
        size = len(data) + sum(content.size for content in contents)
        size += sum(part.size for content in contents for part in content.catalogue)
        unreadable = [user for tag, user in self._tags.items() if tag in deleted]
        return Written(manifest, hashlib.sha256(data).hexdigest(), size, unreadable)

    def abandon(self) -> None:
        """Remove what was written, as far as that is possible now."""
        if self._done:
            return
        self._done = True
        self._threads.shutdown(cancel_futures=True)
        for key in self._written:
            with suppress(AgentMemError):  # whatever is in the way: the error that led here is the one to report
                self._objects.delete(key)

    def __enter__(self) -> ArchiveWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()

    # -- blocks --------------------------------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """Flush the largest blocks until half is left: rows that come user by user wait for company the longest."""
        largest = sorted(self._waiting, key=lambda key: -self._waiting[key].size)
        for table, user in largest:
            self._flush(table, user)
            if self._waiting_size <= _WAITING_BYTES // 2:
                return

    def _flush(self, table: str, user: str | None) -> None:
        waiting = self._waiting.pop((table, user))
        self._waiting_size -= waiting.size
        if not waiting.rows:
            return
        output = self._outputs[table]
        data, raw = encoded(output.table, waiting.rows)
        rows, number = len(waiting.rows), output.count
        if self._keyring is None:
            tag = plain_tag(self._id, user)
        else:
            key = self._key_of(self._keyring, user)
            tag = key.tag
            data = key.sealer.seal(data, place(self._id, table, tag, number, rows, raw))
        if self._pack and len(self._pack) + len(data) > _PACK_BYTES:
            self._send_pack()
        zones = tuple(_zone(waiting.rows, column) for column in output.zones)
        digest = hashlib.sha256(data).hexdigest()
        output.blocks.append(Block(number, tag, self._pack_key, len(self._pack), len(data), digest, rows, raw, zones))
        self._pack += data
        output.count += 1
        output.rows += rows
        output.size += len(data)
        if len(output.blocks) >= _CATALOGUE_BLOCKS:
            self._send_catalogue(output)

    def _key_of(self, keyring: KeyRing, user: str | None) -> UserKey:
        key = self._keys.get(user)
        if key is None:
            if len(self._keys) >= _KEYS_KEPT:
                self._keys.clear()
            key = self._keys[user] = keyring.key_for(user)
            self._tags[key.tag] = user
        return key

    # -- objects -------------------------------------------------------------------------------------------------------

    def _new_pack(self) -> str:
        return f"{self._name}/packs/{secrets.token_hex(16)}"

    def _send_pack(self) -> None:
        if not self._pack:
            return
        while len(self._uploads) >= _PACKS_AT_ONCE:
            self._uploads.popleft().result()
        self._written.append(self._pack_key)
        self._uploads.append(self._threads.submit(self._objects.create, self._pack_key, bytes(self._pack)))
        self._pack, self._pack_key = bytearray(), self._new_pack()

    def _send_catalogue(self, output: _Output) -> None:
        if not output.blocks:
            return
        key = f"{self._name}/catalogue/{output.table.name}-{len(output.parts):05}"
        data = catalogue(output.table, output.blocks)
        self._objects.create(key, data)
        self._written.append(key)
        output.parts.append(CataloguePart(key, len(data), hashlib.sha256(data).hexdigest(), len(output.blocks)))
        output.blocks = []


def _zone(rows: Sequence[Row], column: int) -> tuple[int, int] | None:
    values = [row[column] for row in rows if row[column] is not None]
    return (min(values), max(values)) if values else None


def refuse_together(keyring: str, archive: str) -> None:
    """Raise ``InvalidInputError`` where a copy of one place would be a copy of the other, too."""
    keys, data = keyring.rstrip("/") + "/", archive.rstrip("/") + "/"
    if keys.startswith(data) or data.startswith(keys):
        raise InvalidInputError(
            f"the keyring lies at {keyring} and the archive at {archive}: whoever copies one would copy the other; "
            "give the keyring another folder or bucket",
            field="keyring",
        )
