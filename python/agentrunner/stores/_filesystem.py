"""What kind of file system a file is on."""

from __future__ import annotations

from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
NETWORK = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "gfs2", "lustre", "nfs", "nfs4", "smb3"}
)
"""Where SQLite's shared memory and locks do not reach other machines, as its documentation says of them all."""


def network_filesystem(path: Path) -> str | None:
    """Give the kind of network file system the path is on; `None` if it is on none, or the system does not tell."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        where = path.resolve().parent
    except OSError:
        return None
    found: tuple[int, str] = (-1, "")
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        mounted = Path(fields[4].replace("\\040", " "))
        # Of two on one place the later one hides the other.
        if where.is_relative_to(mounted) and len(mounted.parts) >= found[0]:
            found = (len(mounted.parts), after.split()[0])
    return found[1] if found[1] in NETWORK else None
