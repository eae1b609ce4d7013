"""``agentmem consolidate``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_endpoint import Server, serving
from shell import Shell


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def test_from_messages_to_facts_and_back(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    shell, ana = Shell(tmp_path / "store"), ("--user", "ana")
    shell.json("add", "I like tea", "--role", "user", *ana)
    assert "consolidation.model" in shell.error("consolidate", "run", *ana)
    monkeypatch.setenv("AGENTMEM_MEMORY__CONSOLIDATION__MODEL", "m")
    monkeypatch.setenv("AGENTMEM_MEMORY__CONSOLIDATION__URL", server.url)
    assert shell.json("consolidate", "state", *ana)["waiting"] == 1
    draft = shell.json("consolidate", "run", "--dry-run", *ana)
    assert (draft["status"], draft["proposed"]) == ("done", 1)
    [proposal] = shell.json("consolidate", "proposals", "--run", draft["run_id"], *ana)
    assert (proposal["op"], proposal["text"], proposal["quotes"]) == ("ADD", "Likes tea.", ["I like tea"])
    done = shell.json("consolidate", "approve", proposal["id"], *ana)
    assert done["added"] == 1
    assert "Likes tea." in shell.texts(*ana)
    assert shell.json("consolidate", "revert", done["run_id"], *ana)["retracted"] == 1
    assert "no proposal" in shell.error("consolidate", "approve", proposal["id"], *ana)
    [day] = shell.json("consolidate", "spend", *ana)
    assert (day["calls"], day["input_tokens"], day["output_tokens"]) == (1, 100, 50)
    assert shell.json("consolidate", "spend", "--everybody") == [day]
    server.answer = lambda handler, asked: handler.send({"error": {"message": "oops"}}, 500)
    shell.json("add", "I like rain", "--role", "user", *ana)
    failed = shell("consolidate", "run", *ana)
    assert failed.exit_code == 1
    assert '"closed"' in failed.stdout
    assert shell.json("consolidate", "retry", *ana) == {"retried": 0}
    server.reset()
    assert shell.json("consolidate", "run", "--batches", "1", *ana)["added"] == 1
    assert shell.json("consolidate", "propose", *ana) == []
    assert shell.json("consolidate", "reject", *ana) == {"rejected": 0}
