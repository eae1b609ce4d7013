"""``Memory.session`` and ``sessions``: from the arguments of a call to what ``agent`` does with a store."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agentmem.agent.blocks import Blocks
from agentmem.agent.ports import SessionPlace
from agentmem.agent.sessions import Session, SessionInfo, sessions
from agentmem.client.checks import check_flag, check_limit, check_offset, check_ttl
from agentmem.client.desk import Desk
from agentmem.types.enums import UNSET, Unset
from agentmem.types.errors import ScopeError
from agentmem.types.inputs import Scope
from agentmem.types.sessionkeys import session_key

if TYPE_CHECKING:
    from agentmem.agent.tokens import Tokenizer
    from agentmem.client.border import Border
    from agentmem.types.enums import Ttl

_DAY = 86_400_000_000


def session(
    border: Border, run_id: object, user_id: object, agent_id: object, namespace: object, ttl: object, embed: object
) -> Session:
    """See ``Memory.session``."""
    scope = border.place(user_id, agent_id, run_id, namespace)
    if scope.run_id is None:
        raise ScopeError("session() needs run_id, the conversation's")
    place = _place(border, scope.agent_id, scope.run_id, ttl, embed=check_flag(embed, "embed"))
    desk = _desk(border, scope)
    return Session(desk, place, _around(border, desk, scope))


def blocks(border: Border, user_id: object, agent_id: object, namespace: object, tokenizer: Tokenizer | None) -> Blocks:
    """See ``Memory.blocks``."""
    scope = border.place(user_id, agent_id, None, namespace)
    return Blocks(_desk(border, scope), scope.agent_id, tokenizer)


def _around(border: Border, desk: Desk, scope: Scope) -> list[Blocks]:
    """The blocks that a session's prompts show: nobody's and the agent's, the user's and theirs with this agent. A view
    of a user has that user's only, one of an agent only its own."""
    bound = border.bound is not None and border.bound.agent_id is not None
    agents = [scope.agent_id] if bound or scope.agent_id is None else [None, scope.agent_id]
    own = [Blocks(desk, agent, None) for agent in agents]
    if scope.user_id is None or border.bound is not None:
        return own
    nobodys = _desk(border, replace(scope, user_id=None))
    return [*(Blocks(nobodys, agent, None) for agent in agents), *own]


def listed(
    border: Border, user_id: object, agent_id: object, namespace: object, limit: object, offset: object
) -> list[SessionInfo]:
    """See ``Memory.sessions``."""
    scope = border.place(user_id, agent_id, None, namespace)

    def place(agent: str | None, run: str) -> SessionPlace:
        return _place(border, agent, run, UNSET, embed=True)

    return sessions(
        _desk(border, scope),
        agent_id=scope.agent_id,
        run_id=scope.run_id,
        limit=check_limit(limit),
        offset=check_offset(offset),
        place=place,
    )


def _desk(border: Border, scope: Scope) -> Desk:
    user = None if scope.user_id is None else str(scope.user_id)
    return Desk(border.handle, user, scope.namespace or (), border.bound)


def _place(
    border: Border, agent_id: str | None, run_id: str, ttl: Ttl | Unset | object, *, embed: bool
) -> SessionPlace:
    if ttl is UNSET:
        span = round(border.handle.settings.lifecycle.session_ttl_days * _DAY) or None
    else:
        span = None if ttl is None else check_ttl(ttl)
    return SessionPlace(run_id, agent_id, session_key(agent_id, run_id), span, embed)
