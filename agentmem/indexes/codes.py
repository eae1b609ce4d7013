"""Which engine holds the vectors of large scopes as codes in memory."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal, TypeAlias

from agentmem.indexes.hnsw import check_hnsw
from agentmem.types.errors import MissingExtraError
from agentmem.types.ports import VectorEngine

Engine: TypeAlias = Literal["auto", "rabitq", "int8", "hnsw", "lancedb"]
"""As the settings ``performance.large_engine`` and ``tiers.warm.engine`` have it."""


def coding(engine: Engine) -> Literal["rabitq", "int8"] | None:
    """What codes vectors here: FAISS where it is installed; None: nothing does, they stay in LanceDB.

    A graph stands in front of codes. Raises ``MissingExtraError`` where what was asked for by name is missing.
    """
    if engine == "hnsw":
        check_hnsw()
    if engine in ("auto", "hnsw"):
        return "rabitq" if _has_faiss() else "int8"
    if engine == "rabitq" and not _has_faiss():
        raise MissingExtraError(
            "large scopes are to be searched by 'rabitq', and FAISS is not installed; pip install 'agentmem-db[faiss]'"
        )
    return None if engine == "lancedb" else engine


def new_codes(
    coded: Literal["rabitq", "int8"], dim: int, pauses: Callable[[], Callable[[], bool]] | None = None
) -> VectorEngine:
    """No vectors yet, of ``dim`` numbers each.

    ``pauses`` makes what is called between two pieces of what is coded in the background, and says whether to go on. A
    vector is coded as bytes in 2 µs, so that this is not put off.
    """
    if coded == "rabitq":
        from agentmem.indexes.delta import Delta
        from agentmem.indexes.rabitq import RaBitQ

        return Delta(RaBitQ(dim), dim) if pauses is None else Delta(RaBitQ(dim), dim, pauses)
    from agentmem.indexes.int8 import Int8

    return Int8(dim)


def bytes_of(coded: Literal["rabitq", "int8"], dim: int) -> int:
    """About what a vector takes."""
    return dim // 4 + 20 if coded == "rabitq" else dim + 4


def _has_faiss() -> bool:
    return find_spec("faiss") is not None
