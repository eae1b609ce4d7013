"""``MemoryManager`` and its tiers: every line of usage that programs of that style have, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import HashEmbedder

from agentmem import (
    CapacityError,
    ColdMemory,
    GlacierMemory,
    HotMemory,
    InvalidInputError,
    MemoryManager,
    MigrationPolicy,
    NotFoundError,
    WarmMemory,
)

MB = 1_048_576
HOT = {"size_gb": 2, "device": "auto", "precision": "float16", "garbage_collection_threshold": 0.8}
WARM = {"size_gb": 8, "serialization_format": "pickle", "compression": "lz4", "shared_memory": False}
COLD = {"size_gb": 50, "storage_path": "./cold_storage", "compression": "zstd", "index_in_memory": True}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def small(make: Any, *args: Any, **options: Any) -> Any:
    return make(*args, embedder=HashEmbedder(), **options)


def test_basic_usage() -> None:
    location_data = {"name": "San Francisco", "at": [37.77, -122.42]}
    memory_manager = small(
        MemoryManager, hot_memory_size=2, warm_memory_size=8, cold_memory_size=50, glacier_enabled=True
    )
    memory_manager.store(key="location_data", value=location_data, tier="warm")
    data = memory_manager.retrieve("location_data")
    assert data == location_data
    assert memory_manager.get_metrics()["warm"]["values"] == 1
    assert memory_manager.exists("location_data")
    assert memory_manager.delete("location_data")
    assert not memory_manager.exists("location_data")
    assert memory_manager.retrieve("location_data") is None
    for tier in ("hot", "warm", "cold", "glacier"):
        memory_manager.store(key=tier, value=np.arange(10), tier=tier)
    assert {info.key: info.tier for info in memory_manager.list()} == {t: t for t in ("hot", "warm", "cold", "glacier")}
    for tier in ("hot", "warm", "cold", "glacier"):
        assert memory_manager.retrieve(tier).tolist() == list(range(10))
    memory_manager.cleanup()


def test_advanced_usage() -> None:
    imagery_data = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    migration_policy = MigrationPolicy(
        hot_to_warm_threshold=24, warm_to_cold_threshold=72, cold_to_glacier_threshold=30
    )
    memory_manager = small(
        MemoryManager,
        hot_memory_size=4,
        warm_memory_size=16,
        cold_memory_size=100,
        glacier_enabled=True,
        migration_policy=migration_policy,
    )
    settings = memory_manager.memory.handle.settings.values
    assert (settings.hot_idle_hours, settings.warm_idle_hours, settings.cold_to_glacier_days) == (24, 72, 30)
    memory_manager.store(
        key="satellite_imagery",
        value=imagery_data,
        metadata={"location": "San Francisco", "date": "2025-02-15", "source": "sentinel-2"},
    )
    memory_manager.store("older", b"x", metadata={"location": "San Francisco", "date": "2024-12-31"})
    results = memory_manager.query(metadata_filter={"location": "San Francisco", "date": {"$gte": "2025-01-01"}})
    assert [info.key for info in results] == ["satellite_imagery"]
    [(key, value)] = memory_manager.retrieve({"source": "sentinel-2"}).items()
    assert key == "satellite_imagery"
    np.testing.assert_array_equal(value, imagery_data)
    snapshot_id = memory_manager.create_snapshot(description="Pre-processing state")
    memory_manager.store("satellite_imagery", b"processed")
    memory_manager.restore_snapshot(snapshot_id)
    np.testing.assert_array_equal(memory_manager.retrieve("satellite_imagery"), imagery_data)
    metrics = memory_manager.get_metrics()
    for tier in ("hot", "warm", "cold"):
        assert 0 <= metrics[tier]["usage_percent"] < 1
    memory_manager.store("words", "words " * 100_000, tier="cold")
    before = memory_manager.get_metrics()["cold"]["bytes"]
    saved = memory_manager.compress(tier="cold", compression_level=19)
    assert saved > 0
    assert memory_manager.get_metrics()["cold"]["bytes"] == before - saved
    assert memory_manager.retrieve("words") == "words " * 100_000
    assert memory_manager.memory.verify().problems == []
    memory_manager.migrate()
    assert len(memory_manager.retrieve_all()) == 3
    assert memory_manager.clear() == 3
    assert memory_manager.retrieve_all() == {}
    memory_manager.cleanup()


def test_hot_memory() -> None:
    model_weights_tensor = np.asfortranarray(np.random.default_rng(0).random((40, 30)))
    hot_memory = small(HotMemory, size_gb=2)
    hot_memory.store("model_weights", model_weights_tensor)
    weights = hot_memory.retrieve("model_weights")
    np.testing.assert_array_equal(weights, model_weights_tensor)
    assert weights.flags.f_contiguous
    hot_memory.optimize_layout("model_weights")
    assert hot_memory.retrieve("model_weights").flags.c_contiguous
    np.testing.assert_array_equal(hot_memory.retrieve("model_weights"), model_weights_tensor)
    assert hot_memory.create_snapshot("weights_snapshot")
    assert hot_memory.get_metrics()["values"] == 1
    assert list(hot_memory.retrieve_all()) == ["model_weights"]
    hot_memory.store("text", "no array")
    with pytest.raises(InvalidInputError, match="no array"):
        hot_memory.optimize_layout("text")
    with pytest.raises(NotFoundError):
        hot_memory.optimize_layout("none")
    hot_memory.cleanup()
    with small(HotMemory, path="halves", **HOT) as halves:
        halves.store("w", np.arange(3.0))
        assert halves.retrieve("w").dtype == np.float16


def test_warm_memory() -> None:
    vector_data = {"ids": [1, 2], "vectors": [[0.1, 0.2], [0.3, 0.4]]}
    warm_memory = small(WarmMemory, size_gb=8)
    warm_memory.store("vector_data", vector_data)
    data = warm_memory.retrieve("vector_data")
    assert data == vector_data
    warm_memory.allocate_pool("frequent_access", size_mb=500)
    warm_memory.store("in the pool", bytes(MB), pool="frequent_access")
    metrics = warm_memory.get_metrics()
    assert metrics["values"] == 2
    assert metrics["pools"] == {"frequent_access": {"size": 500_000_000, "used": MB}}
    warm_memory.allocate_pool("small", size_mb=1)
    with pytest.raises(CapacityError, match="left on the disk"):
        warm_memory.store("too large", bytes(2 * MB), pool="small")
    assert warm_memory.retrieve("too large") == bytes(2 * MB)
    with pytest.raises(CapacityError, match="finds no room"):
        warm_memory.allocate_pool("all", size_mb=8_000)
    with pytest.raises(InvalidInputError, match="no pool"):
        warm_memory.store("k", 1, pool="none")
    warm_memory.cleanup()
    with small(WarmMemory, path="pickled", **WARM) as pickled:
        pickled.store("set", {1, 2})
        pickled.store("plain", [1, 2])
        assert (pickled.retrieve("set"), pickled.retrieve("plain")) == ({1, 2}, [1, 2])
        assert pickled.retrieve_all() == {"set": {1, 2}, "plain": [1, 2]}


def test_pools_have_what_is_there() -> None:
    with small(WarmMemory, size_gb=0.01) as warm:
        warm.allocate_pool("one", size_mb=1)
        warm.allocate_pool("two", size_mb=1)
        warm.store("a", bytes(900_000), pool="one")
        warm.delete("a")
        warm.store("b", bytes(800_000), pool="one")
        warm.clear()
        warm.store("c", bytes(700_000), pool="one")
        warm.store("c", bytes(600_000), pool="two")
        assert {name: pool["used"] for name, pool in warm.get_metrics()["pools"].items()} == {"one": 0, "two": 600_000}
        warm.store("c", b"elsewhere")
        assert warm.get_metrics()["pools"]["two"]["used"] == 0


def test_cold_memory(here: Path) -> None:
    historical_data = pa.table({"n": list(range(100_000))})
    cold_memory = small(ColdMemory, size_gb=50, storage_path="./cold_storage")
    cold_memory.store("historical_data", historical_data)
    data = cold_memory.retrieve("historical_data")
    assert data.equals(historical_data)
    header = cold_memory.retrieve("historical_data", partial=True, start=0, end=1000)
    assert header.equals(historical_data.slice(0, 1000))
    assert cold_memory.compress("historical_data") >= 0
    assert cold_memory.retrieve("historical_data").equals(historical_data)
    assert cold_memory.get_metrics()["usage_percent"] < 1
    assert (here / "cold_storage").is_dir()
    cold_memory.cleanup()
    with small(ColdMemory, **COLD) as again:
        assert again.retrieve("historical_data").equals(historical_data)
    with small(ColdMemory, size_gb=0.001, storage_path="little") as little:
        little.store("k", np.random.default_rng(0).bytes(900_000))
        with pytest.raises(CapacityError, match=r"the cold tier has 0\.001 GB"):
            little.store("more", bytes(200_000))
        assert list(little.retrieve_all()) == ["k"]


def test_glacier_memory(here: Path) -> None:
    archive_data, archive_1, archive_2, archive_3 = (np.random.default_rng(n).bytes(200_000) for n in range(4))
    glacier_memory = small(GlacierMemory, provider="local", config={"storage_path": "./glacier_storage"})
    glacier_memory.store("archive_2024", archive_data)
    data = glacier_memory.retrieve("archive_2024")
    assert data == archive_data
    glacier_memory.batch_store(
        [
            {"key": "archive_1", "value": archive_1},
            {"key": "archive_2", "value": archive_2},
            {"key": "archive_3", "value": archive_3},
        ]
    )
    assert glacier_memory.retrieve("archive_3") == archive_3
    assert glacier_memory.get_metrics()["values"] == 4
    assert glacier_memory.manager.get_metrics()["cold"]["bytes"] == 0
    assert (here / "glacier_storage").is_dir()
    assert glacier_memory.clear() == 4
    glacier_memory.cleanup()


def test_values_without_a_key() -> None:
    for make, options in ((HotMemory, {}), (WarmMemory, {}), (ColdMemory, {}), (GlacierMemory, {})):
        with small(make, **options) as tier:
            key = tier.store([1, 2, 3])
            assert tier.retrieve(key) == [1, 2, 3]
            tier.store("k", "v", metadata={"n": 1})
            assert tier.retrieve({"n": {"$gte": 1}}) == {"k": "v"}
            assert tier.retrieve_all() == {key: [1, 2, 3], "k": "v"}
            assert (tier.exists("k"), tier.delete("k"), tier.exists("k")) == (True, True, False)
            assert tier.batch_store([{"key": "a", "value": 1}, {"key": "b", "value": 2, "metadata": {"x": 1}}])
            assert tier.clear() == 3
            assert tier.retrieve_all() == {}


def test_a_filter_finds_all_that_meet_it() -> None:
    with small(MemoryManager) as manager:
        manager.memory.values.put_many({f"k{n}": n for n in range(1_203)}, metadata={"a": 1})
        assert manager.retrieve({"a": 1}) == {f"k{n}": n for n in range(1_203)}


def test_a_full_cold_tier_goes_to_the_glacier() -> None:
    with small(MemoryManager, cold_memory_size=0.001, glacier_enabled=True) as manager:
        for n in range(4):
            manager.store(f"k{n}", np.random.default_rng(n).bytes(400_000))
        tiers = {info.key: info.tier for info in manager.list()}
        assert tiers == {"k0": "glacier", "k1": "glacier", "k2": "cold", "k3": "cold"}
        assert manager.retrieve("k0") == np.random.default_rng(0).bytes(400_000)


@pytest.mark.parametrize(
    ("make", "options", "why"),
    [
        (HotMemory, {"precision": "bfloat16"}, "PyTorch"),
        (HotMemory, {"device": "tpu"}, "device"),
        (WarmMemory, {"serialization_format": "msgpack"}, "come back as they went in"),
        (WarmMemory, {"compression": "snappy"}, "zstd, lz4, none"),
        (WarmMemory, {"shared_memory": True}, "each process holds"),
        (ColdMemory, {"file_format": "parquet"}, "lie in chunks"),
        (GlacierMemory, {"provider": "tape"}, "there are local, s3, gcs, azure"),
        (GlacierMemory, {"provider": "s3"}, "name of a bucket"),
        (GlacierMemory, {"provider": "s3", "bucket": "b", "encryption": "AES256"}, "master key"),
        (GlacierMemory, {"provider": "local", "config": {"retrieval": "bulk"}}, "says nothing about a glacier"),
        (MemoryManager, {"cold_memory_size": None}, "cold_memory_size must be a number"),
        (MemoryManager, {"glacier_enabled": "no"}, "glacier_enabled must be True or False"),
        (MemoryManager, {"migration_policy": 5}, "migration_policy must be a MigrationPolicy"),
    ],
)
def test_what_cannot_be_had_says_why(make: Any, options: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        small(make, **options)


def test_calls_that_make_no_sense() -> None:
    with small(MemoryManager) as manager:
        with pytest.raises(InvalidInputError, match="cannot be compressed"):
            manager.compress(tier="hot")
        with pytest.raises(InvalidInputError, match="partial=True"):
            manager.retrieve("k", start=1)
        with pytest.raises(InvalidInputError, match=r"glacier\.url"):
            manager.store("k", 1, tier="glacier")
        for items in (["x"], [{"value": 1}], [{"key": "k"}]):
            with pytest.raises(InvalidInputError, match=r"items\[0\] must be a mapping with 'key' and 'value'"):
                manager.batch_store(items)
        with pytest.raises(
            InvalidInputError, match=r"items\[1\] says 'meta'; besides key and value there are tier, metadata"
        ):
            manager.batch_store([{"key": "k", "value": 1}, {"key": "k", "value": 1, "meta": {}}])
        for call in (manager.retrieve_all, manager.clear):
            with pytest.raises(InvalidInputError, match="tier must be one of"):
                call("ice")
        assert manager.retrieve_all() == {}
        with pytest.raises(InvalidInputError, match="level must be 1 to 19"):
            manager.memory.values.compress("k", level=20)
    with small(ColdMemory) as cold, pytest.raises(InvalidInputError, match="a key and a value"):
        cold.store(1, 2, 3)


def test_users_are_walls() -> None:
    with small(MemoryManager, user_id="ana") as manager:
        manager.store("k", "ana's")
        manager.memory.values.put("k", "ben's", user_id="ben")
        gone = manager.memory.values.put("gone", "ben's", user_id="ben").id
        manager.memory.values.delete("gone", user_id="ben")
        assert manager.retrieve_all() == {"k": "ana's"}
        assert manager.clear() == 1
        assert manager.clear(erase=True) == 1
        assert manager.memory.values.get("k", user_id="ben") == "ben's"
        assert manager.memory.restore(gone).user_id == "ben"
    with small(MemoryManager) as manager:  # nobody's, which is not everybody's
        assert manager.clear() == 0
        manager.memory.delete(gone)
        assert manager.clear(erase=True) == 0
        assert manager.memory.restore(gone).user_id == "ben"


def test_a_snapshot_brings_back_what_was_cleared() -> None:
    """As long as nobody has erased it, which is for good, and is told of."""
    with small(MemoryManager, glacier_enabled=True) as manager:
        stored = {"one": [1, 2], "two": np.random.default_rng(0).bytes(100_000), "ice": "cold " * 50_000}
        for key, value in stored.items():
            manager.store(key, value, tier="glacier" if key == "ice" else None)
        manager.memory.values.move("ice", "cold")
        snapshot = manager.create_snapshot("before")
        assert manager.clear() == 3
        assert manager.retrieve_all() == {}
        assert manager.get_metrics()["cold"]["values"] == 0
        assert manager.restore_snapshot(snapshot).erased == 0
        assert manager.retrieve_all() == stored
        assert manager.delete("one")
        assert manager.restore_snapshot(snapshot).erased == 0
        assert manager.retrieve_all() == stored
        assert manager.memory.values.erase("one").erased == 1
        assert manager.restore_snapshot(snapshot).erased == 1
        assert manager.retrieve_all() == {key: value for key, value in stored.items() if key != "one"}
        assert manager.clear(erase=True) == 2
        assert manager.get_metrics()["cold"]["bytes"] == 0
        assert manager.restore_snapshot(snapshot).erased == 3
        assert manager.retrieve_all() == {}


def test_a_full_cold_tier_says_how_to_empty_it() -> None:
    with small(ColdMemory, size_gb=0.001) as cold:
        cold.store("k", np.random.default_rng(0).bytes(900_000))
        assert cold.clear() == 1
        with pytest.raises(CapacityError, match=r"clear\(erase=True\)"):
            cold.store("more", bytes(200_000))
        assert cold.clear(erase=True) == 1
        cold.store("more", bytes(200_000))
        assert list(cold.retrieve_all()) == ["more"]
