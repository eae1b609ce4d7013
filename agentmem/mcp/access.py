"""Whose memories a request may use, and whether it may change them: settled by who runs the server, or by a key."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from agentmem import AsyncMemory


def _always() -> bool:
    return True


@dataclass(frozen=True)
class Access:
    """What one caller has: a view of the store, and what may be done in it."""

    view: AsyncMemory
    """Bound to a user, or to nobody: no argument of a tool leads out of it."""
    user_id: str | None
    agent_id: str | None = None
    namespace: tuple[str, ...] = ()
    """Where the view is at home: it has this one and all below it."""
    read: bool = True
    write: bool = True
    holds: Callable[[], bool] = _always
    """Whether it is still so: a key may end while a client listens, or sends what it has to say."""
    writing: Callable[[], AbstractContextManager[None]] = nullcontext
    """Entered while something is written, so that whoever erases the user can wait for it."""

    def may(self, writes: bool) -> bool:
        """Whether something that changes memories, or does not, may be done."""
        return self.write if writes else self.read

    def concerns(self, user_id: str | None, agent_id: str | None, namespace: tuple[str, ...]) -> bool:
        """Whether what happened to a record with this scope is this caller's to know."""
        if user_id != self.user_id or (self.agent_id is not None and agent_id != self.agent_id):
            return False
        return namespace[: len(self.namespace)] == self.namespace


def access_to(
    memory: AsyncMemory,
    *,
    user_id: str | None,
    agent_id: str | None = None,
    namespace: tuple[str, ...] = (),
    read: bool = True,
    write: bool = True,
    holds: Callable[[], bool] = _always,
    writing: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Access:
    """Access to a user's memories (None: those of nobody), of all agents or of one, at a namespace and below it.

    Raises ``ScopeError`` and ``InvalidInputError`` for ids and names that cannot be.
    """
    view = memory.userless(agent_id=agent_id) if user_id is None else memory.scoped(user_id=user_id, agent_id=agent_id)
    if namespace:
        view = view.scoped(under=namespace)
    return Access(view, user_id, agent_id, namespace, read, write, holds, writing)
