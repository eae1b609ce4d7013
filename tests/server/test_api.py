"""What endpoints do, called as any client of HTTP calls them."""

from __future__ import annotations

import json
from collections.abc import Callable
from inspect import signature
from urllib.parse import quote

import pytest
from pydantic import BaseModel
from served import Served

from agentmem import Memory, Session
from agentmem.server.limits import Limits
from agentmem.server.reading import queried
from agentmem.server.routes import ENDPOINTS, changing, keyed, models, prompts, search, streams


def test_one_memory_from_its_first_day_to_its_last(served: Served) -> None:
    made = served.call("POST", "/v1/memories", "eve", json={"content": "Eve likes tea", "metadata": {"topic": "food"}})
    assert (made.status_code, made.headers["etag"]) == (201, '"1"')
    path = f"/v1/memories/{made.json()['id']}"
    assert served.call("GET", path, "eve").json()["content"] == "Eve likes tea"
    assert served.call("GET", path, "eve", headers={"if-none-match": '"1"'}).status_code == 304
    found = served.call("POST", "/v1/search", "eve", json={"query": "tea", "explain": True}).json()
    assert found["hits"][0]["record"]["id"] == made.json()["id"]
    assert found["hits"][0]["details"]["matched_terms"] == ["tea"]
    changed = served.call("PATCH", path, "eve", json={"metadata": {"hot": True}}, headers={"if-match": '"1"'})
    assert (changed.json()["metadata"], changed.headers["etag"]) == ({"topic": "food", "hot": True}, '"2"')
    late = served.call("PATCH", path, "eve", json={"content": "x"}, headers={"if-match": '"1"'})
    assert (late.status_code, late.json()["title"]) == (409, "ConflictError")
    assert served.call("POST", f"{path}/feedback", "eve", json={"rating": 5}).json() == {"done": True}
    assert served.call("POST", f"{path}/pin", "eve").json()["pinned"]
    assert served.call("DELETE", path, "eve").json() == {"done": True}
    assert served.call("DELETE", path, "eve").json() == {"done": False}
    assert served.call("GET", path, "eve").status_code == 404
    assert served.call("GET", path, "eve", params={"deleted": "true"}).status_code == 200
    assert served.call("POST", f"{path}/restore", "eve").status_code == 200
    events = [event["event"] for event in served.call("GET", f"{path}/history", "eve").json()]
    assert events[:2] == ["ADD", "UPDATE"]
    assert events[-2:] == ["DELETE", "RESTORE"]
    assert served.call("POST", f"{path}/erase", "eve").json()["erased"] == 1
    assert served.call("GET", path, "eve", params={"deleted": "true"}).status_code == 404


def test_what_is_left_out_stays_and_null_removes(served: Served) -> None:
    id = served.add("Nil", "nil", importance=0.7, data={"a": 1})
    path = f"/v1/memories/{id}"
    assert served.call("PATCH", path, "nil", json={"data": None}).json()["importance"] == 0.7
    record = served.call("PATCH", path, "nil", json={"importance": None}).json()
    assert (record["importance"], record["data"], record["content"]) == (None, None, "Nil")


def test_data_comes_back_as_it_was(served: Served) -> None:
    data = {"big": 2**63 - 1, "exact": 9007199254740993, "float": 0.1, "text": "ü\u2028", "deep": [[[{"a": None}]]]}
    id = served.add("data", "dan", data=data)
    assert served.call("GET", f"/v1/memories/{id}", "dan").json()["data"] == data


def test_ids_and_keys_may_hold_anything(served: Served) -> None:
    for name in ("a/b", "../..", "a b?c#d%", "ö/../x", "search", "{}", "count"):
        path = quote(name, safe="") if name != "count" else "%63ount"
        served.add(f"called {name}", "odd", id=name)
        assert served.call("GET", f"/v1/memories/{path}", "odd").json()["id"] == name
        assert served.call("PUT", f"/v1/keyed/{path}", "odd", json={"data": name}).json()["status"] == "added"
        assert served.call("GET", f"/v1/keyed/{path}", "odd").json()["data"] == name


def test_a_key_is_put_only_over_the_version_that_was_read(served: Served) -> None:
    first = {"if-none-match": "*"}
    assert served.call("PUT", "/v1/keyed/plan", "kim", json={"data": 1}, headers=first).status_code == 200
    assert served.call("PUT", "/v1/keyed/plan", "kim", json={"data": 2}, headers=first).status_code == 409
    tag = served.call("GET", "/v1/keyed/plan", "kim").headers["etag"]
    replaced = served.call("PUT", "/v1/keyed/plan", "kim", json={"data": 3}, headers={"if-match": tag})
    assert replaced.json()["status"] == "replaced"
    assert served.call("DELETE", "/v1/keyed/plan", "kim", headers={"if-match": tag}).status_code == 409
    assert served.call("DELETE", "/v1/keyed/plan", "kim").json() == {"done": True}


def test_a_batch_is_added_as_a_whole_or_in_part(served: Served) -> None:
    items = ["one", {"content": "two"}, {"role": "user", "content": "three"}, {"content": 4}]
    refused = served.call("POST", "/v1/memories/batch", "bea", json={"items": items})
    assert (refused.status_code, refused.json()["index"]) == (422, 3)
    assert served.call("GET", "/v1/memories/count", "bea").json() == {"count": 0}
    made = served.call("POST", "/v1/memories/batch", "bea", json={"items": items, "on_error": "skip"}).json()
    assert [one["status"] for one in made["results"]] == ["added"] * 3
    assert [one["index"] for one in made["skipped"]] == [3]


def test_pages_lead_to_the_next_one(served: Served) -> None:
    served.call("POST", "/v1/memories/batch", "pat", json={"items": [f"memory {n}" for n in range(25)]})
    seen, cursor = list[str](), None
    while True:
        query = {"limit": "10", "order": "oldest"} | ({"cursor": cursor} if cursor else {})
        page = served.call("GET", "/v1/memories", "pat", params=query).json()
        seen += [record["content"] for record in page["records"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert seen == [f"memory {n}" for n in range(25)]
    odd = {"filters": json.dumps({"$content": {"$in": ["memory 1", "memory 3"]}})}
    assert served.call("GET", "/v1/memories/count", "pat", params=odd).json()["count"] == 2


def test_lines_go_in_and_come_out(served: Served) -> None:
    lines = "\n".join(json.dumps({"content": f"line {n}"}) for n in range(2_500))
    query = {"chunk": "1000", "ids": "true"}
    added = served.call("POST", "/v1/memories/stream", "lin", content=lines.encode(), params=query)
    told = [json.loads(line) for line in added.text.splitlines()]
    assert [one["through"] for one in told] == [1_000, 2_000, 2_500]
    assert sum(len(one["ids"]) for one in told) == sum(one["added"] for one in told) == 2_500
    out = served.call("GET", "/v1/memories/stream", "lin", params={"order": "oldest"})
    assert [json.loads(line)["content"] for line in out.text.splitlines()] == [f"line {n}" for n in range(2_500)]


def test_a_stream_that_breaks_says_where(served: Served) -> None:
    lines = [json.dumps(f"line {n}") for n in range(15)] + ["{broken"] + ['"never"']
    answer = served.call("POST", "/v1/memories/stream", "bro", content="\n".join(lines), params={"chunk": "10"})
    told = [json.loads(line) for line in answer.text.splitlines()]
    assert told[0]["through"] == 10
    assert told[-1]["error"]["title"] == "InvalidInputError"
    assert served.call("GET", "/v1/memories/count", "bro").json() == {"count": 10}


def test_lines_of_one_store_are_taken_by_another(served: Served, serve: Callable[..., Served]) -> None:
    served.add("Exa plays the cello", "exa", id="cello", namespace=["music"], occurred_at="2024-05-01T00:00:00Z")
    served.add("a sign", "exa", id="sign", embed=["what a sign may mean", "a mark"])
    [vector] = served.call("GET", "/v1/memories/cello/vectors", "exa").json()["vectors"]
    served.add("a number", "exa", id="number", vector=[0.5] * len(vector))
    served.call("POST", "/v1/sessions/talk/turns", "exa", json={"messages": [{"role": "user", "content": "hello"}]})
    served.call("POST", "/v1/blocks/persona", "exa", json={"value": "calm"})
    served.call("POST", "/v1/memories", "exa", json={"content": "b"}, headers={"idempotency-key": "b"})
    whole = {"vectors": "true", "under": ""}
    lines = served.call("GET", "/v1/memories/stream", "exa", params=whole).text
    other = serve()
    taken = other.call("POST", "/v1/memories/stream", "exa", content=lines)
    assert json.loads(taken.text)["added"] == 7, taken.text
    assert other.call("GET", "/v1/sessions/talk/turns", "exa").json()[0]["message"]["content"] == "hello"
    assert other.call("GET", "/v1/blocks/persona", "exa").json()["value"] == "calm"
    assert other.call("GET", "/v1/memories/stream", "exa", params=whole).text.count("2024-05-01") == 1
    for id in ("cello", "sign", "number"):
        path = f"/v1/memories/{id}/vectors"
        assert other.call("GET", path, "exa").json() == served.call("GET", path, "exa").json()
    refused = json.loads(other.call("POST", "/v1/memories/stream", "eva", content=lines).text)
    assert (refused["error"]["field"], refused["error"]["index"]) == ("user_id", 0)
    assert other.call("GET", "/v1/memories/count", "eva", params={"under": ""}).json() == {"count": 0}


def test_administrators_move_everybody(serve: Callable[..., Served]) -> None:
    one, other, everybody = serve(), serve(), {"all_users": "true", "under": ""}
    for user in ("ana", "bob"):
        one.add(f"of {user}", user)
    one.call("POST", "/v1/memories", "boss", json={"content": "of nobody"})
    lines = one.call("GET", "/v1/memories/stream", "boss", params=everybody).text
    told = other.call("POST", "/v1/memories/stream", "boss", params={"all_users": "true"}, content=lines)
    assert json.loads(told.text)["added"] == 3
    assert other.call("GET", "/v1/memories", "bob").json()["records"][0]["content"] == "of bob"
    for method in ("GET", "POST"):
        reader = one.key(any_user=True, scopes=["read", "write"])
        for key in ("ana", reader):
            answer = one.call(method, "/v1/memories/stream", key, params={"all_users": "true"})
            assert answer.status_code == 403
        both = one.call(method, "/v1/memories/stream", "boss", params={"all_users": "true", "user_id": "ana"})
        assert both.status_code == 422


def test_what_is_repeated_happens_once(served: Served) -> None:
    body, once = {"content": "said once", "role": "user", "run_id": "r"}, {"idempotency-key": "k-1"}
    first, second = (served.call("POST", "/v1/memories", "ida", json=body, headers=once) for _ in range(2))
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert served.call("GET", "/v1/memories/count", "ida").json() == {"count": 1}
    other = served.call("POST", "/v1/memories", "ida", json={**body, "content": "another"}, headers=once)
    assert (other.status_code, other.json()["title"]) == (409, "ConflictError")
    assert served.call("POST", "/v1/memories", "ivo", json=body, headers=once).status_code == 201
    bad = served.call("POST", "/v1/memories", "ida", json={"content": ""}, headers={"idempotency-key": "k-2"})
    assert bad.status_code == 422
    again = served.call("POST", "/v1/memories", "ida", json={"content": "now"}, headers={"idempotency-key": "k-2"})
    assert again.status_code == 201


def test_a_repeated_change_answers_with_the_record_and_keeps_no_copy_of_it(served: Served) -> None:
    id = served.add("a secret wish", "wim")
    once = {"idempotency-key": "change"}
    changed = [
        served.call("PATCH", f"/v1/memories/{id}", "wim", json={"importance": 0.9}, headers=once) for _ in range(2)
    ]
    assert [one.json()["version"] for one in changed] == [2, 2]
    kept = served.call("GET", "/v1/memories", "wim", params={"under": ""}).text
    assert kept.count("a secret wish") == 1
    assert served.call("GET", "/v1/memories", "wim", headers=once).status_code == 400


def test_a_conversation(served: Served) -> None:
    path = "/v1/sessions/s 1"
    said = [{"role": "user", "content": "My cat is Miso"}, {"role": "assistant", "content": "Nice"}]
    turns = served.call("POST", f"{path}/turns", "sue", json={"messages": said})
    assert [turn["message"] for turn in turns.json()] == said
    assert served.call("GET", f"{path}/turns", "sue", params={"limit": "1"}).json()[0]["message"] == said[1]
    assert served.call("PATCH", path, "sue", json={"title": "Cats", "metadata": {"a": 1}}).json()["title"] == "Cats"
    assert [one["run_id"] for one in served.call("GET", "/v1/sessions", "sue").json()] == ["s 1"]
    set_ = served.call("PUT", f"{path}/working", "sue", json={"value": {"plan": [1]}})
    tag = {"if-match": set_.headers["etag"]}
    assert served.call("PATCH", f"{path}/working", "sue", json={"value": {"b": 2}}, headers=tag).status_code == 200
    assert served.call("PATCH", f"{path}/working", "sue", json={"value": {"c": 3}}, headers=tag).status_code == 409
    assert served.call("GET", f"{path}/working", "sue").json()["value"] == {"plan": [1], "b": 2}
    assert served.call("POST", "/v1/blocks/persona", "sue", json={"value": "Be kind."}).status_code == 201
    prompt = served.call("POST", f"{path}/prompt", "sue", json={"max_tokens": 2_000, "query": "cat"}).json()
    assert "Be kind." in prompt["messages"][0]["content"]
    assert prompt["manifest"]["max_tokens"] == 2_000
    assert [turn["message"] for turn in served.call("POST", f"{path}/pop", "sue", json={"n": 1}).json()] == said[1:]
    assert served.call("POST", f"{path}/close", "sue").json()["closed_at"]
    closed = served.call("POST", f"{path}/turns", "sue", json={"messages": said})
    assert (closed.status_code, closed.json()["title"]) == (409, "SessionClosedError")
    assert served.call("GET", "/v1/runs/s 1/recent", "sue").json()[0]["content"] == "My cat is Miso"
    assert served.call("DELETE", path, "sue").json() == {"done": True}
    assert served.call("GET", path, "sue").status_code == 404


def test_a_block_is_edited_by_its_version(served: Served) -> None:
    served.call("POST", "/v1/blocks/human", "bo", json={"value": "Bo.", "limit": 10})
    append = served.call("POST", "/v1/blocks/human/append", "bo", json={"text": " Tall."})
    assert append.json()["version"] == 2
    late = {"if-match": '"1"'}
    assert served.call("PUT", "/v1/blocks/human", "bo", json={"value": "x"}, headers=late).status_code == 409
    full = served.call("POST", "/v1/blocks/human/append", "bo", json={"text": "x" * 100})
    assert (full.status_code, full.json()["title"]) == (507, "BlockFullError")
    assert served.call("POST", "/v1/blocks/human/restore", "bo", json={"version": 1}).json()["value"] == "Bo."
    assert served.call("PATCH", "/v1/blocks/human", "bo", json={"read_only": True}).json()["read_only"]
    assert served.call("PUT", "/v1/blocks/human", "bo", json={"value": "x"}).json()["title"] == "BlockReadOnlyError"


def test_a_key_for_any_user_says_whose(served: Served) -> None:
    for user in ("una", "uwe"):
        asked = {"user_id": user}
        made = served.call("POST", "/v1/memories", "boss", json={"content": f"I am {user}"}, params=asked)
        assert made.status_code == 201
        found = served.call("POST", "/v1/search", "boss", json={"query": "who am I"}, params=asked).json()
        assert [hit["record"]["user_id"] for hit in found["hits"]] == [user]
    listed = served.call("GET", "/v1/users", "boss").json()["users"]
    assert {"una", "uwe"} <= {one["name"] for one in listed}


def test_whoever_is_erased_has_no_key_any_more(served: Served) -> None:
    served.add("Zed was here", "zed")
    assert served.call("DELETE", "/v1/users/zed", "zed").json()["erased"] == 1
    assert served.call("GET", "/v1/memories", "zed").status_code == 401
    assert served.call("GET", "/v1/users/zed/erasures", "boss").json()[0]["records"] == 1
    assert "zed" not in served.call("GET", "/v1/audit", "boss").text
    acts = [act["act"] for act in served.call("GET", "/v1/audit", "boss", params={"limit": 10_000}).json()]
    assert "user.erase" in acts


def test_a_user_who_was_erased_by_the_library_has_no_key_either(served: Served) -> None:
    served.add("Yul was here", "yul")
    served.memory.blocking.erase_all(user_id="yul")
    served.app.forget_looks()
    assert served.call("GET", "/v1/memories", "yul").json()["title"] == "InvalidKeyError"
    assert all(key.user_id != "yul" for key in served.keys.list())


def test_keys_are_made_by_administrators(served: Served) -> None:
    made = served.call("POST", "/v1/keys", "boss", json={"scopes": ["read"], "user_id": "kay", "expires_in": 60})
    assert made.status_code == 201
    key = made.json()
    assert served.call("GET", "/v1/memories", key["token"]).status_code == 200
    assert served.call("POST", "/v1/memories", key["token"], json={"content": "x"}).status_code == 403
    rotated = served.call("POST", f"/v1/keys/{key['id']}/rotate", "boss").json()
    assert served.call("GET", "/v1/memories", key["token"]).status_code == 401
    assert served.call("DELETE", f"/v1/keys/{rotated['id']}", "boss").json()["revoked_at"]
    assert served.call("GET", "/v1/memories", rotated["token"]).status_code == 401
    assert key["token"] not in served.call("GET", "/v1/keys", "boss").text
    assert served.call("DELETE", "/v1/keys/none", "boss").status_code == 404


def test_backups_go_where_the_settings_say(served: Served) -> None:
    made = served.call("POST", "/v1/backups", "boss", json={"kind": "snapshot"}).json()
    assert made["id"] in [one["id"] for one in served.call("GET", "/v1/backups", "boss").json()]
    assert served.call("POST", f"/v1/backups/{made['id']}/verify", "boss", json={"quick": True}).json()["ok"]
    assert served.call("DELETE", f"/v1/backups/{made['id']}", "boss").status_code == 200


def test_a_restore_in_place_leaves_the_keys_as_they_are(serve: Callable[..., Served]) -> None:
    served = serve()
    served.add("before", "ana")
    old = served.key(user_id="ana")
    made = served.call("POST", "/v1/backups", "boss", json={}).json()
    served.add("after", "ana")
    served.call("DELETE", f"/v1/keys/{old.split('_')[1]}", "boss")
    restored = served.call("POST", f"/v1/backups/{made['id']}/restore", "boss", json={})
    assert restored.status_code == 200, restored.text
    contents = [one["content"] for one in served.call("GET", "/v1/memories", "ana").json()["records"]]
    assert contents == ["before"]
    assert served.call("GET", "/v1/memories", old).status_code == 401


def test_the_store_as_a_whole(served: Served) -> None:
    for path in ("stats", "health", "events", "admin/tiers", "audit"):
        assert served.call("GET", f"/v1/{path}", "boss").status_code == 200, path
    for path in ("flush", "sweep", "verify", "repair", "compact"):
        assert served.call("POST", f"/v1/admin/{path}", "boss").status_code == 200, path


def test_live_touches_nothing_and_ready_reads(served: Served) -> None:
    assert served.call("GET", "/health/live").json() == {"status": "ok"}
    assert served.call("GET", "/health/ready").json() == {"status": "ok"}
    assert served.call("HEAD", "/health/live").content == b""


def test_a_server_that_cannot_read_is_not_ready(serve: Callable[..., Served]) -> None:
    served = serve()
    served.memory.blocking.add("x")
    served.path.rename(served.path.with_name("away"))
    assert served.call("GET", "/health/live").status_code == 200
    assert served.call("GET", "/health/ready").status_code == 503
    served.path.with_name("away").rename(served.path)


def test_a_key_is_slowed_down_alone(serve: Callable[..., Served]) -> None:
    served = serve(limits=Limits(per_minute=1_000))
    slow, other = served.key(user_id="ana", per_minute=2), served.key(user_id="ana")
    codes = [served.call("GET", "/v1/memories", slow).status_code for _ in range(4)]
    assert codes == [200, 200, 429, 429]
    refused = served.call("GET", "/v1/memories", slow)
    assert (refused.json()["title"], refused.headers["retry-after"]) == ("RateLimitError", "30")
    assert served.call("GET", "/v1/memories", other).status_code == 200


def test_without_keys_this_machine_has_all_until_there_is_one(serve: Callable[..., Served]) -> None:
    served = serve(open=True)
    assert served.call("POST", "/v1/memories", json={"content": "x"}).status_code == 201
    assert served.call("GET", "/v1/stats").status_code == 200
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"}):
        assert served.call("GET", "/v1/memories", headers=headers).status_code == 403
    served.key(user_id="ana")
    assert served.call("GET", "/v1/memories").status_code == 401


@pytest.mark.parametrize("scope", ["read", "write", "erase", "admin"])
def test_each_endpoint_asks_for_its_scope(served: Served, scope: str) -> None:
    lacking = served.key(any_user=True, scopes=[one for one in ("read", "write", "erase", "admin") if one != scope])
    asking = [endpoint for endpoint in ENDPOINTS if endpoint.scope == scope]
    assert asking
    for endpoint in asking:
        path = endpoint.path.replace("{", "").replace("}", "")
        assert served.call(endpoint.method, path).status_code == 401, endpoint
        refused = served.call(endpoint.method, path, lacking)
        assert (refused.status_code, refused.json()["title"]) == (403, "AccessDeniedError"), endpoint
        assert not endpoint.whole or scope == "admin"


def test_nothing_but_health_and_the_description_is_for_everybody() -> None:
    assert {endpoint.path for endpoint in ENDPOINTS if endpoint.scope is None} == {
        "/health/live", "/health/ready", "/openapi.json",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "call"),
    [
        (models.Item, Memory.add), (models.KeyedItem, Memory.put), (models.Batch, Memory.add_many),
        (models.Streamed, Memory.add_stream), (models.Search, Memory.search), (models.SearchMany, Memory.search_many),
        (models.Context, Memory.context), (models.Patch, Memory.update), (models.Rating, Memory.feedback),
        (models.Paged, Memory.page), (models.Listed, Memory.count), (models.Listed, Memory.distinct),
        (models.OfUser, Memory.scoped), (streams.Iterated, Memory.iterate), (changing.Doomed, Memory.delete_all),
        (models.Where, Memory.erase_all),
        (changing.GonePaged, Memory.deleted), (changing.GoneBack, Memory.restore_all), (search.Recent, Memory.recent),
        (search.Spaces, Memory.namespaces), (search.Around, Memory.kinds), (keyed.Read, Memory.get),
        (prompts.PromptWanted, Memory.search),
    ],
    ids=lambda one: one.__name__,
)  # fmt: skip
def test_what_a_body_says_is_what_the_call_takes(model: type[BaseModel], call: Callable[..., object]) -> None:
    # Items are given apart from their arguments, and of prompts the rest is the session's.
    apart = {"content", "items", "queries", "ids", "vectors", "all_users", "valid_from", "valid_to"}
    if model is prompts.PromptWanted:
        apart |= set(signature(Session.prompt).parameters)
    assert set(model.model_fields) - apart <= set(signature(call).parameters)


@pytest.mark.parametrize(
    ("model", "call"),
    [(models.Search, Memory.search), (models.SearchMany, Memory.search_many), (models.Paged, Memory.page)],
)
def test_a_search_may_say_all_that_the_call_takes(model: type[BaseModel], call: Callable[..., object]) -> None:
    assert set(signature(call).parameters) - {"self", "user_id"} <= set(model.model_fields)


def test_a_fact_is_true_for_a_time(served: Served) -> None:
    served.add("Val lives in Rome", "val", valid_from="2020-01-01T00:00:00Z", valid_to="2022-01-01T00:00:00Z")
    for at, count in (("2021-01-01T00:00:00Z", 1), ("2023-01-01T00:00:00Z", 0)):
        body = {"query": "Where does Val live?", "valid_at": at}
        assert len(served.call("POST", "/v1/search", "val", json=body).json()["hits"]) == count
        many = served.call("POST", "/v1/search/batch", "val", json={"queries": [body["query"]], "valid_at": at})
        assert len(many.json()[0]["hits"]) == count


def test_each_request_is_told_with_the_path_of_its_endpoint(serve: Callable[..., Served]) -> None:
    told = list[tuple[str, str | None, int]]()
    served = serve(observe=lambda method, path, status, seconds: told.append((method, path, status)))
    served.call("GET", "/v1/memories/some-id", "ana")
    served.call("GET", "/nowhere")
    assert told == [("GET", "/v1/memories/{id}", 404), ("GET", None, 404)]


def test_a_list_may_be_in_a_query() -> None:
    for model in {endpoint.query for endpoint in ENDPOINTS if endpoint.query is not None}:
        for name, schema in model.model_json_schema()["properties"].items():
            if "array" in {one.get("type") for one in schema.get("anyOf", [schema])}:
                for said in (["interact"], ["interact", "assets"]):
                    query = "&".join(f"{name}={one}" for one in said)
                    assert getattr(queried(model, query.encode()), name) == said, (name, model)


def test_lists_are_of_some_kinds(served: Served) -> None:
    for kind in ("fact", "message", "note"):
        served.add(f"a {kind}", "kim", kind=kind)
    for kinds in (["fact"], ["fact", "note"]):
        asked = {"kinds": kinds, "touch": "false"}
        page = served.call("GET", "/v1/memories", "kim", params=asked).json()
        assert {one["kind"] for one in page["records"]} == set(kinds)
        lines = served.call("GET", "/v1/memories/stream", "kim", params=asked).text.splitlines()
        assert {json.loads(line)["kind"] for line in lines} == set(kinds)
        assert served.call("GET", "/v1/memories/count", "kim", params={"kinds": kinds}).json() == {"count": len(kinds)}
