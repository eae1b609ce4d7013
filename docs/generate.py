"""Writes the parts of the documentation that are derived from the code: ``make docs``.

A part lies between ``<!-- generated: NAME -->`` and ``<!-- end -->``; a test compares it with what this makes.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import BaseModel
from typer.testing import CliRunner

from agentmem import Settings
from agentmem import settings as module
from agentmem.cli.app import app
from agentmem.lifecycle import scoring as promotion_scoring
from agentmem.retrieval import scoring

DOCS = Path(__file__).parent
COMMANDS = (
    "", "add", "search", "get", "history", "stats", "explain", "sweep", "config show", "config check", "verify",
    "repair", "compact", "reembed", "demo",
)  # fmt: skip
_PART = re.compile(r"(<!-- generated: (?P<name>\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def settings() -> str:
    """A table of the settings: key, default, and the docstring below the field, maybe that of a parent class."""
    described: dict[str, dict[str, str]] = {}
    for cls in ast.parse(inspect.getsource(module)).body:
        if isinstance(cls, ast.ClassDef):
            described[cls.name] = {
                field.target.id: " ".join(doc.value.value.split())
                for field, doc in zip(cls.body, cls.body[1:], strict=False)
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
                if isinstance(doc, ast.Expr)
                and isinstance(doc.value, ast.Constant)
                and isinstance(doc.value.value, str)
            }
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for prefix, section in _sections(Settings):
        for name, field in section.model_fields.items():
            if isinstance(field.default, BaseModel):
                continue
            default = str(field.default) if isinstance(field.default, str) else f"{field.default!r}"
            [meaning, *_] = [
                described[c.__name__][name] for c in section.__mro__ if name in described.get(c.__name__, {})
            ]
            lines.append(f"| `{prefix}{name}` | `{default}` | {meaning.replace('``', '`')} |")
    return "\n".join(lines) + "\n"


def _sections(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    yield prefix, section
    for name, field in section.model_fields.items():
        if isinstance(field.default, BaseModel):
            yield from _sections(type(field.default), f"{prefix}{name}.")


def help_texts() -> str:
    """What ``--help`` prints, for the program and for each command."""
    sections = list[str]()
    for command in COMMANDS:
        result = CliRunner(env={"COLUMNS": "90"}).invoke(app, [*command.split(), "--help"], prog_name="agentmem")
        assert result.exit_code == 0, result.output
        title = f"## agentmem {command}".rstrip()
        sections.append(f"{title}\n\n```text\n{result.stdout.rstrip()}\n```\n")
    return "\n".join(sections)


def formulas() -> str:
    """The docstring of the scoring function's module, and the constants that it names."""
    names = (
        "K1", "B", "DATE_WEIGHT", "ASKING", "UNASKED", "BONUS", "RECENCY_SHARE", "IMPORTANCE_SHARE", "RATING_SHARE",
    )  # fmt: skip
    constants = "\n".join(f"{name} = {getattr(scoring, name)}" for name in names)
    return f"```text\n{inspect.cleandoc(scoring.__doc__ or '')}\n\n{constants}\n```\n"


def promotion() -> str:
    """The docstring of the module that scores records for promotion."""
    return f"```text\n{inspect.cleandoc(promotion_scoring.__doc__ or '')}\n```\n"


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings,
    "help": help_texts,
    "scoring": formulas,
    "promotion": promotion,
}


def regenerated(text: str) -> str:
    """A document with its generated parts made anew."""
    return _PART.sub(lambda part: part[1] + PARTS[part["name"]]() + part[3], text)


def main() -> None:
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if (new := regenerated(text)) != text:
            page.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
