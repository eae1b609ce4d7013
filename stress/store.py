"""The store that a run works on: fresh, and removed afterwards unless the caller named a place for it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from agentmem import Memory, Settings

BATCH = 1_000


@contextmanager
def fresh_folder(path: Path | None) -> Iterator[Path]:
    """``path``, which must not hold anything yet, or a temporary folder."""
    if path is None:
        with tempfile.TemporaryDirectory(prefix="agentmem-stress-") as folder:
            yield Path(folder) / "store"
        return
    if path.exists() and any(path.iterdir()):
        raise typer.BadParameter(f"{path} is not empty; a run needs a store of its own", param_hint="--path")
    yield path


@contextmanager
def opened(path: Path, embedder: str | None, settings: Settings | None = None) -> Iterator[Memory]:
    with Memory(path, settings=settings, embedder=embedder) as memory:
        memory.warm_up()
        yield memory


@contextmanager
def progress(what: str, total: float) -> Iterator[Ticker]:
    """A progress bar on a terminal; nothing elsewhere."""
    screen = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(), console=screen, transient=True, disable=not screen.is_terminal, refresh_per_second=4,
    )  # fmt: skip
    with bar:
        yield Ticker(bar, what, total)


class Ticker:
    """One bar."""

    def __init__(self, bar: Progress, what: str, total: float) -> None:
        self._bar = bar
        self._task = bar.add_task(what, total=total, rate="")

    def at(self, done: float, rate: str = "") -> None:
        if not self._bar.disable:
            self._bar.update(self._task, completed=done, rate=rate)
