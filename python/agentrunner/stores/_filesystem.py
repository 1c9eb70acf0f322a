"""Find out whether a file is on a network file system."""

from __future__ import annotations

from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
NETWORK_FILESYSTEMS = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "gfs2", "lustre", "nfs", "nfs4", "smb3"}
)
"""Kinds on which SQLite's shared memory and locks do not reach other machines.

SQLite's documentation warns of all of them.
"""


def find_network_filesystem(path: Path) -> str | None:
    """Return the kind of network file system that a path is on.

    It is `None` for a local file system, and where the operating system has no list of mounts.
    """
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        folder = path.resolve().parent
    except OSError:
        return None
    depth, kind = -1, ""
    for line in lines:
        mount, _, filesystem = line.partition(" - ")
        fields = mount.split()
        if len(fields) < 5 or not filesystem:
            continue
        mount_point = Path(fields[4].replace("\\040", " "))
        # Of two file systems on one mount point, the later one hides the other.
        if folder.is_relative_to(mount_point) and len(mount_point.parts) >= depth:
            depth, kind = len(mount_point.parts), filesystem.split()[0]
    return kind if kind in NETWORK_FILESYSTEMS else None
