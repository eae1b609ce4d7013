"""Backups in a bucket behind a connection that breaks: each is whole or none, what was lost on the way is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from archive.faulty import Faulty, between
from archive.servers import cloud, environment

import agentmem
from agentmem import Memory, Settings
from agentmem.errors import ArchiveAccessError, ArchiveCorruptError, ArchiveUnavailableError

pytest.importorskip("obstore", reason="obstore is not installed")
ATTEMPTS = 10
SLOW = pytest.mark.slow


@pytest.fixture(scope="module", params=["s3", pytest.param("azure", marks=SLOW)])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, int]]:
    with cloud(request.param, tmp_path_factory.mktemp(request.param), "backups") as (url, port):
        yield request.param, url, port


@pytest.fixture
def place(served: tuple[str, str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    kind, _, port = served
    monkeypatch.setattr("agentmem.archive.retries._pause", lambda state: 0)
    with between(port) as proxy:
        for name, value in environment(kind, proxy.port).items():
            monkeypatch.setenv(name, value)
        yield proxy


@pytest.fixture
def memory(
    open_memory: Callable[..., Memory], request: pytest.FixtureRequest, served: tuple[str, str, int], place: Faulty
) -> Memory:
    name = "".join(letter for letter in request.node.name.lower() if letter.isalnum())
    url = f"{served[1]}backups/{name}"
    memory = open_memory(settings=Settings(backup={"url": url}, lifecycle={"sweep_interval_s": 0}))
    memory.add_many([f"memory {n}" for n in range(30)], user_id="ana")
    return memory


def url_of(memory: Memory) -> str:
    return str(memory.handle.settings.backup.url)


def requests(place: Faulty, method: str) -> int:
    return sum(one.startswith(f"{method} ") for one in place.requests)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", ["unanswered", *[pytest.param(name, marks=SLOW) for name in ("503", "429", "unsent")]]
)
def test_a_write_that_goes_wrong_once(memory: Memory, place: Faulty, fault: str, tmp_path: Path) -> None:
    memory.backup.create()
    before = requests(place, "PUT")
    memory.add("counted", user_id="ana")
    memory.backup.create("incremental")
    writes = requests(place, "PUT") - before
    for step in range(0, writes, 1 if fault == "503" else 4):
        memory.add(f"at step {step}", user_id="ana")
        place.faults["PUT"] = ["pass"] * step + [fault]
        made = memory.backup.create("incremental")
        assert made.kind == "incremental"
        assert place.faults["PUT"] == []
    numbers = [int(one.id.partition("-")[2]) for one in memory.backup.list()]
    assert numbers == list(range(1, len(numbers) + 1))
    report = memory.backup.verify()
    assert report.problems == []
    assert report.counts["compared"] == memory.count(user_id="ana")
    memory.add("last", user_id="ana")
    memory.backup.create("incremental")
    assert agentmem.restore(url_of(memory), tmp_path / "again").records == memory.count(user_id="ana")


@pytest.mark.slow
@pytest.mark.parametrize("fault", [pytest.param("unsent", marks=SLOW), "503"])
def test_a_place_that_is_away_for_long(memory: Memory, place: Faulty, fault: str) -> None:
    first = memory.backup.create()
    memory.add("one more", user_id="ana")
    for step in (0, 3, 7):
        place.faults["PUT"] = ["pass"] * step + [fault] * 200
        with pytest.raises(ArchiveUnavailableError, match=f"after {ATTEMPTS} attempts"):
            memory.backup.create("incremental")
        place.faults.clear()
        assert memory.backup.list() == [first]
    assert memory.add("goes on", user_id="ana")
    made = memory.backup.create("incremental")
    assert (made.kind, made.records) == ("incremental", 32)
    assert memory.backup.verify().problems == []


@SLOW
def test_reading_that_breaks(memory: Memory, place: Faulty, tmp_path: Path) -> None:
    memory.backup.create()
    memory.add("one more", user_id="ana")
    memory.backup.create("incremental")
    before = requests(place, "GET")
    assert agentmem.restore(url_of(memory), tmp_path / "again").records == 31
    reads = requests(place, "GET") - before
    for step, fault in zip(range(0, reads, 3), ["cut", "short", "503", "unsent", "unanswered"] * reads, strict=False):
        place.faults["GET"] = ["pass"] * step + [fault]
        try:
            assert agentmem.restore(url_of(memory), tmp_path / f"again {step}", dry_run=True).records == 31
        except ArchiveCorruptError:
            assert fault == "short"  # whose length says that it is all there
        place.faults.clear()
    place.faults["GET"] = ["503"] * 500
    with pytest.raises(ArchiveUnavailableError):
        agentmem.restore(url_of(memory), tmp_path / "never")
    with pytest.raises(ArchiveUnavailableError):
        memory.backup.verify()
    place.faults["GET"] = ["403"]
    with pytest.raises(ArchiveAccessError):
        agentmem.restore(url_of(memory), tmp_path / "never")
    assert not (tmp_path / "never").exists()


@SLOW
def test_removing_that_breaks(memory: Memory, place: Faulty) -> None:
    chosen = {"url": url_of(memory), "keep_hours": 0, "keep_days": 0, "keep_weeks": 0}
    path = memory.handle.path
    memory.close()
    with Memory(path, settings=Settings(backup=chosen), embedder=memory.handle.embedder) as memory:
        for step in (0, 2, 5):
            memory.backup.create()
            memory.backup.create()
            # S3's library removes single objects by POST, too.
            place.faults["DELETE"] = place.faults["POST"] = ["pass"] * step + ["unsent"] * 200
            with pytest.raises(ArchiveUnavailableError):
                memory.backup.prune()
            place.faults.clear()
            assert all(memory.backup.verify(one.id, quick=True).ok for one in memory.backup.list())
        memory.backup.prune()
        [left] = memory.backup.list()
        assert memory.backup.verify(left.id).problems == []
