"""``agentmem session``, ``block`` and ``prompt``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentmem.cli.app import app


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def shell(path: str, *words: str, code: int = 0) -> Any:
    done = CliRunner().invoke(app, [*words, "--path", path, "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code == 0 else done.output


def test_sessions(path: str) -> None:
    ana = ("--user", "ana")
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}
    shell(path, "session", "append", "trip", "Will it rain?", *ana)
    shell(path, "session", "append", "trip", "--message", json.dumps(call), *ana)
    shell(
        path,
        "session",
        "append",
        "trip",
        "--message",
        '{"role": "tool", "tool_call_id": "c", "content": "Rain."}',
        *ana,
    )
    shown = shell(path, "session", "show", "trip", *ana)
    assert [turn["message"]["role"] for turn in shown] == ["user", "assistant", "tool"]
    assert shown[1]["message"] == call
    assert [one["run_id"] for one in shell(path, "session", "list", *ana)] == ["trip"]
    assert shell(path, "session", "list") == []
    assert shell(path, "session", "rename", "trip", "Faro", *ana)["title"] == "Faro"
    assert shell(path, "session", "summarize", "trip", "--keep", "0", *ana)["covered"] == 3
    assert shell(path, "session", "info", "trip", *ana)["turns"] == 3
    assert len(shell(path, "session", "pop", "trip", "--exchange", *ana)) == 3
    assert shell(path, "session", "close", "trip", *ana)["closed_at"]
    assert "was closed" in shell(path, "session", "append", "trip", "x", *ana, code=1)
    assert shell(path, "session", "close", "trip", "--reopen", *ana)["closed_at"] is None
    assert shell(path, "session", "delete", "trip", *ana) == {"deleted": True}
    assert "there is no session" in shell(path, "session", "info", "trip", *ana, code=1)
    shell(path, "session", "append", "trip", *ana, code=2)


def test_blocks_and_prompts(path: str) -> None:
    ana = ("--user", "ana")
    assert shell(path, "block", "write", "human", "Likes tea.", *ana)["version"] == 1
    assert (
        shell(path, "block", "write", "human", "Lives in Faro.", "--append", "--reason", "said", *ana)["version"] == 2
    )
    assert shell(path, "block", "replace", "human", "tea", "coffee", *ana)["value"] == "Likes coffee.\nLives in Faro."
    assert [each["reason"] for each in shell(path, "block", "history", "human", *ana)] == [None, "said", None]
    assert shell(path, "block", "restore", "human", "1", *ana)["value"] == "Likes tea."
    assert "at version 4" in shell(path, "block", "write", "human", "x", "--if-version", "2", *ana, code=1)
    assert [one["label"] for one in shell(path, "block", "list", *ana)] == ["human"]
    shell(path, "session", "append", "trip", "Hello!", *ana)
    made = shell(path, "prompt", "trip", "--max-tokens", "300", "--instructions", "Be brief.", *ana)
    assert [message["role"] for message in made["messages"]] == ["system", "user"]
    assert "Likes tea." in made["messages"][0]["content"]
    assert made["manifest"]["tokens"] <= 300
    assert shell(path, "block", "delete", "human", *ana) == {"deleted": True}


def test_tables(path: str) -> None:
    shell(path, "session", "append", "trip", "Hello!")
    shell(path, "block", "write", "human", "Likes tea.")
    for words in (["session", "list"], ["session", "show", "trip"], ["session", "info", "trip"], ["block", "list"]):
        done = CliRunner().invoke(app, [*words, "--path", path, "--table"])
        assert done.exit_code == 0
        assert "trip" in done.stdout or "tea" in done.stdout or "Hello" in done.stdout
