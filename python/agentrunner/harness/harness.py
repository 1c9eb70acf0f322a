"""The public class `Harness`, whose parts share a `HarnessState`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from agentrunner.harness._state import HarnessState
from agentrunner.harness.agent import HarnessAgent
from agentrunner.harness.cancellation import cancel, restart
from agentrunner.harness.deciding import HarnessDecisions
from agentrunner.harness.maintenance import maintain
from agentrunner.harness.options import check_agents, check_listeners, check_options
from agentrunner.harness.recovery import recover
from agentrunner.harness.results import attempt_result
from agentrunner.harness.retention import prune
from agentrunner.harness.routing import check_agent
from agentrunner.harness.stream_items import dispatch, iterate_items
from agentrunner.harness.submission import start_attempt
from agentrunner.harness.types import Recovery, RecoveryReport
from agentrunner.running.inputs import check_scope_filter
from agentrunner.running.timeouts import RunTimeouts
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

    from agentrunner.harness.inputs import HarnessInput
    from agentrunner.harness.types import Listeners, Policy, RecordRetention, Router, RunResult, StreamItem
    from agentrunner.runner import AgentRunner
    from agentrunner.stores import Store
    from agentrunner.types import Agent, AnyScope


class Harness(HarnessDecisions):
    """Runs agents within slots, with approvals, and through restarts of the process.

    Use it with `async with` inside the runner's, or call `aclose()` before the runner's.

    Args:
        runner: Runner that runs the agents; its store keeps the harness's records.
        agents: Agents by name, at least one.
        max_concurrent_runs: Greatest number of AG-UI runs that hold a slot at a time, in all processes that share the
            store and the harness's `name`. Other runs wait, first in, first out. A run that an agent starts shares the
            slot of the agent's run. `None` sets no limit.
        recovery: What the harness does at start-up with harness runs whose process is gone.
        router: Chooses an agent for a run that does not name one.
        policy: Admits or refuses every run that a caller or a client starts: `True`, `None` or an empty list of
            reasons admits it; `False`, a reason, or a list or tuple of reasons refuses it.
        retention: How long checkpoints and ended harness runs are kept; `None` keeps them forever.
        run_timeout: Seconds that an AG-UI run of this harness may take from when it gets its slot. One that takes
            longer ends with a `RUN_ERROR` (code `TIMEOUT`). `None` leaves it to the runner's `run_timeout`.
        silence_timeout: Seconds that an agent may be silent, in the same way. Waiting for a slot or an approval does
            not count.
        name: Name of the slots; harnesses with different names on one store have separate slots.

    Raises:
        ValueError: There are no agents, one of them cannot be run, or an option has a value that its type does not
            allow.
        AgentNotFound: The router's default is not one of the agents.

    Example::

        async with SqliteAgentRunner("threads.db") as runner, Harness(runner, {"default": agent}) as harness:
            result = await harness.run("Order tea", thread_id="t1")
            for approval in result.approvals:
                result = await harness.decide(approval.approval_id, "approve", by="ann")
            print(result.state, result.content)
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
        run_timeout: float | None = None,
        silence_timeout: float | None = None,
        name: str = "default",
    ) -> None:
        check_agents(agents)
        check_options(
            max_concurrent_runs=max_concurrent_runs,
            recovery=recovery,
            router=router,
            policy=policy,
            retention=retention,
            name=name,
        )
        if router is not None and router.default is not None:
            check_agent(agents, router.default)
        state = HarnessState(
            runner,
            agents,
            name=name,
            max_concurrent_runs=max_concurrent_runs,
            recovery=recovery,
            router=router,
            policy=policy,
            retention=retention,
            timeouts=RunTimeouts(run_timeout, silence_timeout),
            on_open=self._recover_and_maintain,
        )
        super().__init__(state)
        self.runner = runner
        """Runner that runs the agents."""
        self.agents: Mapping[str, HarnessAgent] = {agent: HarnessAgent(state, agent) for agent in agents}
        """Agents by name as the harness runs them, for `runner.run` or `create_app`."""
        self.recovered = RecoveryReport()
        """Report of the recovery at start-up."""

    # Opening and closing

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def open(self) -> Store:
        """Open the harness if it is not open yet, and recover runs whose process is gone.

        All methods but `subscribe` and `aclose` do this first. After `aclose()` only `open()` and `async with` do,
        which open the runner again too.

        Returns:
            The runner's store.

        Raises:
            RunnerClosed: The harness or its runner is open in another event loop.
            StoreError: The store could not be read or written; the next call tries again.
        """
        return await self._state.reopen()

    async def _recover_and_maintain(self) -> None:
        state = self._state
        if state.recovery.enabled:
            self.recovered = await recover(state, state.store, resume=state.recovery.resume_on_startup)
        state.spawn(maintain(state))

    async def aclose(self) -> None:
        """End the live runs and close; the next start continues those that can continue."""
        await self._state.aclose()

    # Harness runs

    async def run(
        self,
        input: HarnessInput,
        *,
        agent: str | None = None,
        thread_id: str | None = None,
        run_id: str | None = None,
        scope: str | None = None,
        headers: Mapping[str, str] | None = None,
        listeners: Listeners | None = None,
    ) -> RunResult:
        """Run an agent until the harness run has ended or waits for an approval.

        The harness run continues even if the caller is cancelled. An agent that fails gives a result with the state
        `failed`, not an exception.

        Args:
            input: A user's text, a list of new messages, or a `RunAgentInput` or its dict. The agent also gets the
                thread's earlier messages.
            agent: Name of the agent; `None` asks the router.
            thread_id: Thread to run on; `None` takes the id in the input, or else a new one.
            run_id: Id of the harness run; `None` takes the id in the input, or else a new one.
            scope: Owner of the thread, for example a user's id; see `AgentRunner.run`.
            headers: Headers of the request, which the agent gets from `current_run()`.
            listeners: Functions to call with the items that `stream_events` would yield, by kind of item.

        Returns:
            The state of the harness run, its text, and the approvals it waits for.

        Raises:
            RunRefused: The policy refused the run, or the thread has open interrupts (`InterruptsOpen`). After this and
                every other exception here, nothing was started.
            AgentNotFound: The harness has no agent of that name, or none could be chosen.
            InvalidInput: The input was refused, or a listener is for an unknown kind or is not a function.
            AgentRunnerError: An error of `AgentRunner.run`, such as `CircularWait`.

        Example::

            result = await harness.run("Order tea", thread_id="t1", listeners={"content": print})
        """
        check_listeners(listeners)
        attempt, stream = await start_attempt(self._state, input, agent, thread_id, run_id, scope, headers)
        if listeners:
            await dispatch(iterate_items(attempt, stream), listeners)
        else:
            async for _ in stream.pages():
                pass
        return await attempt_result(self._state, attempt, scope)

    async def stream_events(
        self,
        input: HarnessInput,
        *,
        agent: str | None = None,
        thread_id: str | None = None,
        run_id: str | None = None,
        scope: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[StreamItem]:
        """Run an agent and yield its text, steps, tool results and harness events.

        Leaving the iteration early does not stop the harness run.

        Args:
            input: The same as for `run`, like all other arguments.
            agent: Name of the agent; `None` asks the router.
            thread_id: Thread to run on.
            run_id: Id of the harness run.
            scope: Owner of the thread.
            headers: Headers of the request.

        Yields:
            The items in the order in which they become durable.

        Raises:
            AgentRunnerError: The same errors as for `run`.

        Example::

            async for item in harness.stream_events("Order tea"):
                if item.kind == "content":
                    print(item.text, end="")
        """
        attempt, stream = await start_attempt(self._state, input, agent, thread_id, run_id, scope, headers)
        async for item in iterate_items(attempt, stream):
            yield item
        if attempt.refusal is not None:
            raise attempt.refusal

    async def cancel(
        self, run_id: str, *, thread_id: str | None = None, scope: str | AnyScope | None = ANY_SCOPE
    ) -> bool:
        """Cancel a harness run that waits or is under way, here or in another process.

        Args:
            run_id: Id of the harness run or of one of its AG-UI runs.
            thread_id: Its thread; needed if runs of several threads have the id.
            scope: Scope that the thread must belong to; by default any.

        Returns:
            Whether it was cancelled; `False` if it had already ended.

        Raises:
            RunNotFound: There is no such harness run in the scope.
            AmbiguousId: Several threads have one; pass `thread_id`.

        Example::

            await harness.cancel("r1")
        """
        check_scope_filter(scope)
        return await cancel(self._state, run_id, thread_id, scope)

    async def restart_conversation(self, thread_id: str, *, scope: str | AnyScope | None = ANY_SCOPE) -> None:
        """Cancel a thread's harness runs, and remove the thread with everything it has.

        Args:
            thread_id: Thread to remove; the next run on it starts a new conversation.
            scope: Scope that the thread must belong to; by default any.

        Raises:
            ThreadNotFound: There is no such thread in the scope.

        Example::

            await harness.restart_conversation("t1")
        """
        check_scope_filter(scope)
        await restart(self._state, thread_id, scope)

    async def prune(self) -> int:
        """Remove the checkpoints and ended harness runs that the retention does not keep.

        The harness does this automatically about once a minute.

        Returns:
            The number of checkpoints and harness runs that were removed.

        Example::

            removed = await harness.prune()
        """
        store, retention = await self._state.open(), self._state.retention
        return await prune(store, retention) if retention is not None else 0

    # Recovery

    async def recover(self) -> RecoveryReport:
        """Continue or end the harness runs whose process is gone, as at start-up.

        Returns:
            The report of what was done; it is empty if recovery is not enabled.

        Example::

            report = await harness.recover()
            print(report.resumed, report.failed)
        """
        store = await self._state.open()
        if not self._state.recovery.enabled:
            return RecoveryReport()
        return await recover(self._state, store, resume=True)
