"""What every embedding has to be before it is used, cached or stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from agentmem.types.errors import EmbeddingError

if TYPE_CHECKING:
    from agentmem.types.ports import Vector


def checked_vectors(name: str, given: object, shape: tuple[int, int]) -> tuple[Vector, Vector]:
    """What the model called ``name`` returned, as float32 of this shape, and the lengths of its rows.

    Raises ``EmbeddingError`` for anything that is not numbers, another shape, or a row that is zero or not finite.
    """
    try:
        vectors: Vector = np.ascontiguousarray(given, np.float32)  # pyright: ignore[reportArgumentType, reportCallIssue]
    except (TypeError, ValueError) as exc:
        kind = type(given).__name__
        raise EmbeddingError(f"the model {name!r} returned a {kind} instead of an array of float32: {exc}") from exc
    if vectors.shape != shape:
        raise EmbeddingError(f"the model {name!r} returned the shape {vectors.shape} instead of {shape}")
    lengths: Vector = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    usable = (lengths > 0) & (lengths < np.inf)
    if np.count_nonzero(usable) < len(usable):
        bad = int(np.flatnonzero(~usable)[0])
        raise EmbeddingError(f"the model {name!r} returned a zero or non-finite vector for text {bad}")
    return vectors, lengths
