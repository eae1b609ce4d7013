"""What is in ``deploy/``: without rights, with one place to write, and started as the command line takes it."""

from __future__ import annotations

import json
import re
import shlex
from configparser import ConfigParser

import yaml
from conftest import ROOT
from typer.testing import CliRunner

from agentmem.cli.app import app

DEPLOY = ROOT / "deploy"


def options_of(words: list[str]) -> set[str]:
    """The options of a command line, which all must exist."""
    help_ = CliRunner(env={"COLUMNS": "200"}).invoke(app, [words[0], "--help"]).stdout
    options = {word for word in words if word.startswith("--")}
    assert all(re.search(rf"{option}\b", help_) for option in options), options
    return options


def test_the_image_runs_without_rights_and_writes_in_one_place() -> None:
    lines = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text()).splitlines()
    told = [line.split(maxsplit=1) for line in lines if line and not line.startswith(("#", " "))]
    by_word = dict(told)
    assert [rest.split()[0] for word, rest in told if word == "FROM"] == ["python:3.12-slim-bookworm"] * 2
    uid, gid = by_word["USER"].split(":")
    assert int(uid) > 0 < int(gid)
    assert [rest for word, rest in told if word == "VOLUME"] == ["/data"]
    assert "/health/ready" in by_word["HEALTHCHECK"]
    assert json.loads(by_word["ENTRYPOINT"]) == ["agentmem"]
    assert options_of(json.loads(by_word["CMD"])) == {"--host"}
    sources = [part for word, rest in told if word == "COPY" and "--from" not in rest for part in rest.split()[:-1]]
    assert all((ROOT / source).exists() for source in sources)


def test_the_compose_file_takes_rights_away() -> None:
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["memory"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["volumes"] == ["memory:/data"]
    assert service["ports"][0].startswith("127.0.0.1:")
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).exists()
    options_of(service["command"])


def test_the_unit_takes_rights_away() -> None:
    unit = ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    unit.read(DEPLOY / "agentmem.service")
    service = unit["Service"]
    assert (service["DynamicUser"], service["ProtectSystem"], service["NoNewPrivileges"]) == ("yes", "strict", "yes")
    program, *words = shlex.split(service["ExecStart"])
    assert program.endswith("/agentmem")
    assert options_of(words) == {"--path", "--host", "--port"}
