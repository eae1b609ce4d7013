"""Views that share a client's engine: the other face of it, and the records of no user."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from conftest import ROOT, HashEmbedder

from agentmem import ALL, AsyncMemory, ClosedError, Memory, ScopeError

Open = Callable[..., Memory]


# -- the other face ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", [asyncio.run, lambda main: trio.run(lambda: main)])
def test_the_face_for_loops_is_the_same_store(memory: Memory, loop: Callable[..., None]) -> None:
    async def main() -> None:
        fact = await memory.aio.add("The kettle is on the left.", user_id="ida")
        assert memory.get(fact.id) == await memory.aio.get(fact.id)
        assert memory.aio._border.handle.engine() is memory.handle.engine()
        assert memory.aio.blocking is memory

    loop(main())
    assert memory.count(user_id="ida") == 1


def test_views_have_their_scope_on_both_faces(memory: Memory, store: Path, embedder: HashEmbedder) -> None:
    ida = memory.scoped(user_id="ida")
    own = memory.add("mine", user_id="ida").id
    foreign = memory.add("not mine", user_id="olaf").id

    async def main() -> None:
        assert (await ida.aio.get(own)) is not None
        assert await ida.aio.get(foreign) is None
        assert await ida.aio.count() == 1
        assert (await ida.aio.add("one more")).record.user_id == "ida"
        with pytest.raises(ScopeError, match="is bound to"):
            await ida.aio.search("mine", user_id="olaf")
        talk = ida.aio.scoped(run_id="r")
        assert (await talk.add({"role": "user", "content": "hi"})).record.run_id == "r"
        assert [turn.content for turn in talk.blocking.recent(run_id="r")] == ["hi"]

    asyncio.run(main())


def test_a_face_closes_nothing_and_ends_with_its_client(memory: Memory) -> None:
    async def main() -> None:
        async with memory.aio as face:
            await face.add("kept open")
        await memory.aio.aclose()
        await memory.aio.close()
        assert await face.count() == 1
        with face.blocking:
            pass  # that is the memory itself, and closes it
        for call in (face.count, memory.aio.count, lambda: face.add("x")):
            with pytest.raises(ClosedError, match="open a new one"):
                await call()

    asyncio.run(main())
    with pytest.raises(ClosedError):
        memory.count()


def test_the_blocking_face_closes_nothing_and_ends_with_its_client(store: Path, embedder: HashEmbedder) -> None:
    async def main() -> None:
        memory = AsyncMemory(store, embedder=embedder)
        with memory.blocking as face:
            await asyncio.to_thread(face.add, "from a thread")
        face.close()
        memory.scoped(user_id="ida").blocking.close()
        await memory.scoped(user_id="ida").aclose()
        assert await memory.count() == 1
        assert await memory.blocking.aio.count() == 1
        assert memory.blocking is face
        await memory.aclose()
        for closed in (face, memory.scoped(user_id="ida").blocking):
            with pytest.raises(ClosedError, match="open a new one"):
                closed.count()

    asyncio.run(main())


def test_a_face_alone_keeps_the_store_open(store: Path, embedder: HashEmbedder) -> None:
    face = Memory(store, embedder=embedder).aio

    async def main() -> None:
        id = (await face.add("somebody still uses this")).id
        assert (await face.get(id)) is not None
        face.blocking.close()

    asyncio.run(main())


def test_who_never_awaits_imports_nothing_for_it() -> None:
    code = (
        "import sys; from agentmem import Memory; m = Memory(':memory:'); assert 'anyio' not in sys.modules; m.aio; "
        "assert 'anyio' in sys.modules; m.close()"
    )
    environment = {"PATH": "", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-W", "error", "-c", code], env=environment, check=True, timeout=60)


# -- records of no user ------------------------------------------------------------------------------------------------


def test_a_view_of_what_belongs_to_nobody(memory: Memory) -> None:
    ours = memory.add("The shop opens at nine.").id
    theirs = memory.add("Olaf comes at nine.", user_id="olaf").id
    view = memory.userless()
    assert view.get(ours).id == ours
    assert view.get(theirs) is None
    assert [hit.id for hit in view.search("nine")] == [ours]
    assert [record.id for record in view.iterate()] == [ours]
    assert view.count() == 1
    assert [group.name for group in view.users()] == [None]
    assert view.delete(theirs) is False
    for refused in (lambda: view.history(theirs), lambda: view.erase(theirs), lambda: view.update(theirs, content="x")):
        with pytest.raises(LookupError):
            refused()
    added = view.add("It closes at six.", agent_id="clerk")
    assert (added.record.user_id, added.record.agent_id) == (None, "clerk")
    assert memory.get(theirs) is not None


def test_it_can_be_narrowed_but_not_widened(memory: Memory) -> None:
    view = memory.userless(agent_id="clerk")
    memory.add("of no agent")
    id = view.add("of the clerk").id
    assert [record.id for record in view.iterate()] == [id]
    assert view.scoped(run_id="till").add("in the till").record.agent_id == "clerk"
    assert view.userless(run_id="till").count() == 1
    assert memory.userless(run_id="till").count() == 1
    for wrong in (
        lambda: view.add("x", user_id="olaf"),
        lambda: view.search("x", user_id=ALL),
        lambda: view.scoped(user_id="olaf"),
        lambda: view.add({"content": "x", "user_id": "olaf"}),
        lambda: memory.scoped(agent_id="clerk").search("x", user_id="olaf"),
    ):
        with pytest.raises(ScopeError, match="to no user"):
            wrong()
    with pytest.raises(ScopeError, match="is bound to"):
        view.userless(agent_id="boss")
    with pytest.raises(ScopeError, match=r"'olaf'; call userless\(\) on the unbound memory"):
        memory.scoped(user_id="olaf").userless()
    with pytest.raises(ScopeError, match="userless"):
        memory.scoped()
    with pytest.raises(ScopeError, match="user_id"):
        view.erase_all(user_id="olaf")


def test_all_of_it_can_be_deleted_and_brought_back(memory: Memory) -> None:
    with pytest.raises(ScopeError, match="nothing is wiped by accident"):
        memory.delete_all()
    with pytest.raises(ScopeError, match="not everything"):
        memory.restore_all()
    memory.add_many(["one", "two"])
    memory.add("three", user_id="olaf")
    view = memory.userless()
    assert view.delete_all(dry_run=True) == 2
    assert view.delete_all() == 2
    assert view.count() == 0
    assert memory.count(user_id=ALL) == 1
    assert len(view.deleted().records) == 2
    assert view.restore_all() == 2
    assert view.count() == 2


def test_for_loops_as_well(memory: Memory) -> None:
    async def main() -> None:
        await memory.aio.add("everybody's")
        await memory.aio.add("Olaf's", user_id="olaf")
        view = memory.aio.userless()
        assert [record.content async for record in view.iterate()] == ["everybody's"]
        assert await memory.userless().aio.delete_all() == 1

    asyncio.run(main())
    assert memory.count(user_id="olaf") == 1
