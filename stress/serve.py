"""``serve``: what HTTP costs. Searches and single adds of one user, in process and over loopback by kept connections.

Nothing is cached, and both sides are processes of their own: the server's processor time is that of its processes
alone, though the load beside it takes a core.
"""

from __future__ import annotations

import asyncio
import json as json_
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.table import Table

from agentmem import AsyncMemory, Memory
from agentmem.server.keys import KeyStore
from stress.measure import Figure
from stress.options import Json, Seed
from stress.outcome import Outcome, console, plain
from stress.steps import serve as serve_steps
from stress.steps import step
from stress.texts import Profile, maker, question

USER = "ana"
ADDING = "bea"
"""Whose memories are added: a user's own, so that searches look at the same number of records each time."""
UNCACHED = {
    "AGENTMEM_MEMORY__PERFORMANCE__QUERY_CACHE_SIZE": "0",
    "AGENTMEM_MEMORY__PERFORMANCE__EMBEDDING_CACHE_SIZE": "0",
}
_LIMITS = {"search": 1.2, "add": 2.5}
"""How many times the processor time of a call in process each request is meant to take at most."""
_BEFORE = 8
"""Calls of each connection that are not measured, for what is made at first use."""
_P99 = 2.0
_TWO = 1.3
"""Searches a second that two workers are to answer at least, as a multiple of one's."""


def serve(
    records: Annotated[int, typer.Option(min=10, max=1_000_000, help="Records of the user.")] = 1_000,
    requests: Annotated[int, typer.Option(min=20, max=1_000_000, help="Requests of each kind.")] = 2_000,
    connections: Annotated[int, typer.Option(min=1, max=1_000, help="Connections, and calls at once in process.")] = 16,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Workers of the second server.")] = 2,
    seed: Seed = 7,
    json: Json = None,
) -> None:
    """Search and add over HTTP beside the same in process: processor time a request, latencies, workers."""
    outcome = Outcome("serve", plain(locals()))
    with tempfile.TemporaryDirectory(prefix="agentmem-serve-") as folder:
        path = Path(folder) / "store"
        _fill(path, records, seed)
        keys = KeyStore(path)
        tokens = [keys.create(user_id=user, scopes=["read", "write"]).token for user in (USER, ADDING)]
        keys.close()
        os.environ.update(UNCACHED)
        amounts = {"requests": requests, "connections": connections, "seed": seed}
        measured = {"in process": step("serve", "inside", path, **amounts)}
        for count in sorted({1, workers}):
            with _server(path, count) as (port, process):
                found = asyncio.run(_over_http(port, process, tokens, requests, connections, seed + count))
            measured[f"{count} worker{'s' * (count > 1)}"] = found
        with Memory(path) as memory:
            there = memory.count(user_id=ADDING)
    expected = len(measured) * (requests + _BEFORE * connections)
    if there != expected:
        outcome.checks.problems.append(f"{there} records were added, not {expected}")
    outcome.notes["measured"] = measured
    _show(measured, workers)
    outcome.finish(json)


def _fill(path: Path, records: int, seed: int) -> None:
    text = maker(Profile.DIALOGUE, seed)
    with Memory(path) as memory:
        for start in range(0, records, 1_000):
            numbers = range(start, min(start + 1_000, records))
            memory.add_many([f"{text(0, n)} ({n})" for n in numbers], user_id=USER)


def inside(folder: Path, *, requests: int, connections: int, seed: int) -> dict[str, Any]:
    """The same calls by one ``AsyncMemory``; a step."""

    async def measure() -> dict[str, Any]:
        async with AsyncMemory(folder) as memory:
            searched, adding = (memory.scoped(user_id=user) for user in (USER, ADDING))
            calls = _calls(seed, lambda query: searched.search(query), lambda text: adding.add(text))
            return {
                kind: await _measured(kind, [call] * connections, requests, time.process_time)
                for kind, call in calls.items()
            }

    return asyncio.run(measure())


async def _over_http(
    port: int, process: psutil.Process, tokens: list[str], requests: int, connections: int, seed: int
) -> dict[str, Any]:
    def spent() -> float:
        times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
        return sum(each.user + each.system for each in times)

    found = dict[str, Any]()
    for kind, token in zip(_LIMITS, tokens, strict=True):
        clients = [await _Connection.open(port, token) for _ in range(connections)]
        try:
            each = [
                _calls(
                    seed,
                    lambda query, client=client: client.post("/v1/search", {"query": query}, b"200"),
                    lambda text, client=client: client.post("/v1/memories", {"content": text}, b"201"),
                )[kind]
                for client in clients
            ]
            found[kind] = await _measured(kind, each, requests, spent)
        finally:
            for client in clients:
                client.close()
    return found


Call = Callable[[int], Awaitable[object]]


def _calls(
    seed: int, search: Callable[[str], Awaitable[object]], add: Callable[[str], Awaitable[object]]
) -> dict[str, Call]:
    ask, text = question(seed), maker(Profile.DIALOGUE, seed)
    return {
        "search": lambda number: search(f"{ask(number)} {number}"),
        "add": lambda number: add(f"{text(1, number)} ({seed}.{number})"),
    }


async def _measured(kind: str, calls: list[Call], requests: int, spent: Callable[[], float]) -> dict[str, Any]:
    """``requests`` calls, as many at once as there are ``calls``; some go before, for what is made at first use."""
    numbers, figure = iter(range(-_BEFORE * len(calls), requests)), Figure(kind)
    for _ in range(_BEFORE):
        await asyncio.gather(*(call(next(numbers)) for call in calls))

    async def work(call: Call) -> None:
        for number in numbers:
            with figure.timed():
                await call(number)

    cpu, start = spent(), time.perf_counter()
    await asyncio.gather(*(work(call) for call in calls))
    figure.seconds = time.perf_counter() - start
    return {**figure.to_dict(), "cpu_us": round(1e6 * (spent() - cpu) / requests)}


class _Connection:
    """A kept connection that sends one request after another. Plain sockets, so that the load costs little."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str) -> None:
        self._reader, self._writer = reader, writer
        self._head = (
            f"HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        )

    @classmethod
    async def open(cls, port: int, token: str) -> _Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port), token)

    async def post(self, path: str, body: dict[str, Any], status: bytes) -> bytes:
        sent = json_.dumps(body).encode()
        self._writer.write(f"POST {path} {self._head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        answer = await self._reader.readexactly(int(length[1])) if length else b""
        if head.split(b" ", 2)[1] != status:
            raise RuntimeError(f"{path}: {head!r} {answer!r}")
        return answer

    def close(self) -> None:
        self._writer.close()


@contextmanager
def _server(path: Path, workers: int) -> Generator[tuple[int, psutil.Process]]:
    command = [sys.executable, "-m", "agentmem", "serve", "--path", str(path), "--port", "0", "--workers", str(workers)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]) as process:
        assert process.stderr is not None
        try:
            said = process.stderr.readline()
            found = re.search(r":(\d+),", said)
            if found is None:
                raise RuntimeError(f"the server does not start: {said}")
            yield int(found[1]), psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


def _show(measured: dict[str, dict[str, Any]], workers: int) -> None:
    table = Table(title="requests", title_justify="left")
    for column in ("", "call", "CPU, µs", "ratio", "meant", "p50, ms", "p99, ms", "a second"):
        table.add_column(column, justify="right" if column not in ("", "call") else "left", no_wrap=True)
    for where, kinds in measured.items():
        for kind, one in kinds.items():
            base = measured["in process"][kind]
            ratio = "" if one is base else f"{one['cpu_us'] / base['cpu_us']:.2f}"
            meant = "" if one is base else f"{_LIMITS[kind]:g}"
            table.add_row(
                where, kind, f"{one['cpu_us']:,}", ratio, meant, f"{one['p50_ms']:.2f}", f"{one['p99_ms']:.2f}",
                f"{one['ops_per_second']:,.0f}",
            )  # fmt: skip
    console.print(table)
    one = measured["1 worker"]["search"]
    inside_ = measured["in process"]["search"]
    console.print(f"p99 of searches: {one['p99_ms'] / inside_['p99_ms']:.2f} times that in process; meant {_P99:g}")
    if workers > 1:
        more = measured[f"{workers} workers"]["search"]["ops_per_second"] / one["ops_per_second"]
        console.print(f"{workers} workers: {more:.2f} times the searches of one; two are meant to have {_TWO:g}")


if __name__ == "__main__":
    serve_steps({"inside": inside})
