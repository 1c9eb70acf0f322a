"""A run driven by this process: from its agent's first event to its end in the store."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import time
from typing import TYPE_CHECKING, Any, ClassVar

from agentrunner._codec import encode
from agentrunner.errors import InvalidEvent, InvalidEventSequence, LeaseLost, RunRefused, StoreError
from agentrunner.running.boundaries import is_start_missing, record_finish, record_start
from agentrunner.running.commits import Commits
from agentrunner.running.current import set_current_run
from agentrunner.running.live_run import LiveRun
from agentrunner.running.tracing import span_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentrunner._core import Claim, Recorder
    from agentrunner.running.current import Run
    from agentrunner.running.stats import Outcome, Stats
    from agentrunner.stores import Store
    from agentrunner.types import Agent

logger = logging.getLogger("agentrunner")

AGENT_SLICE_SECONDS = 0.001
"""Seconds that an agent that never waits may run before other tasks get their turn."""
STOP_GRACE_SECONDS = 5.0
"""Seconds that a stopped agent gets to end before its run ends without it."""
MUST_WAIT = 2
"""Result of `Recorder.accept` when the agent must wait for a commit; 1: a commit is due, 0: none is."""


class Driver(LiveRun):
    """A run whose agent runs in this process, which records, commits and publishes its events."""

    is_driven: ClassVar[bool] = True

    def __init__(self, claim: Claim, recorder: Recorder, store: Store, stats: Stats) -> None:
        super().__init__(claim, recorder, store)
        self._stats = stats
        self._commits = Commits(self, store, stats, self.fail)
        self._agent: Agent | None = None
        self._agent_task: asyncio.Task[None] | None = None
        self._interruption: tuple[str, str | None] | None = None
        """Message and code of the `RUN_ERROR` that ends the run."""
        self._cut_short = asyncio.Event()
        """Event that is set when the agent must end early."""
        self._drops_events = False
        """Whether the events that the agent still yields are dropped."""
        self.is_stopping = False
        self.unfinished: StoreError | None = None
        """Error that kept the store from storing the run's end; the run still holds its thread."""

    @property
    def renewed_at(self) -> float:
        """Time of the last request that extended the lease, on the monotonic clock."""
        return self._commits.renewed_at

    @property
    def error(self) -> Exception | None:
        """Store error or lost lease that ended the run in this process; `None` if there was none."""
        return self._commits.error

    def note_renewal(self, requested_at: float) -> None:
        """Note that a request sent at this time, on the monotonic clock, extended the lease."""
        self._commits.renewed_at = max(self._commits.renewed_at, requested_at)

    async def drive(self, agent: Agent, run: Run) -> None:
        """Run the agent until it returns, fails or must end early, and then finish the run."""
        self._agent = agent
        context = contextvars.copy_context()
        context.run(set_current_run, run)
        if not self._is_cut_short:
            self._agent_task = asyncio.get_running_loop().create_task(
                self._consume(agent, run), context=context, name=f"agentrunner agent {self.claim.run_id}"
            )
            await self._wait_for_agent(self._agent_task)
        self._drops_events = True
        await self.finish()

    @property
    def _is_cut_short(self) -> bool:
        return bool(self.is_stopping or self._interruption or self._commits.error)

    async def _wait_for_agent(self, task: asyncio.Task[None]) -> None:
        cut_short = asyncio.ensure_future(self._cut_short.wait())
        try:
            await asyncio.wait([task, cut_short], return_when=asyncio.FIRST_COMPLETED)
        finally:
            cut_short.cancel()
        if not task.done():
            await asyncio.wait([task], timeout=STOP_GRACE_SECONDS)
        if not task.done():
            logger.warning(
                "thread %s: the agent of run %s is still running %s s after it was cancelled; its run ends without it",
                self.claim.thread_id, self.claim.run_id, STOP_GRACE_SECONDS,
            )  # fmt: skip
            return
        if task.cancelled():
            if not self._is_cut_short:
                self._interruption = ("The agent was cancelled", None)
        elif (error := task.exception()) is not None and not self.is_stopping:
            self._interruption = self._interruption or _describe_error(error)
            if not isinstance(error, (InvalidEvent, InvalidEventSequence, RunRefused)):
                logger.error(
                    "thread %s: the agent of run %s failed", self.claim.thread_id, self.claim.run_id, exc_info=error
                )

    async def _consume(self, agent: Agent, run: Run) -> None:
        with span_of(run):
            await self._record_events(agent, run)

    async def _record_events(self, agent: Agent, run: Run) -> None:
        """Record the agent's events, encoding each once, and commit when a commit is due."""
        accept = self.recorder.accept
        turn_began = time.perf_counter()
        count = 0
        events = await _start_agent(agent, run)
        # The first event has its own loop, so that only this event pays for the check of its type.
        async for first_event in events:
            await self._record_first_event(first_event)
            break
        async for event in events:
            if self._drops_events:
                return
            data = event if type(event) is bytes else encode(event)
            try:
                pressure = accept(data)
            except InvalidEventSequence:
                if not self.recorder.ended:
                    raise
                logger.warning(
                    "thread %s: run %s has ended; the events its agent still yields are dropped",
                    run.thread_id, run.run_id,
                )  # fmt: skip
                self._drops_events = True
                continue
            except InvalidEvent as error:
                _refuse_text(event, error)
                raise
            if pressure:
                self._commits.start()
                if pressure == MUST_WAIT:
                    await self._commits.wait()
            count += 1
            if not count & 63 and time.perf_counter() - turn_began > AGENT_SLICE_SECONDS:
                await asyncio.sleep(0)
                turn_began = time.perf_counter()
        if not (self.recorder.ended or self._drops_events or self._is_cut_short):
            record_finish(self.recorder, self.claim)

    async def _record_first_event(self, event: Any) -> None:
        if self._drops_events:
            return
        data = encode(event)
        if is_start_missing(data):
            record_start(self.recorder, self.claim)
        try:
            pressure = self.recorder.accept(data)
        except InvalidEvent as error:
            _refuse_text(event, error)
            raise
        self._commits.start()
        if pressure == MUST_WAIT:
            await self._commits.wait()

    async def finish(self) -> None:
        """End the run: end open events, commit the rest, free the thread, wake the readers."""
        recorder, claim = self.recorder, self.claim
        # A run whose agent failed before its first event is not stored; its readers get only the RUN_ERROR.
        is_stored = recorder.recorded > 0
        message, code = self._interruption or (None, None)
        if not recorder.ended:
            recorder.finalize(stop_requested=self.is_stopping, message=message, code=code)
        try:
            await self._commits.finish(is_stored)
        except (StoreError, LeaseLost) as error:
            self.set_last_word(error)
            self.unfinished = error if isinstance(error, StoreError) else None
            self._stats.lease_losses += isinstance(error, LeaseLost)
            logger.error("thread %s: run %s: %s", claim.thread_id, claim.run_id, error)  # noqa: TRY400
        finally:
            self.close()

    @property
    def outcome(self) -> Outcome:
        """Way in which the run has ended for its readers."""
        if self.last_word is not None or self.recorder.failed:
            return "failed"
        return "stopped" if self.is_stopping else "finished"

    async def stop(self) -> bool:
        """Stop the agent, and return whether this call has stopped it.

        It is false if the agent is stopping already, or if its `abort_run()` failed, so that it is still running.
        """
        if self.is_stopping or self.is_closed:
            return False
        self.is_stopping = True
        abort = getattr(self._agent, "abort_run", None)
        if abort is not None:
            try:
                result = abort()
                if inspect.isawaitable(result):
                    await result
            except Exception:
                logger.exception("thread %s: failed to abort run %s", self.claim.thread_id, self.claim.run_id)
                self.is_stopping = False
                return False
        self._cancel_agent()
        return True

    def interrupt(self, message: str, code: str) -> None:
        """End the run with a `RUN_ERROR`, even if its agent does not stop."""
        self._interruption = self._interruption or (message, code)
        self._cancel_agent()

    def fail(self, error: Exception) -> None:
        """End the run in this process after a store error or a lost lease; write nothing more."""
        self._commits.error = self._commits.error or error
        self._cancel_agent()

    def _cancel_agent(self) -> None:
        self._drops_events = True
        self._cut_short.set()
        if self._agent_task is not None:
            self._agent_task.cancel()


async def _start_agent(agent: Agent, run: Run) -> AsyncIterator[Any]:
    function: Any = getattr(agent, "run", agent)
    events = function(run.input)
    if inspect.isawaitable(events):
        events = await events
    if not hasattr(events, "__aiter__"):
        raise TypeError(f"an agent must return an async iterator of events, not {type(events).__name__}")
    return aiter(events)


def _refuse_text(event: object, error: InvalidEvent) -> None:
    """Raise an error that names `text_agent` if an invalid event is plain text."""
    if isinstance(event, str) and not event.lstrip().startswith("{"):
        raise InvalidEvent(
            f"an agent must yield events, not text; to yield text, decorate it with `text_agent` ({error})"
        ) from error


def _describe_error(error: BaseException) -> tuple[str, str | None]:
    """Return the message and code of the `RUN_ERROR` for an agent's error."""
    message = str(error) or type(error).__name__
    if isinstance(error, InvalidEventSequence):
        return message, "INVALID_EVENT_SEQUENCE"
    if isinstance(error, InvalidEvent):
        return message, "INVALID_EVENT"
    if isinstance(error, RunRefused):
        return message, error.code
    return message, None
