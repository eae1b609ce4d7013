"""What somebody tries who wants more than the key allows, or wants the server down. None of it may succeed.

Attacks on the connection itself, on a server in a process of its own, are in ``test_running.py``.
"""

from __future__ import annotations

import gzip
import json
import statistics
import time
import zlib
from collections.abc import Callable

import pytest
from conftest import FakeClock
from served import Served

from agentmem.errors import InvalidKeyError
from agentmem.server.endpoint import Endpoint
from agentmem.server.keys import KeyStore
from agentmem.server.routes import ENDPOINTS

SECRET = "the vault code is 4711"


@pytest.fixture(scope="module")
def secret(served: Served) -> str:
    """The id of what only ``victim`` may see."""
    return served.add(SECRET, "victim", id="victims-secret", metadata={"topic": "vault"})


def refused(answer, *codes: int) -> None:
    """It was refused, and nothing of the secret is in the refusal."""
    assert answer.status_code in (codes or (401, 403, 404, 409, 415, 422)), (answer.status_code, answer.text)
    assert SECRET not in answer.text
    assert answer.headers["content-type"] == "application/problem+json"


BY_ID = [endpoint for endpoint in ENDPOINTS if "/memories/{id}" in endpoint.path]
BODIES = {"PATCH": {"content": "pwned"}, "PUT": {"tier": "hot"}}


@pytest.mark.parametrize("endpoint", BY_ID, ids=lambda one: f"{one.method}{one.path}")
def test_the_id_of_somebody_elses_memory_opens_nothing(served: Served, secret: str, endpoint: Endpoint) -> None:
    body = {} if endpoint.body is None else {"json": BODIES.get(endpoint.method, {})}
    if endpoint.path.endswith("feedback"):
        body = {"json": {"rating": 1}}
    answer = served.call(endpoint.method, endpoint.path.replace("{id}", secret), "mallory", **body)
    assert answer.status_code == 404 or answer.json() == {"done": False}, answer.text
    assert SECRET not in answer.text
    assert served.call("GET", f"/v1/memories/{secret}", "victim").json()["version"] == 1


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/memories/batch", {"items": [{"content": "x", "user_id": "victim"}]}),
        ("POST", "/v1/memories", {"content": "x", "user_id": "victim"}),
        ("POST", "/v1/search", {"query": "vault", "user_id": "victim"}),
        ("POST", "/v1/search", {"query": "vault", "user_id": "*"}),
        ("POST", "/v1/context", {"query": "vault", "max_tokens": 500, "user_id": None}),
        ("POST", "/v1/sessions/s/prompt", {"max_tokens": 500, "query": "vault", "user_id": "victim"}),
        ("POST", "/v1/search?user_id=victim", {"query": "vault"}),
        ("POST", "/v1/search?user_id=", {"query": "vault"}),
        ("POST", "/v1/search?user_id=victim%00", {"query": "vault"}),
        ("POST", "/v1/search?user_id=mallory&user_id=victim", {"query": "vault"}),
        ("GET", "/v1/memories?user_id=victim", None),
        ("GET", "/v1/memories/stream?user_id=victim", None),
        ("DELETE", "/v1/users/victim", None),
        ("DELETE", "/v1/memories?user_id=victim", None),
        ("GET", "/v1/blocks?user_id=victim", None),
        ("GET", "/v1/sessions?user_id=victim", None),
    ],
    ids=range(16),
)
def test_no_argument_names_another_user(served: Served, secret: str, method: str, path: str, body) -> None:
    refused(served.call(method, path, "mallory", **({} if body is None else {"json": body})))
    assert served.call("GET", f"/v1/memories/{secret}", "victim").json()["content"] == SECRET


def test_a_line_of_a_stream_names_no_other_user(served: Served, secret: str) -> None:
    line = json.dumps({"content": "x", "user_id": "victim"})
    answer = served.call("POST", "/v1/memories/stream", "mallory", content=line)
    assert json.loads(answer.text)["error"]["field"] == "user_id"
    assert served.call("GET", "/v1/memories/count", "victim").json() == {"count": 1}


@pytest.mark.parametrize(
    "filters",
    [{"$user_id": "victim"}, {"$or": [{"topic": "vault"}, {"$user_id": {"$ne": "mallory"}}]}, {"topic": "vault"}],
    ids=range(3),
)
def test_no_filter_looks_over_the_wall(served: Served, secret: str, filters: dict) -> None:
    answer = served.call("POST", "/v1/search", "mallory", json={"query": "vault", "filters": filters})
    assert answer.status_code == 422 or answer.json()["hits"] == []
    listed = served.call("GET", "/v1/memories", "mallory", params={"filters": json.dumps(filters)})
    assert listed.status_code == 422 or listed.json()["records"] == []


def test_an_id_that_somebody_has_is_not_taken_over(served: Served, secret: str) -> None:
    refused(served.call("POST", "/v1/memories", "mallory", json={"content": "mine now", "id": secret}), 409)
    refused(served.call("PUT", "/v1/keyed/k", "mallory", json={"content": "mine now", "id": secret}), 409)
    assert served.call("GET", f"/v1/memories/{secret}", "victim").json()["content"] == SECRET


def test_an_agents_key_sees_no_other_agents_memories(served: Served) -> None:
    served.add(SECRET, "amy", agent_id="doctor", id="amys-secret")
    coach = served.key(user_id="amy", agent_id="coach")
    refused(served.call("GET", "/v1/memories/amys-secret", coach), 404)
    refused(served.call("GET", "/v1/memories?agent_id=doctor", coach), 422)
    refused(served.call("POST", "/v1/search", coach, json={"query": "vault", "agent_id": "doctor"}), 422)
    refused(served.call("GET", "/v1/namespaces", coach), 403)
    refused(served.call("DELETE", "/v1/users/amy", coach), 403)
    prompt = served.call("POST", "/v1/sessions/s/prompt", coach, json={"max_tokens": 900, "query": "vault code"})
    assert SECRET not in prompt.text
    assert served.call("POST", "/v1/search", coach, json={"query": "vault code"}).json()["hits"] == []


def test_a_namespaces_key_sees_nothing_beside_it(served: Served) -> None:
    served.add(SECRET, "nan", namespace=["private"], id="nans-secret")
    served.add("at work", "nan", namespace=["work", "notes"])
    work = served.key(user_id="nan", namespace=["work"])
    refused(served.call("GET", "/v1/memories/nans-secret", work), 404)
    for namespace in (
        "namespace=private",
        "under=",
        "under=private",
        "namespace=work&namespace=..",
        "namespace=%24http",
    ):
        answer = served.call("GET", f"/v1/memories?{namespace}", work)
        assert answer.status_code == 422 or answer.json()["records"] == [], namespace
    assert len(served.call("GET", "/v1/memories", work).json()["records"]) == 1
    refused(served.call("POST", "/v1/sessions/s/prompt?namespace=private", work, json={"max_tokens": 900}), 422)


def test_a_key_that_has_ended_opens_nothing(serve: Callable[..., Served], clock: FakeClock) -> None:
    served = serve()
    revoked = served.key(user_id="ana")
    served.keys.revoke(revoked.split("_")[1])
    refused(served.call("GET", "/v1/memories", revoked), 401)
    from datetime import UTC, datetime, timedelta

    served.keys._clock = clock  # pyright: ignore[reportPrivateUsage]
    clock.now = datetime.now(UTC)
    expiring = served.key(user_id="ana", expires=timedelta(seconds=10))
    assert served.call("GET", "/v1/memories", expiring).status_code == 200
    clock.advance(11)
    refused(served.call("GET", "/v1/memories", expiring), 401)


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "Basic YW5hOmFuYQ==")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer null")],
        [("authorization", "{good}")],
        [("authorization", "Bearer {good}, Bearer {other}")],
        [("authorization", "Bearer {good}"), ("x-api-key", "{other}")],
        [("authorization", "Bearer {good}"), ("authorization", "Bearer {other}")],
        [("x-api-key", "{good}"), ("x-api-key", "{other}")],
        [("cookie", "authorization=Bearer {good}")],
        [("x-forwarded-user", "victim")],
        [("x-user-id", "victim")],
        [("x-forwarded-for", "127.0.0.1"), ("host", "localhost")],
        [("x-original-url", "/health/live"), ("x-rewrite-url", "/health/live")],
    ],
    ids=range(13),
)
def test_no_trick_with_headers_enters(served: Served, headers: list[tuple[str, str]]) -> None:
    names = {"good": served.token("mallory"), "other": served.token("victim")}
    given = [(name, value.format(**names)) for name, value in headers]

    async def ask() -> int:
        sent = [(name.encode(), value.encode()) for name, value in given]
        scope = {"type": "http", "method": "GET", "path": "/v1/memories", "raw_path": b"/v1/memories",
                 "query_string": b"", "headers": sent}  # fmt: skip
        return (await served.app.answer(scope, receive)).status

    async def receive() -> dict:
        return {"type": "http.request", "body": b"", "more_body": False}

    import asyncio

    assert asyncio.run(ask()) in (400, 401)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/memories/../users", "/v1//memories", "/V1/memories", "/v1/memories/", "/v1/memories/%2e%2e/%2e%2e/stats",
        "/v1/memories;x=1", "//v1/memories", "/v1/memories/..%2f..%2fstats", "/v1/memories/%00", "/v1/%75sers",
        "/v1/users%2f", "/health/live/../../v1/stats", "/health/live%2f..%2fv1%2fstats", "/health/live/",
        "/v1/memories/%ff", "/openapi.json/../v1/stats", "/mcp/../v1/stats",
    ],
    ids=range(17),
)  # fmt: skip
def test_no_path_leads_around_the_door(served: Served, path: str) -> None:
    import asyncio

    async def receive() -> dict:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    for token, codes in ((None, (400, 401, 404, 405)), (served.token("mallory"), (400, 403, 404, 405, 422))):
        headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
        answer = asyncio.run(served.app.answer({**scope, "headers": headers}, receive))
        assert answer.status in codes, (token is None, answer)


def test_a_read_key_changes_nothing(served: Served, secret: str) -> None:
    reader = served.key(user_id="victim", scopes=["read"])
    for endpoint in ENDPOINTS:
        if endpoint.scope not in (None, "read"):
            refused(served.call(endpoint.method, endpoint.path.replace("{id}", secret), reader), 403)
    refused(served.call("GET", "/v1/memories", served.key(user_id="victim", scopes=["write"])), 403)


def test_nobody_gives_a_key_more_than_they_have(served: Served) -> None:
    admin = served.key(any_user=True, scopes=["admin"])
    refused(served.call("POST", "/v1/keys", admin, json={"scopes": ["read"], "any_user": True}), 403)
    boss = served.token("boss").split("_")[1]
    refused(served.call("POST", f"/v1/keys/{boss}/rotate", admin), 403)
    refused(served.call("POST", "/v1/keys", "victim", json={"scopes": ["read"], "user_id": "victim"}), 403)
    refused(served.call("POST", "/v1/keys", "boss", json={"scopes": ["admin"], "user_id": "victim"}), 422)


def test_a_wrong_secret_takes_as_long_as_an_unknown_key(tmp_path) -> None:
    keys = KeyStore(tmp_path)
    token = keys.create(user_id="ana", scopes=["read"]).token
    keys.check(token)
    start, id = token[: token.rindex("_") + 1], token.split("_")[1]
    guesses = {
        "first wrong": start + "x" * 43,
        "last wrong": token[:-1] + ("a" if token[-1] != "a" else "b"),
        "unknown": f"amk_{'f' * len(id)}_{'x' * 43}",
    }
    took = {name: list[float]() for name in guesses}
    for _ in range(400):
        for name, guess in guesses.items():
            began = time.perf_counter()
            with pytest.raises(InvalidKeyError):
                keys.check(guess)
            took[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(times) for name, times in took.items()}
    assert medians["last wrong"] < 1.5 * medians["first wrong"] + 5e-6
    assert medians["first wrong"] < 1.5 * medians["last wrong"] + 5e-6
    keys.close()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "identity, gzip"])
def test_nothing_is_decompressed(served: Served, encoding: str) -> None:
    bomb = gzip.compress(b"0" * 10_000_000) if "gzip" in encoding else zlib.compress(b"0" * 10_000_000)
    headers = {"content-encoding": encoding, "content-type": "application/json"}
    for path in ("/v1/memories", "/v1/memories/stream"):
        refused(served.call("POST", path, "mallory", content=bomb, headers=headers), 415)


def test_a_body_that_is_too_large_is_not_read(served: Served) -> None:
    large = json.dumps({"content": "x" * 300_000}).encode()
    json_ = {"content-type": "application/json"}
    refused(served.call("POST", "/v1/memories", "mallory", content=large, headers=json_), 413)

    async def endless():
        while True:
            yield b'{"content": "' + b"x" * 65_536

    refused(served.call("POST", "/v1/memories", "mallory", content=endless(), headers=json_), 413)
    answer = served.call("POST", "/v1/memories/stream", "mallory", content=endless())
    assert json.loads(answer.text)["error"]["status"] == 413
    lying = {**json_, "content-length": "99999999999999999999999"}
    refused(served.call("POST", "/v1/memories", "mallory", content=b"{}", headers=lying), 413)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000, b'{"a":' * 30_000, b'{"content":"x","data":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"content": NaN}', b'{"content":"x","importance":1e999}', b'{"content":"x","ttl":' + b"9" * 5_000 + b"}",
        b'{"content":"\\ud800"}', b'{"content":"\\u0000"}', b"\xff\xfe", b"", b"null", b"[]", b'"text"', b"{",
        b'{"content":"x","vector":[1e400]}', b'{"content":"x","vector":"AAAA"}', b'{"content":{"$ne":1}}',
        b'{"content":"x","namespace":["$http","once"]}', b'{"content":"x","embed":[]}',
        b'{"content":"x","data":1' + b"0" * 4_400 + b"}", b'{"content":"x","filters":{}}',
        b'{"content":"x","id":"' + b"i" * 600 + b'"}', b'{"__proto__":{"x":1},"content":"x"}',
    ],
    ids=range(23),
)  # fmt: skip
def test_what_no_memory_is_made_of_is_refused(served: Served, body: bytes) -> None:
    began = time.perf_counter()
    headers = {"content-type": "application/json"}
    refused(served.call("POST", "/v1/memories", "mallory", content=body, headers=headers), 422)
    assert time.perf_counter() - began < 5


def test_a_form_of_another_page_is_no_request(served: Served) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        headers = {"content-type": kind}
        answer = served.call("POST", "/v1/memories", "mallory", content=b'{"content":"x"}', headers=headers)
        refused(answer, 415)


@pytest.mark.parametrize(
    "body",
    [{"url": "http://169.254.169.254/"}, {"kind": "full", "path": "/etc"}, {"kind": "s3://x"}, {"description": 1}],
    ids=range(4),
)
def test_no_request_says_where_backups_go(served: Served, body: dict) -> None:
    refused(served.call("POST", "/v1/backups", "boss", json=body), 422)


def test_no_path_of_the_server_is_told(serve: Callable[..., Served]) -> None:
    served = serve()
    token = served.key(any_user=True)
    served.memory.blocking.add("x")
    served.path.rename(served.path.with_name("away"))
    try:
        answer = served.call("GET", "/v1/memories", token)
        assert answer.status_code in (401, 503)
        assert str(served.path.parent) not in answer.text
    finally:
        served.path.with_name("away").rename(served.path)


def test_a_bug_tells_nothing_of_itself(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentmem import AsyncMemory

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError(f"at /home/me: {SECRET}")

    monkeypatch.setattr(AsyncMemory, "page", broken)
    answer = served.call("GET", "/v1/memories", "mallory")
    refused(answer, 500)
    assert "/home/me" not in answer.text


def test_an_idempotency_key_is_its_owners(served: Served) -> None:
    once = {"idempotency-key": "shared"}
    served.call("POST", "/v1/memories", "victim", json={"content": "one more", "role": "user"}, headers=once)
    answer = served.call("POST", "/v1/memories", "mallory", json={"content": "one more", "role": "user"}, headers=once)
    assert "idempotency-replayed" not in answer.headers
    for key in ("", "x" * 256, "a\x01b"):
        headers = {"idempotency-key": key}
        refused(served.call("POST", "/v1/memories", "mallory", json={"content": "x"}, headers=headers), 400)


@pytest.mark.parametrize("tag", ['"1", "2"', "x", '"-1"', '"99999999999999999999"', ""])
def test_a_tag_that_is_no_version_changes_nothing(served: Served, tag: str) -> None:
    path = f"/v1/memories/{served.add('tagged', 'tia', dedupe=False)}"
    refused(served.call("PATCH", path, "tia", json={"content": "x"}, headers={"if-match": tag}), 422)
    assert served.call("GET", path, "tia").json()["version"] == 1


@pytest.mark.parametrize("query", ["limit=1e9", "limit=-1", "limit=x", "offset=99999999999999999999", "by=x", "limt=1"])
def test_a_query_that_makes_no_sense_is_refused(served: Served, query: str) -> None:
    refused(served.call("GET", f"/v1/memories?{query}", "mallory"), 422)
