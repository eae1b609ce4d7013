"""The standard streams and files, as they come: closed, in any encoding, with a byte order mark, packed."""

from __future__ import annotations

import codecs
import errno
import fcntl
import gzip
import io
import json
import os
import sys
import zlib
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

import typer

from agentmem import InvalidInputError
from agentmem.cli.words import line

_ARCHIVES = {b"PK\x03\x04": "a zip archive", b"\xfd7zX": "packed with xz", b"\x28\xb5\x2f\xfd": "packed with zstd",
             b"BZh": "packed with bzip2", b"SQLi": "an SQLite database", b"PAR1": "a Parquet file"}  # fmt: skip
"""What begins like that holds no text as it is."""


def prepare() -> None:
    """Before anything else of a command: no stream is closed, and what an encoding cannot show becomes ``?``.

    A closed one gets the null device, so that no file of the store is opened in its place, where a stray message of
    some library would be written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
        if number and getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def say(text: str, *, end: str = "\n", error: bool = False) -> None:
    """Write to standard output or standard error, at once and in its encoding.

    Not ``typer.echo``: that writes UTF-8 where the encoding is ASCII.
    """
    stream: TextIO | None = sys.stderr if error else sys.stdout
    if stream is not None:
        stream.write(text + end)
        stream.flush()


@contextmanager
def appearing(file: Path) -> Generator[BinaryIO]:
    """A file to write, which appears under its name when it is complete. Raises ``OSError``, and
    ``InvalidInputError`` while another process writes it."""
    target = Path(os.path.realpath(file))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    # A device, or a pipe that somebody reads: not for us to replace. One in /dev/fd has no path but that.
    if file.exists() and not file.is_file():
        with file.open("wb") as opened:
            yield opened
        return
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))
    partial = target.with_name(f"{target.name}.partial")
    with closing(_alone_with(partial, file)) as opened:
        try:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def _alone_with(partial: Path, file: Path) -> BinaryIO:
    """An empty file that nobody else writes; what a killed process has left is overwritten."""
    while True:
        opened = os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666), "wb")
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            opened.close()
            why = f"{file} is being written by another process; wait for that to end, or name another file"
            raise InvalidInputError(why, field="file") from exc
        except OSError:
            pass  # a file system without locks
        # Whoever had it may have completed or removed it between the two.
        if _is_at(opened, partial):
            opened.truncate(0)
            return opened
        opened.close()


def _is_at(opened: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(opened.fileno()), path.stat())
    except FileNotFoundError:
        return False


def note(text: str) -> None:
    """What is no result: one line on standard error."""
    say(f"agentmem: {line(text)}", error=True)


def known_encoding(name: str | None) -> None:
    """Refuse a name that is not one of an encoding of text."""
    if name is None:
        return
    try:
        "".encode(name)  # those of bytes to bytes, such as hex, are no text either
    except (LookupError, ValueError) as exc:
        raise typer.BadParameter(f"--encoding={name!r} is not an encoding such as utf-16, cp1252, shift_jis") from exc


@contextmanager
def reading(name: str) -> Generator[None]:
    """Say of which file it is, and what, that cannot be read on."""
    try:
        yield
    except UnicodeDecodeError as exc:  # of UTF-16, say; UTF-8 goes on after it
        raise InvalidInputError(
            f"{name} is not {exc.encoding} text: {exc.reason}; --encoding names another one", field="file"
        ) from exc
    except UnicodeError as exc:
        raise InvalidInputError(f"{name} is not such text: {exc}", field="file") from exc
    except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
        raise InvalidInputError(f"{name} is packed with gzip, and damaged or cut off: {exc}", field="file") from exc


@contextmanager
def text_of(file: Path | None, name: str, encoding: str | None, *, repair: bool) -> Generator[TextIO]:
    """The text of a file, or of standard input (None); ends of lines of any kind become ``\\n``.

    Without ``encoding`` it is UTF-8, unless its first bytes are those of UTF-16 or UTF-32; what is packed with gzip is
    unpacked. With ``repair`` bytes that are no text become U+FFFD. Without it those of UTF-8 become lone surrogates,
    which no item may have; others raise.
    """
    if file is not None:
        with file.open("rb") as source, _decoded(source, name, encoding, repair=repair) as text:
            yield text
        return
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise InvalidInputError("standard input is closed; name a file with --file", field="file")
    buffer = getattr(sys.stdin, "buffer", None)
    if buffer is None:  # somebody replaced it
        yield sys.stdin
        return
    with _decoded(buffer, name, encoding, repair=repair) as text:
        yield text


@contextmanager
def _decoded(source: BinaryIO, name: str, encoding: str | None, *, repair: bool) -> Generator[TextIO]:
    buffered: Any = source if hasattr(source, "peek") else io.BufferedReader(cast("Any", source))
    first = buffered.peek(4)[:4]
    if first.startswith(b"\x1f\x8b"):
        buffered = gzip.GzipFile(fileobj=buffered)
        with reading(name):
            first = buffered.peek(4)[:4]
    for start, what in _ARCHIVES.items():
        if first.startswith(start):
            raise InvalidInputError(f"{name} is {what}; what is added is text, such as JSON Lines", field="file")
    found = json.detect_encoding(first) if encoding is None else codecs.lookup(encoding).name
    if found == "utf-8":
        found = "utf-8-sig"
    errors = "replace" if repair else "surrogateescape" if found == "utf-8-sig" else "strict"
    text = io.TextIOWrapper(buffered, found, errors=errors)
    try:
        yield text
    finally:
        with suppress(ValueError):
            text.detach()  # else it would close what it was given


def json_text(value: Any, **options: Any) -> str:
    """A value as JSON, in characters that UTF-8 has: half ones, which data may hold, are escaped, and then all are."""
    text = json.dumps(value, ensure_ascii=False, **options)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, **options)
    return text
