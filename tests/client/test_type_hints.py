"""What tools that read signatures see of the clients: every name in them can be found."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing

import pytest

from agentmem import AsyncMemory, Memory
from agentmem.client.backups import BackupClient
from agentmem.client.lifecycle import LifecycleClient
from agentmem.client.tiers import TiersClient
from agentmem.client.values import ValuesClient

OPENED = [(Memory, "__init__"), (AsyncMemory, "__init__")]


def _public(cls: type) -> list[str]:
    return [name for name, _ in inspect.getmembers(cls) if not name.startswith("_") or (cls, name) in OPENED]


CLIENTS = [Memory, AsyncMemory, BackupClient, LifecycleClient, TiersClient, ValuesClient]


@pytest.mark.parametrize(("cls", "name"), [(cls, name) for cls in CLIENTS for name in _public(cls)])
def test_all_hints_can_be_had(cls: type, name: str) -> None:
    member = inspect.getattr_static(cls, name)
    function = member.fget if isinstance(member, property) else member
    function = function.__func__ if isinstance(function, (classmethod, staticmethod)) else function
    hints = typing.get_type_hints(function)
    assert hints.keys() == inspect.get_annotations(function).keys()
    assert not any("ForwardRef" in repr(hint) for hint in hints.values())


def test_hints_are_the_classes_themselves() -> None:
    script = """
import typing
from agentmem import Memory, AsyncMemory
hints = typing.get_type_hints(Memory.stats), typing.get_type_hints(AsyncMemory.apply), typing.get_type_hints(Memory.add)
from agentmem import NewMemory, Stats, Update
assert hints[0]["return"] is Stats
assert Update in typing.get_args(typing.get_args(hints[1]["changes"])[0]), hints[1]
assert NewMemory in typing.get_args(hints[2]["item"])
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
