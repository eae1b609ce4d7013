"""What a cluster goes through in ``stress cluster``: several nodes of Ray on this machine, writers, readers and
faults."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from agentmem import ALL
from agentmem.archive.opening import open_objects
from agentmem.backup import fence
from agentmem.distributed import clusterlocal
from agentmem.distributed.cluster import Cluster
from agentmem.distributed.clustercore import Core
from agentmem.distributed.shards import Ack, Call, ShardStatus, Step
from agentmem.errors import AgentMemError
from stress.ledger import Checks, Ledger
from stress.measure import Figure
from stress.victim import HashedWords, text_of

DIM = 256
_TAG = "agentmem_shard"
"""The resource that nodes for shards have, and the head has not."""
_QUICK = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
    "worker_niceness": 0,
}
"""How soon Ray takes a node for dead: with its defaults it takes 15 s. And its workers give way to nobody: with 15, the
default, a shard waits for whatever else the machine does."""
FAULTS = ("actor", "actor", "pause", "node")
"""Killed: an actor's process, or a node with all of its processes; or an actor is stopped, replaced, and wakes up."""


class Nodes:
    """Ray's head and some nodes, each with processes of its own, on loopback."""

    def __init__(self, count: int) -> None:
        clusterlocal.guard()
        import ray
        from ray.cluster_utils import Cluster as Simulated

        self._more: dict[str, Any] = {"object_store_memory": clusterlocal.STORE_BYTES, "include_dashboard": False}
        head = {"num_cpus": 0, "_system_config": _QUICK, **self._more}
        self.ray = ray
        self._cluster = Simulated(initialize_head=True, head_node_args=head)
        ray.init(address=self._cluster.address, log_to_driver=False, logging_level="ERROR")
        self.alive: list[Any] = [self._add() for _ in range(count)]

    def _add(self) -> Any:
        return self._cluster.add_node(
            num_cpus=2, resources={_TAG: 1_000}, object_store_memory=clusterlocal.STORE_BYTES, wait=True
        )

    def kill(self, id: str) -> None:
        """Kill a node, by the beginning of its id."""
        node = next(each for each in self.alive if each.node_id.startswith(id))
        self.alive.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def add(self) -> None:
        """One more node."""
        self.alive.append(self._add())

    def close(self) -> None:
        """End all of them."""
        self.ray.shutdown()
        self._cluster.shutdown()


def opened(place: str, root: Path, shards: int, ack: Ack, interval_s: float) -> Cluster:
    """A cluster whose shards run on the nodes and not on the head."""
    return Cluster(
        place, shards=shards, ack=ack, root=root, interval_s=interval_s, embedder=HashedWords(DIM),
        options={"resources": {_TAG: 1}}, patience_s=180.0,
    )  # fmt: skip


@dataclass
class Fault:
    """One fault: what, when, and after how many seconds each shard that it hit answered again."""

    kind: str
    at: float
    shards: list[str]
    back_s: list[float] = field(default_factory=list[float])
    woke: str = ""
    """What a stopped actor said to a write once it woke up."""
    struck_at: dict[str, float] = field(default_factory=dict[str, float])
    """When each shard's process was gone, or stopped, by the wall clock."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "seconds": round(self.at, 1), "shards": self.shards,
            "back_s": [round(each, 2) for each in self.back_s], "woke": self.woke,
        }  # fmt: skip


class Load:
    """Writers and readers of many users, until they are stopped; what was acknowledged is in the ledger."""

    def __init__(self, cluster: Cluster, users: int, batch: int, writers: int) -> None:
        self._cluster, self._users, self._batch = cluster, users, batch
        self.ledger, self.errors = Ledger(), Counter[str]()
        self.said = list[str]()
        """What the errors said."""
        self.adds, self.searches = Figure("add"), Figure("scoped search")
        self.cross_scope = self.stale = 0
        self.acknowledged_at = dict[str, tuple[float, float]]()
        """By id, by the wall clock: when what was acknowledged was sent, and when all shards had answered."""
        self._last = dict[str, tuple[str, str]]()
        self._stop, self._number, self._lock = threading.Event(), 0, threading.Lock()
        self._threads = [threading.Thread(target=self._write) for _ in range(writers)]
        self._threads += [threading.Thread(target=self._read), threading.Thread(target=self._watch)]
        self.taken_over = list[tuple[str, float]]()
        """Shards, and when they were seen to have another owner, by the wall clock."""
        self.began = time.perf_counter()

    def preload(self, records: int) -> None:
        """Add so many records before the clock runs."""
        for start in range(0, records, 1_000):
            self._add(range(start, min(records, start + 1_000)))
        self._number = records

    def start(self) -> None:
        self.began = time.perf_counter()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for figure in (self.adds, self.searches):
            figure.seconds = time.perf_counter() - self.began

    def _add(self, numbers: range) -> None:
        items = [{"content": text_of(n, 0), "user_id": f"user-{n % self._users}"} for n in numbers]
        sent = time.time()
        added = self._cluster.add_many(items, dedupe=False)
        at = time.time()
        for item, result in zip(items, added, strict=True):
            self.ledger.added(item["user_id"], item["content"], result.id)
            self.acknowledged_at[result.id] = sent, at
            self._last[item["user_id"]] = (result.id, item["content"])

    def _write(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                first = self._number
                self._number += self._batch
            numbers = range(first, first + self._batch)
            try:
                with self.adds.timed(self._batch):
                    self._add(numbers)
            except AgentMemError as exc:
                self.errors[type(exc).__name__] += 1
                self.said.append(str(exc)[:300])
                for n in numbers:
                    self.ledger.failed(f"user-{n % self._users}", text_of(n, 0))

    def _read(self) -> None:
        chosen = random.Random(7)
        while not self._stop.is_set():
            user = f"user-{chosen.randrange(self._users)}"
            known = self._last.get(user)
            if known is None:
                continue
            try:
                with self.searches.timed():
                    hits = self._cluster.search(known[1], user_id=user, limit=5)
            except AgentMemError as exc:
                self.errors[f"search: {type(exc).__name__}"] += 1
                self.said.append(str(exc)[:300])
                continue
            self.cross_scope += sum(hit.record.user_id != user for hit in hits)
            self.stale += all(hit.id != known[0] for hit in hits)
            time.sleep(0.01)

    def _watch(self) -> None:
        """See whose the shards are."""
        core: Core = self._cluster._core  # pyright: ignore[reportPrivateUsage]
        places = {shard: open_objects(core.spec_of(shard, 0).store_url) for shard in self._cluster.map().shards}
        epochs = dict[str, int]()
        while not self._stop.wait(0.05):
            for shard, place in places.items():
                claim = fence.read(place)
                if claim is not None and epochs.setdefault(shard, claim.epoch) != claim.epoch:
                    self.taken_over.append((shard, time.time()))
                    epochs[shard] = claim.epoch


def strike(cluster: Cluster, nodes: Nodes, load: Load, kind: str, chosen: random.Random) -> Fault:
    """One fault, and how long the shards that it hit were away."""
    statuses = [one for one in cluster.shards().values() if isinstance(one, ShardStatus)]
    victim = chosen.choice(statuses)
    core: Core = cluster._core  # pyright: ignore[reportPrivateUsage]
    made = cluster.map()
    hit = [one.shard for one in statuses if one.node == victim.node] if kind == "node" else [victim.shard]
    old = core.actor(made, victim.shard)
    fault, begun = Fault(kind, time.perf_counter() - load.began, hit), time.perf_counter()
    if kind == "actor":
        os.kill(victim.pid, signal.SIGKILL)
        fault.struck_at[victim.shard] = time.time()
    elif kind == "node":
        killer = threading.Thread(target=nodes.kill, args=[victim.node])
        killer.start()
        # What runs on it goes on for a moment, and would answer.
        while left := [one for one in statuses if one.shard in hit and one.shard not in fault.struck_at]:
            fault.struck_at |= {one.shard: time.time() for one in left if not _goes_on(one.pid)}
            time.sleep(0.01)
        killer.join()
    else:
        _stop(victim.pid, None if "://" in core.url else Path(core.url) / "shards" / victim.shard / ".swap.lock")
        fault.struck_at[victim.shard] = time.time()
        core.replace_hung(made, victim.shard, kill=False)
    users = {shard: _user_in(cluster, shard) for shard in hit}

    def back(shard: str) -> float:
        user = users[shard]
        cluster.add("Is anybody there?", user_id=user)
        return time.perf_counter() - begun

    fault.back_s = core.each(back, hit)
    if kind == "node":
        nodes.add()
    if kind == "pause":
        with suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGCONT)
        step = Step("add", (("A word from the past.",), {"user_id": users[victim.shard]}))
        call = Call(steps=(step,), writes=True, ack="local", version=0, users=(users[victim.shard],))
        try:
            fault.woke = nodes.ray.get(old.call.remote(call), timeout=30).kind
        except nodes.ray.exceptions.RayActorError:
            fault.woke = "gone"
    return fault


def _goes_on(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _stop(process: int, lock: Path | None) -> None:
    """Stop a process, but not within a swap: in a folder that is a lock, for which all others wait. A bucket has
    none."""
    while True:
        os.kill(process, signal.SIGSTOP)
        if lock is None:
            return
        time.sleep(0.05)
        file = os.open(lock, os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            os.kill(process, signal.SIGCONT)
            time.sleep(random.uniform(0.001, 0.05))
        finally:
            os.close(file)


def _user_in(cluster: Cluster, shard: str) -> str:
    made, number = cluster.map(), 0
    while made.shard_of(f"probe-{number}") != shard:
        number += 1
    return f"probe-{number}"


def compare(cluster: Cluster, load: Load) -> tuple[Checks, list[str]]:
    """What the shards have beside the ledger; and the ids that are lost."""
    checks, ledger = Checks(), load.ledger
    seen, made = Counter[str](), cluster.map()
    for shard in made.shards:
        for record in records_of(cluster, shard):
            if record.user_id is not None and record.user_id.startswith("probe-"):
                checks.unexpected += record.content == "A word from the past."
                continue
            seen[record.id] += 1
            checks.records += 1
            checks.cross_scope += made.shard_of(record.user_id) != shard
            if record.id in ledger.texts:
                checks.cross_scope += ledger.users[record.id] != record.user_id
                checks.altered += ledger.texts[record.id] != hash(record.content)
            elif (record.user_id, hash(record.content)) not in ledger.unsure:
                checks.unexpected += 1
    lost = [id for id in ledger.texts if not seen[id]]
    checks.lost = len(lost)
    checks.duplicated = sum(count > 1 for count in seen.values())
    checks.cross_scope += load.cross_scope
    return checks, lost


def records_of(cluster: Cluster, shard: str) -> Any:
    """Every record of one shard, as it says itself."""
    core: Core = cluster._core  # pyright: ignore[reportPrivateUsage]
    cursor: str | None = None
    while True:
        named = {"user_id": ALL, "limit": 1_000, "cursor": cursor}
        call = Call(steps=(Step("page", ((), named)),), writes=False, ack="local", version=0)
        page = core.ask(lambda _: shard, call, again=True)
        yield from page.records
        cursor = page.cursor
        if cursor is None:
            return
