"""``Memory``: the blocking client, and the one place that says what each operation takes and means.

Most of its lines are signatures and their documentation, which belong together; what the calls do is elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any

from agentmem import operations
from agentmem.client import moving
from agentmem.client.arguments import feedback_data, patch_of
from agentmem.client.backups import BackupClient
from agentmem.client.border import ITERATED, Border
from agentmem.client.checks import (
    check_batch,
    check_chunk,
    check_contents,
    check_flag,
    check_given,
    check_id,
    check_ids,
    check_stream,
    check_ttl,
    check_version,
)
from agentmem.client.erasing import erase_one
from agentmem.client.handle import Handle
from agentmem.client.importing import Importing
from agentmem.client.lifecycle import LifecycleClient
from agentmem.client.options import AddOptions, PageOptions, SearchOptions
from agentmem.client.streaming import AddStream, Unread
from agentmem.client.tiers import TiersClient
from agentmem.client.values import ValuesClient
from agentmem.types.checks import check_number
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
from agentmem.types.errors import InvalidInputError, ScopeError, StoreCorruptError
from agentmem.types.inputs import Item
from agentmem.types.ports import AnyEmbedder
from agentmem.types.promise import aside
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
    from agentmem import AsyncMemory
    from agentmem.agent.blocks import Blocks
    from agentmem.agent.sessions import Session, SessionInfo
    from agentmem.agent.tokens import Tokenizer
    from agentmem.knowledge.consolidation import Consolidation
    from agentmem.knowledge.ports import Model
    from agentmem.settings import Settings
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
        AsyncMemory,
        BackupInfo,
        Blocks,
        Consolidation,
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
        Session,
        SessionInfo,
        Settings,
        Stats,
        Tokenizer,
        UserPage,
        VerifyReport,
    )


class Memory:
    """A memory for agents and chatbots, on local disk.

    ``path`` is the store's folder (default ``.agentmem`` in the working directory), made on first use; ``~`` is the
    home folder, and ``":memory:"`` a private store that is gone when it is closed. ``embedder`` is None for that of the
    settings, else the bundled model; the name of a model that fastembed knows, the folder of an ONNX model, an object
    with the ``Embedder`` or the ``RemoteEmbedder`` protocol, or a function, also an async one, that embeds a list of
    texts; or where one of these is to be imported from, ``"module:object"``. ``clock`` returns aware datetimes and
    replaces the system's time, for tests. With ``read_only`` nothing is written, not even that something
    was read, and changes raise ``ReadOnlyError``; others may write meanwhile.

    Opens on the first call; use it as a context manager, or ``close()`` it. Safe to share between threads; several
    processes may open one store. All clients of one path in a process share one engine.

    Whose memories: ``user_id`` is a wall. Given, only that user's records take part; left out, only records that were
    stored without a user; ``ALL`` (reads only) means everybody's. ``agent_id`` and ``run_id`` narrow further.
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
        self.handle = Handle(path, settings, embedder, clock, read_only=read_only)
        self._border = Border(self.handle)
        self._opened = True

    def __enter__(self) -> Memory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish what is queued and release the store, for its views and for ``aio``, too.

        A view, and what ``AsyncMemory.blocking`` gives, have nothing of their own to close: this does nothing there.
        """
        if self._opened:
            self.handle.close()

    def scoped(
        self,
        *,
        user_id: Id | None = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
    ) -> Memory:
        """A view of the same store with the scope bound: every call uses it, and a foreign id is absent to it.

        Bound to one ``namespace``, it is at home there. Bound ``under`` one, its calls may name any that lie below;
        what they read is all of them together, unless they name one, and what they put lies in that one itself.

        Raises ``ScopeError`` for no scope at all, and later for calls that name another one.
        """
        return client_on(self._border.scoped(user_id, agent_id, run_id, namespace, under))

    def userless(self, *, agent_id: Id | None = None, run_id: Id | None = None) -> Memory:
        """A view of the records that were stored without a user, as ``scoped`` gives one of a user's.

        Every call on it concerns these alone, ``get`` and ``delete_all()`` included; with a ``user_id`` it raises
        ``ScopeError``, and so does ``userless`` itself on a view of a user.
        """
        return client_on(self._border.userless(agent_id, run_id))

    @property
    def aio(self) -> AsyncMemory:
        """This client for event loops: the same store, engine and scope, for code that awaits.

        Made anew each time, at no cost, so nothing of it needs to be kept. It has nothing of its own to close: it works
        until this client is closed, and closing it, or leaving an ``async with`` of it, does nothing.
        """
        return _for_loops().client_beside(self, self._border)

    # -- adding ------------------------------------------------------------------------------------------------------

    def add(
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
        """Remember one thing; returns once it is durable, and the very next search finds it.

        ``item`` is text, a chat message, as a dict ``{"role": ..., "content": ...}`` or as the object of a chat API's
        library, or a ``NewMemory``; what it says itself goes before the arguments. ``importance`` is in [0, 1]; ``ttl``
        (seconds or a timedelta) is a promise: from then on the record is invisible. With ``sliding`` it counts from the
        last read, to within a tenth of it: a get, a search or a list that returns the record puts its end off.
        ``occurred_at`` is when it happened, if not now.

        ``data`` is any JSON of up to 16 MiB, which comes back as it was; the content may then be left out
        (``add({}, data=...)``). What a message has besides role and text is its data. See docs/data.md.

        ``embed`` is what it is found by in a search by meaning: its content (True, as it is without it), nothing
        (False: no vector is made, and only its words find it), or a list of up to 256 texts in the place of the
        content, of which the nearest to a query counts; their words find it, too. ``vector`` is a vector of your own
        instead, or up to 256 of them, of the model's dimension; it is normalised. See docs/vectors.md.

        A plain fact (no role, no run, no data, no id of yours) that is already there is not stored again; ``dedupe``
        overrides that. It is the same fact if scope, kind, ``occurred_at`` and the words are the same. Saying it again
        never shortens its life: the later end and the higher layer win (no ``ttl`` is for good), its time in its layer
        begins anew, and metadata and importance are merged as by ``update``; what ``embed`` or ``vector`` says, if
        either is given, takes the place of what was. The result has the status ``"refreshed"``, or ``"duplicate"`` if
        this brought nothing new. The same goes for the same content under the same ``id`` and scope,
        so that a call with an id can be repeated safely; its data must then be the same, too, if any is given.

        A record of another store, also as its ``to_dict()``, keeps its id, its namespace and its key; nothing is
        replaced by it.

        Raises ``InvalidInputError``, ``ScopeError``, ``ConflictError`` (the id, or a record's key, is taken),
        ``EmbeddingError``, ``StoreError``.
        """
        options = AddOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, role=role, kind=kind, layer=layer,
            metadata=metadata, importance=importance, ttl=ttl, sliding=sliding, occurred_at=occurred_at,
            embed=embed, vector=vector, id=id, dedupe=dedupe, data=data,
        )  # fmt: skip
        defaults = self._border.defaults(options)
        engine = self.handle.engine(to_commit=True)
        drafts = self._border.draft(item, defaults)
        return operations.add.results(engine, operations.add.submit(engine, drafts, here=True).result())[0]

    def add_many(
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
        """Remember up to 10,000 things in one transaction: all of them or, if anything is wrong, none.

        Arguments are as for ``add`` and serve as defaults for the items. A bad item raises with its position as
        ``.index``. With ``on_error="skip"`` it is left out, and so is one whose id is taken: the result's ``skipped``
        says which, and why, and the results are those of the others. ``on_conflict="skip"`` does that for taken ids
        and keys alone, also where another process takes one at the same moment; the same content under its id is a
        duplicate, as for ``add``. ``repair=True`` puts U+FFFD in place of what no store can hold: lone surrogates and
        NULs in content, role, kind and metadata.

        ``source`` names what is imported, a file for one: adding the same again under the same source adds nothing, not
        even messages, which are not deduplicated otherwise. The second of two equal items is another one; what has
        expired since is added anew; what was changed or deleted here since stays so, and is in ``skipped``.
        """
        options = AddOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, role=role, kind=kind, layer=layer,
            metadata=metadata, importance=importance, ttl=ttl, sliding=sliding, occurred_at=occurred_at,
            embed=embed, dedupe=dedupe, data=data,
        )  # fmt: skip
        importing = self._border.importing(
            options, on_error=on_error, on_conflict=on_conflict, repair=repair, source=source
        )
        engine = self.handle.engine(to_commit=True)
        checked = importing.check(check_batch(items), 0)
        created = operations.add.submit(engine, checked.drafts, 0, here=True).result()
        return operations.add.results(engine, created, checked.skipped, checked.indexes)

    def add_stream(
        self,
        items: Iterable[Item],
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
    ) -> Iterator[AddResults]:
        """Remember any number of things in memory that does not grow; each yielded list is durable.

        ``chunk`` items are committed at a time, as the result is iterated over: nothing is stored before, and one that
        is dropped unread warns. An error ends the stream after the chunks before it were yielded; a bad
        item raises with its position in the whole stream as ``.index``. ``on_error``, ``on_conflict``, ``repair`` and
        ``source`` are as for ``add_many``; of a source some 100 bytes are kept for each item, so that memory grows by
        that.
        """
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
        if not isinstance(stream, Iterator):
            raise InvalidInputError("items is an async iterable; use AsyncMemory for it, or a plain one", field="items")
        return self._stream(stream, chunk, importing, Unread())

    def _stream(self, items: Iterator[Item], chunk: int, importing: Importing, unread: Unread) -> Iterator[AddResults]:
        unread.started = True
        stream = AddStream(self.handle.engine())
        try:
            while not stream.ended:
                try:
                    if batch := list(islice(items, chunk)):
                        stream.push(len(batch), importing.check(batch, stream.position))
                    else:
                        stream.end()
                except Exception as exc:
                    stream.fail(exc)
                while (future := stream.due()) is not None:
                    yield stream.results(future.result())
        finally:
            stream.cancel()

    # -- by key ------------------------------------------------------------------------------------------------------

    def put(
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
        """Store one thing under a key; what has the key already is replaced as a whole, and keeps its id.

        A key is text of up to 2 KiB, and one record of a user's ``namespace`` has it: it belongs to no agent and no
        run, which are only said of the record. Nothing is deduplicated; each put is a version, with its event in the
        history. The status is ``"added"`` or ``"replaced"``. With ``data``, any JSON, there need be no ``content``.

        ``if_version`` makes it conditional on the version that was read; 0 means that there must be none. A key that
        was deleted, has expired or was erased is free again, and goes on with its version: who still knows one of
        before cannot succeed with it. ``id`` is for a new record; one that is there must have it. Otherwise the
        arguments are those of ``add``.

        Raises ``ConflictError`` (another version, the record is that of another agent or run or has another id, or the
        id is taken) and what ``add`` does.
        """
        options = AddOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, role=role, kind=kind, layer=layer,
            metadata=metadata, importance=importance, ttl=ttl, sliding=sliding, occurred_at=occurred_at,
            embed=embed, vector=vector, id=id, data=data,
        )  # fmt: skip
        defaults = self._border.defaults(options)
        engine = self.handle.engine(to_commit=True)
        drafts = [self._border.keyed(key, content, defaults, if_version)]
        return operations.add.results(engine, operations.add.put(engine, drafts))[0]

    def put_many(
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
        """Store up to 10,000 things by their keys in one transaction: all of them or, if anything is wrong, none.

        Each item is a mapping with ``key``, ``content`` and what it says besides, ``id`` and ``if_version`` too, or a
        record that has a key; the arguments serve as defaults. A key may occur once in a namespace. A bad item raises
        with its position as ``.index``.
        """
        options = AddOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, role=role, kind=kind, layer=layer,
            metadata=metadata, importance=importance, ttl=ttl, sliding=sliding, occurred_at=occurred_at,
            embed=embed, data=data,
        )  # fmt: skip
        defaults = self._border.defaults(options)
        engine = self.handle.engine(to_commit=True)
        drafts = self._border.keyed_batch(items, defaults)
        return operations.add.results(engine, operations.add.put(engine, drafts, 0))

    def apply(self, changes: Sequence[Operation]) -> list[Applied]:
        """Make up to 1,000 changes in one transaction: all of them or, if one cannot be made, none.

        ``changes`` are ``Put``, ``Update``, ``Delete`` and ``Touch`` values, whose fields are the arguments of the
        calls of these names, and ``Add`` values, whose item says all there is to say; records go by their ids or by
        their keys. They are made in this order, so that one sees what those before it did, also to the same record;
        texts are embedded before. Returns for each what became of it: an ``AddResult``, of an ``Update`` the record as
        it was after it, of a ``Delete`` or ``Touch`` whether there was a record.

        ``if_version`` makes a change, and with it all of them, conditional. Errors (``ConflictError``,
        ``NotFoundError``, ``InvalidInputError``, ``ScopeError``) have the position of the change as ``.index``; nothing
        was changed then.
        """
        engine = self.handle.engine(to_commit=True)
        steps = applying().steps(self._border, engine, changes)
        return operations.apply.results(engine, operations.apply.apply(engine, steps))

    # -- finding -----------------------------------------------------------------------------------------------------

    def search(
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
        """The memories that answer a query best, best first: ``limit`` of them whenever the scope has that many.

        ``mode`` is ``"hybrid"`` (meaning and words), ``"vector"`` or ``"keyword"`` (only records with a word of the
        query). ``filters`` address metadata, Mongo style (see docs/filters.md); ``since`` (inclusive) and ``until``
        (exclusive) compare with ``occurred_at``, or ``created_at`` where that is not set; ``as_of`` leaves out what was
        added later and measures recency from then; ``valid_at`` leaves out what did not hold in the world at that time
        (docs/consolidation.md), and facts that were retired are left out in any case, unless ``as_of`` is before that.
        ``min_similarity`` is the least cosine, in [-1, 1]. Scope and
        filters hold before the cut to ``limit``. ``offset`` passes over that many of the best hits, as an application
        does that shows pages of them; those are found and scored each time, so ``offset + limit`` is at most 10,000.

        ``rank="similarity"`` orders by the plain cosine: no words, no bonus for what is recent, important or well
        rated, nothing cut off at 0; a hit's ``score`` is then its ``similarity``, in [-1, 1]. ``explain`` gives each
        hit ``details`` and the result its ``trace``. With ``data=False`` hits come without their data.

        ``vector`` is one of your own to compare with, instead of the query's embedding; without a ``query`` words have
        no say. A memory with several vectors counts by the nearest one. One that has none is found by its words only:
        not by ``mode="vector"`` or ``rank="similarity"``, nor where there is a ``min_similarity``.

        What is returned counts as used, which moves its relevance and puts off the end of what slides; with
        ``touch=False`` nothing is noted, as it should be for dashboards and exports.

        Records that lie in archives (docs/glacier.md) are passed over, and the results' ``skipped_archived`` counts
        them. With ``include_glacier`` they are read and scored like all others, so that the answer is that of a store
        without archives, for as much reading; ``ArchiveError`` and below where that cannot be done.

        ``time_zone`` is an IANA name ("Europe/Berlin"; None: the setting ``retrieval.time_zone``): "yesterday" in the
        query is a day there, and so is ``since="2025-03-01"``, as every time without an offset is one of that zone.

        Raises ``InvalidInputError``, ``FilterError``, ``ScopeError``, ``EmbeddingError``, ``StoreError``.
        """
        options = SearchOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, under=under,
            limit=limit, offset=offset, filters=filters, kinds=kinds,
            layers=layers, since=since, until=until, as_of=as_of, valid_at=valid_at, time_zone=time_zone,
            mode=mode, rank=rank,
            min_similarity=min_similarity, vector=vector, explain=explain, data=data, touch=touch,
            include_glacier=include_glacier,
        )  # fmt: skip
        return self._border.search(query, options)

    def search_many(
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
        """The same as ``search`` for each of up to 10,000 queries of one scope, in their order: for evaluations, for
        texts that are looked for one by one, for finding what is there already.

        All of them are checked before the first is searched for; a bad one raises with its ``index``. What is written
        meanwhile is seen by those that come after it.

        Raises what ``search`` raises.
        """
        options = SearchOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, under=under,
            limit=limit, offset=offset, filters=filters, kinds=kinds,
            layers=layers, since=since, until=until, as_of=as_of, valid_at=valid_at, time_zone=time_zone,
            mode=mode, rank=rank,
            min_similarity=min_similarity, explain=explain, data=data, touch=touch,
            include_glacier=include_glacier,
        )  # fmt: skip
        return [call() for call in self._border.searches(queries, options)]

    def context(
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
        """What to paste into a prompt: the best memories for the query, without repetitions.

        They come by the time of the event (``occurred_at``, else ``created_at``), oldest first, and in the order of
        adding where that is the same. A day of the ``time_zone`` (see ``search``) is a line, ``2025-03-01:``, and each
        memory of it an entry below, ``- role: text``. Further lines of a text begin with ``  | ``, so that no text
        looks like another entry, and a text without a role that has a colon in its first line stands in quotation
        marks.

        The text has at most ``max_tokens`` tokens as ``count_tokens`` counts them; left out, a token is taken to be
        three bytes of UTF-8, which overestimates. As many memories as fit are shown, best first: one that is too long
        for what is left is passed over, until 50 in a row were (1,000 while less than half of the budget is used).
        The best are those that ``search`` finds, in an order in which runs that are near to the query, speakers whom it
        names, and what is no question come sooner (docs/retrieval.md). Empty if nothing was found or nothing fits.
        """
        options = SearchOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, under=under,
            filters=filters, kinds=kinds, layers=layers,
            since=since, until=until, time_zone=time_zone, mode=mode, min_similarity=min_similarity, touch=touch,
        )  # fmt: skip
        return self._border.context(query, options, max_tokens=max_tokens, count_tokens=count_tokens)

    def recent(
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
        """The last ``limit`` records of a conversation, oldest first.

        They come in the order in which they happened, also where they were added in another one: by ``occurred_at``,
        and what has none where it was added. ``by="added"`` follows the order of adding alone. ``record.message`` is
        the message for a chat API; with ``data=False`` only its role and its text are read. ``touch`` is as for
        ``page``.
        """
        return self._border.recent(
            PageOptions(
                user_id=user_id,
                agent_id=agent_id,
                run_id=run_id,
                namespace=namespace,
                by=by,
                limit=limit,
                data=data,
                touch=touch,
            )
        )

    def get(
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
        """The record with this id, or None if there is none (here), or it is deleted or expired.

        With ``key`` instead, the one that was put by it, in the ``namespace`` of the user. ``data=False`` leaves its
        data out.

        With ``deleted=True`` also one that was deleted or has expired, as long as ``restore`` can bring it back;
        ``updated_at`` is when it went. Looking at such a record is no use of it, nor is any with ``touch=False``. Not
        with ``key``: what is gone has given its key back.
        """
        wanted, with_data, used = check_flag(deleted, "deleted"), check_flag(data, "data"), check_flag(touch, "touch")
        place = self._border.by_key(id, key, namespace, user_id)
        if place is None:
            return operations.read.get(
                self.handle.engine(), check_id(id), self._border.bound, deleted=wanted, data=with_data, touch=used
            )
        if wanted:
            raise InvalidInputError("deleted=True finds a record by its id; its key is free again", field="deleted")
        return operations.keys.get(self.handle.engine(), *place, data=with_data, touch=used)

    def page(
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
        """Records of a scope, newest or oldest first; pass the page's ``cursor`` to get the next one.

        ``by`` is what the list follows: ``"added"``, the order of adding; ``"event"``, the time of the event:
        ``occurred_at``, and what has none stands where it was added; or ``"updated"``, the time of the last change
        (``updated_at``). Ties go by the order of adding. ``since`` (inclusive) and ``until`` (exclusive) compare with
        ``occurred_at``, or ``created_at`` where that is not set, whatever the list follows.

        Records that are added or deleted between two pages neither repeat nor hide others. By ``"updated"`` a record
        that changes moves to the newest end: oldest first it comes (once more) as it is then, newest first it is no
        longer among what is older. Such a page looks at the whole scope; the others do not.

        ``offset`` passes over that many records, for a page that was chosen by its number. It is meant for small
        numbers: they are walked over each time, and what is added meanwhile shifts the rest, as it does not with a
        ``cursor``. Both at once are refused. ``data=False`` leaves out the data that records have.

        A list is no use of what is on it, but it puts off the end of what slides, unless ``touch=False``.

        With ``archived``, it is a list of those records that lie in archives (docs/glacier.md), which are fetched, and
        of no others; ``filters`` on ``$content`` find none of them. ``ArchiveError`` and below if they cannot be read.
        """
        options = PageOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, under=under,
            filters=filters, kinds=kinds, layers=layers,
            since=since, until=until, order=order, by=by, limit=limit, offset=offset, cursor=cursor,
            data=data, touch=touch, archived=archived,
        )  # fmt: skip
        return self._border.page(options)

    def iterate(
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
    ) -> Iterator[MemoryRecord]:
        """Every record of a scope, read page by page; the arguments are those of ``page``."""
        options = PageOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, under=under,
            filters=filters, kinds=kinds, layers=layers,
            since=since, until=until, order=order, by=by, limit=ITERATED, data=data, touch=touch,
        )  # fmt: skip
        while True:
            page = self._border.page(options, small=True)
            yield from page.records
            if page.cursor is None:
                return
            options = replace(options, cursor=page.cursor)

    # -- looking around ----------------------------------------------------------------------------------------------

    def count(
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
        """How many records ``page`` would list. Looks at every one of the scope, as do ``users`` and its kin."""
        options = PageOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, under=under,
            filters=filters, kinds=kinds, layers=layers,
            since=since, until=until,
        )  # fmt: skip
        return self._border.count(options)

    def distinct(
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
        """The different values of a field among the records that ``page`` would list.

        ``field`` is written as in filters: a key of the metadata, with dots into objects, or a field of the record such
        as ``"$run_id"``. Of a list every element counts, as it does for a filter; where there is no value, none does.
        Values are equal within their type, ``1`` and ``1.0`` to each other. They come by type and then from low to
        high: None, False and True, numbers, text, lists, objects; times are datetimes.

        Looks at every record of the scope, and holds all different values at once.
        """
        options = PageOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, under=under,
            filters=filters, kinds=kinds, layers=layers, since=since, until=until,
        )  # fmt: skip
        return self._border.distinct(field, options)

    def users(self, *, agent_id: Id | None = None, run_id: Id | None = None) -> list[Group]:
        """Everybody who has records here, with their number and the first and the last time; for administration.

        A view lists the user that it is bound to, and nobody else. The one with the latest event comes first, then they
        go by name; a group without a name holds the records of no user.
        """
        return self._border.users(agent_id, run_id)

    def user_page(
        self, *, prefix: str = "", limit: int = 100, cursor: str | None = None, most: bool = False
    ) -> UserPage:
        """Everybody who has records here, ``limit`` at a time; for administration.

        The one whose first record came last comes first. With ``prefix``, those whose names begin so, by name; a page
        of them may be short, or empty, and still have a cursor. Takes milliseconds, however many users there are, where
        ``users`` reads every record. With ``most`` those who have the most records, the first ``limit`` of them, which
        counts an entry of the index for each record. A view has none: ``ScopeError``.
        """
        return self._border.user_page(prefix, limit, cursor, most=most)

    def runs(
        self,
        *,
        user_id: UserId = None,
        agent_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
    ) -> list[Group]:
        """The conversations of a scope, the one with the latest event first, then by name.

        With ``user_id=ALL`` each is there once for every user who has records in it.
        """
        options = PageOptions(user_id=user_id, agent_id=agent_id, namespace=namespace, under=under)
        return self._border.groups("runs", options)

    def agents(
        self,
        *,
        user_id: UserId = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
    ) -> list[Group]:
        """The agents of a scope, as ``runs`` lists conversations."""
        options = PageOptions(user_id=user_id, run_id=run_id, namespace=namespace, under=under)
        return self._border.groups("agents", options)

    def kinds(
        self,
        *,
        user_id: UserId = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
    ) -> list[Group]:
        """The kinds of a scope's records, the one with the latest event first, then by name."""
        options = PageOptions(user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, under=under)
        return self._border.groups("kinds", options)

    def namespaces(
        self,
        *,
        user_id: UserId = None,
        under: Namespace = (),
        depth: int | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[NamespaceCount]:
        """Namespaces with live records and how many those have, by their paths.

        ``under`` names one to list what lies at it and below. With ``depth``, paths are cut to so many parts, and what
        lies deeper is counted there. ``limit`` of them, after the first ``offset``.
        """
        return self._border.namespaces(user_id, under, depth, limit, offset)

    def deleted(
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
        """Records that were deleted and can be brought back, the last one first; ``updated_at`` is when that was.

        With ``why="expired"``, those whose time in their layer was over, or that were evicted. ``since`` (inclusive)
        and ``until`` (exclusive) say when they went. What was erased is not there, nor what has a ``ttl`` that has
        passed.
        """
        options = PageOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, under=under,
            filters=filters, since=since, until=until,
            limit=limit, cursor=cursor,
        )  # fmt: skip
        return self._border.deleted(options, why)

    # -- changing ----------------------------------------------------------------------------------------------------

    def update(
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
        """Change a record; what is left out stays. Returns the record as it is now.

        ``metadata`` is merged key by key (None removes a key; None for the whole removes all); with ``merge=False`` it
        replaces what is there, and is kept as ``add`` would keep it. ``ttl`` counts from now; None removes the limit.
        What slides goes on by the new ``ttl``, unless ``sliding`` says otherwise. ``if_version`` makes the change
        conditional on the version that was read. ``data`` takes the place of what was; None removes it. Of a record
        with data the ``content`` may be removed (None).

        A new content is embedded, unless other texts or vectors of yours stand for it: those stay as they are, until
        ``embed`` or ``vector`` brings others; ``embed=True`` is the content's embedding again.

        Raises ``NotFoundError``, ``ConflictError`` (another version), ``InvalidInputError``, ``EmbeddingError``.
        """
        engine = self.handle.engine()
        patch = patch_of(
            engine.settings, engine.now(),
            content=content, metadata=metadata, merge=merge, ttl=ttl, sliding=sliding, importance=importance,
            if_version=if_version, embed=embed, vector=vector, data=data,
        )  # fmt: skip
        return operations.change.update(engine, check_id(id), patch, self._border.bound)

    def delete(
        self,
        id: Id | None = None,
        *,
        key: str | None = None,
        namespace: Namespace | None = None,
        user_id: Id | None = None,
        if_version: int | None = None,
    ) -> bool:
        """Hide a record everywhere before this returns; False if there was none. ``restore`` brings it back.

        With ``key`` instead of the id, the one that was put by it, in the ``namespace`` of the user. With
        ``if_version``, only if it is at that version; else ``ConflictError`` is raised.
        """
        wanted = check_version(if_version, "if_version")
        place = self._border.by_key(id, key, namespace, user_id)
        if place is not None:
            return operations.keys.delete(self.handle.engine(), *place, if_version=wanted)
        return operations.change.delete(self.handle.engine(), check_id(id), self._border.bound, if_version=wanted)

    def touch(self, ids: Sequence[Id], *, ttl: Ttl | Unset | None = UNSET) -> list[bool]:
        """Say that up to 10,000 records were used, now, in one transaction; says for each whether it is there.

        It counts as a ``get`` does, and puts off the end of those whose ``ttl`` slides. With ``ttl`` they are over that
        long from now, whatever was said before, and those that slide go on by that; None: never. Nothing of it is a
        version or in the history of a record; ``events`` tells.
        """
        span = UNSET if ttl is UNSET else None if ttl is None else check_ttl(ttl)
        return operations.touch.touch(
            self.handle.engine(), check_ids(ids, "touch", "write [id] for one"), span, self._border.bound
        )

    def delete_many(self, ids: Sequence[Id]) -> list[bool]:
        """Delete up to 10,000 records in one transaction: all of those that are there, or, if it fails, none.

        Says for each id, in their order, whether there was a record, as ``delete`` does; an id that comes a second time
        is gone by then. A view finds its own records only. ``restore`` brings them back.

        Raises ``InvalidInputError`` with the position of what is no id as ``.index``; then nothing was deleted.
        """
        return operations.change.delete_many(
            self.handle.engine(), check_ids(ids, "delete_many", "delete() takes one"), self._border.bound
        )

    def pop(
        self,
        *,
        run_id: Id,
        user_id: Id | None = None,
        agent_id: Id | None = None,
        namespace: Namespace | None = None,
        n: int = 1,
        by: By = "event",
    ) -> list[MemoryRecord]:
        """Delete the last ``n`` records of a conversation and return them as they were, oldest first.

        These are the ones that ``recent`` shows with ``limit=n``; fewer if there are no more. It happens in one
        transaction: whoever else pops the same conversation, here or in another process, gets others. ``restore``
        brings one back.
        """
        options = PageOptions(user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, by=by)
        return self._border.pop(options, n)

    def delete_all(
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
        """Delete every record of a scope that passes the filters; returns how many (``dry_run``: would be).

        With ``before``, only those that were added before that (``created_at``; times without an offset are those of
        the setting ``retrieval.time_zone``). At least one id or namespace is required, unless this is a view.
        ``user_id=ALL``, everybody's records, takes ``before``, ``filters``, ``agent_id``, ``run_id``, ``namespace`` or
        ``under`` besides, and raises ``ScopeError`` without.

        Runs in transactions of 2,000 records: interrupted, it has deleted a part. ``restore_all`` brings them back.
        """
        options = PageOptions(
            user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, under=under, filters=filters
        )
        return self._border.delete_all(options, before, dry_run)

    def erase(self, id: Id) -> EraseReport:
        """Remove a record's text, metadata and embedding for good, deleted or not, from its history too.

        Its id is free again; for 30 days ``history`` says what happened to it. Returns once libSQL's files hold nothing
        of it; ``pending`` names derived copies that are being rewritten in the background (``flush`` waits for them),
        and ``"backups"`` if there are any that have it: a restore leaves it out, and they go in their time.
        Raises ``NotFoundError``.
        """
        return erase_one(self.handle, check_id(id), self._border.bound)

    def erase_all(
        self,
        *,
        user_id: UserId = None,
        agent_id: Id | None = None,
        run_id: Id | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        rewrite_backups: bool = False,
    ) -> EraseReport:
        """Erase everything that was ever stored for a user, deleted records included, and the user.

        Texts are gone when this returns. What is left of the records, and the ids that nobody else has (of the user, of
        agents and runs), go as soon as every copy has seen it, in the background; after ``compact`` nothing on disk
        tells of the user but one line that says when and how many, for those who know the id (``erasures``).

        Where backups are sealed, the user's key is deleted, too, so that nothing of what they hold of the user can be
        read any more. If that cannot be done now, ``pending`` has ``"backups"``, and the next backup begins with it.
        Backups that are not sealed keep the user until they are removed: ``EraseReport.backups`` says which, and until
        when. With ``rewrite_backups`` a full one is made now, and those of this store that hold the user are removed,
        snapshots too; moments before it come back from the new one, without the user.

        With ``agent_id``, ``run_id``, ``namespace`` or ``under`` it is what lies there alone, as if each record were
        given to ``erase``: the user stays, and so does what backups have (``pending`` has ``"backups"``). An agent's or
        a run's goes in whatever namespace it lies, unless one is named; a namespace's values go, too.
        ``user_id=ALL`` means there everybody's, for a tenant or an agent that goes. Runs in transactions: interrupted,
        it has erased a part; call it again.
        """
        options = PageOptions(user_id=user_id, agent_id=agent_id, run_id=run_id, namespace=namespace, under=under)
        return self._border.erase_all(options, rewrite_backups)

    def erasures(self, *, user_id: Id) -> list[Erasure]:
        """What the store still says of a user for whom ``erase_all`` was called: when, and how many records went.

        Only whoever knows the id can ask: it is kept as a hash under a key of the store.
        """
        scope = self._border.scope(user_id, None, None, write=True)
        if scope.user_id is None:
            raise ScopeError("erasures() needs the user_id whose records were erased")
        return operations.erase.erasures(self.handle.engine(), str(scope.user_id))

    def vectors(self, ids: Sequence[Id]) -> list[Vectors | None]:
        """The vectors of up to 10,000 records, in the order of the ids; None where there is no such record (here).

        They are as the store has them: float32, of length one, also where you gave others. Reading them is no use of a
        record.
        """
        wanted = check_ids(ids, "vectors", "write [id] for one")
        return operations.read.vectors(self.handle.engine(), wanted, self._border.bound)

    def embed(self, texts: Sequence[str], *, query: bool = False) -> list[list[float]]:
        """The embeddings of up to 10,000 texts by the store's model, a list of its numbers for each.

        They have the length one, and are what an ``add`` of each text would store or, with ``query``, what a search
        would compare with; some models make a difference. For those who embed by themselves and give the vectors back
        (``vector=``), as frameworks do. Nothing is stored.

        Raises ``InvalidInputError`` with the position of what is no text as ``.index``, ``EmbeddingError``.
        """
        asked, engine = check_flag(query, "query"), self.handle.engine()
        return operations.read.embed(engine, check_contents(texts, engine.settings), query=asked)

    def history(self, id: Id) -> list[HistoryEvent]:
        """Every change of a record, oldest first, also of one that was deleted.

        What happened to one that was erased is told for 30 days, without what it said. Raises ``NotFoundError``.
        """
        return operations.read.history(self.handle.engine(), check_id(id), self._border.bound)

    def restore(self, id: Id, *, version: int | None = None) -> MemoryRecord:
        """Undo a delete, or go back to what a record was at ``version``; either way as a new version.

        A record that expired or was evicted can be restored for ``lifecycle.grace_days``; its time in its layer begins
        anew. One whose own ``ttl`` has passed cannot.

        Raises ``NotFoundError`` if there is no such record or version, or it was erased.
        """
        wanted, name = check_version(version, "version"), check_id(id)
        return operations.change.restore(self.handle.engine(), name, wanted, self._border.where(name))

    def restore_all(
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
        """Undo a ``delete_all``: bring back what ``deleted`` lists; returns how many (``dry_run``: would be).

        ``since`` and ``until`` say when the records went, so that what was deleted before stays deleted. At least one
        id is required. Runs in transactions of 500 records, the first that went first: interrupted, or stopped by a
        ``CapacityError``, it has restored a part, and goes on where it was when it is called again.
        """
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
        return self._border.restore_all(options, why, dry_run)

    def feedback(
        self, id: Id, *, rating: float | None = None, accepted: bool | None = None, query: str | None = None
    ) -> None:
        """Say how good a memory was; all of it goes into its history.

        ``rating`` from 1 to 5 moves its score in searches, ``accepted`` its relevance for promotion.
        """
        engine = self.handle.engine()
        data = feedback_data(rating, accepted, query)
        value = None if rating is None else check_number(rating, "rating", 1, 5)
        operations.change.rate(engine, check_id(id), value, data, self._border.bound)

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
    ) -> Session:
        """The conversation ``run_id`` of a user: its turns, working memory and prompts; see docs/agents.md.

        Nothing is stored or read yet: the first append begins it, and one that is there already goes on. It lives for
        ``ttl`` after each append (left out: the setting ``lifecycle.session_ttl_days``; None: for good), and its turns
        with it; what it began with holds. With ``embed=False`` turns are found by their words only, and appending is
        faster. In a view with a bound ``run_id`` that may be left out.
        """
        return agents().session(self._border, run_id, user_id, agent_id, namespace, ttl, embed)

    def sessions(
        self,
        *,
        user_id: Id | None = None,
        agent_id: Id | None = None,
        namespace: Namespace | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[SessionInfo]:
        """The sessions of a user that are not over, or of an agent of theirs; the one begun last comes first."""
        return agents().listed(self._border, user_id, agent_id, namespace, limit, offset)

    def blocks(
        self,
        *,
        user_id: Id | None = None,
        agent_id: Id | None = None,
        namespace: Namespace | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> Blocks:
        """The blocks of a user, of an agent (whoever the user is), of both, or of nobody in particular.

        ``tokenizer`` counts what they hold; left out, a token is taken to be three bytes of UTF-8. See docs/agents.md.
        """
        return agents().blocks(self._border, user_id, agent_id, namespace, tokenizer)

    def consolidation(
        self,
        *,
        user_id: Id | None = None,
        namespace: Namespace | None = None,
        model: Model | str | None = None,
    ) -> Consolidation:
        """What draws facts from a user's messages, or nobody's: runs, proposals, what it costs; docs/consolidation.md.

        ``model`` is what to ask, an object with ``name`` and ``complete`` or a name at the endpoint that the settings
        ``[memory.consolidation]`` say; left out, the model of the settings. Without either nothing is asked, and only
        ``propose`` finds anything.
        """
        return knowing().consolidation(self._border, user_id, namespace, model)

    # -- the store ---------------------------------------------------------------------------------------------------

    @property
    def lifecycle(self) -> LifecycleClient:
        """Layers: ``sweep``, ``explain``, ``promote``, ``demote``, ``pin``, ``unpin``."""
        return LifecycleClient(self.handle, self._border.bound)

    @property
    def tiers(self) -> TiersClient:
        """Which memories of large scopes are searched exactly: ``stats``, ``explain``, ``place``."""
        return TiersClient(self.handle, self._border.bound)

    @property
    def values(self) -> ValuesClient:
        """Bytes, texts, JSON, arrays, tables, files and streams by key: ``put``, ``get``, ``list``, ``query``, ..."""
        return ValuesClient(self._border)

    @property
    def backup(self) -> BackupClient:
        """Backups: ``create``, ``list``, ``verify``, ``restore``, ``prune``, ``forget``; ``agentmem.restore`` makes
        another store of one."""
        return BackupClient(self.handle, self._border.bound)

    def export(
        self,
        url: str | os.PathLike[str],
        *,
        user_id: UserId = ALL,
        description: str | None = None,
        encryption: str | None = None,
        keyring: str | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> BackupInfo:
        """Write all records of a user (None: of nobody), or of everybody, into a folder or bucket, for another store.

        It holds embeddings, history and times, deleted and expired records too; of what was erased, and of others, it
        tells nothing. ``import_`` takes it into another store, ``agentmem.restore`` makes one of it. It is sealed with
        ``encryption`` and ``keyring``, as ``[memory.backup]`` has them, and only then. ``progress`` is called with the
        records read so far and their number. Raises ``NotFoundError`` for a user of whom there is nothing, and
        ``ArchiveError`` and below where the place cannot be used; then it holds nothing new.
        """
        return moving.export(self.handle, self._border.bound, url, user_id, description, encryption, keyring, progress)

    def import_(
        self,
        url: str | os.PathLike[str],
        *,
        id: str | None = None,
        user_id: UserId = ALL,
        encryption: str | None = None,
        keyring: str | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> ImportReport:
        """Take over records from an export or a backup (``id``, default the newest there), of everybody or of one user.

        They keep their ids, times, versions and history, and are found as they were found there: texts are embedded
        again only if the store here has another model. What is there already is left as it is, so that an import that
        was broken off is begun again. A record is left out, and reported, if its id is another's here, was erased a
        short time ago, or if its key is another's. Some records at a time are taken over in a transaction.

        Raises ``NotFoundError`` where nothing is at the URL, ``ModelMismatchError`` for vectors that were given for
        another model, ``CapacityError`` for a layer that has no room, ``StoreLockedError`` while a backup is verified,
        ``ArchiveError`` and below where the archive cannot be read.
        """
        return moving.import_archive(self.handle, self._border.bound, url, id, user_id, encryption, keyring, progress)

    def create_snapshot(self, description: str | None = None) -> str:
        """Keep the store as it is now under an id: a full backup that no ``prune`` removes. See ``backup.create``."""
        return self.backup.create("snapshot", description=description).id

    def snapshots(self) -> Sequence[BackupInfo]:
        """The snapshots that there are where backups go, those of other stores included, oldest first."""
        return self.backup.snapshots()

    def restore_snapshot(self, id: str) -> RestoreReport:
        """Make the store what it was then, in its place. See ``backup.restore``, which takes any backup."""
        return self.backup.restore(id)

    def drop_snapshot(self, id: str) -> BackupInfo:
        """Keep a snapshot no longer: it is removed now, or by ``prune``, once no increment goes on from it any more.

        Raises ``NotFoundError``, and ``InvalidInputError`` for a backup that is no snapshot.
        """
        return self.backup.drop_snapshot(id)

    def events(
        self, *, after: int = 0, before: int | None = None, order: Order = "oldest", limit: int = 100
    ) -> list[StoreEvent]:
        """What happened in the store after the event ``after``, oldest first, ``limit`` at most; for administration.

        Everybody's, so a view has none: ``ScopeError``. Pass the last one's ``seq`` to go on; with ``order="newest"``
        what happened last comes first, and ``before`` goes on. It says what happened to which record, whose that is,
        and nothing that is in it. Events of what was erased go in the end; of a record's TOUCH events only the last one
        is kept.
        """
        return self._border.events(after, before, order, limit)

    def flush(self) -> None:
        """Wait until LanceDB and the keyword index have everything that was committed before this call.

        Raises ``StoreError`` if that fails again and again; nothing is lost then, and it goes on being tried.
        """
        self.handle.engine().follower.flush()

    def warm_up(self) -> None:
        """Load the model now instead of at the first add or search."""
        operations.search.warm_up(self.handle.engine())

    def stats(self) -> Stats:
        """What the store holds: counts, sizes on disk, caches."""
        return operations.stats.stats(self.handle.engine())

    def health(self) -> Health:
        """How the background work is doing."""
        return operations.stats.health(self.handle.engine(even_gone=True), self.handle.database)

    def kpis(self) -> Kpis:
        """Key figures: size and pressure, latencies and rates, errors and uptime; some milliseconds."""
        return _figures().kpis(self.handle.engine())

    def verify(self) -> VerifyReport:
        """Compare every store with every other: records, embeddings, history, LanceDB (vectors byte for byte), indexes.

        Reads everything; meant for maintenance, not for every day.
        """
        return operations.verify.verify(self.handle.engine())

    def repair(self, *, salvage: bool = False) -> VerifyReport:
        """Rebuild what is derived (LanceDB, indexes) if ``verify`` finds it wrong; returns what is wrong after that.

        Damage inside the database itself cannot be mended from elsewhere. With ``salvage``, what can still be read of
        it goes into a new database, and the damaged files are kept in a folder ``damaged-…`` of the store. The
        report's ``counts`` then tell how many records were ``salvaged`` and ``lost``, and its ``problems`` which ones
        are not as they were; the store itself is whole again. Nobody else may have the store open.

        Raises ``StoreCorruptError`` if the database cannot be read, with ``salvage`` only if nothing of it can.
        """
        try:
            report = operations.repair.repair(self.handle.engine())
        except StoreCorruptError:
            if not salvage:
                raise
        else:
            if report.ok or not salvage:
                return report
        rescued = self.handle.salvage()
        report = operations.repair.repair(self.handle.engine())
        problems = rescued.problems + report.problems
        return replace(report, ok=not problems, counts={**report.counts, **rescued.counts}, problems=problems)

    def reembed(
        self,
        model: AnyEmbedder,
        *,
        progress: Callable[[int, int], object] | None = None,
        given: Given = "refuse",
    ) -> ReembedReport:
        """Move the store to another model (as the constructor takes one), while it goes on serving.

        Searches and writes use the old model until all vectors of the new one are there, then the new one. May be
        interrupted or killed at any time: calling it again goes on where it was. ``progress`` is called with the
        records done and their number. Other processes that have the store open must open it again afterwards
        (``ModelMismatchError`` tells them).

        The model that the store has need not be at hand if this is the client's first call: then nothing can be added
        or found by meaning here until the store is moved. The model that the store has already is refused, but that
        gives up an unfinished move to another one.

        No model makes vectors anew that callers gave (``vector=``). Where there are any it is refused, unless ``given``
        says what becomes of them: ``"keep"`` leaves them as they are, which takes a model of the same dimension;
        ``"embed"`` has the content embedded in their place.

        Raises ``InvalidInputError`` if the store uses this model already, ``StoreLockedError`` if it is being
        reembedded by somebody else, ``EmbeddingError``.
        """
        from agentmem.embedding.naming import imported

        engine = self.handle.engine(any_model=True)
        return operations.reembed.reembed(engine, imported(model), progress, check_given(given))

    def compact(self) -> None:
        """Merge files, remove what is left of what was erased, and give space back to the disk."""
        operations.compact.compact(self.handle.engine())


@cache
def applying() -> Any:
    """What checks the changes of ``apply``; with them comes the module that makes them."""
    return aside(lambda: import_module("agentmem.client.applying"))


@cache
def _figures() -> Any:
    return aside(lambda: import_module("agentmem.observe.kpis"))


@cache
def agents() -> Any:
    """What makes sessions and blocks of a client, for those who have agents."""
    return aside(lambda: import_module("agentmem.client.agents"))


@cache
def knowing() -> Any:
    """What draws facts from messages, for those who want that."""
    return aside(lambda: import_module("agentmem.client.knowing"))


@cache
def _for_loops() -> Any:
    # By its name, since that module imports this one; and anyio comes with it, for those who need it.
    return aside(lambda: import_module("agentmem.client.asyncmemory"))


def client_on(border: Border) -> Memory:
    """A client of a store that somebody else opens and closes: a view, or the other face of an ``AsyncMemory``."""
    client = Memory.__new__(Memory)
    client.__dict__.update(handle=border.handle, _border=border, _opened=False)
    return client
