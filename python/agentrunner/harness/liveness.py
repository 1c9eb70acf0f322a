"""Find out which harnesses on a store are alive, by their processes and heartbeats."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from agentrunner import _core
from agentrunner.errors import RecordConflict
from agentrunner.records import kinds
from agentrunner.records.times import now_ms

if TYPE_CHECKING:
    from agentrunner.stores import Store

SILENT_LEASES = 2.0
"""Lease times without a heartbeat after which an owner counts as gone."""


class Liveness:
    """Tells other owners that this harness is alive, and finds out which of them are.

    For an owner on this host, the operating system has the answer. Owners on other hosts send heartbeats.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._owner: _core.Owner | None = _core.Owner()
        self.owner_id = str(self._owner)
        """Id of this owner in records."""
        self._heard: dict[str, tuple[int, float]] = {}
        """Version of each owner's last heartbeat, and the local time at which it was first seen."""

    async def send_heartbeat(self) -> None:
        """Write that this owner is alive."""
        await self._store.write([kinds.HEARTBEAT.change(self.owner_id, "", {"at": now_ms()})])

    async def retire(self) -> None:
        """Write that this owner is gone."""
        self._owner = None
        await self._store.write([kinds.HEARTBEAT.removal(self.owner_id, "")])

    async def is_gone(self, owner: str) -> bool:
        """Return whether an owner's process has ended, or its heartbeats have stopped."""
        if owner == self.owner_id:
            return False
        liveness = _core.Owner.liveness(owner)
        if liveness == "gone":
            return True
        # A process that runs on this machine sends no heartbeat while its event loop is blocked.
        if liveness == "running" or not self._store.shared:
            return False
        record = await kinds.HEARTBEAT.find(self._store, owner)
        version = record.version if record is not None else 0
        now = time.monotonic()
        # The clock of another host may be wrong, so only the time that passed here without a heartbeat counts.
        heard, since = self._heard.get(owner, (-1, now))
        if heard != version:
            self._heard[owner] = version, now
            return False
        return now - since > self._store.lease_ttl * SILENT_LEASES

    async def forget(self, owner: str) -> None:
        """Remove the heartbeat of an owner whose process has ended."""
        if _core.Owner.is_gone(owner):
            self._heard.pop(owner, None)
            with contextlib.suppress(RecordConflict):
                await self._store.write([kinds.HEARTBEAT.removal(owner, "")])
