"""Where settings come from besides code: environment variables and a TOML file.

The one place that imports pydantic-settings, and only where a variable is set: it takes as long as pydantic itself.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from agentmem.types.errors import InvalidInputError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

PREFIX = "AGENTMEM_MEMORY__"
FILE_VARIABLE = "AGENTMEM_CONFIG"
DEFAULT_FILE = "agentmem.toml"
Values: TypeAlias = dict[str, Any]

chosen_file: ContextVar[Path | None] = ContextVar("agentmem_config", default=None)
"""A file that goes before the one that the environment names."""


def read_file() -> tuple[Path | None, Values]:
    """The TOML file that applies, if any, and its ``[memory]`` table."""
    named = chosen_file.get() or os.environ.get(FILE_VARIABLE)
    path = Path(named or DEFAULT_FILE)
    if not named and not path.is_file():
        return None, {}
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise InvalidInputError(f"the settings in {path} cannot be read: {exc.strerror or exc}", field="file") from exc
    except ValueError as exc:
        raise InvalidInputError(f"{path} is not a TOML file: {exc}", field="file") from exc
    other = next((key for key in data if key != "memory"), None)
    if other is not None:
        raise InvalidInputError(f"setting {other!r} in {path}: every setting is under [memory]", field=other)
    table = data.get("memory", {})
    if not isinstance(table, dict):
        raise InvalidInputError(f"setting 'memory' in {path} must be a table", field="memory")
    return path, cast("Values", table)


def variables() -> dict[str, str]:
    """The environment variables with our prefix, by the dotted key that they name."""
    ours = [name for name in os.environ if name.upper().startswith(PREFIX)]
    return {name[len(PREFIX) :].lower().replace("__", "."): name for name in ours}


def read_environment(fields: Mapping[str, FieldInfo]) -> Values:
    """The values of those variables, nested; ``fields`` are those of ``Settings``."""
    found = variables()
    if not found:
        return {}
    for key, name in found.items():
        if key.partition(".")[0] not in fields:
            raise InvalidInputError(
                f"setting {key!r}, from the environment variable {name}: there is no such setting; "
                f"there are {', '.join(fields)}",
                field=key,
            )
    from pydantic import create_model
    from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

    definitions: Any = {name: (field.annotation, field) for name, field in fields.items()}
    model = create_model("FromEnvironment", __base__=BaseSettings, **definitions)
    try:
        return EnvSettingsSource(model, env_prefix=PREFIX, env_nested_delimiter="__")()
    except SettingsError as exc:
        name = next((key for key in found if key in str(exc)), next(iter(found)))
        raise InvalidInputError(f"setting {name!r}, from the environment: {exc}", field=name) from exc


def merged(*layers: Values) -> Values:
    """Nested values put together; later ones go before earlier ones."""
    result: Values = {}
    for layer in layers:
        for key, value in layer.items():
            known = result.get(key)
            both = isinstance(known, dict) and isinstance(value, dict)
            result[key] = merged(cast("Values", known), cast("Values", value)) if both else value
    return result


def leaves(values: Values, prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted key."""
    found: Values = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= leaves(cast("Values", value), f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found
