"""Restores that meet another one, or somebody who opens a store where one is being made."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

import agentmem
from agentmem import ALL, Memory, Settings, StoreError, StoreLockedError


@pytest.fixture
def place(open_memory: Callable[..., Memory], tmp_path: Path) -> str:
    url = str(tmp_path / "backups")
    memory = open_memory(settings=Settings(backup={"url": url}, lifecycle={"sweep_interval_s": 0}))
    memory.add_many([f"memory {n} of the harbour" for n in range(20)], user_id="ana")
    memory.backup.create()
    return url


def test_a_folder_that_a_store_is_being_made_in(open_memory: Callable[..., Memory], place: str, tmp_path: Path) -> None:
    """Neither another restore nor a client gets in between; each is told to wait for the end of it."""
    into, met = tmp_path / "again", list[int]()

    def meanwhile(done: int, total: int) -> None:
        with pytest.raises(StoreLockedError, match=r"a store is being made in .*again already; wait"):
            agentmem.restore(place, into)
        with pytest.raises(StoreLockedError, match="restored; open it again when that has ended"):
            open_memory(into).add("too early", user_id="ana")
        met.append(done)

    assert agentmem.restore(place, into, progress=meanwhile).records == 20
    assert met
    with open_memory(into) as again:
        assert (again.verify().problems, again.count(user_id="ana")) == ([], 20)
    assert list(into.glob("*restoring*")) == []


def test_a_store_that_came_while_another_was_made_is_not_replaced(place: str, tmp_path: Path) -> None:
    into = tmp_path / "again"

    def copied(done: int, total: int) -> None:
        (into / "agentmem.db").write_bytes(b"copied there by hand")

    with pytest.raises(StoreError, match=r"there is a store in .*again already"):
        agentmem.restore(place, into, progress=copied)
    assert (into / "agentmem.db").read_bytes() == b"copied there by hand"


def test_a_restore_that_fails_or_is_a_trial_leaves_nothing(place: str, tmp_path: Path) -> None:
    made, there = tmp_path / "made", tmp_path / "there"
    there.mkdir()

    def fails(done: int, total: int) -> None:
        raise KeyboardInterrupt

    for into in (made, there):
        with pytest.raises(KeyboardInterrupt):
            agentmem.restore(place, into, progress=fails)
        assert agentmem.restore(place, into, dry_run=True).records == 20
    assert (made.exists(), list(there.iterdir())) == (False, [])


def test_a_trial_in_place_that_was_killed_keeps_nothing_of_what_is_erased(
    open_memory: Callable[..., Memory], place: str, store: Path, tmp_path: Path
) -> None:
    memory = open_memory(settings=Settings(backup={"url": place}, lifecycle={"sweep_interval_s": 0}))
    seen = list[list[str]]()

    def killed(done: int, total: int) -> None:
        aside = [path for path in store.rglob("*") if path.name.startswith("agentmem.db.restoring")]
        seen.append([str(path.relative_to(store)) for path in aside])
        with pytest.raises(StoreLockedError):
            memory.backup.restore(dry_run=True)

    memory.backup.restore(dry_run=True, progress=killed)
    [left] = seen[0]
    (store / left).parent.mkdir(exist_ok=True)
    (store / left).write_bytes(b"memory 7 of the harbour")  # as a kill leaves it
    assert memory.erase_all(user_id="ana").erased == 20
    assert not (store / left).exists()


def test_what_is_erased_while_it_is_brought_back_stays_erased(
    open_memory: Callable[..., Memory], place: str, tmp_path: Path
) -> None:
    memory = open_memory(settings=Settings(backup={"url": place}, lifecycle={"sweep_interval_s": 0}))
    secret = memory.add("the safe is 4711", user_id="ana").id
    memory.add_many([f"ben {n}" for n in range(5)], user_id="ben")
    memory.backup.create()
    memory.export(tmp_path / "suitcase")
    memory.delete(secret)
    steps = list[Callable[[Memory], object]]()

    def meanwhile(done: int, total: int) -> None:
        with open_memory(settings=memory.handle.settings) as other:
            while steps:
                steps.pop()(other)
            other.compact()  # of a user nothing stays then

    steps = [lambda other: other.erase(secret)]
    report = memory.backup.restore_user("ana", progress=meanwhile)
    assert (report.added, report.present, report.taken_ids) == (0, 20, (secret,))
    again = memory.import_(tmp_path / "suitcase")
    assert (again.added, again.present, again.taken_ids) == (0, 25, (secret,))
    assert (memory.get(secret), memory.count(user_id="ana"), memory.count(user_id="ben")) == (None, 20, 5)

    steps = [lambda other: other.erase_all(user_id="ana")]
    assert memory.import_(tmp_path / "suitcase", progress=meanwhile).added == 0
    steps = [lambda other: other.erase_all(user_id="ben")]
    assert memory.backup.restore_user("ben", progress=meanwhile).added == 0
    assert memory.count(user_id=ALL) == 0
    assert memory.verify().problems == []
    assert memory.import_(tmp_path / "suitcase").added == 26, "who was erased may be brought back on purpose"


def test_a_user_whose_key_is_deleted_while_backups_are_read_is_in_none_of_it(
    open_memory: Callable[..., Memory], tmp_path: Path
) -> None:
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    (tmp_path / "master.key").write_text(base64.b64encode(bytes(32)).decode())
    sealed = {"encryption": f"file:{tmp_path / 'master.key'}", "keyring": str(tmp_path / "keys")}
    url = str(tmp_path / "backups")
    memory = open_memory(settings=Settings(backup={"url": url, **sealed}, lifecycle={"sweep_interval_s": 0}))
    users = ["ana", "ben", "cleo"]
    for user in users:
        memory.add(f"what {user} says", user_id=user)
        memory.values.put("photo", bytes(range(256)) * 4_000, user_id=user)
    memory.backup.create()
    memory.add("what dan says", user_id="dan")
    memory.backup.create("incremental")

    def erase(done: int, total: int) -> None:
        if users and done:
            memory.erase_all(user_id=users.pop())

    report = memory.backup.verify(progress=erase)
    assert (report.problems, users) == ([], [])
    users = ["dan"]
    made = agentmem.restore(url, tmp_path / "again", progress=erase, **sealed)
    assert (made.records, users) == (0, [])
    with open_memory(tmp_path / "again") as again:
        assert (again.verify().problems, again.count(user_id=ALL)) == ([], 0)
    held = b"".join(path.read_bytes() for path in (tmp_path / "again").rglob("*") if path.is_file())
    assert not [user for user in ("ana", "ben", "cleo", "dan") if user.encode() in held]
