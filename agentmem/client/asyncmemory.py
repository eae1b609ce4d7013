"""``AsyncMemory``: the same operations for event loops (asyncio and trio).

Most of its lines are signatures, which editors and type checkers need written out, once for each of the two clients.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import anyio
import anyio.to_thread

from agentmem import operations
from agentmem.client.asyncvalues import AsyncValuesClient
from agentmem.client.backups import AsyncBackupClient
from agentmem.client.border import ITERATED, Border, words_only
from agentmem.client.checks import check_batch, check_chunk, check_stream
from agentmem.client.drafts import is_light
from agentmem.client.handle import Handle
from agentmem.client.importing import Checked, Importing
from agentmem.client.lifecycle import AsyncLifecycleClient
from agentmem.client.memory import Memory, applying, client_on
from agentmem.client.options import AddOptions, PageOptions, SearchOptions
from agentmem.client.streaming import AddStream, Unread, batches
from agentmem.client.tiers import AsyncTiersClient
from agentmem.client.waiting import in_thread, wait_for
from agentmem.types.clock import Clock
from agentmem.types.enums import (
    ALL,
    UNSET,
    By,
    Embed,
    Given,
    Gone,
    Id,
    Instant,
    Layer,
    Mode,
    Namespace,
    OnConflict,
    OnError,
    Order,
    Rank,
    TimeZone,
    Ttl,
    Unset,
    UserId,
    VectorLike,
    When,
)
from agentmem.types.errors import ConflictError
from agentmem.types.inputs import Draft, Item
from agentmem.types.ports import AnyEmbedder
from agentmem.types.records import (
    AddResult,
    AddResults,
    HistoryEvent,
    MemoryRecord,
    Page,
    SearchResults,
    StoreEvent,
    Vectors,
)

if TYPE_CHECKING:
    from agentmem.agent.ports import Pending
    from agentmem.agent.sessions import Session, SessionInfo
    from agentmem.agent.tokens import Tokenizer
    from agentmem.client.asyncagents import AsyncBlocks, AsyncSession
    from agentmem.client.asyncknowing import AsyncConsolidation
    from agentmem.engine.engine import Engine
    from agentmem.engine.workers import Workers
    from agentmem.knowledge.ports import Model
    from agentmem.operations.apply import Done
    from agentmem.settings import Settings
    from agentmem.stores.rows import Created
    from agentmem.types.changes import Applied, Operation
    from agentmem.types.reports import (
        BackupInfo,
        EraseReport,
        Erasure,
        Group,
        Health,
        ImportReport,
        Kpis,
        NamespaceCount,
        ReembedReport,
        RestoreReport,
        Stats,
        UserPage,
        VerifyReport,
    )
else:
    from agentmem.types.named import (
        Applied,
        AsyncBlocks,
        AsyncConsolidation,
        AsyncSession,
        BackupInfo,
        EraseReport,
        Erasure,
        Group,
        Health,
        ImportReport,
        Kpis,
        Model,
        NamespaceCount,
        Operation,
        ReembedReport,
        RestoreReport,
        SessionInfo,
        Settings,
        Stats,
        Tokenizer,
        UserPage,
        VerifyReport,
    )

P = ParamSpec("P")
T = TypeVar("T")


class AsyncMemory:
    """``Memory`` for asyncio and trio: the same arguments, results and errors; what they mean is said there.

    Not tied to an event loop: one instance may be used from several loops, one after another or at once. A cancelled
    call that is still queued does not happen; one whose commit has begun may be stored all the same, so retry with an
    ``id`` of your own where that matters.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        settings: Settings | None = None,
        embedder: AnyEmbedder = None,
        clock: Clock | None = None,
        read_only: bool = False,
    ) -> None:
        self._border = Border(Handle(path, settings, embedder, clock, read_only=read_only))
        self._blocking = client_on(self._border)
        self._opened = True

    async def __aenter__(self) -> AsyncMemory:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Finish what is queued and release the store, for its views and for ``blocking``, too.

        A view, and what ``Memory.aio`` gives, have nothing of their own to close: this does nothing there.
        """
        if self._opened:
            await anyio.to_thread.run_sync(self._border.handle.close)

    async def close(self) -> None:
        """The same as ``aclose``."""
        await self.aclose()

    def scoped(
        self,
        *,
        user_id: Id | None = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
    ) -> AsyncMemory:
        """See ``Memory.scoped``."""
        border = self._border.scoped(user_id, agent_id, run_id, namespace, under)
        return client_beside(client_on(border), border)

    def userless(self, *, agent_id: Id | None = None, run_id: Id | None = None) -> AsyncMemory:
        """See ``Memory.userless``."""
        border = self._border.userless(agent_id, run_id)
        return client_beside(client_on(border), border)

    @property
    def blocking(self) -> Memory:
        """This client for code that does not await, such as other threads: the same store, engine and scope.

        It has nothing of its own to close: it works until this client is closed, and closing it, or leaving a ``with``
        of it, does nothing. Not for the thread of an event loop, which it would hold up.
        """
        return self._blocking

    # -- adding ------------------------------------------------------------------------------------------------------

    async def add(
        self,
        item: Item,
        *,
        user_id: Id | None = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        role: str | None = None,
        kind: str | None = None,
        layer: Layer | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        importance: float | None = None,
        ttl: Ttl | None = None,
        sliding: bool | None = None,
        occurred_at: Instant | None = None,
        embed: Embed | None = None,
        vector: VectorLike | None = None,
        id: Id | None = None,
        dedupe: bool | None = None,
        data: Any = None,
    ) -> AddResult:
        """See ``Memory.add``."""
        await self._open()
        options = AddOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, role=role, kind=kind, layer=layer,
            metadata=metadata, importance=importance, ttl=ttl, sliding=sliding, occurred_at=occurred_at,
            embed=embed, vector=vector, id=id, dedupe=dedupe, data=data,
        )  # fmt: skip
        check = partial(self._border.draft, item, self._border.defaults(options))
        drafts = check() if is_light(item, metadata, embed, vector, data) else await self._run(check)
        # Taken now: a client that is closed meanwhile still says what was stored.
        engine = self._border.handle.engine(to_commit=True)
        return operations.add.results(engine, await wait_for(operations.add.submit(engine, drafts)))[0]

    async def add_many(
        self,
        items: Sequence[Item],
        *,
        user_id: Id | None = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        role: str | None = None,
        kind: str | None = None,
        layer: Layer | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        importance: float | None = None,
        ttl: Ttl | None = None,
        sliding: bool | None = None,
        occurred_at: Instant | None = None,
        embed: Embed | None = None,
        dedupe: bool | None = None,
        data: Any = None,
        on_error: OnError = "raise",
        on_conflict: OnConflict = "raise",
        repair: bool = False,
        source: str | None = None,
    ) -> AddResults:
        """See ``Memory.add_many``."""
        await self._open()
        options = AddOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, role=role, kind=kind, layer=layer,
            metadata=metadata, importance=importance, ttl=ttl, sliding=sliding, occurred_at=occurred_at,
            embed=embed, dedupe=dedupe, data=data,
        )  # fmt: skip
        importing = self._border.importing(
            options, on_error=on_error, on_conflict=on_conflict, repair=repair, source=source
        )
        engine = self._border.handle.engine(to_commit=True)
        checked = await self._check(importing, check_batch(items), (metadata, data), 0)
        created = await wait_for(operations.add.submit(engine, checked.drafts, 0))
        return operations.add.results(engine, created, checked.skipped, checked.indexes)

    def add_stream(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        *,
        chunk: int = 1_000,
        user_id: Id | None = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        role: str | None = None,
        kind: str | None = None,
        layer: Layer | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        importance: float | None = None,
        ttl: Ttl | None = None,
        sliding: bool | None = None,
        occurred_at: Instant | None = None,
        embed: Embed | None = None,
        dedupe: bool | None = None,
        data: Any = None,
        on_error: OnError = "raise",
        on_conflict: OnConflict = "raise",
        repair: bool = False,
        source: str | None = None,
    ) -> AsyncIterator[AddResults]:
        """See ``Memory.add_stream``; ``items`` may be an async iterable. Close it (``aclosing``) to stop early."""
        options = AddOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, role=role, kind=kind, layer=layer,
            metadata=metadata, importance=importance, ttl=ttl, sliding=sliding, occurred_at=occurred_at,
            embed=embed, dedupe=dedupe, data=data,
        )  # fmt: skip
        importing = self._border.importing(
            options, on_error=on_error, on_conflict=on_conflict, repair=repair, source=source
        )
        stream = check_stream(items)
        check_chunk(chunk)
        return self._stream(stream, chunk, importing, (metadata, data), Unread())

    async def _stream(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        chunk: int,
        importing: Importing,
        common: tuple[object, ...],
        unread: Unread,
    ) -> AsyncIterator[AddResults]:
        unread.started = True
        await self._open()
        stream = AddStream(self._border.handle.engine())
        chunks = batches(items, chunk)
        try:
            while not stream.ended:
                try:
                    if batch := await anext(chunks, list[Item]()):
                        stream.push(len(batch), await self._check(importing, batch, common, stream.position))
                    else:
                        stream.end()
                except Exception as exc:
                    stream.fail(exc)
                while (future := stream.due()) is not None:
                    yield stream.results(await wait_for(future))
        finally:
            stream.cancel()
            await chunks.aclose()

    # -- by key ------------------------------------------------------------------------------------------------------

    async def put(
        self,
        key: str,
        content: str | None = None,
        *,
        namespace: Namespace | None = None,
        user_id: Id | None = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        role: str | None = None,
        kind: str | None = None,
        layer: Layer | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        importance: float | None = None,
        ttl: Ttl | None = None,
        sliding: bool | None = None,
        occurred_at: Instant | None = None,
        embed: Embed | None = None,
        vector: VectorLike | None = None,
        id: Id | None = None,
        data: Any = None,
        if_version: int | None = None,
    ) -> AddResult:
        """See ``Memory.put``."""
        await self._open()
        options = AddOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, role=role, kind=kind, layer=layer,
            metadata=metadata, importance=importance, ttl=ttl, sliding=sliding, occurred_at=occurred_at,
            embed=embed, vector=vector, id=id, data=data,
        )  # fmt: skip
        defaults = self._border.defaults(options)
        check = partial(self._border.keyed, key, content, defaults, if_version)
        drafts = [check() if is_light(content, metadata, embed, vector, data) else await self._run(check)]
        engine = self._border.handle.engine(to_commit=True)
        return operations.add.results(engine, await self._put(engine, drafts))[0]

    async def put_many(
        self,
        items: Sequence[Mapping[str, Any] | MemoryRecord],
        *,
        namespace: Namespace | None = None,
        user_id: Id | None = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        role: str | None = None,
        kind: str | None = None,
        layer: Layer | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        importance: float | None = None,
        ttl: Ttl | None = None,
        sliding: bool | None = None,
        occurred_at: Instant | None = None,
        embed: Embed | None = None,
        data: Any = None,
    ) -> AddResults:
        """See ``Memory.put_many``."""
        await self._open()
        options = AddOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, role=role, kind=kind, layer=layer,
            metadata=metadata, importance=importance, ttl=ttl, sliding=sliding, occurred_at=occurred_at,
            embed=embed, data=data,
        )  # fmt: skip
        drafts = await self._run(self._border.keyed_batch, items, self._border.defaults(options))
        engine = self._border.handle.engine(to_commit=True)
        return operations.add.results(engine, await self._put(engine, drafts, 0))

    async def apply(self, changes: Sequence[Operation]) -> list[Applied]:
        """See ``Memory.apply``."""
        await self._open()
        engine = self._border.handle.engine(to_commit=True)
        steps = await self._run(applying().steps, self._border, engine, changes)

        async def begin() -> list[Done]:
            plan = await self._run(operations.apply.plan, engine, steps)
            return await wait_for(operations.apply.submit(engine, plan))

        done = await self._once_here(begin, partial(operations.apply.apply, engine, steps))
        return operations.apply.results(engine, done)

    # -- finding -----------------------------------------------------------------------------------------------------

    async def search(
        self,
        query: str | None = None,
        *,
        user_id: UserId = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        limit: int = 10,
        offset: int = 0,
        filters: Mapping[str, object] | None = None,
        kinds: Sequence[str] | None = None,
        layers: Sequence[Layer | str] | None = None,
        since: When | None = None,
        until: When | None = None,
        as_of: When | None = None,
        valid_at: When | None = None,
        time_zone: TimeZone | None = None,
        mode: Mode = "hybrid",
        rank: Rank = "score",
        min_similarity: float | None = None,
        vector: VectorLike | None = None,
        explain: bool = False,
        data: bool = True,
        touch: bool = True,
        include_glacier: bool = False,
    ) -> SearchResults:
        """See ``Memory.search``."""
        options = SearchOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, under=under,
            limit=limit, offset=offset, filters=filters, kinds=kinds,
            layers=layers, since=since, until=until, as_of=as_of, valid_at=valid_at, time_zone=time_zone,
            mode=mode, rank=rank,
            min_similarity=min_similarity, vector=vector, explain=explain, data=data, touch=touch,
            include_glacier=include_glacier,
        )  # fmt: skip
        return await self._search(options, partial(self._border.search, query, options))

    async def search_many(
        self,
        queries: Sequence[str],
        *,
        user_id: UserId = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        limit: int = 10,
        offset: int = 0,
        filters: Mapping[str, object] | None = None,
        kinds: Sequence[str] | None = None,
        layers: Sequence[Layer | str] | None = None,
        since: When | None = None,
        until: When | None = None,
        as_of: When | None = None,
        valid_at: When | None = None,
        time_zone: TimeZone | None = None,
        mode: Mode = "hybrid",
        rank: Rank = "score",
        min_similarity: float | None = None,
        explain: bool = False,
        data: bool = True,
        touch: bool = True,
        include_glacier: bool = False,
    ) -> list[SearchResults]:
        """See ``Memory.search_many``; others get their turn between two queries."""
        options = SearchOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, under=under,
            limit=limit, offset=offset, filters=filters, kinds=kinds,
            layers=layers, since=since, until=until, as_of=as_of, valid_at=valid_at, time_zone=time_zone,
            mode=mode, rank=rank,
            min_similarity=min_similarity, explain=explain, data=data, touch=touch,
            include_glacier=include_glacier,
        )  # fmt: skip
        calls = await self._run(self._border.searches, queries, options)
        return [await self._search(options, call) for call in calls]

    async def context(
        self,
        query: str,
        *,
        max_tokens: int,
        user_id: UserId = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        filters: Mapping[str, object] | None = None,
        kinds: Sequence[str] | None = None,
        layers: Sequence[Layer | str] | None = None,
        since: When | None = None,
        until: When | None = None,
        time_zone: TimeZone | None = None,
        mode: Mode = "hybrid",
        min_similarity: float | None = None,
        count_tokens: Callable[[str], int] | None = None,
        touch: bool = True,
    ) -> str:
        """See ``Memory.context``."""
        options = SearchOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, under=under,
            filters=filters, kinds=kinds, layers=layers,
            since=since, until=until, time_zone=time_zone, mode=mode, min_similarity=min_similarity, touch=touch,
        )  # fmt: skip
        call = partial(self._border.context, query, options, max_tokens=max_tokens, count_tokens=count_tokens)
        return await self._search(options, call)

    async def recent(
        self,
        *,
        run_id: Id,
        user_id: UserId = None,
        agent_id: Id | None = None,
        namespace: Namespace | None = None,
        limit: int = 20,
        by: By = "event",
        data: bool = True,
        touch: bool = True,
    ) -> list[MemoryRecord]:
        """See ``Memory.recent``."""
        options = PageOptions(
            user_id=user_id,
            agent_id=agent_id,
            run_id=run_id,
            namespace=namespace,
            by=by,
            limit=limit,
            data=data,
            touch=touch,
        )
        return await self._run(self._border.recent, options)

    async def get(
        self,
        id: Id | None = None,
        *,
        key: str | None = None,
        namespace: Namespace | None = None,
        user_id: Id | None = None,
        deleted: bool = False,
        data: bool = True,
        touch: bool = True,
    ) -> MemoryRecord | None:
        """See ``Memory.get``."""
        return await self._run(
            self._blocking.get,
            id,
            key=key,
            namespace=namespace,
            user_id=user_id,
            deleted=deleted,
            data=data,
            touch=touch,
        )

    async def page(
        self,
        *,
        user_id: UserId = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        filters: Mapping[str, object] | None = None,
        kinds: Sequence[str] | None = None,
        layers: Sequence[Layer | str] | None = None,
        since: When | None = None,
        until: When | None = None,
        order: Order = "newest",
        by: By = "added",
        limit: int = 100,
        offset: int = 0,
        cursor: str | None = None,
        data: bool = True,
        touch: bool = True,
        archived: bool = False,
    ) -> Page:
        """See ``Memory.page``."""
        options = PageOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, under=under,
            filters=filters, kinds=kinds, layers=layers,
            since=since, until=until, order=order, by=by, limit=limit, offset=offset, cursor=cursor,
            data=data, touch=touch, archived=archived,
        )  # fmt: skip
        return await self._run(self._border.page, options)

    async def iterate(
        self,
        *,
        user_id: UserId = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        filters: Mapping[str, object] | None = None,
        kinds: Sequence[str] | None = None,
        layers: Sequence[Layer | str] | None = None,
        since: When | None = None,
        until: When | None = None,
        order: Order = "newest",
        by: By = "added",
        data: bool = True,
        touch: bool = True,
    ) -> AsyncIterator[MemoryRecord]:
        """See ``Memory.iterate``."""
        options = PageOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, under=under,
            filters=filters, kinds=kinds, layers=layers,
            since=since, until=until, order=order, by=by, limit=ITERATED, data=data, touch=touch,
        )  # fmt: skip
        while True:
            page = await self._run(self._border.page, options, small=True)
            for record in page.records:
                yield record
            if page.cursor is None:
                return
            options = replace(options, cursor=page.cursor)

    # -- looking around ------------------------------------------------------------------------------------------------

    async def count(
        self,
        *,
        user_id: UserId = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        filters: Mapping[str, object] | None = None,
        kinds: Sequence[str] | None = None,
        layers: Sequence[Layer | str] | None = None,
        since: When | None = None,
        until: When | None = None,
    ) -> int:
        """See ``Memory.count``."""
        options = PageOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, under=under,
            filters=filters, kinds=kinds, layers=layers,
            since=since, until=until,
        )  # fmt: skip
        return await self._run(self._border.count, options)

    async def distinct(
        self,
        field: str,
        *,
        user_id: UserId = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        filters: Mapping[str, object] | None = None,
        kinds: Sequence[str] | None = None,
        layers: Sequence[Layer | str] | None = None,
        since: When | None = None,
        until: When | None = None,
    ) -> list[Any]:
        """See ``Memory.distinct``."""
        options = PageOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, under=under,
            filters=filters, kinds=kinds, layers=layers, since=since, until=until,
        )  # fmt: skip
        return await self._run(self._border.distinct, field, options)

    async def users(self, *, agent_id: Id | None = None, run_id: Id | None = None) -> list[Group]:
        """See ``Memory.users``."""
        return await self._run(self._border.users, agent_id, run_id)

    async def user_page(
        self, *, prefix: str = "", limit: int = 100, cursor: str | None = None, most: bool = False
    ) -> UserPage:
        """See ``Memory.user_page``."""
        return await self._run(self._border.user_page, prefix, limit, cursor, most=most)

    async def runs(
        self,
        *,
        user_id: UserId = None,
        agent_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
    ) -> list[Group]:
        """See ``Memory.runs``."""
        options = PageOptions(user_id=user_id, agent_id=agent_id, namespace=namespace, under=under)
        return await self._run(self._border.groups, "runs", options)

    async def agents(
        self,
        *,
        user_id: UserId = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
    ) -> list[Group]:
        """See ``Memory.agents``."""
        options = PageOptions(user_id=user_id, run_id=run_id, namespace=namespace, under=under)
        return await self._run(self._border.groups, "agents", options)

    async def kinds(
        self,
        *,
        user_id: UserId = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
    ) -> list[Group]:
        """See ``Memory.kinds``."""
        options = PageOptions(user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, under=under)
        return await self._run(self._border.groups, "kinds", options)

    async def namespaces(
        self,
        *,
        user_id: UserId = None,
        under: Namespace = (),
        depth: int | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[NamespaceCount]:
        """See ``Memory.namespaces``."""
        return await self._run(self._border.namespaces, user_id, under, depth, limit, offset)

    async def deleted(
        self,
        *,
        user_id: UserId = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        filters: Mapping[str, object] | None = None,
        since: When | None = None,
        until: When | None = None,
        why: Gone = "deleted",
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """See ``Memory.deleted``."""
        options = PageOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, under=under,
            filters=filters, since=since, until=until,
            limit=limit, cursor=cursor,
        )  # fmt: skip
        return await self._run(self._border.deleted, options, why)

    # -- changing ------------------------------------------------------------------------------------------------------

    async def update(
        self,
        id: Id,
        *,
        content: str | Unset | None = UNSET,
        metadata: Mapping[str, Any] | Unset | None = UNSET,
        merge: bool = True,
        ttl: Ttl | Unset | None = UNSET,
        sliding: bool | Unset = UNSET,
        importance: float | Unset | None = UNSET,
        embed: Embed | Unset = UNSET,
        vector: VectorLike | Unset = UNSET,
        data: Any = UNSET,
        if_version: int | None = None,
    ) -> MemoryRecord:
        """See ``Memory.update``."""
        return await self._wait(
            self._blocking.update,
            id,
            content=content,
            metadata=metadata,
            merge=merge,
            ttl=ttl,
            importance=importance,
            embed=embed,
            vector=vector,
            data=data,
            if_version=if_version,
        )

    async def delete(
        self,
        id: Id | None = None,
        *,
        key: str | None = None,
        namespace: Namespace | None = None,
        user_id: Id | None = None,
        if_version: int | None = None,
    ) -> bool:
        """See ``Memory.delete``."""
        return await self._wait(
            self._blocking.delete, id, key=key, namespace=namespace, user_id=user_id, if_version=if_version
        )

    async def touch(self, ids: Sequence[Id], *, ttl: Ttl | Unset | None = UNSET) -> list[bool]:
        """See ``Memory.touch``."""
        return await self._wait(self._blocking.touch, ids, ttl=ttl)

    async def delete_many(self, ids: Sequence[Id]) -> list[bool]:
        """See ``Memory.delete_many``."""
        return await self._wait(self._blocking.delete_many, ids)

    async def pop(
        self,
        *,
        run_id: Id,
        user_id: Id | None = None,
        agent_id: Id | None = None,
        namespace: Namespace | None = None,
        n: int = 1,
        by: By = "event",
    ) -> list[MemoryRecord]:
        """See ``Memory.pop``."""
        options = PageOptions(user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, by=by)
        return await self._wait(self._border.pop, options, n)

    async def delete_all(
        self,
        *,
        user_id: UserId = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        filters: Mapping[str, object] | None = None,
        before: When | None = None,
        dry_run: bool = False,
    ) -> int:
        """See ``Memory.delete_all``."""
        return await self._wait(
            self._blocking.delete_all,
            user_id=user_id,
            agent_id=agent_id,
            run_id=run_id,
            namespace=namespace,
            under=under,
            filters=filters,
            before=before,
            dry_run=dry_run,
        )

    async def erase(self, id: Id) -> EraseReport:
        """See ``Memory.erase``."""
        return await self._wait(self._blocking.erase, id)

    async def erase_all(
        self,
        *,
        user_id: UserId = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        rewrite_backups: bool = False,
    ) -> EraseReport:
        """See ``Memory.erase_all``."""
        options = PageOptions(user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, under=under)
        return await self._wait(self._border.erase_all, options, rewrite_backups)

    async def erasures(self, *, user_id: Id) -> list[Erasure]:
        """See ``Memory.erasures``."""
        return await self._run(self._blocking.erasures, user_id=user_id)

    async def vectors(self, ids: Sequence[Id]) -> list[Vectors | None]:
        """See ``Memory.vectors``."""
        return await self._run(self._blocking.vectors, ids)

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> list[list[float]]:
        """See ``Memory.embed``."""
        await self._open()
        return await _on(self._border.handle.engine().searches, partial(self._blocking.embed, texts, query=query))

    async def history(self, id: Id) -> list[HistoryEvent]:
        """See ``Memory.history``."""
        return await self._run(self._blocking.history, id)

    async def restore(self, id: Id, *, version: int | None = None) -> MemoryRecord:
        """See ``Memory.restore``."""
        return await self._wait(self._blocking.restore, id, version=version)

    async def restore_all(
        self,
        *,
        user_id: Id | None = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        filters: Mapping[str, object] | None = None,
        since: When | None = None,
        until: When | None = None,
        why: Gone = "deleted",
        dry_run: bool = False,
    ) -> int:
        """See ``Memory.restore_all``."""
        options = PageOptions(
            user_id=user_id,
            agent_id=agent_id,
            run_id=run_id,
            namespace=namespace,
            under=under,
            filters=filters,
            since=since,
            until=until,
        )
        return await self._wait(self._border.restore_all, options, why, dry_run)

    async def feedback(
        self, id: Id, *, rating: float | None = None, accepted: bool | None = None, query: str | None = None
    ) -> None:
        """See ``Memory.feedback``."""
        await self._wait(self._blocking.feedback, id, rating=rating, accepted=accepted, query=query)

    # -- agents ------------------------------------------------------------------------------------------------------

    def session(
        self,
        run_id: Id | None = None,
        *,
        user_id: Id | None = None,
        agent_id: Id | None = None,
        namespace: Namespace | None = None,
        ttl: Ttl | Unset | None = UNSET,
        embed: bool = True,
    ) -> AsyncSession:
        """See ``Memory.session``; not awaited itself."""
        from agentmem.client.asyncagents import AsyncSession

        blocking = self._blocking.session(
            run_id, user_id=user_id, agent_id=agent_id, namespace=namespace, ttl=ttl, embed=embed
        )
        return AsyncSession(blocking, self._wait, self._settle)

    async def sessions(
        self,
        *,
        user_id: Id | None = None,
        agent_id: Id | None = None,
        namespace: Namespace | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[SessionInfo]:
        """See ``Memory.sessions``."""
        return await self._run(
            self._blocking.sessions,
            user_id=user_id,
            agent_id=agent_id,
            namespace=namespace,
            limit=limit,
            offset=offset,
        )

    def blocks(
        self,
        *,
        user_id: Id | None = None,
        agent_id: Id | None = None,
        namespace: Namespace | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> AsyncBlocks:
        """See ``Memory.blocks``; not awaited itself."""
        from agentmem.client.asyncagents import AsyncBlocks

        blocking = self._blocking.blocks(user_id=user_id, agent_id=agent_id, namespace=namespace, tokenizer=tokenizer)
        return AsyncBlocks(blocking, self._wait)

    def consolidation(
        self,
        *,
        user_id: Id | None = None,
        namespace: Namespace | None = None,
        model: Model | str | None = None,
    ) -> AsyncConsolidation:
        """See ``Memory.consolidation``; its calls are awaited."""
        from agentmem.client.asyncknowing import AsyncConsolidation

        blocking = self._blocking.consolidation(user_id=user_id, namespace=namespace, model=model)
        return AsyncConsolidation(blocking, self._wait)

    # -- the store -----------------------------------------------------------------------------------------------------

    @property
    def lifecycle(self) -> AsyncLifecycleClient:
        """See ``Memory.lifecycle``."""
        return AsyncLifecycleClient(self._blocking.lifecycle, self._wait)

    @property
    def tiers(self) -> AsyncTiersClient:
        """See ``Memory.tiers``."""
        return AsyncTiersClient(self._blocking.tiers, self._wait)

    @property
    def values(self) -> AsyncValuesClient:
        """See ``Memory.values``."""
        return AsyncValuesClient(self._blocking.values, self._wait)

    @property
    def backup(self) -> AsyncBackupClient:
        """See ``Memory.backup``."""
        return AsyncBackupClient(self._blocking.backup, self._wait)

    async def export(
        self,
        url: str | os.PathLike[str],
        *,
        user_id: UserId = ALL,
        description: str | None = None,
        encryption: str | None = None,
        keyring: str | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> BackupInfo:
        """See ``Memory.export``."""
        return await self._wait(
            self._blocking.export, url, user_id=user_id, description=description, encryption=encryption,
            keyring=keyring, progress=progress,
        )  # fmt: skip

    async def import_(
        self,
        url: str | os.PathLike[str],
        *,
        id: str | None = None,
        user_id: UserId = ALL,
        encryption: str | None = None,
        keyring: str | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> ImportReport:
        """See ``Memory.import_``."""
        return await self._wait(
            self._blocking.import_, url, id=id, user_id=user_id, encryption=encryption, keyring=keyring,
            progress=progress,
        )  # fmt: skip

    async def create_snapshot(self, description: str | None = None) -> str:
        """See ``Memory.create_snapshot``."""
        return (await self.backup.create("snapshot", description=description)).id

    async def snapshots(self) -> Sequence[BackupInfo]:
        """See ``Memory.snapshots``."""
        return await self.backup.snapshots()

    async def restore_snapshot(self, id: str) -> RestoreReport:
        """See ``Memory.restore_snapshot``."""
        return await self.backup.restore(id)

    async def drop_snapshot(self, id: str) -> BackupInfo:
        """See ``Memory.drop_snapshot``."""
        return await self.backup.drop_snapshot(id)

    async def events(
        self, *, after: int = 0, before: int | None = None, order: Order = "oldest", limit: int = 100
    ) -> list[StoreEvent]:
        """See ``Memory.events``."""
        return await self._run(self._border.events, after, before, order, limit)

    async def flush(self) -> None:
        """See ``Memory.flush``."""
        await self._wait(self._blocking.flush)

    async def warm_up(self) -> None:
        """See ``Memory.warm_up``."""
        await self._wait(self._blocking.warm_up)

    async def stats(self) -> Stats:
        """See ``Memory.stats``."""
        return await self._run(self._blocking.stats)

    async def health(self) -> Health:
        """See ``Memory.health``."""
        await self._open()
        return await in_thread(self._blocking.health)

    async def kpis(self) -> Kpis:
        """See ``Memory.kpis``."""
        return await self._run(self._blocking.kpis)

    async def verify(self) -> VerifyReport:
        """See ``Memory.verify``."""
        return await self._wait(self._blocking.verify)

    async def repair(self, *, salvage: bool = False) -> VerifyReport:
        """See ``Memory.repair``."""
        # On a thread of its own: those of the engine end with it when a salvage closes it.
        return await in_thread(partial(self._blocking.repair, salvage=salvage))

    async def reembed(
        self,
        model: AnyEmbedder,
        *,
        progress: Callable[[int, int], object] | None = None,
        given: Given = "refuse",
    ) -> ReembedReport:
        """See ``Memory.reembed``; ``progress`` is called on a worker thread."""
        await self._open(any_model=True)
        return await self._wait(self._blocking.reembed, model, progress=progress, given=given)

    async def compact(self) -> None:
        """See ``Memory.compact``."""
        await self._wait(self._blocking.compact)

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _open(self, *, any_model: bool = False) -> None:
        """Open the store off the loop if this is the first call."""
        if not self._border.handle.is_open:
            await wait_for(self._border.handle.opening(any_model=any_model))

    async def _put(self, engine: Engine, drafts: Sequence[Draft], first_index: int | None = None) -> list[Created]:

        async def begin() -> list[Created]:
            return await wait_for(operations.add.submit_puts(engine, drafts, first_index))

        return await self._once_here(begin, partial(operations.add.put, engine, drafts, first_index))

    async def _once_here(self, change: Callable[[], Awaitable[T]], bring: Callable[[], T]) -> T:
        """What a change gives or, if anything has to come back from an archive first, what does that and changes it,
        on a thread."""
        try:
            return await change()
        except ConflictError as exc:
            if not operations.glacier.is_away(exc):
                raise
            return await self._wait(bring)

    async def _run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A call that reads, on one of the engine's threads."""
        await self._open()
        return await _on(self._border.handle.engine().reads, partial(call, *args, **kwargs))

    async def _search(self, options: SearchOptions, call: Callable[[], T]) -> T:
        """A call that reads, after it has waited for the model unless it looks for words only."""
        await self._open()
        engine = self._border.handle.engine()
        return await _on(engine.reads if words_only(options) else engine.searches, call)

    async def _wait(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A call that waits for a commit, or for what goes on in the background."""
        await self._open()
        return await _on(self._border.handle.engine().waits, partial(call, *args, **kwargs))

    async def _settle(self, begin: Callable[[Session, Any], Pending[T]], session: Session, said: object) -> T:
        """A call that begins a change: made here, or on a thread where checking what was said is much work."""
        await self._open()
        pending = begin(session, said) if is_light(said) else await self._run(begin, session, said)
        return pending.made(await wait_for(pending.future))

    async def _check(
        self, importing: Importing, items: Sequence[Item], common: tuple[object, ...], first_index: int
    ) -> Checked:
        """Check a batch; where that is much work, off the loop. What is common to them is checked for each."""
        check = partial(importing.check, items, first_index)
        light = not importing.reads and is_light(items, [each for each in common if each is not None] * len(items))
        return check() if light else await self._run(check)


def client_beside(blocking: Memory, border: Border) -> AsyncMemory:
    """The same client for event loops; whoever opened it closes it."""
    client = AsyncMemory.__new__(AsyncMemory)
    client.__dict__.update(_blocking=blocking, _border=border, _opened=False)
    return client


def own_namespace(view: AsyncMemory) -> AsyncMemory:
    """A client of the same user that may name namespaces that begin with ``$``, for surfaces that keep something of
    their own there, as sessions do: out of the way of the user's records, and gone when the user is erased."""
    border = view._border.own()  # pyright: ignore[reportPrivateUsage]
    return client_beside(client_on(border), border)


async def _on(workers: Workers, call: Callable[[], T]) -> T:
    return await wait_for(workers.submit(call))
