"""State that the parts of a harness share: options, live attempts, tasks and the store."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

from agentrunner.errors import AgentRunnerError, RunnerClosed, StoreError
from agentrunner.harness.listeners import Bus
from agentrunner.harness.liveness import Liveness
from agentrunner.harness.slots import choose_slots
from agentrunner.running.agent_task import STOP_GRACE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping

    from agentrunner.harness.slots import Slots
    from agentrunner.harness.types import Policy, RecordRetention, Recovery, Router
    from agentrunner.records.harness_runs import HarnessEvent, RunRecord
    from agentrunner.runner import AgentRunner
    from agentrunner.running.timeouts import RunTimeouts
    from agentrunner.stores import Store
    from agentrunner.types import Agent

logger = logging.getLogger("agentrunner.harness")

RUN_POLL_SECONDS = 0.02
"""Seconds between two reads of a run that another process handles."""
SLOT_RETRY_SECONDS = 1.0
"""Seconds between two attempts to release a slot after the store has failed."""


class LiveAttempt(Protocol):
    """An attempt under way in this process: a `SupervisedRun`, as other parts see it."""

    thread_id: str
    done: asyncio.Event
    """Event that is set when the attempt is over and its end is written."""

    @property
    def record(self) -> RunRecord | None:
        """Record of the harness run; `None` until the attempt is admitted."""

    def interrupt(self) -> None:
        """End the attempt because the harness is closed."""


class HarnessState:
    """Options, live attempts, tasks and store of one harness, which its parts share.

    `on_open` is awaited once, as soon as the store is open. It starts the recovery, which this module cannot import
    because recovery imports this module.
    """

    store: Store
    liveness: Liveness
    slots: Slots

    def __init__(
        self,
        runner: AgentRunner,
        agents: Mapping[str, Agent],
        *,
        name: str,
        max_concurrent_runs: int | None,
        recovery: Recovery,
        router: Router | None,
        policy: Policy | None,
        retention: RecordRetention | None,
        timeouts: RunTimeouts,
        on_open: Callable[[], Awaitable[None]],
    ) -> None:
        self.runner = runner
        self.agents = dict(agents)
        """Agents by name, as the user passed them."""
        self.recovery = recovery
        self.router = router
        self.policy = policy
        self.retention = retention
        self.timeouts = timeouts
        self.bus: Bus[HarnessEvent] = Bus()
        """Listeners to the events of all harness runs."""
        self.live_attempts: set[LiveAttempt] = set()
        """Attempts of this harness that are under way."""
        self.needs_recovery = False
        """Whether a harness run was left to recovery, which may be this harness's own."""
        self.unwritten_ends: set[str] = set()
        """Keys of harness runs that ended in this process, but whose end could not be written."""
        self._name = name
        self._max_concurrent_runs = max_concurrent_runs
        self._on_open = on_open
        self._busy: Counter[str] = Counter()
        self._recovery_requests = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._opening: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    # Opening and closing

    async def open(self) -> Store:
        """Open the harness if it is not open yet, and return the store.

        Raises `RunnerClosed`, `StoreError`.
        """
        loop = asyncio.get_running_loop()
        if self._is_closed:
            raise RunnerClosed("the harness is closed; to use it again, open it with `async with` or `open()`")
        if self._loop is not None and self._loop is not loop:
            if not self._loop.is_closed():
                raise RunnerClosed("the harness is open in another event loop; call its `aclose()` there first")
            self._reset()
        self._loop = loop
        if self._opening is None:
            # In a separate context, because the harness outlives the run that may have opened it.
            self._opening = loop.create_task(self._open(), context=contextvars.Context())
        opening = self._opening
        try:
            await asyncio.shield(opening)
        except Exception:
            # Forget the failure, so that the next caller tries again.
            if self._opening is opening:
                self._opening = None
            raise
        return self.store

    async def reopen(self) -> Store:
        """Open the harness, even if it or its runner was closed. Raises the errors of `open`."""
        if self._is_closed:
            self._reset()
        await self.runner.open()
        return await self.open()

    def _reset(self) -> None:
        """Forget the event loop, and everything that belonged to it."""
        self._loop = self._opening = None
        self._is_closed = self.needs_recovery = False
        self._busy.clear()
        self.unwritten_ends.clear()
        self._tasks.clear()
        self.live_attempts.clear()

    async def _open(self) -> None:
        self.store = store = await self.runner.ensure_open()
        self.liveness = Liveness(store)
        self.slots = choose_slots(store, self.liveness, self._name, self._max_concurrent_runs)
        if store.shared:
            await self.liveness.send_heartbeat()
        await self._on_open()

    @property
    def is_closing(self) -> bool:
        """Whether this harness or its runner is closed or about to close."""
        return self._is_closed or self.runner.is_draining or self.runner.is_closed

    async def aclose(self) -> None:
        """End the live attempts, the tasks and the listeners."""
        if self._is_closed:
            return
        self._is_closed = True
        attempts = list(self.live_attempts)
        for attempt in attempts:
            attempt.interrupt()
        if attempts:
            endings = [asyncio.ensure_future(attempt.done.wait()) for attempt in attempts]
            await asyncio.wait(endings, timeout=STOP_GRACE_SECONDS + 1)
        if self._opening is not None:
            self._opening.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.bus.drain()
        if hasattr(self, "liveness"):
            with contextlib.suppress(AgentRunnerError):
                await self.liveness.retire()

    def spawn(self, work: Coroutine[Any, Any, Any], *, quiet: bool = False) -> asyncio.Task[Any]:
        """Run a coroutine in a task that outlives the caller.

        With `quiet`, its errors are not logged, because the caller handles them.
        """
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

        def finish(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None and not quiet:
                logger.error("a task of the harness failed", exc_info=error)

        task.add_done_callback(finish)
        return task

    # Harness runs

    def publish(self, events: Iterable[HarnessEvent]) -> None:
        """Pass events to the listeners."""
        for event in events:
            self.bus.publish(event)

    @contextlib.contextmanager
    def mark_busy(self, key: str) -> Iterator[None]:
        """Mark the harness run with a key as handled here, so that recovery leaves it alone."""
        requests = self._recovery_requests
        self._busy[key] += 1
        try:
            yield
        finally:
            self._busy[key] -= 1
            if not self._busy[key]:
                del self._busy[key]
            if self._recovery_requests > requests:
                # Recovery may have come meanwhile, and have left this harness run alone.
                self.needs_recovery = True

    def request_recovery(self) -> None:
        """Make the next round of maintenance recover what failed."""
        self._recovery_requests += 1
        self.needs_recovery = True

    async def is_handled(self, key: str, owner: str) -> bool:
        """Return whether this harness or another live process handles a harness run."""
        if owner == self.liveness.owner_id:
            return key in self._busy
        return not await self.liveness.is_gone(owner)

    def can_resume(self, agent: str) -> bool:
        """Return whether an agent can continue from a checkpoint."""
        return hasattr(self.agents[agent], "resume")

    async def release_slot(self, run_key: str) -> None:
        """Release the slot of an AG-UI run; if the store fails, retry in a separate task."""
        try:
            await self.slots.leave(run_key)
        except StoreError as error:
            logger.error("the slot of run %s cannot be released now: %s; the harness tries again", run_key, error)  # noqa: TRY400
            self.spawn(self._release_later(run_key))

    async def _release_later(self, run_key: str) -> None:
        while True:
            await asyncio.sleep(SLOT_RETRY_SECONDS)
            with contextlib.suppress(StoreError):
                await self.slots.leave(run_key)
                return
