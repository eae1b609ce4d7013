"""The coordinator's part: fragments become a version of their dataset at once, and what came to nothing goes."""

# Lance is not installed where types are checked.
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from agentmem.distributed.fragments import RUN, Place, Written, lance, ours, retries
from agentmem.errors import ObjectExistsError, ObjectNotFoundError

if TYPE_CHECKING:
    import pyarrow as pa

Mode = Literal["create", "append", "overwrite"]
_ORPHANS = timedelta(days=7)


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
    before = -1

    def attempt() -> tuple[int, list[Written]]:
        nonlocal before
        dataset = place.open_if_there()
        if before < 0:
            before = 0 if dataset is None else dataset.version
        if dataset is not None:
            if (found := _version_with(dataset, "agentmem.run", run, after=before)) is not None:
                return found, chosen  # the answer to an earlier attempt was lost
            if job and (found := _version_with(dataset, "agentmem.job", job)) is not None:
                return found, []
        if mode == "append" and not chosen and dataset is not None:
            return dataset.version, chosen
        transaction = _transaction(place, mode, schema, chosen, dataset, properties, strict=job is not None)
        try:
            with ours(f"cannot commit to {place.uri}"):
                made = lance().LanceDataset.commit(
                    place.uri,
                    transaction,
                    storage_options=place.options,
                    max_retries=0 if job or mode == "create" else 20,
                )
        except (ObjectExistsError, ObjectNotFoundError) as exc:
            there = place.open_if_there()
            if mode == "append" or there is None:
                raise
            # It was made meanwhile, by somebody else or by this very attempt.
            if (found := _version_with(there, "agentmem.run", run, after=before)) is not None:
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

    operations = lance().LanceOperation
    ids = None if mode != "append" or dataset is None else _field_ids(dataset.lance_schema)
    fragments = [_fragment(one, ids) for one in written]
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


def _fragment(written: Written, ids: list[int] | None) -> Any:
    """The fragment; its columns by the numbers ``ids`` that they have in the dataset, not those of a new one."""
    described = json.loads(written.metadata)
    if ids is not None:
        for file in described["files"]:
            file["fields"] = [ids[number] for number in file["fields"]]
    return lance().fragment.FragmentMetadata.from_json(json.dumps(described))


def _field_ids(schema: Any) -> list[int]:
    found = list[int]()
    waiting = [*reversed(schema.fields())]
    while waiting:
        one = waiting.pop()
        found.append(one.id())
        waiting += reversed(one.children())
    return found


def committed(place: Place, job: str) -> int | None:
    """The version that this job made, among those that the dataset has; None: it has not been committed."""
    try:
        return _version_with(place.open(), "agentmem.job", job)
    except ObjectNotFoundError:
        return None


def _version_with(dataset: Any, name: str, value: str, *, after: int = 0) -> int | None:
    """The version after that one whose commit says so."""
    if dataset.version <= after:
        return None
    what = f"cannot read the transactions of {dataset.uri}"
    with ours(what):
        versions = [version["version"] for version in dataset.versions() if version["version"] > after]
    for version in reversed(versions):
        with suppress(ObjectNotFoundError), ours(what):
            found = dataset.read_transaction(version)
            if found is not None and (found.transaction_properties or {}).get(name) == value:
                return version
    return None


def collect(place: Place, runs: Callable[[str], bool]) -> list[str]:
    """Delete what these runs wrote and no version of the dataset has; their names."""
    # In this order: what is committed meanwhile is among what the versions have.
    files = [name for name in place.files() if (run := RUN.match(name)) and runs(run[0])]
    dataset, kept = place.open_if_there() if files else None, set[str]()
    if dataset is not None:
        kept |= _names(dataset)
        for version in dataset.versions():
            if kept.issuperset(files):
                break
            with suppress(ObjectNotFoundError):  # somebody cleans up meanwhile
                kept |= _names(place.open(version["version"]))
    gone = [name for name in files if name not in kept]
    for name in gone:
        place.delete(name)
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
    began less than ``older_than`` ago may be at work and stay: it has to be longer than any run takes. No version loses
    anything, nor does any other program's writer: only names that ``agentmem`` gives are looked at.
    """
    until = (now or datetime.now(UTC)) - older_than

    def is_old(run: str) -> bool:
        found = RUN.fullmatch(run)
        return found is not None and datetime.strptime(found[1], "%Y%m%d%H%M%S").replace(tzinfo=UTC) < until

    return collect(Place(uri, storage_options), is_old)


def _names(dataset: Any) -> set[str]:
    return {file.path for fragment in dataset.get_fragments() for file in fragment.data_files()}
