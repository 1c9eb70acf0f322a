"""A SQLite file is removed, renamed or replaced under two live processes, and put back."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from itertools import zip_longest
from typing import TYPE_CHECKING

from agentrunner import AgentRunner, SqliteStore
from campaigns import Campaign, Outcome
from support import compare
from support.file_faults import FILE_FAULTS, SIDE_FAULTS
from support.processes import process
from support.programs.child import KEPT

if TYPE_CHECKING:
    from pathlib import Path

    from campaigns import Context
    from support.processes import Process

TALKING, SILENT = 2, 1
"""How many runs of each process yield events all the time, and how many none after their first."""
PAUSE = 0.01
LONGEST_DELAY = 0.06
BAR = 1.0
"""Seconds until the runs have ended, and seconds until work continues."""
SHOWN_BAR = 0.25
"""Seconds that an event that was kept before may take to be shown."""
STUCK = 15.0
NEXT_EVENTS = 3
"""How many events the run has that follows on each thread."""


FAULTS = [fault for pair in zip_longest(FILE_FAULTS, SIDE_FAULTS) for fault in pair if fault is not None]


class Round:
    """One fault under two processes with live runs."""

    def __init__(self, context: Context, outcome: Outcome, number: int, path: Path, children: list[Process]) -> None:
        self.context = context
        self.outcome = outcome
        self.fault = FAULTS[number % len(FAULTS)](path)
        self.name = f"{number} ({type(self.fault).__name__})"
        self.path = path
        self.children = children
        # The number at the end: a deleted thread's last sequence number holds for all that end in the same way.
        self.threads = [
            [f"t-{child}-{n}-{number:03}" for n in range(TALKING + SILENT)] for child in range(len(children))
        ]  # fmt: skip
        self.told: dict[tuple[str, str], list[compare.Shown]] = {}
        """What the readers of both processes were shown until the runs had ended."""

    def fail(self, what: str) -> None:
        self.outcome.fail(f"round {self.name}: {what}")

    async def go(self) -> None:
        async with asyncio.timeout(STUCK * self.context.patience):
            for child, threads in zip(self.children, self.threads, strict=True):
                for n, thread in enumerate(threads):
                    child.ask("run", thread, f"{thread}-run", 100_000, PAUSE if n < TALKING else 1e6)
                for _ in threads:
                    await child.answer()
            await asyncio.sleep(self.context.random.uniform(0, LONGEST_DELAY))
            struck_at = time.monotonic()
            self.fault.strike()
            self.outcome.count(type(self.fault).__name__)
            if self.fault.loses_file:
                async with asyncio.TaskGroup() as group:
                    for child, threads in zip(self.children, self.threads, strict=True):
                        group.create_task(self.wait_for_ends(child, threads, struck_at))
                self.told = self.read_logs()
                await self.check_file_alone(struck_at)
            else:
                await self.stop_runs(struck_at)
                self.told = self.read_logs()
            self.fault.mend()
            mended_at = time.monotonic()
            async with asyncio.TaskGroup() as group:
                for child, threads in zip(self.children, self.threads, strict=True):
                    group.create_task(self.continue_on(child, threads, mended_at))

    async def wait_for_ends(self, child: Process, threads: list[str], struck_at: float) -> None:
        """Wait until a process has ended its runs, and check that it refuses another one."""
        child.ask("run", f"{threads[0]}-refused", "r", 0, 0)
        waiting = {*threads, f"{threads[0]}-refused"}
        while waiting:
            match await child.answer():
                case ["ended", thread, "RUN_ERROR", "STORE_ERROR"] if thread in threads:
                    waiting.discard(thread)
                case ["failed", thread, *error] if thread not in threads and "StoreMissing" in error[0]:
                    waiting.discard(thread)
                case answer:
                    self.fail(f"a process said {answer}")
                    return
        if (seconds := time.monotonic() - struck_at) > BAR * self.context.patience:
            self.fail(f"its runs ended only {seconds:.2f} s after the file was gone")

    async def check_file_alone(self, struck_at: float) -> None:
        """Check that the file alone has all events shown, and none was shown later."""
        alone = self.context.folder / "alone.db"
        shutil.copy(self.fault.aside, alone)
        store = SqliteStore(alone, read_only=True)
        async with AgentRunner(store) as runner:
            for (kind, thread), shown in self.told.items():
                raw = await compare.journal(runner, thread)
                compare.compare(self.outcome, f"{self.name}: {thread}, {kind}, file alone", shown, raw)
                # The last event says that the run has ended.
                late = [each.at for each in shown[:-1] if each.at > struck_at]
                if late and late[-1] - struck_at > SHOWN_BAR * self.context.patience:
                    self.fail(f"{thread}: an event was shown {late[-1] - struck_at:.2f} s after the file was gone")
        alone.unlink()

    async def stop_runs(self, struck_at: float) -> None:
        """Wait until the log and the index are back, and stop runs that go on."""
        while not self.fault.is_mended():
            await asyncio.sleep(0.01)
        self.outcome.recovery_seconds.append(time.monotonic() - struck_at)
        async with AgentRunner(SqliteStore(self.path, resume_window=KEPT)) as runner:
            for child, threads in zip(self.children, self.threads, strict=True):
                for thread in threads:
                    await runner.stop(thread)
                for _ in threads:
                    await child.answer()

    def read_logs(self) -> dict[tuple[str, str], list[compare.Shown]]:
        """Return what the readers of both processes were shown in this round."""
        told = compare.readers(self.context.folder / "log0") | compare.readers(self.context.folder / "log1")
        threads = {thread for threads in self.threads for thread in threads}
        return {(kind, thread): shown for (kind, thread), shown in told.items() if thread in threads}

    async def continue_on(self, child: Process, threads: list[str], mended_at: float) -> None:
        """Run on each thread of a process as soon as that is possible."""
        waiting = set(threads)
        for thread in threads:
            child.ask("run", thread, f"{thread}-next", 0, 0)
        while waiting:
            match await child.answer():
                case ["ended", thread, "RUN_FINISHED", _]:
                    waiting.discard(thread)
                case ["failed", thread, *_]:
                    await asyncio.sleep(0.02)
                    child.ask("run", thread, f"{thread}-next", 0, 0)
        if self.fault.loses_file:
            seconds = time.monotonic() - mended_at
            self.outcome.recovery_seconds.append(seconds)
            if seconds > BAR * self.context.patience:
                self.fail(f"its threads accepted runs only {seconds:.2f} s after the file was back")

    async def check(self) -> None:
        """Compare what the readers were shown with what is stored in the end."""
        async with AgentRunner(SqliteStore(self.path, resume_window=KEPT)) as runner:
            for thread in (thread for threads in self.threads for thread in threads):
                raw = await compare.journal(runner, thread)
                compare.dense(self.outcome, thread, raw)
                for kind in ("early", "late"):
                    who = f"{self.name}: {thread}, {kind}"
                    # A reader that could not read what it had missed was shown nothing.
                    shown = self.told.get((kind, thread), [])
                    compare.compare(self.outcome, who, shown, raw[:-NEXT_EVENTS])
                await compare.same_folded(self.outcome, runner, thread, raw)
                await runner.threads.delete(thread)
            report = await (await runner.open()).inspect(fix=False)
            if not report.is_sound:
                self.fail(f"the store is not sound: {report}")


async def campaign(context: Context) -> Outcome:
    outcome = Outcome({"lost": 0, "gaps": 0, "doubled": 0, "events shown": 0})
    folder = context.folder / "data"
    folder.mkdir()
    async with contextlib.AsyncExitStack() as stack:
        children = [
            await stack.enter_async_context(
                process(
                    "support.programs.child", folder / "threads.db", context.folder / f"log{n}", 10,
                    mutation=context.mutation,
                )
            )
            for n in range(2)
        ]  # fmt: skip
        for number in range(context.rounds):
            this_round = Round(context, outcome, number, folder / "threads.db", children)
            try:
                await this_round.go()
                await this_round.check()
            except TimeoutError:
                this_round.fail(f"stuck for {STUCK} s")
                break
            if outcome.failed and context.mutation is not None:
                break
            context.tick()
        else:
            for child in children:
                await child.end()
    return outcome


CAMPAIGN = Campaign(
    name="removed_file",
    promise="a file that goes away takes nothing along",
    bar="removed, renamed or replaced, with its folder, or only its log or index: runs end and calls fail within 1 s, "
    "nothing is shown after that; the file alone has all events shown; once it is back, both processes continue",
    backends=("sqlite",),
    small=4,
    full={"sqlite": 210},
    run=lambda context: asyncio.run(campaign(context)),
    mutations={"errors_are_success": "a write that fails because the file is gone is a failure"},
)
