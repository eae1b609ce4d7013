"""Runs the frameworks' own tests against our adapters: ``python tests/conformance [NAME ...]``, all without a name.

Each framework has a file ``NAME.toml`` here, and ``NAME_shim.py``, a pytest plugin that puts our class in the place of
theirs before their tests import it. Nothing of theirs is kept in this repository: their tests come out of the sdists on
the package index. In the file stand

    requirements = ["framework==1.2.3"]    what the environment has besides this checkout

and for each part of their tests a table ``[[suite]]``:

    sdist = "framework==1.2.3"             where the tests are from; without it, they are files of this checkout,
                                           such as one that inherits test classes which the framework installs
    tests = ["tests/test_store.py"]        what is run; the folders that these lie in at the top are copied
    arguments = ["-o", "asyncio_mode=auto"]
    left_out = [["tests/test_store.py::test_x", "why"]]
    expected = 117                         how many have to pass

Environments, sdists and copied tests lie in the folder ``.conformance``; an environment is made anew when its
requirements, or those of this package, change. Exits with 1 if anything failed or fewer passed than were expected.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SECONDS = 1_800


@dataclass
class Result:
    name: str
    suite: str
    expected: int
    passed: int = 0
    failed: list[str] = field(default_factory=list[str])
    skipped: Counter[str] = field(default_factory=Counter[str])

    @property
    def holds(self) -> bool:
        return not self.failed and self.passed >= self.expected


def main() -> int:
    parser = argparse.ArgumentParser(description="The frameworks' own tests against agentmem's adapters.")
    known = sorted(path.stem for path in HERE.glob("*.toml"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"frameworks (default: all): {', '.join(known)}")
    parser.add_argument("--cache", type=Path, default=ROOT / ".conformance", help="folder (default: .conformance)")
    parser.add_argument("--if-installable", action="store_true", help="pass over what pip cannot get here, and say so")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(known):
        parser.error(f"no such framework here: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    cache = chosen.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    results = list[Result]()
    for name in chosen.names or known:
        try:
            results += run(name, cache)
        except subprocess.CalledProcessError as exc:
            if not chosen.if_installable:
                raise
            print(f"{name}: SKIPPED, for pip failed with {exc.returncode}: {' '.join(map(str, exc.cmd[1:]))}")
    show(results)
    return 0 if all(result.holds for result in results) else 1


def run(name: str, cache: Path) -> list[Result]:
    plan = tomllib.loads((HERE / f"{name}.toml").read_text(encoding="utf-8"))
    python = environment(cache / name / "venv", plan["requirements"])
    return [
        run_suite(name, suite, python, cache, cache / name / f"suite-{at}") for at, suite in enumerate(plan["suite"])
    ]


def environment(folder: Path, requirements: list[str]) -> Path:
    """The interpreter of an environment with these requirements and this checkout."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = repr([sys.version, requirements, project["dependencies"]])
    mark, digest = folder / "installed", hashlib.sha256(wanted.encode()).hexdigest()
    python = folder / "bin" / "python"
    if not mark.exists() or mark.read_text() != digest:
        print(f"== installing {', '.join(requirements)}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*command, "--editable", ROOT, *requirements], check=True)
        mark.write_text(digest)
    return python


def run_suite(name: str, suite: dict[str, Any], python: Path, cache: Path, folder: Path) -> Result:
    sdist, left_out = suite.get("sdist"), suite.get("left_out", [])
    result = Result(name, sdist or suite["tests"][0], suite["expected"])
    print(f"== {name}: {result.suite}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "pytest.ini").write_text("[pytest]\n")  # or this checkout's settings would be theirs
    if sdist:
        take_tests(sdist, suite["tests"], cache / "sdists", folder)
    for test in [] if sdist else suite["tests"]:
        (folder / test).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / test, folder / test)
    report = folder / "report.xml"
    command = [python, "-m", "pytest", "-q", f"--junitxml={report}", *suite.get("arguments", [])]
    command += [f"--deselect={test}" for test, _ in left_out]
    command += ["-p", "no:cacheprovider", f"--rootdir={folder}", *(["-p", f"{name}_shim"] if sdist else [])]
    paths = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    subprocess.run(
        [*command, *suite["tests"]],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        timeout=SECONDS,
        check=False,
    )
    read_report(report, result)
    for _, reason in left_out:
        result.skipped[f"left out: {reason}"] += 1
    return result


def take_tests(sdist: str, tests: list[str], sdists: Path, folder: Path) -> None:
    """Copy the folders with the tests out of an sdist."""
    place = sdists / sdist
    if not list(place.glob("*.tar.gz")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        options = ["--no-deps", "--no-binary", ":all:", "--dest", place]
        subprocess.run([*command, *options, sdist], check=True)
    [archive] = place.glob("*.tar.gz")
    wanted = {test.split("/")[0] for test in tests}
    with tarfile.open(archive) as held:
        for member in held.getmembers():
            _, _, inside = member.name.partition("/")
            if inside.split("/")[0] in wanted and member.isfile():
                member.name = inside
                held.extract(member, folder, filter="data")


def read_report(report: Path, result: Result) -> None:
    if not report.exists():
        result.failed.append("pytest did not run")
        return
    for case in ElementTree.parse(report).iter("testcase"):
        test = f"{case.get('classname')}::{case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            result.failed.append(test)
        elif (skip := case.find("skipped")) is not None:
            result.skipped[skip.get("message") or "no reason"] += 1
        else:
            result.passed += 1


def show(results: list[Result]) -> None:
    rows = [("framework", "tests of", "passed", "expected", "failed", "skipped")]
    for each in results:
        counts = (each.passed, each.expected, len(each.failed), sum(each.skipped.values()))
        rows.append((each.name, each.suite, *map(str, counts)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for each in results:
        for reason, times in each.skipped.items():
            print(f"{each.name}: skipped {times}: {reason}")
        for test in each.failed:
            print(f"{each.name}: FAILED {test}")


if __name__ == "__main__":
    sys.exit(main())
