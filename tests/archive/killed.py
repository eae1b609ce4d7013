"""Writers of objects in a folder that were killed on the way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from agentmem.archive.objects import Objects

_WRITER = """
import sys, time
from agentmem.archive.folder import FolderObjects

def chunks():
    yield bytes.fromhex(sys.argv[3]) * 100_000
    print(flush=True)
    time.sleep(600)

FolderObjects(sys.argv[1]).upload(sys.argv[2], chunks())
"""


def unfinished(objects: Objects, key: str, data: bytes) -> Path:
    """What a writer of this object has left that was killed before it was whole; it has the data, many times."""
    before = set(Path(objects.url).rglob(".new*"))
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, objects.url, key, data.hex()], stdout=subprocess.PIPE)
    with writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.kill()
    (left,) = set(Path(objects.url).rglob(".new*")) - before
    assert data in left.read_bytes()
    return left
