"""``Consolidation``: runs, proposals, what they cost, and taking them back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from agentmem.knowledge import ledger, proposing, queue
from agentmem.knowledge.books import SPENT
from agentmem.knowledge.guards import Refusal, canonical
from agentmem.knowledge.making import LEARNED, RETIRED, approved, says_so_still, shown
from agentmem.knowledge.ports import (
    Change,
    Discard,
    KnowledgeStore,
    Model,
    Noted,
    Proposed,
    Retire,
    Revive,
    StaleError,
    Write,
)
from agentmem.knowledge.queue import Part, Queue
from agentmem.knowledge.reports import ConsolidationReport, ConsolidationState, DaySpend, DeadLetter, Proposal
from agentmem.knowledge.running import Options, Run
from agentmem.types.changes import Evidence
from agentmem.types.checks import check_count
from agentmem.types.clock import to_micros
from agentmem.types.errors import ConflictError, InvalidInputError, NotFoundError
from agentmem.types.ids import uuid7s

T = TypeVar("T")
REJECTED = "rejected"
_REMEMBERED = 5_000
_COUNTED = 10_000
_ATTEMPTS = 100


class Consolidation:
    """From what a user said to what is known of them, or of what nobody said; in one namespace. See
    docs/consolidation.md.

    Nothing happens by itself: ``run`` asks the model about messages that it was not asked about before, ``propose``
    finds what can be found without one. Facts are plain records of the kind ``fact``, with ``subject``, ``learned_by``
    (the run) and ``reason`` in their metadata. Safe to use from several threads and processes.
    """

    def __init__(self, store: KnowledgeStore, model: Model | None, options: Options) -> None:
        self._store = store
        self._model = model
        self._options = options

    @property
    def model(self) -> str | None:
        """What the model is called that is asked; None if there is none."""
        return None if self._model is None else self._model.name

    # -- making facts ------------------------------------------------------------------------------------------------

    def run(self, *, dry_run: bool = False, batches: int | None = None) -> ConsolidationReport:
        """Ask the model about what was said since the last run, a batch at a time, and store what it says.

        Stops after so many ``batches`` (None: when nothing is left), before a cap would be exceeded, and when the
        endpoint fails again and again; the report's ``status`` says which, and the next run goes on there. With
        ``dry_run`` what it says is not done but proposed, for ``approve``; the messages count as looked at all the
        same, since that has been paid for. Facts all of whose messages were taken back since are proposed to be
        retracted. Only one run of a user is at it at a time, in whatever process; others are ``"busy"``.

        Raises ``InvalidInputError`` if there is no model.
        """
        if self._model is None:
            raise InvalidInputError(
                "there is no model to ask: give consolidation(model=...), or set consolidation.model and, unless it is "
                "OpenAI's, consolidation.url; propose() needs none",
                field="model",
            )
        wanted = None if batches is None else check_count(batches, "batches", 1)
        run = self._id()
        taken_back = self._propose(proposing.unsaid(self._store, run, self._known()))
        report = Run(self._store, self._model, self._options, run, dry_run=dry_run).go(wanted)
        return replace(report, proposed=report.proposed + taken_back)

    def propose(self, *, facts: int = 1_000) -> list[Proposal]:
        """Find, without a model, what of the newest so many facts may be retired, and propose it; returns that.

        Of facts about one subject that say the same, or differ in a number, a date or a negation alone, the older one;
        and facts all of whose messages were taken back. What was rejected is not proposed again.
        """
        run, known = self._id(), self._known()
        found = proposing.unsaid(self._store, run, known)
        found += proposing.pairs(self._store, run, known, check_count(facts, "facts", 1))
        self._propose(found)
        made = {one.id for one in found}
        return [proposal for proposal in self.proposals() if proposal.id in made]

    # -- proposals ---------------------------------------------------------------------------------------------------

    def proposals(self, *, run_id: str | None = None) -> list[Proposal]:
        """What waits to be approved, of a run or of all, the oldest first."""
        return [shown(one) for one in self._chosen(None, run_id)]

    def approve(self, ids: Collection[str] | None = None, *, run_id: str | None = None) -> ConsolidationReport:
        """Do what was proposed: these, those of a run, or all; in one transaction.

        What goes on from a fact that was changed since is refused, and stays proposed; what is known by now is only
        taken off the list. The report's ``run_id`` is that
        of the approval, by which ``revert`` takes it back.
        """
        run, refused = self._id(), list[Refusal]()
        left, known = list[Proposed](), list[Proposed]()
        for one in self._chosen(ids, run_id):
            why = self._outdated(one)
            if why is not None:
                refused.append(Refusal(one.data["op"], why, one.text))
            elif one.data["op"] == "ADD" and self._is_known(one, left):
                known.append(one)
            else:
                left.append(one)
        while True:
            changes, owners = list[Change](Discard(one.id, one.version) for one in known), [-1] * len(known)
            for position, one in enumerate(left):
                made = approved(one, run, self._store.now())
                changes += made
                owners += [position] * len(made)
            try:
                if changes:
                    self._store.commit(changes)
            except StaleError as exc:
                if exc.at is None or owners[exc.at] < 0:
                    raise ConflictError(str(exc)) from exc
                lost = left.pop(owners[exc.at])
                refused.append(Refusal(lost.data["op"], exc.why, lost.text))
                continue
            break
        ops = [one.data["op"] for one in left]
        return ConsolidationReport(
            run, "done", added=ops.count("ADD"), superseded=ops.count("SUPERSEDE"), retracted=ops.count("RETRACT"),
            unchanged=len(known), refused=tuple(refused),
        )  # fmt: skip

    def reject(self, ids: Collection[str] | None = None, *, run_id: str | None = None) -> int:
        """Delete what was proposed: these, those of a run, or all; returns how many."""

        def attempt() -> int:
            chosen = self._chosen(ids, run_id)
            known = self._store.read(REJECTED)
            keys = [*known.data.get("keys", ()), *proposing.keys_of([one.data for one in chosen])]
            writes: list[Change] = [Write(REJECTED, {"keys": keys[-_REMEMBERED:]}, known.version)]
            if chosen:
                self._store.commit([*writes, *(Discard(one.id, one.version) for one in chosen)])
            return len(chosen)

        return self._until_alone(attempt)

    def revert(self, run_id: str) -> ConsolidationReport:
        """Take back what a run, or an approval, has done; all of it, in one transaction.

        The facts that it made are retired, as if they had never held; those that it retired hold again, as before. The
        messages count as looked at still. Raises ``NotFoundError`` if there is nothing of it, ``ConflictError`` if a
        later run went on from a fact that it made: revert that one first.
        """

        def attempt() -> ConsolidationReport:
            noted = self._store.noted(run_id)
            made = [one for one in noted if one.metadata.get(LEARNED) == run_id]
            retired = [one for one in noted if one.metadata.get(RETIRED) == run_id]
            if not noted:
                raise NotFoundError(f"there is nothing that the run {run_id!r} has done, or it was reverted")
            _check_last(made, run_id)
            changes: list[Change] = [Retire(one.id, one.version, None, None, {RETIRED: None}) for one in made]
            changes += [Revive(one.id, one.version, {RETIRED: None}) for one in retired]
            self._store.commit([_forgetting(change) for change in changes])
            return ConsolidationReport(run_id, "done", retracted=len(made), added=len(retired))

        return self._until_alone(attempt)

    # -- looking -----------------------------------------------------------------------------------------------------

    def state(self) -> ConsolidationState:
        """What is waiting, what could not be made sense of, and what today came to."""
        known, now = self._queue(), self._store.now()
        day = f"{now:%Y-%m-%d}"
        there = {message.row: message.id for message in self._store.find([each.row for each in known.dead])}
        in_parts = sum(len(part.rows) for part in known.parts)
        after = max(known.watermark, known.until) if known.parts else known.watermark
        return ConsolidationState(
            waiting=in_parts + self._store.waiting(after, _COUNTED),
            dead=tuple(DeadLetter(there.get(one.row), one.why, datetime.fromisoformat(one.at)) for one in known.dead),
            proposals=len(self._store.proposals()),
            running=known.is_leased("", now),
            closed_until=known.closed_until if known.is_closed(now) else None,
            today=ledger.of_day(self._store.read(SPENT, "user").data, day),
            store_today=ledger.of_day(self._store.read(SPENT, "store").data, day),
        )

    def evidence(self, id: str) -> list[Evidence]:
        """What a fact was drawn from, each with what its record is now (``Evidence.state``). Of one that was erased the
        ``id`` is empty. Raises ``NotFoundError``."""
        found = self._store.evidence(id)
        if found is None:
            raise NotFoundError(f"there is no fact with the id {id!r} here")
        return found

    def spend(self, *, everybody: bool = False) -> list[DaySpend]:
        """What each day came to, of the user or of the whole store, oldest first; days are those of UTC."""
        found = self._store.read(SPENT, "store" if everybody else "user").data
        return [DaySpend(day, ledger.of_day(found, day)) for day in sorted(found.get("days", ()))]

    def retry(self) -> int:
        """Put dead letters back into the queue, and try the endpoint again at once; returns how many.

        What a model was asked in vain it is not asked again as it was: this is for another model, or other limits.
        """

        def attempt() -> int:
            known = self._queue()
            parts = tuple(Part((one.row,), 0, one.tried, one.why) for one in known.dead)
            new = replace(known, parts=(*known.parts, *parts), dead=(), failures=0, closed_until=None)
            new = new if known.parts else replace(new, until=known.watermark)
            self._store.commit([Write(queue.KEY, new.data(), new.version)])
            return len(parts)

        return self._until_alone(attempt)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _id(self) -> str:
        return uuid7s(1, to_micros(self._store.now()))[0]

    def _queue(self) -> Queue:
        found = self._store.read(queue.KEY)
        return Queue.of(found.data, found.version, self._store.identity())

    def _known(self) -> frozenset[str]:
        proposed = proposing.keys_of([one.data for one in self._store.proposals()])
        return frozenset([*proposed, *self._store.read(REJECTED).data.get("keys", ())])

    def _outdated(self, one: Proposed) -> str | None:
        """Why a proposal is not to be approved any more, as far as its sources say."""
        if not one.sources:
            return "all that says so was taken back"
        if not says_so_still(one):
            return "what it was drawn from says something else now"
        if one.data.get("unsaid") and all(fact.id != one.data["target"] for fact, _ in self._store.unsaid()):
            return "what its target was drawn from is there again"
        return None

    def _is_known(self, one: Proposed, others: Sequence[Proposed]) -> bool:
        """Whether a fact that holds says the same, or another proposal that is approved with it."""
        words = (canonical(one.data["subject"]), canonical(one.text))
        there = [(fact.subject, fact.text) for fact in self._store.related(one.text, 5)]
        there += [(other.data["subject"], other.text) for other in others]
        return any((canonical(subject), canonical(text)) == words for subject, text in there)

    def _propose(self, found: Sequence[Change]) -> int:
        count = 0
        for change in found:
            try:
                self._store.commit([change])
            except StaleError:
                continue  # what it is about has gone meanwhile
            count += 1
        return count

    def _chosen(self, ids: Collection[str] | None, run_id: str | None) -> list[Proposed]:
        if isinstance(ids, str):
            raise InvalidInputError("ids is a list of ids; one is [id]", field="ids")
        every = self._store.proposals()
        if ids is not None and (missing := set(ids) - {one.id for one in every}):
            raise NotFoundError(f"there is no proposal {min(missing)!r}")
        return [
            one for one in every if (ids is None or one.id in ids) and (run_id is None or one.data["run"] == run_id)
        ]

    def _until_alone(self, attempt: Callable[[], T]) -> T:
        for _ in range(_ATTEMPTS - 1):
            try:
                return attempt()
            except StaleError:
                continue
        try:
            return attempt()
        except StaleError as exc:
            raise ConflictError(str(exc)) from exc


def _check_last(made: Sequence[Noted], run_id: str) -> None:
    """Raise ``ConflictError`` if somebody went on from what a run has made."""
    for one in made:
        by = one.metadata.get(RETIRED)
        if one.retired and by not in (None, run_id):
            raise ConflictError(f"the run {by!r} has retired a fact that {run_id!r} made; revert that one first")
        if one.retired and one.by is not None and by is None:
            raise ConflictError(
                f"{one.by!r} was put in the place of a fact that {run_id!r} made, by hand; what that retired would be "
                f"back beside it. SetValidity({one.id!r}, retired=False) takes that back"
            )


def _forgetting(change: Change) -> Change:
    """A retirement that also takes the record out of the run that made it."""
    if isinstance(change, Retire):
        return replace(change, metadata={**change.metadata, LEARNED: None})
    return change
