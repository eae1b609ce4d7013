"""What each part of the pipeline reaches alone on the same texts: the one place here that uses the engines directly."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from agentmem.embedding import open_embedder
from agentmem.embedding.folder import BUNDLED
from agentmem.stores.connection import driver

GROUP = 1_000
"""Rows per LanceDB commit, and texts per call where the library itself would join requests."""


def measure(batches: Iterator[list[str]], embedder: str | None, seconds: float) -> dict[str, float]:
    """Texts per second of each part, about ``seconds`` for all of them together."""
    model = open_embedder(embedder, cache_size=0)
    model.embed_query("warm up")
    share = seconds / 5
    found = {"tokenizer": _rate(batches, share, _tokenize(embedder))} if _folder(embedder) else {}
    found["embedding"] = _rate(batches, share, model.embed_documents)
    found["embedding, 2 threads"] = _threaded(batches, share, model.embed_documents)
    vectors = np.random.default_rng(0).normal(size=(GROUP, model.dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with tempfile.TemporaryDirectory(prefix="agentmem-limits-") as folder:
        found["libSQL insert"] = _libsql(Path(folder) / "alone.db", batches, share, vectors)
        found["LanceDB add"] = _lancedb(Path(folder) / "lance", batches, share, vectors)
    return found


def _folder(embedder: str | None) -> Path | None:
    """Where the model's tokenizer lies; None for a model known by name."""
    folder = Path(BUNDLED) if embedder is None else Path(embedder)
    return folder if (folder / "tokenizer.json").is_file() else None


def _tokenize(embedder: str | None) -> Callable[[list[str]], object]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(_folder(embedder) or os.curdir) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return partial(tokenizer.encode_batch_fast, add_special_tokens=False)


def _rate(batches: Iterator[list[str]], seconds: float, work: Callable[[list[str]], object]) -> float:
    """Texts per second of one caller; making the texts is not counted."""
    done, spent = 0, 0.0
    while spent < seconds:
        texts = next(batches)
        start = time.perf_counter()
        work(texts)
        spent += time.perf_counter() - start
        done += len(texts)
    return done / spent


def _threaded(batches: Iterator[list[str]], seconds: float, work: Callable[[list[str]], object]) -> float:
    """Two callers at once, as the library has by default."""
    done, spent = 0, 0.0
    with ThreadPoolExecutor(2) as pool:
        while spent < seconds:
            groups = [next(batches) for _ in range(32)]
            start = time.perf_counter()
            list(pool.map(work, groups))
            spent += time.perf_counter() - start
            done += sum(map(len, groups))
    return done / spent


def _libsql(path: Path, batches: Iterator[list[str]], seconds: float, vectors: Any) -> float:
    """Text and vector in one table, a transaction per batch, synced."""
    db = driver().connect(str(path), isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL").fetchall()
    db.execute("PRAGMA synchronous=FULL").fetchall()
    db.execute("CREATE TABLE alone (id INTEGER PRIMARY KEY, content TEXT NOT NULL, vector BLOB NOT NULL)").fetchall()
    blobs = [vector.tobytes() for vector in vectors]

    def insert(texts: list[str]) -> None:
        db.execute("BEGIN IMMEDIATE").fetchall()
        rows = [(text, blobs[n % GROUP]) for n, text in enumerate(texts)]
        db.executemany("INSERT INTO alone (content, vector) VALUES (?, ?)", rows)
        db.execute("COMMIT").fetchall()

    try:
        return _rate(batches, seconds, insert)
    finally:
        db.close()


def _lancedb(path: Path, batches: Iterator[list[str]], seconds: float, vectors: Any) -> float:
    """Row number and vector, ``GROUP`` rows per commit; LanceDB gets no texts."""
    import lancedb
    import pyarrow as pa

    dim = vectors.shape[1]
    schema = pa.schema([pa.field("row", pa.int64()), pa.field("vector", pa.list_(pa.float32(), dim))])
    table = lancedb.connect(path).create_table("alone", schema=schema)
    top = 0

    def add(texts: list[str]) -> None:
        nonlocal top
        rows = pa.array(np.arange(top, top + len(texts)))
        flat = pa.FixedSizeListArray.from_arrays(pa.array(np.resize(vectors, (len(texts), dim)).reshape(-1)), dim)
        table.add(pa.table([rows, flat], schema=schema))
        top += len(texts)

    return _rate(_joined(batches), seconds, add)


def _joined(batches: Iterator[list[str]]) -> Iterator[list[str]]:
    while True:
        texts: list[str] = []
        while len(texts) < GROUP:
            texts += next(batches)
        yield texts
