"""The page in a browser: what is clicked and typed does what it says, and nobody's text does anything."""

from __future__ import annotations

import os
import re
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from conftest import HashEmbedder
from served import running

from agentmem import Add, Evidence, Memory, NewMemory
from agentmem.server.keys import KeyStore

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the path")

HOSTILE = (
    "<script>window.pwned=1</script>", "<img src=x onerror=window.pwned=1>", '"><svg onload=window.pwned=1>',
    "javascript:window.pwned=1", "</textarea><iframe srcdoc='<script>parent.pwned=1</script>'>",
    "{{constructor.constructor('window.pwned=1')()}}", "<style>*{display:none}</style>", "ev\u202eil\u2066 left",
    "x" * 2_000, "' onmouseover='window.pwned=1", "<a href=https://evil.example/>",
)  # fmt: skip


def _png(width: int, height: int, body: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


VALUES: dict[str, Any] = {
    "page": b"<!doctype html><script>window.pwned=1</script>", "svg": HOSTILE[2].encode(), "said": HOSTILE[1],
    "picture": _png(2, 2, bytes(14)), "bomb": _png(60_000, 60_000, b""), "broken": _png(2, 2, b"no")[:-30],
    "mixed": _png(2, 2, bytes(14)) + HOSTILE[0].encode(), "nul": b"a\0" + HOSTILE[0].encode(), "bidi": "a\u202e\0b",
    "json": {"n": 12345678901234567890, "é": HOSTILE[:2]}, "long": "é" * 40_000,
    "rows": np.array([HOSTILE[0], HOSTILE[7]]), "wide": np.zeros((3, 5_000)),
}  # fmt: skip


class Site:
    """A server with a store of its own, and the keys to it."""

    def __init__(self, url: str, keys: dict[str, str]) -> None:
        self.url = url
        self.keys = keys

    def call(self, method: str, path: str, **options: Any) -> Any:
        """A request of the administrator's."""
        headers = {"authorization": f"Bearer {self.keys['boss']}"}
        answer = httpx.request(method, f"{self.url}{path}", headers=headers, timeout=30, **options)
        assert answer.status_code < 300, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with Memory(folder / "store", embedder=HashEmbedder()) as memory:
        _fill(memory)
    keys = KeyStore(folder / "store")
    everything = ["read", "write", "erase", "admin"]
    tokens = {
        "boss": keys.create(any_user=True, scopes=everything, name=HOSTILE[0]).token,
        "ana": keys.create(user_id="ana", scopes=["read", "write", "erase"]).token,
        "ben": keys.create(user_id="ben", scopes=["read"], name=HOSTILE[1]).token,
    }
    keys.create(user_id=HOSTILE[0], scopes=["read"])
    keys.close()
    with running(folder) as url:
        yield Site(url, tokens)


def _fill(memory: Memory) -> None:
    said = memory.session("holiday", user_id="ana").append({"role": "user", "content": "I moved to Faro last summer."})
    faro = NewMemory(id="home", content="Ana lives in Faro.", user_id="ana")
    memory.apply([Add(faro, evidence=[Evidence(said[0].id, 0, 15)])])
    memory.add_many([f"Ana noted thing {n}" for n in range(30)], user_id="ana")
    memory.add("Ana has 2 cats at home.", user_id="ana")
    memory.add("Ana has 3 cats at home.", user_id="ana")
    seat = memory.add("Ana likes the window seat", user_id="ana", layer="interact", id="seat").id
    memory.lifecycle.promote(seat)
    memory.add("Ben was here", user_id="ben", id="bens")
    for number, text in enumerate(HOSTILE):
        name = text.replace("\u202e", "").replace("\u2066", "")[:100]
        common = {"user_id": "mallory", "run_id": name, "agent_id": name, "metadata": {name: text}}
        memory.add({"role": name[:50], "content": text, "id": f"{name[:60]}-{number}"}, kind=name[:50], **common)
        memory.add(text, data={text: text}, namespace=[name], **{**common, "user_id": name})
        memory.values.put(name, text, user_id="mallory", metadata={name: text})
        memory.blocks(user_id="mallory").create(name[:60], value=text, description=text[:900])
        memory.session(name, user_id="mallory").append({"role": name[:50], "content": text})
        memory.session(name, user_id="mallory").rename(text[:900])
        memory.session(name, user_id="mallory").working.set({text: text})
    for key, value in VALUES.items():
        memory.values.put(key, value, user_id="mallory", metadata={"type": HOSTILE[0]})
    memory.values.put("deep", "far below", user_id="mallory", namespace=["a", "b"])
    memory.values.put("giant", (bytes(1_048_576) for _ in range(64)), user_id="mallory")
    carrier = memory.add("A picture was drawn", user_id="mallory", id="carrier")
    memory.values.attach(carrier.id, "picture")
    for name in (".", "other"):
        memory.delete(memory.add(f"{name} is gone", id=name, user_id="dot").id)
    memory.add(f"{HOSTILE[0]} has 2 cats", user_id="mallory")
    memory.add(f"{HOSTILE[0]} has 3 cats", user_id="mallory")
    memory.consolidation(user_id="mallory").propose()
    unseen = {"role": "us\u202eer", "content": HOSTILE[7], "id": "unseen"}
    memory.add(unseen, data={HOSTILE[7]: [HOSTILE[7]]}, kind="ki\u202end", user_id="mallory", run_id="u\u202en")
    memory.session("turns", user_id="mallory").append({"role": "user", "content": HOSTILE[7], "name": HOSTILE[7]})
    memory.session("turns", user_id="mallory").working.set({HOSTILE[7]: HOSTILE[7]})
    memory.add("Z" + "\u0335\u0489\u0321" * 300 + " e\u0301", user_id="mallory", id="pile")
    gone = memory.add(HOSTILE[1], user_id="mallory").id
    memory.update(gone, content=HOSTILE[0], metadata={HOSTILE[1]: HOSTILE[2]})
    memory.delete(gone)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        # As root, which tests may be, it runs without its sandbox only.
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def visit(browser: Any, site: Site) -> Iterator[Callable[..., Any]]:
    """Opens the page as somebody who has a key; in the end nothing foreign was asked for, and nothing went wrong."""
    contexts, faults = list[Any](), list[str]()

    def open_(who: str | None = "boss", at: str = "", **options: Any) -> Any:
        context = browser.new_context(viewport={"width": 1024, "height": 768}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)

        def asked(request: Any) -> None:
            if not request.url.startswith((site.url, "blob:")):
                faults.append(f"asked for {request.url}")

        page.on("request", asked)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(f"a dialog: {dialog.message}"))
        page.on("console", lambda told: faults.append(told.text) if "Security Policy" in told.text else None)
        page.goto(f"{site.url}/#/{at}")
        if who is not None:
            page.get_by_label("Key").fill(site.keys[who])
            page.keyboard.press("Enter")
            page.get_by_role("navigation").get_by_role("link").first.wait_for()
        return page

    yield open_
    for context in contexts:
        for page in context.pages:
            assert page.evaluate("window.pwned") is None
        context.close()
    assert faults == []


def go(page: Any, at: str) -> None:
    """Another page of it, once it is there."""
    page.evaluate("at => { location.hash = at }", f"#/{at}")
    until(page, "location.hash === document.getElementById('main').dataset.at")


def until(page: Any, holds: str) -> None:
    """Wait until this holds; what waits inside the page is code made of a text, which the page refuses."""
    end = time.monotonic() + 30
    while not page.evaluate(holds):
        assert time.monotonic() < end, holds
        page.wait_for_timeout(20)


# -- what it is for --------------------------------------------------------------------------------------------------


def test_a_search_shows_the_reasons_of_each_hit(visit: Callable[..., Any], site: Site) -> None:
    page = visit("boss", "search?user=ana")
    page.get_by_label("Question").fill("window seat")
    page.get_by_role("button", name="Search").click()
    first = page.locator(".hits > li").first
    assert "Ana likes the window seat" in first.inner_text()
    assert first.locator(".text mark").all_inner_texts() == ["window", "seat"]
    why = first.get_by_role("group", name="Why it is number 1").inner_text()
    assert all(reason in why for reason in ("Meaning", "Its words", "Recency"))
    assert re.search(r"0\.\d+ above number 2: .*its words \+0\.\d+", why)
    first.get_by_role("link", name="Details").click()
    page.get_by_role("heading", name="Why it is where it is").wait_for()
    shown = page.locator("main").inner_text()
    assert "promoted" in shown.lower()
    assert "By hand: from interact to insights" in re.sub(r"\s+", " ", shown)
    assert site.call("GET", "/v1/memories/seat/explain", params={"user_id": "ana"})["accesses"] == 0


def test_what_a_fact_was_drawn_from_is_quoted(visit: Callable[..., Any]) -> None:
    page = visit("boss", "memory?user=ana&id=home")
    page.get_by_role("heading", name="Who told us").wait_for()
    assert page.locator("blockquote").inner_text() == "I moved to Faro"


def test_what_was_deleted_comes_back(visit: Callable[..., Any], site: Site) -> None:
    page = visit("ana", "memory?id=home")
    page.get_by_role("button", name="Delete").click()
    page.get_by_text("It is deleted, and can be restored.").wait_for()
    go(page, "user?tab=deleted&days=1")
    page.get_by_role("button", name="Restore Ana lives in Faro.").click()
    page.get_by_text("It is back.").wait_for()
    assert site.call("GET", "/v1/memories/home", params={"user_id": "ana"})["content"] == "Ana lives in Faro."
    page.get_by_text("Nothing was deleted.").wait_for()


def test_a_proposal_is_found_and_approved(visit: Callable[..., Any], site: Site) -> None:
    page = visit("ana", "consolidation")
    page.get_by_role("button", name="Look for contradictions").click()
    page.get_by_text("Ana has 2 cats at home.").first.wait_for()
    before = site.call("GET", "/v1/consolidation", params={"user_id": "ana"})["proposals"]
    page.locator("li", has_text="Ana has 2 cats at home.").get_by_role("button", name="Approve").click()
    page.get_by_text("Done: 0 added, 1 superseded").wait_for()
    assert site.call("GET", "/v1/consolidation", params={"user_id": "ana"})["proposals"] == before - 1
    found = site.call("POST", "/v1/search", params={"user_id": "ana"}, json={"query": "cats at home"})
    assert "Ana has 2 cats at home." not in [hit["record"]["content"] for hit in found["hits"]]


def test_a_user_is_erased_once_the_name_is_typed(visit: Callable[..., Any], site: Site) -> None:
    site.call("POST", "/v1/memories", params={"user_id": "zoé/1"}, json={"content": "Zoé was here"})
    page = visit("boss", "users?prefix=zo")
    page.get_by_role("link", name="zoé/1", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    assert "Zoé was here" in Path(download.value.path()).read_text(encoding="utf-8")
    page.get_by_role("button", name="Erase this user").click()
    page.get_by_role("dialog").get_by_text("1 memory is known.").wait_for()
    sure = page.get_by_role("dialog").get_by_role("button", name="Erase for good")
    assert sure.is_disabled()
    page.get_by_label("to confirm").fill("zoé/")
    assert sure.is_disabled()
    page.get_by_label("to confirm").fill("zoé/1")
    sure.click()
    page.get_by_text("1 memory was erased.").wait_for()
    page.get_by_text("That they were is all that is left of them.").wait_for()
    page.get_by_role("navigation").get_by_role("link", name="Users").click()
    page.get_by_role("link", name="Who has the most").click()
    until(page, "location.hash === document.getElementById('main').dataset.at")
    assert page.locator("tbody tr").first.inner_text().startswith("mallory")
    assert site.call("GET", "/v1/users", params={"prefix": "zoé"})["users"] == []


def test_a_key_is_made_shown_once_and_revoked(visit: Callable[..., Any], site: Site) -> None:
    page = visit("boss", "keys")
    page.get_by_label("What it is for").fill("a new app")
    page.get_by_label("User", exact=True).fill("ana")
    page.get_by_role("button", name="Make it").click()
    token = page.get_by_label("The key").input_value()
    headers = {"authorization": f"Bearer {token}"}
    assert httpx.get(f"{site.url}/v1/me", headers=headers).json()["name"] == "a new app"
    page.get_by_role("button", name="Done").click()
    page.get_by_label("That lead to the user").fill("ana")
    page.get_by_role("button", name="Find").click()
    page.get_by_role("link", name="All keys").wait_for()
    assert "any user" not in page.get_by_role("region", name="Keys").inner_text()
    page.locator("tr", has_text="a new app").get_by_role("button", name="Revoke").click()
    page.get_by_role("button", name="Revoke it").click()
    page.get_by_text("It was revoked.").wait_for()
    assert token not in page.content()
    assert httpx.get(f"{site.url}/v1/me", headers=headers).status_code == 401


def test_a_prompt_is_shown_as_it_would_be_built(visit: Callable[..., Any], site: Site) -> None:
    page = visit("ana", "session?run=holiday")
    page.get_by_text("of 4,000 tokens").wait_for()
    page.get_by_label("Price of a million tokens").fill("2")
    page.get_by_text("which cost 0.000").wait_for()
    page.get_by_role("button", name="Build it again").click()
    shown = page.locator("main").inner_text()
    assert shown.count("I moved to Faro last summer.") == 2  # in the prompt, and as it was said
    made = site.call(
        "POST", "/v1/sessions/holiday/prompt", params={"user_id": "ana"}, json={"max_tokens": 4_000, "touch": False}
    )
    assert f"{made['manifest']['tokens']} of 4,000 tokens" in shown


def test_what_will_be_forgotten_is_shown_before_it_is(visit: Callable[..., Any], site: Site) -> None:
    site.call(
        "POST", "/v1/memories", params={"user_id": "eve"}, json={"content": "Eve is here for a day", "ttl": 86_400}
    )
    page = visit("boss", "operations")
    page.get_by_role("button", name="What goes within 7 days?").click()
    line = page.get_by_role("row").filter(has_text="Eve is here for a day")
    assert re.search(r"eve\s.*Expired", line.inner_text())
    line.get_by_role("link").click()
    page.get_by_role("heading", name="One memory of eve").wait_for()
    assert "live" in page.locator("main").inner_text()


def test_what_happens_is_shown_as_it_happens(visit: Callable[..., Any], site: Site) -> None:
    page = visit("boss", "user?user=ana")
    overview = visit("boss")
    overview.get_by_role("heading", name="What happened last").wait_for()
    site.call("POST", "/v1/memories", params={"user_id": "ana"}, json={"content": "Ana is being told now", "id": "now"})
    overview.get_by_role("link", name="Details of now").wait_for()
    page.get_by_role("button", name="1 change since: show it").click()
    page.get_by_text("Ana is being told now").wait_for()


# -- walls, and those who mean no good -------------------------------------------------------------------------------


def test_a_key_for_one_user_shows_that_user(visit: Callable[..., Any]) -> None:
    page = visit("ben")
    links = page.get_by_role("navigation").get_by_role("link").all_inner_texts()
    assert links == ["Search", "Memories", "Sessions", "Consolidation", "Values"]
    for at in ("user?user=ana", "keys", "operations", "", "nowhere", "toString"):
        go(page, at)
        page.get_by_role("heading", name="What is known of ben").wait_for()
        assert "Ben was here" in page.locator("main").inner_text()
    go(page, "memory?user=ana&id=home")
    assert "There is no such memory" in page.locator("main").inner_text()
    go(page, "memory?id=bens")
    assert page.get_by_role("button", name="Delete").count() == 0  # it may only read


def test_nobodys_text_does_anything(visit: Callable[..., Any], site: Site) -> None:
    page = visit("boss")
    mallory = {"user_id": "mallory"}
    ids = [one["id"] for one in site.call("GET", "/v1/memories", params={**mallory, "touch": "false"})["records"]]
    for at in (
        "", "users", "user?user=mallory", "user?user=mallory&tab=deleted", "user?user=mallory&tab=blocks",
        "search?user=mallory&q=window", "sessions?user=mallory", "values?user=mallory", "consolidation?user=mallory",
        "keys", "operations",
    ):  # fmt: skip
        go(page, at)
        _harmless(page)
    for text in HOSTILE[:3]:
        for at in ("user?user=", "sessions?user=", "session?user=mallory&run=", "search?q=", "users?prefix="):
            go(page, at + quote(text[:100], safe=""))
            _harmless(page)
    for id in ids[:6]:
        go(page, f"memory?{httpx.QueryParams({'user': 'mallory', 'id': id})}")
        assert page.get_by_role("heading", name="History").count() == 1, id
        _harmless(page)


def _harmless(page: Any) -> None:
    assert page.locator("body :is(script, iframe, object, embed, style, img, svg[onload], [onerror])").count() == 0
    targets = page.eval_on_selector_all("a", "all => all.map(one => one.getAttribute('href'))")
    assert [one for one in targets if not one.startswith("#") and one != ""] == []
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", page.locator("main").inner_text())


def test_what_nobody_can_see_is_written_out_wherever_it_is(visit: Callable[..., Any], site: Site) -> None:
    page, unseen = visit("boss"), "[\u202a-\u202e\u2066-\u2069]"
    for at, times in (("memory?user=mallory&id=unseen", 6), ("session?user=mallory&run=turns", 3)):
        go(page, at)
        shown = page.locator("main").evaluate("main => main.textContent")
        assert not re.search(unseen, shown), at
        assert shown.count("⟨202E⟩") >= times, at
        named = page.locator("[aria-label], [title]").evaluate_all("all => all.map(one => one.ariaLabel + one.title)")
        assert not re.search(unseen, "".join(named)), at
    go(page, "memory?user=mallory&id=pile")
    _harmless(page)
    assert page.locator("main .text").first.inner_text().endswith("⟨894 more marks⟩ e\u0301")
    flag, drawn = "\U0001f3f4\U000e0067\U000e0062\U000e007f", "\u2764\ufe0f \u845b\U000e0100"
    hidden = {"content": f"Say\U000e0068\U000e0069 it\ufe01\u3164 {drawn} {flag}", "id": "hidden"}
    site.call("POST", "/v1/memories", params={"user_id": "mallory"}, json=hidden)
    go(page, "memory?user=mallory&id=hidden")
    assert page.locator("main .text").first.inner_text() == f"Say⟨E0068⟩⟨E0069⟩ it⟨FE01⟩⟨3164⟩ {drawn} {flag}"
    site.call("POST", "/v1/memories", params={"user_id": "a\u200bb"}, json={"content": "A and B"})
    go(page, "user?user=a%E2%80%8Bb")
    page.get_by_role("button", name="Erase this user").click()
    assert page.get_by_role("dialog").locator("code").inner_text() == "a⟨200B⟩b"
    page.get_by_label("to confirm").fill("a⟨200B⟩b")  # as it is shown
    assert page.get_by_role("button", name="Erase for good").is_enabled()
    page.keyboard.press("Escape")


def test_values_are_shown_and_never_run(visit: Callable[..., Any], site: Site) -> None:
    page, sent = visit("boss"), list[int]()
    page.on("response", lambda one: sent.append(int(one.headers.get("content-length", 0))))
    mallory = {"user_id": "mallory"}
    ids = {one["key"]: one["id"] for one in site.call("GET", "/v1/values", params=mallory)}

    def shown(key: str) -> str:
        sent.clear()
        go(page, f"memory?{httpx.QueryParams({'user': 'mallory', 'id': ids[key]})}")
        _harmless(page)
        assert sum(sent) < 100_000
        return page.locator("main .card").first.inner_text()

    for key in ("page", "svg", "said"):
        assert (VALUES[key] if key == "said" else VALUES[key].decode()) in shown(key)
    for key in ("picture", "mixed"):
        assert "PNG, 2 \u00d7 2" in shown(key)
        assert page.get_by_role("img", name="The picture (PNG, 2 \u00d7 2)").count() == 1
    for key, said in (
        ("bomb", "too large to be shown"), ("broken", "and is none"), ("nul", "61 00 3c 73"),
        ("bidi", "a⟨202E⟩⟨0000⟩b"), ("json", '"n": 12345678901234567890'), ("rows", HOSTILE[0]),
        ("wide", "24 of 5,000 cells"), ("giant", "64.0\u00a0MiB"),
    ):  # fmt: skip
        assert said in shown(key)
    assert shown("long").count("é") == 16_384
    page.get_by_role("link", name="Next part").click()
    page.get_by_text("Bytes 32,768 to 65,536 of 80,000").wait_for()
    page.go_back()
    page.get_by_text("Bytes 0 to 32,768").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert Path(download.value.path()).read_text(encoding="utf-8") == VALUES["long"]
    go(page, "memory?user=mallory&id=carrier")
    page.get_by_role("link", name="picture", exact=True).click()
    page.get_by_role("heading", name="Value picture of mallory").wait_for()
    go(page, "values?user=mallory")
    page.get_by_text("Namespaces").click()
    page.get_by_role("link", name="a / b").click()
    page.get_by_role("link", name="deep").click()
    page.get_by_text("far below").wait_for()
    for id in ids.values():
        assert site.call("GET", f"/v1/memories/{id}/explain", params=mallory)["accesses"] == 0


def test_a_name_that_is_a_step_in_an_address_leads_nowhere_else(visit: Callable[..., Any], site: Site) -> None:
    page = visit("boss", "user?user=dot&tab=deleted")
    page.get_by_role("button", name="Restore . is gone").click()
    page.get_by_text("a browser cannot ask for").wait_for()
    assert site.call("GET", "/v1/memories/count", params={"user_id": "dot"})["count"] == 0
    go(page, "memory?user=dot&id=..")
    page.locator("main").get_by_text("a browser cannot ask for").wait_for()


def test_a_key_is_nowhere_but_in_this_tab(visit: Callable[..., Any], site: Site) -> None:
    page = visit("boss")
    headers = list[dict[str, str]]()
    page.on("request", lambda request: headers.append({**request.all_headers(), "url": request.url}))
    go(page, "users")
    token = site.keys["boss"]
    # Of a request that was given up before it was sent, an empty referer is told.
    assert [each for each in headers if each.get("referer") or each.get("cookie")] == []
    assert token not in page.url
    assert page.evaluate("Object.values(localStorage).join() + document.cookie + name") == ""
    assert token not in page.content()
    other = page.context.new_page()
    other.goto(site.url)
    other.get_by_role("heading", name="Enter with a key").wait_for()
    page.get_by_role("button", name="Leave").click()
    page.get_by_role("heading", name="Enter with a key").wait_for()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_key_that_was_revoked_shows_nothing_more(visit: Callable[..., Any], site: Site) -> None:
    for at in ("", "user?user=ana"):
        made = site.call("POST", "/v1/keys", json={"scopes": ["read", "write", "admin"], "any_user": True})
        site.keys["ending"] = made["token"]
        page = visit("ending", at)
        page.locator("h1").get_by_text(re.compile("Overview|What is known")).wait_for()
        site.call("DELETE", f"/v1/keys/{made['id']}")
        page.get_by_role("heading", name="Enter with a key").wait_for()
        assert "Ana" not in page.locator("body").inner_text()
        assert page.evaluate("sessionStorage.length") == 0


def test_what_is_pressed_twice_is_done_once(visit: Callable[..., Any], site: Site) -> None:
    page = visit("boss", "keys")
    page.get_by_label("What it is for").fill("pressed twice")
    page.get_by_label("User", exact=True).fill("ana")
    page.route("**/v1/keys", lambda route: (page.wait_for_timeout(300), route.continue_()))
    page.get_by_role("button", name="Make it").dblclick()
    page.get_by_label("The key").wait_for()
    page.wait_for_timeout(400)
    assert [one["name"] for one in site.call("GET", "/v1/keys")].count("pressed twice") == 1


def test_a_key_can_be_revoked_whatever_the_clock_here_says(visit: Callable[..., Any], site: Site) -> None:
    made = site.call("POST", "/v1/keys", json={"scopes": ["read"], "user_id": "ana", "expires_in": 86_400})
    page = visit("boss")
    page.evaluate("Date.now = () => new Date().getTime() + 90 * 86_400_000")
    go(page, "keys")
    assert page.get_by_role("button", name=f"Revoke {made['id']}").is_visible()


def test_what_is_still_loading_does_not_pass_for_what_was_there(visit: Callable[..., Any]) -> None:
    page = visit("boss", "keys")
    until(page, "location.hash === document.getElementById('main').dataset.at")
    page.route("**/v1/kpis", lambda route: None)
    page.evaluate("location.hash = '#/'")
    page.get_by_text("Loading …").wait_for()
    assert page.evaluate("document.getElementById('main').dataset.at") is None
    page.evaluate("location.hash = '#/keys'")
    until(page, "location.hash === document.getElementById('main').dataset.at")
    assert page.locator("h1").inner_text() == "Keys"


def test_an_address_that_makes_no_sense_leads_somewhere(visit: Callable[..., Any]) -> None:
    page = visit("boss")
    for at in ("user?user=ana&tab=deleted&days=x", "sessions?user=ana&offset=-4", "memory?user=ana", "search?q=%00"):
        go(page, at)
        assert page.locator("h1").count() == 1, at


def test_it_says_when_what_is_shown_is_live_no_more(visit: Callable[..., Any], site: Site) -> None:
    page = visit("boss", "keys")
    page.route("**/v1/events/stream?*", lambda route: route.abort())
    go(page, "")
    page.get_by_text("The server does not answer: this is not live.").wait_for()
    page.unroute("**/v1/events/stream?*")
    page.get_by_text("The server does not answer: this is not live.").wait_for(state="detached")
    site.call("POST", "/v1/memories", params={"user_id": "ana"}, json={"content": "Ana came back", "id": "back"})
    page.get_by_role("link", name="Details of back").wait_for()


def test_long_texts_are_shortened_and_shown_on_demand(visit: Callable[..., Any], site: Site) -> None:
    family = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
    lines = "\n".join([family, "a\u200db", *(f"line {n}" for n in range(60))])
    site.call("POST", "/v1/memories", params={"user_id": "lin"}, json={"content": lines, "id": "lin"})
    page = visit("boss", "user?user=lin")
    first = page.locator(".record-text").first
    assert len(first.inner_text().splitlines()) < 12
    assert first.inner_text().startswith(f"{family}\na⟨200D⟩b\n")
    more = first.get_by_role("button", name=f"Show all {len(lines) + 3} characters")
    more.press("Enter")
    assert "line 59" in first.inner_text()
    page.keyboard.press("Enter")
    assert "line 59" not in first.inner_text()


def test_memories_of_a_kind_are_shown(visit: Callable[..., Any]) -> None:
    page = visit("ana")
    page.get_by_label("Kind").fill("message")
    page.get_by_role("button", name="Show", exact=True).click()
    page.get_by_text("1 memory", exact=True).wait_for()
    assert "I moved to Faro" in page.locator(".records").inner_text()


def test_tables_fit_and_break_no_word(visit: Callable[..., Any]) -> None:
    page = visit("boss", "keys")
    page.get_by_role("region", name="Audit log").wait_for()
    assert page.get_by_role("region", name="Keys").evaluate("one => one.scrollWidth - one.clientWidth") == 0
    page.set_viewport_size({"width": 512, "height": 384})  # as 1,024 pixels enlarged to twice the size
    for at, name in (("keys", "Audit log"), ("users", "Users")):
        go(page, at)
        lines = "all => all.map(one => one.getClientRects().length)"
        assert max(page.get_by_role("region", name=name).locator("td > time").evaluate_all(lines)) <= 4
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0


def test_a_page_is_printed_dark_on_light_without_what_is_pressed(visit: Callable[..., Any]) -> None:
    page = visit("boss", "user?user=ben", color_scheme="dark")
    page.get_by_text("Ben was here").wait_for()
    page.emulate_media(media="print")
    assert page.locator("body").evaluate("one => getComputedStyle(one).color") == "rgb(0, 0, 0)"
    assert page.locator("nav, header, form, button").evaluate_all("all => all.every(one => !one.checkVisibility())")
    assert page.get_by_text("Ben was here").is_visible()


def test_what_one_agent_wrote_is_shown(visit: Callable[..., Any], site: Site) -> None:
    for agent in ("cook", "guide"):
        said = {"content": f"The {agent} wrote this", "agent_id": agent}
        site.call("POST", "/v1/memories", params={"user_id": "abe"}, json=said)
    page = visit("boss", "user?user=abe")
    page.get_by_role("link", name="cook", exact=True).click()
    page.get_by_text("1 memory", exact=True).wait_for()
    assert page.get_by_label("Agent").input_value() == "cook"
    assert "The cook wrote this" in page.locator(".records").inner_text()


def test_a_token_for_once_leaves_the_address_at_once(visit: Callable[..., Any]) -> None:
    page = visit(None, "enter?once=secret-of-the-address")
    page.get_by_role("heading", name="Enter with a key").wait_for()
    assert "secret" not in page.url
    assert page.evaluate("history.length") <= 2
    assert "secret" not in page.evaluate("JSON.stringify(history.state) + JSON.stringify({...sessionStorage})")


def test_no_other_page_shows_it_in_a_frame(browser: Any, site: Site) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.set_content(f"<iframe src='{site.url}/'></iframe>")
    until(page, "frames.length === 1")
    page.wait_for_timeout(300)
    assert all("agentmem" not in frame.content() for frame in page.frames[1:] if "error" not in frame.url)
    assert [frame.url for frame in page.frames[1:]] == ["chrome-error://chromewebdata/"]
    context.close()


# -- for everybody ---------------------------------------------------------------------------------------------------


def test_it_works_by_the_keyboard_alone(visit: Callable[..., Any]) -> None:
    page = visit("ana")

    def press(name: str, key: str = "Tab") -> None:
        """Tab to what has this name, and press it."""
        for _ in range(40):
            page.keyboard.press(key)
            at = page.evaluate("(at => [at.textContent, at.getAttribute('aria-label')])(document.activeElement)")
            if name in at:
                return page.keyboard.press("Enter")
        raise AssertionError(f"no Tab leads to {name}")

    press("Values", "Shift+Tab")
    page.get_by_role("heading", name="Values of ana").wait_for()
    press("Memories", "Shift+Tab")
    page.get_by_role("heading", name="What is known of ana").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.type("window seat")
    page.keyboard.press("Enter")
    page.locator(".hits").wait_for()
    press("Details of seat")
    page.get_by_role("heading", name="One memory of ana").wait_for()
    press("Pin")
    page.get_by_text("It stays where it is.").wait_for()
    press("Erase …")
    page.get_by_role("dialog").wait_for()
    assert page.evaluate("document.activeElement.tagName") == "INPUT"
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    press("Unpin")
    page.get_by_text("The rules have it again.").wait_for()
    press("Delete")
    page.get_by_text("It is deleted, and can be restored.").wait_for()
    press("Memories", "Shift+Tab")
    page.get_by_role("heading", name="What is known of ana").wait_for()
    press("Deleted")
    page.get_by_label("Went").wait_for()
    press("Restore Ana likes the window seat")
    page.get_by_text("It is back.").wait_for()
    page = visit("boss")
    page.get_by_role("heading", name="What happened last").wait_for()
    press("Operations", "Shift+Tab")
    page.get_by_role("heading", name="Sweeps").wait_for()
    press("What goes within 7 days?")
    page.get_by_text("Unless they are used until then").wait_for()


@pytest.mark.skipif("AXE_CORE" not in os.environ, reason="AXE_CORE names no file of axe-core")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_fault(visit: Callable[..., Any], site: Site, theme: str) -> None:
    page, found = visit("boss", color_scheme=theme, bypass_csp=True), list[Any]()
    values = site.call("GET", "/v1/values", params={"user_id": "mallory"})
    shown = [f"memory?user=mallory&id={one['id']}" for one in values if one["key"] in VALUES]
    for at in (
        "", "users", "user?user=ana", "user?user=mallory&tab=blocks", "user?user=ana&tab=deleted",
        "search?user=ana&q=seat",
        "memory?user=ana&id=seat", "sessions?user=ana", "session?user=ana&run=holiday", "values?user=mallory",
        "consolidation?user=mallory", "keys", "operations", "users?most=1", "memory?user=mallory&id=carrier", *shown,
    ):  # fmt: skip
        go(page, at)
        page.evaluate(Path(os.environ["AXE_CORE"]).read_text(encoding="utf-8"))
        for fault in page.evaluate("axe.run()")["violations"]:
            found.append((at, fault["id"], fault["impact"], [node["html"][:120] for node in fault["nodes"][:3]]))
    assert not found, "\n".join(map(str, found))
