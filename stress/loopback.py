"""A network of its own for what binds every interface: only loopback is in it, and nobody else."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_NEW_NETWORK, _SET_FLAGS, _UP_AND_RUNNING = 0x40000000, 0x8914, 0x41


def possible() -> bool:
    """Whether this process may have one: Linux, and root."""
    return sys.platform == "linux" and os.geteuid() == 0


@contextmanager
def alone() -> Iterator[None]:
    """This thread, and what it starts, see nothing but a loopback of their own. Raises ``OSError``."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net", "rb") as before:
        if libc.unshare(_NEW_NETWORK):
            raise OSError(ctypes.get_errno(), "no network namespace of its own")
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
                fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh", b"lo", _UP_AND_RUNNING))
            yield
        finally:
            if libc.setns(before.fileno(), _NEW_NETWORK):
                raise OSError(ctypes.get_errno(), "cannot go back to the network before")
