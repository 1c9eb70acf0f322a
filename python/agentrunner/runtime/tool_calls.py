"""The tool calls of one turn: judged, run, and written down."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from agentrunner.runtime import approvals
from agentrunner.runtime.approvals import ApprovalRequest, Decision, Deny, action_key, asked, interrupt_id, judged
from agentrunner.runtime.history import UNKNOWN
from agentrunner.runtime.session import now_ms
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
    failure: bool = False
    """Whether it is a failure of the model's or the tool's, and not somebody's will."""
    ran: bool = False
    """Whether it is the tool's own, from before a crash."""
    concurrent = True


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call that may be run."""

    call: ToolCall
    tool: Tool
    arguments: dict[str, Any]

    @property
    def concurrent(self) -> bool:
        """Whether it may stand beside others."""
        return self.tool.concurrent


CheckedCall: TypeAlias = ResolvedCall | PendingCall


class CallPolicy:
    """Says of each call whether it runs, before any of them does."""

    def __init__(
        self,
        tools: dict[str, Tool],
        policy: ToolPolicy | None,
        handler: ApprovalHandler | None,
        config: RuntimeConfig,
        session: Session,
    ) -> None:
        self._tools = tools
        self._policy = policy
        self._handler = handler
        self._config = config
        self._session = session
        self.approvals = {key: until for key, until in session.approvals.items() if until > now_ms()}
        """Those of the session that hold, and what comes to be remembered."""
        self.waiting: list[ApprovalRequest] = []
        """What has to be approved by a client first."""

    def remember(self, key: str) -> None:
        """Hold an approval for what comes."""
        self.approvals[key] = now_ms() + int(self._config.approval_ttl * 1000)

    async def judge(self, call: ToolCall, entry: LedgerEntry | None) -> CheckedCall | None:
        """Say what is to be done with a call; `None`: it waits for its approval.

        Raises what the policy and the approval handler raise.
        """
        tool = self._tools.get(call.name) if call.offered else None
        if entry is not None:
            if entry.done is not None:
                return ResolvedCall(call, entry.done, failure=entry.done.error is not None, ran=True)
            if tool is None or not tool.idempotent:
                return ResolvedCall(call, UNKNOWN)
            call = replace(call, decision=entry.decision)
        if tool is None:
            text = f"There is no tool '{call.name}'."
            return ResolvedCall(call, ToolResult(text, text), failure=True)
        decision = _decision(call)
        try:
            arguments = _arguments(tool, call, decision)
        except InvalidArguments as error:
            return ResolvedCall(call, ToolResult(str(error), str(error)), failure=True)
        if entry is None and decision is None:
            verdict = await judged(self._policy, tool, call, self._session)
            if verdict == "deny" or isinstance(verdict, Deny):
                return ResolvedCall(call, _refused("This call is not allowed", getattr(verdict, "reason", "")))
            if verdict == "ask" and (key := action_key(tool, call.arguments)) not in self.approvals:
                given = orjson.loads(call.arguments or "{}")
                request = ApprovalRequest(interrupt_id(call.id), self._session.id, call, given, key)
                decision = await asked(self._handler, request)
                if decision is None:
                    self.waiting.append(request)
                    return None
                if decision.lasting:
                    self.remember(key)
                call = replace(call, decision=decision.kept())
                arguments = _arguments(tool, call, decision)
        if decision is not None and not decision.approved:
            return ResolvedCall(call, _refused("The user has rejected this call", decision.reason))
        return PendingCall(call, tool, arguments)


def _decision(call: ToolCall) -> Decision | None:
    if call.decision is None:
        return None
    kept = call.decision
    return Decision(kept.get("approved", False), kept.get("editedArgs"), kept.get("reason"))


def _arguments(tool: Tool, call: ToolCall, decision: Decision | None) -> dict[str, Any]:
    if decision is not None and decision.edited is not None:
        return tool.validate(orjson.dumps(decision.edited).decode())
    return tool.validate(call.arguments)


def _refused(text: str, reason: str | None) -> ToolResult:
    text = f"{text}: {reason}" if reason else f"{text}."
    return ToolResult(text, text)


class CallRunner:
    """Runs the calls of a turn, in their order, beside each other where they are declared safe."""

    def __init__(
        self, context: TurnContext, ledger: Ledger, middlewares: Sequence[Middleware], recovery: ToolErrorRecovery
    ) -> None:
        self._context = context
        self._ledger = ledger
        self._middlewares = middlewares
        self._recovery = recovery
        self.failed: str | None = None
        """What went wrong, of the first call that failed."""
        self.stopped = False
        """Whether that ends the turn."""

    async def results(
        self, calls: Sequence[CheckedCall], begun: dict[str, LedgerEntry]
    ) -> AsyncGenerator[tuple[ToolCall, ToolResult], None]:
        """Run them and yield what they gave, in their order; each is in the ledger by then.

        Raises what middleware raises, `RecordConflict` where another runs one of them, `LeaseLost`, `StoreError`.
        """
        for batch in _batches(calls):
            if self.stopped:
                for one in batch:
                    yield one.call, one.result if isinstance(one, ResolvedCall) else _refused("Not run", self.failed)
                continue
            to_run = [one for one in batch if isinstance(one, PendingCall)]
            entries = await self._ledger.begin([one.call for one in to_run], begun) if to_run else []
            tasks = {
                one.call.id: asyncio.ensure_future(self._run(one, entry))
                for one, entry in zip(to_run, entries, strict=True)
            }
            try:
                for one in batch:
                    result = one.result if isinstance(one, ResolvedCall) else await tasks[one.call.id]
                    self._note(one, result)
                    yield one.call, result
            finally:
                for task in tasks.values():
                    task.cancel()
                await asyncio.gather(*tasks.values(), return_exceptions=True)

    def _note(self, one: CheckedCall, result: ToolResult) -> None:
        if result.error is None or (isinstance(one, ResolvedCall) and not one.failure):
            return
        self.failed = self.failed or f"Tool '{one.call.name}' failed: {result.error}"
        # Arguments that do not fit are no failure of the tool's: the model is told in any case.
        if self._recovery.action == "stop" and (isinstance(one, PendingCall) or one.ran):
            self.stopped = True

    async def _run(self, one: PendingCall, entry: LedgerEntry) -> ToolResult:
        context = ToolContext(
            self._context.session_id, self._context.run_id, one.call.id, entry.idempotency_key, entry.attempt
        )
        try:
            for middleware in self._middlewares:
                await middleware.on_tool_call(self._context, one.call, one.arguments)
            result = await one.tool.call(one.arguments, context)
        except Exception as error:  # noqa: BLE001 - whatever a tool raises is what the model is told
            result = self._failure(one.tool, error)
        if one.call.decision is not None and "editedArgs" in one.call.decision:
            result = replace(result, metadata={**result.metadata, "editedArgs": one.call.decision["editedArgs"]})
        for middleware in self._middlewares:
            result = await middleware.on_tool_result(self._context, one.call, result) or result
        await self._ledger.end(entry, result)
        return result

    def _failure(self, tool: Tool, error: Exception) -> ToolResult:
        if isinstance(error, TimeoutError) and tool.timeout is not None and not str(error):
            text = f"it took longer than {tool.timeout:g} seconds"
        else:
            text = str(error) or type(error).__name__
        advice = f"\n{self._recovery.advice}" if self._recovery.action == "retry" and self._recovery.advice else ""
        return ToolResult(f"Error: {text}{advice}", text)


def _batches(calls: Sequence[CheckedCall]) -> Iterator[list[CheckedCall]]:
    """Give the calls in rows that may run together."""
    batch: list[CheckedCall] = []
    for one in calls:
        if batch and not (one.concurrent and batch[-1].concurrent):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def interrupts(policy: CallPolicy, expires: float | None, checkpoint: str) -> list[dict[str, Any]]:
    """Give AG-UI's interrupts for what waits for approval."""
    return [approvals.interrupt(request, expires, checkpoint) for request in policy.waiting]
