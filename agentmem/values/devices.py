"""Bytes on a graphics card, by PyTorch or CuPy, whichever is installed. Neither is imported where there is no card."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from typing_extensions import override

from agentmem.types.errors import InvalidInputError
from agentmem.values.arrays import described
from agentmem.values.kinds import Whole

_CARD = "/dev/nvidiactl"


class Device:
    """A place for arrays outside of the machine's memory, by one library."""

    name: str
    """As the library calls it, ``"cuda:0"``."""

    def copied(self, body: bytes) -> OnDevice:
        """Bytes there. Raises what the library raises where there is no room."""
        raise NotImplementedError


class OnDevice(Whole):
    """Bytes that lie there, one after the other."""

    def array(self, about: Mapping[str, Any]) -> Any:
        """An array that is described so, of the library, there; a copy."""
        raise NotImplementedError


def chosen(name: str) -> Device | None:
    """The device that a setting names: ``auto``, ``none``, ``cuda`` or ``cuda:1``; None where there is none to be had.

    Raises ``InvalidInputError`` where one is named and not there.
    """
    wanted = re.fullmatch(r"cuda(?::(\d+))?", name)
    if wanted is None and (name != "auto" or not os.path.exists(_CARD)):
        return None
    number = int(wanted[1] or 0) if wanted else 0
    for library, cards in (("torch", _torch_cards), ("cupy", _cupy_cards)):
        if find_spec(library) is not None and number < cards():
            return Torch(f"cuda:{number}") if library == "torch" else CuPy(number)
    if wanted is None:
        return None
    raise InvalidInputError(
        f"values.device is {name!r}, and neither torch nor cupy sees such a card here; install one of them for it, or "
        "leave the setting at 'auto', which takes the machine's memory where there is no card",
        field="values.device",
    )


def _torch_cards() -> int:
    cuda = import_module("torch").cuda
    return int(cuda.device_count()) if cuda.is_available() else 0


def _cupy_cards() -> int:
    try:
        return int(import_module("cupy").cuda.runtime.getDeviceCount())
    except Exception:  # a driver that does not fit says so in many ways
        return 0


class Torch(Device):
    """By PyTorch, on any of its devices."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._torch: Any = import_module("torch")

    @override
    def copied(self, body: bytes) -> OnDevice:
        host = self._torch.from_numpy(np.frombuffer(body, np.uint8).copy())
        return _OnTorch(self._torch, host.to(self.name))


class _OnTorch(OnDevice):
    def __init__(self, torch: Any, body: Any) -> None:
        self._torch, self._body = torch, body

    @override
    def bytes(self, start: int, end: int) -> bytes:
        return bytes(self._body[start:end].cpu().numpy())

    @override
    def fill(self, buffer: memoryview, start: int) -> None:
        buffer[:] = memoryview(self._body[start : start + len(buffer)].cpu().numpy())

    @override
    def array(self, about: Mapping[str, Any]) -> Any:
        dtype, shape, turned = described(about)
        kind = self._torch.from_numpy(np.empty(0, dtype)).dtype
        if not self._body.numel():
            return self._torch.empty(shape, dtype=kind, device=self._body.device)
        array = self._body.clone().view(kind).reshape(shape[::-1] if turned else shape)
        return array.permute(*range(array.ndim - 1, -1, -1)) if turned else array


class CuPy(Device):
    """By CuPy."""

    def __init__(self, number: int) -> None:
        self.name = f"cuda:{number}"
        self._cupy: Any = import_module("cupy")
        self._number = number

    @override
    def copied(self, body: bytes) -> OnDevice:
        with self._cupy.cuda.Device(self._number):
            return _OnCuPy(self._cupy.asarray(np.frombuffer(body, np.uint8)))


class _OnCuPy(OnDevice):
    def __init__(self, body: Any) -> None:
        self._body = body

    @override
    def bytes(self, start: int, end: int) -> bytes:
        return bytes(self._body[start:end].get())

    @override
    def fill(self, buffer: memoryview, start: int) -> None:
        buffer[:] = memoryview(self._body[start : start + len(buffer)].get())

    @override
    def array(self, about: Mapping[str, Any]) -> Any:
        dtype, shape, turned = described(about)
        if not self._body.size:
            return self._body.view(dtype).reshape(shape)
        array = self._body.copy().view(dtype).reshape(shape[::-1] if turned else shape)
        return array.T if turned else array
