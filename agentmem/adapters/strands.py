"""Strands: a session repository and a memory store.

Sessions, agents and messages are records by key, without a vector, in a namespace of their own, so that none shows
among a user's memories: what a session is made of lies in ``(*namespace, session)``, an agent's messages one level
deeper, by their numbers. The memory store is the user's own memories.
"""

# The framework is not installed where types are checked.
# pyright: basic, reportMissingImports=false, reportUntypedBaseClass=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentmem import (
    ConflictError,
    Delete,
    InvalidInputError,
    MemoryRecord,
    NotFoundError,
    Put,
    Settings,
    Touch,
    Update,
)
from agentmem.adapters.clients import AnyMemory, Client
from agentmem.adapters.labels import label_of, names_of
from agentmem.adapters.texts import embeddable
from agentmem.adapters.versions import require

require("strands-agents", at_least="1.46", below="2", extra="strands")

from strands.memory.types import MemoryEntry, MemoryStore  # noqa: E402
from strands.session.session_repository import SessionRepository  # noqa: E402
from strands.types.exceptions import SessionException  # noqa: E402
from strands.types.session import Session, SessionAgent, SessionMessage  # noqa: E402

__all__ = ["AgentMemSessionRepository", "AgentMemStore"]

NAMESPACE = ("strands",)
"""Where sessions are kept unless another namespace is given."""
_SESSION = "session"
"""The key of a session in its namespace; those of agents have a slash."""
_FOUND = 10
"""Memories that a search finds unless it says how many."""


class AgentMemSessionRepository(SessionRepository):
    """What ``RepositorySessionManager(session_repository=...)`` keeps sessions in.

    ``memory`` is an open client or a view of one, which stays yours to close, or the path of a store. ``user_id`` says
    whose sessions these are, and ``namespace`` where they are kept: repositories that differ in either share nothing.
    What is created is there once, whoever else creates it: the others get a ``SessionException``.
    """

    def __init__(
        self,
        memory: AnyMemory = None,
        *,
        user_id: str | None = None,
        namespace: Sequence[str] = NAMESPACE,
        settings: Settings | None = None,
    ) -> None:
        self._client = Client(memory, settings)
        self._user = user_id
        self._root = names_of(namespace)

    def close(self) -> None:
        """Close a store that was opened here, until it is used again; a client that was handed in stays open."""
        self._client.close()

    # -- sessions ----------------------------------------------------------------------------------------------------

    def create_session(self, session: Session, **kwargs: Any) -> Session:
        """Begin a session. Raises ``SessionException`` if it is there."""
        put = _put(self._of(session.session_id), _SESSION, _SESSION, session.to_dict())
        try:
            self._client.memory.apply([put])
        except ConflictError as exc:
            raise SessionException(f"Session {session.session_id} already exists") from exc
        return session

    def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        """The session; None if there is none."""
        data = self._data(self._of(session_id), _SESSION)
        return None if data is None else Session.from_dict(data)

    def delete_session(self, session_id: str, **kwargs: Any) -> None:
        """Delete a session with its agents and messages. Raises ``SessionException`` if there is none."""
        place = self._of(session_id)
        if not self._client.memory.apply([Delete(key=_SESSION, **place)])[0]:
            raise SessionException(f"Session {session_id} does not exist")
        self._client.memory.delete_all(user_id=self._user, under=place["namespace"])

    # -- agents ------------------------------------------------------------------------------------------------------

    def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Store an agent of a session. Raises ``SessionException`` if there is no session, or the agent is there."""
        id = session_agent.agent_id
        put = _put(self._of(session_id), _agent(id), "agent", session_agent.to_dict())
        self._create(session_id, put, f"Agent {id} already exists in session {session_id}")

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        """The agent; None if there is none."""
        data = self._data(self._of(session_id), _agent(agent_id))
        return None if data is None else SessionAgent.from_dict(data)

    def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Store an agent anew; when it was created stays. Raises ``SessionException`` if there is none."""
        missing = f"Agent {session_agent.agent_id} does not exist in session {session_id}"
        self._update(self._of(session_id), _agent(session_agent.agent_id), session_agent, missing)

    # -- messages ----------------------------------------------------------------------------------------------------

    def create_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Store a message of an agent. Raises ``SessionException`` if there is no agent, or its number is taken."""
        number = session_message.message_id
        if self._record(self._of(session_id), _agent(agent_id)) is None:
            raise SessionException(f"Agent {agent_id} does not exist in session {session_id}")
        put = _put(
            self._of(session_id, agent_id), str(number), "message", session_message.to_dict(),
            content=_text(session_message),
        )  # fmt: skip
        self._create(session_id, put, f"Message {number} already exists in agent {agent_id} in session {session_id}")

    def read_message(self, session_id: str, agent_id: str, message_id: int, **kwargs: Any) -> SessionMessage | None:
        """The message with a number; None if there is none."""
        data = self._data(self._of(session_id, agent_id), str(message_id))
        return None if data is None else SessionMessage.from_dict(data)

    def update_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Store a message anew; when it was created stays. Raises ``SessionException`` if there is none."""
        number, place = session_message.message_id, self._of(session_id, agent_id)
        missing = f"Message {number} does not exist in session {session_id}"
        self._update(place, str(number), session_message, missing, content=_text(session_message), embed=False)

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **kwargs: Any
    ) -> list[SessionMessage]:
        """An agent's messages by their numbers: ``limit`` of them after the first ``offset``."""
        found = self._client.memory.iterate(order="oldest", touch=False, **self._of(session_id, agent_id))
        held = sorted((record.data for record in found), key=lambda data: data["message_id"])
        end = None if limit is None else offset + limit
        return [SessionMessage.from_dict(data) for data in held[offset:end]]

    # -- graphs and swarms -------------------------------------------------------------------------------------------

    def create_multi_agent(self, session_id: str, multi_agent: Any, **kwargs: Any) -> None:
        """Store the state of a graph or a swarm. Raises ``SessionException`` if there is no session."""
        state = {"state": multi_agent.serialize_state()}
        put = _put(self._of(session_id), _several(multi_agent.id), "multi_agent", state, if_version=None)
        self._create(session_id, put, f"MultiAgent {multi_agent.id} was made by others at the same time")

    def read_multi_agent(self, session_id: str, multi_agent_id: str, **kwargs: Any) -> dict[str, Any] | None:
        """The state of a graph or a swarm; None if there is none."""
        data = self._data(self._of(session_id), _several(multi_agent_id))
        return None if data is None else data["state"]

    def update_multi_agent(self, session_id: str, multi_agent: Any, **kwargs: Any) -> None:
        """Store its state anew. Raises ``SessionException`` if there is none."""
        state = {"state": multi_agent.serialize_state()}
        try:
            self._client.memory.apply([Update(key=_several(multi_agent.id), data=state, **self._of(session_id))])
        except NotFoundError as exc:
            raise SessionException(f"MultiAgent {multi_agent.id} does not exist in session {session_id}") from exc

    # -- inside ------------------------------------------------------------------------------------------------------

    def _of(self, *path: str) -> dict[str, Any]:
        """Where the records of a session are, or the messages of its agent."""
        return {"user_id": self._user, "namespace": (*self._root, *map(label_of, path))}

    def _record(self, place: Mapping[str, Any], key: str) -> MemoryRecord | None:
        return self._client.memory.get(key=key, touch=False, **place)

    def _data(self, place: Mapping[str, Any], key: str) -> Any:
        record = self._record(place, key)
        return None if record is None else record.data

    def _create(self, session_id: str, put: Put, taken: str) -> None:
        """Store something of a session that is there, in one transaction with a look at it."""
        place = self._of(session_id)
        session = self._record(place, _SESSION)
        if session is not None:
            try:
                self._client.memory.apply([put, Touch(key=_SESSION, if_version=session.version, **place)])
            except ConflictError as exc:
                if exc.index == 0:
                    raise SessionException(taken) from exc
            else:
                return
        raise SessionException(f"Session {session_id} does not exist")

    def _update(self, place: Mapping[str, Any], key: str, new: Any, missing: str, **more: Any) -> None:
        before = self._data(place, key)
        if before is not None:
            new.created_at = before["created_at"]
            try:
                self._client.memory.apply([Update(key=key, data=new.to_dict(), **more, **place)])
            except NotFoundError as exc:
                raise SessionException(missing) from exc
        else:
            raise SessionException(missing)


class AgentMemStore(MemoryStore):
    """A store for ``MemoryManager(stores=[...])``: the memories of a user, as ``Memory.search`` and ``add`` have them.

    ``name`` and what stands behind ``description`` are Strands' own. ``user_id``, ``agent_id`` and ``namespace`` say
    whose memories these are; a namespace is left out for those that the user's searches find anyway. What ``search``
    holds besides (``filters``, ``kinds``, ``mode``, ...) is given to every search.
    """

    def __init__(
        self,
        memory: AnyMemory = None,
        *,
        name: str = "memories",
        description: str | None = None,
        max_search_results: int | None = None,
        writable: bool = True,
        extraction: Any = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        namespace: Sequence[str] | None = None,
        search: Mapping[str, Any] | None = None,
        settings: Settings | None = None,
    ) -> None:
        if max_search_results is not None and max_search_results < 1:
            raise InvalidInputError(f"max_search_results={max_search_results} is less than 1")
        self.name = name
        self.description = description
        self.max_search_results = max_search_results
        self.writable = writable
        self.extraction = extraction
        self._client = Client(memory, settings)
        self._place: dict[str, Any] = {"user_id": user_id, "agent_id": agent_id, "namespace": namespace}
        self._search = dict(search or {})

    async def search(self, query: str, options: Any = None) -> list[MemoryEntry]:
        """The best memories for a query, best first; their metadata has the ``id`` and the score (``_score``), too."""
        limit = (options or {}).get("max_search_results", self.max_search_results)
        limit = _FOUND if limit is None else limit
        asked = embeddable(query)
        if limit < 1 or not asked:
            return []
        hits = await self._client.memory.aio.search(asked, limit=limit, data=False, **self._place, **self._search)
        return [
            MemoryEntry(content=hit.content, metadata={**hit.metadata, "id": hit.id, "_score": hit.score})
            for hit in hits
        ]

    async def add(self, content: str, metadata: Mapping[str, Any] | None = None) -> str:
        """Remember something; what is there already is not stored again. Returns its id."""
        added = await self._client.memory.aio.add(content, metadata=metadata, **self._place)
        return added.id

    def close(self) -> None:
        """Close a store that was opened here, until it is used again; a client that was handed in stays open."""
        self._client.close()


def _agent(id: str) -> str:
    return f"agent/{label_of(id)}"


def _several(id: str) -> str:
    return f"multi_agent/{label_of(id)}"


def _put(
    place: Mapping[str, Any], key: str, kind: str, data: Any, *, content: str | None = None, if_version: int | None = 0
) -> Put:
    return Put(key, content, data=data, kind=kind, layer="assets", embed=False, if_version=if_version, **place)


def _text(message: SessionMessage) -> str | None:
    """What words find a message by."""
    said = [part.get("text") for part in message.to_message()["content"]]
    return embeddable("\n".join(text for text in said if isinstance(text, str))) or None
