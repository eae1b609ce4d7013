"""Records by key: found, and deleted. What is put goes the way of an add, see ``add.put``."""

from __future__ import annotations

from agentmem.engine.engine import Engine
from agentmem.engine.metering import metered
from agentmem.operations.read import shown, used
from agentmem.stores import keys
from agentmem.stores.rows import kept, visible
from agentmem.stores.writes import Repository
from agentmem.types.errors import NotFoundError
from agentmem.types.inputs import Scope
from agentmem.types.records import MemoryRecord


@metered("read")
def get(engine: Engine, key: str, scope: Scope, *, data: bool = True, touch: bool = True) -> MemoryRecord | None:
    """The live record of a key in the scope's namespace, which counts as an access."""
    engine.check_process()
    engine.lifecycle.check()
    looked = keys.look(engine.repository, key, engine.key(scope))
    if looked is None:
        engine.check()
        stored, now = keys.find(engine.repository, key, engine.key(scope)), engine.now()
        if stored is None or not kept(stored, now):
            return None
        return shown(engine, stored, now, touch=touch, data=data)
    stored, text, now = looked.stored, looked.text, engine.now()
    if stored is None or not visible(stored, now):
        return None
    try:
        record = engine.changed(stored, text if data else None)
    except NotFoundError:  # its user was erased meanwhile
        return None
    if touch:
        used(engine, stored, now)
    return record


@metered("delete")
def delete(engine: Engine, key: str, scope: Scope, *, if_version: int | None) -> bool:
    """Hide the record of a key; see ``stores.keys.delete``."""
    engine.check_writable()
    engine.check()

    def write(repository: Repository) -> bool:
        stored = keys.find(repository, key, repository.scope_key(scope))
        return keys.delete(repository, stored, key, if_version, engine.now())

    return engine.write(write)
