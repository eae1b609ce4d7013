"""Where a store is to be: what callers give as a path."""

from __future__ import annotations

import os
import re
from pathlib import Path

from agentmem.types.checks import check_text
from agentmem.types.errors import InvalidInputError, StoreError, shown

DEFAULT_PATH = ".agentmem"
IN_MEMORY = ":memory:"
"""A path that means a private store, which is gone when its client is closed."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(/+)(.*)", re.DOTALL)
"""At least two letters, since one is a drive. ``pathlib`` makes one slash of several."""
_KNOWN = re.compile(r"(file|sqlite3?|libsql|duckdb|memory):(.*)", re.DOTALL | re.IGNORECASE)
_LOCAL = ("file", "sqlite", "sqlite3", "libsql", "duckdb")
_DRIVE = re.compile(r"[A-Za-z]:([\\/]|$)")
_VARIABLE = re.compile(r"\$\w+|\$\{\w+\}|%\w+%[\\/]")


def resolve(path: object = None) -> Path | None:
    """The absolute path of a store's folder, as of now; None for ``:memory:``. Looks at no file.

    ``~`` and ``~name`` at its beginning are home folders. What looks like something else than a folder of this machine
    (a URL, a path of another system, a variable that nobody replaced) is refused with the right spelling, as
    ``InvalidInputError``; with ``./`` before it, or an absolute path, the name is taken as it is.
    """
    name = DEFAULT_PATH if path is None else _text(path)
    if name == IN_MEMORY:
        return None
    if (why := _mistaken(name)) is not None:
        raise InvalidInputError(f"path={shown(path)} {why}", field="path")
    if name.startswith("~"):
        return _at_home(name)
    if os.path.isabs(name):
        return Path(name)
    try:
        below = Path.cwd()
    except OSError as exc:
        raise StoreError(
            f"path={shown(path)} is relative, and the working directory is gone ({exc.strerror}); name an absolute path"
        ) from exc
    parts = Path(name).parts
    while parts[:1] == ("..",):  # the working directory is no link, so that this is what the system would do
        below, parts = below.parent, parts[1:]
    return below.joinpath(*parts)


def _text(path: object) -> str:
    try:
        name = os.fspath(path)  # pyright: ignore[reportArgumentType, reportCallIssue, reportUnknownVariableType]
    except TypeError:
        name = None
    if isinstance(name, bytes):
        raise InvalidInputError(f"path must be text, not {shown(path)}; os.fsdecode(path) makes it so", field="path")
    if not isinstance(name, str) or not name.strip():
        raise InvalidInputError(f"path must be a folder's path, not {shown(path)}", field="path")
    # The database engine takes file names as UTF-8 only.
    check_text(name, "path")
    return name


def _mistaken(name: str) -> str | None:
    """What a path is taken for, and how to write what was meant; None for a path as it should be."""
    if name.startswith(("/", "./", "../")):
        return None
    literal = repr(f"./{name}")
    if (url := _SCHEME.match(name) or _KNOWN.match(name)) is not None:
        return f"is a URL; a store is a folder on this machine, {_meant(url[1].lower(), name[len(url[1]) + 1 :])}"
    if name.startswith(":") and name.endswith(":"):
        return f"is no path; {IN_MEMORY!r} is a private store that is gone when it is closed"
    if _VARIABLE.match(name):
        return f"begins with a variable; os.path.expandvars(path) replaces it, {literal} is a folder of that name"
    if os.name == "nt":
        return None
    if _DRIVE.match(name) or name.startswith("\\\\"):
        return f"is a path of Windows, and this is another system; name a folder here, or write {literal}"
    if "\\" in name and "/" not in name:
        return f"has the separators of Windows; write {name.replace(chr(92), '/')!r}, or {literal} if that is its name"
    return None


def _meant(scheme: str, rest: str) -> str:
    """What to write instead of a URL, whose ``rest`` follows the colon."""
    rest = rest.partition("?")[0]
    place = rest.lstrip("/")
    slashes = len(rest) - len(place)
    if scheme in ("memory", "mem") or place.startswith(IN_MEMORY) or (scheme in _LOCAL and not place):
        return f"write {IN_MEMORY!r} for a private one that is gone when it is closed"
    if scheme not in _LOCAL or (slashes == 2 and scheme == "libsql"):
        return "name that, such as './memories'"
    # SQLAlchemy's URLs have three slashes before a relative path and four before an absolute one.
    absolute = slashes >= 4 if scheme != "file" else slashes not in (0, 2)
    return f"write {'/' * absolute + place!r}"


def _at_home(name: str) -> Path:
    expanded = os.path.expanduser(name)
    if not os.path.isabs(expanded):
        who = name.partition("/")[0]
        raise InvalidInputError(
            f"path={name!r}: nobody knows the home folder of {who!r}; write it out, or {'./' + name!r} for a folder of "
            "that name",
            field="path",
        )
    return Path(expanded)
