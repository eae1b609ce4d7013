"""Arguments as one value: the same names as the calls, nothing lost, nothing invented; and what surfaces may import."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from oracle import SESSION_KINDS

import agentmem
from agentmem import ALL, AsyncMemory, Layer, Memory, NewMemory, client, errors
from agentmem.client import AddOptions, PageOptions, SearchOptions, is_store

PACKAGE = Path(agentmem.__file__).parent
Options = type[AddOptions] | type[SearchOptions] | type[PageOptions]
# For each call: its options, those of them that it does not take, and what it takes besides.
CALLS: list[tuple[str, Options, set[str], set[str]]] = [
    ("add", AddOptions, {"valid_from", "valid_to"}, {"item"}),
    (
        "add_many",
        AddOptions,
        {"vector", "id", "valid_from", "valid_to"},
        {"items", "on_error", "on_conflict", "repair", "source"},
    ),
    (
        "add_stream",
        AddOptions,
        {"vector", "id", "valid_from", "valid_to"},
        {"items", "chunk", "on_error", "on_conflict", "repair", "source"},
    ),
    ("search", SearchOptions, set(), {"query"}),
    (
        "context",
        SearchOptions,
        {"limit", "offset", "as_of", "valid_at", "rank", "vector", "explain", "data", "include_glacier"},
        {"query", "max_tokens", "count_tokens"},
    ),
    ("page", PageOptions, set(), set()),
    ("iterate", PageOptions, {"limit", "offset", "cursor", "archived"}, set()),
    ("count", PageOptions, {"order", "by", "limit", "offset", "cursor", "data", "touch", "archived"}, set()),
    ("distinct", PageOptions, {"order", "by", "limit", "offset", "cursor", "data", "touch", "archived"}, {"field"}),
]


@pytest.mark.parametrize("owner", [Memory, AsyncMemory])
@pytest.mark.parametrize(("name", "options", "without", "besides"), CALLS, ids=[call[0] for call in CALLS])
def test_options_are_the_arguments_of_the_calls(
    owner: type, name: str, options: Options, without: set[str], besides: set[str]
) -> None:
    signature = inspect.signature(getattr(owner, name), eval_str=True)
    hints = get_type_hints(options)
    taken = {key: (p.default, p.annotation) for key, p in signature.parameters.items() if key not in besides | {"self"}}
    ours = {field.name: (field.default, hints[field.name]) for field in fields(options) if field.name not in without}
    assert taken == ours
    assert list(taken) == list(ours)


def test_an_item_says_what_a_call_can_say() -> None:
    assert {"content", *(field.name for field in fields(AddOptions))} == NewMemory.model_fields.keys()


@pytest.mark.parametrize("options", [AddOptions, SearchOptions, PageOptions])
def test_a_misspelled_name_is_an_error(options: Options) -> None:
    with pytest.raises(TypeError, match="usr_id"):
        options(usr_id="ana")  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError):
        options("ana")  # pyright: ignore[reportCallIssue]
    with pytest.raises(FrozenInstanceError):
        options().user_id = "ben"  # pyright: ignore[reportAttributeAccessIssue]


def test_only_what_was_given_is_handed_on() -> None:
    assert AddOptions().arguments() == SearchOptions().arguments() == PageOptions().arguments() == {}
    given: dict[str, Any] = {"user_id": "ana", "metadata": {}, "importance": 0.0, "dedupe": False}
    assert AddOptions(**given).arguments() == given
    given = {"user_id": ALL, "limit": 3, "layers": [Layer.ASSETS], "mode": "keyword", "explain": True}
    assert SearchOptions(**given).arguments() == given
    given = {"order": "oldest", "cursor": "oldest:1"}
    assert PageOptions(**given).arguments() == given


def test_a_call_with_options_is_the_call(memory: Memory) -> None:
    added = memory.add("Ana plays the cello.", **AddOptions(user_id="ana", kind="note", importance=0.9).arguments())
    assert (added.record.user_id, added.record.kind, added.record.importance) == ("ana", "note", 0.9)
    memory.add_many(["Ana takes oat milk."], **AddOptions(user_id="ana").arguments())
    assert len(memory.search("Ana", **SearchOptions(user_id="ana").arguments())) == 2
    notes = memory.search("Ana", **SearchOptions(user_id=ALL, kinds=["note"]).arguments())
    assert [hit.id for hit in notes] == [added.id]
    oldest = memory.page(**PageOptions(user_id="ana", limit=1, order="oldest").arguments())
    assert [record.id for record in oldest.records] == [added.id]
    with pytest.raises(TypeError, match="'id'"):
        memory.add_many(["x"], **AddOptions(id="x").arguments())


def test_the_kinds_of_a_session_begin_in_the_lowest_layer(memory: Memory) -> None:
    layers = {kind: memory.add(f"a {kind}", kind=kind).record.layer for kind in (*SESSION_KINDS, "fact", "pattern")}
    assert layers == {**dict.fromkeys(SESSION_KINDS, Layer.INTERACT), "fact": Layer.ASSETS, "pattern": Layer.ASSETS}


# -- surfaces ----------------------------------------------------------------------------------------------------------


def test_what_is_a_store(tmp_path: Path, open_memory: Callable[..., Memory], store: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "vectors" / "lance").mkdir(parents=True)
    assert not is_store(tmp_path / "nowhere")
    assert not is_store(tmp_path / "file")
    assert not is_store(str(tmp_path / "empty"))
    assert is_store(tmp_path / "vectors")
    open_memory().add("x")
    assert is_store(str(store))
    assert not list((tmp_path / "empty").iterdir())


def imports(file: Path) -> Iterator[tuple[str, str]]:
    """Modules of the package that a file imports, each with the name taken from it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == "agentmem")
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "agentmem":
            yield from ((node.module, alias.name) for alias in node.names)


def test_the_command_line_imports_public_names_only() -> None:
    public = {
        "agentmem": {*agentmem.__all__, "__version__"},
        "agentmem.errors": set(errors.__all__),
        "agentmem.client": set(client.__all__),
        "agentmem.settings": {"Settings", "origins"},
    }
    for file in (PACKAGE / "cli").glob("*.py"):
        for module, name in imports(file):
            own = f"{module}.{name}".startswith(
                ("agentmem.cli.", "agentmem.distributed.", "agentmem.mcp.", "agentmem.observe.", "agentmem.server.")
            )
            assert own or name in public.get(module, ()), f"{file.name} imports {name} from {module}"


def test_the_demo_names_the_share_that_the_score_has() -> None:
    from agentmem.cli.demo import BONUS
    from agentmem.retrieval import scoring

    assert BONUS == scoring.BONUS
