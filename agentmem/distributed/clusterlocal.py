"""Ray on this machine alone: every port on loopback, a token that nobody else has, bounded memory."""

from __future__ import annotations

import os
import secrets
from typing import Any

from agentmem.distributed.clusteractors import ray

LOOPBACK = "127.0.0.1"
STORE_BYTES = 100 * 2**20
"""Of Ray's object store, which shards hardly use."""


def guard() -> None:
    """Have Ray ask for a token, a new one unless there is one, in this process and what it starts. Before ``import
    ray``."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if "RAY_AUTH_TOKEN" not in os.environ and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def start(*, cpus: int = 2, **options: Any) -> None:
    """Start Ray for this process, on loopback; ``options`` are those of ``ray.init``. ``ray.shutdown()`` ends it."""
    guard()
    chosen: dict[str, Any] = {
        "num_cpus": cpus, "object_store_memory": STORE_BYTES, "include_dashboard": False, "log_to_driver": False,
        "_node_ip_address": LOOPBACK,
    }  # fmt: skip
    ray().init(**(chosen | options))
