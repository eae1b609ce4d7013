"""The pages of the adapters do what they say, where the framework is installed; their links lead somewhere anywhere."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest

from agentmem import MissingExtraError

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "adapters").glob("*.md"))
ADAPTERS = [page for page in PAGES if page.stem != "README"]
PLANS = sorted((ROOT / "tests" / "conformance").glob("*.toml"))
LONGEST = 40


def examples(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", ADAPTERS, ids=lambda page: page.stem)
def test_examples_are_short_and_run(page: Path, tmp_path: Path) -> None:
    assert examples(page)
    for code in examples(page):
        assert len(code.splitlines()) <= LONGEST
    try:
        with warnings.catch_warnings(action="ignore"):  # of the framework's own modules
            importlib.import_module(f"agentmem.adapters.{page.stem}")
    except MissingExtraError as exc:
        pytest.skip(str(exc))
    for at, code in enumerate(examples(page)):
        folder = tmp_path / str(at)
        folder.mkdir()
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
        if "No module named" in done.stderr:
            pytest.skip(done.stderr.splitlines()[-1])
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", ADAPTERS, ids=lambda page: page.stem)
def test_the_overview_names_every_adapter(page: Path) -> None:
    assert f"]({page.name})" in (ROOT / "docs" / "adapters" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.stem)
def test_what_is_run_of_a_framework_is_all_there(plan: Path) -> None:
    suites = tomllib.loads(plan.read_text(encoding="utf-8"))["suite"]
    assert plan.stem in {page.stem for page in ADAPTERS}
    for suite in suites:
        assert suite["expected"] > 0
        if "sdist" in suite:
            assert plan.with_name(f"{plan.stem}_shim.py").exists()
        else:
            assert all((ROOT / test).exists() for test in suite["tests"])
