"""The API reference, ``reference.md``: signatures and docstrings as they stand in the source.

``GROUPS`` says what is in it and in which order; a test compares that with what the package exports. Everything is read
from the syntax tree, so that types and defaults look as they were written, whichever Python makes the page.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple, TypeAlias

import agentmem
from agentmem import settings
from agentmem.client.backups import BackupClient
from agentmem.client.lifecycle import LifecycleClient
from agentmem.client.tiers import TiersClient
from agentmem.client.values import ValuesClient
from agentmem.types import clock, enums, errors, inputs, ports

GROUPS = {
    "Clients": "Memory memory.lifecycle memory.tiers memory.values memory.backup AsyncMemory restore",
    "Agents": "Session SessionInfo Turn WorkingMemory Blocks Block BlockVersion Prompt Section Manifest Trimmed "
    "Summary SummaryLine",
    "Values in tiers": "MemoryManager MigrationPolicy HotMemory WarmMemory ColdMemory GlacierMemory",
    "Knowledge": "Consolidation ConsolidationReport ConsolidationState Proposal Refusal DeadLetter Spend DaySpend "
    "EndpointModel agentmem.ports.Model agentmem.ports.Reply",
    "Input": "NewMemory Add Evidence Put Update Delete Touch SetValidity Layer ALL UNSET",
    "Results": "AddResult AddResults Skipped SearchResults SearchHit HitDetails SearchTrace MemoryRecord Vectors Page "
    "HistoryEvent StoreEvent EventType",
    "Reports": "Group UserPage KnownUser NamespaceCount Stats LayerStats Pressure Kpis Latency Health VerifyReport "
    "EraseReport Erasure ReembedReport SweepReport Move Explanation Requirement ScorerReport ScorerReplay TierStats "
    "Residence BackupInfo BackupHealth HoldingBackup RestoreReport ImportReport ArchiveReport ValueInfo ValueVersion "
    "ValueUsage ValueTier ValueHead",
    "Watching": "agentmem.observe.HealthMonitor agentmem.observe.Thresholds agentmem.observe.Threshold "
    "agentmem.observe.Alert agentmem.observe.Level agentmem.observe.to_log agentmem.observe.Webhook "
    "agentmem.observe.Command",
    "Errors": "AgentMemError ScopeError InvalidInputError FilterError FilterWarning NotFoundError ConflictError "
    "SessionClosedError agentmem.errors.ModelError ModelMismatchError EmbeddingError CapacityError BlockFullError "
    "BlockReadOnlyError ClosedError "
    "MissingExtraError StoreError StoreLockedError StoreCorruptError StoreVersionError StoreGoneError ReadOnlyError "
    "DiskFullError "
    "agentmem.errors.ArchiveError agentmem.errors.ObjectNotFoundError agentmem.errors.ObjectExistsError "
    "agentmem.errors.ObjectChangedError agentmem.errors.ArchiveUnavailableError "
    "agentmem.errors.ArchiveAccessError agentmem.errors.ArchiveCorruptError "
    "agentmem.errors.ArchiveVersionError agentmem.errors.ArchiveKeyError "
    "agentmem.errors.AccessError agentmem.errors.InvalidKeyError agentmem.errors.AccessDeniedError "
    "agentmem.errors.RateLimitError agentmem.errors.FencedError agentmem.errors.ShardUnavailableError",
    "Embedding models": "agentmem.embedding.open_embedder Embedder agentmem.ports.RemoteEmbedder "
    "agentmem.embedding.FunctionEmbedder agentmem.ports.Windowed",
    "Configuration": "Settings agentmem.settings.Layers agentmem.settings.Interact agentmem.settings.Insights "
    "agentmem.settings.Assets agentmem.settings.Lifecycle agentmem.settings.Retrieval agentmem.settings.Performance "
    "agentmem.settings.Tiers agentmem.settings.Hot agentmem.settings.Warm agentmem.settings.Cold "
    "agentmem.settings.Backup agentmem.settings.Glacier agentmem.settings.Consolidating "
    "agentmem.settings.StoredValues "
    "agentmem.settings.origins",
}
"""What is documented, by the heading of ``reference.md`` that it stands under. A name without a path is agentmem's."""
FACES = {
    "memory.lifecycle": LifecycleClient,
    "memory.backup": BackupClient,
    "memory.tiers": TiersClient,
    "memory.values": ValuesClient,
}
"""What is reached through a client, by the name that it has there."""
OPENINGS = {"Errors": errors, "Configuration": settings}
"""Groups that begin with the docstring of a module."""
ALIASES_FROM = (enums, inputs, clock, ports)
CLIENTS = (
    "Memory", "AsyncMemory", "EndpointModel", "agentmem.embedding.FunctionEmbedder",
    "agentmem.observe.HealthMonitor", "agentmem.observe.Webhook", "agentmem.observe.Command", "MemoryManager",
    "HotMemory", "WarmMemory", "ColdMemory", "GlacierMemory",
)  # fmt: skip
"""Classes whose constructor is shown: others are made by the library, or by their fields."""
ONE_LINE = 100
MANY_METHODS = 4

_BOUNDS = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
_HIDDEN_BASES = ("Plain", "BaseModel")
_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class Field(NamedTuple):
    """An attribute of a class, or a module's constant, as the source declares it."""

    annotation: str
    default: str | None
    bounds: str
    doc: str


@cache
def parts() -> dict[str, str]:
    """The generated parts of the page by name: a contents, one for each group, and the types that signatures name."""
    made: dict[str, str] = {}
    for group, titles in GROUPS.items():
        opening = [_prose(inspect.getdoc(OPENINGS[group]) or "") + "\n"] if group in OPENINGS else []
        made[group.lower().replace(" ", "_")] = "\n".join([*opening, *map(_section, titles.split())])
    return {"contents": _contents(), **made, "aliases": _aliases("\n".join(made.values()))}


def _contents() -> str:
    lines: list[str] = []
    for group, titles in GROUPS.items():
        names = ", ".join(f"[`{_short(title)}`](#{_anchor(title)})" for title in titles.split())
        lines.append(f"- [{group}](#{_anchor(group)}): {names}")
    return "\n".join([*lines, "- [Types in signatures](#types-in-signatures)\n"])


def _anchor(heading: str) -> str:
    """The fragment that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _short(title: str) -> str:
    return title if title in FACES else title.rpartition(".")[2]


def _resolved(title: str) -> Any:
    if title in FACES:
        return FACES[title]
    module, _, name = title.rpartition(".")
    return getattr(import_module(module) if module else agentmem, name)


# ---------------------------------------------------------------------------------------------------- one section


def _section(title: str) -> str:
    value = _resolved(title)
    if isinstance(value, type):
        blocks = list(_class(title, value))
    elif inspect.isfunction(value):
        blocks = list(_function(_node_of(value), title, value.__module__, "###"))
    else:
        [doc] = [doc for name, _, doc in _assigned(_body(enums.__name__)) if name == title]
        blocks = [f"### `{title}`", _prose(doc, title)]
    return "\n\n".join(blocks) + "\n"


def _class(title: str, cls: type) -> Iterator[str]:
    node, module = _node_of(cls), cls.__module__
    yield f"### `{title}`"
    if title in CLIENTS:
        [init] = [each for each in node.body if isinstance(each, _Function) and each.name == "__init__"]
        yield _code(_signature(init, f"class {title}", module, is_bound=True))
    else:
        bases = [base for each in node.bases if (base := ast.unparse(each)) not in _HIDDEN_BASES and base[0] != "_"]
        if bases:
            yield _code(f"class {cls.__name__}({', '.join(bases)})")
    yield _prose(ast.get_docstring(node) or "", title)
    functions = [each for each in node.body if isinstance(each, _Function) and not each.name.startswith("_")]
    items = [_item(name, field, title) for name, field in fields(cls).items()]
    items += [_property(each, module, title) for each in functions if _is_property(each)]
    if items:
        yield "\n".join(items)
    methods = [each for each in functions if not _is_property(each) and ast.get_docstring(each)]
    if title == "AsyncMemory":
        as_blocking, methods = _split(methods)
        names = [f"[`{each.name}`](#{_anchor(f'Memory.{each.name}')})" for each in as_blocking]
        yield f"To be awaited, and otherwise as they are in `Memory`: {', '.join(names)}. The others:"
    elif len(methods) >= MANY_METHODS:
        yield "Methods: " + ", ".join(f"[`{each.name}`](#{_anchor(f'{title}.{each.name}')})" for each in methods) + "."
    for method in methods:
        yield from _function(method, f"{title}.{method.name}", module, "####")


def _function(node: _Function, title: str, module: str, level: str) -> Iterator[str]:
    # A generator is not awaited, asynchronous or not.
    is_generator = any(isinstance(each, ast.Yield) for each in ast.walk(node))
    start = "async def" if isinstance(node, ast.AsyncFunctionDef) and not is_generator else "def"
    yield f"{level} `{title}`"
    yield _code(_signature(node, f"{start} {node.name}", module, is_bound=level == "####"))
    yield _prose(ast.get_docstring(node) or "", title)


def _split(methods: Sequence[_Function]) -> tuple[list[_Function], list[_Function]]:
    """Methods of ``AsyncMemory`` that are those of ``Memory`` but for the ``await``, and those with more to say."""
    blocking = {each.name: each for each in _node_of(agentmem.Memory).body if isinstance(each, _Function)}
    same: list[_Function] = []
    for each in methods:
        other = blocking.get(each.name)
        if other and ast.get_docstring(each) == f"See ``Memory.{each.name}``." and _types(each) == _types(other):
            same.append(each)
    return same, [each for each in methods if each not in same]


def _types(node: _Function) -> str:
    return ast.dump(node.args) + (ast.dump(node.returns) if node.returns else "")


# ----------------------------------------------------------------------------------------- from the syntax tree


@cache
def _source(module: str) -> str:
    return inspect.getsource(sys.modules[module])


@cache
def _body(module: str) -> tuple[ast.stmt, ...]:
    """The statements of a module, and those under ``if TYPE_CHECKING``."""
    top = ast.parse(_source(module)).body
    return tuple(each for one in top for each in (one.body if isinstance(one, ast.If) else [one]))


def _node_of(value: Any) -> Any:
    [found] = [each for each in _body(value.__module__) if getattr(each, "name", None) == value.__name__]
    return found


@cache
def _lines(module: str) -> list[bytes]:
    return _source(module).encode().split(b"\n")


def _text(node: ast.expr | None, module: str) -> str:
    """The source of an expression, on one line; ``ast.get_source_segment`` splits the whole source each time."""
    if node is None:
        return ""
    end_line, end = node.end_lineno or node.lineno, node.end_col_offset
    lines = _lines(module)[node.lineno - 1 : end_line]
    lines[-1] = lines[-1][:end]  # first, since the first line may be the last
    lines[0] = lines[0][node.col_offset :]
    return " ".join(b" ".join(lines).decode().split())


def _is_property(node: _Function) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "property" for each in node.decorator_list)


def _assigned(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.AnnAssign | ast.Assign, str]]:
    """Public names that a class or a module assigns or annotates, each with the docstring below it."""
    for statement, after in zip(body, (*body[1:], None), strict=True):
        if not isinstance(statement, ast.AnnAssign | ast.Assign):
            continue
        target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
        doc = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
        if isinstance(target, ast.Name) and not target.id.startswith("_") and target.id != "model_config":
            yield target.id, statement, inspect.cleandoc(str(doc))


def fields(cls: type) -> dict[str, Field]:
    """The fields of a class, inherited ones first; what a subclass leaves unsaid is as its parent says."""
    found: dict[str, Field] = {}
    for each in reversed(cls.__mro__):
        if not each.__module__.startswith("agentmem."):
            continue
        for name, statement, doc in _assigned(_node_of(each).body):
            annotation = _text(getattr(statement, "annotation", None), each.__module__)
            default, bounds = _default(statement.value, each.__module__)
            found[name] = Field(annotation, default, bounds, doc or (found[name].doc if name in found else ""))
    return found


def _default(value: ast.expr | None, module: str) -> tuple[str | None, str]:
    """A field's default, unless a call makes it, and the bounds that pydantic checks, in words."""
    if not isinstance(value, ast.Call):
        return (None if value is None else _text(value, module)), ""
    given = {str(each.arg): _text(each.value, module) for each in value.keywords}
    limits = {name: given[name].replace("_", ",") for name in _BOUNDS if name in given}
    if limits.keys() == {"ge", "le"}:
        return given.get("default"), f"from {limits['ge']} to {limits['le']}"
    return given.get("default"), " and ".join(f"{_BOUNDS[name]} {limit}" for name, limit in limits.items())


def _aliases(page: str) -> str:
    """Types with a name of their own, as far as the page uses them."""
    code = "\n".join(re.findall(r"`[^`\n]+`|```pyi.*?```", page, re.DOTALL))
    lines: list[str] = []
    for module in (each.__name__ for each in ALIASES_FROM):
        for name, statement, doc in _assigned(_body(module)):
            is_alias = isinstance(statement, ast.AnnAssign) and _text(statement.annotation, module) == "TypeAlias"
            if is_alias and re.search(rf"[:>\[|] ?{name}\b", code):
                lines.append(_item(name, Field("", _text(statement.value, module).strip('"'), "", doc), name))
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------------------------------------ Markdown


def _signature(node: _Function, start: str, module: str, *, is_bound: bool) -> str:
    """``start(parameters) -> result``, on one line if it fits; ``is_bound`` leaves out ``self`` or ``cls``."""
    given = node.args
    positional = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(positional) - len(given.defaults)) + given.defaults
    parameters = [_parameter(each, default, module) for each, default in zip(positional, defaults, strict=True)]
    parameters = parameters[1:] if is_bound else parameters
    if given.vararg:
        parameters.append("*" + _parameter(given.vararg, None, module))
    elif given.kwonlyargs:
        parameters.append("*")
    named = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    parameters += [_parameter(each, default, module) for each, default in named]
    if given.kwarg:
        parameters.append("**" + _parameter(given.kwarg, None, module))
    end = f") -> {_text(node.returns, module)}" if node.returns and node.name != "__init__" else ")"
    line = f"{start}({', '.join(parameters)}{end}"
    return line if len(line) <= ONE_LINE else f"{start}(\n" + "".join(f"    {each},\n" for each in parameters) + end


def _parameter(node: ast.arg, default: ast.expr | None, module: str) -> str:
    text = node.arg + (f": {_text(node.annotation, module)}" if node.annotation else "")
    return text if default is None else f"{text} = {_text(default, module)}"


def _property(node: _Function, module: str, title: str) -> str:
    return _item(node.name, Field(_text(node.returns, module), None, "", ast.get_docstring(node) or ""), title)


def _item(name: str, field: Field, title: str) -> str:
    """A line of a list: the field, linked to the section of its type, and what it means."""
    text = f"`{name}{': ' * bool(field.annotation)}{field.annotation}"
    text += "`" if field.default is None else f" = {field.default}`"
    known = [_known()[word] for word in re.findall(r"\w+", field.annotation) if word in _known()]
    text = f"[{text}](#{_anchor(known[0])})" if known else text
    text += f" ({field.bounds})" if field.bounds else ""
    return f"- {text}" + (f": {' '.join(_prose(field.doc, title).split())}" if field.doc else "")


def _code(text: str) -> str:
    """A signature: highlighted as a stub is, and not run, as blocks of ``python`` are."""
    return f"```pyi\n{text}\n```"


def _prose(doc: str, title: str = "") -> str:
    """A docstring as Markdown: code, literal blocks, and links to what has a section or a page."""
    blocks: list[str] = []
    after_colons = False
    for block in re.split(r"\n{2,}", inspect.cleandoc(doc)):
        if after_colons and block.startswith(" "):
            blocks.append(f"```text\n{inspect.cleandoc(block)}\n```")
            continue
        after_colons = block.endswith("::")
        if block != "::":
            blocks.append(_linked(block.replace("``", "`"), title))
    return "\n\n".join(blocks)


@cache
def _known() -> dict[str, str]:
    """The title of each section by the last part of its name."""
    titles = {_short(title): title for titles in GROUPS.values() for title in titles.split()}
    for title, face in FACES.items():
        titles |= dict.fromkeys([title.replace("memory", "Memory"), face.__name__, f"Async{face.__name__}"], title)
    return titles


def _linked(text: str, title: str) -> str:
    owner = title if title in _known().values() else title.rpartition(".")[0]

    def link(found: re.Match[str]) -> str:
        target = _meant(found[1], owner)
        own = target is None or title == target or title.startswith(f"{target}.")
        return found[0] if own else f"[{found[0]}](#{_anchor(str(target))})"

    text = re.sub(r"`?\bdocs/(\w+\.md)`?", r"[\1](\1)", text)
    return re.sub(r"`([A-Za-z][\w.]*)(?:\(\))?`", link, text)


def _meant(name: str, owner: str) -> str | None:
    """The title that a name in prose stands for: of a section, of ``Class.method``, or of a method beside this one."""
    if name in _known():
        return _known()[name]
    section, _, method = (name if "." in name else f"{owner}.{name}").rpartition(".")
    section = _known().get(section, section)
    has = section in _known().values() and callable(getattr(_resolved(section), method, None))
    return f"{section}.{method}" if has else None
