"""Ways in which a SQLite file goes away under live processes, and comes back."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class FileFault:
    """What happens to a file that is alone in its folder."""

    loses_file = True
    """Whether it is the file itself that goes, and not only its log or index."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.aside = path.with_name("aside.db")
        """Where the file is until it is put back."""

    def strike(self) -> None:
        raise NotImplementedError

    def mend(self) -> None:
        self.aside.rename(self.path)

    def is_mended(self) -> bool:
        """Return whether the processes have made again what they can make."""
        return True


class Removed(FileFault):
    def strike(self) -> None:
        # Another name, so that it can be put back.
        self.aside.hardlink_to(self.path)
        self.path.unlink()


class Renamed(FileFault):
    def strike(self) -> None:
        self.path.rename(self.aside)


class Replaced(FileFault):
    def strike(self) -> None:
        self.aside.hardlink_to(self.path)
        copy = self.path.with_name("copy.db")
        shutil.copy(self.path, copy)
        copy.rename(self.path)


class FolderRenamed(FileFault):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.folder = path.parent.with_name("elsewhere")
        self.aside = self.folder / path.name

    def strike(self) -> None:
        self.path.parent.rename(self.folder)

    def mend(self) -> None:
        self.folder.rename(self.path.parent)


class FolderReplaced(FolderRenamed):
    def strike(self) -> None:
        super().strike()
        self.path.parent.mkdir()
        self.path.touch()

    def mend(self) -> None:
        shutil.rmtree(self.path.parent)
        super().mend()


class LogRemoved(FileFault):
    loses_file = False
    suffixes: tuple[str, ...] = ("-wal",)

    def strike(self) -> None:
        for suffix in self.suffixes:
            self.path.with_name(self.path.name + suffix).unlink()

    def mend(self) -> None:
        """Do nothing: the processes make the log and the index again."""

    def is_mended(self) -> bool:
        return all(self.path.with_name(self.path.name + suffix).exists() for suffix in self.suffixes)


class IndexRemoved(LogRemoved):
    suffixes = ("-shm",)


class LogAndIndexRemoved(LogRemoved):
    suffixes = ("-wal", "-shm")


FILE_FAULTS = (Removed, Renamed, Replaced, FolderRenamed, FolderReplaced)
SIDE_FAULTS = (LogRemoved, IndexRemoved, LogAndIndexRemoved)
