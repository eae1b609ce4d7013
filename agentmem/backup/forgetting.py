"""Deleting the keys of users who are erased, so that sealed backups hold nothing of them that can be read.

That a key is to be deleted is noted in the store before anything is erased, and the note goes when it is done: broken
off, it is done before the next backup, so that no backup is sealed with that key meanwhile.
"""

from __future__ import annotations

import json

from agentmem.archive.keyring import KeyRing
from agentmem.backup import lineage
from agentmem.engine.engine import Engine
from agentmem.stores import meta
from agentmem.stores.schema import ERASED
from agentmem.stores.writes import Repository
from agentmem.types.spelling import spellings


def note(engine: Engine, user_id: str) -> None:
    """Note that a user's keys are to be deleted."""
    _change(engine, {user_id}, set())


def complete(engine: Engine, keyring: KeyRing) -> bool:
    """Delete the keys of all who are noted; whether there were any. While no backup is being made."""
    noted, found = _noted(engine.repository.meta(meta.FORGOTTEN)), False
    for user_id in sorted(noted):
        found = delete(engine, keyring, user_id) or found
    if noted:
        _change(engine, set(), noted)
    return found


def delete(engine: Engine, keyring: KeyRing, user_id: str) -> bool:
    """Delete a user's keys; whether there were any. Where the store still has records of the user, the next backup is a
    full one: what earlier ones hold of them cannot be gone on from. While no backup is being made."""
    found = [keyring.delete(name) for name in spellings(user_id)]

    def look(repository: Repository) -> None:
        sql = "SELECT 1 FROM records WHERE user = ? AND state != ? LIMIT 1"
        number = repository.names.find(repository.db, user_id)
        if number is not None and repository.db.execute(sql, (number, ERASED)):
            lineage.want_whole(repository.db)

    if any(found):
        engine.write(look)
    return any(found)


def _change(engine: Engine, more: set[str], done: set[str]) -> None:
    def write(repository: Repository) -> None:
        left = (_noted(repository.meta(meta.FORGOTTEN)) | more) - done
        repository.set_meta(meta.FORGOTTEN, json.dumps(sorted(left)) if left else None)

    engine.write(write)


def _noted(text: str | None) -> set[str]:
    return set(json.loads(text)) if text else set()
