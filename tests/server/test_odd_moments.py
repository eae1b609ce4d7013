"""Keys that end while they are used, files that are gone, full disks: what a server says and does then."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import HashEmbedder
from served import Served

from agentmem import AsyncMemory, DiskFullError, ReadOnlyError, StoreError, StoreGoneError, StoreLockedError
from agentmem.server.answers import HttpError, problem
from agentmem.server.app import App
from agentmem.server.idempotency import Once, once
from agentmem.server.keys import FILE, KeyStore
from agentmem.server.running import mounted


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Served]:
    """A server whose files a test may harm."""
    found = Served(tmp_path)
    yield found
    found.close()


def lines(answer: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.text.split("\n") if line]


def test_a_second_ctrl_c_ends_a_server_without_a_traceback(alone: Served) -> None:
    """With the second one uvicorn cancels what has been told of no end, and prints what that raises."""
    told = list[str]()

    async def main() -> None:
        started = asyncio.Event()

        async def receive() -> dict[str, str]:
            if told:
                await asyncio.Event().wait()
            return {"type": "lifespan.startup"}

        async def send(message: Any) -> None:
            told.append(message["type"])
            started.set()

        living = asyncio.create_task(alone.app({"type": "lifespan"}, receive, send))
        await started.wait()
        living.cancel()
        await living

    asyncio.run(main())
    assert told == ["lifespan.startup.complete"]


@pytest.mark.parametrize("how", ["revoked", "expired", "erased"])
def test_a_stream_ends_with_its_key(served: Served, how: str) -> None:
    user = f"sue-{how}"
    token = served.key(user_id=user)
    id = token.split("_")[1]

    async def body() -> Any:
        for number in range(9):
            yield b'"Sue says %d"\n' % number
            if number == 5 and how == "revoked":
                served.keys.revoke(id)
            elif number == 5 and how == "expired":
                with closing(sqlite3.connect(served.path / FILE)) as db, db:
                    db.execute("UPDATE keys SET expires_at = 1 WHERE id = ?", (id,))
                await asyncio.sleep(0.03)  # as one who ends a key waits
            elif number == 5:
                # What is under way is stored before an erasure or after it, as it comes.
                while await served.memory.count(user_id=user) < 6:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await served.memory.erase_all(user_id=user)
                served.keys.forget_user(user)

    told = lines(served.call("POST", "/v1/memories/stream", token, params={"chunk": 2}, content=body()))
    assert (told[-1]["error"]["title"], told[-1]["error"]["status"]) == ("InvalidKeyError", 401)
    left = served.call("GET", "/v1/memories/count", "boss", params={"user_id": user}).json()["count"]
    assert left == (0 if how == "erased" else told[-1]["through"])


class Waits(HashEmbedder):
    """Takes its time for texts that say so."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()

    def embed_documents(self, texts: Sequence[str]) -> Any:
        if any("slowly" in text for text in texts):
            self.begun.set()
            assert self.go_on.wait(20)
        return super().embed_documents(texts)


def _told(served: Served, way: str, token: str, text: str) -> Any:
    """Add a memory of una's by a key, in one of the ways there are."""
    if way == "mcp":
        return _by_mcp(served, token, text)
    said = {"content": text}
    more: dict[str, Any] = {"content": json.dumps(said)} if way == "stream" else {"json": said}
    path = "/v1/memories/stream" if way == "stream" else "/v1/memories"
    return served.call("POST", path, token, params={"user_id": "una"}, **more)


def _by_mcp(served: Served, token: str, text: str, body: Any = None) -> httpx.Response:
    """One call of a tool, where the server has the protocol mounted."""
    mounts = mounted(served.memory, served.keys)
    served.app = App(served.memory, served.keys, mounts=mounts)
    call = {"name": "remember", "arguments": {"content": text}}
    said = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}).encode()
    headers = {
        "authorization": f"Bearer {token}", "accept": "application/json, text/event-stream",
        "content-type": "application/json",
    }  # fmt: skip

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(served.app)
        async with (
            mounts["/mcp"].lifespan_context(),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            return await client.post("/mcp", headers=headers, content=said if body is None else body(said))

    return asyncio.run(run())


@pytest.mark.parametrize("by", ["boss", "una"])
@pytest.mark.parametrize("way", ["one", "stream", "mcp", "any user"])
def test_nothing_that_was_under_way_outlives_its_user(tmp_path: Path, by: str, way: str) -> None:
    model = Waits()
    served = Served(tmp_path, embedder=model)
    eraser = served.token(by)
    teller = served.token("boss" if way == "any user" else "una")
    try:
        _told(served, "one", served.token("boss"), "Una was here")
        with ThreadPoolExecutor(2) as pool:
            adding = pool.submit(_told, served, way, teller, "told slowly")
            assert model.begun.wait(20)
            erasing = pool.submit(served.call, "DELETE", "/v1/users/una", eraser)
            wait([erasing], timeout=0.4)  # which it does not end in, since what is under way may still come
            model.go_on.set()
            assert adding.result().status_code < 300
            assert erasing.result().status_code == 200
        assert served.memory.blocking.count(user_id="una") == 0
    finally:
        model.go_on.set()
        served.close()


@pytest.mark.parametrize("way", ["one", "mcp"])
def test_what_comes_after_its_user_was_erased_is_not_taken(tmp_path: Path, way: str) -> None:
    served = Served(tmp_path)
    token = served.key(user_id="una")

    async def coming(said: bytes) -> Any:
        yield said[:20]
        await asyncio.to_thread(served.call, "DELETE", "/v1/users/una", "boss")
        yield said[20:]

    try:
        served.add("Una was here", token)
        if way == "mcp":
            _by_mcp(served, token, "said too late", coming)
        else:
            late, headers = coming(b'{"content": "said too late"}'), {"content-type": "application/json"}
            assert served.call("POST", "/v1/memories", token, content=late, headers=headers).status_code == 401
        assert served.memory.blocking.count(user_id="una") == 0
    finally:
        served.close()


def test_reading_ends_with_its_key_too(served: Served) -> None:
    token = served.key(user_id="rea")
    many = [{"content": f"Rea {number} {'long ' * 100}"} for number in range(300)]
    served.call("POST", "/v1/memories/batch", token, json={"items": many})
    check, looked = served.keys.still, list[str]()

    def ended(id: str) -> None:
        served.keys.revoke(id) if looked else looked.append(id)
        check(id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(served.keys, "still", ended)
        told = lines(served.call("GET", "/v1/memories/stream", token))
    assert told[-1]["error"]["title"] == "InvalidKeyError"
    assert len(told) < 300


def test_a_line_that_is_no_json_is_named(served: Served) -> None:
    [told] = lines(served.call("POST", "/v1/memories/stream", "lin", content=b'"a"\n\n{"content":\n"b"\n'))
    assert (told["error"]["index"], told["through"]) == (1, 0)
    assert told["error"]["detail"].startswith("item 1: the body is no JSON")


def test_a_store_that_is_gone_is_not_the_keys_fault(alone: Served) -> None:
    alone.add("here", "ana")
    alone.path.rename(alone.path.with_name("elsewhere"))
    time.sleep(0.03)
    gone = alone.call("GET", "/v1/memories/count", "ana")
    assert (gone.status_code, gone.json()["title"]) == (503, "StoreError")
    assert alone.call("GET", "/v1/memories/count").status_code == 401
    assert alone.call("GET", "/health/ready").status_code == 503
    assert not alone.path.exists()
    alone.path.with_name("elsewhere").rename(alone.path)
    assert alone.call("GET", "/v1/memories/count", "ana").json() == {"count": 1}


def test_damaged_keys_are_a_failure_of_the_server(alone: Served) -> None:
    alone.add("here", "ana")
    (alone.path / FILE).write_bytes(b"no keys" * 2_000)
    time.sleep(0.03)
    for _ in range(2):
        answer = alone.call("GET", "/v1/memories/count", "ana")
        assert (answer.status_code, answer.json()["title"]) == (503, "StoreError")


def test_a_full_disk_ends_neither_lists_of_keys_nor_the_server(tmp_path: Path, caplog: Any) -> None:
    keys = KeyStore(tmp_path)
    made = keys.create(user_id="ana", scopes=["read"])
    keys.check(made.token)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *_, **__: Full())
        with pytest.raises(DiskFullError, match="disk is full"):
            keys.create(user_id="ana", scopes=["read"])
        assert [key.id for key in keys.list()] == [made.key.id]
        keys.close()
    assert "could not be noted" in caplog.text
    keys = KeyStore(tmp_path)
    keys.check(made.token)
    keys.close()


class Full:
    """A connection to a file whose disk is full."""

    def execute(self, statement: str, *_: object) -> Full:
        if statement.startswith(("INSERT", "UPDATE", "BEGIN")):
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return self

    def fetchone(self) -> None: ...
    def close(self) -> None: ...


def test_no_answer_says_where_the_store_lies() -> None:
    for kind in (DiskFullError, ReadOnlyError, StoreLockedError, StoreGoneError, StoreError):
        answer = problem(kind("/srv/memories: it is so"))
        assert answer.status in (403, 503, 507)
        assert b"/srv" not in answer.body


def test_a_repeated_answer_is_read_again_and_no_text_is_kept(served: Served) -> None:
    path, once = "/v1/sessions/talk", {"idempotency-key": "begin"}
    body = {"title": "a hidden title", "metadata": {"about": "a hidden matter"}}
    assert served.call("POST", path, "tea", json=body, headers=once).status_code == 201
    served.call("PATCH", path, "tea", json={"title": "another"})
    again = served.call("POST", path, "tea", json=body, headers=once)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    assert again.json()["title"] == "another"
    batch = {"items": ["one", {"content": "x", "layer": "a hidden layer"}], "on_error": "skip"}
    said = [served.call("POST", "/v1/memories/batch", "tea", json=batch, headers={"idempotency-key": "b"}).json()
            for _ in range(2)]  # fmt: skip
    assert said[0]["results"] == said[1]["results"]
    assert [one["index"] for one in said[1]["skipped"]] == [1]
    served.call("DELETE", path, "tea")
    kept = served.call("GET", "/v1/memories", "tea", params={"under": ""}).text
    assert "$http" in kept
    assert "hidden" not in kept
    assert served.call("POST", path, "tea", json=body, headers=once).status_code == 404


def test_a_repeated_answer_has_its_version(served: Served) -> None:
    once = {"idempotency-key": "tagged"}
    made = [served.call("POST", "/v1/memories", "tag", json={"content": "tag"}, headers=once) for _ in range(2)]
    assert [one.headers.get("etag") for one in made] == ['"1"', '"1"']


def test_a_version_is_never_passed_over(served: Served) -> None:
    path = f"/v1/memories/{served.add('v', 'vic')}"
    for verb in ("restore", "pin", "feedback"):
        answer = served.call("POST", f"{path}/{verb}", "vic", json={}, headers={"if-match": '"7"'})
        assert (answer.status_code, answer.json()["title"]) == (400, "BadRequest")
    assert served.call("GET", path, "vic", headers={"if-none-match": "*"}).status_code == 304
    assert served.call("GET", path, "vic", headers={"if-match": '"7"'}).status_code == 200


def test_mounted_apps_keep_to_the_pace_and_to_who_was_erased(tmp_path: Path) -> None:
    called = list[str]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        called.append(scope["path"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    from agentmem.server.limits import Limits

    served = Served(tmp_path, mounts={"/mcp": app}, limits=Limits(per_minute=3))
    try:
        ana, bea = served.key(user_id="ana"), served.key(user_id="bea")
        assert [served.call("POST", "/mcp", ana).status_code for _ in range(4)] == [204, 204, 204, 429]
        assert served.call("POST", "/mcp", "amk_no_key").status_code == 204  # which the app refuses by itself
        served.memory.blocking.add("of bea", user_id="bea")
        served.memory.blocking.erase_all(user_id="bea")
        assert served.call("POST", "/mcp", bea).status_code == 401
        assert len(called) == 4
    finally:
        served.close()


@pytest.mark.parametrize("off", [3_600, 365 * 86_400])
def test_a_request_that_died_while_the_clock_was_ahead_can_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: float
) -> None:
    real, keys = time.time, KeyStore(tmp_path)
    key = keys.create(user_id="ana", scopes=["write"]).key

    async def main() -> None:
        async with AsyncMemory(tmp_path, embedder=HashEmbedder()) as memory:
            view = key.view(memory)

            def asked() -> Once:
                return once(b"k-1", view, key, None, 60, None, b"POST", b"/v1/memories")

            monkeypatch.setattr(time, "time", lambda: real() + off)
            assert await asked().before() is None  # and the server is killed
            with pytest.raises(HttpError, match="still under way"):
                await asked().before()
            monkeypatch.setattr(time, "time", lambda: real() + off - 5)
            with pytest.raises(HttpError, match="still under way"):
                await asked().before()  # corrected by a few seconds
            monkeypatch.setattr(time, "time", real)
            assert await asked().before() is None
            with pytest.raises(HttpError, match="still under way"):
                await asked().before()

    asyncio.run(main())
    keys.close()
