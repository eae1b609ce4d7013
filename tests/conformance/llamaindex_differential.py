"""LlamaIndex's own chat store and vector store beside ours: the same random calls, and the same answers.

Run as ``llamaindex.toml`` says, or ``python tests/conformance/llamaindex_differential.py``, where llama-index-core is.
What may differ, and is not asked here or is made the same:

* ``delete_message`` takes the number of a row there, which no call tells, and a position of the conversation here;
* adding an empty list, which is an error of the database there;
* nodes of the same similarity, whose order is open;
* filters that raise ``TypeError`` there, for a value that cannot be compared: they match nothing here;
* filters on lists: ``==`` and ``in`` ask for an element here, for the whole list there; on a part of a text, ``any``,
  ``all`` and ``contains`` are the same;
* ``== None``, which matches what has no value here, and nothing there.
"""

from __future__ import annotations

import asyncio
import random
import sys
from typing import Any

import numpy as np
import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock, ThinkingBlock, ToolCallBlock
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.storage.chat_store.base_db import MessageStatus
from llama_index.core.storage.chat_store.sql import SQLAlchemyChatStore
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    FilterCondition,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from agentmem import Memory
from agentmem.adapters.llamaindex import AgentMemChatStore, AgentMemVectorStore

KEYS = ["monday", "", "Tuesday ", "a" * 2_000, "100 %", "ü\x00"]
STATUSES = [MessageStatus.ACTIVE, MessageStatus.ACTIVE, MessageStatus.ACTIVE, MessageStatus.ARCHIVED]
STEPS = 300


def message(rng: random.Random) -> ChatMessage:
    role = rng.choice(["user", "assistant", "system", "tool", "developer"])
    blocks = rng.choice(
        [
            [TextBlock(text=rng.choice(["hello", "", " \n", "a\x00b", "half \ud800", "long " * 20_000]))],
            [TextBlock(text="look"), ImageBlock(image=b"\x89PNG\r\n\x1a\n" + rng.randbytes(40))],
            [],
            [ThinkingBlock(content="hm"), ToolCallBlock(tool_call_id="c1", tool_name="f", tool_kwargs={"x": None})],
        ]
    )
    more = rng.choice([{}, {}, {"n": None, "deep": {"list": [1, 2.5, "x", None]}}, {"status": "archived", "key": "no"}])
    return ChatMessage(role=role, blocks=blocks, additional_kwargs=dict(more))


async def rows_of(theirs: SQLAlchemyChatStore, key: str) -> list[int]:
    """The numbers of the rows of a conversation, in its order: what ``delete_message`` takes there."""
    from sqlalchemy import select

    factory, table = await theirs._initialize()
    async with factory() as session:
        query = select(table.c.id).where(table.c.key == key).order_by(table.c.timestamp, table.c.id)
        return [row[0] for row in (await session.execute(query)).fetchall()]


async def both(rng: random.Random, theirs: SQLAlchemyChatStore, ours: AgentMemChatStore) -> tuple[str, Any, Any]:
    """One random call of both: its name, and what each answered."""
    key = rng.choice(KEYS)
    name = rng.choices(
        ["add_message", "add_messages", "set_messages", "get_messages", "count_messages", "delete_message",
         "delete_messages", "delete_oldest_messages", "archive_oldest_messages", "get_keys"],
        [30, 20, 4, 30, 10, 8, 2, 8, 10, 5],
    )[0]  # fmt: skip
    args: dict[str, Any] = {"key": key}
    their_args = args
    match name:
        case "add_message":
            args |= {"message": message(rng), "status": rng.choice(STATUSES)}
        case "add_messages" | "set_messages":
            some = [message(rng) for _ in range(rng.randint(name == "add_messages", 6))]
            args |= {"messages": some, "status": rng.choice(STATUSES)}
        case "get_messages":
            args |= {"status": rng.choice([*STATUSES, None]), "limit": rng.choice([None, None, -1, 0, 1, 3, 50])}
            args |= {"offset": rng.choice([None, 0, 1, 4])}
        case "count_messages" | "delete_messages":
            args |= {"status": rng.choice([*STATUSES, None])}
        case "delete_message":
            rows, position = await rows_of(theirs, key), rng.randint(-1, 12)
            their_args = {"key": key, "idx": rows[position] if 0 <= position < len(rows) else -1}
            args |= {"idx": position}
        case "get_keys":
            return name, sorted(await theirs.get_keys()), sorted(await ours.get_keys())
        case _:
            args |= {"n": rng.choice([0, 1, 2, 3, 5])}
    return name, await getattr(theirs, name)(**their_args), await getattr(ours, name)(**args)


@pytest.mark.parametrize("seed", range(3))
def test_chat_stores_answer_the_same(seed: int) -> None:
    rng, theirs = random.Random(seed), SQLAlchemyChatStore(table_name="pair")

    async def use(memory: Memory) -> int:
        ours, answered = AgentMemChatStore(memory), 0
        for step in range(STEPS):
            name, of_theirs, of_ours = await both(rng, theirs, ours)
            assert of_ours == of_theirs, f"step {step}: {name}"
            answered += bool(of_theirs)
        return answered

    with Memory(":memory:") as memory:
        assert asyncio.run(use(memory)) > STEPS / 4


def node(rng: random.Random, number: int, vector: np.ndarray) -> TextNode:
    values: dict[str, Any] = {
        "year": rng.randint(2020, 2026), "price": rng.random(), "topic": rng.choice(["tea", "Tea time", "cats", ""]),
        "done": rng.random() < 0.5, "tags": rng.sample(["a", "b", "c"], rng.randint(0, 3)), "none": None,
        "a.b": rng.choice(["x", "y"]),
    }  # fmt: skip
    chosen = {key: value for key, value in values.items() if rng.random() < 0.8}
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc-{number % 7}")} if number % 5 else {}
    return TextNode(
        id_=f"n{number}", text=f"text {number}", metadata=chosen, relationships=source, embedding=vector.tolist()
    )


def condition(rng: random.Random) -> MetadataFilter:
    year, topic = rng.randint(2020, 2026), rng.choice(["tea", "Tea", "cats"])
    key, operator, value = rng.choice([
        ("year", "==", year), ("year", "!=", year), ("year", ">", year), ("year", ">=", year), ("year", "<", year),
        ("year", "<=", year), ("year", "in", [year, 2021]), ("year", "nin", [year, 2021]), ("price", "<", 0.5),
        ("topic", "==", topic), ("topic", "!=", topic), ("topic", "in", [topic, "x"]), ("topic", "nin", [topic, "x"]),
        ("topic", "text_match", topic), ("topic", "text_match_insensitive", topic), ("topic", "contains", topic),
        ("topic", "any", [topic, "time"]), ("topic", "all", [topic, "time"]), ("tags", "contains", "a"),
        ("tags", "any", ["a", "b"]), ("tags", "all", ["a", "b"]), ("tags", "is_empty", None),
        ("none", "is_empty", None), ("topic", "is_empty", None), ("done", "==", 1), ("done", "!=", 1),
        ("done", "==", 0), ("a.b", "==", "x"), ("missing", "!=", 1), ("missing", "==", 1),
        ("ref_doc_id", "==", "doc-3"),
        ("doc_id", "in", ["doc-1", "None"]), ("tags", "any", []), ("tags", "all", []),
    ])  # fmt: skip
    return MetadataFilter(key=key, operator=operator, value=value)


def filters(rng: random.Random) -> MetadataFilters | None:
    if rng.random() < 0.3:
        return None
    several = [condition(rng) for _ in range(rng.randint(1, 3))]
    return MetadataFilters(filters=several, condition=rng.choice(list(FilterCondition)))


@pytest.mark.parametrize("seed", range(3))
def test_vector_stores_answer_the_same(seed: int) -> None:
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    theirs, found = SimpleVectorStore(), 0
    with Memory(":memory:") as memory:
        ours = AgentMemVectorStore(memory)
        dim = memory.stats().dim

        def vector() -> np.ndarray:
            return numbers.normal(size=dim) * numbers.uniform(0.1, 5)

        for step in range(STEPS):
            match rng.choices(["add", "delete", "delete_nodes", "query"], [12, 2, 2, 40])[0]:
                case "add":
                    nodes = [node(rng, rng.randrange(90), vector()) for _ in range(rng.randint(1, 8))]
                    assert ours.add(nodes) == theirs.add(nodes)
                case "delete":
                    document = f"doc-{rng.randrange(7)}"
                    ours.delete(document)
                    theirs.delete(document)
                case "delete_nodes":
                    ids = [f"n{rng.randrange(90)}" for _ in range(3)] if rng.random() < 0.8 else None
                    chosen = filters(rng) if ids else MetadataFilters(filters=[condition(rng), condition(rng)])
                    ours.delete_nodes(ids, chosen)
                    theirs.delete_nodes(ids, chosen)
                case _:
                    query = VectorStoreQuery(
                        query_embedding=vector().tolist(),
                        similarity_top_k=rng.choice([1, 3, 10, 50]),
                        filters=filters(rng),
                        node_ids=[f"n{rng.randrange(90)}" for _ in range(20)] if rng.random() < 0.2 else None,
                        mode=rng.choice([VectorStoreQueryMode.DEFAULT] * 3 + [VectorStoreQueryMode.MMR]),
                    )
                    of_theirs, of_ours = theirs.query(query), ours.query(query)
                    assert of_ours.ids == of_theirs.ids, f"step {step}: {query}"
                    assert np.allclose(of_ours.similarities, of_theirs.similarities, atol=1e-5), f"step {step}"
                    assert [each.node_id for each in of_ours.nodes or []] == of_ours.ids
                    found += len(of_ours.ids or [])
        assert sorted(each.node_id for each in ours.get_nodes()) == sorted(theirs.data.embedding_dict)
    assert found > STEPS


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q", "-s", "-c", "/dev/null", "--noconftest"]))
