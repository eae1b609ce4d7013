"""``cluster``: several nodes on this machine, load, kills of actors and nodes, shards that move; nothing may be
lost."""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from agentmem import Memory
from agentmem.distributed.cluster import Cluster
from stress import loopback
from stress.clusterload import DIM, FAULTS, Fault, Load, Nodes, compare, opened, strike
from stress.local_s3 import local_s3
from stress.measure import Figure
from stress.options import Json, Seed
from stress.outcome import Outcome, plain
from stress.victim import HashedWords, text_of


def cluster(
    nodes: Annotated[int, typer.Option(min=1, max=20, help="Nodes for shards, beside the head.")] = 3,
    shards: Annotated[int, typer.Option(min=1, max=64, help="Shards.")] = 8,
    records: Annotated[int, typer.Option(min=0, max=10_000_000, help="Records before the load begins.")] = 100_000,
    users: Annotated[int, typer.Option(min=1, max=1_000_000, help="Users.")] = 2_000,
    kills: Annotated[int, typer.Option(min=0, max=1_000, help="Faults: actors killed or stopped, nodes killed.")] = 20,
    ack: Annotated[str, typer.Option(help="When writes are acknowledged: replicated or local.")] = "replicated",
    interval: Annotated[float, typer.Option(min=0.1, max=600, help="Seconds between increments.")] = 2.0,
    writers: Annotated[int, typer.Option(min=1, max=64, help="Threads that write.")] = 2,
    batch: Annotated[int, typer.Option(min=1, max=1_000, help="Records in each write.")] = 20,
    pause: Annotated[float, typer.Option(min=0, max=600, help="Seconds between faults.")] = 3.0,
    move: Annotated[int, typer.Option(min=0, max=10_000_000, help="Records of a shard that moves; 0: none.")] = 50_000,
    moves: Annotated[int, typer.Option(min=1, max=100, help="How often it moves.")] = 1,
    calls: Annotated[int, typer.Option(min=0, max=1_000_000, help="Calls to measure one by one; 0: none.")] = 500,
    url: Annotated[str | None, typer.Option(help="s3://bucket/prefix instead of a folder.")] = None,
    seed: Seed = 1,
    json_file: Json = None,
) -> None:
    """Shards under load on several nodes, whose processes are killed; what was acknowledged has to be there.

    Everything listens on loopback alone, in a network namespace that has nothing else; that takes Linux, and root. So
    does S3, where a url asks for it: moto's server, unless AWS_ENDPOINT names another one. To reach that, Ray is in the
    network that there is, where it listens on every interface and asks for a token.
    """
    options = {name: value for name, value in plain(locals()).items() if name != "json_file"}
    if ack not in ("local", "replicated"):
        raise typer.BadParameter("it is local or replicated", param_hint="--ack")
    if url is not None and not url.startswith("s3://"):
        raise typer.BadParameter("it begins with s3://; left out, it is a folder", param_hint="--url")
    outcome = Outcome("cluster", options)
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="agentmem-cluster-"))
        folder = Path(name)
        if url is None or "AWS_ENDPOINT" not in os.environ:
            stack.enter_context(loopback.alone())
            if url is not None:
                stack.enter_context(local_s3(url, folder))
        base = folder / "url" if url is None else f"{url.rstrip('/')}/{folder.name}"
        there = Nodes(nodes)
        try:
            if calls:
                _speed(base, folder, outcome, calls, interval)
            if move:
                _moving(f"{base}/move", folder / "move", outcome, move, moves, interval)
            if kills or records:
                chosen = "local" if ack == "local" else "replicated"
                main = opened(f"{base}/kills", folder / "kills", shards, chosen, interval)
                _under_load(main, there, outcome, records, users, kills, writers, batch, pause, seed)
        finally:
            there.close()
    outcome.finish(json_file)


# -- kills -------------------------------------------------------------------------------------------------------------


def _under_load(
    main: Cluster, there: Nodes, outcome: Outcome, records: int, users: int, kills: int, writers: int, batch: int,
    pause: float, seed: int,
) -> None:  # fmt: skip
    load, chosen, faults = Load(main, users, batch, writers), random.Random(seed), list[Fault]()
    begun = time.perf_counter()
    load.preload(records)
    outcome.notes["preload_s"] = round(time.perf_counter() - begun, 1)
    load.start()
    for number in range(kills):
        time.sleep(pause)
        fault = strike(main, there, load, FAULTS[number % len(FAULTS)], chosen)
        faults.append(fault)
        print(json.dumps(fault.to_dict()), file=sys.stderr, flush=True)
    time.sleep(pause)
    load.stop()
    outcome.figures += [load.adds, load.searches]
    outcome.errors = load.errors
    checks, lost = compare(main, load)
    back = sorted(each for fault in faults for each in fault.back_s)
    whole = [max(fault.back_s) for fault in faults]
    woke = [fault.woke for fault in faults if fault.kind == "pause"]
    outcome.notes |= {
        "faults": [fault.to_dict() for fault in faults],
        "back_p50_s": round(median(whole), 2) if whole else None,
        "back_p50_of_shards_s": round(median(back), 2) if back else None,
        "back_max_s": round(back[-1], 2) if back else None,
        "woken_owners": len(woke),
        "woken_owners_that_wrote": woke.count("done"),
        "acknowledged": len(load.ledger.texts),
        "stale_reads": load.stale,
        "errors_said": load.said[:20],
        "retried": main._core.retried,  # pyright: ignore[reportPrivateUsage]
    }
    if lost:
        outcome.notes["lost_of_local"] = _lost(main, lost, load, faults)
        if outcome.options["ack"] == "local":  # what it is: counted, and no more than the interval
            checks.lost = 0
    outcome.checks = checks
    main.close()


def _lost(main: Cluster, lost: list[str], load: Load, faults: list[Fault]) -> dict[str, Any]:
    """What was acknowledged and is lost: how many; of how many the shard was lost before others had answered the same
    call; and for how long the oldest of the rest had been acknowledged when its shard's process was gone, or somebody
    else had the shard."""
    ends = [*load.taken_over, *(end for fault in faults for end in fault.struck_at.items())]
    made, ages, under_way = main.map(), list[float](), 0
    for id in lost:
        shard, (sent, at) = made.shard_of(load.ledger.users[id]), load.acknowledged_at[id]
        end = min((end for ended, end in ends if ended == shard and end >= sent), default=float("inf"))
        if end < at:
            under_way += 1
        else:
            ages.append(end - at)
    return {"records": len(lost), "under_way": under_way, "oldest_s": round(max(ages, default=0.0), 2)}


# -- a shard that moves ------------------------------------------------------------------------------------------------


def _moving(place: str, root: Path, outcome: Outcome, records: int, moves: int, interval: float) -> None:
    main = opened(place, root, 1, "replicated", interval)
    load, made = Load(main, 100, 1, 1), list[dict[str, Any]]()
    load.preload(records)
    load.adds.name = "add while it moves"
    load.start()
    for _ in range(moves):
        time.sleep(2)
        known = len(load.adds.latencies)
        report = main.move("s000")
        time.sleep(2)
        figures = {"seconds": report.seconds, "refused_s": report.refused_s}
        figures["longest_add_s"] = max(load.adds.latencies[known:])
        made.append({"records": report.records} | {name: round(value, 2) for name, value in figures.items()})
        print(json.dumps(made[-1]), file=sys.stderr, flush=True)
    load.stop()
    outcome.figures.append(load.adds)
    checks, _ = compare(main, load)
    outcome.notes["moves"] = made
    outcome.notes["move"] = {"failed_calls": sum(load.errors.values()), "lost": checks.lost}
    if checks.lost or load.errors:
        outcome.errors["move"] = checks.lost + sum(load.errors.values())
    main.shutdown()


# -- what calls cost ---------------------------------------------------------------------------------------------------


def _speed(base: Path | str, folder: Path, outcome: Outcome, calls: int, interval: float) -> None:
    with Memory(folder / "one", embedder=HashedWords(DIM)) as memory:
        _measure(memory, "in process", outcome, calls)
    for shards in (1, 4):
        for ack in ("local", "replicated"):
            main = opened(f"{base}/{shards}-{ack}", folder / f"{shards}-{ack}", shards, ack, interval)
            _measure(main, f"{shards} shards, {ack}", outcome, calls if ack == "local" else max(20, calls // 10))
            main.shutdown()


def _measure(memory: Any, name: str, outcome: Outcome, calls: int) -> None:
    users = [f"user-{number}" for number in range(20)]
    for user in users:
        memory.add(text_of(0, 0), user_id=user)
    add, search, many = Figure(f"add, {name}"), Figure(f"search, {name}"), Figure(f"add_many(200), {name}")
    for n in range(calls):
        with add.timed():
            memory.add(text_of(n, 1), user_id=users[n % 20], dedupe=False)
    for n in range(calls):
        with search.timed():
            memory.search(text_of(n, 1), user_id=users[n % 20], limit=5)
    for n in range(max(2, calls // 100)):
        items = [{"content": text_of(n, i), "user_id": users[i % 20]} for i in range(200)]
        with many.timed(200):
            memory.add_many(items, dedupe=False)
    for figure in (add, search, many):
        figure.seconds = sum(figure.latencies)
    outcome.figures += [add, search, many]
