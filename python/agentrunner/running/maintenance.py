"""What a runner does beside its runs: leases renewed, stops seen, dead runs taken over, old ones removed."""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
from typing import TYPE_CHECKING

from agentrunner.errors import InvalidEvent, LeaseLost, StoreCorrupt, StoreError
from agentrunner.running.driver import Driver

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner._core import Claim, Recorder
    from agentrunner.running.live_run import LiveRun
    from agentrunner.running.stats import Stats
    from agentrunner.stores import Store
    from agentrunner.types import Retention

logger = logging.getLogger("agentrunner")

STOP_POLL_SECONDS = 0.1
"""Seconds between looks for stops asked for in other processes."""
RECOVERY_POLL_SECONDS = 1.0
PRUNE_INTERVAL_SECONDS = 60.0
PRUNE_BATCH_RUNS = 100
"""Runs removed in one step: what is written meanwhile waits for it."""


class Maintenance:
    """Keeps the runs of one runner in order, and ends those that others left behind."""

    def __init__(
        self,
        store: Store,
        live: dict[str, LiveRun],
        stats: Stats,
        recorder: Callable[[Claim, list[str]], Recorder],
        retention: Retention | None,
    ) -> None:
        self._store = store
        self._live = live
        self._stats = stats
        self._recorder = recorder
        self._retention = retention
        self._unfinished: dict[str, Driver] = {}
        self._recovering = asyncio.Lock()
        self._freed = 0
        """Runs ended in place of their processes."""

    async def hold(self) -> None:
        """Renew the leases of this process's runs and see the stops asked for elsewhere, until cancelled."""
        last_renewal = time.monotonic()
        ttl = self._store.lease_ttl
        while True:
            # At rest as well: a run that starts meanwhile may be asked to stop at once.
            await asyncio.sleep(STOP_POLL_SECONDS)
            # Where no other process is, nobody asks for stops and no lease can be lost.
            leased = self._live.values() if self._store.shared else ()
            drivers = [live for live in leased if isinstance(live, Driver)]
            if not drivers:
                continue
            try:
                await self._see_stops(drivers)
                if (now := time.monotonic()) - last_renewal >= ttl * 0.3:
                    last_renewal = now
                    await self._renew(drivers)
            except StoreError:
                logger.exception("the leases of %s runs could not be looked after; it is tried again", len(drivers))
            for driver in drivers:
                if not driver.closed and time.monotonic() - driver.renewed_at > ttl * 2 / 3:
                    claim = driver.claim
                    driver.fail(LeaseLost(f"the lease of run '{claim.run_id}' could not be renewed in time"))

    async def tidy(self) -> None:
        """Take over what others left behind and remove what is past its time, until cancelled."""
        last_pruning = -PRUNE_INTERVAL_SECONDS
        while True:
            await asyncio.sleep(RECOVERY_POLL_SECONDS)
            try:
                await self.recover()
                if self._retention is not None and (now := time.monotonic()) - last_pruning >= PRUNE_INTERVAL_SECONDS:
                    last_pruning = now
                    await self._prune(self._retention)
            except StoreError:
                logger.exception("the store's upkeep failed; it is tried again")

    async def _see_stops(self, drivers: list[Driver]) -> None:
        asked = set(await self._store.stops())
        for driver in drivers:
            if driver.claim.token in asked:
                await driver.stop()

    async def _renew(self, drivers: list[Driver]) -> None:
        began = time.monotonic()
        held = await self._store.renew([driver.claim for driver in drivers])
        for driver, still in zip(drivers, held, strict=True):
            if still:
                # The lease counts from when it was asked for, not from when the answer came.
                driver.renewed_at = max(driver.renewed_at, began)
            elif not driver.closed:
                driver.fail(LeaseLost(f"run '{driver.claim.run_id}' no longer holds thread '{driver.claim.thread_id}'"))

    async def _prune(self, retention: Retention) -> None:
        before = None if retention.max_age is None else int((time.time() - retention.max_age) * 1000)
        removed = PRUNE_BATCH_RUNS
        while removed >= PRUNE_BATCH_RUNS:
            removed = await self._store.prune(retention.max_runs, before, PRUNE_BATCH_RUNS)
            await asyncio.sleep(0)

    # Recovery

    def note(self, driver: Driver) -> None:
        """Keep in mind a run of this process whose end the store could not take: it may later."""
        if driver.unfinished:
            self._unfinished[driver.claim.thread_id] = driver

    def unfinished(self, thread_id: str, run_id: str | None = None) -> StoreError | None:
        """Give why the thread's last run of this process (only that one, with `run_id`) could not be ended, if so."""
        driver = self._unfinished.get(thread_id)
        return driver.unfinished if driver is not None and run_id in (None, driver.claim.run_id) else None

    async def recover(self, thread_id: str | None = None) -> bool:
        """End runs whose process is gone: their journal is stored. Say if there were any since this was asked."""
        before = self._freed
        async with self._recovering:
            claims = await self._store.recover(thread_id)
            for claim in claims:
                if not (isinstance(live := self._live.get(claim.thread_id), Driver) and not live.closed):
                    await self._recover_run(claim)
            # Runs of this process whose end the store could not take, a full disk's for one: it may now.
            for name in [thread_id] if thread_id is not None else list(self._unfinished):
                unfinished = self._unfinished.get(name)
                if unfinished is not None:
                    claims.append(unfinished.claim)
                    await self._recover_run(unfinished.claim)
            self._freed += sum(claim.thread_id not in self._unfinished for claim in claims)
        return self._freed > before

    async def _recover_run(self, claim: Claim) -> None:
        """Replay the run's journal, end it and store it."""
        driver = Driver(claim, self._recorder(claim, []), self._store, self._stats)
        try:
            await driver.catch_up()
        except (StoreCorrupt, InvalidEvent):
            # A damaged journal costs what cannot be read of it, never the thread.
            logger.exception("thread %s: the journal of run %s is damaged", claim.thread_id, claim.run_id)
        except StoreError as error:
            # What cannot be read now may be read later: nothing of it is given up.
            driver.unfinished = error
            self.note(driver)
            logger.error("thread %s: run %s cannot be recovered yet: %s", claim.thread_id, claim.run_id, error)  # noqa: TRY400
            return
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        driver.interrupt(f"The run was interrupted: its process ended. Recovered at {now}", "INTERRUPTED")
        await driver.finish()
        self._unfinished.pop(claim.thread_id, None)
        self.note(driver)
        if driver.failure is None and driver.unfinished is None:
            self._stats.recoveries += 1
            logger.warning("thread %s: run %s was interrupted and is recovered", claim.thread_id, claim.run_id)
