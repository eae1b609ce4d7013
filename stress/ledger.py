"""What a store was told, kept beside it, and the comparison of the two at the end."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentmem import ALL, Memory, MemoryRecord


class Ledger:
    """Every acknowledged change: the owner and a hash of the text, by id. Safe to share between threads.

    No tuples: a million of them would have the garbage collector stop what is measured for longer and longer, while
    dictionaries of strings and numbers are nothing to it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.users: dict[str, str | None] = {}
        self.texts: dict[str, int] = {}
        self.deleted: set[str] = set()
        self.unsure: set[tuple[str | None, int]] = set()

    def added(self, user: str | None, text: str, id: str) -> None:
        with self._lock:
            self.users[id] = user
            self.texts[id] = hash(text)

    def changed(self, text: str, id: str) -> None:
        """The record has another text now."""
        with self._lock:
            self.texts[id] = hash(text)

    def removed(self, id: str) -> None:
        with self._lock:
            del self.users[id], self.texts[id]
            self.deleted.add(id)

    def failed(self, user: str | None, text: str) -> None:
        """The call raised: the record may be there or not."""
        with self._lock:
            self.unsure.add((user, hash(text)))


@dataclass
class Checks:
    """How a store differs from its ledger. Every count must be 0."""

    lost: int = 0
    duplicated: int = 0
    cross_scope: int = 0
    altered: int = 0
    unexpected: int = 0
    ghosts: int = 0
    short: int = 0
    stale: int = 0
    records: int = 0
    vectors: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        wrong = (
            self.lost, self.duplicated, self.cross_scope, self.altered, self.unexpected,
            self.ghosts, self.short, self.stale,
        )  # fmt: skip
        return not any(wrong) and not self.problems

    def compare(self, expected: Mapping[str, object], found: Mapping[str, object]) -> None:
        """Count what differs between what was acknowledged and what is there, both by id."""
        self.records = len(found)
        self.lost = len(expected.keys() - found.keys())
        self.unexpected = len(found.keys() - expected.keys())
        self.altered = sum(found[id] != one for id, one in expected.items() if id in found)

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "ok": self.ok}

    def merge(self, other: Checks) -> None:
        """Add another store's or reader's findings to these."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def check(memory: Memory, ledger: Ledger) -> Checks:
    """Read everything back and compare it with the ledger; let the store compare itself as well.

    lost: acknowledged, not there. duplicated: a text or an id is there more often than it was acknowledged.
    cross_scope: somebody else's. altered: another text. unexpected: never added. ghosts: deleted, still there.
    """
    checks = Checks()
    memory.flush()
    seen = set[str]()
    for record in memory.iterate(user_id=ALL, order="oldest"):
        checks.records += 1
        if record.id in seen:
            checks.duplicated += 1
        elif record.id not in ledger.users:
            _stray(checks, ledger, record)
        elif ledger.users[record.id] != record.user_id:
            checks.cross_scope += 1
        elif ledger.texts[record.id] != hash(record.content):
            checks.altered += 1
        seen.add(record.id)
    checks.lost = len(ledger.users.keys() - seen)
    report = memory.verify()
    checks.vectors = report.counts["lancedb"]
    checks.problems += report.problems
    if report.ok and report.counts["records"] != checks.records:
        checks.problems.append(f"verify() counts {report.counts['records']} records, {checks.records} were read")
    return checks


def _stray(checks: Checks, ledger: Ledger, record: MemoryRecord) -> None:
    """A record whose id the ledger does not have as live."""
    owned = (record.user_id, hash(record.content))
    if record.id in ledger.deleted:
        checks.ghosts += 1
    elif owned in ledger.unsure:
        ledger.unsure.discard(owned)
    elif any(ledger.texts[id] == owned[1] for id, user in ledger.users.items() if user == owned[0]):
        checks.duplicated += 1
    else:
        checks.unexpected += 1
