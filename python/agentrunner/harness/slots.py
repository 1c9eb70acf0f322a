"""Run slots: how many AG-UI runs may be under way at a time, first in, first out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol

from agentrunner.errors import RecordConflict, StoreError
from agentrunner.records import kinds

if TYPE_CHECKING:
    from agentrunner.harness.liveness import Liveness
    from agentrunner.stores import Store

logger = logging.getLogger("agentrunner.harness")

SLOT_POLL_SECONDS = 0.05
"""Seconds between reads of slots that processes share, while a run waits for its turn."""
PURGE_POLLS = 20
"""Reads after which a waiting run checks whether the owners ahead of it are alive."""


class Slots(Protocol):
    """A queue for slots. A run holds a slot from `enter` or `wait_for_turn` until `leave`."""

    async def enter(self, run_id: str) -> bool:
        """Queue a run; return whether it got a slot at once."""
        ...

    async def wait_for_turn(self, run_id: str) -> None:
        """Wait until a queued run has a slot."""

    async def leave(self, run_id: str) -> None:
        """Release a run's slot or its place in the queue; do nothing if it has neither."""


class UnlimitedSlots:
    """A slot for every run."""

    async def enter(self, run_id: str) -> bool:  # noqa: D102 - documented by the protocol, here and below
        return True

    async def wait_for_turn(self, run_id: str) -> None:  # noqa: D102
        pass

    async def leave(self, run_id: str) -> None:  # noqa: D102
        pass


class LocalSlots:
    """Slots of one process."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._holders: set[str] = set()
        self._queue: deque[tuple[str, asyncio.Future[None]]] = deque()

    async def enter(self, run_id: str) -> bool:  # noqa: D102
        if not self._queue and len(self._holders) < self._count:
            self._holders.add(run_id)
            return True
        self._queue.append((run_id, asyncio.get_running_loop().create_future()))
        return False

    async def wait_for_turn(self, run_id: str) -> None:  # noqa: D102
        for queued, turn in self._queue:
            if queued == run_id:
                # Shielded: a cancelled waiter keeps its place until it calls `leave`, which must still find it.
                await asyncio.shield(turn)
                return

    async def leave(self, run_id: str) -> None:  # noqa: D102
        self._holders.discard(run_id)
        self._queue = deque(entry for entry in self._queue if entry[0] != run_id)
        while self._queue and len(self._holders) < self._count:
            following, turn = self._queue.popleft()
            self._holders.add(following)
            turn.set_result(None)


class SharedSlots:
    """Slots of all processes on a store, in one record that is compared and set."""

    def __init__(self, store: Store, liveness: Liveness, name: str, count: int) -> None:
        self._store = store
        self._liveness = liveness
        self._name = name
        self._count = count
        self._freed = asyncio.Event()
        """Event that is set when a run of this process leaves, so that the next one reads at once."""

    async def enter(self, run_id: str) -> bool:  # noqa: D102
        return await self._change(add=run_id)

    async def wait_for_turn(self, run_id: str) -> None:  # noqa: D102
        polls = 0
        while True:
            polls += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SLOT_POLL_SECONDS):
                    await self._freed.wait()
            self._freed.clear()
            try:
                if run_id in [run for run, _ in (await self._read())[1]]:
                    return
                if polls % PURGE_POLLS == 0 and await self._change(add=run_id, purge=True):
                    return
            except StoreError:
                logger.exception("the run slots '%s' could not be read; the harness tries again", self._name)

    async def leave(self, run_id: str) -> None:  # noqa: D102
        await self._change(remove=run_id)
        self._freed.set()

    async def _read(self) -> tuple[int, list[tuple[str, str]], list[tuple[str, str]]]:
        """Return the record's version, the holders and the queue, both as pairs of run and owner."""
        record = await kinds.SLOTS.find(self._store, self._name)
        if record is None:
            return 0, [], []
        value = kinds.SLOTS.decode(record)
        return (
            record.version,
            [(run, owner) for run, owner in value["held"]],
            [(run, owner) for run, owner in value["line"]],
        )

    async def _change(self, *, add: str | None = None, remove: str | None = None, purge: bool = False) -> bool:
        """Add or remove a run, fill free slots, and return whether the added run holds one.

        With `purge`, also remove the runs of owners that are gone; otherwise only if all slots are held.
        """
        me = self._liveness.owner_id
        while True:
            version, held, queue = await self._read()
            before = (list(held), list(queue))
            if remove is not None:
                held = [entry for entry in held if entry != (remove, me)]
                queue = [entry for entry in queue if entry != (remove, me)]
            if purge or (add is not None and len(held) >= self._count):
                owners = {owner for _, owner in [*held, *queue]}
                gone = {owner for owner in owners if await self._liveness.is_gone(owner)}
                held = [entry for entry in held if entry[1] not in gone]
                queue = [entry for entry in queue if entry[1] not in gone]
            if add is not None and add not in [run for run, _ in [*held, *queue]]:
                queue.append((add, me))
            while queue and len(held) < self._count:
                held.append(queue.pop(0))
            if (held, queue) != before:
                try:
                    await self._store.write(
                        [kinds.SLOTS.change(self._name, "", {"held": held, "line": queue}, version)]
                    )
                except RecordConflict:
                    continue
            return add in [run for run, _ in held]


def choose_slots(store: Store, liveness: Liveness, name: str, count: int | None) -> Slots:
    """Return the slots for a harness, shared between processes if the store is."""
    if count is None:
        return UnlimitedSlots()
    return SharedSlots(store, liveness, name, count) if store.shared else LocalSlots(count)
