"""Run an agent for one AG-UI run: admit it, watch its events, write its end."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ag_ui.core import ResumeEntry

from agentrunner._codec import decode
from agentrunner._failures import get_public_text
from agentrunner._generators import CancelledEvents, close_events
from agentrunner.errors import AgentError, LeaseLost, RecordConflict, RunAlreadyExists, StoreError
from agentrunner.harness.admission import Candidate, admit
from agentrunner.harness.approvals import entry_of, from_interrupts, tool_calls, with_own_calls
from agentrunner.harness.event_kinds import (
    FAILED,
    FINISHED,
    OUTPUT,
    REASONING,
    as_dict,
    classify,
    delta_of,
    interrupts_of,
    message_id_of,
    model_kinds,
    outcome_of,
    tool_error,
)
from agentrunner.harness.inputs import unanswered_calls, with_history
from agentrunner.harness.run_writer import RunWriter
from agentrunner.records import kinds
from agentrunner.records.approvals import accept_answers
from agentrunner.running.current import current_run, refuse_run, set_current_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import RunAgentInput

    from agentrunner._core import Claim
    from agentrunner.harness._state import HarnessState
    from agentrunner.harness.admission import Admission
    from agentrunner.records.approvals import Approval
    from agentrunner.records.harness_runs import Intent, RunRecord, RunState
    from agentrunner.running.current import Run
    from agentrunner.running.driver import Driver
    from agentrunner.stores import Store

logger = logging.getLogger("agentrunner.harness")


class SupervisedRun:
    """One attempt: an agent for the runner, which runs and watches the user's agent.

    `agent_name` is the agent's name in the harness. `intent` is the stored intent by which this harness starts the
    attempt; `None` if a caller or a client starts it. `is_recovery` is true if recovery starts it.
    """

    store: Store
    _run: Run
    _claim: Claim

    def __init__(
        self, state: HarnessState, agent_name: str, intent: Intent | None = None, *, is_recovery: bool = False
    ) -> None:
        agent: Any = state.agents[agent_name]
        clone = getattr(agent, "clone", None)
        self.agent: Any = agent if clone is None else clone()
        self.agent_id = agent_name
        self.intent = intent
        self.is_recovery = is_recovery
        self.loads_history = False
        """Whether the agent gets the thread's messages and state in addition to the input's."""
        self.collects_output = False
        """Whether the agent's text is kept for a result."""
        self.thread_id = self.run_id = ""
        self.writer: RunWriter | None = None
        """Writer of the harness run; `None` until the attempt is admitted."""
        self.admitted = asyncio.Event()
        """Event that is set when there is a writer, or when there will never be one."""
        self.refusal: Exception | None = None
        """Error that kept the attempt from being admitted."""
        self.has_begun = False
        """Whether the runner has started the agent's task."""
        self.done = asyncio.Event()
        """Event that is set when the attempt is over, its slot released and its end written."""
        self._state = state
        self._output: list[Any] = []
        self._tool_errors: list[str] = []
        self._writing: asyncio.Task[Any] | None = None
        self._driver: Driver | None = None
        self._is_queued = self._is_aborted = self._is_started = False
        self._busy = contextlib.ExitStack()

    @property
    def record(self) -> RunRecord | None:
        """Record of the harness run; `None` until the attempt is admitted."""
        return self.writer.record if self.writer is not None else None

    @property
    def _slot_key(self) -> str:
        """Name of the run among the holders of slots."""
        return kinds.thread_key(self.thread_id, self.run_id)

    @property
    def first_output_after(self) -> int | None:
        """Number of the event after which the agent's output begins; `None` before that."""
        attempts = self.record.attempt_runs if self.record is not None else []
        return attempts[-1].after if attempts and attempts[-1].run_id == self.run_id else None

    @property
    def abort_run(self) -> Any:
        """Method of the agent that the runner calls when the run is stopped, if the agent has one."""
        abort = self.agent.abort_run
        self._is_aborted = True
        return abort

    def text(self) -> str:
        """Return the agent's text; if there is none and tools failed, the tools' errors."""
        return "".join(map(delta_of, self._output)) or "\n".join(self._tool_errors)

    async def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        """Yield the agent's events once the attempt is admitted.

        Raises `RunRefused` or one of its subclasses before the first event.
        """
        await self._state.open()
        self._begin(current_run())
        event_kinds, bus = model_kinds(), self._state.bus
        events: AsyncIterator[Any] | None = None
        try:
            writer, agent_input = await self._admit(input)
            if self._driver is not None:
                self._driver.watch(self._state.timeouts)
            self._is_started = True
            events = source = await self._call_agent(agent_input)
            is_paused = False
            while True:
                try:
                    async for event in source:
                        kind = event_kinds.get(type(event), -1)
                        if kind < 0:
                            kind = classify(event)
                        if kind == FINISHED:
                            await self._request_approvals(writer, event, agent_input)
                        is_paused = True
                        yield event
                        is_paused = False
                        # After the yield, when the runner has accepted the event, so that all readers count the same.
                        if kind and kind <= REASONING:
                            writer.deltas += 1
                            if bus or self.collects_output:
                                self._take_delta(writer, kind, event)
                        elif kind:
                            self._take_event(writer, kind, event)
                    break
                except asyncio.CancelledError as error:
                    if not is_paused:
                        raise
                    is_paused = False
                    source = CancelledEvents(events, error)
            # The runner ends the run of an agent that returns without a terminal event in the same way.
            is_stopping = self._driver is not None and self._driver.is_stopping
            await writer.end("cancelled" if is_stopping else "completed")
        except asyncio.CancelledError:
            await asyncio.shield(self._state.spawn(self._write_cut_short(None)))
            raise
        except Exception as error:
            if not self._is_started:
                self.refusal = error
                refuse_run(input.run_id)
            if self.writer is not None:
                await self.writer.end("failed", self._describe(error))
            raise
        finally:
            if events is not None:
                await close_events(events)

    def _begin(self, run: Run) -> None:
        if run.store is None or run.claim is None:
            raise RuntimeError(
                f"run '{run.run_id}' of thread '{run.thread_id}' has no store or claim: "
                "start the harness's agents with an AgentRunner"
            )
        # A server may call the agent by another name, but `decide` continues its runs by this one.
        self._run, self.store, self._claim = replace(run, agent_id=self.agent_id), run.store, run.claim
        set_current_run(self._run)
        self.thread_id, self.run_id = run.thread_id, run.run_id
        self._driver = self._state.runner.driver(run.thread_id)
        self.has_begun = True
        self._state.live_attempts.add(self)
        if self._driver is not None:
            # The runner may have been called with a `HarnessAgent`, whose runs each have their own `abort_run`.
            self._driver.agent = self
            self._driver.unwatch()
            # The agent or this generator may never finish, but the runner stops waiting for them and ends the run.
            self._driver.add_agent_callback(lambda task: self._state.spawn(self._finish(task)))

    # Admission

    async def _admit(self, input: RunAgentInput) -> tuple[RunWriter, RunAgentInput]:
        """Begin the attempt when it is admitted and has a slot; return its writer and input."""
        slots = self._state.slots
        candidate = Candidate(self._run, self.store, input, self.agent_id, self.agent, self.intent)
        has_slot = False
        while True:
            admission = await admit(self._state, candidate)
            if not self._is_queued:
                self._is_queued = True
                has_slot = await slots.enter(self._slot_key)
            # Recovery leaves the harness run alone while it is marked, from here to the end of the attempt.
            self._busy.enter_context(self._state.mark_busy(admission.record.key))
            if has_slot:
                self._start(admission)
            elif not admission.has_changes:
                self.writer = writer = RunWriter(self._state, self.store, self._claim, admission)
                break
            try:
                writer = await self._write(admission)
                break
            except RecordConflict as conflict:
                # Another process has changed the thread's harness runs since they were read: admit again.
                address = (kinds.HARNESS_RUN.name, admission.record.key)
                if admission.is_new and (conflict.kind, conflict.key) == address:
                    raise RunAlreadyExists(
                        f"run '{self.run_id}' already exists; a run id can be used only once in a thread, so "
                        "retry with a new one"
                    ) from None
        self.admitted.set()
        if not has_slot:
            await slots.wait_for_turn(self._slot_key)
            admission.changes, admission.abandoned = [], []
            self._start(admission)
            await self._write(admission)
        if admission.refusal is not None:
            raise admission.refusal
        return writer, await self._agent_input(input, admission.approvals)

    def _start(self, admission: Admission) -> None:
        admission.start_attempt(
            self._state.liveness.owner_id, self.run_id, self._claim.first_seq, is_recovery=self.is_recovery
        )

    async def _write(self, admission: Admission) -> RunWriter:
        """Write the admission, in a task that a cancelled run can wait for."""
        writer = self.writer or RunWriter(self._state, self.store, self._claim, admission)

        async def write() -> None:
            await writer.begin(admission)
            self.writer = writer

        self._writing = writing = self._state.spawn(write(), quiet=True)
        await asyncio.shield(writing)
        return writer

    async def _agent_input(self, input: RunAgentInput, approvals: list[Approval]) -> RunAgentInput:
        """Return the agent's input: with the history if needed, and with all answers."""
        changes: dict[str, Any] = {}
        if self.loads_history:
            changes = await with_history(self._state.runner, input, self._run.changed)
            if self.intent is not None and self._driver is not None:
                self._driver.recorder.resume(unanswered_calls(changes["messages"]))
        if approvals:
            changes["resume"] = [ResumeEntry.model_validate(entry_of(approval)) for approval in approvals]
            accept_answers(self.thread_id, self.run_id)
        if not changes:
            return input
        agent_input = input.model_copy(update=changes)
        set_current_run(replace(self._run, input=agent_input))
        return agent_input

    async def _call_agent(self, input: RunAgentInput) -> AsyncIterator[Any]:
        resume = getattr(self.agent, "resume", None)
        function: Any = resume if self.is_recovery and resume else getattr(self.agent, "run", self.agent)
        events = function(input)
        if inspect.isawaitable(events):
            events = await events
        if not hasattr(events, "__aiter__"):
            raise AgentError(
                f"the agent '{self.agent_id}' must return an async iterator of events, not {type(events).__name__}"
            )
        iterator: AsyncIterator[Any] = events
        return iterator

    # Events

    def _take_delta(self, writer: RunWriter, kind: int, event: Any) -> None:
        if self.collects_output and kind == OUTPUT:
            self._output.append(event)
        if self._state.bus:
            event_type = "output.delta" if kind == OUTPUT else "reasoning.delta"
            writer.publish_delta(event_type, delta_of(event), message_id_of(event))  # type: ignore[arg-type]

    async def _request_approvals(self, writer: RunWriter, event: Any, input: RunAgentInput) -> None:
        """Write the approvals of a RUN_FINISHED before a client can see and answer it."""
        if writer.has_ended or not (interrupts := interrupts_of(event)):
            return
        events = []
        if self._driver is not None:
            events = decode(self._driver.recorder.compacted())
            interrupts = with_own_calls(interrupts, self._driver.recorder)
        await writer.wait_for(from_interrupts(writer.record, self.run_id, interrupts, tool_calls(events, input)))

    def _take_event(self, writer: RunWriter, kind: int, event: Any) -> None:
        """Start to write the harness run's end, or collect a tool's error."""
        if writer.has_ended:
            return
        if kind == FINISHED:
            state: RunState = "cancelled" if outcome_of(event).get("type") == "cancelled" else "completed"
            # The task is not awaited, so that the store commits this end together with the AG-UI run's own.
            self._writing = self._state.spawn(writer.start_end(state, None))
        elif kind == FAILED:
            error = str(as_dict(event).get("message") or "The agent failed")
            self._writing = self._state.spawn(writer.start_end("failed", error))
        elif self.collects_output and (tool_failure := tool_error(as_dict(event))) is not None:
            self._tool_errors.append(tool_failure)

    # The end

    def interrupt(self) -> None:
        """End the attempt because the harness is closed."""
        if self._driver is not None:
            self._driver.interrupt("The harness was closed before the run had ended", "INTERRUPTED")

    async def give_up(self) -> None:
        """Count the attempt as ended, although its agent is still running."""
        await self._write_cut_short(None)
        await self._release()

    async def _finish(self, task: asyncio.Task[Any]) -> None:
        """Write the attempt's end, even if its task failed or is given up; release its slot."""
        try:
            error = task.exception() if task.done() and not task.cancelled() else None
            await self._write_cut_short(error)
            if error is not None and self.writer is not None:
                # If the runner refused the event that asks for approvals, they were never shown.
                await self.writer.revoke_waiting(self._describe(error))
        finally:
            await self._release()

    async def _write_cut_short(self, error: BaseException | None) -> None:
        """Write the end of an attempt that its agent has not ended, unless it is written."""
        if self._writing is not None and not self._writing.done():
            await asyncio.wait([self._writing])
        driver, writer = self._driver, self.writer
        failure = driver.error if driver is not None else None
        if driver is not None and driver.is_stopping:
            await self._abort_agent()
            if writer is not None:
                await writer.end("cancelled")
        elif writer is None or writer.has_ended:
            pass
        elif error is None and self._state.is_closing and self._can_continue(writer, may_repeat=True):
            await writer.pause()
        elif error is None and self._state.is_closing:
            await writer.end("failed", "The run was interrupted: its process was told to end")
        elif isinstance(failure, (LeaseLost, StoreError)) and self._can_continue(writer, may_repeat=False):
            writer.leave_to_recovery()
        else:
            cause = error or failure
            await writer.end("failed", self._describe(cause) if cause is not None else "The agent was cancelled")

    def _describe(self, error: BaseException) -> str:
        """Return the text about an error that is stored, the same as the run's readers get."""
        return self._driver.describe_error(error) if self._driver is not None else get_public_text(error)

    def _can_continue(self, writer: RunWriter, *, may_repeat: bool) -> bool:
        """Return whether recovery can continue the run, also by repeating a tool if it may."""
        has_checkpoints = hasattr(self.agent, "resume")
        is_resumable = writer.intent is not None or (writer.record.state == "running" and has_checkpoints)
        is_safe = may_repeat or has_checkpoints or not self._is_started
        return is_resumable and is_safe and self._state.recovery.enabled

    async def _abort_agent(self) -> None:
        """Tell the agent that it is stopped, unless the runner has told it."""
        abort = getattr(self.agent, "abort_run", None)
        if abort is None or self._is_aborted:
            return
        self._is_aborted = True
        try:
            result = abort()
            if inspect.isawaitable(result):
                await result
        except Exception:
            logger.exception("run %s: its agent failed to abort", self.run_id)

    async def _release(self) -> None:
        """Release the slot, once, and wake everything that waits for the attempt's end."""
        if self._is_queued:
            self._is_queued = False
            await asyncio.shield(self._state.spawn(self._state.release_slot(self._slot_key)))
        self._busy.close()
        self._state.live_attempts.discard(self)
        self.admitted.set()
        self.done.set()
