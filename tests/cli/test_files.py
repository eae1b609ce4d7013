"""Files to add, as people have them: encodings, ends of lines, bad lines, arrays, repetitions, dumps of stores."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shell import Shell

from agentmem import ALL, Memory
from agentmem.cli.interrupt import Interrupt, Interrupted

LINES = ['{"content": "Nuño tunes pianos"}', "", '{"content": "a line\u2028separator\u0085inside"}', "  ",
         '"plain \u6f22"', '{"content": "bad", "colour": "red"}', '{"content": "after it"}']  # fmt: skip
"""Lines of which the sixth cannot be added."""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "store")


def written(folder: Path, data: bytes | str | list[Any], name: str = "in.jsonl") -> Path:
    path = folder / name
    if isinstance(data, list):
        data = "".join(json.dumps(item) + "\n" for item in data)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def skipped(results: list[Any]) -> list[tuple[int, str]]:
    return [(entry["line"], entry["reason"]) for entry in results if entry["status"] == "skipped"]


# -- encodings and lines -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("packed", [False, True])
def test_text_of_any_system(shell: Shell, tmp_path: Path, end: str, encoding: str, packed: bool) -> None:
    data = end.join([*LINES, ""]).encode(encoding)
    file = written(tmp_path, gzip.compress(data) if packed else data)
    assert f"{file}, line 6: " in shell.error("add", "--file", file)
    results = shell.json("add", "--file", file, "--on-error", "skip")
    assert [line for line, _ in skipped(results)] == [6]
    wanted = ["Nuño tunes pianos", "a line\u2028separator\u0085inside", "plain \u6f22", "after it"]
    assert shell.texts() == wanted


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lines_of_text_with_a_mark(shell: Shell, encoding: str) -> None:
    shell.json("add", "-", stdin="first\r\n\r\nsecond\r\n".encode(encoding))
    shell.json("add", "--file", "-", stdin='{"content": "third"}\r\n'.encode(encoding))
    assert shell.texts() == ["first", "second", "third"]


def test_another_encoding(shell: Shell, tmp_path: Path) -> None:
    file = written(tmp_path, '"Zürich"\n"Besançon"\n'.encode("cp1252"))
    error = shell.error("add", "--file", file)
    assert "is not UTF-8 text: line 1, the byte 0xfc at 3; --encoding" in error
    shell.json("add", "--file", file, "--encoding", "cp1252")
    shell.json("add", "-", "--encoding", "shift_jis", stdin="東京\n".encode("shift_jis"))
    assert shell.texts() == ["Zürich", "Besançon", "東京"]
    assert "--encoding='klingon'" in shell.error("add", "-", "--encoding", "klingon", code=2)
    assert "--encoding='hex'" in shell.error("add", "-", "--encoding", "hex", code=2)
    assert "standard input is not shift_jis text" in shell.error(
        "add", "-", "--encoding", "shift_jis", stdin=b"\xfd\xfe\n"
    )


def test_what_is_no_text(shell: Shell, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "chat.zip", "w") as archive:
        archive.writestr("chat.jsonl", '"hello"')
    assert "is a zip archive" in shell.error("add", "--file", tmp_path / "chat.zip")
    assert "packed with bzip2" in shell.error("add", "--file", written(tmp_path, bz2.compress(b'"hello"')))
    whole = gzip.compress("".join(f'"line {n * n}"\n' for n in range(5_000)).encode())
    assert "packed with gzip, and damaged or cut off" in shell.error("add", "--file", written(tmp_path, whole[:900]))
    assert "packed with gzip" in shell.error("add", "--file", written(tmp_path, b"\x1f\x8bnothing"))
    assert f"{tmp_path}: Is a directory" in shell.error("add", "--file", tmp_path)
    assert "No such file" in shell.error("add", "--file", tmp_path / "nowhere")
    assert shell.json("add", "--file", written(tmp_path, b"")) == []
    assert shell.json("add", "--file", written(tmp_path, b"\xef\xbb\xbf \n")) == []


def test_a_pipe_as_file(shell: Shell, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["sh", "-c", f"echo '\"through a pipe\"' > '{pipe}'"]):
        shell.json("add", "--file", pipe)
    assert shell.texts() == ["through a pipe"]


# -- forms of items ----------------------------------------------------------------------------------------------------


def test_fields_take_what_options_take(shell: Shell, tmp_path: Path) -> None:
    options = {"ttl": "36h", "occurred_at": "2021-07-04 18:30", "importance": "0.25", "metadata": '{"boat": "ketch"}',
               "layer": "insights", "kind": "plan", "role": "user"}  # fmt: skip
    shell.json("add", "--file", written(tmp_path, [{"content": "sails", "id": "a", **options}]))
    as_options = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    shell.json("add", "sails", "--id", "b", *as_options)
    one, other = shell.json("get", "a"), shell.json("get", "b")
    different = {name for name in one if one[name] != other[name]}
    assert different <= {"id", "created_at", "updated_at", "expires_at"}
    assert one["expires_at"] is not None
    assert one["metadata"] == {"boat": "ketch"}


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"ttl": "soon"}, "ttl='soon' is not a duration such as"),
        ({"ttl": "0s"}, "ttl='0s' is no time at all"),
        ({"ttl": -3}, "ttl must be seconds or a duration"),
        ({"occurred_at": "noon"}, "occurred_at='noon' is not a time such as"),
        ({"occurred_at": 1625423400}, "occurred_at must be a text, a time such as"),
        ({"importance": "high"}, "importance='high' is not a number from 0 to 1"),
        ({"importance": "7"}, "importance must be a number from 0 to 1"),
        ({"metadata": "boat"}, "metadata='boat' is not a JSON object"),
        ({"metadata": "[1]"}, "metadata must be a mapping"),
        ({"layer": "cellar"}, "not a layer"),
        ({"timestamp": "2021-07-04"}, "did you mean 'occurred_at'"),
        ({"metadata": {"half": "\ud83d"}}, "--repair mends it"),
    ],
)
def test_bad_fields(shell: Shell, tmp_path: Path, item: dict[str, Any], reason: str) -> None:
    file = written(tmp_path, [{"content": "fine"}, {"content": "x", **item}, {"content": "also fine"}])
    error = shell.error("add", "--file", file)
    assert f"{file}, line 2: " in error
    assert reason in error
    [(line, told)] = skipped(shell.json("add", "--file", file, "--on-error", "skip"))
    assert line == 2
    assert reason in told
    assert shell.texts() == ["fine", "also fine"]


def test_a_json_array(shell: Shell, tmp_path: Path) -> None:
    items = [{"content": "one", "metadata": {"a": [1, {"b": 2}]}}, "two", 3, {"content": "four", "shape": "round"}]
    file = written(tmp_path, json.dumps(items, indent=2), "array.json")
    assert "line 14: neither a text nor an object" in shell.error("add", "--file", file)
    result = shell("add", "--file", file, "--on-error", "skip")
    assert [line for line, _ in skipped(json.loads(result.stdout))] == [14, 15]
    assert "one JSON array" in result.stderr
    assert "left out 2 of 4; the first, line 14: neither" in result.stderr
    assert shell.texts() == ["one", "two"]
    assert shell.json("add", "--file", written(tmp_path, "[ ]")) == []


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ('["kept",\n "kept too",\n {"content":\n 5,,}]', 4, "not JSON: Expecting property name enclosed"),
        ('["kept",\n "kept too",\n {"content":', 3, "not JSON: Expecting value at column 13"),
        ('["kept",\n "kept too",\n]', 2, "no comma or end"),
        ('["kept" "kept too"]', 1, "no comma or end"),
        ('["kept", "kept too"]\n\n["more"]', 3, "more follows the end"),
        ("[" * 100_000, 1, "not JSON: nested too deeply"),
        ('{"messages":\n ["x"]}', 1, "not JSON"),
        ("content,user\ntea,ana", 1, "not JSON: Expecting value at column 1; each line holds"),
    ],
)
def test_json_that_is_broken(shell: Shell, tmp_path: Path, text: str, line: int, reason: str) -> None:
    file = written(tmp_path, text)
    error = shell.error("add", "--file", file)
    assert f"{file}, line {line}: " in error
    assert reason in error
    assert skipped(shell.json("add", "--file", file, "--on-error", "skip"))[0][0] == line
    assert shell.texts() == ["kept", "kept too"][: text.count("kept")][: 1 if '" "' in text else 2]


# -- bad lines, repairs, repetitions -----------------------------------------------------------------------------------


def test_half_emoji_nuls_and_stray_bytes_are_replaced_on_request(shell: Shell, tmp_path: Path) -> None:
    data = b'{"content": "half \\ud83d", "id": "h"}\n{"content": "nul\\u0000"}\n{"content": "byte \xff"}\n"well"\n'
    file = written(tmp_path, data)
    result = shell("add", "--file", file, "--on-error", "skip")
    assert [line for line, _ in skipped(json.loads(result.stdout))] == [1, 2, 3]
    statuses = [result["status"] for result in shell.json("add", "--file", file, "--repair")]
    assert statuses == ["added", "added", "added", "duplicate"]
    assert sorted(shell.texts()) == ["byte \ufffd", "half \ufffd", "nul\ufffd", "well"]


def test_a_table_of_what_was_left_out(shell: Shell, tmp_path: Path) -> None:
    file = written(tmp_path, ['x\x1b[31m"', *[{"content": f"c{n}", "n": n} for n in range(30)]])
    told = shell("add", "--file", file, "--on-error", "skip", "--table").stdout
    assert told.startswith("Added 1. Left out: 30.\n  line 2: an item has no field 'n'")
    assert "and 10 more; --json lists them all" in told
    assert "\x1b" not in told


def test_a_file_twice(shell: Shell, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": text, "run_id": "t"} for text in ("hi", "ok", "ok", "bye")]
    file = written(tmp_path, turns)
    assert shell("add", "--file", file, "--table").stdout == "Added 4.\n"
    assert shell("add", "--file", file, "--table").stdout == "Added 0. Already there: 4.\n"
    link = tmp_path / "link.jsonl"
    link.symlink_to(file)
    assert shell("add", "--file", link, "--table").stdout == "Added 0. Already there: 4.\n"
    written(tmp_path, [*turns, turns[1]])
    assert shell("add", "--file", file, "--table").stdout == "Added 1. Already there: 4.\n"
    assert shell("add", "--file", file, "--source", "another", "--table").stdout == "Added 5.\n"
    piped = file.read_bytes()
    for added in (5, 0):
        told = shell("add", "--file", "-", "--source", "pipe", "--table", stdin=piped).stdout
        assert told.startswith(f"Added {added}.")
    assert shell("add", "--file", "-", "--table", stdin=piped).stdout == "Added 5.\n"


def test_ids_that_have_other_memories_by_now(shell: Shell, tmp_path: Path) -> None:
    file = written(tmp_path, [{"content": f"shelf {id}", "id": id} for id in ("a", "b", "c")])
    shell.json("add", "--file", file)
    shell.json("update", "b", "--content", "shelf b was moved")
    error = shell.error("add", "--file", file)
    assert f"{file}: the id 'b' is already in use for another content" in error
    assert "--on-error skip leaves such lines out" in error
    result = shell("add", "--file", file, "--on-error", "skip")
    assert result.exit_code == 3
    assert [line for line, _ in skipped(json.loads(result.stdout))] == [2]
    assert shell.texts() == ["shelf a", "shelf b was moved", "shelf c"]


def test_a_dump_is_a_store_again(shell: Shell, tmp_path: Path) -> None:
    with Memory(shell.folder) as memory:
        memory.add("stays\r\n\u2028 é\u0301 \U0001f3bb", id="s", user_id="jo", metadata={"k": [1, None]}, importance=0)
        memory.add("said", id="m", user_id="jo", agent_id="a", run_id="r", role="user", occurred_at="2022-05-06T07:08Z")
        memory.add("ends", id="e", kind="note", layer="insights", ttl=90_000)
        memory.feedback("s", rating=2.5)
        memory.lifecycle.pin("m")
    dump = tmp_path / "dump.jsonl"
    assert shell.json("export", dump, "--all-users") == {"written": 3, "file": str(dump)}
    other = Shell(tmp_path / "other")
    for status in ("added", "duplicate"):
        assert [result["status"] for result in other.json("add", "--file", dump)] == [status] * 3
    with Memory(shell.folder) as memory, Memory(other.folder) as copy:
        for before, after in zip(memory.iterate(user_id=ALL), copy.iterate(user_id=ALL), strict=True):
            old, new = before.to_dict(), after.to_dict()
            old["occurred_at"] = old["occurred_at"] or old["created_at"]
            for begins_anew in ("created_at", "updated_at"):
                del old[begins_anew], new[begins_anew]
            assert old == new
    assert shell("export", "--all-users").stdout == dump.read_text()


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------


def test_what_is_listed_after_ctrl_c_is_stored(tmp_path: Path) -> None:
    file = written(tmp_path, [{"content": f"row {n}", "role": "user"} for n in range(50_000)])
    command = [sys.executable, "-m", "agentmem", "add", "--file", str(file), "--path", str(tmp_path / "store")]
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while (tmp_path / "out").stat().st_size < 100 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert error == "agentmem: interrupted; what is listed is stored; the same command adds the rest\n"
    listed = [entry["id"] for entry in json.loads((tmp_path / "out").read_text())]
    assert 0 < len(listed) < 50_000
    with Memory(tmp_path / "store") as memory:
        assert [record.id for record in memory.iterate(user_id=ALL, order="oldest")] == listed


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own handler, also where the tests run in the background of a shell, which has Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_the_second_ctrl_c_ends_at_once() -> None:
    with Interrupt() as interrupt:
        items = interrupt.items(["a", "b", "c"])
        assert next(items) == "a"
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted):
            next(items)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
