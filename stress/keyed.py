"""``keyed``: records by key in namespaces beside LangGraph's SqliteStore, with one embedder, call by call in turn.

Both stores are open in one process and take turns with every call, so that whatever else the machine does slows both.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Protocol

import typer
from rich.table import Table

from agentmem import Embedder as Model
from agentmem import Memory
from agentmem.embedding import open_embedder
from stress.options import Embedder, Json, Seed, Texts
from stress.outcome import Outcome, console, plain
from stress.texts import Profile, maker, question

Place = tuple[str, str]
"""A namespace's last name, and a key."""
_LIMITS = {
    "put new": 1.0, "overwrite": 1.2, "batch put, per item": 1.0, "get": 2.0, "query in a namespace": 0.5,
    "put then search": 1.0, "list namespaces": 1.0, "filter only": 2.0,
}  # fmt: skip
"""How many times the other's median each is meant to take at most."""


class Store(Protocol):
    def put(self, where: Place, text: str, tag: int) -> object: ...
    def put_many(self, items: Sequence[tuple[Place, str, int]]) -> object: ...
    def get(self, where: Place) -> str | None: ...
    def search(self, namespace: str, query: str) -> list[str]: ...
    def filter(self, namespace: str, tag: int) -> list[str]: ...
    def namespaces(self) -> int: ...
    def delete(self, where: Place) -> object: ...


class Ours:
    def __init__(self, folder: Path, model: Model, stack: ExitStack) -> None:
        self._memory = stack.enter_context(Memory(folder, embedder=model))
        self._memory.warm_up()

    def put(self, where: Place, text: str, tag: int) -> object:
        return self._memory.put(where[1], text, namespace=("items", where[0]), metadata={"tag": tag})

    def put_many(self, items: Sequence[tuple[Place, str, int]]) -> object:
        return self._memory.put_many(
            [
                {"key": key, "namespace": ("items", name), "content": text, "metadata": {"tag": tag}}
                for (name, key), text, tag in items
            ]
        )

    def get(self, where: Place) -> str | None:
        found = self._memory.get(key=where[1], namespace=("items", where[0]))
        return None if found is None else found.content

    def search(self, namespace: str, query: str) -> list[str]:
        return [hit.content for hit in self._memory.search(query, namespace=("items", namespace), mode="vector")]

    def filter(self, namespace: str, tag: int) -> list[str]:
        page = self._memory.page(namespace=("items", namespace), filters={"tag": tag}, limit=10)
        return [record.content for record in page.records]

    def namespaces(self) -> int:
        return len(self._memory.namespaces(under=("items",)))

    def delete(self, where: Place) -> object:
        return self._memory.delete(key=where[1], namespace=("items", where[0]))


class LangGraphs:
    """Any store with LangGraph's interface."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._put: Callable[..., Any] = import_module("langgraph.store.base").PutOp

    def put(self, where: Place, text: str, tag: int) -> object:
        return self._store.put(("items", where[0]), where[1], {"text": text, "tag": tag})

    def put_many(self, items: Sequence[tuple[Place, str, int]]) -> object:
        return self._store.batch(
            [self._put(("items", name), key, {"text": text, "tag": tag}) for (name, key), text, tag in items]
        )

    def get(self, where: Place) -> str | None:
        found = self._store.get(("items", where[0]), where[1])
        return None if found is None else found.value["text"]

    def search(self, namespace: str, query: str) -> list[str]:
        return [item.value["text"] for item in self._store.search(("items", namespace), query=query, limit=10)]

    def filter(self, namespace: str, tag: int) -> list[str]:
        found = self._store.search(("items", namespace), filter={"tag": tag}, limit=10)
        return [item.value["text"] for item in found]

    def namespaces(self) -> int:
        return len(self._store.list_namespaces(prefix=("items",)))

    def delete(self, where: Place) -> object:
        return self._store.delete(("items", where[0]), where[1])


def through_adapter(folder: Path, model: Model, stack: ExitStack) -> Store:
    adapter = import_module("agentmem.adapters.langgraph")
    memory = stack.enter_context(Memory(folder, embedder=model))
    memory.warm_up()
    return LangGraphs(adapter.AgentMemStore(memory, index={"fields": ["text"]}))


def theirs(folder: Path, model: Model, stack: ExitStack) -> Store:
    sqlite = import_module("langgraph.store.sqlite")
    folder.mkdir(parents=True)
    index = {
        "dims": model.dim,
        "embed": lambda texts: model.embed_documents(texts).tolist(),
        "fields": ["text"],
    }
    store: Any = stack.enter_context(sqlite.SqliteStore.from_conn_string(str(folder / "store.db"), index=index))
    store.setup()
    return LangGraphs(store)


def keyed(
    items: Annotated[int, typer.Option(min=100, max=100_000, help="Items in each store.")] = 5_000,
    namespaces: Annotated[int, typer.Option(min=1, max=1_000, help="Namespaces that they lie in.")] = 10,
    calls: Annotated[int, typer.Option(min=10, max=10_000, help="Calls of each kind.")] = 200,
    batch_size: Annotated[int, typer.Option(min=1, max=1_000, help="Items of a batch.")] = 100,
    adapter: Annotated[bool, typer.Option("--adapter", help="Through agentmem's store for LangGraph.")] = False,
    profile: Texts = Profile.DIALOGUE,
    embedder: Embedder = None,
    seed: Seed = 7,
    json: Json = None,
) -> None:
    """Put, overwrite, get, search, list and delete by key, in turn with LangGraph's SqliteStore; medians of calls."""
    outcome = Outcome("keyed", plain(locals()))
    model = open_embedder(embedder, cache_size=0)
    model.embed_query("warm up")
    with tempfile.TemporaryDirectory(prefix="agentmem-keyed-") as folder, ExitStack() as stack:
        opened = through_adapter if adapter else Ours
        stores: dict[str, Store] = {"agentmem": opened(Path(folder) / "ours", model, stack)}
        try:
            stores["langgraph"] = theirs(Path(folder) / "theirs", model, stack)
        except ImportError as exc:
            console.print(f"langgraph: not installed ({exc}); pip install langgraph-checkpoint-sqlite", markup=False)
        times = _Turns(stores, items, namespaces, batch_size, profile, seed)
        times.fill()
        times.run(calls)
        outcome.checks.problems += times.problems
    outcome.notes["milliseconds"] = _show(times.spent)
    outcome.finish(json)


class _Turns:
    """Every call on each store in turn; the one that begins changes each time."""

    def __init__(
        self, stores: dict[str, Store], items: int, namespaces: int, batch_size: int, profile: Profile, seed: int
    ) -> None:
        self.spent: dict[str, dict[str, list[float]]] = {}
        self.problems: list[str] = []
        self._stores = stores
        self._names = [f"ns-{n}" for n in range(namespaces)]
        self._items, self._batch = items, batch_size
        self._text, self._ask = maker(profile, seed), question(seed)
        self._random = random.Random(seed)
        self._turn = 0
        self._held: dict[Place, str] = {}

    def _place(self, number: int) -> Place:
        return self._names[number % len(self._names)], f"key-{number}"

    def _each(self, name: str, call: Callable[[Store], object], share: int = 1) -> list[object]:
        order = list(self._stores)
        self._turn += 1
        if self._turn % 2:
            order.reverse()
        found = dict[str, object]()
        for each in order:
            start = time.perf_counter()
            found[each] = call(self._stores[each])
            self.spent.setdefault(name, {}).setdefault(each, []).append((time.perf_counter() - start) / share)
        return [found[each] for each in self._stores]

    def fill(self) -> None:
        for start in range(0, self._items, self._batch):
            numbers = range(start, min(start + self._batch, self._items))
            batch = [(self._place(n), self._text(0, n), n % 50) for n in numbers]
            self._each("batch put, per item", lambda store, batch=batch: store.put_many(batch), len(batch))
            self._held |= {place: text for place, text, _ in batch}

    def run(self, calls: int) -> None:
        for n in range(calls):
            place, text = self._place(self._items + n), self._text(1, n)
            self._each("put new", lambda store, p=place, t=text, n=n: store.put(p, t, n % 50))
            self._held[place] = text
        for n in range(calls):
            place, text = self._place(self._random.randrange(self._items)), self._text(2, n)
            self._each("overwrite", lambda store, p=place, t=text, n=n: store.put(p, t, n % 50))
            self._held[place] = text
        for _ in range(calls):
            place = self._place(self._random.randrange(self._items))
            for found in self._each("get", lambda store, p=place: store.get(p)):
                if found != self._held[place]:
                    self.problems.append(f"{place} is {found!r}, not {self._held[place]!r}")
        for name in self._names:  # each namespace once before, unmeasured: the first search loads what it holds
            for store in self._stores.values():
                store.search(name, "warm up")
        for n in range(calls):
            name, query = self._names[n % len(self._names)], self._ask(n)
            self._each("query in a namespace", lambda store, s=name, q=query: store.search(s, q))
        for n in range(calls):
            place, text = self._place(2 * self._items + n), self._text(3, n)
            found = self._each(
                "put then search", lambda store, p=place, t=text, n=n: (store.put(p, t, n % 50), store.search(p[0], t))
            )
            if any(text not in hits for _, hits in found):  # type: ignore[misc]
                self.problems.append(f"{text!r} was put, and not found")
        for n in range(calls):
            name = self._names[n % len(self._names)]
            self._each("filter only", lambda store, s=name, n=n: store.filter(s, n % 50))
        for _ in range(calls):
            if any(found != len(self._names) for found in self._each("list namespaces", lambda s: s.namespaces())):
                self.problems.append("a namespace is missing")
        for n in range(calls):
            place = self._place(self._items + n)
            self._each("delete", lambda store, p=place: store.delete(p))


def _show(spent: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    table = Table(title="medians, milliseconds", title_justify="left")
    for column in ("call", "agentmem", "langgraph", "ratio", "meant"):
        table.add_column(column, justify="left" if column == "call" else "right", no_wrap=True)
    medians = {
        name: {each: round(1_000 * median(times), 4) for each, times in by_store.items()}
        for name, by_store in spent.items()
    }
    for name, of in medians.items():
        other = of.get("langgraph")
        ratio = "" if other is None else f"{of['agentmem'] / other:.2f}"
        meant = f"{_LIMITS[name]:g}" if name in _LIMITS else ""
        table.add_row(name, f"{of['agentmem']:.3f}", "" if other is None else f"{other:.3f}", ratio, meant)
    console.print(table)
    return medians
