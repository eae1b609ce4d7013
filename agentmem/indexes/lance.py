"""Vectors on disk: a LanceDB table that is derived from the libSQL repository and can always be rebuilt from it.

One drainer at a time writes (its caller holds a lock across processes); any thread of any process reads, and sees
what was committed before its call. Nothing here is a source of truth, so the answer to damage is always the same:
``StoreCorruptError`` → :meth:`LanceIndex.reset` → apply everything again. There is no way to mend a table in place.

LanceDB does not fsync, so a power cut can damage the newest files. Damage that makes a file unreadable raises. One
kind does not: when the newest manifest is lost, the table silently opens at the version before it, deleted rows
included. :meth:`LanceIndex.state` is there to be compared with what it was after the last write.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from agentmem.indexes import driver
from agentmem.indexes.driver import Table
from agentmem.stores.folder import HeldFolder
from agentmem.types.errors import ClosedError, InvalidInputError, StoreCorruptError, StoreError
from agentmem.types.reentry import from_handler

if TYPE_CHECKING:
    from agentmem.types.ports import Ints, Vector

_T = TypeVar("_T")

# A search loses its files when another process cleans up old versions under it; a fresh handle finds the new ones.
_ATTEMPTS = 3


PART_BITS = 48
ROW = (1 << PART_BITS) - 1
"""The bits of a key that are the row; those above it are the part."""


class LanceIndex:
    """Exact vector search over a LanceDB table in ``folder``, scoped by three integer columns.

    Every method may raise ``StoreCorruptError`` (call :meth:`reset` and apply everything again), ``StoreError``
    (not readable or writable now: permissions, too many open files, a second writer), ``DiskFullError``
    (what the call wrote is not visible; free space and repeat it) and, after :meth:`close`, ``ClosedError``.

    Thread-safe. :meth:`apply`, :meth:`optimize` and :meth:`reset` need the caller to hold the one lock that
    all processes share for this folder; the rest needs no lock. A folder that does not exist is an empty table,
    and only ``apply`` creates it. The first call imports lancedb (1-3 s).
    """

    def __init__(
        self,
        folder: Path,
        *,
        dim: int,
        table: str = "vectors",
        within: HeldFolder | None = None,
        indexed: Callable[[], bool] = lambda: False,
    ) -> None:
        """Remember where the table is. Imports nothing and touches no disk.

        With ``within``, the folder that ``folder`` lies in, it stays there wherever that is moved. ``indexed`` says
        whether :meth:`optimize` is to index the vectors of a large table, for searches that may miss some.
        """
        self._indexed = indexed
        self._within = within
        self._named = folder
        self._folder = folder if within is None else within.path / folder.name
        self._dim = dim
        self._name = table
        self._path = self._folder / f"{table}.lance"
        self._handle: Table | None = None
        self._resets = 0
        self._closed = False
        self._top: tuple[tuple[int, int], tuple[int, bool]] | None = None
        self._sums = dict[str, tuple[tuple[int, int], int]]()

    def apply(self, delete: Sequence[int], rows: Ints, users: Ints, agents: Ints, runs: Ints, vectors: Vector) -> None:
        """Remove the row numbers in ``delete``, then write the given rows, replacing those already present.

        ``rows``, ``users``, ``agents`` and ``runs`` have shape ``(n,)``, ``rows`` without repeats; ``vectors`` is
        float32 of shape ``(n, dim)``, finite and of length one. A number of ``rows`` may have a part above its
        ``PART_BITS``; what is removed or replaced goes with all of its parts. Takes several commits: a reader may see
        rows removed and not yet written. After a crash in between, the same call again gives the right result.
        """
        batch = self._checked(rows, users, agents, runs, vectors)
        if not len(delete) and not len(rows):
            return

        def work(table: Table) -> None:
            top, several = self._known_top(table)
            self._top = None
            new = batch[0] & ROW
            present = np.union1d(np.asarray(delete, dtype=np.int64), new[new <= top])
            driver.delete(table, present, ROW + 1 if several else None)
            if len(rows):
                table.add(driver.to_arrow(*batch))
            # Too high when the largest row was deleted, which only costs a needless look for a row number.
            several = several or bool((batch[0] > ROW).any())
            self._top = (driver.state(table), (max(top, int(new.max(initial=0))), several))

        self._run("apply changes to", work, None, create=len(rows) > 0)

    def state(self) -> tuple[int, int]:
        """The table's version and its number of rows, ``(0, 0)`` when there is no table. Takes under a millisecond.

        Every commit adds one or more to the version, those of :meth:`optimize` too. Keep the pair beside the
        watermark after each write and compare it on opening. A smaller version, or the same version with another
        count, means that commits were lost: reset. A larger version means that a writer died before it noted the
        pair: apply again from the watermark.
        """
        return self._run("read the version of", driver.state, (0, 0))

    def checksums(self) -> dict[str, int]:
        """CRC-32 of each file of the table, by its name within it. Files never change: each is read once.

        LanceDB itself reads damaged numbers without a word. Keep the checksums beside the watermark, and see
        :meth:`damaged`.
        """
        with self._border("read the files of"):
            found = dict[str, tuple[tuple[int, int], int]]()
            for name, path in _files(self._path):
                with suppress(FileNotFoundError):  # cleaned up meanwhile
                    at = os.stat(path)
                    seen = self._sums.get(name)
                    same = seen is not None and seen[0] == (at.st_size, at.st_mtime_ns)
                    found[name] = seen if seen is not None and same else ((at.st_size, at.st_mtime_ns), _crc(path))
            self._sums = found
            return {name: crc for name, (_, crc) in found.items()}

    def damaged(self, noted: Mapping[str, int], state: str) -> list[str]:
        """Files that are not as they were when their checksums and the :meth:`state` were noted.

        A file that is gone counts only if the table is at that very state; else a clean-up may have removed it.
        """
        found = self.checksums()
        gone = sorted(noted.keys() - found.keys()) if state == ",".join(map(str, self.state())) else []
        return [name for name, crc in found.items() if noted.get(name, crc) != crc] + gone

    def search(
        self,
        vector: Vector,
        limit: int,
        *,
        user: int | tuple[int, ...] | None = None,
        agent: int | None = None,
        run: int | None = None,
        rows: Ints | None = None,
        exact: bool = True,
    ) -> tuple[Ints, Vector]:
        """The ``limit`` rows nearest to ``vector`` among those whose columns equal the ids given, and among ``rows``.

        ``vector`` is float32 of shape ``(dim,)`` and of length one. Returns row numbers (int64) and cosine similarities
        (float32, in [-1, 1]), best first, ties by row number; those of further parts have the part in them. Every row
        of the scope is compared; unless it has to be ``exact``, an index is asked where there is one, without ``rows``.
        """
        if vector.shape != (self._dim,):
            raise InvalidInputError(f"vector has shape {vector.shape}, expected ({self._dim},)", field="vector")
        nothing = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
        if limit <= 0:
            return nothing
        scope = _scope(user, agent, run)

        def work(table: Table) -> tuple[Ints, Vector]:
            if not exact and rows is None and (found := driver.near(table, vector, limit, scope)) is not None:
                return ordered(*found)
            several = rows is not None and self._known_top(table)[1]
            chunks = [""] if rows is None else driver.chunks_of(rows, ROW + 1 if several else None)
            predicates = [" AND ".join(part for part in (scope, chunk) if part) for chunk in chunks]
            parts = [nothing, *(driver.nearest(table, vector, limit, where) for where in predicates)]
            return ordered(np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]))

        def ordered(near: Ints, distances: Vector) -> tuple[Ints, Vector]:
            similarity: Vector = np.clip(np.float32(1) - distances, -1, 1)
            order = np.lexsort((near, -similarity))[:limit]
            return near[order], similarity[order]

        return self._run("search", work, nothing)

    def scan(
        self,
        *,
        batch: int = 10_000,
        user: int | None = None,
        agent: int | None = None,
        run: int | None = None,
    ) -> Iterator[tuple[Ints, Ints, Ints, Ints, Vector]]:
        """Every row of the scope, of one version, in no particular order and in blocks of at most ``batch`` rows.

        Yields read-only arrays: rows, users, agents, runs (int64, shape ``(n,)``) and vectors (float32, shape
        ``(n, dim)``). Without the writers' lock, a clean-up in another process can take the version away in the
        middle: that raises ``StoreError``, and the scan has to start again.
        """
        where = _scope(user, agent, run)
        with self._staying():
            opened = self._run("scan", lambda table: (table, table.version), None)
            if opened is None:
                return
            table, version = opened
            try:
                query = table.search().select([*driver.KEYS, "vector"])
                for block in (query.where(where) if where else query).to_batches(batch):
                    yield driver.to_numpy(block, self._dim)
            except Exception as exc:
                error = self._mapped(exc, "scan")
                self._drop(table)
                if isinstance(error, StoreCorruptError) and self.state()[0] != version:
                    error = StoreError(f"{self._named} was cleaned up while it was being scanned; scan it again")
                raise error from exc

    def optimize(self, *, purge: bool = True) -> None:
        """Merge small fragments, index the scope columns of a large table and remove all old versions from the disk.

        With ``purge``, fragments in which a few rows are marked as deleted are rewritten too, so that no vector
        of a deleted row is left in any file; LanceDB by itself leaves them where they are less than a tenth of a
        fragment. The cost is up to one rewrite of the table. Searches go on meanwhile. An index of the vectors takes in
        what was added, and is made anew where something was purged, whose codes it would keep.
        """

        def work(table: Table) -> None:
            self._top = None
            self._remove_unfinished()
            driver.compact(table)
            marked = self._marked_fragments() if purge else []
            if marked:
                driver.rewrite(table, marked)
            created = driver.ensure_indices(table)
            if self._indexed() or (marked and driver.has_near_index(table)):
                created |= driver.index_vectors(table, anew=bool(marked))
            if created or marked:
                driver.compact(table)

        self._run("optimize", work, None)
        with self._border("remove what is left of old tables from"):
            self._sweep()

    def reset(self) -> None:
        """Remove the table, damaged or not, and start empty. Readers see it whole or not at all."""
        with self._border("remove"):
            self._drop(None)
            self._top = None
            if self._folder.is_file():
                # Nobody knows what it is, so it is moved out of the way and not removed.
                self._folder.rename(self._folder.with_name(f"{self._folder.name}.{uuid.uuid4().hex}.old"))
            if os.path.lexists(self._path):
                self._path.rename(self._folder / f"{self._name}.{uuid.uuid4().hex}.old")
            self._sweep()

    def remove_others(self) -> None:
        """Remove every other table of the folder. Needs the writers' lock, as the other tables' own methods do."""
        with self._border("remove old tables from"):
            for name in _names(self._folder):
                if not name.startswith(f"{self._name}."):
                    shutil.rmtree(self._folder / name)

    def close(self) -> None:
        """Release the table. Calls in progress finish; later ones raise ``ClosedError``."""
        self._closed = True
        self._handle = None
        self._within = None

    # -- the border to lancedb ------------------------------------------------------------------------------------

    def _run(self, doing: str, work: Callable[[Table], _T], absent: _T, *, create: bool = False) -> _T:
        """Run ``work`` on the newest version; damage is believed when a handle opened afresh finds it again."""
        attempt = 1
        with self._staying() as within:
            there = partial(_keeping, within)
            while True:
                table: Table | None = None
                try:
                    table = driver.calls.run(partial(there, partial(self._open, create=create)))
                    return absent if table is None else driver.calls.run(partial(there, partial(work, table)))
                except (ClosedError, InvalidInputError, driver.TableBusyError, driver.TableForkedError):
                    raise
                except BaseException as exc:
                    if from_handler(exc) or not driver.is_error(exc):
                        raise
                    error = self._mapped(exc, doing)
                    self._drop(table)
                    if attempt == _ATTEMPTS or not isinstance(error, StoreCorruptError):
                        raise error from exc
                attempt += 1

    @contextmanager
    def _staying(self) -> Generator[HeldFolder | None]:
        """Around whatever uses the folder: it stays where it is until that ends, even if the table is closed."""
        within = self._within
        self._check_open()
        yield within

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"the vector table {self._named} was closed; open a new one")

    def _mapped(self, exc: BaseException, doing: str) -> StoreError:
        error, held, named = driver.mapped(exc, doing, self._path), str(self._folder), str(self._named)
        # LanceDB's own messages have paths without the slash at the beginning.
        return type(error)(str(error).replace(held, named).replace(held[1:], named[1:])) if held != named else error

    @contextmanager
    def _border(self, doing: str) -> Generator[None]:
        try:
            with self._staying():
                yield
        except OSError as exc:
            raise self._mapped(exc, doing) from exc

    def _open(self, *, create: bool) -> Table | None:
        """The shared handle; ``None`` where there is no table and none was asked for.

        Without a lock, which would be held for as long as lancedb takes; of two that are opened at once one is kept.
        """
        table, resets = self._handle, self._resets
        if table is None and not self._closed:
            exists = self._exists()
            if exists or create:
                table = driver.open_table(self._folder, self._name, self._dim, exists=exists)
                if resets == self._resets:
                    self._handle = table
        if self._closed:
            self._handle = None
        self._check_open()
        return table

    def _drop(self, table: Table | None) -> None:
        if table is None:
            self._resets += 1  # and what is being opened is not to be kept
        if table is None or self._handle is table:
            self._handle = None

    def _exists(self) -> bool:
        if any(name.endswith(".manifest") for name in _names(self._path / "_versions")):
            return True
        # A table that is just being created has no data yet.
        if _names(self._path / "data"):
            raise FileNotFoundError(errno.ENOENT, "data files without a manifest", str(self._path))
        return False

    # -- arrays ---------------------------------------------------------------------------------------------------

    def _checked(
        self, rows: Ints, users: Ints, agents: Ints, runs: Ints, vectors: Vector
    ) -> tuple[Ints, Ints, Ints, Ints, Vector]:
        keys = [np.ascontiguousarray(column, dtype=np.int64) for column in (rows, users, agents, runs)]
        for name, column in zip(driver.KEYS, keys, strict=True):
            if column.shape != (len(rows),):
                raise InvalidInputError(f"{name}s have shape {column.shape}, expected ({len(rows)},)", field=f"{name}s")
        if len(np.unique(keys[0])) != len(rows):
            raise InvalidInputError("rows has the same row number twice", field="rows")
        if vectors.shape != (len(rows), self._dim):
            message = f"vectors has shape {vectors.shape}, expected ({len(rows)}, {self._dim})"
            raise InvalidInputError(message, field="vectors")
        if not np.isfinite(vectors).all():
            raise InvalidInputError("vectors has a value that is not finite", field="vectors")
        return keys[0], keys[1], keys[2], keys[3], np.ascontiguousarray(vectors, dtype=np.float32)

    # -- upkeep ---------------------------------------------------------------------------------------------------

    def _known_top(self, table: Table) -> tuple[int, bool]:
        """At least the largest row number present, and whether there is a part of one; remembered while nobody else
        has written."""
        known, state = self._top, driver.state(table)
        if known is None or known[0] != state:
            known = self._top = (state, driver.largest(table, ROW))
        return known[1]

    def _marked_fragments(self) -> list[int]:
        """Fragments with deletion marks: after a clean-up, each file here is one of the newest version.

        The Lance format names them ``{fragment}-{version}-{random}.{arrow|bin}``.
        """
        return sorted({int(name.split("-", 1)[0]) for name in _names(self._path / "_deletions")})

    def _remove_unfinished(self) -> None:
        """Remove what killed writers have left half written: LanceDB leaves it, and it may have vectors of what was
        erased since. The writers' lock says that there is no other one."""
        for folder, _, names in os.walk(self._path):
            for name in filter(_is_unfinished, names):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(folder, name))

    def _sweep(self) -> None:
        """Remove what an interrupted :meth:`reset` left."""
        for name in _names(self._folder):
            if name.startswith(f"{self._name}.") and name.endswith(".old"):
                left = self._folder / name
                if left.is_dir() and not left.is_symlink():
                    shutil.rmtree(left)
                else:
                    left.unlink()


def went_back(noted: str, found: tuple[int, int]) -> bool:
    """Whether a table lost commits since its :meth:`LanceIndex.state` was noted as ``version,count``."""
    version, count = map(int, noted.split(","))
    return found[0] < version or (found[0] == version and found[1] != count)


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    """Names and paths of the files that a table is read from. They never change: a commit makes new ones."""
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "_transactions"]
        for name in names:
            if name == "latest_version_hint.json" or _is_unfinished(name):
                continue
            path = os.path.join(at, name)
            yield os.path.relpath(path, folder), path


def _is_unfinished(name: str) -> bool:
    """Whether a file is yet to get its name."""
    return name.startswith(".tmp")


def _crc(path: str) -> int:
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(1_048_576):
            crc = zlib.crc32(block, crc)
    return crc


def _names(folder: Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not _is_unfinished(name)]
    except FileNotFoundError:
        return []


def _keeping(_: object, call: Callable[[], _T]) -> _T:
    """Call it; what comes first is referred to until it returns, wherever it runs, and whoever no longer waits."""
    return call()


def _scope(user: int | tuple[int, ...] | None, agent: int | None, run: int | None) -> str:
    # int() keeps anything but a number out of the predicate.
    given = (("user", user), ("agent", agent), ("run", run))
    return " AND ".join(
        f"{name} IN ({', '.join(str(int(one)) for one in value)})"
        if isinstance(value, tuple)
        else f"{name} = {int(value)}"
        for name, value in given
        if value is not None
    )
