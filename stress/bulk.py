"""``bulk``: rows through Ray into a Lance dataset and back while workers are killed, lance-ray beside it; embedding."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from stress.local_ray import Clock, Killer, local_ray, watched
from stress.options import Embedder, Json, Seed

DIM = 256
ROW = 4 * DIM + 130
"""Bytes of a row."""
BATCH = 4_096
FAILED_AT = 0.7
ROUNDS = 10
"""Times that rows go through at most until as many workers are killed as should be."""
EMBED_BATCH, EMBED_SLOWLY = 1_024, 64
"""Texts that are embedded at once by the bundled model, and by another one, each of whose texts takes milliseconds."""
ACTORS = (1, 2)
LIMIT_MB = 500
BLOCK = 32 * 2**20
_WORDS = "harbour train mirror lemon winter letter garden violin bridge copper".split()


def bulk(
    rows: Annotated[int, typer.Option(min=0, max=100_000_000, help="Rows of the larger size; 0: none.")] = 2_000_000,
    less: Annotated[int, typer.Option(min=0, help="Rows of the smaller size; 0: none.")] = 500_000,
    kills: Annotated[int, typer.Option(min=0, max=1_000, help="Workers that are killed.")] = 20,
    texts: Annotated[int, typer.Option(min=0, help="Texts that are embedded; 0: none.")] = 200_000,
    beside: Annotated[bool, typer.Option(help="Do the same with lance-ray.")] = True,
    embedder: Embedder = None,
    cpus: Annotated[int, typer.Option(min=1, help="Processors that Ray may use.")] = os.cpu_count() or 2,
    seed: Seed = 0,
    path: Annotated[Path | None, typer.Option(help="Folder for the datasets.")] = None,
    json_file: Json = None,
) -> None:
    """Write rows to a Lance dataset and read them back with Ray, kill workers meanwhile, and compare every row.

    Rows have a vector of 256 numbers and some 130 characters. Each is made of its number, so that every row that is
    read can be compared with what it was. Exit code 1 if one is lost, double or altered, if a file is left over, if a
    worker takes more than 500 MB beside what it shares with the others, or if a job that fails leaves rows.
    """
    found = dict[str, Any]()

    def note(name: str, figures: dict[str, Any]) -> None:
        found[name] = figures
        print(f"{name}: {figures}", flush=True)

    with tempfile.TemporaryDirectory(prefix="agentmem-bulk-", dir=path) as name:
        folder = Path(name)
        alone = {count: _models_alone(embedder, texts, count) for count in ACTORS} if texts else {}
        if rows:
            with local_ray(cpus) as ray:
                # Ray's own 128 MB are what a task makes before it hands on.
                ray.data.DataContext.get_current().target_max_block_size = BLOCK
                for library in (Ours, LanceRay) if beside else (Ours,):
                    _measure(library, folder, (less, rows) if less and library is Ours else (rows,), kills, seed, note)
                for library in (Ours, LanceRay, Streamed) if beside else (Ours,):
                    failed = failing(library(folder / "failing"), max(rows // 10, 50_000))
                    note(f"{library.name}, a job that fails", failed)
        if texts:
            # Actors take their processors for good: without one more, nobody would read for them.
            with local_ray(cpus + 1):
                figures = _embedding(folder, embedder, texts)
            # The better of before and after: whatever else the machine does makes it slower, never faster.
            best = {count: max(before, _models_alone(embedder, texts, count)) for count, before in alone.items()}
            note("embedding", figures | _beside(figures, best))
    _show(found)
    wrong = list(_wrong(found))
    for line in wrong:
        print(line, flush=True)
    if json_file is not None:
        json_file.write_text(json.dumps({"ok": not wrong, "found": found}, indent=2), encoding="utf-8")
    print("FAILED" if wrong else "ok", flush=True)
    if wrong:
        raise typer.Exit(1)


def _measure(
    library: type[Ours], folder: Path, sizes: Sequence[int], kills: int, seed: int, note: Callable[..., None]
) -> None:
    """Each size undisturbed, and the last one until as many workers are killed as should be."""
    figures = dict[str, Any]()
    for size in sizes:
        figures = _told(through, library(folder / "plain"), size, Killer(0, 1), Killer(0, 1))
        note(f"{library.name}, {size:,}", figures)
    writing, reading = (
        Killer(count, max(0.2, figures.get(part, 10) / (count + 2)), seed)
        for count, part in ((kills - kills // 2, "write_s"), (kills // 2, "read_s"))
    )
    for _ in range(ROUNDS):
        if len(writing.killed) + len(reading.killed) < kills:
            figures = _told(through, library(folder / "killed"), sizes[-1], writing, reading)
            killed = f"{len(writing.killed)} killed writing, {len(reading.killed)} reading"
            note(f"{library.name}, {sizes[-1]:,}, {killed}", figures)


def _told(run: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What it found, or that it failed."""
    try:
        return run(*arguments)
    except Exception as exc:
        return {"raised": f"{type(exc).__name__}: {exc}"[:500]}


def _wrong(found: dict[str, Any]) -> Iterator[str]:
    """What may not be, of ours; of what stands beside it is only told."""
    for name, figures in found.items():
        if name.startswith("ours"):
            bad = [
                part for part in ("raised", "lost", "double", "altered", "orphans", "committed") if figures.get(part)
            ]
            if figures.get("worker_own_mb", 0) > LIMIT_MB:
                bad.append(f"worker_own_mb {figures['worker_own_mb']}")
            if bad:
                yield f"{name}: {', '.join(bad)}"


# -- rows --------------------------------------------------------------------------------------------------------------


def made(ids: np.ndarray) -> dict[str, Any]:
    """The rows with these numbers: as different as numbers are, and the same each time."""
    mixed = (ids.astype(np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15)) + np.arange(
        DIM, dtype=np.uint64
    ) * 0xBF58476D
    mixed ^= mixed >> np.uint64(29)
    content = [f"{id} " + " ".join(_WORDS[(id >> shift) % 10] for shift in range(20)) for id in ids.tolist()]
    return {"id": ids, "content": content, "vector": (mixed & np.uint64(0xFFFF)).astype(np.float32)}


def _rows(batch: dict[str, np.ndarray]) -> dict[str, Any]:
    return made(batch["id"])


def _failing_rows(batch: dict[str, np.ndarray], last: int) -> dict[str, Any]:
    if (batch["id"] >= last).any():
        raise RuntimeError("as it was meant to")
    return made(batch["id"])


def _compared(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Whether rows are what they were, and nothing else of them."""
    ids = batch["id"]
    wanted = made(ids)
    vectors = np.stack(list(batch["vector"]))
    same = (vectors == wanted["vector"]).all(axis=1) & (batch["content"] == np.array(wanted["content"], object))
    return {"id": ids, "same": same}


class Ours:
    """This library's datasink and datasource."""

    name = "ours"

    def __init__(self, uri: Path) -> None:
        self.uri = str(uri)

    def write(self, dataset: Any, rows_of_task: int | None = None) -> None:
        from agentmem.distributed.datasink import write_lance

        write_lance(dataset, self.uri, **({"task_bytes": rows_of_task * ROW} if rows_of_task else {}))

    def read(self) -> Any:
        from agentmem.distributed.datasource import read_lance

        return read_lance(self.uri)


class LanceRay(Ours):
    """lance-ray's, as its documentation says."""

    name = "lance-ray"

    def write(self, dataset: Any, rows_of_task: int | None = None) -> None:
        import lance_ray

        lance_ray.write_lance(dataset, self.uri, **({"min_rows_per_file": rows_of_task} if rows_of_task else {}))

    def read(self) -> Any:
        import lance_ray

        return lance_ray.read_lance(self.uri)


class Streamed(LanceRay):
    """lance-ray's, for more rows than fit into memory."""

    name = "lance-ray, streamed"

    def write(self, dataset: Any, rows_of_task: int | None = None) -> None:
        import lance_ray

        rows = {} if rows_of_task is None else {"min_rows_per_file": rows_of_task}
        lance_ray.write_lance(dataset, self.uri, stream=True, **rows)


def through(library: Ours, rows: int, writing: Killer, reading: Killer) -> dict[str, Any]:
    """Rows into a dataset and out of it again, with whatever the killers of either do meanwhile."""
    import ray.data

    _remove(library.uri)
    counts, altered = np.zeros(rows, np.int64), 0
    with watched() as watch:
        clock = Clock()
        with writing.at_work():
            library.write(ray.data.range(rows).map_batches(_rows, batch_size=BATCH))
        write_s, clock = clock.seconds, Clock()
        with reading.at_work():
            for batch in library.read().map_batches(_compared, batch_size=BATCH).iter_batches(batch_size=None):
                counts += np.bincount(batch["id"], minlength=rows)
                altered += int((~batch["same"]).sum())
        read_s = clock.seconds
    orphans = len(_orphans(library.uri))
    return {
        "write_s": round(write_s, 1), "write_rows_s": round(rows / write_s),
        "read_s": round(read_s, 1), "read_rows_s": round(rows / read_s),
        "lost": int((counts == 0).sum()), "double": int((counts > 1).sum()), "altered": altered,
        "orphans": orphans, "killed": writing.killed + reading.killed, **watch.to_dict(),
    }  # fmt: skip


def failing(library: Ours, rows: int) -> dict[str, Any]:
    """What a job leaves that fails when most of it is done: committed rows, and files of none."""
    import ray.data

    _remove(library.uri)
    try:
        made = ray.data.range(rows, override_num_blocks=rows // BATCH).map_batches(
            _failing_rows, batch_size=BATCH, fn_kwargs={"last": int(rows * FAILED_AT)}
        )
        library.write(made, rows_of_task=2 * BATCH)
    except Exception as exc:
        failed = type(exc).__name__
    else:
        failed = "nothing failed"
    return {"failed": failed, "committed": _committed(library.uri), "orphans": len(_orphans(library.uri))}


def _committed(uri: str) -> int:
    import lance

    try:
        return lance.dataset(uri).count_rows()
    except ValueError:
        return 0


def _orphans(uri: str) -> list[str]:
    """All files under the dataset but those of its versions, whoever left them there."""
    import lance

    named = set[str]()
    if _committed(uri):
        dataset = lance.dataset(uri)
        for version in dataset.versions():
            for fragment in dataset.checkout_version(version["version"]).get_fragments():
                named |= {file.path for file in fragment.data_files()}
    files = [path for path in Path(uri).rglob("*") if path.is_file()]
    return [
        path.name for path in files if path.parts[-2] not in ("_versions", "_transactions") and path.name not in named
    ]


def _remove(uri: str) -> None:
    import shutil

    shutil.rmtree(uri, ignore_errors=True)


# -- embedding ---------------------------------------------------------------------------------------------------------


def _text(number: int) -> str:
    return made(np.array([number], np.int64))["content"][0] + " and then we went home, as always."


def _batch(embedder: str | None) -> int:
    return EMBED_BATCH if embedder is None else EMBED_SLOWLY


def _models_alone(embedder: str | None, texts: int, processes: int) -> float:
    """The same of so many processes at once, together: two processors are not always twice as much as one."""
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        return sum(pool.map(_model_alone, [embedder] * processes, [texts] * processes))


def _model_alone(embedder: str | None, texts: int) -> float:
    """Texts a second of the model with one thread, and nothing else to do."""
    from agentmem.embedding import open_embedder

    model, size = open_embedder(embedder, threads=1, cache_size=0), _batch(embedder)
    batches = [[_text(at + n) for n in range(size)] for at in range(0, min(texts, 50_000), size)]
    model.embed_documents(batches[0])
    clock = Clock()
    for batch in batches:
        model.embed_documents(batch)
    return len(batches) * size / clock.seconds


class Timed:
    """A model that notes when it was asked and for how long."""

    name = "stress/timed"

    def __init__(self, folder: Path, embedder: str | None, dim: int) -> None:
        self._folder, self._embedder, self._model = folder, embedder, None
        self.dim = dim

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        from agentmem.embedding import open_embedder

        if self._model is None:
            self._model = open_embedder(self._embedder, threads=1, cache_size=0)
        begun = time.time()
        vectors = self._model.embed_documents(texts)
        with open(self._folder / f"{os.getpid()}.calls", "a", encoding="utf-8") as calls:
            calls.write(f"{begun} {time.time()} {len(texts)}\n")
        return vectors

    def embed_query(self, text: str) -> np.ndarray:
        return self.embed_documents([text])[0]


def _embedding(folder: Path, embedder: str | None, texts: int) -> dict[str, Any]:
    """Rows a second of a job that reads a corpus, embeds it and writes it: in all, and once its actors are there."""
    import ray.data

    from agentmem.distributed.bulk import embed
    from agentmem.distributed.datasink import write_lance
    from agentmem.distributed.datasource import read_lance
    from agentmem.embedding import open_embedder

    dim, batch = open_embedder(embedder).dim, _batch(embedder)

    def corpus(batch: dict[str, np.ndarray]) -> dict[str, Any]:
        return {"id": batch["id"], "content": [_text(id) for id in batch["id"].tolist()]}

    write_lance(ray.data.range(texts).map_batches(corpus), str(folder / "corpus"), task_bytes=4 * 2**20)
    found = dict[str, Any]()
    for actors in ACTORS:
        calls = folder / f"calls-{actors}"
        calls.mkdir()
        # Nobody watches here: looking at all processes takes a part of a processor.
        clock = Clock()
        made = embed(read_lance(str(folder / "corpus")), model=Timed(calls, embedder, dim), actors=actors, batch=batch)
        write_lance(made, str(folder / f"embedded-{actors}"))
        seconds = clock.seconds
        times = [line.split() for file in calls.iterdir() for line in file.read_text().splitlines()]
        span = max(float(end) for _, end, _ in times) - min(float(begin) for begin, _, _ in times)
        busy = sum(float(end) - float(begin) for begin, end, _ in times)
        found |= {
            f"{actors}_rows_s": round(texts / seconds), f"{actors}_steady_rows_s": round(texts / span),
            f"{actors}_busy": round(busy / span / actors, 2),
        }  # fmt: skip
    return found


def _beside(figures: dict[str, Any], alone: dict[int, float]) -> dict[str, Any]:
    """The steady rates beside the model alone, in as many processes as there were actors."""
    shares = {f"{count}_of_alone": round(figures[f"{count}_steady_rows_s"] / rate, 2) for count, rate in alone.items()}
    return {f"{count}_alone_rows_s": round(rate) for count, rate in alone.items()} | shares


def _show(found: dict[str, Any]) -> None:
    table = Table("", "rows/s written", "read", "lost", "double", "altered", "orphans", "killed", "worker MB", "own MB")
    for name, one in found.items():
        if "write_s" in one:
            cells = [one[part] for part in ("write_rows_s", "read_rows_s", "lost", "double", "altered", "orphans")]
            cells += [len(one["killed"]), one["worker_rss_mb"], one["worker_own_mb"]]
            table.add_row(name, *(f"{cell:,}" for cell in cells))
    console = Console(width=140)
    console.print(table)
    for name, one in found.items():
        if "write_s" not in one:
            console.print(f"{name}: {', '.join(f'{part} {value}' for part, value in one.items())}", markup=False)
