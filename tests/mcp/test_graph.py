"""The nine tools of the reference server, and its file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from conftest import HashEmbedder
from talking import Talk, talk

from agentmem import InvalidInputError, Memory
from agentmem.mcp.access import access_to
from agentmem.mcp.graph import Entity, Graph, Relation, UnknownEntityError
from agentmem.mcp.importing import Imported, import_file

GRAPH = ("graph",)


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    with Memory(tmp_path_factory.mktemp("graph") / "store", embedder=HashEmbedder()) as memory:
        yield memory


def entity(name: str, *observations: str, type: str = "person") -> dict[str, Any]:
    return {"name": name, "entityType": type, "observations": list(observations)}


def relation(source: str, target: str, type: str = "knows") -> dict[str, Any]:
    return {"from": source, "to": target, "relationType": type}


def test_the_nine_tools(memory: Memory) -> None:
    async def body(say: Talk) -> None:
        made = await say.data("create_entities", entities=[entity("Ana", "plays cello", "likes tea"), entity("Rui")])
        assert made == {"entities": [entity("Ana", "plays cello", "likes tea"), entity("Rui")]}
        again = await say.data("create_entities", entities=[entity("Ana", "is lost"), entity("Zé", type="cat")])
        assert again == {"entities": [entity("Zé", type="cat")]}
        relations = [relation("Ana", "Rui"), relation("Rui", "Zé", "feeds"), relation("Ana", "Rui")]
        assert await say.data("create_relations", relations=relations) == {"relations": relations[:2]}
        assert await say.data("create_relations", relations=relations) == {"relations": []}
        added = await say.data(
            "add_observations", observations=[{"entityName": "Ana", "contents": ["likes tea", "is 34"]}]
        )
        assert added == {"results": [{"entityName": "Ana", "addedObservations": ["is 34"]}]}

        whole = await say.data("read_graph")
        assert whole["entities"] == [
            entity("Ana", "plays cello", "likes tea", "is 34"), entity("Rui"), entity("Zé", type="cat"),
        ]  # fmt: skip
        assert whole["relations"] == relations[:2]
        assert json.loads(await say("read_graph")) == whole
        found = await say.data("search_nodes", query="TEA")
        assert ([one["name"] for one in found["entities"]], found["relations"]) == (["Ana"], relations[:1])
        assert [one["name"] for one in (await say.data("search_nodes", query="zÉ"))["entities"]] == ["Zé"]
        assert (await say.data("open_nodes", names=["Zé", "nobody"]))["relations"] == relations[1:2]

        await say("delete_observations", deletions=[{"entityName": "Ana", "observations": ["likes tea", "x"]}])
        await say("delete_relations", relations=[relation("Ana", "Rui"), relation("a", "b")])
        await say("delete_entities", entityNames=["Zé", "nobody"])
        assert await say.data("read_graph") == {
            "entities": [entity("Ana", "plays cello", "is 34"), entity("Rui")],
            "relations": [],
        }

    talk(memory, body, tools=GRAPH)


def test_what_is_made_again_begins_without_observations(memory: Memory) -> None:
    async def body(say: Talk) -> None:
        for seen in ("first", "second"):
            await say("create_entities", entities=[entity("Ana", seen)])
            assert await say.data("read_graph") == {"entities": [entity("Ana", seen)], "relations": []}
            await say("delete_entities", entityNames=["Ana"])

    talk(memory, body, tools=GRAPH, user="again")
    assert memory.count(user_id="again", under=()) == 0


def test_errors_and_unknown_arguments(memory: Memory) -> None:
    async def body(say: Talk) -> None:
        await say("create_entities", entities=[entity("Ana")])
        observations = [{"entityName": name, "contents": ["x"]} for name in ("Ana", "Rui")]
        error = await say.error("add_observations", observations=observations)
        assert "no entity 'Rui'" in error
        assert '"addedObservations":["x"]' in error
        error = await say.error("create_entities", entities=[{**entity("Rui"), "user": "ben"}])
        assert "no argument 'entities.0.user'" in error
        assert "entities.0.entityType" in await say.error("create_entities", entities=[{"name": "Rui"}])

    talk(memory, body, tools=GRAPH, user="errors")


def test_graphs_are_their_users_and_no_part_of_what_is_recalled(memory: Memory) -> None:
    for user in ("gina", "hugo"):
        talk(
            memory,
            lambda say, user=user: say("create_entities", entities=[entity(user, f"{user} sings")]),
            user=user,
            tools=GRAPH,
        )

    async def body(say: Talk) -> None:
        assert [one["name"] for one in (await say.data("read_graph"))["entities"]] == ["gina"]
        assert await say("recall", query="sings") == "Nothing is known about that."
        text = (await say.client.read_resource("memory://knowledge-graph")).contents[0].text
        assert "hugo" not in text

    talk(memory, body, user="gina", tools=("memory", "graph"))


def test_more_than_one_transaction_takes(memory: Memory) -> None:
    async def run() -> None:
        graph = Graph(access_to(memory.aio, user_id="many"))
        seen = [f"observation {number}" for number in range(950)]
        await graph.create_entities([Entity("Ana", "person", seen)])
        names = [f"e{number}" for number in range(450)]
        assert len(await graph.create_entities([Entity(name, "thing") for name in ("Ana", *names)])) == 450
        relations = [Relation("Ana", name, "has") for name in names]
        assert await graph.create_relations(relations) == relations
        whole = await graph.read()
        assert (whole.entities[0].observations, whole.relations) == (seen, relations)
        assert await graph.add_observations("Ana", [*seen, "one more"]) == ["one more"]
        assert await graph.delete_entities(["Ana"]) == 1
        assert (await graph.read()).relations == []

    anyio.run(run)
    assert memory.count(user_id="many", under=()) == 450


def test_deleting_beside_those_who_add_leaves_nothing_behind(memory: Memory) -> None:
    async def run() -> None:
        graph = Graph(access_to(memory.aio, user_id="race"))
        await graph.create_entities([Entity("Ana", "person")])
        outcomes = list[bool]()

        async def add(number: int) -> None:
            try:
                await graph.add_observations("Ana", [f"observation {number}"])
                outcomes.append(True)
            except UnknownEntityError:
                outcomes.append(False)

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(add, number)
                if number == 10:
                    tasks.start_soon(graph.delete_entities, ["Ana"])
        assert len(outcomes) == 20

    anyio.run(run)
    assert memory.count(user_id="race", under=()) == 0


def imported(memory: Memory, path: Path, user: str) -> Imported:
    return anyio.run(lambda: import_file(access_to(memory.aio, user_id=user), path))


def test_the_file_of_the_reference_server(memory: Memory, tmp_path: Path) -> None:
    path = tmp_path / "memory.jsonl"
    lines = [
        {"type": "entity", **entity("Ana", "plays cello", "plays cello", "likes tea")},
        {"type": "entity", **entity("Rui")},
        {"type": "entity", **entity("Rui")},
        {"type": "relation", **relation("Ana", "Rui")},
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"type": "ent\n{"type": "other"}\n', encoding="utf-8")
    done = imported(memory, path, "file")
    assert (done.entities, done.relations, [number for number, _ in done.left_out]) == (2, 1, [5, 6])

    async def body(say: Talk) -> None:
        whole = await say.data("read_graph")
        assert whole["entities"] == [entity("Ana", "plays cello", "likes tea"), entity("Rui")]
        await say("delete_entities", entityNames=["Rui"])

    talk(memory, body, user="file", tools=GRAPH)
    assert imported(memory, path, "file").before
    path.write_text(json.dumps({"type": "entity", **entity("Ana", "is 34")}), encoding="utf-8")
    assert imported(memory, path, "file").entities == 0
    names = talk(memory, lambda say: say.data("read_graph"), user="file", tools=GRAPH)["entities"]
    assert names == [entity("Ana", "plays cello", "likes tea", "is 34")]


def test_what_is_no_such_file(memory: Memory, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Buy milk.", encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"notes\.txt is no file of a knowledge graph: line 1, not JSON"):
        imported(memory, path, "none")
    with pytest.raises(FileNotFoundError):
        imported(memory, tmp_path / "missing.jsonl", "none")
