"""A client that a generator makes of the description drives every endpoint; it gets an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from conftest import ROOT
from test_running import PROGRAM

from agentmem.server import openapi
from agentmem.server.keys import KeyStore

GENERATOR = "openapi-python-client==0.29.1"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_generated_client_drives_every_endpoint(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = str(environment / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", GENERATOR], check=True, timeout=500)
    generator = [str(environment / "bin" / "openapi-python-client"), "generate", "--meta", "none"]
    described = ["--path", str(ROOT / "docs" / "openapi.json"), "--output-path", str(tmp_path / "client")]
    told = subprocess.run([*generator, *described], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert "will not be generated" not in told.stdout

    keys = KeyStore(tmp_path / "store")
    token = keys.create(any_user=True, scopes=["read", "write", "erase", "admin"]).token
    keys.close()
    (tmp_path / "program.py").write_text(PROGRAM)
    places = {"AGENTMEM_MEMORY__BACKUP__URL": "backups", "AGENTMEM_MEMORY__GLACIER__URL": "glacier"}
    env = {
        **os.environ,
        **{name: str(tmp_path / place) for name, place in places.items()},
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
    }
    command = [sys.executable, str(tmp_path / "program.py"), json.dumps({"path": str(tmp_path / "store")})]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as server:
        assert server.stdout is not None
        url = server.stdout.readline().split(" at ")[1].split(",")[0]
        try:
            driver = [python, str(Path(__file__).with_name("generated.py")), url, token]
            env = {**os.environ, "PYTHONPATH": str(tmp_path)}
            done = subprocess.run(driver, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200)
        finally:
            server.terminate()
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(openapi.described())} operations\n"
