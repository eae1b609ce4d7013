"""A row's public form is filled past the dataclass's own ``__init__``: it must have all that one would set."""

from __future__ import annotations

from dataclasses import fields, replace

from agentmem import MemoryRecord
from agentmem.stores.records import public
from agentmem.stores.rows import Stored

ROW = Stored(
    7, "an id", 1, 0, 0, None, "fact", "assets", "Ana has a cat", '{"a": 1}', 0.5, None, 10, 20, None, None, 1, 0, 0,
    None, None, 0, "a key", None, 0, 1, 2_000_000, 30,
)  # fmt: skip


def test_a_public_record_has_every_field_and_no_other() -> None:
    record = public(ROW, ("ana", None, None, ("notes",)), '{"b": 2}')
    assert list(vars(record)) == [field.name for field in fields(MemoryRecord)]
    assert replace(record) == record
    assert (record.metadata, record.data, record.key, record.sliding) == ({"a": 1}, {"b": 2}, "a key", 2.0)
