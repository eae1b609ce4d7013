"""Schemathesis over the whole API, by the key of one user: no request breaks the server, and none shows what another
user has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from conftest import ROOT, HashEmbedder
from served import running

from agentmem import Memory
from agentmem.server.keys import KeyStore

SECRET = "the vault code is 4711"
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("who", ["mallory", "boss"])
def test_no_request_breaks_it_or_shows_what_is_anothers(tmp_path: Path, who: str) -> None:
    keys = KeyStore(tmp_path / "store")
    boss = keys.create(any_user=True, scopes=["read", "write", "erase", "admin"]).token
    mallory = keys.create(user_id="mallory", scopes=["read", "write", "erase"]).token
    keys.close()
    # As it is, but for the keys, which it would make up.
    described = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    described["components"].pop("securitySchemes")
    for operations in described["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    (tmp_path / "schema.json").write_text(json.dumps(described))
    # An administrator's key would end by its own doing, or others of its user's memories.
    # What follows events goes on for as long as it is asked to.
    endless = "/memories/events$|/events/stream$"
    own = ["--exclude-path-regex", endless if who == "mallory" else f"{endless}|restore$|/v1/keys/|/v1/users/"]
    with running(tmp_path) as url:
        victims = {"params": {"user_id": "victim"}, "headers": {"authorization": f"Bearer {boss}"}, "timeout": 60}
        made = httpx.post(f"{url}/v1/memories", json={"content": SECRET}, **victims)
        assert made.status_code == 201
        done = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli", "run", "schema.json", "--url", url,
                "--header", f"Authorization: Bearer {boss if who == 'boss' else mallory}",
                "--phases", "coverage,fuzzing", "--max-examples", "10", "--checks", CHECKS, "--workers", "1",
                "--request-timeout", "60", "--max-failures", "10", "--generation-database", "none",
                "--report", "vcr", "--report-vcr-path", "report.yaml", "--no-color", *own,
            ],
            cwd=tmp_path, capture_output=True, text=True, timeout=800, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6_000:]
        told = (tmp_path / "report.yaml").read_text(errors="replace")
        assert len(told) > 100_000
        if who == "mallory":
            assert SECRET not in told
        record = httpx.get(f"{url}/v1/memories/{made.json()['id']}", **victims)
        assert (record.json()["content"], record.json()["version"]) == (SECRET, 1)
    with Memory(tmp_path / "store", embedder=HashEmbedder()) as memory:
        assert memory.verify().ok
