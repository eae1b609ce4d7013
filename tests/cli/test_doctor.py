"""`agentmem doctor`, on stores that are well and on some that are not."""

from __future__ import annotations

import json
import os
from pathlib import Path

from shell import Shell

from agentmem import Memory


def test_a_store_that_is_well_and_others(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "store")
    found = shell.json("doctor")
    assert found["ok"]
    assert "there is no store" in found["found"][-1]["message"]

    shell.json("add", "Ana plays the cello.")
    found = {one["what"]: (one["state"], one["message"]) for one in shell.json("doctor", "--deep")["found"]}
    assert {name for name, (state, _) in found.items() if state == "ok"} == {
        "installation", "settings", "folder", "disk", "store", "background", "model", "verify",
    }  # fmt: skip
    assert found["backups"] == ("warning", "there are none; see docs/backup.md")
    assert found["store"][1] == "it opens; 1 memories"
    assert "what" in shell("doctor", "--table").stdout

    shell.json("key", "create", "--scopes", "read", "--expires", "3d")
    told = {one["what"]: (one["state"], one["message"]) for one in shell.json("doctor")["found"]}["keys"]
    assert (told[0], "a week" in told[1]) == ("warning", True)
    (shell.folder / "keys.db").write_bytes(b"no keys" * 1_000)
    told = {one["what"]: one["state"] for one in json.loads(shell("doctor").stdout)["found"]}
    assert told["keys"] == "failed"
    (shell.folder / "keys.db").unlink()

    os.chmod(shell.folder, 0o755)
    states = {one["what"]: one["state"] for one in shell.json("doctor")["found"]}
    assert states["folder"] == "warning"

    with Memory(shell.folder) as memory:
        memory.flush()
    (shell.folder / "agentmem.db").write_bytes(b"no database" * 1_000)
    result = shell("doctor")
    assert result.exit_code == 1
    assert '"failed"' in result.stdout
    assert "Traceback" not in result.output


def test_settings_that_are_wrong(tmp_path: Path) -> None:
    result = Shell(tmp_path / "store")("doctor", AGENTMEM_MEMORY__PERFORMANCE__BATCH_SIZE="many")
    assert result.exit_code == 1
    assert '"settings"' in result.stdout
