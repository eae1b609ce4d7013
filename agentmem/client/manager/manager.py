"""``MemoryManager``: values in four tiers."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from agentmem.client.border import Border
from agentmem.client.manager.policies import MigrationPolicy
from agentmem.client.manager.wishes import check_tier, checked
from agentmem.client.memory import Memory
from agentmem.client.options import PageOptions
from agentmem.settings import Settings
from agentmem.types.checks import check_flag, check_number
from agentmem.types.enums import ValueTierName
from agentmem.types.errors import CapacityError, InvalidInputError, NotFoundError, shown
from agentmem.types.valueinfo import ValueInfo
from agentmem.types.valuekeys import ROOM

if TYPE_CHECKING:
    from agentmem.types.reports import RestoreReport
else:
    from agentmem.types.named import RestoreReport

_GB = 10**9
_MOST = 10**9
"""GB that a cold tier can have: more than any disk."""
_PAGE = 1_000
_UNSAID: Any = object()
_TAKEN = ("tier", "metadata", "ttl", "importance", "hold", "pickle")


class MemoryManager:
    """Stores any value by key, in four tiers: a face over ``Memory.values``, see docs/artifacts.md.

    Sizes are in GB. ``path`` is the store's folder; the archives of ``glacier_enabled`` and the snapshots lie beside it
    unless settings name another place. With ``user_id``, values are that user's. Close it, or use it with ``with``.
    """

    def __init__(
        self,
        hot_memory_size: float = 2,
        warm_memory_size: float = 8,
        cold_memory_size: float = 50,
        glacier_enabled: bool = False,
        migration_policy: MigrationPolicy | None = None,
        *,
        path: str | os.PathLike[str] = "memories",
        user_id: str | None = None,
        values: Mapping[str, Any] | None = None,
        glacier: Mapping[str, Any] | None = None,
        embedder: Any = None,
    ) -> None:
        """``values`` and ``glacier`` are settings of those names, which go before the sizes and the policy."""
        folder, before = Path(path).absolute(), Settings()
        self._limit = round(check_number(cold_memory_size, "cold_memory_size", 0, _MOST) * _GB)
        policy = migration_policy or MigrationPolicy()
        if not isinstance(cast("object", policy), MigrationPolicy):
            raise InvalidInputError(
                f"migration_policy must be a MigrationPolicy, not {shown(policy)}", field="migration_policy"
            )
        more: dict[str, Any] = {}
        if check_flag(glacier_enabled, "glacier_enabled") or glacier:
            more["glacier"] = {"url": before.glacier.url or str(folder.with_name(f"{folder.name}-glacier"))}
            more["glacier"] |= dict(glacier or {})
        if before.backup.url is None:
            more["backup"] = {"url": str(folder.with_name(f"{folder.name}-snapshots"))}
        sizes = {"hot_size_gb": hot_memory_size, "warm_size_gb": warm_memory_size}
        chosen = sizes | policy.settings(glacier="glacier" in more) | dict(values or {})
        self._glacier = "glacier" in more
        self._user = user_id
        self._taken, self._measured_until = 0, 0.0
        self.memory = Memory(path, settings=Settings(values=chosen, **more), embedder=embedder)
        """The memory underneath, which can do more."""

    def __enter__(self) -> MemoryManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cleanup()

    # -- values --------------------------------------------------------------------------------------------------------

    def store(
        self,
        key: Any,
        value: Any = _UNSAID,
        tier: ValueTierName | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        ttl: Any = None,
        importance: float | None = None,
        hold: bool = False,
        pickle: bool = False,
    ) -> str:
        """Store a value under a key, which is returned; of a value alone one that is made up.

        ``tier`` is where it begins. Raises as ``Memory.values.put`` does, and ``CapacityError`` where the cold tier is
        full and there is no glacier.
        """
        if value is _UNSAID:
            key, value = secrets.token_hex(16), key
        self._make_room(_size(value))
        info = self.memory.values.put(
            key, value, user_id=self._user, metadata=metadata, tier=tier, ttl=ttl, importance=importance, hold=hold,
            pickle=pickle,
        )  # fmt: skip
        return info.key

    def batch_store(self, items: Iterable[Mapping[str, Any]], tier: ValueTierName | None = None) -> list[str]:
        """Store several, each a mapping with ``key``, ``value`` and what ``store`` takes besides; their keys.

        Those with nothing besides come in one transaction, all or none.
        """
        listed = checked(items, _TAKEN)
        if any(item.keys() - {"key", "value"} for item in listed):
            wanted: dict[str, Any] = {"tier": tier}
            return [self.store(**{**wanted, **item}) for item in listed]
        self._make_room(sum(_size(item["value"]) for item in listed))
        values = {item["key"]: item["value"] for item in listed}
        return [info.key for info in self.memory.values.put_many(values, user_id=self._user, tier=tier)]

    def retrieve(
        self,
        key: str | Mapping[str, Any],
        default: Any = None,
        *,
        partial: bool = False,
        start: int | None = None,
        end: int | None = None,
        pickle: bool = False,
    ) -> Any:
        """The value of a key, or ``default``; of a filter on metadata, all that meet it, by key.

        With ``partial`` the bytes or rows from ``start`` to ``end``.
        """
        if isinstance(key, Mapping):
            return self._values(self._all(key), pickle=pickle)
        if not partial and (start is not None or end is not None):
            raise InvalidInputError("start and end are for partial=True", field="partial")
        return self.memory.values.get(key, default, start=start, end=end, user_id=self._user, pickle=pickle)

    def retrieve_all(self, tier: ValueTierName | None = None, *, pickle: bool = False) -> dict[str, Any]:
        """All values, or those of a tier, by key: at once in memory."""
        check_tier(tier)
        return self._values((info for info in self.list() if tier in (None, info.tier)), pickle=pickle)

    def exists(self, key: str) -> bool:
        """Whether there is a value."""
        return self.memory.values.exists(key, user_id=self._user)

    def delete(self, key: str) -> bool:
        """Hide a value, which ``memory.restore`` brings back; False if there was none."""
        return self.memory.values.delete(key, user_id=self._user)

    def list(self, prefix: str = "") -> Iterable[ValueInfo]:
        """What there is, by key."""
        after = None
        while True:
            page = self.memory.values.list(prefix, user_id=self._user, limit=_PAGE, after=after)
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].key

    def query(self, metadata_filter: Mapping[str, Any], limit: int = 100) -> list[ValueInfo]:
        """The values whose metadata meet a filter, the newest first, without what they are."""
        return self.memory.values.query(metadata_filter, user_id=self._user, limit=limit)

    def move(self, key: str, tier: ValueTierName | None, *, hold: bool = False) -> ValueInfo:
        """Have a value lie in another tier; see ``Memory.values.move``."""
        return self.memory.values.move(key, tier, user_id=self._user, hold=hold)

    # -- all of it -----------------------------------------------------------------------------------------------------

    def create_snapshot(self, description: str | None = None) -> str:
        """Keep everything as it is now under an id; see ``Memory.create_snapshot``."""
        return self.memory.create_snapshot(description)

    def restore_snapshot(self, snapshot_id: str) -> RestoreReport:
        """Make everything what it was then, without what was erased since: ``RestoreReport.erased`` counts that."""
        return self.memory.restore_snapshot(snapshot_id)

    def get_metrics(self) -> dict[str, dict[str, Any]]:
        """Of each tier how many values and bytes it has, ``usage_percent`` of its size, and how often it was read."""
        found = dict[str, dict[str, Any]]()
        for name, tier in self.memory.values.tiers().items():
            size = self._limit if name == "cold" else tier.budget
            percent = None if size is None else round(100 * tier.bytes / size, 2) if size else 0.0
            found[name] = {**tier.to_dict(), "budget": size, "usage_percent": percent}
        return found

    def compress(self, key: str | None = None, tier: ValueTierName = "cold", compression_level: int = 9) -> int:
        """Pack a value, or all that lie on the disk, by zstd; by how many bytes they take less.

        Raises ``InvalidInputError`` for other tiers: what is hot and warm is unpacked, so that it can be read at once,
        and archives are written once.
        """
        if tier != "cold":
            raise InvalidInputError(
                f"tier={tier!r} cannot be compressed: hot and warm values are held unpacked, to be read at once, and "
                "archives are written once, of packed chunks; compress the cold tier",
                field="tier",
            )
        keys = [info.key for info in self.list() if info.tier != "glacier"] if key is None else [key]
        values = self.memory.values
        return sum(values.compress(each, level=compression_level, user_id=self._user) for each in keys)

    def migrate(self) -> None:
        """Have the policy looked at now, not only in the background."""
        self.memory.lifecycle.sweep()

    def clear(self, tier: ValueTierName | None = None, *, erase: bool = False) -> int:
        """Delete all values, or those of a tier, which a snapshot of before brings back. How many they were.

        With ``erase`` they are gone for good, and so is what was deleted before: from the disk, the archives, and
        whatever a snapshot brings back. Until then what is deleted takes its room on the disk.
        """
        check_tier(tier)
        values, for_good = self.memory.values, check_flag(erase, "erase")
        found, count = [info for info in self.list() if tier in (None, info.tier)], 0
        if not for_good:
            pages = (found[start : start + _PAGE] for start in range(0, len(found), _PAGE))
            return sum(sum(self.memory.delete_many([info.id for info in page])) for page in pages)
        for info in found:
            with suppress(NotFoundError):  # another has erased it meanwhile
                values.erase(info.key, user_id=self._user)
                count += 1
        for id in list(self._deleted()):
            with suppress(NotFoundError):
                self.memory.erase(id)
                count += 1
        return count

    def cleanup(self) -> None:
        """Release the store; what is stored stays."""
        self.memory.close()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _all(self, metadata_filter: Mapping[str, Any]) -> Iterator[ValueInfo]:
        offset = 0
        while True:
            values = self.memory.values
            page = values.query(metadata_filter, user_id=self._user, limit=_PAGE, offset=offset)
            yield from page
            if len(page) < _PAGE:
                return
            offset += len(page)

    def _deleted(self) -> Iterator[str]:
        """The ids of values that were deleted."""
        ours, cursor = Border(self.memory.handle, None, ours=True), None
        while True:
            options = PageOptions(user_id=self._user, namespace=(ROOM,), limit=_PAGE, cursor=cursor)
            page = ours.deleted(options, "deleted")
            yield from (record.id for record in page.records)
            cursor = page.cursor
            if cursor is None:
                return

    def _values(self, found: Iterable[ValueInfo], *, pickle: bool) -> dict[str, Any]:
        keys = [info.key for info in found]
        return self.memory.values.get_many(keys, user_id=self._user, pickle=pickle)

    def _make_room(self, size: int) -> None:
        """Have the cold tier keep to its size. Raises ``CapacityError``."""
        self._taken += size
        if self._taken <= self._limit and monotonic() < self._measured_until:
            return  # to measure takes longer the more there is, and is not for each of many small values
        began = monotonic()
        self._taken = self.memory.values.usage().stored + size
        self._measured_until = monotonic() + max(1.0, 20 * (monotonic() - began))
        if self._taken <= self._limit:
            return
        if self._glacier:
            for info in sorted(self.list(), key=lambda info: info.updated_at):
                if info.tier != "glacier" and info.expires_at is None:
                    self.move(info.key, "glacier")
                    if (taken := self.memory.values.usage().stored + size) <= self._limit:
                        self._taken = taken
                        return
        used = self.memory.values.usage().stored
        raise CapacityError(
            f"the cold tier has {self._limit / _GB:g} GB, of which {used / _GB:.3f} are taken, and this takes "
            f"{size / _GB:.3f}: raise its size, enable the glacier, or erase something, as clear(erase=True) does: "
            "what was only deleted can come back, and takes its room"
        )


def _size(value: Any) -> int:
    """About the bytes that a value takes, as far as it tells."""
    if isinstance(value, Path):
        return value.stat().st_size if value.is_file() else 0
    if isinstance(value, (bytes, bytearray, str)):
        return len(value)
    size: object = getattr(value, "nbytes", 0)
    return size if isinstance(size, int) else 0
