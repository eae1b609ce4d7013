"""Archives that are read ahead: the same bytes, from fewer waits, and errors told to whoever asks."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from typing_extensions import override

from agentmem.archive.ahead import Ahead
from agentmem.archive.folder import FolderObjects
from agentmem.archive.objects import Content
from agentmem.errors import ArchiveUnavailableError, ObjectNotFoundError

LARGE = b"x" * 2**20


class Counted(FolderObjects):
    """Notes what is asked for, and cannot be reached while it is ``down``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked = list[str]()
        self.down = False

    @override
    def get(self, key: str) -> Content:
        if self.down:
            raise ArchiveUnavailableError("down")
        self.asked.append(key)
        return super().get(key)


@pytest.fixture
def objects(tmp_path: Path) -> Counted:
    made = Counted(tmp_path)
    for number in range(20):
        for name in ("manifest", "blocks/0"):
            made.create(f"a/{number:02d}/{name}", f"{number} {name}".encode())
    made.create("a/large/manifest", LARGE)
    made.create("a/large/blocks", b"more")
    return made


def test_each_object_is_fetched_once_and_is_what_it_is(objects: Counted) -> None:
    names = [f"a/{number:02d}" for number in range(20)]
    with closing(Ahead(objects, names)) as ahead:
        for number, name in enumerate(names):
            assert ahead.get(f"{name}/manifest").data == f"{number} manifest".encode()
            assert ahead.read(f"{name}/blocks/0", 1, 4) == f"{number} blocks/0".encode()[1:5]
            ahead.done(name)
            assert len(objects.asked) <= 2 * (number + 10)  # so many are in memory, and no more
    assert sorted(objects.asked) == sorted(f"{name}/{each}" for name in names for each in ("manifest", "blocks/0"))


def test_what_is_not_fetched_is_read_as_ever(objects: Counted) -> None:
    with closing(Ahead(objects, ["a/large", "a/00", "a/none"])) as ahead:
        assert ahead.get("a/large/manifest").data == LARGE
        assert objects.asked.count("a/large/manifest") == 1
        with pytest.raises(ObjectNotFoundError):
            ahead.get("a/none/manifest")
        with pytest.raises(ObjectNotFoundError):
            ahead.get("a/00/other")
        assert ahead.get("a/01/manifest").data == b"1 manifest"
    assert ahead.get("a/00/manifest").data == b"0 manifest"  # after it was closed, too
    objects.down = True
    with closing(Ahead(objects, ["a/00"])) as ahead, pytest.raises(ArchiveUnavailableError):
        ahead.get("a/00/manifest")
