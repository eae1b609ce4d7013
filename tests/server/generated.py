"""Drives a client that was generated from the description through every endpoint.

``test_generated.py`` runs it, with the client in the path: ``python generated.py URL TOKEN``, the token of a key for
any user with all scopes.

Each call goes through the generated function, and its answer through the generated model.
"""

from __future__ import annotations

import io
import sys
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, get_type_hints

import client.api
from client import AuthenticatedClient
from client.models import Problem
from client.types import File

LIBRARY = AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2], timeout=60)
ANA = {"user_id": "ana"}
BODYLESS = {"body": {}}
called = set[str]()


def call(name: str, *path: str, body: Any = None, status: int = 200, **query: Any) -> Any:
    """What an operation answers, by its id."""
    area = name.partition("_")[0]
    function = import_module(f"client.api.{area}.{name}").sync_detailed
    arguments: dict[str, Any] = {**query, "client": LIBRARY}
    if isinstance(body, bytes):
        arguments["body"] = File(payload=io.BytesIO(body))
    elif body is not None:
        arguments["body"] = get_type_hints(function)["body"].from_dict(body)
    answer = function(*path, **arguments)
    called.add(name)
    assert answer.status_code == status, (name, answer.status_code, answer.content)
    assert status >= 400 or not isinstance(answer.parsed, Problem), name
    assert status < 400 or isinstance(answer.parsed, Problem), name
    return answer.content if answer.parsed is None or isinstance(answer.parsed, File) else answer.parsed


def memories() -> None:
    added = call("memories_add", body={"content": "Ana likes tea", "metadata": {"topic": "food"}}, status=201, **ANA)
    id = added.id
    assert call("memories_get", id, **ANA).metadata["topic"] == "food"
    many = {"items": ["Ana has a cat", {"role": "user", "content": "Hello", "run_id": "r"}]}
    assert len(call("memories_add_many", body=many, status=201, **ANA).results) == 2
    assert call("memories_count", **ANA).count == 3
    assert len(call("memories_page", limit=2, **ANA).records) == 2
    assert b'"added":2' in call("streams_add_stream", body=b'"one"\n"two"\n', **ANA)
    assert call("streams_iterate", **ANA).count(b"\n") == 5
    changed = call("changing_update", id, body={"importance": 0.9}, if_match='"1"', **ANA)
    assert changed.version == 2
    assert call("changing_update", id, body={"importance": 0.1}, if_match='"1"', status=409, **ANA).title
    assert [event.event for event in call("changing_history", id, **ANA)] == ["ADD", "UPDATE"]
    assert call("changing_explain", id, **ANA).id == id
    assert len(call("changing_vectors", id, **ANA).vectors) == 1
    assert call("changing_feedback", id, body={"rating": 5}, **ANA).done
    assert call("changing_delete", id, **ANA).done
    assert call("changing_deleted", **ANA).records[0].id == id
    assert call("changing_restore", id, body={}, **ANA).id == id
    assert call("changing_touch", body={"ids": [id]}, **ANA).done == [True]
    assert call("changing_delete_many", body={"ids": [id]}, **ANA).done == [True]
    assert call("changing_restore_all", body={}, **ANA).count == 1
    assert call("changing_distinct", "topic", **ANA) == ["food"]
    assert call("changing_delete_all", filters='{"topic": "food"}', dry_run=True, **ANA).count == 1
    for name in ("pin", "unpin", "demote", "promote"):
        assert call(f"lifecycle_{name}", id, **BODYLESS, **ANA).id == id
    assert call("tiers_explain", id, **ANA).id == id
    assert call("tiers_place", id, body={"tier": "hot"}, **ANA).count in (0, 1)
    assert call("tiers_archive", body={"ids": [id], "dry_run": True}, **ANA).dry_run
    assert call("tiers_rehydrate", body={"ids": [id]}, **ANA).count == 0
    assert call("changing_erase", id, body={}, **ANA).erased == 1
    assert call("changing_erase_all", body={}, run_id="no talk", **ANA).erased == 0
    assert call("keyed_put", "tone", body={"content": "short", "data": {"a": 1}}, **ANA).status == "added"
    assert call("keyed_get", "tone", **ANA).content == "short"
    assert call("keyed_delete", "tone", **ANA).done


def searching() -> None:
    assert call("search_search", body={"query": "cat", "explain": True}, **ANA).hits[0].record.content
    assert len(call("search_search_many", body={"queries": ["cat", "tea"]}, **ANA)) == 2
    assert "cat" in call("search_context", body={"query": "cat", "max_tokens": 300}, **ANA).text
    assert call("search_recent", "r", **ANA)[0].content == "Hello"
    for name in ("runs", "agents", "kinds", "namespaces"):
        assert isinstance(call(f"search_{name}", **ANA), list)


def talking() -> None:
    said = {"messages": [{"role": "user", "content": f"turn {n}"} for n in range(6)]}
    assert call("sessions_create", "s", body={"title": "A talk"}, status=201, **ANA).title == "A talk"
    assert len(call("sessions_append", "s", body=said, status=201, **ANA)) == 6
    assert call("sessions_info", "s", **ANA).run_id == "s"
    assert call("sessions_describe", "s", body={"title": "Talk"}, **ANA).title == "Talk"
    assert len(call("sessions_sessions", **ANA)) == 1
    assert len(call("sessions_turns", "s", limit=3, **ANA)) == 3
    call("sessions_summarize", "s", body={"keep": 2}, **ANA)
    assert call("sessions_summary", "s", **ANA).covered == 4
    assert call("sessions_set_working", "s", body={"value": {"plan": 1}}, **ANA).version
    assert call("sessions_merge_working", "s", body={"value": {"more": 2}}, **ANA).version
    assert call("sessions_working", "s", **ANA).value.to_dict() == {"plan": 1, "more": 2}
    assert call("prompts_prompt", "s", body={"max_tokens": 900}, **ANA).manifest.max_tokens == 900
    assert len(call("sessions_pop", "s", body={"n": 1}, **ANA)) == 1
    assert len(call("sessions_undo", "s", body={"n": 1}, **ANA)) == 1
    assert call("sessions_close", "s", body={}, **ANA).closed_at
    assert call("sessions_reopen", "s", body={}, **ANA).closed_at is None
    assert call("sessions_clear", "s", **ANA).count == 4
    assert call("sessions_delete", "s", **ANA).done


def blocks() -> None:
    assert call("blocks_create", "human", body={"value": "Ana."}, status=201, **ANA).version == 1
    assert call("blocks_append", "human", body={"text": "Tall."}, **ANA).value.endswith("Tall.")
    assert call("blocks_replace", "human", body={"old": "Tall", "new": "Small"}, **ANA).version == 3
    assert call("blocks_insert", "human", body={"line": 0, "text": "Who:"}, **ANA).version == 4
    assert call("blocks_rewrite", "human", body={"value": "Ana"}, **ANA).version == 5
    assert call("blocks_configure", "human", body={"description": "The user"}, **ANA).description == "The user"
    assert call("blocks_get", "human", **ANA).value == "Ana"
    assert len(call("blocks_history", "human", **ANA)) >= 5
    assert call("blocks_restore", "human", body={"version": 1}, **ANA).value == "Ana."
    assert len(call("blocks_blocks", **ANA)) == 1
    assert call("blocks_delete", "human", **ANA).done


def administration() -> None:
    assert call("health_live").status == call("health_ready").status == "ok"
    assert [user.name for user in call("admin_users").users] == ["ana"]
    assert call("live_me").any_user
    assert call("live_kpis").records
    assert call("live_layers").additional_properties
    assert "event: figures" in call("live_follow", seconds=0.1, figures_s=1.0)
    assert "retry" in call("live_follow_user", seconds=0.1, **ANA)
    assert call("values_usage").chunks == 0
    assert call("admin_stats").records
    assert call("admin_health").ok
    assert len(call("admin_events", limit=3)) == 3
    assert call("tiers_stats").additional_properties
    assert call("admin_flush", body={}).done
    assert call("lifecycle_sweep", body={"dry_run": True}).examined >= 0
    assert call("lifecycle_coming", seconds=3_600.0, limit=5).report.examined >= 0
    assert call("admin_verify", body={}).ok
    assert call("admin_repair", body={}).ok
    assert call("admin_compact", body={}).done
    made = call("backups_create", body={"kind": "snapshot"}, status=201)
    assert made.id in [backup.id for backup in call("backups_backups")]
    assert call("backups_verify", made.id, body={"quick": True}).ok
    assert call("backups_restore", made.id, body={"dry_run": True}).dry_run
    assert isinstance(call("backups_prune", body={"dry_run": True}), list)
    assert call("backups_drop", made.id).id == made.id
    key = call("keys_create", body={"scopes": ["read"], "user_id": "ana", "expires_in": 60}, status=201)
    assert key.token.startswith("amk_")
    rotated = call("keys_rotate", key.id, body={"overlap": 1}, status=201)
    assert call("keys_revoke", rotated.id).revoked_at
    assert len(call("keys_keys")) >= 3
    assert call("admin_erase_user", "ana").erased
    assert call("admin_erasures", "ana")[0].records
    assert "user.erase" in [act.act for act in call("keys_audit")]


def knowledge() -> None:
    assert call("memories_add", body={"content": "Ana has 2 cats at home."}, status=201, **ANA).id
    fact = call("memories_add", body={"content": "Ana has 3 cats at home."}, status=201, **ANA).id
    assert len(call("consolidation_propose", **BODYLESS, **ANA)) == 1
    assert call("consolidation_state", **ANA).proposals == 1
    assert call("consolidation_proposals", limit=5, **ANA)[0].op == "SUPERSEDE"
    done = call("consolidation_approve", body={}, **ANA)
    assert done.superseded == 1
    assert call("consolidation_revert", body={"run_id": done.run_id}, **ANA).added == 1
    assert call("consolidation_reject", body={}, **ANA).count == 0
    assert call("consolidation_retry", **BODYLESS, **ANA).count == 0
    assert "model" in call("consolidation_run", body={}, status=422, **ANA).detail
    assert call("consolidation_evidence", fact, **ANA) == []
    assert call("consolidation_evidence", "nobody", status=404, **ANA).title
    assert call("consolidation_spend", **ANA) == call("consolidation_spend_of_all") == []
    assert call("values_values", **ANA) == []
    assert call("values_attachments", fact, **ANA) == []
    for name in ("values_info", "values_head", "values_content"):
        assert "nothing" in call(name, "nothing", status=404, **ANA).detail


for run in (memories, searching, talking, blocks, knowledge, administration):
    run()
there = {
    operation.name
    for area in iter_modules(client.api.__path__)
    for operation in iter_modules(import_module(f"client.api.{area.name}").__path__)
}
assert called == there, there ^ called
sys.stdout.write(f"{len(called)} operations\n")
