"""In which order memories that were found get room in a prompt.

    worth = score * (1 + NEARNESS * near) * (1 - OTHERS * other) * (1 - ASKING * asks)

A search ranks each memory by what it says, and by the words beside it. What has little room wants to know more: which
conversation speaks of what is asked, and who it was. ``near`` is how similar the memory of the same run is that is most
similar to the question, from 0 for the least similar of all that were found to 1 for the most similar one, whatever the
cosines of the model are; memories of no run have no such company, and count as half near. A memory that is the question
itself, as the turn that asks it is, says nothing of its run. ``other`` is 1 where somebody else speaks than the
question names: a role, or a name before a colon. ``asks`` is the share of a memory that are questions, which lead a
search to their answers, and take the room of these.
"""

from __future__ import annotations

from collections.abc import Sequence

from agentmem.text.question import words_of
from agentmem.text.terms import asking
from agentmem.types.enums import Mode, Rank
from agentmem.types.records import MemoryRecord, SearchHit

LOOKED_AT = 64
"""The best hits, which are put in another order; further ones follow as they come."""
NEARNESS, OTHERS, ASKING = 0.5, 0.1, 0.15
_NO_COMPANY = 0.5
_ITSELF = 0.99
"""A similarity from which on a text is the question itself."""
_LONGEST_NAME = 40
_READ = 2_000
"""Characters in which questions are counted."""


def by_worth(
    query: str, hits: Sequence[SearchHit], *, mode: Mode, rank: Rank, weigh_questions: bool = True
) -> list[int]:
    """Positions of the hits of a search, which are best first: those first that are to have room first.

    What a search leaves out of account does not count here either: by similarity alone hits stay as they are, and by
    vectors alone neither speakers nor questions count.
    """
    if rank == "similarity":
        return list(range(len(hits)))
    looked_at = hits[:LOOKED_AT]
    worth = [hit.score * (1 + NEARNESS * near) for hit, near in zip(looked_at, _near(looked_at), strict=True)]
    if mode != "vector":
        for at, other in enumerate(_others(query, looked_at)):
            asks = asking(looked_at[at].content[:_READ]) if weigh_questions else 0.0
            worth[at] *= (1 - OTHERS * other) * (1 - ASKING * asks)
    return [*sorted(range(len(worth)), key=lambda at: -worth[at]), *range(len(worth), len(hits))]


def _near(hits: Sequence[SearchHit]) -> list[float]:
    """How near the run of each hit is to the question, in [0, 1]."""
    telling = [(_run(hit), hit.similarity) for hit in hits if hit.similarity is not None and hit.similarity < _ITSELF]
    similarities = sorted({similarity for _, similarity in telling})
    if len(similarities) < 2:
        return [_NO_COMPANY] * len(hits)
    least, most, best = similarities[0], similarities[-1], dict[object, float]()
    for run, similarity in telling:
        best[run] = max(similarity, best.get(run, least))
    best.pop(None, None)
    near = {run: (similarity - least) / (most - least) for run, similarity in best.items()}
    return [near.get(_run(hit), _NO_COMPANY) for hit in hits]


def _run(hit: SearchHit) -> object:
    return None if hit.run_id is None else (hit.user_id, hit.agent_id, hit.run_id)


def _others(query: str, hits: Sequence[SearchHit]) -> list[bool]:
    """Whether somebody else speaks than the question names; where it names nobody who does, none of them."""
    asked, known = _names(query), dict[str, frozenset[str]]()
    speakers = list[frozenset[str]]()
    for hit in hits:
        speaker = _speaker(hit.record)
        if speaker not in known:
            known[speaker] = _names(speaker)
        speakers.append(known[speaker])
    if asked.isdisjoint(frozenset[str]().union(*known.values())):
        return [False] * len(hits)
    return [bool(speaker) and asked.isdisjoint(speaker) for speaker in speakers]


def _speaker(record: MemoryRecord) -> str:
    name, colon, _ = record.content[: _LONGEST_NAME + 1].replace("\N{FULLWIDTH COLON}", ":").partition(":")
    return f"{record.role or ''} {name if colon and name.isprintable() else ''}".strip()


def _names(text: str) -> frozenset[str]:
    """The words of a text, but function words."""
    words = words_of(text, stop_words=True, similar_words=False)
    return frozenset(word.term for word in words if word.weight == 1)
