"""Run slots: how many AG-UI runs may be under way at a time, first in, first out."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from agentrunner.errors import RecordConflict, RunRefused, StoreError
from agentrunner.records import kinds
from agentrunner.running.outages import OutageLog

if TYPE_CHECKING:
    from agentrunner.harness.liveness import Liveness
    from agentrunner.stores import Store

logger = logging.getLogger("agentrunner.harness")

SLOT_POLL_SECONDS = 0.05
"""Seconds between reads of slots that processes share, while a run waits for its turn."""
PURGE_POLLS = 20
"""Reads after which a waiting run checks whether the owners ahead of it are alive."""
MAX_NESTED_RUNS = 32
"""Number of runs, each started by the one before, that may share one slot."""


class Slots(Protocol):
    """A queue for slots, in which the `thread_key` of a run names it.

    A run holds a slot from `enter` or `wait_for_turn` until `leave`.
    """

    async def enter(self, run_key: str) -> bool:
        """Queue a run; return whether it got a slot at once."""
        ...

    async def wait_for_turn(self, run_key: str) -> None:
        """Wait until a queued run has a slot."""

    async def leave(self, run_key: str) -> None:
        """Release a run's slot or its place in the queue; do nothing if it has neither."""


class LimitedSlots(Slots, Protocol):
    """Slots of a limited number."""

    async def is_holder(self, run_key: str, other: LimitedSlots) -> bool:
        """Return whether a run that entered `other` holds one of these slots."""
        ...


class UnlimitedSlots:
    """A slot for every run."""

    async def enter(self, run_key: str) -> bool:  # noqa: D102 - documented by the protocol, here and below
        return True

    async def wait_for_turn(self, run_key: str) -> None:  # noqa: D102
        pass

    async def leave(self, run_key: str) -> None:  # noqa: D102
        pass


class LocalSlots:
    """Slots of one process."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._holders: set[str] = set()
        self._queue: deque[tuple[str, asyncio.Future[None]]] = deque()

    async def enter(self, run_key: str) -> bool:  # noqa: D102
        if not self._queue and len(self._holders) < self._count:
            self._holders.add(run_key)
            return True
        self._queue.append((run_key, asyncio.get_running_loop().create_future()))
        return False

    async def wait_for_turn(self, run_key: str) -> None:  # noqa: D102
        for queued, turn in self._queue:
            if queued == run_key:
                # Shielded: a cancelled waiter keeps its place until it calls `leave`, which must still find it.
                await asyncio.shield(turn)
                return

    async def leave(self, run_key: str) -> None:  # noqa: D102
        self._holders.discard(run_key)
        self._queue = deque(entry for entry in self._queue if entry[0] != run_key)
        while self._queue and len(self._holders) < self._count:
            following, turn = self._queue.popleft()
            self._holders.add(following)
            turn.set_result(None)

    async def is_holder(self, run_key: str, other: LimitedSlots) -> bool:  # noqa: D102
        return other is self and run_key in self._holders


class SharedSlots:
    """Slots of all processes on a store, in one record that is compared and set."""

    def __init__(self, store: Store, liveness: Liveness, name: str, count: int) -> None:
        self._store = store
        self._liveness = liveness
        self._name = name
        self._count = count
        self._freed = asyncio.Event()
        """Event that is set, and replaced, when a run of this process leaves, so that the next one reads at once."""
        self._outage = OutageLog(logger, f"reading the run slots '{name}'")

    async def enter(self, run_key: str) -> bool:  # noqa: D102
        return await self._change(add=run_key)

    async def wait_for_turn(self, run_key: str) -> None:  # noqa: D102
        polls = 0
        while True:
            polls += 1
            # Take the event before the read: a single event for all runs could be cleared before this run has seen it.
            freed = self._freed
            try:
                if run_key in [run for run, _ in (await self._read())[1]]:
                    self._outage.note_success()
                    return
                if polls % PURGE_POLLS == 0:
                    has_turn = await self._change(add=run_key, purge=True)
                    # Only now, because a store that is full can be read but not written.
                    self._outage.note_success()
                    if has_turn:
                        return
            except StoreError as error:
                self._outage.note_failure(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SLOT_POLL_SECONDS):
                    await freed.wait()

    async def leave(self, run_key: str) -> None:  # noqa: D102
        await self._change(remove=run_key)
        self._freed.set()
        self._freed = asyncio.Event()

    async def is_holder(self, run_key: str, other: LimitedSlots) -> bool:  # noqa: D102
        if not isinstance(other, SharedSlots) or other._name != self._name:
            return False
        # Two harnesses of one process may reach the same record through different stores.
        return (run_key, other._liveness.owner_id) in (await self._read())[1]

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


@dataclass(eq=False, slots=True)
class SlotShare:
    """A slot, and the runs that hold it together: one that entered, and those it started."""

    slots: LimitedSlots
    run_key: str
    """Key of the run that entered."""
    members: set[str] = field(default_factory=set)
    """Keys of the runs that still hold it."""


_memberships: contextvars.ContextVar[tuple[tuple[SlotShare, str], ...]] = contextvars.ContextVar(
    "agentrunner_slot_memberships", default=()
)
"""The runs that the calling code belongs to, the outermost first, each as its share and its key."""


class NestingSlots:
    """Slots that a run shares with the runs it starts.

    With a separate slot, a run could wait forever for the slot of the run that is waiting for it. The calling run is
    known from the context, which tasks inherit. A run that has ended shares nothing any more.
    """

    def __init__(self, slots: LimitedSlots) -> None:
        self._slots = slots
        self._shares: dict[str, SlotShare] = {}
        """Each run's share, by the run's key."""

    async def enter(self, run_key: str) -> bool:
        """Queue a run, or share the slot of a run that started it; return whether it has one.

        Raises `RunRefused` if too many runs have started one another.
        """
        live = tuple((share, member) for share, member in _memberships.get() if member in share.members)
        for share, _ in reversed(live):
            # The members are read again after the wait, in which the last of them may have left.
            if await self._slots.is_holder(share.run_key, share.slots) and share.members:
                if sum(each is share for each, _ in live) >= MAX_NESTED_RUNS:
                    raise RunRefused(
                        f"the run is refused: {MAX_NESTED_RUNS} runs, each started by the one before, are live in one "
                        "slot; let one of them end first"
                    )
                share.members.add(run_key)
                self._shares[run_key] = share
                _memberships.set((*live, (share, run_key)))
                return True
        share = self._shares[run_key] = SlotShare(self._slots, run_key, {run_key})
        _memberships.set((*live, (share, run_key)))
        return await self._slots.enter(run_key)

    async def wait_for_turn(self, run_key: str) -> None:  # noqa: D102
        await self._slots.wait_for_turn(run_key)

    async def leave(self, run_key: str) -> None:
        """Release a run's place in the queue or its share; the last run to leave frees the slot."""
        share = self._shares.get(run_key)
        if share is None:
            return
        share.members.discard(run_key)
        if not share.members:
            # If this fails, the share is still there for the next try.
            await share.slots.leave(share.run_key)
        self._shares.pop(run_key, None)


def choose_slots(store: Store, liveness: Liveness, name: str, count: int | None) -> Slots:
    """Return the slots for a harness, shared between processes if the store is."""
    if count is None:
        return UnlimitedSlots()
    return NestingSlots(SharedSlots(store, liveness, name, count) if store.shared else LocalSlots(count))
