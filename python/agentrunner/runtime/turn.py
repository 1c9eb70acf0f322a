"""The loop of a user's turn: from one checkpoint to the next, until there is an outcome."""

from __future__ import annotations

import logging
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agentrunner.errors import AgentRunnerError, LeaseLost, RecordConflict, StoreError
from agentrunner.runtime.history import result_message, result_metadata
from agentrunner.runtime.ledger import Ledger
from agentrunner.runtime.middleware import TurnContext
from agentrunner.runtime.model_response import ModelResponse, ResponseReader
from agentrunner.runtime.outcome import Completed, Failed, Interrupted, Outcome, WaitingForClient
from agentrunner.runtime.prompt import client_tools
from agentrunner.runtime.tool_calls import CallPolicy, CallRunner, interrupts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence

    from agentrunner.runtime.approvals import ApprovalHandler, ToolPolicy
    from agentrunner.runtime.checkpoints import Checkpoint, Step
    from agentrunner.runtime.config import RuntimeConfig, ToolErrorRecovery
    from agentrunner.runtime.llm import LlmClient, LlmRequest, Usage
    from agentrunner.runtime.middleware import Middleware
    from agentrunner.runtime.prompt import Prompter
    from agentrunner.runtime.session import Session, Sessions
    from agentrunner.runtime.tools import Tool

    Events = AsyncGenerator[dict[str, Any], None]

logger = logging.getLogger("agentrunner")


@dataclass(frozen=True, slots=True)
class TurnResources:
    """What a turn is done with."""

    llm: LlmClient
    prompter: Prompter
    tools: dict[str, Tool]
    """The runtime's own and the skills'."""
    config: RuntimeConfig
    middlewares: Sequence[Middleware]
    approval_handler: ApprovalHandler | None
    tool_policy: ToolPolicy | None
    recovery: ToolErrorRecovery


class _TurnFailed(Exception):
    """Ends a turn with the outcome `Failed`; the text is for people."""


class Turn:
    """A user's turn. Each state it can be in is a checkpoint: going on is the same as going on after a crash."""

    def __init__(
        self, resources: TurnResources, sessions: Sessions, session: Session, at: Checkpoint, run_id: str
    ) -> None:
        self._resources = resources
        self._sessions = sessions
        self._session = session
        self._at = at
        self._run_id = run_id
        self._ledger = Ledger(sessions, session.id)
        self._begun_before = at.step == "before_tool_calls"
        """Whether calls of this turn may be in the ledger from another process."""
        self._request: LlmRequest | None = None
        self._step: str | None = None
        self.usage: list[Usage] = []
        """Of each question."""

    async def events(self) -> Events:
        """Go on from the checkpoint until the session has an outcome; yield AG-UI events, no `RUN_*` among them.

        Raises `RecordConflict`, `LeaseLost`, `StoreError`: then the turn has no outcome, and can be gone on with.
        """
        try:
            while self._session.outcome is None:
                async with aclosing(self._next()) as events:
                    async for event in events:
                        yield event
        except (StoreError, LeaseLost, RecordConflict):
            raise
        except (_TurnFailed, AgentRunnerError) as error:
            logger.warning("session %s: a turn failed: %s", self._session.id, error)
            await self._save(outcome=Failed(str(error)))
        except Exception as error:
            logger.exception("session %s: a turn failed", self._session.id)
            await self._save(outcome=Failed(str(error) or type(error).__name__))
        else:
            for event in self._step_ended():
                yield event

    def _next(self) -> Events:
        match self._at.step:
            case "after_user_input" | "after_tool_calls":
                return self._prepare(())
            case "before_llm":
                return self._ask()
            case "before_tool_calls":
                return self._call()

    @property
    def _context(self) -> TurnContext:
        return TurnContext(self._session.id, self._run_id, self._at.turn, self._session)

    async def _save(
        self,
        step: Step | None = None,
        *,
        messages: Iterable[dict[str, Any]] = (),
        outcome: Outcome | None = None,
        approvals: dict[str, int] | None = None,
        **fields: Any,
    ) -> None:
        checkpoint = None
        if step is not None:
            carried = {"turn": self._at.turn, "empty": self._at.empty, "failures": self._at.failures}
            checkpoint = {"step": step, "run_id": self._run_id, **carried, **fields}
        changed: dict[str, Any] = {"outcome": outcome}
        if approvals is not None:
            changed["approvals"] = approvals
        made = await self._sessions.save(self._session, messages=messages, checkpoint=checkpoint, **changed)
        if made is not None:
            self._at = made

    def _step_begun(self) -> Iterator[dict[str, Any]]:
        if self._step is None:
            self._step = f"turn {self._at.turn}"
            yield {"type": "STEP_STARTED", "stepName": self._step}

    def _step_ended(self) -> Iterator[dict[str, Any]]:
        if self._step is not None:
            yield {"type": "STEP_FINISHED", "stepName": self._step}
            self._step = None

    async def _prepare(self, messages: Iterable[dict[str, Any]], empty: int = 0) -> Events:
        """Make the next question: trim, let middleware change it, keep it."""
        resources, session, config = self._resources, self._session, self._resources.config
        for event in self._step_ended():
            yield event
        if self._at.turn >= config.max_turns:
            raise _TurnFailed(f"Max turns ({config.max_turns}) reached before the model had finished")
        request = await resources.prompter.question(session)
        context = replace(self._context, turn=self._at.turn + 1)
        for middleware in resources.middlewares:
            request = await middleware.on_pre_llm(context, request) or request
        kept = resources.prompter.pack(request, session)
        await self._save("before_llm", messages=messages, turn=self._at.turn + 1, empty=empty, request=kept)
        self._request = request

    async def _ask(self) -> Events:
        """Ask the model, and keep what it said."""
        resources, session = self._resources, self._session
        for event in self._step_begun():
            yield event
        request, self._request = self._request or resources.prompter.unpack(self._at.request, session), None
        listening = ResponseReader(session.call_ids())
        async with aclosing(listening.events(resources.llm, request)) as said:
            async for event in said:
                yield event
        if listening.usage is not None:
            self.usage.append(listening.usage)
        answer = listening.answer
        for middleware in resources.middlewares:
            answer = await middleware.on_post_llm(self._context, answer) or answer
        if answer.empty:
            empty = self._at.empty + 1
            if empty >= resources.config.max_empty_answers:
                raise _TurnFailed(f"The model gave no answer, though asked {empty} times")
            async with aclosing(self._prepare(answer.messages(), empty)) as events:
                async for event in events:
                    yield event
            return
        if answer.calls:
            calls = tuple(self._sorted_out(answer, request))
            await self._save("before_tool_calls", messages=answer.messages(), calls=calls, empty=0)
            self._begun_before = False
        else:
            await self._save(messages=answer.messages(), outcome=Completed(answer.text))
        if answer.messages() != listening.answer.messages():
            yield {"type": "MESSAGES_SNAPSHOT", "messages": session.messages}

    def _sorted_out(self, answer: ModelResponse, request: LlmRequest) -> Iterator[Any]:
        """Say of each call whose tool it is, and whether the model was told of it."""
        offered = {spec.name for spec in request.tools}
        clients = {spec.name for spec in client_tools(self._session, self._resources.tools)}
        for call in answer.calls:
            yield replace(call, offered=call.name in offered, client=call.name in offered & clients)

    async def _call(self) -> Events:
        """Run the tools, once each of them may run."""
        resources, session = self._resources, self._session
        for event in self._step_begun():
            yield event
        own = [call for call in self._at.calls if not call.client]
        begun = await self._ledger.look(own) if self._begun_before else {}
        policy = CallPolicy(
            resources.tools, resources.tool_policy, resources.approval_handler, resources.config, session
        )
        judged = [await policy.judge(call, begun.get(call.id)) for call in own]
        ready = [one for one in judged if one is not None]
        if policy.waiting:
            waiting = Interrupted(interrupts(policy, resources.config.approval_expires, self._at.key))
            # What was decided of the others is not to be asked again.
            decided = {one.call.id: one.call for one in ready if one.call.decision is not None}
            calls = tuple(decided.get(call.id, call) for call in self._at.calls)
            step: Step | None = "before_tool_calls" if calls != self._at.calls else None
            await self._save(step, outcome=waiting, approvals=policy.approvals, calls=calls)
            return
        runs = CallRunner(self._context, self._ledger, resources.middlewares, resources.recovery)
        made: dict[str, dict[str, Any]] = {call.id: call.result for call in self._at.calls if call.result is not None}
        async with aclosing(runs.results(ready, begun)) as given:
            async for call, result in given:
                message = made[call.id] = result_message(call.id, result)
                event = {
                    "type": "TOOL_CALL_RESULT", "messageId": message["id"], "toolCallId": call.id,
                    "content": result.content, "role": "tool",
                }  # fmt: skip
                if metadata := result_metadata(result):
                    event["metadata"] = metadata
                yield event
        messages = [made[call.id] for call in self._at.calls if call.id in made]
        failures = self._at.failures + 1 if runs.failed else 0
        pending = [call.id for call in self._at.calls if call.id not in made]
        await self._save(
            "after_tool_calls", messages=messages, outcome=self._outcome(runs, failures, pending),
            approvals=policy.approvals, calls=self._at.calls, results=tuple(messages), failures=failures,
        )  # fmt: skip

    def _outcome(self, runs: CallRunner, failures: int, pending: list[str]) -> Outcome | None:
        retries = self._resources.recovery.max_retries
        if runs.failed is not None and runs.stopped:
            return Failed(runs.failed)
        if runs.failed is not None and failures > retries:
            return Failed(f"{runs.failed} (tools failed in {failures} turns in a row)")
        return WaitingForClient(pending) if pending else None
