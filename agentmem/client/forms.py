"""What is to be embedded of an item, and vectors that a caller gives: checked, and as the store keeps them."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from agentmem.client.checks import check_content
from agentmem.types.errors import InvalidInputError, shown
from agentmem.types.forms import Form

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.settings import Settings
    from agentmem.types.ports import Vector

MAX_TEXTS = 256
"""Texts that are embedded for one record, and vectors that it may have."""
_SHAPE = (
    "vector must be numbers of shape (dim,), or (n, dim) for up to 256 of them: an array, lists of numbers, or base64 "
    "of float32"
)
_LONGEST = 1_000_000
"""Numbers that are looked at: no model has so many dimensions."""
_UNIT = 1e-6
"""How far from one the length of a vector may be that is kept as it is, so that it travels without a change."""


def form_of(embed: object, vector: object, settings: Settings) -> Form | None:
    """What an item is embedded by; None: by its content."""
    if vector is not None:
        if embed is not None and embed is not True:
            raise InvalidInputError(
                "embed= and vector= exclude each other: a vector of yours takes the place of what would be embedded",
                field="vector",
            )
        return Form(given=check_vectors(vector))
    return None if embed is None or embed is True else _form_without_vectors(embed, settings)


def new_form(embed: object, vector: object, settings: Settings, *, unset: object) -> Form | None:
    """The same for a change; None: by what it was."""
    if embed is None or vector is None:
        name = "embed" if embed is None else "vector"
        raise InvalidInputError(
            f"{name}=None says nothing; leave it out, or say embed=True for the content, embed=False for no vector",
            field=name,
        )
    if vector is not unset:
        return form_of(None if embed is unset else embed, vector, settings)
    if embed is unset:
        return None
    return Form(of_content=True) if embed is True else _form_without_vectors(embed, settings)


def no_form() -> Form:
    """Of what has no content: nothing is embedded."""
    return Form()


def check_vectors(value: object) -> tuple[bytes, ...]:
    """One vector or up to 256 of them, each normalised, as the bytes of float32."""
    parts = cast("Sequence[object]", value) if _are_texts(value) else [value]
    return tuple(one for part in parts for one in _normalised(_numbers(part)))


def check_one_vector(value: object) -> bytes:
    """A vector to search with."""
    found = check_vectors(value)
    if len(found) != 1:
        raise InvalidInputError(f"a search has one vector, not {len(found)}; search with each of them", field="vector")
    return found[0]


def _form_without_vectors(embed: object, settings: Settings) -> Form:
    if embed is False:
        return Form()
    if isinstance(embed, (str, bytes)) or not isinstance(embed, Sequence):
        advice = "; for one text write [text]" if isinstance(embed, str) else ""
        raise InvalidInputError(
            f"embed must be True, False or a list of texts, not {shown(embed)}{advice}", field="embed"
        )
    texts = cast("Sequence[object]", embed)
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise InvalidInputError(
            f"embed has {len(texts):,} texts; it takes 1 to {MAX_TEXTS}, and embed=False is for no vector",
            field="embed",
        )
    return Form(texts=tuple(check_content(text, settings, "embed") for text in texts))


def _are_texts(value: object) -> bool:
    if isinstance(value, str) or not isinstance(value, (list, tuple)):
        return False
    parts = cast("Sequence[object]", value)
    return 0 < len(parts) <= MAX_TEXTS and all(isinstance(part, str) for part in parts)


def _numbers(value: object) -> NDArray[np.float64]:
    """An array of two dimensions, float64."""
    import numpy as np

    if isinstance(value, str):
        try:
            held = b64decode(value, validate=True)
        except (binascii.Error, ValueError) as exc:
            raise InvalidInputError(f"{_SHAPE}; this text is no base64: {exc}", field="vector") from exc
        if not held or len(held) % 4:
            raise InvalidInputError(f"{_SHAPE}; this text has {len(held)} bytes", field="vector")
        return np.frombuffer(held, "<f4").astype(np.float64).reshape(1, -1)
    _check_extent(value)
    try:
        # Some arrays of other libraries refuse to be numpy's, each in its own way.
        found = np.asarray(cast("Sequence[float]", value))
    except (TypeError, ValueError, RuntimeError) as exc:
        raise InvalidInputError(f"{_SHAPE}; {exc}", field="vector") from exc
    if found.dtype.kind not in "fiu" or found.ndim not in (1, 2) or not found.size:
        what = f"an array of {found.dtype} of shape {found.shape}" if found.ndim else shown(value)
        raise InvalidInputError(f"{_SHAPE}, not {what}", field="vector")
    if found.ndim == 2 and len(found) > MAX_TEXTS:
        raise InvalidInputError(f"vector has {len(found):,} vectors, more than {MAX_TEXTS}", field="vector")
    return np.atleast_2d(found).astype(np.float64)


def _check_extent(value: object) -> None:
    """Refuse what cannot be vectors before it is unfolded: lists in lists of lists, and sequences without end."""
    if not isinstance(value, Sequence):
        return
    outer = cast("Sequence[object]", value)
    if len(outer) > _LONGEST:
        raise InvalidInputError(f"{_SHAPE}, not {len(outer):,} of them", field="vector")
    inner = [cast("Sequence[object]", one) for one in outer if isinstance(one, Sequence)]
    if len(inner) > MAX_TEXTS:
        raise InvalidInputError(f"vector has {len(inner):,} vectors, more than {MAX_TEXTS}", field="vector")
    if sum(map(len, inner)) > _LONGEST or any(isinstance(one, Sequence) for part in inner for one in part):
        raise InvalidInputError(f"{_SHAPE}, not lists of lists of lists", field="vector")


def _normalised(vectors: NDArray[np.float64]) -> list[bytes]:
    import numpy as np

    # By the largest number first, so that nothing overflows on the way to the length.
    largest = np.abs(vectors).max(axis=1)
    if not np.isfinite(largest).all():
        raise InvalidInputError("vector has a number that is not finite", field="vector")
    if not largest.all():
        raise InvalidInputError("vector is zero everywhere, and so points nowhere", field="vector")
    scaled = vectors / largest[:, None]
    lengths = np.linalg.norm(scaled, axis=1)
    unit = np.abs(lengths * largest - 1) <= _UNIT
    kept: Vector = np.where(unit[:, None], vectors, scaled / lengths[:, None]).astype(np.float32)
    return [row.tobytes() for row in kept]
