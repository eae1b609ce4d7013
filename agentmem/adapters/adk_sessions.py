# pyright: basic, reportMissingImports=false, reportUntypedBaseClass=false, reportGeneralTypeIssues=false
"""Google's Agent Development Kit: sessions with their events and their state, as records by key.

A session is a record; its events are records in a namespace whose name stands in it, so that a session that is made
again under its id has none of before. What an event changes, it changes in one transaction with its own record.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, TypeVar
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError
from typing_extensions import override

from agentmem import ALL, ConflictError, Delete, Put, Settings
from agentmem.adapters.clients import AnyMemory, Client
from agentmem.adapters.labels import label_of
from agentmem.adapters.steps import Steps, arun
from agentmem.adapters.versions import require

require("google-adk", at_least="2.0.0", below="3", extra="adk")

from google.adk.errors.already_exists_error import AlreadyExistsError  # noqa: E402
from google.adk.errors.session_not_found_error import SessionNotFoundError  # noqa: E402
from google.adk.events import Event  # noqa: E402
from google.adk.sessions import BaseSessionService, Session, State  # noqa: E402
from google.adk.sessions.base_session_service import GetSessionConfig, ListSessionsResponse  # noqa: E402

try:
    from google.adk.errors import StaleSessionError
except ImportError:  # versions of before it

    class StaleSessionError(ValueError):
        """Somebody has appended to a session since it was read."""


__all__ = ["AgentMemSessionService", "read_as"]

M = TypeVar("M")
_PAGE = 10_000
_JSON = TypeAdapter[Any](Any, config={"ser_json_inf_nan": "constants", "ser_json_bytes": "base64"})
_SCOPES = {State.APP_PREFIX: "app", State.USER_PREFIX: "user"}


class AgentMemSessionService(BaseSessionService):
    """Sessions for ``Runner(session_service=...)``: durable, shared by processes.

    ``memory`` is an open client, which stays yours to close, or the path of a store. ADK's user is agentmem's, a wall;
    sessions lie in namespaces below ``("adk", app_name)``, where no search of memories sees them. The state of an app
    belongs to nobody in particular. Sessions are kept until they are deleted. Works from any loop and thread, from
    several at once.
    """

    def __init__(self, memory: AnyMemory = None, *, settings: Settings | None = None) -> None:
        self._client = Client(memory, settings)

    def close(self) -> None:
        """Close a store that was opened here, until it is used again; a client that was handed in stays open."""
        self._client.close()

    async def _run(self, steps: Steps[Any]) -> Any:
        return await arun(self._client.memory, steps)

    @override
    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """Begin a session. Of many who begin one with the same id, one does; the others get ``AlreadyExistsError``."""
        id = (session_id or "").strip() or str(uuid4())
        return await self._run(_created(app_name, user_id, id, _split(state)))

    @override
    async def get_session(
        self, *, app_name: str, user_id: str, session_id: str, config: GetSessionConfig | None = None
    ) -> Session | None:
        return await self._run(_read(app_name, user_id, session_id.strip(), config or GetSessionConfig()))

    @override
    async def list_sessions(self, *, app_name: str, user_id: str | None = None) -> ListSessionsResponse:
        """The sessions of a user, or of everybody, without events, those that changed last at the end."""
        return ListSessionsResponse(sessions=await self._run(_listed(app_name, user_id)))

    @override
    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        await self._run(_deleted(app_name, user_id, session_id.strip()))

    @override
    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        record = await self._run(_one("get", _state_at("user", app_name, user_id) | {"touch": False}))
        return {} if record is None else record.data

    @override
    async def append_event(self, session: Session, event: Event) -> Event:
        """Append an event and what it says of the state, in one transaction; durable when this returns.

        An event that is there already is not appended again. Raises ``SessionNotFoundError``, and
        ``StaleSessionError`` where somebody has appended to the session since it was read.
        """
        if event.partial:
            return event
        if not await self._run(_appended(session, event, _split(event.actions.state_delta if event.actions else None))):
            return event
        session.last_update_time = event.timestamp
        return await super().append_event(session=session, event=event)


# -- where things are --------------------------------------------------------------------------------------------------


def _room(room: str, app: str, user: str | None, *more: str) -> dict[str, Any]:
    return {"user_id": None if user is None else label_of(user), "namespace": ("adk", label_of(app), room, *more)}


def _session_at(app: str, user: str, id: str) -> dict[str, Any]:
    return {"key": label_of(id), **_room("sessions", app, user)}


def _state_at(scope: str, app: str, user: str) -> dict[str, Any]:
    return {"key": scope, **_room("state", app, user if scope == "user" else None)}


def _split(state: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """A state by its scopes, without what is temporary, as JSON; what is none is its text."""
    parts: dict[str, dict[str, Any]] = {"app": {}, "user": {}, "session": {}}
    for key, value in _JSON.dump_python(dict(state or {}), mode="json", fallback=str).items():
        prefix = next((each for each in _SCOPES if key.startswith(each)), "")
        if not key.startswith(State.TEMP_PREFIX):
            parts[_SCOPES.get(prefix, "session")][key.removeprefix(prefix)] = value
    return parts


def _merged(app: Mapping[str, Any], user: Mapping[str, Any], session: Mapping[str, Any]) -> dict[str, Any]:
    shared = {prefix + key: value for prefix, of in (("app:", app), ("user:", user)) for key, value in of.items()}
    return {**session, **shared}


def _session(app: str, user: str, data: Mapping[str, Any], state: dict[str, Any]) -> Session:
    return Session(app_name=app, user_id=user, id=data["id"], state=state, last_update_time=data["updated"])


def read_as(model: type[M], data: Any) -> M:
    """A model from its JSON. As JSON text first, in which bytes are base64; half characters are none there."""
    try:
        return model.model_validate_json(json.dumps(data))  # type: ignore[attr-defined]
    except ValidationError:
        return model.model_validate(data)  # type: ignore[attr-defined]


# -- the calls of ``Memory`` -------------------------------------------------------------------------------------------


def _one(name: str, arguments: dict[str, Any]) -> Steps[Any]:
    return (yield name, arguments)


def _all(**where: Any) -> Steps[list[Any]]:
    found, at = list[Any](), dict[str, Any]()
    while True:
        page = yield "page", {"order": "oldest", "limit": _PAGE, "touch": False, **where, **at}
        found += page.records
        if page.cursor is None:
            return found
        at = {"cursor": page.cursor}


def _states(app: str, user: str) -> Steps[dict[str, Any]]:
    """The records of the app's and the user's state."""
    found = dict[str, Any]()
    for scope in ("app", "user"):
        found[scope] = yield "get", {**_state_at(scope, app, user), "touch": False}
    return found


def _data(record: Any) -> dict[str, Any]:
    return {} if record is None else record.data


def _changed(states: Mapping[str, Any], parts: Mapping[str, dict[str, Any]], app: str, user: str) -> list[Put]:
    """What has to be put for the state that is shared, if nobody has put it since it was read."""
    return [
        Put(
            **_state_at(scope, app, user),
            data={**_data(states[scope]), **parts[scope]},
            layer="assets",
            if_version=0 if states[scope] is None else states[scope].version,
        )
        for scope in ("app", "user")
        if parts[scope]
    ]


def _created(app: str, user: str, id: str, parts: dict[str, dict[str, Any]]) -> Steps[Session]:
    place = _session_at(app, user, id)
    while True:
        if (yield "get", {**place, "touch": False}) is not None:
            raise AlreadyExistsError(f"Session with id {id} already exists.")
        states = yield from _states(app, user)
        data = {"id": id, "user": user, "updated": time.time(), "state": parts["session"], "events": uuid4().hex}
        begun = Put(**place, data=data, layer="assets", if_version=0)
        try:
            yield "apply", {"changes": [begun, *_changed(states, parts, app, user)]}
        except ConflictError:  # somebody was faster: with the session, or with the state
            continue
        shared = {scope: {**_data(states[scope]), **parts[scope]} for scope in ("app", "user")}
        return _session(app, user, data, _merged(shared["app"], shared["user"], parts["session"]))


def _read(app: str, user: str, id: str, config: GetSessionConfig) -> Steps[Session | None]:
    record = yield "get", {**_session_at(app, user, id), "touch": False}
    if record is None:
        return None
    states = yield from _states(app, user)
    session = _session(
        app, user, record.data, _merged(_data(states["app"]), _data(states["user"]), record.data["state"])
    )
    since = config.after_timestamp
    where = _room("events", app, user, record.data["events"])
    where["filters"] = None if since is None else {"timestamp": {"$gte": since}}
    if config.num_recent_events is None:
        records = yield from _all(**where)
    elif config.num_recent_events == 0:
        records = []
    else:
        page = yield "page", {**where, "limit": min(config.num_recent_events, _PAGE), "touch": False}
        records = page.records[::-1]
    session.events = [read_as(Event, each.data["event"]) for each in records]
    return session


def _listed(app: str, user: str | None) -> Steps[list[Session]]:
    where = {**_room("sessions", app, user), **({"user_id": ALL} if user is None else {})}
    records = yield from _all(**where)
    states = dict[str, Any]()
    for name in {record.data["user"] for record in records}:
        states[name] = yield from _states(app, name)
    sessions = list[Session]()
    for data in (record.data for record in records):
        of = states[data["user"]]
        sessions.append(_session(app, data["user"], data, _merged(_data(of["app"]), _data(of["user"]), data["state"])))
    return sorted(sessions, key=lambda each: (each.last_update_time, each.user_id, each.id))


def _deleted(app: str, user: str, id: str) -> Steps[None]:
    record = yield "get", {**_session_at(app, user, id), "touch": False}
    if record is not None:
        yield "apply", {"changes": [Delete(**_session_at(app, user, id))]}
        yield "delete_all", _room("events", app, user, record.data["events"])


def _appended(session: Session, event: Event, parts: dict[str, dict[str, Any]]) -> Steps[bool]:
    """Append an event; False if it is there already."""
    app, user = session.app_name, session.user_id
    said = event.model_dump(mode="json", exclude_none=True)
    if delta := (said.get("actions") or {}).get("state_delta"):
        said["actions"]["state_delta"] = {key: delta[key] for key in delta if not key.startswith(State.TEMP_PREFIX)}
    while True:
        record = yield "get", {**_session_at(app, user, session.id), "touch": False}
        if record is None:
            raise SessionNotFoundError(f"Session {session.id} not found.")
        events = _room("events", app, user, record.data["events"])
        known = yield "get", {"key": label_of(event.id), **events, "touch": False}
        if known is not None and known.data["event"] == said:
            return False
        if record.data["updated"] > session.last_update_time:
            raise StaleSessionError(
                f"Session {session.id} was changed by somebody else since it was read; read it again with get_session."
            )
        states = yield from _states(app, user)
        data = {**record.data, "updated": event.timestamp, "state": {**record.data["state"], **parts["session"]}}
        put = Put(
            label_of(event.id) if known is None else uuid4().hex,
            **events,
            data={"event": said},
            metadata={"timestamp": event.timestamp},
            layer="assets",
            if_version=0,
        )
        moved = Put(**_session_at(app, user, session.id), data=data, layer="assets", if_version=record.version)
        try:
            yield "apply", {"changes": [moved, put, *_changed(states, parts, app, user)]}
        except ConflictError:  # somebody was faster: look again
            continue
        return True
