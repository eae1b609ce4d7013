"""The keys of a store's server, in a file of their own beside the store.

No backup has them and no restore brings them back, so that a revoked key stays revoked. Of a key there is the hash of
its secret: whoever reads the file cannot use it. Secrets are 256 random bits, so a plain SHA-256 is as hard to invert
as a slow hash, at a thousandth of a millisecond for each request.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from errno import EDQUOT, ENOSPC
from hashlib import sha256
from pathlib import Path

from agentmem import ConflictError, DiskFullError, InvalidInputError, Memory, NotFoundError, StoreError
from agentmem.errors import InvalidKeyError
from agentmem.server.key import (
    COLUMNS,
    ENDED,
    Act,
    Key,
    NewKey,
    checked_scopes,
    composed,
    from_micros,
    key_of,
    micros,
    microseconds,
)

log = logging.getLogger("agentmem.server")
FILE = "keys.db"
"""In the store's folder."""
PREFIX = "amk"
_LONGEST = 200
"""Characters of a token; nothing longer is looked at."""
_PATIENCE_S = 10.0
"""For another process that is writing."""
_FRESH_S = 0.02
"""For which what was read of the keys is taken to be so: where threads are busy, a look at the file takes more than the
rest of a request. Who ends a key waits longer than that, so that it has ended everywhere when it is said."""
_NOBODY = bytes(32)
"""Compared with where there is no such key, so that this takes as long as a wrong secret."""
_REFUSED = "this is not a valid key: send one that `agentmem key create` made, as `Authorization: Bearer amk_…`"

_TABLES = """
CREATE TABLE keys (
    id TEXT PRIMARY KEY, hash BLOB NOT NULL, scopes TEXT NOT NULL,
    user_id TEXT, any_user INTEGER NOT NULL, agent_id TEXT, namespace TEXT, name TEXT, per_minute INTEGER,
    created_at INTEGER NOT NULL, expires_at INTEGER, revoked_at INTEGER, used_at INTEGER
);
CREATE INDEX keys_of_user ON keys (user_id);
CREATE TABLE audit (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, act TEXT NOT NULL,
    actor TEXT, target TEXT, user_id TEXT
);
"""


class KeyStore:
    """The keys of the store in ``folder``, and the audit log. Any thread may use it, and any number of processes.

    What one process changes, all others go by at once. ``clock`` returns aware datetimes, for tests.
    """

    def __init__(self, folder: str | os.PathLike[str], *, clock: Callable[[], datetime] | None = None) -> None:
        self._path = Path(folder).expanduser() / FILE
        self._clock = clock or _now
        self._reading, self._writing = threading.RLock(), threading.RLock()
        self._reader: sqlite3.Connection | None = None
        self._identity: tuple[int, int, int] | None = None
        """Of the file that ``_reader`` has open, and the process that opened it."""
        self._version = -1
        self._fresh_until = 0.0
        self._required = False
        self._known = dict[str, tuple[bytes, Key]]()
        self._used = dict[str, int]()

    def close(self) -> None:
        """Note when keys were last used, if that can be written down, and close the file."""
        try:
            self.flush()
        except StoreError as exc:
            log.warning("when keys were last used could not be noted: %s", exc)
        finally:
            with self._reading:
                if self._reader is not None:
                    self._reader.close()
                self._reader = self._identity = None
                self._known.clear()

    # -- who may enter -----------------------------------------------------------------------------------------------

    @property
    def required(self) -> bool:
        """Whether there has ever been a key: from then on nobody enters without one, even if none is valid now, or the
        file is gone."""
        if not self._required and time.monotonic() >= self._fresh_until:
            until = time.monotonic() + _FRESH_S
            with self._read() as db:
                found = db is not None and bool(db.execute("SELECT EXISTS (SELECT 1 FROM audit)").fetchone()[0])
            self._required, self._fresh_until = self._required or found, until
        return self._required

    def check(self, token: str) -> Key:
        """The key of a token; some microseconds. Raises ``InvalidKeyError``, which says more only to those who have the
        secret, and ``StoreError`` where keys cannot be read."""
        parts = token.split("_", 2) if len(token) <= _LONGEST and token.isascii() else []
        id, secret = (parts[1], parts[2]) if len(parts) == 3 and parts[0] == PREFIX else ("", "")
        found = self._find(id) if id else None
        expected = _NOBODY if found is None else found[0][-len(_NOBODY) :]
        if not hmac.compare_digest(sha256(secret.encode()).digest(), expected) or found is None:
            raise InvalidKeyError(_REFUSED)
        return self._good(found[1])

    def still(self, id: str) -> None:
        """Check again that a key holds which was checked before, for what takes long. Raises as ``check`` does."""
        found = self._find(id)
        if found is None:
            raise InvalidKeyError(f"the key {id} has ended")
        self._good(found[1])

    def _good(self, key: Key) -> Key:
        now = self._now()
        if key.revoked_at is not None and (key.ended or now >= micros(key.revoked_at)):
            raise InvalidKeyError(f"the key {key.id} was revoked on {key.revoked_at:%Y-%m-%d %H:%M} UTC")
        if key.expires_at is not None and now >= micros(key.expires_at):
            raise InvalidKeyError(f"the key {key.id} has expired on {key.expires_at:%Y-%m-%d %H:%M} UTC")
        self._used[key.id] = now
        return key

    def _find(self, id: str) -> tuple[bytes, Key] | None:
        found = self._known.get(id)
        if found is not None and time.monotonic() < self._fresh_until:
            return found
        until = time.monotonic() + _FRESH_S
        with self._read() as db:
            if db is None:
                if self._required:
                    raise StoreError(f"{self._path} is gone: it was deleted, or the store was moved away")
                return None
            version = db.execute("PRAGMA data_version").fetchone()[0]  # moves with each commit of anybody else
            if version != self._version:
                self._version = version
                self._known.clear()
            found = self._known.get(id)
            if found is None:
                row = db.execute(f"SELECT hash, {COLUMNS} FROM keys WHERE id = ?", (id,)).fetchone()
                if row is not None:
                    found = self._known[id] = (row[0], key_of(row[1:]))
                    self._required = True
            self._fresh_until = until
            return found

    # -- the keys ----------------------------------------------------------------------------------------------------

    def create(
        self,
        *,
        scopes: Iterable[str],
        user_id: str | None = None,
        any_user: bool = False,
        agent_id: str | None = None,
        namespace: Iterable[str] | None = None,
        expires: timedelta | datetime | None = None,
        name: str | None = None,
        per_minute: int | None = None,
        actor: str | None = None,
    ) -> NewKey:
        """Make a key; its token is shown here and never again.

        It leads to the memories of ``user_id``, with neither that nor ``any_user`` to those of no user, and of these to
        those of ``agent_id``, at ``namespace`` and below. ``expires`` is how long it is good for, or until when (None:
        for good). The scope ``admin`` is about the whole store, so it takes ``any_user`` and no agent and namespace.
        ``actor`` is the id of the key that makes it, for the audit log.

        Raises ``InvalidInputError``, ``ScopeError``.
        """
        wanted = checked_scopes(scopes)
        path = None if namespace is None else (namespace,) if isinstance(namespace, str) else tuple(namespace)
        if any_user and user_id is not None:
            raise InvalidInputError("user_id and any_user exclude each other", field="user_id")
        if "admin" in wanted and (not any_user or agent_id is not None or path):
            raise InvalidInputError(
                "a key with the scope 'admin' is for the whole store: make it with any_user, and no agent or namespace",
                field="scopes",
            )
        if per_minute is not None and per_minute < 1:
            raise InvalidInputError(f"per_minute must be at least 1 (got {per_minute})", field="per_minute")
        if user_id is not None or agent_id is not None or path:
            Memory(":memory:").scoped(user_id=user_id, agent_id=agent_id, under=path)  # checks them; opens nothing
        user = None if user_id is None else composed(user_id)
        agent = None if agent_id is None else composed(agent_id)
        now = self._now()
        until = self._until(expires, now)
        id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        values = (
            id, _hash(secret), json.dumps(sorted(wanted)), user, any_user, agent,
            json.dumps([composed(part) for part in path]) if path else None, name, per_minute, now, until,
        )  # fmt: skip
        first = not self.required
        with self._changing() as db:
            self._insert(db, values)
            self._note(db, "key.create", actor, id, user)
            made = NewKey(self._key(db, id), f"{PREFIX}_{id}_{secret}")
        if first:
            self._await_others()  # who let everybody in until now
        return made

    def list(self, *, user_id: str | None = None, limit: int | None = None) -> list[Key]:
        """All keys, revoked and expired ones too, the oldest first; or those of a user.

        With ``limit`` so many of them, and in another order: those that hold before those that have ended, those for
        any user before others, and then the newest first.
        """
        with suppress(StoreError):  # who may not write may look all the same
            self.flush()
        with self._read() as db:
            of, order = "", "created_at, id"
            asked: dict[str, object] = {"user": user_id and composed(user_id), "limit": limit, "now": self._now()}
            if user_id is not None:
                of = "WHERE user_id = :user"
            if limit is not None:
                over = "min(ifnull(revoked_at, :now + 1), ifnull(expires_at, :now + 1)) <= :now OR ended"
                order = f"({over}), any_user DESC, created_at DESC, id LIMIT :limit"
            sql = f"SELECT {COLUMNS} FROM keys {of} ORDER BY {order}"
            rows = [] if db is None else db.execute(sql, asked).fetchall()
        return [key_of(row) for row in rows]

    def revoke(self, id: str, *, actor: str | None = None) -> Key:
        """End a key, now and everywhere. One that was revoked before stays so. Raises ``NotFoundError``."""
        with self._changing() as db:
            key = self._key(db, id)
            now = self._now()
            db.execute("UPDATE keys SET revoked_at = min(ifnull(revoked_at, ?1), ?1) WHERE id = ?2", (now, id))
            self._end(db, id)
            self._note(db, "key.revoke", actor, id, key.user_id)
            key = self._key(db, id)
        self._await_others()
        return key

    def rotate(
        self,
        id: str,
        *,
        overlap: timedelta = timedelta(0),
        expires: timedelta | datetime | None = None,
        actor: str | None = None,
    ) -> NewKey:
        """Make a key that allows what another does, and end that one, after ``overlap``.

        The new one ends when the old one would have, unless ``expires`` says otherwise. Raises ``NotFoundError``, and
        ``ConflictError`` for a key that was revoked or has expired.
        """
        if overlap < timedelta(0):
            raise InvalidInputError(f"overlap must not be negative (got {overlap})", field="overlap")
        fresh, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        with self._changing() as db:
            old, now = self._key(db, id), self._now()
            ended = [time for time in (old.revoked_at, old.expires_at) if time is not None and micros(time) <= now]
            if old.revoked_at is not None or ended:
                raise ConflictError(f"the key {id} was revoked or has expired; make a new one with create")
            until = self._until(expires, now) if expires is not None else old.expires_at and micros(old.expires_at)
            values = (
                fresh, _hash(secret), json.dumps(sorted(old.scopes)), old.user_id, old.any_user, old.agent_id,
                None if old.namespace is None else json.dumps(old.namespace), old.name, old.per_minute, now, until,
            )  # fmt: skip
            self._insert(db, values)
            db.execute("UPDATE keys SET revoked_at = ? WHERE id = ?", (_later(now, overlap, "overlap"), id))
            if not overlap:
                self._end(db, id)
            self._note(db, "key.rotate", actor, id, old.user_id)
            made = NewKey(self._key(db, fresh), f"{PREFIX}_{fresh}_{secret}")
        self._await_others()
        return made

    def forget_user(self, user_id: str) -> int:
        """End and remove the keys of a user who was erased, and the name from the audit log; how many keys there were.

        Nothing of the name is left in the file when this returns.
        """
        with self._read() as db:
            if db is None:
                return 0
        user = composed(user_id)
        with self._changing() as db:
            ids = [row[0] for row in db.execute("DELETE FROM keys WHERE user_id = ? RETURNING id", (user,)).fetchall()]
            db.execute("UPDATE audit SET user_id = NULL WHERE user_id = ?", (user,))
        for id in ids:
            self._used.pop(id, None)
        if ids:
            self._await_others()
        return len(ids)

    @staticmethod
    def _await_others() -> None:
        """Until nobody goes by what was before."""
        time.sleep(1.5 * _FRESH_S)

    # -- the audit log -----------------------------------------------------------------------------------------------

    def record(
        self, act: str, *, actor: str | None = None, target: str | None = None, user_id: str | None = None
    ) -> None:
        """Note an act of administration; where there are no keys nobody is told apart, and nothing is noted."""
        if self.required and self._path.exists():
            with self._changing() as db:
                self._note(db, act, actor, target, None if user_id is None else composed(user_id))

    def audit(self, *, after: int = 0, limit: int = 100, newest: bool = False) -> list[Act]:
        """What was done after the line ``after``, oldest first or newest, ``limit`` lines at most."""
        with self._read() as db:
            rows = () if db is None else db.execute(
                "SELECT seq, at, act, actor, target, user_id FROM audit WHERE seq > ? "
                f"ORDER BY seq {'DESC' if newest else 'ASC'} LIMIT ?",
                (after, limit),
            ).fetchall()  # fmt: skip
        return [Act(seq, from_micros(at), *rest) for seq, at, *rest in rows]

    def flush(self) -> None:
        """Write down when keys were last used. A server does so once in a while; ``close`` and ``list`` do."""
        used, self._used = self._used, dict[str, int]()
        if used and self._path.exists():
            try:
                with self._changing() as db:
                    db.executemany(
                        "UPDATE keys SET used_at = max(ifnull(used_at, 0), ?) WHERE id = ?",
                        [(at, id) for id, at in used.items()],
                    )
            except StoreError:
                self._used = used | self._used
                raise

    # -- inside ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _read(self) -> Generator[sqlite3.Connection | None]:
        """The connection that reads the file that is there now, in this process; None where there is none."""
        with self._reading:
            try:
                yield self._open_reader()
            except (sqlite3.Error, OSError) as exc:
                raise StoreError(f"{self._path} cannot be read: {exc}") from exc

    def _open_reader(self) -> sqlite3.Connection | None:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return None
        identity = (found.st_dev, found.st_ino, os.getpid())
        if self._reader is None or identity != self._identity:
            # One that was opened before a fork belongs to the other process, which still reads by it.
            if self._reader is not None and self._identity is not None and self._identity[2] == identity[2]:
                self._reader.close()
            self._reader = None
            self._reader, self._identity, self._version = self._connect(), identity, -1
        return self._reader

    def _connect(self) -> sqlite3.Connection:
        db = None
        try:
            db = sqlite3.connect(self._path, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA secure_delete = ON")
            db.execute("SELECT 1 FROM keys").fetchone()
        except sqlite3.Error as exc:
            if db is not None:
                db.close()
            hint = "" if os.access(self._path.parent, os.W_OK) else "; its folder must be writable, for reading too"
            raise StoreError(f"{self._path} cannot be used: {exc}{hint}") from exc
        return db

    def _make(self) -> None:
        """The file, for its owner alone; it appears with its tables in it, whoever else makes it at the same moment."""
        new = self._path.with_name(f"{FILE}.{secrets.token_hex(8)}")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # a key may come before the first memory
            os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            if os.geteuid() == 0:  # an administrator makes keys for a server that runs as somebody else
                folder = os.stat(self._path.parent)
                os.chown(new, folder.st_uid, folder.st_gid)
            with closing(sqlite3.connect(new, isolation_level=None)) as db:
                db.execute("PRAGMA journal_mode = WAL")
                db.executescript(_TABLES)
            with suppress(FileExistsError):
                os.link(new, self._path)
        except (OSError, sqlite3.Error) as exc:
            raise _failed(f"{self._path} cannot be made", exc) from exc
        finally:
            with suppress(OSError):
                new.unlink()

    @contextmanager
    def _changing(self) -> Generator[sqlite3.Connection]:
        """One transaction, on a connection of its own: a check never waits for a disk."""
        with self._writing:
            if not self._path.exists():
                self._make()
            db = self._connect()
            try:
                db.execute("BEGIN IMMEDIATE")
                try:
                    yield db
                except BaseException:
                    db.execute("ROLLBACK")
                    raise
                db.execute("COMMIT")
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # nothing of what was replaced stays behind
            except sqlite3.Error as exc:
                raise _failed(f"{self._path} cannot be changed", exc) from exc
            finally:
                db.close()

    @staticmethod
    def _insert(db: sqlite3.Connection, values: tuple[object, ...]) -> None:
        db.execute(
            "INSERT INTO keys (id, hash, scopes, user_id, any_user, agent_id, namespace, name, per_minute, created_at, "
            "expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )

    @staticmethod
    def _end(db: sqlite3.Connection, id: str) -> None:
        """Have a key open nothing any more, whatever any clock says."""
        [hash] = db.execute("SELECT hash FROM keys WHERE id = ?", (id,)).fetchone()
        db.execute("UPDATE keys SET hash = ? WHERE id = ?", (ENDED + hash[-len(_NOBODY) :], id))

    def _note(
        self, db: sqlite3.Connection, act: str, actor: str | None, target: str | None, user_id: str | None
    ) -> None:
        db.execute(
            "INSERT INTO audit (at, act, actor, target, user_id) VALUES (?, ?, ?, ?, ?)",
            (self._now(), act, actor, target, user_id),
        )

    @staticmethod
    def _key(db: sqlite3.Connection, id: str) -> Key:
        row = db.execute(f"SELECT {COLUMNS} FROM keys WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise NotFoundError(f"there is no key {id!r}; `agentmem key list` shows all")
        return key_of(row)

    def _now(self) -> int:
        return micros(self._clock())

    def _until(self, expires: timedelta | datetime | None, now: int) -> int | None:
        if expires is None:
            return None
        try:
            until = _later(now, expires, "expires") if isinstance(expires, timedelta) else micros(expires)
        except (OverflowError, TypeError) as exc:
            raise InvalidInputError(f"expires={expires!r} is no span and no time with a zone", field="expires") from exc
        if until <= now:
            raise InvalidInputError(f"expires={expires} lies in the past", field="expires")
        return until


def _later(now: int, span: timedelta, field: str) -> int:
    until = now + microseconds(span)
    try:
        from_micros(until)
    except OverflowError as exc:
        raise InvalidInputError(f"{field}={span} is longer than the calendar", field=field) from exc
    return until


def _failed(what: str, exc: OSError | sqlite3.Error) -> StoreError:
    full = isinstance(exc, OSError) and exc.errno in (ENOSPC, EDQUOT)
    if full or getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return DiskFullError(f"{what}: the disk is full; free some space and try again")
    return StoreError(f"{what}: {exc}")


def _hash(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


def _now() -> datetime:
    return datetime.now(UTC)
