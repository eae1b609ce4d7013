"""What models have cost, and what they may cost: reserved before each call, in the transaction that notes the call.

Days are those of UTC by the store's clock. A reservation counts as spent until it is known what the call came to; a
process that was killed during a call leaves it so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentmem.types.plain import Plain

KEPT = 400
"""Days of which is told what they cost."""


@dataclass(frozen=True)
class Prices:
    """What a million tokens cost, in whatever currency caps are in."""

    input: float = 0
    output: float = 0

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """What these cost."""
        return (input_tokens * self.input + output_tokens * self.output) / 1_000_000


@dataclass(frozen=True)
class Caps:
    """The most that a run, a user's day and a day of the whole store may come to; None: no limit."""

    run_tokens: int | None = None
    user_day_tokens: int | None = None
    day_tokens: int | None = None
    run_money: float | None = None
    user_day_money: float | None = None
    day_money: float | None = None


@dataclass(frozen=True)
class Spend(Plain):
    """What calls of models came to, those in flight with what was reserved for them."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    money: float = 0.0

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def plus(self, other: Spend) -> Spend:
        """Both together."""
        return Spend(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.money + other.money,
        )

    def minus(self, other: Spend) -> Spend:
        """What is left of it without the other one."""
        return self.plus(Spend(-other.calls, -other.input_tokens, -other.output_tokens, -other.money))


def of_day(data: Mapping[str, Any], day: str) -> Spend:
    """What a ledger says of a day."""
    return Spend(*data.get("days", {}).get(day, ()))


def booked(data: Mapping[str, Any], day: str, change: Spend) -> dict[str, Any]:
    """The ledger with a change of what a day came to."""
    days = dict(data.get("days", {}))
    spend = of_day(data, day).plus(change)
    days[day] = [spend.calls, spend.input_tokens, spend.output_tokens, spend.money]
    return {"days": dict(sorted(days.items())[-KEPT:])}


def exceeded(caps: Caps, run: Spend, user_day: Spend, day: Spend) -> str | None:
    """Which cap these would be above; None if they are within all of them."""
    for name, spend, tokens, money in (
        ("run", run, caps.run_tokens, caps.run_money),
        ("user_day", user_day, caps.user_day_tokens, caps.user_day_money),
        ("day", day, caps.day_tokens, caps.day_money),
    ):
        if tokens is not None and spend.tokens > tokens:
            return f"{name}_tokens"
        if money is not None and spend.money > money:
            return f"{name}_money"
    return None
