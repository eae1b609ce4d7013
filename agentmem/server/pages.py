"""The dashboard's files, as they are sent: a page that talks to the API as any other client does."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from gzip import compress
from importlib.resources import files

from agentmem.server.answers import Answer, Header

_TYPES = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}
# Nothing but these files, from nowhere but here; no text becomes a script or a piece of the page (Trusted Types), no
# other page frames this one, and no address of it goes anywhere.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: tuple[Header, ...] = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)


_PACKED: Header = (b"content-encoding", b"gzip")


@cache
def pages() -> dict[str, tuple[Answer, Answer]]:
    """What is sent for each path, as it is and packed; these and no others, whatever a request says."""
    found = dict[str, tuple[Answer, Answer]]()
    for file in files("agentmem.server").joinpath("page").iterdir():
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            path = "/" if file.name == "index.html" else f"/page/{file.name}"
            body, headers = file.read_bytes(), ((b"content-type", kind), (b"vary", b"accept-encoding"), *_HEADERS)
            found[path] = Answer(200, body, headers), Answer(200, compress(body, mtime=0), (_PACKED, *headers))
    return found


def page_of(path: str, headers: Iterable[tuple[bytes, bytes]]) -> Answer | None:
    """What is sent for a path to somebody who sends these headers; None for a path of no file."""
    found = pages().get(path)
    if found is None:
        return None
    takes = any(name == b"accept-encoding" and b"gzip" in value for name, value in headers)
    return found[takes]
