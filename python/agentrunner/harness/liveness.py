"""Which of the processes that use a store are still there."""

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

SILENT = 2.0
"""Lease times without a heartbeat after which an owner counts as gone."""


class Liveness:
    """One harness as an owner among others. Those of this host are looked at; the others' hearts are listened to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._alive: _core.Owner | None = _core.Owner()
        self.me = str(self._alive)
        """As written into records."""
        self._heard: dict[str, tuple[int, float]] = {}
        """Of each owner the last heartbeat, and since when, by this process's clock, there was none after it."""

    async def beat(self) -> None:
        """Say that this one lives."""
        await self._store.write([kinds.HEARTBEAT.change(self.me, "", ({"at": now_ms()}))])

    async def leave(self) -> None:
        """Say that this one does not any more."""
        self._alive = None
        await self._store.write([kinds.HEARTBEAT.removal(self.me, "")])

    async def gone(self, owner: str) -> bool:
        """Say whether an owner is gone: its process has ended, or it has been silent for too long."""
        if owner == self.me:
            return False
        if _core.Owner.is_gone(owner):
            return True
        if not self._store.shared:
            return False
        record = await kinds.HEARTBEAT.find(self._store, owner)
        version = record.version if record is not None else 0
        now = time.monotonic()
        # A wall clock of another host is worth nothing: what counts is that nothing was heard meanwhile.
        heard, since = self._heard.get(owner, (-1, now))
        if heard != version:
            self._heard[owner] = version, now
            return False
        return now - since > self._store.lease_ttl * SILENT

    async def forget(self, owner: str) -> None:
        """Remove what there is of an owner that is gone."""
        if _core.Owner.is_gone(owner):
            self._heard.pop(owner, None)
            with contextlib.suppress(RecordConflict):
                await self._store.write([kinds.HEARTBEAT.removal(owner, "")])
