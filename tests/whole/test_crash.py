"""Kills, damage, full disks, many processes: what was acknowledged is there, everything else whole or absent."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, FakeClock
from lancedb.table import LanceTable

from agentmem import ALL, DiskFullError, Memory, ModelMismatchError, Settings, StoreCorruptError, StoreError
from agentmem.engine.follower import retrying
from agentmem.indexes.lance import LanceIndex
from stress import crash, damage
from stress.points import POINTS
from stress.victim import HashedWords, text_of

ATTEMPTS = 5
EAGER = {"follower_delay_s": 0.02, "follower_group": 50}


def opened(path: Path, **settings: Any) -> Memory:
    return Memory(path, settings=Settings(**{**EAGER, **settings}), embedder=HashedWords())


def child(code: str, *args: object, **options: Any) -> subprocess.Popen[str]:
    """Run a script that may use everything this file imports from the package."""
    header = "import sys\nfrom agentmem import *\nfrom stress.victim import HashedWords, text_of\n"
    return subprocess.Popen(
        [sys.executable, "-c", header + code, *map(str, args)],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def output(process: subprocess.Popen[str], timeout: float = 120) -> list[str]:
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == 0, err
    return out.splitlines()


def wait_until(done: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# -- kills -----------------------------------------------------------------------------------------------------------


def kill(tmp_path: Path, points: list[str | None], seed: int, duration: float = 0.8) -> None:
    """Kill a writer at each of the points; where it misses one, because it was busy elsewhere, again.

    With a new store after a miss of what goes through all of it: one that has grown takes even longer.
    """
    pick, store = random.Random(seed), None
    for point in points:
        for attempt in range(ATTEMPTS):
            needs = POINTS[point].needs if point else ""
            if store is None or store.full or needs == "fresh" or (attempt and needs in ("reembed", "backup", "alone")):
                for folder in tmp_path.glob("store*"):
                    shutil.rmtree(folder, ignore_errors=True)
                store = crash.Store(tmp_path, None, {})
            tally = crash.Tally()
            reached = crash.trial(store, point, duration, pick, tally)
            assert tally.found.ok, tally.found.problems
            if reached:
                break
        else:
            pytest.fail(f"the writer never came to {point!r}")


@pytest.mark.slow
def test_a_writer_killed_at_random(tmp_path: Path) -> None:
    kill(tmp_path, [None] * 2, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "points",
    [
        ["migration: made, not recorded", "opening: model noted in part"],
        ["add: synced, not acknowledged", "lancedb: before a reset"],
        ["put: replaced, history not", "apply: made, not released", "touch: last event gone, this one not in"],
        ["backup: entry in, store not told"],
    ],
)
def test_a_writer_killed_at_a_named_point(tmp_path: Path, points: list[str | None]) -> None:
    kill(tmp_path, points, seed=2)


RENEWING = """
memory = Memory(sys.argv[1], embedder=HashedWords())
id = memory.put("seat", text_of(1, 1), ttl=12, sliding=True).id
import time
time.sleep(1.3)  # more than a tenth of it
memory.get(id)
time.sleep(1.3)
import os, signal
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_no_renewal_that_is_older_than_a_second(tmp_path: Path) -> None:
    process = child(RENEWING, tmp_path / "store")
    process.communicate(timeout=60)
    with opened(tmp_path / "store") as memory:
        add, touch = memory.events()
        assert touch.event == "TOUCH"
        assert touch.at - add.at >= timedelta(seconds=1.2)
        record = memory.get(key="seat", touch=False)
        assert record is None or record.expires_at == touch.at + timedelta(seconds=12)


EVERYTHING = """
import json, random, time
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from agentmem.indexes import delta, driver
from stress.points import watch
from stress.talk import talking
from stress.victim import INDEXED, backups_of, other_dim, restored_of, settings_of

def until(done):
    deadline = time.monotonic() + 20
    while not done() and time.monotonic() < deadline:
        time.sleep(0.01)

path, seen, delta.LEAST = Path(sys.argv[1]), watch(), 20
with Memory(path, settings=settings_of(200, path=path), embedder=HashedWords()) as memory:
    ids = [one.id for one in memory.add_many([text_of(1, n) for n in range(600)], user_id="ana")]
    memory.update(ids[0], content=text_of(2, 0), data=[1])
    memory.delete(ids[1])
    memory.erase(ids[2])
    memory.search(text_of(1, 7), user_id="ana")
    memory.add_many([text_of(8, n) for n in range(100)], user_id="ana")
    if find_spec("faiss"):
        until(lambda: seen["codes: made, not taken up"] or not memory.search(text_of(8, 7), user_id="ana"))
    memory.tiers.place(ids[7], "hot")
    memory.add(text_of(1, 5), user_id="ana", importance=1)
    memory.add_many([text_of(4, n) for n in range(9)], user_id="leaver", run_id="of a leaver")
    memory.erase_all(user_id="leaver")
    memory.put("k", text_of(5, 0), user_id="ana", ttl=60, sliding=True)
    memory.apply([Put("k", text_of(5, 1), user_id="ana", ttl=60, sliding=True), Touch(key="k", user_id="ana", ttl=50)])
    items = [{"content": text_of(3, n), "role": "user", "importance": float(n % 2)} for n in range(100)]
    memory.add_many(items, user_id="ana")
    memory.lifecycle.sweep(now=datetime.now(UTC) + timedelta(days=2))
    memory.tiers.archive(ids[10:14])
    memory.erase(ids[10])
    memory.tiers.rehydrate(ids[11])
    memory.compact()
    memory.delete(ids[3])  # too few of the merged rows for LanceDB to rewrite them by itself
    memory.compact()
    for kind in ("full", "full"):
        memory.backup.create(kind)
    memory.backup.prune()
    restore(backups_of(path), restored_of(path))
    memory.backup.restore()
talk, pick = talking(str(path), 1, HashedWords(32)), random.Random(0)
until(lambda: seen["knowledge: to be reverted"] or talk(pick))
driver.NEAR_FROM = INDEXED
for engine in ("lancedb", *["hnsw"] * (find_spec("hnswlib") is not None)):
    other = path.with_name(engine)
    with Memory(other, settings=settings_of(200, engine), embedder=HashedWords()) as memory:
        ids = [one.id for one in memory.add_many([text_of(6, n) for n in range(600)], user_id="ana")]
        memory.search(text_of(6, 7), user_id="ana")
        memory.tiers.place(ids[7], "hot")
        memory.compact()
        wanted = "graph: in front" if engine == "hnsw" else "tiers: moved on the disk, in part"
        until(lambda: seen[wanted] or not memory.search(text_of(6, 8), user_id="ana"))
        memory.erase(ids[9])
        memory.search(text_of(6, 9), user_id="ana")
for manifest in (path / "lance").glob("*.lance/_versions/*.manifest"):
    manifest.write_bytes(b"")
with Memory(path, settings=settings_of(200), embedder=HashedWords()) as memory:
    memory.flush()
    memory.reembed(HashedWords(other_dim(32)))
    until(lambda: seen["reembed: old vectors half removed"])
    memory.search(text_of(1, 7), user_id="ana")
    until(lambda: seen["accesses: noted, not committed"])
print(json.dumps(seen))
"""


NOT_HERE = {name for name, point in POINTS.items() if point.needs == "graph" and find_spec("hnswlib") is None}
NOT_HERE |= set() if find_spec("faiss") else {"codes: made, not taken up"}


@pytest.mark.slow
def test_every_named_point_is_passed(tmp_path: Path) -> None:
    """A point whose function or statement was renamed would be tested by nobody, and nobody would see it."""
    seen = json.loads(output(child(EVERYTHING, tmp_path / "store"))[-1])
    assert seen.keys() == POINTS.keys()
    assert [name for name, times in seen.items() if not times and name not in NOT_HERE] == []


@pytest.mark.slow
@pytest.mark.parametrize("point", [name for name in POINTS if name not in NOT_HERE])
def test_a_writer_killed_at_each_named_point(tmp_path: Path, point: str) -> None:
    """Once; ``python -m stress crash`` does so five times each, and as often as wanted."""
    kill(tmp_path, [point], seed=3, duration=2)


@pytest.mark.slow
def test_a_writer_killed_often(tmp_path: Path) -> None:
    kill(tmp_path, [None] * 20, seed=4, duration=2)


# -- damage ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> damage.Sample:
    return damage.Sample(tmp_path_factory.mktemp("sample") / "store")


def spoil(sample: damage.Sample, folder: Path, cases: list[tuple[str, str]], seed: int) -> damage.Findings:
    findings, pick = damage.Findings(), random.Random(seed)
    for file, harm in cases:
        damage.damage_lance(sample, folder, file, harm, pick, findings)
    assert findings.ok, findings.problems
    return findings


@pytest.mark.slow
def test_a_damaged_file_of_lancedb_costs_no_answer(sample: damage.Sample, tmp_path: Path) -> None:
    cases = [(file, harm) for file in damage.lance_files(sample.path) for harm in damage.HARMS]
    newest = [(min(file for file, _ in cases if file.endswith(".manifest")), harm) for harm in damage.HARMS]
    findings = spoil(sample, tmp_path, [*newest, *random.Random(5).sample(cases, 15)], seed=5)
    assert findings.healed >= 5


@pytest.mark.slow
def test_every_damaged_file_of_lancedb_costs_no_answer(sample: damage.Sample, tmp_path: Path) -> None:
    spoil(sample, tmp_path, [(f, harm) for f in damage.lance_files(sample.path) for harm in damage.HARMS], seed=6)


def test_a_flipped_bit_in_vectors_is_noticed_and_mended(sample: damage.Sample, tmp_path: Path) -> None:
    path = sample.copy(tmp_path)
    for file in (path / "lance").rglob("*.lance"):
        if file.is_file():
            data = bytearray(file.read_bytes())
            data[len(data) // 3] ^= 4
            file.write_bytes(data)
    with damage.opened(path, 200) as memory:
        assert damage.answers(memory) == sample.answers
        wait_until(lambda: memory.health().vector_rebuilds == 1)
        memory.flush()
        assert memory.verify().ok
        assert damage.answers(memory) == sample.answers


def test_a_log_cut_anywhere_keeps_what_was_acknowledged_before(tmp_path: Path) -> None:
    log, findings, pick = damage.Log(tmp_path, commits=20), damage.Findings(), random.Random(7)
    cuts = log.cuts(pick, inside=20)
    for cut in pick.sample(cuts, 20):
        log.check(tmp_path, cut, findings)
    assert findings.ok, findings.problems


def test_damage_inside_the_database_is_reported(sample: damage.Sample, tmp_path: Path) -> None:
    findings, pick = damage.Findings(), random.Random(8)
    for harm in ("truncate", "empty", "zero", "delete", *["flip"] * 10):
        damage.damage_truth(sample, tmp_path, harm, pick, findings)
    assert findings.ok, findings.problems
    assert findings.reported >= 4


def test_text_that_is_not_utf8_is_reported_as_damage(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as memory:
        id = memory.add("a needle in the haystack", user_id="ana").id
        memory.compact()
    file = tmp_path / "store" / "agentmem.db"
    data = file.read_bytes()
    assert b"needle" in data
    file.write_bytes(data.replace(b"needle", b"n\xffedle"))
    with opened(tmp_path / "store") as memory:
        with pytest.raises(StoreCorruptError):
            memory.get(id)
        assert not memory.verify().ok
        assert memory.health().vector_rebuilds == 0  # what LanceDB has may be the last good copy


# -- the log is synced before anything is acknowledged ---------------------------------------------------------------


def strace() -> str:
    found = shutil.which("strace")
    if found is None:
        pytest.skip("strace is not installed")
    probe = subprocess.run([found, "-e", "trace=none", "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"ptrace is not permitted here: {probe.stderr.strip()}")
    return found


def test_the_log_is_synced_before_each_acknowledgement(tmp_path: Path) -> None:
    code = """
import os
with Memory(sys.argv[1], embedder=HashedWords()) as memory:
    memory.warm_up()
    ids = []
    for n in range(10):
        ids.append(memory.add(text_of(n, 0), user_id="ana").id)
        os.write(1, b"ack\\n")
    memory.add_many([text_of(n, 1) for n in range(20)], user_id="ana")
    os.write(1, b"ack\\n")
    memory.update(ids[0], content=text_of(0, 0, 1))
    os.write(1, b"ack\\n")
    memory.delete(ids[1])
    os.write(1, b"ack\\n")
    memory.restore(ids[1])
    os.write(1, b"ack\\n")
"""
    trace = tmp_path / "trace"
    header = "import sys\nfrom agentmem import *\nfrom stress.victim import HashedWords, text_of\n"
    command = [strace(), "-f", "-y", "-o", str(trace), "-e", "trace=pwrite64,write,fsync,fdatasync"]
    subprocess.run(
        [*command, sys.executable, "-c", header + code, str(tmp_path / "store")],
        cwd=ROOT, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    acknowledged, copied, unsynced, synced = 0, 0, False, False
    pending = set[str]()
    for line in trace.read_text().splitlines():
        thread = line.split(None, 1)[0]
        wal = "agentmem.db-wal>" in line
        if wal and ("pwrite64(" in line or " write(" in line):
            unsynced = True
        elif wal and re.search(r"\bf(data)?sync\(", line):
            if "unfinished" in line:
                pending.add(thread)
            else:
                unsynced, synced = False, synced or line.rstrip().endswith("= 0")
        elif "resumed" in line and thread in pending and re.search(r"f(data)?sync resumed", line):
            pending.discard(thread)
            unsynced, synced = False, synced or line.rstrip().endswith("= 0")
        elif "agentmem.db>" in line and "pwrite64(" in line:
            assert not unsynced, "copied into the database before the log was synced"
            copied += acknowledged == 14
        elif '"ack\\n"' in line and "write(1" in line:
            assert synced, "acknowledged without a sync of the log since the acknowledgement before"
            assert not unsynced, "acknowledged with something in the log that was not synced"
            acknowledged, synced = acknowledged + 1, False
    assert acknowledged == 14
    assert copied, "closing the store copies the log into the database"


def test_a_disk_that_takes_its_time_keeps_only_the_writer_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path / "store") as memory, ThreadPoolExecutor(1) as threads:
        known = memory.add(text_of(0, 0), user_id="ana").id
        syncing, synced = threading.Event(), threading.Event()

        def slow(file: int) -> None:
            syncing.set()
            assert synced.wait(60)
            os.fdatasync(file)

        monkeypatch.setattr("agentmem.stores.log._sync", slow)
        added = threads.submit(memory.add, text_of(0, 1), user_id="ana")
        try:
            assert syncing.wait(60)
            assert memory.get(known).content == text_of(0, 0)
            assert memory.search(text_of(0, 0), user_id="ana")[0].id == known
            assert not added.done()
        finally:
            synced.set()
        assert added.result(60).status == "added"


def test_what_a_failed_sync_left_out_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed, written, write = False, 0, os.pwrite

    def counted(file: int, data: bytes, at: int) -> int:
        nonlocal written
        assert data == os.pread(file, len(data), at)
        written += write(file, data, at)
        return len(data)

    def failing_once(file: int) -> None:
        nonlocal failed
        if not failed:
            failed = True
            raise OSError(errno.EIO, "Input/output error")
        assert written == os.fstat(file).st_size
        os.fdatasync(file)

    monkeypatch.setattr("agentmem.lifecycle.worker.FLUSH_S", 1_000)  # nothing else is written meanwhile
    with opened(tmp_path / "store", follower_delay_s=1_000, follower_group=1_000) as memory:
        memory.add(text_of(0, 0), user_id="ana")
        with monkeypatch.context() as patched:
            patched.setattr("agentmem.stores.log._sync", failing_once)
            patched.setattr("os.pwrite", counted)
            assert memory.add(text_of(0, 1), user_id="ana").status == "added"
        assert failed
        assert len(memory.page(user_id="ana").records) == 2
        assert memory.verify().ok


def test_nothing_is_committed_after_a_failed_sync_until_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentmem.lifecycle.worker.FLUSH_S", 1_000)  # nothing else is written meanwhile
    broken = True

    def failing(file: int) -> None:
        if broken:
            raise OSError(errno.EIO, "Input/output error")
        os.fdatasync(file)

    with opened(tmp_path / "store", follower_delay_s=1_000, follower_group=1_000) as memory:
        known = memory.add(text_of(0, 0), user_id="ana").id
        monkeypatch.setattr("agentmem.stores.log._sync", failing)
        with pytest.raises(StoreError, match="the disk does not confirm"):
            memory.add(text_of(0, 1), user_id="ana", dedupe=False)
        for _ in range(3):
            with pytest.raises(StoreError, match="the disk does not confirm"):
                memory.add(text_of(0, 2), user_id="ana", dedupe=False)
        assert memory.get(known).content == text_of(0, 0)
        health = memory.health()
        assert not health.ok
        assert "the disk does not confirm" in str(health.last_write_error)
        broken = False
        memory.add(text_of(0, 3), user_id="ana", dedupe=False)
        health = memory.health()
        assert (health.ok, health.last_write_error) == (True, None)
        # The first was committed, only not confirmed, and must not be there twice; the others were refused.
        stored = [record.content for record in memory.iterate(user_id="ana", order="oldest")]
        assert stored == [text_of(0, 0), text_of(0, 1), text_of(0, 3)]
        assert memory.verify().ok


def test_a_log_that_cannot_be_emptied_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = threading.Event()

    def full(_: object) -> bool:
        tried.set()
        raise DiskFullError("the disk is full")

    with opened(tmp_path / "store") as memory:
        monkeypatch.setattr("agentmem.stores.commit.WAL_LIMIT", 0)
        monkeypatch.setattr("agentmem.stores.commit.truncate_wal", full)
        for n in range(3):
            assert memory.add(text_of(n, 0), user_id="ana").status == "added"
        assert tried.wait(60)
        assert memory.add(text_of(3, 0), user_id="ana").status == "added"


# -- faults while running --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arena_limit", [10, 50_000])
def test_lancedbs_folder_cannot_be_written_for_a_while(tmp_path: Path, arena_limit: int) -> None:
    path = tmp_path / "store"
    with opened(path, arena_limit=arena_limit, large_engine="lancedb") as memory:
        ids = [one.id for one in memory.add_many([text_of(n, 0) for n in range(60)], user_id="ana")]
        memory.flush()
        shutil.rmtree(path / "lance")
        (path / "lance").symlink_to("/proc/self/nothing")  # permissions do not stop root, this does
        ids += [memory.add(text_of(n, 1), user_id="ana").id for n in range(20)]
        wait_until(lambda: memory.health().vector_errors > 0)
        assert not memory.health().ok
        for n in (0, 59):
            assert memory.search(text_of(n, 0), user_id="ana", mode="vector")[0].id == ids[n]
        assert memory.search(text_of(19, 1), user_id="ana")[0].id == ids[-1]
        with pytest.raises(StoreError):
            memory.flush()
        report = memory.verify()
        assert [problem for problem in report.problems if problem.startswith("lancedb")]
        (path / "lance").unlink()
        memory.flush()
        wait_until(lambda: memory.health().ok)
        assert memory.verify().ok
        assert {record.id for record in memory.iterate(user_id=ALL)} == set(ids)


def test_a_file_in_the_way_of_lancedbs_folder(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with opened(path) as memory:
        memory.add_many([text_of(n, 0) for n in range(60)], user_id="ana")
        memory.flush()
        shutil.rmtree(path / "lance")
        (path / "lance").write_bytes(b"somebody's")
        memory.add(text_of(1, 1), user_id="ana")
        memory.flush()
        assert memory.health().vector_rebuilds == 1
        assert memory.verify().ok
    assert [file.read_bytes() for file in path.glob("lance.*.old")] == [b"somebody's"]


def test_lancedbs_folder_vanishes_under_a_search(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with opened(path, arena_limit=10, follower_delay_s=3_600, large_engine="lancedb") as memory:
        ids = [one.id for one in memory.add_many([text_of(n, 0) for n in range(60)], user_id="ana")]
        memory.flush()
        shutil.rmtree(path / "lance")
        for n in range(0, 60, 7):
            for mode in ("vector", "keyword", "hybrid"):
                assert memory.search(text_of(n, 0), user_id="ana", mode=mode, limit=1)[0].id == ids[n]


def test_a_lancedb_that_hangs_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging, go_on = threading.Event(), threading.Event()
    write = LanceTable.add

    def hang(self: LanceTable, *args: Any, **options: Any) -> Any:
        hanging.set()
        go_on.wait(60)
        return write(self, *args, **options)

    path = tmp_path / "store"
    with opened(path, arena_limit=10, large_engine="lancedb") as memory:
        ids = [memory.add(text_of(n, 0), user_id="ana").id for n in range(30)]
        memory.flush()
        monkeypatch.setattr(LanceTable, "add", hang)
        ids += [memory.add(text_of(n, 0), user_id="ana").id for n in range(30, 60)]
        assert hanging.wait(20)
        ids += [memory.add(text_of(n, 0), user_id="ana").id for n in range(60, 90)]
        for n in range(0, 90, 7):
            for mode in ("vector", "keyword", "hybrid"):
                assert memory.search(text_of(n, 0), user_id="ana", mode=mode, limit=1)[0].id == ids[n]
        before = time.monotonic()
    assert time.monotonic() - before < 5
    with opened(path, arena_limit=10, large_engine="lancedb") as memory:  # the thread that hangs still has the lock
        ids.append(memory.add(text_of(90, 0), user_id="ana").id)
        assert memory.search(text_of(90, 0), user_id="ana", limit=1)[0].id == ids[-1]
        go_on.set()
        memory.flush()
        report = memory.verify()
        assert report.ok, report.problems
        assert report.counts["lancedb"] == len(ids)


def test_errors_of_lancedb_are_retried_until_they_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [OSError(5, "Input/output error"), RuntimeError("lance error: LanceError(IO)"), ValueError("nobody knows")]
    write = LanceTable.add

    def fail(self: LanceTable, *args: Any, **options: Any) -> Any:
        if left:
            raise left.pop()
        return write(self, *args, **options)

    with opened(tmp_path / "store") as memory:
        memory.add(text_of(0, 0), user_id="ana")
        memory.flush()
        monkeypatch.setattr(LanceTable, "add", fail)
        memory.add(text_of(1, 0), user_id="ana")
        wait_until(lambda: memory.health().vectors_behind == 0 and memory.health().ok)
        assert not left
        assert memory.health().vector_errors >= 1
        assert memory.verify().ok


def test_retries_come_at_once_and_then_ever_more_slowly() -> None:
    slept, failures = list[float](), list[int]()

    def fail() -> None:
        raise OSError("still not")

    again = retrying(slept.append, lambda state: failures.append(state.attempt_number), lambda: len(failures) == 11)
    with pytest.raises(OSError, match="still not"):
        again(fail)
    for pause, least in zip(slept, [0, 1, 2, 4, 8, 16, 32, 32, 32, 32], strict=True):
        assert least <= pause <= 1.25 * least
    assert len({round(pause / 32, 6) for pause in slept[6:]}) > 1

    def moved() -> None:
        raise ModelMismatchError("the store has another model now")

    failures.clear()
    with pytest.raises(ModelMismatchError):
        again(moved)
    assert len(failures) <= 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    point = tmp_path / "disk"
    point.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(point)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", str(point)], check=True)


@pytest.mark.slow
def test_a_full_disk(small_disk: Path) -> None:
    acknowledged = dict[str, str]()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(8_000_000))
    refused = 0
    with opened(small_disk / "store", arena_limit=100) as memory:
        for n in range(300):
            texts = [text_of(n, i) + " and more" * 400 for i in range(20)]
            try:
                added = memory.add_many(texts, user_id="ana")
            except DiskFullError:
                refused += 1
                if refused == 3:
                    assert "the disk is full" in str(memory.health().last_write_error)
                    some = next(iter(acknowledged))
                    assert memory.get(some) is not None
                    assert memory.search(acknowledged[some], user_id="ana", mode="keyword")
                    ballast.unlink(missing_ok=True)
                if refused > 3 and not ballast.exists():
                    break
                continue
            acknowledged.update({one.id: text for one, text in zip(added, texts, strict=True)})
        assert refused >= 3
        found = {record.id: record.content for record in memory.iterate(user_id=ALL)}
        assert found == acknowledged
    shutil.copytree(small_disk / "store", small_disk.parent / "rescued")
    with opened(small_disk.parent / "rescued") as memory:
        assert {record.id: record.content for record in memory.iterate(user_id=ALL)} == acknowledged
        memory.flush()
        report = memory.verify()
        assert report.ok, report.problems


def test_too_many_open_files(tmp_path: Path) -> None:
    code = """
import os, resource
memory = Memory(sys.argv[1], settings=Settings(follower_delay_s=0.02, arena_limit=10), embedder=HashedWords())
ids = [memory.add(text_of(n, 0), user_id="ana").id for n in range(30)]
memory.flush()
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), hard))
refused = 0
for n in range(30, 60):
    try:
        ids.append(memory.add(text_of(n, 0), user_id="ana").id)
    except StoreError:
        refused += 1
for n in range(0, 30, 5):
    assert memory.search(text_of(n, 0), user_id="ana", limit=1)[0].id == ids[n]
try:
    with Memory(sys.argv[1] + "-other", embedder=HashedWords()) as other:
        other.add("x")
    raise SystemExit("opened without a file descriptor")
except StoreError as exc:
    print(type(exc).__name__)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
ids.append(memory.add(text_of(60, 0), user_id="ana").id)
memory.flush()
assert memory.verify().ok, memory.verify().problems
assert {record.id for record in memory.iterate(user_id=ALL)} == set(ids)
memory.close()
"""
    assert output(child(code, tmp_path / "store"))


def test_a_clock_that_goes_back(tmp_path: Path, clock: FakeClock) -> None:
    with Memory(tmp_path / "store", settings=Settings(**EAGER), embedder=HashedWords(), clock=clock) as memory:
        first = memory.add(text_of(1, 0), user_id="ana", ttl=timedelta(days=1)).id
        clock.advance(-86_400 * 30)
        second = memory.add(text_of(2, 0), user_id="ana").id
        memory.update(first, content=text_of(1, 0, 1))
        memory.delete(second)
        memory.restore(second)
        assert [record.id for record in memory.iterate(user_id="ana", order="oldest")] == [first, second]
        assert memory.search(text_of(2, 0), user_id="ana", limit=1)[0].id == second
        seqs = [event.seq for id in (first, second) for event in memory.history(id)]
        assert len(set(seqs)) == len(seqs)
        memory.flush()
        assert memory.verify().ok


# -- the background thread under load --------------------------------------------------------------------------------


def test_compact_ends_while_others_write_without_a_pause(tmp_path: Path) -> None:
    stop = threading.Event()
    with opened(tmp_path / "store") as memory:

        def write() -> None:
            n = 0
            while not stop.is_set():
                memory.add_many([text_of(n, i) for i in range(50)], user_id="ana")
                n += 1

        writers = [threading.Thread(target=write) for _ in range(2)]
        for writer in writers:
            writer.start()
        compacted = threading.Thread(target=memory.compact, daemon=True)
        try:
            time.sleep(0.5)
            compacted.start()
            compacted.join(20)
            assert not compacted.is_alive()
        finally:
            stop.set()
            for writer in writers:
                writer.join()
            compacted.join()


def test_the_space_of_what_was_erased_is_given_back_in_the_background(tmp_path: Path) -> None:
    file = tmp_path / "store" / "agentmem.db"
    with Memory(tmp_path / "store", settings=Settings(**EAGER), embedder=HashedWords(384)) as memory:
        memory.add_many([text_of(n, 0) for n in range(3_000)], user_id="ana")
        memory.add("stays", user_id="ben")
        memory.compact()
        before = file.stat().st_size
        memory.erase_all(user_id="ana")
        memory.flush()
        wait_until(lambda: file.stat().st_size < before / 2)
        assert memory.verify().ok


def test_an_erase_during_a_purge_is_purged_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, embedder = tmp_path / "store", HashedWords()
    with opened(path) as memory:
        ids = [one.id for one in memory.add_many([text_of(n, 0) for n in range(40)], user_id="ana")]
        memory.flush()
        late = list[str]([ids[7]])
        optimize = LanceIndex.optimize

        def slow(self: LanceIndex, *, purge: bool = True) -> None:
            optimize(self, purge=purge)
            if purge and late:
                memory.erase(late.pop())

        monkeypatch.setattr(LanceIndex, "optimize", slow)
        memory.erase(ids[3])
        memory.flush()
        for n in (3, 7):
            vector = embedder.embed_query(text_of(n, 0)).tobytes()
            assert not [file for file in (path / "lance").rglob("*") if file.is_file() and vector in file.read_bytes()]
        assert memory.verify().ok


@pytest.mark.slow
def test_a_program_may_end_while_lancedb_is_busy(tmp_path: Path) -> None:
    code = """
import threading, time
memory = Memory(sys.argv[1], settings=Settings(follower_delay_s=0.02), embedder=HashedWords())
memory.add_many([text_of(int(sys.argv[2]), i) for i in range(3000)], user_id="ana")
threading.Thread(target=memory.compact, daemon=True).start()
time.sleep(int(sys.argv[2]) / 50)
memory.close()
"""
    for n in range(25):
        output(child(code, tmp_path / "store", n))


# -- several processes -----------------------------------------------------------------------------------------------

WRITER = """
import os, time
path, user, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with Memory(path, settings=Settings(follower_delay_s=0.02, arena_limit=300), embedder=HashedWords()) as memory:
    n = 0
    while n < count:
        size = (1, 7, 50, 100)[n % 4]
        size = min(size, count - n)
        texts = [f"{user}w{n + i} {text_of(n + i, 0)}" for i in range(size)]
        added = memory.add_many(texts, user_id=user) if size > 1 else [memory.add(texts[0], user_id=user)]
        for one, text in zip(added, texts):
            print(one.id, text, flush=True)
        n += size
        if n % 3 == 0:
            memory.compact() if n % 6 == 0 else memory.flush()
"""
READER = """
import time
path, users = sys.argv[1], sys.argv[2].split(",")
found, errors = 0, 0
end = time.monotonic() + float(sys.argv[3])
with Memory(path, settings=Settings(follower_delay_s=0.02, arena_limit=300), embedder=HashedWords()) as memory:
    while time.monotonic() < end:
        for user in users:
            for hit in memory.search(user + "w5 garden river", user_id=user, limit=20):
                found += 1
                if hit.record.user_id != user or not hit.content.startswith(user + "w"):
                    raise SystemExit(f"{user} found {hit}")
print(found)
"""


def processes(path: Path, writers: int, readers: int, count: int, seconds: float) -> None:
    users = [f"user{n}" for n in range(writers)]
    started = [child(WRITER, path, user, count) for user in users]
    looking = [child(READER, path, ",".join(users), seconds) for _ in range(readers)]
    acknowledged = {
        user: dict(line.split(" ", 1) for line in output(process, 600))
        for user, process in zip(users, started, strict=True)
    }
    for process in looking:
        assert int(output(process)[0]) > 0
    with opened(path, arena_limit=300) as memory:
        for user in users:
            assert len(acknowledged[user]) == count
            found = {record.id: record.content for record in memory.iterate(user_id=user)}
            assert found == acknowledged[user]
        memory.flush()
        report = memory.verify()
        assert report.ok, report.problems
        assert report.counts["records"] == report.counts["lancedb"] == writers * count


@pytest.mark.slow
def test_processes_that_write_compact_and_read_at_once(tmp_path: Path) -> None:
    processes(tmp_path / "store", writers=2, readers=2, count=300, seconds=3)


@pytest.mark.slow
def test_eight_processes(tmp_path: Path) -> None:
    processes(tmp_path / "store", writers=4, readers=4, count=2_000, seconds=20)


def test_another_process_sees_a_commit_with_its_next_call(tmp_path: Path) -> None:
    code = """
with Memory(sys.argv[1], settings=Settings(arena_limit=int(sys.argv[2])), embedder=HashedWords()) as memory:
    for line in sys.stdin:
        n = int(line)
        hits = memory.search(text_of(n, 0), user_id="ana", limit=1)
        print(hits[0].id if hits else None, flush=True)
"""
    path = tmp_path / "store"
    readers = [child(code, path, limit, stdin=subprocess.PIPE) for limit in (5, 50_000)]
    with opened(path) as memory:
        for n in range(30):
            id = memory.add(text_of(n, 0), user_id="ana").id
            for reader in readers:
                assert reader.stdin is not None
                assert reader.stdout is not None
                reader.stdin.write(f"{n}\n")
                reader.stdin.flush()
                assert reader.stdout.readline().strip() == id
    for reader in readers:
        output(reader)
