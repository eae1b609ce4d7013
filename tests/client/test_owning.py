"""A store that lives in a folder or bucket: what counts there is what the next owner has, and nobody else writes."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from archive.servers import cloud, environment

from agentmem import ConflictError, Memory, Settings, StoreCorruptError
from agentmem.archive.folder import FolderObjects
from agentmem.archive.objects import Readable
from agentmem.backup import create, shipping
from agentmem.backup.fence import read
from agentmem.backup.filling import Filling
from agentmem.backup.lineage import Entry
from agentmem.backup.standby import Standby
from agentmem.client.owning import OwnedStore
from agentmem.errors import FencedError
from agentmem.stores.connection import Connection

Owner = Callable[..., OwnedStore]


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    made = list[OwnedStore]()

    def make(name: str, **more: object) -> OwnedStore:
        one = OwnedStore(str(tmp_path / "url"), tmp_path / name, name=name, interval_s=60, **more)  # pyright: ignore[reportArgumentType]
        made.append(one)
        return one

    yield make
    for one in reversed(made):
        one.close()


def test_a_store_whose_process_is_merely_stopped_is_left_to_it(owner: Owner, tmp_path: Path) -> None:
    script = KILLED.format(url=str(tmp_path / "url"), root=str(tmp_path / "first"))
    with subprocess.Popen([sys.executable, "-c", script.replace("SIGKILL", "SIGSTOP")]) as process:
        assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
        again = OwnedStore(str(tmp_path / "url"), tmp_path / "first", name="again", interval_s=60)
        there = again.take()
        assert not again.reused
        assert contents(there) == ["The wall is red."]
        there.add("The wall is blue.", user_id="ana")
        again.confirm()
        process.kill()
        again.close()


KILLED = """
import os, signal
from agentmem.client.owning import OwnedStore
first = OwnedStore({url!r}, {root!r}, name="first", interval_s=60)
memory = first.take()
memory.add("The wall is red.", user_id="ana")
first.confirm()
memory.add("Shipped by nobody yet.", user_id="ana")
os.kill(os.getpid(), signal.SIGKILL)
"""


def contents(memory: Memory, user: str = "ana") -> list[str]:
    return [record.content for record in memory.page(user_id=user, order="oldest").records]


def test_the_next_owner_has_what_counts_and_the_one_before_writes_nothing_more(owner: Owner) -> None:
    first, second = owner("first"), owner("second")
    memory = first.take()
    added = memory.add("The wall is red.", user_id="ana")
    memory.update(added.id, metadata={"seen": True})
    first.confirm()
    assert first.behind == 0
    memory.add("Nobody else has this.", user_id="ana")
    assert first.behind == 1
    there = second.take()
    assert contents(there) == ["The wall is red."]
    assert there.get(added.id) is not None
    assert [event.event for event in there.history(added.id)] == [event.event for event in memory.history(added.id)]
    with pytest.raises(FencedError):
        memory.add("Too late.", user_id="ana")
    with pytest.raises(FencedError):
        first.confirm()
    there.add("The wall is blue.", user_id="ana")
    second.confirm()
    assert there.verify().ok
    third = owner("third").take()
    assert contents(third) == ["The wall is red.", "The wall is blue."]
    assert third.verify().ok


def test_a_lineage_goes_on_with_the_next_owner_by_increments(owner: Owner, tmp_path: Path) -> None:
    first = owner("first")
    first.take().add("The wall is red.", user_id="ana")
    first.confirm()
    second = owner("second")
    memory = second.take()
    kinds = [backup.kind for backup in memory.backup.list()]
    memory.add("The wall is blue.", user_id="ana")
    second.confirm()
    after = [backup.kind for backup in memory.backup.list()]
    assert after == [*kinds, "incremental"]
    claim = read(FolderObjects(tmp_path / "url"))
    assert claim is not None
    assert claim.number == len(after)


def test_an_owner_who_is_stopped_while_he_ships_is_overtaken(owner: Owner, tmp_path: Path) -> None:
    first, second = owner("first"), owner("second")
    memory = first.take()
    memory.add("The wall is red.", user_id="ana")
    first.confirm()
    memory.add("This never counts.", user_id="ana")
    # His increment is there, and he is stopped before it counts.
    engine = memory.handle.engine()
    stopped = create.create(engine, FolderObjects(tmp_path / "url"), kind="incremental")
    there = second.take()
    with pytest.raises(FencedError):
        first._fence.advance(stopped)  # pyright: ignore[reportPrivateUsage, reportOptionalMemberAccess]
    there.add("The wall is blue.", user_id="ana")
    second.confirm()
    assert contents(owner("third").take()) == ["The wall is red.", "The wall is blue."]


def test_a_store_that_nobody_took_is_gone_on_with_where_it_is(owner: Owner, tmp_path: Path) -> None:
    script = KILLED.format(url=str(tmp_path / "url"), root=str(tmp_path / "first"))
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == -9
    again = OwnedStore(str(tmp_path / "url"), tmp_path / "first", name="again", interval_s=60)
    there = again.take()
    assert again.reused
    assert contents(there) == ["The wall is red.", "Shipped by nobody yet."]
    again.confirm()
    taken = owner("second").take()
    assert contents(taken) == ["The wall is red.", "Shipped by nobody yet."]
    again.close()
    # Somebody else had it meanwhile, so that what lies here is the past.
    back = OwnedStore(str(tmp_path / "url"), tmp_path / "first", name="back", interval_s=60)
    assert contents(back.take()) == ["The wall is red.", "Shipped by nobody yet."]
    assert not back.reused
    back.close()


def test_who_is_to_take_it_reads_along(owner: Owner) -> None:
    first, second = owner("first"), owner("second")
    memory = first.take()
    memory.add_many([f"fact {number}" for number in range(50)], user_id="ana")
    first.confirm()
    seq = second.prepare()
    gone = memory.add("For a moment.", user_id="ana").id
    first.confirm()
    memory.delete(gone)
    memory.put("colour", "red", user_id="ana")
    first.confirm()
    assert second.prepare() == seq + 3
    memory.put("colour", "blue", user_id="ana")
    first.hold_back(True)
    first.confirm()
    there = second.take()
    assert len(contents(there)) == 51
    assert there.get(key="colour", user_id="ana").content == "blue"  # pyright: ignore[reportOptionalMemberAccess]
    assert there.get(gone, deleted=True) is not None
    assert there.verify().ok


def test_who_reads_along_reads_only_what_is_new(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = owner("first"), owner("second")
    memory = first.take()
    for number in range(12):
        memory.add(f"fact {number}", user_id="ana")
        first.confirm()
    second.prepare()
    known = first.claim.number
    memory.add("One more.", user_id="ana")
    first.confirm()
    read_of = list[str]()
    get = FolderObjects.get
    monkeypatch.setattr(FolderObjects, "get", lambda place, key: read_of.append(key) or get(place, key))
    there = second.take()
    entries = [int(key.rpartition("/")[2]) for key in read_of if "/chain/" in key]
    assert entries
    assert min(entries) > known
    assert len(contents(there)) == 13


def test_before_it_is_taken_what_came_meanwhile_is_read(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = owner("first"), owner("second")
    memory = first.take()
    memory.add("The wall is red.", user_id="ana")
    first.confirm()
    look_through = Standby.look_through

    def slowly(standby: Standby) -> None:
        look_through(standby)
        for number in range(8):
            memory.add(f"fact {number}", user_id="ana")
            first.confirm()

    monkeypatch.setattr(Standby, "look_through", slowly)
    assert second.prepare() == first.claim.seq
    assert len(contents(second.take())) == 9


def test_pages_are_looked_at_before_it_is_taken_and_where_they_are_damaged_once_more(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = owner("first"), owner("second")
    memory = first.take()
    memory.add_many([f"fact {number}" for number in range(50)], user_id="ana")
    first.confirm()
    look_through = Standby.look_through

    def damaged(standby: Standby) -> None:
        # A page that nothing leads to, which no look at records finds.
        with closing(Connection(standby._fresh)) as db:  # pyright: ignore[reportPrivateUsage]
            db.execute("CREATE TABLE lost (n)")
            db.execute("PRAGMA writable_schema=ON")
            db.execute("DELETE FROM sqlite_master WHERE name = 'lost'")
        look_through(standby)

    monkeypatch.setattr(Standby, "look_through", damaged)
    second.prepare()
    with pytest.raises(StoreCorruptError, match="never used"):
        second.take()


@pytest.mark.parametrize("row", [50, 51])
def test_what_is_not_whole_is_noticed_whenever_it_came(owner: Owner, monkeypatch: pytest.MonkeyPatch, row: int) -> None:
    damaged = list[int]()
    first, second = owner("first"), owner("second")
    memory = first.take()
    add = Filling.add

    def add_badly(filling: Filling, entry: Entry, objects: Readable) -> None:
        add(filling, entry, objects)
        if not damaged:
            sql = "UPDATE records SET content = 'something else' WHERE row = ? RETURNING row"
            damaged.extend(row for (row,) in filling._db.execute(sql, (row,)))  # pyright: ignore[reportPrivateUsage]

    monkeypatch.setattr(Filling, "add", add_badly)
    memory.add_many([f"fact {number}" for number in range(50)], user_id="ana")
    first.confirm()
    second.prepare()
    assert damaged == [50] * (row == 50)
    memory.add("One more.", user_id="ana")
    first.confirm()
    with pytest.raises(StoreCorruptError, match="is not what was stored"):
        second.take()
    assert damaged == [row]


def test_full_backups_come_in_between_and_take_the_old_ones_along(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "WHOLE_AFTER", 3)
    first = owner(
        "first", settings=Settings.model_validate({"backup": {"keep_hours": 0, "keep_days": 0, "keep_weeks": 0}})
    )
    memory = first.take()
    for number in range(12):
        memory.add(f"fact {number}", user_id="ana")
        first.confirm()
    assert len(memory.backup.list()) <= 5
    assert len(contents(owner("second").take())) == 12


def test_what_was_erased_is_not_taken_over(owner: Owner) -> None:
    first = owner("first")
    memory = first.take()
    memory.add("A secret of Ana's.", user_id="ana")
    memory.add("Ben plays the violin.", user_id="ben")
    first.confirm()
    memory.erase_all(user_id="ana")
    first.confirm()
    there = owner("second").take()
    assert contents(there) == []
    assert contents(there, "ben") == ["Ben plays the violin."]
    assert there.verify().ok


def test_a_backup_by_hand_is_one_of_the_same_lineage(owner: Owner) -> None:
    first = owner("first")
    memory = first.take()
    memory.add("The wall is red.", user_id="ana")
    first.confirm()
    memory.backup.create("full")
    memory.add("The wall is blue.", user_id="ana")
    first.confirm()
    assert len(contents(owner("second").take())) == 2
    with pytest.raises((FencedError, ConflictError)):
        memory.backup.create()


@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_a_store_in_a_bucket_has_one_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    pytest.importorskip("obstore", reason="obstore is not installed")
    with ExitStack() as stack:
        url, port = stack.enter_context(cloud(kind, tmp_path, "stores"))
        for name, value in environment(kind, port).items():
            monkeypatch.setenv(name, value)

        def owned(name: str) -> OwnedStore:
            one = OwnedStore(f"{url}stores/mine", tmp_path / name, name=name, interval_s=60)
            stack.callback(one.close)
            return one

        first, *others = owned("first"), owned("second"), owned("third"), owned("fourth")
        memory = first.take()
        memory.add_many([f"fact {number}" for number in range(50)], user_id="ana")
        first.confirm()
        others[0].prepare()
        memory.add("One more.", user_id="ana")
        first.confirm()
        with ThreadPoolExecutor() as pool:
            taken = list(pool.map(lambda one: one.take(), others))
        with pytest.raises(FencedError):
            memory.add("Too late.", user_id="ana")
        wrote = list[str]()
        for there in taken:
            assert len(contents(there)) == 51
            with suppress(FencedError):
                wrote.append(there.add("Who has it?", user_id="ana").id)
        assert len(wrote) == 1
