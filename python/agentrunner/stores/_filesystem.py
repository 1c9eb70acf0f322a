"""Find out whether SQLite is safe on a file's file system."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")

SHARED_FILESYSTEMS = frozenset(
    # Network file systems.
    {
        "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs", "gfs2", "glusterfs", "gpfs", "kafs",
        "lustre", "ncpfs", "nfs", "nfs3", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "wekafs",
    }
    # Folders that a virtual machine or Docker Desktop shares with its host.
    | {"drvfs", "fakeowner", "grpcfuse", "osxfs", "prl_fs", "vboxsf", "virtiofs", "vmhgfs"}
)  # fmt: skip
"""Types on which not every program that opens the file shares SQLite's locks and shared memory."""

LOCAL_FUSE = frozenset(
    {
        "bindfs", "cryfs", "encfs", "exfat", "fuse-overlayfs", "gocryptfs", "lxcfs", "mergerfs", "ntfs", "ntfs-3g",
        "securefs", "unionfs", "zfs", "zfs-fuse",
    }
)  # fmt: skip
"""FUSE programs that keep files on a local disk. All others are treated as network file systems."""


def find_shared_filesystem(path: Path) -> str | None:
    """Return the type of file system of a path, if SQLite's log is not safe there.

    It is `None` for a local file system, and where the operating system has no list of mounts.
    """
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        folder = path.resolve().parent
    except (OSError, RuntimeError):
        return None
    depth, kind = -1, ""
    for line in lines:
        mount, _, filesystem = line.partition(" - ")
        fields = mount.split()
        if len(fields) < 5 or not filesystem:
            continue
        mount_point = Path(_unescape(fields[4]))
        # Of two file systems on one mount point, the later one hides the other.
        if folder.is_relative_to(mount_point) and len(mount_point.parts) >= depth:
            depth, kind = len(mount_point.parts), filesystem.split()[0]
    return kind if _is_shared(kind) else None


def _is_shared(kind: str) -> bool:
    base, _, program = kind.partition(".")
    return kind in SHARED_FILESYSTEMS or (base == "fuse" and program not in LOCAL_FUSE)


def _unescape(field: str) -> str:
    """Return a field of the list of mounts, with its octal numbers decoded."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
