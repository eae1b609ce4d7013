"""What of drafts is embedded, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from agentmem.types.inputs import Draft


def texts_of(drafts: Sequence[Draft]) -> list[str]:
    """Every text that is embedded for these drafts, in their order."""
    return [text for draft in drafts for text in ((draft.content,) if draft.form is None else draft.form.texts)]


def embeddings_of(drafts: Sequence[Draft], made: Sequence[bytes]) -> Sequence[bytes]:
    """For each draft its embeddings, of what was made of ``texts_of`` them and of what their caller gave."""
    if all(draft.form is None for draft in drafts):
        return made
    counts = (1 if draft.form is None else len(draft.form.texts) for draft in drafts)
    return [
        b"".join(made[start:end] if draft.form is None else (*draft.form.given, *made[start:end]))
        for draft, (start, end) in zip(drafts, pairwise(accumulate(counts, initial=0)), strict=True)
    ]


def draft_at(drafts: Sequence[Draft], text: int) -> int:
    """The position of the draft that a text of ``texts_of`` them belongs to."""
    for at, draft in enumerate(drafts):
        text -= 1 if draft.form is None else len(draft.form.texts)
        if text < 0:
            return at
    return len(drafts) - 1
