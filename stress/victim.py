"""The process that ``crash`` kills: it writes at full speed through the public API and prints what was acknowledged.

Each operation is announced before it begins and acknowledged after it returned, one JSON line each on standard output;
what was announced and not acknowledged may be there or not, but only whole. Started with a ``Task`` on standard input.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import shutil
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from agentmem import ALL, AddResult, AgentMemError, AsyncMemory, Memory, Put, Settings, Touch, restore
from agentmem.indexes import driver
from agentmem.retrieval import building
from stress.points import arm
from stress.talk import talking

WORDS = "harbour lantern copper meadow winter engine paper violin garden river market silver".split()
BATCH, CHUNK, TOGETHER, SWEPT, LEFT = 40, 60, 12, 250, 25
MONTH = 30 * 86_400
"""Seconds: beyond the time to which the sweeps of a trial look ahead."""
KEYS = [f"key {n}" for n in range(8)]
KEYED: dict[str, Any] = {"user_id": "keyed", "namespace": ("keys", "of", "the victim")}
RUN = 1_000_000
"""Numbers of operations per trial: each operation of a store has one of its own."""

LARGE_SCOPES = ("codes", "graph", "on disk")
"""What a child may do with scopes that are too large to be searched exactly."""
INDEXED = 300
"""Vectors from which LanceDB makes an index then."""


class HashedWords:
    """An embedder without a model: the normalised sum of a fixed random vector per word, the same in every process."""

    def __init__(self, dim: int = 32) -> None:
        self.dim = dim
        self.name = f"hashed-words-{dim}"

    def embed_documents(self, texts: Sequence[str]) -> Any:
        return np.array([self.embed_query(text) for text in texts], np.float32).reshape(len(texts), self.dim)

    def embed_query(self, text: str) -> Any:
        total = np.sum([_word(word, self.dim) for word in text.split()], axis=0)
        return (total / np.linalg.norm(total)).astype(np.float32)


def other_dim(dim: int) -> int:
    """The size of the vectors that a store moves to."""
    return 80 - dim


@lru_cache(100_000)
def _word(word: str, dim: int) -> Any:
    seed = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
    return np.random.default_rng(seed).standard_normal(dim)


def text_of(n: int, item: int, revision: int = 0) -> str:
    """A text with a word of its own, so that it can be found by vector and by keyword."""
    pick = random.Random(n * 1_000 + item)
    return f"x{n}y{item}z{revision} {' '.join(pick.sample(WORDS, 4))}"


def data_of(n: int, item: int) -> dict[str, Any] | None:
    """What an item keeps besides its text: most nothing, some a little, few more than one statement writes."""
    if (n + item) % 4:
        return None
    return {"op": [n, item], "pad": "d" * (300_000 if n % 3 == 0 and item == 0 else 20)}


@dataclass
class Task:
    """What the child is to do."""

    path: str
    trial: int
    seed: int
    arena_limit: int
    engine: str = "auto"
    dim: int = 32
    also: str = ""
    point: str | None = None
    nth: int = 1
    seconds: float = 60.0
    known: list[tuple[str, bool]] = field(default_factory=list)
    """Ids of earlier records and whether they are live, to change them as well."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def backups_of(path: str | Path) -> Path:
    """Where the backups of a store go that is attacked."""
    return Path(f"{path}-backups")


def archives_of(path: str | Path) -> Path:
    """Where its archives go."""
    return Path(f"{path}-ice")


def restored_of(path: str | Path) -> Path:
    """Where they are restored to."""
    return Path(f"{path}-restored")


def settings_of(arena_limit: int, engine: Any = "auto", path: str | Path | None = None) -> Settings:
    """LanceDB is written all the time: every few hundred changes, at the latest after 20 ms.

    ``engine`` has the scopes beyond the limit; whoever searches those waits for codes that are being made. With the
    ``path`` of the store there are backups, of which nothing is kept but what the newest goes on from.

    ``sweep`` moves records by what they are, however often they were found.
    """
    never = {"promotion_accesses": 10**9, "promotion_span_hours": 10**6, "promotion_relevance": 1}
    return Settings(
        arena_limit=arena_limit,
        large_engine=engine,
        large_wait_s=60,
        follower_group=300,
        follower_delay_s=0.02,
        embedding_cache_size=0,
        # A sweep two days later promotes messages of importance 1, and lets the others expire.
        layers={"interact": never | {"promotion_threshold": 0.25}, "insights": never | {"promotion_threshold": 1}},
        lifecycle={"promotion_gate": "any"},
        backup={} if path is None else {"url": str(backups_of(path)), "keep_hours": 0, "keep_days": 0, "keep_weeks": 0},
        glacier={} if path is None else {"url": str(archives_of(path))},
    )


class Victim:
    """The writers, each a thread with a user of its own."""

    def __init__(self, task: Task) -> None:
        self.task = task
        settings, embedder = settings_of(task.arena_limit, task.engine, task.path), HashedWords(task.dim)
        self.memory = Memory(task.path, settings=settings, embedder=embedder)
        self.async_memory = AsyncMemory(task.path, settings=settings, embedder=embedder)
        self._numbers = itertools.count(task.trial * RUN)
        self._lock = threading.Lock()

    def say(self, **line: Any) -> None:
        data = (json.dumps(line) + "\n").encode()
        with self._lock:
            os.write(1, data)

    def begin(self, do: str, **what: Any) -> int:
        n = next(self._numbers)
        self.say(n=n, do=do, **what)
        return n

    def attempt(self, n: int, call: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """Make the call and acknowledge it, or say which error it raised."""
        try:
            outcome = call()
        except AgentMemError as exc:
            self.say(n=n, error=f"{type(exc).__name__}: {exc}")
            return None
        self.say(n=n, ok=True, **outcome)
        return outcome

    # -- one writer each ---------------------------------------------------------------------------------------------

    def add_singly(self, pick: random.Random) -> None:
        n = self.begin("add", user="single", size=1)
        text = text_of(n, 0)
        added = self.attempt(n, lambda: {"ids": [self.memory.add(_item(n, 0, 1), user_id="single").id]})
        if added and pick.random() < 0.2:
            mode = pick.choice(["vector", "keyword", "hybrid"])
            if added["ids"][0] not in [hit.id for hit in self.memory.search(text, user_id="single", mode=mode)]:
                self.say(n=n, error=f"not found by {mode} search right after its acknowledgement")

    def add_batch(self, pick: random.Random) -> None:
        size = pick.randint(2, BATCH)
        n = self.begin("add", user="batch", size=size)
        items = [_item(n, i, size) for i in range(size)]
        self.attempt(n, lambda: {"ids": [one.id for one in self.memory.add_many(items, user_id="batch")]})

    def add_stream(self, pick: random.Random) -> None:
        begun = list[int]()

        def items() -> Iterator[Any]:
            for _ in range(pick.randint(1, 5)):
                begun.append(self.begin("add", user="stream", size=CHUNK))
                yield from (_item(begun[-1], i, CHUNK) for i in range(CHUNK))

        acknowledged = iter(begun)
        for chunk in self.memory.add_stream(items(), chunk=CHUNK, user_id="stream"):
            self.say(n=next(acknowledged), ok=True, ids=[one.id for one in chunk])

    def add_together(self, pick: random.Random) -> None:
        async def one() -> None:
            n = self.begin("add", user="together", size=1)
            added = await self.async_memory.add(_item(n, 0, 1), user_id="together")
            self.say(n=n, ok=True, ids=[added.id])

        async def all_() -> None:
            await asyncio.gather(*[one() for _ in range(TOGETHER)])

        asyncio.run(all_())

    def change(self, pick: random.Random) -> None:
        live = [id for id, state in self.known.items() if state]
        gone = [id for id, state in self.known.items() if not state]
        if len(live) < 5:
            n = self.begin("add", user="change", size=1)
            added = self.attempt(n, lambda: {"ids": [self.memory.add(_item(n, 0, 1), user_id="change").id]})
            if added:
                self.known[added["ids"][0]] = True
            return
        do = pick.choices(["update", "repeat", "delete", "restore", "erase"], [10, 6, 6, 6 if gone else 0, 1])[0]
        id = pick.choice(gone if do == "restore" else live)
        if do == "repeat":
            records = [self.memory.get(one) for one in pick.sample(live, min(len(live), 20))]
            record = next((one for one in records if one is not None and one.data is None), None)
            if record is None:
                return  # with data, it would be another one
            n = self.begin(do, id=record.id)
            item = {
                "content": f"{record.content} ",
                "user_id": record.user_id,
                "kind": record.kind,
                "metadata": {"n": n},
            }
            self.attempt(n, lambda: {"status": self.memory.add(item).status})
            return
        if do == "update":
            n = self.begin(do, id=id)
            more = {"data": {"revision": n}} if pick.random() < 0.5 else {}
            self.attempt(n, lambda: {"version": self.memory.update(id, content=text_of(n, 0, 1), **more).version})
            return
        n = self.begin(do, id=id)
        if do == "delete":
            self.attempt(n, lambda: {"found": self.memory.delete(id)})
            self.known[id] = False
        elif do == "restore":
            self.attempt(n, lambda: {"version": self.memory.restore(id).version})
            self.known[id] = True
        else:
            self.attempt(n, lambda: {"erased": self.memory.erase(id).erased})
            del self.known[id]

    def reembed(self, pick: random.Random) -> None:
        n = self.begin("reembed")
        self.attempt(n, lambda: {"records": self.memory.reembed(HashedWords(other_dim(self.task.dim))).records})
        threading.Event().wait()

    def compact(self, pick: random.Random) -> None:
        self.memory.compact()

    def marks(self, pick: random.Random) -> None:
        """Have one merged table in which a few rows are marked as deleted, and nothing to merge them with."""
        n = self.begin("add", user="batch", size=SWEPT)
        items = [_item(n, i, SWEPT) for i in range(SWEPT)]
        added = self.attempt(n, lambda: {"ids": [one.id for one in self.memory.add_many(items, user_id="batch")]})
        self.memory.compact()
        for id in pick.sample(added["ids"], 3) if added else []:
            n = self.begin("delete", id=id)
            self.attempt(n, partial(lambda id: {"found": self.memory.delete(id)}, id))
        self.memory.compact()

    def codes(self, pick: random.Random) -> None:
        """Search a scope that is large, changes all the time and is kept again after each few changes."""
        n = self.begin("add", user="codes", size=SWEPT)
        items = [_item(n, i, SWEPT) for i in range(SWEPT)]
        added = self.attempt(n, lambda: {"ids": [one.id for one in self.memory.add_many(items, user_id="codes")]})
        for user in ("codes", "stream", ALL):
            self.memory.search(" ".join(pick.sample(WORDS, 2)), user_id=user)
        if added:
            self.memory.tiers.place(pick.sample(added["ids"], 3), pick.choice(["hot", "warm", "cold", None]))
        if self.task.also == "on disk":
            self.memory.compact()
        if added and pick.random() < 0.5:
            id = pick.choice(added["ids"])
            n = self.begin("erase", id=id)
            self.attempt(n, lambda: {"erased": self.memory.erase(id).erased})

    def sweep(self, pick: random.Random) -> None:
        """Add messages, then let their time be over."""
        n = self.begin("add", user="sweep", size=SWEPT)
        items = [_item(n, i, SWEPT) | {"role": "user", "importance": float(i % 2)} for i in range(SWEPT)]
        self.attempt(n, lambda: {"ids": [one.id for one in self.memory.add_many(items, user_id="sweep")]})
        n = self.begin("sweep")
        later = datetime.now(UTC) + timedelta(days=2)
        self.attempt(n, lambda: {"moved": self.memory.lifecycle.sweep(now=later).examined})

    def leave(self, pick: random.Random) -> None:
        """A user comes, and everything of him is erased."""
        user = f"leaver-{pick.getrandbits(60):015x}"
        n = self.begin("add", user=user, size=LEFT)
        items = [_item(n, i, LEFT) | {"run_id": f"run of {user}"} for i in range(LEFT)]
        self.attempt(n, lambda: {"ids": [one.id for one in self.memory.add_many(items, user_id=user)]})
        n = self.begin("erase_all", user=user)
        self.attempt(n, lambda: {"erased": self.memory.erase_all(user_id=user).erased})
        if pick.random() < 0.3:
            self.memory.compact()

    def glacier(self, pick: random.Random) -> None:
        """Records go to archives, are erased there, and some come back."""
        n = self.begin("add", user="glacier", size=LEFT)
        items = [_item(n, i, LEFT) for i in range(LEFT)]
        added = self.attempt(n, lambda: {"ids": [one.id for one in self.memory.add_many(items, user_id="glacier")]})
        if not added:
            return
        ids: list[str] = added["ids"]
        self.memory.tiers.archive(ids)
        for id in pick.sample(ids, 2):
            n = self.begin("erase", id=id)
            self.attempt(n, partial(lambda id: {"erased": self.memory.erase(id).erased}, id))
            ids.remove(id)
        self.memory.tiers.rehydrate(pick.sample(ids, 3))

    def backup(self, pick: random.Random) -> None:
        """Back up what the others do meanwhile, remove what is older, and make a store of it."""
        n = self.begin("backup")
        wanted = self.task.point or ""
        kinds = ["full"] if wanted.startswith("prune") else ["full", "incremental", "incremental"]  # which removes more
        kind = pick.choice(kinds)
        self.attempt(n, lambda: {"seq": self.memory.backup.create(kind).seq})  # type: ignore[arg-type]
        if wanted.startswith("prune") or pick.random() < 0.5:
            self.memory.backup.prune()
        if wanted.startswith("restore") or pick.random() < 0.5:
            shutil.rmtree(restored_of(self.task.path), ignore_errors=True)
            restore(backups_of(self.task.path), restored_of(self.task.path), embedder=HashedWords(self.task.dim))

    def in_place(self, pick: random.Random) -> None:
        """Add, and make the store what it is already, of a backup."""
        n = self.begin("add", user="batch", size=BATCH)
        items = [_item(n, i, BATCH) for i in range(BATCH)]
        self.attempt(n, lambda: {"ids": [one.id for one in self.memory.add_many(items, user_id="batch")]})
        n = self.begin("backup")
        self.attempt(n, lambda: {"seq": self.memory.backup.create("incremental").seq})
        self.memory.backup.restore()

    def by_key(self, pick: random.Random) -> None:
        """Replace what a few keys have, one alone, or several in one transaction."""
        several = pick.random() < 0.6
        keys = pick.sample(KEYS, pick.randint(2, 4) if several else 1)
        n = self.begin("apply" if several else "put", keys=keys)

        def put(item: int, key: str) -> Put:
            text, marks = text_of(n, item), {"n": n}
            return Put(key, text, **KEYED, metadata=marks, ttl=MONTH, sliding=True)  # type: ignore[arg-type]

        def apply() -> dict[str, Any]:
            changes = [put(item, key) for item, key in enumerate(keys)]
            touches = [Touch(key=key, **KEYED, ttl=MONTH + 3_600) for key in keys]  # type: ignore[arg-type]
            done = self.memory.apply([*changes, *touches])
            return {"versions": [one.record.version for one in done if isinstance(one, AddResult)]}

        def alone() -> dict[str, Any]:
            one = put(0, keys[0])
            done = self.memory.put(one.key, one.content, **KEYED, metadata=one.metadata, ttl=MONTH, sliding=True)
            return {"versions": [done.record.version]}

        self.attempt(n, apply if several else alone)

    def look(self, pick: random.Random) -> None:
        user = pick.choice(["single", "batch", "stream", "change"])
        self.memory.search(" ".join(pick.sample(WORDS, 2)), user_id=user)

    # -- the run -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        self.known = dict(self.task.known)
        arm(self.task.point, self.task.nth)
        if self.task.also in LARGE_SCOPES:
            building.AGAIN, building.CHANGES, driver.NEAR_FROM = 0.0, 0, INDEXED
        self.memory.warm_up()
        self.say(ready=True)
        work = [
            self.add_singly,
            self.add_batch,
            self.add_stream,
            self.add_together,
            self.change,
            self.by_key,
            self.look,
        ]
        also = {
            "reembed": self.reembed,
            "compact": self.compact,
            "sweep": self.sweep,
            "leave": self.leave,
            "codes": self.codes,
            "graph": self.codes,
            "on disk": self.codes,
            "backup": self.backup,
            "glacier": self.glacier,
        }
        work += [also[self.task.also]] if self.task.also in also else []
        if self.task.also == "talk":
            work.append(talking(self.task.path, self.task.trial, HashedWords(self.task.dim)))
        work = {"marks": [self.marks], "alone": [self.in_place]}.get(self.task.also, work)
        threads = [
            threading.Thread(target=self._forever, args=(one, random.Random(f"{self.task.seed} {one.__name__}")))
            for one in work
        ]
        for thread in threads:
            thread.daemon = True
            thread.start()
        threads[0].join(self.task.seconds)

    def _forever(self, work: Callable[[random.Random], None], pick: random.Random) -> None:
        while True:
            try:
                work(pick)
            except Exception:
                self.say(n=-1, error=traceback.format_exc(limit=-3))
                return


def _item(n: int, item: int, size: int) -> dict[str, Any]:
    data = data_of(n, item)
    return {"content": text_of(n, item), "metadata": {"op": [n, item, size]}} | ({} if data is None else {"data": data})


if __name__ == "__main__":
    import lancedb  # noqa: F401  (takes seconds; loaded before the clock of a trial starts)

    Victim(Task(**json.loads(sys.stdin.readline()))).run()
    os._exit(0)
