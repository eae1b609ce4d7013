"""A key of a server: what it allows, and whose memories it leads to."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from agentmem import AsyncMemory, InvalidInputError, Memory
from agentmem.errors import AccessDeniedError

Client = TypeVar("Client", Memory, AsyncMemory)

COLUMNS = (
    "id, scopes, user_id, any_user, agent_id, namespace, name, per_minute, created_at, expires_at, revoked_at, "
    "used_at, length(hash) > 32 AS ended"
)
"""Of a key's row in the file, in the order of ``key_of``. The hash of a key that was ended is longer by ``ENDED``."""
ENDED = b"\0"
"""Stands before the hash of a key that was revoked, or replaced at once: it opens no more, also where the clock that
said when was ahead of its time, or is set back."""

SCOPES = ("read", "write", "erase", "admin")
"""What a key may allow. None includes another: ``read`` is searching and listing, ``write`` adding, changing and
deleting what can be restored, ``erase`` removing for good, ``admin`` the store as a whole: backups, keys, upkeep."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key without its secret."""

    id: str
    scopes: frozenset[str]
    """Of ``SCOPES``."""
    user_id: str | None
    """Whose memories it leads to; None: those of no user, unless ``any_user``."""
    any_user: bool
    """Whether each request says whose memories it is about."""
    agent_id: str | None
    namespace: tuple[str, ...] | None
    """It leads to what lies at this namespace and below."""
    name: str | None
    """What it is for, as its maker said."""
    per_minute: int | None
    """Requests that it may make in a minute; None: as many as the server allows each key."""
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None
    """To within a minute; None: never."""
    ended: bool = False
    """Whether it was revoked, or replaced without an overlap: that holds whatever the clock says."""

    def holds(self, now: datetime) -> bool:
        """Whether it opens anything at that time."""
        ends = (self.revoked_at, self.expires_at)
        return not self.ended and all(end is None or now < end for end in ends)

    def require(self, scope: str) -> None:
        """Raises ``AccessDeniedError`` unless the key has this scope."""
        if scope not in self.scopes:
            has = ", ".join(one for one in SCOPES if one in self.scopes)
            raise AccessDeniedError(f"this needs a key with the scope {scope!r}; the key {self.id} has {has}")

    def view(self, memory: Client, user_id: str | None = None) -> Client:
        """The memory as this key may see it; ``user_id`` is whom a request names, if it names anybody.

        Raises ``AccessDeniedError`` for a user that the key is not for.
        """
        if self.any_user:
            user = user_id
        elif user_id is None or (self.user_id is not None and composed(user_id) == self.user_id):
            user = self.user_id
        else:
            raise AccessDeniedError(
                f"the key {self.id} is for one user's memories, and those of another were asked for"
            )
        if user is None and self.agent_id is None and self.namespace is None:
            return memory.userless()
        return memory.scoped(user_id=user, agent_id=self.agent_id, under=self.namespace)

    def to_dict(self) -> dict[str, Any]:
        """The values by name, JSON-ready."""
        return {
            "id": self.id,
            "scopes": [scope for scope in SCOPES if scope in self.scopes],
            "user_id": self.user_id,
            "any_user": self.any_user,
            "agent_id": self.agent_id,
            "namespace": None if self.namespace is None else list(self.namespace),
            "name": self.name,
            "per_minute": self.per_minute,
            **{name: _iso(getattr(self, name)) for name in ("created_at", "expires_at", "revoked_at", "used_at")},
        }


@dataclass(frozen=True)
class NewKey:
    """A key that was just made. Its token is nowhere else: whoever loses it makes another key."""

    key: Key
    token: str = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The key and its token, JSON-ready."""
        return {**self.key.to_dict(), "token": self.token}


@dataclass(frozen=True)
class Act:
    """One line of the audit log."""

    seq: int
    at: datetime
    act: str
    """What was done: ``"key.create"``, ``"backup.create"``, ..."""
    actor: str | None
    """The id of the key that did it; None: the command line, or a server without keys."""
    target: str | None
    """What it was done to: the id of a key, of a backup; never the name of a user."""
    user_id: str | None
    """Whom it was about; None also once that user was erased."""

    def to_dict(self) -> dict[str, Any]:
        """The values by name, JSON-ready."""
        return {
            "seq": self.seq, "at": _iso(self.at), "act": self.act, "actor": self.actor, "target": self.target,
            "user_id": self.user_id,
        }  # fmt: skip


def checked_scopes(scopes: Iterable[str]) -> frozenset[str]:
    """Raises ``InvalidInputError`` for none, and for one that does not exist."""
    found = frozenset([scopes] if isinstance(scopes, str) else scopes)
    if unknown := sorted(found - set(SCOPES)):
        raise InvalidInputError(f"there is no scope {unknown[0]!r}; there are: {', '.join(SCOPES)}", field="scopes")
    if not found:
        raise InvalidInputError(f"a key needs at least one scope of: {', '.join(SCOPES)}", field="scopes")
    return found


def composed(name: str) -> str:
    """A scope id as the store compares it."""
    return unicodedata.normalize("NFC", name)


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def key_of(row: tuple[Any, ...]) -> Key:
    """A key from its row, of ``COLUMNS``."""
    id, scopes, user_id, any_user, agent_id, namespace, name, per_minute, created, expires, revoked, used, ended = row
    return Key(
        id=id,
        scopes=frozenset(json.loads(scopes)),
        user_id=user_id,
        any_user=bool(any_user),
        agent_id=agent_id,
        namespace=None if namespace is None else tuple(json.loads(namespace)),
        name=name,
        per_minute=per_minute,
        created_at=from_micros(created),
        expires_at=None if expires is None else from_micros(expires),
        revoked_at=None if revoked is None else from_micros(revoked),
        used_at=None if used is None else from_micros(used),
        ended=bool(ended),
    )


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(time: datetime) -> int:
    """As the file has it."""
    return microseconds(time - _EPOCH)


def microseconds(span: timedelta) -> int:
    """The length of a span."""
    return span // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """The other way round."""
    return _EPOCH + timedelta(microseconds=micros)
