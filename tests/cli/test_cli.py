"""The command line, as a shell runs it: output, exit codes, errors, terminals, Ctrl-C."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

import agentmem
from agentmem import Memory
from agentmem.cli.app import app
from agentmem.cli.output import printable
from agentmem.cli.values import duration

COMMAND = [sys.executable, "-m", "agentmem"]
Cli = Callable[..., Any]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Runs a command in this process, on a store of its own; returns its result."""

    def invoke(*arguments: str, stdin: str | bytes | None = None) -> Any:
        return CliRunner(env={"AGENTMEM_PATH": str(tmp_path / "store")}).invoke(app, list(arguments), input=stdin)

    return invoke


def document(result: Any) -> Any:
    """What a command printed, as JSON; it must have succeeded, and printed nothing else."""
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return json.loads(result.stdout)


def run(*arguments: str, folder: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"AGENTMEM_PATH": str(folder / "store")}
    return subprocess.run(
        [*COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False, **more
    )


def error_of(result: Any, code: int = 1) -> str:
    """The one line on standard error of a command that failed."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("agentmem: ")
    return lines[0]


# -- the commands ------------------------------------------------------------------------------------------------------


def test_add_then_search_get_history_stats(cli: Cli) -> None:
    added = document(cli("add", "Ana plays the cello.", "--user", "ana", "--metadata", '{"topic": "music"}'))
    assert added["status"] == "added"
    document(cli("add", "Ana takes oat milk.", "--user", "ana"))

    hits = document(cli("search", "Which instrument?", "--user", "ana"))
    assert [hit["record"]["content"] for hit in hits] == ["Ana plays the cello.", "Ana takes oat milk."]
    assert hits[0]["record"]["id"] == added["id"]
    assert hits[0]["details"] is None

    record = document(cli("get", added["id"]))
    assert record["metadata"] == {"topic": "music"}
    assert [event["event"] for event in document(cli("history", added["id"]))] == ["ADD"]

    stats = document(cli("stats"))
    assert stats["records"] == 2
    assert stats["health"]["ok"] is True


def test_adding_again_is_a_duplicate(cli: Cli) -> None:
    first = document(cli("add", "Ana plays the cello."))
    assert document(cli("add", "Ana plays the cello.")) == {"id": first["id"], "status": "duplicate"}


def test_add_says_everything_about_a_memory(cli: Cli) -> None:
    options = {
        "--id": "note-1",
        "--user": "ana",
        "--agent": "helper",
        "--run": "monday",
        "--role": "user",
        "--kind": "wish",
        "--layer": "insights",
        "--importance": "0.9",
        "--ttl": "7d",
        "--occurred-at": "2026-03-01T09:30+01:00",
    }
    document(cli("add", "A cello of my own.", *(part for option in options.items() for part in option)))
    record = document(cli("get", "note-1"))
    assert (record["user_id"], record["agent_id"], record["run_id"]) == ("ana", "helper", "monday")
    assert (record["role"], record["kind"], record["layer"], record["importance"]) == ("user", "wish", "insights", 0.9)
    assert record["occurred_at"] == "2026-03-01T08:30:00+00:00"
    assert record["expires_at"] is not None


def test_add_reads_lines(cli: Cli) -> None:
    added = document(cli("add", "-", "--user", "ana", stdin="Ana plays the cello.\n\n  Ana takes oat milk.  \n"))
    assert [result["status"] for result in added] == ["added", "added"]
    assert len(document(cli("search", "Ana", "--user", "ana"))) == 2
    assert document(cli("add", "-", stdin="")) == []


@pytest.mark.parametrize("source", ["file", "stdin"])
def test_add_reads_json_lines(cli: Cli, tmp_path: Path, source: str) -> None:
    lines = '"Ana plays the cello."\n{"content": "Ben collects stamps.", "user_id": "ben", "id": "b1"}\n'
    (tmp_path / "more.jsonl").write_text(lines)
    name = str(tmp_path / "more.jsonl") if source == "file" else "-"
    assert len(document(cli("add", "--file", name, "--user", "ana", stdin=lines))) == 2
    assert document(cli("get", "b1"))["user_id"] == "ben"
    assert len(document(cli("search", "Ana", "--user", "ana"))) == 1


def test_what_was_added_before_an_error_is_reported(cli: Cli) -> None:
    lines = "".join(json.dumps({"content": f"Line {number}", "id": f"n{number}"}) + "\n" for number in range(2_000))
    result = cli("add", "--file", "-", stdin=lines + "{broken\n")
    assert result.exit_code == 1
    assert "line 2001: not JSON" in result.stderr
    reported = [entry["id"] for entry in json.loads(result.stdout)]
    assert reported == [f"n{number}" for number in range(len(reported))]
    stored = document(cli("stats"))["records"]
    assert stored >= len(reported)
    assert stored % 1_000 == 0


def test_search_options(cli: Cli) -> None:
    document(cli("add", "Paid invoice 17.", "--user", "ana", "--kind", "note", "--metadata", '{"n": 17}', "--id", "a",
                 "--occurred-at", "2026-03-01T12:00Z", "--layer", "insights"))  # fmt: skip
    document(cli("add", "Paid invoice 18.", "--user", "ana", "--metadata", '{"n": 18}', "--id", "b",
                 "--occurred-at", "2026-03-05T12:00Z"))  # fmt: skip
    document(cli("add", "Paid invoice 19.", "--user", "ben", "--id", "c"))

    def found(*options: str) -> set[str]:
        return {hit["record"]["id"] for hit in document(cli("search", "invoice", *options))}

    assert found("--user", "ana") == {"a", "b"}
    assert found() == set()
    assert found("--all-users") == {"a", "b", "c"}
    assert len(found("--all-users", "--limit", "2")) == 2
    assert found("--user", "ana", "--filter", '{"n": {"$gt": 17}}') == {"b"}
    assert found("--user", "ana", "--kind", "note") == {"a"}
    assert found("--user", "ana", "--kind", "note", "--kind", "fact") == {"a", "b"}
    assert found("--user", "ana", "--layer", "insights") == {"a"}
    assert found("--user", "ana", "--since", "2026-03-03") == {"b"}
    assert found("--user", "ana", "--until", "2026-03-03T00:00:00Z") == {"a"}
    assert found("--user", "ana", "--since", "2026-03-06T01:00", "--time-zone", "Pacific/Kiritimati") == {"b"}
    assert found("--user", "ana", "--since", "2026-03-05T13:00", "--time-zone", "UTC") == set()
    assert found("--user", "ana", "--mode", "keyword") == {"a", "b"}
    assert found("--user", "ana", "--min-similarity", "1") == set()

    [hit, _] = document(cli("search", "invoice 17", "--user", "ana", "--explain"))
    assert hit["details"]["matched_terms"] == ["invoic", "17"]
    [hit, _] = document(cli("search", "invoice", "--user", "ana", "--mode", "keyword"))
    assert hit["similarity"] is None


def test_a_foreign_id_is_absent(cli: Cli) -> None:
    document(cli("add", "Ana plays the cello.", "--user", "ana", "--id", "a"))
    assert "'a'" in error_of(cli("get", "a", "--user", "ben"))
    assert "'a'" in error_of(cli("history", "a", "--user", "ben"))
    assert document(cli("get", "a", "--user", "ana"))["id"] == "a"


def test_history_shows_what_was_there_before(cli: Cli, tmp_path: Path) -> None:
    document(cli("add", "Lisbon", "--id", "home"))
    with Memory(tmp_path / "store") as memory:
        memory.update("home", content="Porto")
        memory.delete("home")
    events = document(cli("history", "home"))
    assert [(event["event"], event["version"]) for event in events] == [("ADD", 1), ("UPDATE", 2), ("DELETE", 3)]
    assert events[1]["data"]["content"] == "Lisbon"
    assert "Lisbon" in cli("history", "home", "--table").stdout


def test_reembed_moves_the_store_to_another_model(cli: Cli, tmp_path: Path) -> None:
    bundled = Path(agentmem.__file__).parent / "embedding" / "bundled"
    model = tmp_path / "model"
    shutil.copytree(bundled, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"_name_or_path": "another"}))
    document(cli("add", "Ana plays the cello.", "--id", "a"))
    assert "already uses" in error_of(cli("reembed"))
    report = document(cli("reembed", str(model)))
    assert report["records"] == 1
    assert report["to_model"] == "another"
    assert document(cli("search", "Which instrument?"))[0]["record"]["id"] == "a"
    assert document(cli("stats"))["model"] == "another"
    assert document(cli("reembed"))["from_model"] == "another"


def test_verify_repair_and_compact(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "store"
    with Memory(path) as memory:
        memory.add_many([f"the moon is {n} days old" for n in range(30)])
        memory.flush()
    assert document(cli("verify"))["counts"]["lancedb"] == 30
    assert document(cli("repair"))["ok"]
    assert document(cli("compact"))["after"]["libsql"] > 0
    data = bytearray((path / "agentmem.db").read_bytes())
    data[data.index(b"the moon is 7 days old")] = 0xFF
    (path / "agentmem.db").write_bytes(data)
    assert cli("verify").exit_code == cli("repair").exit_code == 1
    result = cli("repair", "--salvage")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["counts"]["altered"] == 1
    assert document(cli("verify"))["counts"]["records"] == 30


def test_version(cli: Cli) -> None:
    assert cli("--version").stdout == f"agentmem {agentmem.__version__}\n"


def test_demo_shows_the_main_job(tmp_path: Path) -> None:
    started = time.monotonic()
    done = run("demo", folder=tmp_path)
    assert time.monotonic() - started < 15
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "? Which food must she avoid?\n    0." in done.stdout
    assert "cashews make my throat swell up" in " ".join(done.stdout.split())
    assert "(stems in common: book, qx4t9z)" in done.stdout
    assert "0 of Maya's are among them" in done.stdout
    assert "UPDATE, it said: Maya flies to Porto on Thursday" in " ".join(done.stdout.split())
    assert " ms  " in done.stdout
    assert "\x1b" not in done.stdout
    assert not re.search(r" $", done.stdout, re.MULTILINE)
    assert not list(tmp_path.iterdir())


# -- tables and terminals ----------------------------------------------------------------------------------------------


def test_tables_on_request(cli: Cli) -> None:
    assert cli("add", "Ana [red] plays", "--id", "a", "--table").stdout == "Added a\n"
    assert cli("add", "-", "--table", stdin="One.\nTwo.\nOne.\n").stdout == "Added 2. Already there: 1.\n"
    shown = cli("search", "Ana", "--table", "--explain").stdout
    assert "Ana [red]" in shown
    assert re.search(r"meaning 0\.\d\d, words 0\.\d\d \(ana\)", " ".join(shown.split()))
    assert "arena: 3 considered; ms:" in shown
    assert cli("search", "Ana", "--user", "nobody", "--table").stdout == "Nothing found.\n"
    document(cli("add", "Ana", "--id", "b", "--user", "ana", "--run", "r-1", "--json"))
    assert "b  user=ana  run=r-1" in cli("search", "Ana", "--all-users", "--table").stdout
    assert "interact: 0" in cli("stats", "--table").stdout
    assert "Ana [red] plays" in cli("get", "a", "--table").stdout


def test_a_terminal_gets_a_table(tmp_path: Path) -> None:
    assert run("add", "Ana plays the cello.", folder=tmp_path).returncode == 0
    shown = _on_a_terminal(["search", "cello"], tmp_path)
    assert "similarity" in shown
    assert "Ana plays the cello." in shown
    assert "{" not in shown
    assert "user=" not in shown
    assert json.loads(_on_a_terminal(["search", "cello", "--json"], tmp_path))[0]["record"]["kind"] == "fact"


def _on_a_terminal(arguments: list[str], folder: Path) -> str:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))
    environment = os.environ | {"AGENTMEM_PATH": str(folder / "store"), "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen([*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + 60
    while select.select([ours], [], [], max(0.0, deadline - time.monotonic()))[0]:
        try:
            shown += os.read(ours, 65_536)
        except OSError:  # the other end is closed: Linux says EIO where others say end of file
            break
    os.close(ours)
    assert process.wait(10) == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())


def test_a_memory_cannot_talk_to_the_terminal(cli: Cli) -> None:
    document(cli("add", "cello \x1b]0;owned\x07 \x9b31m red \u202e", "--id", "a"))
    for arguments in (["search", "cello", "--table"], ["get", "a", "--table"], ["search", "cello"]):
        shown = cli(*arguments).stdout
        assert "\x1b" not in shown
        assert "\x07" not in shown
    assert printable("a\tb\nc \x1b[1m \u202e é 漢") == "a\tb\nc \ufffd[1m \ufffd é 漢"


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["add", "  "], "content is empty"),
        (["add", "text", "--importance", "7"], "importance must be a number from 0 to 1"),
        (["add", "text", "--metadata", '{"a": NaN}'], "which JSON does not have"),
        (["add", "text", "--user", ""], "user_id is empty"),
        (["add", "--file", "/nowhere.jsonl"], "/nowhere.jsonl"),
        (["search", "text", "--limit", "0"], "limit must be an int"),
        (["search", "text", "--filter", '{"a": {"$near": 1}}'], "$near"),
        (["search", " "], "query is empty"),
        (["get", "nope"], "'nope'"),
        (["history", "nope"], "'nope'"),
    ],
)
def test_bad_values_are_one_line(cli: Cli, arguments: list[str], part: str) -> None:
    document(cli("add", "There is a store."))
    assert part in error_of(cli(*arguments))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["add"], "give either TEXT"),
        (["add", "text", "--file", "x.jsonl"], "give either TEXT"),
        (["add", "-", "--id", "a"], "--id belongs to one memory"),
        (["add", "text", "--metadata", "{"], "--metadata is not JSON"),
        (["add", "text", "--metadata", "[]"], "--metadata must be a JSON object"),
        (["add", "text", "--ttl", "soon"], "--ttl='soon' is not a duration"),
        (["add", "text", "--occurred-at", "yesterday"], "--occurred-at='yesterday' is not a time"),
        (["search", "text", "--mode", "best"], "--mode"),
        (["search", "text", "--all-users", "--user", "ana"], "exclude each other"),
        (["search"], "QUERY"),
        (["forget"], "forget"),
    ],
)
def test_wrong_usage_exits_with_2(cli: Cli, tmp_path: Path, arguments: list[str], part: str) -> None:
    result = cli(*arguments)
    assert result.exit_code == 2
    assert part in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("command", [["search", "text"], ["get", "a"], ["history", "a"], ["stats"]])
def test_reading_makes_no_store(cli: Cli, tmp_path: Path, command: list[str]) -> None:
    assert "there is no store" in error_of(cli(*command))
    (tmp_path / "store").mkdir()
    assert "holds no store" in error_of(cli(*command))
    assert not list((tmp_path / "store").iterdir())


def test_a_path_that_cannot_be_a_store(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("I am a file.")
    assert "is a file" in error_of(cli("add", "text"))
    assert "is a file" in error_of(cli("stats"))
    assert (tmp_path / "store").read_text() == "I am a file."


def test_input_that_is_not_utf8(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "add", "-", "--path", str(tmp_path / "store")],
        input=b"caf\xe9\n", capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(b"agentmem: standard input is not UTF-8")
    assert done.stderr.count(b"\n") == 1


def test_arguments_that_are_not_utf8(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "add", b"caf\xe9", "--path", str(tmp_path / "store")], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert b"lone surrogate" in done.stderr
    assert b"Traceback" not in done.stderr


def test_an_ascii_terminal_still_gets_valid_json(tmp_path: Path) -> None:
    assert run("add", "Café 漢字", folder=tmp_path).returncode == 0
    environment = os.environ | {"AGENTMEM_PATH": str(tmp_path / "store"), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*COMMAND, "search", "café"], env=environment, capture_output=True, timeout=60, check=False, text=True
    )
    assert json.loads(done.stdout)[0]["record"]["content"] == "Café 漢字"


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    lines = "".join(f"Memory number {number}\n" for number in range(3_000))
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m agentmem add - --path {tmp_path}/store | head -n 1"],
        input=lines, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "[\n"
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_ctrl_c_ends_quietly(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "add", "-", "--path", str(tmp_path / "store")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # What a shell starts in the background ignores Ctrl-C, and so does all that it starts in turn.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write("The first line.\n")
    process.stdin.flush()
    deadline = time.monotonic() + 30
    while not (tmp_path / "store").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    spent = -1.0
    while (now := sum(psutil.Process(process.pid).cpu_times()[:2])) - spent > 0.02 and time.monotonic() < deadline:
        spent = now
        time.sleep(0.5)  # as long as it computes it is not yet waiting for more lines
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "agentmem: interrupted; what is listed is stored\n"
    assert json.loads(out) == []


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1_800), ("1.5h", 5_400), ("7d", 604_800), ("2w", 1_209_600)]
)
def test_durations(text: str, seconds: float) -> None:
    value = duration(text)
    assert value is not None
    assert value.total_seconds() == seconds


def test_help_is_quick(tmp_path: Path) -> None:
    """0.3 s where an empty program of typer takes 0.13 s: what the machine's speed is shall not matter."""
    empty = tmp_path / "empty.py"
    empty.write_text("import typer\napp = typer.Typer()\n@app.command()\ndef nothing() -> None: ...\napp()\n")

    def spent(*command: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *command, "--help"], check=True, stdout=subprocess.DEVNULL, timeout=60)
        return time.perf_counter() - started

    least, ours = float("inf"), float("inf")
    for _ in range(20):
        least, ours = min(least, spent(str(empty))), min(ours, spent("-m", "agentmem"))
        if ours < 2.3 * least:
            return
    raise AssertionError(f"{ours:.3f} s, where an empty program takes {least:.3f} s")
