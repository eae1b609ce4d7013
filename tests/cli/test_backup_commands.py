"""`agentmem backup`: create, list, verify, follow, restore."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

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
    for words in (["create"], ["list"], ["verify"], ["follow"], ["restore", tmp_path / "new"]):
        assert "set backup.url, AGENTMEM_MEMORY__BACKUP__URL=" in shell.error("backup", *words)


def test_snapshots_and_in_place(shell: Shell, tmp_path: Path) -> None:
    kept = shell.json("snapshot", "create", "before")
    assert [one["description"] for one in shell.json("snapshot", "list")] == ["before"]
    with Memory(shell.folder) as memory:
        memory.add("rehearses on Mondays", user_id="ida")
    assert shell.json("backup", "restore", "--in-place", "--dry-run")["restore_point"] is None
    undo = shell.json("snapshot", "restore", kept["id"])["restore_point"]
    assert shell.texts("--user", "ida") == ["plays the oboe"]
    shell.json("backup", "restore", "--in-place", "--id", undo)
    assert shell.texts("--user", "ida") == ["plays the oboe", "rehearses on Mondays"]
    shell.json("snapshot", "drop", kept["id"])
    assert kept["id"] not in [one["id"] for one in shell.json("snapshot", "list")]
    for words in (["--in-place", "--user", "ida"], [tmp_path / "new", "--in-place"], []):
        assert shell("backup", "restore", *words).exit_code == 2


def test_a_user_goes_elsewhere_and_comes_back(shell: Shell, tmp_path: Path) -> None:
    with Memory(shell.folder) as memory:
        memory.add("lives in Porto", user_id="leo")
    made = shell.json("backup", "export", tmp_path / "ida", "--user", "ida")
    assert (made["kind"], made["records"]) == ("export", 1)
    there = Shell(tmp_path / "there")
    assert there.json("backup", "import", tmp_path / "ida")["added"] == 1
    assert there.json("backup", "import", tmp_path / "ida")["present"] == 1
    assert there.texts("--all-users") == ["plays the oboe"]
    shell.json("backup", "create")
    with Memory(shell.folder) as memory:
        memory.delete_all(user_id="ida")
    assert shell.json("backup", "restore-user", "ida")["restored"] == 1
    assert shell.texts("--user", "ida") == ["plays the oboe"]
    assert "nothing is stored" in shell.error("backup", "export", tmp_path / "x", "--user", "nobody")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_changes_is_followed_until_it_is_stopped(shell: Shell, tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "agentmem", "backup", "follow", "--every", "0.2", "--path", str(shell.folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        with Memory(shell.folder) as memory:
            _until(lambda: [one.seq for one in memory.backup.list()] == [1])
            memory.add("rehearses on Mondays", user_id="ida")
            _until(lambda: memory.backup.list()[-1].seq == 2)
            memory.add("tunes it herself", user_id="ida")
            process.send_signal(number)
            out, err = process.communicate(timeout=30)
            assert memory.backup.list()[-1].seq == 3
    finally:
        process.kill()
    assert (process.returncode, json.loads(out)[0]["seq"]) == (0, 3)
    assert err.splitlines() == [f"agentmem: backing {shell.folder} up every 0.2 s, as long as it changes, until Ctrl-C"]
    shell.json("backup", "restore", tmp_path / "new")
    assert len(Shell(tmp_path / "new").texts("--user", "ida")) == 3


def test_a_store_that_is_gone_is_not_followed(shell: Shell, tmp_path: Path) -> None:
    def vanish() -> None:
        _until(lambda: (tmp_path / "backups").exists())
        shell.folder.rename(tmp_path / "elsewhere")

    thread = Thread(target=vanish)
    thread.start()
    assert "agentmem: " in shell.error("backup", "follow", "--every", "0.2")
    thread.join()


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
