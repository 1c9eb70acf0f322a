"""The Python side of `disk.c`, which records a child's writes and can make them fail."""

from __future__ import annotations

import errno
import functools
import mmap
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from campaigns import NotRun

if TYPE_CHECKING:
    from collections.abc import Iterator

OPENED, WRITTEN, TRUNCATED, SYNCED, SYNC_FAILED, UNLINKED, FOLDER_SYNCED, SHOWN = range(1, 9)
"""Kinds of records; `SHOWN` ones are the child's own."""
WRITE, SYNC, READ = 1, 2, 4
HEAD = struct.Struct("=5q")
CONTROL = struct.Struct("=10q")
SEEN = {WRITE: 5, SYNC: 6, READ: 7}
FOR_EVER = -1


class Record(NamedTuple):
    kind: int
    file: int
    """The number of the file's opening."""
    offset: int
    """With `OPENED` whether the file is new, with `TRUNCATED` its size."""
    nanoseconds: int
    """Nanoseconds of the monotonic clock."""
    data: bytes
    """With `OPENED` and `UNLINKED` the path."""


@functools.cache
def shim() -> Path:
    """Compile `disk.c`. Raises `NotRun` if that is impossible here."""
    if sys.platform != "linux" or not shutil.which("cc"):
        raise NotRun("a disk that fails needs Linux and a C compiler")
    library = Path(tempfile.mkdtemp(prefix="disk-")) / "disk.so"
    source = Path(__file__).parent / "disk.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-Wall", "-o", library, source, "-pthread"], check=True)
    return library


def behind(watch: Path, *, log: Path | None = None, control: Path | None = None) -> dict[str, str]:
    """Return the environment of a child whose files that begin with `watch` are on this disk."""
    variables = {"LD_PRELOAD": str(shim()), "DISK_WATCH": str(watch)}
    if log is not None:
        variables["DISK_LOG"] = str(log)
    if control is not None:
        control.write_bytes(CONTROL.pack(0, 0, 0, 0, -1, 0, 0, 0, 0, 0))
        variables["DISK_CONTROL"] = str(control)
    return variables


def records(log: Path) -> Iterator[Record]:
    """Iterate over the recorded calls."""
    data = memoryview(log.read_bytes())
    at = 0
    while at < len(data):
        kind, file, offset, length, nanoseconds = HEAD.unpack_from(data, at)
        at += HEAD.size
        yield Record(kind, file, offset, nanoseconds, bytes(data[at : at + length]))
        at += length


def mark(log: int, thread: int, seq: int, data: bytes) -> None:
    """Record that a reader was shown an event."""
    os.write(log, HEAD.pack(SHOWN, thread, seq, len(data), time.monotonic_ns()) + data)


class Control:
    """The calls that fail; the child's disk reads them at every call."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._block = memoryview(mmap.mmap(file.fileno(), CONTROL.size)).cast("q")

    def fail(self, kind: int, after: int, times: int, error: int = errno.EIO) -> None:
        """Fail a number of calls of one kind after a number of successful ones."""
        self._block[1:4] = memoryview(struct.pack("=3q", after, times, error)).cast("q")
        self._block[0] = kind

    def fill(self, room: int) -> None:
        """Limit how many bytes the files may still grow by."""
        self._block[4] = room

    def clear(self) -> None:
        """Repair the disk: no call fails any more."""
        self._block[0] = 0
        self._block[4] = -1
        self._block[9] = 0

    def count_calls(self, kind: int) -> int:
        """Return the number of calls of one kind so far."""
        return self._block[SEEN[kind]]

    @property
    def failed_at(self) -> float | None:
        """Time of the first failed call, by the monotonic clock."""
        return self._block[9] / 1e9 or None

    @property
    def failures(self) -> int:
        """The number of calls that failed."""
        return self._block[8]
