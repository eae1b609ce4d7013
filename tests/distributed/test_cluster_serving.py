"""A cluster on Ray, on this machine alone: the same answers as one store, whoever is killed, stopped or moved."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from agentmem import ALL, Memory
from agentmem.errors import (
    ClosedError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    ScopeError,
    ShardUnavailableError,
    StoreError,
    StoreVersionError,
)
from stress.local_ray import local_ray
from stress.victim import HashedWords

if find_spec("ray") is None:
    pytest.skip("ray is not installed", allow_module_level=True)

pytestmark = [
    pytest.mark.slow,
    # Ray leaves sockets and processes to the collector.
    pytest.mark.filterwarnings("ignore"),
]

WORDS = "red wall blue garden violin teacher colour paint london table music rain kitchen doctor coffee".split()
USERS = [f"u{number}" for number in range(12)]


NOW = datetime(2026, 11, 1, tzinfo=UTC)


def items() -> list[dict[str, Any]]:
    chosen = random.Random(1)
    return [
        {
            "id": f"i{number}", "user_id": USERS[number % 12], "role": "user", "run_id": f"r{number // 24}",
            "content": " ".join(chosen.choices(WORDS, k=chosen.randint(3, 9))), "metadata": {"n": number % 5},
        }
        for number in range(120)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def cluster(place: Path) -> Iterator[Any]:
    os.environ["RAY_worker_niceness"] = "0"
    instant = NOW
    with local_ray(2, memory_mb=100):
        from agentmem.distributed.cluster import Cluster

        with Cluster(
            place / "url", shards=3, root=place / "root", interval_s=60, embedder=HashedWords(32),
            clock=lambda: instant, patience_s=120,
        ) as made:  # fmt: skip
            made.add_many(items())
            yield made
            made.shutdown()


@pytest.fixture(scope="module")
def one() -> Iterator[Memory]:
    with Memory(":memory:", embedder=HashedWords(32), clock=lambda: NOW) as memory:
        for item in items():
            memory.add(item)
        yield memory


def test_it_answers_as_one_store_that_has_everything(cluster: Any, one: Memory) -> None:
    chosen = random.Random(2)
    for _ in range(15):
        query = " ".join(chosen.choices([*WORDS, "gardn"], k=chosen.randint(1, 4)))
        for options in ({"user_id": chosen.choice(USERS)}, {"user_id": ALL}, {"user_id": ALL, "filters": {"n": 3}}):
            here, there = one.search(query, **options), cluster.search(query, **options)
            assert [hit.id for hit in there] == [hit.id for hit in here], (query, options)
            assert [hit.score for hit in there] == pytest.approx([hit.score for hit in here], abs=1e-6)
    for options in ({"user_id": ALL}, {"user_id": "u3"}, {"user_id": ALL, "filters": {"n": 3}}):
        assert cluster.count(**options) == one.count(**options)
        assert {record.id for record in cluster.iterate(**options)} == {record.id for record in one.iterate(**options)}
    assert {(g.name, g.records) for g in cluster.users()} == {(g.name, g.records) for g in one.users()}
    assert sorted(cluster.distinct("n", user_id=ALL)) == sorted(one.distinct("n", user_id=ALL))
    assert cluster.get("i7") == one.get("i7")
    assert cluster.recent(run_id="r1", user_id="u2") == one.recent(run_id="r1", user_id="u2")
    many = cluster.search_many(["red wall", "music"], user_id=ALL)
    assert [[hit.id for hit in found] for found in many] == [
        [hit.id for hit in one.search(query, user_id=ALL)] for query in ("red wall", "music")
    ]


def test_ids_and_views(cluster: Any) -> None:
    id = cluster.add("The cat sleeps.", user_id="ana").id
    assert cluster.map().hinted(id) == cluster.shard_of("ana")
    view = cluster.scoped(user_id="ana")
    assert view.get(id).content == "The cat sleeps."
    assert cluster.scoped(user_id="ben").get(id) is None
    assert cluster.update(id, metadata={"seen": True}).version == 2
    assert len(cluster.history(id)) == 2
    assert [cluster.delete(id), cluster.delete(id), cluster.get(id)] == [True, False, None]
    assert cluster.delete_many([id, "i119", "nobody's"]) == [False, True, False]
    cluster.restore("i119")
    for absent in (lambda: cluster.update("nobody's", content="x"), lambda: cluster.history("nobody's")):
        with pytest.raises(NotFoundError):
            absent()
    with pytest.raises(InvalidInputError) as caught:
        cluster.add_many([*items()[:3], {"content": "x", "importance": 7}])
    assert caught.value.index == 3
    with pytest.raises(ScopeError):
        view.search("x", user_id="ben")
    with pytest.raises(InvalidInputError, match="bulk"):
        cluster.import_("somewhere")
    two = next(user for user in USERS if cluster.shard_of(user) != cluster.shard_of("ana"))
    for user in ("ana", two):
        cluster.add("Mine.", id="mine", user_id=user)
    with pytest.raises(ConflictError, match="two users"):
        cluster.get("mine")
    assert cluster.scoped(user_id=two).delete("mine")
    for user in ("ana", two):
        cluster.add("Of a tenant.", user_id=user, run_id="talk", namespace=("tenant",))
    assert view.erase_all(run_id="talk").erased == 1
    assert cluster.erase_all(user_id=ALL, under=("tenant",)).erased == 1
    cluster.erase_all(user_id="ana")
    assert view.count() == 0


def test_sessions_and_values_are_on_the_shard_of_their_user(cluster: Any) -> None:
    session = cluster.session("talk", user_id="ben")
    session.append([{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}])
    assert [turn.content for turn in session.turns()] == ["hello", "hi"]
    cluster.values.put("seen", {"at": 3}, user_id="ben")
    assert cluster.scoped(user_id="ben").values.get("seen") == {"at": 3}
    assert set(cluster.health()) == {"s000", "s001", "s002"}
    assert all(report.ok for report in cluster.verify().values())
    cluster.delete_all(user_id="ben")


def test_a_process_that_is_killed_comes_back_with_all_that_was_acknowledged(cluster: Any) -> None:
    for shard, status in cluster.shards().items():
        user = next(user for user in USERS if cluster.shard_of(user) == shard)
        added = cluster.add(f"Before {shard} is killed.", user_id=user, id=f"killed-{shard}")
        os.kill(status.pid, signal.SIGKILL)
        assert cluster.get(added.id).content == added.record.content
        assert cluster.shards()[shard].epoch > status.epoch


def test_an_owner_that_was_stopped_writes_nothing_when_it_wakes_up(cluster: Any) -> None:
    import ray

    from agentmem.distributed.shards import Call, Step

    user = USERS[0]
    shard, core = cluster.shard_of(user), cluster._core
    old, status = core.actor(cluster.map(), shard), cluster.shards()[shard]
    os.kill(status.pid, signal.SIGSTOP)
    core.replace_hung(cluster.map(), shard, kill=False)
    cluster.add("While it was stopped.", user_id=user, id="meanwhile")
    os.kill(status.pid, signal.SIGCONT)
    step = Step("add", (("Too late.",), {"user_id": user, "id": "late"}))
    call = Call(steps=(step,), writes=True, ack="local", version=0, users=(user,))
    try:
        assert ray.get(old.call.remote(call), timeout=60).kind == "moved"
    except ray.exceptions.RayActorError:
        pass  # it has seen by itself that it is over
    assert cluster.get("late") is None
    assert cluster.get("meanwhile").content == "While it was stopped."


def test_one_that_hangs_is_replaced_and_named_where_it_is_missing(cluster: Any) -> None:
    shard = cluster.shard_of(USERS[1])
    status = cluster.shards()[shard]
    os.kill(status.pid, signal.SIGSTOP)
    patience, cluster._core.patience_s = cluster._core.patience_s, 2.0
    try:
        found = cluster.search("red wall", user_id=ALL, limit=100)
    finally:
        cluster._core.patience_s = patience
    assert found.missing == (shard,)
    assert found
    assert all(cluster.shard_of(hit.record.user_id) != shard for hit in found)
    assert cluster.count(user_id=USERS[1]) >= 10
    assert not cluster.search("red wall", user_id=ALL).missing


def test_one_that_hangs_is_replaced_by_a_client_that_it_never_answered(cluster: Any, place: Path) -> None:
    user = USERS[1]
    status = cluster.shards()[cluster.shard_of(user)]
    with type(cluster).running(place / "url") as other:
        os.kill(status.pid, signal.SIGSTOP)
        assert other.count(user_id=user) >= 10
        assert other.shards()[cluster.shard_of(user)].epoch > status.epoch


def test_what_is_not_repeated_goes_where_its_shard_is_unless_it_was_begun(cluster: Any, place: Path) -> None:
    import sqlite3

    user = USERS[3]
    shard = cluster.shard_of(user)
    with type(cluster).running(place / "url") as other:
        other.values.put("first", 1, user_id=user)
        cluster.move(shard)
        assert other.values.put("second", 2, user_id=user)
        os.kill(cluster.shards()[shard].pid, signal.SIGKILL)
        assert other.values.put("third", 3, user_id=user)
        status = cluster.shards()[shard]
        stores = {path.resolve() for path in (place / "root").glob(f"*/{shard}/*/*.db")}
        held = [sqlite3.connect(path, isolation_level=None) for path in stores]
        for db in held:
            db.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as threads:
            begun = threads.submit(other.values.put, "fourth", 4, user_id=user)
            while cluster.shards()[shard].calls == status.calls:
                pass
            os.kill(status.pid, signal.SIGKILL)
            for db in held:
                db.close()
            with pytest.raises(ShardUnavailableError, match="not repeated") as caught:
                begun.result(60)
        assert caught.value.unknown
        assert cluster.values.get("fourth", user_id=user) is None
        assert [other.values.get(name, user_id=user) for name in ("first", "second", "third")] == [1, 2, 3]


def test_a_call_that_meets_its_own_first_try(cluster: Any, place: Path) -> None:
    import fcntl

    user = USERS[4]
    shard = cluster.shard_of(user)
    cluster.put("known", "one", user_id=user)

    def killed_once_it_is_done(call: Any) -> Any:
        with ThreadPoolExecutor(1) as threads, (place / "url" / "shards" / shard / ".swap.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # no increment counts, so that nothing is acknowledged
            before = cluster.shards()[shard].behind
            begun = threads.submit(call)
            while (status := cluster.shards()[shard]).behind == before:
                pass
            os.kill(status.pid, signal.SIGKILL)
            lock.close()
            return begun.result(100)

    texts = killed_once_it_is_done(lambda: cluster.add_many(["a text", "another"], user_id=user))
    assert [one.status for one in texts] == ["added", "added"]
    assert [cluster.get(one.id).content for one in texts] == ["a text", "another"]
    made = killed_once_it_is_done(lambda: cluster.put("new", "content", user_id=user, if_version=0))
    assert (made.status, cluster.get(made.id).version) == ("added", 1)
    for call in (
        lambda: cluster.put("known", "two", user_id=user, if_version=1),
        lambda: cluster.scoped(user_id=user).delete(made.id),
    ):
        with pytest.raises(ShardUnavailableError, match="look first") as caught:
            killed_once_it_is_done(call)
        assert caught.value.unknown
    assert cluster.get(made.id) is None
    # What was not sent to an actor that is gone is answered as ever.
    os.kill(cluster.shards()[shard].pid, signal.SIGKILL)
    assert not cluster.scoped(user_id=user).delete(made.id)
    cluster.delete_many([one.id for one in texts])
    assert cluster.scoped(user_id=user).delete(key="known")


def test_shards_and_users_move_while_they_are_served(cluster: Any, place: Path) -> None:
    before = {record.id: record.content for record in cluster.iterate(user_id=ALL)}
    moved = cluster.move("s001")
    assert moved.records == cluster.shards()["s001"].records
    split = cluster.move_users([USERS[2]])
    assert cluster.shard_of(USERS[2]) == split.shard == "s003"
    assert split.records >= 10
    added = cluster.add_shard()
    assert added.shard == "s004"
    assert {cluster.shard_of(user) for user in USERS} >= {"s003"}
    assert {record.id: record.content for record in cluster.iterate(user_id=ALL)} == before
    assert cluster.get("i2").user_id == USERS[2]
    # A user who comes back has what he has by then, deleted or not, and nothing of before stands in the way.
    cluster.update("i2", content="Changed elsewhere.")
    cluster.delete("i14")
    cluster.move_users([USERS[2]], "s000")
    assert cluster.get("i2").content == "Changed elsewhere."
    assert cluster.get("i14") is None
    assert cluster.restore("i14").content == before["i14"]
    assert cluster.move_users([USERS[2]], "s003").shard == "s003"
    cluster.update("i2", content=before["i2"])
    assert {record.id: record.content for record in cluster.iterate(user_id=ALL)} == before
    # A user may be given a shard before anything of his is there; one name is not a list of names.
    assert cluster.move_users(["newcomer"], "s003").records == 0
    assert cluster.shard_of("newcomer") == "s003"
    known = cluster.map().shards
    for wrong in ("u2", [None], []):
        with pytest.raises(InvalidInputError):
            cluster.move_users(wrong)
    for node in ("", "nowhere"):
        with pytest.raises(StoreError):
            cluster.drain(node)
    assert cluster.map().shards == known
    hits = cluster.search("red wall", user_id=ALL, limit=100)
    assert len({hit.id for hit in hits}) == len(hits)
    assert not (place / "url" / "transit").exists() or not any((place / "url" / "transit").iterdir())


def test_a_move_that_fails_leaves_whoever_has_the_shard_by_then(cluster: Any) -> None:
    from agentmem.distributed import clusteractors

    user = USERS[5]
    shard = cluster.shard_of(user)
    made, status = cluster.map(), cluster.shards()[shard]
    next_one = f"agentmem-{made.id}-{shard}-{made.turns[shard] + 1}"
    with ThreadPoolExecutor(1) as threads:
        moving = threads.submit(cluster.move, shard)
        while clusteractors.find(next_one) is None:
            pass
        os.kill(status.pid, signal.SIGSTOP)
        assert cluster.count(user_id=user)  # and another one takes its place, which is that one
        there = cluster.shards()[shard].pid
        with pytest.raises((ShardUnavailableError, ConflictError)):
            moving.result(120)
    assert cluster.shards()[shard].pid == there
    assert cluster.move(shard).records == cluster.shards()[shard].records


def test_the_command_says_where_shards_run(cluster: Any, place: Path) -> None:
    import json

    from typer.testing import CliRunner

    from agentmem.cli.app import app

    said = CliRunner().invoke(app, ["cluster", "status", str(place / "url"), "--json"])
    assert said.exit_code == 0, said.output
    assert [one["state"] for one in json.loads(said.stdout)] == ["serving"] * len(cluster.map().shards)
    moved = CliRunner().invoke(app, ["cluster", "move", str(place / "url"), "s000", "--json"])
    assert json.loads(moved.stdout)[0]["shard"] == "s000"
    missing = CliRunner().invoke(app, ["cluster", "status", str(place / "nothing")])
    assert missing.exit_code == 1
    assert "there is no cluster" in missing.output
    with pytest.raises(StoreError):
        type(cluster).running(place / "nothing")


def test_a_shard_of_another_version_says_so(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreVersionError, match="knows no 'later'"):
        cluster._core.control("s000", "later")
    with pytest.raises(AttributeError):
        cluster.values.later("x", user_id="ben")
    monkeypatch.setattr("agentmem.distributed.clustercore.__version__", "9.9")
    with pytest.raises(StoreVersionError, match=r"this process 9\.9"):
        cluster.values.later("x", user_id="ben")
    with pytest.raises(InvalidInputError):  # what is wrong with a call is said as ever
        cluster.add("x", user_id="ben", importance=7)


def test_tasks_of_ray_reach_it(cluster: Any) -> None:
    import ray

    @ray.remote
    def count(there: Any, user: str) -> int:
        return there.count(user_id=user)

    assert ray.get(count.remote(cluster, USERS[5])) == cluster.count(user_id=USERS[5])


def test_for_event_loops(cluster: Any) -> None:
    import asyncio

    from agentmem.distributed.clusteraio import AsyncCluster

    async def main() -> None:
        async with AsyncCluster(cluster) as there:
            found = await asyncio.gather(*(there.add(f"word{n} is new", user_id=USERS[n % 12]) for n in range(24)))
            assert len({one.id for one in found}) == 24
            assert (await there.search("word7", user_id=USERS[7]))[0].id == found[7].id
            assert await there.scoped(user_id=USERS[7]).get(found[8].id) is None
            assert len([record async for record in there.iterate(user_id=USERS[7])]) == await there.count(
                user_id=USERS[7]
            )
            await there.values.put("seen", 1, user_id="eve")
            await there.session("talk", user_id="eve").append({"role": "user", "content": "hello"})
            assert not hasattr(there, "nothing")

    asyncio.run(main())


def test_the_server_in_front(cluster: Any, tmp_path: Path) -> None:
    import asyncio

    httpx = pytest.importorskip("httpx", reason="httpx is not installed")
    from agentmem.distributed.clusteraio import AsyncCluster
    from agentmem.server.app import App
    from agentmem.server.keys import KeyStore

    keys = KeyStore(tmp_path)
    tokens = {user: keys.create(user_id=user, scopes=["read", "write"]).token for user in ("carla", "dora")}
    admin = keys.create(any_user=True, scopes=["admin", "read"]).token

    async def ask(app: App) -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:

            async def said(by: str, method: str, path: str, body: Any = None) -> Any:
                answer = await client.request(method, path, json=body, headers={"Authorization": f"Bearer {by}"})
                return answer.json() if answer.status_code < 300 else answer.status_code

            carla, dora = tokens["carla"], tokens["dora"]
            made = await said(carla, "POST", "/v1/memories", {"content": "Carla plays the cello."})
            path = f"/v1/memories/{made['id']}"
            found = await said(carla, "POST", "/v1/search", {"query": "cello"})
            assert [hit["record"]["id"] for hit in found["hits"]] == [made["id"]]
            assert (await said(dora, "POST", "/v1/search", {"query": "cello"}))["hits"] == []
            assert await said(dora, "GET", path) == 404
            assert (await said(carla, "PATCH", path, {"content": "Carla plays the violin."}))["version"] == 2
            assert await said(carla, "PUT", "/v1/keyed/colour", {"content": "red"})
            assert (await said(carla, "GET", "/v1/keyed/colour"))["content"] == "red"
            turns = {"messages": [{"role": "user", "content": "Good morning."}]}
            assert await said(carla, "POST", "/v1/sessions/talk/turns", turns)
            assert len(await said(carla, "GET", "/v1/sessions/talk/turns")) == 1
            assert set(await said(admin, "GET", "/v1/health")) == set(cluster.map().shards)
            assert await said(admin, "GET", "/health/ready") == {"status": "ok"}
            assert await said(admin, "GET", "/v1/users") == 422  # what there is instead is in the answer
            assert await said(carla, "DELETE", path) == {"done": True}

    async def main() -> None:
        async with AsyncCluster(cluster) as there:
            await ask(App(there, keys))

    asyncio.run(main())
    keys.close()


def test_a_client_that_was_closed_says_so_and_the_shards_go_on(cluster: Any, place: Path) -> None:
    from agentmem.distributed.cluster import Cluster

    with Cluster(
        place / "url", shards=3, root=place / "root", interval_s=60, embedder=HashedWords(32), clock=lambda: NOW
    ) as other:  # fmt: skip
        view = other.scoped(user_id=USERS[0])
        assert view.count() == cluster.count(user_id=USERS[0])
    for call in (
        lambda: other.count(user_id=ALL),
        lambda: other.search("rain", user_id=USERS[0]),
        lambda: other.add("too late", user_id=USERS[0]),
        lambda: other.values.put("late", b"", user_id=USERS[0]),
        other.shards,
        view.count,
    ):
        with pytest.raises(ClosedError, match="make another one"):
            call()
    assert cluster.count(user_id=ALL)


def test_a_replica_follows_and_says_how_far_behind_it_is(cluster: Any, tmp_path: Path) -> None:
    from agentmem.distributed.replica import Replica

    for user in USERS:  # what lies in a namespace of its own
        cluster.values.put("k", {"a": user}, user_id=user)
    replica = Replica(cluster, str(tmp_path / "replica"))
    assert all(lag.events == 0 for lag in replica.follow().values())

    def here() -> dict[str, str]:
        return {row["id"]: row["content"] for row in replica.table().to_arrow().to_pylist()}

    def there() -> dict[str, str]:
        return {record.id: record.content for record in cluster.iterate(user_id=ALL, under=())}

    assert here() == there()
    cluster.add("Brand new.", user_id=USERS[0], id="new")
    cluster.update("i3", content="Something else.")
    cluster.delete("i4")
    cluster.erase("i5")
    assert sum(lag.events for lag in replica.lag().values()) >= 4
    replica.follow()
    assert here() == there()
    assert "i5" not in here()
    assert sum(lag.events for lag in replica.lag().values()) == 0
    near = replica.table().search(HashedWords(32).embed_query("Brand new."), vector_column_name="vector").limit(1)
    assert near.to_list()[0]["id"] == "new"
    assert Replica(cluster, str(tmp_path / "replica")).follow().keys() == set(cluster.map().shards)
