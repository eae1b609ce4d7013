"""Ten thousand hostile strings, and what must never be: a leak, a log with somebody's words, a call to the network."""

from __future__ import annotations

import ast
import logging
import os
import random
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unicodedata import normalize

import pytest
from conftest import ROOT

from agentmem import ALL, Memory, Settings

COUNT = 10_000
UNSEEN = " \n\r\t\x01\x1b\x7f\u202e\u200b\ufeff"
PIECES = [
    "'", '"', "''", "';", "`", "\\", "\\'", ";", "--", "/*", "*/", "%", "_", "?", "??", ":1", "$1", "@x", "(", ")",
    "[", "]", "{", "}", "{0}", "{user}", "%s", "%n", "${HOME}", "$(id)", "`id`", "|", "&", "<", ">", "\n", "\r\n",
    "\t", "\x01", "\x1b[31m", "\x7f", "\u202e", "\u200b", "\u0301", "\ufeff", "\U0001f600", "é", "e\u0301", "ß",
    "İ", "日本", "../", "..\\", "/etc/passwd", "C:\\", "file://", "http://x.y/", " OR 1=1", " AND 1=0", "' OR ''='",
    "UNION SELECT", "DROP TABLE records", "ATTACH DATABASE", "PRAGMA ", "NULL", "null", "None", "true", "NaN",
    "Infinity", "-1", "0", "1e309", "9223372036854775808", "u1", "u2", "user", "row", "rowid", "scope", "terms",
    "scope : u1", "terms : *", "NEAR(a b)", "NOT", "OR", "AND", "^a", "a*", '"a" + "b"', "user = 1", "row IN (1)",
    "user >= 0 OR true", "cast(user AS string)", "$ne", "$where", "$or", "a.b", "a..b", ".", "__proto__",
    "__class__", "<script>", "&amp;", "\\u0000", "%00", "word", "garden", "river", "silver", "Ana", "Ben",
]  # fmt: skip


def hostile(seed: int, count: int) -> list[str]:
    """Different strings, each of one to six pieces, none of them blank."""
    pick, found = random.Random(seed), dict[str, None]()
    while len(found) < count:
        text = "".join(pick.choices(PIECES, k=pick.randint(1, 6)))
        if text.strip():
            found[text] = None
    return list(found)


def hostile_names(seed: int, count: int) -> list[str]:
    """The same as names: composed, with nothing invisible at the ends of a name and of its reverse."""
    found = dict.fromkeys(normalize("NFC", text.strip(UNSEEN)) for text in hostile(seed, 3 * count))
    reversible = [name for name in found if name and normalize("NFC", name[::-1]) == name[::-1]]
    assert len(reversible) >= count
    return reversible[:count]


@pytest.fixture(
    params=[Settings(), Settings(arena_limit=100), Settings(arena_limit=100, large_engine="lancedb")],
    ids=["arenas", "codes", "lancedb and fts5"],
)
def crowded(request: pytest.FixtureRequest, open_memory: Callable[..., Memory]) -> tuple[Memory, list[str]]:
    """A store in which every hostile string is an id, a user, an agent, a run, a content and metadata."""
    memory = open_memory(settings=request.param)
    texts = hostile_names(23, COUNT)
    for start in range(0, COUNT, 500):
        memory.add_many(
            [
                {
                    "content": text, "id": text, "user_id": text, "agent_id": text[::-1], "run_id": text,
                    "kind": "fact", "metadata": {"text": text, text: n},
                }
                for n, text in enumerate(texts[start : start + 500], start)
            ]
        )  # fmt: skip
    return memory, texts


@pytest.mark.slow
def test_ten_thousand_hostile_strings(crowded: tuple[Memory, list[str]]) -> None:
    memory, texts = crowded
    pick = random.Random(24)
    for n, text in enumerate(texts):
        record = memory.get(text)
        assert record is not None
        assert (record.id, record.user_id, record.run_id, record.content) == (text, text, text, text)
        assert record.metadata == {"text": text, text: n} if text != "text" else True
        # Each string asks about somebody else, and must find nothing but what is theirs.
        whose = pick.choice(texts)
        mode = ("hybrid", "keyword", "vector")[n % 3]
        assert {hit.id for hit in memory.search(text, user_id=whose, mode=mode)} <= {whose}
    for text in pick.sample(texts, 300):
        assert [hit.id for hit in memory.search("anything", user_id=text, filters={"text": text})] == [text]
        assert not memory.search("anything", user_id=text, filters={"text": {"$ne": text}})
        assert [hit.id for hit in memory.search(text, user_id=text, agent_id=text[::-1], run_id=text)] == [text]
        assert memory.scoped(user_id=text).get(pick.choice(texts)) in (None, memory.get(text))
    for text in pick.sample(texts, 100):
        everybody = memory.search(text, user_id=ALL, limit=50)
        assert all(hit.id == hit.record.user_id for hit in everybody)
    victims = pick.sample(texts, 50)
    for text in victims:
        assert memory.delete_all(user_id=text) == 1
    assert memory.stats().records == COUNT - len(victims)
    assert {record.id for record in memory.iterate(user_id=ALL)} == set(texts) - set(victims)
    memory.flush()
    report = memory.verify()
    assert report.ok, report.problems


def test_hostile_filters_and_keys(memory: Memory) -> None:
    texts = hostile(25, 300)
    usable = [text for text in texts if not text.startswith("$") and all(part for part in text.split("."))]
    for n, text in enumerate(usable):
        memory.add(f"number {n}", user_id="ana", metadata={"value": text})
    for n, text in enumerate(usable):
        found = [hit.content for hit in memory.search("number", user_id="ana", filters={"value": {"$in": [text]}})]
        assert found == [f"number {n}"]
        nested = {"$and": [{"value": {"$exists": True}}, {text: {"$exists": True}}]}
        assert not memory.search("number", user_id="ana", filters=nested) or text == "value"
    assert memory.delete_all(user_id="ana", filters={"value": "' OR 1=1 --"}) == 0


def test_logs_and_errors_hold_nobodys_words(
    open_memory: Callable[..., Memory], store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret, user = "xylophone-4711", "user-secret-0815"
    with caplog.at_level(logging.DEBUG):
        memory = open_memory(settings=Settings(follower_delay_s=0.02))
        id = memory.add(f"my word is {secret}", user_id=user, metadata={"pin": secret}).id
        memory.search(secret, user_id=user, filters={"pin": secret})
        memory.update(id, content=f"now it is {secret}{secret}")
        memory.flush()
        for manifest in (store / "lance").glob("*.lance/_versions/*.manifest"):
            manifest.write_bytes(b"")  # make it complain
        memory.add(f"again {secret}", user_id=user)
        memory.flush()
        memory.erase(id)
        memory.close()
    assert caplog.records
    for record in caplog.records:
        assert secret not in record.getMessage()
        assert user not in record.getMessage()


ALLOWED = {
    # Commands that the settings name, for a master key, and for alerts, by no shell.
    "archive/masterkey.py": {"subprocess"},
    "observe/notify.py": {"subprocess"},
    # Values that were put with ``pickle=True``, read where that is said again.
    "values/kinds.py": {"pickle"},
}


def test_no_pickle_no_eval_no_shell() -> None:
    forbidden = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "subprocess"}
    for file in (ROOT / "agentmem").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {alias.name.split(".")[0] for alias in node.names} | {
                    (getattr(node, "module", None) or "").split(".")[0]
                }
                allowed = ALLOWED.get(file.relative_to(ROOT / "agentmem").as_posix(), set[str]())
                assert not names & forbidden - allowed, f"{file}:{node.lineno}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "compile", "__import__"), f"{file}:{node.lineno}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in ("system", "popen", "allow_pickle"), f"{file}:{node.lineno}"
            if isinstance(node, ast.keyword):
                assert node.arg not in ("allow_pickle", "trust_remote_code", "shell"), file


def test_nothing_connects_anywhere(tmp_path: Path) -> None:
    code = """
import socket, sys
def refuse(*args, **kwargs):
    raise SystemExit(f"connects to {args[-1]}")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = socket.create_connection = refuse
from agentmem import Memory
with Memory(sys.argv[1]) as memory:
    id = memory.add("the bundled model needs nobody", user_id="ana").id
    assert memory.search("who is needed", user_id="ana")[0].id == id
    memory.flush()
    assert memory.verify().ok
    memory.compact()
print("done")
"""
    environment = {k: v for k, v in os.environ.items() if not re.search("proxy|HF_|LANCE", k)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "store")],
        capture_output=True, text=True, cwd=ROOT, env=environment, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_files_are_for_their_owner_alone_whatever_the_umask(open_memory: Callable[..., Memory], store: Path) -> None:
    before = os.umask(0o022)
    try:
        memory = open_memory(settings=Settings(arena_limit=10))
        memory.add_many([f"private {n}" for n in range(30)])
        memory.flush()
        memory.compact()
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.stat().st_mode) == 0o700
    for file in store.glob("agentmem.db*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
