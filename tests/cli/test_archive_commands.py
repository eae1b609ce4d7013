"""`agentmem archive`, `agentmem rehydrate` and `agentmem search --include-glacier`."""

from __future__ import annotations

from pathlib import Path

import pytest
from shell import Shell

from agentmem import Memory


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("AGENTMEM_MEMORY__GLACIER__URL", str(tmp_path / "ice"))
    made = Shell(tmp_path / "store")
    with Memory(made.folder) as memory:
        memory.add("plays the oboe", user_id="ida", id="oboe")
        memory.add("rehearses on Mondays", user_id="ida", id="monday")
    return made


def test_there_and_back(shell: Shell) -> None:
    assert shell.json("archive", "oboe", "--dry-run")["archived"] == 1
    assert shell.json("archive", "oboe")["archived"] == 1
    assert shell.texts("--user", "ida") == ["rehearses on Mondays"]
    assert (shell.json("get", "oboe")["content"], shell.json("get", "oboe")["archived"]) == ("plays the oboe", True)
    assert shell.json("archive", "--all", "--user", "ida", "--before", "2100-01-01")["archived"] == 1
    assert shell.json("tiers")["glacier"]["records"] == 2
    query = ("search", "oboe", "--user", "ida", "--table")
    assert "--include-glacier looks there" in shell(*query).output
    assert "plays the oboe" in shell(*query, "--include-glacier").output
    assert shell.json("rehydrate", "oboe", "monday") == {"rehydrated": 2}
    assert len(shell.texts("--user", "ida")) == 2
    assert "'nobody'" in shell.error("rehydrate", "nobody")
    assert "go with --all" in shell("archive", "oboe", "--kind", "fact").output
    assert shell.json("verify")["ok"] is True
