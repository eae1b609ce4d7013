"""What is published: the package's names, its import time and cost, and the wheel in a clean environment."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

import agentmem

QUICKSTART = ROOT / "examples" / "quickstart.py"
HEAVY = (
    "lancedb",
    "pyarrow",
    "fastembed",
    "onnxruntime",
    "tokenizers",
    "libsql_experimental",
    "libsql",
    "rich",
    "typer",
)


def python(*arguments: str, executable: str | Path = sys.executable, cwd: Path, timeout: float = 60) -> str:
    done = subprocess.run(
        [str(executable), *arguments], cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_all_is_sorted_and_complete() -> None:
    constants_first = sorted(agentmem.__all__, key=lambda name: (not name.isupper(), name))
    assert agentmem.__all__ == constants_first
    public = {
        name for name, value in vars(agentmem).items() if not name.startswith("_") and not _is_submodule(name, value)
    }
    tools = {"TYPE_CHECKING", "import_module"}
    assert public - tools <= set(agentmem.__all__)
    others = set(agentmem.__all__) - public
    assert all(getattr(agentmem, name).__module__.startswith("agentmem.") for name in others)


def _is_submodule(name: str, value: object) -> bool:
    return getattr(value, "__name__", None) == f"agentmem.{name}"


def test_import_is_light_and_touches_no_disk(tmp_path: Path) -> None:
    code = f"import sys, agentmem; agentmem.Memory('store'); print([m for m in {HEAVY} if m in sys.modules])"
    assert python("-c", code, cwd=tmp_path) == "[]\n"
    assert not list(tmp_path.iterdir())


def test_import_is_quick(tmp_path: Path) -> None:
    code = "import time; t = time.process_time(); import agentmem; print(time.process_time() - t)"
    spent = (float(python("-c", code, cwd=tmp_path)) for _ in range(20))
    assert any(seconds < 0.15 for seconds in spent), "on a busy machine one of many has to be quick"


def test_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert version("agentmem-db") == agentmem.__version__


def test_no_file_of_the_repository_is_left_out_of_the_checks() -> None:
    for name in ("Makefile", ".ci/run", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"):
        assert (ROOT / name).exists(), name
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    python("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT), cwd=folder, timeout=300)
    [built] = folder.glob("agentmem_db-*.whl")
    return built


@pytest.mark.slow
def test_wheel_holds_what_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [metadata] = [name for name in names if name.endswith(".dist-info/METADATA")]
        text = archive.read(metadata).decode()
    assert "agentmem/py.typed" in names
    assert "agentmem/cli/conversation.jsonl" in names
    page = {Path(name).name for name in names if name.startswith("agentmem/server/page/")}
    assert page == {path.name for path in (ROOT / "agentmem" / "server" / "page").iterdir()}
    bundled = {Path(name).name for name in names if name.startswith("agentmem/embedding/bundled/")}
    assert {"model.onnx", "tokenizer.json", "config.json", "NOTICE", "LICENSE"} <= bundled
    licenses = {name.split(".dist-info/licenses/")[1] for name in names if ".dist-info/licenses/" in name}
    assert licenses == {"LICENSE", "agentmem/embedding/bundled/NOTICE"}
    assert "License-Expression: Apache-2.0" in text
    assert not [name for name in names if not name.startswith(("agentmem/", "agentmem_db-"))]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_wheel_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    interpreter = environment / "bin" / "python"
    python("-m", "pip", "install", "--quiet", str(wheel), executable=interpreter, cwd=tmp_path, timeout=800)

    where = python("-c", "import agentmem; print(agentmem.__file__)", executable=interpreter, cwd=tmp_path)
    assert where.startswith(str(environment))
    printed = python(str(QUICKSTART), executable=interpreter, cwd=tmp_path)
    assert "Ana is vegetarian and allergic to peanuts." in printed
    assert "because" in python("-m", "agentmem", "demo", executable=interpreter, cwd=tmp_path)
