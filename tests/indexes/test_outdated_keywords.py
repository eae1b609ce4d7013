"""A keyword index made by older rules for what a word is: it is made anew, by itself, and nothing is missed."""

from __future__ import annotations

import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from agentmem import Memory, Settings
from agentmem.engine.engine import Engine
from agentmem.indexes import keywords
from agentmem.indexes.feed import follow
from agentmem.stores import meta
from agentmem.text.terms import VERSION

IDLE = Settings(arena_limit=0, large_engine="lancedb", follower_delay_s=3_600, lifecycle={"sweep_interval_s": 0})
CAFE = "Café Müller macht um 7 Uhr auf — schön! 東京 にも 支店 が ある 🙂"
QUERIES = ("cafe", "mueller", "muller", "schön", "🙂", "東京")
"""None of them but the last was found by the rules of version 0.1."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of version 0.1, whose keyword index was up to date then."""
    with tarfile.open(ROOT / "tests" / "data" / "store-0.1.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "store"


@pytest.fixture
def memory(open_memory: Callable[..., Memory]) -> Memory:
    return open_memory(settings=IDLE, embedder=None, clock=None)


def applied(memory: Memory) -> tuple[Any, Any]:
    """What is noted of the index, read behind its back: how far it is, and the version of its terms."""
    records = memory.handle.engine().repository
    return records.meta(meta.KEYWORDS_APPLIED), records.meta(meta.KEYWORDS_TERMS)


def contents(engine: Engine) -> list[Any]:
    """All that the index holds."""
    db = engine.repository.db
    return [
        db.execute("SELECT * FROM keyword_lengths ORDER BY row"),
        db.execute("SELECT * FROM keyword_totals ORDER BY user, agent, run"),
        *(
            db.execute("SELECT rowid FROM keywords WHERE keywords MATCH ? ORDER BY rowid", (f'terms : "{word}"',))
            for word in ("cafe", "café", "muller", "mueller", "🙂", "harbour", "lantern", "ana", "is", "4711")
        ),
    ]


def check(memory: Memory) -> None:
    engine = memory.handle.engine()
    seq = engine.repository.last_seq()
    assert follow(engine.keywords, engine.repository, seq)
    assert applied(memory) == (seq, VERSION)
    assert engine.keywords.check() == []
    found = contents(engine)
    engine.keywords.reset()
    assert follow(engine.keywords, engine.repository, seq)
    assert found == contents(engine)


def test_an_old_index_is_made_anew_by_the_first_search(memory: Memory) -> None:
    assert applied(memory) == (50, None)
    assert memory.handle.engine().keywords.applied_seq() == 0
    for query in QUERIES:
        hits = memory.search(query, user_id="ben", mode="keyword", explain=True)
        assert [hit.content for hit in hits] == [CAFE], query
        assert hits.trace is not None
        assert "keywords" in hits.trace.engines
    check(memory)


def test_an_old_index_is_made_anew_in_the_background(open_memory: Callable[..., Memory]) -> None:
    settings = Settings(arena_limit=0, large_engine="lancedb", follower_delay_s=0.02, lifecycle={"sweep_interval_s": 0})
    memory = open_memory(settings=settings, embedder=None, clock=None)
    memory.add("Ben mag Crêpes.", user_id="ben")
    memory.flush()
    assert applied(memory)[1] == VERSION
    assert memory.verify().problems == []
    check(memory)


def test_flush_waits_for_an_index_that_nobody_has_seen_to_be_needed(
    open_memory: Callable[..., Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that makes it is slow to see that the store has become too large to go without."""
    real = keywords.KeywordIndex.needed

    def late(self: keywords.KeywordIndex, limit: int) -> bool:
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.3)
        return real(self, limit)

    monkeypatch.setattr(keywords.KeywordIndex, "needed", late)
    memory = open_memory(settings=IDLE, embedder=None, clock=None)
    memory.add("Ben mag Crêpes.", user_id="ben")
    memory.flush()
    assert applied(memory)[1] == VERSION


@pytest.mark.slow
def test_being_killed_halfway_does_no_harm(store: Path, open_memory: Callable[..., Memory]) -> None:
    """Groups of eight changes; each process is killed at another of the texts that it indexes."""
    program = """
import os, signal, sys
from agentmem import Memory, Settings
from agentmem.indexes import keywords
texts, terms_and_length = int(sys.argv[2]), keywords.terms_and_length

def killed(text):
    global texts
    if not texts:
        os.kill(os.getpid(), signal.SIGKILL)
    texts -= 1
    return terms_and_length(text)

keywords.GROUP, keywords.terms_and_length = 8, killed
with Memory(sys.argv[1], settings=Settings(arena_limit=0, large_engine="lancedb", follower_delay_s=3600)) as memory:
    memory.search("harbour", user_id="ben", mode="keyword")
"""
    for texts in (0, 3, 11, 9):
        ended = subprocess.run([sys.executable, "-c", program, store, str(texts)], timeout=60, check=False)
        assert ended.returncode == -signal.SIGKILL
    memory = open_memory(settings=IDLE, embedder=None, clock=None)
    seq, version = applied(memory)
    assert version == VERSION
    assert 0 < seq < 50
    check(memory)


def test_a_group_that_fails_leaves_the_old_index_as_it_was(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: str) -> tuple[list[str], int]:
        raise RuntimeError("out of memory")

    engine = memory.handle.engine()
    before = contents(engine)
    with monkeypatch.context() as patch:
        patch.setattr(keywords, "terms_and_length", broken)
        with pytest.raises(RuntimeError, match="out of memory"):
            follow(engine.keywords, engine.repository, engine.repository.last_seq())
    assert applied(memory) == (50, None)
    assert contents(engine) == before
    check(memory)


@pytest.mark.slow
def test_several_processes_make_it_anew_together(store: Path, open_memory: Callable[..., Memory]) -> None:
    program = f"""
import sys
from agentmem import Memory, Settings
settings = Settings(arena_limit=0, large_engine="lancedb", follower_delay_s=0.02, lifecycle={{"sweep_interval_s": 0}})
with Memory({str(store)!r}, settings=settings) as memory:
    for n in range(10):
        memory.add(f"Señor {{n}} of {{sys.argv[1]}} likes C++", user_id="ben")
        for query in {QUERIES!r}:
            [hit] = memory.search(query, user_id="ben", mode="keyword")
            assert hit.content == {CAFE!r}, query
    memory.flush()
"""
    running = [
        subprocess.Popen([sys.executable, "-c", program, name], stderr=subprocess.PIPE, text=True)
        for name in ("ada", "bob", "cid")
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    memory = open_memory(settings=IDLE, embedder=None, clock=None)
    assert len(memory.search("senor", user_id="ben", mode="keyword", limit=100)) == 30
    assert len(memory.search("c++", user_id="ben", mode="keyword", limit=100)) == 30
    assert memory.verify().problems == []
    check(memory)


@pytest.mark.parametrize("how", ["erase", "compact"])
def test_what_an_old_index_knew_leaves_the_disk_with_it(
    store: Path, open_memory: Callable[..., Memory], how: str
) -> None:
    """Also in a store so small that the index is not needed any more."""
    memory = open_memory(settings=Settings(lifecycle={"sweep_interval_s": 0}), embedder=None, clock=None)
    [hit] = memory.search("Iceland", user_id="ben", mode="keyword")
    if how == "erase":
        memory.erase(hit.id)
    else:
        memory.delete(hit.id)
        memory.compact()
    assert applied(memory) == (0, VERSION)
    memory.close()
    assert how == "compact" or not [
        file for file in store.rglob("*") if file.is_file() and b"celand" in file.read_bytes()
    ]
    with open_memory(settings=IDLE, embedder=None, clock=None) as again:
        assert not again.search("Iceland", user_id="ben", mode="keyword")
        check(again)


def test_an_index_of_a_later_version_is_made_anew_too(memory: Memory) -> None:
    check(memory)
    memory.handle.engine().write(lambda repository: repository.set_meta(meta.KEYWORDS_TERMS, VERSION + 1))
    assert memory.handle.engine().keywords.applied_seq() == 0
    assert [hit.content for hit in memory.search("cafe", user_id="ben", mode="keyword")] == [CAFE]
    check(memory)
