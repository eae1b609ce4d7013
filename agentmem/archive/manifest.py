"""An archive's manifest: what it holds. It is written last, so that an archive without one was broken off."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from agentmem.archive.envelope import packed, unpacked, unwrapped, wrapped
from agentmem.archive.objects import Readable, check_key
from agentmem.archive.tables import Table
from agentmem.types.clock import Micros
from agentmem.types.errors import ArchiveCorruptError

CIPHER = "AES-256-GCM"


@dataclass(frozen=True)
class CataloguePart:
    """A Parquet file that lists blocks: its object, bytes, SHA-256 in hex, and how many blocks it lists."""

    key: str
    size: int
    sha256: str
    blocks: int


@dataclass(frozen=True)
class TableContent:
    """A table of an archive: rows, blocks, their bytes as they are stored, and the catalogue, in parts."""

    table: Table
    rows: int
    blocks: int
    size: int
    catalogue: tuple[CataloguePart, ...]


@dataclass(frozen=True)
class Manifest:
    """What an archive holds.

    ``id`` is random, and part of what each sealed block is bound to. ``model`` says which embedding model made the
    vectors, ``about`` whatever the writer has to say; both are JSON. ``keyring`` is the id of the one whose keys seal
    the blocks, None where they are not sealed.
    """

    id: str
    created_at: Micros
    keyring: str | None
    tables: tuple[TableContent, ...]
    model: dict[str, Any] = field(default_factory=dict[str, Any])
    about: dict[str, Any] = field(default_factory=dict[str, Any])

    def content(self, name: str) -> TableContent:
        """A table by its name. Raises ``ArchiveCorruptError``."""
        for content in self.tables:
            if content.table.name == name:
                return content
        have = ", ".join(content.table.name for content in self.tables)
        raise ArchiveCorruptError(f"the archive has no table {name!r}; it has: {have}")

    def to_bytes(self) -> bytes:
        """As it is stored."""
        tables = [
            content.table.to_json()
            | {"rows": content.rows, "blocks": content.blocks, "size": content.size}
            | {"catalogue": [vars(part) for part in content.catalogue]}
            for content in self.tables
        ]
        values = {"id": self.id, "created_at": self.created_at, "model": self.model, "about": self.about}
        sealed = None if self.keyring is None else {"keyring": self.keyring, "cipher": CIPHER}
        return wrapped("manifest", packed(values | {"sealed": sealed, "tables": tables}))

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Manifest:
        """The other way round. Raises ``ArchiveCorruptError`` and ``ArchiveVersionError``."""
        found = unpacked(unwrapped("manifest", data, where), where)
        try:
            tables = tuple(
                TableContent(
                    Table.from_json(table, where),
                    int(table["rows"]),
                    int(table["blocks"]),
                    int(table["size"]),
                    tuple(CataloguePart(**part) for part in table["catalogue"]),
                )
                for table in found["tables"]
            )
            sealed = found["sealed"]
            keyring = None if sealed is None else str(sealed["keyring"])
            if sealed is not None and sealed["cipher"] != CIPHER:
                raise ValueError(f"the cipher is {sealed['cipher']!r}")
            return cls(str(found["id"]), int(found["created_at"]), keyring, tables, found["model"], found["about"])
        except (KeyError, TypeError, ValueError) as exc:
            raise ArchiveCorruptError(f"{where} is no manifest: {exc}") from exc


def manifest_key(name: str) -> str:
    """The object of the manifest of an archive of that name."""
    return check_key(f"{name}/manifest")


def read_manifest(objects: Readable, name: str) -> tuple[Manifest, str]:
    """The manifest, and the SHA-256 (hex) of its object. Raises ``ObjectNotFoundError``, ``ArchiveCorruptError``."""
    key = manifest_key(name)
    data = objects.get(key).data
    return Manifest.from_bytes(data, f"{objects.url}/{key}"), hashlib.sha256(data).hexdigest()
