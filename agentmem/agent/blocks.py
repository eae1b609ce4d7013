"""Blocks: short texts that an agent always has before it, and edits itself, such as who it is and who it talks to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from agentmem.agent.ports import AgentStore
from agentmem.agent.tokens import Tokenizer, counter_of
from agentmem.agent.until import until_alone
from agentmem.types.changes import Delete, Put
from agentmem.types.checks import check_count, check_flag, check_label, check_text
from agentmem.types.enums import UNSET, EventType, Unset
from agentmem.types.errors import (
    BlockFullError,
    BlockReadOnlyError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    shown,
)
from agentmem.types.plain import Plain
from agentmem.types.records import AddResult, MemoryRecord
from agentmem.types.sessionkeys import BLOCKS, pair_key
from agentmem.types.spelling import is_blank

LIMIT = 2_000
"""Tokens that a block may have, unless it says otherwise."""
_LONGEST = 2_000
_MANY = 10_000
_WRITING = (EventType.ADD, EventType.UPDATE, EventType.RESTORE)


@dataclass(frozen=True)
class Block(Plain):
    """A block as it was read. ``tokens`` of at most ``limit``, as this client's tokenizer counts them."""

    label: str
    value: str
    description: str
    limit: int
    tokens: int
    read_only: bool
    version: int
    updated_at: datetime
    reason: str | None
    """Why it was changed last, if that was said."""
    id: str


@dataclass(frozen=True)
class BlockVersion(Plain):
    """What a block was after a change, when that was, and why."""

    version: int
    value: str
    at: datetime
    reason: str | None


class Blocks:
    """The blocks of a user, of an agent, of both, or of nobody in particular: those that ``Memory.blocks`` names.

    Every change is a version. ``if_version`` makes it conditional on the version that was read: of two at once one
    wins, and the other is told (``ConflictError``). Without, an edit is made to what is there by then. ``reason`` is
    kept with the version. What would have more tokens than the block's limit raises ``BlockFullError``, and nothing is
    cut; a block that is ``read_only`` raises ``BlockReadOnlyError``.
    """

    def __init__(self, store: AgentStore, agent_id: str | None, tokenizer: Tokenizer | None) -> None:
        self._store = store
        self._agent = agent_id
        self._count = counter_of(tokenizer)

    def create(
        self,
        label: str,
        value: str = "",
        *,
        description: str = "",
        limit: int = LIMIT,
        read_only: bool = False,
        reason: str | None = None,
    ) -> Block:
        """Make a block, which must not be there. ``description`` says to the model what belongs into it.

        Raises ``ConflictError``, ``BlockFullError``.
        """
        said = {
            "label": check_label(label, "label"),
            "description": _text(description, "description"),
            "limit": check_count(limit, "limit", 1),
            "read_only": check_flag(read_only, "read_only"),
        }
        try:
            return self._write(check_text(value, "value"), said, reason, 0)
        except ConflictError as exc:
            raise ConflictError(f"there is a block {label!r} already; rewrite() gives it another text") from exc

    def get(self, label: str) -> Block | None:
        """The block with this label, or None."""
        record = self._store.get(BLOCKS, self._key(label))
        return None if record is None else self._block(record)

    def append(self, label: str, text: str, *, reason: str | None = None, if_version: int | None = None) -> Block:
        """Add lines at the end. Raises ``NotFoundError``, and as said of the class."""
        added = check_text(text, "text")
        return self._edit(label, lambda value: f"{value}\n{added}" if value else added, reason, if_version)

    def replace(
        self, label: str, old: str, new: str, *, reason: str | None = None, if_version: int | None = None
    ) -> Block:
        """Put ``new`` in the place of ``old``, which must be in there exactly once.

        Raises ``InvalidInputError`` if it is not, ``NotFoundError``, and as said of the class.
        """
        wanted, by = check_text(old, "old"), check_text(new, "new")

        def replaced(value: str) -> str:
            count = value.count(wanted) if wanted else 0
            if count != 1:
                found = f"is in there {count} times; give more of the text around it" if count else "is not in there"
                raise InvalidInputError(f"old={shown(wanted)} {found} (block {label!r})", field="old")
            return value.replace(wanted, by)

        return self._edit(label, replaced, reason, if_version)

    def insert(
        self, label: str, line: int, text: str, *, reason: str | None = None, if_version: int | None = None
    ) -> Block:
        """Insert lines after line ``line``; 0 is the beginning.

        Raises ``InvalidInputError`` if there is no such line, ``NotFoundError``, and as said of the class.
        """
        after, added = check_count(line, "line", 0), check_text(text, "text")

        def inserted(value: str) -> str:
            lines = value.split("\n") if value else []
            if after > len(lines):
                raise InvalidInputError(f"line={after}: block {label!r} has {len(lines)} lines", field="line")
            return "\n".join([*lines[:after], added, *lines[after:]])

        return self._edit(label, inserted, reason, if_version)

    def rewrite(self, label: str, value: str, *, reason: str | None = None, if_version: int | None = None) -> Block:
        """Replace all of its text. Raises ``NotFoundError``, and as said of the class."""
        new = check_text(value, "value")
        return self._edit(label, lambda _: new, reason, if_version)

    def configure(
        self,
        label: str,
        *,
        description: str | Unset = UNSET,
        limit: int | Unset = UNSET,
        read_only: bool | Unset = UNSET,
        if_version: int | None = None,
    ) -> Block:
        """Change what is said of a block, also of one that is read-only; its text stays.

        Raises ``BlockFullError`` for a limit below what it has, ``NotFoundError``, ``ConflictError``.
        """
        given: dict[str, Any] = {}
        if description is not UNSET:
            given["description"] = _text(description, "description")
        if limit is not UNSET:
            given["limit"] = check_count(limit, "limit", 1)
        if read_only is not UNSET:
            given["read_only"] = check_flag(read_only, "read_only")
        return self._edit(label, lambda value: value, None, if_version, given)

    def history(self, label: str) -> Sequence[BlockVersion]:
        """What it was after each change, oldest first. Raises ``NotFoundError``."""
        record = self._must_get(label)
        found, state = list[BlockVersion](), {"content": record.content, "metadata": record.metadata}
        for event in reversed(self._store.history(record.id)):
            if event.event in _WRITING:
                said = cast("Mapping[str, Any]", state["metadata"] or {})
                found.append(BlockVersion(event.version, _value(state), event.at, said.get("reason")))
            # An event has what it replaced, so this is what was before it.
            state |= {name: event.data[name] for name in ("content", "metadata") if name in event.data}
        return found[::-1]

    def restore(self, label: str, version: int, *, if_version: int | None = None) -> Block:
        """Make its text again what it was at a version, as a new version. Raises ``NotFoundError``."""
        found = [each for each in self.history(label) if each.version == version]
        if not found:
            raise NotFoundError(f"block {label!r} has no version {version}; history() lists them")
        return self.rewrite(label, found[0].value, reason=f"restored from version {version}", if_version=if_version)

    def delete(self, label: str, *, if_version: int | None = None) -> bool:
        """Delete a block; False if there was none."""
        [there] = self._store.apply([Delete(key=self._key(label), if_version=if_version, **self._store.place(BLOCKS))])
        return bool(there)

    def list(self) -> Sequence[Block]:
        """All of them, in the order in which they were made."""
        found = self._store.list(BLOCKS, agent_id=self._agent, run_id=None, limit=_MANY, offset=0)
        return [self._block(record) for record in reversed(found) if record.agent_id == self._agent]

    # -- inside ------------------------------------------------------------------------------------------------------

    def _key(self, label: object) -> str:
        return pair_key(self._agent, check_label(label, "label"))

    def _must_get(self, label: str) -> MemoryRecord:
        record = self._store.get(BLOCKS, self._key(label))
        if record is None:
            raise NotFoundError(f"there is no block {label!r} here; create() makes one")
        return record

    def _edit(
        self,
        label: str,
        change: Callable[[str], str],
        reason: str | None,
        if_version: int | None,
        given: Mapping[str, Any] | None = None,
    ) -> Block:
        if if_version is not None:
            check_count(if_version, "if_version", 0)

        def attempt() -> Block:
            record = self._must_get(label)
            if if_version not in (None, record.version):
                raise ConflictError(f"block {label!r} is at version {record.version}, not {if_version}; read it again")
            said = {**record.metadata, **(given or {})}
            if given is None and said["read_only"]:
                raise BlockReadOnlyError(f"block {label!r} is read-only; configure(read_only=False) makes it writable")
            return self._write(
                change(_value({"content": record.content, "metadata": said})), said, reason, record.version
            )

        return until_alone(attempt) if if_version is None else attempt()

    def _write(self, value: str, said: Mapping[str, Any], reason: object, if_version: int) -> Block:
        label, limit = said["label"], said["limit"]
        tokens = self._count(value)
        if tokens > limit:
            raise BlockFullError(
                f"block {label!r} would have {tokens:,} tokens, more than its limit of {limit:,}; shorten it with "
                "replace() or rewrite(), or raise the limit with configure()",
                label=label,
                tokens=tokens,
                limit=limit,
            )
        kept: dict[str, Any] = {key: said[key] for key in ("label", "description", "limit", "read_only")}
        if reason is not None:
            kept["reason"] = _text(reason, "reason")
        blank = is_blank(value)
        if blank and value:
            kept["value"] = value  # of characters that nobody sees, which no content may be
        put = Put(
            self._key(label),
            None if blank else value,
            data={},
            metadata=kept,
            kind="block",
            layer="assets",
            agent_id=self._agent,
            embed=False,
            if_version=if_version,
            **self._store.place(BLOCKS),
        )
        [result] = self._store.apply([put])
        return self._block(cast("AddResult", result).record)

    def _block(self, record: MemoryRecord) -> Block:
        said = record.metadata
        value = _value({"content": record.content, "metadata": said})
        return Block(
            label=said["label"],
            value=value,
            description=said["description"],
            limit=said["limit"],
            tokens=self._count(value),
            read_only=said["read_only"],
            version=record.version,
            updated_at=record.updated_at,
            reason=said.get("reason"),
            id=record.id,
        )


def _value(state: Mapping[str, Any]) -> str:
    said = cast("Mapping[str, Any]", state["metadata"] or {})
    return state["content"] or said.get("value", "")


def _text(value: object, field: str) -> str:
    text = check_text(value, field)
    if len(text) > _LONGEST:
        raise InvalidInputError(f"{field} has {len(text):,} characters, more than {_LONGEST:,}", field=field)
    return text
