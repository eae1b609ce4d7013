"""Reaching shards: which actor has one now, calls that are made again where it is elsewhere, and a limit to how many.

A call goes to the shard that the map names. Where that has moved, died or does not answer, the map is read again and
the call repeated, as long as that cannot do harm: what was refused was not done, and what has an id can be repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING, Any

from agentmem import __version__
from agentmem.archive.opening import open_objects
from agentmem.distributed import clusteractors
from agentmem.distributed.clusteractors import ray
from agentmem.distributed.clustercalls import always
from agentmem.distributed.shardmap import MapObject, ShardMap
from agentmem.distributed.shards import Call, Outcome, ShardSpec, ShardStatus
from agentmem.types.errors import (
    AgentMemError,
    CapacityError,
    ClosedError,
    ConflictError,
    NotFoundError,
    ShardUnavailableError,
    StoreError,
    StoreVersionError,
)
from agentmem.types.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Generator

PROBE_S = 4.0
"""Without an answer for so long, a shard is asked whether it answers at all."""
PING_S = 4.0
"""How long it has for that: then it is taken for hung, and another one takes its place."""
START_S = 90.0
"""How long one has that has yet to answer for the first time."""
_FIRST_S, _LONGEST_S = 0.02, 0.5
"""Pauses before a call is repeated."""
_THREADS = 64
_NOT_STARTED = "Ray has not started it yet, for want of room perhaps: `ray status` says what it waits for"


class SplitError(Exception):
    """The users of one call are in several shards by now. Never leaves the package."""


class _UnheardError(Exception):
    """A shard does not answer. Never leaves this file."""


class Core:
    """What a cluster's clients of one process share. Thread-safe."""

    def __init__(self, spec: ShardSpec, shards: int, patience_s: float, in_flight: int) -> None:
        clusteractors.connect()
        self.spec = spec
        self.patience_s = patience_s
        self.maps = MapObject(open_objects(spec.url))
        self.in_flight = in_flight
        self._limits = dict[str, BoundedSemaphore]()
        self._actors = dict[str, Any]()
        self._answered = dict[str, bool]()
        self._lock = Lock()
        self._threads = Pool(_THREADS, "agentmem-cluster")
        self._closed = False
        self.retried = 0
        """Calls that were made again, so far."""
        made = self.maps.create(shards)
        for shard in made.shards:
            self.actor(made, shard)

    @property
    def url(self) -> str:
        """Where the cluster lives."""
        return self.spec.url

    def forget(self) -> None:
        """Look for actors anew."""
        with self._lock:
            self._actors.clear()

    def close(self) -> None:
        """Let go of the shards, which go on."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    # -- calls ---------------------------------------------------------------------------------------------------------

    def ask(
        self,
        where: Callable[[ShardMap], str],
        call: Call,
        *,
        again: bool,
        stands: Callable[[Any], bool] = always,
        patience_s: float | None = None,
    ) -> Any:
        """The result of a call on the shard that ``where`` names; see ``Rule`` for ``again`` and ``stands``.

        Raises what the call raises, ``ShardUnavailableError`` where nobody answers, ``CapacityError`` where more calls
        are under way than may be, ``ClosedError``.
        """
        self._check_open()
        until = time.monotonic() + (self.patience_s if patience_s is None else patience_s)
        pause, tries, unknown = _FIRST_S, 0, False
        ping = not again or stands is not always
        made = self.maps.known()
        while True:
            shard, tries = where(made), tries + 1
            outcome = self._once(made, shard, replace(call, version=made.version), until, ping)
            if outcome.kind == "done":
                if unknown and not stands(outcome.value):
                    raise _met_itself(shard, f"answered {outcome.value!r}")
                return outcome.value
            # Written, and not confirmed in time: whoever says the same again is told once it counts.
            if outcome.kind == "raised" and not (outcome.unknown and again and time.monotonic() < until):
                if isinstance(outcome.value, TypeError | AttributeError):
                    what = f"{type(outcome.value).__name__}: {outcome.value}"
                    raise self._of_another_version(shard, self.actor(made, shard), what) or outcome.value
                if unknown and call.writes and isinstance(outcome.value, ConflictError | NotFoundError):
                    raise _met_itself(shard, f"was refused ({outcome.value})") from outcome.value
                raise outcome.value
            unknown = unknown or outcome.unknown
            if (outcome.unknown and not again) or time.monotonic() >= until:
                raise ShardUnavailableError(
                    (
                        f"shard {shard} stopped in the middle of a call that is not repeated by itself; look first"
                        if outcome.unknown and not again
                        else f"shard {shard} did not answer in time, after {tries} tries"
                    )
                    + (f": {outcome.value}" if outcome.value else ""),
                    shards=[shard],
                    unknown=unknown,
                )
            self.retried += 1
            time.sleep(min(pause, max(0.0, until - time.monotonic())))
            pause = min(pause * 2, _LONGEST_S)
            made = self.maps.read()

    def ask_several(
        self,
        calls: Mapping[str, Call],
        *,
        again: bool,
        stands: Callable[[Any], bool] = always,
        patience_s: float | None = None,
    ) -> dict[str, Any | ShardUnavailableError]:
        """The results of calls on shards, at the same time; in the place of what nobody answered, its error."""
        self._check_open()

        def one(shard: str) -> Any:
            try:
                return self.ask(lambda _: shard, calls[shard], again=again, stands=stands, patience_s=patience_s)
            except ShardUnavailableError as exc:
                return exc

        if len(calls) == 1:
            return {shard: one(shard) for shard in calls}
        return dict(zip(calls, self._threads.map(one, calls), strict=True))

    def each(self, run: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """What ``run`` makes of each item, at the same time."""
        self._check_open()
        return list(self._threads.map(run, items))

    def control(self, shard: str, name: str, *given: Any, timeout: float = 60.0, actor: Any = None) -> Any:
        """What a shard's actor answers to one of its own methods. Raises ``ShardUnavailableError``."""
        made = self.maps.known()
        try:
            if actor is not None:
                return self._got(shard, actor, clusteractors.asked(actor, name, *given), timeout)
            try:
                return self._controlled(made, shard, name, given, timeout)
            except ray().exceptions.RayActorError:  # it was elsewhere by then
                return self._controlled(self.maps.read(), shard, name, given, timeout)
        except (ray().exceptions.RayActorError, ray().exceptions.GetTimeoutError) as exc:
            raise ShardUnavailableError(f"shard {shard} does not answer: {exc}", shards=[shard]) from exc

    def _controlled(self, made: ShardMap, shard: str, name: str, given: tuple[Any, ...], timeout: float) -> Any:
        actor = self.actor(made, shard)
        try:
            return self._got(shard, actor, clusteractors.asked(actor, name, *given), timeout)
        except ray().exceptions.RayActorError as exc:
            self._lost(made, shard, exc)
            raise

    def statuses(self) -> dict[str, ShardStatus | ShardUnavailableError]:
        """How each shard is doing."""
        self._check_open()
        made = self.maps.read()

        def one(shard: str) -> Any:
            try:
                return self.control(shard, "status", timeout=10.0)
            except ShardUnavailableError as exc:
                return exc
            except StoreVersionError as exc:
                return ShardUnavailableError(str(exc), shards=[shard])

        return dict(zip(made.shards, self._threads.map(one, made.shards), strict=True))

    # -- actors --------------------------------------------------------------------------------------------------------

    def spec_of(self, shard: str, turn: int) -> ShardSpec:
        """What an actor is made with."""
        return replace(self.spec, shard=shard, turn=turn)

    def start(self, made: ShardMap, shard: str, *, standing_by: bool = False, node: str | None = None) -> Any:
        """An actor for a shard as the map has it, or for its next turn where it is only to stand by."""
        turn = made.turns.get(shard, 0) + standing_by
        there = replace(made, turns={**made.turns, shard: turn})
        more = {} if node is None else clusteractors.on_node(node)
        return clusteractors.start(there.actor(shard), self.spec_of(shard, turn), more, standing_by=standing_by)

    def replace_hung(self, made: ShardMap, shard: str, *, kill: bool = True) -> None:
        """Have another actor take the place of one that does not answer, and end that one, if it can be reached; if
        not, and it wakes up, the fence keeps it from what is not its own any more."""

        def next_turn(now: ShardMap) -> ShardMap:
            same = now.turns.get(shard) == made.turns[shard]
            return replace(now, turns={**now.turns, shard: now.turns[shard] + 1}) if same else now

        old = self._actors.pop(made.actor(shard), None)
        self.actor(self.maps.change(next_turn), shard)
        if old is not None and kill:
            clusteractors.kill(old)

    def actor(self, made: ShardMap, shard: str) -> Any:
        """The actor that has a shard now, started if there is none."""
        name = made.actor(shard)
        with self._lock:
            found = self._actors.get(name)
            if found is None:
                found = self._actors[name] = clusteractors.find(name) or self.start(made, shard)
            return found

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the cluster was closed; make another one for the place")

    def _once(self, made: ShardMap, shard: str, call: Call, until: float, ping: bool) -> Outcome:
        sent = False
        with self._admitted(shard, until):
            # Whoever waited for that knows of a shard that moved by now what those before him have learnt.
            if self.maps.known().turns.get(shard) != made.turns.get(shard):
                return Outcome("moved", "it went elsewhere meanwhile")
            try:
                actor = self.actor(made, shard)
                if ping:
                    # Of an actor that is dead already nobody could tell whether it had begun.
                    self._heard(made, shard, actor, actor.ping.remote(), until)
                sent = True
                return self._heard(made, shard, actor, actor.call.remote(call), until)
            except _UnheardError as exc:
                return Outcome("moved", str(exc), unknown=sent)
            except ray().exceptions.RayActorError as exc:
                self._lost(made, shard, exc)
                return Outcome("moved", str(exc), unknown=sent)

    def _heard(self, made: ShardMap, shard: str, actor: Any, reference: Any, until: float) -> Any:
        """What a shard's actor answers, which is waited for while it starts, and replaced if it hangs. Raises
        ``_UnheardError``, and what Ray raises where it is gone."""
        begun = time.monotonic()
        while True:
            ready, _ = ray().wait([reference], timeout=max(0.0, min(PROBE_S, until - time.monotonic())))
            if ready:
                answer = self._got(shard, actor, reference)
                self._answered[made.actor(shard)] = True
                return answer
            if time.monotonic() >= until:
                started = made.actor(shard) in self._answered or clusteractors.is_started(actor)
                raise _UnheardError("no answer" if started else _NOT_STARTED)
            try:
                ray().get(actor.ping.remote(), timeout=PING_S)
            except ray().exceptions.GetTimeoutError:
                if self._hangs(made, shard, actor, begun):
                    self.replace_hung(made, shard)
                    raise _UnheardError("it hangs, and another one takes its place") from None

    def _lost(self, made: ShardMap, shard: str, exc: Exception) -> None:
        """A shard's actor was gone, or could not be reached just then."""
        with self._lock:
            self._answered.pop(made.actor(shard), None)
            if not isinstance(exc, ray().exceptions.ActorUnavailableError):
                self._actors.pop(made.actor(shard), None)

    def _got(self, shard: str, actor: Any, reference: Any, timeout: float | None = None) -> Any:
        """What an actor's method returned. An error of ours comes as it was raised; anything else went wrong on the way
        there or back."""
        try:
            return ray().get(reference, timeout=timeout)
        except (ray().exceptions.RayTaskError, ray().exceptions.RaySystemError) as exc:
            cause = getattr(exc, "cause", None) or exc
            if isinstance(cause, AgentMemError):
                raise cause from None
            what = f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"
            other = self._of_another_version(shard, actor, what)
            raise other or StoreError(f"shard {shard} could not be talked to: {what}") from exc

    def _of_another_version(self, shard: str, actor: Any, what: str) -> StoreVersionError | None:
        """The error where a shard does not know what was said, since it is of another version; None if it is not."""
        theirs = clusteractors.version_of(actor)
        if theirs in (None, __version__):
            return None
        return StoreVersionError(
            f"shard {shard} runs agentmem {theirs}, this process {__version__}, and they do not understand each other "
            f"({what}); have them run the same, as docs/scale.md tells under upgrading"
        )

    def _hangs(self, made: ShardMap, shard: str, actor: Any, begun: float) -> bool:
        """Whether one that did not answer a ping is more than starting, and reading what it takes over."""
        if made.actor(shard) in self._answered or time.monotonic() - begun > START_S:
            return True
        return clusteractors.is_started(actor)

    @contextmanager
    def _admitted(self, shard: str, until: float) -> Generator[None]:
        """One of so many calls that may be under way to a shard; the others wait, and in the end are refused."""
        with self._lock:
            limit = self._limits.setdefault(shard, BoundedSemaphore(self.in_flight))
        if not limit.acquire(timeout=max(0.0, until - time.monotonic())):
            raise CapacityError(
                f"{self.in_flight} calls to shard {shard} are under way from here, and none ended in time; send "
                "fewer, or several items in one, with add_many and search_many"
            )
        try:
            yield
        finally:
            limit.release()


def _met_itself(shard: str, said: str) -> ShardUnavailableError:
    return ShardUnavailableError(
        f"shard {shard} was asked again after a try that nobody answered, and {said}: that may be since the first try "
        "was done; look first",
        shards=[shard],
        unknown=True,
    )


def answered(found: Mapping[str, Any]) -> dict[str, Any]:
    """The results. Raises ``ShardUnavailableError`` where any is missing."""
    errors = [value for value in found.values() if isinstance(value, ShardUnavailableError)]
    if errors:
        missing = sorted(shard for error in errors for shard in error.shards)
        raise ShardUnavailableError(
            f"{', '.join(missing)} did not answer, and without them there is no answer: {errors[0]}",
            shards=missing,
            unknown=any(error.unknown for error in errors),
        )
    return dict(found)


def partly(found: Mapping[str, Any]) -> tuple[dict[str, Any], Sequence[str]]:
    """The results that there are, and the shards that are missing. Raises ``ShardUnavailableError`` if all are."""
    there = {shard: value for shard, value in found.items() if not isinstance(value, ShardUnavailableError)}
    if not there:
        answered(found)
    return there, sorted(shard for shard, value in found.items() if isinstance(value, ShardUnavailableError))
