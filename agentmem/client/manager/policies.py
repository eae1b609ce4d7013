"""When values move on to the next tier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class MigrationPolicy:
    """After how long without use a value leaves a tier. What is placed with ``hold=True`` stays."""

    hot_to_warm_threshold: float = 24
    """Hours."""
    warm_to_cold_threshold: float = 72
    """Hours."""
    cold_to_glacier_threshold: float = 30
    """Days; only where there is a glacier."""

    def settings(self, *, glacier: bool) -> dict[str, Any]:
        """As ``Settings(values=...)`` has it."""
        found: dict[str, Any] = {
            "hot_idle_hours": self.hot_to_warm_threshold, "warm_idle_hours": self.warm_to_cold_threshold
        }  # fmt: skip
        return found | ({"cold_to_glacier_days": self.cold_to_glacier_threshold} if glacier else {})
