"""Values over HTTP: what they are, their bytes and parts of them, their first rows; never as a page, never as a use."""

from __future__ import annotations

import io
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from served import Served

PAGE = b"<!doctype html><script>alert(1)</script>"


@pytest.fixture(scope="module")
def values(served: Served) -> Any:
    return served.memory.blocking.values


def content(served: Served, key: str, said: str | None = None, **params: Any) -> Any:
    headers = {} if said is None else {"range": said}
    return served.call("GET", f"/v1/values/{quote(key, safe='')}/content", "ada", params=params, headers=headers)


def test_a_value_is_told_of_and_sent_as_a_file_that_is_no_page(served: Served, values: Any) -> None:
    for key in ("notes/a page\u202e.html", "../../etc/passwd", "%63ontent", "...", 'q"\r\nset-cookie: x'):
        values.put(key, PAGE, user_id="ada", metadata={"type": "text/html"})
        info = served.call("GET", f"/v1/values/{quote(key, safe='')}", "ada")
        assert (info.json()["key"], info.json()["size"], info.headers["etag"]) == (key, len(PAGE), '"1"')
        sent = content(served, key)
        assert (sent.status_code, sent.content) == (200, PAGE), key
        assert sent.headers["content-type"] == "application/octet-stream"
        assert sent.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in sent.headers["content-security-policy"]
        assert sent.headers["cross-origin-resource-policy"] == "same-origin"
        named = sent.headers["content-disposition"]
        assert named.startswith("attachment; filename*=UTF-8''")
        assert not set('/\\"\u202e ') & set(named.removeprefix("attachment; "))
        assert not named.endswith("''")
    assert "set-cookie" not in sent.headers
    assert served.call("GET", "/v1/values/none/content", "ada").status_code == 404
    assert served.call("GET", "/v1/values/none", "ada").status_code == 404
    assert served.call("GET", "/v1/values/..%2F..%2Fetc%2Fpasswd/content", "eve").status_code == 404
    etag = served.call("GET", "/v1/values/..%2F..%2Fetc%2Fpasswd", "ada", headers={"if-none-match": '"1"'})
    assert (etag.status_code, etag.content) == (304, b"")


@pytest.mark.parametrize(
    ("said", "status", "begin", "end"),
    [
        ("bytes=0-9", 206, 0, 10), ("bytes=999990-", 206, 999_990, 1_000_000), ("bytes=-5", 206, 999_995, 1_000_000),
        ("bytes=524280-524299", 206, 524_280, 524_300), ("bytes=5-99999999", 206, 5, 1_000_000),
        ("bytes=1000000-", 416, 0, 0), ("bytes=9-3", 416, 0, 0), ("bytes=-0", 416, 0, 0), ("bytes=-", 416, 0, 0),
        ("bytes=0-1,5-6", 416, 0, 0), ("lines=0-1", 416, 0, 0), ("bytes=" + "9" * 30 + "-", 416, 0, 0),
    ],
)  # fmt: skip
def test_a_range_is_read_and_no_more(served: Served, values: Any, said: str, status: int, begin: int, end: int) -> None:
    body = np.arange(250_000, dtype="<u4").tobytes()
    if not values.exists("long", user_id="ada"):
        values.put("long", io.BytesIO(body), user_id="ada")
    sent = content(served, "long", said)
    assert sent.status_code == status
    if status == 206:
        assert sent.content == body[begin:end]
        assert sent.headers["content-range"] == f"bytes {begin}-{end - 1}/1000000"
    else:
        assert sent.headers["content-range"] == "bytes */1000000"
    assert content(served, "long").content == body


def test_the_first_rows_of_arrays_and_tables_are_texts(served: Served, values: Any) -> None:
    arrow: Any = pytest.importorskip("pyarrow")
    values.put("grid", np.arange(60.0).reshape(30, 2), user_id="ada")
    values.put("people", arrow.table({"name": ["<b>", "rui\u202e"], "age": [3, None]}), user_id="ada")
    values.put("words", "no rows", user_id="ada")
    head = served.call("GET", "/v1/values/grid/head", "ada", params={"limit": 2}).json()
    assert head == {"columns": None, "rows": [["0.0", "1.0"], ["2.0", "3.0"]], "total": 30, "width": 2}
    told = served.call("GET", "/v1/values/people/head", "ada").json()
    assert (told["columns"], told["rows"]) == (["name", "age"], [["<b>", "3"], ["rui\u202e", "None"]])
    assert served.call("GET", "/v1/values/words/head", "ada").status_code == 422
    assert served.call("GET", "/v1/values/grid/head", "ada", params={"limit": 101}).status_code == 422


def test_what_a_memory_carries_is_listed(served: Served, values: Any) -> None:
    id = served.add("a picture of the beach", "ada")
    values.put("beach", b"GIF89a", user_id="ada")
    values.attach(id, "beach")
    assert [one["key"] for one in served.call("GET", f"/v1/memories/{id}/attachments", "ada").json()] == ["beach"]
    assert served.call("GET", f"/v1/memories/{id}/attachments", "eve").status_code == 404


def test_looking_at_a_value_is_no_use_of_it(served: Served, values: Any) -> None:
    id = values.put("seen", np.arange(4), user_id="ada").id

    def used() -> int:
        return served.call("GET", f"/v1/memories/{id}/explain", "ada").json()["accesses"]

    for part in ("", "/content", "/head"):
        look = {"touch": "false"} if part else {}
        assert served.call("GET", f"/v1/values/seen{part}", "ada", params=look).status_code == 200
    assert used() == 0
    for part in ("/content", "/head"):
        served.call("GET", f"/v1/values/seen{part}", "ada")
    assert used() == 2


def test_a_download_goes_on_only_with_the_same_value(served: Served, values: Any) -> None:
    values.put("film", b"0" * 2_000, user_id="ada")
    tag = content(served, "film").headers["etag"]

    def rest(said: str) -> Any:
        return served.call("GET", "/v1/values/film/content", "ada", headers={"range": "bytes=1000-", "if-range": said})

    assert (rest(tag).status_code, len(rest(tag).content)) == (206, 1_000)
    values.put("film", b"1" * 2_000, user_id="ada")
    for said in (tag, f"W/{tag}", "Wed, 21 Oct 2015 07:28:00 GMT", "*"):
        assert (rest(said).status_code, rest(said).content) == (200, b"1" * 2_000)
        assert "content-range" not in rest(said).headers
    now = content(served, "film").headers["etag"]
    same = served.call("GET", "/v1/values/film/content", "ada", headers={"if-none-match": now})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", now)


def test_what_is_replaced_just_before_it_is_sent_is_sent_as_what_it_is(
    served: Served, values: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    values.put("turn", b"old", user_id="ada")
    real, lengths = type(served.memory.values).open, [7]

    async def opened(self: Any, *args: Any, **options: Any) -> Any:
        if lengths:
            values.put("turn", b"n" * lengths.pop(), user_id="ada")
        return await real(self, *args, **options)

    monkeypatch.setattr(type(served.memory.values), "open", opened)
    sent = content(served, "turn")
    assert (sent.content, sent.headers["content-length"], sent.headers["etag"]) == (b"n" * 7, "7", '"2"')
