"""Bulk work on a Ray of two processors: rows are there once whoever dies, and stores take them and give them back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pyarrow as pa
import pytest
from archive.servers import moto, s3_bucket

from agentmem import ALL, Memory
from agentmem.errors import InvalidInputError, ObjectExistsError
from stress.bulk import Ours, failing, through
from stress.local_ray import Killer, local_ray

for module in ("ray", "lance", "lance_ray"):
    # Not imported yet: Ray looks then for what tells it to ask for a token.
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed", allow_module_level=True)

pytestmark = [
    pytest.mark.slow,
    # Ray leaves sockets and processes to the collector, and calls what pandas and numpy deprecate.
    pytest.mark.filterwarnings("ignore"),
]

SAID = ("The cat sleeps on the piano", "The train to Faro is late", "Ana is allergic to peanuts", "It rains in Lisbon")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A Ray, and a bucket in its network."""
    with local_ray(2, memory_mb=300), moto(tmp_path_factory.mktemp("moto")) as port:
        s3_bucket(port, "lake")
        yield {
            "aws_access_key_id": "any", "aws_secret_access_key": "secret", "region": "us-east-1",
            "endpoint": f"http://127.0.0.1:{port}", "allow_http": "true",
        }  # fmt: skip


def corpus(count: int) -> Any:
    import ray.data

    rows = [(f"i{n}", f"{SAID[n % 4]}, day {n // 8}", f"u{n % 4}", json.dumps({"n": n})) for n in range(count)]
    return ray.data.from_items([dict(zip(("id", "content", "user_id", "metadata"), row, strict=True)) for row in rows])


def test_workers_that_are_killed_lose_and_double_no_row(lake: object, tmp_path: Path) -> None:
    writing, reading = Killer(3, 1.5), Killer(3, 0.5)
    found = through(Ours(tmp_path / "rows"), 60_000, writing, reading)
    assert [found[part] for part in ("lost", "double", "altered", "orphans")] == [0, 0, 0, 0]
    assert writing.killed
    assert reading.killed


def test_a_job_that_fails_leaves_nothing(lake: object, tmp_path: Path) -> None:
    found = failing(Ours(tmp_path / "rows"), 60_000)
    assert found == {"failed": "RayTaskError(UserCodeException)", "committed": 0, "orphans": 0}


def test_what_is_written_is_what_is_read(lake: object, tmp_path: Path) -> None:
    from ray.data.expressions import col

    from agentmem.distributed.datasink import write_lance
    from agentmem.distributed.datasource import LanceDatasource, read_lance

    uri = str(tmp_path / "rows")
    written = write_lance(corpus(1_000), uri, max_rows_per_file=100)
    assert (written.version, written.rows, written.fragments, written.orphans) == (1, 1_000, 10, 0)
    with pytest.raises(ObjectExistsError, match="mode='append'"):
        write_lance(corpus(10), uri)
    assert write_lance(corpus(10), uri, mode="append", job="more").rows == 10
    again = write_lance(corpus(10), uri, mode="append", job="more")
    assert (again.rows, again.done_before) == (0, True)
    assert read_lance(uri).count() == 1_010
    assert read_lance(uri, version=1).count() == 1_000
    some = read_lance(uri, version=1, filter="user_id = 'u0'").filter(expr=col("id") == "i4")
    assert some.select_columns(["content"]).take_all() == [{"content": "The cat sleeps on the piano, day 0"}]
    tasks = LanceDatasource(uri, version=1).get_read_tasks(4)
    assert [task.metadata.num_rows for task in tasks] == [300, 200, 300, 200]
    with pytest.raises(InvalidInputError, match="there is no column 'nothing'"):
        read_lance(uri, columns=["nothing"])


OPENED = """
import re, sys
from pathlib import Path
from agentmem.distributed.datasource import LanceDatasource
def most():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
LanceDatasource(sys.argv[2]).get_read_tasks(4)
Path("/proc/self/clear_refs").write_text("5")  # the most so far is what there is now
before = most()
tasks = LanceDatasource(sys.argv[1]).get_read_tasks(200)
assert sum(task.metadata.num_rows for task in tasks) == 10_000
print(most() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the most memory since an instant is what Linux tells")
def test_ten_thousand_fragments_are_opened_in_ten_megabytes(tmp_path: Path) -> None:
    import lance

    large, small = tmp_path / "large", tmp_path / "small"
    table = pa.table({f"c{number}": range(10_000) for number in range(11)})
    lance.write_dataset(table, large, max_rows_per_file=1, max_rows_per_group=1)
    lance.write_dataset(table, small)
    said = subprocess.run(
        [sys.executable, "-c", OPENED, large, small], capture_output=True, text=True, check=True, timeout=120
    )
    assert float(said.stdout) < 10


def test_a_corpus_goes_through_stores_to_a_bucket_and_back(lake: dict[str, str], tmp_path: Path) -> None:
    from agentmem.distributed.bulk import embed, near_duplicates, reembed
    from agentmem.distributed.datasink import write_lance
    from agentmem.distributed.datasource import read_lance
    from agentmem.distributed.exporting import export
    from agentmem.distributed.loading import load, store_of

    embedded = str(tmp_path / "embedded")
    write_lance(embed(corpus(600), actors=1), embedded)
    stores = [tmp_path / "a", tmp_path / "b"]
    assert load(read_lance(embedded), stores).added == 600
    again = load(read_lance(embedded), stores)
    assert (again.rows, again.added, again.there) == (600, 0, 600)
    for number, path in enumerate(stores):
        with Memory(path) as memory:
            assert {group.user_id for group in memory.users()} == {
                user for user in ("u0", "u1", "u2", "u3") if store_of(user, 2) == number
            }
            assert memory.verify().ok
            for record in memory.iterate(user_id=ALL):
                assert record.metadata == {"n": int(record.id[1:])}

    with Memory(stores[0]) as memory:
        memory.add("It lies in a drawer.", id="drawer", user_id="u0", namespace=("drawers", "left"))
        memory.values.put("picture", b"no text", user_id="u0")
    exported = export(stores, "s3://lake/all", storage_options=lake)
    assert (exported.rows, exported.orphans) == (602, 0)
    rows = {row["id"]: row for row in read_lance("s3://lake/all", storage_options=lake).take_all()}
    assert len(rows) == 602
    assert rows["drawer"]["namespace"] == ["drawers", "left"]
    [picture] = {id for id, row in rows.items() if row["vector"] is None}
    assert json.loads(rows["i7"]["metadata"]) == {"n": 7}
    held = {row["id"]: row["vector"] for row in read_lance(embedded).take_all()}
    assert rows.keys() - held.keys() == {"drawer", picture}
    assert all(np.allclose(rows[id]["vector"], vector, atol=1e-6) for id, vector in held.items())

    assert reembed("s3://lake/all", model=None, storage_options=lake).version == 2
    anew = {row["id"]: row["vector"] for row in read_lance("s3://lake/all", storage_options=lake).take_all()}
    assert all(np.allclose(anew[id], vector, atol=1e-6) for id, vector in held.items())
    assert anew[picture] is None

    pairs = near_duplicates(embedded, threshold=0.9999, tile=100, within=["user_id"]).take_all()
    assert {(pair["id"], pair["other"]) for pair in pairs} == same_texts(600)


def same_texts(count: int) -> set[tuple[str, str]]:
    """Pairs of one user and one text."""
    rows = [(f"{SAID[n % 4]}, day {n // 8}", n % 4) for n in range(count)]
    return {(f"i{a}", f"i{b}") for a in range(count) for b in range(a + 1, count) if rows[a] == rows[b]}


def test_rows_without_ids_are_refused(lake: object, tmp_path: Path) -> None:
    from agentmem.distributed.loading import load

    with pytest.raises(InvalidInputError, match="no column 'id'"):
        load(corpus(10).drop_columns(["id"]), tmp_path / "store")
    with pytest.raises(InvalidInputError, match="'colour' is no field"):
        load(corpus(10).add_column("colour", lambda batch: "red"), tmp_path / "store")


def test_indexes_are_built_by_several_workers(lake: object, tmp_path: Path) -> None:
    import lance

    from agentmem.distributed.bulk import build_indexes, embed
    from agentmem.distributed.datasink import write_lance

    uri = str(tmp_path / "rows")
    write_lance(embed(corpus(2_000)), uri, max_rows_per_file=500)
    made = build_indexes(uri, scalars={"user_id": "BTREE", "content": "INVERTED"}, workers=2, num_partitions=4)
    assert len(made) == 3
    dataset = lance.dataset(uri)
    wanted = dataset.take([1_234]).to_pylist()[0]
    near = dataset.to_table(
        nearest={"column": "vector", "q": wanted["vector"], "k": 1, "nprobes": 4, "refine_factor": 10},
        columns=["content", "_distance"],
    )
    assert near.column("content").to_pylist() == [wanted["content"]]
    found = dataset.to_table(full_text_query="peanuts", filter="user_id = 'u2'", columns=["content", "_score"])
    assert found.num_rows
    assert all("peanuts" in content for content in found.column("content").to_pylist())


def test_a_user_goes_to_one_store_however_the_id_is_spelled() -> None:
    from agentmem.distributed.loading import store_of

    users = [f"Jos\u00e9 {number}" for number in range(20)]
    assert [store_of(normalize("NFD", user), 7) for user in users] == [store_of(user, 7) for user in users]
    assert {store_of(user, 2) for user in users} == {0, 1}
