"""A harness's periodic work: send heartbeats, recover, remove old records."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from agentrunner.errors import StoreError
from agentrunner.harness.recovery import recover
from agentrunner.harness.retention import prune
from agentrunner.running.outages import OutageLog

if TYPE_CHECKING:
    from agentrunner.harness._state import HarnessState

logger = logging.getLogger("agentrunner.harness")

MAINTENANCE_SECONDS = 1.0
"""Seconds between two rounds of maintenance."""
PRUNE_SECONDS = 60.0
"""Seconds between removals of old records."""


async def maintain(state: HarnessState) -> None:
    """Send heartbeats, recover, and remove old records, until cancelled."""
    store = state.store
    loop = asyncio.get_running_loop()
    last_heartbeat = last_recovery = loop.time()
    last_pruning = 0.0
    outage = OutageLog(logger, "the harness's maintenance")
    while True:
        await asyncio.sleep(MAINTENANCE_SECONDS)
        now = loop.time()
        has_used_store = False
        try:
            ttl = store.lease_ttl
            if store.shared and now - last_heartbeat >= ttl * 0.3:
                await state.liveness.send_heartbeat()
                last_heartbeat, has_used_store = now, True
            is_due = state.needs_recovery or (store.shared and now - last_recovery >= ttl)
            if state.recovery.enabled and is_due:
                needs_recovery, state.needs_recovery, last_recovery = state.needs_recovery, False, now
                try:
                    await recover(state, store, resume=state.recovery.resume_on_startup)
                except StoreError:
                    state.needs_recovery = needs_recovery
                    raise
                has_used_store = True
            if state.retention is not None and (not last_pruning or now - last_pruning >= PRUNE_SECONDS):
                last_pruning = now
                await prune(store, state.retention)
                has_used_store = True
            if has_used_store:
                outage.note_success()
        except StoreError as error:
            outage.note_failure(error)
