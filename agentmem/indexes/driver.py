"""The border to LanceDB: the one file that imports it, what is asked of its tables, and its errors as ours."""

from __future__ import annotations

import atexit
import errno
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from threading import current_thread, get_ident, main_thread
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from agentmem.types.errors import DiskFullError, StoreCorruptError, StoreError
from agentmem.types.promise import aside

if TYPE_CHECKING:
    from agentmem.types.ports import Ints, Vector

T = TypeVar("T")
KEYS = ("row", "user", "agent", "run")

# LanceDB parses a predicate at 4-25 µs per number; each chunk of a delete is a commit of its own.
_CHUNK = 5_000

# Below this many rows a scan of the scope columns is as fast as the index.
_INDEX_FROM = 20_000

# Below this many, all vectors are read in some 100 ms.
NEAR_FROM = 100_000
_PARTITIONS, _REFINED = 64, 10
# The index is not asked for more than one in so many rows, nor where a predicate leaves less than this share of them.
_RARE, _SHARE = 50, 0.2

# LanceDB's own limits are 6 GB and 1 GB.
_INDEX_CACHE_BYTES = 256 * 2**20
_METADATA_CACHE_BYTES = 64 * 2**20

# What LanceDB reads ahead (bytes, by itself 2 GiB) and at once (rows, 8,192), which it takes from the environment only.
# With a million vectors of 256 numbers, merging takes 190 MB so instead of 580, and a search of all 0.4 s instead of 1.
_READING = {"LANCE_DEFAULT_IO_BUFFER_SIZE": str(16 * 2**20), "LANCE_DEFAULT_BATCH_SIZE": "1024"}

# Zero would do the same, with a warning on every call.
_AT_ONCE = timedelta(milliseconds=1)

# Seconds without a call before the interpreter may end, and the longest that it waits for that.
_QUIET, _EXIT_WAIT = 0.1, 10.0

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DAMAGE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST})
_OS_ERROR = re.compile(r"(?:os error |Os \{ code: )(\d+)")


class Table(Protocol):
    """What is used of ``lancedb.table.LanceTable``, whose own types pyright cannot follow into pyarrow."""

    @property
    def version(self) -> int: ...
    def count_rows(self, filter: str | None = None) -> int: ...
    def add(self, data: Any) -> object: ...
    def delete(self, where: str) -> object: ...
    def update(self, *, where: str, values_sql: dict[str, str]) -> object: ...
    def optimize(self, *, cleanup_older_than: timedelta, delete_unverified: bool) -> object: ...
    def search(self, query: Vector | None = None, vector_column_name: str | None = None) -> Any: ...
    def list_indices(self) -> Iterable[Any]: ...
    def create_index(self, column: str, *, config: Any, replace: bool = True) -> object: ...


class TableCorruptError(StoreCorruptError):
    """The vector table is damaged: reset it. The truth is elsewhere. Never leaves the package."""


class TableBusyError(StoreError):
    """LanceDB cannot be asked from here: it is waiting for this very thread. Never leaves the package."""


class TableForkedError(StoreError):
    """LanceDB was loaded before this process was forked: what it does here destroys memory, or waits for ever."""

    def __init__(self) -> None:
        super().__init__(
            "LanceDB was loaded before this process was forked, and its threads did not come along. Everything is "
            "stored, and searches find it; LanceDB is brought up to date by any other process that has the store open. "
            'Fork before anything uses a store, or start processes by "spawn" or "forkserver"'
        )


class Calls:
    """Knows the calls into lancedb, so that the interpreter does not end under one, and none waits for itself.

    Its worker threads come back to Python for a moment after each call; where they find an interpreter that is shutting
    down, the process aborts. Nothing would be lost, but it looks as if.

    All calls of a process are answered by one thread. What a signal handler or a finalizer does on top of a call, or on
    top of that thread, would wait for it in vain.
    """

    def __init__(self) -> None:
        self._running = set[int]()
        self._put_off = list[Callable[[], object]]()
        self._quiet_since = 0.0
        self.forked = False
        """Whether this process was forked from one that had loaded LanceDB."""

    def run(self, call: Callable[[], T]) -> T:
        """What ``call`` returns. Raises ``TableBusyError`` instead of waiting for itself, and ``TableForkedError``."""
        if self.forked:
            raise TableForkedError
        thread = get_ident()
        if thread in self._running or on_loop():
            raise TableBusyError("LanceDB is at work for a call that this one interrupted")
        try:
            while self._put_off:
                with suppress(IndexError):  # another thread was quicker
                    atexit.register(self._put_off.pop())
            self._running.add(thread)
            # Signal handlers run on the main thread; lancedb's own code does not stand their exceptions everywhere.
            return aside(call) if current_thread() is main_thread() else call()
        finally:
            self._running.discard(thread)
            self._quiet_since = time.monotonic()

    def wait(self) -> None:
        """Wait until there was no call for a moment, but not for one that hangs."""
        deadline = time.monotonic() + _EXIT_WAIT
        while time.monotonic() < deadline and (self._running or time.monotonic() - self._quiet_since < _QUIET):
            time.sleep(0.01)

    def forget(self) -> None:
        """In a forked process no thread is in the middle of a call. What lancedb does at the end of a process waits for
        threads that this one has once something was called here, and for ever before."""
        self.forked = loaded()
        if self.forked:  # LanceDB's own function for this is called later, and warns of what is not done here
            warnings.filterwarnings("ignore", "lancedb fork support", RuntimeWarning)
        self._running.clear()
        self._put_off = list(_at_exit)
        for func in _at_exit:
            atexit.unregister(func)


calls = Calls()
atexit.register(calls.wait)
_at_exit = list[Callable[[], object]]()
"""What lancedb does at the end of a process."""


@contextmanager
def _noting_what_it_does_at_exit() -> Generator[None]:
    """Around lancedb's import, which registers a function that is not to be had otherwise."""
    register = atexit.register

    def note(func: Callable[..., T], *args: Any, **more: Any) -> Callable[..., T]:
        if getattr(func, "__module__", None) == "lancedb._lancedb":
            _at_exit.append(func)
        return register(func, *args, **more)

    atexit.register = note
    try:
        yield
    finally:
        atexit.register = register


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=calls.forget)


def loaded() -> bool:
    """Whether this process has loaded LanceDB, or is about to."""
    return "lancedb" in sys.modules


def usable() -> bool:
    """Whether this process may use LanceDB: one that was forked from another that had loaded it may not."""
    return not calls.forked


def open_table(folder: Path, name: str, dim: int, *, exists: bool) -> Table:
    """The table with the columns that are expected of it, made if it does not exist."""
    lancedb, schema = _lancedb(), _schema(dim)
    session = lancedb.Session(_INDEX_CACHE_BYTES, _METADATA_CACHE_BYTES)
    connection: Any = lancedb.connect(folder, read_consistency_interval=timedelta(0), session=session)
    table = connection.open_table(name) if exists else connection.create_table(name, schema=schema)
    if not table.schema.equals(schema):
        raise ValueError(f"its columns are {table.schema.to_string()!r}, expected {schema.to_string()!r}")
    return table


def to_arrow(rows: Ints, users: Ints, agents: Ints, runs: Ints, vectors: Vector) -> Any:
    """Arrays of shape ``(n,)`` and vectors of shape ``(n, dim)`` as an Arrow table with the columns of ours."""
    pa, dim = _pyarrow(), vectors.shape[1]
    keys = [pa.array(column) for column in (rows, users, agents, runs)]
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dim)
    return pa.table([*keys, flat], schema=_schema(dim))


def to_numpy(block: Any, dim: int) -> tuple[Ints, Ints, Ints, Ints, Vector]:
    """The other way round, for a block of a scan; read-only arrays."""
    rows, users, agents, runs = (block.column(name).to_numpy() for name in KEYS)
    return rows, users, agents, runs, block.column("vector").flatten().to_numpy().reshape(-1, dim)


def nearest(table: Table, vector: Vector, limit: int, where: str) -> tuple[Ints, Vector]:
    """The ``limit`` rows of a predicate (empty: all) with the smallest distance ``1 - cosine``, and that; unordered."""
    query = table.search(vector, "vector")
    query = query.distance_type("dot").bypass_vector_index().select(["row", "_distance"]).limit(limit)
    found = (query.where(where, prefilter=True) if where else query).to_arrow()
    return found.column("row").to_numpy(), found.column("_distance").to_numpy()


def near(table: Table, vector: Vector, limit: int, where: str) -> tuple[Ints, Vector] | None:
    """The same by the index of vectors, which may miss some; None where there is none, or it is not to be used.

    It is not where a predicate leaves few rows: those are read, which finds all of them, and takes no longer.
    """
    if not has_near_index(table):
        return None
    rows = table.count_rows()
    if limit * _RARE > rows or (where and table.count_rows(where) < _SHARE * rows):
        return None
    query = table.search(vector, "vector").distance_type("dot").select(["row", "_distance"]).limit(limit)
    query = query.minimum_nprobes(_PARTITIONS).maximum_nprobes(0).refine_factor(_REFINED)
    found = (query.where(where, prefilter=True) if where else query).to_arrow()
    if len(found) < limit:
        return None
    return found.column("row").to_numpy(), found.column("_distance").to_numpy()


def has_near_index(table: Table) -> bool:
    return any("vector" in index.columns for index in table.list_indices())


def index_vectors(table: Table, *, anew: bool) -> bool:
    """Index the vectors, once that pays, or ``anew`` if they are indexed; whether that was done.

    RaBitQ codes of a bit a number in 64 lists, all of which a search reads: of dialogue, the ten nearest are among the
    2,000 that it then compares as they are, but for two of a thousand. Fewer lists read, or codes of products, miss
    more.
    """
    there = has_near_index(table)
    if (there and not anew) or table.count_rows() < NEAR_FROM:
        return False
    config = _lancedb().index.IvfRq(distance_type="dot", num_partitions=_PARTITIONS, num_bits=1)
    table.create_index("vector", config=config, replace=True)
    return True


def on_loop() -> bool:
    """Whether this is the thread that answers all calls into lancedb."""
    loop: Any = getattr(sys.modules.get("lancedb.background_loop"), "LOOP", None)
    return loop is not None and loop.thread.ident == get_ident()


@cache
def _lancedb() -> Any:
    def load() -> Any:
        for name, value in _READING.items():
            os.environ.setdefault(name, value)
        with _noting_what_it_does_at_exit():
            import lancedb

        return lancedb

    return aside(load)


def _schema(dim: int) -> Any:
    pa = _pyarrow()
    columns = [pa.field(name, pa.int64(), nullable=False) for name in KEYS]
    return pa.schema([*columns, pa.field("vector", pa.list_(pa.float32(), dim), nullable=False)])


def _pyarrow() -> Any:
    import pyarrow

    return pyarrow


def state(table: Table) -> tuple[int, int]:
    while True:
        version, count = table.version, table.count_rows()
        if table.version == version:
            return version, count


def largest(table: Table, mask: int) -> tuple[int, bool]:
    """The largest row number by the bits of a mask, and whether any has others."""
    top, beyond = 0, False
    for block in table.search().select(["row"]).to_batches(100_000):
        rows = block.column("row").to_numpy()
        top = max(top, int((rows & mask).max(initial=0)))
        beyond = beyond or bool((rows > mask).any())
    return top, beyond


def chunks_of(rows: Ints, modulus: int | None = None) -> Iterator[str]:
    """Predicates that together mean these rows; with ``modulus``, whatever leaves one of them as the remainder."""
    column = "row" if modulus is None else f"row % {modulus}"
    for start in range(0, len(rows), _CHUNK):
        yield f"{column} IN ({','.join(map(str, rows[start : start + _CHUNK].tolist()))})"


def delete(table: Table, rows: Ints, modulus: int | None = None) -> None:
    for chunk in chunks_of(rows, modulus):
        table.delete(chunk)


def compact(table: Table) -> None:
    # Files of unfinished commits are removed at any age: the caller's lock says that there is no other writer.
    table.optimize(cleanup_older_than=_AT_ONCE, delete_unverified=True)


def rewrite(table: Table, fragments: Sequence[int]) -> None:
    """Move the live rows of these fragments to new ones, in one commit: an update that changes nothing does that.

    Compaction would need a lower threshold for deletions, which LanceDB's Python API does not offer. A row id is the
    fragment's number in the upper 32 bits and the offset in the lower.
    """
    where = " OR ".join(f"(_rowid >= {number << 32} AND _rowid < {(number + 1) << 32})" for number in fragments)
    table.update(where=where, values_sql={"run": "run"})


def ensure_indices(table: Table) -> bool:
    """Index the columns that searches and deletes look up, once that pays; whether something was created."""
    if table.count_rows() < _INDEX_FROM:
        return False
    missing = {"row", "user"} - {column for index in table.list_indices() for column in index.columns}
    for column in sorted(missing):
        table.create_index(column, config=_lancedb().index.BTree())
    return bool(missing)


def is_error(exc: BaseException) -> bool:
    """Whether lancedb failed. It panics where it can start no thread or open no file, and a panic is no Exception."""
    return isinstance(exc, Exception) or type(exc).__name__ == "PanicException"


def mapped(exc: BaseException, doing: str, path: Path) -> StoreError:
    """The error of ours for one of the driver, which only tells them apart in its text.

    What is neither a full disk, nor another trouble of the operating system, nor a second writer is damage.
    """
    text = str(exc).split(", /", 1)[0]
    found = _OS_ERROR.search(str(exc))
    code = exc.errno if isinstance(exc, OSError) else int(found[1]) if found else None
    if code in _FULL:
        return DiskFullError(f"no space left to {doing} {path}; free some and try again ({text})")
    if code is not None and code not in _DAMAGE:
        return StoreError(f"cannot {doing} {path}: {text}")
    if "conflict" in text.lower() or "concurrent" in text.lower():
        return StoreError(f"cannot {doing} {path}: something else wrote to it at the same time ({text})")
    return TableCorruptError(f"cannot {doing} {path}: {text}; it is derived data, reset it and build it again")
