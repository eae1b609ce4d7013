"""The description of the server: current, valid, and of everything."""

from __future__ import annotations

import json

import pytest
from conftest import ROOT

from agentmem.server import openapi
from agentmem.server.endpoint import Area, Router
from agentmem.server.routes import ENDPOINTS


def test_the_file_is_current() -> None:
    assert (ROOT / "docs" / "openapi.json").read_text(encoding="utf-8") == openapi.text()


def test_it_is_valid_and_describes_each_endpoint() -> None:
    described = json.loads(openapi.text())
    names = list[str]()
    for endpoint in openapi.described():
        operation = described["paths"][endpoint.path][endpoint.method.lower()]
        assert operation["summary"].endswith((".", ";", ",")) or operation["description"], endpoint
        assert str(endpoint.status) in operation["responses"]
        assert "422" not in operation["responses"]  # errors are problems, not what FastAPI would say
        assert (operation.get("security") is None) == (endpoint.scope is None)
        names.append(operation["operationId"])
    assert len(names) == len(set(names)) == len(ENDPOINTS) - 1
    text = json.dumps(described)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in described["components"]["schemas"]
        assert "__" not in name, "two models of one name"


def test_no_two_endpoints_are_one() -> None:
    area = Area("twice")
    for _ in range(2):
        area("GET", "/v1/memories/{id}", None)(lambda call: None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(AssertionError):
        Router(area.endpoints)
