"""onnxruntime, imported on use, and silent: the only file that imports it."""

from __future__ import annotations

import os
from typing import Any

_SWITCH = "ORT_DISABLE_TELEMETRY"


def silence() -> None:
    """Before anything imports onnxruntime, fastembed included.

    Its later versions tell their makers how they are used unless this is set, and keep a thread for that, without which
    a forked process cannot end. What the caller has set himself stays.
    """
    os.environ.setdefault(_SWITCH, "1")


def onnxruntime() -> Any:
    """The module; its stubs leave most types open."""
    silence()
    import onnxruntime as library  # pyright: ignore[reportMissingTypeStubs]

    return library
