"""Opening a store: which embedding model it has, and whether that is the one that is wanted."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

from agentmem.embedding import fingerprint_of, open_embedder
from agentmem.embedding.absent import AbsentModel
from agentmem.settings import Settings
from agentmem.stores import meta
from agentmem.stores.connection import Connection, locked_out
from agentmem.stores.locks import FileLock
from agentmem.stores.schema import configure, migrate
from agentmem.types.errors import ModelMismatchError
from agentmem.types.ports import Embedder

Spec: TypeAlias = str | os.PathLike[str] | Embedder | None
"""An embedding model as callers name it; see ``open_embedder``."""


def open_store(
    database: Path, gate: FileLock, settings: Settings, given: Spec, *, any_model: bool
) -> tuple[int, Embedder]:
    """Bring the tables up to date and find the store's model: the given one, or if None the one it was written with.

    Returns the model's generation and the model. With ``any_model``, another one than the store's is no error: what
    comes back then embeds nothing.
    """
    timeout = settings.performance.lock_timeout_s
    if not gate.acquire(timeout):
        raise locked_out(database, timeout)
    with gate, closing(Connection(database)) as connection:
        configure(connection)
        migrate(connection, database.parent)
        name, dim = meta.get(connection, meta.MODEL), meta.get(connection, meta.DIM)
        embedder = open_model(connection, settings, given)
        wanted = (embedder.name, embedder.dim, fingerprint_of(embedder))
        if name is None:
            note_model(connection, embedder, given)
        elif (name, int(dim), meta.get(connection, meta.MODEL_FINGERPRINT)) != wanted:
            if not any_model:
                raise mismatch(database.parent, name, int(dim), embedder)
            embedder = AbsentModel(name, int(dim))
        return int(meta.get(connection, meta.GENERATION) or 1), embedder


def open_model(connection: Connection, settings: Settings, given: Spec) -> Embedder:
    """The given model, or if None the one that the store was written with."""
    spec = (meta.get(connection, meta.MODEL_SPEC) or None) if given is None else given
    return open_embedder(spec, cache_size=settings.performance.embedding_cache_size)


def note_model(connection: Connection, embedder: Embedder, given: Spec) -> None:
    """Note which model the store's vectors are of, and how to open it again (None for an object of the caller's)."""
    spec = "" if given is None else None
    if isinstance(given, (str, os.PathLike)):
        spec = os.fspath(given)
        spec = os.path.abspath(spec) if os.path.isdir(spec) else spec
    meta.put(connection, meta.DIM, embedder.dim)
    meta.put(connection, meta.MODEL_FINGERPRINT, fingerprint_of(embedder))
    meta.put(connection, meta.MODEL_SPEC, spec)
    meta.put(connection, meta.MODEL, embedder.name)


def mismatch(path: Path, name: str, dim: int, wanted: Embedder) -> ModelMismatchError:
    """The error for a store that holds the vectors of another model."""
    other = f"{wanted.name!r} ({wanted.dim})"
    if (name, dim) == (wanted.name, wanted.dim):
        other = f"the {wanted.name!r} that is installed here, whose files differ"
    return ModelMismatchError(
        f"{path} holds embeddings of {name!r} ({dim} dimensions) and cannot be used with {other}; "
        "open it with the model it has, or move it over: agentmem reembed MODEL, or Memory.reembed(model)"
    )
