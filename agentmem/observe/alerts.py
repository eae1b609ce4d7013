"""What is compared with what: the thresholds of a store's health, as pure functions of its figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum

from agentmem.types.errors import InvalidInputError
from agentmem.types.plain import Plain
from agentmem.types.reports import Health, Kpis


class Level(StrEnum):
    """How bad something is."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"


FEWEST = 20
"""Searches, or commits, that a percentile takes; of fewer, such as the first that loads the model, nothing is said."""
_ORDER = list(Level)


@dataclass(frozen=True)
class Threshold:
    """From which value on something is a warning, and from which it is critical; None: never."""

    warning: float | None
    critical: float | None

    def __post_init__(self) -> None:
        given = [one for one in (self.warning, self.critical) if one is not None]
        if any(not one > 0 for one in given) or sorted(given) != given:
            raise InvalidInputError(
                f"a threshold needs numbers above 0, the warning below what is critical; not {self}", field="thresholds"
            )

    def level(self, value: float, before: Level = Level.OK, slack: float = 0.0) -> Level:
        """Where a value is. A level that it has reached is left ``slack``, a share of the threshold, below that."""
        found = Level.OK
        for level, threshold in ((Level.WARNING, self.warning), (Level.CRITICAL, self.critical)):
            if threshold is not None:
                reached = _ORDER.index(before) >= _ORDER.index(level)
                if value >= (threshold * (1 - slack) if reached else threshold):
                    found = level
        return found


@dataclass(frozen=True)
class Thresholds:
    """What a store's figures are compared with. Each is a ``Threshold`` of its own."""

    usage_percent: Threshold = Threshold(60, 85)
    """How full the fullest layer is; from 60 % on a store makes room by itself, from 85 % on it evicts."""
    search_ms: Threshold = Threshold(100, 500)
    """What 95 of 100 searches take at most."""
    commit_ms: Threshold = Threshold(100, 1_000)
    """What 95 of 100 transactions take at most to be on the disk: everybody who writes waits for it."""
    error_percent: Threshold = Threshold(1, 5)
    """Calls that fail, of the last five minutes."""
    fallback_percent: Threshold = Threshold(5, 50)
    """Searches that a failed graph or graphics card left to codes."""
    fragmentation_percent: Threshold = Threshold(30, 60)
    """Free pages of the database; of more than 25 % some are given back by the store, where it can."""
    backup_age_s: Threshold = Threshold(3_600, 86_400)
    """Since the last backup, where changes wait for one and backups are made by themselves."""
    vectors_behind: Threshold = Threshold(20_000, 200_000)
    """Changes that LanceDB has yet to receive. Searches find them all the same, more slowly."""


@dataclass(frozen=True)
class Alert(Plain):
    """Something is not as it should be, or is so again (``level`` is then ``ok``)."""

    name: str
    """What: ``usage``, ``search``, ``commit``, ``errors``, ``fallbacks``, ``fragmentation``, ``backup_age``,
    ``follower_lag``, or ``vectors``, ``lifecycle``, ``backup``, ``proof``, ``writes``, ``store`` where the background
    work, what is written, or all of it, fails."""
    level: Level
    value: float | None
    """What was measured; None where it works or does not."""
    message: str
    """In words: what it is, and what to do."""
    at: datetime
    store: str
    """The store's folder."""


@dataclass(frozen=True)
class Reading:
    """One thing that was looked at: its level, the value behind it, and what to say."""

    name: str
    level: Level
    value: float | None
    message: str


def read(
    kpis: Kpis | None, health: Health, thresholds: Thresholds, before: Callable[[str], Level], slack: float
) -> list[Reading]:
    """Everything that can be looked at. ``before`` says which level something was at."""
    found = [
        _broken("store", health.store_error, "Open the store again; see docs/reliability.md.", critical=True),
        _broken("writes", health.last_write_error, "Look at the disk and its space; it is tried again.", critical=True),
        _broken("vectors", health.last_vector_error, "Searches go on, more slowly; look at the disk and its space."),
        _broken("lifecycle", health.last_sweep_error, "Nothing is promoted or expires until it works again."),
    ]
    backup = health.backup
    if backup is not None:
        found.append(_broken("backup", backup.last_error, "Look at the place of backups and its credentials."))
        found.append(
            _broken(
                "proof", backup.proof_error, "The newest backup cannot be relied on; make a full one.", critical=True
            )
        )
        age = backup.age_s if backup.behind and backup.age_s is not None else 0.0
        found.append(
            _compared(
                "backup_age", age, thresholds.backup_age_s, before, slack, f"The last backup is {age:,.0f} s old."
            )
        )
    behind = float(health.vectors_behind)
    found.append(
        _compared(
            "follower_lag",
            behind,
            thresholds.vectors_behind,
            before,
            slack,
            f"LanceDB is {behind:,.0f} changes behind.",
        )
    )
    if kpis is None:
        return found
    searches, commits = (
        found.p95 if found.p95 is not None and found.calls >= FEWEST else 0.0
        for found in (kpis.search_latency, kpis.commit_latency)
    )
    return [
        *found,
        _compared(
            "usage", kpis.usage_percent, thresholds.usage_percent, before, slack,
            f"The fullest layer is {kpis.usage_percent:.0f} % full; raise its max_size_mb, or delete from it.",
        ),
        _compared(
            "search", searches, thresholds.search_ms, before, slack,
            f"95 of 100 searches take up to {searches:.0f} ms.",
        ),
        _compared(
            "commit", commits, thresholds.commit_ms, before, slack,
            f"95 of 100 commits take up to {commits:.0f} ms; look at the disk, and who else uses it.",
        ),
        _compared(
            "errors", 100 * kpis.error_rate, thresholds.error_percent, before, slack,
            f"{100 * kpis.error_rate:.1f} % of the calls fail; the errors say why.",
        ),
        _compared(
            "fallbacks", 100 * kpis.fallback_rate, thresholds.fallback_percent, before, slack,
            f"{100 * kpis.fallback_rate:.0f} % of the searches fell back to codes: {health.last_engine_error}",
        ),
        _compared(
            "fragmentation", kpis.fragmentation_percent, thresholds.fragmentation_percent, before, slack,
            f"{kpis.fragmentation_percent:.0f} % of the database is free pages; `agentmem compact` gives them back.",
        ),
    ]  # fmt: skip


def _compared(
    name: str, value: float, threshold: Threshold, before: Callable[[str], Level], slack: float, message: str
) -> Reading:
    return Reading(name, threshold.level(value, before(name), slack), value, message)


def _broken(name: str, error: str | None, advice: str, *, critical: bool = False) -> Reading:
    level = Level.OK if error is None else Level.CRITICAL if critical else Level.WARNING
    return Reading(name, level, None, f"{error}. {advice}" if error else "works")


def check_thresholds(given: Thresholds) -> None:
    """Refuse what is none: ``InvalidInputError``."""
    for one in fields(given):
        if not isinstance(getattr(given, one.name), Threshold):
            raise InvalidInputError(f"thresholds.{one.name} must be a Threshold(warning, critical)", field="thresholds")
