"""Listing, counting, changing, deleting, bringing back, erasing, exporting."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from shell import Shell

from agentmem import Memory


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path / "store")
    with Memory(made.folder) as memory:
        memory.add("plays the oboe", id="oboe", user_id="ida", metadata={"room": 3}, occurred_at="2020-01-02T10:00Z")
        memory.add("rehearses on Mondays", id="monday", user_id="ida", agent_id="diary", kind="habit", layer="insights")
        memory.add("hello there", id="hello", user_id="ida", run_id="chat", role="user")
        memory.add("grows tomatoes", id="tomato", user_id="pau", metadata={"room": 4})
        memory.add("the hall is closed", id="hall")
    return made


def ids(shell: Shell, *arguments: str) -> list[str]:
    return [record["id"] for record in shell.json("list", *arguments)]


# -- list, count -------------------------------------------------------------------------------------------------------


def test_list(shell: Shell) -> None:
    assert ids(shell, "--user", "ida") == ["hello", "monday", "oboe"]
    assert ids(shell, "--user", "ida", "--order", "oldest") == ["oboe", "monday", "hello"]
    assert ids(shell, "--user", "ida", "--by", "event")[-1] == "oboe"
    assert ids(shell) == ["hall"]
    assert ids(shell, "--all-users", "--order", "oldest") == ["oboe", "monday", "hello", "tomato", "hall"]
    assert ids(shell, "--user", "ida", "--run", "chat") == ["hello"]
    assert ids(shell, "--user", "ida", "--agent", "diary") == ["monday"]
    assert ids(shell, "--user", "ida", "--kind", "habit", "--kind", "message") == ["hello", "monday"]
    assert ids(shell, "--user", "ida", "--layer", "insights") == ["monday"]
    assert ids(shell, "--all-users", "--filter", '{"room": {"$gt": 3}}') == ["tomato"]
    assert ids(shell, "--all-users", "--until", "2020-01-03") == ["oboe"]
    assert ids(shell, "--user", "ida", "--since", "2020-01-03") == ["hello", "monday"]


def test_list_goes_on_where_it_ended(shell: Shell) -> None:
    found, cursor = list[str](), list[str]()
    while True:
        result = shell("list", "--all-users", "--limit", "2", *cursor)
        found += [record["id"] for record in json.loads(result.stdout)]
        if not result.stderr:
            break
        cursor = ["--cursor", result.stderr.split()[-1]]
    assert found == ["hall", "tomato", "hello", "monday", "oboe"]
    assert "is not one that `agentmem list` returned" in shell.error("list", "--cursor", "x")


def test_times_of_lists_are_in_the_zone_of_the_settings(shell: Shell) -> None:
    options = ("list", "--user", "ida", "--by", "event", "--until")
    for zone, before, after in [("Asia/Tokyo", "18:59", "19:01"), ("America/Lima", "04:59", "05:01")]:
        for moment, found in [(before, 0), (after, 1)]:
            result = shell(*options, f"2020-01-02T{moment}", AGENTMEM_MEMORY__RETRIEVAL__TIME_ZONE=zone)
            assert len(json.loads(result.stdout)) == found, (zone, moment)


def test_a_table_of_a_list(shell: Shell) -> None:
    told = shell("list", "--all-users", "--table", COLUMNS="120").stdout
    assert "2020-01-02" in told
    assert "user: hello there" in told
    assert "oboe  user=ida  fact, assets" in told
    with Memory(shell.folder) as memory:
        memory.add("word " * 3_000, user_id="long")
    told = shell("list", "--user", "long", "--table").stdout
    assert "(15,000 characters)" in " ".join(told.split())
    assert len(told) < 3_000


@pytest.mark.parametrize("command", [["list"], ["search", "oboe"]])
def test_who_forgets_the_user_is_told(shell: Shell, command: list[str]) -> None:
    shell.json("delete", "hall")
    assert "--user names one" in shell(*command, "--table").stderr
    assert shell(*command, "--user", "eve", "--table").stderr == ""
    assert shell(*command, "--json").stderr == ""


def test_count(shell: Shell) -> None:
    assert shell.json("count", "--user", "ida") == {"records": 3}
    assert shell.json("count", "--all-users", "--kind", "fact") == {"records": 3}
    assert shell.json("count", "--user", "ida", "--until", "2020-01-03", "--filter", '{"room": 3}') == {"records": 1}
    by_user = {group["name"]: group["records"] for group in shell.json("count", "--by", "users")}
    assert by_user == {None: 1, "ida": 3, "pau": 1}
    assert [group["name"] for group in shell.json("count", "--by", "runs", "--user", "ida")] == ["chat"]
    assert [group["name"] for group in shell.json("count", "--by", "agents", "--user", "ida")] == ["diary"]
    kinds = {group["name"]: group["records"] for group in shell.json("count", "--by", "kinds", "--all-users")}
    assert kinds == {"fact": 3, "habit": 1, "message": 1}
    assert "ida" in shell("count", "--by", "users", "--table").stdout
    assert "--by takes" in shell.error("count", "--by", "kinds", "--kind", "fact", code=2)
    assert "leave out --user" in shell.error("count", "--by", "users", "--user", "ida", code=2)


def test_distinct(shell: Shell) -> None:
    assert shell.json("distinct", "room", "--all-users") == [3, 4]
    assert shell.json("distinct", "room", "--user", "pau") == [4]
    assert shell.json("distinct", "$kind", "--user", "ida", "--until", "2020-01-03") == ["fact"]
    assert shell.json("distinct", "$user_id", "--all-users", "--filter", '{"room": {"$gt": 3}}') == ["pau"]
    assert shell.json("distinct", "$occurred_at", "--user", "ida") == ["2020-01-02T10:00:00+00:00"]
    assert shell("distinct", "$kind", "--user", "ida", "--table").stdout.split() == ["fact", "habit", "message"]
    assert shell("distinct", "tag", "--table").stdout == "Nothing here.\n"
    assert "did you mean $kind?" in shell.error("distinct", "$knd")


def test_further_down(shell: Shell) -> None:
    assert ids(shell, "--all-users", "--offset", "1", "--limit", "2") == ["tomato", "hello"]
    assert shell.json("update", "monday", "--importance", "1")["version"] == 2
    assert ids(shell, "--all-users", "--by", "updated", "--limit", "2") == ["monday", "hall"]
    assert "exclude each other" in shell.error("list", "--cursor", "newest:1", "--offset", "1")
    found = shell.json("search", "oboe", "--all-users", "--rank", "similarity")
    similarities = [hit["similarity"] for hit in found]
    assert similarities == [hit["score"] for hit in found] == sorted(similarities, reverse=True)
    rest = shell.json("search", "oboe", "--all-users", "--rank", "similarity", "--offset", "2")
    assert [hit["record"]["id"] for hit in rest] == [hit["record"]["id"] for hit in found[2:]]


# -- update, delete, restore, erase ------------------------------------------------------------------------------------


def test_update(shell: Shell) -> None:
    record = shell.json("update", "oboe", "--content", "plays the bassoon", "--metadata", '{"floor": 1, "room": null}')
    assert (record["content"], record["metadata"], record["version"]) == ("plays the bassoon", {"floor": 1}, 2)
    record = shell.json("update", "oboe", "--importance", "0.75", "--ttl", "2d", "--metadata", "null")
    assert (record["importance"], record["metadata"]) == (0.75, {})
    assert record["expires_at"] is not None
    record = shell.json("update", "oboe", "--importance", "none", "--ttl", "none", "--if-version", "3", "--user", "ida")
    assert (record["importance"], record["expires_at"], record["version"]) == (None, None, 4)
    assert "version 4" in shell.error("update", "oboe", "--content", "x", "--if-version", "1")
    assert "'oboe'" in shell.error("update", "oboe", "--content", "x", "--user", "pau")
    assert "nothing to change" in shell.error("update", "oboe")
    assert "neither a number nor none" in shell.error("update", "oboe", "--importance", "much", code=2)
    assert "is not a duration" in shell.error("update", "oboe", "--ttl", "never", code=2)


def test_delete_and_restore(shell: Shell) -> None:
    assert shell.json("delete", "oboe", "hello") == {"deleted": 2}
    assert ids(shell, "--user", "ida") == ["monday"]
    assert set(ids(shell, "--user", "ida", "--deleted")) == {"oboe", "hello"}
    assert shell.json("restore", "oboe")["content"] == "plays the oboe"
    result = shell("delete", "monday", "nobody")
    assert json.loads(result.stdout) == {"deleted": 1}
    assert (result.exit_code, '"nobody"' in result.stderr) == (1, True)
    assert shell.json("restore", "monday", "hello") == {"restored": 2}
    assert "'nobody'" in shell.error("restore", "nobody")
    assert "no record" in shell.error("delete", "oboe", "--user", "pau")
    shell.json("update", "oboe", "--content", "plays the flute")
    assert shell.json("restore", "oboe", "--version", "1")["content"] == "plays the oboe"


def test_all_of_a_scope(shell: Shell) -> None:
    assert shell.json("delete", "--all", "--user", "ida", "--filter", '{"room": 3}', "--dry-run") == {"would_delete": 1}
    assert shell.json("delete", "--all", "--user", "ida") == {"deleted": 3}
    assert ids(shell, "--all-users") == ["hall", "tomato"]
    assert shell.json("restore", "--all", "--user", "ida", "--until", "2020-01-01") == {"restored": 0}
    assert shell.json("restore", "--all", "--user", "ida", "--expired") == {"restored": 0}
    assert shell.json("restore", "--all", "--user", "ida", "--dry-run") == {"would_restore": 3}
    assert shell.json("restore", "--all", "--user", "ida", "--since", "2020-01-01") == {"restored": 3}


def test_all_of_everybody(shell: Shell) -> None:
    assert "every record of every user" in shell.error("delete", "--all", "--all-users")
    assert shell.json("delete", "--all", "--all-users", "--before", "2020-01-01") == {"deleted": 0}
    assert shell.json("delete", "--all", "--user", "pau", "--before", "2999-01-01", "--dry-run") == {"would_delete": 1}
    assert shell.json("delete", "--all", "--all-users", "--filter", '{"room": {"$exists": true}}') == {"deleted": 2}
    assert shell.json("delete", "--all", "--all-users", "--before", "2999-01-01T00:00Z") == {"deleted": 3}
    assert ids(shell, "--all-users") == []


def test_erase(shell: Shell) -> None:
    assert shell.json("erase", "oboe", "hello", "--user", "ida") == {"erased": 2}
    assert "no record" in shell.error("restore", "oboe")
    assert "no record" in shell.error("erase", "tomato", "--user", "ida")
    shell.json("add", "what was said", "--user", "ida", "--run", "talk")
    shell.json("add", "of a tenant", "--user", "ida", "--namespace", "tenant/acme")
    assert shell.json("erase", "--all", "--user", "ida", "--run", "talk")["erased"] == 1
    assert shell.json("erase", "--all", "--all-users", "--under", "tenant")["erased"] == 1
    report = shell.json("erase", "--all", "--user", "ida")
    assert report["erased"] >= 1
    assert ids(shell, "--all-users") == ["hall", "tomato"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["delete"], "give either IDs, or --all"),
        (["delete", "oboe", "--all", "--user", "ida"], "give either IDs, or --all"),
        (["delete", "--all"], "--all needs --user"),
        (["delete", "oboe", "--dry-run"], "go with --all"),
        (["delete", "oboe", "--all-users"], "go with --all"),
        (["delete", "oboe", "--before", "2020-01-01"], "go with --all"),
        (["delete", "--all", "--all-users", "--user", "ida"], "exclude each other"),
        (["delete", "--all", "--user", "ida", "--before", "soon"], "--before='soon' is not a time"),
        (["list", "--deleted", "--offset", "1"], "--by, --offset"),
        (["restore", "oboe", "--since", "2020-01-01"], "go with --all"),
        (["restore", "oboe", "hello", "--version", "1"], "--version belongs to a single ID"),
        (["erase", "--all"], "--all needs --user"),
        (["erase", "--all", "--all-users"], "erases a person"),
        (["erase", "oboe", "--under", "tenant"], "go with --all"),
        (["list", "--deleted", "--expired"], "exclude each other"),
        (["list", "--deleted", "--kind", "fact"], "take no --kind"),
        (["list", "--all-users", "--user", "ida"], "exclude each other"),
        (["list", "--since", "yesterday"], "--since='yesterday' is not a time"),
        (["add", "oboe", "--source", "x"], "belong to many"),
        (["add", "oboe", "--on-conflict", "skip"], "belong to many"),
        (["update", "oboe", "--replace", "--content", "x"], "--replace goes with --metadata"),
    ],
)
def test_wrong_usage_changes_nothing(shell: Shell, arguments: list[str], part: str) -> None:
    assert part in shell.error(*arguments, code=2)
    assert shell.json("count", "--all-users") == {"records": 5}


def test_metadata_are_merged_or_replaced(shell: Shell) -> None:
    assert shell.json("update", "oboe", "--metadata", '{"floor": 1}')["metadata"] == {"room": 3, "floor": 1}
    assert shell.json("update", "oboe", "--replace", "--metadata", '{"floor": 2}')["metadata"] == {"floor": 2}


def test_a_deleted_memory_is_shown_on_request(shell: Shell) -> None:
    shell("delete", "oboe")
    assert "--deleted shows one that can be restored" in shell.error("get", "oboe")
    assert shell.json("get", "oboe", "--deleted")["content"] == "plays the oboe"
    assert "there is no record with the id 'horn' here" in shell.error("get", "horn", "--deleted")


def test_lines_whose_id_is_taken_are_left_out_on_request(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "more.jsonl"
    file.write_text('{"id": "hall", "content": "something else"}\n{"id": "attic", "content": "dusty"}\n')
    assert "is already in use" in shell.error("add", "--file", file)
    shell("add", "--file", file, "--on-conflict", "skip")
    assert shell.json("get", "attic")["content"] == "dusty"
    assert shell.json("get", "hall")["content"] == "the hall is closed"


# -- export ------------------------------------------------------------------------------------------------------------


def test_export(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "ida.jsonl"
    assert shell.json("export", str(file), "--user", "ida") == {"written": 3, "file": str(file)}
    lines = file.read_bytes().decode().split("\n")
    assert [json.loads(line)["id"] for line in lines[:-1]] == ["oboe", "monday", "hello"]
    for also in ([], ["-"]):
        assert shell("export", *also, "--user", "ida").stdout == file.read_text()
    assert shell("export", "--all-users", "--kind", "habit").stdout.count("\n") == 1
    assert shell("export", "--user", "eve").stdout == ""


def test_export_replaces_a_file_and_nothing_else(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "dump.jsonl"
    file.write_text("the dump of yesterday")
    assert f"{tmp_path}: Is a directory" in shell.error("export", str(tmp_path))
    assert f"{tmp_path}/no/x: No such file" in shell.error("export", f"{tmp_path}/no/x")
    assert "$near" in shell.error("export", str(file), "--filter", '{"a": {"$near": 1}}')
    assert file.read_text() == "the dump of yesterday"
    link = tmp_path / "link"
    link.symlink_to(file)
    shell.json("export", str(link), "--user", "pau")
    assert link.is_symlink()
    assert json.loads(file.read_text())["id"] == "tomato"
    device = os.stat(os.devnull)
    shell.json("export", os.devnull, "--user", "pau")
    assert os.stat(os.devnull).st_rdev == device.st_rdev
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dump.jsonl", "link", "store"]
    reading, writing = os.pipe()
    shell.json("export", f"/dev/fd/{writing}", "--user", "pau")
    os.close(writing)
    with os.fdopen(reading) as read:
        assert json.loads(read.read())["id"] == "tomato"


# -- tiers -------------------------------------------------------------------------------------------------------------


def test_tiers(shell: Shell) -> None:
    assert shell.json("tiers").keys() == {"hot", "warm", "cold"}
    assert shell.json("tiers", "oboe")["placed"] is None
    assert shell.json("tiers", "oboe", "--place", "hot")["placed"] == "hot"
    assert shell.json("tiers", "oboe")["belongs"] == "hot"
    assert shell.json("tiers", "oboe", "--place", "rules")["placed"] is None
    assert "'nobody'" in shell.error("tiers", "nobody")
    assert "needs the id" in shell.error("tiers", "--place", "hot")
