"""The child of `disk_full`: a store on a disk that fills up and later has space again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ag_ui.core  # noqa: F401 - so that no first run waits for this import

from campaigns import children, disk, mutations
from campaigns.lives import Life

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentrunner import EventStream, SqliteAgentRunner


LARGE = 64 << 20
MOST = 1000


class Shimmed:
    """A recording disk that reports that it is full."""

    def __init__(self, folder: Path) -> None:
        self._control = disk.Control(folder / "control")

    def fill(self, room: int) -> None:
        """Leave so many bytes free."""
        self._control.fill(room)

    def free(self) -> None:
        """Free the disk space again."""
        self._control.clear()

    def full_since(self) -> float | None:
        """Return the monotonic time at which the disk was first full."""
        return self._control.failed_at


class Mounted:
    """A file system in memory, of a chosen size."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={LARGE}", "tmpfs", folder], check=True)

    def fill(self, room: int) -> None:
        about = os.statvfs(self._folder)
        self._resize((about.f_blocks - about.f_bfree) * about.f_frsize + room)

    def free(self) -> None:
        self._resize(LARGE)

    def full_since(self) -> float | None:
        # A file system records no times; each failed verb is timed by itself.
        return None

    def _resize(self, size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", self._folder], check=True)


async def endless(run_input: Any) -> AsyncIterator[Any]:
    yield {"type": "RUN_STARTED", "threadId": run_input.thread_id, "runId": run_input.run_id}
    yield {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
    while True:
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "x" * 8000}
        await asyncio.sleep(0)


async def live(life: Life, place: Shimmed | Mounted, room: int) -> None:
    """Run until the disk is full, then with space again, by the same runner and the next."""
    async with life.runner() as runner:
        await life.run(runner, "before", "before-1")
        place.fill(room)
        await fill_by_a_run(life, runner)
        await fill_by_claims(life, runner)
        await life.verb("list", runner.threads.list())
        await life.verb("replay", life.replay(runner, "before"))
        place.free()
        await life.go_on(runner)
        await life.look_over(runner)
    async with life.runner() as runner:
        await life.look_over(runner)


async def fill_by_a_run(life: Life, runner: SqliteAgentRunner) -> None:
    """Run until the disk is full; early and late readers must both see the error."""
    stream = await life.verb("run", runner.run(endless, {"threadId": "a", "runId": "a1", "messages": []}))
    if stream is None:
        return
    late = await life.verb("connect", runner.connect("a"))
    readers = [life.verb("reading a run", life.read("a", stream))]
    if late is not None:
        readers.append(life.verb("reading along", read_last_kind(late)))
    for last in await asyncio.gather(*readers):
        if last != "RUN_ERROR":
            life.told.wrong.append(f"a run that fills the disk ends for a reader with {last}")


async def read_last_kind(stream: EventStream) -> str:
    """Read a stream and return its last event's type."""
    return [event.type async for event in stream][-1]


async def fill_by_claims(life: Life, runner: SqliteAgentRunner) -> None:
    """Start runs until a claim fails with `StoreFull`."""
    for number in range(MOST):
        await life.run(runner, f"f{number}", f"f{number}-1")
        if life.told.full:
            return
    life.told.wrong.append(f"{MOST} runs on a full disk, and none is told that it is full")


async def main(path: str, seed: str, mounted: str = "") -> None:
    folder = Path(path)
    (folder / "disk").mkdir()
    place = Mounted(folder / "disk") if mounted else Shimmed(folder)

    async def answer(number: int, question: dict[str, int]) -> dict[str, Any]:
        life = Life(folder / "disk" / f"{number}.db", place.full_since)
        try:
            await live(life, place, question["room"])
        except Exception as error:  # noqa: BLE001 - any exception is a failure
            life.told.wrong.append(f"after the disk was full: {type(error).__name__}: {error}")
        place.free()
        for left in life.path.parent.glob(f"{life.path.name}*"):
            left.unlink()
        return asdict(life.told)

    await children.serve(answer)


if __name__ == "__main__":
    mutations.apply()
    asyncio.run(main(*sys.argv[1:]))
