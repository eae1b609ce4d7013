"""Which call of a client goes where: one table, and how the arguments of each are read. Signatures are ``Memory``'s."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from agentmem.client.memory import Memory
from agentmem.distributed.shardmap import ShardMap, slot_of, with_slot
from agentmem.types.clock import now_micros
from agentmem.types.errors import InvalidInputError
from agentmem.types.ids import uuid7s

Route: TypeAlias = Literal["user", "items", "keyed", "id", "ids", "each", "any"]
"""``user``: the shard of ``user_id``, of ``ALL`` every one. ``items``, ``keyed``: those of the items' users. ``id``:
the one that has it, ``ids``: those that have any. ``each``: all, and the answer says whose is whose. ``any``: no matter
which."""


def always(_: Any) -> bool:
    """Whatever the answer."""
    return True


class Rule(NamedTuple):
    """How a call is made. ``merge`` names what makes one answer of several (``clustermerge.py``), None where there is
    none; ``again``: whether it can be repeated where nobody knows what became of it; ``stands``: of what is repeated
    then, which answers are what the first try would have given."""

    route: Route
    writes: bool = False
    merge: str | None = None
    again: bool = True
    stands: Callable[[Any], bool] = always


def _never(_: Any) -> bool:
    return False


_READ = {
    "search": Rule("user", merge="search"),
    "search_many": Rule("user", merge="search_many"),
    "context": Rule("user"),
    "recent": Rule("user"),
    "page": Rule("user", merge="page"),
    "count": Rule("user", merge="total"),
    "distinct": Rule("user", merge="distinct"),
    "users": Rule("each", merge="groups"),
    "runs": Rule("user", merge="groups"),
    "agents": Rule("user", merge="groups"),
    "kinds": Rule("user", merge="groups"),
    "namespaces": Rule("user"),
    "deleted": Rule("user"),
    "erasures": Rule("user"),
    "sessions": Rule("user"),
    "get": Rule("id", merge="found"),
    "history": Rule("id", merge="found"),
    "vectors": Rule("ids", merge="one_each"),
    "embed": Rule("any"),
    "stats": Rule("each"),
    "health": Rule("each"),
    "kpis": Rule("each"),
    "verify": Rule("each"),
}
_WRITE = {
    "add": Rule("items", True),
    "add_many": Rule("items", True, "items"),
    "put": Rule("user", True),
    "put_many": Rule("keyed", True, "items"),
    "apply": Rule("any", True, again=False),
    "pop": Rule("user", True, again=False),
    "update": Rule("id", True, "found", again=False),
    "delete": Rule("id", True, "found", stands=bool),
    "restore": Rule("id", True, "found", again=False),
    "feedback": Rule("id", True, "found", again=False),
    "erase": Rule("id", True, "found"),
    "touch": Rule("ids", True, "one_each"),
    "delete_many": Rule("ids", True, "one_each", stands=all),
    "delete_all": Rule("user", True, "total", stands=_never),
    "restore_all": Rule("user", True, stands=_never),
    "erase_all": Rule("each", True, "own", stands=_never),
    "flush": Rule("each"),
    "warm_up": Rule("each"),
    "compact": Rule("each", True),
    "repair": Rule("each", True),
}
CALLS: dict[str, Rule] = {**_READ, **_WRITE}
"""Every call that is made on shards."""
FACES = ("lifecycle", "tiers", "values", "backup", "session", "blocks", "consolidation")
"""What has calls of its own: these are made on the shard of the user that they name, or of the view."""
NOT_HERE = {
    "export": "export and import are for one store; Cluster.shards() says where each lies",
    "import_": "load an export into a cluster with agentmem.distributed.bulk",
    "create_snapshot": "a snapshot is one store's; cluster.backup.create('snapshot') makes one of each shard",
    "snapshots": "snapshots are one store's; cluster.backup.list() has those of each shard",
    "restore_snapshot": "a shard is restored by itself, from where its increments lie",
    "drop_snapshot": "snapshots are one store's",
    "events": "each shard has its own events, whose numbers say nothing of those of others",
    "user_page": "the pages of users are one store's; users() has those of all shards",
    "reembed": "move each shard to another model by opening the cluster with that one after a drain",
}
"""Calls of a client that a cluster does not have, and what there is instead."""


@cache
def signature(name: str) -> inspect.Signature:
    """That of the client's call, without ``self``."""
    found = inspect.signature(getattr(Memory, name))
    return found.replace(parameters=[*found.parameters.values()][1:])


def bound(name: str, given: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by their names. Raises ``TypeError`` as the call would."""
    return dict(signature(name).bind(*given, **named).arguments)


def user_of_item(item: Any, default: str | None) -> str | None:
    """Whose an item is: what it says itself goes before the arguments."""
    if isinstance(item, Mapping):
        return cast("Mapping[str, Any]", item).get("user_id", default)
    said = getattr(item, "user_id", None)
    return default if said is None else said


def new_ids(count: int, user: str | None) -> tuple[str, ...]:
    """Ids for what is added without one, which say in which slot it is."""
    slot = slot_of(user)
    return tuple(with_slot(id, slot) for id in uuid7s(count, now_micros()))


def parts_of(items: Sequence[Any], user: str | None, made: ShardMap) -> dict[str, list[int]]:
    """The positions of items by the shard that they belong to."""
    found = dict[str, list[int]]()
    for index, item in enumerate(items):
        owner = user_of_item(item, user)
        if owner is not None and not isinstance(owner, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(
                f"items[{index}]: user_id must be text, not {owner!r}", field="user_id", index=index
            )
        found.setdefault(made.shard_of(owner), []).append(index)
    return found
