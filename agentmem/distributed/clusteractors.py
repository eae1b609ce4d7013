"""Shards as Ray's actors: named, detached, started again wherever there is room. The one file of serving that imports
Ray.

Ray sees to it that a shard runs somewhere; that it runs in one place only is not Ray's word but the fence's.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from agentmem import __version__
from agentmem.archive.opening import open_objects
from agentmem.distributed.shardmap import MapObject
from agentmem.distributed.shards import Call, Outcome, Shard, ShardSpec
from agentmem.types.errors import FencedError, InvalidInputError, MissingExtraError, StoreError, StoreVersionError

NAMESPACE = "agentmem"
"""Ray's, in which the shards of all clusters have their names."""
AT_ONCE = 16
"""Calls that a shard works on at once; more wait in Ray's queue."""
CONTROL = "control"
"""The group of calls that are not to wait behind those of users."""


_OF_SHARDS = frozenset(("status", "prepare", "hold_back", "drain", "resume", "learn", "changes", "listed", "close"))
"""Methods of a shard that are called by name."""
_LONG = frozenset(("changes", "listed"))
"""Those among them that whoever controls a shard is not to wait behind."""


class ShardActor:
    """What runs in Ray's worker process. It owns the shard once it is made, unless it is only to be ready for that.

    It has these methods, and never others: Ray takes their names to each process that finds the actor, and one of
    another version that has not all of them cannot call any. What else there is goes by name through ``control``.
    """

    def __init__(self, spec: ShardSpec, standing_by: bool) -> None:
        self._spec, node = spec, ray().get_runtime_context().get_node_id()
        # Several nodes of Ray may share a machine, and each has its own stores.
        here = replace(spec, root=os.path.join(spec.root, node[:12], spec.shard))
        self._shard = Shard(here, MapObject(open_objects(spec.url)), node[:12])
        if not standing_by:
            _open(self._shard)
        elif ray().get_runtime_context().was_current_actor_reconstructed:
            self._shard.open_if_due()

    def ping(self) -> None:
        """Answer, if it can."""

    def call(self, call: Call) -> Outcome:
        """See ``Shard.call``."""
        outcome = self._shard.call(call)
        if self._shard.is_over:
            _end_soon()
        return outcome

    def control(self, name: str, *given: Any) -> Any:
        """What the shard says to one of the methods of its own, what it was made with (``spec``), or the ``version`` of
        agentmem here. Raises ``StoreVersionError`` for what it does not know."""
        if name == "spec":
            return self._spec
        if name == "version":
            return __version__
        if name == "open":
            return _open(self._shard)
        if name not in _OF_SHARDS:
            raise StoreVersionError(f"agentmem {__version__}, which this shard runs, knows no {name!r}; upgrade it")
        return getattr(self._shard, name)(*given)

    def read(self, name: str, *given: Any) -> Any:
        """The same, for what takes long."""
        return self.control(name, *given)


def _open(shard: Shard) -> None:
    try:
        shard.open()
    except FencedError:
        _end_soon()
        raise


def _end_soon() -> None:
    """End this process once the answer is out. If Ray starts it again, it takes the store again, unless its turn is
    over."""
    threading.Timer(0.2, os._exit, (0,)).start()


@cache
def ray() -> Any:
    """The module. Raises ``MissingExtraError``."""
    try:
        return import_module("ray")
    except ImportError as exc:
        raise MissingExtraError("Ray is not installed; pip install 'agentmem-db[ray]'") from exc


def connect(address: str | None = None) -> None:
    """See that this process is connected to Ray, or connect it. Raises ``StoreError`` where it is not."""
    if address is not None and not _is_connected():
        try:
            ray().init(address=address, log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError, RuntimeError) as exc:
            raise StoreError(f"Ray cannot be reached at {address}: {exc}") from exc
    if not _is_connected():
        if find_spec("ray") is None:
            ray()
        raise StoreError(
            "this process is not connected to Ray; call ray.init(address=...) first, or "
            "agentmem.distributed.clusterlocal.start() for one on this machine alone"
        )


def _is_connected() -> bool:
    # Not by importing it: whoever is told to start it is to come in time to have it ask for a token.
    known = sys.modules.get("ray")
    return known is not None and known.is_initialized()


@cache
def _actor_class() -> Any:
    for name in ("ping", "control"):
        setattr(ShardActor, name, ray().method(concurrency_group=CONTROL)(getattr(ShardActor, name)))
    return ray().remote(concurrency_groups={CONTROL: 2})(ShardActor)


def asked(actor: Any, name: str, *given: Any) -> Any:
    """A reference to what an actor says to one of its shard's methods, or of ``spec`` and ``version``."""
    return (actor.read if name in _LONG else actor.control).remote(name, *given)


def start(name: str, spec: ShardSpec, more: Mapping[str, Any], *, standing_by: bool = False) -> Any:
    """The actor of that name: the one that there is, or a new one. Does not wait for it."""
    usual: dict[str, Any] = {"num_cpus": 0, "scheduling_strategy": "SPREAD", "max_concurrency": AT_ONCE}
    chosen = {**usual, **spec.options, **more}
    own = {"namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True, "max_restarts": -1}
    try:
        made = _actor_class().options(**{**chosen, **own, "name": name, "max_task_retries": 0})
    except (TypeError, ValueError) as exc:
        raise InvalidInputError(f"options are not what Ray takes: {exc}", field="options") from exc
    return made.remote(spec, standing_by)


def find(name: str) -> Any | None:
    """The actor of that name; None if there is none."""
    try:
        return ray().get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None


def spec_of(actor: Any) -> ShardSpec | None:
    """What an actor was made with; None if it does not answer."""
    try:
        return ray().get(asked(actor, "spec"), timeout=30.0)
    except (ray().exceptions.RayActorError, ray().exceptions.GetTimeoutError):
        return None


def version_of(actor: Any) -> str | None:
    """The version of agentmem that an actor runs, as far as it says; None if it does not answer."""
    try:
        return ray().get(asked(actor, "version"), timeout=10.0)
    except ray().exceptions.RayError:
        return None


def is_started(actor: Any) -> bool:
    """Whether Ray says that an actor was made, and is not being made again; False where it does not say."""
    # What is public asks the dashboard, which need not run.
    told = getattr(import_module("ray._private.state"), "actors", None)
    known = told(actor._actor_id.hex()) if told is not None else None
    return bool(known) and known.get("State") == "ALIVE"


def kill(actor: Any) -> None:
    """End an actor for good."""
    ray().kill(actor, no_restart=True)


def nodes() -> list[dict[str, Any]]:
    """Ray's nodes that are alive."""
    return [node for node in ray().nodes() if node["Alive"]]


def node_named(node: str) -> str:
    """The whole id of one of the nodes that are alive, given its beginning. Raises ``StoreError``."""
    found = [each["NodeID"] for each in nodes() if each["NodeID"].startswith(node)]
    if len(found) != 1 or not node:
        raise StoreError(f"{len(found)} of Ray's nodes begin with {node!r}; `ray list nodes` names them")
    return found[0]


def on_node(node: str) -> dict[str, Any]:
    """Options that have an actor run on one node, given the beginning of its id. Raises ``StoreError``."""
    found = node_named(node)
    # Soft, so that the shard comes back elsewhere when that node is gone.
    chosen: Any = import_module("ray.util.scheduling_strategies")
    return {"scheduling_strategy": chosen.NodeAffinitySchedulingStrategy(node_id=found, soft=True)}
