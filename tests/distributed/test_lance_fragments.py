"""Fragments of a Lance dataset without Ray: one commit, whose rows are there once, whatever is repeated or fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from archive.faulty import Faulty, between
from archive.servers import moto, s3_bucket

from agentmem.errors import (
    ArchiveAccessError,
    ArchiveUnavailableError,
    InvalidInputError,
    ObjectExistsError,
    ObjectNotFoundError,
)

pytest.importorskip("lance", reason="pylance is not installed")

from agentmem.distributed.committing import collect, collect_orphans, commit, committed
from agentmem.distributed.fragments import Place, Written, new_run, retries, write_fragments
from agentmem.distributed.scanning import Part, Parts, Scan, read, shares

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string())])


def rows(start: int, stop: int, step: int = 700) -> Iterator[pa.Table]:
    for at in range(start, stop, step):
        ids = range(at, min(stop, at + step))
        yield pa.table({"id": [*ids], "text": [f"row {id}" for id in ids]}, schema=SCHEMA)


def write(place: Place, start: int, stop: int, run: str, *, task: int = 0, **options: Any) -> list[Written]:
    return write_fragments(place, rows(start, stop, options.pop("step", 700)), SCHEMA, run=run, task=task, **options)


def ids_of(place: Place, **options: Any) -> list[int]:
    dataset = place.open()
    scan = Scan(place, dataset.version, ("id",), options.get("filter"), options.get("predicate"), 512)
    ids = [fragment.fragment_id for fragment in dataset.get_fragments()]
    return [id for table in read(scan, ids) for id in table.column("id").to_pylist()]


def collected(place: Place, run: str) -> list[str]:
    return collect(place, lambda other: other == run)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(str(tmp_path / "rows"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with moto(tmp_path_factory.mktemp("moto")) as port:
        s3_bucket(port, "lake")
        yield port


@pytest.fixture
def proxy(server: int) -> Iterator[Faulty]:
    with between(server) as found:
        yield found


@pytest.fixture
def bucket(proxy: Faulty, request: pytest.FixtureRequest) -> Place:
    options = {"aws_access_key_id": "any", "aws_secret_access_key": "secret", "region": "us-east-1"}
    return Place(f"s3://lake/{request.node.name}", {**options, "endpoint": proxy.url, "allow_http": "true"})


def test_files_have_no_more_rows_than_they_may(place: Place) -> None:
    run = new_run()
    written = write(place, 0, 25_000, run, max_rows=10_000)
    assert [one.rows for one in written] == [10_000, 10_000, 5_000]
    assert commit(place, "create", SCHEMA, written, run=run) == (1, written)
    assert ids_of(place) == [*range(25_000)]
    assert sorted(place.files()) == sorted(name for name in place.files() if name.startswith(run))
    assert not [*(place.folder / "_bulk" / run).iterdir()]


def test_a_task_that_runs_again_adds_nothing(place: Place) -> None:
    run = new_run()
    first = write(place, 0, 5_000, run, task=3)
    again = write(place, 0, 5_000, run, task=3, step=999)
    other = write(place, 0, 5_000, run, task=4)
    assert [one.content for one in first] == [one.content for one in again]
    assert commit(place, "create", SCHEMA, [*first, *again, *other], run=run)[0] == 1
    assert sorted(ids_of(place)) == sorted([*range(5_000)] * 2)  # two tasks had the same rows, and both count
    assert len(collected(place, run)) == 1
    assert collected(place, run) == []
    assert len(ids_of(place)) == 10_000


def test_a_dataset_that_is_there_is_never_created(place: Place) -> None:
    runs = [new_run() for _ in range(4)]
    written = [write(place, number * 10, number * 10 + 10, run) for number, run in enumerate(runs)]
    made, refused, together = list[int](), list[type](), threading.Barrier(4)

    def create(number: int) -> None:
        together.wait()
        try:
            commit(place, "create", SCHEMA, written[number], run=runs[number])
            made.append(number)
        except ObjectExistsError as exc:
            refused.append(type(exc))

    threads = [threading.Thread(target=create, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = made
    assert len(refused) == 3
    assert ids_of(place) == [*range(winner * 10, winner * 10 + 10)]
    for number, run in enumerate(runs):
        assert len(collected(place, run)) == (number != winner)
    assert place.open().version == 1


def test_a_job_is_committed_once_whoever_asks(place: Place) -> None:
    commit(place, "create", SCHEMA, write(place, 0, 10, run := new_run()), run=run)
    runs = [new_run() for _ in range(4)]
    written = [write(place, 10, 20, run) for run in runs]
    versions = list[tuple[int, list[Written]]]()

    def append(number: int) -> None:
        versions.append(commit(place, "append", SCHEMA, written[number], run=runs[number], job="november"))

    threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [version for version, _ in versions] == [2] * 4
    assert sorted(len(taken) for _, taken in versions) == [0, 0, 0, 1]
    assert ids_of(place) == [*range(20)]
    assert committed(place, "november") == 2
    assert committed(place, "december") is None
    assert sum(len(collected(place, run)) for run in runs) == 3


def test_a_job_goes_behind_what_others_append_meanwhile(place: Place) -> None:
    commit(place, "create", SCHEMA, write(place, 0, 10, run := new_run()), run=run)
    for number in range(1, 4):
        run = new_run()
        written = write(place, number * 10, number * 10 + 10, run)
        commit(place, "append", SCHEMA, written, run=run, job="even" if number % 2 == 0 else None)
    assert ids_of(place) == [*range(40)]


def test_overwriting_keeps_the_version_before(place: Place) -> None:
    commit(place, "overwrite", SCHEMA, write(place, 0, 10, run := new_run()), run=run)
    commit(place, "overwrite", SCHEMA, write(place, 10, 15, again := new_run()), run=again)
    assert ids_of(place) == [*range(10, 15)]
    assert collected(place, run) == collected(place, again) == []
    assert place.open(1).to_table().column("id").to_pylist() == [*range(10)]


def test_columns_of_a_dataset_that_has_changed_get_what_is_theirs(place: Place) -> None:
    commit(place, "create", SCHEMA, write(place, 0, 10, run := new_run()), run=run)
    dataset = place.open()
    dataset.add_columns({"double": "id * 2"})
    dataset.drop_columns(["id"])
    schema = place.open().schema
    assert schema.names == ["text", "double"]
    more = [pa.table({"double": [9], "text": ["nine"]})]
    written = write_fragments(place, more, schema, run=(again := new_run()), task=0)
    commit(place, "append", schema, written, run=again)
    assert place.open().to_table().to_pylist()[-2:] == [{"text": "row 9", "double": 18}, {"text": "nine", "double": 9}]


def test_rows_of_other_columns_are_refused(place: Place) -> None:
    with pytest.raises(InvalidInputError, match="rows have the columns id; they should have id, text"):
        write_fragments(place, [pa.table({"id": [1]})], SCHEMA, run=new_run(), task=0)


def test_appending_needs_a_dataset(place: Place) -> None:
    with pytest.raises(ObjectNotFoundError, match="mode='create' makes one"):
        commit(place, "append", SCHEMA, write(place, 0, 10, run := new_run()), run=run)
    assert len(collected(place, run)) == 1
    assert place.files() == []


def test_orphans_of_old_runs_go_and_no_others(place: Place) -> None:
    day = timedelta(days=1)
    old, young, kept = (new_run(datetime.now(UTC) - age * day) for age in (9, 1, 9))
    for run in (old, young, kept):
        write(place, 0, 10, run)
    (place.folder / "_bulk" / old / "1-elsewhere-killed").mkdir(parents=True)
    commit(place, "create", SCHEMA, write(place, 0, 10, kept, task=1), run=kept)
    gone = collect_orphans(place.uri)
    assert sorted(name.partition("-")[0] for name in gone) == sorted([old, kept])
    assert len([name for name in place.files() if name.startswith(young)]) == 1
    assert not (place.folder / "_bulk" / old).exists()
    assert ids_of(place) == [*range(10)]
    assert len(collect_orphans(place.uri, older_than=timedelta(0))) == 1
    assert ids_of(place) == [*range(10)]


def test_filters_are_lances_work_and_two_of_them_work_together(place: Place) -> None:
    commit(place, "create", SCHEMA, write(place, 0, 9_000, run := new_run(), max_rows=3_000), run=run)
    below = pc.field("id") < 4_100
    assert ids_of(place, filter="id >= 4000") == [*range(4_000, 9_000)]
    assert ids_of(place, predicate=below) == [*range(4_100)]
    assert ids_of(place, filter="id >= 4000", predicate=below) == [*range(4_000, 4_100)]
    with pytest.raises(InvalidInputError, match="nowhere"):
        ids_of(place, filter="nowhere = 3")


def test_fragments_as_the_manifest_has_them(tmp_path: Path) -> None:
    import lance

    table = pa.table({"id": range(60), "text": ["x"] * 60})
    dataset = lance.write_dataset(table, tmp_path / "rows", max_rows_per_file=20)
    dataset.delete("id >= 15 AND id < 40")  # the second fragment goes
    parts = Parts(dataset)
    sizes = [path.stat().st_size for path in (tmp_path / "rows" / "data").iterdir()]
    assert [(part.id, part.rows) for part in parts] == [(0, 15), (2, 20)]
    assert all(part.bytes in sizes for part in parts)
    assert (len(parts), parts.bytes, parts[1:]) == (2, sum(part.bytes for part in parts), [parts[1]])


def test_tasks_have_fragments_of_their_own() -> None:
    parts = [Part(number, rows, 0) for number, rows in enumerate([5, 5, 90, 1, 1, 1, 50, 50])]
    for count in (1, 2, 3, 8, 20):
        found = shares(parts, count)
        assert [part.id for share in found for part in share] == [*range(8)]
        assert len(found) <= count
        assert all(found)
    assert [len(share) for share in shares([Part(n, 10, 0) for n in range(12)], 4)] == [3, 3, 3, 3]
    assert shares([], 4) == []


def test_what_may_succeed_later_is_tried_at_once_and_then_after_longer_and_longer_pauses() -> None:
    slept, trying = list[float](), retries()
    trying._sleep = slept.append
    with pytest.raises(ArchiveUnavailableError, match="after 11 attempts"):
        trying.call(_unavailable)
    assert slept == [0, 1, 2, 4, 8, 16, 32, 32, 32, 32]


def _unavailable() -> None:
    raise ArchiveUnavailableError("no network")


def test_a_bucket_that_fails_now_and_then_loses_and_doubles_nothing(bucket: Place, proxy: Faulty) -> None:
    proxy.faults = {"PUT": ["503"], "POST": ["503"]}
    written = write(bucket, 0, 20_000, run := new_run(), max_rows=8_000)
    # The manifest is written, and nobody hears of it.
    proxy.faults = {"PUT": ["pass", "unanswered"], "HEAD": ["503"] * 3, "GET": ["503"]}
    assert commit(bucket, "create", SCHEMA, written, run=run)[0] == 1
    written = write(bucket, 20_000, 30_000, again := new_run())
    proxy.faults = {"PUT": ["pass", "unanswered"], "HEAD": ["503"] * 3}
    commit(bucket, "append", SCHEMA, written, run=again)
    assert proxy.faults["PUT"] == []
    proxy.faults = {"GET": ["pass"] * 4 + ["cut", "pass", "503", "pass", "unsent"]}
    assert ids_of(bucket) == [*range(30_000)]
    assert proxy.faults["GET"] == []
    assert collected(bucket, run) == collected(bucket, again) == []


def test_what_never_succeeds_is_not_tried_again(bucket: Place, proxy: Faulty) -> None:
    proxy.faults = {"GET": ["403"] * 20}
    with pytest.raises(ArchiveAccessError):
        retries().call(bucket.open)
    assert len(proxy.requests) < 11  # Lance asks several times by itself, and we once
    proxy.faults = {}
    with pytest.raises(ObjectNotFoundError):
        retries().call(bucket.open)
