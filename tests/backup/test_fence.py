"""Who owns a store that lives in a folder or bucket: one at a time, whoever is stopped in the middle of what."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentmem.archive.folder import FolderObjects
from agentmem.backup.fence import KEY, Claim, Fence, read
from agentmem.backup.lineage import Entry
from agentmem.errors import ArchiveCorruptError, FencedError


def entry(number: int, seq: int) -> Entry:
    return Entry("a" * 32, number, None, "archive", "sha", "incremental", seq, 1, 1, 1, None, "token")


def test_the_last_to_take_it_owns_it(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)
    first, second = Fence(objects, "first"), Fence(objects, "second")
    assert first.take() is None
    first.check()
    before = second.take()
    assert before is not None
    assert (before.epoch, before.name, second.claim.epoch) == (1, "first", 2)
    second.check()
    with pytest.raises(FencedError, match="belongs to 'second' since epoch 2"):
        first.check()


def test_of_an_increment_and_a_new_owner_one_comes_first(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)
    first, second = Fence(objects, "first"), Fence(objects, "second")
    first.take()
    first.advance(entry(1, 10))
    assert (before := second.take()) is not None
    assert (before.number, before.seq) == (1, 10)
    with pytest.raises(FencedError):
        first.advance(entry(2, 20))
    found = read(objects)
    assert isinstance(found, Claim)
    assert (found.name, found.number, found.seq) == ("second", 1, 10)
    second.advance(entry(2, 15))
    with pytest.raises(FencedError):  # it stays so
        first.check()


def test_an_owner_of_an_earlier_turn_does_not_take_it_back(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)
    Fence(objects, "new", turn=3).take()
    with pytest.raises(FencedError, match="is to be number 3"):
        Fence(objects, "old", turn=2).take()
    assert (again := Fence(objects, "again", turn=3).take()) is not None
    assert again.epoch == 1


def test_whoever_takes_it_at_once_each_gets_an_epoch_of_his_own(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)
    fences = [Fence(objects, str(number)) for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda fence: fence.take(), fences))
    assert sorted(fence.claim.epoch for fence in fences) == list(range(1, 9))
    owners = list[str]()
    for number, fence in enumerate(fences):
        try:
            fence.check()
        except FencedError:
            continue
        owners.append(str(number))
    assert (found := read(objects)) is not None
    assert owners == [found.name]


def test_what_is_no_claim_is_refused(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)
    fence = Fence(objects, "one")
    fence.take()
    (tmp_path / KEY).write_bytes(b"something else")
    with pytest.raises(ArchiveCorruptError):
        fence.check()
    (tmp_path / KEY).unlink()
    with pytest.raises(FencedError, match="is gone"):
        fence.check()
