"""A cluster whose shards live in a bucket: whoever is killed, stopped, moved or erased, what counts lies there."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from agentmem import ALL
from agentmem.archive.opening import open_objects
from agentmem.backup import fence
from stress import loopback
from stress.local_ray import local_ray
from stress.local_s3 import local_s3
from stress.victim import HashedWords

for module in ("ray", "obstore", "moto", "flask"):
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed", allow_module_level=True)

pytestmark = [
    pytest.mark.slow,
    # Ray leaves sockets and processes to the collector.
    pytest.mark.filterwarnings("ignore"),
]

URL = "s3://shards/mine"
USERS = [f"u{number}" for number in range(6)]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Any]:
    os.environ["RAY_worker_niceness"] = "0"
    with ExitStack() as stack:
        if loopback.possible():  # what is in a network of its own reaches only what is there with it
            stack.enter_context(loopback.alone())
        stack.enter_context(local_s3(URL, tmp_path))
        stack.enter_context(local_ray(2, memory_mb=100, apart=False))
        from agentmem.distributed.cluster import Cluster

        made = stack.enter_context(
            Cluster(URL, shards=2, root=tmp_path / "root", interval_s=2, embedder=HashedWords(32), patience_s=120)
        )
        yield made
        made.shutdown()


class Writer:
    """Adds until it is stopped; what was acknowledged, by id."""

    def __init__(self, cluster: Any) -> None:
        self._cluster, self._stop = cluster, threading.Event()
        self.acknowledged, self.errors = dict[str, str](), list[Exception]()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        number = 0
        while not self._stop.wait(0.2):  # each is an increment, and a restore reads them all
            items = [{"content": f"fact {number} of {user}", "user_id": user} for user in USERS]
            number += 1
            try:
                added = self._cluster.add_many(items)
            except Exception as exc:
                self.errors.append(exc)
                return
            self.acknowledged |= {one.id: item["content"] for one, item in zip(added, items, strict=True)}


def late(cluster: Any, actor: Any, user: str) -> str:
    """What an actor says to a write, or that it is gone."""
    import ray

    from agentmem.distributed.shards import Call, Step

    step = Step("add", (("Too late.",), {"user_id": user, "id": "late"}))
    call = Call(steps=(step,), writes=True, ack="local", version=0, users=(user,))
    try:
        return ray.get(actor.call.remote(call), timeout=60).kind
    except ray.exceptions.RayActorError:
        return "gone"


def test_shards_in_a_bucket_lose_nothing_that_was_acknowledged(cluster: Any, tmp_path: Path) -> None:
    core = cluster._core
    erased = cluster.add("A secret of Zoe's.", user_id="zoe").id
    with Writer(cluster) as writer:
        # Killed with all that it had on its machine: what comes back is what lies in the bucket.
        victim = cluster.shards()["s000"]
        os.kill(victim.pid, signal.SIGKILL)
        for folder in (tmp_path / "root").glob("*/s000"):
            shutil.rmtree(folder, ignore_errors=True)
        user = next(user for user in USERS if cluster.shard_of(user) == "s000")
        assert cluster.add("I am back.", user_id=user)
        back = cluster.shards()["s000"]
        assert (back.epoch > victim.epoch, back.reused) == (True, False)

        # Stopped, replaced, and woken up: it writes nothing.
        old, stopped = core.actor(cluster.map(), "s001"), cluster.shards()["s001"]
        os.kill(stopped.pid, signal.SIGSTOP)
        core.replace_hung(cluster.map(), "s001", kill=False)
        there = next(user for user in USERS if cluster.shard_of(user) == "s001")
        assert cluster.add("While it was stopped.", user_id=there)
        os.kill(stopped.pid, signal.SIGCONT)
        assert late(cluster, old, there) in ("moved", "gone")

        cluster.erase_all(user_id="zoe")
        moved = cluster.move(cluster.shard_of("zoe"))
        assert moved.refused_s < 10
    assert not writer.errors
    assert len(writer.acknowledged) > 3 * len(USERS)
    found = {record.id: record.content for record in cluster.iterate(user_id=ALL)}
    assert writer.acknowledged.items() <= found.items()
    assert "late" not in found
    assert erased not in found
    assert sorted(found.values()) == sorted({*writer.acknowledged.values(), "I am back.", "While it was stopped."})
    assert all(report.ok for report in cluster.verify().values())
    for shard, status in cluster.shards().items():
        claim = fence.read(open_objects(f"{URL}/shards/{shard}"))
        assert claim is not None
        assert (claim.epoch, status.behind) == (status.epoch, 0)
    assert not list(open_objects(f"{URL}/transit").list())
