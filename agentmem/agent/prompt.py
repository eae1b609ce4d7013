"""A prompt as it was put together: its sections, the messages and the text of it, and what it is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from agentmem.agent.pairs import groups
from agentmem.agent.quoting import escaped, name, quoted
from agentmem.agent.turns import Turn
from agentmem.types.plain import Plain

SECTIONS = ("instructions", "blocks", "summary", "turns", "working", "recalled")
"""In the order in which they stand. What changes least comes first, so that a provider's cache holds longest."""
PREFIX = SECTIONS[:3]
"""What stays the same, byte for byte, until instructions, a block or the summary change."""


@dataclass(frozen=True)
class Trimmed(Plain):
    """Something that was left out: of which section, its id or name, why, and how many tokens it would have taken."""

    section: str
    id: str
    reason: str
    tokens: int


@dataclass(frozen=True)
class Section(Plain):
    """A part of the prompt. ``ids`` are those of the records in it, in their order; ``tokens`` what it takes."""

    name: str
    text: str
    tokens: int
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest(Plain):
    """What a prompt is made of, for logs and for those who ask why a model said what it said.

    ``tokens`` of at most ``max_tokens``; ``prefix`` is the hash of what comes before the turns (see ``PREFIX``).
    """

    max_tokens: int
    tokens: int
    prefix: str
    sections: dict[str, int]
    ids: dict[str, tuple[str, ...]]
    trimmed: tuple[Trimmed, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to send to a model. ``sections`` are those that have anything, in their order."""

    sections: tuple[Section, ...]
    manifest: Manifest
    turns: tuple[Turn, ...] = ()
    """The turns in it, as they were appended."""
    recalled_role: str = field(default="user", repr=False)

    def messages(self) -> list[dict[str, Any]]:
        """For chat APIs: instructions and blocks as a system message, then the summary, the turns as they were
        appended, and last what is remembered, as a message of ``recalled_role``; new dicts each time. A call whose
        result is yet to come is the end: what is remembered stands before it."""
        return messages_of(self.sections, self.turns, self.recalled_role)

    def text(self) -> str:
        """All of it as one text, for models without messages. Turns are quoted, so that none can pass for another."""
        return text_of(self.sections)


def messages_of(sections: tuple[Section, ...], turns: tuple[Turn, ...], recalled_role: str) -> list[dict[str, Any]]:
    """See ``Prompt.messages``."""
    texts = {section.name: section.text for section in sections}
    made = list[dict[str, Any]]()

    def say(role: str, *names: str) -> None:
        if said := [texts[each] for each in names if texts.get(each)]:
            made.append({"role": role, "content": "\n\n".join(said)})

    say("system", "instructions", "blocks")
    say("user", "summary")
    last = groups(turns)[-1] if turns else None
    end = last.positions[0] if last and last.open else len(turns)  # no API takes anything between a call and its result
    made += (turn.message for turn in turns[:end])
    say(recalled_role, "working", "recalled")
    made += (turn.message for turn in turns[end:])
    return made


def text_of(sections: tuple[Section, ...]) -> str:
    """See ``Prompt.text``."""
    return "\n\n".join(section.text for section in sections)


def prefix_of(sections: tuple[Section, ...]) -> str:
    """The hash of what comes before the turns."""
    return sha256(text_of(tuple(each for each in sections if each.name in PREFIX)).encode()).hexdigest()


def turn_line(turn: Turn) -> str:
    """A turn as a line of ``Prompt.text``: who speaks, what was said, and the whole message where there is more."""
    return f"{name(turn.role)}: {quoted(turn.content) if turn.data is None else escaped(turn.data)}"
