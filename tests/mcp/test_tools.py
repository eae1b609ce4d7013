"""The tools of the set `memory`, as a model meets them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import HashEmbedder
from talking import Talk, talk

from agentmem import InvalidInputError, Memory
from agentmem.mcp.server import SETS, listed
from agentmem.mcp.tools import chosen

TURNS = (
    "Caroline went to the support group on 7 May 2023 and it was powerful.",
    "Melanie painted a lake at sunrise last year and it is special to her.",
    "Caroline is looking into counseling and mental health as a career.",
    "Melanie signed up for a pottery class yesterday; it is like therapy for her.",
    "Caroline moved from Sweden four years ago; her grandma gave her a necklace.",
    "Melanie's family goes camping at the beach each summer with the kids.",
    "Caroline is researching adoption agencies and wants to build a family.",
    "Melanie ran a charity race for mental health last Saturday.",
)


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    with Memory(tmp_path_factory.mktemp("mcp") / "store", embedder=HashEmbedder()) as memory:
        yield memory


def as_sent(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def test_the_list_of_tools_is_short() -> None:
    tools = [listed(tool).model_dump(mode="json", by_alias=True, exclude_none=True) for tool in SETS["memory"]]
    assert [tool["name"] for tool in tools] == ["remember", "recall", "context", "update", "forget", "history"]
    assert (
        len(as_sent(tools)) < 2_400
    )  # these are 502 tokens of GPT-4o's, 652 with blanks between them; 700 are too many


def test_eight_memories_are_short(memory: Memory) -> None:
    async def body(say: Talk) -> None:
        for turn in TURNS:
            await say("remember", content=turn)
        text, data = await say("recall", query="Caroline and Melanie"), await say.data("recall", query="Caroline")
        assert len(text.splitlines()) == len(data["memories"]) == 8
        assert len(text) < 1_100  # 357 tokens of GPT-4o's; 500 are too many
        assert len(as_sent(data)) < 1_300  # 419

    talk(memory, body, user="short")


def test_a_memory_from_its_first_word_to_its_end(memory: Memory) -> None:
    async def body(say: Talk) -> None:
        made = await say.data("remember", content="Ana plays the cello.", metadata={"topic": "music"})
        assert made["status"] == "added"
        assert await say("remember", content="Ana plays the cello.") == f"Known already, as {made['id']}."
        found = await say.data("recall", query="cello", filters={"topic": "music"})
        assert [one["id"] for one in found["memories"]] == [made["id"]]
        assert (await say("recall", query="cello")).startswith(f"[{made['id']}] 2")
        assert "Ana plays the cello." in await say("context", query="instrument")
        assert (await say.data("update", id=made["id"], content="Ana plays the harp."))["version"] == 2
        told = await say("history", id=made["id"])
        assert "UPDATE, before: Ana plays the cello." in told
        assert told.endswith("Now: Ana plays the harp.")
        assert await say("forget", id=made["id"]) == "Forgotten."
        assert await say("recall", query="cello") == "Nothing is known about that."
        assert (await say("history", id=made["id"])).endswith("It is forgotten.")

    talk(memory, body)


def test_metadata_as_the_text_of_an_object(memory: Memory) -> None:
    async def body(say: Talk) -> None:
        await say("remember", content="The boiler is from 1998.", metadata='{"room": "cellar"}')
        assert "1998" in await say("recall", query="boiler", filters='{"room": "cellar"}')

    talk(memory, body, user="text")


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        (
            "recall",
            {"query": "x", "user_id": "ben"},
            "recall has no argument 'user_id'; it takes query, limit, filters.",
        ),
        ("remember", {"content": "x", "user": "ben"}, "cannot be chosen here"),
        ("forget", {"id": "x", "namespace": ["a"]}, "forget has no argument 'namespace'"),
        ("recall", {}, "recall needs 'query'"),
        ("recall", {"query": "x", "limit": "many"}, "'limit': input should be a valid integer"),
        ("recall", {"query": "x", "limit": 1000}, "less than or equal to 50"),
        ("recall", {"query": "x", "filters": {"a": {"$bad": 1}}}, "unknown operator '$bad'"),
        ("recall", {"query": "x", "filters": "topic"}, "'filters': input should be a valid dictionary"),
        ("remember", {"content": ""}, "content is empty"),
        ("remember", {"content": "x\x00y"}, "content"),
        ("update", {"id": "none", "content": "x"}, "There is no such memory here"),
        ("forget", {"id": "none"}, "There is no such memory here"),
        ("history", {"id": "none"}, "There is no such memory here"),
        ("read_graph", {}, "There is no tool 'read_graph'; there are remember, recall"),
    ],
)
def test_what_is_wrong_is_said_to_the_model(
    memory: Memory, tool: str, arguments: dict[str, Any], expected: str
) -> None:
    async def body(say: Talk) -> None:
        assert expected in await say.error(tool, **arguments)

    talk(memory, body)


def test_nobody_reaches_anothers_memories(memory: Memory) -> None:
    ids = {user: memory.add(f"The secret of {user} is blue.", user_id=user).id for user in ("eve", "mallory")}
    ids["nobody"] = memory.add("The secret of nobody is blue.").id

    async def body(say: Talk) -> None:
        found = await say.data("recall", query="secret blue", limit=50)
        assert [one["id"] for one in found["memories"]] == [ids["eve"]]
        for id in (ids["mallory"], ids["nobody"]):
            for tool, more in (("update", {"content": "x"}), ("forget", {}), ("history", {})):
                assert "There is no such memory here" in await say.error(tool, id=id, **more)
            with pytest.raises(Exception, match="there is no resource"):
                await say.client.read_resource(f"memory://record/{id}")
        assert "mallory" not in (await say.client.read_resource("memory://recent")).contents[0].text

    talk(memory, body, user="eve")
    talk(memory, lambda say: say.error("history", id=ids["eve"]), user=None)


def test_in_a_namespace(memory: Memory) -> None:
    memory.add("In the root.", user_id="nora")

    async def body(say: Talk) -> None:
        await say("remember", content="In the letters.")
        found = await say.data("recall", query="in the", limit=50)
        assert [one["text"] for one in found["memories"]] == ["In the letters."]

    talk(memory, body, user="nora", namespace=("letters",))
    assert [one.namespace for one in memory.iterate(user_id="nora", under=())] == [("letters",), ()]


def test_who_may_only_read_sees_and_does_nothing_else(memory: Memory) -> None:
    id = memory.add("Rita reads.", user_id="rita").id

    async def body(say: Talk) -> None:
        assert [tool.name for tool in (await say.client.list_tools()).tools] == ["recall", "context", "history"]
        assert "Rita" in await say("recall", query="reads")
        for tool, arguments in (("remember", {"content": "x"}), ("forget", {"id": id})):
            assert "lets you read and not change" in await say.error(tool, **arguments)

    talk(memory, body, user="rita", write=False)


def test_long_and_strange_texts_stay_one_line_each(memory: Memory) -> None:
    async def body(say: Talk) -> None:
        made = await say.data("remember", content="Line one\nline two\n" + "and on " * 200)
        line = await say("recall", query="line")
        assert len(line.splitlines()) == 1
        assert "characters; history shows all)" in line
        assert (await say("history", id=made["id"])).count("and on") == 200

    talk(memory, body, user="long")


def test_hints_say_what_a_client_should_ask_about() -> None:
    hints = {tool.name: listed(tool).annotations for tool in (*SETS["memory"], *SETS["graph"])}
    reading = {name for name, hint in hints.items() if hint is not None and hint.read_only_hint}
    assert reading == {"recall", "context", "history", "read_graph", "search_nodes", "open_nodes"}
    asking = {name for name, hint in hints.items() if hint is None}
    assert asking == {"update", "forget", "delete_entities", "delete_observations", "delete_relations"}


def test_sets_and_single_tools() -> None:
    assert [tool.name for tool in chosen(["history", "recall"], SETS)] == ["recall", "history"]
    assert len(chosen(["memory", "graph", "recall"], SETS)) == 15
    for wrong in (["recal"], []):
        with pytest.raises(InvalidInputError, match="memory"):
            chosen(wrong, SETS)


@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_subscribers_hear_of_their_own_changes_only(memory: Memory, mode: str) -> None:
    import anyio
    from mcp import types

    heard, first = list[str](), anyio.Event()

    async def on_message(message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            heard.append(message.params.uri)
            first.set()

    async def run() -> None:
        from mcp import Client

        from agentmem.mcp.access import access_to
        from agentmem.mcp.server import MemoryServer

        user = f"sue-{mode}"
        access = access_to(memory.aio, user_id=user)
        server = MemoryServer(memory.aio, lambda ctx: access)
        server.resources.every_s = 0.05
        with anyio.fail_after(30):
            async with Client(server.lowlevel, mode=mode, message_handler=on_message) as client:
                if mode == "legacy":
                    await client.subscribe_resource("memory://recent")
                    await anyio.sleep(0.2)
                    await client.call_tool("remember", {"content": "Sue sails."})
                    memory.add("Somebody else.", user_id="tom")
                    await first.wait()
                    await anyio.sleep(0.2)
                    assert heard == ["memory://recent"]
                    await client.unsubscribe_resource("memory://recent")
                    memory.add("Sue rows.", user_id=user)
                    await anyio.sleep(0.2)
                    assert len(heard) == 1
                else:
                    async with client.listen(resource_subscriptions=["memory://recent"]) as events:
                        await anyio.sleep(0.2)
                        memory.add("Somebody else.", user_id="tom")
                        memory.add("Sue sails.", user_id=user)
                        async for event in events:
                            assert event.uri == "memory://recent"
                            break

    anyio.run(run)
