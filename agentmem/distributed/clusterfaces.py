"""Sessions, blocks, values and whatever else has calls of its own: each of them is made on a shard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentmem.distributed.clusterasking import Asking
from agentmem.distributed.clustercore import answered
from agentmem.distributed.shards import Call, Step


class Face:
    """What has calls of its own, a session or the values of a user: each call is made on the user's shard."""

    def __init__(self, ask: Callable[[tuple[Step, ...]], Any], steps: tuple[Step, ...]) -> None:
        self._ask, self._steps = ask, steps

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *given, **named: self._ask((*self._steps, Step(name, (given, named))))


def face(cluster: Asking, name: str, *arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> Face:
    first = Step(name, arguments[0] if arguments else None)

    def ask(steps: tuple[Step, ...]) -> Any:
        core, scope = cluster._core, cluster._bound  # pyright: ignore[reportPrivateUsage]
        said = {k: v for step in steps if step.arguments is not None for k, v in step.arguments[1].items()}
        named = scope is None or "user_id" in scope or "user_id" in said
        user = None if scope is None else scope.get("user_id", said.get("user_id"))
        call = Call(
            steps=steps, writes=True, ack=cluster._ack, version=0, bound=scope,  # pyright: ignore[reportPrivateUsage]
            users=(user,) if named or arguments else (),
        )  # fmt: skip
        if call.users:
            return core.ask(lambda made: made.shard_of(user), call, again=False)
        return answered(core.ask_several(dict.fromkeys(core.maps.known().shards, call), again=False))

    return Face(ask, (first,))
