"""One run: batch by batch, under a lease, each call reserved before and booked after."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from agentmem.knowledge import guards, queue
from agentmem.knowledge.answers import InvalidAnswerError, read, sound
from agentmem.knowledge.asking import SCHEMA, Asked, ask
from agentmem.knowledge.books import PAUSES, CappedError, booked
from agentmem.knowledge.guards import Accepted, Refusal
from agentmem.knowledge.ledger import Caps, Prices, Spend
from agentmem.knowledge.making import changes_of
from agentmem.knowledge.ports import Change, KnowledgeStore, Message, Model, Reply, StaleError, Write
from agentmem.knowledge.queue import Queue
from agentmem.knowledge.reports import ConsolidationReport, Status
from agentmem.types.errors import AgentMemError, ModelError


@dataclass(frozen=True, slots=True)
class Options:
    """How a run goes about it; the settings say what each means."""

    batch_messages: int = 20
    max_input_tokens: int = 24_000
    max_output_tokens: int = 1_500
    timeout: float = 60.0
    shown_facts: int = 20
    roles: Collection[str] = frozenset({"user"})
    max_tries: int = 5
    breaker: int = 3
    caps: Caps = field(default_factory=Caps)
    prices: Prices = field(default_factory=Prices)

    @property
    def lease(self) -> timedelta:
        """For how long a call and what it leads to may take."""
        return timedelta(seconds=self.timeout + 60)


@dataclass
class Tally:
    """What a run has come to so far."""

    messages: int = 0
    added: int = 0
    superseded: int = 0
    retracted: int = 0
    unchanged: int = 0
    proposed: int = 0
    dead: int = 0
    refused: list[Refusal] = field(default_factory=list[Refusal])
    failures: list[str] = field(default_factory=list[str])
    spend: Spend = field(default_factory=Spend)

    def report(self, run_id: str, status: Status, detail: str) -> ConsolidationReport:
        """For the caller."""
        return ConsolidationReport(
            run_id, status, detail, self.messages, self.added, self.superseded, self.retracted, self.unchanged,
            self.proposed, tuple(self.refused), self.dead, tuple(self.failures), self.spend,
        )  # fmt: skip


class _StopError(Exception):
    def __init__(self, status: Status, detail: str = "") -> None:
        super().__init__(detail)
        self.status: Status = status


class _StaleFactError(Exception):
    def __init__(self, at: int, why: str) -> None:
        super().__init__(why)
        self.at = at


class Run:
    """Of one user. Whatever happens to it, the next one goes on where what is stored ends."""

    def __init__(self, store: KnowledgeStore, model: Model, options: Options, run_id: str, *, dry_run: bool) -> None:
        self._store = store
        self._model = model
        self._options = options
        self._id = run_id
        self._dry = dry_run
        self._queue = Queue()
        self._structured = True
        self._day = ""
        self._anew = False
        self._answers = 0
        self.tally = Tally()

    def go(self, batches: int | None = None) -> ConsolidationReport:
        """Look at what is waiting, all of it or so many batches."""
        status, detail = self._go(batches)
        if self._anew and not detail:
            detail = "begun anew: what was looked at in another store, whose records were imported, is looked at again"
        return self.tally.report(self._id, status, detail)

    def _go(self, batches: int | None) -> tuple[Status, str]:
        try:
            self._take_lease()
        except _StopError as exc:
            return exc.status, str(exc)
        done = 0
        try:
            while True:
                if not self._queue.parts:
                    if batches is not None and done >= batches:
                        return "limited", ""
                    if not self._cut():
                        return "done", ""
                    done += 1
                self._look()
        except _StopError as exc:
            return exc.status, str(exc)
        finally:
            self._release()

    # -- lease and queue ---------------------------------------------------------------------------------------------

    def _take_lease(self) -> None:
        for _ in range(PAUSES):
            known = self._read()
            now = self._store.now()
            if known.is_leased(self._id, now):
                raise _StopError("busy", f"another run is at it, until {known.leased_until} at most")
            if known.is_closed(now):
                raise _StopError("closed", f"the endpoint failed; it is tried again after {known.closed_until}")
            self._anew = known.anew
            self._queue = known.leased(self._id, now + self._options.lease)
            try:
                self._commit(self._queue)
            except _StopError:
                continue  # somebody else was faster: look again
            return
        raise _StopError("busy", "others were faster, again and again")

    def _release(self) -> None:
        try:
            known = self._read()
            if known.owner == self._id:
                self._commit(replace(known, owner=None, leased_until=None))
        except (_StopError, StaleError):
            pass  # it is somebody else's by now

    def _read(self) -> Queue:
        found = self._store.read(queue.KEY)
        return Queue.of(found.data, found.version, self._store.identity())

    def _cut(self) -> bool:
        """Take the next batch to hand; False if nothing is waiting."""
        found = self._store.messages(self._queue.watermark, self._options.batch_messages)
        if not found:
            return False
        self._queue = self._queue.cut([message.row for message in self._fitting(found)])
        return True

    def _fitting(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The first ones, as many as can be asked about together; one at least."""
        for count in range(len(messages), 1, -1):
            if ask(messages[:count], (), self._store.zone()).size * 4 <= self._options.max_input_tokens * 3:
                return messages[:count]
        return messages[:1]

    def _commit(self, new: Queue, change: Spend | None = None, changes: Sequence[Change] = ()) -> None:
        """Store the queue, what it costs, and what came of it, in one transaction; then this is the queue at hand."""
        for attempt in range(PAUSES):
            writes: list[Change] = [Write(queue.KEY, new.data(), new.version)]
            if change is not None:
                writes += booked(self._store, self._day, change)
            try:
                self._store.commit([*writes, *changes])
            except StaleError as exc:
                if exc.at is None or exc.at == 0:
                    raise _StopError("lost", "another run took over") from exc
                if exc.at >= len(writes):
                    raise _StaleFactError(exc.at - len(writes), exc.why) from exc
                time.sleep(0.001 * min(attempt, 20))  # another run has booked something meanwhile
                continue
            self._queue = replace(new, version=self._version_after(new))
            return
        raise _StopError("lost", "the ledger was changed again and again")

    def _version_after(self, new: Queue) -> int:
        """A key that was there before and was deleted goes on with its version."""
        return new.version + 1 if new.version else self._store.read(queue.KEY).version

    # -- one part ----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Ask about the first part, and store what comes of it."""
        at_hand = self._queue
        part = at_hand.parts[0]
        messages = self._store.find(part.rows)
        if not messages:  # taken back meanwhile
            self._commit(at_hand.without_first())
            return
        asked = self._asked(messages)
        digest = asked.digest(self._model.name)
        if asked.size > self._options.max_input_tokens:
            self._give_up(at_hand, f"up to {asked.size:,} tokens to read, more than max_input_tokens", "")
        elif digest in at_hand.done:
            self._commit(at_hand.without_first())
            self.tally.unchanged += 1
            self.tally.messages += len(messages)
        elif digest in part.tried:
            self._give_up(at_hand, part.why, "")
        else:
            reserved = self._reserve(asked)
            self._answer(asked, digest, reserved, self._call(asked, digest, reserved))

    def _asked(self, messages: Sequence[Message]) -> Asked:
        query = "\n".join(message.text for message in messages if message.role in self._options.roles)
        facts = self._store.related(query or messages[0].text, self._options.shown_facts)
        asked = ask(messages, facts, self._store.zone())
        while facts and asked.size > self._options.max_input_tokens:
            facts = facts[: len(facts) // 2]
            asked = ask(messages, facts, self._store.zone())
        return asked

    def _reserve(self, asked: Asked) -> Spend:
        """Book the most that the call can come to, before it is made. Raises ``_StopError`` if that is above a cap."""
        most = self._options.max_output_tokens
        reserved = Spend(1, asked.size, most, self._options.prices.of(asked.size, most))
        now, at_hand = self._store.now(), self._queue
        self._day = f"{now:%Y-%m-%d}"
        part = replace(at_hand.parts[0], tries=at_hand.parts[0].tries + 1)
        new = replace(at_hand, parts=(part, *at_hand.parts[1:])).leased(self._id, now + self._options.lease)
        for attempt in range(PAUSES):
            try:
                booking = booked(self._store, self._day, reserved, caps=self._options.caps, run=self.tally.spend)
                self._store.commit([Write(queue.KEY, new.data(), new.version), *booking])
            except CappedError as exc:
                raise _StopError("capped", str(exc)) from exc
            except StaleError as exc:
                if not exc.at:
                    raise _StopError("lost", "another run took over") from exc
                time.sleep(0.001 * min(attempt, 20))
                continue
            self._queue = replace(new, version=self._version_after(new))
            self.tally.spend = self.tally.spend.plus(reserved)
            return reserved
        raise _StopError("lost", "the ledger was changed again and again")

    def _call(self, asked: Asked, digest: str, reserved: Spend) -> Reply | None:
        """The answer; None if there was none, and that is stored."""
        try:
            reply: object = self._model.complete(
                asked.prompt,
                max_tokens=self._options.max_output_tokens,
                schema=SCHEMA if self._structured else None,
                timeout=self._options.timeout,
            )
        except ModelError as exc:
            self._failed(exc, digest, Spend() if exc.paid else Spend(1).minus(reserved))
            return None
        except Exception:  # the caller's own: it may have been paid for, and a schedule is to ask ever more rarely
            self._commit(self._queue.failed(self._store.now(), self._options.breaker, None).first_last())
            raise
        return sound(reply)

    def _failed(self, exc: ModelError, digest: str, refund: Spend) -> None:
        self.tally.failures.append(f"{exc.trouble}: {exc}")
        self.tally.spend = self.tally.spend.plus(refund)
        now, at_hand = self._store.now(), self._queue
        if exc.trouble == "unsupported" and self._structured:
            self._structured = False
            self._commit(at_hand, refund)
        elif exc.trouble in ("unsupported", "denied"):
            self._commit(at_hand, refund)
            raise _StopError("denied", str(exc))
        elif exc.trouble == "refused":
            # What the endpoint says may quote what it was asked, which may be erased one day.
            self._give_up(at_hand.answered(), "the endpoint refused to answer", digest, refund)
        else:
            after = None if exc.trouble != "busy" else 60.0 if exc.retry_after is None else exc.retry_after
            new = at_hand.failed(now, self._options.breaker, after)
            if at_hand.parts[0].tries >= self._options.max_tries and self._answers:
                self._give_up(new, f"the endpoint is {exc.trouble}, for this alone", digest, refund)
            else:
                self._commit(new.first_last(), refund)
            if self._queue.is_closed(now):
                raise _StopError("closed", str(exc))

    def _give_up(self, at_hand: Queue, why: str, digest: str, change: Spend | None = None) -> None:
        """Split the part at hand, or give its one message up."""
        self._commit(at_hand.split_first(why, digest, self._store.now()), change)
        self.tally.dead += len(self._queue.dead) - len(at_hand.dead)

    def _answer(self, asked: Asked, digest: str, reserved: Spend, reply: Reply | None) -> None:
        if reply is None:
            return
        self._answers += 1
        spent = self._spent(reply, reserved)
        change = spent.minus(reserved)
        self.tally.spend = self.tally.spend.plus(change)
        try:
            if reply.cut:
                raise InvalidAnswerError("cut at max_output_tokens")
            claims = read(reply.text)
            accepted, refused = guards.judge(claims, asked, roles=self._options.roles, zone=self._store.zone())
            if refused and not accepted:
                self.tally.refused += refused
                raise InvalidAnswerError(f"every operation was refused; the first: {refused[0].why}")
        except InvalidAnswerError as exc:
            self.tally.failures.append(f"invalid: {exc}")
            self._give_up(self._queue.answered(), str(exc), digest, change)
        else:
            try:
                self._keep(asked, digest, change, accepted, refused)
            except AgentMemError:  # the store's, where it is full: what was paid for is booked, and not asked at once
                self._commit(self._queue.failed(self._store.now(), 1, None), change)
                raise
        if spent.tokens > reserved.tokens:
            raise _StopError(
                "overrun", f"a call came to {spent.tokens:,} tokens, where {reserved.tokens:,} is the most"
            )

    def _edited(self, asked: Asked) -> bool:
        """Whether messages say something else than was asked about."""
        there = {message.row: message.text for message in self._store.find(self._queue.parts[0].rows)}
        return any(there.get(each.row, each.text) != each.text for each in asked.messages.values())

    def _spent(self, reply: Reply, reserved: Spend) -> Spend:
        """What a call came to; where the endpoint does not say, what was reserved."""
        if reply.input_tokens is None or reply.output_tokens is None:
            return reserved
        money = self._options.prices.of(reply.input_tokens, reply.output_tokens)
        return Spend(1, reply.input_tokens, reply.output_tokens, money)

    def _keep(
        self, asked: Asked, digest: str, change: Spend, accepted: Sequence[Accepted], refused: Sequence[Refusal]
    ) -> None:
        """Store what an answer says, with the step of the queue."""
        at_hand, refusals, made = self._queue.answered(), list(refused), list(accepted)
        new = replace(at_hand.without_first(), done=(*at_hand.done, digest))
        while True:
            changes, owners = changes_of(made, self._id, self._store.now(), dry_run=self._dry)
            try:
                self._commit(new, change, changes)
            except _StaleFactError as exc:
                if self._edited(asked) and at_hand.parts[0].tries < self._options.max_tries:
                    self._commit(at_hand, change)  # the messages as they are now are yet to be looked at
                    return
                lost = made.pop(owners[exc.at])
                refusals.append(Refusal(lost.op, str(exc), lost.text))
                continue
            break
        self.tally.refused += refusals
        self.tally.messages += len(asked.messages)
        for one in made:
            if one.op == "NOOP":
                self.tally.unchanged += 1
            elif self._dry:
                self.tally.proposed += 1
            else:
                name = {"ADD": "added", "SUPERSEDE": "superseded", "RETRACT": "retracted"}[one.op]
                setattr(self.tally, name, getattr(self.tally, name) + 1)
