"""Records by key: found, and deleted. What is put goes the way of an add, see ``add.submit_puts``."""

from __future__ import annotations

from agentmem.engine.engine import Engine
from agentmem.stores import keys
from agentmem.stores.keys import Place
from agentmem.stores.records import Records
from agentmem.stores.rows import Stored, visible
from agentmem.stores.writes import Repository
from agentmem.types.errors import NotFoundError
from agentmem.types.inputs import Scope
from agentmem.types.records import MemoryRecord


def get(engine: Engine, key: str, scope: Scope, *, data: bool = True) -> MemoryRecord | None:
    """The live record of a key in the scope's namespace, which counts as an access."""
    engine.check()
    stored, now = _holder(engine.repository, key, scope), engine.now()
    if stored is None or not visible(stored, now):
        return None
    engine.lifecycle.accesses.read(now, stored.row)
    try:
        return engine.record(stored, data=data)
    except NotFoundError:  # erased meanwhile, as if the call had come later
        return None


def delete(engine: Engine, key: str, scope: Scope, *, if_version: int | None) -> bool:
    """Hide the record of a key; see ``stores.keys.delete``."""
    engine.check_writable()
    engine.check()

    def write(repository: Repository) -> bool:
        return keys.delete(repository, _holder(repository, key, scope), key, if_version, engine.now())

    return engine.write(write)


def _holder(records: Records, key: str, scope: Scope) -> Stored | None:
    """The record of a key, lapsed ones too; None also for one that is not the scope's."""
    numbers = records.scope_key(scope)
    if numbers is None or numbers.user is None or numbers.space is None:
        return None
    place = Place(numbers.user, numbers.space, key)
    stored = keys.holders(records, [place]).get(place)
    return stored if stored is not None and numbers.admits(*stored.scope) else None
