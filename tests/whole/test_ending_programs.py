"""A program whose main thread has ended, while others go on or something is still open."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, HashEmbedder

from agentmem import Memory, Settings

BEGIN = """
import os
import sys
import threading
from conftest import HashEmbedder
from agentmem import Memory, Settings

folder = sys.argv[1]
"""
GOES_ON = f"""{BEGIN}
settings = Settings(glacier={{"url": folder + "/ice"}}, backup={{"url": folder + "/backups"}})
memory = Memory(folder + "/store", settings=settings, embedder=HashEmbedder())
memory.add("before", user_id="ben")
large = os.urandom(9_000_000)


def go_on():
    threading.main_thread().join()
    record = memory.add("text", user_id="ana")
    memory.values.put("large", large, user_id="ana")
    memory.values.put("stream", iter([large[:4_000_000], large[4_000_000:]]), user_id="ana")
    assert memory.values.get("large", user_id="ana") == large
    with memory.values.open("stream", user_id="ana") as file:
        assert file.read() == large
    assert memory.tiers.archive(record.id).archived == 1
    assert memory.get(record.id).content == "text"
    memory.values.move("large", "glacier", user_id="ana")
    assert memory.values.get("large", user_id="ana") == large
    memory.backup.create()
    assert memory.backup.verify().ok
    memory.export(folder + "/export", user_id="ana")
    with Memory(folder + "/other", embedder=HashEmbedder()) as other:
        assert other.import_(folder + "/export").added == 1
    assert memory.verify().ok
    memory.close()
    print("done")


threading.Thread(target=go_on).start()
"""
LEFT_OPEN = f"""{BEGIN}
settings = Settings(backup={{"url": folder + "/backups", sys.argv[2]: float(sys.argv[3])}})
memory = Memory(folder + "/store", settings=settings, embedder=HashEmbedder())
memory.add("text", user_id="ana")
"""
SLOWLY = f"""
import time
from agentmem.backup import continuous

create = continuous.create


def slowly(*arguments, **options):
    time.sleep(2)
    return create(*arguments, **options)


continuous.create = slowly
{LEFT_OPEN}
"""


def run(code: str, *arguments: object) -> str:
    """What a program says, with what it warns of."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    ended = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


def test_threads_go_on_when_the_main_one_has_ended(tmp_path: Path) -> None:
    assert run(GOES_ON, tmp_path) == "done\n"


@pytest.mark.parametrize(
    ("code", "name", "value"), [(LEFT_OPEN, "on_close", 1), (LEFT_OPEN, "interval_s", 3_600), (SLOWLY, "on_close", 1)]
)
def test_what_was_left_open_is_backed_up_at_the_end(tmp_path: Path, code: str, name: str, value: int) -> None:
    assert run(code, tmp_path, name, value) == ""
    settings = Settings(backup={"url": str(tmp_path / "backups")})
    with Memory(tmp_path / "store", settings=settings, embedder=HashEmbedder()) as memory:
        assert [info.kind for info in memory.backup.list()] == ["full"]
        assert memory.backup.verify().ok
