"""What records are embedded by, as it is stored and as it changes: the columns ``vectors``, ``body`` and ``body_size``,
the texts in ``bodies``, and the embeddings themselves.

Expects to be inside a transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from agentmem.stores import bodies, embeddings
from agentmem.stores.connection import Connection, Value
from agentmem.stores.records import Records
from agentmem.stores.rows import Patch, Stored
from agentmem.types.errors import AgentMemError
from agentmem.types.forms import OF_CONTENT, Form

Brought: TypeAlias = tuple[int, int, Mapping[int, str]]
"""What ``bodies.write`` takes: a row, a version, its parts."""


class StaleVectorError(AgentMemError):
    """An embedding is of what is current no more: another model, content or form. Embed again. Never leaves the
    package."""


def begin(stored: Stored, form: Form, written: list[Brought]) -> Stored:
    """A record, as it is written anew, in this form; notes what its body brings."""
    parts = bodies.as_part(form.texts)
    if not parts:
        return stored._replace(vectors=form.code)
    written.append((stored.row, stored.version, parts))
    return stored._replace(vectors=form.code, body=stored.version, body_size=stored.body_size + bodies.size(parts))


def embed(records: Records, current: Stored, content: str, patch: Patch) -> dict[str, Value]:
    """Store the embeddings that a change brings, and its texts; returns the columns that change with it.

    Raises ``StaleVectorError``.
    """
    form, table, db = patch.form or Form(of_content=True), records.embeddings, records.db
    plain = form.of_content and current.vectors == OF_CONTENT
    if plain and content == current.content:
        return {}
    if not plain and form.code == current.vectors and _is_same(records, current, form):
        return {}
    if patch.generation != records.generation or (form.of_content and patch.of != content):
        raise StaleVectorError("what is current changed while it was being embedded")
    if plain:
        db.execute(f"UPDATE {table} SET vector = ? WHERE row = ?", (patch.vector, current.row))
        return {}
    embeddings.replace(db, table, [(current.row, form.code, patch.vector or b"")])
    return {"vectors": form.code, **_with_texts(records, current, form)}


def _is_same(records: Records, current: Stored, form: Form) -> bool:
    """Whether a record whose code is the form's has what the form says."""
    if form.texts:
        return records.texts([(current.row, current.vectors, current.body)]).get(current.row) == list(form.texts)
    return not form.given or records.vectors([current]).get(current.row) == b"".join(form.given)


def _with_texts(records: Records, current: Stored, form: Form) -> dict[str, Value]:
    """Bring a record's texts to those of the form, as a new version of its body; the columns that say so."""
    db, row, version = records.db, current.row, current.version + 1
    before = records.texts([(row, current.vectors, current.body)]).get(row, [])
    if not before and not form.texts:
        return {}
    old, new = bodies.as_part(before), bodies.as_part(form.texts)
    kept = current.body is not None and bodies.has_data(db, row, current.body)
    if kept and current.body is not None:
        bodies.carry(db, row, current.body, version, texts=False)
    bodies.write(db, [(row, version, new)])
    size = current.body_size - bodies.size(old) + bodies.size(new)
    return {"body": version if kept or new else None, "body_size": size}


def take_for_embedded(db: Connection) -> list[int]:
    """Have the next records whose embeddings were given count as embedded by what they say; their rows, to be signed
    anew."""
    rows = [row for (row,) in db.execute("SELECT row FROM records WHERE vectors < 0 LIMIT 500")]
    db.execute_in("UPDATE records SET vectors = (content != '') WHERE row IN ({})", rows)
    return rows
