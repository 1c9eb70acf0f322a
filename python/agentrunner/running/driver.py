"""A run driven by this process: from its agent's first event to its end in the store."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from agentrunner._codec import decode
from agentrunner._failures import AGENT_FAILED, get_error_code, get_public_text, needs_traceback
from agentrunner.errors import AgentRunnerError, LeaseLost, RunRefused, StoreError
from agentrunner.running import agent_task
from agentrunner.running.agent_reader import AgentReader
from agentrunner.running.agent_task import AgentTask
from agentrunner.running.commits import Commits
from agentrunner.running.current import enter_run
from agentrunner.running.live_run import LiveRun
from agentrunner.running.offload import run_in_thread
from agentrunner.running.timeouts import RunTimeouts, Watch
from agentrunner.stores.types import ThreadGuard
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner._core import Claim, Frames, Recorder
    from agentrunner.running.current import LiveMark, Run
    from agentrunner.running.stats import Outcome, Stats
    from agentrunner.stores import Store
    from agentrunner.types import Agent, AnyScope

logger = logging.getLogger("agentrunner")

NO_TIMEOUTS = RunTimeouts()
LARGE_RUN_BYTES = 1 << 20
"""Size in bytes from which writing a run's state may block the event loop for too long."""


class Driver(LiveRun):
    """A run whose agent runs in this process, which records, commits and publishes its events."""

    is_driven: ClassVar[bool] = True

    def __init__(
        self,
        claim: Claim,
        recorder: Recorder,
        store: Store,
        stats: Stats,
        timeouts: RunTimeouts = NO_TIMEOUTS,
        *,
        has_new_messages: bool = False,
        shows_errors: bool = False,
    ) -> None:
        super().__init__(claim, recorder, store)
        self._has_new_messages = has_new_messages
        """Whether the run brought messages, which are kept even if its agent fails before its first event."""
        self.began_at = time.monotonic()
        """Time when the run had claimed its thread, on the monotonic clock."""
        self._stats = stats
        self._commits = Commits(self, store, stats, self.fail)
        self.agent: Agent | None = None
        """Agent whose `abort_run`, if it has one, a stop calls."""
        self._reader = AgentReader(
            claim, recorder, self.recorder_lock, store, self._commits, lambda: self._end_agent(is_patient=True),
            has_new_messages=has_new_messages,
        )  # fmt: skip
        self._agent_task: AgentTask | None = None
        self._mark: LiveMark | None = None
        self._ends_patiently: bool | None = None
        """Whether the agent gets time to end before it is cancelled; `None` until it must end."""
        self._agent_callbacks: list[Callable[[asyncio.Task[None]], object]] = []
        self._interruption: tuple[str, str | None] | None = None
        """Message and code of the `RUN_ERROR` that ends the run."""
        self._timeouts = timeouts
        self._watch = Watch(
            lambda: self._commits.last_batch_at,
            lambda: self._commits.is_busy,
            lambda message: self.interrupt(message, "TIMEOUT"),
        )
        self._shows_errors = shows_errors
        self._cause: BaseException | None = None
        """Exception that caused the run's `RUN_ERROR`."""
        self._is_given_up = False
        self.is_stopping = False
        self.scope: str | None = None
        """Scope of the thread, which does not change while the run is live."""
        self.unfinished: StoreError | None = None
        """Error that kept the store from storing the run's end; the run still holds its thread."""

    def is_known_in(self, scope: str | AnyScope | None) -> bool:
        """Return whether the run's thread is in a scope."""
        return scope in (ANY_SCOPE, self.scope)

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

    @property
    def is_ending(self) -> bool:
        """Whether the run is being stopped, was cut short, or its agent has yielded its end."""
        return self._is_cut_short or self.is_closed or self.recorder.ended

    @property
    def silent_seconds(self) -> float:  # noqa: D102 - documented by the base class
        return self._watch.silent_seconds

    def watch(self, timeouts: RunTimeouts = NO_TIMEOUTS) -> None:
        """Limit how long the run takes from now on, by these timeouts or else the runner's."""
        if self._ends_patiently is None:
            self._watch.start(timeouts.or_else(self._timeouts))

    def unwatch(self) -> None:
        """Stop the clock while the run waits for something other than its agent, such as a slot."""
        self._watch.stop()

    async def drive(self, agent: Agent, run: Run) -> None:
        """Run the agent until it returns, fails or must end early, and then finish the run."""
        self.agent = agent
        context = contextvars.copy_context()
        self._mark = mark = context.run(enter_run, run)
        try:
            await self._run_agent(agent, run, context)
            await self.finish()
        finally:
            mark.is_over = True

    async def _run_agent(self, agent: Agent, run: Run, context: contextvars.Context) -> None:
        if not self._is_cut_short:
            self.watch()
            task = AgentTask(self._reader.read(agent, run), context, f"agentrunner agent {self.claim.run_id}")
            self._agent_task = task
            for callback in self._agent_callbacks:
                task.add_end_callback(callback)
            # An eager task has already run up to its first wait, and the run may have been ended meanwhile.
            if self._ends_patiently is not None:
                task.end(is_patient=self._ends_patiently)
            await task.wait()
            self.unwatch()
            self._note_agent_end(task)
        self._reader.end_recording()

    def add_agent_callback(self, callback: Callable[[asyncio.Task[None]], object]) -> None:
        """Call a function with the agent's task when the run no longer waits for the agent."""
        self._agent_callbacks.append(callback)
        if self._agent_task is not None:
            self._agent_task.add_end_callback(callback)

    def is_agent_task(self, task: asyncio.Task[Any]) -> bool:
        """Return whether the run's agent runs in a task."""
        return self._agent_task is not None and self._agent_task.is_task(task)

    @property
    def _is_cut_short(self) -> bool:
        return bool(self.is_stopping or self._interruption or self._commits.error)

    def _note_agent_end(self, task: AgentTask) -> None:
        """Keep the reason why the agent ended, if the run ends with an error because of it."""
        error = self._reader.error
        self._is_given_up = task.is_given_up
        if isinstance(error, asyncio.CancelledError):
            if not self._is_cut_short:
                self._interruption = ("The agent was cancelled", None)
        elif error is not None and not self.is_stopping and self._interruption is None:
            self._interruption = (self.describe_error(error), get_error_code(error))

    def describe_error(self, error: BaseException) -> str:
        """Return the text about an error for the run's readers; the log gets the details."""
        self._cause = error
        return get_public_text(error, shows_errors=self._shows_errors)

    async def replay(self, frames: Frames) -> None:
        """Replay durable frames; drop the run's content once the store cannot take it."""
        await super().replay(frames)
        max_bytes = getattr(self._store, "max_run_bytes", None)
        if max_bytes is not None and self.recorder.compacted_bytes > max_bytes:
            self._commits.drop_content(f"more than {max_bytes} bytes")

    async def finish_without_content(self) -> None:
        """Finish a run that the store refused, this time reduced to its start and an error."""
        self._commits.drop_content(self.unfinished or "")
        self.last_word = self.unfinished = None
        await self.finish()

    async def finish(self) -> None:
        """End the run: end open events, commit the rest, free the thread, wake the readers."""
        recorder = self.recorder
        await self._start_if_missing()
        # A run that brought no message and whose agent failed before its first event leaves nothing to store.
        is_stored = recorder.recorded > 0
        message, code = self._interruption or (None, None)
        if not recorder.ended:
            await self._look_up_calls()
            end = partial(recorder.finalize, stop_requested=self.is_stopping, message=message, code=code)
            async with self.recorder_lock:
                if recorder.compacted_bytes > LARGE_RUN_BYTES:
                    await run_in_thread(end)
                else:
                    end()
        try:
            await self._commits.finish(is_stored)
        except (StoreError, LeaseLost) as error:
            self._cause = error
            self.set_last_word(error)
            self.unfinished = error if isinstance(error, StoreError) else None
            self._stats.lease_losses += isinstance(error, LeaseLost)
        finally:
            self.close()
            self._log_end()

    async def _start_if_missing(self) -> None:
        """Record the start of a run that brought messages and has no event, to keep them."""
        is_refused = isinstance(self._reader.error, RunRefused) or (self._mark is not None and self._mark.is_refused)
        # A refused run has done nothing, so its client may send it again, and a refused message must not be kept.
        if self.recorder.recorded > 0 or not self._has_new_messages or is_refused or self._commits.error is not None:
            return
        try:
            await self._reader.start_run()
        except StoreError as error:
            self.fail(error)
        except AgentRunnerError:
            # The input is over a limit, which may be the reason why there is no event.
            logger.exception("thread %s: run %s cannot be stored", self.claim.thread_id, self.claim.run_id)

    async def _look_up_calls(self) -> None:
        """Look up which calls of a snapshot of messages are this run's, so that they get a result."""
        async with self.recorder_lock:
            self.recorder.prepare_end()
            wanted = self.recorder.wanted
        if wanted:
            # Without the answer the run ends as well, and those calls stay without a result.
            with contextlib.suppress(StoreError, LeaseLost):
                known_ids = await self._store.known_ids(self.claim.thread_id, wanted, guard=ThreadGuard.of(self.claim))
                async with self.recorder_lock:
                    self.recorder.learn(set(known_ids))

    def _log_end(self) -> None:
        """Log one line if the run has failed, or if it has ended without its agent."""
        claim = self.claim
        agent_state = f"; its agent is still running {agent_task.STOP_GRACE_SECONDS:g} s after the request to end"
        if self.outcome == "failed":
            cause, last_event = self._cause, self._read_last_event()
            # The run may have failed for another reason than an earlier error.
            if cause is not None and not self._is_about(last_event["message"], cause):
                cause = None
            logger.warning(
                "thread %s: run %s of agent %s failed with code %s: %s%s",
                claim.thread_id, claim.run_id, claim.agent_id or "-", last_event["code"], last_event["message"],
                agent_state if self._is_given_up else "",
                exc_info=cause if cause is not None and needs_traceback(cause) else None,
            )  # fmt: skip
        elif self._is_given_up:
            logger.warning("thread %s: run %s has ended%s", claim.thread_id, claim.run_id, agent_state)

    def _is_about(self, message: str | None, error: BaseException) -> bool:
        return self.describe_error(error).removeprefix(AGENT_FAILED) in (message or "")

    def _read_last_event(self) -> dict[str, Any]:
        """Return the last event that the run's readers get, which is a `RUN_ERROR`."""
        frames = self.last_word
        if frames is None:
            frames, _ = self.recorder.read(self.recorder.last_seq - 1, 1)
        event = frames.events()[-1].to_dict() if frames is not None else decode(self.recorder.compacted())[-1]
        return {"message": event.get("message"), "code": event.get("code")}

    @property
    def outcome(self) -> Outcome:
        """How the run ended for its readers."""
        if self.last_word is not None or self.recorder.failed:
            return "failed"
        return "stopped" if self.is_stopping else "finished"

    async def stop(self) -> bool:
        """Stop the agent, and return whether this call stopped it.

        It returns false if the agent is already stopping, or is still running because its `abort_run()` failed.
        """
        if self.is_stopping or self.is_closed:
            return False
        self.is_stopping, self._reader.adds_finish = True, False
        abort = getattr(self.agent, "abort_run", None)
        is_patient = abort is not None
        if abort is not None:
            try:
                async with asyncio.timeout(agent_task.STOP_GRACE_SECONDS) as patience:
                    result = abort()
                    if inspect.isawaitable(result):
                        await result
            except Exception:
                logger.exception("thread %s: failed to abort run %s", self.claim.thread_id, self.claim.run_id)
                if not patience.expired():
                    self.is_stopping, self._reader.adds_finish = False, True
                    return False
                is_patient = False
        # Events that the agent yields while it ends are recorded.
        self._end_agent(is_patient=is_patient)
        return True

    def interrupt(self, message: str, code: str) -> None:
        """End the run with a `RUN_ERROR`, even if its agent does not stop."""
        self._interruption = self._interruption or (message, code)
        self._reader.adds_finish = False
        self._reader.drop_endings()
        self._end_agent()

    def fail(self, error: Exception) -> None:
        """End the run in this process after a store error or a lost lease; write nothing more."""
        self._commits.error = self._commits.error or error
        self._reader.end_recording()
        self._end_agent()

    def _end_agent(self, *, is_patient: bool = False) -> None:
        self._watch.stop()
        self._ends_patiently = is_patient
        if self._agent_task is not None:
            self._agent_task.end(is_patient=is_patient)
