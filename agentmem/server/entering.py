"""Who may enter: from a request's headers to a key, and from that to what it may see of the store."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

from agentmem import AsyncMemory
from agentmem.errors import AccessDeniedError, InvalidKeyError
from agentmem.server.key import SCOPES, Key, composed
from agentmem.server.keys import KeyStore

_KEPT = 2_000
_AGAIN_S = 30.0
"""After which it is looked again whether the user of a key was erased by somebody who knows of no keys."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

LOCAL = Key(
    id="local", scopes=frozenset(SCOPES), user_id=None, any_user=True, agent_id=None, namespace=None, name=None,
    per_minute=None, created_at=datetime.fromtimestamp(0, UTC), expires_at=None, revoked_at=None, used_at=None,
)  # fmt: skip
"""Who enters where there are no keys: whoever is on this machine, with all that there is."""
VISITOR = replace(LOCAL, id="dashboard")
"""Who enters by ``agentmem dashboard``, as whoever types commands does."""
KEYLESS = LOCAL, VISITOR


class Gate:
    """Checks who asks. With ``open`` it lets everybody in who is on this machine, until there is a first key."""

    def __init__(
        self, memory: AsyncMemory, keys: KeyStore, *, open: bool, visitor: Callable[[str], Key | None] | None = None
    ) -> None:
        """``visitor`` says as whom somebody enters by a token that is no key's; None: by no token but keys'."""
        self._memory = memory
        self._keys = keys
        self._open = open
        self._visitor = visitor
        self._views = OrderedDict[tuple[str, str | None], AsyncMemory]()
        self._looked = dict[str, float]()
        self._writing = dict[object, str]()

    @contextmanager
    def writing(self, user: str | None) -> Generator[None]:
        """While something is written for a user (None: for nobody in particular) that was let in."""
        if user is None:
            yield
            return
        write = object()
        self._writing[write] = composed(user)
        try:
            yield
        finally:
            del self._writing[write]

    def under_way(self, user: str) -> set[object]:
        """What is being written for a user in this process; each is equal to itself alone."""
        return {write for write, whose in list(self._writing.items()) if whose == user}

    async def written(self, writes: set[object], seconds: float) -> None:
        """Until none of these is under way any more, or for so long."""
        end = time.monotonic() + seconds
        while not writes.isdisjoint(self._writing) and time.monotonic() < end:  # noqa: ASYNC110 - of several loops
            await asyncio.sleep(0.01)

    @property
    def is_open(self) -> bool:
        """Whether no key is needed now. Never again once there was one."""
        if self._open and self._keys.required:
            self._open = False
        return self._open

    async def enter(self, headers: dict[bytes, bytes]) -> Key:
        """The key of a request. Raises ``InvalidKeyError``, ``AccessDeniedError``."""
        if self.is_open:
            _refuse_other_pages(headers)
            return LOCAL
        token = _token(headers)
        if self._visitor is not None and (visiting := self._visitor(token)) is not None:
            _refuse_other_pages(headers)
            return visiting
        key = self._keys.check(token)
        await self.look(key)
        return key

    async def glance(self, headers: dict[bytes, bytes]) -> Key | None:
        """The key of a request that another app will check; None where there is no valid one, or none is needed.

        Raises ``InvalidKeyError`` for that of a user who was erased, ``AccessDeniedError`` as ``enter`` does.
        """
        if self.is_open:
            _refuse_other_pages(headers)
            return None
        try:
            key = self._keys.check(_token(headers))
        except InvalidKeyError:
            return None
        await self.look(key)
        return key

    def view(self, key: Key, user_id: str | None) -> AsyncMemory:
        """What the key may see, where a request names this user. Raises ``AccessDeniedError``, ``ScopeError``."""
        place = key.id, user_id
        view = self._views.get(place)
        if view is None:
            view = self._views[place] = key.view(self._memory, user_id)
            if len(self._views) > _KEPT:
                self._views.popitem(last=False)
        return view

    def forget_looks(self) -> None:
        """See ``App``."""
        self._looked.clear()

    async def look(self, key: Key) -> None:
        """End the keys of a user who was erased by another way than this server. Raises ``InvalidKeyError``."""
        if key.user_id is None or time.monotonic() <= self._looked.get(key.id, 0.0):
            return
        erased = await self._memory.erasures(user_id=key.user_id)
        if any(one.at > key.created_at for one in erased):
            await asyncio.to_thread(self._keys.forget_user, key.user_id)
            raise InvalidKeyError(f"the key {key.id} ended when its user was erased")
        self._looked[key.id] = time.monotonic() + _AGAIN_S
        if len(self._looked) > _KEPT:
            self._looked.clear()


def _token(headers: dict[bytes, bytes]) -> str:
    given, other = headers.get(b"authorization"), headers.get(b"x-api-key")
    if given is not None:
        scheme, _, token = given.decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            raise InvalidKeyError("send the key as `Authorization: Bearer amk_…`, or as `X-API-Key: amk_…`")
        if other is not None and other.decode("latin-1") != token.strip():
            raise InvalidKeyError("Authorization and X-API-Key name two keys; send one")
        return token.strip()
    if other is not None:
        return other.decode("latin-1").strip()
    raise InvalidKeyError("this needs a key: send it as `Authorization: Bearer amk_…`; `agentmem key create` makes one")


def _refuse_other_pages(headers: dict[bytes, bytes]) -> None:
    """Without keys a page of the web that its reader's browser shows must not reach the store: neither by a name that
    it lets point here, nor by a request of its own."""
    origin = headers.get(b"origin")
    for name, value in (("Host", b"//" + headers.get(b"host", b"")), ("Origin", origin)):
        if value is None:
            continue
        try:
            host = urlsplit(value.decode("latin-1")).hostname
        except ValueError:
            host = None
        if host not in _LOOPBACK:
            raise AccessDeniedError(
                f"without keys this server answers to {', '.join(_LOOPBACK)} alone, and the {name} is another; "
                "`agentmem key create` makes a key"
            )
