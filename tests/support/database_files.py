"""The bytes of a SQLite store's files, as another program sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SEARCH = """
import sys
path, *texts = sys.argv[1:]
found = set()
for suffix in ("", "-wal"):
    try:
        data = open(path + suffix, "rb").read()
    except FileNotFoundError:
        continue
    found.update(text for text in texts if text.encode() in data)
print(*sorted(found), sep="\\n")
"""


def find_texts(path: Path, *texts: str) -> list[str]:
    """Return the texts that a SQLite file or its write-ahead log contains."""
    # In a process of its own: closing the file here would end the locks of a store that has it open.
    command = [sys.executable, "-S", "-c", SEARCH, str(path), *texts]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def log_of(path: Path) -> Path:
    """Return the path of a SQLite file's write-ahead log."""
    return Path(f"{path}-wal")


def copy_files(path: Path, copy: Path, *suffixes: str) -> None:
    """Copy a SQLite file, and its log unless other suffixes are passed, as `cp` does."""
    for suffix in suffixes or ("", "-wal"):
        subprocess.run(["cp", f"{path}{suffix}", f"{copy}{suffix}"], check=True)
