"""Sessions: the turns of one conversation in their order, and the record that says how long they live."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

from agentmem.agent import summaries
from agentmem.agent.blocks import Blocks
from agentmem.agent.building import Builder, Sources
from agentmem.agent.pairs import groups
from agentmem.agent.ports import AgentStore, Pending, SessionPlace
from agentmem.agent.prompt import Prompt
from agentmem.agent.spots import line_of
from agentmem.agent.summaries import Summary
from agentmem.agent.tokens import PER_MESSAGE, Tokenizer, counter_of, message_tokens
from agentmem.agent.turns import Turn
from agentmem.agent.until import until_alone
from agentmem.agent.working import WorkingMemory
from agentmem.types.changes import Delete, Update
from agentmem.types.checks import check_count, check_label, check_name, check_number, check_text
from agentmem.types.errors import ConflictError, InvalidInputError, NotFoundError, shown
from agentmem.types.inputs import Item
from agentmem.types.plain import Plain
from agentmem.types.records import MemoryRecord, SearchHit
from agentmem.types.sessionkeys import CLOSED, SESSIONS, SUMMARIES, WORKING
from agentmem.types.spelling import is_blank

MANY = 1_000_000
MOST_ASKED = 2_000
"""Characters of what the user said last that memories are searched by."""


@dataclass(frozen=True)
class SessionInfo(Plain):
    """What is known of a session. ``ends_at`` is when it will be over, turns and all, if nothing more is said."""

    run_id: str
    agent_id: str | None
    user_id: str | None
    title: str | None
    metadata: dict[str, Any]
    created_at: datetime
    last_at: datetime | None
    """When its last turn was; None while it has none."""
    closed_at: datetime | None
    ends_at: datetime | None
    version: int


class Session:
    """One conversation. Nothing is read or stored before it is first used; an append begins it.

    A session is one user's, in one namespace; two agents have two sessions of one run, and a session without an agent
    is the whole run, whoever speaks. What was appended is in this order for every process, also at equal times.
    """

    def __init__(self, store: AgentStore, place: SessionPlace, blocks: Sequence[Blocks] = ()) -> None:
        self._store = store
        self._place = place
        self._blocks = blocks

    def __repr__(self) -> str:
        return f"Session(run_id={self.run_id!r}, agent_id={self.agent_id!r})"

    @property
    def run_id(self) -> str:
        return self._place.run_id

    @property
    def agent_id(self) -> str | None:
        return self._place.agent_id

    @property
    def working(self) -> WorkingMemory:
        """The session's scratchpad."""
        return WorkingMemory(self._store, self._place)

    # -- turns -------------------------------------------------------------------------------------------------------

    def append(self, messages: Item | Sequence[Item]) -> list[Turn]:
        """Append one message, or a list of them: all or none, one after the other. Returns them as turns.

        A message is a dict or an object of a chat API: any role, its content a text, a list of parts or None, with tool
        calls, results, a name. It comes back whole (``Turn.message``); its text is what searches find. An item may say
        its ``id``, ``occurred_at`` and what else ``Memory.add`` takes of one. With an id of its own a message can be
        appended again safely: it is there once.

        Raises ``SessionClosedError``, ``InvalidInputError`` for what is no message (with its position as ``.index``).
        """
        return self._store.append(self._place, _as_list(messages), only_new=False).result()

    def turns(
        self,
        limit: int | None = None,
        *,
        max_tokens: int | None = None,
        tokenizer: Tokenizer | None = None,
        before: str | None = None,
    ) -> list[Turn]:
        """The last turns, oldest first: all, or ``limit`` of them, or as many as ``max_tokens`` hold.

        Those within ``max_tokens`` never begin with the result of a call that is not among them. ``before`` is the id
        of a turn: what came before that one, to page backwards. A read here sees what any process has appended.
        """
        wanted = MANY if limit is None else check_count(limit, "limit", 0)
        if before is not None:
            check_name(before, "before")
        if wanted == 0:
            return []
        if max_tokens is None:
            return self._store.turns(self._place, wanted, before)
        count, left = counter_of(tokenizer), check_count(max_tokens, "max_tokens", 0)
        # Every message has a token at least, so more of them than that are never needed.
        found = self._store.turns(self._place, min(wanted, left), before)
        first = len(found)
        for group in reversed(groups(found)):
            left -= sum(message_tokens(found[at].message, count) for at in group.positions)
            if left < 0:
                break
            if not group.orphans:
                first = group.positions[0]
        return found[first:]

    def messages(
        self,
        limit: int | None = None,
        *,
        max_tokens: int | None = None,
        tokenizer: Tokenizer | None = None,
        before: str | None = None,
    ) -> list[dict[str, Any]]:
        """The same as the messages themselves, as they were appended; new dicts each time."""
        return [turn.message for turn in self.turns(limit, max_tokens=max_tokens, tokenizer=tokenizer, before=before)]

    def count(self) -> int:
        """How many turns there are."""
        return self._store.count(self._place)

    def pop(self, n: int = 1) -> list[Turn]:
        """Delete the last ``n`` turns and return them, oldest first; fewer if there are no more.

        In one transaction: whoever else pops gets others. ``Memory.restore`` of their ids brings them back, in their
        places. Raises ``SessionClosedError``.
        """
        return self._store.take(self._place, check_count(n, "n", 1), exchange=False).result()

    def undo(self, n: int = 1) -> list[Turn]:
        """Take back the last ``n`` exchanges: what the user said last and everything since, answers and tool calls; all
        turns, where the user has not said so much. Otherwise as ``pop``.
        """
        return self._store.take(self._place, check_count(n, "n", 1), exchange=True).result()

    def clear(self) -> int:
        """Delete all turns; the session goes on, with its working memory. Returns how many there were.

        Raises ``SessionClosedError``: what was closed is changed by nobody, but ``delete`` removes it.
        """
        return self._store.clear(self._place)

    # -- summaries ---------------------------------------------------------------------------------------------------

    def summarize(
        self,
        *,
        keep: int = 20,
        max_tokens: int = 400,
        tokenizer: Tokenizer | None = None,
        model: object = None,
    ) -> Summary | None:
        """Have a summary stand for all turns but the last ``keep``, in prompts; None if those are all.

        It is made of the sentences that say most and repeat each other least, as many as ``max_tokens`` hold, by their
        words alone: no model is asked. The turns stay, and are found by searches; ``left_out`` names those of which
        nothing is in it. Call it again as the conversation goes on: each is made of the turns themselves.

        With ``model``, a ``Model``, the name of one, or True for that of the settings, that writes the sentences, each
        with the words of turns that say so. It is asked about new turns only, under the caps of consolidation. Where it
        has no answer of use, sentences of the turns stand, and ``failures`` says why.
        """
        return summaries.make(
            self._store,
            self._place,
            self._store.turns(self._place, MANY, None),
            check_count(keep, "keep", 0),
            check_count(max_tokens, "max_tokens", 1),
            counter_of(tokenizer),
            self._store.zone(),
            None if model is None else self._store.writer(model),
        )

    def summary(self) -> Summary | None:
        """The last one, without what was deleted or changed since; None if there is none."""
        return summaries.read(self._store, self._place)

    # -- prompts -----------------------------------------------------------------------------------------------------

    def prompt(
        self,
        query: str | None = None,
        *,
        max_tokens: int,
        instructions: str = "",
        tokenizer: Tokenizer | None = None,
        blocks: Sequence[Blocks] | None = None,
        recall: int = 20,
        recall_share: float = 0.3,
        recalled_role: str = "user",
        **search: Any,
    ) -> Prompt:
        """What to send to a model next, of at most ``max_tokens`` tokens as ``tokenizer`` counts them.

        In this order: ``instructions`` and the blocks (a system message), the summary, the last turns as they were
        appended, working memory, and last what is remembered. The first three are the same, byte for byte, until one
        of them changes. Calls of tools are there with their results or not at all. ``manifest`` says what is in it, and
        what was left out and why; nothing is cut in its middle.

        ``query`` is what to remember by, left out what the user said last; of up to ``recall`` memories as many as
        fit into ``recall_share`` of what is left after the blocks and the last exchange (0: none). They are quoted, as
        data, in a message of ``recalled_role``. Further arguments are those of ``Memory.search``, such as ``filters``,
        ``kinds``, ``since``. ``blocks`` are those to show instead of the session's own: those of nobody in particular,
        of the agent, of the user, and of both.
        """
        most, count = check_count(max_tokens, "max_tokens", 1), counter_of(tokenizer)
        share = check_number(recall_share, "recall_share", 0, 1)
        known = self._store.turns(self._place, most // PER_MESSAGE + 1, None)
        asked = query if query is not None else next((t.content for t in reversed(known) if t.role == "user"), "")
        shown, summary, zone = self._blocks if blocks is None else blocks, self.summary(), self._store.zone()
        sources = Sources(
            instructions=check_text(instructions, "instructions"),
            blocks=[block for each in shown for block in each.list()],
            summary=() if summary is None else [(each.turn_id, line_of(each, zone)) for each in summary.lines],
            working=self.working.get(),
            turns=known if summary is None else _after(known, summary.last_id),
        )
        builder = Builder(sources, most, count, zone, check_label(recalled_role, "recalled_role"), share)
        limit = check_count(recall, "recall", 0)

        def remember(choose: Callable[[Sequence[SearchHit]], list[int]]) -> None:
            if limit and not is_blank(asked):
                self._store.recall(asked[:MOST_ASKED], choose, limit, search)

        return builder.build(remember)

    # -- the session -------------------------------------------------------------------------------------------------

    def create(self, *, title: str | None = None, metadata: Mapping[str, Any] | None = None) -> SessionInfo:
        """Begin the session, which must not be there: of many who do so at once, one succeeds.

        Raises ``ConflictError``.
        """
        place = replace(self._place, said=_said(title, metadata))
        try:
            self._store.append(place, [], only_new=True).result()
        except ConflictError as exc:
            raise ConflictError(f"there is a session {self.run_id!r} already; append() goes on with it") from exc
        return self._must_be()

    def info(self) -> SessionInfo | None:
        """What is known of it; None if it was not begun, or is over."""
        record = self._store.get(SESSIONS, self._place.key)
        return None if record is None else info_of(record, self._store.last_at(self._place))

    def rename(self, title: str | None) -> SessionInfo:
        """Give it a title, of up to 1,000 characters; None removes it. Raises ``NotFoundError``."""
        return self._change(lambda said: {**said, "title": _title(title)})

    def describe(self, metadata: Mapping[str, Any]) -> SessionInfo:
        """Merge metadata into what it has; None removes a key. Raises ``NotFoundError``."""

        new = _mapping(metadata)

        def merged(said: dict[str, Any]) -> dict[str, Any]:
            both = {**said.get("metadata", {}), **new}
            return {**said, "metadata": {key: value for key, value in both.items() if value is not None}}

        return self._change(merged)

    def close(self) -> SessionInfo:
        """Take no more turns. Those that there are stay until the session is over. Raises ``NotFoundError``."""
        now = self._store.now().isoformat()
        return self._change(lambda said: {**said, CLOSED: said.get(CLOSED) or now})

    def reopen(self) -> SessionInfo:
        """Undo ``close``."""
        return self._change(lambda said: {**said, CLOSED: None})

    def delete(self) -> bool:
        """Delete the session: its turns, its record and its working memory. False if it was not there.

        That is one transaction; of more than 500 turns the last go with the rest, and those before them are deleted
        first: broken off, the session is still there.
        """
        record = self._store.get(SESSIONS, self._place.key)
        changes = [Delete(key=self._place.key, **self._store.place(room)) for room in (SESSIONS, WORKING, SUMMARIES)]
        changes += [Delete(id) for id in summaries.written(self._store, self._place)]
        return bool(self._store.clear(self._place, changes)) or record is not None

    def _change(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> SessionInfo:
        """Read what the record says, and write what is to be said, until nobody comes in between."""

        def attempt() -> None:
            record = self._store.get(SESSIONS, self._place.key)
            if record is None:
                raise NotFoundError(f"there is no session {self.run_id!r}; append() or create() begins one")
            said = {key: value for key, value in change(dict(record.metadata)).items() if value is not None}
            if said != record.metadata:
                self._store.apply(
                    [
                        Update(
                            key=self._place.key,
                            metadata=said,
                            merge=False,
                            if_version=record.version,
                            **self._store.place(SESSIONS),
                        )
                    ]
                )

        until_alone(attempt)
        return self._must_be()

    def _must_be(self) -> SessionInfo:
        found = self.info()
        if found is None:
            raise NotFoundError(f"the session {self.run_id!r} was deleted meanwhile")
        return found


def begin_append(session: Session, messages: Item | Sequence[Item]) -> Pending[list[Turn]]:
    """``Session.append`` for event loops: the messages are checked and on their way when this returns."""
    return session._store.append(session._place, _as_list(messages), only_new=False, here=False)  # pyright: ignore[reportPrivateUsage]


def begin_pop(session: Session, n: int) -> Pending[list[Turn]]:
    """``Session.pop`` for event loops."""
    return session._store.take(session._place, check_count(n, "n", 1), exchange=False)  # pyright: ignore[reportPrivateUsage]


def sessions(
    store: AgentStore,
    *,
    agent_id: str | None,
    run_id: str | None,
    limit: int,
    offset: int,
    place: Callable[[str | None, str], SessionPlace],
) -> list[SessionInfo]:
    """The sessions that there are, the one begun last first."""
    found = store.list(SESSIONS, agent_id=agent_id, run_id=run_id, limit=limit, offset=offset)
    return [info_of(record, store.last_at(place(record.agent_id, str(record.run_id)))) for record in found]


def info_of(record: MemoryRecord, last_at: datetime | None) -> SessionInfo:
    """What a session's record says."""
    said = record.metadata
    closed = said.get(CLOSED)
    return SessionInfo(
        run_id=str(record.run_id),
        agent_id=record.agent_id,
        user_id=record.user_id,
        title=said.get("title"),
        metadata=said.get("metadata", {}),
        created_at=record.created_at,
        last_at=last_at,
        closed_at=None if closed is None else datetime.fromisoformat(closed),
        ends_at=record.expires_at,
        version=record.version,
    )


def _after(turns: Sequence[Turn], id: str) -> Sequence[Turn]:
    """The turns after one; all, if it is not among them."""
    at = next((at for at in range(len(turns) - 1, -1, -1) if turns[at].id == id), -1)
    return turns[at + 1 :]


def _said(title: str | None, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    said = {"title": _title(title), "metadata": None if metadata is None else _mapping(metadata)}
    return {key: value for key, value in said.items() if value is not None}


def _mapping(metadata: object) -> dict[str, Any]:
    if not isinstance(metadata, Mapping):
        raise InvalidInputError(f"metadata must be a mapping, not {shown(metadata)}", field="metadata")
    return dict(cast("Mapping[str, Any]", metadata))


def _title(title: object) -> str | None:
    if title is None:
        return None
    text = check_text(title, "title")
    if len(text) > 1_000:
        raise InvalidInputError(f"title has {len(text):,} characters, more than 1,000", field="title")
    return text


def _as_list(messages: object) -> list[Item]:
    if isinstance(messages, Iterator):
        raise InvalidInputError("several messages are given as a list; write list(...)", field="messages")
    if isinstance(messages, (str, bytes)):
        raise InvalidInputError(
            f"a turn is a message with a role, such as {{'role': 'user', 'content': {shown(messages)}}}",
            field="messages",
        )
    return list(cast("Sequence[Item]", messages)) if isinstance(messages, Sequence) else [cast("Item", messages)]
