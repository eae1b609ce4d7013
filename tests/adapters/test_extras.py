"""Adapters without their framework, or with another version of it, and without a client."""

from __future__ import annotations

from copy import deepcopy
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import pytest

from agentmem import InvalidInputError, Memory, MissingExtraError, Settings
from agentmem.adapters import versions
from agentmem.adapters.clients import Client

FRAMEWORKS = {
    "anthropic": "anthropic",
    "crewai": "crewai",
    "openai_agents": "agents",
    "pydantic_ai": "pydantic_ai",
    "strands": "strands",
}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_missing_framework_says_how_to_install_it(name: str) -> None:
    if find_spec(FRAMEWORKS[name]):
        pytest.skip(f"{name} is installed")
    with pytest.raises(MissingExtraError, match=rf"pip install 'agentmem-db\[{name.replace('_', '-')}\]'"):
        import_module(f"agentmem.adapters.{name}")


DISTRIBUTIONS = {"adk": "google-adk", "agent_framework": "agent-framework-core", "llamaindex": "llama-index-core"}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_missing_distribution_says_how_to_install_it(name: str) -> None:
    try:
        version(DISTRIBUTIONS[name])
    except PackageNotFoundError:
        with pytest.raises(MissingExtraError, match=rf"pip install 'agentmem-db\[{name.replace('_', '-')}\]'"):
            import_module(f"agentmem.adapters.{name}")
    else:
        pytest.skip(f"{DISTRIBUTIONS[name]} is installed")


@pytest.mark.parametrize("found", ["0.9", "1.9.9", "3.0.0", "3.1rc1", "10"])
def test_another_version_is_refused(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "version", lambda _: found)
    with pytest.raises(MissingExtraError, match=f"{found} is installed"):
        versions.require("x", at_least="2", below="3", extra="x")


@pytest.mark.parametrize("found", ["2", "2.0", "2.14.0rc1", "2.99.dev3+local"])
def test_a_version_in_between_is_taken(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "version", lambda _: found)
    versions.require("x", at_least="2", below="3", extra="x")


def test_what_is_no_client_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="a Memory, an AsyncMemory or a path"):
        Client(5)  # type: ignore[arg-type]
    with Memory(":memory:") as memory, pytest.raises(InvalidInputError, match="has its own"):
        Client(memory, Settings())


def test_a_copy_stands_on_the_same_client() -> None:
    own = {"client": Client(":memory:")}
    assert deepcopy(own)["client"].memory is own["client"].memory
    own["client"].close()
    with Memory(":memory:") as memory:
        assert deepcopy(Client(memory)).memory is memory
