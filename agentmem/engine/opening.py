"""Opening a store: which embedding model it has, and whether that is the one that is wanted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias, cast

from agentmem.embedding import fingerprint_of, known_dim, open_embedder, settle
from agentmem.embedding.absent import AbsentModel
from agentmem.settings import Settings
from agentmem.stores import meta
from agentmem.stores.connection import Connection
from agentmem.stores.files import OpenFiles
from agentmem.stores.folder import is_store
from agentmem.stores.schema import configure, every_migration, migrate, pending
from agentmem.types.errors import ModelMismatchError
from agentmem.types.ports import AnyEmbedder, Embedder

_NAMED = ", by embedder= or, as module:object, the setting embedder (AGENTMEM_MEMORY__EMBEDDER)"
Spec: TypeAlias = AnyEmbedder
"""An embedding model as callers name it; see ``open_embedder``."""


def open_store(
    files: OpenFiles, path: Path, settings: Settings, given: Spec, *, any_model: bool, replaced: bool
) -> tuple[Connection, int, Embedder]:
    """Open the database, bring its tables up to date and find the store's model: the given one, or if None the one it
    was written with.

    Returns the connection, the model's generation and the model. With ``any_model``, another one than the store's is no
    error: what comes back then embeds nothing. ``replaced``: LanceDB's table follows another database, and is to be
    made anew. The caller holds the lock between processes.
    """
    connection = files.connect(shared=True)
    try:
        configure(connection)
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1")  # the first statement that reads opens the log
        files.hold()
        _bring_up_to_date(connection, files, path)
        if replaced:
            meta.put(connection, meta.LANCE_APPLIED, 0)
        number, embedder = find_model(connection, path, settings, given, any_model=any_model)
        if meta.get(connection, meta.MODEL) is None:
            _note_first_model(connection, embedder, given)
        connection.execute("PRAGMA cache_size=-2000")  # from here on it only reads
    except BaseException:
        connection.close()
        raise
    return connection, number, embedder


def _bring_up_to_date(connection: Connection, files: OpenFiles, path: Path) -> None:
    """Have the database go through what is pending, with the store to itself: older versions must not write on."""
    left = pending(connection, path)
    if left and left != every_migration():
        with files.alone():
            migrate(connection, path)
    elif left:
        migrate(connection, path)


def find_model(
    connection: Connection, path: Path, settings: Settings, given: Spec, *, any_model: bool
) -> tuple[int, Embedder]:
    """The generation of the store's model, and the model: see ``open_store``."""
    name, dim = meta.get(connection, meta.MODEL), meta.get(connection, meta.DIM)
    embedder = open_model(connection, settings, given)
    if name is not None:
        settle(embedder, name, int(dim))
        held, wanted = meta.get(connection, meta.MODEL_FINGERPRINT), fingerprint_of(embedder)
        # By its name first: the dimension of another model need not be known, and is not asked for.
        if embedder.name != name or (embedder.dim, wanted) != (int(dim), held):
            own = given is None and meta.get(connection, meta.MODEL_SPEC) is None
            error = mismatch(path, name, int(dim), embedder, own=own)
            if not any_model:
                raise error
            embedder = AbsentModel(name, int(dim), str(error))
    return int(meta.get(connection, meta.GENERATION) or 1), embedder


def learned(path: Path, given: Spec) -> Spec:
    """The same model; for a path that has no store yet, with a dimension that is known.

    Called before the locks of a store are taken: a model may have to embed something to learn it, over a network.
    """
    if given is None or isinstance(given, (str, os.PathLike)) or is_store(path):
        return cast("Spec", given)
    embedder = open_embedder(given, cache_size=0)
    if known_dim(embedder) is None:
        _ = embedder.dim
    return embedder


def open_model(connection: Connection, settings: Settings, given: Spec) -> Embedder:
    """The given model, or if None the one that the store was written with."""
    spec = (meta.get(connection, meta.MODEL_SPEC) or None) if given is None else given
    return open_embedder(spec, cache_size=settings.performance.embedding_cache_size)


def note_model(connection: Connection, embedder: Embedder, given: Spec) -> None:
    """Note which model the store's vectors are of, and how to open it again (None for an object of the caller's)."""
    spec = "" if given is None else None
    if isinstance(given, (str, os.PathLike)):
        spec = os.fspath(cast("str | os.PathLike[str]", given))
        spec = os.path.abspath(spec) if os.path.isdir(spec) else spec
    meta.put(connection, meta.DIM, embedder.dim)
    meta.put(connection, meta.MODEL_FINGERPRINT, fingerprint_of(embedder))
    meta.put(connection, meta.MODEL_SPEC, spec)
    meta.put(connection, meta.MODEL, embedder.name)


def _note_first_model(connection: Connection, embedder: Embedder, given: Spec) -> None:
    with connection.transaction():  # each statement by itself would wait for the disk
        note_model(connection, embedder, given)


def mismatch(path: Path, name: str, dim: int, wanted: Embedder, *, own: bool = False) -> ModelMismatchError:
    """The error for a store that holds the vectors of another model; ``own``: of one that only its program knows."""
    other_dim = known_dim(wanted)
    other = repr(wanted.name) if other_dim is None else f"{wanted.name!r} ({other_dim})"
    if (name, dim) == (wanted.name, other_dim):
        other = f"the {wanted.name!r} that is installed here, whose files differ"
    return ModelMismatchError(
        f"{path} holds embeddings of {name!r} ({dim} dimensions) and cannot be used with {other}; "
        f"open it with the model it has{_NAMED if own else ''}, or move it over: agentmem reembed MODEL, or "
        "Memory.reembed(model)"
    )
