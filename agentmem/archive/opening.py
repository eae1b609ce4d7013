"""Objects by URL."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from agentmem.archive.folder import FolderObjects
from agentmem.archive.objects import Objects
from agentmem.archive.retries import Retries
from agentmem.types.errors import InvalidInputError

_BUCKETS = ("s3", "gs", "az")


def open_objects(url: str, options: Mapping[str, str] | None = None, *, retries: Retries | None = None) -> Objects:
    """The objects under a URL: the path of a folder, ``file://``, ``s3://``, ``gs://`` or ``az://``.

    ``options`` are obstore's for that kind of bucket (``region``, ``endpoint``, credentials); what is not given comes
    from the environment, as the vendor's own tools take it. Nothing is asked of the network yet. Raises
    ``InvalidInputError`` for a URL of no known kind, or with credentials in it, and ``MissingExtraError``.
    """
    parts = urlsplit(url)
    if parts.scheme == "" or len(parts.scheme) == 1:  # a drive's letter
        return FolderObjects(url)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise InvalidInputError(f"{url!r} is on another machine; write file:///path", field="url")
        return FolderObjects(unquote(parts.path))
    if parts.scheme not in _BUCKETS:
        raise InvalidInputError(
            f"no objects are kept at {parts.scheme}://; there are a folder's path, file://, "
            + ", ".join(f"{name}://" for name in _BUCKETS),
            field="url",
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidInputError(
            f"a URL holds {parts.scheme}://bucket/prefix only; give credentials as options or in the environment",
            field="url",
        )
    if not parts.netloc:
        raise InvalidInputError(f"{url!r} names no bucket; write {parts.scheme}://bucket/prefix", field="url")

    from agentmem.archive.buckets import BucketObjects  # obstore is an extra

    return BucketObjects(url, options or {}, retries or Retries())
