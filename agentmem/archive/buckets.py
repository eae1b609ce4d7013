"""The border to obstore: objects in a bucket of S3 or what is compatible, of Google or of Azure, its errors as ours."""

from __future__ import annotations

import os
import re
import secrets
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from typing_extensions import override

from agentmem.archive.handover import hand_over
from agentmem.archive.objects import Content, ObjectInfo, Objects, check_folder, check_key, check_range, is_key
from agentmem.archive.retries import Retries
from agentmem.types.clock import to_micros
from agentmem.types.errors import (
    ArchiveAccessError,
    ArchiveCorruptError,
    ArchiveError,
    ArchiveUnavailableError,
    MissingExtraError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
)

# Of an object, who wrote it: a random text for each write. Azure takes only names that would do in C#.
_WRITER = "agentmemwriter"
_CONNECT, _SILENCE, _REQUEST = "5s", "20s", "120s"
# A thousand at once failed with any number of attempts; sixteen are as quick.
_AT_ONCE = 16
_PART = 8 * 2**20
_PARTS_AT_ONCE = 4

_STATUS = re.compile(r"status code: (\d{3})")
_LATER = frozenset({408, 416, 425, 429, 500, 502, 503, 504})
# Of an endpoint that cannot be asked at all; these do not pass, either.
_NEVER = ("builder error", "invalid peer certificate", "InvalidCertificate")
_CODE = re.compile(r"<Code>([^<]*)</Code>|\"code\": *\"?([^\",}]*)")
_LONGEST = 300
# What obstore asks in the query may be a signature.
_QUERY = re.compile(r"\?[^\s,)]+")

_loop_of: int | None = None


class _Found(NamedTuple):
    info: ObjectInfo
    stamp: str
    writer: str


class BucketObjects(Objects):
    """A bucket, or what is below a prefix of it. ``options`` are obstore's: credentials, region, endpoint.

    Before its first write, an instance tries out on objects of its own that the bucket knows create-only and
    compare-and-swap writes; ``ArchiveError`` where it does not. One that was made by another process raises: what
    answers calls of obstore does not survive a fork.
    """

    def __init__(self, url: str, options: Mapping[str, str], retries: Retries) -> None:
        global _loop_of
        self._obstore = _obstore()
        _loop_of = _loop_of or os.getpid()
        self._url = url.rstrip("/")
        self._retries = retries
        self._slots = threading.BoundedSemaphore(_AT_ONCE)
        self._store = self._open(options, 0)
        # A part cannot be asked for again from outside.
        self._uploading = self._open(options, retries.attempts - 1)
        self._probed = False

    def __reduce__(self) -> NoReturn:
        raise TypeError("objects of a bucket are not pickled: what they hold would include credentials")

    @property
    @override
    def url(self) -> str:
        return self._url

    @override
    def create(self, key: str, data: bytes) -> str:
        check_key(key)
        self._probe()
        return self._put(key, data, None)

    @override
    def swap(self, key: str, data: bytes, stamp: str) -> str:
        check_key(key)
        self._probe()
        return self._put(key, data, stamp)

    @override
    def upload(self, key: str, chunks: Iterable[bytes]) -> ObjectInfo:
        check_key(key)
        self._probe()
        if self._retries.call(lambda: self._look_if_there(key)) is not None:
            raise ObjectExistsError(f"{self.url}/{key} exists already, and is not written twice")
        writer = secrets.token_hex(16)

        def put(parts: Iterator[bytes]) -> None:
            with self._calling("upload", key):
                self._obstore.put(
                    self._uploading,
                    key,
                    parts,
                    attributes={_WRITER: writer},
                    use_multipart=True,
                    chunk_size=_PART,
                    max_concurrency=_PARTS_AT_ONCE,
                )

        try:
            hand_over(chunks, put)
        except ArchiveError:
            # The last answer may be what was lost.
            found = self._retries.call(lambda: self._look_if_there(key))
            if found is None or found.writer != writer:
                raise
        return self.head(key)

    @override
    def get(self, key: str) -> Content:
        check_key(key)

        def attempt() -> Content:
            with self._calling("read", key):
                got = self._obstore.get(self._store, key)
                data = bytes(got.bytes())
            if len(data) != got.meta["size"]:
                raise ArchiveUnavailableError(f"of {self.url}/{key} came {len(data)} of {got.meta['size']} bytes")
            return Content(data, _stamp(got.meta))

        return self._retries.call(attempt)

    @override
    def read(self, key: str, start: int, length: int) -> bytes:
        check_range(start, length)
        if not length:
            self.head(key)
            return b""
        check_key(key)

        def attempt() -> bytes:
            try:
                with self._calling("read", key):
                    data = bytes(self._obstore.get_range(self._store, key, start=start, length=length))
                short = f"of {length} bytes came {len(data)}"
            except ArchiveUnavailableError as exc:
                data, short = b"", str(exc)
            if len(data) == length:
                return data
            # Ranges that an object has not got are answered in many ways.
            size = self._look(key).info.size
            if size < start + length:
                raise ArchiveCorruptError(
                    f"{self.url}/{key} has {size:,} bytes, not {start + length:,}; it was cut short"
                )
            raise ArchiveUnavailableError(f"cannot read {self.url}/{key}: {short}")

        return self._retries.call(attempt)

    @override
    def head(self, key: str) -> ObjectInfo:
        check_key(key)
        return self._retries.call(lambda: self._look(key).info)

    @override
    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        prefix, last, pages = check_folder(folder) or None, None, None

        def attempt() -> Any:
            nonlocal pages
            try:
                with self._calling("list", folder):
                    pages = pages or iter(self._obstore.list(self._store, prefix, offset=last, chunk_size=1_000))
                    return next(pages, None)
            except ObjectNotFoundError as exc:
                raise ArchiveError(f"cannot list {self.url}/{folder}: there is no such bucket ({exc})") from exc
            except ArchiveError:
                pages = None  # the next attempt goes on after the last key that came
                raise

        while found := self._retries.call(attempt):
            last = found[-1]["path"]
            yield from (_info(meta) for meta in found if is_key(meta["path"]))

    @override
    def delete(self, key: str) -> None:
        check_key(key)

        def attempt() -> None:
            try:
                with self._calling("delete", key):
                    self._obstore.delete(self._store, key)
            except ObjectNotFoundError:
                pass  # some say so
            except ObjectExistsError as exc:  # any conflict is called that
                raise ArchiveUnavailableError(f"{self.url}/{key} is being written by somebody else ({exc})") from exc

        self._retries.call(attempt)

    @override
    def sweep(self, folder: str = "") -> None:
        check_folder(folder)  # parts of an upload that was broken off are the server's, to remove by a rule for them

    @override
    def keeps_versions(self) -> bool:
        key = f"probe/{secrets.token_hex(16)}"
        self._probe()
        _, _, version = self._put(key, b"is this still here once it was deleted?", None).partition("\n")
        self.delete(key)
        if not version:
            return False

        def attempt() -> bool:
            try:
                with self._calling("read", key):
                    self._obstore.get(self._store, key, options={"version": version}).bytes()
            except ObjectNotFoundError:
                return False
            return True

        return self._retries.call(attempt)

    # -- one request ---------------------------------------------------------------------------------------------------

    def _put(self, key: str, data: bytes, stamp: str | None) -> str:
        """Write what has this stamp, or does not exist yet; the new stamp."""
        writer, mode = secrets.token_hex(16), "create" if stamp is None else _version(stamp)

        def attempt() -> str:
            try:
                with self._calling("write", key):
                    put = self._obstore.put
                    done = put(self._store, key, data, mode=mode, attributes={_WRITER: writer}, use_multipart=False)
                    return _stamp(done)
            except (ObjectExistsError, ObjectChangedError, ObjectNotFoundError) as exc:
                found = self._look_if_there(key)
                if found is not None and found.writer == writer:
                    return found.stamp
                if found is None and not self._has_bucket():
                    raise ArchiveError(f"cannot write {self.url}/{key}: there is no such bucket ({exc})") from exc
                if (None if found is None else found.stamp) == stamp:
                    # Nothing stands in the way any more. S3 may answer so to both of two at once.
                    raise ArchiveUnavailableError(f"{self.url}/{key} was written by somebody else ({exc})") from exc
                if stamp is None:
                    raise ObjectExistsError(f"{self.url}/{key} exists already, and is not written twice") from exc
                raise ObjectChangedError(
                    f"{self.url}/{key} was replaced or removed by somebody else meanwhile; read it again"
                ) from exc

        return self._retries.call(attempt)

    def _look(self, key: str) -> _Found:
        with self._calling("look at", key):
            got = self._obstore.get(self._store, key, options={"head": True})
        return _Found(_info(got.meta), _stamp(got.meta), str(got.attributes.get(_WRITER, "")))

    def _look_if_there(self, key: str) -> _Found | None:
        try:
            return self._look(key)
        except ObjectNotFoundError:
            return None

    def _has_bucket(self) -> bool:
        """A bucket that is missing and one that lacks an object look the same."""
        try:
            with self._calling("list", ""):
                next(iter(self._obstore.list(self._store, chunk_size=1)), None)
        except ObjectNotFoundError:
            return False
        return True

    def _probe(self) -> None:
        """Refuse, before the first write, a bucket that overwrites what it was told to leave alone."""
        if self._probed:
            return
        key = f"probe/{secrets.token_hex(16)}"
        stamp = self._put(key, b"first", None)
        try:
            try:
                self._put(key, b"second", None)
                raise self._overwrites("create-only writes (If-None-Match)")
            except ObjectExistsError:
                pass
            self._put(key, b"third", stamp)
            try:
                self._put(key, b"fourth", stamp)
                raise self._overwrites("compare-and-swap writes (If-Match)")
            except ObjectChangedError:
                self._probed = True
        finally:
            self.delete(key)

    def _overwrites(self, what: str) -> ArchiveError:
        return ArchiveError(
            f"{self.url} ignores {what}, so that two writers could overwrite each other's objects; use S3, Google, "
            "Azure, a server that knows them (MinIO, Ceph since 2024), or a folder"
        )

    def _open(self, options: Mapping[str, str], retries: int) -> Any:
        client = {"connect_timeout": _CONNECT, "read_timeout": _SILENCE, "timeout": _REQUEST}
        if any(value.startswith("http://") for value in options.values()) or _http_is_allowed(self._url):
            client["allow_http"] = "true"
        backoff = {"init_backoff": timedelta(seconds=1), "max_backoff": timedelta(seconds=60), "base": 2}
        try:
            return self._obstore.store.from_url(
                self._url,
                config=dict(options),
                client_options=client,
                retry_config={"max_retries": retries, "backoff": backoff, "retry_timeout": timedelta(minutes=4)},
            )
        except (self._obstore.exceptions.BaseError, ValueError, OSError) as exc:
            raise ArchiveError(f"cannot open {self._url}: {_short(exc)}") from exc

    @contextmanager
    def _calling(self, doing: str, key: str) -> Generator[None]:
        """One of the calls that may be on their way at once; obstore's errors are raised as ours."""
        if _loop_of != os.getpid():
            raise ArchiveError(
                f"cannot {doing} {self.url}/{key} in a forked process, where obstore would wait for ever; "
                "start processes with multiprocessing's 'spawn'"
            )
        with self._slots:
            try:
                yield
            except (self._obstore.exceptions.BaseError, OSError) as exc:
                raise _mapped(exc, self._obstore.exceptions, f"cannot {doing} {self.url}/{key}") from exc


def _http_is_allowed(url: str) -> bool:
    """obstore takes everything else from the environment, but not this."""
    name = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE_STORAGE"}[url.partition(":")[0]]
    return os.environ.get(f"{name}_ALLOW_HTTP", "").lower() in ("1", "true", "yes")


def _obstore() -> Any:
    try:
        import obstore

        for module in ("exceptions", "store"):
            import_module(f"obstore.{module}")
    except ImportError as exc:
        raise MissingExtraError("obstore is not installed; pip install 'agentmem-db[archive]'") from exc
    return obstore


def _stamp(meta: Any) -> str:
    """S3 and Azure compare tags, Google versions."""
    return f"{meta['e_tag'] or ''}\n{meta['version'] or ''}"


def _version(stamp: str) -> dict[str, str]:
    tag, _, version = stamp.partition("\n")
    # A version of None would be taken for a name.
    return {name: value for name, value in (("e_tag", tag), ("version", version)) if value}


def _info(meta: Any) -> ObjectInfo:
    return ObjectInfo(meta["path"], meta["size"], to_micros(meta["last_modified"]))


def _short(exc: BaseException) -> str:
    """What obstore says, without what it did to get there, and without what may be secret."""
    text = str(exc).partition("\n\nDebug source")[0]
    code = _CODE.search(text)
    text = _QUERY.sub("", text.partition("<")[0]).strip()[:_LONGEST]
    return f"{text} {code[1] or code[2]}" if code else text


def _mapped(exc: BaseException, errors: ModuleType, what: str) -> ArchiveError:
    text = f"{what}: {_short(exc)}"
    if isinstance(exc, FileNotFoundError | errors.NotFoundError):
        return ObjectNotFoundError(text)
    if isinstance(exc, errors.AlreadyExistsError):
        return ObjectExistsError(text)
    if isinstance(exc, errors.PreconditionError):
        return ObjectChangedError(text)
    found = _STATUS.search(str(exc))
    status = int(found[1]) if found else None
    # Where a token is asked for first, its refusal is a GenericError.
    if status in (401, 403) or isinstance(exc, errors.PermissionDeniedError | errors.UnauthenticatedError):
        return ArchiveAccessError(f"{text}; check the credentials and what they allow")
    if status == 404:
        return ObjectNotFoundError(text)
    if any(sign in str(exc) for sign in _NEVER):
        return ArchiveError(
            f"{text}; check the endpoint and its certificate. One without TLS has to be allowed: AWS_ALLOW_HTTP=true "
            "(GOOGLE_ALLOW_HTTP, AZURE_STORAGE_ALLOW_HTTP) in the environment"
        )
    if status in _LATER or "RequestTimeout" in str(exc) or (status is None and isinstance(exc, errors.GenericError)):
        return ArchiveUnavailableError(text)
    return ArchiveError(text)
