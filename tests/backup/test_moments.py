"""Increments, and restoring a store as it was: any moment of a random history comes back, its history included."""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FakeClock, HashEmbedder
from hypothesis import given, settings
from hypothesis import strategies as st

import agentmem
from agentmem import ALL, AgentMemError, Memory, ModelMismatchError, NotFoundError, Settings
from agentmem.archive.folder import FolderObjects
from agentmem.backup.create import create
from agentmem.backup.lineage import Entry
from agentmem.errors import ArchiveCorruptError, ArchiveError

QUIET = {"lifecycle": {"sweep_interval_s": 0}}
TEXTS = ["tea", "green tea", "running shoes", "the harbour", "日本 tea", "naïve"]
USERS = ["ana", "ben", None]


def state(memory: Memory) -> dict[str, Any]:
    """What a store says: every record in whatever state, its history, and how it is embedded."""
    engine = memory.handle.engine()
    found = dict[str, Any]()
    for row, id in engine.repository.db.execute("SELECT row, id FROM records WHERE state != 2 ORDER BY row"):
        [stored] = engine.repository.find_rows([row])
        said = asdict(engine.repository.record(stored))
        said.pop("last_accessed")
        vector = np.frombuffer(engine.repository.vectors([stored]).get(row, b""), np.float32)
        history = engine.repository.history(row, id)
        found[id] = (stored.state, said, stored.aged_from or stored.created_at, history, vector.round(5).tolist())
    return found


def same_words(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for id in one:
        assert one[id] == other[id], id


class Life:
    """A store to which anything happens, and what it was after each event."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random, self.clock = random.Random(seed), FakeClock()
        self.memory = Memory(folder / "store", settings=Settings(**QUIET), clock=self.clock, embedder=HashEmbedder())
        self.objects = FolderObjects(folder / "backups")
        self.states = dict[int, dict[str, Any]]()
        self.times = list[tuple[datetime, int]]()
        self.ids = list[str]()

    @property
    def seq(self) -> int:
        return self.memory.handle.engine().repository.last_seq()

    def step(self) -> None:
        chosen = self.random.choice(
            [self.add, self.add, self.put, self.put, self.update, self.update, self.delete, self.restore, self.feed,
             self.pin, self.move, self.sweep, self.touch, self.form, self.vector, self.bulk]
        )  # fmt: skip
        try:
            chosen()
        except AgentMemError:
            pass
        self.states[self.seq] = state(self.memory)
        self.times.append((self.clock(), self.seq))
        self.clock.advance(self.random.choice([0, 1, 60, 3_600, 86_400 * 3]))

    def backup(self, kind: str) -> None:
        create(self.memory.handle.engine(), self.objects, kind=kind)

    def text(self) -> str:
        return self.random.choice(TEXTS) + self.random.choice(["", " and more", " again"])

    def some(self) -> str:
        return self.random.choice(self.ids or ["x"])

    def add(self) -> None:
        added = self.memory.add(
            self.text(), user_id=self.random.choice(USERS),
            layer=self.random.choice(["interact", "insights", "assets"]),
            metadata={"n": self.random.randrange(3)}, importance=self.random.choice([None, 0.5, 1.0]),
            occurred_at=self.random.choice([None, self.clock()]),
            ttl=self.random.choice([None, None, 3_600.0, 86_400.0 * 30]),
        )  # fmt: skip
        self.ids.append(added.id)

    def put(self) -> None:
        data = {"n": self.random.randrange(99)} if self.random.random() < 0.5 else None
        put = self.memory.put(
            self.random.choice(["k1", "k2"]), self.text(), user_id="ana", data=data,
            namespace=self.random.choice([(), ("deep", "er")]), ttl=self.random.choice([None, 86_400.0]),
        )  # fmt: skip
        self.ids.append(put.id)

    def update(self) -> None:
        changes: dict[str, Any] = self.random.choice(
            [{"content": self.text()}, {"metadata": {"m": 1}}, {"importance": 0.25}, {"ttl": 7_200.0}, {"ttl": None}]
        )
        self.memory.update(self.some(), **changes)

    def delete(self) -> None:
        self.memory.delete(self.some())

    def restore(self) -> None:
        if self.random.random() < 0.3:
            self.memory.restore_all(user_id="ana", why=self.random.choice(["deleted", "expired"]))
        else:
            self.memory.restore(self.some(), version=self.random.choice([None, None, 1, 2]))

    def feed(self) -> None:
        self.memory.feedback(self.some(), rating=self.random.choice([None, 1.0, 4.0]), accepted=True)

    def pin(self) -> None:
        lifecycle = self.memory.lifecycle
        self.random.choice([lifecycle.pin, lifecycle.unpin])(self.some())

    def move(self) -> None:
        lifecycle = self.memory.lifecycle
        self.random.choice([lifecycle.promote, lifecycle.demote])(self.some())

    def sweep(self) -> None:
        self.memory.lifecycle.sweep()

    def touch(self) -> None:
        self.memory.touch([self.some()], ttl=self.random.choice([None, 60.0, 86_400.0 * 9]))

    def form(self) -> None:
        embed = self.random.choice([["one", "two"], ["three"], False, True])
        self.memory.update(self.some(), embed=embed)

    def vector(self) -> None:
        vector = [self.random.random() for _ in range(32)]
        if self.ids and self.random.random() < 0.6:
            self.memory.update(self.some(), vector=vector)
        else:
            self.ids.append(self.memory.add(self.text(), user_id="ben", vector=vector).id)

    def bulk(self) -> None:
        self.memory.delete_all(user_id=self.random.choice(USERS[:2]), filters={"n": 1})


def restored(life: Life, folder: Path, **moment: Any) -> dict[str, Any]:
    report = agentmem.restore(life.objects.url, folder, embedder=HashEmbedder(), **moment)
    assert report.without_data == 0
    with Memory(folder, settings=Settings(**QUIET), clock=life.clock, embedder=HashEmbedder()) as again:
        assert again.verify().problems == []
        return state(again)


def check_moments(seed: int, steps: int, each: int) -> None:
    """Random events of a random life and random instants, ``each`` so many."""
    with tempfile.TemporaryDirectory() as name:
        life = Life(Path(name), seed)
        for _ in range(steps):
            life.step()
            if life.random.random() < 0.12:
                life.backup(life.random.choice(["full", "incremental", "incremental", "incremental"]))
        life.backup("incremental")
        left = life.states[life.seq].keys()
        life.memory.close()
        # What a sweep has erased since, long after its time was over, stays erased.
        states = {seq: {id: said for id, said in then.items() if id in left} for seq, then in life.states.items()}
        for n in range(each):
            seq = life.random.choice(list(life.states))
            if seq:
                same_words(restored(life, Path(name, f"seq {n}"), seq=seq), states[seq])
        for n in range(each):
            at, _ = life.random.choice(life.times)
            seq = max(number for when, number in life.times if when <= at)
            if seq:
                same_words(restored(life, Path(name, f"at {n}"), at=at), states[seq])


@pytest.mark.slow
@given(seed=st.integers(0, 2**32))
@settings(max_examples=3)
def test_any_moment_comes_back(seed: int) -> None:
    check_moments(seed, 40, 5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_fifty_moments_of_a_longer_life_come_back(seed: int) -> None:
    check_moments(seed, 150, 25)


# -- erasures ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def objects(tmp_path: Path) -> FolderObjects:
    return FolderObjects(tmp_path / "backups")


def names(memory: Memory) -> list[str]:
    return sorted(record.content for record in memory.iterate(user_id=ALL))


@pytest.mark.parametrize("removed", [False, True])
@pytest.mark.parametrize("kind", ["incremental", "full"])
def test_what_was_erased_since_stays_erased(
    open_memory: Callable[..., Memory], objects: FolderObjects, tmp_path: Path, kind: str, removed: bool
) -> None:
    memory = open_memory(settings=Settings(**QUIET))
    memory.add("what ana says", user_id="ana")
    one = memory.add("one secret", user_id="ben").id
    memory.add("what ben says", user_id="ben")
    engine = memory.handle.engine()
    before = create(engine, objects)
    memory.erase_all(user_id="ana")
    memory.erase(one)
    if removed:
        memory.compact()
    create(engine, objects, kind=kind)
    memory.add("ana is back", user_id="ana")
    create(engine, objects, kind=kind)
    moments: list[dict[str, Any]] = [{"id": before.id}, {"seq": before.seq}, {"seq": 1}, {}]
    expected = [["what ben says"], ["what ben says"], [], ["ana is back", "what ben says"]]
    for n, (moment, contents) in enumerate(zip(moments, expected, strict=True)):
        report = agentmem.restore(objects.url, tmp_path / f"again {n}", **moment)
        assert report.erased == (2, 2, 1, 0)[n]
        again = open_memory(tmp_path / f"again {n}", settings=Settings(**QUIET))
        assert names(again) == contents
        assert again.verify().problems == []
        assert len(again.erasures(user_id="ana")) == 1


def test_what_a_restored_store_erased_stays_erased_in_what_it_came_from(
    open_memory: Callable[..., Memory], objects: FolderObjects, tmp_path: Path, clock: FakeClock
) -> None:
    memory = open_memory()
    memory.add("what ana says", user_id="ana")
    memory.add("what ben says", user_id="ben")
    first = create(memory.handle.engine(), objects)
    memory.add("lost", user_id="ben")
    create(memory.handle.engine(), objects, kind="incremental")
    clock.advance(60)
    agentmem.restore(objects.url, tmp_path / "second", id=first.id)
    second = open_memory(tmp_path / "second")
    second.add("of the second", user_id="ben")
    second.erase_all(user_id="ana")
    second.compact()
    create(second.handle.engine(), objects)
    agentmem.restore(objects.url, tmp_path / "third", id=first.id)
    assert names(open_memory(tmp_path / "third")) == ["what ben says"]


# -- part of a store ---------------------------------------------------------------------------------------------------


def test_one_user_and_single_records(
    open_memory: Callable[..., Memory], objects: FolderObjects, tmp_path: Path
) -> None:
    memory = open_memory()
    for user in ("ana", "ben", None):
        memory.add(f"what {user} says", user_id=user)
    memory.put("colour", "blue", user_id="ana")
    one = memory.add("one more", user_id="ben").id
    create(memory.handle.engine(), objects)
    memory.update(one, content="changed")
    create(memory.handle.engine(), objects, kind="incremental")
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"user_id": "ana"}, ["blue", "what ana says"]),
        ({"user_id": "ben"}, ["changed", "what ben says"]),
        ({"user_id": None}, ["what None says"]),
        ({"user_id": "nobody"}, []),
        ({"ids": [one], "seq": 5}, ["one more"]),
        ({"ids": [one], "user_id": "ana"}, []),
    ]
    for n, (wanted, contents) in enumerate(cases):
        folder = tmp_path / f"again {n}"
        report = agentmem.restore(objects.url, folder, embedder=HashEmbedder(), dry_run=True, **wanted)
        assert report.dry_run
        assert not folder.exists()
        made = agentmem.restore(objects.url, folder, embedder=HashEmbedder(), **wanted)
        assert made.records == report.records == len(contents)
        again = open_memory(folder)
        assert names(again) == contents
        assert again.verify().problems == []


# -- what is missing, or in disorder -----------------------------------------------------------------------------------


def filled(memory: Memory, objects: FolderObjects) -> list[Entry]:
    """Events 1 to 8, backed up after 2 (full), 4, 6 (incremental), 8 (full)."""
    made = list[Entry]()
    for kind in ("full", "incremental", "incremental", "full"):
        for _ in range(2):
            memory.add(f"memory {memory.stats().events + 1}", user_id="ana")
        made.append(create(memory.handle.engine(), objects, kind=kind))
    return made


def test_a_moment_comes_from_the_next_backup_that_is_whole(
    open_memory: Callable[..., Memory], objects: FolderObjects, tmp_path: Path
) -> None:
    made = filled(open_memory(), objects)
    assert [entry.after for entry in made] == [None, 2, 4, None]
    Path(objects.url, made[1].lineage, "chain", "0000000002").unlink()
    for seq, number in ((1, 1), (2, 1), (3, 4), (5, 4), (6, 4), (7, 4), (8, 4)):
        report = agentmem.restore(objects.url, tmp_path / f"{seq}", seq=seq)
        assert (report.backup.id, report.seq, report.records) == (made[number - 1].id, seq, seq)
    with pytest.raises(ArchiveCorruptError, match="goes on from number 2"):
        agentmem.restore(objects.url, tmp_path / "third", id=made[2].id)
    with pytest.raises(NotFoundError, match="ends at 8"):
        agentmem.restore(objects.url, tmp_path / "ninth", seq=9)
    assert not (tmp_path / "ninth").exists()


def test_an_increment_that_is_damaged_or_missing_makes_no_store(
    open_memory: Callable[..., Memory], objects: FolderObjects, tmp_path: Path
) -> None:
    memory = open_memory(settings=Settings(backup={"url": objects.url}))
    made = filled(memory, objects)
    for found in list(objects.list(made[1].archive)):
        path = Path(objects.url, found.key)
        data = path.read_bytes()
        # The bookkeeping of an increment is of no use where another one goes on from it, and is not read.
        unread = path.name.startswith(("meta-", "sequences-"))
        for changed in (bytes([data[0] ^ 1]) + data[1:], data[: len(data) // 2], None):
            path.unlink() if changed is None else path.write_bytes(changed)
            if not unread:
                with pytest.raises(ArchiveError):
                    agentmem.restore(objects.url, tmp_path / "again", id=made[2].id)
            assert not (tmp_path / "again").exists()
            assert not memory.backup.verify(made[2].id).ok
            path.write_bytes(data)
    assert memory.backup.verify(made[2].id).ok
    assert agentmem.restore(objects.url, tmp_path / "again", id=made[2].id).records == 6


def test_a_clock_that_goes_back(
    open_memory: Callable[..., Memory], objects: FolderObjects, tmp_path: Path, clock: FakeClock
) -> None:
    memory = open_memory()
    engine, began = memory.handle.engine(), clock()
    for n, hours in enumerate((10, 11, 8, 9, 12)):
        clock.now = began + timedelta(hours=hours)
        memory.add(f"memory {n}", user_id="ana")
        create(engine, objects, kind="incremental")
    # At 9 the clock had shown 11 already, so that counts as having happened before.
    for hours, seq in ((8, 3), (8.5, 3), (9, 4), (11.5, 4), (12, 5), (99, 5)):
        at = began + timedelta(hours=hours)
        assert agentmem.restore(objects.url, tmp_path / f"{hours}", at=at).seq == seq
    with pytest.raises(NotFoundError, match="nothing had happened"):
        agentmem.restore(objects.url, tmp_path / "before", at=began)


def test_numbers_go_on_after_those_of_the_place(
    open_memory: Callable[..., Memory], objects: FolderObjects, tmp_path: Path
) -> None:
    memory = open_memory()
    made = filled(memory, objects)
    agentmem.restore(objects.url, tmp_path / "again", seq=3)
    again = open_memory(tmp_path / "again")
    again.add("new", user_id="ana")
    engine = again.handle.engine()
    assert engine.repository.last_seq() > made[-1].seq
    assert engine.repository.last_row() == 9
    entry = create(engine, objects, kind="incremental")
    assert (entry.kind, entry.parent, entry.parent_row) == ("full", made[0].lineage, 3)
    assert create(memory.handle.engine(), objects, kind="incremental").number == 5


def test_another_model_begins_with_a_full_backup(
    open_memory: Callable[..., Memory], objects: FolderObjects, tmp_path: Path
) -> None:
    class Other(HashEmbedder):
        name = "another"

    memory = open_memory()
    memory.add("one", user_id="ana")
    create(memory.handle.engine(), objects)
    memory.reembed(Other())
    entry = create(memory.handle.engine(), objects, kind="incremental")
    assert entry.kind == "full"
    for folder, seq, embedder in (("before", 1, HashEmbedder()), ("after", 2, Other())):
        agentmem.restore(objects.url, tmp_path / folder, seq=seq)
        assert open_memory(tmp_path / folder, embedder=embedder).verify().ok


def test_texts_that_were_replaced_need_their_model(
    open_memory: Callable[..., Memory], objects: FolderObjects, tmp_path: Path
) -> None:
    memory = open_memory()
    id = memory.add("one", user_id="ana").id
    memory.update(id, content="two")
    create(memory.handle.engine(), objects)
    with pytest.raises(ModelMismatchError, match="give that model as embedder="):
        agentmem.restore(objects.url, tmp_path / "again", seq=1)
    assert not (tmp_path / "again").exists()
    report = agentmem.restore(objects.url, tmp_path / "again", seq=1, embedder=HashEmbedder())
    assert report.embedded == 1
    assert names(open_memory(tmp_path / "again")) == ["one"]


def test_writers_and_increments_at_once(
    open_memory: Callable[..., Memory], objects: FolderObjects, tmp_path: Path
) -> None:
    memory = open_memory(settings=Settings(**QUIET))
    acknowledged, stop = list[str](), threading.Event()

    def write(user: str) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            id = memory.add(f"{user} says {n}", user_id=user).id
            if n % 3 == 0:
                memory.update(id, content=f"{user} says {n} again")
            acknowledged.append(id)

    threads = [threading.Thread(target=write, args=(f"writer {n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    entries = list[tuple[Entry, int]]()
    for _ in range(4):
        known = len(acknowledged)
        entries.append((create(memory.handle.engine(), objects, kind="incremental"), known))
    stop.set()
    for thread in threads:
        thread.join()
    for entry, known in entries:
        folder = tmp_path / entry.id
        assert agentmem.restore(objects.url, folder, id=entry.id).records == entry.records
        again = open_memory(folder, settings=Settings(**QUIET))
        assert again.verify().problems == []
        assert all(again.get(id) is not None for id in acknowledged[:known])
        again.close()


@pytest.mark.slow
def test_a_bit_that_flips_anywhere_in_increments_is_told_or_harmless(tmp_path: Path) -> None:
    life, folder = Life(tmp_path, 5), tmp_path / "backups"
    with life.memory as memory:
        for n in range(4):
            for _ in range(12):
                life.step()
            memory.add("one more", user_id="ana")
            create(memory.handle.engine(), life.objects, kind="incremental" if n else "full")
    expected = agentmem.restore(folder, tmp_path / "whole", embedder=HashEmbedder()).records
    with Memory(tmp_path / "whole", settings=Settings(**QUIET), clock=life.clock, embedder=HashEmbedder()) as whole:
        wanted = state(whole)
    told = 0
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        data = path.read_bytes()
        for at in sorted({0, len(data) // 3, 2 * len(data) // 3, len(data) - 1} if data else set()):
            path.write_bytes(data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :])
            again = tmp_path / f"again {told}"
            try:
                assert agentmem.restore(folder, again, embedder=HashEmbedder()).records == expected, (path, at)
            except ArchiveError:
                told += 1
                assert not again.exists()
            else:
                with Memory(again, settings=Settings(**QUIET), clock=life.clock, embedder=HashEmbedder()) as restored:
                    same_words(state(restored), wanted)
                shutil.rmtree(again)
        path.write_bytes(data)
    assert told > 20
