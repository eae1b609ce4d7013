"""Every endpoint that reads, asked with every kind of key: of marked texts in each scope none shows beyond its wall."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from served import Served

from agentmem.server.routes import ENDPOINTS

PLACES = [
    ("una", None, ()), ("una", "bot", ()), ("una", "cat", ()), ("una", None, ("x",)), ("una", "bot", ("x", "y")),
    ("una", None, ("z",)), ("udo", None, ()), ("udo", "bot", ("x",)), (None, None, ()), (None, "bot", ("x",)),
]  # fmt: skip
KEYS = [
    ({"user_id": "una"}, lambda user, agent, path: user == "una"),
    ({"user_id": "una", "agent_id": "bot"}, lambda user, agent, path: (user, agent) == ("una", "bot")),
    ({"user_id": "una", "namespace": ["x"]}, lambda user, agent, path: user == "una" and path[:1] == ("x",)),
    ({}, lambda user, agent, path: user is None),
    ({"agent_id": "bot"}, lambda user, agent, path: (user, agent) == (None, "bot")),
]
ASKED = [{}, {"agent_id": "cat"}, {"under": ""}, {"namespace": "z"}, {"user_id": "udo"}, {"run_id": "run"}]
BODY = {"query": "lantern", "queries": ["lantern"], "max_tokens": 900}


@pytest.fixture(scope="module")
def ids(served: Served) -> list[str]:
    """In each place a memory, one that was deleted, one with a key, a session with working memory, and a block."""
    found = list[str]()
    for number, (user, agent, path) in enumerate(PLACES):
        whose: dict[str, Any] = {} if user is None else {"user_id": user}
        place = {**whose, **({} if agent is None else {"agent_id": agent}), "namespace": list(path) or ""}
        said = {"agent_id": agent, "namespace": list(path)}

        def call(method: str, url: str, params: dict[str, Any], body: dict[str, Any]) -> Any:
            answer = served.call(method, url, "boss", params=params, json=body)
            assert answer.status_code in (200, 201), answer.text
            return answer.json()

        mark = f"mark{number}."
        for kind in ("kept", "gone"):
            body = {"content": f"{kind} lantern {mark}", "run_id": "run", "metadata": {"m": mark}, **said}
            found.append(call("POST", "/v1/memories", whose, body)["id"])
        call("PATCH", f"/v1/memories/{found[-2]}", whose, {"metadata": {"n": mark}})
        served.call("DELETE", f"/v1/memories/{found[-1]}", "boss", params=whose)
        if agent is None:  # a key is there once in a namespace
            values = served.memory.blocking.values
            values.put("key", f"value {mark}", user_id=user, namespace=path)
            values.attach(found[-2], "key")
            call("PUT", "/v1/keyed/key", whose, {"content": f"keyed {mark}", **said})
        call("POST", "/v1/sessions/run/turns", place, {"messages": [{"role": "user", "content": f"said {mark}"}]})
        call("PUT", "/v1/sessions/run/working", place, {"value": {"w": mark}})
        call("POST", "/v1/blocks/label", place, {"value": f"block {mark}"})
    return found


@pytest.mark.parametrize(("walls", "within"), KEYS)
def test_nothing_shows_beyond_the_wall_of_a_key(
    served: Served, ids: list[str], walls: dict[str, Any], within: Callable[..., bool]
) -> None:
    token = served.key(**walls)
    beyond = [f"mark{number}." for number, place in enumerate(PLACES) if not within(*place)]
    shown = ""
    for endpoint in ENDPOINTS:
        if endpoint.scope != "read":
            continue
        fields = set(endpoint.query.model_fields) if endpoint.query else set()
        body = {} if endpoint.body is None else {"json": _of(BODY, endpoint.body.model_fields)}
        names = {"{id}": ids, "{run_id}": ["run"], "{key}": ["key"], "{label}": ["label"], "{field}": ["m"]}
        name = endpoint.path[endpoint.path.find("{") : endpoint.path.find("}") + 1]
        for value in names.get(name, [""]):
            path = endpoint.path.replace(name, value) if name else endpoint.path
            for asked in ASKED[: 1 if name == "{id}" else None]:
                if not set(asked) - fields:
                    if endpoint.events:  # a stream that has no end by itself
                        asked = {**asked, "seconds": 0.01, "after": 0}
                    text = served.call(endpoint.method, path, token, params=asked, **body).text
                    assert not [mark for mark in beyond if mark in text], (endpoint.path, asked)
                    shown += text
    assert any(f"mark{number}." in shown for number, place in enumerate(PLACES) if within(*place))


def _of(values: dict[str, Any], names: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in names}
