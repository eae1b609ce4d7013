"""Damage inside the database: everything that can still be read is rescued, and nothing is made up."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anyio
import numpy as np
import pytest

from agentmem import (
    ALL,
    AsyncMemory,
    Memory,
    MemoryRecord,
    ModelMismatchError,
    StoreCorruptError,
    StoreLockedError,
    Vectors,
    VerifyReport,
)
from stress.victim import HashedWords, text_of

DATABASE = "agentmem.db"
PAGE = 4096
USERS = ("ana", "ben")
LONG = " and so on" * 100


def opened(path: Path) -> Memory:
    return Memory(path, embedder=HashedWords())


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed store: two users, updates, deletions, an erasure, all of it in the database file."""
    path = tmp_path_factory.mktemp("salvage") / "store"
    with opened(path) as memory:
        for n in range(0, 200, 20):
            texts = [f"{text_of(n + i, 0)}{LONG}" for i in range(20)]
            memory.add_many(texts, user_id=USERS[n // 20 % 2], metadata={"n": n})
        ids = [record.id for record in memory.iterate(user_id=ALL, order="oldest")]
        for n in range(3, 200, 17):
            memory.update(ids[n], content=f"{text_of(n, 0, 1)}{LONG}")
        for n in range(5, 200, 23):
            memory.delete(ids[n])
        memory.erase(ids[100])
        memory.compact()
    return path


def records(memory: Memory) -> dict[str, MemoryRecord]:
    return {record.id: record for record in memory.iterate(user_id=ALL)}


def salvaged(sample: Path, path: Path, harm: Callable[[bytearray], object]) -> tuple[VerifyReport, bytes]:
    shutil.copytree(sample, path)
    data = bytearray((path / DATABASE).read_bytes())
    harm(data)
    (path / DATABASE).write_bytes(data)
    with opened(path) as memory:
        return memory.repair(salvage=True), bytes(data)


def page_of(data: bytes | bytearray, needle: str, at: int = 0) -> slice:
    start = data.index(needle.encode(), at) // PAGE * PAGE
    return slice(start, start + PAGE)


def check(sample: Path, path: Path, report: VerifyReport) -> int:
    """Compare a salvaged store with the sample; returns the live records that are gone or changed."""
    with opened(sample) as before, opened(path) as after:
        truth, found = records(before), records(after)
        altered = 0
        for id, record in found.items():
            was = truth[id]  # nothing hidden came back
            assert (record.user_id, record.agent_id, record.run_id) == (was.user_id, was.agent_id, was.run_id)
            if (record.content, record.metadata) != (was.content, was.metadata):
                altered += 1
                assert any(id in problem for problem in report.problems), "changed, and not reported"
        checked = after.verify()
        assert checked.ok, checked.problems
        for id in list(found)[::40]:
            record = found[id]
            assert record.user_id is not None
            assert id in [hit.id for hit in after.search(record.content, user_id=record.user_id, limit=3)]
            assert after.history(id)
        again = after.add("something new", user_id="ana")
        assert again.id not in truth
    assert report.counts["lost"] >= len(truth) - len(found)
    return len(truth) - len(found) + altered


def test_a_lost_page_of_texts_costs_its_records_and_no_others(sample: Path, tmp_path: Path) -> None:
    def harm(data: bytearray) -> None:
        data[page_of(data, text_of(50, 0) + LONG)] = bytes(PAGE)

    report, damaged = salvaged(sample, tmp_path / "store", harm)
    assert not report.ok
    assert 1 <= report.counts["lost"] <= 5  # three long texts fit a page
    assert report.counts["salvaged"] + report.counts["lost"] == 200
    assert check(sample, tmp_path / "store", report) <= 5
    kept = list((tmp_path / "store").glob("damaged-*"))
    assert [(folder / DATABASE).read_bytes() for folder in kept] == [damaged]


def test_lost_embeddings_are_made_again(sample: Path, tmp_path: Path) -> None:
    vector = HashedWords().embed_query(text_of(60, 0) + LONG).tobytes()

    def harm(data: bytearray) -> None:
        at = data.index(vector) // PAGE * PAGE
        data[at : at + PAGE] = bytes(PAGE)

    report, _ = salvaged(sample, tmp_path / "store", harm)
    assert report.counts["reembedded"] >= 10
    assert report.counts["lost"] == report.counts["altered"] == 0
    assert check(sample, tmp_path / "store", report) == 0


def test_a_changed_letter_is_reported(sample: Path, tmp_path: Path) -> None:
    def harm(data: bytearray) -> None:
        data[data.index((text_of(70, 0) + LONG).encode()) + 1] ^= 1

    report, _ = salvaged(sample, tmp_path / "store", harm)
    assert report.counts["altered"] == 1
    assert check(sample, tmp_path / "store", report) == 1


def test_text_that_is_not_utf8_any_more(sample: Path, tmp_path: Path) -> None:
    def harm(data: bytearray) -> None:
        data[data.index((text_of(70, 0) + LONG).encode()) + 1] = 0xFF

    report, _ = salvaged(sample, tmp_path / "store", harm)
    assert report.counts["altered"] == 1
    assert check(sample, tmp_path / "store", report) == 1


def test_a_record_whose_owner_is_unknown_is_not_shown_to_anybody(sample: Path, tmp_path: Path) -> None:
    def harm(data: bytearray) -> None:
        at = page_of(data, "ana\x02\x00ben") if b"ana\x02\x00ben" in data else page_of(data, "ana")
        data[at] = bytes(PAGE)

    report, _ = salvaged(sample, tmp_path / "store", harm)
    assert report.counts["lost"] >= 199  # all but the erased one, of which nothing is left to own
    with opened(tmp_path / "store") as memory:
        assert records(memory) == {}
        assert memory.verify().ok


def test_instants_that_no_calendar_has_are_let_go_of(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "store"
    shutil.copytree(sample, path)
    with closing(sqlite3.connect(path / DATABASE)) as db, db:
        db.execute(f"UPDATE records SET created_at = {2**62}, expires_at = {-(2**62)} WHERE row = 3")
        db.execute(f"UPDATE records SET created_at = {2**62}, updated_at = {2**62} WHERE row = 4")
    with opened(path) as memory:
        assert memory.repair(salvage=True).counts["altered"] == 2
        assert memory.verify().ok
        with opened(sample) as before:
            assert records(memory).keys() == records(before).keys()


@pytest.mark.slow
def test_damage_anywhere(sample: Path, tmp_path: Path) -> None:
    pick = random.Random(17)
    size = (sample / DATABASE).stat().st_size
    for n in range(25):
        at = pick.randrange(PAGE, size)
        # Inside of one page: where a record and its history are lost together, nothing is left that could name it.
        length = min(pick.choice([1, 20, 500, PAGE]), PAGE - at % PAGE)

        def harm(data: bytearray, at: int = at, length: int = length) -> None:
            data[at : at + length] = pick.randbytes(len(data[at : at + length]))

        path = tmp_path / f"store{n}"
        report, _ = salvaged(sample, path, harm)
        if report.counts.get("salvaged") is not None:
            check(sample, path, report)
        shutil.rmtree(path)


def test_nothing_readable_is_an_error_and_changes_nothing(sample: Path, tmp_path: Path) -> None:
    def harm(data: bytearray) -> None:
        data[:PAGE] = bytes(PAGE)

    with pytest.raises(StoreCorruptError, match="backup"):
        salvaged(sample, tmp_path / "store", harm)
    left = (tmp_path / "store" / DATABASE).read_bytes()
    assert left[:PAGE] == bytes(PAGE)
    assert left[PAGE:] == (sample / DATABASE).read_bytes()[PAGE:]
    assert not list((tmp_path / "store").glob("*.salvage*"))


def test_a_store_that_is_whole_is_left_alone(sample: Path, tmp_path: Path) -> None:
    report, _ = salvaged(sample, tmp_path / "store", lambda data: None)
    assert report.ok
    assert not list((tmp_path / "store").glob("damaged-*"))


def test_nobody_else_may_have_the_store_open(sample: Path, tmp_path: Path) -> None:
    shutil.copytree(sample, tmp_path / "store")
    with opened(tmp_path / "store") as one, opened(tmp_path / "store") as other:
        some = next(one.iterate(user_id="ana"))
        other.get(some.id)
        with pytest.raises(StoreLockedError, match="close it"):
            one.handle.salvage()
        assert one.get(some.id) == other.get(some.id) == some


def test_salvage_from_an_event_loop(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "store"
    shutil.copytree(sample, path)
    data = bytearray((path / DATABASE).read_bytes())
    data[page_of(data, text_of(50, 0) + LONG)] = bytes(PAGE)
    (path / DATABASE).write_bytes(data)

    async def main() -> VerifyReport:
        async with AsyncMemory(path, embedder=HashedWords()) as memory:
            report = await memory.repair(salvage=True)
            assert (await memory.verify()).ok
            return report

    assert anyio.run(main).counts["lost"] >= 1


def test_a_salvage_with_another_model_changes_nothing(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "store"
    shutil.copytree(sample, path)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with Memory(path) as memory, pytest.raises(ModelMismatchError):  # the bundled model, not the sample's
        memory.repair(salvage=True)
    after = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    assert after.keys() - before.keys() <= {path / f"{DATABASE}-wal", path / f"{DATABASE}-shm"}
    assert after[path / DATABASE] == before[path / DATABASE]


def test_keys_and_namespaces_are_rescued(tmp_path: Path) -> None:
    sample, path = tmp_path / "sample", tmp_path / "store"
    with opened(sample) as memory:
        for n in range(40):
            memory.put(f"page {n}", f"{text_of(n, 0)}{LONG}", user_id="ana", namespace=("book", str(n % 4)))
        for n in range(0, 40, 3):
            memory.put(f"page {n}", f"{text_of(n, 0, 1)}{LONG}", user_id="ana", namespace=("book", str(n % 4)))
        memory.delete(key="page 7", user_id="ana", namespace=("book", "3"))
        memory.compact()
        before = {record.id: record for record in memory.iterate(user_id="ana", under=())}
    needle = text_of(21, 0, 1)

    def harm(data: bytearray) -> None:
        data[page_of(data, needle)] = bytes(PAGE)

    salvaged(sample, path, harm)
    with opened(path) as memory:
        after = {record.id: record for record in memory.iterate(user_id="ana", under=())}
        assert len(before) > len(after) > len(before) // 2
        for id, record in after.items():
            assert (record.key, record.namespace) == (before[id].key, before[id].namespace)
            assert memory.get(key=str(record.key), user_id="ana", namespace=record.namespace) == record
            again = memory.put(str(record.key), "anew", user_id="ana", namespace=record.namespace)
            assert (again.id, again.record.version) == (id, record.version + 1)
        assert memory.put("page 7", "back", user_id="ana", namespace=("book", "3")).record.version == 3
        memory.flush()
        assert memory.verify().problems == []


# -- several vectors, none, given ones ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Vectors]]:
    """A closed store whose records have been embedded in every way, and their vectors."""
    path = tmp_path_factory.mktemp("forms") / "store"
    with opened(path) as memory:
        for n in range(30):
            said = [
                {},
                {"embed": False},
                {"embed": [text_of(n, part, 7) for part in range(4)]},
                {"vector": np.random.default_rng(n).normal(size=(n % 3 + 1, HashedWords().dim))},
            ][n % 4]
            memory.add(f"{text_of(n, 0)}{LONG}", id=f"r{n}", user_id="ana", **said)
        memory.update("r2", embed=["once", "twice"])
        memory.delete("r3")
        memory.compact()
        ids = [record.id for record in memory.iterate(user_id="ana")]
        return path, {one.id: one for one in memory.vectors(ids) if one is not None}


def compare(path: Path, before: dict[str, Vectors]) -> list[str]:
    """Which records are not embedded as they were; everything agrees in any case."""
    with opened(path) as memory:
        after = {one.id: one for one in memory.vectors(list(before)) if one is not None}
        memory.flush()
        assert memory.verify().problems == []
        for one in after.values():
            assert len(one.vectors) == {"content": 1, "none": 0}.get(one.embedding, len(one.texts) or len(one.vectors))
    return [
        id
        for id, one in before.items()
        if id not in after
        or (one.embedding, one.texts) != (after[id].embedding, after[id].texts)
        or not np.allclose(one.vectors, after[id].vectors, atol=1e-5)
    ]


def page_with(data: bytearray, part: bytes) -> slice:
    start = data.index(part) // PAGE * PAGE
    return slice(start, start + PAGE)


def test_every_form_is_rescued(forms: tuple[Path, dict[str, Vectors]], tmp_path: Path) -> None:
    def harm(data: bytearray) -> None:  # of what somebody said of one record
        data[data.index((text_of(0, 0) + LONG).encode()) + 1] ^= 1

    report, _ = salvaged(forms[0], tmp_path / "store", harm)
    assert (report.counts["reembedded"], report.counts["altered"]) == (0, 1)
    assert compare(tmp_path / "store", forms[1]) == []


def test_lost_further_vectors(forms: tuple[Path, dict[str, Vectors]], tmp_path: Path) -> None:
    """Those of texts are made again; who lost one that was given is embedded by its content, and told."""

    def harm(data: bytearray) -> None:
        data[page_with(data, forms[1]["r6"].vectors[2].tobytes())] = bytes(PAGE)

    report, _ = salvaged(forms[0], tmp_path / "store", harm)
    assert report.counts["reembedded"] >= 1
    lost = compare(tmp_path / "store", forms[1])
    assert {forms[1][id].embedding for id in lost} <= {"given"}
    assert report.counts["altered"] == len(lost)
    with opened(tmp_path / "store") as memory:
        for id in lost:
            assert any(f"'{id}'" in problem and "embedded by" in problem for problem in report.problems)
            assert memory.get(id).embedding == "content"  # pyright: ignore[reportOptionalMemberAccess]


def test_lost_first_vectors(forms: tuple[Path, dict[str, Vectors]], tmp_path: Path) -> None:
    def harm(data: bytearray) -> None:
        data[page_with(data, forms[1]["r11"].vectors[0].tobytes())] = bytes(PAGE)

    report, _ = salvaged(forms[0], tmp_path / "store", harm)
    assert report.counts["reembedded"] >= 2
    lost = compare(tmp_path / "store", forms[1])
    assert "r11" in lost
    assert {forms[1][id].embedding for id in lost} == {"given"}


def test_lost_texts_leave_their_vectors(forms: tuple[Path, dict[str, Vectors]], tmp_path: Path) -> None:
    def harm(data: bytearray) -> None:
        at = data.index(f'["{text_of(10, 0, 7)}"'.encode())
        data[at] = 0

    report, _ = salvaged(forms[0], tmp_path / "store", harm)
    assert report.counts["altered"] >= 1
    assert compare(tmp_path / "store", forms[1]) == ["r10"]
    with opened(tmp_path / "store") as memory:
        [held] = memory.vectors(["r10"])
        assert held is not None
        assert held.embedding == "given"
        np.testing.assert_array_equal(held.vectors, forms[1]["r10"].vectors)


@pytest.mark.parametrize("seed", range(3))
def test_pages_lost_at_random_leave_a_store_that_agrees(
    forms: tuple[Path, dict[str, Vectors]], tmp_path: Path, seed: int
) -> None:
    def harm(data: bytearray) -> None:
        pick = random.Random(seed)
        for page in pick.sample(range(8, len(data) // PAGE), 4):
            data[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)

    salvaged(forms[0], tmp_path / "store", harm)
    compare(tmp_path / "store", forms[1])
