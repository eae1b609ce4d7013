"""Of a damaged database: the embeddings, and the texts that they are of; what is missing is made again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np

from agentmem.embedding.batcher import embed_documents
from agentmem.stores import bodies
from agentmem.stores.connection import Connection, Row
from agentmem.stores.rescue import ranges, whole
from agentmem.types.forms import OF_CONTENT, count_of
from agentmem.types.ports import Embedder

_BATCH = 256
_FIRST = "embeddings_1"
"""The new store begins with one generation."""


@dataclass(frozen=True, slots=True)
class Held:
    """Of a record that was salvaged its id, its content, how it was embedded, and the version of its body."""

    id: str
    content: str
    code: int
    body: int | None


@dataclass(slots=True)
class Rescued:
    """How many records were embedded again, and how those are embedded that could not stay as they were."""

    reembedded: int
    changed: dict[int, int]


def copy_embeddings(
    old: Connection,
    new: Connection,
    table: str,
    last: int,
    kept: Mapping[int, Held],
    embedder: Embedder,
    write: Callable[[str, Iterable[Row]], object],
) -> Rescued:
    """Copy what is whole of a generation's tables for the kept records, and embed again what is not.

    A record whose vectors its caller gave, and that lost any of them, is embedded by its content from now on; one that
    lost its texts and has their vectors goes on with those, as if they had been given.
    """
    size = embedder.dim * 4
    several = {row: held for row, held in kept.items() if held.code not in (0, OF_CONTENT)}
    texts = bodies.texts_of(
        new, [(row, held.body) for row, held in several.items() if held.code > 1 and held.body is not None]
    )
    parts = _parts(old, table, last, several, size)
    missing = {row: held for row, held in kept.items() if held.code == OF_CONTENT}

    def usable() -> Iterator[Row]:
        sql = f"SELECT row, vector FROM {table} WHERE row > ? AND row <= ?"
        for row, vector in ranges(old, sql, last):
            if not _is_whole(vector, size):
                continue
            if row in several:
                parts.setdefault(row, {})[0] = vector
            elif missing.pop(row, None) is not None:
                yield row, vector

    write(f"INSERT INTO {_FIRST} VALUES (?, ?)", usable())
    made, changed = 0, dict[int, int]()
    for chunk in _chunks(sorted(missing), _BATCH):
        vectors = embed_documents(embedder, [missing[row].content for row in chunk])
        write(f"INSERT INTO {_FIRST} VALUES (?, ?)", zip(chunk, vectors, strict=True))
        made += len(chunk)
    for row, held in several.items():
        count, own = count_of(held.code), texts.get(row, [])
        found = [parts.get(row, {}).get(part) for part in range(count)]
        vectors = [vector for vector in found if vector is not None]
        code = held.code
        if held.code > 1 and len(own) != count:
            code = -count  # as good as given
        if len(vectors) != count:
            again = own if code > 1 else [held.content] if held.content else []
            code = code if code > 1 else len(again)
            vectors = embed_documents(embedder, again)
            made += 1
        if code != held.code:
            changed[row] = code
        write(f"INSERT INTO {_FIRST} VALUES (?, ?)", [(row, vector) for vector in vectors[:1]])
        further = [(row, part, vector) for part, vector in enumerate(vectors) if part]
        write(f"INSERT INTO more_{_FIRST} VALUES (?, ?, ?)", further)
    return Rescued(made, changed)


def _parts(
    old: Connection, table: str, last: int, several: Mapping[int, Held], size: int
) -> dict[int, dict[int, bytes]]:
    """The whole embeddings after the first, by row and part."""
    found = dict[int, dict[int, bytes]]()
    if several and whole(old, f"PRAGMA table_info(more_{table})"):
        sql = f"SELECT row, part, vector FROM more_{table} WHERE row > ? AND row <= ?"
        for row, part, vector in ranges(old, sql, last):
            if row in several and _is_whole(vector, size):
                found.setdefault(row, {})[part] = vector
    return found


def _is_whole(vector: object, size: int) -> bool:
    if not isinstance(vector, bytes) or len(vector) != size:
        return False
    values = np.frombuffer(vector, np.float32)
    with np.errstate(all="ignore"):
        return bool(abs(float(np.dot(values, values)) - 1) < 1e-3)


def _chunks(items: Iterable[int], size: int) -> Iterator[list[int]]:
    left = iter(items)
    while chunk := list(islice(left, size)):
        yield chunk
