"""The harness: runs within slots, with approvals, that survive their process; its events, and who listens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from ag_ui.core import RunAgentInput
from pydantic import BaseModel, ValidationError

from agentrunner.errors import (
    AgentRunnerError,
    ApprovalNotFound,
    InvalidInput,
    RecordConflict,
    RunNotFound,
    RunnerClosed,
    StoreError,
    ThreadAlreadyRunning,
    ThreadNotFound,
)
from agentrunner.harness.admission import decide
from agentrunner.harness.approvals import check_same, decided, entry_of
from agentrunner.harness.items import dispatch, items
from agentrunner.harness.listeners import Bus, Subscription
from agentrunner.harness.owners import Owners
from agentrunner.harness.records import (
    Intent,
    RunRecord,
    approval_changes,
    find_approval,
    find_intent,
    find_run,
    no_intent,
    now_ms,
    pages,
    read_approval,
)
from agentrunner.harness.recovery import recover
from agentrunner.harness.replay import replay, said
from agentrunner.harness.routing import known, route
from agentrunner.harness.segment import Segment
from agentrunner.harness.slots import LocalSlots, NoLimit, SharedSlots, Slots
from agentrunner.harness.types import (
    Approval,
    HarnessEvent,
    Recovery,
    RecoveryReport,
    RunResult,
)
from agentrunner.harness.upkeep import prune
from agentrunner.harness.wrapped import HarnessAgent
from agentrunner.live import GRACE
from agentrunner.stores import Change

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from types import TracebackType

    from agentrunner.harness.types import (
        ApprovalState,
        Decision,
        Listener,
        Listeners,
        Policy,
        RecordRetention,
        Router,
        RunState,
        StreamItem,
    )
    from agentrunner.runner import AgentRunner
    from agentrunner.stores import Store
    from agentrunner.stream import EventStream
    from agentrunner.types import Agent

logger = logging.getLogger("agentrunner.harness")

LOOK_EVERY = 0.02
"""Seconds between looks at what another process does."""
TIDY_EVERY = 1.0
PRUNE_EVERY = 60.0


class Harness:
    """Runs agents in order, over a runner. Use it with `async with`, inside the runner's, or call `aclose()`.

    `agents`: by name. `max_concurrent_runs`: how many runs hold a slot at a time, over all processes that share the
    store and the harness's `name`; `None`: any number. `router`: which agent a run is for that names none. `policy`:
    asked about every run from outside. `retention`: how long checkpoints and ended runs are kept; without, for ever.
    """

    def __init__(
        self,
        runner: AgentRunner,
        agents: Mapping[str, Agent],
        *,
        max_concurrent_runs: int | None = None,
        recovery: Recovery = Recovery(),  # noqa: B008 - it is frozen
        router: Router | None = None,
        policy: Policy | None = None,
        retention: RecordRetention | None = None,
        name: str = "default",
    ) -> None:
        if not agents:
            raise ValueError("a harness has at least one agent")
        if max_concurrent_runs is not None and (
            isinstance(max_concurrent_runs, bool) or not isinstance(max_concurrent_runs, int) or max_concurrent_runs < 1
        ):
            raise ValueError(f"max_concurrent_runs is a positive integer, not {max_concurrent_runs!r}")
        if router is not None and router.default is not None:
            known(agents, router.default)
        self.runner = runner
        self.recovery = recovery
        self.policy = policy
        self.agents: Mapping[str, HarnessAgent] = {
            agent_id: HarnessAgent(self, agent_id, agent) for agent_id, agent in agents.items()
        }
        """The agents as they obey the harness: for `create_app(runner, harness.agents)`."""
        self.bus: Bus[HarnessEvent] = Bus()
        self.live: set[Segment] = set()
        """The AG-UI runs of this harness that are under way."""
        self.unwritten: list[list[Change]] = []
        """Ends of runs that the store could not take; it is tried again."""
        self.recovered = RecoveryReport()
        """What was found at start-up."""
        self._agents = dict(agents)
        self._max_concurrent_runs = max_concurrent_runs
        self._router = router
        self._retention = retention
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()
        self._starting: asyncio.Task[None] | None = None
        self._closing = False
        self._stranded = False
        """Whether a run was left to whoever finds it."""

    owners: Owners
    slots: Slots
    _store: Store

    # Opening and closing

    async def __aenter__(self) -> Self:
        await self.opened()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def opened(self) -> Store:
        """Start if that is still to be done, recover what was left behind, and give the store.

        Raises `RunnerClosed` after `aclose()`, `StoreError`.
        """
        if self._closing:
            raise RunnerClosed("the harness is closed")
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
        starting = self._starting
        try:
            await asyncio.shield(starting)
        except Exception:
            # Whoever comes next tries again.
            if self._starting is starting:
                self._starting = None
            raise
        return self._store

    async def _start(self) -> None:
        store = await self.runner.opened()
        self._store, self.owners = store, Owners(store)
        if self._max_concurrent_runs is None:
            self.slots = NoLimit()
        elif store.shared:
            self.slots = SharedSlots(store, self.owners, self._name, self._max_concurrent_runs)
        else:
            self.slots = LocalSlots(self._max_concurrent_runs)
        if store.shared:
            await self.owners.beat()
        if self.recovery.enabled:
            self.recovered = await recover(self, store, resume=self.recovery.resume_on_startup)
        self.spawn(self._tidy())

    @property
    def closing(self) -> bool:
        """Whether this process was told to end."""
        return self._closing or self.runner.draining or self.runner._closed

    async def aclose(self) -> None:
        """End the runs under way (those that can are gone on with at the next start), and stop."""
        if self._closing:
            return
        self._closing = True
        segments = list(self.live)
        for segment in segments:
            if (driver := segment.driver()) is not None:
                driver.interrupt("The harness was closed before the run had ended", "INTERRUPTED")
        if segments:
            await asyncio.wait([asyncio.ensure_future(each.done.wait()) for each in segments], timeout=GRACE + 1)
        if self._starting is not None:
            self._starting.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.bus.told()
        self.bus.close()
        if hasattr(self, "owners"):
            with contextlib.suppress(AgentRunnerError):
                await self._write_unwritten()
                await self.owners.leave()
            del self.owners

    def spawn(self, work: Coroutine[Any, Any, Any], *, quiet: bool = False) -> asyncio.Task[Any]:
        """Have something done whatever becomes of who asked; `quiet`: its errors are somebody's already."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

        def done(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None and not quiet:
                logger.error("a task of the harness failed", exc_info=error)

        task.add_done_callback(done)
        return task

    async def _tidy(self) -> None:
        """Beat, try again what could not be written, look for runs of processes that are gone, remove old records."""
        loop = asyncio.get_running_loop()
        beaten = looked = loop.time()
        pruned = 0.0
        while True:
            await asyncio.sleep(TIDY_EVERY)
            now = loop.time()
            try:
                await self._write_unwritten()
                ttl = self._store.lease_ttl
                if self._store.shared and now - beaten >= ttl * 0.3:
                    await self.owners.beat()
                    beaten = now
                if self.recovery.enabled and (self._stranded or (self._store.shared and now - looked >= ttl)):
                    self._stranded, looked = False, now
                    await recover(self, self._store, resume=self.recovery.resume_on_startup)
                if self._retention is not None and (not pruned or now - pruned >= PRUNE_EVERY):
                    pruned = now
                    await self.prune()
            except StoreError:
                logger.exception("the harness's upkeep failed; it is tried again")

    async def _write_unwritten(self) -> None:
        while self.unwritten:
            with contextlib.suppress(RecordConflict):
                await self._store.write(self.unwritten[0])
            del self.unwritten[0]

    # Runs

    async def run(
        self,
        input: str | Sequence[Any] | RunAgentInput | Mapping[str, Any],
        *,
        agent: str | None = None,
        thread_id: str | None = None,
        run_id: str | None = None,
        scope: str | None = None,
        headers: Mapping[str, str] | None = None,
        listeners: Listeners | None = None,
    ) -> RunResult:
        """Run an agent until its run has ended or waits for an approval.

        `input`: what a user says, or new messages, in the thread `thread_id` (else a new one); or a `RunAgentInput`
        or its dict. What was said before in the thread is given to the agent with it. `agent`: its name, else the
        router's. `listeners`: told each kind of item as `stream_events` yields them. The run goes on when the caller is
        cancelled. A failing agent gives a result, no exception. Raises, with nothing started: `RunRefused` and its
        kin, `AgentNotFound`, and what `AgentRunner.run` raises.
        """
        segment, stream = await self._begin(input, agent, thread_id, run_id, scope, headers)
        if listeners:
            await dispatch(items(segment, stream), listeners)
        else:
            async for _ in stream.pieces():
                pass
        return await self._result(segment, scope)

    async def stream_events(
        self,
        input: str | Sequence[Any] | RunAgentInput | Mapping[str, Any],
        *,
        agent: str | None = None,
        thread_id: str | None = None,
        run_id: str | None = None,
        scope: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[StreamItem]:
        """Run an agent and yield what it says, its steps, its tools' results and the changes of its life.

        Takes and raises what `run` does. Leaving early does not stop the run.
        """
        segment, stream = await self._begin(input, agent, thread_id, run_id, scope, headers)
        async for item in items(segment, stream):
            yield item
        if segment.refused is not None:
            raise segment.refused

    async def _begin(
        self,
        given: str | Sequence[Any] | RunAgentInput | Mapping[str, Any],
        agent: str | None,
        thread_id: str | None,
        run_id: str | None,
        scope: str | None,
        headers: Mapping[str, str] | None,
    ) -> tuple[Segment, EventStream]:
        input = _input(given, thread_id, run_id)
        await self.opened()
        name = known(self._agents, agent) if agent is not None else await route(self._router, self._agents, input)
        segment = Segment(self, name, self._agents[name])
        segment.loads_history = segment.collects = True
        segment.thread_id, segment.run_id = input.thread_id, input.run_id
        stream = await self.runner.run(segment, input, agent_id=name, scope=scope, headers=headers)
        return segment, stream

    async def _result(self, segment: Segment, scope: str | None = None) -> RunResult:
        """Give how the run of a segment stands, whose stream has ended."""
        if segment.began:
            try:
                async with asyncio.timeout(GRACE):
                    await segment.done.wait()
            except TimeoutError:
                await segment.over()
        if segment.refused is not None:
            raise segment.refused
        record = segment.record
        if record is None:
            # It was stopped before its agent's task had begun.
            now = now_ms()
            record = RunRecord(
                segment.run_id, segment.thread_id, segment.agent_id, scope, self.owners.me, {}, now, now
            )  # fmt: skip
            record.note("run.created", agent=record.agent)
            record.go("cancelled")
            await self._store.write(record.changes())
            self.tell(record.events)
        return await self._stands(record, segment.text())

    async def _stands(self, record: RunRecord, content: str | None = None) -> RunResult:
        """Give how a run stands."""
        approvals = [await find_approval(self._store, name) for name in record.waits_for]
        waits_for = tuple(each for each in approvals if each is not None and each.open)
        if content is None:
            content = await said(self._store, record)
        return RunResult(
            record.run_id, record.thread_id, record.agent, record.state, content, record.error, waits_for
        )  # fmt: skip

    async def history(self, input: RunAgentInput) -> dict[str, Any]:
        """Give an input's fields with the thread's messages before its own, and the thread's state where it has none."""
        folded = await self.runner.threads.folded(input.thread_id)
        told = {message["id"] for message in folded.messages}
        new = [message for message in input.messages if message.id not in told]
        try:
            before = RunAgentInput.model_validate({"threadId": "", "runId": "", "messages": folded.messages}).messages
        except ValidationError:
            logger.warning("thread %s: its messages cannot be given to the agent", input.thread_id, exc_info=True)
            before = []
        state = input.state if input.state not in (None, {}) else folded.state
        return {"messages": [*before, *new], "state": state}

    async def wait(self, run_id: str) -> RunResult:
        """Wait until a run has ended or waits for an approval, wherever it is. Raises `RunNotFound`."""
        while True:
            record = await self.run_record(run_id)
            if record.state not in ("queued", "running", "resuming"):
                return await self._stands(record)
            for segment in self.live:
                if segment.record is not None and segment.record.run_id == record.run_id:
                    await segment.done.wait()
                    break
            else:
                await asyncio.sleep(LOOK_EVERY)

    async def run_record(self, run_id: str) -> RunRecord:
        """Give a run, by its id or that of one of its AG-UI runs. Raises `RunNotFound`."""
        record = await find_run(await self.opened(), run_id)
        if record is None:
            raise RunNotFound(f"there is no run '{run_id}'")
        return record

    async def runs(self, thread_id: str | None = None, *, state: RunState | None = None) -> list[RunRecord]:
        """Give the runs there are, those of a thread or in a state, the oldest first."""
        store = await self.opened()
        found = [RunRecord.read(record) async for record in pages(store, "run", thread_id)]
        return sorted(
            (run for run in found if state in (None, run.state)), key=lambda run: (run.created_at, run.run_id)
        )

    async def events(self, run_id: str, *, after: int = 0) -> list[HarnessEvent]:
        """Give a run's events behind a sequence number. Raises `RunNotFound`.

        Deltas are as the thread keeps them: many are one, under the first of their numbers.
        """
        record = await self.run_record(run_id)
        return await replay(self._store, record, after)

    def subscribe(self, listener: Listener) -> Subscription[HarnessEvent]:
        """Tell a listener, sync or async, all that happens to runs here from now on, until it is closed.

        It is told in order, by a task of its own: what it raises is logged, and nobody waits for it. A sync one is
        called on the event loop.
        """
        return self.bus.subscribe(listener)

    def tell(self, events: Sequence[HarnessEvent]) -> None:
        """Tell the listeners."""
        for event in events:
            self.bus.tell(event)

    async def cancel(self, run_id: str) -> bool:
        """Cancel a run: one that waits, for a slot or an approval, or is under way, here or elsewhere.

        False if it has ended. Raises `RunNotFound`.
        """
        while True:
            record = await self.run_record(run_id)
            if record.ended:
                return False
            live = [claim.run_id for claim, _ in await self._store.live(record.thread_id)]
            ours = [each.run_id for each in record.segments if each.run_id in live]
            if record.run_id in live:
                ours = [record.run_id]
            for segment in self.live:
                if segment.record is not None and segment.record.run_id == record.run_id and segment.run_id in live:
                    ours = [segment.run_id]
            if ours and record.state != "waiting_for_approval":
                if await self.runner.stop(record.thread_id, ours[-1]):
                    return True
            elif not live or record.state == "waiting_for_approval":
                # Nobody is at it: what is written decides.
                known = record.seq
                changes = await self.withdrawn(record)
                record.go("cancelled")
                with contextlib.suppress(RecordConflict):
                    await self._store.write([*record.changes(), *changes, no_intent(record)])
                    self.tell([event for event in record.events if event.seq > known])
                    await self._close_interrupts(record)
                    return True
            await asyncio.sleep(LOOK_EVERY)

    async def withdrawn(self, record: RunRecord) -> list[Change]:
        """Give what takes back the approvals a run waits for."""
        changes: list[Change] = []
        for approval_id in record.waits_for:
            approval = await find_approval(self._store, approval_id)
            if approval is not None and approval.open:
                gone = replace(approval, decision="withdrawn", decided_at=now_ms())
                changes += approval_changes(gone)
                record.note("approval.resolved", approval_id=approval_id, decision="withdrawn", by=None)
        return changes

    async def _close_interrupts(self, record: RunRecord) -> None:
        """Tell the thread's clients that nothing is to be answered any more: they see it by a run that was cancelled."""

        async def close(input: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
            ids = {"threadId": input.thread_id, "runId": input.run_id}
            yield {"type": "RUN_STARTED", **ids}
            yield {"type": "RUN_FINISHED", **ids, "outcome": {"type": "cancelled"}}

        if not record.waits_for:
            return
        input = {"threadId": record.thread_id, "runId": f"{record.run_id}~cancelled", "messages": []}
        with contextlib.suppress(AgentRunnerError):
            stream = await self.runner.run(close, input, agent_id=record.agent, scope=record.scope)
            async for _ in stream.pieces():
                pass

    async def restart_conversation(self, thread_id: str) -> None:
        """Have a thread begin anew: its runs are cancelled, and all that was said, asked and kept is removed.

        Raises `ThreadNotFound`.
        """
        store = await self.opened()
        there = False
        async for record in pages(store, "run", thread_id):
            there = True
            run = RunRecord.read(record)
            if not run.ended:
                await self.cancel(run.run_id)
        while any(segment.thread_id == thread_id for segment in self.live) or await store.live(thread_id):
            await asyncio.sleep(LOOK_EVERY)
        try:
            await store.delete(thread_id)
        except ThreadNotFound:
            if not there:
                raise
        for kind in (
            "run",
            "segment",
            "approval",
            "open",
            "active",
            "intent",
            "session",
            "message",
            "checkpoint",
            "tool",
        ):
            async for record in pages(store, kind, thread_id):
                await store.write([Change(record.kind, record.key, thread_id, None)])

    async def prune(self) -> int:
        """Remove checkpoints and ended runs past their retention; give how many."""
        store = await self.opened()
        return await prune(store, self._retention) if self._retention is not None else 0

    # Approvals

    async def approvals(self, thread_id: str | None = None, *, state: ApprovalState | None = "open") -> list[Approval]:
        """Give the approvals there are, the oldest first: those that are open, or in another state, or with `None` all."""
        store = await self.opened()
        found: list[Approval] = []
        if state in ("open", "expired"):
            async for mark in pages(store, "open", thread_id):
                approval = await find_approval(store, mark.key)
                if approval is not None:
                    found.append(approval)
        else:
            found = [read_approval(record) async for record in pages(store, "approval", thread_id)]
        now = now_ms()
        return sorted(
            (approval for approval in found if state in (None, approval.state(now))),
            key=lambda approval: (approval.created_at, approval.approval_id),
        )

    async def approval(self, approval_id: str) -> Approval:
        """Give an approval. Raises `ApprovalNotFound`."""
        approval = await find_approval(await self.opened(), approval_id)
        if approval is None:
            raise ApprovalNotFound(f"there is no approval '{approval_id}'")
        return approval

    async def resume(
        self,
        *,
        approval_id: str | None = None,
        thread_id: str | None = None,
        decision: Decision,
        edited_input: Any = None,
        by: str | None = None,
        decision_id: str | None = None,
        reason: str | None = None,
        payload: Any = None,
    ) -> RunResult:
        """Decide an approval, or all that a thread's run waits for; behind the last one the run goes on, to its end.

        Each approval is decided once, whoever else tries: the same again (by `decision_id`, or by what it says) gives
        how the run stands, when that has ended. `edited_input`: with `edit`, what the tool gets. `reason`: with
        `reject`, for the agent. `payload`: what the agent is answered, where its interrupt asks for something else than
        `approved`. Once decided the run goes on whatever becomes of the caller. Raises, with nothing decided:
        `ApprovalNotFound`, `AlreadyDecided`, `ApprovalExpired`, `AgentNotFound`, `InvalidInput`.
        """
        if (approval_id is None) == (thread_id is None):
            raise InvalidInput("a decision is about an approval_id or a thread_id")
        store = await self.opened()
        while True:
            targets = await self._targets(store, approval_id, thread_id, decision_id)
            record = await find_run(store, targets[0].run_id)
            if record is None:
                raise ApprovalNotFound(f"the run of approval '{targets[0].approval_id}' is gone")
            known(self._agents, record.agent)
            changed = []
            for target in targets:
                fresh = target if target.open else replace(target, decision=None, expires_at=None)
                new = decided(
                    fresh, decision,
                    edited_input=edited_input, reason=reason, payload=payload, by=by, decision_id=decision_id,
                )  # fmt: skip
                if target.open:
                    changed.append(new)
                else:
                    check_same(target, new)
            if not changed:
                return (
                    await self._stands(record)
                    if record.state == "waiting_for_approval"
                    else await self.wait(record.run_id)
                )
            if len(changed) > 1 and decision == "edit":
                raise InvalidInput(f"thread '{thread_id}' waits for {len(changed)} approvals: say which one is edited")
            try:
                intent = await self._decide(store, record, changed)
            except RecordConflict:
                continue
            if intent is None:
                return await self._stands(record)
            going_on = self.go_on(record, intent)
            segment = await asyncio.shield(going_on)
            if segment is None:
                return await self.wait(record.run_id)
            return await self._result(segment)

    async def _targets(
        self, store: Store, approval_id: str | None, thread_id: str | None, decision_id: str | None
    ) -> list[Approval]:
        """Give what a decision is about."""
        if approval_id is not None:
            return [await self.approval(approval_id)]
        assert thread_id is not None
        found = [read_approval(record) async for record in pages(store, "approval", thread_id)]
        again = [each for each in found if decision_id is not None and each.decision_id == decision_id]
        if again:
            return again
        targets = [each for each in found if each.open]
        if not targets and (going_on := [each for each in found if await find_intent(store, each.run_id)]):
            # They are decided, and not yet acted upon to the end.
            record = await find_run(store, going_on[0].run_id)
            targets = [each for each in going_on if record is not None and each.approval_id in record.waits_for]
        if not targets:
            raise ApprovalNotFound(f"thread '{thread_id}' waits for no approval")
        return targets

    async def _decide(self, store: Store, record: RunRecord, changed: list[Approval]) -> Intent | None:
        """Write decisions down, with the last one that the run is to go on. Raises `RecordConflict`."""
        if record.state != "waiting_for_approval":
            # It was read before the approvals were: look again.
            raise RecordConflict("run", record.run_id)
        names = {approval.approval_id for approval in changed}
        others = [await find_approval(store, name) for name in record.waits_for if name not in names]
        last = not any(each is not None and each.open for each in others)
        before = record.seq
        intent = decide(record, changed, self.owners.me, last=last)
        changes = record.changes()
        if intent is not None:
            changes.append(intent.change())
        changes += [change for approval in changed for change in approval_changes(approval)]
        versions = await store.write(changes)
        record.version = versions[0]
        if intent is not None:
            intent.version = versions[2]
        self.tell([event for event in record.events if event.seq > before])
        return intent

    def go_on(self, record: RunRecord, intent: Intent, *, recovering: bool = False) -> asyncio.Task[Segment | None]:
        """Have a run gone on with, by an intent of this harness; gives `None` if somebody else has by then."""
        return self.spawn(self._go_on(record, intent, recovering), quiet=False)

    async def _go_on(self, record: RunRecord, intent: Intent, recovering: bool) -> Segment | None:
        try:
            segment = await self._started(record, intent, recovering)
        except Exception:
            if not self.closing:
                await self._strand(record, intent)
            raise
        if segment is None:
            return None
        if segment.began:
            await segment.done.wait()
        return segment if segment.record is not None else None

    async def _started(self, record: RunRecord, intent: Intent, recovering: bool) -> Segment | None:
        """Run the agent once more, as soon as the thread is free, unless somebody else does; wait for its end."""
        approvals = [await find_approval(self._store, name) for name in record.waits_for]
        entries = [entry_of(approval) for approval in approvals if approval is not None]
        while True:
            segment = Segment(self, record.agent, self._agents[record.agent], intent, recovering=recovering)
            segment.loads_history = segment.collects = True
            input = {**record.given, "threadId": record.thread_id, "runId": str(uuid.uuid4()), "messages": []}
            if entries:
                input["resume"] = entries
            try:
                stream = await self.runner.run(segment, input, agent_id=record.agent, scope=record.scope)
            except ThreadAlreadyRunning:
                # The run that asked ends just now; or somebody else was faster.
                while await self._store.live(record.thread_id):
                    await asyncio.sleep(LOOK_EVERY)
                now = await find_intent(self._store, record.run_id)
                if now is None or now.version != intent.version:
                    return None
                continue
            async for _ in stream.pieces():
                pass
            return segment

    async def _strand(self, record: RunRecord, intent: Intent) -> None:
        """Leave a run that could not be gone on with to whoever finds it."""
        intent.owner = ""
        self._stranded = True
        current = await find_run(self._store, record.run_id)
        if current is None or current.ended:
            return
        current.owner = ""
        with contextlib.suppress(RecordConflict, StoreError):
            await self._store.write([*current.changes(), intent.change()])

    # Recovery

    async def recover(self) -> RecoveryReport:
        """Look for runs whose process is gone, and go on with them or end them, as at start-up."""
        store = await self.opened()
        if not self.recovery.enabled:
            return RecoveryReport()
        return await recover(self, store, resume=True)

    def can_resume(self, agent: str) -> bool:
        """Say whether an agent goes on from a checkpoint."""
        return hasattr(self._agents[agent], "resume")

    async def leave(self, run_id: str) -> None:
        """Give a run's slot back; if the store cannot be told now, later."""
        while True:
            try:
                return await self.slots.leave(run_id)
            except StoreError:
                logger.exception("the slot of run %s could not be given back; it is tried again", run_id)
                if self.closing:
                    return
                await asyncio.sleep(TIDY_EVERY)


def _input(
    given: str | Sequence[Any] | RunAgentInput | Mapping[str, Any], thread_id: str | None, run_id: str | None
) -> RunAgentInput:
    """Give a run's input. Raises `InvalidInput`."""
    if isinstance(given, str):
        given = [{"id": str(uuid.uuid4()), "role": "user", "content": given}]
    fields: dict[str, Any]
    if isinstance(given, RunAgentInput):
        fields = {"threadId": given.thread_id, "runId": given.run_id}
        if fields["threadId"] == (thread_id or fields["threadId"]) and fields["runId"] == (run_id or fields["runId"]):
            return given
        raise InvalidInput("the input says which thread and run it is for")
    if isinstance(given, Mapping):
        fields = dict(given)
    else:
        fields = {"messages": [dict(each) if isinstance(each, Mapping) else _dumped(each) for each in given]}
    for name, value in (("threadId", thread_id), ("runId", run_id)):
        if value is not None and fields.get(name, value) != value:
            raise InvalidInput(f"the input says another {name} than the call")
        if fields.get(name) is None:
            fields[name] = value or str(uuid.uuid4())
    for name, empty in (("state", {}), ("tools", []), ("context", []), ("forwardedProps", {})):
        fields.setdefault(name, empty)
    try:
        return RunAgentInput.model_validate(fields)
    except ValidationError as error:
        raise InvalidInput(f"a run's input is refused: {error}") from error


def _dumped(message: Any) -> Any:
    return (
        message.model_dump(mode="json", by_alias=True, exclude_none=True) if isinstance(message, BaseModel) else message
    )
