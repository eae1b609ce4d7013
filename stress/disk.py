"""``disk``: the disk fills up in the middle of adding, and space returns later."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from agentmem import ALL, DiskFullError, Memory
from stress.options import Json
from stress.outcome import Outcome, plain
from stress.store import progress
from stress.victim import HashedWords, settings_of, text_of

BATCH = 20
FULL_FOR = 20
"""Batches that are refused before space returns."""
PADDING = " and so on" * 40


def disk(
    batches: Annotated[int, typer.Option(min=10, max=100_000, help=f"Batches of {BATCH} records.")] = 1_000,
    json_file: Json = None,
) -> None:
    """Fill the disk in the middle of many batches, and free it again after some refusals.

    The store lives on a tmpfs of its own, so this needs the right to mount one. Reads must go on while the disk is
    full, no batch may be there in part, and the refused ones are repeated once there is space.
    """
    outcome = Outcome("disk", plain(locals()))
    added = outcome.figure("add_many")
    megabytes = 40 + batches * BATCH * 3 // 400
    expected, refused, looks = dict[str, str](), 0, 0
    with small_disk(megabytes) as folder, progress("batches", batches) as ticker:
        ballast = folder / "ballast"
        started = time.perf_counter()
        with Memory(folder / "store", settings=settings_of(1_000), embedder=HashedWords()) as memory:
            for n in range(batches):
                if n == batches // 2:
                    _fill(ballast, folder)
                texts = [f"{text_of(n, i)}{PADDING}" for i in range(BATCH)]
                while True:
                    at = time.perf_counter()
                    try:
                        done = memory.add_many(texts, user_id="ana")
                    except DiskFullError:
                        refused += 1
                        looks += 1
                        known = next(reversed(expected))
                        if memory.get(known) is None or not memory.search(expected[known], user_id="ana", limit=1):
                            outcome.checks.problems.append("a read failed while the disk was full")
                        if refused == FULL_FOR:
                            ballast.unlink()
                        continue
                    added.record(time.perf_counter() - at, BATCH)
                    expected.update((one.id, text) for one, text in zip(done, texts, strict=True))
                    break
                ticker.at(n + 1)
            added.seconds = time.perf_counter() - started
            outcome.measure_store(memory, folder / "store")
            found = {record.id: record.content for record in memory.iterate(user_id=ALL)}
            report = memory.verify()
        checks = outcome.checks
        checks.compare(expected, found)
        checks.vectors = report.counts["lancedb"]
        checks.problems += report.problems
        if refused < FULL_FOR:
            checks.problems.append(f"the disk was full for {refused} batches only: this tested nothing")
    outcome.notes = {"disk_mb": megabytes, "refused": refused, "reads_while_full": looks}
    outcome.finish(json_file)


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A file system of that size, in memory. Raises ``typer.BadParameter`` where none may be mounted."""
    point = Path(tempfile.mkdtemp(prefix="agentmem-disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(point)], capture_output=True, text=True
    )
    if mounted.returncode:
        point.rmdir()
        raise typer.BadParameter(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", str(point)], check=True)
        point.rmdir()


def _fill(ballast: Path, folder: Path) -> None:
    with ballast.open("wb") as file:
        file.truncate(0)
        while (free := shutil.disk_usage(folder).free) > 4096:
            file.write(bytes(min(free - 4096, 1 << 20)))
            file.flush()
