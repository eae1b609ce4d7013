"""The command ``agentmem doctor``: everything that can be wrong with an installation and a store, looked at once."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from agentmem import AgentMemError, Memory, ModelMismatchError, __version__
from agentmem.cli.base import STORE, AsTable, StorePath, app, reporting
from agentmem.cli.output import Output
from agentmem.cli.words import error_text
from agentmem.client import is_store, is_writable

OK, WARNING, FAILED = "ok", "warning", "failed"
_NEEDED = ("lancedb", "fastembed", "onnxruntime", "numpy", "pyarrow")
_FREE = 1 << 30
"""Bytes that should be free on the disk, or as many as the store has, to rebuild and to compact it."""
_SLOW_S = 0.5
"""For one embedding, once the model is loaded."""


@dataclass
class Finding:
    """One thing that was looked at."""

    what: str
    state: str
    message: str


class Examination:
    """What was found so far."""

    def __init__(self) -> None:
        self.found = list[Finding]()

    def note(self, what: str, state: str, message: str) -> None:
        self.found.append(Finding(what, state, message))

    @contextmanager
    def looking(self, what: str) -> Generator[None]:
        """An error of the library in there is a finding."""
        try:
            yield
        except (AgentMemError, OSError) as exc:
            self.note(what, FAILED, error_text(exc))


@app.command(help="Look for whatever may be wrong with installation, settings and store; exit code 1 if something is.")
def doctor(
    path: StorePath = STORE,
    deep: Annotated[bool, typer.Option("--deep", help="Also compare every part of the store, as verify does.")] = False,
    table: AsTable = None,
) -> None:
    output, seen = Output(table), Examination()
    with reporting():
        _installation(seen)
        with seen.looking("settings"):
            from agentmem.settings import Settings

            Settings.load()
            seen.note("settings", OK, "file and environment are in order")
        if _folder(seen, path):
            with seen.looking("store"), Memory(path, read_only=not is_writable(path)) as memory:
                _store(seen, memory, path, deep=deep)
            with seen.looking("keys"):
                _keys(seen, path)
        failed = any(one.state == FAILED for one in seen.found)
        if output.table:
            output.rows([asdict(one) for one in seen.found], "what", "state", "message")
        else:
            output.json({"ok": not failed, "found": [asdict(one) for one in seen.found]})
        if failed:
            raise typer.Exit(1)


def _installation(seen: Examination) -> None:
    from importlib.metadata import PackageNotFoundError, version

    there, missing = list[str](), list[str]()
    for name in _NEEDED:
        try:
            there.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        seen.note("installation", FAILED, f"not installed: {', '.join(missing)}; pip install agentmem-db")
    seen.note("installation", OK, f"agentmem {__version__}, Python {platform.python_version()}, {', '.join(there)}")


def _folder(seen: Examination, path: Path) -> bool:
    """Whether there is a store to look at."""
    if not path.exists():
        seen.note("folder", WARNING, f"there is no store at {path}; `agentmem add` makes one, --path names another")
        return False
    if not path.is_dir() or not is_store(path):
        seen.note("folder", FAILED, f"{path} holds no store; --path names another")
        return False
    writable, mode = is_writable(path), path.stat().st_mode & 0o777
    if not writable:
        seen.note("folder", WARNING, f"{path} can be read only")
    elif mode & 0o077:
        seen.note("folder", WARNING, f"others on this machine may enter {path} (mode {mode:o}); chmod 700 {path}")
    else:
        seen.note("folder", OK, f"{path}, for its owner alone")
    used = sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
    free, wanted = shutil.disk_usage(path).free, max(_FREE, used)
    state = OK if free >= wanted else WARNING
    seen.note("disk", state, f"{_mib(used)} used, {_mib(free)} free" + ("" if state == OK else "; make room"))
    return True


def _keys(seen: Examination, path: Path) -> None:
    """Those of the store's server, if there were ever any."""
    from agentmem.server.keys import FILE, KeyStore

    if not (path / FILE).exists():
        return
    with closing(KeyStore(path)) as store:
        keys, now = store.list(), datetime.now(UTC)
    good = [key for key in keys if key.holds(now)]
    soon = [key.id for key in good if key.expires_at is not None and key.expires_at - now < timedelta(days=7)]
    if soon:
        seen.note("keys", WARNING, f"{', '.join(soon[:10])} will have expired in a week; agentmem key rotate")
    else:
        seen.note("keys", OK if good else WARNING, f"{len(good)} of {len(keys)} are good")


def _store(seen: Examination, memory: Memory, path: Path, *, deep: bool) -> None:
    from agentmem.observe.alerts import Level, Thresholds, read

    at_hand, kpis = _has_model(seen, memory), memory.kpis()
    seen.note("store", OK, f"it opens; {kpis.records:,} memories")
    states = {Level.OK: OK, Level.WARNING: WARNING, Level.CRITICAL: FAILED}
    health = memory.health()
    for reading in read(kpis, health, Thresholds(), lambda name: Level.OK, 0.0):
        if reading.level is not Level.OK:
            seen.note(reading.name, states[reading.level], reading.message)
    if health.ok:
        seen.note("background", OK, "the background work succeeds")
    if at_hand:
        with seen.looking("model"):
            memory.warm_up()
            seconds = _timed(lambda: memory.embed(["How long does one embedding take?"], query=True))
            state = OK if seconds < _SLOW_S else WARNING
            seen.note("model", state, f"{memory.stats().model}: one embedding takes {seconds * 1_000:.0f} ms")
    if memory.handle.settings.backup.url is None:
        seen.note("backups", WARNING, "there are none; see docs/backup.md")
    else:
        with seen.looking("backups"):
            made = memory.backup.list()
            last = made[-1].at if made else None
            seen.note("backups", *((OK, f"the last is of {last:%Y-%m-%d %H:%M}") if last else (WARNING, "none yet")))
    if deep:
        report = memory.verify()
        for problem in report.problems:
            seen.note("verify", FAILED, f"{problem}; `agentmem repair` mends what can be mended")
        if report.ok:
            seen.note("verify", OK, "every part of the store agrees with every other")


def _has_model(seen: Examination, memory: Memory) -> bool:
    """Whether the store's model is at hand. It is no fault of a store that only its program can embed for it."""
    try:
        memory.handle.engine()
    except ModelMismatchError as exc:
        seen.note("model", WARNING, error_text(exc))
        memory.handle.any_model = True
        return False
    return True


def _timed(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"
