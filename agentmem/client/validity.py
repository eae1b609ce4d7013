"""What items and changes say of when facts hold, and what they were drawn from, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from agentmem.client.checks import check_flag, check_id, check_version
from agentmem.operations.apply import Target, Validating
from agentmem.types.changes import Evidence, SetValidity
from agentmem.types.checks import check_count, check_instant
from agentmem.types.enums import UNSET
from agentmem.types.errors import InvalidInputError, shown
from agentmem.types.inputs import Draft, Scope, Source, Validity

MOST = 100
"""Sources of one fact."""


def with_sources(draft: Draft, sources: tuple[Source, ...]) -> Draft:
    """The draft of a fact that was drawn from these."""
    if not sources:
        return draft
    known = Validity() if draft.validity is None else draft.validity
    return replace(draft, dedupe=False, validity=known._replace(sources=sources))


def check_evidence(evidence: object) -> tuple[Source, ...]:
    """Ids, or parts of records. Raises ``InvalidInputError``."""
    if isinstance(evidence, (str, bytes)) or not isinstance(evidence, Sequence):
        raise InvalidInputError(f"evidence is a list of ids or Evidence, not {shown(evidence)}", field="evidence")
    given = cast("Sequence[object]", evidence)
    if len(given) > MOST:
        raise InvalidInputError(f"evidence names {len(given):,} records, more than {MOST}", field="evidence")
    return tuple(dict.fromkeys(_source(each) for each in given))


def _source(each: object) -> Source:
    if not isinstance(each, Evidence):
        return Source(check_id(each))
    if each.first is None and each.end is None:
        return Source(check_id(each.id))
    first, end = check_count(each.first, "first", 0), check_count(each.end, "end", 0)
    if first >= end:
        raise InvalidInputError(f"evidence from {first} to {end} has no characters", field="evidence")
    return Source(check_id(each.id), first, end)


def validating(scope: Scope | None, change: SetValidity) -> Validating:
    """What a change of validity is to do."""
    values = dict[str, Any]()
    for name in ("valid_from", "valid_to"):
        if (value := getattr(change, name)) is not UNSET:
            values[name] = None if value is None else check_instant(value, name)
    check_span(values.get("valid_from"), values.get("valid_to"))
    by: Any = change.superseded_by
    retired = None if change.retired is UNSET else check_flag(change.retired, "retired")
    if by is not UNSET and by is not None:
        if retired is False:
            raise InvalidInputError("what is superseded is retired; leave one of them out", field="retired")
        by, retired = check_id(by), True
    if not values and retired is None and by is UNSET:
        raise InvalidInputError("SetValidity was given nothing to change", field="valid_to")
    return Validating(
        Target(scope, id=check_id(change.id)), values, retired, by, check_version(change.if_version, "if_version")
    )


def check_span(since: int | None, until: int | None) -> None:
    """Raise ``InvalidInputError`` for a fact that would hold at no time."""
    if since is not None and until is not None and since >= until:
        raise InvalidInputError("valid_to is not after valid_from, so that it would hold at no time", field="valid_to")
