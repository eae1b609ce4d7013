"""Settings from code, environment and file: what goes before what, and errors that name the key."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, FakeClock
from typer.testing import CliRunner

from agentmem import InvalidInputError, Memory, Settings
from agentmem.cli.app import app

FILE = """
[memory]
max_content_bytes = 5000

[memory.layers.interact]
ttl_hours = 12
max_size_mb = 100
eviction_policy = "lru"
promotion_threshold = 0.6

[memory.layers.insights]
ttl_days = 30

[memory.layers.assets]
ttl_days = 0

[memory.performance]
hnsw_m = 32
hnsw_ef_construction = 100
hnsw_ef_search = 50
embedding_cache_size = 5
query_cache_ttl_minutes = 10
batch_size = 16
batch_timeout_ms = 50
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with no file of settings."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_classic_sections_and_keys(elsewhere: Path) -> None:
    (elsewhere / "agentmem.toml").write_text(FILE)
    settings = Settings()
    assert settings.layers.interact.ttl_hours == 12
    assert settings.layers.interact.eviction_policy == "lru"
    assert settings.layers.interact.promotion_accesses == 3
    assert settings.layers.insights.ttl_days == 30
    assert settings.performance.hnsw_m == 32
    assert settings.performance.batch_timeout_ms == 50
    assert settings.max_content_bytes == 5_000


def test_code_goes_before_environment_before_file(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "other.toml").write_text(FILE)
    monkeypatch.setenv("AGENTMEM_CONFIG", "other.toml")
    monkeypatch.setenv("AGENTMEM_MEMORY__LAYERS__INTERACT__MAX_SIZE_MB", "200")
    monkeypatch.setenv("AGENTMEM_MEMORY__PERFORMANCE__BATCH_SIZE", "8")
    settings = Settings(layers={"interact": {"promotion_threshold": 0.5}}, batch_size=4)
    interact = settings.layers.interact
    assert (interact.ttl_hours, interact.max_size_mb, interact.promotion_threshold) == (12, 200, 0.5)
    assert (settings.performance.batch_size, settings.performance.hnsw_m) == (4, 32)
    assert Settings.load(elsewhere / "other.toml").performance.batch_size == 8


def test_flat_and_sectioned_are_the_same() -> None:
    assert Settings(arena_limit=5) == Settings(performance={"arena_limit": 5})
    assert Settings(arena_limit=5) != Settings()
    assert pickle.loads(pickle.dumps(Settings(arena_limit=5))) == Settings(arena_limit=5)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"layers": {"interact": {"ttl_days": 1}}}, "layers.interact.ttl_days"),
        ({"layers": {"interact": {"ttl_hours": -1}}}, "layers.interact.ttl_hours"),
        ({"layers": {"assets": {"eviction_policy": "lru"}}}, "layers.assets.eviction_policy"),
        ({"layers": {"attic": {}}}, "layers.attic"),
        ({"performance": {"hnsw": 3}}, "performance.hnsw"),
        ({"hnsw_m": 0}, "hnsw_m"),
        ({"lifecycle": {"promotion_gate": "some"}}, "lifecycle.promotion_gate"),
        ({"layers": 5}, "layers"),
        ({"colour": 1}, "colour"),
    ],
    ids=str,
)
def test_errors_name_the_key(values: dict[str, Any], key: str, elsewhere: Path) -> None:
    with pytest.raises(InvalidInputError, match=key) as caught:
        Settings(**values)
    assert caught.value.field == key
    if key != "hnsw_m":
        section = {"memory": values}
        (elsewhere / "agentmem.toml").write_text(toml(section))
        with pytest.raises(InvalidInputError, match=key):
            Settings()


def toml(values: dict[str, Any], path: str = "") -> str:
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    text = (f"[{path}]\n" if path else "") + "".join(f"{key} = {json.dumps(value)}\n" for key, value in plain.items())
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    return text + "".join(toml(value, f"{path}.{key}" if path else key) for key, value in tables.items())


@pytest.mark.parametrize(
    ("variable", "value", "key"),
    [
        ("AGENTMEM_MEMORY__LAYERS__INTERACT__TTL", "1", "layers.interact.ttl"),
        ("AGENTMEM_MEMORY__BATCH_SIZE", "1", "batch_size"),
        ("AGENTMEM_MEMORY__PERFORMANCE__BATCH_SIZE", "many", "performance.batch_size"),
        ("AGENTMEM_MEMORY__LAYERS", "many", "layers"),
        ("AGENTMEM_MEMORY__", "1", ""),
    ],
)
def test_variables_that_are_wrong(variable: str, value: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidInputError) as caught:
        Settings()
    assert caught.value.field == key


@pytest.mark.parametrize("text", ["[memory\n", "[server]\nport = 1\n", "memory = 1\n", "ttl_hours = 1\n"])
def test_files_that_are_wrong(text: str, elsewhere: Path) -> None:
    (elsewhere / "agentmem.toml").write_text(text)
    with pytest.raises(InvalidInputError, match=r"agentmem\.toml"):
        Settings()
    with pytest.raises(InvalidInputError, match="cannot be read"):
        Settings.load("missing.toml")


def test_config_show_says_where_from(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "agentmem.toml").write_text(FILE)
    monkeypatch.setenv("AGENTMEM_MEMORY__PERFORMANCE__BATCH_SIZE", "8")
    done = CliRunner().invoke(app, ["config", "show"])
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert shown["layers.interact.ttl_hours"] == {"value": 12.0, "from": "agentmem.toml"}
    assert shown["performance.batch_size"] == {"value": 8, "from": "environment"}
    assert shown["lifecycle.promotion_gate"] == {"value": "all", "from": "default"}
    assert shown.keys() == Settings().flat().keys()


def test_config_check(elsewhere: Path) -> None:
    file = elsewhere / "mine.toml"
    file.write_text("[memory.layers.insights]\nttl_days = 30\n")
    done = CliRunner().invoke(app, ["config", "check", "--file", str(file)])
    assert (done.exit_code, done.output) == (0, "The settings are in order. Given: layers.insights.ttl_days.\n")
    file.write_text("[memory.layers.insights]\nttl_hours = 30\n")
    done = CliRunner().invoke(app, ["config", "check", "--file", str(file)])
    assert done.exit_code == 1
    assert "layers.insights.ttl_hours" in done.output


def test_pydantic_settings_is_not_imported_for_nothing() -> None:
    code = "import sys; from agentmem import Settings; Settings(); print('pydantic_settings' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("layer", ["interact", "insights", "assets"])
def test_messages_go_where_the_setting_says(open_memory: Callable[..., Memory], layer: str, clock: FakeClock) -> None:
    memory = open_memory(settings=Settings(message_layer=layer, default_layer="insights"))
    said = memory.add({"role": "user", "content": "call me Jo"}, user_id="jo", run_id="hello").record
    assert said.layer == layer
    others = {
        "insights": memory.add("Jo is a diver", user_id="jo").record,
        "interact": memory.add({"role": "user", "content": "x", "kind": "session_data"}, user_id="jo").record,
        "assets": memory.add({"role": "user", "content": "y", "layer": "assets"}, user_id="jo").record,
    }
    assert {expected: record.layer for expected, record in others.items()} == {name: name for name in others}
    clock.advance(25 * 3_600)
    memory.lifecycle.sweep()
    assert (memory.get(said.id) is None) == (layer == "interact")


def test_messages_live_a_day_and_the_environment_can_keep_them(
    open_memory: Callable[..., Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Settings().message_layer == "interact"
    monkeypatch.setenv("AGENTMEM_MEMORY__MESSAGE_LAYER", "insights")
    assert open_memory().add({"role": "user", "content": "call me Jo"}).record.layer == "insights"
    with pytest.raises(InvalidInputError, match="message_layer"):
        Settings(message_layer="attic")


def test_a_newcomer_reads_how_long_a_turn_lives() -> None:
    for page, words in {"README.md": "messages live a day", "docs/quickstart.md": "A turn lives for a day"}.items():
        text = (ROOT / page).read_text(encoding="utf-8")
        assert words in text
        assert "message_layer" in text
    assert "message_layer" in (ROOT / "examples" / "chatbot.py").read_text(encoding="utf-8")
