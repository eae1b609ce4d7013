"""The way in for whoever starts a server to look at a store: a token that is good once, for one that ends with it."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from hashlib import sha256

from agentmem.errors import InvalidKeyError
from agentmem.server.answers import Answer, answer
from agentmem.server.calls import Call
from agentmem.server.endpoint import Area, Body, Endpoint
from agentmem.server.entering import VISITOR
from agentmem.server.key import Key

GOOD_FOR_S = 120.0
"""Within which the first token is to be exchanged."""
_PREFIX = "amv_"


class Visit:
    """One visitor. Nothing is written down, and only hashes are kept."""

    def __init__(self, once: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._once: bytes | None = _hashed(once)
        self._token: bytes | None = None
        self._clock = clock
        self._until = clock() + GOOD_FOR_S

    def exchange(self, once: str) -> str:
        """The token for the one that is good once. Raises ``InvalidKeyError``, also for whoever comes second."""
        if self._once is None or self._clock() > self._until or not hmac.compare_digest(self._once, _hashed(once)):
            raise InvalidKeyError(
                "this address was used already, or is too old; `agentmem dashboard` makes another, or enter with a key"
            )
        self._once = None
        token = f"{_PREFIX}{secrets.token_urlsafe(32)}"
        self._token = _hashed(token)
        return token

    def who(self, token: str) -> Key | None:
        """As whom somebody enters with a token; None where it is not the one that was given."""
        return VISITOR if self._token is not None and hmac.compare_digest(self._token, _hashed(token)) else None

    def endpoint(self) -> Endpoint:
        """``POST /v1/enter``, which only a server with a visitor has."""
        area = Area("visit")

        @area("POST", "/v1/enter", None, body=_Once)
        async def enter(call: Call) -> Answer:
            """Exchange the token that is good once."""
            return answer({"token": self.exchange(call.body.once)}, 201)

        return area.endpoints[0]


class _Once(Body):
    once: str


def new_once() -> str:
    """A token to be exchanged."""
    return secrets.token_urlsafe(32)


def _hashed(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()
