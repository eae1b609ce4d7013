"""What an adapter says of a framework that is not there, or is another version than it was tried with."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agentmem import MissingExtraError
from agentmem.adapters import versions


@pytest.mark.parametrize("found", ["1.9.9", "2", "2.0.0rc1", "10.0"])
def test_other_versions_are_refused_with_the_command(monkeypatch: pytest.MonkeyPatch, found: str) -> None:
    monkeypatch.setattr(versions, "version", lambda _: found)
    with pytest.raises(MissingExtraError, match=rf"thing {found} is installed.*1\.10.*below 2.*agentmem-db\[name\]"):
        versions.require("thing", at_least="1.10", below="2", extra="name")


@pytest.mark.parametrize("found", ["1.10", "1.10.0", "1.99.3", "1.10.1.dev3+local.7", "1.11rc2"])
def test_versions_between_are_taken(monkeypatch: pytest.MonkeyPatch, found: str) -> None:
    monkeypatch.setattr(versions, "version", lambda _: found)
    versions.require("thing", at_least="1.10", below="2", extra="name")


def test_a_missing_framework_is_an_import_error_with_the_command() -> None:
    with pytest.raises(ImportError, match=r"no-such-thing is not installed; pip install 'agentmem-db\[name\]'"):
        versions.require("no-such-thing", at_least="1", below="2", extra="name")


def test_agentmem_itself_imports_no_framework() -> None:
    code = "import sys, agentmem, agentmem.adapters; print([m for m in sys.modules if m.startswith(('lang', 'numpy'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
