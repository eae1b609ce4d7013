"""What a tool is: a name, a sentence, its arguments as a model, and what it does with somebody's memory.

Every word of a tool's description and schema is read by a model at the beginning of each conversation, so schemas are
cut down to what says something, and results are short lines of text beside the same as data.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeAlias, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from agentmem import AgentMemError, ConflictError, InvalidInputError, NotFoundError
from agentmem.mcp.access import Access

JSONObject: TypeAlias = dict[str, Any]


def _object(value: object) -> object:
    """Some clients give an object as its JSON text."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


ObjectArgument = Annotated[JSONObject | None, BeforeValidator(_object)]
"""An argument that is a JSON object, or left out."""


class Arguments(BaseModel):
    """Base of the arguments of a tool. What it does not know is refused: a name that a model made up, such as whose
    memories are meant, must fail and not vanish."""

    model_config = ConfigDict(extra="forbid")


class ToolError(Exception):
    """What went wrong, in words that a model can act on."""


@dataclass(frozen=True)
class Answer:
    """What a tool found: a text for the model, and the same as data; None for a text that says it all."""

    text: str
    data: JSONObject | None = None


@dataclass(frozen=True)
class Tool:
    """One tool. ``writes``: it changes something; ``destroys``: it takes something away."""

    name: str
    description: str
    arguments: type[Arguments]
    run: Callable[[Access, Any], Awaitable[Answer]]
    writes: bool = False
    destroys: bool = False
    output: JSONObject | None = None
    """The schema of the data that it answers with."""
    parameters: JSONObject = field(init=False)
    """The schema of its arguments."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", _schema(self.arguments))

    async def call(self, access: Access, given: JSONObject) -> Answer:
        """Check the arguments and do it. Raises ``ToolError`` for whatever the model, or its user, can mend."""
        try:
            arguments = self.arguments.model_validate(given)
        except ValidationError as exc:
            raise ToolError(self._complaint(exc)) from exc
        try:
            return await self.run(access, arguments)
        except AgentMemError as exc:
            raise ToolError(said(exc)) from exc

    def _complaint(self, exc: ValidationError) -> str:
        """What is wrong with arguments, in a line for each."""
        takes = ", ".join(self.parameters["properties"]) or "no arguments"
        lines = list[str]()
        for error in exc.errors(include_url=False, include_context=False):
            where = ".".join(str(part) for part in error["loc"])
            if error["type"] == "extra_forbidden":
                lines.append(f"{self.name} has no argument {where!r}; it takes {takes}. {_WHOSE}")
            elif error["type"] == "missing":
                lines.append(f"{self.name} needs {where!r}")
            else:
                lines.append(f"{where!r}: {error['msg'][:1].lower()}{error['msg'][1:]}")
        return "\n".join(lines)


_WHOSE = "Whose memories these are is settled by the server and cannot be chosen here."


def said(exc: AgentMemError) -> str:
    """An error of the library in words for somebody who has tools and no Python."""
    if isinstance(exc, NotFoundError):
        return "There is no such memory here. Use an id as recall shows it; it may have been forgotten since."
    if isinstance(exc, ConflictError):
        return f"Somebody else changed it at the same time; read it again and repeat. ({exc})"
    if isinstance(exc, InvalidInputError) and exc.field is not None:
        return f"{exc.field}: {exc}"
    return str(exc)


def sendable(text: str) -> str:
    """Text that can be sent: half characters, which data may hold, become ``?``."""
    return text.encode("utf-8", "replace").decode("utf-8")


def chosen(names: Sequence[str], sets: dict[str, tuple[Tool, ...]]) -> tuple[Tool, ...]:
    """The tools that names of sets or of single tools mean, each once, in the order of the sets.

    Raises ``InvalidInputError`` for a name that is neither.
    """
    every = {tool.name: tool for tools in sets.values() for tool in tools}
    wanted = set[str]()
    for name in names:
        if name in sets:
            wanted.update(tool.name for tool in sets[name])
        elif name in every:
            wanted.add(name)
        else:
            raise InvalidInputError(
                f"there is no tool or set {name!r}; sets are {', '.join(sets)}, tools {', '.join(every)}", field="tools"
            )
    if not wanted:
        raise InvalidInputError(f"name at least one tool or set, such as {next(iter(sets))}", field="tools")
    return tuple(tool for tool in every.values() if tool.name in wanted)


def _schema(model: type[Arguments]) -> JSONObject:
    """A model's JSON schema without what tells nothing: titles, and that an optional argument may be null."""
    schema = model.model_json_schema()
    definitions = cast("JSONObject", schema.pop("$defs", {}))
    shorter = cast("JSONObject", _shorter(schema, definitions))
    return {"type": "object", "properties": {}, **shorter, "additionalProperties": False}


def _shorter(value: Any, definitions: JSONObject) -> Any:
    if isinstance(value, list):
        return [_shorter(one, definitions) for one in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    given = cast("JSONObject", value)
    if "$ref" in given:
        return _shorter(definitions[given["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in given:
        rest = [one for one in given["anyOf"] if one != {"type": "null"}]
        if len(rest) == 1:
            given = {**{key: one for key, one in given.items() if key != "anyOf"}, **rest[0]}
    made: JSONObject = {}
    for key, one in given.items():
        if key == "properties":
            made[key] = {name: _shorter(inner, definitions) for name, inner in one.items()}
        elif key in ("title", "description") and isinstance(one, str) and (key == "title" or "properties" in given):
            continue
        elif (key == "default" and one is None) or (key == "additionalProperties" and one in (True, False)):
            continue
        else:
            made[key] = _shorter(one, definitions)
    return made
