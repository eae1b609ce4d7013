"""``damage``: spoil the files of a closed store in every way, reopen it, and see what it does about that."""

from __future__ import annotations

import json
import logging
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from agentmem import ALL, AgentMemError, Memory, Settings, StoreCorruptError
from stress.crash import LARGE, SMALL
from stress.options import Json, Seed
from stress.store import progress
from stress.victim import HashedWords, settings_of, text_of

DATABASE = "agentmem.db"
USER = "ana"
NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)
"""The clock stands still, so that the same question has the same answer to the last digit."""
Harm = Callable[[Path, random.Random], None]
Answers = dict[tuple[str, str], list[str]]


def truncate(path: Path, pick: random.Random) -> None:
    """Keep a random part from the start, possibly nothing."""
    data = path.read_bytes()
    path.write_bytes(data[: pick.randrange(len(data))] if data else b"")


def empty(path: Path, pick: random.Random) -> None:
    """No bytes: what a power cut makes of a file that was never synced."""
    path.write_bytes(b"")


def zero(path: Path, pick: random.Random) -> None:
    """The right size, and nothing but zeros: the other thing that a power cut makes of it."""
    path.write_bytes(bytes(path.stat().st_size))


def delete(path: Path, pick: random.Random) -> None:
    """No file."""
    path.unlink()


def flip(path: Path, pick: random.Random) -> None:
    """One wrong bit."""
    data = bytearray(path.read_bytes())
    if data:
        data[pick.randrange(len(data))] ^= 1 << pick.randrange(8)
        path.write_bytes(data)


HARMS: dict[str, Harm] = {"truncate": truncate, "empty": empty, "zero": zero, "delete": delete, "flip": flip}


@dataclass
class Findings:
    """Damaged copies of one kind and what became of them. ``wrong`` and ``unhealed`` must be 0."""

    cases: int = 0
    healed: int = 0
    harmless: int = 0
    reported: int = 0
    wrong: int = 0
    unhealed: int = 0
    unwarned: int = 0
    seconds: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not (self.wrong or self.unhealed or self.unwarned)

    def problem(self, kind: str, what: str) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        self.problems.append(f"{kind}: {what}")

    def to_dict(self) -> dict[str, Any]:
        found = asdict(self)
        seconds = found.pop("seconds") or [0.0]
        return {**found, "p50_s": round(median(seconds), 3), "max_s": round(max(seconds), 3)}


class Sample:
    """A store with everything in it: several LanceDB fragments, deletion files, a compaction, a keyword index."""

    def __init__(self, path: Path, records: int = 600) -> None:
        self.path = path
        with opened(path, SMALL) as memory:
            texts = [text_of(n, 0) for n in range(records)]
            ids = [memory.add(text, user_id=USER).id for text in texts[:20]]
            ids += [one.id for one in memory.add_many(texts[20 : records // 2], user_id=USER)]
            memory.flush()
            memory.compact()
            for start in range(records // 2, records, 60):
                ids += [one.id for one in memory.add_many(texts[start : start + 60], user_id=USER)]
                memory.flush()
            for n in range(0, records, 29):
                memory.delete(ids[n])
            for n in range(5, records, 29):
                memory.update(ids[n], content=text_of(n, 0, 1))
            memory.search(texts[2], user_id=USER)
            memory.flush()
            self.truth = contents(memory)
            self.answers = answers(memory)
            report = memory.verify()
            assert report.ok, report.problems

    def copy(self, folder: Path) -> Path:
        path = folder / "copy"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.path, path)
        return path


@contextmanager
def opened(path: Path, arena_limit: int, **settings: Any) -> Iterator[Memory]:
    options = {**settings_of(arena_limit).model_dump(), **settings}
    with Memory(path, settings=Settings(**options), embedder=HashedWords(), clock=lambda: NOW) as memory:
        yield memory


def contents(memory: Memory) -> dict[str, tuple[str, int]]:
    return {record.id: (record.content, record.version) for record in memory.iterate(user_id=ALL)}


def answers(memory: Memory) -> Answers:
    """The best five for a few queries, in every mode."""
    queries = [text_of(n, 0) for n in (2, 100, 250, 310, 420, 555)] + ["copper garden", "winter engine silver"]
    found: Answers = {}
    for query in queries:
        for mode in ("vector", "keyword", "hybrid"):
            found[query, mode] = [hit.id for hit in memory.search(query, user_id=USER, mode=mode, limit=5)]
    return found


# -- LanceDB ---------------------------------------------------------------------------------------------------------


class Warnings(logging.Handler):
    """Counts the warnings of the library."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1

    def wait(self) -> bool:
        """Whether there was one; it follows the counter by an instant."""
        deadline = time.monotonic() + 2
        while not self.count and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.count > 0


def lance_files(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in (path / "lance").rglob("*") if file.is_file())


def damage_lance(sample: Sample, folder: Path, file: str, harm: str, pick: random.Random, findings: Findings) -> None:
    """Damage one file; the store must answer right at once, and mend itself in the background with a warning."""
    path, name = sample.copy(folder), f"{harm} {file}"
    before = (path / file).read_bytes()
    HARMS[harm](path / file, pick)
    changed = not (path / file).exists() or (path / file).read_bytes() != before
    findings.cases += 1
    warnings, log = Warnings(), logging.getLogger("agentmem")
    log.addHandler(warnings)
    started = time.perf_counter()
    try:
        with opened(path, pick.choice([SMALL, SMALL, LARGE])) as memory:
            if answers(memory) != sample.answers:
                findings.problem("wrong", f"{name}: other answers than before")
            if contents(memory) != sample.truth:
                findings.problem("wrong", f"{name}: other records than before")
            memory.flush()
            await_check(memory)
            report, health = memory.verify(), memory.health()
            if not report.ok:
                findings.problem("unhealed", f"{name}: {report.problems}")
            elif health.vector_rebuilds:
                findings.healed += 1
                if not warnings.wait():
                    findings.problem("unwarned", name)
            else:
                findings.harmless += changed
            if answers(memory) != sample.answers:
                findings.problem("wrong", f"{name}: other answers after healing")
    except AgentMemError as exc:
        findings.problem("wrong", f"{name}: {type(exc).__name__}: {exc}")
    finally:
        log.removeHandler(warnings)
    findings.seconds.append(time.perf_counter() - started)


def await_check(memory: Memory) -> None:
    """Let the background thread look at the table: within ``follower_delay_s`` of opening, or before it compacts."""
    time.sleep(0.1)
    memory.compact()


# -- the write-ahead log ---------------------------------------------------------------------------------------------


class Log:
    """A store whose write-ahead log holds everything, and how long the log was at each acknowledgement."""

    def __init__(self, folder: Path, commits: int = 60) -> None:
        self.path = folder / "logged"
        self.acknowledged: list[tuple[int, str]] = []
        live = folder / "logging"
        log = live / f"{DATABASE}-wal"
        with opened(live, LARGE, follower_delay_s=3_600, follower_group=100_000) as memory:
            memory.warm_up()
            for n in range(commits):
                id = memory.add(text_of(n, 0), user_id=USER).id
                self.acknowledged.append((log.stat().st_size, id))
            shutil.copytree(live, self.path)
        self.bytes = (self.path / log.name).stat().st_size
        # Written in place after a checkpoint, the log's size would say nothing about when.
        assert [size for size, _ in self.acknowledged] == sorted({size for size, _ in self.acknowledged})

    def cuts(self, pick: random.Random, inside: int) -> list[int]:
        """Every frame boundary, and so many places inside frames."""
        page = int.from_bytes((self.path / f"{DATABASE}-wal").read_bytes()[8:12], "big")
        return sorted({*range(32, self.bytes + 1, 24 + page), *(pick.randrange(self.bytes) for _ in range(inside))})

    def check(self, folder: Path, cut: int, findings: Findings) -> None:
        """Cut a copy of the log; whatever was acknowledged when it was that long must be there, whole."""
        path = folder / "cut"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.path, path)
        (path / f"{DATABASE}-shm").unlink(missing_ok=True)
        with (path / f"{DATABASE}-wal").open("r+b") as log:
            log.truncate(cut)
        expected = [id for size, id in self.acknowledged if size <= cut]
        findings.cases += 1
        started = time.perf_counter()
        with opened(path, LARGE) as memory:
            found = [record.id for record in memory.iterate(user_id=ALL, order="oldest")]
            findings.seconds.append(time.perf_counter() - started)
            if found != expected:
                findings.problem("wrong", f"cut at {cut}: {len(found)} records instead of {len(expected)}")
            memory.flush()
            report = memory.verify()
            if not report.ok:
                findings.problem("unhealed", f"cut at {cut}: {report.problems}")


# -- the database itself ---------------------------------------------------------------------------------------------


def damage_truth(sample: Sample, folder: Path, harm: str, pick: random.Random, findings: Findings) -> None:
    """Damage ``agentmem.db``. There is no second copy of it: it must be reported, and never be taken for the truth."""
    path = sample.copy(folder)
    data = (path / DATABASE).read_bytes()
    HARMS[harm](path / DATABASE, pick)
    after = (path / DATABASE).read_bytes() if (path / DATABASE).exists() else b""
    at = next((i for i, (a, b) in enumerate(zip(data, after, strict=False)) if a != b), len(after))
    findings.cases += 1
    try:
        with opened(path, LARGE) as memory:
            report = memory.verify()
            if not report.ok:
                findings.reported += 1
            elif contents(memory) != sample.truth:
                findings.problem("wrong", f"{harm} at byte {at}: other records than before, and verify() is content")
            else:
                findings.harmless += 1
    except StoreCorruptError:
        findings.reported += 1
    except AgentMemError as exc:
        findings.problem("unwarned", f"{harm} at byte {at}: {type(exc).__name__}: {exc}")


# -- the command -----------------------------------------------------------------------------------------------------


def damage(
    rounds: Annotated[int, typer.Option(min=1, help="Times that each LanceDB file is damaged in each way.")] = 1,
    cuts: Annotated[int, typer.Option(min=0, help="Cuts of the log inside frames, besides those between them.")] = 100,
    flips: Annotated[int, typer.Option(min=0, help="Damages to the database file.")] = 100,
    seed: Seed = 0,
    json_file: Json = None,
) -> None:
    """Damage the files of a closed store in every way, one at a time, and open it.

    LanceDB is derived: the store must answer right at once and rebuild it in the background. The log may be cut
    anywhere after the last acknowledgement. Damage inside the database must be reported.
    """
    pick = random.Random(seed)
    found: dict[str, Findings] = {}
    with tempfile.TemporaryDirectory(prefix="agentmem-damage-") as name:
        folder = Path(name)
        sample = Sample(folder / "sample")
        cases = [(file, harm) for file in lance_files(sample.path) for harm in HARMS] * rounds
        with progress("LanceDB", len(cases)) as ticker:
            for number, (file, harm) in enumerate(cases):
                findings = found.setdefault(f"lancedb: {harm}", Findings())
                damage_lance(sample, folder, file, harm, pick, findings)
                ticker.at(number + 1)
        log = Log(folder)
        for cut in log.cuts(pick, cuts):
            log.check(folder, cut, found.setdefault("write-ahead log: cut", Findings()))
        for harm in HARMS:
            for _ in range(flips if harm == "flip" else min(flips, 5)):
                damage_truth(sample, folder, harm, pick, found.setdefault(f"database: {harm}", Findings()))
    outcome = {
        "command": "damage",
        "ok": all(one.ok for one in found.values()),
        "options": {"rounds": rounds, "cuts": cuts, "flips": flips, "seed": seed},
        "found": {name: one.to_dict() for name, one in found.items()},
    }
    if json_file is not None:
        json_file.write_text(json.dumps(outcome, indent=2) + "\n", encoding="utf-8")
    _show(outcome)
    if not outcome["ok"]:
        raise typer.Exit(1)


def _show(outcome: dict[str, Any]) -> None:
    table = Table(title="damage", title_justify="left")
    table.add_column("what")
    names = [name for name in next(iter(outcome["found"].values())) if name != "problems"]
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    console = Console(width=None if Console().is_terminal else 160)
    for what, row in outcome["found"].items():
        table.add_row(what, *[f"{row[name]:,}" for name in names])
    console.print(table)
    for what, row in outcome["found"].items():
        for problem in row["problems"][:10]:
            console.print(f"{what}: {problem}", style="red", markup=False)
