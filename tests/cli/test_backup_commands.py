"""`agentmem backup`: create, list, verify, restore."""

from __future__ import annotations

from pathlib import Path

import pytest
from shell import Shell

from agentmem import Memory


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("AGENTMEM_MEMORY__BACKUP__URL", str(tmp_path / "backups"))
    made = Shell(tmp_path / "store")
    with Memory(made.folder) as memory:
        memory.add("plays the oboe", user_id="ida")
    return made


def test_there_and_back(shell: Shell, tmp_path: Path) -> None:
    made = shell.json("backup", "create", "--description", "the first")
    assert (made["records"], made["description"]) == (1, "the first")
    assert shell.json("backup", "list") == [made]
    assert "the first" in shell("backup", "list", "--table").stdout
    assert shell.json("backup", "verify")["ok"] is True
    assert shell.json("backup", "verify", made["id"])["counts"]["records"] == 1


def test_restore(shell: Shell, tmp_path: Path) -> None:
    first = shell.json("backup", "create")["id"]
    with Memory(shell.folder) as memory:
        memory.add("rehearses on Mondays", user_id="ida")
    shell.json("backup", "create")
    for folder, arguments, records in (("new", [], 2), ("old", [first], 1)):
        report = shell.json("backup", "restore", tmp_path / folder, *arguments)
        assert (report["path"], report["records"]) == (str(tmp_path / folder), records)
        assert Shell(tmp_path / folder).texts("--user", "ida") == ["plays the oboe", "rehearses on Mondays"][:records]
    assert "another folder" in shell.error("backup", "restore", tmp_path / "new")
    assert "there is no backup 'x'" in shell.error("backup", "restore", tmp_path / "third", "x")
    elsewhere = str(tmp_path / "elsewhere")
    assert "there are no backups" in shell.error("backup", "restore", tmp_path / "third", "--url", elsewhere)


def test_damage_is_an_exit_code(shell: Shell, tmp_path: Path) -> None:
    shell.json("backup", "create")
    [pack] = (tmp_path / "backups").rglob("packs/*")
    pack.write_bytes(pack.read_bytes()[:-1])
    result = shell("backup", "verify")
    assert (result.exit_code, "damaged" in result.stdout or "cut short" in result.stdout) == (1, True)


def test_without_a_place(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AGENTMEM_MEMORY__BACKUP__URL")
    for words in (["create"], ["list"], ["verify"], ["restore", tmp_path / "new"]):
        assert "set backup.url" in shell.error("backup", *words)
