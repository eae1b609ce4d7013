"""Which of the facts that are added are there already."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from unicodedata import normalize

from agentmem.stores.connection import CHUNK
from agentmem.stores.facts import canonical, first_fact_key
from agentmem.stores.records import LIVE_ONLY, Records
from agentmem.stores.rows import Numbers, Stored, expired
from agentmem.types.clock import Micros
from agentmem.types.inputs import Draft


def known_facts(
    records: Records,
    drafts: Sequence[Draft],
    scopes: Sequence[Numbers],
    keys: Sequence[bytes | None],
    now: Micros,
    *,
    first_keys: bool,
) -> dict[bytes, Stored]:
    """Visible records by the keys of drafts that say the same; the oldest where there are several.

    ``first_keys``: whether there may be records whose keys were made by the first rule.
    """
    wanted: dict[tuple[int, bytes], list[tuple[bytes, Micros | None]]] = {}
    for draft, scope, key in zip(drafts, scopes, keys, strict=True):
        if key is not None:
            known_as = (key, *_first_keys_of(draft, scope)) if first_keys and not scope[3] else (key,)
            for name in known_as:
                wanted.setdefault((scope[0], name), []).append((key, draft.occurred_at))
    pairs, rows = list(wanted), list[int]()
    for start in range(0, len(pairs), CHUNK):
        chunk = pairs[start : start + CHUNK]
        # The rest of a record only where there is one: each column that a statement names costs half a microsecond.
        rows += chain.from_iterable(
            records.db.execute(
                f"WITH wanted (user, key) AS (VALUES {','.join(['(?,?)'] * len(chunk))}) "
                "SELECT r.row FROM wanted w CROSS JOIN records r ON r.user = w.user AND r.fingerprint = w.key "
                f"WHERE {LIVE_ONLY} AND r.fingerprint IS NOT NULL",
                tuple(chain.from_iterable(chunk)),
            )
        )
    found: dict[bytes, Stored] = {}
    for stored in records.find_rows(rows):
        if stored.fingerprint is None or expired(stored, now):
            continue
        for key, occurred_at in wanted[stored.user, stored.fingerprint]:
            # Keys by the first rule say nothing of the time.
            if stored.occurred_at == occurred_at and (key not in found or stored.row < found[key].row):
                found[key] = stored
    return found


def _first_keys_of(draft: Draft, scope: Numbers) -> set[bytes]:
    """Under which keys the fact may be found that was stored when those were made of the text as it was."""
    text = canonical(draft.content)
    return {
        first_fact_key(scope, draft.role, draft.kind, each) for each in (draft.content, text, normalize("NFD", text))
    }
