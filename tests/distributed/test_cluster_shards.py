"""A shard without Ray: what it answers, what it refuses, and that of two owners one writes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import HashEmbedder

from agentmem import ConflictError
from agentmem.archive.folder import FolderObjects
from agentmem.distributed.clustercalls import CALLS, FACES, NOT_HERE
from agentmem.distributed.shardmap import MapObject
from agentmem.distributed.shards import Call, Shard, ShardSpec, Step

Make = Callable[..., Shard]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Shards of a cluster that has one, each owner with a folder of its own."""
    maps, made = MapObject(FolderObjects(tmp_path / "url")), list[Shard]()
    maps.create(1)

    def one(turn: int = 0) -> Shard:
        root = str(tmp_path / f"root-{len(made)}")
        spec = ShardSpec(
            url=str(tmp_path / "url"), shard="s000", turn=turn, root=root, interval_s=60, embedder=HashEmbedder()
        )
        made.append(Shard(spec, maps, "here"))
        return made[-1]

    yield one
    for shard in reversed(made):
        shard.close()


def call(name: str, *given: Any, writes: bool = False, users: tuple[str | None, ...] = ("ana",), **named: Any) -> Call:
    ack, ids = named.pop("ack", "local"), named.pop("ids", ())
    steps = (Step(name, (given, {"user_id": "ana", **named} if users else named)),)
    return Call(steps=steps, writes=writes, ack=ack, version=1, users=users, ids=ids)


def test_it_answers_as_its_store_does(make: Make) -> None:
    shard = make()
    shard.open()
    added = shard.call(call("add", "The wall is red.", writes=True, ack="replicated")).value
    assert shard.status().behind == 0
    assert shard.call(call("search", "wall")).value[0].id == added.id
    outcome = shard.call(call("add", "Another.", id=added.id, writes=True))
    assert outcome.kind == "raised"
    assert isinstance(outcome.value, ConflictError)
    assert isinstance(shard.call(call("add", "x", colour=3, writes=True)).value, TypeError)
    steps = (Step("session", (("r1",), {"user_id": "ana"})), Step("append", (({"role": "user", "content": "hi"},), {})))
    assert shard.call(Call(steps=steps, writes=True, ack="local", version=1, users=("ana",))).kind == "done"


def test_a_call_that_is_made_again_adds_nothing(make: Make) -> None:
    shard = make()
    shard.open()
    again = call("add_many", ["one", {"content": "two", "id": "mine"}, "one"], writes=True, ids=("a", "b"))
    assert [one.id for one in shard.call(again).value] == ["a", "mine", "a"]
    assert [one.status for one in shard.call(again).value] == ["duplicate"] * 3
    assert shard.call(call("count")).value == 2
    # A fact that was there before under another id is still told from a new one.
    assert shard.call(call("add", "one", writes=True, ids=("c",))).value.id == "a"


def test_of_two_owners_one_writes(make: Make) -> None:
    first, second = make(), make(1)
    first.open()
    first.call(call("add", "The wall is red.", writes=True, ack="replicated"))
    second.open()
    for ack in ("local", "replicated"):
        assert first.call(call("add", "Too late.", writes=True, ack=ack)).kind == "moved"
    assert first.is_over
    assert first.call(call("search", "wall")).kind == "moved"
    assert [hit.content for hit in second.call(call("search", "wall")).value] == ["The wall is red."]


def test_a_shard_that_is_handed_over_refuses_and_the_next_one_has_all(make: Make) -> None:
    first, second = make(), make(1)
    first.open()
    first.call(call("add", "The wall is red.", writes=True))
    second.prepare()
    assert second.call(call("count")).kind == "moved"  # it is not its turn
    first.hold_back()
    first.call(call("add", "The wall is blue.", writes=True))
    first.drain()
    assert first.call(call("count")).kind == "moved"
    first._maps.change(lambda now: replace(now, turns={"s000": 1}))  # pyright: ignore[reportPrivateUsage]
    # Whoever was to open it may be gone: the first call does.
    assert second.call(replace(call("count"), version=2)).value == 2
    assert second.status().epoch == 2


def test_a_shard_that_nobody_takes_over_serves_on(make: Make) -> None:
    shard = make()
    shard.open()
    shard.drain()
    assert shard.call(call("count")).kind == "moved"
    shard.resume()
    assert shard.call(call("count")).value == 0


def test_users_who_are_elsewhere_or_leaving(make: Make) -> None:
    shard = make()
    shard.open()
    maps = shard._maps  # pyright: ignore[reportPrivateUsage]
    leaving = maps.change(lambda now: replace(now, leaving={"ana": "s001"}))
    shard.learn(leaving)
    assert shard.call(call("add", "x", writes=True)).kind == "moved"
    assert shard.call(call("count")).value == 0
    gone = maps.change(lambda now: replace(now, turns={"s000": 0, "s001": 0}, users={"ana": "s001"}, leaving={}))
    # It learns from callers, too, who know a newer map.
    assert shard.call(replace(call("count"), version=gone.version)).kind == "moved"
    assert shard.call(call("count", users=())).value == 0


def test_every_call_of_a_client_is_in_the_table() -> None:
    from agentmem import Memory

    own = {"close", "scoped", "userless", "aio", "add_stream", "iterate"}
    names = {name for name in vars(Memory) if not name.startswith("_")}
    assert names - own == {*CALLS, *FACES, *NOT_HERE}
