"""The master key, which never lies beside what it opens: from a file, an environment variable, or a command."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import shlex
import subprocess
from pathlib import Path

from agentmem.archive.sealing import KEY_BYTES, Sealer, new_key
from agentmem.types.errors import ArchiveKeyError, InvalidInputError, shown

_COMMAND_S = 60


class MasterKey:
    """32 bytes that open a keyring. ``id`` tells two of them apart and says nothing about them."""

    def __init__(self, key: bytes) -> None:
        self.sealer = Sealer(key)
        self.id = hashlib.sha256(b"agentmem master key" + key).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"MasterKey({self.id})"


def new_master_key() -> str:
    """A random one as text, to be kept where the archive is not."""
    return base64.b64encode(new_key()).decode()


def load_master_key(source: str) -> MasterKey:
    """The key that ``file:PATH``, ``env:NAME`` or ``command:PROGRAM ARGUMENTS`` gives, in base64 or as 64 hex digits.

    The command runs without a shell, for up to a minute, and prints the key. Raises ``ArchiveKeyError`` where there is
    none or it is no key, ``InvalidInputError`` for another kind of source. No message holds the key.
    """
    kind, _, rest = source.partition(":")
    if kind == "file" and rest:
        text = _from_file(Path(rest))
    elif kind == "env" and rest:
        text = os.environ.get(rest, "")
        if not text:
            raise ArchiveKeyError(f"the environment variable {rest} with the master key is not set")
    elif kind == "command" and rest.strip():
        text = _from_command(rest)
    else:
        raise InvalidInputError(
            f"a master key comes from file:PATH, env:NAME or command:PROGRAM, not from {shown(kind)}", field="source"
        )
    return MasterKey(_parsed(text.strip(), f"{kind}:{rest}"))


def _from_file(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it holds no text"
        raise ArchiveKeyError(f"the master key cannot be read from {path}: {reason}") from exc


def _from_command(line: str) -> str:
    try:
        words = shlex.split(line)
        done = subprocess.run(words, capture_output=True, text=True, timeout=_COMMAND_S, check=False)
    except (OSError, ValueError, subprocess.TimeoutExpired) as exc:
        raise ArchiveKeyError(f"the command for the master key, {shown(line)}, failed: {exc}") from exc
    if done.returncode:
        raise ArchiveKeyError(
            f"the command for the master key, {shown(line)}, ended with {done.returncode}: {done.stderr.strip()[-200:]}"
        )
    return done.stdout


def _parsed(text: str, source: str) -> bytes:
    try:
        key = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        raise ArchiveKeyError(
            f"{source} gives no master key: {KEY_BYTES} random bytes are needed, in base64 or as {2 * KEY_BYTES} hex "
            f"digits, and there are {len(text)} characters; make one with: openssl rand -base64 {KEY_BYTES}"
        )
    return key
