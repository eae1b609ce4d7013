"""Checking many items: what is done with bad ones, and how an import that is repeated adds nothing.

With a ``source``, an item that is not deduplicated anyway (a message, above all) gets an id made of the source, its
scope, its words, its date, and of how often the same came before in this import: the second "ok" of a file is another
message, and the same file gives the same ids again, also where it has grown or was sorted anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, get_args

from agentmem import operations
from agentmem.client.checks import check_content, check_flag
from agentmem.client.drafts import draft
from agentmem.client.options import AddOptions
from agentmem.client.repairs import mended
from agentmem.types.checks import check_label
from agentmem.types.enums import OnConflict, OnError
from agentmem.types.errors import InvalidInputError, ScopeError, shown
from agentmem.types.inputs import Draft
from agentmem.types.records import Skipped
from agentmem.types.toembed import texts_of

if TYPE_CHECKING:
    from agentmem.client.handle import Handle
    from agentmem.engine.engine import Engine
    from agentmem.settings import Settings

_CHUNKS_KEPT = 4
"""Chunks of a stream whose ids are remembered: those on their way into the store, and one more."""
_LONGEST_SOURCE = 4_096


@dataclass(slots=True)
class Checked:
    """Items that can be stored, and those that were left out."""

    drafts: list[Draft] = field(default_factory=list[Draft])
    indexes: list[int] = field(default_factory=list[int])
    """The positions of the drafts' items for the caller."""
    skipped: list[Skipped] = field(default_factory=list[Skipped])


class Importing:
    """Checks the items of one call or one stream, a batch at a time."""

    def __init__(
        self,
        handle: Handle,
        defaults: AddOptions,
        admit: Callable[[Draft], Draft],
        *,
        on_error: object = "raise",
        on_conflict: object = "raise",
        repair: object = False,
        source: object = None,
    ) -> None:
        for name, value, known in (("on_error", on_error, OnError), ("on_conflict", on_conflict, OnConflict)):
            if not isinstance(value, str) or value not in get_args(known):
                raise InvalidInputError(f"{name}={shown(value)} is not one of raise, skip", field=name)
        self._handle = handle
        self._defaults = defaults
        self._admit = admit
        self._skip = on_error == "skip"
        self._skip_taken = self._skip or on_conflict == "skip"
        self._repair = check_flag(repair, "repair")
        self._source = None if source is None else check_label(source, "source", _LONGEST_SOURCE)
        self._text: Draft | None = None
        self._each: Callable[[Draft], Draft] | None = None
        self._times = dict[int, int]()
        self._ids: deque[dict[str, Draft]] = deque(maxlen=_CHUNKS_KEPT)

    def each(self, change: Callable[[Draft], Draft]) -> Importing:
        """Have this done to the draft of each item, too, also where those of texts are made of one another."""
        self._each = change
        return self

    @property
    def reads(self) -> bool:
        """Whether a check looks into the store, which is not for an event loop to wait for."""
        return self._skip_taken or self._source is not None

    def check(self, items: Sequence[object], first_index: int) -> Checked:
        """Check a batch; ``first_index`` is the position of its first item for the caller.

        A bad item raises with its position as ``.index``, or is left out, as was wanted.
        """
        found, settings, engine = Checked(), self._handle.settings, self._handle.engine()
        for index, item in enumerate(items, first_index):
            try:
                made = self._draft(item, settings, engine)
            except (InvalidInputError, ScopeError) as exc:
                reason = f"{exc}; repair=True mends it" if self._could_be_mended(item) else str(exc)
                if not self._skip:
                    raise _placed(exc, index, reason) from exc
                found.skipped.append(Skipped(index, None if isinstance(exc, ScopeError) else exc.field, reason))
            else:
                found.drafts.append(made)
                found.indexes.append(index)
        return self._against_store(found, engine) if self.reads else found

    def _draft(self, item: object, settings: Settings, engine: Engine) -> Draft:
        if self._repair:
            item = self._mended(item)
        if self._text is None or not isinstance(item, str):
            made = self._admit(draft(item, self._defaults, settings))
        else:  # all that is not the text itself was checked with the first one
            made = self._text.saying(check_content(item, settings))
        if isinstance(item, str):
            self._text = made
        if self._each is not None:
            made = self._each(made)
        if self._skip and made.form is not None:
            engine.adding.check_given(made.form)
        if self._skip and settings.long_text == "refuse":
            for text in texts_of([made]):
                engine.adding.check_length(text)
        return made

    def _could_be_mended(self, item: object) -> bool:
        """Whether what was wrong with an item may have been what ``repair`` mends."""
        return not self._repair and self._mended(item) is not item

    def _mended(self, item: object) -> object:
        return mended(item, self._handle.settings.max_metadata_bytes)

    def _against_store(self, found: Checked, engine: Engine) -> Checked:
        """The same, with ids of a source, and without what the ids in the store do not admit."""
        named = found.drafts
        derived = set[int]()
        if self._source is not None:
            derived = {at for at, made in enumerate(named) if made.id is None and not made.dedupe}
            ids = operations.add.unused_ids(engine, [self._ids_of(named[at]) for at in sorted(derived)])
            named = list(named)
            for at, id in zip(sorted(derived), ids, strict=True):
                named[at] = replace(named[at], id=id)
        taken = operations.add.taken_ids(engine, named, derived, check_all=self._skip_taken)
        self._ids.append({})
        checked = Checked(skipped=found.skipped)
        for at, (index, made) in enumerate(zip(found.indexes, named, strict=True)):
            why = taken.get(at)
            if why is None and self._skip_taken and made.id is not None:
                why = self._clash(made.id, made)
            if why is None:
                # It may be taken by the time it is stored; of keys only that tells.
                named_so = made.id is not None or made.key is not None
                skip = named_so and (self._skip_taken or at in derived)
                checked.drafts.append(replace(made, skip_taken=True) if skip else made)
                checked.indexes.append(index)
            else:
                checked.skipped.append(Skipped(index, "id", why))
        checked.skipped.sort(key=lambda skipped: skipped.index)
        return checked

    def _clash(self, id: str, made: Draft) -> str | None:
        """Why the id cannot be used, if it is on its way into the store for something else."""
        for chunk in self._ids:
            other = chunk.get(id)
            if other is not None and (other.scope, other.content) != (made.scope, made.content):
                return f"the id {id!r} is given to another item before it; choose another one"
        self._ids[-1][id] = made
        return None

    def _ids_of(self, made: Draft) -> Callable[[int], str]:
        """The ids that an item of the source may have: the first, and those after each that has expired."""
        from hashlib import blake2b  # only for those who import

        scope = made.scope
        parts = (
            self._source, scope.user_id, scope.agent_id, scope.run_id, made.role, made.kind, made.occurred_at,
            made.content, *([scope.namespace] if scope.namespace else []),
        )  # fmt: skip
        base = blake2b(repr(parts).encode(), digest_size=16)
        same = int.from_bytes(base.digest()[:7])
        times = self._times[same] = self._times.get(same, 0) + 1

        def id(generation: int) -> str:
            digest = base.copy()
            digest.update(f"{times} {generation}".encode())
            text = digest.hexdigest()
            # As a UUID of version 8, whose bits are for whoever makes it.
            return f"{text[:8]}-{text[8:12]}-8{text[13:16]}-a{text[17:20]}-{text[20:]}"

        return id


def _placed(exc: InvalidInputError | ScopeError, index: int, reason: str) -> InvalidInputError | ScopeError:
    text = f"item {index}: {reason}"
    if isinstance(exc, ScopeError):
        return ScopeError(text, index=index)
    return InvalidInputError(text, field=exc.field, index=index)
