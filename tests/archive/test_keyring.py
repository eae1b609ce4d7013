"""The keyring: keys are made once, wrapped, given to nobody else, and gone for ever once they were deleted."""

from __future__ import annotations

import base64
import shlex
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography", reason="cryptography is not installed")

from agentmem.archive.folder import FolderObjects
from agentmem.archive.keyring import KeyRing
from agentmem.archive.masterkey import MasterKey, load_master_key, new_master_key
from agentmem.archive.sealing import OVERHEAD, Sealer, new_key
from agentmem.types.errors import (
    ArchiveCorruptError,
    ArchiveError,
    ArchiveKeyError,
    InvalidInputError,
    ObjectNotFoundError,
)

MASTER = MasterKey(b"m" * 32)
USERS = ["ana", "ben", "", None, "Ana", "ana ", "nobody", "\0"]


@pytest.fixture
def objects(tmp_path: Path) -> FolderObjects:
    return FolderObjects(tmp_path / "keys")


@pytest.fixture
def ring(objects: FolderObjects) -> KeyRing:
    return KeyRing.open(objects, MASTER)


def opens(one: Sealer, other: Sealer) -> bool:
    try:
        return other.open(one.seal(b"text", b"place"), b"place", "it") == b"text"
    except ArchiveKeyError:
        return False


# -- keys --------------------------------------------------------------------------------------------------------------


def test_each_user_has_a_key_and_keeps_it(ring: KeyRing, objects: FolderObjects) -> None:
    keys = {user: ring.key_for(user) for user in USERS}
    assert len({key.tag for key in keys.values()}) == len(USERS)
    again = KeyRing.open(objects, MASTER, read_only=True)
    assert again.id == ring.id
    for user, key in keys.items():
        assert ring.key_for(user).tag == key.tag
        [found] = again.keys_of(user)
        assert found.tag == key.tag
        for other in USERS:
            assert opens(key.sealer, again.keys_of(other)[0].sealer) == (user == other)
    assert set(again.keys()) == {key.tag for key in keys.values()}
    assert again.keys_of("stranger") == []


def test_keys_that_are_made_at_once_all_remain(objects: FolderObjects) -> None:
    made, barrier = list[Any](), threading.Barrier(6)

    def run() -> None:
        ring = KeyRing.open(objects, MASTER)
        barrier.wait()
        made.append((ring.id, ring.key_for("ana")))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ring = KeyRing.open(objects, MASTER)
    assert {id for id, _ in made} == {ring.id}
    assert {key.tag for _, key in made} <= {key.tag for key in ring.keys_of("ana")}
    assert ring.delete("ana")
    assert ring.keys_of("ana") == []


def test_a_tag_says_nothing_about_its_user(tmp_path: Path) -> None:
    rings = [KeyRing.open(FolderObjects(tmp_path / name), MASTER) for name in ("a", "b")]
    assert rings[0].key_for("ana").tag != rings[1].key_for("ana").tag
    first = rings[0].key_for("ana").tag
    rings[0].delete("ana")
    assert rings[0].key_for("ana").tag != first


def test_sealing_is_bound_to_key_and_place() -> None:
    sealer = Sealer(new_key())
    sealed = sealer.seal(b"text", b"here")
    assert len(sealed) == 4 + OVERHEAD
    assert sealer.open(sealed, b"here", "it") == b"text"
    for other, place, data in (
        (sealer, b"there", sealed),
        (Sealer(new_key()), b"here", sealed),
        (sealer, b"here", sealed[:-1]),
        (sealer, b"here", b""),
        (sealer, b"here", bytes([sealed[0] ^ 1]) + sealed[1:]),
    ):
        with pytest.raises(ArchiveKeyError, match="it cannot be opened"):
            other.open(data, place, "it")
    assert len({sealer.seal(b"", b"")[:12] for _ in range(10_000)}) == 10_000
    with pytest.raises(InvalidInputError, match="32 bytes"):
        Sealer(b"short")


# -- deleting ----------------------------------------------------------------------------------------------------------


def test_a_deleted_key_is_gone_and_remembered(ring: KeyRing, objects: FolderObjects) -> None:
    tag, other = ring.key_for("ana").tag, ring.key_for("ben").tag
    assert ring.delete("ana")
    assert not ring.delete("ana")
    assert not ring.delete("stranger")
    assert ring.keys_of("ana") == []
    assert ring.deleted() == {tag}
    assert set(ring.keys()) == {other}
    assert sorted(found.key.split("/")[0] for found in objects.list()) == ["deleted", "keys", "ring"]
    assert objects.get(f"deleted/{tag}").data.startswith(b"agentmem deleted 1 ")


class Killed(BaseException):
    pass


class Killing(FolderObjects):
    """Objects under a process that is killed before the change with that number; ``after``: right after it."""

    def __init__(self, path: str, number: int, *, after: bool) -> None:
        super().__init__(path)
        self.left, self.after = number, after

    def create(self, key: str, data: bytes) -> str:
        return self.change(lambda: FolderObjects.create(self, key, data))

    def delete(self, key: str) -> None:
        return self.change(lambda: FolderObjects.delete(self, key))

    def change(self, do: Any) -> Any:
        self.left -= 1
        if self.left == 0 and self.after:
            do()
        if self.left <= 0:
            raise Killed
        return do()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", range(1, 9))
def test_a_deletion_survives_a_kill(ring: KeyRing, objects: FolderObjects, number: int, after: bool) -> None:
    tag, other = ring.key_for("ana").tag, ring.key_for("ben").tag
    # A second key, as two processes may have made one at once.
    ring._objects.create(f"keys/{ring._name('ana')}/{'f' * 32}", objects.get(f"keys/{ring._name('ana')}/{tag}").data)
    killing = KeyRing(Killing(objects.url, number, after=after), ring.id, ring._secret)
    with pytest.raises(Killed):
        killing.delete("ana")
    begun = [found.key for found in objects.list("pending")] + [found.key for found in objects.list("deleted")]
    if begun:  # it counts as deleted from the moment that it was written down
        assert {key.partition("/")[2] for key in begun} == ring.deleted() & {tag, "f" * 32}
        assert not {key.tag for key in KeyRing.open(objects, MASTER, read_only=True).keys_of("ben")} & ring.deleted()
    reopened = KeyRing.open(objects, MASTER)
    assert list(objects.list("pending")) == []
    left = [found.key for found in objects.list(f"keys/{ring._name('ana')}")]
    assert {key.rpartition("/")[2] for key in left} == {tag, "f" * 32} - reopened.deleted()
    assert reopened.keys_of("ben")[0].tag == other
    assert reopened.delete("ana") == bool(left)
    assert reopened.deleted() == {tag, "f" * 32}


def test_what_is_being_deleted_is_not_used_any_more(ring: KeyRing, objects: FolderObjects) -> None:
    tag = ring.key_for("ana").tag
    killing = KeyRing(Killing(objects.url, 2, after=False), ring.id, ring._secret)
    with pytest.raises(Killed):
        killing.delete("ana")
    assert ring.deleted() == {tag}
    assert ring.keys_of("ana") == []
    assert tag not in ring.keys()
    new = ring.key_for("ana").tag
    assert new != tag
    assert [key.tag for key in KeyRing.open(objects, MASTER).keys_of("ana")] == [new]


def test_a_bucket_that_keeps_versions_is_refused(objects: FolderObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FolderObjects, "keeps_versions", lambda self: True)
    with pytest.raises(ArchiveError, match="without versioning"):
        KeyRing.open(objects, MASTER)
    assert list(objects.list()) == []


# -- the master key ----------------------------------------------------------------------------------------------------


def test_another_master_key_opens_nothing(ring: KeyRing, objects: FolderObjects) -> None:
    other = MasterKey(b"n" * 32)
    with pytest.raises(ArchiveKeyError, match=f"wrapped with the master key {MASTER.id}, and this one is {other.id}"):
        KeyRing.open(objects, other)
    assert repr(MASTER) == f"MasterKey({MASTER.id})"


def test_rotation(ring: KeyRing, objects: FolderObjects) -> None:
    keys = {user: ring.key_for(user) for user in USERS}
    others = {found.key for found in objects.list("keys")}
    new = MasterKey(b"n" * 32)
    ring.rotate(new)
    with pytest.raises(ArchiveKeyError):
        KeyRing.open(objects, MASTER)
    again = KeyRing.open(objects, new)
    assert again.id == ring.id
    for user, key in keys.items():
        assert opens(key.sealer, again.key_for(user).sealer)
    assert {found.key for found in objects.list("keys")} == others
    ring.rotate(MASTER)  # the process that had it open
    assert KeyRing.open(objects, MASTER).id == ring.id


def test_reading_only_writes_nothing(objects: FolderObjects) -> None:
    with pytest.raises(ObjectNotFoundError):
        KeyRing.open(objects, MASTER, read_only=True)
    assert not Path(objects.url).exists()


def test_a_bit_that_has_changed_is_noticed(ring: KeyRing, objects: FolderObjects) -> None:
    ring.key_for("ana")
    for found in list(objects.list()):
        path = Path(objects.url, found.key)
        whole = path.read_bytes()
        for position in range(0, len(whole), 3):
            changed = bytearray(whole)
            changed[position] ^= 1 << position % 8
            path.write_bytes(changed)
            with pytest.raises(ArchiveError):
                KeyRing.open(objects, MASTER).keys()
            path.write_bytes(whole[:position])
            with pytest.raises(ArchiveCorruptError):
                KeyRing.open(objects, MASTER).keys()
        path.write_bytes(whole)
    assert len(KeyRing.open(objects, MASTER).keys()) == 1


def test_keys_cannot_be_exchanged(ring: KeyRing, objects: FolderObjects) -> None:
    ring.key_for("ana")
    ring.key_for("ben")
    one, two = (Path(objects.url, found.key) for found in objects.list("keys"))
    one.write_bytes(two.read_bytes())
    with pytest.raises(ArchiveKeyError, match="for another place"):
        ring.keys()


def test_where_a_master_key_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = new_master_key()
    path = tmp_path / "master.key"
    path.write_text(f"{text}\n")
    monkeypatch.setenv("A_MASTER_KEY", base64.b64decode(text).hex())
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(f'print({text!r})')}"
    found = [load_master_key(source) for source in (f"file:{path}", "env:A_MASTER_KEY", f"command:{command}")]
    assert len({key.id for key in found}) == 1
    assert found[0].id != MASTER.id


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("file:missing.key", "No such file"),
        ("env:NOT_SET_ANYWHERE", "is not set"),
        ("env:A_BAD_KEY", "32 random bytes are needed"),
        ("command:false", "ended with 1"),
        ("command:not-a-program-at-all", "failed"),
        ("command:echo 'no end", "failed"),
        ("command:echo short", "32 random bytes are needed"),
        ("command:", "comes from"),
        ("", "comes from"),
        ("key:abc", "comes from"),
    ],
)
def test_no_master_key(source: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("A_BAD_KEY", "c2VjcmV0" * 5)
    with pytest.raises((ArchiveKeyError, InvalidInputError), match=says) as caught:
        load_master_key(source)
    assert "c2VjcmV0" not in str(caught.value)


def test_a_key_that_is_deleted_while_it_is_read_is_not_used(objects: FolderObjects, tmp_path: Path) -> None:
    other = KeyRing.open(objects, MASTER)

    class Slow(FolderObjects):
        """Others delete the user's key, from beginning to end, as soon as it was read."""

        def get(self, key: str) -> Any:
            found = super().get(key)
            if key.startswith("keys/"):
                other.delete("ana")
            return found

    first = other.key_for("ana").tag
    ring = KeyRing.open(Slow(tmp_path / "keys"), MASTER)
    assert ring.keys_of("ana") == []
    assert other.key_for("ana").tag != first
    assert ring.keys() == {}
