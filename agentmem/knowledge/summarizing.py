"""Summaries by a model: sentences, each with the words of the messages that say so, under the caps of consolidation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from agentmem.knowledge import guards
from agentmem.knowledge.answers import InvalidAnswerError, read_lines, sound
from agentmem.knowledge.asking import Asked, ask_for_summary, local
from agentmem.knowledge.books import BusyError, CappedError, book
from agentmem.knowledge.guards import RefusedError
from agentmem.knowledge.ledger import Spend
from agentmem.knowledge.ports import KnowledgeStore, Message, Model, Reply, Span, StaleError, Write
from agentmem.knowledge.queue import CLOSED, ahead, pause
from agentmem.knowledge.running import Options
from agentmem.types.errors import ModelError

BREAKER = "summaries"
"""Where it is noted that the endpoint fails."""
FEWEST = 4
"""Messages that are not split up any further: what no answer of use was had for is left to whoever asked."""
_WORDS_PER_TOKEN = 0.6


class Drawn(NamedTuple):
    """A sentence of a summary, and where what it says was said."""

    text: str
    spans: tuple[Span, ...]


class Summarized(NamedTuple):
    """What a model made of messages. ``failures`` say what was left out, and why; ``final``: asking again would be the
    same question, or none."""

    lines: list[Drawn]
    failures: list[str]
    final: bool


class _StopError(Exception):
    """No more is asked now."""


class Summarizer:
    """Of one user's conversations. Every call is reserved before and booked after, and no question is asked twice."""

    def __init__(self, store: KnowledgeStore, model: Model, options: Options) -> None:
        self._store = store
        self._model = model
        self._options = options
        self._structured = True
        self._spend = Spend()

    @property
    def name(self) -> str:
        """What the model is called."""
        return self._model.name

    def summarize(self, messages: Sequence[Message], max_tokens: int) -> Summarized:
        """Sentences that stand for messages, some ``max_tokens`` long together. An answer of no use splits them up."""
        pieces, lines, failures = [messages], list[Drawn](), list[str]()
        while pieces:
            piece = pieces.pop(0)
            words = max(20, int(max_tokens * _WORDS_PER_TOKEN * len(piece) / len(messages)))
            asked = ask_for_summary(piece, words, self._store.zone())
            try:
                lines += self._lines(asked, failures)
            except InvalidAnswerError as exc:
                failures.append(f"invalid: {exc}")
                if len(piece) > FEWEST:
                    half = len(piece) // 2
                    pieces[:0] = [piece[:half], piece[half:]]
            except _StopError as exc:
                return Summarized(lines, [*failures, str(exc)], final=False)
        return Summarized(lines, failures, final=True)

    def _lines(self, asked: Asked, failures: list[str]) -> list[Drawn]:
        if asked.size > self._options.max_input_tokens:
            raise InvalidAnswerError(f"up to {asked.size:,} tokens to read, more than max_input_tokens")
        reply = self._ask(asked)
        if reply.cut:
            raise InvalidAnswerError("cut at max_output_tokens")
        drawn, refused = list[Drawn](), list[str]()
        for text, quotes in read_lines(reply.text):
            try:
                spans, cited = guards.evidence_of(quotes, asked.messages)
                guards.check_text(text, "", cited, asked, self._days(cited))
            except RefusedError as exc:
                refused.append(str(exc))
                continue
            drawn.append(Drawn(text, spans))
        if not drawn:
            raise InvalidAnswerError(f"every line was refused: {refused[0]}" if refused else "no lines")
        failures += [f"refused: {why}" for why in refused]
        return drawn

    def _days(self, cited: Sequence[Message]) -> list[datetime]:
        return [local(message.at, self._store.zone()) for message in cited]

    # -- paying ------------------------------------------------------------------------------------------------------

    def _ask(self, asked: Asked) -> Reply:
        """An answer, paid for. Raises ``InvalidAnswerError`` for a refusal, ``_StopError`` where there is none."""
        now = self._store.now()
        closed = self._closed_until()
        if closed is not None and ahead(closed, now, CLOSED):
            raise _StopError(f"closed: the endpoint failed; it is tried again after {closed}")
        most, day = self._options.max_output_tokens, f"{now:%Y-%m-%d}"
        reserved = Spend(1, asked.size, most, self._options.prices.of(asked.size, most))
        try:
            book(self._store, day, reserved, caps=self._options.caps, run=self._spend)
        except CappedError as exc:
            raise _StopError(f"capped: {exc}") from exc
        except BusyError as exc:
            raise _StopError(f"busy: {exc}") from exc
        self._spend = self._spend.plus(reserved)
        try:
            reply = sound(
                self._model.complete(
                    asked.prompt,
                    max_tokens=most,
                    schema=asked.schema if self._structured else None,
                    timeout=self._options.timeout,
                )
            )
        except ModelError as exc:
            self._settle(day, Spend() if exc.paid else Spend(1).minus(reserved))
            return self._failed(asked, exc)
        except Exception:  # the caller's own
            self._note(lambda failures: failures + 1, None)
            raise
        spent = reserved
        if reply.input_tokens is not None and reply.output_tokens is not None:
            money = self._options.prices.of(reply.input_tokens, reply.output_tokens)
            spent = Spend(1, reply.input_tokens, reply.output_tokens, money)
        self._settle(day, spent.minus(reserved))
        if closed is not None:
            self._note(lambda _: 0, None)
        if spent.tokens > reserved.tokens:
            raise _StopError(f"overrun: a call came to {spent.tokens:,} tokens, {reserved.tokens:,} is the most")
        return reply

    def _failed(self, asked: Asked, exc: ModelError) -> Reply:
        if exc.trouble == "unsupported" and self._structured:
            self._structured = False
            return self._ask(asked)
        if exc.trouble == "refused":
            raise InvalidAnswerError("the endpoint refused to answer") from exc
        if exc.trouble not in ("unsupported", "denied"):
            after = None if exc.trouble != "busy" else 60.0 if exc.retry_after is None else exc.retry_after
            self._note(lambda failures: failures + 1, after)
        raise _StopError(f"{exc.trouble}: {exc}") from exc

    def _settle(self, day: str, change: Spend) -> None:
        self._spend = self._spend.plus(change)
        if change != Spend():
            book(self._store, day, change)

    def _closed_until(self) -> datetime | None:
        text = self._store.read(BREAKER).data.get("closed_until")
        return None if text is None else datetime.fromisoformat(text)

    def _note(self, counted: Callable[[int], int], after: float | None) -> None:
        """Note how often the endpoint failed in a row, and until when it is left alone."""
        found = self._store.read(BREAKER)
        failures, until = counted(int(found.data.get("failures", 0))), None
        if failures and (after is not None or failures >= self._options.breaker):
            until = (self._store.now() + pause(failures, self._options.breaker, after)).isoformat()
        try:
            self._store.commit([Write(BREAKER, {"failures": failures, "closed_until": until}, found.version)])
        except StaleError:
            pass  # somebody else has noted the like meanwhile
