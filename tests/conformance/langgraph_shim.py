"""Our store in the place of ``InMemoryStore``, ``SqliteStore`` and ``AsyncSqliteStore``.

What the SQLite ones have besides ``BaseStore`` is made of public names here: how they are opened, and their sweeper,
which agentmem has inside. Constants and functions of theirs that tests look at stay theirs.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, ClassVar

import langgraph.store.memory as in_memory
import langgraph.store.sqlite as sqlite
import langgraph.store.sqlite.aio as sqlite_aio
from langgraph.store.base import Op, Result

from agentmem.adapters.langgraph import AgentMemStore


class Here(AgentMemStore):
    """What ``InMemoryStore()`` makes."""

    def __init__(self, *, index: Any = None) -> None:
        super().__init__(":memory:", index=index)


class Sqlite(AgentMemStore):
    MIGRATIONS: ClassVar = sqlite.SqliteStore.MIGRATIONS

    @classmethod
    @contextmanager
    def from_conn_string(cls, conn_string: str, *, index: Any = None, ttl: Any = None) -> Iterator[Sqlite]:
        with opened(cls, conn_string, index, ttl) as store:
            yield store

    def setup(self) -> None:
        """The store is made when it is first used."""

    def sweep_ttl(self) -> int:
        return self._own.lifecycle.sweep().expired

    def start_ttl_sweeper(self) -> None:
        """Runs from the beginning."""

    def stop_ttl_sweeper(self) -> None:
        """Ends with the store."""


class AsyncSqlite(AgentMemStore):
    @classmethod
    @asynccontextmanager
    async def from_conn_string(cls, conn_string: str, *, index: Any = None, ttl: Any = None) -> AsyncIterator[Any]:
        with opened(cls, conn_string, index, ttl) as store:
            yield store

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        # Theirs would wait for the loop that it holds up, and a test wants to be told. Ours needs no loop.
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return super().batch(ops)
        raise asyncio.InvalidStateError("called on the thread of the event loop")

    async def setup(self) -> None:
        """The store is made when it is first used."""

    async def sweep_ttl(self) -> int:
        return (await self._own.aio.lifecycle.sweep()).expired

    async def start_ttl_sweeper(self) -> None:
        """Runs from the beginning."""

    async def stop_ttl_sweeper(self) -> None:
        """Ends with the store."""


@contextmanager
def opened(kind: Any, conn_string: str, index: Any, ttl: Any) -> Iterator[Any]:
    if index is not None and "fields" not in index:
        index = {**index, "fields": index.get("text_fields")}
    if ttl is not None:
        ttl = {"refresh_on_read": False, **ttl}  # their default, where that of LangGraph's documentation is True
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = conn_string if conn_string == ":memory:" else folder
        with kind(path, index=index, ttl=ttl) as store:
            yield store


in_memory.InMemoryStore = Here
sqlite.SqliteStore = Sqlite
sqlite.AsyncSqliteStore = sqlite_aio.AsyncSqliteStore = AsyncSqlite
