"""The live runs of this process, by thread, and the runner's background tasks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, TypeVar

from agentrunner.errors import AgentRunnerError, ThreadNotFound
from agentrunner.running.current import run_of_task
from agentrunner.running.driver import Driver
from agentrunner.running.follower import Follower
from agentrunner.running.retries import UnfinishedRun
from agentrunner.stores.types import ThreadGuard

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from agentrunner._core import Claim
    from agentrunner.errors import StoreError
    from agentrunner.running.current import Run
    from agentrunner.running.live_run import LiveRun
    from agentrunner.running.recording import RecordingLimits
    from agentrunner.running.stats import Stats
    from agentrunner.stores import Store
    from agentrunner.types import Agent, AnyScope

logger = logging.getLogger("agentrunner")

T = TypeVar("T")


class JoinedRun:
    """A context that counts as a reader of a thread's live run, if there is one.

    A run of another process is therefore followed at least until the context ends.
    """

    __slots__ = ("_live", "_table", "_thread_id")

    def __init__(self, table: RunTable, thread_id: str) -> None:
        self._table = table
        self._thread_id = thread_id
        self._live: LiveRun | None = None

    async def __aenter__(self) -> LiveRun | None:
        self._live = await self._table.join(self._thread_id)
        return self._live

    async def __aexit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.leave()


def _is_other_run(claim: Claim, other: Claim) -> bool:
    return (claim.run_id, claim.incarnation) != (other.run_id, other.incarnation)


class RunTable:
    """The live runs that this process drives or follows, at most one for each thread."""

    def __init__(self, store: Store, limits: RecordingLimits) -> None:
        # Check the class: a store that delegates to another one may refuse to do so before it is open.
        if not (hasattr(type(store), "claim") or hasattr(type(store), "__getattr__")):
            raise TypeError(f"{type(store).__name__} is not a Store; AgentRunner.from_url makes one for a path or URL")
        self._store = store
        self._limits = limits
        self.live_runs: dict[str, LiveRun] = {}
        """Live runs by thread id."""
        self.unfinished: dict[str, UnfinishedRun] = {}
        """Runs of this process whose end could not be stored yet, by thread id."""
        self._tasks: set[asyncio.Task[Any]] = set()

    def driver(self, thread_id: str) -> Driver | None:
        """Return the thread's live run if it is driven in this process."""
        live = self.live_runs.get(thread_id)
        return live if isinstance(live, Driver) else None

    def driver_in_scope(self, thread_id: str, scope: str | AnyScope | None) -> Driver | None:
        """Return the driver of a thread's live run if the thread is in a scope."""
        driver = self.driver(thread_id)
        return driver if driver is not None and driver.is_known_in(scope) else None

    def drivers(self) -> list[Driver]:
        """Return the live runs that are driven in this process."""
        # Copy the values first: this may be called from another thread.
        return [live for live in list(self.live_runs.values()) if isinstance(live, Driver)]

    def start(self, driver: Driver, agent: Agent, run: Run, stats: Stats) -> None:
        """Add a run to the table and start its agent."""
        driver.scope = run.scope
        self.live_runs[run.thread_id] = driver
        stats.runs_started += 1
        self.spawn(self._drive(driver, agent, run, stats))

    async def _drive(self, driver: Driver, agent: Agent, run: Run, stats: Stats) -> None:
        try:
            await self._apply_early_stop(driver)
            await driver.drive(agent, run)
        finally:
            driver.close()
            stats.runs_ended[driver.outcome] += 1
            self.note_unfinished(driver)
            self._remove(driver)
            await self.release(driver.claim)

    async def _apply_early_stop(self, driver: Driver) -> None:
        """Stop a run that was to be stopped before it was in the table."""
        # The maintenance reads the stops of shared stores only.
        if not self._store.shared and driver.claim.token in await self._store.stops():
            await driver.stop()

    async def release(self, claim: Claim) -> None:
        """Tell the store that this process no longer uses a claim."""
        # A custom store may lack this method, which is newer than the others.
        if hasattr(self._store, "release"):
            with contextlib.suppress(AgentRunnerError):
                await self._store.release(claim)

    def describe_task(self, task: asyncio.Task[Any]) -> str | None:
        """Return a phrase for the run that a task belongs to; `None` if unknown."""
        if (run := run_of_task(task)) is not None:
            return f"run {run.run_id} of thread {run.thread_id}"
        for driver in self.drivers():
            if driver.is_agent_task(task):
                return f"run {driver.claim.run_id} of thread {driver.claim.thread_id}"
        return None

    async def is_running(self, thread_id: str, scope: str | AnyScope | None) -> bool:
        """Return whether a thread of a scope has a live run that is not being stopped."""
        if (driver := self.driver_in_scope(thread_id, scope)) is not None:
            return not driver.is_stopping
        try:
            thread = await self._store.thread(thread_id, guard=ThreadGuard(scope))
        except ThreadNotFound:
            return False
        runs = await self._store.live(thread_id)
        return any(claim.incarnation == thread.incarnation and not is_stopping for claim, is_stopping in runs)

    async def stop(self, thread_id: str, run_id: str | None, scope: str | AnyScope | None) -> bool:
        """Stop the live run of a thread of a scope, and return whether this call stops it."""
        if (driver := self.driver_in_scope(thread_id, scope)) is None:
            guard = ThreadGuard(scope)
            if run_id is None:
                # Name the run, because after a retry the request may arrive when a later run is live.
                claim = next((claim for claim, _ in await self._store.live(thread_id)), None)
                if claim is None:
                    return False
                run_id, guard = claim.run_id, ThreadGuard.of(claim, scope)
            return await self._store.request_stop(thread_id, run_id, guard=guard)
        return run_id in (None, driver.claim.run_id) and await driver.stop()

    # Runs of other processes

    def hold(self, thread_id: str) -> JoinedRun:
        """Return a context for `async with` that counts as a reader of the live run."""
        return JoinedRun(self, thread_id)

    async def join(self, thread_id: str) -> LiveRun | None:
        """Return a thread's live run, or `None` if there is none.

        The caller is counted as a reader of the run and must call its `leave`.
        """
        live = self.live_runs.get(thread_id)
        if live is not None and not live.is_closed:
            live.join()
            return live
        for claim, _ in await self._store.live(thread_id):
            live = self.live_runs.get(thread_id)
            if live is None or live.is_closed or _is_other_run(live.claim, claim):
                live = await self._follow(claim)
            live.join()
            return live
        return None

    async def _follow(self, claim: Claim) -> LiveRun:
        follower = Follower(claim, await self._limits.new_recorder(claim), self._store)
        await follower.catch_up()
        if (error := self.unfinished_error(claim.thread_id, claim.run_id)) is not None:
            # The run has ended in this process but not in the store; its readers must not wait for the store.
            follower.give_up(error)
        else:
            self.live_runs[claim.thread_id] = follower
            self.spawn(self._run_follower(follower))
        return follower

    async def _run_follower(self, follower: Follower) -> None:
        try:
            await follower.follow()
        finally:
            follower.close()
            self._remove(follower)

    def _remove(self, live: LiveRun) -> None:
        thread_id = live.claim.thread_id
        if self.live_runs.get(thread_id) is live:
            del self.live_runs[thread_id]

    # Runs of this process whose end could not be stored

    def note_unfinished(self, driver: Driver) -> None:
        """Note a run whose end could not be stored, on a full disk for example, to retry later."""
        if driver.unfinished:
            self.unfinished[driver.claim.thread_id] = UnfinishedRun(driver.claim, driver.unfinished)

    def unfinished_error(self, thread_id: str, run_id: str | None = None) -> StoreError | None:
        """Return the error that kept the end of a thread's last run from being stored.

        `None` if there is none, or if that run is not `run_id`.
        """
        run = self.unfinished.get(thread_id)
        return run.error if run is not None and run_id in (None, run.claim.run_id) else None

    # Tasks

    def spawn(self, work: Coroutine[Any, Any, T], *, is_awaited: bool = False) -> asyncio.Task[T]:
        """Run a coroutine in a task that outlives the caller; log an error that is not awaited."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard if is_awaited else self._forget_task)
        return task

    def _forget_task(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a background task of the runner failed", exc_info=error)

    def reset(self) -> None:
        """Forget all runs and tasks, because their event loop has ended."""
        self.live_runs.clear()
        self.unfinished.clear()
        self._tasks.clear()

    async def interrupt_all(self) -> None:
        """End the runs that are driven in this process, each with a `RUN_ERROR`."""
        drivers = self.drivers()
        for driver in drivers:
            driver.interrupt("The runner was closed before the run had ended", "INTERRUPTED")
        for driver in drivers:
            await driver.wait_until_ended()

    async def cancel_tasks(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
