"""Where the output goes: any encoding and width, streams that are closed or full, and the words of the shell."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len
from shell import Shell

from agentmem import Memory
from agentmem.cli.words import COMMANDS, in_the_shell, line, printable

COMMAND = [sys.executable, "-m", "agentmem"]
ENCODINGS = ["ascii", "latin-1", "cp1252", "cp850", "shift_jis", "koi8-r", "utf-16", "utf-8"]
SHOWN = [["search", "harp"], ["list"], ["get", "h"], ["history", "h"], ["count", "--by", "kinds"], ["stats"]]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path / "store")
    with Memory(made.folder) as memory:
        memory.add("Zoë's harp, 東京, \U0001f3bb and \ud55c\uad6d\uc5b4", id="h", metadata={"ß": "naïve"})
    return made


def sent(shell: Shell, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    given = os.environ | {"AGENTMEM_PATH": str(shell.folder)} | environment
    return subprocess.run([*COMMAND, *arguments], env=given, capture_output=True, timeout=60, check=False)


def sh(shell: Shell, command: str) -> subprocess.CompletedProcess[str]:
    """Run it with ``agentmem`` as a command."""
    given = os.environ | {"AGENTMEM_PATH": str(shell.folder)}
    script = f'set -o pipefail; agentmem() {{ "{sys.executable}" -m agentmem "$@"; }}; {command}'
    return subprocess.run(["bash", "-c", script], env=given, capture_output=True, text=True, timeout=60, check=False)


# -- encodings ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_tables_in_any_encoding(shell: Shell, encoding: str) -> None:
    done = sent(shell, "list", "--table", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "harp" in done.stdout.decode(encoding)
    assert len({cell_len(row) for row in done.stdout.decode(encoding).splitlines() if row.strip()}) == 1
    done = sent(shell, "export", PYTHONIOENCODING=encoding)
    assert json.loads(done.stdout)["metadata"] == {"ß": "naïve"}
    if encoding != "utf-16":
        done = sent(shell, "get", "h", "--json", PYTHONIOENCODING=encoding)
        assert json.loads(done.stdout.decode(encoding))["content"].endswith("한국어")


@pytest.mark.parametrize("arguments", SHOWN)
def test_every_table_in_a_small_encoding(shell: Shell, arguments: list[str]) -> None:
    done = sent(shell, *arguments, "--table", PYTHONIOENCODING="ascii", COLUMNS="33")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()


def test_an_error_in_a_small_encoding(shell: Shell) -> None:
    done = sent(shell, "get", "ключ", PYTHONIOENCODING="ascii:strict")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"agentmem: there is no record with the id '????' here")


# -- widths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", ["0", "1", "7", "20", "27", "50", "90", "400", "-1", "wide", ""])
def test_every_width_shows_the_text(shell: Shell, columns: str) -> None:
    for arguments in SHOWN[:3]:
        result = shell(*arguments, "--table", COLUMNS=columns)
        assert result.exit_code == 0, result.output
        assert "harp" in result.stdout
        assert "東京" in result.stdout
        width = int(columns) if columns.isdigit() and int(columns) else 80
        assert max(cell_len(row) for row in result.stdout.splitlines()) <= max(width, 20)


def test_words_that_are_wider_than_the_terminal(shell: Shell) -> None:
    with Memory(shell.folder) as memory:
        memory.add("W" * 100, id="long")
        memory.add("漢" * 50, id="wide")
    shown = "".join(shell("list", "--table", COLUMNS="20").stdout.split())
    assert "W" * 100 in shown
    assert "漢" * 50 in shown


# -- streams -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", ["list", "list --table", "get h", "add new --id new", "export", "--help", "stats"]
)
def test_closed_and_full_streams(shell: Shell, arguments: str) -> None:
    for closed in (">&-", ">&- 2>&-", "<&- >&- 2>&-"):
        done = sh(shell, f"agentmem {arguments} {closed}")
        assert (done.returncode, done.stderr) == (0, ""), closed
    done = sh(shell, f"agentmem {arguments} > /dev/full")
    assert done.returncode == 1
    assert done.stderr == "agentmem: [Errno 28] No space left on device\n"
    with Memory(shell.folder) as memory:
        assert memory.verify().ok


@pytest.mark.parametrize("arguments", ["list", "list --table", "export", "--help"])
def test_a_reader_that_stops(shell: Shell, arguments: str) -> None:
    with Memory(shell.folder) as memory:
        memory.add_many([f"harp number {n} " + "la " * 300 for n in range(500)])
    done = sh(shell, f"agentmem {arguments} | head -c 1")
    assert len(done.stdout) == 1
    assert done.stderr in ("", "agentmem: there are more; go on with --cursor\n") or "--cursor" in done.stderr
    assert done.returncode in (0, 1)


def test_standard_input_that_is_closed(shell: Shell) -> None:
    for arguments in ("add -", "add --file -"):
        done = sh(shell, f"agentmem {arguments} <&-")
        assert done.returncode in (0, 1)
        assert "Traceback" not in done.stderr


def test_a_warning_is_one_line(shell: Shell) -> None:
    done = sh(shell, """agentmem list --filter '{"kind": "fact"}'""")
    assert (done.returncode, done.stdout) == (0, "[]\n")
    assert done.stderr.startswith("agentmem: the filter asks metadata for 'kind'")
    assert done.stderr.count("\n") == 1


def test_help_has_its_summaries_without_docstrings(tmp_path: Path) -> None:
    plain, stripped = (
        subprocess.run([sys.executable, *flags, "-m", "agentmem", "--help"], capture_output=True, text=True, check=True)
        for flags in ([], ["-OO"])
    )
    assert stripped.stdout == plain.stdout
    assert re.search(r"list +List memories", plain.stdout)


# -- words -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("query is empty; to list records without a query use page()", "use `agentmem list`"),
        ("use AsyncMemory.add_many([...]) for it", "use `agentmem add --file` for it"),
        ("memory.restore('x') brings it back", "`agentmem restore` brings it back"),
        ("add_many() or add_stream() take several", "`agentmem add --file` take several"),
        ("x; repair=True mends it", "x; --repair mends it"),
        ("the page(s) of a repair", "the page(s) of a repair"),
    ],
)
def test_errors_speak_of_commands(said: str, shown: str) -> None:
    assert shown in in_the_shell(said)


def test_commands_that_errors_name_exist(shell: Shell) -> None:
    for command in {words.split()[0] for words in COMMANDS.values()}:
        assert shell(command, "--help").exit_code == 0


def test_printable() -> None:
    kept = "\u0646\u06cc\u200c\u062e\u0648\u0627 \U0001f469\u200d\U0001f3a8 soft\u00adhyphen \ue0a0 tab\tline\n"
    assert printable(kept) == kept
    assert printable("a\r\nb") == "a\nb"
    for does_something in "\x1b\x07\x00\x85\r\u202e\u2066\u2028\ufeff\ud800":
        assert printable(f"a{does_something}b") == "a\ufffdb"
    assert line(" one\n\ttwo\r\n three ") == "one two three"
