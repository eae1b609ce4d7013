"""Writes the parts of the documentation that are derived from the code: ``make docs``.

A part lies between ``<!-- generated: NAME -->`` and ``<!-- end -->``; a test compares it with what this makes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import reference
from pydantic import BaseModel
from typer.main import get_command
from typer.testing import CliRunner

from agentmem import Settings
from agentmem.cli.app import app
from agentmem.lifecycle import promotion_score
from agentmem.retrieval import scoring
from agentmem.server import openapi

DOCS = Path(__file__).parent
_PART = re.compile(r"(<!-- generated: (?P<name>\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def settings() -> str:
    """A table of the settings: key, default, and the docstring below the field."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for prefix, section in _sections(Settings):
        described = reference.fields(section)
        for name, field in section.model_fields.items():
            if not isinstance(field.default, BaseModel):
                default = str(field.default) if isinstance(field.default, str) else f"{field.default!r}"
                meaning = " ".join(described[name].doc.split()).replace("``", "`")
                lines.append(f"| `{prefix}{name}` | `{default}` | {meaning} |")
    return "\n".join(lines) + "\n"


def _sections(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    yield prefix, section
    for name, field in section.model_fields.items():
        if isinstance(field.default, BaseModel):
            yield from _sections(type(field.default), f"{prefix}{name}.")


def help_texts() -> str:
    """What ``--help`` prints, for the program and for each command, in the order of the help."""
    sections = list[str]()
    for words in ([], *_commands(get_command(app))):
        result = CliRunner(env={"COLUMNS": "90"}).invoke(app, [*words, "--help"], prog_name="agentmem")
        assert result.exit_code == 0, result.output
        title = " ".join(["## agentmem", *words])
        sections.append(f"{title}\n\n```text\n{result.stdout.rstrip()}\n```\n")
    return "\n".join(sections)


def _commands(command: Any, *words: str) -> Iterator[list[str]]:
    """The words that call each command below this one that is not a group."""
    for name, inner in getattr(command, "commands", {}).items():
        if hasattr(inner, "commands"):
            yield from _commands(inner, *words, name)
        else:
            yield [*words, name]


def formulas() -> str:
    """The docstring of the scoring function's module, and the constants that it names."""
    names = (
        "K1", "B", "DATE_WEIGHT", "ASKING", "UNASKED", "BONUS", "RECENCY_SHARE", "IMPORTANCE_SHARE", "RATING_SHARE",
    )  # fmt: skip
    constants = "\n".join(f"{name} = {getattr(scoring, name)}" for name in names)
    return f"```text\n{inspect.cleandoc(scoring.__doc__ or '')}\n\n{constants}\n```\n"


def promotion() -> str:
    """The docstring of the module that scores records for promotion."""
    return f"```text\n{inspect.cleandoc(promotion_score.__doc__ or '')}\n```\n"


def endpoints() -> str:
    """A table of the server's endpoints: method and path, the scope that a key needs, and what it does."""
    lines = ["| | scope | |", "|---|---|---|"]
    for endpoint in openapi.described():
        meaning = inspect.cleandoc(endpoint.run.__doc__ or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")
        scope = endpoint.scope or "none"
        lines.append(f"| `{endpoint.method} {endpoint.path}` | {scope} | {meaning} |")
    return "\n".join(lines) + "\n"


PARTS: dict[str, Callable[[], str]] = {
    "endpoints": endpoints,
    "settings": settings,
    "help": help_texts,
    "scoring": formulas,
    "promotion": promotion,
}


def regenerated(text: str) -> str:
    """A document with its generated parts made anew."""
    return _PART.sub(lambda part: part[1] + _made(part["name"]) + part[3], text)


def _made(name: str) -> str:
    return PARTS[name]() if name in PARTS else reference.parts()[name]


def main() -> None:
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if (new := regenerated(text)) != text:
            page.write_text(new, encoding="utf-8")
    (DOCS / "openapi.json").write_text(openapi.text(), encoding="utf-8")


if __name__ == "__main__":
    main()
