"""A shard without Ray: what it answers, what it refuses, and that of two owners one writes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import HashEmbedder

from agentmem import ConflictError
from agentmem.archive.folder import FolderObjects
from agentmem.distributed.clustercalls import CALLS, FACES, NOT_HERE
from agentmem.distributed.clustermoves import _arrived  # pyright: ignore[reportPrivateUsage]
from agentmem.distributed.shardmap import MapObject, slot_of
from agentmem.distributed.shards import Call, Shard, ShardSpec, Step
from agentmem.types.clock import Clock

Make = Callable[..., Shard]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Shards of a cluster that has one, each owner with a folder of its own."""
    maps, made = MapObject(FolderObjects(tmp_path / "url")), list[Shard]()
    maps.create(1)

    def one(turn: int = 0, clock: Clock | None = None) -> Shard:
        root = str(tmp_path / f"root-{len(made)}")
        spec = ShardSpec(
            url=str(tmp_path / "url"), shard="s000", turn=turn, root=root, interval_s=60, embedder=HashEmbedder(),
            clock=clock,
        )  # fmt: skip
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
    again = call("add_many", ["one", {"content": "two", "id": "mine"}, "one"], writes=True, ids=("a", "b", "c"))
    first = [(one.id, one.status) for one in shard.call(again).value]
    assert first == [("a", "added"), ("mine", "added"), ("a", "duplicate")], first
    assert [(one.id, one.status) for one in shard.call(again).value] == [
        ("a", "added"), ("mine", "duplicate"), ("a", "duplicate")
    ]  # fmt: skip
    assert shard.call(call("count")).value == 2
    # Texts alone have an id each, and one of a source has that of the source.
    texts = shard.call(call("add_many", ["three", "four", "three"], writes=True, ids=("x", "y", "z"))).value
    assert [(one.id, one.status) for one in texts] == [("x", "added"), ("y", "added"), ("x", "duplicate")]
    turns = call("add_many", ["a turn"], role="user", source="a.txt", writes=True, ids=("q",))
    assert shard.call(turns).value[0].id == shard.call(replace(turns, ids=("r",))).value[0].id
    # A fact that was there before under another id is still told from a new one.
    other = shard.call(call("add", "one", writes=True, ids=("d",))).value
    assert (other.id, other.status) == ("a", "duplicate")


@pytest.mark.parametrize("since", ["nothing", "update", "delete", "put"])
def test_a_call_that_is_made_again_is_told_what_it_was_told(make: Make, since: str) -> None:
    shard = make()
    shard.open()
    shard.call(call("put", "known", "before", writes=True, ids=("z",)))
    several = [{"content": "a turn", "role": "user"}, {"content": "x", "data": [1]}]
    both = [{"key": "known", "content": "x", "if_version": 1}, {"key": "k4", "content": "y"}]
    calls = [
        call("add", "a fact", writes=True, ids=("a",)),
        call("add_many", several, writes=True, ids=("b", "c")),
        call("put", "k2", "content", if_version=0, writes=True, ids=("d",)),
        call("put_many", [{"key": "k3", "content": "x", "if_version": 0}], writes=True, ids=("e",)),
        call("put_many", both, writes=True, ids=("f", "g")),
    ]

    def told(outcome: Any) -> list[tuple[str, str]]:
        assert outcome.kind == "done", outcome
        return [(one.id, one.status) for one in (outcome.value if isinstance(outcome.value, list) else [outcome.value])]

    first = [told(shard.call(each)) for each in calls]
    assert first[-1] == [("z", "replaced"), ("g", "added")]
    for id in "abcdeg" if since in ("update", "delete") else "":
        more = {"content": f"changed {id}"} if since == "update" else {}
        assert shard.call(call(since, id, writes=True, users=(), **more)).kind == "done"
    for key in ("known", "k2", "k3", "k4") if since == "put" else ():
        shard.call(call("put", key, "changed since", writes=True, ids=(f"new-{key}",)))
    last = shard.status().records, shard.call(call("history", "d", users=())).value
    assert [told(shard.call(each)) for each in calls] == first
    assert (shard.status().records, shard.call(call("history", "d", users=())).value) == last


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


@pytest.mark.parametrize("ahead", [timedelta(hours=30), timedelta(hours=-30), timedelta(days=4_000)])
def test_what_owns_and_moves_goes_by_no_clock_of_the_world(make: Make, ahead: timedelta) -> None:
    there, here = datetime(2026, 11, 1, 12, tzinfo=UTC) + ahead, datetime(2026, 11, 1, 12, tzinfo=UTC)
    first, second = make(0, lambda: there), make(1, lambda: here)
    first.open()
    for number in range(3):
        first.call(call("put", f"k{number}", "one", writes=True, ack="replicated", if_version=0))
    first.call(call("add", "for two days", writes=True, ids=("short",), ttl=172_800))
    second.prepare()
    first.hold_back()
    first.call(call("put", "k0", "two", writes=True, if_version=1))
    first.drain()
    first._maps.change(lambda now: replace(now, turns={"s000": 1}))  # pyright: ignore[reportPrivateUsage]
    assert second.call(call("put", "k0", "three", writes=True, ack="replicated", if_version=2)).kind == "done"
    assert first.call(call("put", "k0", "four", writes=True)).kind == "moved"
    records = second.call(call("page", limit=10)).value.records
    assert {record.key: record.content for record in records if record.key} == {"k0": "three", "k1": "one", "k2": "one"}
    # What has a ttl ends when the clock of whoever has it says so.
    ends = there + timedelta(days=2)
    assert any(record.id == "short" and record.expires_at == ends for record in records) == (ends > here)
    assert [hit.record.key for hit in second.call(call("search", "three", limit=1)).value] == ["k0"]
    history = second.call(call("history", second.call(call("get", key="k0")).value.id, users=())).value
    assert [event.version for event in history] == [1, 2, 3]
    report = second.call(call("verify", users=())).value
    assert report.ok, report
    third = make(2, lambda: there)
    third.open()
    assert third.call(replace(call("count"), version=2)).kind == "done"


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


def test_users_whose_move_was_broken_off_stay(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = make()
    shard.open()
    maps, ben = shard._maps, f"#{slot_of('ben')}"  # pyright: ignore[reportPrivateUsage]
    leaving = {"ana": "s001", ben: "s001"}
    made = maps.change(lambda now: replace(now, turns={"s000": 0, "s001": 0}, leaving=leaving))
    write = replace(call("add", "x", writes=True), version=made.version)
    assert [shard.call(write).kind for _ in range(3)] == ["moved"] * 3
    monkeypatch.setattr("agentmem.distributed.shards.LEFT_S", 0.0)
    maps.change(lambda now: now)  # whoever moves them goes on
    assert shard.call(write).kind == "moved"
    assert shard.call(write).kind == "done"
    assert maps.read().leaving == {}
    # Whoever began to move them, and was away for so long, is told.
    with pytest.raises(ConflictError, match="has kept"):
        maps.change(_arrived(["ana", ben], "s001"))
    assert maps.read().shard_of("ana") == maps.read().shard_of("ben") == "s000"


def test_every_call_of_a_client_is_in_the_table() -> None:
    from agentmem import Memory

    own = {"close", "scoped", "userless", "aio", "add_stream", "iterate"}
    names = {name for name in vars(Memory) if not name.startswith("_")}
    assert names - own == {*CALLS, *FACES, *NOT_HERE}


def test_the_actor_has_the_methods_that_every_version_knows() -> None:
    from agentmem.distributed.clusteractors import ShardActor

    own = {name for name, value in vars(ShardActor).items() if callable(value)}
    assert own == {"__init__", "ping", "call", "control", "read"}
