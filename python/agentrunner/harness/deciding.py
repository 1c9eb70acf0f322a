"""The methods of a `Harness` that decide approvals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner.harness.decisions import DecisionRequest, decide
from agentrunner.harness.queries import HarnessQueries
from agentrunner.running.inputs import check_scope_filter
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from agentrunner.harness.types import RunResult
    from agentrunner.records.approvals import Decision
    from agentrunner.types import AnyScope


class HarnessDecisions(HarnessQueries):
    """The methods of a `Harness` that decide approvals, and those that only read."""

    async def decide(
        self,
        approval_id: str,
        decision: Decision,
        *,
        edited_input: Any = None,
        by: str | None = None,
        decision_id: str | None = None,
        reason: str | None = None,
        payload: Any = None,
        thread_id: str | None = None,
        scope: str | AnyScope | None = ANY_SCOPE,
    ) -> RunResult:
        """Decide an approval, and after the last one continue its harness run to its end.

        Each approval is decided once, even if several processes try. A repeated decision, which has the same
        `decision_id` or the same answer, returns the result of the harness run. The harness run continues even if the
        caller is cancelled.

        Args:
            approval_id: Id of the approval, as in `Approval.approval_id`.
            decision: `approve`, `reject` or `edit`.
            edited_input: With `edit`, the input that the tool gets instead.
            by: Name of the person who decided, for the record.
            decision_id: Id that identifies a repeated call.
            reason: With `reject`, the reason that the agent gets.
            payload: Answer that the agent gets instead of AG-UI's `approved`, for interrupts that ask for something
                else. Its `approved` and `editedArgs`, if any, must fit the decision.
            thread_id: Its thread, as in `Approval.thread_id`; needed if approvals of several threads have the id.
            scope: Scope that the thread must belong to; by default any. Pass the user's if a user sends the id.

        Returns:
            The state of the harness run.

        Raises:
            ApprovalNotFound: There is no such approval in the scope. After this and every other exception here, nothing
                was decided.
            AmbiguousId: Several threads have one; pass `thread_id`.
            AlreadyDecided: The approval already has a different decision.
            ApprovalExpired: The approval has expired; it can only be rejected, and with no payload that the agent
                could interpret as consent.
            InvalidInput: The decision is not one of the three, or its arguments do not fit it or cannot be written as
                JSON.
            AgentNotFound: This harness does not have the agent that asked.

        Example::

            result = await harness.decide("r1/int-call1", "reject", reason="Too expensive", by="ann")
        """
        request = DecisionRequest(decision, edited_input, by, decision_id, reason, payload)
        check_scope_filter(scope)
        return await decide(self._state, request, approval_id, thread_id, scope)

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
        scope: str | AnyScope | None = ANY_SCOPE,
    ) -> RunResult:
        """Decide one approval, or all that a thread's harness run waits for, as `decide` does.

        Args:
            approval_id: Id of the approval; `None` decides all open approvals of the thread alike.
            thread_id: The thread; needed without an approval id, or if approvals of several threads have it.
            decision: `approve`, `reject` or `edit`; `edit` decides one approval only.
            edited_input: With `edit`, the input that the tool gets instead.
            by: Name of the person who decided, for the record.
            decision_id: Id that identifies a repeated call.
            reason: With `reject`, the reason that the agent gets.
            payload: Answer that the agent gets instead of AG-UI's `approved`.
            scope: Scope that the thread must belong to; by default any.

        Returns:
            The state of the harness run.

        Raises:
            AgentRunnerError: The same as for `decide`; `ApprovalNotFound` also if the thread is not waiting for any.

        Example::

            result = await harness.resume(thread_id="t1", decision="approve", by="ann")
        """
        request = DecisionRequest(decision, edited_input, by, decision_id, reason, payload)
        check_scope_filter(scope)
        return await decide(self._state, request, approval_id, thread_id, scope)
