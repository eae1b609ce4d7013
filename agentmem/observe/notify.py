"""Telling of alerts: into the log, to a webhook, by a command. Each is a function of an ``Alert``."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, cast
from urllib.parse import urlsplit

from typing_extensions import override

from agentmem.observe.alerts import Alert, Level
from agentmem.types.errors import InvalidInputError

_LEVELS = {Level.OK: logging.INFO, Level.WARNING: logging.WARNING, Level.CRITICAL: logging.ERROR}
_READ = 65_536
"""Bytes of a webhook's answer that are looked at."""

log = logging.getLogger("agentmem.health")


def to_log(alert: Alert) -> None:
    """Write it to the logger ``agentmem.health``: at INFO where it ends, else at WARNING or ERROR."""
    log.log(_LEVELS[alert.level], "%s %s: %s (%s)", alert.level.value, alert.name, alert.message, alert.store)


class Webhook:
    """Posts each alert as a JSON object to a URL of ``http`` or ``https``.

    Only addresses of the public internet are connected to, those that the name leads to at that moment, and no redirect
    is followed, so that a name cannot lead into the own network. ``private`` allows such addresses, for a receiver
    that is there. Raises ``InvalidInputError`` for what is no such URL, here, and ``OSError`` where it is not told.
    """

    def __init__(
        self, url: str, *, headers: Mapping[str, str] | None = None, private: bool = False, timeout_s: float = 10.0
    ) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as exc:
            raise InvalidInputError(f"{url!r} is no URL: {exc}", field="url") from exc
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInputError(f"{url!r} is no URL of http or https", field="url")
        if parts.username is not None or parts.password is not None:
            raise InvalidInputError("the URL has credentials in it; give a header for them", field="url")
        for name, value in (headers or {}).items():
            if not name.isascii() or any(sign in name + value for sign in "\r\n\0"):
                raise InvalidInputError(f"the header {name!r} has signs in it that none may have", field="headers")
        self._host = parts.hostname
        self._port = port or (443 if parts.scheme == "https" else 80)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._secure = parts.scheme == "https"
        self._headers = {"Content-Type": "application/json", "User-Agent": "agentmem", **(headers or {})}
        self._private = private
        self._timeout = timeout_s

    def __call__(self, alert: Alert) -> None:
        """Post it."""
        address = self._address()
        made = _Pinned(self._host, self._port, address, self._timeout, secure=self._secure)
        try:
            made.request("POST", self._target, json.dumps(alert.to_dict()).encode(), self._headers)
            answer = made.getresponse()
            answer.read(_READ)
        except http.client.HTTPException as exc:
            raise OSError(f"{self._host} does not speak HTTP: {type(exc).__name__}") from exc
        finally:
            made.close()
        if not 200 <= answer.status < 300:
            raise OSError(f"{self._host} answered {answer.status}")

    def _address(self) -> str:
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        for text in addresses:
            if self._private or _is_public(ip_address(text.partition("%")[0])):
                return text
        raise OSError(
            f"{self._host} leads to {', '.join(addresses)}, which is no public address; private=True allows it"
        )


class _Pinned(http.client.HTTPConnection):
    """A connection to an address that was looked at, whatever the name leads to by now."""

    def __init__(self, host: str, port: int, address: str, timeout: float, *, secure: bool) -> None:
        super().__init__(host, port, timeout=timeout)
        self._address = address
        self._secure = secure

    @override
    def connect(self) -> None:
        raw = socket.create_connection((self._address, self.port), self.timeout)
        self.sock: Any = raw
        if self._secure:
            try:
                self.sock = ssl.create_default_context().wrap_socket(raw, server_hostname=self.host)
            except BaseException:
                raw.close()
                raise


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    inner: IPv4Address | None = None
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
    return address.is_global and not address.is_multicast and (inner is None or _is_public(inner))


class _Network:
    """The well-known prefix of NAT64, behind which an IPv4 address lies."""

    def __contains__(self, address: IPv6Address) -> bool:
        return int(address) >> 32 == int(IPv6Address("64:ff9b::")) >> 32


_NAT64 = _Network()


class Command:
    """Runs a program with each alert as JSON on its standard input; ``Command(["mail-admin", "--urgent"])``.

    No shell is involved. Raises ``OSError`` where it cannot be run, fails, or takes longer than ``timeout_s``.
    """

    def __init__(self, arguments: Sequence[str], *, timeout_s: float = 30.0) -> None:
        given = cast("object", arguments)
        if (
            isinstance(given, str)
            or not arguments
            or not all(isinstance(cast("object", one), str) for one in arguments)
        ):
            raise InvalidInputError("a command is a list: a program and its arguments", field="arguments")
        self._arguments = list(arguments)
        self._timeout = timeout_s

    def __call__(self, alert: Alert) -> None:
        """Run it."""
        try:
            done = subprocess.run(
                self._arguments,
                input=json.dumps(alert.to_dict()).encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=self._timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise OSError(f"{self._arguments[0]} took longer than {self._timeout:g} s") from exc
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise OSError(f"{self._arguments[0]} failed with {done.returncode}: {said[-1] if said else 'no message'}")
