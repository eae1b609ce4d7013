"""Models of callers that are not all of an ``Embedder``: functions, async ones, such whose dimension is known late."""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, HashEmbedder

from agentmem import AsyncMemory, EmbeddingError, InvalidInputError, Memory, ModelMismatchError, Settings
from agentmem.embedding import FunctionEmbedder, known_dim, open_embedder, windows_of
from agentmem.ports import RemoteEmbedder

HASHED = HashEmbedder()


def embed(texts: list[str]) -> Any:
    return HASHED.embed_documents(texts).tolist()


async def embed_later(texts: list[str]) -> Any:
    await asyncio.sleep(0)
    return embed(texts)


class Remote:
    """A service that tells its dimension with the first answer, and may be away."""

    name = "remote-32"

    def __init__(self, *, later: Callable[[Remote], int] | None = None) -> None:
        self.calls = list[list[str]]()
        self.away = False
        self._later = later
        self._dim: int | None = None

    @property
    def dim(self) -> int | None:
        return self._dim if self._later is None else self._later(self)

    async def embed_documents(self, texts: list[str]) -> Any:
        self.calls.append(texts)
        await asyncio.sleep(0)
        if self.away:
            raise ConnectionError("no route to the model")
        self._dim = 32
        return embed(texts)

    async def embed_query(self, text: str) -> Any:
        return (await self.embed_documents([f"query: {text}"]))[0]


class Late(HashEmbedder):
    """The same without a network."""

    name = "late-32"
    dim = None  # type: ignore[assignment]

    def embed_documents(self, texts: list[str]) -> np.ndarray:  # type: ignore[override]
        return np.array([self.embed_query(text) for text in texts], np.float32)

    def embed_query(self, text: str) -> np.ndarray:
        return HASHED.embed_query(text)


def use(memory: Memory) -> None:
    memory.add("Tea is in the blue tin.", user_id="ida")
    memory.add_many(["Bread is in the drawer.", "The key is under the mat."], user_id="ida")
    [hit] = memory.search("tea tin", user_id="ida", limit=1, mode="vector")
    assert hit.content == "Tea is in the blue tin."
    assert memory.update(hit.id, content="Tea is all gone.").version == 2
    assert memory.stats().dim == 32
    memory.flush()
    assert memory.verify().ok


# -- functions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [embed, embed_later], ids=["blocking", "async"])
def test_a_function_is_enough(store: Path, function: Any) -> None:
    for _ in range(2):
        with Memory(store, embedder=function) as memory:
            use(memory)
            assert memory.stats().model == f"{__name__}.{function.__name__}"


@pytest.mark.parametrize("cache", [0, 100])
def test_what_calls_may_be(store: Path, cache: int) -> None:
    class Client:
        async def embed(self, texts: list[str]) -> Any:
            return embed(texts)

    class Caller:
        name = "caller-1"

        async def __call__(self, texts: list[str]) -> Any:
            return embed(texts)

    def coroutine(texts: list[str]) -> Any:
        return embed_later(texts)

    partial: Any = functools.partial(embed_later)
    partial.name = "partial-1"
    short: Any = lambda texts: embed(texts)  # noqa: E731
    short.name = "short-1"
    for n, function in enumerate((Client().embed, Caller(), coroutine, partial, short)):
        with Memory(store / str(n), embedder=function, settings=Settings(embedding_cache_size=cache)) as memory:
            use(memory)


def test_async_clients_wait_for_async_models(store: Path) -> None:
    async def main() -> None:
        async with AsyncMemory(store, embedder=embed_later) as memory:
            await asyncio.gather(*(memory.add(f"fact {n}") for n in range(50)))
            hits = await asyncio.gather(*(memory.search(f"fact {n}", limit=1, mode="vector") for n in range(50)))
            assert [hit.content for [hit] in hits] == [f"fact {n}" for n in range(50)]

    asyncio.run(main())


def test_the_blocking_client_inside_a_running_loop(store: Path) -> None:
    async def cell() -> int:
        with Memory(store, embedder=embed_later) as memory:
            memory.add("from a notebook")
            return len(memory.search("notebook"))

    assert asyncio.run(cell()) == 1


def test_all_of_it_runs_on_one_loop(store: Path) -> None:
    loops, threads = set[int](), set[int]()

    async def noting(texts: list[str]) -> Any:
        loops.add(id(asyncio.get_running_loop()))
        threads.add(threading.get_ident())
        return embed(texts)

    with Memory(store, embedder=noting) as memory:
        workers = [threading.Thread(target=memory.add, args=(f"fact {n}",)) for n in range(10)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        memory.search("fact 3")
        assert memory.count() == 10
    assert len(loops) == len(threads) == 1


def test_a_query_may_have_a_function_of_its_own(store: Path) -> None:
    asked = list[str]()

    async def query(text: str) -> Any:
        asked.append(text)
        return HASHED.embed_query(text)

    model = FunctionEmbedder(embed_later, name="two-1", dim=32, query=query)
    assert (model.name, model.dim, known_dim(model)) == ("two-1", 32, 32)
    with Memory(store, embedder=model) as memory:
        use(memory)
    assert asked == ["tea tin"]


def test_functions_without_a_name_and_what_is_none(store: Path) -> None:
    for nameless in (lambda texts: embed(texts), functools.partial(embed), type("Caller", (), {"__call__": embed})()):
        with pytest.raises(InvalidInputError, match="has no name of its own") as caught:
            open_embedder(nameless)
        assert caught.value.field == "embedder"
    for name in ("", 7, b"x"):
        with pytest.raises(InvalidInputError, match=r"embedder\.name"):
            FunctionEmbedder(embed, name=name)  # type: ignore[arg-type]
    for dim in (0, -1, True, 2.0, "32"):
        with pytest.raises(InvalidInputError, match=r"embedder\.dim"):
            FunctionEmbedder(embed, name="x", dim=dim)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="embed must be a function, not str"):
        FunctionEmbedder("embed", name="x")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="query must be a function, not int"):
        FunctionEmbedder(embed, name="x", query=5)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="embed_documents takes a sequence"):
        FunctionEmbedder(embed, name="x").embed_documents("text")
    with pytest.raises(InvalidInputError, match="is the class Remote"):
        open_embedder(Remote)  # type: ignore[arg-type]


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [None, "text", [], [[]], [[0.0] * 32], [[1.0] * 31], [1.0] * 32, [[float("nan")] * 32], [["a"] * 32], [[1.0], [2]]],
    ids=repr,
)
@pytest.mark.parametrize("known", [True, False])
def test_a_useless_answer_is_an_embedding_error(store: Path, answer: Any, known: bool) -> None:
    spoiled = not known

    async def spoiling(texts: list[str]) -> Any:
        return answer if spoiled else embed(texts)

    with Memory(store, embedder=FunctionEmbedder(spoiling, name="x-1", dim=32 if known else None)) as memory:
        if known:
            memory.add("whole")
        spoiled = True
        usable_probe = not known and answer in ([[1.0] * 31],)
        with pytest.raises(EmbeddingError, match="x-1") if not usable_probe else _nothing():
            memory.add("spoiled")
        spoiled = False
        if not usable_probe:
            memory.add("fine again")
            assert memory.count() == 1 + known


class _nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_errors_of_async_models_reach_the_caller_with_their_cause(store: Path) -> None:
    model = Remote()
    with Memory(store, embedder=model) as memory:
        id = memory.add("whole").id
        model.away = True
        for call in (lambda: memory.add("lost"), lambda: memory.search("lost"), lambda: memory.update(id, content="x")):
            with pytest.raises(EmbeddingError, match="no route to the model") as caught:
                call()
            assert isinstance(caught.value.__cause__, ConnectionError)
        assert [hit.id for hit in memory.search("whole", mode="keyword")] == [id]
        model.away = False
        memory.add("back")
        assert memory.count() == 2


def test_a_cancelled_call_is_an_error_and_the_loop_goes_on(store: Path) -> None:
    cancel = False

    async def cancelling(texts: list[str]) -> Any:
        if cancel:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        return embed(texts)

    with Memory(store, embedder=cancelling) as memory:
        memory.add("before")
        cancel = True
        with pytest.raises(EmbeddingError, match="cancelled"):
            memory.search("anything")
        cancel = False
        memory.add("after")
        assert memory.count() == 2


def test_a_model_that_uses_its_own_store_is_told(store: Path) -> None:
    memories = list[Memory]()

    async def circular(texts: list[str]) -> Any:
        if memories and "again" in texts:
            memories[0].search("deeper")
        return embed(texts)

    with Memory(store, embedder=circular) as memory:
        memory.add("fact")
        memories.append(memory)
        with pytest.raises(EmbeddingError, match="from within itself"):
            memory.search("again")


# -- a dimension that is known late ------------------------------------------------------------------------------------


def unset(remote: Remote) -> int:
    if remote._dim is None:
        raise RuntimeError("embed something first")
    return remote._dim


@pytest.mark.parametrize(
    "make", [Late, Remote, lambda: Remote(later=unset), lambda: Remote(later=lambda r: r.missing)],  # type: ignore
    ids=["None", "property", "raises", "attribute"],
)  # fmt: skip
def test_it_is_learned_where_a_store_is_made(store: Path, make: Callable[[], Any]) -> None:
    with Memory(store, embedder=make()) as memory:
        use(memory)
    with Memory(store, embedder=make()) as memory, Memory(store, embedder=make()) as second:
        use(memory)
        use(second)


def test_a_store_that_has_vectors_knows_it(store: Path) -> None:
    with Memory(store, embedder=Remote()) as memory:
        memory.add("Tea is in the blue tin.")
    model = Remote()
    model.away = True
    with Memory(store, embedder=model) as memory, Memory(store, embedder=model, read_only=True) as reader:
        assert memory.stats().dim == 32
        assert memory.search("tea", mode="keyword")
        assert reader.count() == 1
        other = Remote()
        other.away = True
        with Memory(store, embedder=other) as second:
            assert second.count() == 1
        assert other.calls == [] == model.calls


def test_a_model_that_is_away_makes_no_store_and_can_come_back(store: Path) -> None:
    model = Remote()
    model.away = True
    with Memory(store, embedder=model) as memory:
        for _ in range(2):
            with pytest.raises(EmbeddingError, match=r"'remote-32' was to embed a first text.*no route"):
                memory.add("lost")
        model.away = False
        memory.add("kept")
        assert memory.count() == 1


def test_another_model_is_refused_without_asking_it(store: Path) -> None:
    with Memory(store, embedder=HASHED) as memory:
        memory.add("fact")
    model = Remote()
    with Memory(store, embedder=model) as memory, pytest.raises(ModelMismatchError, match="with 'remote-32';"):
        memory.count()
    assert model.calls == []
    with Memory(store, embedder=model) as memory:
        assert memory.reembed(model).to_model == "remote-32"
        use(memory)
    with Memory(store, embedder=Remote()) as memory:
        assert memory.count() == 1
        with pytest.raises(InvalidInputError, match="already uses"):
            memory.reembed(Remote())


def test_a_model_of_the_same_name_with_other_vectors(store: Path) -> None:
    with Memory(store, embedder=Late()) as memory:
        memory.add("fact")

    class Wider(Late):
        def embed_query(self, text: str) -> np.ndarray:
            return np.concatenate([HASHED.embed_query(text)] * 2)

    with Memory(store, embedder=Wider()) as memory:
        with pytest.raises(EmbeddingError, match=r"shape \(1, 64\) instead of \(1, 32\)"):
            memory.add("wider")
        assert memory.count() == 1


def test_what_open_embedder_makes_of_them() -> None:
    model = Remote()
    opened = open_embedder(model, cache_size=0)
    assert known_dim(opened) is None
    assert open_embedder(opened, cache_size=0) is opened
    assert model.calls == []
    assert opened.dim == 32
    assert len(model.calls) == 1
    assert known_dim(opened) == 32
    assert opened.dim == 32
    assert len(model.calls) == 1
    remote: RemoteEmbedder = model
    assert remote.dim == 32
    assert open_embedder(open_embedder(Remote())).name == "remote-32"


def test_windows_are_told_by_what_is_behind(store: Path) -> None:
    class Windowed(Late):
        window = 5

        def windows(self, texts: list[str]) -> list[int]:
            return [-(-len(text.split()) // 5) for text in texts]

    assert windows_of(open_embedder(Windowed()), ["a b c", "a b c d e f"]) == [1, 2]
    with Memory(store, embedder=Windowed(), settings=Settings(long_text="refuse")) as memory:
        memory.add("three words only")
        with pytest.raises(InvalidInputError, match="needs 2 windows"):
            memory.add("these are more than five words")


# -- processes ---------------------------------------------------------------------------------------------------------


def test_a_program_that_ends_leaves_no_warning_and_its_functions_keep_their_names(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import os, sys\n"
        "from agentmem import Memory\n"
        "from conftest import HashEmbedder\n"
        "async def embed(texts):\n"
        "    return HashEmbedder().embed_documents(texts)\n"
        "def main():\n"
        "    memory = Memory(sys.argv[1], embedder=embed)\n"
        "    memory.add('fact', dedupe=False)\n"
        "    memory.close()\n"
        "    if child := os.fork():\n"
        "        assert os.waitpid(child, 0)[1] == 0\n"
        "        return memory\n"
        "    with Memory(sys.argv[1], embedder=embed) as inside:\n"
        "        inside.add('of the child', dedupe=False)\n"
        "    os._exit(0)\n"
        "if __name__ == '__main__':\n"
        "    main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{tmp_path}"}
    for code in (["app.py"], ["-c", "import app; app.main()"]):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", *code, "store"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
    with Memory(tmp_path / "store", embedder=FunctionEmbedder(embed, name="app.embed")) as memory:
        assert memory.count() == 4
