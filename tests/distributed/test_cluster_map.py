"""Which shard has whose memories: the same answer everywhere, and one change at a time."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from agentmem.archive.folder import FolderObjects
from agentmem.archive.opening import open_objects
from agentmem.distributed.cluster import Cluster, place_of
from agentmem.distributed.clustercalls import new_ids
from agentmem.distributed.shardmap import KEY, SLOTS, MapObject, new_map, slot_of
from agentmem.errors import ArchiveCorruptError, InvalidInputError, ObjectNotFoundError


def test_users_spread_over_shards_and_stay_where_they_are(tmp_path: Path) -> None:
    made = MapObject(FolderObjects(tmp_path)).create(8)
    found = [made.shard_of(f"user-{number}") for number in range(8_000)]
    counts = [found.count(shard) for shard in made.shards]
    assert len(counts) == 8
    assert min(counts) > 800
    # Where a user is must not depend on the version of the library.
    assert (slot_of(None), slot_of("ana"), slot_of("user-1")) == (1090, 3960, 3952)
    assert slot_of("Zoe\u0308") == slot_of("Zo\u00eb")


def test_a_map_is_made_once_and_read_as_it_was_written(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)
    with pytest.raises(ObjectNotFoundError):
        MapObject(objects).read()
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda shards: MapObject(objects).create(shards), (2, 3, 4, 5)))
    assert len({one.id for one in made}) == 1
    changed = MapObject(objects).change(lambda now: replace(now, users={"ana": "s001"}, leaving={"#7": "s001"}))
    assert MapObject(objects).read() == changed
    assert changed.shard_of("ana") == "s001"
    assert changed.is_leaving(next(f"u{n}" for n in range(99_999) if slot_of(f"u{n}") == 7))


def test_of_changes_at_once_none_is_lost(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)
    MapObject(objects).create(1)
    with ThreadPoolExecutor(4) as threads:
        for user in map(str, range(20)):
            threads.submit(
                MapObject(objects).change, lambda now, user=user: replace(now, users={**now.users, user: "s000"})
            )
    made = MapObject(objects).read()
    assert len(made.users) == 20
    assert made.version == 21


def test_an_id_that_was_made_here_names_its_shard() -> None:
    made = new_map(16)
    for user in ("ana", "ben", None):
        (id,) = new_ids(1, user)
        assert made.hinted(id) == made.shard_of(user)
    assert made.hinted("mine-17") is None
    assert made.hinted("01a21ad8-2bae-4576-bcbd-a6730275cf78") is None


def test_what_is_no_map_is_refused(tmp_path: Path) -> None:
    for shards in (0, SLOTS + 1):
        with pytest.raises(InvalidInputError):
            new_map(shards)
    (tmp_path / KEY).write_bytes(b'{"id": 3}')
    with pytest.raises(ArchiveCorruptError):
        MapObject(FolderObjects(tmp_path)).read()


NOT_STARTED = """
import sys
from agentmem.distributed import clusterlocal
from agentmem.distributed.cluster import Cluster, place_of
from agentmem.errors import StoreError
try:
    Cluster("somewhere", shards=2)
except StoreError as exc:
    assert "clusterlocal.start()" in str(exc), exc
assert "ray" not in sys.modules
import ray
try:
    clusterlocal.start()
except StoreError as exc:
    print(exc)
"""


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")
def test_whoever_forgot_to_start_ray_can_do_so_next() -> None:
    # Ray looks when it is imported for what tells it to ask for a token, and never again; so nor does this import it.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    said = subprocess.run(
        [sys.executable, "-c", NOT_STARTED], env=clean, capture_output=True, text=True, check=True, timeout=60
    )
    assert "RAY_AUTH_MODE=token" in said.stdout


@pytest.mark.parametrize(
    "given",
    [
        *({"interval_s": value} for value in (0, -1, float("nan"), "5")),
        *({"in_flight": value} for value in (0, 1.5, "x")),
        *({"patience_s": value} for value in (-1, float("inf"))),
        *({"shards": value} for value in (0, 2.5, "8", True)),
    ],
)
def test_figures_that_make_no_sense_are_refused(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(given))):
        Cluster(tmp_path, **given)


@pytest.mark.parametrize("url", ["", "s3:/bucket/place", "s3://", "ftp://place"])
def test_places_that_are_none_are_refused_and_no_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError):
        open_objects(place_of(url))
    assert not any(tmp_path.iterdir())
