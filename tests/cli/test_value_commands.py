"""Values from a shell."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from shell import Shell

from agentmem import Memory


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "store")


def test_a_file_there_and_back(shell: Shell, tmp_path: Path) -> None:
    body = np.random.default_rng(0).bytes(1_000_000)
    (tmp_path / "in").write_bytes(body)
    made = shell.json("value", "put", "file", tmp_path / "in", "--user", "ida", "--metadata", '{"n": 5}')
    assert (made["kind"], made["size"], made["version"], made["user_id"]) == ("stream", 1_000_000, 1, "ida")
    assert shell("value", "get", "file", "--user", "ida", "--out", tmp_path / "out").exit_code == 0
    assert (tmp_path / "out").read_bytes() == body
    assert shell("value", "get", "file", "--user", "ida", "--start", "10", "--end", "20").stdout_bytes == body[10:20]
    assert "no value with the key 'file'" in shell.error("value", "get", "file")
    listed = shell.json("value", "list", "--user", "ida", "--filter", '{"n": {"$gt": 4}}')
    assert [info["key"] for info in listed] == ["file"]
    assert shell.json("value", "list", "x", "--user", "ida") == []


def test_texts_json_and_what_is_piped_in(shell: Shell) -> None:
    where = ("--namespace", "cache/today")
    shell.json("value", "put", "t", "--text", "häuser", *where)
    shell.json("value", "put", "j", "--data", '{"a": [1, 2]}', *where, "--ttl", "1h")
    shell.json("value", "put", "p", "-", *where, stdin=b"\x00\x01")
    assert shell("value", "get", "t", *where).stdout == "häuser"
    assert json.loads(shell("value", "get", "j", *where).stdout) == {"a": [1, 2]}
    assert shell("value", "get", "p", *where).stdout_bytes == b"\x00\x01"
    assert [info["key"] for info in shell.json("value", "list", *where)] == ["j", "p", "t"]
    assert [info["key"] for info in shell.json("value", "list", *where, "--after", "j", "-n", "1")] == ["p"]
    assert shell.json("value", "info", "j", *where)["expires_at"]
    assert "FILE, --text" in shell("value", "put", "t", *where).output
    assert "FILE, --text" in shell("value", "put", "t", "--text", "x", "--data", "1", *where).output


def test_versions(shell: Shell) -> None:
    for text in ("one", "two"):
        shell.json("value", "put", "k", "--text", text)
    assert "at version 2" in shell.error("value", "put", "k", "--text", "x", "--if-version", "1")
    assert [one["version"] for one in shell.json("value", "versions", "k")] == [1, 2]
    assert shell.json("value", "restore", "k", "1")["version"] == 3
    assert shell("value", "get", "k").stdout == "one"
    assert shell.json("value", "delete", "k") == {"deleted": 1}
    assert "no value" in shell.error("value", "delete", "k")
    assert "no value" in shell.error("value", "info", "k")
    assert shell.json("value", "erase", "k")["erased"] == 1
    assert "no value" in shell.error("value", "erase", "k")


def test_a_file_is_replaced_by_what_is_whole(shell: Shell, tmp_path: Path) -> None:
    body, out = np.random.default_rng(0).bytes(1_500_000), tmp_path / "out"
    with Memory(shell.folder) as memory:
        memory.values.put("k", iter([body]))
    assert shell("value", "get", "k", "--start", "-600000", "--end", "-5", "--out", out).exit_code == 0
    assert out.read_bytes() == body[-600_000:-5]
    chunk = max((path for path in (shell.folder / "values").rglob("*") if path.is_file()), key=str)
    chunk.write_bytes(b"damaged")
    assert "is not what was stored" in shell.error("value", "get", "k", "--out", out)
    assert out.read_bytes() == body[-600_000:-5]
    assert [path.name for path in tmp_path.iterdir()] == ["out", "store"]
    assert "'/none' cannot be read" in shell.error("value", "put", "k", "/none")


def test_arrays_are_written_as_npy(shell: Shell) -> None:
    with Memory(shell.folder) as memory:
        memory.values.put("a", np.arange(6).reshape(3, 2))
    found = np.load(io.BytesIO(shell("value", "get", "a", "--start", "1").stdout_bytes))
    assert found.tolist() == [[2, 3], [4, 5]]


def test_tiers(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTMEM_MEMORY__GLACIER__URL", str(tmp_path / "ice"))
    assert shell.json("value", "put", "old", "--text", "old", "--tier", "glacier")["tier"] == "glacier"
    shell.json("value", "put", "new", "--text", "new", "--tier", "warm", "--hold")
    assert [(info["key"], info["tier"]) for info in shell.json("value", "list")] == [
        ("new", "cold"),
        ("old", "glacier"),
    ]
    assert [(one["tier"], one["values"]) for one in shell.json("value", "tiers")] == [("cold", 1), ("glacier", 1)]
    assert shell("value", "get", "old").stdout == "old"
    assert shell.json("value", "move", "old", "cold")["tier"] == "cold"
    assert shell.json("value", "move", "new", "glacier")["tier"] == "glacier"
    assert "ice" in shell("value", "move", "old", "ice").output
