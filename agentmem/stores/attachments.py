"""Values that records carry: their keys stand in a record's metadata, under ``ATTACHMENTS``, so that history, backups
and moves of the record have them. They are values of the record's user and namespace, and are erased with the last
record that carries them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from agentmem.stores import keys
from agentmem.stores.records import Records
from agentmem.stores.rows import ScopeKey, Stored
from agentmem.stores.schema import ERASED
from agentmem.types.inputs import Scope
from agentmem.types.valuekeys import ATTACHMENTS, ROOM


def keys_in(metadata: str | None) -> list[str]:
    """The keys of the values that a record with this metadata carries."""
    if metadata is None or f'"{ATTACHMENTS}"' not in metadata:
        return []
    found: dict[str, Any] = json.loads(metadata)
    listed = found.get(ATTACHMENTS)
    return [key for key in listed if isinstance(key, str)] if isinstance(listed, list) else []  # pyright: ignore[reportUnknownVariableType]


def erased_with(records: Records, found: Sequence[Stored], within: Scope) -> list[Stored]:
    """The values that go when these records are erased: all that was ever put under keys that no other record has, as
    far as whoever is bound to that agent and run may erase it."""
    rows = {stored.row for stored in found}
    gone = dict[int, Stored]()
    for stored in found:
        for key in keys_in(stored.metadata):
            if not _is_carried(records, stored, key, rows):
                for value in keys.everything_of(records, key, _place(records, stored, within)):
                    if value.row not in rows:
                        gone[value.row] = value
    return list(gone.values())


def _place(records: Records, stored: Stored, within: Scope) -> ScopeKey | None:
    user, _, _, namespace = records.owner(stored)
    return records.scope_key(Scope(user, within.agent_id, within.run_id, (ROOM, *(namespace or ()))))


def _is_carried(records: Records, stored: Stored, key: str, but: set[int]) -> bool:
    """Whether another record of the same place carries a value."""
    sql = (
        f"SELECT r.row FROM records r WHERE r.user = ? AND r.space = ? AND r.state != {ERASED} "
        f"AND r.metadata LIKE '%\"{ATTACHMENTS}\"%' AND json_type(r.metadata, '$.{ATTACHMENTS}') = 'array' "
        f"AND EXISTS (SELECT 1 FROM json_each(r.metadata, '$.{ATTACHMENTS}') j WHERE j.value = ?)"
    )
    return any(row not in but for (row,) in records.db.execute(sql, (stored.user, stored.space, key)))
