"""``sessions``: our session for the OpenAI Agents SDK beside its SQLiteSession, call by call in turn.

Both are open in one process, on one event loop, and take turns with every call, so that what else the machine does
slows both. What they return is compared.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.table import Table

from agentmem import Memory, MissingExtraError
from stress.options import Json, Seed, Texts
from stress.outcome import Outcome, console, plain
from stress.texts import Profile, maker

_LIMITS = {"add": 1.2, "get all": 2.0, "pop": 1.5}
"""How many times the other's median each is meant to take at most."""


def sessions(
    items: Annotated[int, typer.Option(min=20, max=100_000, help="Items in each session.")] = 600,
    calls: Annotated[int, typer.Option(min=5, max=10_000, help="Calls of each kind.")] = 200,
    profile: Texts = Profile.DIALOGUE,
    seed: Seed = 7,
    json: Json = None,
) -> None:
    """Add, get and pop items of a session, in turn with the OpenAI Agents SDK's SQLiteSession; medians of calls."""
    outcome = Outcome("sessions", plain(locals()))
    try:
        ours, theirs = import_module("agentmem.adapters.openai_agents"), import_module("agents")
    except MissingExtraError as exc:
        console.print(str(exc), markup=False)
        raise typer.Exit(2) from exc
    with tempfile.TemporaryDirectory(prefix="agentmem-sessions-") as folder, Memory(Path(folder) / "store") as memory:
        memory.count()
        both = {
            "agentmem": ours.AgentMemSession("session", memory, user_id="ana"),
            "sqlite": theirs.SQLiteSession("session", Path(folder) / "theirs.db"),
        }
        turns = _Turns(both, maker(profile, seed))
        asyncio.run(turns.run(items, calls, Path(folder)))
        both["sqlite"].close()
    outcome.checks.problems += turns.problems
    outcome.notes["milliseconds"] = _show(turns.spent)
    outcome.finish(json)


class _Turns:
    """Every call on each session in turn; the one that begins changes each time."""

    def __init__(self, both: dict[str, Any], text: Callable[[int, int], str]) -> None:
        self.spent: dict[str, dict[str, list[float]]] = {}
        self.problems: list[str] = []
        self._both, self._text = both, text
        self._turn = 0

    async def run(self, items: int, calls: int, folder: Path) -> None:
        for n in range(0, items, 2):
            await self._each("add two", lambda session, n=n: session.add_items([self._item(n), self._item(n + 1)]))
        for n in range(calls):
            await self._each("add", lambda session, n=n: session.add_items([self._item(items + n)]))
        for _ in range(calls):
            await self._each("pop", lambda session: session.pop_item())
        for _ in range(calls):
            await self._each("get all", lambda session: session.get_items())
        for _ in range(calls):
            await self._each("get 20", lambda session: session.get_items(20))
        for n in range(calls // 5):
            await self._each("add, then get all", lambda session, n=n: self._added(session, n))
            await self._each("pop, then get all", self._popped)
        for _ in range(calls // 20 + 1):
            await self._opened_anew(folder)

    async def _each(self, name: str, call: Callable[[Any], Awaitable[Any]]) -> None:
        order = list(self._both)
        self._turn += 1
        if self._turn % 2:
            order.reverse()
        found = dict[str, Any]()
        for each in order:
            start = time.perf_counter()
            found[each] = await call(self._both[each])
            self.spent.setdefault(name, {}).setdefault(each, []).append(time.perf_counter() - start)
        if found["agentmem"] != found["sqlite"]:
            self.problems.append(f"{name}: {str(found['agentmem'])[:200]} is not {str(found['sqlite'])[:200]}")

    async def _added(self, session: Any, n: int) -> Any:
        await session.add_items([self._item(n)])
        return await session.get_items()

    async def _popped(self, session: Any) -> Any:
        await session.pop_item()
        return await session.get_items()

    async def _opened_anew(self, folder: Path) -> None:
        """Another client, as in a process that has just begun, on an open store."""
        kept = self._both
        with Memory(folder / "store") as memory:
            memory.count()
            ours, theirs = kept["agentmem"], kept["sqlite"]
            again = type(theirs)("session", folder / "theirs.db")
            self._both = {"agentmem": type(ours)("session", memory, user_id="ana"), "sqlite": again}
            await self._each("first get all", lambda session: session.get_items())
            again.close()
        self._both = kept

    def _item(self, number: int) -> dict[str, Any]:
        """What a user says, or the answer as the SDK keeps it."""
        text = self._text(0, number)
        if number % 2 == 0:
            return {"role": "user", "content": text}
        said = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        id = f"msg_{number:032x}"
        return {"id": id, "type": "message", "role": "assistant", "status": "completed", "content": [said]}


def _show(spent: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    table = Table(title="medians, milliseconds", title_justify="left")
    for column in ("call", "agentmem", "sqlite", "ratio", "meant"):
        table.add_column(column, justify="left" if column == "call" else "right", no_wrap=True)
    medians = {
        name: {each: round(1_000 * median(times), 4) for each, times in by_session.items()}
        for name, by_session in spent.items()
    }
    for name, of in medians.items():
        meant = f"{_LIMITS[name]:g}" if name in _LIMITS else ""
        ratio = f"{of['agentmem'] / of['sqlite']:.2f}"
        table.add_row(name, f"{of['agentmem']:.3f}", f"{of['sqlite']:.3f}", ratio, meant)
    console.print(table)
    return medians
