"""The backend of Anthropic's memory tool: files that a model keeps under ``/memories``, as records by key.

A file is a record whose key is its path below ``/memories`` and whose data is its text, without a vector, in a
namespace of its own: what a model notes there never shows among a user's memories. Directories are what the paths say,
so one is there as long as a file is in it.
"""

# The framework is not installed where types are checked.
# pyright: basic, reportMissingImports=false, reportUntypedBaseClass=false

from __future__ import annotations

import posixpath
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple

import anyio.to_thread

from agentmem import ConflictError, Delete, InvalidInputError, MemoryRecord, Put, Settings
from agentmem.adapters.clients import AnyMemory, Client
from agentmem.adapters.labels import names_of
from agentmem.adapters.versions import require

require("anthropic", at_least="0.86", below="3", extra="anthropic")

from anthropic.lib.tools import BetaAbstractMemoryTool, BetaAsyncAbstractMemoryTool, ToolError  # noqa: E402

__all__ = ["AgentMemTool", "AsyncAgentMemTool"]

NAMESPACE = ("memory_tool",)
"""Where files are kept unless another namespace is given."""
_TOP = "/memories"
_NAMES = "/"
"""The key of the record whose version counts every change of names: no file's, since those have no leading slash."""
_MAX_LINES = 999_999
_WIDTH = len(str(_MAX_LINES))
_MOST = 999
"""Changes of a transaction beside that of the names."""
_ATTEMPTS = 60
_PAUSE_S = 0.002


def _called(name: str) -> Callable[..., str]:
    def called(self: _OnClient, *command: Any) -> str:
        return getattr(self._files, name)(*command)

    return called


def _awaited(name: str) -> Callable[..., Awaitable[str]]:
    async def awaited(self: _OnClient, *command: Any) -> str:
        return await anyio.to_thread.run_sync(getattr(self._files, name), *command)

    return awaited


class _OnClient:
    def __init__(
        self,
        memory: AnyMemory = None,
        *,
        user_id: str | None = None,
        namespace: Sequence[str] = NAMESPACE,
        settings: Settings | None = None,
        cache_control: Any = None,
    ) -> None:
        super().__init__(cache_control=cache_control)  # pyright: ignore[reportCallIssue]
        self._client = Client(memory, settings)
        self._files = _Files(self._client, user_id, names_of(namespace))

    def close(self) -> None:
        """Close a store that was opened here; a client that was handed in stays open."""
        self._client.close()


class AgentMemTool(_OnClient, BetaAbstractMemoryTool):
    """The memory tool for ``client.beta.messages.tool_runner(tools=[...])``, its files kept in an agentmem store.

    ``memory`` is an open client or a view of one, which stays yours to close, or the path of a store. ``user_id`` says
    whose files these are, and ``namespace`` where they are kept: two tools that differ in either share nothing.
    What a model asks for wrongly is a ``ToolError``, which the runner shows to it; other errors are agentmem's.
    """

    view = _called("view")
    create = _called("create")
    str_replace = _called("str_replace")
    insert = _called("insert")
    delete = _called("delete")
    rename = _called("rename")
    clear_all_memory = _called("clear")


class AsyncAgentMemTool(_OnClient, BetaAsyncAbstractMemoryTool):
    """``AgentMemTool`` for event loops. Calls run on threads: one tool serves any loops, one by one or at once."""

    view = _awaited("view")
    create = _awaited("create")
    str_replace = _awaited("str_replace")
    insert = _awaited("insert")
    delete = _awaited("delete")
    rename = _awaited("rename")
    clear_all_memory = _awaited("clear")


class _File(NamedTuple):
    path: str
    size: int
    """Bytes of UTF-8."""


def _retried(command: Callable[..., str]) -> Callable[..., str]:
    """Does a command once more where somebody else was faster, and tells the model of values that cannot be kept."""

    @wraps(command)
    def retried(*args: Any) -> str:
        conflict: ConflictError | None = None
        for attempt in range(_ATTEMPTS):
            try:
                return command(*args)
            except ConflictError as exc:
                conflict = exc
                time.sleep(random.random() * _PAUSE_S * (attempt + 1))
            except InvalidInputError as exc:
                raise ToolError(str(exc)) from exc
        raise ToolError(f"Others keep changing this at the same time, try again later: {conflict}") from conflict

    return retried


class _Files:
    """The commands on files.

    What changes a text is conditional on the version that was read. What changes names (create, delete, rename) also
    puts the record of names anew, on the condition that it is as it was before the files were looked at; so no two of
    those happen at once, in whatever processes, and none sees half of another. Whoever comes second reads again.
    """

    def __init__(self, client: Client, user_id: str | None, namespace: tuple[str, ...]) -> None:
        self._client = client
        self._place: dict[str, Any] = {"user_id": user_id, "namespace": namespace}

    @_retried
    def view(self, command: Any) -> str:
        path = _path(command.path)
        if path and (record := self._read(path)) is not None:
            return _numbered(command, record.data)
        files = self._below(path)
        if path and not files:
            raise ToolError(f"The path {command.path} does not exist. Please provide a valid path.")
        sizes = _listed(files, path)
        lines = [f"Here're the files and directories up to 2 levels deep in {command.path}, excluding hidden items:"]
        lines.append(f"{_size(sum(file.size for file in files))}\t{command.path}")
        lines += [f"{_size(sizes[name])}\t{command.path}/{name}" for name in sorted(sizes, key=_by_directory)]
        return "\n".join(lines)

    @_retried
    def create(self, command: Any) -> str:
        path = _path(command.path)
        names = self._names()
        if not path or self._read(path) is not None or self._below(path):
            raise ToolError(f"File {command.path} already exists")
        self._check_above(path)
        self._client.memory.apply([names, self._put(path, command.file_text, 0)])
        return f"File created successfully at: {command.path}"

    @_retried
    def str_replace(self, command: Any) -> str:
        record = self._file(command.path)
        text, old = record.data, command.old_str
        lines = _lines_with(text, old)
        if not lines:
            raise ToolError(f"No replacement was performed, old_str `{old}` did not appear verbatim in {command.path}.")
        if len(lines) > 1:
            raise ToolError(
                f"No replacement was performed. Multiple occurrences of old_str `{old}` in lines: "
                f"{', '.join(map(str, lines))}. Please ensure it is unique"
            )
        edited = text.replace(old, command.new_str)
        self._client.memory.apply([self._put(record.key, edited, record.version)])
        near = list(enumerate(edited.split("\n"), 1))[max(0, lines[0] - 3) : lines[0] + 2]
        return "\n".join(
            [
                "The memory file has been edited. Here is the snippet showing the change (with line numbers):",
                *(f"{number:{_WIDTH}}\t{line}" for number, line in near),
            ]
        )

    @_retried
    def insert(self, command: Any) -> str:
        record = self._file(command.path)
        lines = record.data.split("\n")
        if not lines[-1]:
            lines.pop()
        if not 0 <= command.insert_line <= len(lines):
            raise ToolError(
                f"Invalid `insert_line` parameter: {command.insert_line}. "
                f"It should be within the range [0, {len(lines)}]."
            )
        lines.insert(command.insert_line, command.insert_text.rstrip("\n"))
        edited = "\n".join(lines)
        self._client.memory.apply(
            [self._put(record.key, edited if edited.endswith("\n") else edited + "\n", record.version)]
        )
        return f"The file {command.path} has been edited."

    @_retried
    def delete(self, command: Any) -> str:
        path = _path(command.path)
        if not path:
            raise ToolError("Cannot delete the /memories directory itself")
        gone = deleted = list[str]()
        while not deleted or len(gone) > _MOST:
            names = self._names()
            gone = self._at(path)
            if not gone and not deleted:
                raise ToolError(f"The path {command.path} does not exist")
            deleted = gone[:_MOST]
            self._client.memory.apply([names, *(Delete(key=key, **self._place) for key in deleted)])
        return f"Successfully deleted {command.path}"

    @_retried
    def rename(self, command: Any) -> str:
        old, new = _path(command.old_path), _path(command.new_path)
        if not old:
            raise ToolError("Cannot rename the /memories directory itself")
        names = self._names()
        if not new or self._at(new):
            raise ToolError(f"The destination {command.new_path} already exists")
        moved = self._at(old)
        if not moved:
            raise ToolError(f"The path {command.old_path} does not exist")
        if new.startswith(f"{old}/"):
            raise ToolError(f"Cannot move {command.old_path} into itself")
        self._check_above(new)
        if 2 * len(moved) > _MOST:
            raise ToolError(f"{command.old_path} has more than {_MOST // 2} files; rename what is in it part by part")
        changes: list[Any] = [names]
        for path in moved:
            if (record := self._read(path)) is None:
                raise ConflictError(f"{path} was deleted meanwhile")
            changes.append(Delete(key=path, if_version=record.version, **self._place))
            changes.append(self._put(new + path[len(old) :], record.data, 0))
        self._client.memory.apply(changes)
        return f"Successfully renamed {command.old_path} to {command.new_path}"

    def clear(self) -> str:
        self._client.memory.delete_all(**self._place)
        return "All memory cleared"

    def _read(self, path: str) -> MemoryRecord | None:
        return self._client.memory.get(key=path, touch=False, **self._place)

    def _file(self, named: str) -> Any:
        path = _path(named)
        record = self._read(path) if path else None
        if record is None:
            if not path or self._below(path):
                raise ToolError(f"The path {named} is not a file.")
            raise ToolError(f"The path {named} does not exist. Please provide a valid path.")
        return record

    def _below(self, path: str) -> list[_File]:
        """The files of a directory, however deep."""
        within: dict[str, Any] = {"path": {"$prefix": f"{path}/"} if path else {"$exists": True}}
        records = self._client.memory.iterate(filters=within, data=False, touch=False, **self._place)
        return [_File(str(record.metadata["path"]), int(record.metadata["bytes"])) for record in records]

    def _at(self, path: str) -> list[str]:
        """The file at a path, or those of the directory there; none where nothing is."""
        return [path] if self._read(path) is not None else [file.path for file in self._below(path)]

    def _check_above(self, path: str) -> None:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            if self._read(above := "/".join(parts[:depth])) is not None:
                raise ToolError(f"The path {_TOP}/{above} is not a directory.")

    def _names(self) -> Put:
        """The change that goes with each change of names; to be made before the files are looked at."""
        record = self._read(_NAMES)
        version = 0 if record is None else record.version
        return Put(_NAMES, data=True, kind="directory", layer="assets", if_version=version, **self._place)

    def _put(self, path: str, text: str, version: int) -> Put:
        about = {"path": path, "bytes": len(text.encode(errors="surrogatepass"))}
        return Put(path, data=text, metadata=about, kind="file", layer="assets", if_version=version, **self._place)


def _path(path: str) -> str:
    """A path below ``/memories`` without dots and doubled slashes; empty for that itself."""
    if path != _TOP and not path.startswith(f"{_TOP}/"):
        raise ToolError(f"Path must start with /memories, got: {path}")
    resolved = posixpath.normpath(path)
    if resolved != _TOP and not resolved.startswith(f"{_TOP}/"):
        raise ToolError(f"Path {path} would escape /memories directory")
    return resolved[len(_TOP) + 1 :]


def _listed(files: Sequence[_File], path: str) -> dict[str, int]:
    """What is shown of a directory, two levels deep, and how large it is; names of directories end with a slash."""
    sizes = dict[str, int]()
    for file in files:
        parts = file.path[len(path) :].lstrip("/").split("/")
        shown = next((depth for depth, part in enumerate(parts) if part.startswith(".")), len(parts))
        for depth in range(1, min(2, shown) + 1):
            name = "/".join(parts[:depth]) + ("/" if depth < len(parts) else "")
            sizes[name] = sizes.get(name, 0) + file.size
    return sizes


def _by_directory(name: str) -> list[str]:
    return name.rstrip("/").split("/")


def _lines_with(text: str, part: str) -> list[int]:
    """The numbers of the lines in which a text occurs, once for each time, from 1."""
    found = list[int]()
    at = text.find(part)
    while at >= 0:
        found.append(text.count("\n", 0, at) + 1)
        at = text.find(part, at + 1)
    return found


def _numbered(command: Any, text: str) -> str:
    lines = text.split("\n")
    if len(lines) > _MAX_LINES:
        raise ToolError(f"File {command.path} exceeds maximum line limit of 999,999 lines.")
    first, last = 1, len(lines)
    if command.view_range and len(command.view_range) == 2:
        first = max(1, command.view_range[0])
        last = last if command.view_range[1] == -1 else command.view_range[1]
    shown = (f"{number:{_WIDTH}}\t{line}" for number, line in enumerate(lines[first - 1 : last], first))
    return "\n".join([f"Here's the content of {command.path} with line numbers:", *shown])


def _size(number: int) -> str:
    """Bytes as ``ls -h`` writes them."""
    size, unit = float(number), "B"
    for unit in "BKMG":
        if size < 1024 or unit == "G":
            break
        size /= 1024
    return f"{int(size)}{unit}" if size == int(size) else f"{size:.1f}{unit}"
