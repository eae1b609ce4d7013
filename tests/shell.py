"""The command line in this process, on a store of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from agentmem.cli.app import app


class Shell:
    """Runs commands; ``folder`` is where the store is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: str | Path, stdin: str | bytes | None = None, **environment: str) -> Any:
        """A command's result."""
        given = [str(argument) for argument in arguments]
        return CliRunner(env={"AGENTMEM_PATH": str(self.folder), **environment}).invoke(app, given, input=stdin)

    def json(self, *arguments: str | Path, stdin: str | bytes | None = None) -> Any:
        """What a command printed, as JSON; it must have succeeded."""
        result = self(*arguments, stdin=stdin)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def error(self, *arguments: str | Path, stdin: str | bytes | None = None, code: int = 1) -> str:
        """The last line on standard error of a command that must fail."""
        result = self(*arguments, stdin=stdin)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result.stderr.splitlines()[-1]

    def texts(self, *arguments: str) -> list[str]:
        """The contents that ``list`` shows, oldest first."""
        return [record["content"] for record in self.json("list", "--order", "oldest", *arguments)]
