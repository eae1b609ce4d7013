"""What a comparison with LlamaIndex's own stores cannot see of ours: conversations, processes, loops, walls."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_index.core", reason="LlamaIndex is not installed; pip install 'agentmem-db[llamaindex]'")

from llama_index.core import VectorStoreIndex
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata
from llama_index.core.memory import Memory as ShortTerm
from llama_index.core.schema import Document, ImageNode, Node, TextNode
from llama_index.core.storage.chat_store.base_db import MessageStatus
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters, VectorStoreQuery

from agentmem import AsyncMemory, InvalidInputError, Memory
from agentmem.adapters.llamaindex import AgentMemBlock, AgentMemChatStore, AgentMemVectorStore

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


class Stub(CustomLLM):
    """A model that answers with what it was shown."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=100_000)

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=f"I was shown: {prompt}")

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        raise NotImplementedError


@pytest.fixture
def memory() -> Any:
    with Memory(":memory:") as opened:
        yield opened


def words(text: str) -> list[str]:
    return text.split()


def contents(messages: list[ChatMessage]) -> list[str | None]:
    return [message.content for message in messages]


def said(text: str, role: str = "user") -> ChatMessage:
    return ChatMessage(role=role, content=text)


def short_term(memory: Any, session: str, limit: int = 10_000, user: str = "ana") -> ShortTerm:
    return ShortTerm.from_defaults(
        session_id=session,
        chat_store=AgentMemChatStore(memory, user_id=user),
        memory_blocks=[AgentMemBlock(memory, user_id=user)],
        token_limit=limit,
        token_flush_size=min(limit, 10),
        tokenizer_fn=words,
    )


def test_a_second_session_knows_what_the_first_said(tmp_path: Path) -> None:
    with Memory(tmp_path) as memory:
        engine = SimpleChatEngine.from_defaults(llm=Stub(), memory=short_term(memory, "monday", limit=30))
        engine.chat("My dog is called Bobby.")
        engine.chat("He was born in Lisbon.")
        engine.chat("Good night.")
        short = short_term(memory, "monday")
        assert contents(short.get_all(MessageStatus.ARCHIVED))[0] == "My dog is called Bobby."
        assert contents(short.get_all())[-2] == "Good night."
    with Memory(tmp_path) as memory:
        engine = SimpleChatEngine.from_defaults(llm=Stub(), memory=short_term(memory, "tuesday"))
        assert "Bobby" in str(engine.chat("What is my dog called?"))
        engine = SimpleChatEngine.from_defaults(llm=Stub(), memory=short_term(memory, "tuesday", user="rui"))
        assert "Bobby" not in str(engine.chat("What is my dog called?"))
        back = SimpleChatEngine.from_defaults(llm=Stub(), memory=short_term(memory, "monday"))
        assert contents(back.chat_history)[-2] == "Good night."


def test_a_block_takes_each_message_of_a_session_once(memory: Memory) -> None:
    async def use() -> None:
        block = AgentMemBlock(memory.aio, user_id="ana")
        messages = [
            said("I like green tea."),
            said("Noted: green tea.", "assistant"),
            said("search results", "tool"),
            said("Be kind.", "system"),
            ChatMessage(role="user", blocks=[ImageBlock(image=b"\x89PNG")]),
            said("tea\x00pot " + "x" * 300_000),
        ]
        for _ in range(2):
            twice = [message.model_copy(deep=True) for message in [*messages, *messages]]
            await block.aput(twice, session_id=" odd session ")
        await block.aput(messages, from_short_term_memory=True)
        assert memory.count(user_id="ana", run_id="%20odd%20session%20") == 3
        assert memory.count(user_id="ana") == 6
        assert {record.layer for record in memory.iterate(user_id="ana")} == {"assets"}
        assert "green tea" in await block.aget([said("What do I drink?")])
        assert await block.aget([]) == await block.aget([said("  ")]) == await block.aget(None) == ""
        narrow = AgentMemBlock(memory, user_id="ana", search_kwargs={"filters": {"no": "such"}})
        assert await narrow.aget([said("tea")]) == ""

    asyncio.run(use())


def test_messages_come_back_verbatim_and_pollute_nothing(memory: Memory) -> None:
    messages = [
        ChatMessage(role="assistant", blocks=[], additional_kwargs={"tool_calls": [{"id": "1", "x": None}]}),
        ChatMessage(role="user", blocks=[TextBlock(text="nul \x00 half \ud800"), ImageBlock(image=os.urandom(99))]),
        ChatMessage(role="tool", content="", additional_kwargs={"tool_call_id": "1"}),
        ChatMessage(role="user", content="tea " * 1_250_000),
    ]

    async def use() -> None:
        store = AgentMemChatStore(memory, user_id="ana")
        await store.add_messages("k", messages)
        assert await store.get_messages("k") == messages
        assert await AgentMemChatStore(memory, user_id="ana", name="other").get_keys() == []

    asyncio.run(use())
    assert memory.search("tea", user_id="ana") == []
    assert memory.context("tea", user_id="ana", max_tokens=100) == ""
    assert memory.count(user_id="ana") == 0
    assert memory.erase_all(user_id="ana").erased == 4


def test_nobody_reads_or_changes_what_is_anothers(memory: Memory) -> None:
    async def use() -> None:
        stores = {
            name: AgentMemChatStore(of, user_id=user, name=store)
            for name, of, user, store in [
                ("ana", memory, "ana", "default"),
                ("rui", memory, "rui", "default"),
                ("nobody", memory, None, "default"),
                ("other", memory, "ana", "other"),
                ("view", memory.scoped(user_id="eva"), None, "default"),
            ]
        }
        keys = ["same", "", "%", "a/b", "a%2Fb"]
        for name, store in stores.items():
            for key in keys:
                await store.add_message(key, said(f"{name} {key}"))
        for name, store in stores.items():
            assert sorted(await store.get_keys()) == sorted(keys)
            for key in keys:
                assert contents(await store.get_messages(key)) == [f"{name} {key}"]
        await stores["ana"].set_messages("same", [])
        await stores["ana"].delete_messages("")
        await stores["ana"].delete_oldest_messages("%", 9)
        await stores["ana"].archive_oldest_messages("a/b", 9)
        assert await stores["ana"].delete_message("a%2Fb", 0) is not None
        assert await stores["ana"].get_keys() == ["a/b"]
        for name in ("rui", "nobody", "other", "view"):
            assert [await stores[name].count_messages(key) for key in keys] == [1] * 5

    asyncio.run(use())


def test_a_conversation_is_replaced_as_a_whole(tmp_path: Path) -> None:
    async def use() -> None:
        with Memory(tmp_path) as memory:
            stores = [AgentMemChatStore(memory), AgentMemChatStore(memory)]
            await stores[0].add_messages("k", [said(f"old {n}") for n in range(1_200)])
            some = [[said(f"{name} {n}") for n in range(30)] for name in "abcdefgh"]
            await asyncio.gather(*(stores[at % 2].set_messages("k", each) for at, each in enumerate(some)))
            left = await stores[1].get_messages("k")
            assert left in some
            await stores[0].set_messages("k", [said(f"new {n}") for n in range(1_500)])
            assert contents(await stores[0].get_messages("k")) == [f"new {n}" for n in range(1_500)]

    asyncio.run(use())


def test_one_store_serves_loops_and_threads(tmp_path: Path) -> None:
    store = AgentMemChatStore(tmp_path)
    vectors, block = AgentMemVectorStore(store._client.memory), AgentMemBlock(store._client.memory)
    model = vectors.embed_model

    async def use(name: str) -> None:
        await asyncio.gather(*(store.add_message(name, said(f"{name} {n}")) for n in range(20)))
        assert sorted(contents(await store.get_messages(name))) == sorted(f"{name} {n}" for n in range(20))
        await block.aput([said(name)], session_id=name)
        assert name in await block.aget([said(name)])
        node = TextNode(id_=name, text=name, embedding=await model.aget_text_embedding(name))
        await vectors.async_add([node])
        assert vectors.query(VectorStoreQuery(query_str=name)).ids == [name]  # blocking, inside a loop
        found = await vectors.aquery(VectorStoreQuery(query_embedding=model.get_query_embedding(name)))
        assert found.ids == [name]
        short = short_term(store._client.memory, name)
        assert contents(short.get_all()) == []  # of another user

    for name in ("alpha", "beta", "gamma"):
        asyncio.run(use(name))
    threads = [threading.Thread(target=asyncio.run, args=(use(name),)) for name in ("delta", "epsilon")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asyncio.run(store.get_keys())) == len(vectors.get_nodes()) == 5
    store.close()
    assert len(asyncio.run(store.get_keys())) == 5  # opened again


def test_a_store_that_is_dropped_gives_the_folder_back(tmp_path: Path) -> None:
    store = AgentMemChatStore(tmp_path)
    asyncio.run(store.add_message("k", said("kept")))
    gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None
    assert asyncio.run(AgentMemChatStore(tmp_path).get_keys()) == ["k"]


def child(code: str, folder: Path) -> subprocess.Popen[str]:
    begin = (
        "import asyncio\n"
        "from llama_index.core.base.llms.types import ChatMessage\n"
        "from agentmem.adapters.llamaindex import AgentMemChatStore\n"
        f"store = AgentMemChatStore({str(folder)!r})\n"
    )
    return subprocess.Popen([sys.executable, "-c", begin + code], stdout=subprocess.PIPE, text=True, env=os.environ)


def test_processes_race_and_are_killed_and_nothing_is_lost(tmp_path: Path) -> None:
    code = (
        "async def use():\n"
        "    for n in range(10**9):\n"
        "        await store.add_messages('k', [ChatMessage(f'NAME-{n}-0'), ChatMessage(f'NAME-{n}-1')])\n"
        "        print(n, flush=True)\n"
        "asyncio.run(use())"
    )
    children = {name: child(code.replace("NAME", name), tmp_path) for name in "abc"}
    acknowledged = dict[str, int]()
    for name, process in children.items():
        assert process.stdout is not None
        acknowledged[name] = [int(process.stdout.readline()) for _ in range(10)][-1]
    for name, process in children.items():
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].split()
        acknowledged[name] = int(rest[-1]) if rest else acknowledged[name]
    store = AgentMemChatStore(tmp_path)
    texts = [str(text) for text in contents(asyncio.run(store.get_messages("k")))]
    for name, last in acknowledged.items():
        of_one = [text for text in texts if text.startswith(name)]
        assert of_one == [f"{name}-{n}-{part}" for n in range(len(of_one) // 2) for part in (0, 1)]
        assert len(of_one) >= 2 * (last + 1)
    pairs = list(zip(texts[::2], texts[1::2], strict=True))
    assert all(one[:-1] == other[:-1] for one, other in pairs)  # what was added together stays together
    store.close()


def test_messages_are_taken_by_one_process_each(tmp_path: Path) -> None:
    store = AgentMemChatStore(tmp_path)
    asyncio.run(store.add_messages("k", [said(str(n)) for n in range(60)]))
    store.close()
    code = (
        "async def use():\n"
        "    while found := await store.CALL('k', 3):\n"
        "        print(*(m.content for m in found), flush=True)\n"
        "asyncio.run(use())"
    )
    for call in ("archive_oldest_messages", "delete_oldest_messages"):
        children = [child(code.replace("CALL", call), tmp_path) for _ in range(3)]
        taken = [int(number) for process in children for number in process.communicate()[0].split()]
        assert sorted(taken) == list(range(60))
        assert asyncio.run(store.count_messages("k")) == 0
        asyncio.run(store.set_messages("k", asyncio.run(store.get_messages("k", MessageStatus.ARCHIVED))))
    assert asyncio.run(store.get_keys()) == []
    store.close()


def test_nodes_come_back_whole(memory: Memory) -> None:
    store = AgentMemVectorStore(memory, user_id="ana")
    nodes = [
        TextNode(id_="1", text="Green tea.", metadata={"n": 1, "of": {"x": [None]}}),
        TextNode(id_="2", text="", metadata={"ref_doc_id": "mine"}),
        TextNode(id_="3", text="tea \x00 \ud800 " + "x" * 300_000, start_char_idx=7),
        ImageNode(id_="4", text="A photo of tea.", image="AAAA"),
        Node(id_="5", text_resource={"text": "Black tea."}),
        Document(id_="6" * 900, text="Coffee."),
    ]
    store.add(nodes)
    assert store.get_nodes() == nodes
    assert [node.node_id for node in store.get_nodes(["4", "1", "no"])] == ["1", "4"]
    found = store.query(VectorStoreQuery(query_str="tea", similarity_top_k=9))
    assert sorted(map(str, found.ids or [])) == ["1", "3", "4", "5", "6" * 900]
    store.add([TextNode(id_="1", text="Iced coffee.", embedding=[0.0] * memory.stats().dim)])
    assert store.query(VectorStoreQuery(query_str="iced", mode="text_search")).ids == ["1"]
    assert "1" not in (store.query(VectorStoreQuery(query_str="iced", similarity_top_k=9)).ids or [])
    assert store.query(VectorStoreQuery(query_str="iced", mode="hybrid", similarity_top_k=1)).ids == ["1"]
    assert memory.search("tea", user_id="ana") == []


def test_nodes_lie_behind_walls(memory: Memory) -> None:
    stores = [
        AgentMemVectorStore(memory, user_id=user, collection=collection)
        for user, collection in [("ana", "a"), ("rui", "a"), (None, "a"), ("ana", "b")]
    ]
    for at, store in enumerate(stores):
        store.add([TextNode(id_="same", text=f"secret {at}", metadata={"$user_id": "ana"})])
    all_but = MetadataFilters(filters=[MetadataFilter(key="x", value="y", operator="!=")], condition="or")
    for at, store in enumerate(stores):
        [node] = store.query(VectorStoreQuery(query_str="secret", similarity_top_k=9, filters=all_but)).nodes or []
        assert node.get_content() == f"secret {at}"
    stores[0].clear()
    stores[0].delete_nodes(["same"])
    assert [len(store.get_nodes()) for store in stores] == [0, 1, 1, 1]


def test_an_index_stands_on_the_store_and_its_model(tmp_path: Path) -> None:
    with Memory(tmp_path) as memory:
        store = AgentMemVectorStore(memory, collection="handbook")
        index = VectorStoreIndex.from_vector_store(store, embed_model=store.embed_model)
        index.insert(Document(id_="h", text="Everybody has 30 days of holidays.", metadata={"year": 2026}))
        index.insert(Document(id_="t", text="Trains are booked by the office.", metadata={"year": 2025}))
    with Memory(tmp_path) as memory:
        store = AgentMemVectorStore(memory, collection="handbook")
        index = VectorStoreIndex.from_vector_store(store, embed_model=store.embed_model)
        [hit] = index.as_retriever(similarity_top_k=1).retrieve("How many holidays are there?")
        assert hit.node.ref_doc_id == "h"
        assert hit.node.metadata == {"year": 2026}
        recent = MetadataFilters(filters=[MetadataFilter(key="year", value=2025)])
        [hit] = index.as_retriever(similarity_top_k=3, filters=recent).retrieve("holidays")
        assert hit.node.ref_doc_id == "t"
        index.delete_ref_doc("h")
        assert [node.ref_doc_id for node in store.get_nodes()] == ["t"]
        with pytest.raises(InvalidInputError, match="embed_model"):
            store.add([TextNode(text="x", embedding=[1.0, 2.0])])
        with pytest.raises(InvalidInputError, match="embed_model"):
            store.query(VectorStoreQuery(query_embedding=[1.0, 2.0]))
        with pytest.raises(ValueError, match="Invalid query mode"):
            store.query(VectorStoreQuery(query_str="x", mode="svm"))
        blank = store.embed_model.get_text_embedding_batch(["tea", " \n"])
        assert any(blank[0])
        assert blank[1] == [0.0] * memory.stats().dim


def test_any_client_will_do() -> None:
    async def use() -> None:
        async with AsyncMemory(":memory:") as memory:
            store = AgentMemChatStore(memory)
            await store.add_message("k", said("kept"))
            store.close()
            assert (await deepcopy(store).get_messages("k"))[0].role == MessageRole.USER

    asyncio.run(use())
    with pytest.raises(InvalidInputError, match="a Memory, an AsyncMemory or a path"):
        AgentMemBlock(5)  # type: ignore[arg-type]
