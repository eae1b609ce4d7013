"""``crash``: kill a writing process, reopen the store, and compare it with everything that was acknowledged."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from agentmem import Memory, ModelMismatchError
from stress.aftermath import Aftermath, Found, Known
from stress.options import Json, Seed
from stress.points import POINTS
from stress.recovery import check_archives, check_backups
from stress.store import progress
from stress.talk import check_talk
from stress.victim import LARGE_SCOPES, RUN, HashedWords, Task, other_dim, settings_of, text_of

SMALL, LARGE = 200, 50_000
"""Arena limits: with the small one codes serve nearly every search, or LanceDB and the keyword index."""
_GRAPHS = find_spec("hnswlib") is not None
_FAISS = find_spec("faiss") is not None
_ENGINES = {"keywords": "lancedb", "codes": "auto", "graph": "hnsw" if _GRAPHS else "auto", "on disk": "lancedb"}
"""What has the scopes beyond them, where a point needs a certain one."""
GROWTH = 15_000
"""Records added to a store by its trials before the next trial begins with a fresh one."""
_MISSES = 3
"""How many times ``each`` a point may be missed (the child is killed at some other instant then) before it is left."""
STARTING = 0.1
"""The share of random kills that hit a process that is still opening the store."""


class Where(StrEnum):
    """Where the child dies."""

    RANDOM = "random"
    POINTS = "points"
    BOTH = "both"


@dataclass
class Tally:
    """The trials of one kind."""

    trials: int = 0
    unreached: int = 0
    found: Found = field(default_factory=Found)
    recovery: list[float] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        seconds = sorted(self.recovery) or [0.0]
        return {
            "trials": self.trials,
            "unreached": self.unreached,
            **asdict(self.found),
            "recovery_p50_s": round(median(seconds), 3),
            "recovery_max_s": round(seconds[-1], 3),
        }


class Store:
    """The folder that is attacked, and what it must hold."""

    def __init__(self, folder: Path, template: Path | None, preloaded: dict[str, Known]) -> None:
        self.path = folder / "store"
        self.dim = 32
        self.trial = 0
        self.after = Aftermath()
        self.after.records = {
            id: Known(one.user, one.text, list(one.events), one.version) for id, one in preloaded.items()
        }
        self.preloaded = len(preloaded)
        if template is not None:
            shutil.copytree(template, self.path)

    @property
    def full(self) -> bool:
        return len(self.after.records) - self.preloaded > GROWTH

    @contextmanager
    def opened(self, arena_limit: int, engine: str = "auto") -> Iterator[Memory]:
        """A client with the model that the store has now: the child may have moved it to the other one."""
        for dim in (self.dim, other_dim(self.dim)):
            memory = Memory(self.path, settings=settings_of(arena_limit, engine, self.path), embedder=HashedWords(dim))
            try:
                memory.warm_up()
            except ModelMismatchError:
                continue
            self.dim = dim
            with memory:
                yield memory
            return
        raise AssertionError("the store has neither of the two models")


def crash(
    trials: Annotated[int, typer.Option(min=0, help="Kills at random instants.")] = 100,
    each: Annotated[int, typer.Option(min=1, help="Kills at each named point; one that misses it is repeated.")] = 5,
    where: Annotated[Where, typer.Option(help="Where the child is killed.")] = Where.BOTH,
    only: Annotated[str, typer.Option(help="Only named points whose name contains this.")] = "",
    seed: Seed = 0,
    records: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Records that are there before the first kill.")
    ] = 0,
    duration: Annotated[float, typer.Option(min=0.1, max=600, help="Longest life of a child in seconds.")] = 2.0,
    json_file: Json = None,
) -> None:
    """Kill a writing process again and again; nothing acknowledged may be lost, nothing else half there.

    A child adds (one by one, in batches, concurrently, as streams, again), updates, deletes, restores, erases and
    searches at full speed and prints each acknowledgement. It is sent SIGKILL at a random instant, or sends it to
    itself at a named point. Then the store is reopened and compared with what was acknowledged: every record, search in
    memory and through LanceDB and the keyword index, histories, and the store's own verify().
    """
    missing = {name for name, point in POINTS.items() if point.needs == "graph" and not _GRAPHS}
    if not _FAISS:
        missing.add("codes: made, not taken up")  # bytes are made at once
    points = [name for name in POINTS if only in name and name not in missing] if where is not Where.RANDOM else []
    if where is not Where.RANDOM and not points:
        raise typer.BadParameter(f"no named point contains {only!r}")
    plan = deque[str | None]([None] * (trials if where is not Where.POINTS else 0))
    plan += [name for name in points for _ in range(each)]
    pick = random.Random(seed)
    tallies: dict[str, Tally] = {}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="agentmem-crash-") as name, progress("kills", len(plan)) as ticker:
        folder = Path(name)
        template, preloaded = _preload(folder, records)
        store: Store | None = None
        number = 0
        while plan:
            point = plan.popleft()
            if store is None or store.full or (point and POINTS[point].needs == "fresh"):
                for left in folder.glob("store*"):
                    shutil.rmtree(left, ignore_errors=True)
                fresh = point is not None and POINTS[point].needs == "fresh"
                store = Store(folder, None if fresh else template, {} if fresh else preloaded)
            tally = tallies.setdefault(point or "random", Tally())
            if not trial(store, point, duration, pick, tally) and tally.unreached <= _MISSES * each:
                plan.appendleft(point)
            number += 1
            lost = sum(one.found.lost for one in tallies.values())
            ticker.at(number, f"{number} kills, {lost} lost")
    outcome = _outcome(tallies, time.perf_counter() - started, each)
    outcome["options"] = {"seed": seed, "records": records, "duration": duration}
    if json_file is not None:
        json_file.write_text(json.dumps(outcome, indent=2) + "\n", encoding="utf-8")
    _show(outcome)
    if not outcome["ok"]:
        raise typer.Exit(1)


def _preload(folder: Path, records: int) -> tuple[Path | None, dict[str, Known]]:
    if not records:
        return None, {}
    path, known = folder / "template", dict[str, Known]()
    texts = [(f"before-{n % 20}", text_of(n, 7, 7)) for n in range(records)]
    with Memory(path, settings=settings_of(LARGE), embedder=HashedWords()) as memory:
        added = memory.add_stream({"content": text, "user_id": user} for user, text in texts)
        for one, (user, text) in zip((one for chunk in added for one in chunk), texts, strict=True):
            known[one.id] = Known(user, text, ["ADD"])
        memory.flush()
    return path, known


ALSO = ["", "", "compact", "sweep", "leave", "codes", "backup", "glacier"]
"""What a child that is killed at a random instant does besides."""


def trial(store: Store, point: str | None, duration: float, pick: random.Random, tally: Tally) -> bool:
    """Kill a child and look at what it left; whether it died where it was meant to."""
    needs = POINTS[point].needs if point else pick.choice(ALSO)
    store.after.found = found = Found()
    store.after.touched = set()
    store.trial += 1
    if needs == "damaged":
        _damage(store)
    known = [(id, one.live) for id, one in store.after.records.items() if one.text and one.user != "sweep"]
    task = Task(
        path=str(store.path),
        trial=store.trial,
        seed=pick.randrange(RUN),
        arena_limit=SMALL if needs in ("keywords", *LARGE_SCOPES) else pick.choice([SMALL, LARGE]),
        engine=_ENGINES.get(needs) or pick.choice(["auto", "lancedb"]),
        dim=store.dim,
        also=needs,
        point=point,
        nth=pick.randint(1, POINTS[point].most) if point else 0,
        known=pick.sample(known, min(100, len(known))),
    )
    reached = _run(task, store.after, pick, duration)
    tally.unreached += not reached
    begun = time.perf_counter()
    with store.opened(task.arena_limit, task.engine) as memory:
        if needs == "glacier":
            check_archives(store.after, memory, store.path)
        some = next((one for one in store.after.records.values() if one.live), None)
        memory.search(some.text if some else "anything", user_id=some.user if some else None)
        tally.recovery.append(time.perf_counter() - begun)
        store.after.check_truth(memory)
        store.after.check_search(memory, pick)
        store.after.check_nothing_left(memory, store.path)
        store.after.check_stores(memory)
        if needs == "talk":
            check_talk(store.after, store.path, store.trial, HashedWords())
        if needs in ("backup", "alone"):
            check_backups(store.after, memory, store.path, HashedWords(store.dim))
    with store.opened(SMALL if task.arena_limit == LARGE else LARGE) as memory:
        store.after.check_search(memory, pick)
    tally.trials += 1
    tally.found.merge(found)
    for problem in found.problems:
        print(f"trial {store.trial} at {point or 'a random instant'}: {problem}", file=sys.stderr, flush=True)
    return reached


def _run(task: Task, after: Aftermath, pick: random.Random, duration: float) -> bool:
    """Run a child until it dies; whether it died where it was meant to."""
    child = subprocess.Popen(
        [sys.executable, "-m", "stress.victim"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    starting = task.point is None and pick.random() < STARTING
    instant = pick.uniform(0.3, 3.0) if starting else pick.uniform(0.0, duration)
    killed = threading.Event()

    def kill() -> None:
        killed.set()
        child.send_signal(signal.SIGKILL)

    timer = threading.Timer(instant if starting else 120.0, kill)
    with suppress(BrokenPipeError):
        child.stdin.write(task.to_json() + "\n")
        child.stdin.close()
    timer.start()
    for text in child.stdout:
        if not text.endswith("\n"):
            break  # cut off by the kill
        line = json.loads(text)
        if "ready" in line:
            if not starting:
                timer.cancel()
                timer = threading.Timer(instant if task.point is None else 10 * duration, kill)
                timer.start()
            continue
        after.hear(line)
    code = child.wait()
    timer.cancel()
    child.stdout.close()
    if code != -signal.SIGKILL:
        after.found.wrong("errors", f"the child ended with {code} instead of being killed")
    return task.point is None or not killed.is_set()


def _damage(store: Store) -> None:
    """Empty every manifest of LanceDB's table, as a power cut may do."""
    for manifest in (store.path / "lance").glob("*.lance/_versions/*.manifest"):
        manifest.write_bytes(b"")


def _outcome(tallies: dict[str, Tally], seconds: float, each: int) -> dict[str, Any]:
    """The run in figures. A point at which the child did not die ``each`` times was not tested: that is no success."""
    total = Tally()
    missed = [name for name, tally in tallies.items() if name in POINTS and tally.trials - tally.unreached < each]
    for tally in tallies.values():
        total.trials += tally.trials
        total.unreached += tally.unreached
        total.found.merge(tally.found)
        total.recovery += tally.recovery
    return {
        "command": "crash",
        "ok": total.found.ok and not missed,
        "missed_points": missed,
        "seconds": round(seconds, 1),
        "total": total.to_dict(),
        "by_point": {name: tally.to_dict() for name, tally in tallies.items()},
    }


def _show(outcome: dict[str, Any]) -> None:
    names = [name for name in outcome["total"] if name != "problems"]
    table = Table(title="crash", title_justify="left")
    table.add_column("killed at")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    rows = [*outcome["by_point"].items(), ("all", outcome["total"])]
    for place, row in rows:
        table.add_row(place, *[f"{row[name]:,}" for name in names])
    console = Console(width=None if Console().is_terminal else 220)
    console.print(table)
    problems = Counter(problem.split(":", 1)[0] for problem in outcome["total"]["problems"])
    for point in outcome["missed_points"]:
        console.print(f"too few kills at: {point}", style="red", markup=False)
    for kind, count in problems.items():
        console.print(f"{kind}: {count} or more, see above", style="red", markup=False)
