"""Lance datasets by fragments: the one file that imports Lance, and its errors as ours.

A fragment is some rows in files of their own. Fragments are written by whoever has the rows, and are nothing until one
coordinator commits a list of them as the dataset's next version; what is never committed is an orphan, and goes. A
fragment's name says which run wrote it and has a digest of the rows (their *content*), so that a coordinator that is
handed the same rows twice by one task commits them once.
"""

# Lance is not installed where types are checked.
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

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
Mode = Literal["create", "append", "overwrite"]

MAX_ROWS = 1_000_000
"""Rows of a file at most."""
MAX_BYTES = 90 * 2**30
"""Bytes of a file at most."""
_BATCH = 4_096
"""Rows that are written at a time, however many come at once."""
_LONGEST = 32.0
_ATTEMPTS = 11
_ORPHANS = timedelta(days=7)

# Lance would try again by itself, for three minutes, inside of each of our attempts.
_OPTIONS = {"client_max_retries": "0", "connect_timeout": "10s", "timeout": "120s"}

_RUN = re.compile(r"bulk(\d{14})[0-9a-f]{8}")
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
            return _lance().dataset(self.uri, version=version, storage_options=self.options)

    def exists(self) -> bool:
        try:
            self.open()
        except ObjectNotFoundError:
            return False
        return True

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
        batches = _hashed(_even(tables, schema), digest)
        reader = pa.RecordBatchReader.from_batches(schema, batches)
        with ours(f"cannot write fragments of {place.uri}"):
            fragments = _lance().fragment.write_fragments(
                reader, str(scratch), schema, mode="create", max_rows_per_file=max_rows, max_bytes_per_file=max_bytes,
                data_storage_version=version,
            )  # fmt: skip
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
        held.append(table.cast(schema))
        rows += table.num_rows
        if rows < _BATCH:
            continue
        whole = pa.concat_tables(held)
        for start in range(0, rows - rows % _BATCH, _BATCH):
            yield from whole.slice(start, _BATCH).combine_chunks().to_batches()
        held, rows = [whole.slice(rows - rows % _BATCH)], rows % _BATCH
    if rows:
        yield from pa.concat_tables(held).combine_chunks().to_batches()


def _hashed(batches: Iterator[pa.RecordBatch], digest: Any) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        digest.update(batch.serialize())
        yield batch


@contextmanager
def _scratch(place: Place, run: str) -> Iterator[Path]:
    """A folder for files that grow; what killed workers left on this node goes first."""
    if place.folder is None:
        parent = Path(tempfile.gettempdir()) / f"agentmem-{run}"
    else:
        parent = place.folder / "_bulk" / run
    parent.mkdir(parents=True, exist_ok=True)
    for other in parent.iterdir():
        if not _alive(int(other.name.partition("-")[0])):
            shutil.rmtree(other, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent))
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


# -- the coordinator ---------------------------------------------------------------------------------------------------


def commit(
    place: Place,
    mode: Mode,
    schema: pa.Schema,
    written: Iterable[Written],
    *,
    run: str,
    job: str | None = None,
) -> tuple[int, list[Written]]:
    """Make these fragments the dataset's next version, all or none; its number, and those of them that it took.

    What a task reports twice is taken once. With ``"create"`` there must be no dataset, also none that somebody else
    creates meanwhile (``ObjectExistsError``). A ``job`` is committed once, whoever asks, however often: the later ones
    are told the version that it had, and that nothing was taken. It is found among the versions that the dataset has.
    """
    chosen = list({one.content: one for one in sorted(written, key=lambda one: one.task)}.values())
    properties = {"agentmem.run": run} | ({"agentmem.job": job} if job else {})

    def attempt() -> tuple[int, list[Written]]:
        dataset = place.open() if place.exists() else None
        if dataset is not None:
            if (found := _version_with(dataset, "agentmem.run", run)) is not None:
                return found, chosen  # the answer to an earlier attempt was lost
            if job and (found := _version_with(dataset, "agentmem.job", job)) is not None:
                return found, []
        if mode == "append" and not chosen and dataset is not None:
            return dataset.version, chosen
        transaction = _transaction(place, mode, schema, chosen, dataset, properties, strict=job is not None)
        try:
            with ours(f"cannot commit to {place.uri}"):
                made = _lance().LanceDataset.commit(
                    place.uri, transaction, storage_options=place.options, max_retries=0 if job else 20
                )
        except (ObjectExistsError, ObjectNotFoundError) as exc:
            if mode == "append" or not place.exists():
                raise
            # It was made meanwhile, by somebody else or by this very attempt.
            if (found := _version_with(place.open(), "agentmem.run", run)) is not None:
                return found, chosen
            raise ObjectExistsError(f"somebody else has made a dataset in {place.uri} meanwhile") from exc
        return made.version, chosen

    return retries().call(attempt)


def _transaction(
    place: Place,
    mode: Mode,
    schema: pa.Schema,
    written: list[Written],
    dataset: Any,
    properties: dict[str, str],
    *,
    strict: bool,
) -> Any:
    from lance.dataset import Transaction

    lance, fragments = _lance(), [_fragment(one) for one in written]
    operations = lance.LanceOperation
    if mode == "create" and dataset is not None:
        raise ObjectExistsError(f"there is a dataset in {place.uri} already; mode='append' or 'overwrite' changes it")
    if mode == "append" and dataset is None:
        raise ObjectNotFoundError(f"there is no dataset in {place.uri} to append to; mode='create' makes one")
    if mode != "append" or dataset is None:
        # Version 0 is of no dataset: Lance refuses it where there is one, at the instant of the commit.
        read = 0 if dataset is None else dataset.version
        return Transaction(read, operations.Overwrite(schema, fragments), transaction_properties=properties)
    if not strict:
        return Transaction(dataset.version, operations.Append(fragments), transaction_properties=properties)
    # Lance lets appends pass one another; this names all fragments, so that anything that came between refuses it.
    there = [one.metadata for one in dataset.get_fragments()]
    after = 1 + max((one.id for one in there), default=-1)
    added = [replace(one, id=after + number) for number, one in enumerate(fragments)]
    operation = operations.Merge(there + added, dataset.lance_schema)
    return Transaction(dataset.version, operation, transaction_properties=properties)


def _fragment(written: Written) -> Any:
    return _lance().fragment.FragmentMetadata.from_json(written.metadata)


def committed(place: Place, job: str) -> int | None:
    """The version that this job made, among those that the dataset has; None: it has not been committed."""
    try:
        return _version_with(place.open(), "agentmem.job", job)
    except ObjectNotFoundError:
        return None


def _version_with(dataset: Any, name: str, value: str) -> int | None:
    with ours("cannot read the transactions of the dataset"):
        for version in reversed(dataset.versions()):
            with suppress(ObjectNotFoundError):
                found = dataset.read_transaction(version["version"])
                if found is not None and (found.transaction_properties or {}).get(name) == value:
                    return version["version"]
    return None


def collect(place: Place, runs: Callable[[str], bool], keep: Iterable[str] = ()) -> list[str]:
    """Delete what these runs wrote and no version of the dataset has; their names."""
    kept = set(keep)
    if place.exists():
        dataset = place.open()
        for version in dataset.versions():
            with suppress(ObjectNotFoundError):  # somebody cleans up meanwhile
                kept |= _names(place.open(version["version"]))
    gone = list[str]()
    for name in place.files():
        run = _RUN.match(name)
        if run and runs(run[0]) and name not in kept:
            place.delete(name)
            gone.append(name)
    if place.folder is not None and (scratch := place.folder / "_bulk").is_dir():
        for folder in scratch.iterdir():
            if runs(folder.name):
                shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            scratch.rmdir()
    return gone


def collect_orphans(
    uri: str,
    *,
    storage_options: Mapping[str, str] | None = None,
    older_than: timedelta = _ORPHANS,
    now: datetime | None = None,
) -> list[str]:
    """Delete the files of writers that ended before they could commit; the names of what went.

    A writer collects what is left of its own run when it ends; this is for those whose process was killed. Runs that
    began less than ``older_than`` ago may be at work and stay. No version loses anything, nor does any other writer's
    file: only names that ``agentmem`` gives are looked at.
    """
    until = (now or datetime.now(UTC)) - older_than

    def is_old(run: str) -> bool:
        found = _RUN.fullmatch(run)
        return found is not None and datetime.strptime(found[1], "%Y%m%d%H%M%S").replace(tzinfo=UTC) < until

    return collect(Place(uri, storage_options), is_old)


def _names(dataset: Any) -> set[str]:
    return {file.path for fragment in dataset.get_fragments() for file in fragment.data_files()}


# -- the border --------------------------------------------------------------------------------------------------------


def _lance() -> Any:
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
