"""Bulk work on Ray: embed a corpus, embed it anew, find near-duplicates, build indexes."""

# Neither Ray nor Lance is installed where types are checked.
# pyright: basic, reportMissingImports=false

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from loguru import logger

from agentmem.distributed.datasink import WriteReport, write_lance
from agentmem.distributed.datasource import read_lance
from agentmem.distributed.fragments import Place, ours, retries
from agentmem.errors import EmbeddingError, InvalidInputError

try:
    import ray
    import ray.data
except ImportError as exc:
    from agentmem.errors import MissingExtraError

    raise MissingExtraError("Ray is not installed; pip install 'agentmem-db[ray]'") from exc

if TYPE_CHECKING:
    import pyarrow as pa

    from agentmem import Embedder

__all__ = ["build_indexes", "embed", "near_duplicates", "reembed"]

EMBEDDED = 1_024
"""Texts that an actor embeds at a time."""
TILE = 8_192
"""Vectors that a task compares with all that follow them."""
_ROWS = 1_024
# What Lance takes, and lance-ray does not know of.
_BITS = 5


def embed(
    dataset: ray.data.Dataset,
    *,
    model: str | Embedder | None = None,
    actors: int | tuple[int, int] = 1,
    content: str = "content",
    vector: str = "vector",
    batch: int = EMBEDDED,
    num_cpus: float = 1,
    num_gpus: float = 0,
) -> ray.data.Dataset:
    """The same rows with the embedding of their ``content`` in the column ``vector``: float32, of length one.

    ``model`` is what ``Memory(embedder=...)`` takes. Each of the ``actors``, or of between the first and the second
    number of them, loads it once and has ``num_cpus`` and ``num_gpus`` to itself. A row without content has no vector.

    Actors keep what they have until the end: a cluster that has not a processor more than theirs waits for ever, since
    nobody reads for them.
    """
    least = (actors if isinstance(actors, int) else actors[0]) * num_cpus
    if ray.is_initialized() and (there := ray.cluster_resources().get("CPU", 0)) < least + 1:
        logger.warning(
            "{} actors take {} of {} processors: unless more come, none is left to read", actors, least, there
        )
    size = ray.data.ActorPoolStrategy(size=actors) if isinstance(actors, int) else _pool(*actors)
    return dataset.map_batches(
        _Embedding, compute=size, batch_size=batch, batch_format="pyarrow", zero_copy_batch=True,
        fn_constructor_args=(model, content, vector, max(1, int(num_cpus))), num_cpus=num_cpus,
        **({"num_gpus": num_gpus} if num_gpus else {}),
    )  # fmt: skip


def reembed(
    uri: str,
    into: str | None = None,
    *,
    model: str | Embedder | None = None,
    actors: int | tuple[int, int] = 1,
    content: str = "content",
    vector: str = "vector",
    storage_options: Mapping[str, str] | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    **writing: Any,
) -> WriteReport:
    """Embed a Lance dataset by another model: as a new dataset, or as the next version of the same one.

    The versions before keep their vectors, and whoever reads one goes on reading it. Indexes are to be built anew. What
    is ``writing`` goes to ``write_lance``.
    """
    rows = read_lance(uri, storage_options=storage_options)
    made = embed(rows, model=model, actors=actors, content=content, vector=vector, num_cpus=num_cpus, num_gpus=num_gpus)
    mode = "overwrite" if into is None else "create"
    return write_lance(
        made, uri if into is None else into, **{"mode": mode, "storage_options": storage_options, **writing}
    )


def near_duplicates(
    uri: str,
    *,
    threshold: float = 0.95,
    id: str = "id",
    vector: str = "vector",
    within: Sequence[str] = (),
    storage_options: Mapping[str, str] | None = None,
    tile: int = TILE,
) -> ray.data.Dataset:
    """Pairs of rows whose vectors have at least this cosine: ``id``, ``other``, ``similarity``, each pair once.

    Only rows that agree in the columns ``within`` are compared, such as ``["user_id"]``. It is exact: each task has a
    tile of rows and compares it with all the following ones as they stream by, so the work grows with the square of
    the rows. Rows without a vector are passed over.
    """
    if not -1 <= threshold <= 1:
        raise InvalidInputError(f"threshold is a cosine, from -1 to 1, not {threshold}", field="threshold")
    place = Place(uri, storage_options)
    dataset = retries().call(place.open)
    rows = retries().call(dataset.count_rows)
    tiles = [{"start": start} for start in range(0, rows, tile)]
    if not tiles:
        raise InvalidInputError(f"there are no rows in {uri}", field="uri")
    comparing = _Comparing(place, dataset.version, id, vector, tuple(within), threshold, tile)
    return ray.data.from_items(tiles, override_num_blocks=len(tiles)).map_batches(
        comparing, batch_size=1, batch_format="pyarrow"
    )


def build_indexes(
    uri: str,
    *,
    vector: str | None = "vector",
    kind: str = "IVF_RQ",
    scalars: Mapping[str, str] | None = None,
    workers: int = 4,
    storage_options: Mapping[str, str] | None = None,
    **options: Any,
) -> list[str]:
    """Build indexes of a dataset with several workers, by lance-ray; the names of all that it then has.

    One of the vectors by their cosine, of a ``kind`` that Lance builds in parts (``IVF_RQ``, ``IVF_PQ``, ...), with
    Lance's own ``options`` for it; ``vector=None``: none. And one of each column in ``scalars``, of the kind that is
    said there: ``{"user_id": "BTREE", "content": "INVERTED"}``.
    """
    import lance_ray

    if kind == "IVF_RQ":
        options = {"num_bits": _BITS, **options}
    place = Place(uri, storage_options)
    with ours(f"cannot index {uri}"):
        if vector is not None:
            lance_ray.create_index(
                uri, column=vector, index_type=kind, metric="cosine", num_workers=workers, replace=True,
                storage_options=place.options, **options,
            )  # fmt: skip
        for column, scalar in (scalars or {}).items():
            lance_ray.create_scalar_index(
                uri, column=column, index_type=scalar, num_workers=workers, replace=True,
                storage_options=place.options,
            )  # fmt: skip
    return sorted(index.name for index in place.open().describe_indices())


def _pool(least: int, most: int) -> ray.data.ActorPoolStrategy:
    return ray.data.ActorPoolStrategy(min_size=least, max_size=most)


# -- in an actor or a task ---------------------------------------------------------------------------------------------


class _Embedding:
    """A model, loaded once, that is handed batch after batch."""

    def __init__(self, model: Any, content: str, vector: str, threads: int) -> None:
        from agentmem.embedding import open_embedder

        self._model = open_embedder(model, threads=threads, cache_size=0)
        self._content, self._vector = content, vector

    def __call__(self, table: pa.Table) -> pa.Table:
        import pyarrow as pa

        texts = table.column(self._content).to_pylist()
        there = np.array([bool(text) for text in texts])
        vectors = np.zeros((len(texts), self._model.dim), np.float32)
        if there.any():
            vectors[there] = _of_length_one(
                self._model.name, self._model.embed_documents([text for text in texts if text])
            )
        column = pa.FixedSizeListArray.from_arrays(
            pa.array(vectors.reshape(-1)), self._model.dim, mask=None if there.all() else pa.array(~there)
        )
        if self._vector in table.column_names:
            table = table.drop_columns([self._vector])
        return table.append_column(self._vector, column)


def _of_length_one(model: str, made: Any) -> np.ndarray:
    vectors = np.ascontiguousarray(made, np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    if not ((lengths > 0) & (lengths < np.inf)).all():
        raise EmbeddingError(f"the model {model!r} returned a zero or non-finite vector")
    return vectors / lengths[:, None]


class _Comparing:
    """Compares a tile with itself and all that follows."""

    def __init__(
        self, place: Place, version: int, id: str, vector: str, within: tuple[str, ...], threshold: float, tile: int
    ) -> None:
        self._place, self._version, self._threshold, self._tile = place, version, threshold, tile
        self._id, self._vector, self._within = id, vector, within

    def __call__(self, tiles: pa.Table) -> Iterator[pa.Table]:
        [start] = tiles.column("start").to_pylist()
        mine: _Tile | None = None
        for at, batch in self._following(start):
            theirs = _Tile.of(batch, self._id, self._vector, self._within)
            if mine is None:
                mine = theirs
            yield mine.near(theirs, self._threshold, same=at == start)

    def _following(self, start: int) -> Iterator[tuple[int, pa.Table]]:
        dataset = retries().call(lambda: self._place.open(self._version))
        columns = [self._id, self._vector, *self._within]
        rows = dataset.count_rows()
        for at in range(start, rows, self._tile):

            def read(at: int = at) -> pa.Table:
                with ours(f"cannot read {self._place.uri}"):
                    return dataset.to_table(columns=columns, offset=at, limit=self._tile, scan_in_order=True)

            yield at, retries().call(read)


class _Tile:
    def __init__(self, ids: pa.ChunkedArray, vectors: np.ndarray, groups: list[pa.ChunkedArray]) -> None:
        self._ids, self._vectors, self._groups = ids, vectors, groups

    @classmethod
    def of(cls, table: pa.Table, id: str, vector: str, within: Sequence[str]) -> _Tile:
        table = table.filter(table.column(vector).is_valid()).combine_chunks()
        dim = table.schema.field(vector).type.list_size
        column = table.column(vector).combine_chunks()
        vectors = np.asarray(column.flatten(), np.float32).reshape(-1, dim)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return cls(
            table.column(id), vectors / np.where(lengths > 0, lengths, 1), [table.column(name) for name in within]
        )

    def near(self, other: _Tile, threshold: float, *, same: bool) -> pa.Table:
        import pyarrow as pa

        found = list[pa.Table]()
        for start in range(0, len(self._vectors), _ROWS):
            cosines = self._vectors[start : start + _ROWS] @ other._vectors.T
            left, right = np.nonzero(cosines >= threshold)
            similar = cosines[left, right]
            left += start
            if same:
                kept = left < right
                left, right, similar = left[kept], right[kept], similar[kept]
            for group, theirs in zip(self._groups, other._groups, strict=True):
                kept = _agree(group.take(pa.array(left)), theirs.take(pa.array(right)))
                left, right, similar = left[kept], right[kept], similar[kept]
            found.append(
                pa.table(
                    {
                        "id": self._ids.take(pa.array(left)),
                        "other": other._ids.take(pa.array(right)),
                        "similarity": pa.array(similar, pa.float32()),
                    }
                )
            )
        return pa.concat_tables(found) if found else _no_pairs(self._ids.type)


def _agree(left: pa.ChunkedArray, right: pa.ChunkedArray) -> np.ndarray:
    """Where both are the same, or both null."""
    import pyarrow.compute

    pc: Any = pyarrow.compute  # its functions are made when it is imported
    same = pc.fill_null(pc.equal(left, right), False)
    return np.asarray(pc.or_(same, pc.and_(pc.is_null(left), pc.is_null(right))))


def _no_pairs(ids: Any) -> pa.Table:
    import pyarrow as pa

    return pa.schema([("id", ids), ("other", ids), ("similarity", pa.float32())]).empty_table()
