"""Adds of records that come back in, such as those of an export: with a key that they had, an end that they have.

Unlike a put, an add by key replaces nothing: the key is free, or the same record is there already.
Expects to be inside a transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agentmem.stores import keys
from agentmem.stores.keys import Place
from agentmem.stores.repetition import is_over, repeats
from agentmem.stores.rows import Created, Numbers, Stored, expired
from agentmem.stores.schema import EXPIRED, LIVE
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros
from agentmem.types.errors import ConflictError
from agentmem.types.inputs import Draft
from agentmem.types.spelling import composed, spellings


def add(repository: Repository, drafts: Sequence[Draft], vectors: Sequence[bytes], now: Micros) -> list[Created]:
    """Store the drafts of adds, as ``Repository.batch_create`` does, those that come back, too.

    Raises ``ConflictError`` if an id or a key is another record's, unless the draft says ``skip_taken``; nothing may be
    committed then.
    """
    if not any(draft.key is not None or is_over(draft, now) for draft in drafts):
        return repository.batch_create(drafts, vectors, now)
    outcomes = list[Created]()
    for group in _groups(drafts):
        outcomes += _add(repository, drafts[group], vectors[group], now)
    return outcomes


def _groups(drafts: Sequence[Draft]) -> Iterator[slice]:
    """Neighbours that can be stored together: with keys or without, and with none of their ids and keys twice."""
    start, seen = 0, set[object]()
    for at, draft in enumerate(drafts):
        names: set[object] = set() if draft.id is None else {composed(draft.id)}
        if draft.key is not None:
            names.add(draft.place)
        if at > start and ((draft.key is None) != (drafts[at - 1].key is None) or names & seen):
            yield slice(start, at)
            start, seen = at, set[object]()
        seen |= names
    yield slice(start, len(drafts))


def _add(repository: Repository, drafts: Sequence[Draft], vectors: Sequence[bytes], now: Micros) -> list[Created]:
    known = _by_id(repository, drafts)
    outcomes, new = dict[int, Created](), list[int]()
    places = dict[int, Place]()
    for at, draft in enumerate(drafts):
        same = known.get(at)
        if same is not None and is_over(draft, now) and _is_over_too(repository, draft, same, now):
            outcomes[at] = Created("duplicate", same)
        elif same is None and draft.key is not None:
            user, _, _, space = repository.numbers_of(draft.scope)
            places[at] = Place(user, space, draft.key)
        elif same is None:
            new.append(at)
        else:
            outcomes[at] = repository.batch_create([draft], [vectors[at]], now)[0]
    holders = keys.holders(repository, places.values())
    for at, place in places.items():
        holder = holders.get(place)
        if holder is None or expired(holder, now):
            new.append(at)
            continue
        error = _key_in_use(drafts[at], holder, repository.numbers_of(drafts[at].scope))
        if not drafts[at].skip_taken:
            raise error
        outcomes[at] = Created("taken", holder, str(error), field="key")
    chosen, held = [drafts[at] for at in new], [vectors[at] for at in new]
    made = keys.put(repository, chosen, held, now) if places else repository.batch_create(chosen, held, now)
    outcomes.update(zip(new, made, strict=True))
    return [outcomes[at] for at in range(len(drafts))]


def _by_id(repository: Repository, drafts: Sequence[Draft]) -> dict[int, Stored]:
    """By the positions of drafts the records that have their ids already."""
    wanted = [(at, spelling) for at, draft in enumerate(drafts) if draft.id for spelling in spellings(draft.id)]
    found = {stored.id: stored for stored in repository.find_ids(spelling for _, spelling in wanted)}
    return {at: found[spelling] for at, spelling in reversed(wanted) if spelling in found}


def _is_over_too(repository: Repository, draft: Draft, stored: Stored, now: Micros) -> bool:
    """Whether a record that has ended is there already, and has ended, too: adding it again brings nothing."""
    if not expired(stored, now) or stored.state not in (LIVE, EXPIRED):
        return False
    as_it_was = stored._replace(state=LIVE, expires_at=None)
    return repeats(draft, repository.numbers_of(draft.scope), as_it_was, now)


def _key_in_use(draft: Draft, holder: Stored, scope: Numbers) -> ConflictError:
    """The error for a key that is another record's; it says more to its owner than to others."""
    whose = f"that of {holder.id!r}" if holder.scope == scope else "that of another record"
    what = "the record" if draft.id is None else f"the record {draft.id!r}"
    return ConflictError(f"{what} cannot be added: its key {draft.key!r} is {whose}; delete that one first")
