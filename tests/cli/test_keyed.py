"""What has a key or lies in a namespace, and the store's feed, from a shell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shell import Shell

from agentmem import Memory


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path / "store")
    made.json("put", "tone", "Ida likes short answers.", "--user", "ida", "--namespace", "letters/2026")
    made.json("add", "In a place with a slash.", "--user", "ida", "--namespace", '["a/b"]', "--run", "r")
    made.json("add", "In the root.", "--user", "ida")
    return made


def test_put_get_and_delete_by_key(shell: Shell) -> None:
    where = ("--user", "ida", "--namespace", "/letters/2026/")
    record = shell.json("get", "--key", "tone", *where)
    assert (record["namespace"], record["key"], record["version"]) == (["letters", "2026"], "tone", 1)
    assert shell.json("put", "tone", "Long ones.", *where, "--if-version", "1")["status"] == "replaced"
    assert "already, at version 2" in shell.error("put", "tone", "x", *where, "--if-version", "0")
    assert "no record with the key 'tone'" in shell.error("get", "--key", "tone", "--user", "ida")
    assert shell.json("delete", "--key", "tone", *where) == {"deleted": 1}
    assert "no record with the key 'tone'" in shell.error("delete", "--key", "tone", *where)


def test_put_takes_data_and_an_id(shell: Shell) -> None:
    made = shell.json("put", "cart", "--data", '{"items": ["tea"]}', "--id", "cart-1", "--occurred-at", "2020-05-06")
    assert (made["id"], made["status"]) == ("cart-1", "added")
    record = shell.json("get", "--key", "cart")
    assert (record["content"], record["data"], record["occurred_at"][:4]) == ("", {"items": ["tea"]}, "2020")
    assert "has the id 'cart-1', not 'cart-2'" in shell.error("put", "cart", "x", "--id", "cart-2")
    assert "give TEXT, or --data" in shell("put", "cart").output
    line = json.dumps({"content": "x", "key": "k"})
    assert "`agentmem put` and put_many() store by a key" in shell.error("add", "--file", "-", stdin=line)


def test_lists_of_a_namespace(shell: Shell) -> None:
    assert shell.texts("--user", "ida") == ["In the root."]
    assert shell.texts("--user", "ida", "--namespace", '["a/b"]') == ["In a place with a slash."]
    assert shell.texts("--user", "ida", "--under", "letters") == ["Ida likes short answers."]
    assert len(shell.texts("--user", "ida", "--under", "/")) == 3
    assert shell.json("count", "--user", "ida", "--under", "") == {"records": 3}
    assert [one["name"] for one in shell.json("count", "--by", "runs", "--user", "ida", "--under", "/")] == ["r"]
    found = shell.json("search", "short answers", "--user", "ida", "--under", "letters", "--mode", "keyword")
    assert [hit["record"]["content"] for hit in found] == ["Ida likes short answers."]
    assert shell.json("namespaces", "--user", "ida") == [
        {"namespace": ["a/b"], "records": 1},
        {"namespace": ["letters", "2026"], "records": 1},
    ]
    assert shell.json("namespaces", "--user", "ida", "--depth", "1", "--under", "letters")[0]["namespace"] == [
        "letters"
    ]
    assert '["a/b"]' in shell("namespaces", "--user", "ida", "--table").stdout
    exported = shell("export", "--user", "ida", "--namespace", '["a/b"]').stdout.splitlines()
    assert [json.loads(line)["content"] for line in exported] == ["In a place with a slash."]
    assert shell.json("delete", "--all", "--user", "ida", "--under", "letters") == {"deleted": 1}
    assert "own" in shell.error("put", "k", "x", "--namespace", "$blocks")


def test_touch_and_what_leaves_no_trace(shell: Shell) -> None:
    made = shell.json("put", "seat", "By the window.", "--ttl", "1h", "--sliding")["id"]
    assert shell.json("get", made, "--no-touch")["sliding"] == 3600.0
    assert shell.json("search", "window", "--no-touch", "--mode", "keyword")[0]["record"]["id"] == made
    assert shell.json("list")[0]["last_accessed"] is None
    shell("export")
    assert shell.json("get", "--key", "seat", "--no-touch")["last_accessed"] is None
    assert shell.json("touch", made, "--ttl", "2h") == {"touched": 1}
    record = shell.json("get", made, "--no-touch")
    assert (record["sliding"], record["last_accessed"] is None) == (7200.0, False)
    assert shell.json("touch", made, "--ttl", "none") == {"touched": 1}
    assert shell.json("get", made, "--no-touch")["expires_at"] is None
    assert 'no record with the id "nobody"' in shell.error("touch", "nobody")
    events = shell.json("events", "--after", "3")
    assert [(event["event"], event["id"]) for event in events] == [("ADD", made), ("TOUCH", made)]
    assert "TOUCH" in shell("events", "--table").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("get",),
        ("get", "x", "--key", "k"),
        ("get", "x", "--namespace", "a"),
        ("delete", "x", "--key", "k"),
        ("delete", "x", "--under", "a"),
        ("delete", "--key", "k", "--all"),
        ("list", "--namespace", "[1]"),
        ("list", "--namespace", "[a"),
        ("count", "--by", "users", "--under", "/"),
        ("touch", "x", "--ttl", "soon"),
    ],
)
def test_wrong_usage(shell: Shell, arguments: tuple[str, ...]) -> None:
    shell.error(*arguments, code=2)


def test_an_export_brings_namespaces_and_spans_along(shell: Shell, tmp_path: Path) -> None:
    shell.json("put", "seat", "By the window.", "--user", "ida", "--ttl", "1h", "--sliding")
    file = tmp_path / "ida.jsonl"
    shell.json("export", str(file), "--user", "ida")
    other = Shell(tmp_path / "other")
    other.json("add", "--file", str(file))
    with Memory(other.folder) as memory:
        [seat] = [one for one in memory.iterate(user_id="ida") if one.sliding]
        assert seat.sliding == 3600.0
        assert len(memory.namespaces(user_id="ida")) == 2
