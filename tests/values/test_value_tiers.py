"""Tiers of values: what is held in memory, for how long, in what room; and that it never changes what a read gives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, FakeClock

from agentmem import Memory, NotFoundError, ScopeError, Settings
from agentmem.values import devices, holding
from agentmem.values.reading import Content
from stress.victim import HashedWords

MB = 1_048_576
HOUR = 3_600


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def settings_of(**values: Any) -> Settings:
    return Settings(lifecycle={"sweep_interval_s": 0}, values=values)


def tiers_of(memory: Memory) -> dict[str, str]:
    return {info.key: info.tier for info in memory.values.list(limit=1_000)}


def test_use_warms_and_idleness_cools(open_memory: Callable[..., Memory], clock: FakeClock) -> None:
    memory = open_memory(settings=settings_of())
    memory.values.put("read", noise(MB))
    memory.values.put("unread", noise(MB, 1))
    memory.values.put("hot", np.arange(1_000), tier="hot")
    assert tiers_of(memory) == {"read": "cold", "unread": "cold", "hot": "hot"}
    assert memory.values.get("read") == noise(MB)
    assert tiers_of(memory)["read"] == "warm"
    clock.advance(25 * HOUR)
    memory.lifecycle.sweep()
    assert tiers_of(memory) == {"read": "warm", "unread": "cold", "hot": "warm"}
    clock.advance(48 * HOUR)
    assert memory.values.get("hot").sum() == 499_500
    memory.lifecycle.sweep()
    assert tiers_of(memory) == {"read": "cold", "unread": "cold", "hot": "warm"}
    found = memory.values.tiers()
    assert (found["warm"].values, found["cold"].values, found["glacier"].values) == (1, 3, 0)
    assert (found["warm"].hits, found["cold"].hits) == (1, 1)
    assert found["hot"].budget == 256_000_000


def test_held_values_stay(open_memory: Callable[..., Memory], clock: FakeClock) -> None:
    memory = open_memory(settings=settings_of())
    for key, tier in (("hot", "hot"), ("warm", "warm"), ("cold", "cold")):
        memory.values.put(key, noise(100_000), tier=tier, hold=True)
    clock.advance(1_000 * HOUR)
    memory.lifecycle.sweep()
    memory.values.get_many(["hot", "warm", "cold"])
    assert tiers_of(memory) == {"hot": "hot", "warm": "warm", "cold": "cold"}
    memory.close()
    memory = open_memory(settings=settings_of())
    assert set(tiers_of(memory).values()) == {"cold"}
    memory.values.get_many(["hot", "warm", "cold"])
    assert tiers_of(memory) == {"hot": "hot", "warm": "warm", "cold": "cold"}
    assert memory.values.move("hot", None).tier == "hot"
    clock.advance(1_000 * HOUR)
    memory.lifecycle.sweep()
    assert tiers_of(memory)["hot"] == "cold"


def test_room_goes_to_what_was_read_last_and_matters_most(
    open_memory: Callable[..., Memory], store: Path, clock: FakeClock
) -> None:
    memory = open_memory(settings=settings_of(warm_size_gb=0.001))
    memory.values.put("matters", noise(200_000), importance=1.0)
    for n in range(6):
        memory.values.put(str(n), noise(200_000, n))
    memory.values.get("matters")
    for n in range(6):
        clock.advance(10)
        assert memory.values.get(str(n)) == noise(200_000, n)
    warm = {key for key, tier in tiers_of(memory).items() if tier == "warm"}
    assert warm == {"matters", "2", "3", "4", "5"}
    assert memory.values.tiers()["warm"].bytes == 1_000_000
    memory.values.put("large", noise(400_000))
    assert memory.values.get("large") == noise(400_000)
    assert tiers_of(memory)["large"] == "cold"
    assert memory.values.move("large", "warm").tier == "warm"
    assert memory.values.tiers()["warm"].bytes <= 1_000_000
    memory.values.put("too large", noise(1_100_000), tier="warm", hold=True)
    assert memory.values.get("too large") == noise(1_100_000)
    assert tiers_of(memory)["too large"] == "cold"
    none = open_memory(store.parent / "none", settings=settings_of(warm_size_gb=0, hot_size_gb=0))
    none.values.put("k", b"x", tier="hot")
    assert (none.values.get("k"), tiers_of(none)) == (b"x", {"k": "cold"})


def test_reads_take_no_time_by_how_much_is_held(
    open_memory: Callable[..., Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = list[int]()
    worth = holding._Entry.worth  # pyright: ignore[reportPrivateUsage]

    def counted(entry: Any, now: int) -> float:
        compared.append(entry.size)
        return worth(entry, now)

    monkeypatch.setattr(holding._Entry, "worth", counted)  # pyright: ignore[reportPrivateUsage]
    memory = open_memory(settings=settings_of(warm_size_gb=0.000_1))
    memory.values.put_many({f"key {n}": b"a" * 250 for n in range(500)})
    for n in range(400):
        memory.values.get(f"key {n}")
    stats = memory.values.tiers()["warm"]
    assert (stats.values, stats.bytes, compared) == (400, 100_000, [])
    for n in range(400, 500):
        memory.values.get(f"key {n}")
    stats = memory.values.tiers()["warm"]
    assert (stats.values, stats.bytes) == (400, 100_000)
    assert len(compared) == 100 * 64


def test_without_a_card_hot_is_memory_and_counted(open_memory: Callable[..., Memory]) -> None:
    memory = open_memory(settings=settings_of(device="none"))
    array = np.random.default_rng(0).random((50, 20))
    memory.values.put("array", array, tier="hot")
    memory.values.put("text", "no array", tier="hot")
    found = memory.values.tiers()["hot"]
    assert (found.values, found.device, found.fallbacks) == (2, None, 2)
    again = memory.values.get("array", device=True)
    assert isinstance(again, np.ndarray)
    again[:] = 0
    np.testing.assert_array_equal(memory.values.get("array"), array)
    np.testing.assert_array_equal(memory.values.get("array", start=3, end=5), array[3:5])
    assert memory.values.get("text") == "no array"


@pytest.mark.parametrize("tier", ["hot", "warm", "cold"])
def test_replaced_deleted_erased(open_memory: Callable[..., Memory], store: Path, tier: Any) -> None:
    memory = open_memory(settings=settings_of())
    for key in ("replaced", "deleted", "erased", "kept"):
        memory.values.put(key, b"old " + key.encode(), tier=tier)
    memory.values.put("replaced", b"new")
    memory.values.delete("deleted")
    memory.values.erase("erased")
    assert memory.values.get_many(["replaced", "deleted", "erased", "kept"]) == {
        "replaced": b"new", "kept": b"old kept"
    }  # fmt: skip
    memory.lifecycle.sweep()
    held = memory.values.tiers()
    assert held["hot"].values + held["warm"].values == 2


ERASER = """
import sys
from agentmem import Memory
from stress.victim import HashedWords

with Memory(sys.argv[1], embedder=HashedWords()) as memory:
    assert memory.values.erase("k").erased == 1
"""


def test_what_another_process_erases_leaves_memory(store: Path) -> None:
    with Memory(store, embedder=HashedWords(), settings=settings_of()) as memory:
        memory.values.put("k", b"secret", tier="warm")
        memory.values.put("kept", b"kept", tier="hot")
        subprocess.run([sys.executable, "-c", ERASER, str(store)], cwd=ROOT, check=True, timeout=120)
        memory.lifecycle.sweep()
        found = memory.values.tiers()
        assert (found["hot"].values, found["warm"].values) == (1, 0)
        assert memory.values.get("k") is None


@pytest.mark.parametrize("how", ["get", "move"])
def test_what_is_erased_while_it_is_read_is_not_held(memory: Memory, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    memory.values.put("k", b"secret")
    read = Content.bytes

    def erased(self: Content, start: int, end: int) -> bytes:
        body = read(self, start, end)
        memory.values.erase("k")
        return body

    monkeypatch.setattr(Content, "bytes", erased)
    if how == "get":
        assert memory.values.get("k") == b"secret"  # which was there when it was asked for
    else:
        with pytest.raises(NotFoundError):
            memory.values.move("k", "warm")
    assert memory.values.tiers()["warm"].values == 0


def test_tiers_are_everybodys(memory: Memory) -> None:
    view = memory.scoped(user_id="ana")
    view.values.put("k", b"x", tier="warm")
    assert view.values.move("k", "cold").tier == "cold"
    with pytest.raises(ScopeError):
        view.values.tiers()
    with pytest.raises(ScopeError):
        view.values.move("k", "cold", user_id="ben")


ARRAYS = [
    np.arange(12.0).reshape(3, 4),
    np.asfortranarray(np.arange(12, dtype=np.int16).reshape(3, 4)),
    np.array(7, np.uint8),
    np.zeros((0, 3), np.float32),
    np.array([True, False]),
    np.array([1 + 2j], np.complex64),
    np.arange(4, dtype=np.float16),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}-{array.shape}")
def test_arrays_on_a_device_of_pytorch(array: np.ndarray) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from agentmem.values import arrays

    about, blocks = arrays.encoded(array)
    body = b"".join(blocks)
    there = devices.Torch("cpu").copied(body)
    assert there.bytes(0, len(body)) == body
    buffer = bytearray(len(body) // 2)
    there.fill(memoryview(buffer), len(body) - len(buffer))
    assert bytes(buffer) == body[len(body) - len(buffer) :]
    on_device = there.array(about)
    assert isinstance(on_device, torch.Tensor)
    np.testing.assert_array_equal(on_device.numpy(), array)
    on_device.zero_()
    assert there.bytes(0, len(body)) == body
