"""One AG-UI run under the harness: let in, given a slot, watched while it goes by, its end written."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ag_ui.core import ResumeEntry

from agentrunner._codec import decode
from agentrunner.errors import LeaseLost, RecordConflict, RunAlreadyExists, StoreError
from agentrunner.harness.admission import Admission, admit
from agentrunner.harness.approvals import entry_of, from_interrupts, tool_calls
from agentrunner.harness.event_kinds import (
    FAILED,
    FINISHED,
    OUTPUT,
    REASONING,
    as_dict,
    classify,
    delta_of,
    interrupts_of,
    message_of,
    models,
    tool_error,
)
from agentrunner.harness.inputs import with_history
from agentrunner.harness.run_writer import RunWriter
from agentrunner.records.approvals import accept_answers
from agentrunner.running.current import current_run, set_current_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import RunAgentInput

    from agentrunner._core import Claim
    from agentrunner.harness.harness import Harness
    from agentrunner.records.approvals import Approval
    from agentrunner.records.harness_runs import Intent, RunRecord, RunState
    from agentrunner.running.current import Run
    from agentrunner.running.driver import Driver
    from agentrunner.stores import Store
    from agentrunner.types import Agent

logger = logging.getLogger("agentrunner.harness")


class SupervisedRun:
    """An agent for one AG-UI run: the user's, obeying the harness.

    `ticket`: the intent this is a try of, as it was when it was taken; with `recovering` by the recovery.
    """

    def __init__(
        self, harness: Harness, name: str, agent: Agent, ticket: Intent | None = None, *, recovering: bool = False
    ) -> None:
        clone = getattr(agent, "clone", None)
        self.agent: Any = agent if clone is None else clone()
        self.agent_id = name
        self.ticket = ticket
        self.recovering = recovering
        self.loads_history = False
        """Whether the input has only what is new, and the agent is to get the thread's messages and state with it."""
        self.collects = False
        """Whether what the agent says is kept for a result."""
        self.thread_id = self.run_id = ""
        self.life: RunWriter | None = None
        """What is written of its harness run, once it is let in."""
        self.admitted = asyncio.Event()
        """Set when that is there, or never will be."""
        self.refused: Exception | None = None
        """Why it was not let in."""
        self.began = False
        self.done = asyncio.Event()
        """Set when it is all over here, the slot given back and the end written."""
        self._harness = harness
        self._said: list[Any] = []
        self._tool_errors: list[str] = []
        self._writing: asyncio.Task[Any] | None = None
        self._driver: Driver | None = None
        self._in_line = False
        self._aborted = self._let = False
        self._busy = contextlib.ExitStack()

    store: Store
    _run: Run
    _claim: Claim

    @property
    def record(self) -> RunRecord | None:
        """The harness run's."""
        return self.life.record if self.life is not None else None

    @property
    def abort_run(self) -> Any:
        """What the runner is to call when the run is stopped, if the agent has such a thing."""
        abort = self.agent.abort_run
        self._aborted = True
        return abort

    async def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        """Yield the agent's events. Raises `RunRefused` and its kin before the first."""
        await self._harness.opened()
        self._begin(current_run())
        about_models, bus = models(), self._harness.bus
        try:
            life, given = await self._let_in(input)
            self._let = True
            async for event in await self._open(given):
                about = about_models.get(type(event), -1)
                if about < 0:
                    about = classify(event)
                if not about:
                    yield event
                elif about <= REASONING:
                    yield event
                    # Only now it is in order, and counted by everybody in the same place.
                    life.deltas += 1
                    if bus or self.collects:
                        self._tap(life, about, event)
                else:
                    if about == FINISHED:
                        await self._wait_first(life, event, given)
                    yield event
                    self._note(life, about, event)
            await life.end("failed", "The agent's stream ended before its run")
        except asyncio.CancelledError:
            await asyncio.shield(self._harness.spawn(self._cut_short(None)))
            raise
        except Exception as error:
            if not self._let:
                self.refused = error
            if self.life is not None:
                await self.life.end("failed", str(error) or type(error).__name__)
            raise

    def _begin(self, run: Run) -> None:
        if run.store is None or run.claim is None:
            raise RuntimeError("the run's runner does not say where it is kept")
        self._run, self.store, self._claim = run, run.store, run.claim
        self.thread_id, self.run_id = run.thread_id, run.run_id
        self._driver = self._harness.runner.driver(run.thread_id)
        self.began = True
        self._harness.live.add(self)
        if (task := asyncio.current_task()) is not None:
            # Whatever becomes of the agent and of this generator, the task's end is the run's.
            task.add_done_callback(lambda task: self._harness.spawn(self._settle(task)))

    async def _open(self, input: RunAgentInput) -> AsyncIterator[Any]:
        resume = getattr(self.agent, "resume", None)
        goes_on = self.recovering and resume is not None
        function: Any = resume if goes_on else getattr(self.agent, "run", self.agent)
        events = function(input)
        if inspect.isawaitable(events):
            events = await events
        if not hasattr(events, "__aiter__"):
            raise TypeError(f"an agent must give an async iterator of events, not {type(events).__name__}")
        iterator: AsyncIterator[Any] = events
        return iterator

    async def _wait_first(self, life: RunWriter, event: Any, given: RunAgentInput) -> None:
        """Where the event asks for approvals, write that down before it is shown: it may be answered at once."""
        if life.ended or not (interrupts := interrupts_of(event)):
            return
        events = decode(self._driver.recorder.compacted()) if self._driver is not None else []
        await life.wait_for(from_interrupts(life.record, self.run_id, interrupts, tool_calls(events, given)))

    def _note(self, life: RunWriter, about: int, event: Any) -> None:
        """Have it written down how the run ends, or keep what a tool said."""
        if life.ended:
            return
        if about == FINISHED:
            outcome = as_dict(event).get("outcome") or {}
            state: RunState = "cancelled" if outcome.get("type") == "cancelled" else "completed"
            # Nobody waits for this: it goes to the disk with the run's own end.
            self._writing = self._harness.spawn(life.ending(state, None))
        elif about == FAILED:
            error = str(as_dict(event).get("message") or "The agent failed")
            self._writing = self._harness.spawn(life.ending("failed", error))
        elif self.collects and (said := tool_error(as_dict(event))) is not None:
            self._tool_errors.append(said)

    def _tap(self, life: RunWriter, about: int, event: Any) -> None:
        if self.collects and about == OUTPUT:
            self._said.append(event)
        if self._harness.bus:
            kind = "output.delta" if about == OUTPUT else "reasoning.delta"
            life.tell_delta(kind, delta_of(event), message_of(event))  # type: ignore[arg-type]

    def text(self) -> str:
        """Give what the agent said; if it said nothing and tools failed, what those said."""
        return "".join(map(delta_of, self._said)) or "\n".join(self._tool_errors)

    @property
    def first_said(self) -> int | None:
        """Behind which of the run's events the agent begins to speak; `None` before it does."""
        segments = self.record.attempt_runs if self.record is not None else []
        return segments[-1].after if segments and segments[-1].run_id == self.run_id else None

    # The beginning

    async def _let_in(self, input: RunAgentInput) -> tuple[RunWriter, RunAgentInput]:
        """Write down that the run begins, once it may and it is its turn; give the input the agent gets."""
        slots = self._harness.slots
        turn = False
        while True:
            admission = await admit(self._harness, self, self._run, input)
            if not self._in_line:
                self._in_line = True
                turn = await slots.enter(self.run_id)
            # Until this is over it is seen to here, whoever else looks.
            self._busy.enter_context(self._harness.busy_with(admission.record.run_id))
            if turn:
                self._start(admission)
            elif not admission.news:
                self.life = life = RunWriter(self._harness, self.store, self._claim, admission)
                break
            try:
                life = await self._write(admission)
                break
            except RecordConflict as conflict:
                if (conflict.kind, conflict.key) == ("run", self.run_id) and admission.new:
                    raise RunAlreadyExists(
                        f"run '{self.run_id}' exists already; a run id is used once, start the retry under a new one"
                    ) from None
        self.admitted.set()
        if not turn:
            await slots.turn(self.run_id)
            admission.changes, admission.settled = [], []
            self._start(admission)
            await self._write(admission)
        if admission.gives_up is not None:
            raise admission.gives_up
        return life, await self._given(input, admission.approvals)

    def _start(self, admission: Admission) -> None:
        """Note that a try begins."""
        admission.start(self._harness.owners.me, self.run_id, self._claim.first_seq, recovering=self.recovering)

    async def _write(self, admission: Admission) -> RunWriter:
        """Write, whatever becomes of the run meanwhile."""

        async def write() -> RunWriter:
            try:
                await admission.write(self.store, self._claim)
            except StoreError:
                # It may be written all the same.
                self._harness.stranded = True
                raise
            if self.life is None:
                self.life = RunWriter(self._harness, self.store, self._claim, admission)
            self.life.intent = admission.intent
            self.life.ended = admission.gives_up is not None
            for record in admission.settled:
                self._harness.tell(record.events[-1:])
            self.life.tell()
            return self.life

        self._writing = writing = self._harness.spawn(write(), quiet=True)
        life: RunWriter = await asyncio.shield(writing)
        return life

    async def _given(self, input: RunAgentInput, approvals: list[Approval]) -> RunAgentInput:
        """Give the input the agent gets: with what was said before, where the caller did not, and all the answers."""
        news: dict[str, Any] = {}
        if self.loads_history:
            news = await with_history(self._harness.runner, input)
        if approvals:
            news["resume"] = [ResumeEntry.model_validate(entry_of(approval)) for approval in approvals]
        if not news:
            return input
        given = input.model_copy(update=news)
        if approvals:
            accept_answers(self.run_id)
        set_current_run(replace(self._run, input=given))
        return given

    # The end

    def interrupt(self) -> None:
        """End it because the harness is closed."""
        if self._driver is not None:
            self._driver.interrupt("The harness was closed before the run had ended", "INTERRUPTED")

    async def over(self) -> None:
        """Take it for ended, though its agent will not end."""
        await self._cut_short(None)
        await self._finished()

    async def _cut_short(self, error: BaseException | None) -> None:
        """Write down that the run was ended by somebody else than its agent, unless its end is written."""
        if self._writing is not None and not self._writing.done():
            await asyncio.wait([self._writing])
        driver, life = self._driver, self.life
        failed = driver._failed if driver is not None else None
        if driver is not None and driver.stopping:
            await self._abort()
            if life is not None:
                await life.end("cancelled")
        elif life is None or life.ended:
            pass
        elif error is None and self._harness.closing and self._can_go_on(life):
            await life.pause()
        elif error is None and self._harness.closing:
            await life.end("failed", "The run was interrupted: its process was told to end")
        elif isinstance(failed, (LeaseLost, StoreError)) and self._can_go_on(life):
            life.strand()
        else:
            why = error or failed
            await life.end("failed", (str(why) or type(why).__name__) if why is not None else "The agent was cancelled")

    def _can_go_on(self, life: RunWriter) -> bool:
        """Say whether the recovery can go on with the run."""
        resumable = life.intent is not None or (life.record.state == "running" and hasattr(self.agent, "resume"))
        return resumable and self._harness.recovery.enabled

    async def _abort(self) -> None:
        """Tell the agent that it is stopped, where the runner could not."""
        abort = getattr(self.agent, "abort_run", None)
        if abort is None or self._aborted:
            return
        self._aborted = True
        try:
            told = abort()
            if inspect.isawaitable(told):
                await told
        except Exception:
            logger.exception("run %s: failed to abort", self.run_id)

    async def _settle(self, task: asyncio.Task[Any]) -> None:
        """See to it that everything is in order once the agent's task has ended, whichever way it has."""
        try:
            error = None if task.cancelled() else task.exception()
            await self._cut_short(error)
            if error is not None and self.life is not None:
                # The end it was to wait behind was refused.
                await self.life.refuse_waiting(str(error) or type(error).__name__)
        finally:
            await self._finished()

    async def _finished(self) -> None:
        await self._leave()
        self._busy.close()
        self._harness.live.discard(self)
        self.admitted.set()
        self.done.set()

    async def _leave(self) -> None:
        """Give the slot back, once."""
        if self._in_line:
            self._in_line = False
            await asyncio.shield(self._harness.spawn(self._harness.leave(self.run_id)))
