"""The pages of docs/adapters: what they show is run as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

_BLOCK = re.compile(r"(?P<mark><!-- test: skip.*? -->\s*)?^```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)


def examples(name: str) -> list[str]:
    """The blocks of a page that can be run."""
    page = (ROOT / "docs" / "adapters" / f"{name}.md").read_text(encoding="utf-8")
    return [found["code"] for found in _BLOCK.finditer(page) if not found["mark"]]


def run_page(name: str, folder: Path, **environment: str) -> str:
    """Run the one example of a page, of at most 40 lines, in an empty folder; what it prints."""
    [code] = examples(name)
    assert code.count("\n") <= 40
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])} | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
