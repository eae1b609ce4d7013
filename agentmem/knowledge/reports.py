"""What consolidation tells of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from agentmem.knowledge.guards import Refusal
from agentmem.knowledge.ledger import Spend
from agentmem.types.plain import Plain

Status = Literal["done", "limited", "capped", "busy", "closed", "denied", "lost", "overrun"]


@dataclass(frozen=True)
class DeadLetter(Plain):
    """A message that no answer of use was had for. It stays where it is, and is not asked about again by itself."""

    id: str | None
    """The message's; None if it is gone."""
    why: str
    at: datetime


@dataclass(frozen=True)
class Proposal(Plain):
    """An operation that waits to be approved."""

    id: str
    op: str
    """``ADD``, ``SUPERSEDE`` or ``RETRACT``."""
    text: str
    """The fact; of a ``SUPERSEDE`` by a fact that is there, and of a ``RETRACT``, empty."""
    subject: str
    target: str | None
    """The id of the fact that is to be retired."""
    by: str | None
    """The id of the fact that is there and takes its place."""
    reason: str
    run_id: str
    quotes: tuple[str, ...]
    """What its sources say, as far as they are there."""
    valid_from: datetime | None = None
    valid_to: datetime | None = None


@dataclass(frozen=True)
class ConsolidationReport(Plain):
    """What a run, an approval or a revert did."""

    run_id: str
    status: Status
    """``done``: nothing is left. ``limited``: ``batches`` were done. ``capped``: the next call would be above a cap.
    ``busy``: another process is at it. ``closed``: the endpoint failed and is left alone for a while. ``denied``: it
    does not admit the key or the model. ``lost``: another process took over. ``overrun``: an answer cost more than a
    call may have cost."""
    detail: str = ""
    messages: int = 0
    """Messages whose results are stored."""
    added: int = 0
    superseded: int = 0
    retracted: int = 0
    unchanged: int = 0
    """Operations that said what is known, and inputs that had been paid for before."""
    proposed: int = 0
    """Operations that wait to be approved."""
    refused: tuple[Refusal, ...] = ()
    dead: int = 0
    """Messages that became dead letters."""
    failures: tuple[str, ...] = ()
    """Calls and answers that led to nothing, in order."""
    spend: Spend = field(default_factory=Spend)


@dataclass(frozen=True)
class ConsolidationState(Plain):
    """Where the consolidation of a user stands."""

    waiting: int
    """Messages that are yet to be looked at, counted up to 10,000."""
    dead: tuple[DeadLetter, ...]
    proposals: int
    running: bool
    closed_until: datetime | None
    """Until when the endpoint is left alone."""
    today: Spend
    """What the user's day came to so far."""
    store_today: Spend
    """What the day of the whole store came to so far."""


@dataclass(frozen=True)
class DaySpend(Plain):
    """What a day came to."""

    day: str
    spend: Spend
