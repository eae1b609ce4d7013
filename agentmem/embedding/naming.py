"""Models of a program, by name: for whoever opens its stores and does not run it, such as the command line."""

from __future__ import annotations

import re
from importlib import import_module

from agentmem.types.errors import InvalidInputError
from agentmem.types.ports import AnyEmbedder

_OBJECT = re.compile(r"([^\W\d][\w.]*):([^\W\d][\w.]*)")


def imported(spec: AnyEmbedder) -> AnyEmbedder:
    """What ``"module:object"`` names, a model or a function that embeds; anything else as it is.

    ``open_embedder`` does not do this: a store notes the text by which its model is opened again, and opening one that
    came from elsewhere must not run what it names. Raises ``InvalidInputError``.
    """
    named = _OBJECT.fullmatch(spec) if isinstance(spec, str) else None
    if named is None:
        return spec
    try:
        found: object = import_module(named[1])
        for part in named[2].split("."):
            found = getattr(found, part)
    except Exception as exc:
        raise InvalidInputError(
            f"embedder {spec!r} cannot be imported ({type(exc).__name__}: {exc}); its module is looked for where "
            "Python looks for any: install it, or name its folder in PYTHONPATH",
            field="embedder",
        ) from exc
    return found  # pyright: ignore[reportReturnType]  # opening it says what it lacks
