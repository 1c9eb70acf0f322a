"""The tool calls of one model response: checked, run and written to the ledger."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from agentrunner._failures import AGENT_FAILED, get_error_text
from agentrunner.records.times import now_ms
from agentrunner.runtime._public_errors import describe_error
from agentrunner.runtime.approvals import (
    ApprovalRequest,
    Decision,
    Deny,
    action_key,
    ask_handler,
    ask_tool_policy,
    build_interrupt,
    make_interrupt_id,
    read_stored_decision,
    remembered_key,
)
from agentrunner.runtime.history import UNKNOWN_OUTCOME
from agentrunner.runtime.tools import InvalidArguments, Tool, ToolCall, ToolContext, ToolResult

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from agentrunner.runtime.approvals import ApprovalHandler, ToolPolicy
    from agentrunner.runtime.config import RuntimeConfig, ToolErrorRecovery
    from agentrunner.runtime.ledger import Ledger, LedgerEntry
    from agentrunner.runtime.middleware import Middleware, TurnContext
    from agentrunner.runtime.session import Session


@dataclass(frozen=True, slots=True)
class ResolvedCall:
    """A call whose result is known without running it."""

    call: ToolCall
    result: ToolResult
    is_failure: bool = False
    """Whether the model or the tool failed; false if a policy or an approver refused the call."""
    has_run: bool = False
    """Whether the result is the tool's own, from before a crash."""
    is_concurrent = True


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call that may run."""

    call: ToolCall
    tool: Tool
    arguments: dict[str, Any]

    @property
    def is_concurrent(self) -> bool:
        """Whether the call may run at the same time as others."""
        return self.tool.concurrent


CheckedCall: TypeAlias = ResolvedCall | PendingCall


class CallPolicy:
    """Decides which calls of a response may run, before any of them runs."""

    def __init__(
        self,
        tools: dict[str, Tool],
        policy: ToolPolicy | None,
        handler: ApprovalHandler | None,
        config: RuntimeConfig,
        session: Session,
        agent_id: str,
    ) -> None:
        self._tools = tools
        self._policy = policy
        self._handler = handler
        self._config = config
        self._session = session
        self._agent_id = agent_id
        self.approvals = {key: until for key, until in session.approvals.items() if until > now_ms()}
        """Remembered approvals that have not ended, with those of this response."""
        self.waiting: list[ApprovalRequest] = []
        """Calls that wait for a client's decision."""

    async def check(self, call: ToolCall, entry: LedgerEntry | None) -> CheckedCall | None:
        """Return a call ready to run, or its result; `None` if it waits for a client's decision.

        `entry` is the call's ledger entry if a process started it before. Raises what the policy and the approval
        handler raise.
        """
        tool = self._tools.get(call.name) if call.offered else None
        if entry is not None:
            if (result := entry.tool_result) is not None:
                return ResolvedCall(call, result, is_failure=result.error is not None, has_run=True)
            if tool is None or not tool.idempotent:
                return ResolvedCall(call, UNKNOWN_OUTCOME)
            call = replace(call, decision=entry.decision)
        if tool is None:
            text = f"There is no tool '{call.name}'."
            return ResolvedCall(call, ToolResult(text, text), is_failure=True)
        decision = read_stored_decision(call)
        try:
            arguments = _read_arguments(tool, call, decision)
        except InvalidArguments as error:
            return ResolvedCall(call, ToolResult(str(error), str(error)), is_failure=True)
        if entry is None and decision is None:
            verdict = await ask_tool_policy(self._policy, tool, call, self._session)
            if verdict == "deny" or isinstance(verdict, Deny):
                return ResolvedCall(call, _refuse("This call is not allowed", getattr(verdict, "reason", "")))
            if verdict == "ask" and self._remember_as(key := action_key(tool, call.arguments)) not in self.approvals:
                decision = await self._ask_for_decision(call, key)
                if decision is None:
                    return None
                call = replace(call, decision=decision.to_json())
                arguments = _read_arguments(tool, call, decision)
        if decision is not None and not decision.approved:
            return ResolvedCall(call, _refuse("The user has rejected this call", decision.reason))
        return PendingCall(call, tool, arguments)

    async def _ask_for_decision(self, call: ToolCall, key: str) -> Decision | None:
        """Return the handler's decision; without one, add the call to those that wait."""
        arguments = orjson.loads(call.arguments or "{}")
        request = ApprovalRequest(make_interrupt_id(call.id), self._session.id, call, arguments, key)
        decision = await ask_handler(self._handler, request)
        if decision is None:
            self.waiting.append(request)
        elif decision.is_lasting:
            self.approvals[self._remember_as(key)] = now_ms() + int(self._config.approval_ttl * 1000)
        return decision

    def _remember_as(self, action: str) -> str:
        return remembered_key(self._agent_id, action)

    def build_interrupts(self, checkpoint_key: str) -> list[dict[str, Any]]:
        """Return the AG-UI interrupts for the calls that wait for a client's decision."""
        expires_seconds = self._config.approval_expires
        return [build_interrupt(request, expires_seconds, checkpoint_key, self._agent_id) for request in self.waiting]


def _read_arguments(tool: Tool, call: ToolCall, decision: Decision | None) -> dict[str, Any]:
    if decision is not None and decision.edited is not None:
        return tool.validate(orjson.dumps(decision.edited).decode())
    return tool.validate(call.arguments)


def _refuse(text: str, reason: str | None) -> ToolResult:
    text = f"{text}: {reason}" if reason else f"{text}."
    return ToolResult(text, text)


class CallRunner:
    """Runs the calls of a response in their order, and concurrent ones at the same time."""

    def __init__(
        self, context: TurnContext, ledger: Ledger, middlewares: Sequence[Middleware], recovery: ToolErrorRecovery
    ) -> None:
        self._context = context
        self._ledger = ledger
        self._middlewares = middlewares
        self._recovery = recovery
        self._raised: dict[str, Exception] = {}
        """Exceptions that tools raised, by the call's id."""
        self.failure: str | None = None
        """Error of the first call that failed; `None` if no call has failed."""
        self.is_stopped = False
        """Whether the failure ends the turn."""

    async def run(
        self, calls: Sequence[CheckedCall], entries: dict[str, LedgerEntry]
    ) -> AsyncGenerator[tuple[ToolCall, ToolResult], None]:
        """Run calls and iterate over their results, in the order of the calls.

        The ledger has each result before it is yielded. `entries` are the ledger entries of calls that start again.
        Raises what middleware raises, `RecordConflict` if another process runs one of the calls, `LeaseLost` and
        `StoreError`.
        """
        for batch in _split_into_batches(calls):
            if self.is_stopped:
                for checked in batch:
                    not_run = _refuse("Not run", self.failure)
                    yield checked.call, checked.result if isinstance(checked, ResolvedCall) else not_run
                continue
            pending = [checked for checked in batch if isinstance(checked, PendingCall)]
            started = await self._ledger.start([call.call for call in pending], entries) if pending else []
            tasks = {
                call.call.id: asyncio.ensure_future(self._run_call(call, entry))
                for call, entry in zip(pending, started, strict=True)
            }
            try:
                for checked in batch:
                    result = checked.result if isinstance(checked, ResolvedCall) else await tasks[checked.call.id]
                    self._note_failure(checked, result)
                    yield checked.call, result
            finally:
                for task in tasks.values():
                    task.cancel()
                await asyncio.gather(*tasks.values(), return_exceptions=True)

    def _note_failure(self, checked: CheckedCall, result: ToolResult) -> None:
        if result.error is None or (isinstance(checked, ResolvedCall) and not checked.is_failure):
            return
        if self.failure is None:
            error = self._raised.get(checked.call.id)
            # The run's readers see this text, but must not see the text of an exception.
            reason = result.error if error is None else describe_error(error).removeprefix(AGENT_FAILED)
            self.failure = f"Tool '{checked.call.name}' failed: {reason}"
        # Invalid arguments are the model's mistake: even with the action `stop`, the model may correct it.
        if self._recovery.action == "stop" and (isinstance(checked, PendingCall) or checked.has_run):
            self.is_stopped = True

    async def _run_call(self, pending: PendingCall, entry: LedgerEntry) -> ToolResult:
        call, tool = pending.call, pending.tool
        context = ToolContext(
            self._context.session_id, self._context.run_id, call.id, entry.idempotency_key, entry.attempt
        )
        try:
            for middleware in self._middlewares:
                await middleware.on_tool_call(self._context, call, pending.arguments)
            result = await tool.call(pending.arguments, context)
        except Exception as error:  # noqa: BLE001 - a tool may raise anything, and the model is told
            self._raised[call.id] = error
            result = self._describe_error(tool, error)
        if call.decision is not None and "editedArgs" in call.decision:
            result = replace(result, metadata={**result.metadata, "editedArgs": call.decision["editedArgs"]})
        for middleware in self._middlewares:
            result = await middleware.on_tool_result(self._context, call, result) or result
        await self._ledger.finish(entry, result)
        return result

    def _describe_error(self, tool: Tool, error: Exception) -> ToolResult:
        is_timeout = isinstance(error, TimeoutError) and tool.timeout is not None and not str(error)
        text = f"it took longer than {tool.timeout:g} seconds" if is_timeout else get_error_text(error)
        advice = f"\n{self._recovery.advice}" if self._recovery.action == "retry" and self._recovery.advice else ""
        return ToolResult(f"Error: {text}{advice}", text)


def _split_into_batches(calls: Sequence[CheckedCall]) -> Iterator[list[CheckedCall]]:
    """Iterate over the calls in groups that may run at the same time."""
    batch: list[CheckedCall] = []
    for call in calls:
        if batch and not (call.is_concurrent and batch[-1].is_concurrent):
            yield batch
            batch = []
        batch.append(call)
    if batch:
        yield batch
