"""A shard: a store with one owner, and what it answers. Knows nothing of Ray, whose actor is in
``clusteractors.py``."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from agentmem.client.memory import Memory
from agentmem.client.owning import OwnedStore
from agentmem.client.partial import corpus_of, naming, search_part
from agentmem.distributed.shardmap import MapObject, ShardMap
from agentmem.types.clock import Clock
from agentmem.types.enums import ALL
from agentmem.types.errors import AgentMemError, FencedError, StoreError
from agentmem.types.ports import AnyEmbedder
from agentmem.types.records import MemoryRecord, Page

if TYPE_CHECKING:
    from agentmem.settings import Settings

Ack: TypeAlias = Literal["local", "replicated"]
"""When a write is acknowledged: durable where the shard is, or also where it would come back from."""
STALE_S = 1.0
"""How old the last look at who owns the store may be for what only reads."""
DRAIN_S = 20.0
"""How long a shard that stops serving waits for the calls that it is in."""
RESUME_S = 30.0
"""After which a shard that was to be handed over, and was not, serves again."""
RENEW_S = 15.0
"""How often whoever moves users writes the map anew, so that all see that he goes on."""
LEFT_S = 60.0
"""How long the map is the same until users who were to move stay where they are: whoever moved them is gone."""


class Step(NamedTuple):
    """An attribute of what the step before gave, called with these arguments, or, with None, only looked up."""

    name: str
    arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call on a shard's client. ``bound`` is what ``scoped`` binds, empty for nothing, None for ``userless``;
    ``users`` are those whose memories it is about, None for nobody's; ``ids`` what is added without an id gets.
    ``version`` is that of the map by which the caller found the shard.

    Callers of other versions send these fields, too: others come at the end, and are read with ``getattr``, since an
    older caller does not send them, and an older shard does not read them."""

    steps: tuple[Step, ...]
    writes: bool
    ack: Ack
    version: int
    users: tuple[str | None, ...] = ()
    bound: Mapping[str, Any] | None = field(default_factory=dict[str, Any])
    ids: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """What became of a call: ``done`` with its result, ``raised`` with its error, or ``moved``: the shard, or the user,
    is elsewhere by now, and the call is to be made there. ``unknown``: it may count nevertheless."""

    kind: Literal["done", "raised", "moved"]
    value: Any = None
    unknown: bool = False


class Changes(NamedTuple):
    """What has happened in a shard after an event, up to ``last``, of what counts wherever it goes next, up to
    ``newest`` as of ``at``: ``records`` as they are now with their first ``vectors`` by id, the ids of what is
    ``gone``, and whether anything was ``erased``, whose ids nobody knows."""

    last: int
    newest: int
    at: datetime
    records: list[MemoryRecord]
    dim: int
    vectors: dict[str, list[float]]
    gone: list[str]
    erased: bool


class ShardStatus(NamedTuple):
    """How a shard is doing. ``behind`` is how many events would be lost with its machine, ``seconds`` how long it took
    to open; ``reused`` whether its store was there already."""

    shard: str
    state: str
    epoch: int
    turn: int
    node: str
    pid: int
    records: int
    behind: int
    calls: int
    refused: int
    seconds: float
    reused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSpec:
    """What an actor needs to know to be a shard. ``url`` is the cluster's."""

    url: str
    shard: str
    turn: int
    root: str
    interval_s: float
    settings: Settings | None = None
    embedder: AnyEmbedder = None
    clock: Clock | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Ray's, for the actor."""

    @property
    def own_settings(self) -> Settings | None:
        """The shard's, whose keys are its own: a user who moves away is erased here, and his key here with him."""
        if self.settings is None or self.settings.backup.keyring is None:
            return self.settings
        keyring = f"{self.settings.backup.keyring.rstrip('/')}/{self.shard}"
        backup = self.settings.backup.model_copy(update={"keyring": keyring})
        return self.settings.model_copy(update={"backup": backup})

    @property
    def store_url(self) -> str:
        """Where the shard's increments lie."""
        return f"{self.url.rstrip('/')}/shards/{self.shard}"


class Shard:
    """Thread-safe. It serves from ``open`` until ``drain``, or until somebody else takes the store."""

    def __init__(self, spec: ShardSpec, maps: MapObject, node: str) -> None:
        self._spec, self._maps, self._node = spec, maps, node
        self._store = OwnedStore(
            spec.store_url,
            spec.root,
            name=f"{spec.shard} on {node}",
            turn=spec.turn,
            settings=spec.own_settings,
            embedder=spec.embedder,
            clock=spec.clock,
            interval_s=spec.interval_s,
        )
        self._map = maps.read()
        self._free = threading.Condition()
        self._inside = Counter[int]()
        """The calls that it is in, by the version of the map that they were admitted by."""
        self._calls = self._refused = 0
        self._state = "new"
        self._spare: Memory | None = None
        self._opening = threading.Lock()
        self._drained_at = 0.0
        self._opened_in = 0.0
        self._seen: tuple[int, float] = (self._map.version, 0.0)
        """The map by which a write of a user on his way was refused, and since when it is that."""

    @property
    def is_over(self) -> bool:
        """Whether the store is somebody else's."""
        return self._state == "fenced"

    def open(self) -> None:
        """Own the store, and serve. Raises ``FencedError`` where the shard was handed on to a later turn."""
        with self._opening:
            if self._state == "new":
                self._open()

    def open_if_due(self) -> None:
        """The same, if the map says that it is this one's turn."""
        if self._is_due():
            self.open()

    def _is_due(self) -> bool:
        self._map = self._maps.read()
        return self._map.turns.get(self._spec.shard) == self._spec.turn

    def _open(self) -> None:
        begun = time.monotonic()
        try:
            self._store.take().warm_up()
        except FencedError:
            self._state = "fenced"
            raise
        self._opened_in = time.monotonic() - begun
        self._state = "serving"
        if self._spare is not None:
            self._spare.close()

    def prepare(self) -> int:
        """Read what the owner of now has shipped, so that ``open`` is quick; its last event."""
        if self._spare is None:
            # Loads the code and the model, which the first store of a process takes most of its time for.
            spec = self._spec
            self._spare = Memory(":memory:", settings=spec.settings, embedder=spec.embedder)
            self._spare.add("warm up")
            self._spare.search("warm up")
        return self._store.prepare()

    def learn(self, made: ShardMap) -> None:
        """Go by this map from now on, and wait for the calls that came by an older one."""
        with self._free:
            if made.version > self._map.version:
                self._map = made
            self._wait_for(lambda: not any(count for at, count in self._inside.items() if at < made.version))

    def drain(self) -> None:
        """Refuse calls from now on, wait for those that are in, and ship the rest: then nothing is lost with this."""
        with self._free:
            self._state, self._drained_at = "drained", time.monotonic()
            self._wait_for(lambda: not self._inside.total())
        self._store.confirm()

    def _wait_for(self, is_so: Callable[[], bool]) -> None:
        if not self._free.wait_for(is_so, DRAIN_S):
            raise StoreError(f"the calls that shard {self._spec.shard} is in did not end in {DRAIN_S:g} s")

    def resume(self) -> None:
        """Serve again after a ``drain`` that nobody took over from."""
        self._store.check()
        self._store.hold_back(False)
        self._state = "serving"

    def hold_back(self) -> None:
        """Get ready for a ``drain``: what is to be shipped then is to be little."""
        self._store.hold_back(True)
        self._store.confirm()

    def status(self) -> ShardStatus:
        """How it is doing."""
        serving = self._state in ("serving", "drained")
        records = self._store.memory.count(user_id=ALL, under=()) if serving else 0
        claim = self._store.claim if serving else None
        return ShardStatus(
            self._spec.shard, self._state, 0 if claim is None else claim.epoch, self._spec.turn, self._node,
            os.getpid(), records, self._store.behind, self._calls, self._refused, self._opened_in, self._store.reused,
        )  # fmt: skip

    def changes(self, after: int, limit: int) -> Changes:
        """What has happened after an event."""
        self._store.check()
        at, newest, memory = datetime.now(UTC), self._store.claim.seq, self._store.memory
        events = [event for event in memory.events(after=after, limit=limit) if event.seq <= newest]
        ids = list(dict.fromkeys(event.id for event in events if event.id is not None))
        there = {id: memory.get(id, touch=False, data=False) for id in ids}
        held = [one for one in memory.vectors(ids) if one is not None and len(one.vectors)]
        return Changes(
            events[-1].seq if len(events) == limit else newest, newest, at,
            [record for record in there.values() if record is not None],
            len(memory.embed(["of any text"])[0]) if there else 0,
            {one.id: one.vectors[0].tolist() for one in held},
            [id for id, record in there.items() if record is None],
            any(event.id is None and event.version for event in events),
        )  # fmt: skip

    def listed(self, cursor: str | None) -> Page:
        """The next of all records, in whatever namespace."""
        return self._store.memory.page(user_id=ALL, under=(), limit=1_000, cursor=cursor, data=False, touch=False)

    def close(self) -> None:
        """Close the store."""
        self._state = "closed"
        self._store.close()

    # -- calls ---------------------------------------------------------------------------------------------------------

    def call(self, call: Call) -> Outcome:
        """Answer a call. What it raises is in the outcome."""
        by = self._enter(call)
        if by is None:
            return Outcome("moved")
        try:
            return self._answer(call)
        finally:
            with self._free:
                self._inside[by] -= 1
                self._free.notify_all()

    def _enter(self, call: Call) -> int | None:
        """By which version of the map the call is admitted; None if it is not."""
        if call.version > self._map.version:
            self._map = self._maps.read()
        if self._state != "serving":
            self._go_on()
        elif call.writes and any(map(self._map.is_leaving, call.users)):
            self._keep_if_left()
        with self._free:
            self._calls += 1
            if self._state == "serving" and self._is_here(call):
                self._inside[self._map.version] += 1
                return self._map.version
            self._refused += 1
            return None

    def _go_on(self) -> None:
        """Whoever was to hand the shard over may be gone in the middle of it."""
        if self._state == "new":
            self.open_if_due()
        elif self._state == "drained" and time.monotonic() - self._drained_at > RESUME_S and self._is_due():
            self.resume()

    def _keep_if_left(self) -> None:
        """Have users stay whom somebody began to move, and went on no more. If he does, he is told in the end."""
        now, seen = time.monotonic(), self._maps.read()
        self._map = seen
        if seen.version != self._seen[0] or not self._seen[1]:
            self._seen = seen.version, now
        elif now - self._seen[1] > LEFT_S:
            self._map = self._maps.change(lambda it: it.staying(self._spec.shard) if it.version == seen.version else it)

    def _is_here(self, call: Call) -> bool:
        known, me = self._map, self._spec.shard
        return all(known.shard_of(user) == me and not (call.writes and known.is_leaving(user)) for user in call.users)

    def _answer(self, call: Call) -> Outcome:
        committed = False
        try:
            if not call.writes:
                self._store.check_lately(STALE_S)
            result = run(self._client(call), call.steps)
            if call.writes:
                committed = True
                # Whoever was stopped before this, and is not the owner any more when he wakes up, acknowledges nothing.
                if call.ack == "replicated":
                    self._store.confirm()
                else:
                    self._store.keep_up()
        except FencedError:
            self._state = "fenced"
            return Outcome("moved", unknown=committed)
        except StoreError as exc:
            # Of an owner who was stopped, and whose store another one has put away, it says nothing.
            return Outcome("moved", unknown=committed) if self._lost_it() else Outcome("raised", exc, unknown=committed)
        except AgentMemError as exc:
            return Outcome("raised", exc, unknown=committed)
        except Exception as exc:
            # The caller's own, a bad argument for one, or an error of ours: either way it is his answer.
            return Outcome("raised", exc)
        return Outcome("done", result)

    def _lost_it(self) -> bool:
        try:
            self._store.check()
        except FencedError:
            self._state = "fenced"
        return self.is_over

    def _client(self, call: Call) -> Memory:
        memory = self._store.memory
        if call.bound is None:
            memory = memory.userless()
        elif call.bound:
            memory = memory.scoped(**call.bound)
        return naming(memory, call.ids) if call.ids else memory


PARTIAL: dict[str, Callable[..., Any]] = {"corpus_of": corpus_of, "search_part": search_part}
"""Steps that are no methods of a client."""


def run(target: Any, steps: Sequence[Step]) -> Any:
    """What the last step gives."""
    for step in steps:
        partial_call = PARTIAL.get(step.name)
        target = getattr(target, step.name) if partial_call is None else partial(partial_call, target)
        if step.arguments is not None:
            given, named = step.arguments
            target = target(*given, **named)
    return target
