"""The keyring: a data key for each user, wrapped, in objects of their own that are never inside of a backup.

::

    ring             which master key wraps it; the ring's secret, sealed under that
    keys/NAME/TAG    a user's data key, sealed under the secret; NAME is an HMAC of the user's id, TAG random
    pending/TAG      this key is being deleted; NAME, sealed
    deleted/TAG      it was

Whoever lacks the keyring, the master key, or a user's object in it, reads nothing of that user, wherever a copy lies.
Since tags are random, a deleted key leaves no trace of whose it was. Since no two keys have the same object, a deletion
that comes late can never meet a key that the user got since; two processes at once may give a user two keys.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import NamedTuple

from agentmem.archive.envelope import packed, unpacked, unwrapped, wrapped
from agentmem.archive.masterkey import MasterKey
from agentmem.archive.objects import Objects
from agentmem.archive.sealing import Sealer, new_key
from agentmem.types.errors import (
    ArchiveCorruptError,
    ArchiveError,
    ArchiveKeyError,
    ObjectExistsError,
    ObjectNotFoundError,
)
from agentmem.types.pool import Pool

_RING = "ring"
_AT_ONCE = 16


class UserKey(NamedTuple):
    """What seals a user's blocks, and the 32 hex digits that stand for the user in the clear."""

    tag: str
    sealer: Sealer


class KeyRing:
    """Open it with ``KeyRing.open``. Safe for several threads, and for several processes on the same objects.

    Keys are read when they are needed and not kept, so that one that was deleted elsewhere is not used again.
    """

    def __init__(self, objects: Objects, id: str, secret: bytes) -> None:
        self._objects = objects
        self.id = id
        """Of the ring; written into each archive that was sealed with it."""
        self._sealer = Sealer(hmac.digest(secret, b"agentmem: wraps keys", hashlib.sha256))
        self._naming = hmac.digest(secret, b"agentmem: names keys", hashlib.sha256)
        self._secret = secret

    @classmethod
    def open(cls, objects: Objects, master: MasterKey, *, read_only: bool = False) -> KeyRing:
        """The keyring that lies there; a new one where there is none. Deletions that were broken off are completed.

        Raises ``ArchiveKeyError`` for another master key, and ``ArchiveError`` for a bucket that keeps versions, where
        a deleted key could be brought back. With ``read_only`` nothing is written, and ``ObjectNotFoundError`` raised
        where there is no keyring.
        """
        if not read_only and objects.keeps_versions():
            raise ArchiveError(
                f"{objects.url} keeps old versions of its objects, so that a deleted key could be brought back; give "
                "the keyring a bucket without versioning, soft delete and object lock, or a folder"
            )
        try:
            ring = cls._read(objects, master)
        except ObjectNotFoundError:
            if read_only:
                raise
            ring = cls._make(objects, master)
        if not read_only:
            ring.complete_deletions()
        return ring

    @property
    def url(self) -> str:
        """Where it lies."""
        return self._objects.url

    # -- keys ----------------------------------------------------------------------------------------------------------

    def key_for(self, user: str | None) -> UserKey:
        """A key of the user's, made if there is none. None stands for the records of nobody in particular."""
        found = self.keys_of(user)
        if found:
            return found[0]
        name, tag, key = self._name(user), secrets.token_hex(16), new_key()
        self._objects.create(f"keys/{name}/{tag}", wrapped("key", self._sealer.seal(key, self._place(name, tag))))
        return UserKey(tag, Sealer(key))

    def keys_of(self, user: str | None) -> list[UserKey]:
        """All keys of the user's that are not deleted or being deleted, ordered by tag; mostly one."""
        return self._keys(f"keys/{self._name(user)}")

    def keys(self) -> dict[str, UserKey]:
        """Every key there is, by its tag; a request for each."""
        return {key.tag: key for key in self._keys("keys")}

    def deleted(self) -> set[str]:
        """The tags of all keys that were deleted, or are being."""
        return {info.key.partition("/")[2] for folder in ("pending", "deleted") for info in self._objects.list(folder)}

    # -- changes -------------------------------------------------------------------------------------------------------

    def delete(self, user: str | None) -> bool:
        """Delete the user's key for ever; whether there was one. What it sealed is unreadable when this returns.

        It is first written down that it is to be deleted: broken off after that, the deletion is completed when the
        keyring is opened next, and the tag counts as deleted until then. A key that the user gets later is another one.
        """
        name = self._name(user)
        keys = [info.key for info in self._objects.list(f"keys/{name}")]
        tags = [key.rpartition("/")[2] for key in keys]
        for tag in tags:
            note = wrapped("pending", self._sealer.seal(name.encode(), self._place("pending", tag)))
            try:
                self._objects.create(f"pending/{tag}", note)
            except ObjectExistsError:
                pass  # of an attempt before, or of another process
        for tag in tags:
            self._complete(name, tag)
        return bool(tags)

    def complete_deletions(self) -> int:
        """Complete what was broken off; how many there were."""
        tags = [info.key.removeprefix("pending/") for info in self._objects.list("pending")]
        for tag in tags:
            where = f"{self.url}/pending/{tag}"
            try:
                sealed = unwrapped("pending", self._objects.get(f"pending/{tag}").data, where)
            except ObjectNotFoundError:
                continue  # another process has
            self._complete(self._sealer.open(sealed, self._place("pending", tag), where).decode(), tag)
        return len(tags)

    def rotate(self, master: MasterKey) -> None:
        """Wrap the ring with another master key from now on; one object changes, whatever the number of users.

        Raises ``ObjectChangedError`` where somebody else does the same. Who has the old master key *and* an old copy
        of the keyring can still open that copy.
        """
        _, stamp = self._objects.get(_RING)
        self._objects.swap(_RING, self._ring(self.id, self._secret, master), stamp)

    # -- objects -------------------------------------------------------------------------------------------------------

    @classmethod
    def _make(cls, objects: Objects, master: MasterKey) -> KeyRing:
        id, secret = secrets.token_hex(16), new_key()
        try:
            objects.create(_RING, cls._ring(id, secret, master))
        except ObjectExistsError:
            return cls._read(objects, master)
        return cls(objects, id, secret)

    @classmethod
    def _read(cls, objects: Objects, master: MasterKey) -> KeyRing:
        where = f"{objects.url}/{_RING}"
        found = unpacked(unwrapped("ring", objects.get(_RING).data, where), where)
        try:
            id, wrapping, sealed = str(found["id"]), str(found["master"]), base64.b64decode(found["sealed"])
        except (KeyError, TypeError, ValueError) as exc:
            raise ArchiveCorruptError(f"{where} lacks {exc}") from exc
        if wrapping != master.id:
            raise ArchiveKeyError(f"{where} was wrapped with the master key {wrapping}, and this one is {master.id}")
        return cls(objects, id, master.sealer.open(sealed, f"agentmem ring {id}".encode(), where))

    @staticmethod
    def _ring(id: str, secret: bytes, master: MasterKey) -> bytes:
        sealed = base64.b64encode(master.sealer.seal(secret, f"agentmem ring {id}".encode())).decode()
        return wrapped("ring", packed({"id": id, "master": master.id, "sealed": sealed}))

    def _name(self, user: str | None) -> str:
        who = b"nobody" if user is None else b"user " + user.encode()
        return hmac.digest(self._naming, who, hashlib.sha256).hex()[:32]

    def _place(self, name: str, tag: str) -> bytes:
        return f"agentmem key {self.id} {name} {tag}".encode()

    def _keys(self, folder: str) -> list[UserKey]:
        # What is being deleted is looked up after that, and what is there once more at last, since a deletion may have
        # come to its end by then: a key that was read all the same is one to be deleted, not to be used.
        paths = sorted(info.key for info in self._objects.list(folder))
        with Pool(_AT_ONCE, "agentmem-keys") as pool:
            keys = [key for key in pool.map(self._read_key, paths) if key is not None]
        gone = {info.key.partition("/")[2] for info in self._objects.list("pending")} if keys else set[str]()
        left = {info.key.rpartition("/")[2] for info in self._objects.list(folder)} - gone if keys else set[str]()
        return sorted((key for key in keys if key.tag in left), key=lambda key: key.tag)

    def _read_key(self, path: str) -> UserKey | None:
        _, name, tag = path.split("/")
        where = f"{self.url}/{path}"
        try:
            sealed = unwrapped("key", self._objects.get(path).data, where)
        except ObjectNotFoundError:
            return None  # deleted since it was listed
        return UserKey(tag, Sealer(self._sealer.open(sealed, self._place(name, tag), where)))

    def _complete(self, name: str, tag: str) -> None:
        self._objects.delete(f"keys/{name}/{tag}")
        self._objects.sweep(f"keys/{name}")
        try:
            self._objects.create(f"deleted/{tag}", wrapped("deleted", b""))
        except ObjectExistsError:
            pass
        self._objects.delete(f"pending/{tag}")
