"""One tier each, for programs that use them apart: what is stored by one begins there, and is held there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from agentmem.client.manager import wishes
from agentmem.client.manager.manager import MemoryManager
from agentmem.types.enums import ValueTierName
from agentmem.types.errors import CapacityError, InvalidInputError, NotFoundError
from agentmem.types.valueinfo import ValueInfo

if TYPE_CHECKING:
    from agentmem.types.reports import RestoreReport
else:
    from agentmem.types.named import RestoreReport

_MB = 10**6


class _View:
    """What all of them can do. ``manager`` is what does it."""

    tier: ValueTierName
    manager: MemoryManager
    pickled = False

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.cleanup()

    def store(self, key: Any, *value: Any, metadata: Mapping[str, Any] | None = None, ttl: Any = None) -> str:
        """Store a value under a key, which is returned; of a value alone one that is made up."""
        if len(value) > 1:
            raise InvalidInputError("store() takes a key and a value, or a value alone", field="value")
        given = (self._ready(key),) if not value else (key, self._ready(value[0]))
        return self.manager.store(
            *given, tier=self.tier, metadata=metadata, ttl=ttl, hold=self.tier != "glacier",
            pickle=self.pickled and not _is_plain(given[-1]),
        )  # fmt: skip

    def batch_store(self, items: Iterable[Mapping[str, Any]]) -> list[str]:
        """Store several, each a mapping with ``key`` and ``value``, and maybe ``metadata`` and ``ttl``."""
        listed = wishes.checked(items, ("metadata", "ttl"))
        if not self.pickled and not any(item.keys() - {"key", "value"} for item in listed):
            ready = [{"key": item["key"], "value": self._ready(item["value"])} for item in listed]
            return self.manager.batch_store(ready, tier=self.tier)
        return [
            self.store(item["key"], item["value"], metadata=item.get("metadata"), ttl=item.get("ttl"))
            for item in listed
        ]

    def retrieve(
        self,
        key: str | Mapping[str, Any],
        *,
        partial: bool = False,
        start: int | None = None,
        end: int | None = None,
    ) -> Any:
        """The value of a key, None where there is none; of a filter on metadata, all that meet it, by key."""
        return self.manager.retrieve(key, partial=partial, start=start, end=end, pickle=self.pickled)

    def retrieve_all(self) -> dict[str, Any]:
        """All that lie in this tier, by key."""
        return self.manager.retrieve_all(self.tier, pickle=self.pickled)

    def exists(self, key: str) -> bool:
        """Whether there is a value."""
        return self.manager.exists(key)

    def delete(self, key: str) -> bool:
        """Hide a value; False if there was none."""
        return self.manager.delete(key)

    def query(self, metadata_filter: Mapping[str, Any]) -> list[ValueInfo]:
        """The values whose metadata meet a filter."""
        return self.manager.query(metadata_filter)

    def create_snapshot(self, description: str | None = None) -> str:
        """Keep everything as it is now under an id."""
        return self.manager.create_snapshot(description)

    def restore_snapshot(self, snapshot_id: str) -> RestoreReport:
        """Make everything what it was then, without what was erased since: ``RestoreReport.erased`` counts that."""
        return self.manager.restore_snapshot(snapshot_id)

    def get_metrics(self) -> dict[str, Any]:
        """How many values and bytes the tier has, ``usage_percent`` of its size, and how often it was read."""
        return self.manager.get_metrics()[self.tier]

    def clear(self, *, erase: bool = False) -> int:
        """Delete all that lie in this tier, which a snapshot of before brings back; with ``erase`` for good, and with
        it what was deleted before. How many they were."""
        return self.manager.clear(self.tier, erase=erase)

    def cleanup(self) -> None:
        """Release the store; what is stored stays."""
        self.manager.cleanup()

    def _ready(self, value: Any) -> Any:
        return value


class HotMemory(_View):
    """Arrays on a graphics card, where there is one; else in memory, which ``get_metrics()["fallbacks"]`` counts."""

    tier = "hot"

    def __init__(
        self,
        size_gb: float = 2,
        device: str = "auto",
        precision: str | None = None,
        garbage_collection_threshold: float = 0.8,
        *,
        path: str | os.PathLike[str] = "hot_memory",
        embedder: Any = None,
    ) -> None:
        """``precision`` is what arrays of floats are converted to when they are stored; None: they stay as they are."""
        self._precision = wishes.precision(precision)
        values = {"device": device, "hot_gc_threshold": garbage_collection_threshold}
        self.manager = MemoryManager(size_gb, 0, path=path, values=values, embedder=embedder)

    def optimize_layout(self, key: str) -> ValueInfo:
        """Have the rows of an array lie one after the other, so that parts of it can be read alone; what it is then.

        Raises ``NotFoundError``, and ``InvalidInputError`` for what is no array.
        """
        info = self.manager.memory.values.info(key)
        if info is None:
            raise NotFoundError(f"there is no value with the key {key!r} here")
        if info.kind != "array":
            raise InvalidInputError(f"the value {key!r} is no array, but of the kind {info.kind!r}", field="key")
        array: Any = self.manager.retrieve(key)
        if isinstance(array, np.ndarray) and not array.flags.c_contiguous:
            self.manager.store(
                key, np.ascontiguousarray(cast("Any", array)), tier="hot", metadata=info.metadata, hold=True
            )
        return self.manager.move(key, "hot", hold=True)

    def _ready(self, value: Any) -> Any:
        array: Any = value
        return array.astype(self._precision) if self._precision and _has_floats(value) else value


class WarmMemory(_View):
    """Values in memory, ready to be read, besides the disk."""

    tier = "warm"

    def __init__(
        self,
        size_gb: float = 8,
        serialization_format: str | None = None,
        compression: str | None = None,
        shared_memory: bool = False,
        *,
        path: str | os.PathLike[str] = "warm_memory",
        embedder: Any = None,
    ) -> None:
        """``compression`` is that on the disk; in memory nothing is packed."""
        wishes.no_shared_memory(shared_memory)
        self.pickled = wishes.serialization(serialization_format)
        self._size = size_gb * 1_000 * _MB
        self._pools = dict[str, tuple[float, dict[str, int]]]()
        values = wishes.compression(compression)
        self.manager = MemoryManager(0, size_gb, path=path, values=values, embedder=embedder)

    def allocate_pool(self, name: str, size_mb: float) -> None:
        """Set a part of the memory aside for what is stored with ``pool=name``, of this object's doing.

        Raises ``CapacityError`` where there is not so much left.
        """
        others = sum(size for other, (size, _) in self._pools.items() if other != name)
        if others + size_mb * _MB > self._size:
            raise CapacityError(
                f"a pool of {size_mb:g} MB finds no room: {self._size / _MB:g} MB are for warm values, and pools have "
                f"{others / _MB:g} of them"
            )
        self._pools[name] = (size_mb * _MB, self._pools.get(name, (0, {}))[1])

    def store(
        self,
        key: Any,
        *value: Any,
        metadata: Mapping[str, Any] | None = None,
        ttl: Any = None,
        pool: str | None = None,
    ) -> str:
        """Store a value, in a pool if one is named, which is then not to grow beyond its size.

        Raises ``CapacityError`` where it does; the value is stored then, and lies on the disk.
        """
        if pool is not None and pool not in self._pools:
            raise InvalidInputError(f"there is no pool {pool!r}; allocate_pool() makes one", field="pool")
        made = super().store(key, *value, metadata=metadata, ttl=ttl)
        self._let_go()
        for _, members in self._pools.values():
            members.pop(made, None)
        if pool is not None:
            size, members = self._pools[pool]
            info = self.manager.memory.values.info(made)
            members[made] = 0 if info is None else info.size
            if sum(members.values()) > size:
                del members[made]
                self.manager.move(made, "cold", hold=True)
                raise CapacityError(f"the pool {pool!r} of {size / _MB:g} MB is full: {made!r} was left on the disk")
        return made

    def _let_go(self) -> None:
        """Have pools no longer count what was deleted, erased, or has expired."""
        for _, members in self._pools.values():
            for key in [key for key in members if not self.exists(key)]:
                del members[key]

    def get_metrics(self) -> dict[str, Any]:
        """The same, with ``pools``: the bytes of each, and those that are taken."""
        self._let_go()
        pools = {name: {"size": round(size), "used": sum(held.values())} for name, (size, held) in self._pools.items()}
        return {**super().get_metrics(), "pools": pools}


class ColdMemory(_View):
    """Values on the disk, packed; a part of one can be read without the rest."""

    tier = "cold"

    def __init__(
        self,
        size_gb: float = 50,
        storage_path: str | os.PathLike[str] = "cold_storage",
        file_format: str | None = None,
        compression: str | None = None,
        index_in_memory: bool = True,
        *,
        embedder: Any = None,
    ) -> None:
        """``index_in_memory`` makes no difference: keys and metadata are indexed in the database, of which memory keeps
        what is used."""
        wishes.no_file_format(file_format)
        values = wishes.compression(compression)
        self.manager = MemoryManager(0, 0, size_gb, path=storage_path, values=values, embedder=embedder)

    def compress(self, key: str, compression_level: int = 9) -> int:
        """Pack a value harder; by how many bytes it takes less."""
        return self.manager.compress(key, compression_level=compression_level)


class GlacierMemory(_View):
    """Values in a folder or bucket outside of the store, in which a stub of each stays."""

    tier = "glacier"

    def __init__(
        self,
        provider: str = "local",
        config: Mapping[str, Any] | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        embedder: Any = None,
        **more: Any,
    ) -> None:
        """``path`` is the store of the stubs, by default a folder beside ``storage_path``."""
        glacier = wishes.glacier(provider, {**(config or {}), **more})
        if path is None:
            path = Path("glacier_memory") if "://" in glacier["url"] else Path(f"{glacier['url']}-stubs")
        self.manager = MemoryManager(0, 0, path=path, glacier=glacier, embedder=embedder)


def _has_floats(value: Any) -> bool:
    return isinstance(value, np.ndarray) and np.issubdtype(cast("Any", value).dtype, np.floating)


def _is_plain(value: Any) -> bool:
    """Whether a value needs no pickling: it is one of the kinds that values have."""
    if value is None or isinstance(value, (str, bytes, bytearray, memoryview, bool, int, float, os.PathLike)):
        return True
    return any(hasattr(value, name) for name in ("__dlpack__", "read", "__next__", "__arrow_c_stream__", "__array__"))
