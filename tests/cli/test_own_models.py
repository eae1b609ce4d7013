"""Stores whose model is an object of a program, on the command line, which does not run that program."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from shell import Shell

from agentmem import InvalidInputError, Memory, ModelMismatchError, Settings
from agentmem.embedding.naming import imported

MODULE = """
import numpy as np

class Letters:
    name, dim = "letters", 26

    def embed_documents(self, texts):
        return np.array([[0.1 + text.lower().count(chr(97 + at)) for at in range(26)] for text in texts], np.float32)

    def embed_query(self, text):
        return self.embed_documents([text])[0]

class Models:
    letters = Letters()

letters = Letters()
nothing = 3
"""


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    (tmp_path / "own_models_of_tests.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "own_models_of_tests", raising=False)
    with Memory(tmp_path / "store", embedder=imported("own_models_of_tests:letters")) as memory:
        memory.add_many([f"violin lesson {at}" for at in range(5)], user_id="ana")
        memory.put("tea", content="green tea", user_id="ana")
        memory.values.put("notes", b"abc")
    return Shell(tmp_path / "store")


def test_what_embeds_nothing_needs_no_model(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTMEM_MEMORY__BACKUP__URL", str(tmp_path / "backups"))
    assert shell.json("stats")["model"] == "letters"
    assert len(shell.json("list", "--user", "ana")) == 6
    assert shell.json("count", "--user", "ana") == {"records": 6}
    assert shell.json("get", "--key", "tea", "--user", "ana")["content"] == "green tea"
    assert len(shell.json("search", "violin", "--user", "ana", "--mode", "keyword")) == 5
    assert shell("value", "get", "notes").stdout == "abc"
    assert len(shell("export", "--user", "ana").stdout.splitlines()) == 6
    assert shell.json("verify")["ok"]
    assert shell.json("repair")["ok"]
    shell.json("compact")
    shell.json("sweep")
    shell.json("backup", "create")
    shell.json("snapshot", "create", "before")
    [hit] = shell.json("search", "green", "--user", "ana", "--mode", "keyword")
    shell.json("delete", hit["record"]["id"])
    assert shell.json("count", "--user", "ana") == {"records": 5}
    found = {one["what"]: (one["state"], one["message"]) for one in shell.json("doctor", "--deep")["found"]}
    assert found["model"][0] == "warning"
    assert "AGENTMEM_MEMORY__EMBEDDER" in found["model"][1]
    assert found["verify"][0] == "ok"


def test_what_embeds_says_how_to_name_it(shell: Shell) -> None:
    for command in (
        ("add", "more", "--user", "ana"), ("search", "violin", "--user", "ana"),
        ("search", "violin", "--user", "ana", "--mode", "vector"), ("put", "tea", "black tea", "--user", "ana"),
    ):  # fmt: skip
        result = shell(*command)
        assert result.exit_code == 1, command
        assert "module:object, the setting embedder (AGENTMEM_MEMORY__EMBEDDER)" in result.stderr, command
        assert "Traceback" not in result.output
    result = shell("mcp", "--user", "ana")
    assert (result.exit_code, "AGENTMEM_MEMORY__EMBEDDER" in result.stderr) == (1, True)
    assert shell.json("count", "--user", "ana") == {"records": 6}


def test_a_model_by_its_name(shell: Shell) -> None:
    for at, name in enumerate(("own_models_of_tests:letters", "own_models_of_tests:Models.letters")):
        named = {"AGENTMEM_MEMORY__EMBEDDER": name}
        result = shell("search", "violin", "--user", "ana", "--mode", "vector", "--json", **named)
        assert len(json.loads(result.stdout)) == 6 + at, result.output
        assert shell("add", f"another, {name}", "--user", "ana", **named).exit_code == 0
        found = json.loads(shell("doctor", **named).stdout)["found"]
        assert [one["state"] for one in found if one["what"] == "model"] == ["ok"]
    with Memory(shell.folder, settings=Settings(embedder="own_models_of_tests:letters")) as memory:
        assert memory.search("violin", user_id="ana", mode="vector")
    # The store itself names nothing that would be imported.
    with pytest.raises(ModelMismatchError, match="by embedder= or, as module:object"):
        Memory(shell.folder).stats()


def test_a_store_moves_to_a_model_by_its_name_and_away(shell: Shell) -> None:
    assert shell.json("reembed")["from_model"] == "letters"
    assert shell.json("reembed", "own_models_of_tests:letters")["to_model"] == "letters"
    assert shell("search", "violin", "--user", "ana").exit_code == 1


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("own_models_of_tests:letter", "has no attribute"),
        ("no_module_of_tests:x", "PYTHONPATH"),
        ("own_models_of_tests:Letters", "class Letters"),
        ("own_models_of_tests:nothing", "must be None, a model's name"),
    ],
)
def test_names_of_no_model(shell: Shell, name: str, hint: str) -> None:
    result = shell("stats", AGENTMEM_MEMORY__EMBEDDER=name)
    assert result.exit_code == 1
    assert hint in result.stderr
    with pytest.raises(InvalidInputError, match=hint):
        Memory(shell.folder, settings=Settings(embedder=name)).stats()


def test_another_model_by_its_name_is_refused(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "others_of_tests.py").write_text(MODULE.replace('"letters", 26', '"other", 26'))
    with pytest.raises(ModelMismatchError, match=r"'letters'.*cannot be used with 'other'"):
        Memory(shell.folder, settings=Settings(embedder="others_of_tests:letters")).stats()
    model = imported("own_models_of_tests:letters")
    with Memory(shell.folder, embedder=model, settings=Settings(embedder="others_of_tests:letters")) as memory:
        assert np.asarray(memory.embed(["abc"])).shape == (1, 26)
