"""Use a store on a bad disk and check what it must keep; for `faulty` and `filled`."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import agentrunner
from agentrunner import SqliteAgentRunner, StoreError, StoreFull, ThreadAlreadyRunning, ThreadNotFound
from campaigns.power_loss import Shown, journal
from support.agents import agent_with

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

HANG = 20.0
"""Seconds after which a verb counts as hanging."""


@dataclass
class Told:
    """The result of one process's life."""

    wrong: list[str] = field(default_factory=list)
    errors: int = 0
    """How many verbs raised a `StoreError`."""
    full: int = 0
    """How many of the errors were `StoreFull`."""
    ended: int = 0
    """How many runs ended with a `RUN_ERROR` for their readers."""
    longest: float = 0.0
    """Longest seconds from a fault, or from a later verb's start, until the verb's end."""
    recovery: float = 0.0
    """Seconds from the disk's repair until every thread has accepted a run."""


class Life:
    """A store's use at a path: each verb must succeed in time, or raise a `StoreError`."""

    def __init__(self, path: Path, failed_at: Callable[[], float | None]) -> None:
        self.path = path
        self._failed_at = failed_at
        self.told = Told()
        self.shown: dict[str, list[Shown]] = {}

    def runner(self) -> SqliteAgentRunner:
        """Return a new runner that is not open yet."""
        return SqliteAgentRunner(self.path, resume_window=1e6)

    async def verb(self, name: str, answer: Awaitable[Any]) -> Any:
        """Return a call's result, or `None` if it raises."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(HANG):
                return await answer
        except StoreError as error:
            self.told.errors += 1
            self.told.full += isinstance(error, StoreFull)
        except (ThreadAlreadyRunning, ThreadNotFound):
            pass  # follows from an earlier run that could not begin or end
        except TimeoutError:
            self.told.wrong.append(f"{name} hangs")
        except Exception as error:  # noqa: BLE001 - any error that is not the package's own is a failure
            self.told.wrong.append(f"{name}: {type(error).__name__}: {error}")
        finally:
            if (failed_at := self._failed_at()) is not None:
                self.told.longest = max(self.told.longest, time.monotonic() - max(began, failed_at))
        return None

    async def run(self, runner: SqliteAgentRunner, thread: str, run: str, *events: Any) -> bool:
        """Run, note the shown events, and return whether the run ended well."""

        async def agent(run_input: Any) -> AsyncIterator[Any]:
            async for event in agent_with(*events)(run_input):
                yield event
                # A pause, so that the event is committed by itself.
                await asyncio.sleep(0.002)

        run_input = {"threadId": thread, "runId": run, "messages": []}
        stream = await self.verb("run", runner.run(agent, run_input))
        return stream is not None and await self.verb("reading a run", self.read(thread, stream)) == "RUN_FINISHED"

    async def read(self, thread: str, stream: agentrunner.EventStream) -> str:
        """Note the shown events, and return the last event's type."""
        last = ""
        async for event in stream:
            last = event.type
            if last == "RUN_ERROR":
                self.told.ended += 1
                if event.to_dict().get("code") == "STORE_ERROR":
                    break  # a last event that is in no store
            seen = Shown(event.seq or 0, bytes(event), time.monotonic_ns(), barrier=True)
            self.shown.setdefault(thread, []).append(seen)
        if last not in ("RUN_FINISHED", "RUN_ERROR"):
            self.told.wrong.append(f"a run ends for its readers with {last or 'nothing'}")
        return last

    async def replay(self, runner: SqliteAgentRunner, thread: str) -> None:
        """Read a thread, whose events must be in order."""
        agentrunner.verify([event async for event in await runner.connect(thread)])

    async def go_on(self, runner: SqliteAgentRunner) -> None:
        """Run on each thread and on a new one, once the disk is good again."""
        began = time.monotonic()
        async with asyncio.timeout(HANG):
            for thread in sorted({"a", "b", "new", *self.shown}):
                attempt = 0
                while not await self.run(runner, thread, f"{thread}-again-{attempt}"):
                    attempt += 1
                    await asyncio.sleep(0.01)
        self.told.recovery = time.monotonic() - began

    async def look_over(self, runner: SqliteAgentRunner) -> None:
        """Check that the file is sound and that all shown events are stored."""
        report = await runner._store.inspect(fix=False)
        if not report.is_sound:
            self.told.wrong.append(str(report))
        for thread, events in self.shown.items():
            raw = {event.seq: bytes(event) for event in await journal(runner, thread)}
            lost = [event for event in events if raw.get(event.seq) != event.data]
            if lost:
                self.told.wrong.append(f"{len(lost)} events of {thread} from {lost[0]} on were shown and lost")
            history = await runner.threads.events(thread)
            agentrunner.verify(history)
            if agentrunner.fold(history) != agentrunner.fold(list(raw.values())):
                self.told.wrong.append(f"what is stored of thread {thread} is not what was recorded")
