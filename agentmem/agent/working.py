"""Working memory: what an agent is about to do in a session, as JSON that is changed in place."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from agentmem.agent.ports import AgentStore, SessionPlace
from agentmem.agent.until import until_alone
from agentmem.types.changes import Put
from agentmem.types.checks import check_count
from agentmem.types.data import copied
from agentmem.types.errors import CapacityError, ConflictError, InvalidInputError, shown
from agentmem.types.records import MemoryRecord
from agentmem.types.sessionkeys import SESSIONS, WORKING

MOST = 65_536
"""Bytes of JSON that it holds."""


class WorkingMemory:
    """A session's scratchpad: a JSON object of up to 64 KiB, such as the task, the plan, variables.

    Each change is atomic and a version: of two that are made at once, both hold, unless they name the version that they
    go on from. It is gone with its session. Nothing of it is found by searches. The first change begins the session.
    """

    def __init__(self, store: AgentStore, place: SessionPlace) -> None:
        self._store = store
        self._place = place

    def get(self) -> dict[str, Any]:
        """All of it; a new dict each time, empty where there is nothing."""
        return self._read()[0]

    def version(self) -> int:
        """The number of its last change, for ``if_version``; 0 before the first one."""
        return self._read()[1]

    def set(self, value: Mapping[str, Any], *, if_version: int | None = None) -> int:
        """Replace all of it; returns the new version.

        Raises ``ConflictError`` if it is not at ``if_version``, ``CapacityError`` above 64 KiB, ``InvalidInputError``
        for what JSON does not have.
        """
        new = _object(value)
        return self._change(lambda _: new, if_version)

    def merge(self, value: Mapping[str, Any], *, if_version: int | None = None) -> int:
        """Merge into it, objects inside of objects too, as JSON Merge Patch (RFC 7396) does: None removes a key.

        Otherwise as ``set``.
        """
        patch = _object(value)
        return self._change(lambda old: _merged(old, patch), if_version)

    def delete(self, *keys: str, if_version: int | None = None) -> int:
        """Remove these keys, or everything if none are named; otherwise as ``set``."""
        return self._change(
            lambda old: {key: value for key, value in old.items() if key not in keys} if keys else {}, if_version
        )

    def _read(self) -> tuple[dict[str, Any], int]:
        session = self._store.get(SESSIONS, self._place.key)
        record = None if session is None else self._store.get(WORKING, self._place.key)
        value = _value_of(record, session)
        return ({}, 0) if value is None or record is None else (value, record.version)

    def _change(self, change: Callable[[dict[str, Any]], dict[str, Any]], if_version: int | None) -> int:
        if if_version is not None:
            check_count(if_version, "if_version", 0)

        def attempt() -> int:
            session = self._store.get(SESSIONS, self._place.key)
            if session is None:
                self._store.append(self._place, [], only_new=False).result()
                session = self._store.get(SESSIONS, self._place.key)
            if session is None:
                raise ConflictError(f"the session {self._place.run_id!r} was deleted meanwhile")
            record = self._store.get(WORKING, self._place.key)
            old = _value_of(record, session)
            version = 0 if record is None or old is None else record.version
            if if_version is not None and if_version != version:
                raise _Stale(f"the working memory is at version {version}, not {if_version}; read it again")
            new = change(old or {})
            _check_size(new)
            put = Put(
                self._place.key,
                data={"session": session.id, "value": new},
                layer="interact",
                kind="working_memory",
                agent_id=self._place.agent_id,
                run_id=self._place.run_id,
                if_version=0 if record is None else record.version,
                **self._store.place(WORKING),
            )
            [result] = self._store.apply([put])
            return cast("Any", result).record.version

        try:
            return until_alone(attempt)
        except _Stale as exc:
            raise ConflictError(str(exc)) from None


class _Stale(Exception):
    """The version that a caller named is not the one that there is: trying again does not help."""


def _value_of(record: MemoryRecord | None, session: MemoryRecord | None) -> dict[str, Any] | None:
    """What a record holds, if it belongs to this session, and not to one of before that had the same id."""
    if record is None or session is None:
        return None
    data: dict[str, Any] = record.data
    return data["value"] if data.get("session") == session.id else None


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidInputError(
            f"working memory is an object, a dict of JSON values, not {shown(value)}", field="value"
        )
    return cast("dict[str, Any]", copied(cast("object", value), "working memory"))


def _merged(old: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    new = dict(old)
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict):
            below = new.get(key)
            new[key] = _merged(below if isinstance(below, dict) else {}, cast("dict[str, Any]", value))  # pyright: ignore[reportUnknownArgumentType]
        else:
            new[key] = value
    return new


def _check_size(value: dict[str, Any]) -> None:
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))
    if size > MOST:
        raise CapacityError(
            f"working memory would have {size:,} bytes of JSON, more than {MOST:,}; keep what is large in a record of "
            "its own, and its id here"
        )
