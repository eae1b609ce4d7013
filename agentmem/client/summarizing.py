"""``Writer`` by ``knowledge``: turns that a model summarises, under the caps of a user's consolidation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from typing_extensions import override

from agentmem.agent.ports import Line, Writer, Written
from agentmem.agent.turns import Turn
from agentmem.client.knowing import KnowledgeDesk, model_of, options_of
from agentmem.knowledge.ports import Message
from agentmem.knowledge.summarizing import Summarizer
from agentmem.types.errors import InvalidInputError

if TYPE_CHECKING:
    from agentmem.client.handle import Handle


def writer(handle: Handle, user_id: str | None, namespace: tuple[str, ...], model: object) -> Writer:
    """See ``AgentStore.writer``."""
    chosen = handle.settings.consolidation
    known = model_of(None if model is True else model, chosen)
    if known is None:
        raise InvalidInputError(
            "there is no model to ask: give summarize(model=...) one, or its name, or set consolidation.model",
            field="model",
        )
    desk = KnowledgeDesk(handle, user_id, namespace, frozenset(chosen.roles))
    return DeskWriter(Summarizer(desk, known, options_of(chosen)))


class DeskWriter(Writer):
    """Turns as messages, and what is made of those as lines."""

    def __init__(self, summarizer: Summarizer) -> None:
        self._summarizer = summarizer

    @property
    @override
    def name(self) -> str:
        return self._summarizer.name

    @override
    def write(self, turns: Sequence[Turn], max_tokens: int) -> Written:
        messages = [Message(turn.row, turn.id, turn.role, turn.content, turn.at) for turn in turns]
        made = self._summarizer.summarize(messages, max_tokens)
        lines = [Line(one.text, tuple((span.id, span.first, span.end) for span in one.spans)) for one in made.lines]
        return Written(lines, made.failures, made.final)
