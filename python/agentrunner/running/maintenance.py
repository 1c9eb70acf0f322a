"""A runner's periodic work: renew leases, apply stops, recover dead runs, prune old ones."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import time
from typing import TYPE_CHECKING

from agentrunner._checks import check_option_type
from agentrunner.errors import (
    AgentRunnerError,
    InvalidEvent,
    LeaseLost,
    RunnerClosed,
    StoreCorrupt,
    StoreError,
    StoreMissing,
)
from agentrunner.running.driver import Driver
from agentrunner.running.loop_watch import LoopWatch
from agentrunner.running.outages import OutageLog
from agentrunner.running.unstarted import prepare_unstarted
from agentrunner.types import Retention

if TYPE_CHECKING:
    from agentrunner._core import Claim
    from agentrunner.running.recording import RecordingLimits
    from agentrunner.running.retries import UnfinishedRun
    from agentrunner.running.stats import Stats
    from agentrunner.running.table import RunTable
    from agentrunner.stores import Store
    from agentrunner.types import ClientMessages

logger = logging.getLogger("agentrunner")

STOP_POLL_SECONDS = 0.1
"""Seconds between two checks for stops that other processes requested."""
RENEWAL_FRACTION = 0.3
"""Fraction of a lease's duration after which the event loop renews it; a longer blockage causes a warning."""
RETRY_FRACTION = 0.1
"""Fraction of a lease's duration after which a failed renewal is tried again."""
RECOVERY_POLL_SECONDS = 1.0
"""Seconds between two checks for runs whose process is gone."""
PRUNE_INTERVAL_SECONDS = 60.0
"""Seconds between two removals of runs that are past their retention."""
PRUNE_BATCH_RUNS = 100
"""Number of runs removed in one step; all other writes wait for it."""


class Maintenance:
    """Renews a runner's leases, applies stops, recovers dead runs and prunes old ones."""

    def __init__(
        self,
        store: Store,
        table: RunTable,
        stats: Stats,
        limits: RecordingLimits,
        client_messages: ClientMessages,
        retention: Retention | None,
    ) -> None:
        check_option_type("retention", retention, Retention, type(None))
        self._store = store
        self._table = table
        self._stats = stats
        self._limits = limits
        self._refuses_claimed_messages = client_messages == "refuse"
        self._retention = retention
        self._recovering = asyncio.Lock()
        self._renewed_at = time.monotonic()
        """Time of the last request to renew the leases, on the monotonic clock."""
        self._unreachable_since: float | None = None
        """Time of the first renewal that failed after the last one that succeeded."""
        self._watch: LoopWatch | None = None
        self._recovered = 0
        """Number of runs recovered."""
        self._stop_outage = OutageLog(logger, "reading the stops that other processes requested")
        self._lease_outage = OutageLog(logger, "renewing the leases of this process's runs")
        self._recovery_outage = OutageLog(logger, "recovery or retention")

    async def start(self) -> None:
        """Recover dead runs, and start the tasks that run until the runner is closed."""
        if getattr(self._store, "read_only", False):
            # It has no runs of this process, and those of others are theirs.
            return
        await self.recover()
        # Separate tasks: recovery can take long, and leases must be renewed meanwhile.
        self._table.spawn(self._hold_leases())
        self._table.spawn(self._tidy())
        # If the store is not shared, no other process can take a lease, however late it is.
        if self._store.shared:
            self._watch = LoopWatch(
                self._store.lease_ttl * RENEWAL_FRACTION, self._table.describe_task, self._release_all
            )
            self._table.spawn(self._watch.run())

    def reset(self) -> None:
        """Forget the event loop of the tasks that `start` began."""
        self._recovering = asyncio.Lock()
        self._unreachable_since = None

    async def aclose(self) -> None:
        """End what is left of the tasks, which must have been cancelled."""
        if self._watch is not None:
            await self._watch.aclose()

    def _release_all(self) -> None:
        """Release all leases, because the event loop that would use them is closed."""

        async def release_all() -> None:
            for driver in self._table.drivers():
                await self._table.release(driver.claim)

        with contextlib.suppress(AgentRunnerError):
            asyncio.run(release_all())

    # Leases and stops

    async def _hold_leases(self) -> None:
        """Renew this process's leases and apply stops of other processes, until cancelled."""
        while True:
            # Poll at the same rate while nothing runs, because the next run may be stopped right after its start.
            await asyncio.sleep(STOP_POLL_SECONDS)
            # If the store is not shared, no other process can request a stop or take a lease.
            drivers = self._table.drivers() if self._store.shared else []
            if not drivers:
                self._unreachable_since = None
                self._stop_outage.forget()
                self._lease_outage.forget()
                continue
            requested_at = time.monotonic()
            try:
                await self._apply_stops(drivers)
                self._stop_outage.note_success()
            except StoreMissing as error:
                # An unreachable server comes back, but a removed file may not. Without this, a silent agent and its
                # readers would not notice until the next commit fails.
                for driver in drivers:
                    if not driver.is_closed:
                        driver.fail(error)
                continue
            except StoreError as error:
                self._stop_outage.note_failure(error)
                self._fail_unrenewed(drivers, requested_at)
            await self._renew_when_due(drivers)

    async def _apply_stops(self, drivers: list[Driver]) -> None:
        tokens = set(await self._store.stops())
        for driver in drivers:
            if driver.claim.token in tokens:
                await driver.stop()

    async def _renew_when_due(self, drivers: list[Driver]) -> None:
        # Measure the lease from the request, not from the response: the store may have extended it at any time between.
        requested_at = time.monotonic()
        if requested_at - self._renewed_at < self._store.lease_ttl * RENEWAL_FRACTION:
            return
        self._renewed_at = requested_at
        try:
            renewals = await self._store.renew([driver.claim for driver in drivers])
        except StoreError as error:
            self._lease_outage.note_failure(error)
            self._renewed_at = time.monotonic() - self._store.lease_ttl * (RENEWAL_FRACTION - RETRY_FRACTION)
            self._fail_unrenewed(drivers, requested_at)
            return
        self._unreachable_since = None
        self._lease_outage.note_success()
        for driver, is_renewed in zip(drivers, renewals, strict=True):
            if is_renewed:
                driver.note_renewal(requested_at)
            elif not driver.is_closed:
                driver.fail(LeaseLost(f"run '{driver.claim.run_id}' no longer holds thread '{driver.claim.thread_id}'"))

    def _fail_unrenewed(self, drivers: list[Driver], failed_at: float) -> None:
        """End the runs whose leases may soon be lost, because renewals have failed for too long.

        Time during which the event loop was blocked does not count, because a thread renewed the leases meanwhile.
        """
        if self._unreachable_since is None:
            self._unreachable_since = failed_at
        now, lease_ttl = time.monotonic(), self._store.lease_ttl
        # The last success was at most one renewal interval before the first failure.
        is_too_long = now - self._unreachable_since >= lease_ttl * (2 / 3 - RENEWAL_FRACTION)
        for driver in drivers:
            # A batch may have reached the store since then.
            is_late = now - driver.renewed_at >= lease_ttl * 2 / 3 or driver.renewed_at < self._unreachable_since
            if is_too_long and is_late and not driver.is_closed:
                driver.fail(LeaseLost(f"the lease of run '{driver.claim.run_id}' could not be renewed in time"))

    # Recovery and retention

    async def _tidy(self) -> None:
        """Recover dead runs and prune those past their retention, until cancelled."""
        last_pruning = -PRUNE_INTERVAL_SECONDS
        while True:
            await asyncio.sleep(RECOVERY_POLL_SECONDS)
            try:
                await self.recover()
                if self._retention is not None and (now := time.monotonic()) - last_pruning >= PRUNE_INTERVAL_SECONDS:
                    last_pruning = now
                    await self._prune(self._retention)
                self._recovery_outage.note_success()
            except StoreError as error:
                self._recovery_outage.note_failure(error)

    async def _prune(self, retention: Retention) -> None:
        before = None if retention.max_age is None else int((time.time() - retention.max_age) * 1000)
        removed = PRUNE_BATCH_RUNS
        while removed >= PRUNE_BATCH_RUNS:
            removed = await self._store.prune(retention.max_runs, before, PRUNE_BATCH_RUNS)
            await asyncio.sleep(0)

    async def recover(self, thread_id: str | None = None) -> bool:
        """End and store the runs whose process is gone, of one thread or of all.

        Returns whether any run was recovered since the call began, even if another caller did it.
        """
        # In its own task: if the caller is cancelled, the runs just taken over must still be ended.
        recovery = self._table.spawn(self._recover(thread_id), is_awaited=True)
        try:
            return await asyncio.shield(recovery)
        except asyncio.CancelledError:
            if recovery.cancelled() and not is_being_cancelled():
                raise RunnerClosed("the runner was closed during a recovery") from None
            raise

    async def _recover(self, thread_id: str | None) -> bool:
        before = self._recovered
        async with self._recovering:
            if drivers := self._table.drivers():
                # After this process was paused, a store whose leases depend on time alone must not return its own runs.
                await self._renew_when_due(drivers)
            claims = await self._store.recover(thread_id)
            for claim in claims:
                driver = self._table.driver(claim.thread_id)
                if driver is None or driver.is_closed:
                    await self._recover_run(claim)
            # Retry to store the ends of runs that could not be stored, for example because the disk was full.
            for name in [thread_id] if thread_id is not None else list(self._table.unfinished):
                unfinished = self._table.unfinished.get(name)
                if unfinished is not None and unfinished.is_due(is_urgent=thread_id is not None):
                    claims.append(unfinished.claim)
                    await self._retry(unfinished)
            self._recovered += sum(claim.thread_id not in self._table.unfinished for claim in claims)
        return self._recovered > before

    async def _retry(self, run: UnfinishedRun) -> None:
        """Retry to store the end of a run; if that fails, note how long it took."""
        thread_id, began = run.claim.thread_id, time.monotonic()
        await self._recover_run(run.claim, may_lose_content=run.may_lose_content)
        again = self._table.unfinished.get(thread_id)
        if again is not None:
            now = time.monotonic()
            self._table.unfinished[thread_id] = again._replace(
                attempts=run.attempts + 1, ended_at=now, seconds=now - began
            )

    async def _recover_run(self, claim: Claim, *, may_lose_content: bool = False) -> None:
        """Replay the run's journal, end the run and store it."""
        driver = Driver(claim, await self._limits.new_recorder(claim), self._store, self._stats)
        try:
            await self._replay(driver)
            if driver.recorder.recorded == 0:
                driver = await self._drive_unstarted(claim)
        except StoreError as error:
            # Ending the run now would lose the events that a later attempt may still read.
            driver.unfinished = error
            self._table.note_unfinished(driver)
            logger.error("thread %s: run %s cannot be recovered yet: %s", claim.thread_id, claim.run_id, error)  # noqa: TRY400
            await self._table.release(claim)
            return
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        driver.interrupt(f"The run was interrupted: its process ended. Recovered at {now}", "INTERRUPTED")
        await driver.finish()
        if driver.unfinished is not None and may_lose_content:
            await driver.finish_without_content()
        self._table.unfinished.pop(claim.thread_id, None)
        self._table.note_unfinished(driver)
        if driver.last_word is None and driver.unfinished is None:
            self._stats.recoveries += 1

    async def _replay(self, driver: Driver) -> None:
        try:
            await driver.catch_up()
        except (StoreCorrupt, InvalidEvent):
            # Only the unreadable events are lost: the caller ends the run, which frees its thread.
            claim = driver.claim
            logger.exception("thread %s: the journal of run %s is damaged", claim.thread_id, claim.run_id)

    async def _drive_unstarted(self, claim: Claim) -> Driver:
        """Return the driver of a run that died before its first event, with its messages."""
        refuses = self._refuses_claimed_messages
        run = await prepare_unstarted(self._store, self._limits, claim, refuses=refuses)
        return Driver(claim, run.recorder, self._store, self._stats, has_new_messages=run.has_new_messages)


def is_being_cancelled() -> bool:
    """Return whether the calling task was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
