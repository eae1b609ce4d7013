"""Arrays that grow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    """A copy with room for ``size`` rows."""
    bigger = np.empty((size, *array.shape[1:]), array.dtype)
    bigger[: len(array)] = array
    return bigger
