"""The memory tool for Anthropic's runner: what its own tests cannot see."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentmem import AsyncMemory, ConflictError, Memory

pytest.importorskip("anthropic", reason="anthropic is not installed")

from anthropic.lib.tools import ToolError

from agentmem.adapters import anthropic as adapter
from agentmem.adapters.anthropic import NAMESPACE, AgentMemTool, AsyncAgentMemTool

Open = Callable[..., Memory]


def call(tool: Any, command: str, **arguments: Any) -> str:
    return tool.call({"command": command, **arguments})


def create(tool: Any, path: str, text: str = "text") -> str:
    return call(tool, "create", path=path, file_text=text)


def text_of(memory: Memory, path: str, user_id: str | None = None) -> Any:
    record = memory.get(key=path, namespace=NAMESPACE, user_id=user_id)
    return None if record is None else record.data


def names(tool: Any, path: str = "/memories") -> list[str]:
    return [line.split("\t")[1] for line in call(tool, "view", path=path).splitlines()[1:]]


@pytest.mark.parametrize("text", ["", "\n", "a\x00b", "half \ud800 a character", "tea \U0001f375\r\n" * 3, "\u200b"])
def test_any_text_comes_back(open_memory: Open, text: str) -> None:
    memory = open_memory()
    tool = AgentMemTool(memory)
    create(tool, "/memories/a.txt", text)
    assert text_of(memory, "a.txt") == text
    call(tool, "rename", old_path="/memories/a.txt", new_path="/memories/b/c.txt")
    assert text_of(memory, "b/c.txt") == text


def test_a_file_of_five_megabytes_is_edited(open_memory: Open) -> None:
    memory = open_memory()
    tool = AgentMemTool(memory)
    text = "0123456789 abcdef\n" * 300_000 + "the end"
    create(tool, "/memories/large.txt", text)
    call(tool, "str_replace", path="/memories/large.txt", old_str="the end", new_str="another end")
    assert text_of(memory, "large.txt") == text.replace("the end", "another end")
    assert names(tool) == ["/memories", "/memories/large.txt"]
    with pytest.raises(ToolError, match="bytes"):
        create(tool, "/memories/larger.txt", "x" * 17_000_000)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "memories/a", "/memoriesx/a", "", "/memories/..", "/memories/../x", "/memories/a/../../x",
        "/memories/../../etc/passwd", "//memories/a", "/memories/" + "x" * 3_000, "/memories/a\x00b",
        "/memories/\ud800",
    ],
)  # fmt: skip
def test_paths_that_lead_nowhere_are_refused_to_the_model(open_memory: Open, path: str) -> None:
    memory = open_memory()
    tool = AgentMemTool(memory)
    with pytest.raises(ToolError):
        create(tool, path)
    create(tool, "/memories/here.txt")
    with pytest.raises(ToolError):
        call(tool, "rename", old_path="/memories/here.txt", new_path=path)
    for command, arguments in (("view", {}), ("delete", {}), ("str_replace", {"old_str": "t", "new_str": "u"})):
        with pytest.raises(ToolError):
            call(tool, command, path=path, **arguments)
    assert names(tool) == ["/memories", "/memories/here.txt"]


def test_dots_and_slashes_mean_the_same_file(open_memory: Open) -> None:
    tool = AgentMemTool(open_memory())
    create(tool, "/memories/a/./b//../c.txt/")
    assert call(tool, "view", path="/memories/a/c.txt").endswith("\ttext")
    create(tool, "/memories/%2e%2e/x")
    assert "/memories/%2e%2e/x" in names(tool)


def test_a_directory_is_listed_two_levels_deep_with_sizes(open_memory: Open) -> None:
    tool = AgentMemTool(open_memory())
    for path in ("b/deep/er/x", "b/y", "a", "b.txt", ".hidden/x", "b/.z", "b/deep/.w"):
        create(tool, f"/memories/{path}", "x" * 600)
    assert call(tool, "view", path="/memories").splitlines()[1:] == [
        "4.1K\t/memories", "600B\t/memories/a", "2.3K\t/memories/b/", "1.2K\t/memories/b/deep/", "600B\t/memories/b/y",
        "600B\t/memories/b.txt",
    ]  # fmt: skip
    assert names(tool, "/memories/b/deep") == ["/memories/b/deep", "/memories/b/deep/er/", "/memories/b/deep/er/x"]


def test_a_file_is_no_directory(open_memory: Open) -> None:
    tool = AgentMemTool(open_memory())
    create(tool, "/memories/a/b.txt")
    with pytest.raises(ToolError, match="already exists"):
        create(tool, "/memories/a")
    with pytest.raises(ToolError, match="is not a directory"):
        create(tool, "/memories/a/b.txt/c")
    with pytest.raises(ToolError, match="is not a file"):
        call(tool, "insert", path="/memories/a", insert_line=0, insert_text="x")
    with pytest.raises(ToolError, match="into itself"):
        call(tool, "rename", old_path="/memories/a", new_path="/memories/a/c")
    assert names(tool) == ["/memories", "/memories/a/", "/memories/a/b.txt"]


def test_a_directory_of_many_files_is_deleted_and_not_renamed(open_memory: Open) -> None:
    memory = open_memory()
    tool = AgentMemTool(memory)
    for number in range(2):
        create(tool, f"/memories/many/{number}")
    where = {"path": "many/x", "bytes": 1}
    for start in (0, 700):
        items = [{"key": f"many/x{n}", "metadata": where | {"path": f"many/x{n}"}} for n in range(start, start + 700)]
        memory.put_many(items, namespace=NAMESPACE, kind="file", data="x")
    with pytest.raises(ToolError, match="more than 499 files"):
        call(tool, "rename", old_path="/memories/many", new_path="/memories/other")
    assert call(tool, "delete", path="/memories/many") == "Successfully deleted /memories/many"
    assert names(tool) == ["/memories"]


def test_tenants_and_namespaces_share_nothing(open_memory: Open) -> None:
    memory = open_memory()
    tools = [
        AgentMemTool(memory), AgentMemTool(memory, user_id="ana"), AgentMemTool(memory, user_id="rui"),
        AgentMemTool(memory, user_id="ana", namespace=("other",)), AgentMemTool(memory.scoped(user_id="eve")),
    ]  # fmt: skip
    for number, tool in enumerate(tools):
        create(tool, "/memories/same.txt", str(number))
    for number, tool in enumerate(tools):
        assert call(tool, "view", path="/memories/same.txt").endswith(f"\t{number}")
    call(tools[1], "delete", path="/memories/same.txt")
    tools[2].clear_all_memory()
    assert [len(names(tool)[1:]) for tool in tools] == [1, 0, 0, 1, 1]


def test_files_do_not_show_among_memories(open_memory: Open) -> None:
    memory = open_memory()
    memory.add("green tea", user_id="ana")
    create(AgentMemTool(memory, user_id="ana"), "/memories/tea.txt", "green tea")
    assert len(memory.search("green tea", user_id="ana")) == memory.count(user_id="ana") == 1
    assert memory.context("green tea", user_id="ana", max_tokens=100).count("tea") == 1


def test_a_deleted_path_is_created_anew(open_memory: Open) -> None:
    memory = open_memory()
    tool = AgentMemTool(memory)
    for text in ("one", "two", "three"):
        create(tool, "/memories/a/x", text)
        assert text_of(memory, "a/x") == text
        call(tool, "delete", path="/memories/a")
    assert names(tool) == ["/memories"]


def test_one_creator_of_many_wins_and_no_edit_is_lost(open_memory: Open) -> None:
    memory = open_memory()
    tool = AgentMemTool(memory)

    def attempt(number: int) -> bool:
        try:
            create(tool, "/memories/one", str(number))
        except ToolError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(24))) == 1
        create(tool, "/memories/log", "")
        list(
            pool.map(lambda n: call(tool, "insert", path="/memories/log", insert_line=0, insert_text=f"{n}"), range(24))
        )
    assert sorted(map(int, text_of(memory, "log").split())) == list(range(24))


def test_a_write_that_never_succeeds_says_so(open_memory: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = open_memory()
    tool = AgentMemTool(memory)
    create(tool, "/memories/a")
    monkeypatch.setattr(adapter, "_PAUSE_S", 0)

    def beaten(*_: Any) -> None:
        raise ConflictError("it is at version 7")

    monkeypatch.setattr(memory, "apply", beaten)
    with pytest.raises(ToolError, match="it is at version 7"):
        call(tool, "insert", path="/memories/a", insert_line=0, insert_text="x")


def test_one_tool_serves_loops_threads_and_a_running_loop(open_memory: Open) -> None:
    memory = open_memory()
    tool = AsyncAgentMemTool(memory.aio)
    for number in range(3):
        asyncio.run(tool.call({"command": "create", "path": f"/memories/{number}", "file_text": "x"}))
    blocking = AgentMemTool(memory)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(create, blocking, "/memories/3").result()

    async def inside() -> None:
        create(blocking, "/memories/4")
        await asyncio.gather(
            *(tool.call({"command": "create", "path": f"/memories/{n}", "file_text": "x"}) for n in range(5, 25))
        )

    asyncio.run(inside())
    assert len(names(blocking)) == 26
    assert asyncio.run(tool.clear_all_memory()) == "All memory cleared"
    assert names(blocking) == ["/memories"]


def test_a_client_stays_open_and_a_path_is_closed(tmp_path: Path) -> None:
    with Memory(tmp_path / "given") as memory:
        AgentMemTool(memory).close()
        assert memory.count() == 0
    tool = AgentMemTool(tmp_path / "own")
    create(tool, "/memories/kept", "kept")
    tool.close()
    with Memory(tmp_path / "own") as memory:
        assert text_of(memory, "kept") == "kept"
    assert names(tool) == ["/memories", "/memories/kept"]  # opened once more
    del tool
    gc.collect()
    with AsyncMemory(tmp_path / "own").blocking as memory:
        assert text_of(memory, "kept") == "kept"


MANY = """
import sys
from agentmem import Memory
from agentmem.adapters.anthropic import AgentMemTool
from anthropic.lib.tools import ToolError

store, name = sys.argv[1:]
tool = AgentMemTool(Memory(store))

def call(command, **arguments):
    try:
        tool.call({"command": command, **arguments})
    except ToolError as exc:
        assert "exist" in str(exc), exc
        return False
    return True

print(name, flush=True)
sys.stdin.readline()
created = edited = 0
for number in range(12):
    created += call("create", path=f"/memories/race/{number}", file_text=name)
    edited += call("str_replace", path="/memories/log", old_str="[end]", new_str=f"{name}{number}\\n[end]")
    call("rename", old_path="/memories/d0", new_path=f"/memories/d{name}")
    call("rename", old_path=f"/memories/d{name}", new_path="/memories/d0")
print(created, edited)
"""


def test_three_processes_at_once(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with Memory(store) as memory:
        tool = AgentMemTool(memory)
        create(tool, "/memories/log", "[end]")
        for number in range(5):
            create(tool, f"/memories/d0/{number}", str(number))
    command, pipe = [sys.executable, "-c", MANY, str(store)], subprocess.PIPE
    running = [subprocess.Popen([*command, name], stdin=pipe, stdout=pipe, text=True) for name in "abc"]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()  # it is ready
    answers = [process.communicate("go\n", timeout=120)[0].split() for process in running]
    assert sum(int(created) for created, _ in answers) == 12
    assert [edited for _, edited in answers] == ["12", "12", "12"]
    with Memory(store) as memory:
        tool = AgentMemTool(memory)
        lines = text_of(memory, "log").split("\n")
        assert sorted(lines) == sorted([*(f"{name}{number}" for name in "abc" for number in range(12)), "[end]"])
        directories = [name for name in names(tool) if name.startswith("/memories/d") and name.endswith("/")]
        assert len(directories) == 1
        assert len(names(tool, directories[0].rstrip("/"))) == 6
