"""Fixtures that many tests share: a store's folder, clients on it, a clock that is moved by hand, a small embedder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import typer.testing
from model_stub import model_stub

from agentmem import Memory

ROOT = Path(__file__).resolve().parent.parent
"""The repository."""
START = datetime(2025, 3, 1, 12, tzinfo=UTC)

hypothesis.settings.register_profile("short", derandomize=True, deadline=None, database=None, print_blob=True)
hypothesis.settings.register_profile("long", deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("AGENTMEM_HYPOTHESIS", "short"))

# Its runner makes all commands anew for each that is run, a tenth of a second.
typer.testing._get_command = cache(typer.testing._get_command)  # pyright: ignore[reportPrivateUsage]


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self, start: datetime = START) -> None:
        self.now = start

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class HashEmbedder:
    """An embedder without a model: the normalised sum of a fixed random vector per word; the same in every process."""

    name = "hashed-words-32"
    dim = 32

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([self.embed_query(text) for text in texts], np.float32).reshape(len(texts), self.dim)

    def embed_query(self, text: str) -> np.ndarray:
        words = re.findall(r"\w+", text.lower()) or [text]
        digests = (blake2b(word.encode(), digest_size=2 * self.dim).digest() for word in words)
        total = sum(np.frombuffer(digest, np.int16).astype(np.float64) for digest in digests)
        return (total / np.linalg.norm(total)).astype(np.float32)


@pytest.fixture(scope="session", autouse=True)
def no_real_model() -> Iterator[None]:
    """Where anthropic or openai is installed, its client finds a stub, in processes that are started here, too."""
    if not find_spec("anthropic") and not find_spec("openai"):
        yield
        return
    with model_stub() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server in this process, one for a whole file; each test has users of its own."""
    from served import Served

    from agentmem.server.limits import Limits

    found = Served(tmp_path_factory.mktemp("served"), limits=Limits(body_bytes=200_000, silence_s=5))
    found.call("GET", "/v1/memories", "boss")
    yield found
    found.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Makes servers in this process, with options of a test's own."""
    from served import Served

    with ExitStack() as stack:

        def serve_(**options: Any) -> Any:
            folder = tmp_path / f"served-{os.urandom(4).hex()}"
            folder.mkdir()
            made = Served(folder, **options)
            stack.callback(made.close)
            return made

        yield serve_


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def embedder() -> HashEmbedder:
    return HashEmbedder()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The folder of the test's store, not yet made."""
    return tmp_path / "store"


@pytest.fixture
def open_memory(store: Path, clock: FakeClock, embedder: HashEmbedder) -> Iterator[Callable[..., Memory]]:
    """Opens clients, by default on ``store`` with the fake clock and the small embedder, and closes them at the end."""
    with ExitStack() as stack:

        def open_(path: Path = store, **options: Any) -> Memory:
            return stack.enter_context(Memory(path, **{"clock": clock, "embedder": embedder, **options}))

        yield open_


@pytest.fixture
def memory(open_memory: Callable[..., Memory]) -> Memory:
    return open_memory()
