"""What the library says, in the words of the shell: commands and options in place of methods and arguments."""

from __future__ import annotations

import re
from unicodedata import category

COMMANDS = {
    "add": "add", "add_many": "add --file", "add_stream": "add --file", "search": "search", "context": "search",
    "recent": "list --run", "get": "get", "page": "list", "iterate": "export", "count": "count", "distinct": "distinct",
    "users": "count --by users", "runs": "count --by runs", "agents": "count --by agents", "kinds": "count --by kinds",
    "deleted": "list --deleted", "update": "update", "delete": "delete", "delete_many": "delete",
    "delete_all": "delete --all", "erase": "erase", "erase_all": "erase --all", "history": "history",
    "restore": "restore", "restore_all": "restore --all",
    "put": "put", "namespaces": "namespaces", "touch": "touch", "events": "events",
    "stats": "stats", "health": "stats", "verify": "verify", "repair": "repair",
    "reembed": "reembed", "compact": "compact", "sweep": "sweep", "explain": "explain",
}  # fmt: skip
"""What to type for a method."""
_OPTIONS = {
    "repair=True": "--repair",
    'on_error="skip"': "--on-error skip",
    'given="keep"': "--given keep",
    'given="embed"': "--given embed",
    "a timedelta or seconds, such as timedelta(hours=1) or 3600": "seconds or a duration, such as 3600 or 1h",
}

_NAMES = "|".join(sorted(COMMANDS, key=len, reverse=True))
_METHOD = re.compile(rf"(?:\b(?:Async)?[Mm]emory\.)?\b({_NAMES})(?!\(s\))\([^()]*\)")
_ALSO_A_METHOD = re.compile(r",? or (?:Async)?Memory\.\w+\([^()]*\)")
_SEVERAL = re.compile(r"add_many\(\) or add_stream\(\)")

_HARMLESS = frozenset("\n\t\u00ad\u200c\u200d\u200e\u200f")
"""What no program calls printable and texts of people have: ends of lines, and joiners and marks of several scripts."""
_UNKNOWN = frozenset(("Cn", "Co"))
"""Characters that are younger than this Python, or of somebody's own font: they do nothing."""


def printable(text: str) -> str:
    """Text without control characters, which could make a terminal do things."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in _HARMLESS or category(char) in _UNKNOWN else "\N{REPLACEMENT CHARACTER}"
        for char in text.replace("\r\n", "\n")
    )


def line(text: str) -> str:
    """Text as one line."""
    return " ".join(printable(text).split())


def in_the_shell(message: str) -> str:
    """A message of the library for somebody at a shell."""
    message = _ALSO_A_METHOD.sub("", message)
    message = _SEVERAL.sub("add_stream()", message)
    message = _METHOD.sub(lambda found: f"`agentmem {COMMANDS[found[1]]}`", message)
    for argument, option in _OPTIONS.items():
        message = message.replace(argument, option)
    return message


def error_text(exc: BaseException) -> str:
    """An error as one line."""
    if isinstance(exc, OSError) and isinstance(exc.filename, str) and exc.strerror:
        return line(f"{exc.filename}: {exc.strerror}")
    return line(in_the_shell(str(exc)))
