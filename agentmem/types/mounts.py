"""File systems on which locks between processes cannot be trusted."""

from __future__ import annotations

import os
from pathlib import Path

_NETWORK = frozenset(
    "nfs nfs4 cifs smb smb3 smbfs afs ncpfs 9p ceph lustre glusterfs beegfs gpfs fuse.sshfs fuse.glusterfs "
    "fuse.s3fs fuse.gcsfuse fuse.rclone".split()
)


def network_filesystem(path: Path, mounts: str | None = None) -> tuple[str, str] | None:
    """The file system that ``path`` lies on and where it is mounted, if locks do not hold there between machines.

    ``mounts`` is the text of ``/proc/mounts``; elsewhere than on Linux nothing is known.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text()
        except OSError:
            return None
    best, kind = "", ""
    target = os.path.realpath(path)
    for line in mounts.splitlines():
        parts = line.split(" ")
        if len(parts) < 3:
            continue
        point = parts[1].replace("\\040", " ")
        if (target == point or target.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, parts[2]
    return (kind, best) if kind in _NETWORK else None
