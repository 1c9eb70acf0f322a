"""The start of a turn: a run's input is added to its session."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agentrunner.errors import ApprovalNotFound, InterruptsOpen, InvalidInput
from agentrunner.records.approvals import has_accepted_answers, is_every_interrupt_closed
from agentrunner.records.times import now_ms
from agentrunner.running.current import current_run, refuse_run
from agentrunner.runtime.approvals import action_key, make_interrupt_id, read_decisions, remembered_key
from agentrunner.runtime.history import (
    complete_results,
    find_calls_without_result,
    find_client_results,
    find_regeneration_point,
    select_new_messages,
)
from agentrunner.runtime.ledger import Ledger
from agentrunner.runtime.middleware import TurnContext
from agentrunner.runtime.outcome import Failed, Interrupted, WaitingForClient
from agentrunner.runtime.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ag_ui.core import RunAgentInput

    from agentrunner.runtime.checkpoints import Checkpoint
    from agentrunner.runtime.session import Sessions
    from agentrunner.runtime.tools import ToolCall
    from agentrunner.runtime.turn import TurnResources


@dataclass(frozen=True, slots=True)
class TurnStart:
    """A session whose turn can start or continue."""

    session: Session
    checkpoint: Checkpoint | None
    """Checkpoint from which the turn continues; `None` if the session has its outcome already."""
    needs_snapshot: bool
    """Whether clients must receive all messages again, because they have not seen all that the session has."""


class TurnStarter:
    """Adds one run's input to its session, and finds the checkpoint to continue from."""

    def __init__(self, resources: TurnResources, sessions: Sessions, input: RunAgentInput) -> None:
        self._resources = resources
        self._sessions = sessions
        self._input = input
        self._messages = [message.model_dump(mode="json", by_alias=True) for message in input.messages]
        self._client_input = {
            "tools": [tool.model_dump(mode="json", by_alias=True) for tool in input.tools or []],
            "context": [entry.model_dump(mode="json", by_alias=True) for entry in input.context or []],
            "state": input.state,
        }

    async def start_run(self) -> TurnStart:
        """Start a turn with new messages, or continue one with decisions.

        Raises what `AgentRuntime.run` raises, and then changes nothing.
        """
        session = await self._sessions.find(self._input.thread_id)
        if self._input.resume:
            return await self._apply_decisions(session)
        return await self._add_messages(session)

    async def resume_run(self) -> TurnStart:
        """Continue the turn of a run whose process died.

        If the session does not have the run's input yet, the turn starts with it. Raises what `AgentRuntime.run`
        raises.
        """
        session = await self._sessions.find(self._input.thread_id)
        if self._input.resume:
            return await self._apply_decisions(session, is_retry=True)
        if session is None or await self._is_input_missing(session) or not await self._is_own_turn(session):
            return await self._add_messages(session)
        return await self._continue(session)

    async def start_from_checkpoint(self, number: int | None) -> TurnStart:
        """Continue from a checkpoint, by default the last.

        With a number, or if the turn failed, everything after the checkpoint is removed first. Raises
        `SessionNotFound`, `RecordDamaged`, `RecordTooNew`, and `InvalidInput` if it is another agent's.
        """
        session = await self._sessions.load(self._input.thread_id)
        checkpoint = await self._sessions.load_checkpoint(session, number)
        if not checkpoint.is_of(self._sessions.agent_id):
            raise InvalidInput(
                f"checkpoint {checkpoint.number} of session '{session.id}' belongs to agent '{checkpoint.agent}', not "
                f"to '{self._sessions.agent_id}'; only that agent can continue from it"
            )
        if number is not None or isinstance(session.outcome, Failed):
            await self._sessions.rewind(session, checkpoint)
        is_after_calls = session.outcome is None and checkpoint.step == "after_tool_calls"
        if is_after_calls and (call_ids := find_calls_without_result(session)):
            await self._sessions.save(session, outcome=WaitingForClient(call_ids))
        return TurnStart(session, checkpoint if session.outcome is None else None, True)

    async def _is_input_missing(self, session: Session) -> bool:
        """Return whether the run's process died before it stored the run's input in the session."""
        if session.checkpoints == 0:
            return True
        known_ids = {message["id"] for message in session.messages}
        # Only messages after the last known one are new. Unknown messages before it were for other agents.
        for message in reversed(self._messages):
            if message["id"] in known_ids:
                break
            if message["role"] == "user":
                return True
        return isinstance(session.outcome, WaitingForClient) and bool(
            find_client_results(session, await self._load_unfinished_calls(session), self._messages)
        )

    async def _is_own_turn(self, session: Session) -> bool:
        """Return whether the last turn is this agent's."""
        return (await self._sessions.load_checkpoint(session)).is_of(self._sessions.agent_id)

    async def _load_unfinished_calls(self, session: Session) -> Sequence[ToolCall]:
        """Return the calls of the last model response if one of them has no result."""
        if not find_calls_without_result(session):
            return ()
        return (await self._sessions.load_checkpoint(session)).calls

    async def _continue(self, session: Session) -> TurnStart:
        checkpoint = await self._sessions.load_checkpoint(session) if session.outcome is None else None
        return TurnStart(session, checkpoint, True)

    async def _add_messages(self, stored_session: Session | None) -> TurnStart:
        session = stored_session or Session(self._input.thread_id)
        if isinstance(session.outcome, Interrupted) and not await self._are_interrupts_closed(session.outcome):
            ids = ", ".join(sorted(interrupt["id"] for interrupt in session.outcome.interrupts))
            raise InterruptsOpen(
                f"thread '{session.id}' has open interrupts, which the run's resume must decide: {ids}"
            )
        calls = await self._load_unfinished_calls(session)
        client_results = find_client_results(session, calls, self._messages)
        entries = await Ledger(self._sessions, session.id).find_entries([call for call in calls if not call.client])
        results = complete_results(session, calls, client_results, entries)
        new_messages = await self._take_new_messages(session, stored_session)
        count = None if new_messages or client_results else find_regeneration_point(session, self._messages)
        truncation = await self._sessions.plan_truncation(session, count) if count is not None else {}
        checkpoint = await self._sessions.save(
            session, messages=[] if truncation else [*results, *new_messages],
            outcome=None, client_input=self._client_input, decided_interrupts=[],
            checkpoint={"step": "after_user_input", "turn": 0, "run_id": self._input.run_id}, **truncation,
        )  # fmt: skip
        return TurnStart(session, checkpoint, count is not None or len(results) > len(client_results))

    async def _take_new_messages(self, session: Session, stored_session: Session | None) -> list[dict[str, Any]]:
        """Return the messages the session takes over, after middleware has changed them."""
        take_history = self._resources.config.take_history
        history = await self._read_history(session) if take_history else self._messages
        messages = select_new_messages(session, history, take_history=take_history)
        context = TurnContext(session.id, self._input.run_id, 0, stored_session)
        for number, message in enumerate(messages):
            if message["role"] == "user":
                for middleware in self._resources.middlewares:
                    try:
                        changed = await middleware.on_user_message(context, message)
                    except Exception:
                        refuse_run(self._input.run_id)
                        raise
                    # Keep the id: the client sends the message again with each run, and the session recognizes it by
                    # its id.
                    message = {**changed, "id": message["id"]} if changed is not None else message
                messages[number] = message
        return messages

    async def _read_history(self, session: Session) -> list[dict[str, Any]]:
        """Return the input's messages, with the thread's own copies of all but the user's."""
        known_ids = {message["id"] for message in session.messages}
        is_other = any(each["role"] == "assistant" and each["id"] not in known_ids for each in self._messages)
        # Without a claim there is no thread, and the messages are the application's.
        if not is_other or self._sessions.claim is None:
            return self._messages
        own: dict[tuple[str, str], dict[str, Any]] = {}
        for message in await current_run().messages():
            if message["role"] != "user":
                # An agent may use one id for several messages; keep the first one.
                own.setdefault((message["role"], message["id"]), message)
        history = [
            own.get((each["role"], each["id"]), each)
            for each in self._messages
            if each["role"] == "user" or (each["role"], each["id"]) in own
        ]
        return [*history, *(message for message in own.values() if message["role"] == "tool")]

    async def _are_interrupts_closed(self, outcome: Interrupted) -> bool:
        """Return whether a harness has closed all of the interrupts, as a cancelled run does."""
        ids = [interrupt["id"] for interrupt in outcome.interrupts]
        return await is_every_interrupt_closed(self._sessions.store, self._input.thread_id, ids)

    def _must_check_expiry(self) -> bool:
        """Return whether to refuse late decisions, which a harness has already done."""
        try:
            run = current_run()
        except LookupError:
            return True
        return run.thread_id != self._input.thread_id or not has_accepted_answers(run.thread_id, run.run_id)

    async def _apply_decisions(self, session: Session | None, *, is_retry: bool = False) -> TurnStart:
        entries = self._input.resume or []
        decided_ids = {entry.interrupt_id for entry in entries}
        if session is None or not decided_ids <= {make_interrupt_id(call_id) for call_id in session.call_ids()}:
            raise ApprovalNotFound(
                f"thread '{self._input.thread_id}' has no open interrupt {', '.join(sorted(decided_ids))};"
                " connect to see the open ones"
            )
        checkpoint = await self._sessions.load_checkpoint(session)
        if not checkpoint.is_of(self._sessions.agent_id):
            raise ApprovalNotFound(
                f"the interrupts of thread '{session.id}' belong to the agent '{checkpoint.agent}', so that agent must "
                f"get the decisions, not '{self._sessions.agent_id}'"
            )
        outcome = session.outcome
        if isinstance(outcome, Failed) and not is_retry and self._are_decided_now(session, decided_ids):
            # The decisions were carried out up to where the turn got. The client cannot continue without a response to
            # them.
            await self._sessions.save(session, outcome=None, client_input=self._client_input)
            return TurnStart(session, checkpoint, True)
        if not isinstance(outcome, Interrupted) or (
            is_retry and decided_ids.isdisjoint(interrupt["id"] for interrupt in outcome.interrupts)
        ):
            # The session already has these decisions: this run stored them before its process died, or the client sent
            # them twice.
            return await self._continue(session)
        tools, config = self._resources.tools, self._resources.config
        decisions = read_decisions(
            session, entries, outcome, checkpoint.calls, tools, check_expiry=self._must_check_expiry()
        )
        client_results = find_client_results(session, checkpoint.calls, self._messages)
        calls = []
        approvals = dict(session.approvals)
        for call in checkpoint.calls:
            decision = decisions.get(call.id)
            if decision is not None:
                call = replace(call, decision=decision.to_json())
                tool = tools.get(call.name)
                if decision.is_lasting and tool is not None:
                    key = remembered_key(self._sessions.agent_id, action_key(tool, call.arguments))
                    approvals[key] = now_ms() + int(config.approval_ttl * 1000)
            calls.append(replace(call, result=client_results.get(call.id, call.result)))
        new_checkpoint = await self._sessions.save(
            session, outcome=None, client_input=self._client_input, approvals=approvals,
            decided_interrupts=[*session.decided_interrupts, *decided_ids],
            checkpoint={
                "step": "before_tool_calls", "turn": checkpoint.turn, "run_id": self._input.run_id,
                "calls": tuple(calls), "empty": checkpoint.empty, "failures": checkpoint.failures,
            },
        )  # fmt: skip
        return TurnStart(session, new_checkpoint, False)

    @staticmethod
    def _are_decided_now(session: Session, interrupt_ids: set[str]) -> bool:
        """Return whether the interrupts are of the calls since the last user message."""
        messages = session.messages
        starts = [number for number, message in enumerate(messages) if message["role"] == "user"]
        latest = Session(session.id, messages[starts[-1] if starts else 0 :])
        return interrupt_ids <= {make_interrupt_id(call_id) for call_id in latest.call_ids()}
