"""Erasing a part: of a user what lies in a conversation, with an agent or in a namespace, or a tenant's namespaces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import HashEmbedder
from inspecting import files_with
from operations.test_history import token

import agentmem
from agentmem import ALL, AsyncMemory, InvalidInputError, Memory, ScopeError, Settings
from agentmem.stores.connection import Connection
from agentmem.stores.folder import DATABASE
from agentmem.stores.schema import ERASED

Open = Callable[..., Memory]
LARGE = Settings(arena_limit=5)
ACME = ("tenant", "acme")


def left(store: Path) -> list[str]:
    """The namespaces' names and texts of what was not erased."""
    with closing(Connection(store / DATABASE)) as db:
        return [text for (text,) in db.execute(f"SELECT content FROM records WHERE state != {ERASED} ORDER BY row")]


@pytest.mark.parametrize("settings", [Settings(), LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    ("scope", "stays"),
    [
        ({"user_id": "ana", "run_id": "r"}, ["a", "ab", "aw", "bw", "nw", "au", "bu"]),
        ({"user_id": "ana", "agent_id": "b"}, ["a", "ar", "aw", "bw", "nw", "au", "bu"]),
        ({"user_id": "ana", "under": ("tenant",)}, ["a", "ar", "ab", "bw", "nw", "bu"]),
        ({"user_id": "ana", "namespace": ("tenant", "w")}, ["a", "ar", "ab", "bw", "nw", "au", "bu"]),
        ({"user_id": "ana", "namespace": ()}, ["aw", "bw", "nw", "au", "bu"]),
        ({"namespace": ("tenant", "w")}, ["a", "ar", "ab", "aw", "bw", "au", "bu"]),
        ({"user_id": ALL, "under": ("tenant", "w")}, ["a", "ar", "ab", "au", "bu"]),
        ({"user_id": ALL, "agent_id": "b", "under": ()}, ["a", "ar", "aw", "bw", "nw", "au", "bu"]),
        ({"user_id": ALL, "run_id": "nobody's"}, ["a", "ar", "ab", "aw", "bw", "nw", "au", "bu"]),
    ],
    ids=str,
)
def test_what_lies_there_goes_and_nothing_else(
    open_memory: Open, store: Path, settings: Settings, scope: dict[str, Any], stays: list[str]
) -> None:
    memory = open_memory(settings=settings)
    places: dict[str, dict[str, Any]] = {
        "a": {"user_id": "ana"},
        "ar": {"user_id": "ana", "run_id": "r"},
        "ab": {"user_id": "ana", "agent_id": "b"},
        "aw": {"user_id": "ana", "namespace": ("tenant", "w")},
        "bw": {"user_id": "ben", "namespace": ("tenant", "w")},
        "nw": {"namespace": ("tenant", "w")},
        "au": {"user_id": "ana", "namespace": ("tenant", "u")},
        "bu": {"user_id": "ben", "namespace": ("tenant", "u")},
    }
    secrets = {name: token() for name in places}
    for name, place in places.items():
        ids = [memory.add(f"{secrets[name]} {n}", **place).id for n in range(3)]
        memory.delete(ids[0])
    gone = sorted(places.keys() - set(stays))
    report = memory.erase_all(**scope)
    assert (report.erased, report.backups) == (3 * len(gone), ())
    assert "ids" not in report.pending
    for name, place in places.items():
        found = memory.search(secrets[name], **place, mode="keyword")
        assert len(found) == (2 if name in stays else 0), name
    memory.flush()
    there = files_with(store, *(secret[6:] for secret in secrets.values()))
    assert [name for name in places if secrets[name][6:] in there] == stays
    assert memory.erasures(user_id="ana") == []
    assert memory.erase_all(**scope).erased == 0
    assert memory.verify().ok
    assert memory.erase_all(user_id="ana").erased == 3 * len([name for name in stays if name[0] == "a"])
    assert memory.verify().ok


def test_all_that_is_kept_for_a_namespace(open_memory: Open, store: Path) -> None:
    memory = open_memory()
    for tenant in (ACME, ("tenant", "other")):
        view = memory.scoped(user_id="ana", namespace=tenant)
        view.add("a memory")
        view.put("profile", "a memory by key")
        view.values.put("file", b"a value")
        session = view.session("talk")
        session.append([{"role": "user", "content": "a turn"}])
        session.working.set({"plan": "to finish"})
        view.blocks().create("persona", "a block")
    whole = left(store)
    report = memory.erase_all(user_id="ana", under=ACME)
    assert report.erased == len(whole) // 2
    assert sorted(left(store) * 2) == sorted(whole)
    view = memory.scoped(user_id="ana", namespace=ACME)
    assert (list(view.values.list()), view.session("talk").turns(), view.page().records) == ([], [], [])
    assert memory.scoped(user_id="ana", namespace=("tenant", "other")).values.get("file") == b"a value"
    assert memory.verify().ok


def test_a_view_is_a_wall(memory: Memory) -> None:
    for user in ("ana", "ben"):
        for agent in ("x", "y"):
            memory.add(f"{user} to {agent}", user_id=user, agent_id=agent)
    memory.add("nobody's", agent_id="x")
    view = memory.scoped(user_id="ana", agent_id="x")
    for other in ({"user_id": "ben"}, {"agent_id": "y"}, {"user_id": ALL}):
        with pytest.raises(ScopeError):
            view.erase_all(**other)
    assert view.erase_all().erased == 1
    assert memory.userless().erase_all().erased == 1
    assert sorted(record.content for record in memory.iterate(user_id=ALL)) == ["ana to y", "ben to x", "ben to y"]
    assert memory.scoped(user_id="ben").erase_all().erased == 2
    assert [line.records for line in memory.erasures(user_id="ben")] == [2]


def test_too_much_or_nothing_is_refused(memory: Memory) -> None:
    memory.add("ana's", user_id="ana")
    wrong: list[dict[str, Any]] = [{}, {"under": ()}, {"user_id": ALL}, {"user_id": ALL, "under": ()}]
    for scope in wrong:
        with pytest.raises(ScopeError, match="needs the user_id"):
            memory.erase_all(**scope)
    with pytest.raises(InvalidInputError, match="for all of a user"):
        memory.erase_all(user_id="ana", agent_id="x", rewrite_backups=True)
    with pytest.raises(ScopeError, match=r"namespaces whose first name begins with '\$'"):
        memory.erase_all(user_id="ana", under=("$values",))
    assert memory.count(user_id="ana") == 1


def test_backups_that_still_have_it_are_told(open_memory: Open, tmp_path: Path) -> None:
    memory = open_memory(settings=Settings(backup={"url": str(tmp_path / "backups")}))
    memory.add("before", user_id="ana", run_id="r")
    memory.backup.create()
    memory.add("after", user_id="ana", run_id="s")
    assert "backups" not in memory.erase_all(user_id="ana", run_id="s").pending
    assert "backups" in memory.erase_all(user_id="ana", run_id="r").pending
    memory.backup.create("incremental")
    assert agentmem.restore(tmp_path / "backups", tmp_path / "again").path
    assert open_memory(tmp_path / "again").count(user_id=ALL) == 0


def test_async(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncMemory(tmp_path / "s", embedder=HashEmbedder()) as memory:
            await memory.add("one", user_id="ana", run_id="r")
            await memory.add("two", user_id="ana")
            assert (await memory.erase_all(user_id="ana", run_id="r")).erased == 1
            assert (await memory.scoped(user_id="ana").erase_all()).erased == 1

    asyncio.run(main())
