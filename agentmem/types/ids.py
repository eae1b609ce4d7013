"""Record ids: UUID version 7 (RFC 9562), whose leading timestamp keeps inserts in the id index local."""

from __future__ import annotations

import os

from agentmem.types.clock import Micros


def uuid7s(count: int, now: Micros) -> list[str]:
    """``count`` new ids for the instant ``now`` in ascending order, each with 74 random bits."""
    stamp = f"{(now // 1_000) & 0xFFFF_FFFF_FFFF:012x}"
    head = f"{stamp[:8]}-{stamp[8:]}-7"
    noise = os.urandom(10 * count).hex()
    ids: list[str] = []
    for start in range(0, 20 * count, 20):
        bits = noise[start : start + 20]
        variant = "89ab"[int(bits[3], 16) & 3]
        ids.append(f"{head}{bits[0:3]}-{variant}{bits[4:7]}-{bits[7:19]}")
    return sorted(ids)
