"""The README and docs/*.md do what they say: their Python and shell blocks run, their generated parts are current.

Each block runs in an empty folder of its own. A block after the comment ``<!-- test: continues -->`` is run after the
block before it; ``<!-- test: skip, REASON -->`` leaves one out.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from runpy import run_path

import pytest
from conftest import ROOT

import agentmem
from agentmem import errors, ports, settings

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SECONDS = 60

_FENCE = re.compile(
    r"(?:<!-- test: (?P<mark>[^>]*?) -->\s*)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    code: str
    skipped: bool

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    blocks = list[Block]()
    for found in _FENCE.finditer(text):
        code, language, mark = found["code"], found["language"], found["mark"] or ""
        assert mark in ("", "continues") or mark.startswith("skip, "), f"{page.name}: unknown mark {mark!r}"
        if mark == "continues":
            before = [block for block in blocks if block.language == language]
            assert before, f"{page.name}: nothing to continue"
            code = before[-1].code + "\n" + code
        line = text.count("\n", 0, found.start("code")) + 1
        blocks.append(Block(page, line, language, code, mark.startswith("skip")))
    return blocks


BLOCKS = [block for page in PAGES for block in blocks_of(page) if not block.skipped]
PYTHON = [block for block in BLOCKS if block.language == "python"]
SHELL = [
    block
    for block in BLOCKS
    if block.language in ("sh", "bash", "console") and re.search(r"^(\$ )?agentmem ", block.code, re.MULTILINE)
]


ONE_BY_ONE = """
import json, os, sys
for name, code in json.load(sys.stdin):
    os.mkdir(name)
    os.chdir(name)
    print(name, file=sys.stderr)  # the last one before an error is whose it is
    exec(compile(code, name, "exec"), {"__name__": "__main__"})
    os.chdir("..")
"""
"""One interpreter for the blocks of a page: its imports and its model take longer than most of them."""


def run(command: list[str], folder: Path, stdin: str | None = None) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("AGENTMEM_PATH", None)
    done = subprocess.run(
        command, cwd=folder, env=environment, input=stdin, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", sorted({block.page for block in PYTHON}), ids=lambda page: page.name)
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    blocks = [(str(block), block.code) for block in PYTHON if block.page == page]
    run([sys.executable, "-W", "error", "-c", ONE_BY_ONE], tmp_path, json.dumps(blocks))


@pytest.mark.slow
@pytest.mark.parametrize("block", SHELL, ids=str)
def test_shell_block_runs(block: Block, tmp_path: Path) -> None:
    lines = [line.removeprefix("$ ") for line in block.code.splitlines() if line.startswith("$ ")]
    script = "\n".join(lines) if block.language == "console" else block.code
    run(["bash", "-euo", "pipefail", "-c", script], tmp_path)


def test_readme_begins_with_what_a_newcomer_needs() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    start = "\n".join(lines[:40])
    assert "make demo" in start
    assert "make test" in start
    assert lines.index("```python") < 24


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link, part in _LINK.findall(page.read_text(encoding="utf-8")):
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not part or part in anchors_of(target), f"{link}#{part}"


def anchors_of(page: Path) -> set[str]:
    """The fragments that GitHub gives the headings of a page."""
    headings = _HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_reference_has_every_public_name() -> None:
    headings = {
        heading.strip("`").rpartition(".")[2]
        for heading in _HEADING.findall((ROOT / "docs" / "reference.md").read_text(encoding="utf-8"))
    }
    sections = {name for name, value in vars(settings).items() if getattr(value, "__module__", "") == settings.__name__}
    public = {*agentmem.__all__, *errors.__all__, *ports.__all__, *sections, "open_embedder"}
    assert {name for name in public if not name.startswith("_")} <= headings


@pytest.mark.parametrize("name", ["cli.md", "design.md", "lifecycle.md", "operations.md", "reference.md"])
def test_generated_parts_are_current(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))  # as it is for `python docs/generate.py`
    page = ROOT / "docs" / name
    text = page.read_text(encoding="utf-8")
    regenerated = run_path(str(ROOT / "docs" / "generate.py"))["regenerated"]
    current = text.split() == regenerated(text).split()
    assert current, f"{name} is out of date; run: make docs"
    assert "<!-- generated: " in text
