"""The LanceDB follower against a dict and numpy: the same answers, nothing left of what was deleted, damage noticed."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from agentmem.indexes.driver import TableCorruptError, mapped
from agentmem.indexes.lance import LanceIndex
from agentmem.types.errors import ClosedError, DiskFullError, InvalidInputError, StoreCorruptError, StoreError

DIM = 32
Row = tuple[int, int, int, np.ndarray]  # user, agent, run, vector
Model = dict[int, Row]


def unit(n: int, seed: int, dim: int = DIM) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def some(rows: Sequence[int], seed: int = 0) -> Model:
    vectors = unit(len(rows), seed)
    return {row: (row % 5, row % 3, row % 2, vectors[i]) for i, row in enumerate(rows)}


def put(index: LanceIndex, new: Model, delete: Sequence[int] = ()) -> None:
    rows = np.array(list(new), dtype=np.int64)
    keys = [np.array([value[i] for value in new.values()], dtype=np.int64) for i in range(3)]
    vectors = np.array([value[3] for value in new.values()], dtype=np.float32).reshape(len(new), DIM)
    index.apply(delete, rows, *keys, vectors)


def stored(index: LanceIndex, batch: int = 10_000, **scope: int) -> Model:
    found: Model = {}
    for rows, users, agents, runs, vectors in index.scan(batch=batch, **scope):
        assert len(rows) <= batch
        for i, row in enumerate(rows.tolist()):
            assert row not in found, f"row {row} is there twice"
            found[row] = (int(users[i]), int(agents[i]), int(runs[i]), vectors[i])
    return found


def assert_same(index: LanceIndex, model: Model) -> None:
    found = stored(index)
    assert found.keys() == model.keys()
    for row, (user, agent, run, vector) in model.items():
        assert found[row][:3] == (user, agent, run)
        np.testing.assert_array_equal(found[row][3], vector)
    assert index.state()[1] == len(model)


def files(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))


def expected(
    model: Model, query: np.ndarray, user: int | None, agent: int | None, run: int | None
) -> list[tuple[float, int]]:
    asked = (user, agent, run)
    allowed = [
        row for row, value in model.items() if all(a is None or a == b for a, b in zip(asked, value[:3], strict=True))
    ]
    return sorted(((float(model[row][3] @ query), row) for row in allowed), key=lambda pair: (-pair[0], pair[1]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "with space #%41" / "vectors"


@pytest.fixture
def index(folder: Path) -> Iterator[LanceIndex]:
    index = LanceIndex(folder, dim=DIM)
    yield index
    index.close()


# -- contents -----------------------------------------------------------------------------------------------------


def test_nothing_is_created_by_reading(index: LanceIndex, folder: Path) -> None:
    assert (index.state(), files(folder)) == ((0, 0), 0)
    rows, similarity = index.search(unit(1, 0)[0], 5)
    assert (rows.dtype, similarity.dtype, len(rows)) == (np.int64, np.float32, 0)
    assert list(index.scan()) == []
    index.optimize()
    index.reset()
    put(index, {}, delete=[1])
    assert not folder.exists()


def test_rows_are_added_updated_and_deleted(index: LanceIndex) -> None:
    model = some(range(1, 101))
    put(index, model)
    assert_same(index, model)

    changed = some([3, 50, 100, 101], seed=1)
    put(index, changed, delete=[7, 8, 999])
    model = {row: value for row, value in model.items() if row not in (7, 8)} | changed
    assert_same(index, model)

    put(index, {}, delete=list(model))
    assert_same(index, {})
    put(index, some([5]))
    assert_same(index, some([5]))


@pytest.mark.parametrize("fresh_handle", [False, True])
def test_applying_the_same_call_again_changes_nothing(index: LanceIndex, folder: Path, fresh_handle: bool) -> None:
    model = some(range(1, 21))
    put(index, model)
    change, delete = some([2, 21, 22], seed=1), [4, 5]
    for _ in range(3):
        put(index, change, delete)
        if fresh_handle:
            index.close()
            index = LanceIndex(folder, dim=DIM)
    assert_same(index, {row: value for row, value in model.items() if row not in delete} | change)


def test_a_call_cut_short_after_its_deletes_is_completed_by_the_next(index: LanceIndex) -> None:
    model = some(range(1, 21))
    put(index, model)
    put(index, {}, delete=[2, 4, 5])  # all that a crash before the append would have left of the next line
    put(index, some([2, 21], seed=1), delete=[4, 5])
    assert_same(index, {row: value for row, value in model.items() if row not in (4, 5)} | some([2, 21], seed=1))


def test_more_deletes_than_fit_one_predicate(index: LanceIndex) -> None:
    model = some(range(1, 12_001))
    put(index, model)
    gone = range(1, 12_001, 2)
    put(index, {}, delete=gone)
    assert_same(index, {row: value for row, value in model.items() if row not in gone})


def test_scan_comes_in_blocks_and_scopes(index: LanceIndex) -> None:
    model = some(range(1, 301))
    put(index, model)
    assert stored(index, batch=7).keys() == model.keys()
    assert stored(index, user=2, run=1).keys() == {row for row in model if (row % 5, row % 2) == (2, 1)}


def test_unusable_input_is_refused_before_anything_is_written(index: LanceIndex, folder: Path) -> None:
    ones, good = np.array([1, 2], dtype=np.int64), unit(2, 0)
    with pytest.raises(InvalidInputError, match="same row number"):
        index.apply([], ones[[0, 0]], ones, ones, ones, good)
    with pytest.raises(InvalidInputError, match=r"expected \(2, 32\)"):
        index.apply([], ones, ones, ones, ones, good[:, :5])
    with pytest.raises(InvalidInputError, match="agents have shape"):
        index.apply([], ones, ones, ones[:1], ones, good)
    with pytest.raises(InvalidInputError, match="not finite"):
        index.apply([], ones, ones, ones, ones, good * np.float32(np.nan))
    with pytest.raises(InvalidInputError, match="shape"):
        index.search(good[0][:5], 3)
    assert files(folder) == 0


# -- search -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimized", [False, True])
def test_search_equals_brute_force(index: LanceIndex, optimized: bool) -> None:
    model: Model = {}
    for block in range(8):
        new = some(range(block * 50 + 1, block * 50 + 51), seed=block)
        put(index, new)
        model |= new
    put(index, {}, delete=[10, 20, 30])
    model = {row: value for row, value in model.items() if row not in (10, 20, 30)}
    if optimized:
        index.optimize()
    scopes = itertools.product((None, 3, 99), (None, 1), (None, 0))
    for (user, agent, run), limit in itertools.product(scopes, (1, 10, 1_000)):
        query = unit(1, seed=limit)[0]
        rows, similarity = index.search(query, limit, user=user, agent=agent, run=run)
        best = expected(model, query, user, agent, run)[:limit]
        assert (rows.dtype, similarity.dtype) == (np.int64, np.float32)
        assert rows.tolist() == [row for _, row in best]
        np.testing.assert_allclose(similarity, [score for score, _ in best], atol=1e-6)


def test_similarity_stays_within_one_and_ties_go_by_row(index: LanceIndex) -> None:
    vector = unit(1, 0)[0]
    put(index, dict.fromkeys((4, 2, 9), (0, 0, 0, vector)) | {5: (0, 0, 0, -vector)})
    rows, similarity = index.search(vector, 10)
    assert rows.tolist() == [2, 4, 9, 5]
    assert similarity.max() <= 1
    assert similarity.min() >= -1
    assert index.search(vector, 0)[0].tolist() == []


def test_a_large_table_is_indexed_and_answers_the_same(tmp_path: Path) -> None:
    index, n = LanceIndex(tmp_path, dim=8), 25_000
    rows = np.arange(1, n + 1)
    vectors = unit(n, 0, 8)
    index.apply([], rows, rows % 100, rows % 3, rows % 2, vectors)
    index.optimize()
    assert (tmp_path / "vectors.lance" / "_indices").is_dir()
    index.apply([307], np.array([n + 1]), np.array([7]), np.array([0]), np.array([0]), vectors[:1])
    for _ in range(2):
        found, _ = index.search(vectors[0], 500, user=7)
        assert sorted(found.tolist()) == sorted({*rows[rows % 100 == 7].tolist(), n + 1} - {307})
        index.optimize()


# -- other threads and processes ----------------------------------------------------------------------------------


def in_process(code: str, folder: Path, warnings: str = "error") -> str:
    program = f"""
import sys
from pathlib import Path
import numpy as np
from agentmem.indexes.lance import LanceIndex
index = LanceIndex(Path(sys.argv[1]), dim={DIM})
{code}
"""
    command = [sys.executable, "-W", warnings, "-c", program, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.slow
def test_processes_see_each_other_and_exit_cleanly(index: LanceIndex, folder: Path) -> None:
    model = some(range(1, 11))
    put(index, model)
    assert index.state()[1] == 10
    code = """
before = index.state()[1]
one = np.array([11])
vector = np.zeros((1, index._dim), dtype=np.float32)
vector[0, 0] = 1
index.apply([1], one, one, one, one, vector)
print(before, index.state()[1], max(rows.max() for rows, *_ in index.scan()))
"""
    assert in_process(code, folder) == "10 10 11"
    vector = np.zeros(DIM, dtype=np.float32)
    vector[0] = 1
    assert_same(index, {row: value for row, value in model.items() if row != 1} | {11: (11, 11, 11, vector)})


def test_importing_and_constructing_load_nothing() -> None:
    code = "print(any(name in sys.modules for name in ('lancedb', 'pyarrow')), Path(sys.argv[1]).exists())"
    assert in_process(code, Path("does-not-exist")) == "False False"


@pytest.mark.slow
def test_a_forked_process_that_asks_lancedb_nothing_ends_as_it_says(tmp_path: Path) -> None:
    code = """
import os, signal, time
one, vector = np.array([11]), np.ones((1, index._dim), dtype=np.float32)
index.apply([], one, one, one, one, vector)
pid = os.fork()
if not pid:
    sys.exit(7)
until = time.monotonic() + 30
while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < until:
    time.sleep(0.05)
if ended == (0, 0):
    os.kill(pid, signal.SIGKILL)
print(os.waitstatus_to_exitcode(ended[1]) if ended[0] else "it hangs")
"""
    assert in_process(code, tmp_path / "new", warnings="ignore") == "7"


@pytest.mark.slow
def test_a_process_that_is_forked_while_lancedb_is_being_loaded_does_not_wait_for_it(tmp_path: Path) -> None:
    code = """
import os, signal, threading, time
from agentmem.indexes import driver
threading.Thread(target=driver._lancedb).start()
while "lancedb" not in sys.modules:
    time.sleep(0.001)
pid = os.fork()
if not pid:
    signal.alarm(30)  # the lock of a module that a thread was importing is held for ever in the child
    import lancedb
    try:
        index.state()
    except driver.TableForkedError:
        print(lancedb.__name__, driver.usable(), flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert in_process(code, tmp_path / "new", warnings="ignore").split() == ["lancedb", "False", "0"]


@pytest.mark.slow
def test_what_lancedb_reads_ahead_is_bounded_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    code = """
import os
os.environ["LANCE_DEFAULT_BATCH_SIZE"] = "77"
one = np.array([11])
index.apply([], one, one, one, one, np.ones((1, index._dim), dtype=np.float32))
print(*sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith("LANCE_")))
"""
    assert in_process(code, tmp_path / "new") == "LANCE_DEFAULT_BATCH_SIZE=77 LANCE_DEFAULT_IO_BUFFER_SIZE=16777216"


def test_searches_go_on_while_another_handle_writes_and_cleans_up(index: LanceIndex, folder: Path) -> None:
    put(index, some(range(1, 51)))
    failures: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        reader = LanceIndex(folder, dim=DIM)
        try:
            while not done.is_set():
                rows, _ = reader.search(unit(1, 0)[0], 10)
                assert len(rows) == 10
                assert reader.state()[1] >= 50
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for step in range(40):
        put(index, some(range(51 + step * 5, 56 + step * 5), seed=step))
        if step % 3 == 0:
            index.optimize()
    done.set()
    for thread in threads:
        thread.join(timeout=30)
    assert failures == []


def test_a_table_reset_elsewhere_is_noticed(index: LanceIndex, folder: Path) -> None:
    put(index, some(range(1, 11)))
    assert index.state()[1] == 10
    other = LanceIndex(folder, dim=DIM)
    other.reset()
    assert index.state() == (0, 0)
    put(other, some([77]))
    assert_same(index, some([77]))
    other.reset()
    put(index, some([1, 2]))
    assert_same(other, some([1, 2]))


def test_a_closed_index_refuses(index: LanceIndex) -> None:
    put(index, some([1]))
    index.close()
    index.close()
    for call in (index.state, lambda: index.search(unit(1, 0)[0], 1), lambda: list(index.scan())):
        with pytest.raises(ClosedError):
            call()


# -- what is left on the disk -------------------------------------------------------------------------------------


def holding(folder: Path, vector: np.ndarray) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and vector.tobytes() in path.read_bytes()]


def test_optimize_leaves_one_version_and_few_files(index: LanceIndex, folder: Path) -> None:
    model: Model = {}
    for row in range(1, 31):
        model |= (new := some([row], seed=row))
        put(index, new)
    many = files(folder)
    before = index.state()
    index.optimize()
    assert_same(index, model)
    assert files(folder) < 10 < many
    assert len(list((folder / "vectors.lance" / "_versions").glob("*.manifest"))) == 1
    assert index.state()[0] > before[0]
    after = index.state()
    index.optimize()
    assert index.state() == after


def test_a_deleted_vector_leaves_the_disk(index: LanceIndex, folder: Path) -> None:
    model: Model = {}
    for block in range(3):
        new = some(range(block * 500 + 1, block * 500 + 501), seed=block)
        put(index, new)
        model |= new
    index.optimize()
    gone = model.pop(500)[3]
    put(index, {}, delete=[500])
    assert holding(folder, gone)
    # LanceDB by itself rewrites a fragment for its deletions only when they are a tenth of it.
    index.optimize(purge=False)
    assert holding(folder, gone)
    index.optimize()
    assert holding(folder, gone) == []
    assert_same(index, model)


def test_the_old_vector_of_an_updated_row_leaves_the_disk(index: LanceIndex, folder: Path) -> None:
    model = some(range(1, 501))
    put(index, model)
    index.optimize()
    old = model[50][3]
    model |= (change := some([50], seed=1))
    put(index, change)
    assert holding(folder, old)
    index.optimize()
    assert holding(folder, old) == []
    assert_same(index, model)


def test_what_an_interrupted_reset_left_is_swept(index: LanceIndex, folder: Path) -> None:
    put(index, some([1]))
    shutil.copytree(folder / "vectors.lance", folder / "vectors.0123.old")
    index.optimize()
    assert sorted(os.listdir(folder)) == ["vectors.lance"]
    assert_same(index, some([1]))


# -- damage -------------------------------------------------------------------------------------------------------


def newest_manifest(table: Path) -> Path:
    return min((table / "_versions").glob("*.manifest"))  # the names count down


def a_file(table: Path, part: str) -> Path:
    return max((table / part).iterdir(), key=lambda path: path.stat().st_size)


def cut(path: Path, keep: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def without_manifests(table: Path) -> None:
    shutil.rmtree(table / "_versions")


def replaced_by_a_file(table: Path) -> None:
    shutil.rmtree(table)
    table.write_bytes(b"not a table")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty manifest": lambda table: cut(newest_manifest(table), 0),
    "cut manifest": lambda table: cut(newest_manifest(table), 0.7),
    "garbage manifest": lambda table: newest_manifest(table).write_bytes(b"\xa5" * 500),
    "no manifests": without_manifests,
    "missing data": lambda table: a_file(table, "data").unlink(),
    "empty data": lambda table: cut(a_file(table, "data"), 0),
    "cut data": lambda table: cut(a_file(table, "data"), 0.5),
    "zeroed data": lambda table: a_file(table, "data").write_bytes(b"\0" * a_file(table, "data").stat().st_size),
    "missing deletions": lambda table: a_file(table, "_deletions").unlink(),
    "empty deletions": lambda table: cut(a_file(table, "_deletions"), 0),
    "a file instead": replaced_by_a_file,
}
UNREADABLE_AT_ONCE = {"empty manifest", "cut manifest", "garbage manifest", "no manifests", "a file instead"}


def test_what_killed_writers_left_half_written_goes_with_the_next_clean_up(index: LanceIndex, folder: Path) -> None:
    model = some(range(1, 201))
    put(index, model)
    put(index, some([201], seed=1), delete=[3, 4])
    table = folder / "vectors.lance"
    left = [table / part / ".tmpAb12cD" for part in ("data", "_deletions", "_transactions", "_versions")]
    for path in left:
        path.write_bytes(model[3][3].tobytes())
    state = ",".join(map(str, index.state()))
    noted = index.checksums()
    index.optimize()
    assert [path.name for path in left if path.exists()] == []
    assert index.damaged({name: noted[name] for name in noted if "tmp" in name}, state) == []
    assert len(stored(index)) == 199


@pytest.mark.parametrize("opened", [False, True], ids=["fresh", "opened"])
@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_reported_and_healed_by_a_rebuild(
    index: LanceIndex, folder: Path, kind: str, opened: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    model = some(range(1, 201))
    put(index, model)
    put(index, some([201], seed=1), delete=[3, 4])
    if not opened:  # an open handle keeps what it has read of a file; this one must not
        index.close()
        index = LanceIndex(folder, dim=DIM)
    DAMAGE[kind](folder / "vectors.lance")

    calls: list[Callable[[], object]] = [lambda: list(index.scan()), lambda: index.search(unit(1, 0)[0], 10)]
    if kind in UNREADABLE_AT_ONCE:
        calls += [index.state, index.optimize, lambda: put(index, some([300]))]
    for call in calls:
        with pytest.raises(StoreCorruptError, match="reset it and build it again"):
            call()

    index.reset()
    assert index.state() == (0, 0)
    put(index, model)
    assert_same(index, model)
    capfd.readouterr()  # the driver prints its panics


@pytest.mark.parametrize("opened", [False, True], ids=["fresh", "opened"])
def test_a_lost_manifest_shows_in_the_state(index: LanceIndex, folder: Path, opened: bool) -> None:
    put(index, some(range(1, 11)))
    put(index, {}, delete=[3, 4])
    noted = index.state()
    if not opened:
        index.close()
        index = LanceIndex(folder, dim=DIM)
    newest_manifest(folder / "vectors.lance").unlink()
    assert index.state()[1] == 10  # no error, and deleted rows are back: only the version tells
    assert index.state()[0] < noted[0]


def test_a_lost_table_shows_in_the_state(index: LanceIndex, folder: Path) -> None:
    put(index, some([1]))
    shutil.rmtree(folder)
    assert index.state() == (0, 0)


def test_a_creation_cut_short_is_an_empty_table(index: LanceIndex, folder: Path) -> None:
    transactions = folder / "vectors.lance" / "_transactions"
    transactions.mkdir(parents=True)
    (transactions / "0-0123.txn").write_bytes(b"")
    assert index.state() == (0, 0)
    put(index, some([1]))
    assert_same(index, some([1]))


def test_another_dimension_is_not_our_table(index: LanceIndex, folder: Path) -> None:
    put(index, some([1]))
    other = LanceIndex(folder, dim=DIM * 2)
    with pytest.raises(StoreCorruptError, match="expected"):
        other.state()[1]
    other.reset()
    assert other.state()[1] == 0


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    index = LanceIndex(tmp_path / "f", dim=DIM)
    with pytest.raises(StoreCorruptError):
        index.state()[1]
    with pytest.raises(StoreCorruptError):
        put(index, some([1]))


@pytest.mark.parametrize("part", ["_versions", "data"])
def test_missing_permission_is_not_damage(index: LanceIndex, folder: Path, part: str) -> None:
    put(index, some([1]))
    index.close()
    closed = folder / "vectors.lance" / part
    closed.chmod(0)
    try:
        if os.access(closed, os.R_OK):
            pytest.skip("this user may read everything")
        with pytest.raises(StoreError) as caught:
            LanceIndex(folder, dim=DIM).search(unit(1, 0)[0], 1)
    finally:
        closed.chmod(0o700)
    assert type(caught.value) is StoreError


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("LanceError(IO): No space left on device (os error 28), /src/structural.rs:258:9", DiskFullError),
        ("LanceError(IO): Permission denied (os error 13), /src/local.rs:274:24", StoreError),
        ("LanceError(IO): Too many open files (os error 24), /src/local.rs:274:24", StoreError),
        ("Commit conflict for version 7: there was a concurrent commit, /src/commit.rs:1:1", StoreError),
        ("Not found: t.lance/data/01.lance, /src/local.rs:273:40", TableCorruptError),
        ("Unable to walk dir: Not a directory (os error 20), /src/a.rs:1:1", TableCorruptError),
        ('task 5990 panicked with message "range end index 800 out of range"', TableCorruptError),
    ],
)
def test_the_drivers_words_are_told_apart(words: str, kind: type[StoreError]) -> None:
    error = mapped(RuntimeError(f"lance error: {words}"), "search", Path("t.lance"))
    assert type(error) is kind
    assert "/src/" not in str(error)


def test_an_os_error_is_mapped_by_its_number() -> None:
    assert type(mapped(OSError(errno.ENOSPC, "full"), "search", Path("t"))) is DiskFullError
    assert type(mapped(PermissionError(errno.EACCES, "no"), "search", Path("t"))) is StoreError
