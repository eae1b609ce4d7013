"""A store in the making: what the owner of a store has shipped, taken over as it comes, until this is to go on with it.

A restore reads a backup and makes a store of it at once. A store that moves, or that is to be at hand when its owner
dies, is read while the owner still adds to it: each increment goes into the database in the making when it comes, so
that in the end only the last ones are missing. The store that comes of it goes on with the lineage where the owner left
off, which is only right because the fence (``fence.py``) keeps everybody else from doing that.
"""

from __future__ import annotations

import os
from contextlib import closing, suppress
from pathlib import Path

from agentmem.archive.ahead import Ahead
from agentmem.archive.keyring import KeyRing
from agentmem.archive.objects import Objects
from agentmem.backup import lineage
from agentmem.backup.fence import Claim
from agentmem.backup.filling import Filling, Wanted
from agentmem.backup.lineage import Entry
from agentmem.backup.moment import Moment, Places
from agentmem.backup.restore import check_whole, discard, drop_log, put_in_place, unreadable, unsafe
from agentmem.stores.connection import Connection
from agentmem.stores.folder import RESTORING, is_store, sync
from agentmem.stores.integrity import Window, changed_since, unsound
from agentmem.stores.names import Names
from agentmem.stores.records import Records
from agentmem.stores.schema import configure, pending
from agentmem.types.errors import ArchiveCorruptError, ObjectNotFoundError, StoreError


class Standby:
    """Made in a folder that has no store. Not thread-safe."""

    def __init__(self, objects: Objects, into: Path, keyring: KeyRing | None = None) -> None:
        if is_store(into):
            raise StoreError(f"there is a store in {into} already; take over into another folder")
        self._objects, self.into, self._keyring = objects, into, keyring
        self._fresh = into / RESTORING
        self._db: Connection | None = None
        self._filling: Filling | None = None
        self._moment: Moment | None = None
        self._sha256 = ""
        """Of the last entry that was taken over."""
        self._in_order: int | None = None
        """The event up to which everything was looked at, but for what is ``_in_doubt``."""
        self._in_doubt: list[Window] = []

    @property
    def seq(self) -> int:
        """The last event that it has."""
        return 0 if self._moment is None else self._moment.chain[-1].seq

    def follow(self, claim: Claim | None) -> int:
        """Take over what has come up to the last increment that counts; how many backups that were.

        Raises ``ArchiveCorruptError`` where what it goes on from cannot be read, and what ``ArchiveReader`` raises.
        """
        if claim is None or claim.lineage is None:
            return 0
        moment = self._gone_on_with(claim) or self._chosen(claim)
        had = [] if self._moment is None else [(one.lineage, one.number) for one in self._moment.chain]
        wanted = [(one.lineage, one.number) for one in moment.chain]
        if wanted[: len(had)] != had or self._filling is None:
            self._begin()
            had = []
        assert self._filling is not None
        new = moment.chain[len(had) :]
        with closing(Ahead(self._objects, [entry.archive for entry in new])) as ahead:
            for entry in new:
                self._filling.add(entry, ahead)
                ahead.done(entry.archive)
        self._moment = moment
        return len(wanted) - len(had)

    def look_through(self) -> None:
        """Look at what is there by now, so that in the end only the rest has to be looked at, and have it on the disk:
        most of what that takes is for records that have been there for long."""
        if self._db is None or self._filling is None or pending(self._db, self.into):
            return  # nothing is there, or as an older version had it
        records, seq = Records(self._db, Names()), self.seq
        if unreadable(self._db):
            self._in_order = None  # all of it is looked at in the end, which says what is wrong
            return
        self._in_doubt = unsound(records, 4 * self._filling.dim, self._unseen(records))
        self._in_order = seq
        sync(self._fresh)

    def _unseen(self, records: Records) -> list[Window] | None:
        return None if self._in_order is None else [*self._in_doubt, *changed_since(records, self._in_order)]

    def become(self, claim: Claim | None) -> bool:
        """Make it a store, as the last increment that counts says; whether there was any. Nobody adds any more."""
        self.follow(claim)
        moment, db, filling = self._moment, self._db, self._filling
        if moment is None or db is None or filling is None:
            return False
        try:
            last = moment.chain[-1]
            filling.complete(moment)
            full_at = moment.chain[0].at
            db.execute("BEGIN")
            lineage.adopt(db, self._objects.url, last, self._sha256, full_at)
            db.execute("COMMIT")
            db.close()
            with closing(Connection(self._fresh)) as made:
                configure(made)
                check_whole(made, self.into, last.id, self._unseen(Records(made, Names())))
                made.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            drop_log(self._fresh)
            put_in_place(self._fresh, self.into)
        finally:
            self.close()
        return True

    def close(self) -> None:
        """Remove what has not become a store."""
        filling, db = self._filling, self._db
        self._filling = self._db = self._moment = self._in_order = None
        if db is not None:
            db.close()
        if filling is not None:
            filling.chunks.leave(kept=not self._fresh.exists())
        discard(self._fresh)

    def _begin(self) -> None:
        self.close()
        self.into.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self._fresh, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        self._db = Connection(self._fresh)
        unsafe(self._db)
        self._filling = Filling(self._objects, self._keyring, self._db, self.into, Wanted(), lambda done, total: None)

    def _gone_on_with(self, claim: Claim) -> Moment | None:
        """What was chosen before and what has come since, of which each entry is read once: with a hundred increments
        in a bucket all of them take seconds. None where it does not go on from there."""
        if self._moment is None or self._moment.chain[-1].lineage != claim.lineage:
            return None
        chain, sha256 = [*self._moment.chain], self._sha256
        later: list[tuple[Entry, int | None]] = []
        with suppress(ObjectNotFoundError, ArchiveCorruptError):  # of one that is damaged, who looks at all can tell
            while True:
                entry, of_entry = lineage.read(self._objects, chain[-1].lineage, chain[-1].number + len(later) + 1)
                if entry.number > claim.number:
                    later.append((entry, None))
                elif entry.after is None or entry.previous != sha256:
                    return None
                else:
                    chain.append(entry)
                    sha256 = of_entry
        if chain[-1].number != claim.number:
            return None
        self._sha256 = sha256
        others = [(entry, row) for entry, row in self._moment.later if entry.lineage != claim.lineage]
        return self._moment._replace(chain=chain, later=[*later, *others])

    def _chosen(self, claim: Claim) -> Moment:
        assert claim.lineage is not None
        try:
            entry, self._sha256 = lineage.read(self._objects, claim.lineage, claim.number)
        except ObjectNotFoundError as exc:
            raise ArchiveCorruptError(
                f"{self._objects.url} names backup {claim.number} of lineage {claim.lineage[:8]} as the last that "
                "counts, and it is not there"
            ) from exc
        return Places(self._objects).choose(entry.id)
