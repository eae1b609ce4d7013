"""What LangChain's own tests cannot see of our vector store and retriever: other processes, odd texts, walls."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("langchain_core", reason="LangChain is not installed; pip install 'agentmem-db[langchain]'")

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from agentmem import AsyncMemory, InvalidInputError, Memory, Settings
from agentmem.adapters.langchain import AgentMemRetriever, AgentMemVectorStore

TEA = ["Green tea is picked in spring.", "Black tea oxidises.", "Coffee grows on hills.", "Tea, too, has caffeine."]


@pytest.fixture
def memory() -> Any:
    with Memory(":memory:") as opened:
        yield opened


def texts(documents: list[Document]) -> list[str]:
    return [document.page_content for document in documents]


def test_odd_texts_come_back_as_they_were(memory: Memory) -> None:
    store = AgentMemVectorStore(memory)
    odd = {"empty": "", "blank": " \n", "nul": "tea\x00with NUL", "half": "tea \ud800"}
    odd["large"] = "tea and more " * 400_000
    store.add_texts(list(odd.values()), [{"id": key, "n\x00": float("inf")} for key in odd], ids=list(odd))
    for document in store.get_by_ids(list(odd)):
        assert document.page_content == odd[str(document.id)]
        assert document.metadata == {"id": document.id, "n\x00": float("inf")}
    assert {document.id for document in store.similarity_search("tea", k=10)} == {"nul", "half", "large"}
    assert store.similarity_search("tea", k=0) == store.similarity_search(" \x00") == []


def test_an_id_again_replaces_and_one_twice_is_the_last(memory: Memory) -> None:
    store = AgentMemVectorStore(memory)
    assert store.add_texts(["one", "two", "three"], ids=["a", None, "a"])[0] == "a"
    assert texts(store.get_by_ids(["a"])) == ["three"]
    store.add_documents([Document(id="a", page_content="four", metadata={"x": 1})])
    [document] = store.get_by_ids(["a", "b"])
    assert document == Document(id="a", page_content="four", metadata={"x": 1})
    store.delete(["a"])
    store.add_texts(["five"], ids=["a"])
    assert texts(store.get_by_ids(["a"])) == ["five"]
    store.delete()
    assert store.similarity_search("five") == []


@pytest.mark.parametrize(("metadatas", "ids"), [([{}], None), (None, ["a"])])
def test_lists_that_do_not_fit_are_refused(memory: Memory, metadatas: Any, ids: Any) -> None:
    store = AgentMemVectorStore(memory)
    with pytest.raises(InvalidInputError, match="2 texts and 1"):
        store.add_texts(["one", "two"], metadatas, ids=ids)


def test_nobody_sees_the_documents_of_another(memory: Memory) -> None:
    stores = {
        "ana": AgentMemVectorStore(memory, user_id="ana"),
        "rui": AgentMemVectorStore(memory, user_id="rui"),
        "nobody": AgentMemVectorStore(memory),
        "other": AgentMemVectorStore(memory, user_id="ana", collection="other"),
    }
    for name, store in stores.items():
        store.add_texts([f"secret of {name}"], ids=["same"])
    for name, store in stores.items():
        for filter in (None, {"$user_id": {"$ne": "x"}}, {"$or": [{"a": None}, {"$user_id": "rui"}]}):
            assert texts(store.similarity_search("secret", k=9, filter=filter)) == [f"secret of {name}"]
        assert texts(store.get_by_ids(["same"])) == [f"secret of {name}"]
    stores["ana"].delete()
    assert [len(store.get_by_ids(["same"])) for store in stores.values()] == [0, 1, 1, 1]
    memory.add("Ana's memory of a secret", user_id="ana")
    assert len(memory.search("secret", user_id="ana")) == 1


def test_filters_are_about_metadata(memory: Memory) -> None:
    store = AgentMemVectorStore(memory)
    store.add_texts(TEA, [{"n": n, "of": {"kind": text.split()[0]}} for n, text in enumerate(TEA)])
    assert len(store.similarity_search("tea", k=9, filter={"n": {"$gte": 2}})) == 2
    assert texts(store.similarity_search("tea", filter={"$and": [{"of.kind": "Green"}, {"$not": {"n": 3}}]})) == TEA[:1]
    assert texts(store.max_marginal_relevance_search("tea", filter={"n": 1})) == TEA[1:2]


def test_relevance_agrees_with_what_langchain_computes() -> None:
    model = DeterministicFakeEmbedding(size=16)
    with AgentMemVectorStore(":memory:", embedding=model) as store:
        store.add_texts(TEA)
        query, vectors = model.embed_query("tea"), model.embed_documents(TEA)
        for share in (0.0, 0.3, 0.7, 1.0):
            order = maximal_marginal_relevance(np.array(query), vectors, lambda_mult=share, k=4)
            found = store.max_marginal_relevance_search("tea", k=4, lambda_mult=share)
            assert texts(found) == [TEA[at] for at in order]
            assert texts(store.max_marginal_relevance_search_by_vector(query, k=4, lambda_mult=share)) == texts(found)
        nearest = texts(store.similarity_search("tea"))
        assert texts(store.similarity_search_by_vector(query)) == nearest
        cosines = [float(np.dot(vector, query) / np.linalg.norm(vector)) for vector in vectors]
        assert nearest == [TEA[at] for at in sorted(range(len(TEA)), key=lambda at: -cosines[at])]
        assert all(0 <= score <= 1 for _, score in store.similarity_search_with_relevance_scores("tea"))


def test_one_store_serves_loops_and_threads(tmp_path: Path) -> None:
    store = AgentMemVectorStore(tmp_path)

    async def use(name: str) -> None:
        await asyncio.gather(*(store.aadd_texts([f"{name} {n}"], ids=[f"{name}-{n}"]) for n in range(20)))
        assert name in (await store.asimilarity_search(name, k=1))[0].page_content
        assert store.similarity_search(name, k=1)
        assert len(await store.amax_marginal_relevance_search(name, k=3)) == 3
        assert await store.adelete([f"{name}-0"])
        assert len(await store.aget_by_ids([f"{name}-0", f"{name}-1"])) == 1

    for name in ("alpha", "beta", "gamma"):
        asyncio.run(use(name))
    threads = [threading.Thread(target=asyncio.run, args=(use(name),)) for name in ("delta", "epsilon")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.similarity_search("alpha", k=500)) == 5 * 19
    store.close()


def test_a_store_that_is_dropped_gives_the_folder_back(tmp_path: Path) -> None:
    store = AgentMemVectorStore(tmp_path)
    store.add_texts(TEA)
    gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None
    with AgentMemVectorStore(tmp_path) as again:
        assert len(again.similarity_search("tea")) == 4


def child(code: str, folder: Path) -> subprocess.Popen[str]:
    begin = "from agentmem.adapters.langchain import AgentMemVectorStore as Store"
    code = f"{begin}\nstore = Store({str(folder)!r})\n{code}"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ)


def test_processes_race_and_are_killed_and_nothing_is_lost(tmp_path: Path) -> None:
    code = "for n in range(10**9):\n    store.add_texts([f'text {n}'], ids=[f'NAME-{n}'])\n    print(n, flush=True)"
    children = {name: child(code.replace("NAME", name), tmp_path) for name in "abc"}
    acknowledged = dict[str, int]()
    for name, process in children.items():
        assert process.stdout is not None
        acknowledged[name] = [int(process.stdout.readline()) for _ in range(15)][-1]
    for name, process in children.items():
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].split()
        acknowledged[name] = int(rest[-1]) if rest else acknowledged[name]
    with AgentMemVectorStore(tmp_path) as store:
        for name, last in acknowledged.items():
            assert len(store.get_by_ids([f"{name}-{n}" for n in range(last + 1)])) == last + 1


def test_a_retriever_finds_a_users_memories_and_nobody_elses(memory: Memory) -> None:
    memory.add("Ana drinks green tea.", user_id="ana", metadata={"topic": "tea"}, kind="habit")
    memory.add("Ana lives in Porto.", user_id="ana")
    memory.add("Rui drinks black tea.", user_id="rui")
    AgentMemVectorStore(memory, user_id="ana").add_texts(["Tea in a document."])
    retriever = AgentMemRetriever(memory=memory, user_id="ana")
    found = retriever.invoke("Who drinks tea?")
    assert texts(found) == ["Ana drinks green tea.", "Ana lives in Porto."]
    assert found[0].metadata["topic"] == "tea"
    assert found[0].metadata["agentmem"]["kind"] == "habit"
    assert texts(retriever.invoke("tea", k=1)) == texts(asyncio.run(retriever.ainvoke("tea", k=1))) == texts(found)[:1]
    narrow = AgentMemRetriever(memory=memory, user_id="ana", search_kwargs={"filters": {"topic": "tea"}})
    assert len(narrow.invoke("Porto")) == 1
    assert AgentMemRetriever(memory=memory).invoke("tea") == []
    with pytest.raises(ValueError, match="user_id"):
        AgentMemRetriever(memory=memory.scoped(user_id="ana"), user_id="rui").invoke("tea")


def test_a_client_has_its_model_and_stays_open() -> None:
    async def use() -> None:
        async with AsyncMemory(":memory:") as memory:
            with pytest.raises(InvalidInputError, match="leave them out"):
                AgentMemVectorStore(memory, embedding=DeterministicFakeEmbedding(size=4))
            with AgentMemVectorStore(memory) as store:
                await store.aadd_texts(["kept"])
            assert await memory.count(under=("langchain",)) == 1

    asyncio.run(use())
    with pytest.raises(InvalidInputError, match="write embedding="):
        AgentMemVectorStore(DeterministicFakeEmbedding(size=4))  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="memory must be"):
        AgentMemRetriever(memory="folder").invoke("x")


def test_from_texts_takes_a_model_and_a_place(tmp_path: Path) -> None:
    model = DeterministicFakeEmbedding(size=8)
    with AgentMemVectorStore.from_texts(TEA, model, ids=list("abcd"), memory=tmp_path) as store:
        assert texts(store.as_retriever(search_kwargs={"k": 2}).invoke(TEA[2]))[0] == TEA[2]
    with AgentMemVectorStore(tmp_path, embedding=model) as again:
        assert texts(again.get_by_ids(["b"])) == [TEA[1]]


def test_what_a_user_pastes_is_searched_by_its_beginning(memory: Memory) -> None:
    memory.add("Ana drinks green tea.", user_id="ana")
    retriever = AgentMemRetriever(memory=memory, user_id="ana")
    for query in ("Which tea does she drink? " + "x" * 200_000, "tea \ud800", "tea\x00"):
        assert (
            texts(retriever.invoke(query)) == texts(asyncio.run(retriever.ainvoke(query))) == ["Ana drinks green tea."]
        )
    assert retriever.invoke("") == retriever.invoke(" \n") == []
    with pytest.raises(InvalidInputError, match="query must be a str"):
        retriever.invoke(5)  # type: ignore[arg-type]


def test_metadata_may_be_none_and_a_filter_is_no_function(memory: Memory) -> None:
    store = AgentMemVectorStore(memory)
    store.add_texts(["tea", "coffee"], [None, {"a": 1}], ids=["t", "c"])  # type: ignore[list-item]
    assert [each.metadata for each in store.get_by_ids(["t", "c"])] == [{}, {"a": 1}]
    with pytest.raises(InvalidInputError, match=r"filter must be a mapping, such as \{'year': 2026\}, not function"):
        store.similarity_search("tea", filter=lambda document: True)


def test_documents_stay_whatever_layer_is_the_default() -> None:
    with Memory(":memory:", settings=Settings(default_layer="interact")) as memory:
        AgentMemVectorStore(memory).add_texts(["tea", ""])
        for document in memory.iterate(under=("langchain",)):
            assert (document.layer, memory.lifecycle.explain(document.id).due_at) == ("assets", None)
