"""Run slots: how many runs may be under way, first in, first out."""

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

LOOK_EVERY = 0.05
"""Seconds between looks whether it is one's turn, where processes share the slots."""
PURGE_EVERY = 20
"""After so many looks it is seen to whether those ahead are still there."""


class Slots(Protocol):
    """A queue for slots. A run's slot is its own from `enter` or `turn` on until `leave`."""

    async def enter(self, run_id: str) -> bool:
        """Get in line; say whether it is the run's turn at once."""
        ...

    async def turn(self, run_id: str) -> None:
        """Wait for the run's turn."""

    async def leave(self, run_id: str) -> None:
        """Give the slot, or the place in line, to who is next. Of a run that has neither nothing is taken."""


class NoLimit:
    """As many as there are."""

    async def enter(self, run_id: str) -> bool:  # noqa: D102 - the protocol says it, here and below
        return True

    async def turn(self, run_id: str) -> None:  # noqa: D102
        pass

    async def leave(self, run_id: str) -> None:  # noqa: D102
        pass


class LocalSlots:
    """Slots of this process."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._holders: set[str] = set()
        self._line: deque[tuple[str, asyncio.Future[None]]] = deque()

    async def enter(self, run_id: str) -> bool:  # noqa: D102
        if not self._line and len(self._holders) < self._count:
            self._holders.add(run_id)
            return True
        self._line.append((run_id, asyncio.get_running_loop().create_future()))
        return False

    async def turn(self, run_id: str) -> None:  # noqa: D102
        for waiting, turn in self._line:
            if waiting == run_id:
                # The place in line is given up by `leave`, never by whoever is tired of waiting here.
                await asyncio.shield(turn)
                return

    async def leave(self, run_id: str) -> None:  # noqa: D102
        self._holders.discard(run_id)
        self._line = deque(each for each in self._line if each[0] != run_id)
        while self._line and len(self._holders) < self._count:
            following, turn = self._line.popleft()
            self._holders.add(following)
            turn.set_result(None)


class SharedSlots:
    """Slots all processes share: one record, changed by compare and set, with those who hold one and those in line."""

    def __init__(self, store: Store, owners: Liveness, name: str, count: int) -> None:
        self._store = store
        self._owners = owners
        self._name = name
        self._count = count
        self._freed = asyncio.Event()
        """Set when a slot of this process was given back: who is next need not wait for the next look."""

    async def enter(self, run_id: str) -> bool:  # noqa: D102
        return await self._change(add=run_id)

    async def turn(self, run_id: str) -> None:  # noqa: D102
        looks = 0
        while True:
            looks += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._freed.wait()
            self._freed.clear()
            try:
                if run_id in [run for run, _ in (await self._read())[1]]:
                    return
                if looks % PURGE_EVERY == 0 and await self._change(add=run_id, purge=True):
                    return
            except StoreError:
                logger.exception("the run slots could not be looked at; it is tried again")

    async def leave(self, run_id: str) -> None:  # noqa: D102
        await self._change(remove=run_id)
        self._freed.set()

    async def _read(self) -> tuple[int, list[tuple[str, str]], list[tuple[str, str]]]:
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
        """Bring the record up to date; say whether the run that was added holds a slot."""
        while True:
            version, held, line = await self._read()
            before = (list(held), list(line))
            if remove is not None:
                held = [each for each in held if each != (remove, self._owners.me)]
                line = [each for each in line if each != (remove, self._owners.me)]
            if purge or (add is not None and len(held) >= self._count):
                gone = {owner for owner in {owner for _, owner in [*held, *line]} if await self._owners.gone(owner)}
                held = [each for each in held if each[1] not in gone]
                line = [each for each in line if each[1] not in gone]
            if add is not None and add not in [run for run, _ in [*held, *line]]:
                line.append((add, self._owners.me))
            while line and len(held) < self._count:
                held.append(line.pop(0))
            if (held, line) != before:
                change = kinds.SLOTS.change(self._name, "", ({"held": held, "line": line}), version)
                try:
                    await self._store.write([change])
                except RecordConflict:
                    continue
            return add in [run for run, _ in held]
