"""The harness: runs within slots, with approvals, that survive their process; its events, and who listens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from agentrunner.errors import AgentRunnerError, ApprovalNotFound, RunnerClosed, RunNotFound, StoreError
from agentrunner.harness.agent import HarnessAgent
from agentrunner.harness.cancellation import LOOK_EVERY, cancel, restart
from agentrunner.harness.decisions import Verdict, record_decision
from agentrunner.harness.inputs import read_input
from agentrunner.harness.listeners import Bus, Subscription
from agentrunner.harness.liveness import Liveness
from agentrunner.harness.recovery import recover
from agentrunner.harness.replay import replay, said
from agentrunner.harness.resumption import resume_run
from agentrunner.harness.retention import prune
from agentrunner.harness.routing import known, route
from agentrunner.harness.slots import LocalSlots, NoLimit, SharedSlots, Slots
from agentrunner.harness.stream_items import dispatch, items
from agentrunner.harness.supervised_run import SupervisedRun
from agentrunner.harness.types import Recovery, RecoveryReport, RunResult
from agentrunner.records import kinds
from agentrunner.records.approvals import find_approval, read_approval
from agentrunner.records.harness_runs import HarnessEvent, RunRecord, find_run
from agentrunner.records.times import now_ms
from agentrunner.running.driver import STOP_GRACE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator
    from types import TracebackType

    from ag_ui.core import RunAgentInput

    from agentrunner.harness.types import Listener, Listeners, Policy, RecordRetention, Router, StreamItem
    from agentrunner.reading.stream import EventStream
    from agentrunner.records.approvals import Approval, ApprovalState, Decision
    from agentrunner.records.harness_runs import Intent, RunState
    from agentrunner.runner import AgentRunner
    from agentrunner.stores import Store
    from agentrunner.types import Agent

logger = logging.getLogger("agentrunner.harness")

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
        self.live: set[SupervisedRun] = set()
        """The AG-UI runs of this harness that are under way."""
        self.busy: Counter[str] = Counter()
        """The harness runs that are being seen to here."""
        self.recovered = RecoveryReport()
        """What was found at start-up."""
        self.originals = dict(agents)
        """The agents as they were given."""
        self._max_concurrent_runs = max_concurrent_runs
        self._router = router
        self._retention = retention
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()
        self._starting: asyncio.Task[None] | None = None
        self._closing = False
        self.stranded = False
        """Whether a run was left to whoever finds it, which may be this one."""

    owners: Liveness
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
        store = await self.runner.open()
        self._store, self.owners = store, Liveness(store)
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
        return self._closing or self.runner.is_draining or self.runner.is_closed

    async def aclose(self) -> None:
        """End the runs under way (those that can are gone on with at the next start), and stop."""
        if self._closing:
            return
        self._closing = True
        segments = list(self.live)
        for segment in segments:
            segment.interrupt()
        if segments:
            await asyncio.wait(
                [asyncio.ensure_future(each.done.wait()) for each in segments], timeout=STOP_GRACE_SECONDS + 1
            )
        if self._starting is not None:
            self._starting.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.bus.told()
        self.bus.close()
        if hasattr(self, "owners"):
            with contextlib.suppress(AgentRunnerError):
                await self.owners.leave()

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
                ttl = self._store.lease_ttl
                if self._store.shared and now - beaten >= ttl * 0.3:
                    await self.owners.beat()
                    beaten = now
                if self.recovery.enabled and (self.stranded or (self._store.shared and now - looked >= ttl)):
                    stranded, self.stranded, looked = self.stranded, False, now
                    try:
                        await recover(self, self._store, resume=self.recovery.resume_on_startup)
                    except StoreError:
                        self.stranded = stranded
                        raise
                if self._retention is not None and (not pruned or now - pruned >= PRUNE_EVERY):
                    pruned = now
                    await self.prune()
            except StoreError:
                logger.exception("the harness's upkeep failed; it is tried again")

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
        return await self.result(segment, scope)

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
    ) -> tuple[SupervisedRun, EventStream]:
        asked = read_input(given, thread_id, run_id)
        await self.opened()
        name = known(self.originals, agent) if agent is not None else await route(self._router, self.originals, asked)
        segment = SupervisedRun(self, name, self.originals[name])
        segment.loads_history = segment.collects = True
        segment.thread_id, segment.run_id = asked.thread_id, asked.run_id
        stream = await self.runner.run(segment, asked, agent_id=name, scope=scope, headers=headers)
        return segment, stream

    async def result(self, segment: SupervisedRun, scope: str | None = None) -> RunResult:
        """Give how the run of a segment stands, whose stream has ended."""
        if segment.began:
            try:
                async with asyncio.timeout(STOP_GRACE_SECONDS):
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
            record.add_event("run.created", agent=record.agent)
            record.change_state("cancelled")
            await self._store.write(record.to_changes())
            self.tell(record.events)
        return await self.stands(record, segment.text())

    async def stands(self, record: RunRecord, content: str | None = None) -> RunResult:
        """Give how a run stands."""
        approvals = [await find_approval(self._store, name) for name in record.waits_for]
        waits_for = tuple(each for each in approvals if each is not None and each.open)
        if content is None:
            content = await said(self._store, record)
        return RunResult(
            record.run_id, record.thread_id, record.agent, record.state, content, record.error, waits_for
        )  # fmt: skip

    async def wait(self, run_id: str) -> RunResult:
        """Wait until a run has ended or waits for an approval, wherever it is. Raises `RunNotFound`."""
        while True:
            record = await self.run_record(run_id)
            if record.state not in ("queued", "running", "resuming") and not await self._is_live(record):
                return await self.stands(record)
            for segment in self.live:
                if segment.record is not None and segment.record.run_id == record.run_id:
                    await segment.done.wait()
                    break
            else:
                await asyncio.sleep(LOOK_EVERY)

    async def _is_live(self, record: RunRecord) -> bool:
        """Say whether what a run has said last is still on its way into its thread."""
        last = record.attempt_runs[-1].run_id if record.attempt_runs else record.run_id
        return any(claim.run_id == last for claim, _ in await self._store.live(record.thread_id))

    async def run_record(self, run_id: str) -> RunRecord:
        """Give a run, by its id or that of one of its AG-UI runs. Raises `RunNotFound`."""
        record = await find_run(await self.opened(), run_id)
        if record is None:
            raise RunNotFound(f"there is no run '{run_id}'")
        return record

    async def runs(self, thread_id: str | None = None, *, state: RunState | None = None) -> list[RunRecord]:
        """Give the runs there are, those of a thread or in a state, the oldest first."""
        store = await self.opened()
        found = await kinds.HARNESS_RUN.read_all(store, thread_id, RunRecord.from_record)
        return sorted(
            (run for run in found if state in (None, run.state)), key=lambda run: (run.created_at, run.run_id)
        )

    async def events(self, run_id: str, *, after: int = 0) -> list[HarnessEvent]:
        """Give a run's events behind a sequence number. Raises `RunNotFound`.

        Deltas are as the thread keeps them: many are one, under the first numbers of the gap they fill.
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
        return await cancel(self, run_id)

    async def restart_conversation(self, thread_id: str) -> None:
        """Have a thread begin anew: its runs are cancelled, and all that was said, asked and kept is removed.

        Raises `ThreadNotFound`.
        """
        await restart(self, thread_id)

    async def prune(self) -> int:
        """Remove checkpoints and ended runs past their retention; give how many."""
        store = await self.opened()
        return await prune(store, self._retention) if self._retention is not None else 0

    # Approvals

    async def approvals(self, thread_id: str | None = None, *, state: ApprovalState | None = "open") -> list[Approval]:
        """Give approvals, the oldest first: those that are open, or in another state, or with `None` all there are."""
        store = await self.opened()
        found: list[Approval] = []
        if state in ("open", "expired"):
            async for mark in kinds.OPEN_APPROVAL.iterate(store, thread_id):
                approval = await find_approval(store, mark.key)
                if approval is not None:
                    found.append(approval)
        else:
            found = await kinds.APPROVAL.read_all(store, thread_id, read_approval)
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
        verdict = Verdict(decision, edited_input, by, decision_id, reason, payload)
        record, going_on = await record_decision(self, verdict, approval_id, thread_id)
        if going_on is not None and (segment := await asyncio.shield(going_on)) is not None:
            return await self.result(segment)
        if record.state == "waiting_for_approval":
            return await self.stands(record)
        # Where somebody else was faster, theirs is the run.
        return await self.wait(record.run_id)

    # Recovery

    @contextlib.contextmanager
    def busy_with(self, run_id: str) -> Iterator[None]:
        """Say that a run is seen to here, so that no recovery of this harness does."""
        self.busy[run_id] += 1
        try:
            yield
        finally:
            self.busy[run_id] -= 1
            if not self.busy[run_id]:
                del self.busy[run_id]

    def go_on(
        self, record: RunRecord, intent: Intent, *, recovering: bool = False
    ) -> asyncio.Task[SupervisedRun | None]:
        """Have a run gone on with, by an intent of this harness; gives `None` if somebody else has by then."""

        async def going_on() -> SupervisedRun | None:
            with busy:
                return await resume_run(self, record, intent, recovering=recovering)

        busy = contextlib.ExitStack()
        busy.enter_context(self.busy_with(record.run_id))
        return self.spawn(going_on())

    async def recover(self) -> RecoveryReport:
        """Look for runs whose process is gone, and go on with them or end them, as at start-up."""
        store = await self.opened()
        if not self.recovery.enabled:
            return RecoveryReport()
        return await recover(self, store, resume=True)

    def can_resume(self, agent: str) -> bool:
        """Say whether an agent goes on from a checkpoint."""
        return hasattr(self.originals[agent], "resume")

    async def leave(self, run_id: str) -> None:
        """Give a run's slot back; if the store cannot be told now, later: nobody here waits for that."""
        try:
            await self.slots.leave(run_id)
        except StoreError as error:
            logger.error("the slot of run %s cannot be given back now: %s", run_id, error)  # noqa: TRY400
            self.spawn(self._leave_later(run_id))

    async def _leave_later(self, run_id: str) -> None:
        while True:
            await asyncio.sleep(TIDY_EVERY)
            with contextlib.suppress(StoreError):
                await self.slots.leave(run_id)
                return
