"""Ray on this machine alone, for tests and examples: a token that nobody else has, loopback, bounded memory."""

from __future__ import annotations

import os
import secrets
import sys
from typing import Any

from agentmem.types.errors import StoreError

LOOPBACK = "127.0.0.1"
STORE_BYTES = 100 * 2**20
"""Of Ray's object store, which shards hardly use."""


def guard() -> None:
    """Have Ray ask for a token, a new one unless there is one, in this process and what it starts.

    Before ``ray`` is imported: it looks at the environment then, and never again.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if "RAY_AUTH_TOKEN" not in os.environ and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")


def start(*, cpus: int = 2, **options: Any) -> None:
    """Start Ray for this process; ``options`` are those of ``ray.init``. ``ray.shutdown()`` ends it.

    Some of Ray's ports are open on every interface, whatever address it is told; nobody gets in without the token.
    Raises ``StoreError`` where Ray was imported before, and will not ask for one.
    """
    if "ray" in sys.modules and os.environ.get("RAY_AUTH_MODE") != "token":
        raise StoreError(
            "Ray was imported already, and will not ask for a token any more; call start() before ray is imported, or "
            "set RAY_AUTH_MODE=token in the environment of the process"
        )
    guard()
    from agentmem.distributed.clusteractors import ray

    chosen: dict[str, Any] = {
        "address": "local", "num_cpus": cpus, "object_store_memory": STORE_BYTES, "include_dashboard": False,
        "log_to_driver": False, "_node_ip_address": LOOPBACK,
    }  # fmt: skip
    ray().init(**(chosen | options))
