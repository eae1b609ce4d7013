"""The changes of ``apply``, checked one by one as the calls of the same names check their arguments."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from agentmem.client.arguments import patch_of
from agentmem.client.checks import check_changes, check_id, check_ttl, check_version
from agentmem.client.options import AddOptions
from agentmem.client.validity import check_evidence, validating, with_sources
from agentmem.operations.apply import Changing, Deleting, Step, Storing, Target, Touching
from agentmem.types.changes import Add, Delete, Put, SetValidity, Touch, Update
from agentmem.types.enums import UNSET
from agentmem.types.errors import InvalidInputError, ScopeError

if TYPE_CHECKING:
    from agentmem.client.border import Border
    from agentmem.engine.engine import Engine


def steps(border: Border, engine: Engine, changes: object) -> list[Step]:
    """What changes are to do.

    Raises ``InvalidInputError`` and ``ScopeError`` with the position of a change as ``index``.
    """
    made = list[Step]()
    for index, change in enumerate(check_changes(changes)):
        try:
            made.append(_step(border, engine, change))
        except (InvalidInputError, ScopeError) as exc:
            exc.index = index
            raise
    return made


def _step(border: Border, engine: Engine, change: object) -> Step:
    """What a change is to do."""
    match change:
        case Add():
            [draft] = border.draft(change.item, border.defaults(AddOptions()))
            return Storing(with_sources(draft, check_evidence(change.evidence)))
        case Put():
            return Storing(_put(border, change), put=True)
        case Update():
            target, given = _target(border, change), _values(change, "id", "key", "namespace", "user_id")
            return Changing(target, patch_of(engine.settings, engine.now(), **given))
        case Delete():
            return Deleting(_target(border, change), check_version(change.if_version, "if_version"))
        case Touch():
            ttl = change.ttl if change.ttl is UNSET or change.ttl is None else check_ttl(change.ttl)
            return Touching(_target(border, change), ttl, check_version(change.if_version, "if_version"))
        case SetValidity():
            return validating(border.bound, change)
        case _:
            kind = type(change).__name__
            raise InvalidInputError(
                f"a change is an Add, Put, Update, Delete, Touch or SetValidity, not {kind}", field="changes"
            )


def _put(border: Border, change: Put) -> Any:
    given = _values(change, "key", "content", "if_version")
    return border.keyed(change.key, change.content, border.defaults(AddOptions(**given)), change.if_version)


def _target(border: Border, change: Update | Delete | Touch) -> Target:
    place = border.by_key(change.id, change.key, change.namespace, change.user_id)
    if place is None:
        return Target(border.bound, id=check_id(change.id))
    return Target(place[1], key=place[0])


def _values(change: Any, *but: str) -> dict[str, Any]:
    """The fields of a change by name, without some."""
    return {each.name: getattr(change, each.name) for each in fields(change) if each.name not in but}
