"""What the store says about itself: counts, sizes, health."""

from __future__ import annotations

import os
from contextlib import suppress

from agentmem.embedding.cache import CachedEmbedder
from agentmem.engine.engine import Engine
from agentmem.lifecycle.pressure import pressure
from agentmem.stores import accounting
from agentmem.stores.folder import DATABASE, LANCE
from agentmem.stores.schema import ARCHIVED, DELETED, EXPIRED
from agentmem.types.enums import Layer, Pressure
from agentmem.types.errors import StoreGoneError
from agentmem.types.reports import Health, LayerStats, Stats


def stats(engine: Engine) -> Stats:
    """Counts and sizes. Reads an index entry of each record that is hidden."""
    engine.check()
    hidden = engine.repository.hidden()
    cached = engine.embedder if isinstance(engine.embedder, CachedEmbedder) else None
    layers = layer_stats(engine)
    by_layer = {layer: one.records for layer, one in layers.items()}
    return Stats(
        records=sum(by_layer.values()),
        deleted=hidden[DELETED],
        archived=hidden[ARCHIVED],
        expired=hidden[EXPIRED],
        events=engine.repository.last_seq(),
        by_layer=by_layer,
        layers=layers,
        pressure=max((layer.pressure for layer in layers.values()), key=list(Pressure).index),
        bytes=sizes(engine),
        model=engine.embedder.name,
        dim=engine.embedder.dim,
        arenas=engine.retriever.residents.usage(),
        large=engine.retriever.residents.usage_of_large(),
        query_cache=engine.cache.usage(),
        embedding_cache={"hits": cached.hits, "misses": cached.misses} if cached else {},
    )


def layer_stats(engine: Engine) -> dict[str, LayerStats]:
    """How full each layer is; the pressure is as of now, with the slack that it has since the last sweep."""
    found = dict[str, LayerStats]()
    for layer, (records, used, before) in accounting.sizes(engine.repository.db).items():
        total, limit = used + records * engine.lifecycle.vector_bytes, engine.lifecycle.rules.limit[layer]
        found[layer] = LayerStats(records, total, limit, pressure(total / limit, Pressure(before)))
    return {layer.value: found[layer] for layer in Layer}


def health(engine: Engine, database: str | None = None) -> Health:
    """Whether the store is still there and the derived ones keep up. One that is behind still answers everything.

    ``database`` is its path as the caller named it, which may lead elsewhere by now.
    """
    engine.check_process()
    follower, lifecycle = engine.follower, engine.lifecycle
    gone, behind = None, 0
    try:
        engine.commits.check_files()
        if database is not None:
            engine.check_at(database)
        behind = follower.behind()
    except StoreGoneError as exc:
        gone = str(exc)
    backup = None if gone is not None or engine.companion is None else engine.companion.health()
    fronts = engine.retriever.residents.fronts
    backing = () if backup is None else (backup.last_error, backup.proof_error)
    writing = engine.commits.last_error
    errors = (gone, writing, follower.last_error, lifecycle.last_error, *backing)
    return Health(
        ok=not any(error is not None for error in errors),
        vectors_behind=behind,
        vector_errors=follower.errors,
        vector_rebuilds=follower.rebuilds,
        last_vector_error=follower.last_error,
        sweep_errors=lifecycle.errors,
        last_sweep_error=lifecycle.last_error,
        store_error=gone,
        backup=backup,
        engine_fallbacks=0 if fronts is None else fronts.fallbacks,
        last_engine_error=None if fronts is None else fronts.last_error,
        last_write_error=writing,
    )


def sizes(engine: Engine) -> dict[str, int]:
    """Bytes on disk, by part."""
    sizes = {"libsql": 0, "wal": 0, "lancedb": 0}
    for name, part in ((DATABASE, "libsql"), (f"{DATABASE}-wal", "wal")):
        with suppress(FileNotFoundError):
            sizes[part] = (engine.path / name).stat().st_size
    for folder, _, names in os.walk(engine.path / LANCE):
        for name in names:
            with suppress(FileNotFoundError):  # LanceDB may just have cleaned it up
                sizes["lancedb"] += os.stat(os.path.join(folder, name)).st_size
    return sizes
