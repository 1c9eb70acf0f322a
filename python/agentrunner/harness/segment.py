"""One AG-UI run under the harness: let in, given a slot, watched while it goes by, its end written."""

from __future__ import annotations

import asyncio
import inspect
import logging
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ag_ui.core import ResumeEntry

from agentrunner._codec import decode
from agentrunner.errors import LeaseLost, RecordConflict, RunAlreadyExists, RunRefused, StoreError
from agentrunner.harness.admission import Admission, look
from agentrunner.harness.approvals import asked, entry_of, tool_calls
from agentrunner.harness.records import approval_changes, no_intent
from agentrunner.harness.types import HarnessEvent
from agentrunner.harness.watch import About, Watch, as_dict, delta_of, message_of, tool_error
from agentrunner.live import Driver, _current, current_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from ag_ui.core import RunAgentInput

    from agentrunner.harness.harness import Harness
    from agentrunner.harness.records import Intent, RunRecord
    from agentrunner.harness.types import Approval, RunState
    from agentrunner.stores import Change
    from agentrunner.types import Agent, Run

logger = logging.getLogger("agentrunner.harness")


class Segment:
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
        self.said: list[Any] = []
        """The events with it."""
        self.tool_errors: list[str] = []
        self.record: RunRecord | None = None
        """The harness run's, once it is let in."""
        self.refused: RunRefused | RunAlreadyExists | None = None
        self.events: list[HarnessEvent] = []
        """Those of its life, as they are told."""
        self.told = asyncio.Event()
        """Set with each of them."""
        self.done = asyncio.Event()
        """Set when it is all over here, the slot given back and the end written."""
        self.began = False
        self.thread_id = self.run_id = ""
        self._harness = harness
        self._intent: Intent | None = None
        self._deltas = 0
        """How many were counted that the record does not know of yet."""
        self._writing: asyncio.Task[None] | None = None
        self._ended = False
        self._told = 0
        """Up to which of the run's events the listeners were told."""
        self._in_line = False
        self._aborted = False

    def __getattr__(self, name: str) -> Any:
        # The runner calls `abort_run` where there is one.
        if name == "abort_run":
            abort = getattr(self.agent, name)
            self._aborted = True
            return abort
        raise AttributeError(name)

    async def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        """Yield the agent's events. Raises `RunRefused` and its kin before the first."""
        await self._harness.opened()
        self._run = current_run()
        assert self._run.store is not None
        self._store = self._run.store
        self.thread_id, self.run_id = self._run.thread_id, self._run.run_id
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda task: self._harness.spawn(self._settle(task)))
        self.began = True
        self._harness.live.add(self)
        try:
            given = await self._let_in(input)
            watch, bus = Watch(), self._harness.bus
            events = await self._open(given)
            async for event in events:
                about = watch(event)
                if about <= About.REASONING:
                    yield event
                    if about:
                        # Only now it is in order, and counted by everybody in the same place.
                        self._deltas += 1
                        if bus or self.collects:
                            self._tap(about, event)
                elif about is About.FINISHED and not self._ended:
                    if interrupts := _interrupts(event):
                        # Before it is shown: who sees it may answer at once, at another process.
                        await self._wait_for(interrupts, given)
                        yield event
                    else:
                        yield event
                        outcome = as_dict(event).get("outcome") or {}
                        await self._end("cancelled" if outcome.get("type") == "cancelled" else "completed")
                elif about is About.FAILED and not self._ended:
                    yield event
                    await self._end("failed", str(as_dict(event).get("message") or "The agent failed"))
                else:
                    if about is About.RESULT and (error := tool_error(as_dict(event))) is not None:
                        self.tool_errors.append(error)
                    yield event
            await self._end("failed", "The agent ended its stream without ending the run")
        except asyncio.CancelledError:
            await asyncio.shield(self._harness.spawn(self._cut_short(None)))
            raise
        except (RunRefused, RunAlreadyExists) as error:
            if self.record is None:
                self.refused = error
            await self._end("failed", str(error))
            raise
        except Exception as error:
            await self._end("failed", str(error) or type(error).__name__)
            raise
        await self._leave()

    @property
    def first_said(self) -> int | None:
        """Behind which of the run's events the agent begins to speak; `None` before it does."""
        segments = self.record.segments if self.record is not None else []
        return segments[-1].after if segments and segments[-1].run_id == self.run_id else None

    async def over(self) -> None:
        """Take it for ended, though its agent will not end."""
        if not self._ended:
            await self._cut_short(None)
        await self._leave()
        self.done.set()

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

    # The beginning

    async def _let_in(self, input: RunAgentInput) -> RunAgentInput:
        """Write down that the run begins, once it may and it is its turn; give the input the agent gets."""
        run, slots = self._run, self._harness.slots
        turn = False
        while True:
            admission = await look(self._harness, self, run, input)
            if not self._in_line:
                self._in_line = True
                turn = await slots.enter(run.run_id)
            if turn:
                self._start(admission)
            elif not admission.news:
                break
            try:
                await self._write(admission)
                break
            except RecordConflict as conflict:
                if (conflict.kind, conflict.key) == ("run", run.run_id) and admission.new:
                    raise RunAlreadyExists(
                        f"run '{run.run_id}' exists already; a run id is used once, start the retry under a new one"
                    ) from None
        if not turn:
            self._admitted(admission)
            await slots.turn(run.run_id)
            admission.changes, admission.settled = [], []
            self._start(admission)
            await self._write(admission)
        if admission.gives_up is not None:
            self.record, self._ended = None, True
            raise admission.gives_up
        return await self._given(input, admission.approvals)

    async def _given(self, input: RunAgentInput, approvals: list[Approval]) -> RunAgentInput:
        """Give the input the agent gets: with what was said before, where the caller did not, and all the answers."""
        news: dict[str, Any] = {}
        if self.loads_history:
            news = await self._harness.history(input)
        if approvals:
            news["resume"] = [ResumeEntry.model_validate(entry_of(approval)) for approval in approvals]
        if not news:
            return input
        given = input.model_copy(update=news)
        _current.set(replace(self._run, input=given))
        return given

    def _start(self, admission: Admission) -> None:
        """Note that a try begins."""
        claim = self._run.claim
        assert claim is not None
        admission.start(self._harness.owners.me, claim.run_id, claim.first_seq, recovering=self.recovering)

    def _admitted(self, admission: Admission) -> None:
        if self.record is None:
            self._told = admission.known
        self.record, self._intent = admission.record, admission.intent

    async def _write(self, admission: Admission) -> None:
        """Write, whatever becomes of the run meanwhile."""

        async def write() -> None:
            await admission.write(self._store, self._run.claim)
            self._admitted(admission)
            for record in admission.settled:
                self._harness.tell(record.events[-1:])
            self._tell()

        self._writing = self._harness.spawn(write(), quiet=True)
        await asyncio.shield(self._writing)

    def _tell(self) -> None:
        """Tell the listeners what has been written since."""
        assert self.record is not None
        new = [event for event in self.record.events if event.seq > self._told]
        self._told = self.record.seq
        self.events += new
        self._harness.tell(new)
        self.told.set()

    def _tap(self, about: About, event: Any) -> None:
        if self.collects and about is About.OUTPUT:
            self.said.append(event)
        if self._harness.bus and self.record is not None:
            kind = "output.delta" if about is About.OUTPUT else "reasoning.delta"
            data = {"text": delta_of(event), "message_id": message_of(event)}
            record = self.record
            self._harness.bus.tell(
                HarnessEvent(
                    kind,  # type: ignore[arg-type]
                    record.run_id, record.thread_id, record.seq + self._deltas, record.updated_at, data,
                )
            )  # fmt: skip

    # The end

    async def _wait_for(self, interrupts: list[Mapping[str, Any]], input: RunAgentInput) -> None:
        """Write down what the run waits for. What cannot be written is not shown either: then the run fails."""
        assert self.record is not None
        record = deepcopy(self.record)
        driver = self.driver()
        events = decode(driver.recorder.compacted()) if driver is not None else []
        approvals = asked(record, self.run_id, interrupts, tool_calls(events, input))
        record.seq += self._deltas
        record.waits_for = [approval.approval_id for approval in approvals]
        record.checkpoint = next((each.checkpoint for each in approvals if each.checkpoint), record.checkpoint)
        record.attempts = 0
        for approval in approvals:
            record.note(
                "approval.requested",
                approval_id=approval.approval_id, tool=approval.tool, message=approval.message,
            )  # fmt: skip
        record.go("waiting_for_approval")
        extra = [change for approval in approvals for change in approval_changes(approval)]
        versions = await self._store.write([*record.changes(), *extra, *self._no_intent(record)], self._run.claim)
        self._ended, self._deltas = True, 0
        record.version = versions[0]
        self.record = record
        self._tell()

    async def _end(self, state: RunState, error: str | None = None) -> None:
        """Write down how the run has ended, unless that is done."""
        if self._ended or self.record is None:
            return
        self._ended = True
        self._count()
        self.record.go(state, error)
        await self._last_word([*self.record.changes(), *self._no_intent(self.record)])

    def _count(self) -> None:
        assert self.record is not None
        self.record.seq += self._deltas
        self._deltas = 0

    def _no_intent(self, record: RunRecord) -> list[Change]:
        return [no_intent(record)] if self._intent is not None else []

    async def _last_word(self, changes: list[Change]) -> None:
        """Write how it ended, under the claim if that is held still; what cannot be written now is later."""
        try:
            try:
                versions = await self._store.write(changes, self._run.claim)
            except LeaseLost:
                # Nobody else may know how it ended; whoever does has changed the record.
                versions = await self._store.write(changes)
        except RecordConflict:
            logger.warning("run %s: somebody else has written how it goes on", self.run_id)
            return
        except StoreError as error:
            logger.error("run %s: its end could not be written: %s; it is tried again", self.run_id, error)  # noqa: TRY400
            self._harness.unwritten.append(changes)
            return
        assert self.record is not None
        self.record.version = versions[0]
        self._tell()

    def driver(self) -> Driver | None:
        """Give what the runner drives it by, while it does."""
        live = self._harness.runner._live.get(self.thread_id)
        return live if isinstance(live, Driver) and live.claim.run_id == self.run_id else None

    async def _cut_short(self, error: BaseException | None) -> None:
        """Write down that the run was ended by somebody else than its agent."""
        if self._writing is not None and not self._writing.done():
            await asyncio.wait([self._writing])
        driver = self.driver()
        if driver is not None and driver.stopping:
            await self._abort()
            await self._end("cancelled")
        elif self._ended or self.record is None:
            pass
        elif error is None and self._harness.closing:
            await self._pause()
        elif driver is not None and isinstance(driver._failed, LeaseLost) and self._can_go_on():
            await self._give_up()
        else:
            said = error or (driver._failed if driver is not None else None)
            text = (str(said) or type(said).__name__) if said is not None else "The agent was cancelled"
            await self._end("failed", text)

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

    def _can_go_on(self) -> bool:
        """Say whether the recovery can go on with the run."""
        if not self._harness.recovery.enabled:
            return False
        return self._intent is not None or (
            self.record is not None and self.record.state == "running" and hasattr(self.agent, "resume")
        )

    async def _pause(self) -> None:
        """Leave the run to the next start: this process was told to end."""
        if not self._can_go_on():
            await self._end("failed", "The run was interrupted: its process was told to end")
            return
        self._ended = True
        if self._intent is not None and self._intent.attempts:
            # It did not fail: the try does not count.
            self._intent.attempts -= 1
            try:
                await self._store.write([self._intent.change()], self._run.claim)
            except (RecordConflict, LeaseLost, StoreError) as error:
                logger.warning("run %s: this try counts though it was cut short: %s", self.run_id, error)

    async def _give_up(self) -> None:
        """Leave the run to whoever finds it first: this process has lost its thread."""
        self._ended = True
        assert self.record is not None
        self._count()
        self.record.owner = ""
        changes = self.record.changes()
        if self._intent is not None:
            self._intent.owner = ""
            changes.append(self._intent.change())
        await self._last_word(changes)

    async def _settle(self, task: asyncio.Task[Any]) -> None:
        """See to it that everything is in order once the agent's task has ended, whichever way it has."""
        try:
            if not self._ended:
                error = None if task.cancelled() else task.exception()
                await self._cut_short(error)
            elif not task.cancelled() and (error := task.exception()) is not None and self._is_waiting():
                # The end it was to wait behind was refused.
                await self._withdraw(str(error) or type(error).__name__)
        finally:
            await self._leave()
            self._harness.live.discard(self)
            self.done.set()

    def _is_waiting(self) -> bool:
        return self.record is not None and self.record.state == "waiting_for_approval"

    async def _withdraw(self, error: str) -> None:
        assert self.record is not None
        changes = await self._harness.withdrawn(self.record)
        self.record.go("failed", error)
        await self._last_word([*self.record.changes(), *changes])

    async def _leave(self) -> None:
        """Give the slot back, once."""
        if self._in_line:
            self._in_line = False
            await self._harness.leave(self.run_id)

    def text(self) -> str:
        """Give what the agent said; if it said nothing and tools failed, what those said."""
        return "".join(map(delta_of, self.said)) or "\n".join(self.tool_errors)


def _interrupts(event: Any) -> list[Mapping[str, Any]]:
    """Give the interrupts a RUN_FINISHED ends with, each once."""
    outcome = as_dict(event).get("outcome")
    if not isinstance(outcome, dict) or outcome.get("type") != "interrupt":
        return []
    given = outcome.get("interrupts")
    found = {each["id"]: each for each in given or () if isinstance(each, dict) and isinstance(each.get("id"), str)}
    return list(found.values())
