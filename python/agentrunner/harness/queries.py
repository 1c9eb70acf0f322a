"""Queries about a harness's runs, their events, and their approvals."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from agentrunner.harness.options import check_choice, check_listener
from agentrunner.harness.replay import replay
from agentrunner.harness.results import wait_for_run
from agentrunner.records import kinds
from agentrunner.records.approvals import ApprovalState, list_approvals, load_approval
from agentrunner.records.harness_runs import RunRecord, RunState, load_run, read_scope
from agentrunner.records.scopes import iterate_in_scope
from agentrunner.running.inputs import check_scope_filter
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from agentrunner.harness._state import HarnessState
    from agentrunner.harness.listeners import ListenerSubscription
    from agentrunner.harness.types import Listener, RunResult
    from agentrunner.records.approvals import Approval
    from agentrunner.records.harness_runs import HarnessEvent
    from agentrunner.types import AnyScope


class HarnessQueries:
    """The methods of a `Harness` that only read or wait, and change nothing."""

    def __init__(self, state: HarnessState) -> None:
        self._state = state

    async def wait(
        self, run_id: str, *, thread_id: str | None = None, scope: str | AnyScope | None = ANY_SCOPE
    ) -> RunResult:
        """Wait until a harness run has ended or waits for an approval, here or elsewhere.

        Args:
            run_id: Id of the harness run or of one of its AG-UI runs.
            thread_id: Its thread; needed if runs of several threads have the id.
            scope: Scope that the thread must belong to; by default any.

        Returns:
            The state of the harness run.

        Raises:
            RunNotFound: There is no such harness run in the scope.
            AmbiguousId: Several threads have one; pass `thread_id`.

        Example::

            result = await harness.wait("r1")
        """
        check_scope_filter(scope)
        return await wait_for_run(self._state, run_id, thread_id, scope)

    async def run_record(
        self, run_id: str, *, thread_id: str | None = None, scope: str | AnyScope | None = ANY_SCOPE
    ) -> RunRecord:
        """Return the record of a harness run.

        Args:
            run_id: Id of the harness run or of one of its AG-UI runs.
            thread_id: Its thread; needed if runs of several threads have the id.
            scope: Scope that the thread must belong to; by default any.

        Returns:
            The record: its state, its times, its attempts and its events.

        Raises:
            RunNotFound: There is no such harness run in the scope.
            AmbiguousId: Several threads have one; pass `thread_id`.

        Example::

            print((await harness.run_record("r1")).updated_at_utc)
        """
        check_scope_filter(scope)
        return await load_run(await self._state.open(), run_id, thread_id, scope)

    async def runs(
        self,
        thread_id: str | None = None,
        *,
        state: RunState | None = None,
        scope: str | AnyScope | None = ANY_SCOPE,
    ) -> list[RunRecord]:
        """Return the records of all harness runs, the oldest first.

        Args:
            thread_id: Only the harness runs of this thread.
            state: Only the harness runs in this state.
            scope: Only the harness runs of threads in this scope; `None` for threads without one.

        Returns:
            The records; those that cannot be read are logged and left out.

        Raises:
            InvalidInput: There is no such state.

        Example::

            failed = await harness.runs(state="failed")
        """
        if state is not None:
            check_choice("the state of a harness run", state, get_args(RunState))
        check_scope_filter(scope)
        store = await self._state.open()
        records = iterate_in_scope(kinds.HARNESS_RUN, store, thread_id, scope, read_scope)
        runs = await kinds.read_all(records, RunRecord.from_record)
        return sorted(
            (run for run in runs if state in (None, run.state)), key=lambda run: (run.created_at, run.run_id)
        )  # fmt: skip

    async def events(
        self,
        run_id: str,
        *,
        after: int = 0,
        thread_id: str | None = None,
        scope: str | AnyScope | None = ANY_SCOPE,
    ) -> list[HarnessEvent]:
        """Return the events of a harness run.

        Args:
            run_id: Id of the harness run or of one of its AG-UI runs.
            after: Only events with a number greater than this.
            thread_id: Its thread; needed if runs of several threads have the id.
            scope: Scope that the thread must belong to; by default any.

        Returns:
            The events in order. Deltas are compacted as in the thread: one event replaces many. So the deltas of an
            attempt have the first numbers of the gap that they fill, and the other numbers are missing.

        Raises:
            RunNotFound: There is no such harness run in the scope.
            AmbiguousId: Several threads have one; pass `thread_id`.

        Example::

            for event in await harness.events("r1", after=12):
                print(event.seq, event.type)
        """
        check_scope_filter(scope)
        store = await self._state.open()
        return await replay(store, await load_run(store, run_id, thread_id, scope), after)

    def subscribe(self, listener: Listener) -> ListenerSubscription[HarnessEvent]:
        """Call a listener for all events of harness runs in this process from now on.

        The listener is called in order, in a separate task: no run waits for it, and its exceptions are logged. A sync
        listener is called on the event loop.

        Args:
            listener: A sync or async function of the event.

        Returns:
            The subscription; close it, or use it in a `with` block, to end the calls.

        Raises:
            InvalidInput: The listener is not a function.

        Example::

            subscription = harness.subscribe(lambda event: print(event.type, event.run_id))
        """
        check_listener(listener)
        return self._state.bus.subscribe(listener)

    async def approvals(
        self,
        thread_id: str | None = None,
        *,
        state: ApprovalState | None = "open",
        scope: str | AnyScope | None = ANY_SCOPE,
    ) -> list[Approval]:
        """Return the approvals in a state, the oldest first.

        Args:
            thread_id: Only the approvals of this thread.
            state: `open` by default; `None` returns the approvals in any state.
            scope: Only the approvals of threads in this scope; `None` for threads without one.

        Returns:
            The approvals; decided ones that cannot be read are logged and left out.

        Raises:
            InvalidInput: There is no such state.
            RecordDamaged: An open approval cannot be read.

        Example::

            for approval in await harness.approvals():
                print(approval.approval_id, approval.tool, approval.input)
        """
        if state is not None:
            check_choice("the state of an approval", state, get_args(ApprovalState))
        check_scope_filter(scope)
        return await list_approvals(await self._state.open(), thread_id, state, scope)

    async def approval(
        self, approval_id: str, *, thread_id: str | None = None, scope: str | AnyScope | None = ANY_SCOPE
    ) -> Approval:
        """Return an approval.

        Args:
            approval_id: Id of the approval.
            thread_id: Its thread; needed if approvals of several threads have the id.
            scope: Scope that the thread must belong to; by default any.

        Returns:
            The approval, with its decision if there is one.

        Raises:
            ApprovalNotFound: There is no such approval in the scope.
            AmbiguousId: Several threads have one; pass `thread_id`.

        Example::

            approval = await harness.approval("r1/int-call1")
        """
        check_scope_filter(scope)
        return await load_approval(await self._state.open(), approval_id, thread_id, scope)
