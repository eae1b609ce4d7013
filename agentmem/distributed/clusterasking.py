"""How a cluster's calls are made: on a user's shard, on the one that has an id, or on all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agentmem.distributed.clustercalls import Rule, new_ids
from agentmem.distributed.clustercore import Core, SplitError
from agentmem.distributed.shardmap import ShardMap
from agentmem.distributed.shards import Ack, Call, Step
from agentmem.types.enums import ALL
from agentmem.types.errors import ConflictError, NotFoundError


class Asking:
    """What ``Cluster`` is on top of: the shards, when a write is acknowledged, and the scope of a view."""

    _core: Core
    _ack: Ack
    _bound: dict[str, Any] | None

    def _by_id(self, name: str, arguments: dict[str, Any], rule: Rule) -> Any:
        """What the shard says that has the record: the one that its id names, else any other."""
        made, id = self._core.maps.known(), arguments.get("id")
        hinted = made.hinted(id) if isinstance(id, str) else None
        order = [[hinted], [shard for shard in made.shards if shard != hinted]] if hinted else [made.shards]
        absent: Any = None
        for shards in order:
            found = self._core.each(lambda shard: self._one_by_id(shard, name, arguments, rule), shards)
            there = [value for value in found if not isinstance(value, _Absent)]
            if len(there) > 1:
                raise ConflictError(
                    f"two users in two shards have a record with the id {id!r}; name the user, with scoped(user_id=...)"
                )
            if there:
                return there[0]
            absent = found[0] if found else absent
        if absent.error is not None:
            raise absent.error
        return absent.value

    def _one_by_id(self, shard: str, name: str, arguments: dict[str, Any], rule: Rule) -> Any:
        call = self._made(name, (), arguments, rule.writes)
        try:
            value = self._core.ask(lambda _: shard, call, again=rule.again, stands=rule.stands)
        except NotFoundError as exc:
            return _Absent(error=exc)
        return _Absent(value) if (value is None and name != "feedback") or value is False else value

    # -- asking --------------------------------------------------------------------------------------------------------

    def _user(self, arguments: Mapping[str, Any]) -> Any:
        """Whose memories a call is about."""
        if self._bound is None:
            return None
        user = self._bound.get("user_id")
        return arguments.get("user_id") if user is None else user

    def _ask_user(self, user: Any, name: str, given: tuple[Any, ...], named: dict[str, Any], rule: Rule) -> Any:
        if user is not None and (not isinstance(user, str) or user is ALL):
            # What it is refused with is the client's word; any shard says it.
            return self._core.ask(lambda made: made.shards[0], self._made(name, given, named, rule.writes), again=False)
        ids = new_ids(1, user) if name in ("add", "put") else ()
        return self._ask_users((user,), name, given, named, rule, ids)

    def _ask_users(
        self,
        users: tuple[str | None, ...],
        name: str,
        given: tuple[Any, ...],
        named: dict[str, Any],
        rule: Rule,
        ids: tuple[str, ...] = (),
    ) -> Any:
        def where(made: ShardMap) -> str:
            found = {made.shard_of(user) for user in users}
            if len(found) > 1:
                raise SplitError
            return found.pop()

        call = self._made(name, given, named, rule.writes, users=users, ids=ids)
        return self._core.ask(where, call, again=rule.again, stands=rule.stands)

    def _ask_all(
        self,
        name: str,
        arguments: dict[str, Any],
        rule: Rule,
        patience_s: float | None = None,
        among: Iterable[str] | None = None,
    ) -> dict[str, Any]:
        call = self._made(name, (), arguments, rule.writes)
        shards = sorted(self._core.maps.known().shards if among is None else among)
        calls = dict.fromkeys(shards, call)
        return self._core.ask_several(calls, again=rule.again, stands=rule.stands, patience_s=patience_s)

    def _made(
        self,
        name: str,
        given: tuple[Any, ...],
        named: dict[str, Any],
        writes: bool,
        users: tuple[str | None, ...] = (),
        ids: tuple[str, ...] = (),
    ) -> Call:
        steps = (Step(name, (given, named)),)
        return Call(
            steps=steps, writes=writes, ack=self._ack, version=0, users=users, bound=self._bound, ids=ids
        )  # fmt: skip


class _Absent:
    def __init__(self, value: Any = None, error: NotFoundError | None = None) -> None:
        self.value, self.error = value, error
