"""Where backups or archives lie, and the keys that seal them, as settings and arguments name it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from agentmem.archive.keyring import KeyRing
from agentmem.archive.masterkey import load_master_key
from agentmem.archive.objects import Objects
from agentmem.archive.opening import open_objects
from agentmem.archive.retries import Retries
from agentmem.archive.writing import refuse_together
from agentmem.types.errors import InvalidInputError


class Place(NamedTuple):
    """A place for backups or archives, opened; ``keyring`` is None where they are not sealed."""

    objects: Objects
    keyring: KeyRing | None


def open_place(
    url: str | None,
    encryption: str | None,
    keyring: str | None,
    *,
    options: Mapping[str, str] | None = None,
    read_only: bool,
    retries: Retries | None = None,
    what: str = "backups",
    example: str = "backup.url, AGENTMEM_MEMORY__BACKUP__URL=/backups/memories or "
    "Settings(backup={'url': '/backups/memories'})",
) -> Place:
    """Open it; with ``read_only`` nothing is written, and a keyring that is not there is an error.

    Errors call what lies there ``what``, and name the setting by its ``example``.

    Raises ``InvalidInputError`` for what does not fit together, and what ``open_objects``, ``load_master_key`` and
    ``KeyRing.open`` raise.
    """
    if not url:
        raise InvalidInputError(f"there is no place for {what}: set {example}", field="url")
    if (encryption is None) != (keyring is None):
        raise InvalidInputError(
            f"sealed {what} need both a master key (encryption='file:...', 'env:...' or 'command:...') and a place for "
            "the users' keys (keyring='...'); there is only one of them",
            field="keyring" if keyring is None else "encryption",
        )
    objects = open_objects(url, options, retries=retries)
    if encryption is None or keyring is None:
        return Place(objects, None)
    keys = open_objects(keyring, options, retries=retries)
    refuse_together(keys.url, objects.url)
    return Place(objects, KeyRing.open(keys, load_master_key(encryption), read_only=read_only))
