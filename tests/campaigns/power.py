"""What a power cut leaves of files: all synced writes, and a random part of the others.

A write that was not synced is there, is missing, or is there in some of its sectors, in no order. The same holds for
a file's size, and for its entry in the folder until the folder is synced. After a failed sync the writes it was for
are there or missing for good: a later sync does not bring them to the disk, because the kernel has forgotten them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from campaigns import disk

if TYPE_CHECKING:
    import random

    from campaigns.disk import Record

Change: TypeAlias = "tuple[int, bytes | None]"
"""Bytes written at an offset, or (without bytes) the size the file was cut to."""
SECTORS = (512, 4096)


@dataclass
class File:
    synced: bytearray = field(default_factory=bytearray)
    changes: list[Change] = field(default_factory=list)
    """The writes since the last sync."""

    def sync(self) -> None:
        for change in self.changes:
            apply(self.synced, change)
        self.changes.clear()

    def forget(self, chance: random.Random) -> None:
        """Fail to sync."""
        self.synced = self.after_cut(chance)
        self.changes.clear()

    def after_cut(self, chance: random.Random) -> bytearray:
        left = bytearray(self.synced)
        size = len(left)
        # A cut may find much of the pending data written, or little.
        kept, torn = chance.choice((0, 0.1, 0.5, 0.9, 0.99, 1)), chance.choice((0, 0.2))
        for offset, data in self.changes:
            size = max(size, offset + len(data)) if data is not None else offset
            if data is None or chance.random() >= torn:
                if chance.random() < kept:
                    apply(left, (offset, data))
                continue
            sector = chance.choice(SECTORS)
            begin = offset
            while begin < offset + len(data):
                end = min(begin - begin % sector + sector, offset + len(data))
                if chance.random() < 0.5:
                    apply(left, (begin, data[begin - offset : end - offset]))
                begin = end
        if len(left) < size and chance.random() < 0.25:
            # The size has reached the disk, the data has not.
            left.extend(bytes(size - len(left)))
        return left


def apply(data: bytearray, change: Change) -> None:
    offset, written = change
    if written is None:
        del data[offset:]
        written = b""
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(written)] = written


@dataclass
class Disk:
    """The files of one folder, as of the replayed records."""

    chance: random.Random
    deaf: bool = False
    """A mutation: no sync ever counts."""
    entries: dict[str, File] = field(default_factory=dict)
    """The folder as it is on the disk."""
    changes: list[tuple[str, File | None]] = field(default_factory=list)
    """Files created or removed since the folder was synced."""
    now: dict[str, File] = field(default_factory=dict)
    """The folder as a process sees it."""
    opened: dict[int, File] = field(default_factory=dict)

    def replay(self, record: Record) -> None:
        kind = record.kind
        if kind == disk.OPENED:
            name = Path(record.data.decode()).name
            if record.offset:
                self.now[name] = File()
                self.changes.append((name, self.now[name]))
            self.opened[record.file] = self.now[name]
        elif kind == disk.UNLINKED:
            name = Path(record.data.decode()).name
            del self.now[name]
            self.changes.append((name, None))
        elif kind == disk.WRITTEN:
            self.opened[record.file].changes.append((record.offset, record.data))
        elif kind == disk.TRUNCATED:
            self.opened[record.file].changes.append((record.offset, None))
        elif kind == disk.SYNC_FAILED:
            self.opened[record.file].forget(self.chance)
        elif self.deaf:
            return
        elif kind == disk.SYNCED:
            self.opened[record.file].sync()
        elif kind == disk.FOLDER_SYNCED:
            for change in self.changes:
                enter(self.entries, change)
            self.changes.clear()

    def cut(self, folder: Path) -> None:
        """Write what a power cut at this moment leaves into a folder."""
        entries = dict(self.entries)
        for change in self.changes:
            if self.chance.random() < 0.5:
                enter(entries, change)
        for name, file in entries.items():
            (folder / name).write_bytes(file.after_cut(self.chance))


def enter(entries: dict[str, File], change: tuple[str, File | None]) -> None:
    name, file = change
    if file is None:
        entries.pop(name, None)
    else:
        entries[name] = file
