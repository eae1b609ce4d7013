"""One model in memory, however many embedders and stores use it."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from agentmem import Memory
from agentmem.embedding.fast import FastEmbedder
from agentmem.embedding.folder import BUNDLED
from agentmem.embedding.onnx import onnxruntime


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with the bundled model."""
    return Path(shutil.copytree(BUNDLED, tmp_path / "model"))


def test_embedders_of_one_model_share_it() -> None:
    first, second = FastEmbedder(), FastEmbedder()
    with ThreadPoolExecutor(4) as threads:
        vectors = list(threads.map(lambda one: one.embed_query("a lighthouse"), [first, second, first, second]))
    assert all(np.array_equal(vectors[0], vector) for vector in vectors)
    assert first._loaded() is second._loaded()


def test_what_differs_is_not_shared(copy: Path) -> None:
    plain, others = FastEmbedder(copy), [FastEmbedder(), FastEmbedder(copy, threads=2)]
    assert all(plain._loaded() is not other._loaded() for other in others)
    prefixed = FastEmbedder(copy, query_prefix="query: ")
    assert prefixed._loaded() is plain._loaded()
    assert not np.array_equal(prefixed.embed_query("tea"), plain.embed_query("tea"))


def test_the_same_folder_by_another_path_is_shared(copy: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(copy)
    assert FastEmbedder(link)._loaded() is not None
    first = FastEmbedder(copy)
    assert FastEmbedder(link)._loaded() is first._loaded()


def test_files_that_changed_are_loaded_anew(copy: Path) -> None:
    before = FastEmbedder(copy)
    old = before._loaded()
    config = copy / "config.json"
    config.write_text(config.read_text("utf-8") + "\n", "utf-8")
    after = FastEmbedder(copy)
    assert after._loaded() is not old
    assert before._loaded() is old


def test_a_model_that_nobody_uses_leaves_the_memory(copy: Path) -> None:
    first, second = FastEmbedder(copy), FastEmbedder(copy)
    model = weakref.ref(first._loaded())
    second.warm_up()
    del first
    gc.collect()
    assert model() is not None
    del second
    gc.collect()
    assert model() is None


def test_ten_stores_need_hardly_more_memory_than_one(tmp_path: Path) -> None:
    code = """
import sys, psutil
from agentmem import Memory
used, memories = [], []
for n in range(8):
    memories.append(Memory(f"{sys.argv[1]}/{n}"))
    memories[-1].add("a note", user_id="ana")
    assert memories[-1].search("note", user_id="ana")
    used.append(psutil.Process().memory_info().rss)
print((used[-1] - used[0]) // 2**20)
for memory in memories:
    memory.close()
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 80, "MB more for seven further stores"


def test_stores_come_and_go_without_the_model_being_loaded_again(tmp_path: Path) -> None:
    with Memory(tmp_path / "first") as first:
        first.warm_up()
        model = first.handle.engine().embedder.inner._loaded()
        for n in range(3):
            with Memory(tmp_path / str(n)) as memory:
                memory.add("a note")
                assert memory.handle.engine().embedder.inner._loaded() is model


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_loads_its_own(tmp_path: Path) -> None:
    code = """
import os
import numpy as np
from agentmem.embedding import open_embedder
embedder = open_embedder(cache_size=0)
before = embedder.embed_query("a harbour")
model = embedder._loaded()
child = os.fork()
if child == 0:
    same = np.allclose(embedder.embed_query("a harbour"), before) and embedder._loaded() is not model
    os._exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0
assert embedder._loaded() is model
"""
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, timeout=60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize(
    "use",
    [
        "from agentmem.embedding import open_embedder; open_embedder().embed_query('a harbour')",
        "from agentmem.indexes.int8 import Int8; Int8(8)",
        "from agentmem.embedding.catalogue import describe; describe('BAAI/bge-small-en-v1.5')",
    ],
)
def test_what_runs_models_is_silent_and_lets_a_child_end(use: str) -> None:
    code = f"""
import os, sys
{use}
assert "onnxruntime" in sys.modules and os.environ["ORT_DISABLE_TELEMETRY"] == "1"
child = os.fork()
if child == 0:
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    env = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    with subprocess.Popen(
        [sys.executable, "-c", code], env={**env, "PYTHONPATH": str(ROOT)}, start_new_session=True
    ) as process:
        try:
            assert process.wait(30) == 0
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_who_wants_to_be_heard_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    onnxruntime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"


def test_loading_is_done_once_however_many_wait_for_it(copy: Path) -> None:
    embedders, started = [FastEmbedder(copy) for _ in range(6)], threading.Barrier(6)

    def load(one: FastEmbedder) -> int:
        started.wait(20)
        return id(one._loaded())

    with ThreadPoolExecutor(6) as threads:
        assert len(set(threads.map(load, embedders))) == 1
