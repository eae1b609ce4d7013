"""``values``: many small values beside other caches, large ones beside plain files, and a stream with its memory."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from agentmem import Memory, Settings
from stress.measure import peak_rss_mb
from stress.options import Json
from stress.store import progress
from stress.valuelives import POINTS, Known, live
from stress.victim import HashedWords

MB = 1_000_000
_BATCH = 1_000
_SINGLE = 300
_READ = 5_000


def values(
    small: Annotated[int, typer.Option(min=1_000, max=10_000_000, help="Small values in each store.")] = 100_000,
    large_mb: Annotated[int, typer.Option(min=1, max=4_000, help="Size of a large value in MB.")] = 100,
    stream_mb: Annotated[int, typer.Option(min=1, max=100_000, help="Length of the stream in MB.")] = 3_000,
    kills: Annotated[
        int, typer.Option(min=0, max=1_000, help="Kills at each named instant; with any, nothing else.")
    ] = 0,
    path: Annotated[Path | None, typer.Option(help="A folder on the disk that is meant.")] = None,
    json_file: Json = None,
) -> None:
    """Measure values, or kill a process that puts them.

    Put and get small values beside diskcache and LangGraph's SqliteStore, where these are installed, large ones
    beside plain files that are synced, and a stream in and out in a process of its own, with its memory.

    What comes back is compared with what was put.
    """
    with tempfile.TemporaryDirectory(prefix="agentmem-values-", dir=path) as name:
        folder = Path(name)
        if kills:
            _kill(folder, kills)
            return
        found = {
            "small": _small(folder, small),
            "large": _large(folder, large_mb),
            "stream": _stream(folder, stream_mb),
        }
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    problems = [problem for part in found.values() for problem in part.pop("problems")]
    for problem in problems:
        print(problem, file=sys.stderr, flush=True)
    if problems:
        raise typer.Exit(1)


def _kill(folder: Path, each: int) -> None:
    """Kill a process that puts, restores, erases and collects at each named instant."""
    table, lost = Table("instant", "kills", "problems"), 0
    with progress("kills", len(POINTS) * each) as ticker:
        for number, point in enumerate(POINTS):
            known, reached, first = Known(), 0, 1
            for attempt in range(each * 5):
                reached += live(folder / f"killed {number}", known, seed=attempt, first=first, point=point)
                first += 60
                if reached == each:
                    break
            lost += len(known.problems)
            table.add_row(point, str(reached), str(len(known.problems)))
            for problem in known.problems:
                print(f"{point}: {problem}", file=sys.stderr, flush=True)
            ticker.at((number + 1) * each)
    Console().print(table)
    if lost:
        raise typer.Exit(1)


# -- small ones --------------------------------------------------------------------------------------------------------


def _value(n: int) -> dict[str, Any]:
    return {"tool": "search", "n": n, "hits": [f"result {n + i} of the search" for i in range(4)]}


class _Ours:
    name = "agentmem"

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._values = stack.enter_context(Memory(folder, embedder=HashedWords())).values
        self.put, self.get = self._values.put, self._values.get

    def put_many(self, items: dict[str, Any]) -> None:
        self._values.put_many(items)


class _DiskCache:
    name = "diskcache"

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._cache: Any = stack.enter_context(import_module("diskcache").Cache(str(folder)))

    def put(self, key: str, value: Any) -> None:
        self._cache.set(key, value)

    def put_many(self, items: dict[str, Any]) -> None:
        with self._cache.transact():
            for key, value in items.items():
                self._cache.set(key, value)

    def get(self, key: str) -> Any:
        return self._cache.get(key)


class _LangGraph:
    name = "SqliteStore"

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        folder.mkdir()
        store = import_module("langgraph.store.sqlite").SqliteStore
        self._store: Any = stack.enter_context(store.from_conn_string(str(folder / "store.db")))
        self._store.setup()
        self._put: Callable[..., Any] = import_module("langgraph.store.base").PutOp

    def put(self, key: str, value: Any) -> None:
        self._store.put(("values",), key, value)

    def put_many(self, items: dict[str, Any]) -> None:
        self._store.batch([self._put(("values",), key, value) for key, value in items.items()])

    def get(self, key: str) -> Any:
        found = self._store.get(("values",), key)
        return None if found is None else found.value


def _small(folder: Path, count: int) -> dict[str, Any]:
    makers: list[Any] = [_Ours]
    makers += [_DiskCache] * (find_spec("diskcache") is not None)
    makers += [_LangGraph] * (find_spec("langgraph") is not None and find_spec("langgraph.store.sqlite") is not None)
    table = Table(f"{count:,} small values", "put_many, per s", "put, per s", "get p50, µs", "get p99, µs")
    found: dict[str, Any] = {"problems": []}
    with ExitStack() as stack:
        stores = [make(folder / make.name, stack) for make in makers]
        filling = dict.fromkeys((store.name for store in stores), 0.0)
        for start in range(0, count, _BATCH):  # in turn, so that whatever else the machine does slows all of them
            items = {f"key {n}": _value(n) for n in range(start, min(count, start + _BATCH))}
            for store in stores:
                filling[store.name] += _seconds(lambda s=store, i=items: s.put_many(i))
        pick = random.Random(0)
        singles = {store.name: list[float]() for store in stores}
        for n in range(_SINGLE):
            for store in stores:
                singles[store.name].append(_seconds(lambda s=store, n=n: s.put(f"single {n}", _value(n))))
        reads = {store.name: list[float]() for store in stores}
        for _ in range(_READ):
            n = pick.randrange(count)
            for store in stores:
                begun = time.perf_counter()
                value = store.get(f"key {n}")
                reads[store.name].append(time.perf_counter() - begun)
                if value != _value(n):
                    found["problems"].append(f"{store.name} has another value for key {n}")
        for store in stores:
            ordered = sorted(reads[store.name])
            row = {
                "put_many_per_s": count / filling[store.name],
                "put_per_s": 1 / median(singles[store.name]),
                "get_p50_us": ordered[len(ordered) // 2] * 1e6,
                "get_p99_us": ordered[len(ordered) * 99 // 100] * 1e6,
            }
            found[store.name] = row
            table.add_row(store.name, *(f"{number:,.0f}" for number in row.values()))
    Console().print(table)
    return found


def _seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


# -- large ones --------------------------------------------------------------------------------------------------------


def _large(folder: Path, size_mb: int) -> dict[str, Any]:
    found: dict[str, Any] = {"problems": []}
    table = Table(f"values of {size_mb} MB, MB per s", "put", "a file", "share", "get", "a file", "share")
    settings = Settings(values={"compression": "none"})
    with Memory(folder / "large", settings=settings, embedder=HashedWords()) as memory:
        times = {what: list[float]() for what in ("put", "write", "get", "read")}
        for n in range(5):
            body = np.random.default_rng(n).bytes(size_mb * MB)
            file = folder / f"plain {n}"
            times["write"].append(_seconds(lambda f=file, b=body: _written(f, b)))
            times["put"].append(_seconds(lambda n=n, b=body: memory.values.put(f"large {n}", b)))
            times["read"].append(_seconds(file.read_bytes))
            begun = time.perf_counter()
            back = memory.values.get(f"large {n}")
            times["get"].append(time.perf_counter() - begun)
            if back != body:
                found["problems"].append(f"large value {n} is not what was put")
            file.unlink()
            memory.values.erase(f"large {n}")
    speeds = {what: size_mb / median(seconds) for what, seconds in times.items()}
    found |= {f"{what}_mb_per_s": speed for what, speed in speeds.items()}
    shares = speeds["put"] / speeds["write"], speeds["get"] / speeds["read"]
    table.add_row(
        "", f"{speeds['put']:,.0f}", f"{speeds['write']:,.0f}", f"{shares[0]:.2f}",
        f"{speeds['get']:,.0f}", f"{speeds['read']:,.0f}", f"{shares[1]:.2f}",
    )  # fmt: skip
    Console().print(table)
    return found


def _written(path: Path, body: bytes) -> None:
    with open(path, "wb", buffering=0) as file:
        view = memoryview(body)
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())


# -- a stream ----------------------------------------------------------------------------------------------------------


def _stream(folder: Path, size_mb: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "stress.values", str(folder / "stream"), str(size_mb)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], text=True, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    columns = ("in, MB per s", "out, MB per s", "MB of memory at most", "a MB in the middle")
    table = Table(f"a stream of {size_mb:,} MB", *columns)
    table.add_row(
        "", f"{found['in_mb_per_s']:,.0f}", f"{found['out_mb_per_s']:,.0f}", f"{found['rss_mb']:.0f}",
        f"{found['slice_read_mb']:.2f} MB read, {found['slice_ms']:.1f} ms",
    )  # fmt: skip
    Console().print(table)
    return found


def _blocks(size_mb: int) -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    for _ in range(size_mb):
        yield rng.bytes(MB)


def _peak_mb() -> float:
    """What this process took at most. What the system counts for it else has that of who started it, too."""
    if sys.platform != "linux":
        return peak_rss_mb()
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1_024


def _main(folder: Path, size_mb: int) -> None:
    from agentmem.stores.chunkfiles import ChunkFiles

    problems = list[str]()
    with Memory(folder, embedder=HashedWords()) as memory:
        memory.values.put("warm up", iter([bytes(MB), next(_blocks(1))]))
        with memory.values.open("warm up") as file:
            file.read()
        into = _seconds(lambda: memory.values.put("stream", _blocks(size_mb)))
        begun = time.perf_counter()
        with memory.values.open("stream") as file:
            for block in _blocks(size_mb):
                if file.read(MB) != block:
                    problems.append("the stream is not what was put")
                    break
            if file.read(1):
                problems.append("the stream is longer than what was put")
        out = time.perf_counter() - begun
        read, sizes = ChunkFiles.read, list[int]()

        def counted(self: ChunkFiles, name: str, *part: Any) -> bytes:
            sizes.append(len(body := read(self, name, *part)))
            return body

        ChunkFiles.read = counted
        at = size_mb * MB // 2 + 123_457
        spent = _seconds(lambda: memory.values.get("stream", start=at, end=at + MB))
        found = {
            "problems": problems, "in_mb_per_s": size_mb / into, "out_mb_per_s": size_mb / out,
            "rss_mb": _peak_mb(), "slice_read_mb": sum(sizes) / MB, "slice_ms": spent * 1_000,
        }  # fmt: skip
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]))
