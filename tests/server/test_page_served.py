"""The page and what the API has for it: nothing foreign in it, nothing past a key's walls, events as they happen."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import ROOT, FakeClock, HashEmbedder
from served import Served, running
from typer.testing import CliRunner

from agentmem import Memory
from agentmem.cli.app import app as cli
from agentmem.errors import InvalidKeyError
from agentmem.server.keys import KeyStore
from agentmem.server.pages import pages
from agentmem.server.running import Options, make_app
from agentmem.server.visit import GOOD_FOR_S, Visit

FOLDER = ROOT / "agentmem" / "server" / "page"
BOSS = {"user_id": "ana"}


# -- the page --------------------------------------------------------------------------------------------------------


def test_the_page_is_there_without_a_key_and_brings_its_rules(served: Served) -> None:
    answer = served.call("GET", "/")
    assert answer.status_code == 200
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert served.call("HEAD", "/").content == b""


def test_each_file_is_sent_as_what_it_is_and_no_other_is(served: Served) -> None:
    there = {path.name for path in FOLDER.iterdir()}
    assert {path.rpartition("/")[2] or "index.html" for path in pages()} == there
    sent = 0
    for path, (page, packed) in pages().items():
        answer = served.call("GET", path, headers={"accept-encoding": "identity"})
        assert answer.content == page.body == served.call("GET", path).content
        sent += len(packed.body)
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"], path
        kind = {"js": "javascript", "css": "css", "svg": "svg", "": "html"}[path.rpartition(".")[2].strip("/")]
        assert kind in answer.headers["content-type"]
    for path in (
        "/page/",
        "/page/../app.py",
        "/page/%2e%2e/app.py",
        "/page/main.js/",
        "/page/index.html",
        "/index.html",
    ):
        assert served.call("GET", path).status_code == 404, path
    assert served.call("POST", "/", json={}).status_code in (404, 405)
    assert sent < 50_000


def test_nothing_in_the_files_comes_from_elsewhere_or_makes_markup_of_texts() -> None:
    markup = (FOLDER / "index.html").read_text()
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", markup)
    for path in FOLDER.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[a-z0-9-]+\.[a-z]{2,}/|@import|url\(", text), path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|new Function", text), path


def test_a_package_has_the_files() -> None:
    hatch = (ROOT / "pyproject.toml").read_text()
    assert 'packages = ["agentmem"]' in hatch  # all files of it
    ignored = (ROOT / ".gitignore").read_text().split()
    assert not {"*.js", "*.css", "*.html", "*.svg", "page", "page/"} & set(ignored)


# -- what it asks ----------------------------------------------------------------------------------------------------


def test_a_key_says_what_it_is(served: Served) -> None:
    me = served.call("GET", "/v1/me", "ana").json()
    assert (me["user_id"], me["any_user"], me["scopes"]) == ("ana", False, ["read", "write", "erase"])
    assert served.call("GET", "/v1/me").status_code == 401


def test_what_is_of_the_whole_store_is_for_administrators(served: Served) -> None:
    for path in ("kpis", "layers", "users", "admin/spend", "admin/values", "events/stream"):
        assert served.call("GET", f"/v1/{path}", "ana").status_code == 403, path
    assert served.call("GET", "/v1/kpis", "boss").json()["pressure"] == "low"
    layers = served.call("GET", "/v1/layers", "boss").json()
    assert list(layers) == ["interact", "insights", "assets"]
    assert layers == served.call("GET", "/v1/stats", "boss").json()["layers"]


def test_users_come_a_page_at_a_time(served: Served) -> None:
    for number in range(7):
        served.add(f"memory of {number}", f"page-{number}")
    seen, cursor = list[str](), None
    while True:
        found = served.call(
            "GET", "/v1/users", "boss", params={"limit": 2} | ({"cursor": cursor} if cursor else {})
        ).json()
        assert len(found["users"]) <= 2
        seen += [one["name"] for one in found["users"]]
        cursor = found["cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen))
    assert [name for name in seen if str(name).startswith("page-")] == [f"page-{number}" for number in range(6, -1, -1)]
    named = served.call("GET", "/v1/users", "boss", params={"prefix": "page-", "limit": 3}).json()
    assert [one["name"] for one in named["users"]] == ["page-0", "page-1", "page-2"]
    assert [one["records"] for one in named["users"]] == [1, 1, 1]
    bad = served.call("GET", "/v1/users", "boss", params={"cursor": named["cursor"]})
    assert (bad.status_code, bad.json()["field"]) == (422, "cursor")


def test_the_last_events_come_first(served: Served) -> None:
    id = served.add("newest of all", "eva")
    newest = served.call("GET", "/v1/events", "boss", params={"order": "newest", "limit": 2}).json()
    assert newest[0]["id"] == id
    older = {"order": "newest", "before": newest[1]["seq"], "limit": 1}
    assert served.call("GET", "/v1/events", "boss", params=older).json()[0]["seq"] < newest[1]["seq"]


def test_proposals_are_approved_and_rejected_within_the_walls(served: Served) -> None:
    for text in ("Con has 2 cats at home.", "Con has 3 cats at home.", "Con has 4 dogs.", "Con has 5 dogs."):
        served.add(text, "con")
    assert served.call("POST", "/v1/consolidation/propose", "con", json={}).status_code == 200
    waiting = served.call("GET", "/v1/consolidation/proposals", "con").json()
    assert len(waiting) > 1
    assert served.call("GET", "/v1/consolidation", "con").json()["proposals"] == len(waiting)
    part = served.call("GET", "/v1/consolidation/proposals", "con", params={"limit": 1, "offset": 1}).json()
    assert part == waiting[1:2]
    first, second = waiting[0]["id"], waiting[1]["id"]
    for other in ("eve", served.key(user_id="con", scopes=["read"]), served.key(user_id="con", agent_id="a")):
        assert served.call("POST", "/v1/consolidation/approve", other, json={"ids": [first]}).status_code in (403, 404)
    done = served.call("POST", "/v1/consolidation/approve", "con", json={"ids": [first]}).json()
    assert (done["superseded"], done["refused"]) == (1, [])
    assert served.call("POST", "/v1/consolidation/reject", "con", json={"ids": [second]}).json() == {"count": 1}
    assert served.call("POST", "/v1/consolidation/revert", "con", json={"run_id": done["run_id"]}).json()["added"] == 1
    assert served.call("POST", "/v1/consolidation/retry", "con", json={}).json() == {"count": 0}
    assert served.call("POST", "/v1/consolidation/run", "con", json={}).status_code == 422  # there is no model
    assert served.call("GET", "/v1/consolidation/spend", "con").json() == []
    assert served.call("GET", "/v1/admin/spend", "boss").json() == []


def test_who_told_a_fact_is_told_to_whom_it_concerns(served: Served) -> None:
    from agentmem import Add, Evidence, NewMemory

    said = served.add("I moved to Faro.", "tom", role="user")
    fact = NewMemory(id="tom-lives", content="Tom lives in Faro.", user_id="tom")
    served.memory.blocking.apply([Add(fact, evidence=[Evidence(said, 0, 7)])])
    told = served.call("GET", "/v1/memories/tom-lives/evidence", "tom").json()
    assert told == [{"id": said, "first": 0, "end": 7, "state": "live"}]
    assert served.call("GET", "/v1/memories/tom-lives/evidence", "eve").status_code == 404


def test_values_are_listed_to_whom_they_belong(served: Served) -> None:
    values = served.memory.blocking.values
    for key in ("a/1", "a/2", "b"):
        values.put(key, b"bytes", user_id="val")
    found = served.call("GET", "/v1/values", "val", params={"prefix": "a/", "limit": 1}).json()
    assert [(one["key"], one["size"]) for one in found] == [("a/1", 5)]
    assert [one["key"] for one in served.call("GET", "/v1/values", "val", params={"after": "a/1"}).json()] == [
        "a/2",
        "b",
    ]
    assert served.call("GET", "/v1/values", "eve").json() == []
    assert served.call("GET", "/v1/admin/values", "boss").json()["chunks"] >= 1


def test_what_a_sweep_would_do_later_is_told_with_the_memories(served: Served) -> None:
    soon = served.call("POST", "/v1/memories", "ida", json={"content": "Ida is here for a day", "ttl": 86_400}).json()
    kept = served.add("Ida likes tea", "ida")
    asked = {"seconds": 2 * 86_400, "going": True, "limit": 200}
    told = served.call("GET", "/v1/admin/coming", "boss", params=asked).json()
    going = {one["id"]: one for one in told["report"]["moves"]}
    assert going[soon["id"]]["to_layer"] is None
    assert kept not in going
    assert {one["id"]: (one["user_id"], one["content"]) for one in told["records"]}[soon["id"]] == (
        "ida",
        "Ida is here for a day",
    )
    assert told["report"]["expired"] >= 1
    one = served.call("GET", "/v1/admin/coming", "boss", params={**asked, "limit": 1}).json()
    assert (len(one["report"]["moves"]), len(one["records"])) == (1, 1)
    now = served.call("GET", "/v1/admin/coming", "boss", params={**asked, "seconds": 0}).json()
    assert soon["id"] not in [one["id"] for one in now["report"]["moves"]]
    assert served.call("GET", f"/v1/memories/{soon['id']}/explain", "ida").json()["state"] == "live"
    assert served.call("GET", "/v1/admin/coming", "ida").status_code == 403


def test_looking_is_no_use(served: Served) -> None:
    id = served.add("Liz likes tea", "liz", role="user", run_id="talk")
    look = {"query": "tea", "touch": False}
    for _ in range(3):
        served.call("GET", f"/v1/memories/{id}", "liz", params={"touch": "false"})
        served.call("GET", "/v1/memories", "liz", params={"touch": "false"})
        served.call("POST", "/v1/search", "liz", json={**look, "explain": True})
        made = served.call("POST", "/v1/sessions/other/prompt", "liz", json={**look, "max_tokens": 500}).json()
        assert made["manifest"]["ids"]["recalled"] == [id]
        served.call("GET", f"/v1/memories/{id}/history", "liz")
        served.call("GET", "/v1/memories/stream", "liz", params={"touch": "false"})
        assert served.call("GET", f"/v1/memories/{id}/explain", "liz").json()["accesses"] == 0
    served.call("POST", "/v1/sessions/other/prompt", "liz", json={"query": "tea", "max_tokens": 500})
    assert served.call("GET", f"/v1/memories/{id}/explain", "liz").json()["accesses"] == 1


def test_texts_are_cut_for_those_who_prefer_it(served: Served) -> None:
    much = {f"name {n}": ["word " * 100, {"deep": "x" * 500}] for n in range(50)}
    id = served.add("long " * 1_000, "cut", metadata=much, data=much)
    path, prefers = f"/v1/memories/{id}", {"prefer": "respond-async, clip=400"}
    whole, cut = served.call("GET", path, "cut"), served.call("GET", path, "cut", headers=prefers)
    assert (whole.json()["content"], whole.json()["metadata"]) == ("long " * 1_000, much)
    assert cut.headers["preference-applied"] == "clip=400"
    assert cut.headers["etag"] == whole.headers["etag"]
    assert cut.json()["content"] == "long " * 80 + "…"
    assert len(json.dumps(cut.json()["metadata"], ensure_ascii=False)) < 400 * 9
    assert len(cut.content) < 10_000 < 100_000 < len(whole.content)
    page = served.call("GET", "/v1/memories", "cut", headers=prefers)
    assert page.json()["records"] == [{**cut.json(), "last_accessed": page.json()["records"][0]["last_accessed"]}]
    for prefer in ("clip=x", "eclipse=3", ""):
        assert served.call("GET", path, "cut", headers={"prefer": prefer}).json()["content"] == "long " * 1_000


def test_a_long_history_is_shown_from_its_end(served: Served) -> None:
    id = served.add("version 1", "his")
    for number in range(2, 7):
        served.call("PATCH", f"/v1/memories/{id}", "his", json={"content": f"version {number}"})
    path = f"/v1/memories/{id}/history"
    assert [one["version"] for one in served.call("GET", path, "his", params={"last": 2}).json()] == [5, 6]
    assert len(served.call("GET", path, "his", params={"last": 99}).json()) == 6
    assert served.call("GET", path, "his", params={"last": 0}).status_code == 422


# -- as it happens ---------------------------------------------------------------------------------------------------


def followed(text: str) -> list[tuple[str, Any]]:
    """The names and values of server-sent events."""
    found = re.findall(r"^event: (\w+)\ndata: (.*)$", text, re.MULTILINE)
    return [(name, json.loads(data)) for name, data in found]


def test_a_user_follows_their_own_memories_alone(served: Served) -> None:
    after = served.call("GET", "/v1/events", "boss", params={"order": "newest", "limit": 1}).json()[0]["seq"]
    mine, others = served.add("mine", "fay"), served.add("another's", "gus")
    asked = {"after": after, "seconds": 0.05}
    told = followed(served.call("GET", "/v1/memories/events", "fay", params=asked).text)
    assert [(name, one["id"], one["event"]) for name, one in told] == [("change", mine, "ADD")]
    begun = served.call("GET", "/v1/memories/events", "fay", params={"seconds": 0.05}).text
    [at] = re.findall(r"^id: (\d+)$", begun, re.MULTILINE)  # so that who is cut off before the first event misses none
    missed = served.add("missed", "fay")
    told = followed(served.call("GET", "/v1/memories/events", "fay", params={"seconds": 0.05, "after": at}).text)
    assert [one["id"] for _, one in told] == [missed]
    named = followed(served.call("GET", "/v1/memories/events", "boss", params={**asked, "user_id": "gus"}).text)
    assert [one["id"] for _, one in named] == [others]
    assert served.call("GET", "/v1/memories/events", "fay", params={**asked, "user_id": "gus"}).status_code == 403
    elsewhere = served.key(user_id="fay", namespace=["deep"])
    assert followed(served.call("GET", "/v1/memories/events", elsewhere, params=asked).text) == []
    agents = served.key(user_id="fay", agent_id="helper")
    assert followed(served.call("GET", "/v1/memories/events", agents, params=asked).text) == []


def test_all_that_happens_is_followed_with_figures(served: Served) -> None:
    after = served.call("GET", "/v1/events", "boss", params={"order": "newest", "limit": 1}).json()[0]["seq"]
    ids = [served.add(f"seen {n}", "hal") for n in range(3)]
    asked = {"after": after, "seconds": 0.05, "figures_s": 1}
    answer = served.call("GET", "/v1/events/stream", "boss", params=asked)
    assert answer.headers["content-type"] == "text/event-stream"
    told = followed(answer.text)
    assert [one["id"] for name, one in told if name == "change"] == ids
    [figures] = [one for name, one in told if name == "figures"]
    assert figures["records"] >= 3
    later = served.call(
        "GET", "/v1/events/stream", "boss", params={"seconds": 0.05}, headers={"last-event-id": str(after + 1)}
    )
    assert [one["id"] for _, one in followed(later.text)][:1] == ids[1:2]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server in a process of its own."""
    folder = tmp_path_factory.mktemp("alone")
    with running(folder) as url:
        yield url, folder / "store"


def test_who_follows_hears_of_it_at_once_and_no_more_without_a_key(alone: tuple[str, Path]) -> None:
    url, path = alone
    told, added = list[str](), threading.Event()
    with httpx.Client(base_url=url, timeout=20) as client, client.stream("GET", "/v1/events/stream") as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("retry:")
        client.post("/v1/memories", json={"content": "while somebody follows"})
        for line in lines:
            told.append(line)
            if "ADD" in line and not added.is_set():
                added.set()
                # From now on a key is needed, and this connection has none.
                with closing(KeyStore(path)) as keys:
                    keys.create(any_user=True, scopes=["read"])
    assert added.is_set()
    assert "InvalidKeyError" in told[-2]


# -- the way in ------------------------------------------------------------------------------------------------------


def test_the_first_token_is_good_once_and_for_a_while() -> None:
    now = [0.0]
    visit = Visit("once", clock=lambda: now[0])
    with pytest.raises(InvalidKeyError):
        visit.exchange("twice")
    token = visit.exchange("once")
    assert visit.who(token) is not None
    assert visit.who("once") is None
    with pytest.raises(InvalidKeyError, match="used already"):
        visit.exchange("once")
    late = Visit("once", clock=lambda: now[0])
    now[0] = GOOD_FOR_S + 1
    with pytest.raises(InvalidKeyError):
        late.exchange("once")


def test_a_server_of_keys_has_no_other_way_in(served: Served) -> None:
    assert served.call("POST", "/v1/enter", json={"once": "x"}).status_code == 404
    assert served.call("GET", "/v1/me", headers={"authorization": "Bearer amv_x"}).status_code == 401


def test_the_command_lets_in_whoever_has_its_address_and_nobody_else(tmp_path: Path) -> None:
    with Memory(tmp_path / "store", embedder=HashEmbedder(), clock=FakeClock()) as memory:
        memory.add("Ana likes tea", user_id="ana")
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from dataclasses import replace\n"
        "from conftest import HashEmbedder\n"
        "from agentmem.server import running\n"
        "from agentmem.cli import main\n"
        "made = running.make_app\n"
        "running.make_app = lambda options: made(replace(options, embedder=HashEmbedder()))\n"
        "sys.argv[0] = 'agentmem'\n"
        "main()\n"
    )
    command = [sys.executable, str(program), "dashboard", "--path", str(tmp_path / "store"), "--no-browser"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment()) as server:
        assert server.stderr is not None
        try:
            said = server.stderr.readline()
            found = re.search(r"(http://127\.0\.0\.1:\d+/)#/enter\?once=(\S+)", said)
            assert found, said
            url, once = found.groups()
            with httpx.Client(base_url=url, timeout=20) as client:
                assert client.get("/v1/me").status_code == 401
                assert client.get("/v1/me", headers={"authorization": f"Bearer {once}"}).status_code == 401
                token = client.post("/v1/enter", json={"once": once}).json()["token"]
                assert client.post("/v1/enter", json={"once": once}).status_code == 401
                entered = {"authorization": f"Bearer {token}"}
                assert client.get("/v1/me", headers=entered).json()["id"] == "dashboard"
                assert client.get("/v1/users", headers=entered).json()["users"][0]["name"] == "ana"
                elsewhere = {**entered, "host": "evil.example"}
                assert client.get("/v1/me", headers=elsewhere).status_code == 403
        finally:
            server.terminate()
        assert once not in server.stderr.read()


def test_a_store_that_cannot_be_served_is_said(tmp_path: Path) -> None:
    absent = CliRunner().invoke(cli, ["dashboard", "--no-browser", "--path", str(tmp_path / "no")])
    assert absent.exit_code != 0
    assert "there is no store" in absent.output

    class Another(HashEmbedder):
        name = "another-32"

    with Memory(tmp_path / "store", embedder=HashEmbedder()) as memory:
        memory.add("x")
    app, told = make_app(Options(path=str(tmp_path / "store"), embedder=Another())), list[Any]()

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        told.append(message)

    asyncio.run(app({"type": "lifespan"}, receive, send))
    assert [one["type"] for one in told] == ["lifespan.startup.failed"]
    assert "hashed-words-32" in told[0]["message"]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
