"""Steps of a command that are processes of their own, so that memory and time of each are its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def step(module: str, name: str, folder: Path, **more: Any) -> dict[str, Any]:
    """Run a step of ``stress.MODULE``, which calls ``serve``; what it found."""
    task = json.dumps({"step": name, "folder": str(folder), **more})
    done = subprocess.run(
        [sys.executable, "-m", f"stress.{module}", task], cwd=Path(__file__).parents[1], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr[-2_000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def serve(steps: Mapping[str, Callable[..., dict[str, Any]]]) -> None:
    """Do the step that the command line names, and print what it found."""
    task = json.loads(sys.argv[1])
    print(json.dumps(steps[task.pop("step")](Path(task.pop("folder")), **task)))
