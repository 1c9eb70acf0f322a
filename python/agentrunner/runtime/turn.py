"""The loop of a user's turn: from one checkpoint to the next, until there is an outcome."""

from __future__ import annotations

import logging
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agentrunner._plain import replace_surrogates
from agentrunner.errors import LeaseLost, RecordConflict, StoreError
from agentrunner.runtime._public_errors import describe_error, is_current_run
from agentrunner.runtime.approvals import used_call_ids
from agentrunner.runtime.history import build_result_message, build_result_metadata
from agentrunner.runtime.ledger import Ledger
from agentrunner.runtime.llm import ToolSpec
from agentrunner.runtime.middleware import TurnContext
from agentrunner.runtime.model_response import ModelResponse, ResponseReader
from agentrunner.runtime.outcome import Completed, Failed, Interrupted, Outcome, WaitingForClient
from agentrunner.runtime.prompt import list_client_tools
from agentrunner.runtime.tool_calls import CallPolicy, CallRunner

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agentrunner.runtime.approvals import ApprovalHandler, ToolPolicy
    from agentrunner.runtime.checkpoints import Checkpoint, Step
    from agentrunner.runtime.config import RuntimeConfig, ToolErrorRecovery
    from agentrunner.runtime.llm import LlmClient, LlmRequest, Usage
    from agentrunner.runtime.middleware import Middleware
    from agentrunner.runtime.model_response import Events
    from agentrunner.runtime.prompt import Prompter
    from agentrunner.runtime.session import Session, Sessions
    from agentrunner.runtime.tool_calls import CheckedCall
    from agentrunner.runtime.tools import Tool, ToolCall

logger = logging.getLogger("agentrunner")


@dataclass(frozen=True, slots=True)
class TurnResources:
    """The objects and options that all turns of a runtime share."""

    llm: LlmClient
    prompter: Prompter
    tools: dict[str, Tool]
    """The runtime's own tools and those of its skills, by name."""
    config: RuntimeConfig
    middlewares: Sequence[Middleware]
    approval_handler: ApprovalHandler | None
    tool_policy: ToolPolicy | None
    recovery: ToolErrorRecovery


class _TurnFailed(Exception):
    """Ends a turn with the outcome `Failed`; its text is shown to people."""


class Turn:
    """A user's turn.

    Each of its states is a checkpoint, so it can continue after a crash.
    """

    def __init__(
        self,
        resources: TurnResources,
        sessions: Sessions,
        session: Session,
        checkpoint: Checkpoint,
        run_id: str,
    ) -> None:
        self._resources = resources
        self._sessions = sessions
        self._session = session
        self._checkpoint = checkpoint
        self._run_id = run_id
        self._ledger = Ledger(sessions, session.id)
        self._may_have_started_calls = checkpoint.step == "before_tool_calls"
        """Whether another process may have started calls of the current model response."""
        self._request: LlmRequest | None = None
        """The request this process has just built; `None` if it must be read from the checkpoint."""
        self._open_step: str | None = None
        """Name of the AG-UI step that has started and not finished."""
        self.usage: list[Usage] = []
        """Tokens of each model request in this turn."""

    async def events(self) -> Events:
        """Continue from the checkpoint to the outcome, and iterate over the AG-UI events.

        `RUN_*` events are not among them. Raises `RecordConflict`, `LeaseLost` and `StoreError`. The turn then has no
        outcome and can be continued.
        """
        try:
            while self._session.outcome is None:
                async with aclosing(self._take_step()) as events:
                    async for event in events:
                        yield event
        except (StoreError, LeaseLost, RecordConflict):
            raise
        except _TurnFailed as error:
            await self._save(outcome=Failed(str(error)))
        except Exception as error:
            if not is_current_run(self._session.id, self._run_id):
                logger.warning("session %s, run %s: the turn failed", self._session.id, self._run_id, exc_info=error)
            await self._save(outcome=Failed(describe_error(error)))
        else:
            for event in self._finish_step():
                yield event

    def _take_step(self) -> Events:
        match self._checkpoint.step:
            case "after_user_input" | "after_tool_calls":
                return self._prepare_request(())
            case "before_llm":
                return self._ask_model()
            case "before_tool_calls":
                return self._run_calls()

    def _build_context(self) -> TurnContext:
        return TurnContext(self._session.id, self._run_id, self._checkpoint.turn, self._session)

    async def _save(
        self,
        step: Step | None = None,
        *,
        messages: Iterable[dict[str, Any]] = (),
        outcome: Outcome | None = None,
        approvals: dict[str, int] | None = None,
        **checkpoint_fields: Any,
    ) -> None:
        """Store messages, an outcome and, with a `step`, a checkpoint.

        Fields that are not passed have the values of the last checkpoint.
        """
        checkpoint = None
        if step is not None:
            last = self._checkpoint
            counts = {"turn": last.turn, "empty": last.empty, "failures": last.failures}
            checkpoint = {"step": step, "run_id": self._run_id, **counts, **checkpoint_fields}
        session_fields: dict[str, Any] = {"outcome": outcome}
        if approvals is not None:
            session_fields["approvals"] = approvals
        new_checkpoint = await self._sessions.save(
            self._session, messages=messages, checkpoint=checkpoint, **session_fields
        )
        if new_checkpoint is not None:
            self._checkpoint = new_checkpoint

    def _start_step(self) -> Iterator[dict[str, Any]]:
        if self._open_step is None:
            self._open_step = f"turn {self._checkpoint.turn}"
            yield {"type": "STEP_STARTED", "stepName": self._open_step}

    def _finish_step(self) -> Iterator[dict[str, Any]]:
        if self._open_step is not None:
            yield {"type": "STEP_FINISHED", "stepName": self._open_step}
            self._open_step = None

    async def _prepare_request(self, messages: Iterable[dict[str, Any]], empty: int = 0) -> Events:
        """Build the next request, let middleware change it, and store it with these messages."""
        resources, config = self._resources, self._resources.config
        for event in self._finish_step():
            yield event
        if self._checkpoint.turn >= config.max_turns:
            raise _TurnFailed(
                f"The turn reached max_turns ({config.max_turns} model requests) before the model had finished"
            )
        request = await resources.prompter.build_request(self._session)
        turn = self._checkpoint.turn + 1
        context = replace(self._build_context(), turn=turn)
        for middleware in resources.middlewares:
            request = await middleware.on_pre_llm(context, request) or request
        packed = resources.prompter.pack(request, self._session)
        await self._save("before_llm", messages=messages, turn=turn, empty=empty, request=packed)
        self._request = request

    async def _ask_model(self) -> Events:
        """Send the request, and store the response."""
        resources, session = self._resources, self._session
        for event in self._start_step():
            yield event
        request = self._request or resources.prompter.unpack(self._checkpoint.request, session)
        self._request = None
        reader = ResponseReader(used_call_ids(session))
        async with aclosing(reader.events(resources.llm, _replace_surrogates(request))) as events:
            async for event in events:
                yield event
        if reader.usage is not None:
            self.usage.append(reader.usage)
        response = reader.response
        for middleware in resources.middlewares:
            response = await middleware.on_post_llm(self._build_context(), response) or response
        if response.empty:
            empty = self._checkpoint.empty + 1
            if empty >= resources.config.max_empty_answers:
                raise _TurnFailed(f"The model returned {empty} empty responses in a row")
            async with aclosing(self._prepare_request(response.messages(), empty)) as events:
                async for event in events:
                    yield event
            return
        if response.calls:
            calls = tuple(self._mark_calls(response, request))
            await self._save("before_tool_calls", messages=response.messages(), calls=calls, empty=0)
            self._may_have_started_calls = False
        else:
            await self._save(messages=response.messages(), outcome=Completed(response.text))
        if response.messages() != reader.response.messages():
            yield {"type": "MESSAGES_SNAPSHOT", "messages": session.messages}

    def _mark_calls(self, response: ModelResponse, request: LlmRequest) -> Iterator[ToolCall]:
        """Iterate over the calls, marked as the client's and as offered to the model."""
        offered = {spec.name for spec in request.tools}
        client_tools = {spec.name for spec in list_client_tools(self._session, self._resources.tools)}
        for call in response.calls:
            yield replace(call, offered=call.name in offered, client=call.name in offered & client_tools)

    async def _run_calls(self) -> Events:
        """Run the tools once each of their calls may run, and store the results."""
        resources, checkpoint = self._resources, self._checkpoint
        for event in self._start_step():
            yield event
        own_calls = [call for call in checkpoint.calls if not call.client]
        entries = await self._ledger.find_entries(own_calls) if self._may_have_started_calls else {}
        policy = CallPolicy(
            resources.tools, resources.tool_policy, resources.approval_handler, resources.config, self._session,
            self._sessions.agent_id,
        )  # fmt: skip
        checked_calls = [await policy.check(call, entries.get(call.id)) for call in own_calls]
        ready = [call for call in checked_calls if call is not None]
        if policy.waiting:
            await self._wait_for_decisions(policy, ready)
            return
        runner = CallRunner(self._build_context(), self._ledger, resources.middlewares, resources.recovery)
        messages_by_call = {call.id: call.result for call in checkpoint.calls if call.result is not None}
        async with aclosing(runner.run(ready, entries)) as results:
            async for call, result in results:
                message = messages_by_call[call.id] = build_result_message(call.id, result)
                event = {
                    "type": "TOOL_CALL_RESULT", "messageId": message["id"], "toolCallId": call.id,
                    "content": result.content, "role": "tool",
                }  # fmt: skip
                if metadata := build_result_metadata(result):
                    event["metadata"] = metadata
                yield event
        messages = [messages_by_call[call.id] for call in checkpoint.calls if call.id in messages_by_call]
        client_call_ids = [call.id for call in checkpoint.calls if call.id not in messages_by_call]
        failures = checkpoint.failures + 1 if runner.failure else 0
        await self._save(
            "after_tool_calls", messages=messages, outcome=self._decide_outcome(runner, failures, client_call_ids),
            approvals=policy.approvals, calls=checkpoint.calls, results=tuple(messages), failures=failures,
        )  # fmt: skip

    async def _wait_for_decisions(self, policy: CallPolicy, ready: Sequence[CheckedCall]) -> None:
        """End the turn with interrupts for the calls that wait for a client's decision."""
        calls = self._checkpoint.calls
        interrupts = policy.build_interrupts(self._checkpoint.key)
        # The decisions on the other calls are stored too, or their approver would be asked again.
        decided = {checked.call.id: checked.call for checked in ready if checked.call.decision is not None}
        calls_with_decisions = tuple(decided.get(call.id, call) for call in calls)
        step: Step | None = "before_tool_calls" if calls_with_decisions != calls else None
        await self._save(step, outcome=Interrupted(interrupts), approvals=policy.approvals, calls=calls_with_decisions)

    def _decide_outcome(self, runner: CallRunner, failures: int, client_call_ids: list[str]) -> Outcome | None:
        """Return the turn's outcome after its tool calls; `None` if the model is called next."""
        if runner.failure is not None and runner.is_stopped:
            return Failed(runner.failure)
        if runner.failure is not None and failures > self._resources.recovery.max_retries:
            return Failed(f"{runner.failure} (tools failed in {failures} model responses in a row)")
        return WaitingForClient(client_call_ids) if client_call_ids else None


def _replace_surrogates(request: LlmRequest) -> LlmRequest:
    """Return a request that can be encoded as UTF-8, which providers require."""
    specs = [(spec.name, spec.description, spec.parameters) for spec in request.tools]
    tools = [ToolSpec(*fields) for fields in replace_surrogates(specs)]
    return replace(request, messages=replace_surrogates(request.messages), tools=tools)
