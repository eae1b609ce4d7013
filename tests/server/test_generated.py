"""A client that a generator makes of the description drives every endpoint; it gets an environment of its own."""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path

import pytest
from conftest import ROOT
from served import running

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
    with running(tmp_path) as url:
        driver = [python, str(Path(__file__).with_name("generated.py")), url, token]
        env = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(driver, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(openapi.described())} operations\n"
