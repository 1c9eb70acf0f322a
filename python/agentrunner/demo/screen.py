"""The tour's output: scenes, readers, promises, and the table at its end."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.live import Live
from rich.table import Table
from rich.text import Text

from agentrunner._counts import format_count
from agentrunner.events import fold

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from agentrunner.events import Folded
    from agentrunner.runners import SqliteAgentRunner


@dataclass(slots=True)
class Reader:
    """A reader of a run, with the events it has seen."""

    name: str
    events: list[bytes] = field(default_factory=list)
    cursors: list[str] = field(default_factory=list)

    def see(self, cursor: str | None, event: bytes) -> None:
        """Add an event."""
        self.cursors.append(cursor or "")
        self.events.append(event)

    @property
    def folded(self) -> Folded:
        """The messages and state that this reader's screen would show."""
        return fold(self.events)

    def tail(self, room: int) -> str:
        """Return the end of the newest text, which is the part that changes."""
        texts = [str(message.get("content") or "") for message in self.folded.messages]
        text = texts[-1].strip() if texts else ""
        return text if len(text) <= room else "…" + text[1 - room :]


@dataclass(frozen=True, slots=True)
class Row:
    """A run in the table at the end of the tour."""

    run_id: str
    raw: list[bytes]
    stored: list[bytes]
    seen: str

    def cells(self) -> list[str]:
        """Return the cells of the run's row."""
        before, after = (sum(map(len, events)) for events in (self.raw, self.stored))
        counts = f"{len(self.raw)} → {len(self.stored)}"
        return [self.run_id, counts, f"{before:,}", f"{after:,}", f"{before / max(after, 1):.1f} x", self.seen]


async def read_stored_runs(runner: SqliteAgentRunner, thread_id: str) -> dict[str, list[bytes]]:
    """Return the stored events of each run of a thread."""
    runs: dict[str, list[bytes]] = {}
    async for event in await runner.connect(thread_id):
        if event.type == "RUN_STARTED":
            run_id = event.to_dict()["runId"]
        runs.setdefault(run_id, []).append(bytes(event))
    return runs


class Screen:
    """The console, and whether every promise has been kept so far."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._scenes = 0
        self.has_kept_promises = True

    def explain(self, text: str) -> None:
        """Print a line of explanation."""
        self._console.print(Text(text, style="dim"))

    def start_scene(self, title: str) -> None:
        """Print the title of the next scene."""
        self._scenes += 1
        self._console.print(Text(f"\n{self._scenes}. {title}", style="bold"))

    def check_promise(self, text: str, is_kept: bool) -> None:
        """Print a promise, and whether it was kept."""
        self.has_kept_promises = self.has_kept_promises and is_kept
        mark = Text("   ✓ " if is_kept else "   ✗ ", style="bold green" if is_kept else "bold red")
        grid = Table.grid()
        grid.add_row(mark, Text(text if is_kept else f"{text}: BROKEN"))
        self._console.print(grid)

    @contextmanager
    def show_readers(self, *readers: Reader) -> Iterator[None]:
        """Show readers while they read; without a terminal, only how far they got."""

        def rows() -> Table:
            grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
            grid.add_column(no_wrap=True, width=16)
            grid.add_column(no_wrap=True, justify="right", width=10)
            grid.add_column(no_wrap=True, overflow="crop")
            room = max(self._console.width - 32, 10)
            for reader in readers:
                grid.add_row(
                    f"   {reader.name}", format_count(len(reader.events), "event"), Text(reader.tail(room), style="dim")
                )
            return grid

        if self._console.is_terminal:
            with Live(console=self._console, get_renderable=rows, refresh_per_second=12):
                yield
        else:
            yield
            self._console.print(rows())

    def show_summary(self, rows: list[Row]) -> None:
        """Print each run's size before and after compaction."""
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
        table.add_column("run", no_wrap=True)
        for name in ("events", "bytes before", "after", "ratio"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("events seen by readers")
        for row in rows:
            table.add_row(*row.cells())
        self._console.print()
        self._console.print(table)
