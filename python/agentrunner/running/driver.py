"""A run driven by this process: from its agent's first event to its end in the store."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import time
from typing import TYPE_CHECKING, Any

from agentrunner._codec import encode
from agentrunner.errors import InvalidEvent, InvalidEventSequence, LeaseLost, RunRefused, StoreError
from agentrunner.running.current import set_current_run
from agentrunner.running.live_run import LiveRun, last_word
from agentrunner.running.tracing import span_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentrunner._core import Batch, Claim, Recorder
    from agentrunner.running.current import Run
    from agentrunner.running.stats import How, Stats
    from agentrunner.stores import Store
    from agentrunner.types import Agent

logger = logging.getLogger("agentrunner")

SLICE_SECONDS = 0.001
"""Seconds an agent that never waits may run before other tasks get their turn."""
STOP_GRACE_SECONDS = 5.0
"""Seconds a stopped agent has to end before its run ends without it."""


class Driver(LiveRun):
    """A run driven here: its agent consumed, its events recorded, made durable, published, finished."""

    def __init__(self, claim: Claim, recorder: Recorder, store: Store, stats: Stats) -> None:
        super().__init__(claim, recorder, store)
        self._stats = stats
        self._agent: Agent | None = None
        self._agent_task: asyncio.Task[None] | None = None
        self._committing: asyncio.Task[None] | None = None
        self._failed: Exception | None = None
        self._ended_by: tuple[str, str | None] | None = None
        """Message and code of an end the agent did not choose."""
        self._cut_short = asyncio.Event()
        """Set when the agent is to end before it has chosen to."""
        self._deaf = False
        """Whether what the agent still yields is dropped."""
        self.stopping = False
        self.unfinished: StoreError | None = None
        """Why the store could not be told of the run's end: the thread is still held."""
        self.renewed_at = time.monotonic()

    @property
    def error(self) -> Exception | None:
        """Store error or lost lease that ended the run; `None` if there was none."""
        return self._failed

    async def drive(self, agent: Agent, run: Run) -> None:
        """Run the agent to its end, whatever that is, and finish the run."""
        self._agent = agent
        context = contextvars.copy_context()
        context.run(set_current_run, run)
        if not (self.stopping or self._ended_by or self._failed):
            self._agent_task = asyncio.get_running_loop().create_task(
                self._consume(agent, run), context=context, name=f"agentrunner agent {self.claim.run_id}"
            )
            await self._agent_ended(self._agent_task)
        self._deaf = True
        await self.finish()

    async def _agent_ended(self, task: asyncio.Task[None]) -> None:
        cut_short = asyncio.ensure_future(self._cut_short.wait())
        try:
            await asyncio.wait([task, cut_short], return_when=asyncio.FIRST_COMPLETED)
        finally:
            cut_short.cancel()
        if not task.done():
            await asyncio.wait([task], timeout=STOP_GRACE_SECONDS)
        if not task.done():
            logger.warning(
                "thread %s: the agent of run %s goes on %s s after it was cancelled; its run ends without it",
                self.claim.thread_id, self.claim.run_id, STOP_GRACE_SECONDS,
            )  # fmt: skip
            return
        if task.cancelled():
            if not (self.stopping or self._ended_by or self._failed):
                self._ended_by = ("The agent was cancelled", None)
        elif (error := task.exception()) is not None and not self.stopping:
            self._ended_by = self._ended_by or _explain(error)
            if not isinstance(error, (InvalidEvent, InvalidEventSequence, RunRefused)):
                logger.error(
                    "thread %s: the agent of run %s failed", self.claim.thread_id, self.claim.run_id, exc_info=error
                )

    async def _consume(self, agent: Agent, run: Run) -> None:
        with span_of(run):
            await self._pump(agent, run)

    async def _pump(self, agent: Agent, run: Run) -> None:
        """Consume the agent. The way of an event: JSON bytes once, `accept`, a commit when one is due."""
        accept = self.recorder.accept
        turn = time.perf_counter()
        count = 0
        async for event in await _events(agent, run):
            if self._deaf:
                return
            data = event if type(event) is bytes else encode(event)
            try:
                pressure = accept(data)
            except InvalidEventSequence:
                if not self.recorder.ended:
                    raise
                logger.warning(
                    "thread %s: run %s has ended; what its agent still yields is dropped",
                    run.thread_id, run.run_id,
                )  # fmt: skip
                self._deaf = True
                continue
            if pressure:
                self._commit()
                if pressure == 2:
                    await self.committed()
            count += 1
            if not count & 63 and time.perf_counter() - turn > SLICE_SECONDS:
                await asyncio.sleep(0)
                turn = time.perf_counter()

    def _commit(self) -> None:
        if self._committing is None and self._failed is None:
            task = asyncio.get_running_loop().create_task(self._commit_all())
            # An eager task over a store that never waits has ended already.
            self._committing = None if task.done() else task

    async def _commit_all(self) -> None:
        try:
            while taken := self.recorder.take():
                # The lease counts from when it was asked for, not from when the answer came.
                began = time.monotonic()
                await self._append(*taken)
                self.renewed_at = began
                self.recorder.publish()
                self.wake()
        except (StoreError, LeaseLost) as error:
            self.fail(error)
        finally:
            self._committing = None

    async def _append(self, batch: Batch, barrier: bool) -> None:
        began = time.perf_counter()
        await self._store.append(self.claim, batch, barrier)
        self._stats.committed(batch.last_seq - batch.first_seq + 1, time.perf_counter() - began)

    async def committed(self) -> None:
        """Wait until nothing waits to be committed."""
        while self._committing is not None and self._failed is None:
            await asyncio.wait([self._committing])

    async def finish(self) -> None:
        """End the run: what is open is closed, the rest made durable, the thread freed, the readers told."""
        recorder = self.recorder
        # A run that never said anything of its own leaves nothing behind but its readers' RUN_ERROR.
        stored = recorder.recorded > 0
        message, code = self._ended_by or (None, None)
        if not recorder.ended:
            recorder.finalize(stop_requested=self.stopping, message=message, code=code)
        try:
            await self.committed()
            if self._failed is not None:
                raise self._failed
            if taken := recorder.take():
                batch, _ = taken
                # What follows is on the disk with it, so it need not wait for the disk by itself.
                await self._append(batch, False)
            await self._store.finish(self.claim, recorder, stored)
            recorder.publish()
        except (StoreError, LeaseLost) as error:
            self.failure = last_word(recorder, str(error), _code(error))
            self.unfinished = error if isinstance(error, StoreError) else None
            self._stats.lease_losses += isinstance(error, LeaseLost)
            logger.error("thread %s: run %s: %s", self.claim.thread_id, self.claim.run_id, error)  # noqa: TRY400
        finally:
            self.close()

    @property
    def how(self) -> How:
        """How the run has ended for its readers."""
        if self.failure is not None or self.recorder.failed:
            return "failed"
        return "stopped" if self.stopping else "finished"

    async def stop(self) -> bool:
        """Stop the agent; false if it is stopping already or its `abort_run()` failed: then it goes on."""
        if self.stopping or self.closed:
            return False
        self.stopping = True
        abort = getattr(self._agent, "abort_run", None)
        if abort is not None:
            try:
                result = abort()
                if inspect.isawaitable(result):
                    await result
            except Exception:
                logger.exception("thread %s: failed to abort run %s", self.claim.thread_id, self.claim.run_id)
                self.stopping = False
                return False
        self._cancel_agent()
        return True

    def interrupt(self, message: str, code: str) -> None:
        """End the run with a `RUN_ERROR`, whatever its agent does."""
        self._ended_by = self._ended_by or (message, code)
        self._cancel_agent()

    def fail(self, error: Exception) -> None:
        """End the run here without writing any more: its place in the store is lost."""
        self._failed = self._failed or error
        self._cancel_agent()

    def _cancel_agent(self) -> None:
        self._deaf = True
        self._cut_short.set()
        if self._agent_task is not None:
            self._agent_task.cancel()


async def _events(agent: Agent, run: Run) -> AsyncIterator[Any]:
    function: Any = getattr(agent, "run", agent)
    events = function(run.input)
    if inspect.isawaitable(events):
        events = await events
    if not hasattr(events, "__aiter__"):
        raise TypeError(f"an agent must give an async iterator of events, not {type(events).__name__}")
    iterator: AsyncIterator[Any] = events
    return iterator


def _explain(error: BaseException) -> tuple[str, str | None]:
    text = str(error) or type(error).__name__
    if isinstance(error, InvalidEventSequence):
        return text, "INVALID_EVENT_SEQUENCE"
    if isinstance(error, InvalidEvent):
        return text, "INVALID_EVENT"
    if isinstance(error, RunRefused):
        return text, error.code
    return text, None


def _code(error: Exception) -> str:
    return "LEASE_LOST" if isinstance(error, LeaseLost) else "STORE_ERROR"
