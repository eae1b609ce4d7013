"""Lance datasets by fragments: the one file that imports Lance, and its errors as ours.

A fragment is some rows in files of their own. Fragments are written by whoever has the rows, and are nothing until one
coordinator commits a list of them as the dataset's next version; what is never committed is an orphan, and goes. A
fragment's name says which run wrote it and has a digest of the rows (their *content*), so that a coordinator that is
handed the same rows twice by one task commits them once.
"""

# Lance is not installed where types are checked.
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from platform import node
from typing import TYPE_CHECKING, Any, TypeVar

from agentmem.archive.retries import Retries
from agentmem.errors import (
    ArchiveAccessError,
    ArchiveError,
    ArchiveUnavailableError,
    InvalidInputError,
    MissingExtraError,
    ObjectExistsError,
    ObjectNotFoundError,
)

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

MAX_ROWS = 1_000_000
"""Rows of a file at most."""
MAX_BYTES = 90 * 2**30
"""Bytes of a file at most."""
_BATCH = 4_096
"""Rows that are written at a time, however many come at once."""
_LONGEST = 32.0
_ATTEMPTS = 11

# Lance would try again by itself, for three minutes, inside of each of our attempts.
_OPTIONS = {"client_max_retries": "0", "connect_timeout": "10s", "timeout": "120s"}

RUN = re.compile(r"bulk(\d{14})[0-9a-f]{8}")
_STATUS = re.compile(r"status code: (\d{3})")
_LATER = frozenset({408, 429, 500, 502, 503, 504})
_NETWORK = re.compile(r"HTTP error|error sending request|timed out|timeout|connection (?:reset|closed|refused)", re.I)
_MISSING = re.compile(r"was not found|Not found:")
_REFUSED = re.compile(r"Invalid user input|Schema error|Invalid argument|not enough rows")
_WHERE = re.compile(r",? \S+/rust/\S+\.rs:\d+:\d+")


def retries() -> Retries:
    """At once, then after 1, 2, 4, 8, 16, 32, 32, 32 and 32 seconds: what may succeed a little later."""
    return Retries(_ATTEMPTS, longest=_LONGEST)


def new_run(now: datetime | None = None) -> str:
    """A name for one run of a writer, with the time in it, so that the names of files say how old they are."""
    return f"bulk{now or datetime.now(UTC):%Y%m%d%H%M%S}{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True)
class Place:
    """Where a dataset lies: a folder or a URL, with Lance's ``storage_options`` for it.

    Without options S3, Google and Azure are reached with what the environment says, as the archives are.
    """

    uri: str
    storage_options: Mapping[str, str] | None = field(default=None, repr=False)

    @property
    def folder(self) -> Path | None:
        """The folder, where it is one."""
        if "://" not in self.uri:
            return Path(self.uri)
        return Path(self.uri[len("file://") :]) if self.uri.startswith("file://") else None

    @property
    def options(self) -> dict[str, str] | None:
        return None if self.folder else {**_OPTIONS, **(self.storage_options or {})}

    def open(self, version: int | None = None) -> Any:
        """The dataset, the latest version or that one. Raises ``ObjectNotFoundError`` where there is none."""
        with ours(f"cannot open {self.uri}"):
            return lance().dataset(self.uri, version=version, storage_options=self.options)

    def open_if_there(self) -> Any | None:
        """The latest version, or None where there is no dataset."""
        try:
            return self.open()
        except ObjectNotFoundError:
            return None

    def files(self) -> list[str]:
        """The names of all data files, committed or not."""
        with ours(f"cannot list {self.uri}"):
            return self._data().list()

    def upload(self, file: Path, name: str) -> None:
        with ours(f"cannot write {self.uri}/data/{name}"):
            self._data().upload_file(str(file), name)

    def delete(self, name: str) -> None:
        with ours(f"cannot delete {self.uri}/data/{name}"), suppress(ObjectNotFoundError):
            self._data().delete_file(name)

    def _data(self) -> Any:
        from lance.file import LanceFileSession

        return LanceFileSession(f"{self.uri.rstrip('/')}/data", storage_options=self.options)


@dataclass(frozen=True)
class Written:
    """A fragment that is written and not yet committed: its metadata as JSON, and whose rows it has."""

    content: str
    """The digest of the rows of the task that wrote it, and its place among that task's fragments."""
    task: int
    rows: int
    bytes: int
    metadata: str


def write_fragments(
    place: Place,
    tables: Iterable[pa.Table],
    schema: pa.Schema,
    *,
    run: str,
    task: int,
    max_rows: int = MAX_ROWS,
    max_bytes: int = MAX_BYTES,
    version: str | None = None,
) -> list[Written]:
    """Write the rows as files of the dataset, and commit nothing.

    The files grow in a scratch folder, beside a dataset that is a folder, else in the node's own; whole and named they
    are moved. A batch at a time is held, not the rows. ``version`` is Lance's ``data_storage_version``.
    """
    import pyarrow as pa

    digest = hashlib.blake2b(f"{task}\n{schema}\n".encode(), digest_size=16)
    with _scratch(place, run) as scratch:
        failed = list[Exception]()
        batches = _hashed(_even(tables, schema), digest, failed)
        reader = pa.RecordBatchReader.from_batches(schema, batches)
        try:
            with ours(f"cannot write fragments of {place.uri}"):
                fragments = lance().fragment.write_fragments(
                    reader, str(scratch), schema, mode="create", max_rows_per_file=max_rows,
                    max_bytes_per_file=max_bytes, data_storage_version=version,
                )  # fmt: skip
        except ArchiveError as exc:
            raise failed[0] if failed else exc from None
        attempt = uuid.uuid4().hex[:8]
        written = list[Written]()
        for number, fragment in enumerate(fragments):
            content = f"{digest.hexdigest()}-{number}"
            written.append(_move(place, scratch, fragment, f"{run}-{content}-{attempt}", content, task))
    return written


def _move(place: Place, scratch: Path, fragment: Any, name: str, content: str, task: int) -> Written:
    described, size = fragment.to_json(), 0
    for part, file in enumerate(described["files"]):
        source, target = scratch / "data" / file["path"], f"{name}{f'-{part}' if part else ''}.lance"
        size += source.stat().st_size
        if place.folder is None:
            retries().call(lambda source=source, target=target: place.upload(source, target))
        else:
            data = place.folder / "data"
            data.mkdir(parents=True, exist_ok=True)
            _synced(source)
            os.replace(source, data / target)
            _synced(data)
        file["path"] = target
    return Written(content, task, fragment.physical_rows, size, json.dumps(described))


def _even(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of one size: what they were cut into says nothing of what they are."""
    import pyarrow as pa

    held, rows = list[pa.Table](), 0
    for table in tables:
        if set(table.column_names) != set(schema.names):
            raise InvalidInputError(
                f"rows have the columns {', '.join(table.column_names)}; they should have {', '.join(schema.names)}",
                field="schema",
            )
        held.append(table.select(schema.names).cast(schema))
        rows += table.num_rows
        if rows < _BATCH:
            continue
        whole = pa.concat_tables(held)
        for start in range(0, rows - rows % _BATCH, _BATCH):
            yield from whole.slice(start, _BATCH).combine_chunks().to_batches()
        held, rows = [whole.slice(rows - rows % _BATCH)], rows % _BATCH
    if rows:
        yield from pa.concat_tables(held).combine_chunks().to_batches()


def _hashed(batches: Iterator[pa.RecordBatch], digest: Any, failed: list[Exception]) -> Iterator[pa.RecordBatch]:
    """The batches, told to the digest; what they raise is kept, since Lance makes a text of it."""
    try:
        for batch in batches:
            digest.update(batch.serialize())
            yield batch
    except Exception as exc:
        failed.append(exc)
        raise


@contextmanager
def _scratch(place: Place, run: str) -> Iterator[Path]:
    """A folder for files that grow; what killed workers left on this node goes first."""
    if place.folder is None:
        parent = Path(tempfile.gettempdir()) / f"agentmem-bulk-{getpass.getuser()}"
    else:
        parent = place.folder / "_bulk" / run
    parent.mkdir(parents=True, exist_ok=True)
    for other in parent.glob(f"*-{node()}-*"):
        if not _alive(int(other.name.partition("-")[0])):
            shutil.rmtree(other, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-{node()}-", dir=parent))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _synced(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# -- the border --------------------------------------------------------------------------------------------------------


def lance() -> Any:
    """Lance, where it is installed."""
    try:
        import lance
    except ImportError as exc:
        raise MissingExtraError("Lance is not installed; pip install 'agentmem-db[ray]'") from exc
    return lance


@contextmanager
def ours(what: str) -> Iterator[None]:
    """Lance's errors as ours, told apart by what they say: it raises one class for most of them."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as exc:
        raise _mapped(exc, what) from exc


def _mapped(exc: Exception, what: str) -> Exception:
    said = _WHERE.sub("", str(exc))
    text, status = f"{what}: {said}", _STATUS.search(said)
    if type(exc).__name__ == "CommitConflictError":
        return ArchiveUnavailableError(f"{text}; somebody else committed first")
    if "already exists" in said:
        return ObjectExistsError(text)
    if status is not None and int(status[1]) in (401, 403):
        return ArchiveAccessError(f"{text}; check the credentials and what they allow")
    if _MISSING.search(said) or (status is not None and int(status[1]) == 404):
        return ObjectNotFoundError(text)
    if (status is not None and int(status[1]) in _LATER) or (status is None and _NETWORK.search(said)):
        return ArchiveUnavailableError(text)
    if _REFUSED.search(said):
        return InvalidInputError(text)
    if isinstance(exc, OSError) or "Lance" in said:
        return ArchiveError(text)
    return exc
