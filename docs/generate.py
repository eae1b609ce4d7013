"""Writes the parts of the documentation that are derived from the code: ``make docs``.

A part lies between ``<!-- generated: NAME -->`` and ``<!-- end -->``; a test compares it with what this makes.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner

from agentmem import Settings
from agentmem.cli.app import app
from agentmem.retrieval import scoring

DOCS = Path(__file__).parent
COMMANDS = ("", "add", "search", "get", "history", "stats", "reembed", "demo")
_PART = re.compile(r"(<!-- generated: (?P<name>\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def settings() -> str:
    """A table of the settings: name, default, and the docstring below the field."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    [cls] = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(cls, ast.ClassDef)
    described = {
        field.target.id: " ".join(doc.value.value.split())
        for field, doc in zip(cls.body, cls.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant) and isinstance(doc.value.value, str)
    }
    for name, field in Settings.model_fields.items():
        default = str(field.default) if isinstance(field.default, str) else repr(field.default)
        lines.append(f"| `{name}` | `{default}` | {described[name].replace('``', '`')} |")
    return "\n".join(lines) + "\n"


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
    names = ("VECTOR_WEIGHT", "KEYWORD_WEIGHT", "BONUS", "RECENCY_SHARE", "IMPORTANCE_SHARE", "RATING_SHARE", "K1", "B")
    constants = "\n".join(f"{name} = {getattr(scoring, name)}" for name in names)
    return f"```text\n{inspect.cleandoc(scoring.__doc__ or '')}\n\n{constants}\n```\n"


PARTS: dict[str, Callable[[], str]] = {"settings": settings, "help": help_texts, "scoring": formulas}


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
