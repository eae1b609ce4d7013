"""``glacier``: what archives take of time, memory, room and requests, and that what comes back is what went."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from agentmem import ALL, Memory, Settings
from stress.measure import peak_rss_mb
from stress.options import Json
from stress.store import progress
from stress.victim import HashedWords, text_of

DIM = 256
CHUNK = 1_000
LOOKED_UP = 2_000
STEPS = ("fill", "archive", "missed", "search", "rehydrate")


def glacier(
    records: Annotated[int, typer.Option(min=100, max=10_000_000, help="Records in the store.")] = 100_000,
    users: Annotated[int, typer.Option(min=1, max=1_000_000, help="Whose they are.")] = 100,
    path: Annotated[Path | None, typer.Option(help="Folder for the store and its archives, kept.")] = None,
    json_file: Json = None,
) -> None:
    """Archive a whole store, look things up that are not there, search it, and bring it back; each step is a process.

    What comes back is compared: every record, its vectors to the bit. Vectors have 256 numbers, texts some 60
    characters.
    """
    with tempfile.TemporaryDirectory(prefix="agentmem-glacier-") as name, progress("steps", len(STEPS)) as ticker:
        folder, steps = Path(name) if path is None else path, dict[str, dict[str, Any]]()
        for number, step in enumerate(STEPS):
            steps[step] = _step(step, folder, records, users)
            ticker.at(number + 1)
    same = steps["fill"].pop("digest") == steps["rehydrate"].pop("digest")
    missed, problems = steps["missed"], steps["rehydrate"].pop("problems")
    table = Table("step", "seconds", "MB above the base", "bytes a record", "requests")
    for step, found in steps.items():
        table.add_row(
            step,
            f"{found['seconds']:.1f}",
            f"{found['rss_mb']:.0f}",
            " + ".join(f"{found[what] / records:.0f} {what}" for what in ("store", "archives") if what in found),
            str(found.get("requests", "")),
        )
    Console().print(table)
    opened = missed["requests"] / missed["looked_up"]
    print(f"look-ups of what is not there that opened an object: {opened:.2%}", flush=True)
    ok = same and not problems and opened <= 0.01
    print(
        "what came back is what went" if ok else f"wrong: {problems or 'what came back is not what went'}", flush=True
    )
    if json_file is not None:
        json_file.write_text(json.dumps({"records": records, "same": same, "steps": steps}, indent=2), encoding="utf-8")
    if not ok:
        raise typer.Exit(1)


def _step(step: str, folder: Path, records: int, users: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "stress.glacier", step, str(folder), str(records), str(users)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], text=True, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


# -- in a process of its own -------------------------------------------------------------------------------------------


def _opened(folder: Path) -> Memory:
    settings = Settings(glacier={"url": str(folder / "ice")}, lifecycle={"sweep_interval_s": 0}, embedding_cache_size=0)
    return Memory(folder / "store", settings=settings, embedder=HashedWords(DIM))


def _fill(memory: Memory, records: int, users: int) -> dict[str, Any]:
    for start in range(0, records, CHUNK):
        user = f"user {start // CHUNK % users}"
        items = [{"content": text_of(start, n), "metadata": {"n": n}} for n in range(min(CHUNK, records - start))]
        memory.add_many(items, user_id=user)
    memory.compact()
    return {"digest": _digest(memory)}


def _archive(memory: Memory, records: int, users: int) -> dict[str, Any]:
    report = memory.tiers.archive(user_id=ALL, layers=["assets"])
    if report.archived != records:
        raise SystemExit(f"{report} of {records} records")
    peak = peak_rss_mb()
    memory.compact()
    return {"peak": peak, "archives": report.bytes}


def _missed(memory: Memory, records: int, users: int) -> dict[str, Any]:
    before = memory.tiers.stats()["glacier"].requests or 0
    for n in range(LOOKED_UP):
        memory.get(f"nobody's {n}")
        memory.get(key=f"no key {n}", user_id=f"user {n % users}")
        memory.search("harbour", user_id=f"stranger {n}", include_glacier=True)
    found = (memory.tiers.stats()["glacier"].requests or 0) - before
    return {"looked_up": 3 * LOOKED_UP, "requests": found}


def _search(memory: Memory, records: int, users: int) -> dict[str, Any]:
    pick, seconds = random.Random(0), list[float]()
    for _ in range(10):
        start = pick.randrange((records + CHUNK - 1) // CHUNK) * CHUNK
        text = text_of(start, pick.randrange(min(CHUNK, records - start)))
        begun = time.perf_counter()
        hits = memory.search(text, user_id=f"user {start // CHUNK % users}", limit=1, include_glacier=True)
        seconds.append(time.perf_counter() - begun)
        if not hits or hits[0].content != text:
            raise SystemExit(f"{text!r} was not found: {hits}")
    return {"search_s": sorted(seconds)[5]}


def _rehydrate(memory: Memory, records: int, users: int) -> dict[str, Any]:
    ids = list(_archived(memory))
    for start in range(0, len(ids), CHUNK):
        memory.tiers.rehydrate(ids[start : start + CHUNK])
    return {"digest": _digest(memory), "problems": memory.verify().problems}


def _archived(memory: Memory) -> Iterator[str]:
    cursor = None
    while True:
        page = memory.page(user_id=ALL, archived=True, limit=CHUNK, order="oldest", cursor=cursor, data=False)
        yield from (record.id for record in page.records)
        cursor = page.cursor
        if cursor is None:
            return


def _digest(memory: Memory) -> str:
    """Of every record and its vectors, to the bit."""
    digest, ids = hashlib.sha256(), list[str]()

    def take() -> None:
        for found in memory.vectors(ids):
            digest.update(b"" if found is None else found.vectors.tobytes())
        ids.clear()

    for record in memory.iterate(user_id=ALL, order="oldest", touch=False):
        values = record.to_dict()
        del values["last_accessed"]
        digest.update(json.dumps(values, sort_keys=True).encode())
        ids.append(record.id)
        if len(ids) == CHUNK:
            take()
    take()
    return digest.hexdigest()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _main(step: str, folder: Path, records: int, users: int) -> None:
    run: Callable[[Memory, int, int], dict[str, Any]] = globals()[f"_{step}"]
    with _opened(folder) as memory:
        # What any process has loaded that has written and searched: the base.
        memory.erase(memory.add("warm", user_id="nobody").id)
        memory.search("warm", user_id="nobody")
        memory.flush()
        memory.stats()
        base, begun = peak_rss_mb(), time.perf_counter()
        found = run(memory, records, users)
        seconds = time.perf_counter() - begun
        found["rss_mb"] = found.pop("peak", peak_rss_mb()) - base
        found.setdefault("requests", memory.tiers.stats()["glacier"].requests)
    found |= {"seconds": seconds, "store": _size(folder / "store")}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
