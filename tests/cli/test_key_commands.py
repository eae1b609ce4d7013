"""``agentmem key``: what a user of the command line does with keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentmem.cli.app import app
from agentmem.errors import InvalidKeyError
from agentmem.server.keys import KeyStore


def run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*words])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.output


def test_a_key_is_made_listed_rotated_and_revoked(tmp_path: Path) -> None:
    store = ("--path", str(tmp_path / "new" / "store"))
    made = json.loads(run("key", "create", "--user", "ana", "--scopes", "read, write", "--expires", "90d", *store))
    keys = KeyStore(tmp_path / "new" / "store")
    key = keys.check(made["token"])
    assert (key.user_id, key.scopes, key.expires_at is not None) == ("ana", {"read", "write"}, True)
    listed = run("key", "list", *store)
    assert made["id"] in listed
    assert made["token"] not in listed
    rotated = json.loads(run("key", "rotate", made["id"], "--overlap", "1h", *store))
    keys.check(made["token"])
    assert json.loads(run("key", "revoke", rotated["id"], *store))["revoked_at"]
    with pytest.raises(InvalidKeyError):
        keys.check(rotated["token"])
    acts = [act["act"] for act in json.loads(run("key", "audit", *store))]
    assert acts == ["key.create", "key.rotate", "key.revoke"]
    lines = run("key", "list", "--table", *store).splitlines()
    assert max(map(len, lines)) <= 80
    [line] = [line for line in lines if rotated["id"] in line]
    assert line.split()[1:4] == ["ana", "read", "revoked"]
    assert "key.revoke" in run("key", "audit", "--table", *store)
    keys.close()


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    store = ("--path", str(tmp_path))
    assert "there is no scope 'root'" in run("key", "create", "--scopes", "root", *store, code=1)
    assert "is for the whole store" in run("key", "create", "--scopes", "admin", "--user", "ana", *store, code=1)
    assert "neither a span" in run("key", "create", "--scopes", "read", "--expires", "soon", *store, code=2)
    assert "lies in the past" in run("key", "create", "--scopes", "read", "--expires", "2020-01-01", *store, code=1)
    assert "no key 'none'" in run("key", "revoke", "none", *store, code=1)
    assert "there is no store" in run("key", "list", "--path", str(tmp_path / "nowhere"), code=1)
    refused = run("serve", "--host", "0.0.0.0", *store, code=1)
    assert "make a key first" in refused
    assert "there is no file" in run("serve", "--tls-certificate", "x", "--tls-key", "y", *store, code=1)


def test_who_is_erased_has_no_key(tmp_path: Path) -> None:
    store = ("--path", str(tmp_path))
    run("add", "Ana was here", "--user", "ana", *store)
    run("key", "create", "--user", "ana", "--scopes", "read", *store)
    run("erase", "--all", "--user", "ana", "--yes", *store)
    assert json.loads(run("key", "list", *store)) == []
