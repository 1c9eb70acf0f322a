"""The start of a turn: a run's input is added to its session."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agentrunner.errors import ApprovalNotFound, InterruptsOpen, InvalidInput
from agentrunner.records.approvals import has_accepted_answers, is_every_interrupt_closed
from agentrunner.records.times import now_ms
from agentrunner.running.changed_messages import SAID
from agentrunner.running.client_messages import read_messages, with_agent_ids
from agentrunner.running.current import current_run, refuse_run
from agentrunner.runtime.approvals import (
    action_key,
    find_withdrawn,
    make_interrupt_id,
    read_decisions,
    remembered_key,
)
from agentrunner.runtime.changed_list import ChangedList, find_copies, find_stored, follow_list, was_replaced
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
        # Not by this run's own list: it may be that of the run that is continued.
        if await self._find_left_behind(session.messages):
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
        changed = await self._read_changed_list(session)
        await self._check_interrupts(session, changed)
        calls = await self._load_unfinished_calls(session)
        client_results = find_client_results(session, calls, self._messages if changed is None else changed.trusted)
        entries = await Ledger(self._sessions, session.id).find_entries([call for call in calls if not call.client])
        results = complete_results(session, calls, client_results, entries)
        if changed is None:
            messages, new_ids, is_cut = await self._append_messages(session, results, has_results=bool(client_results))
            needs_snapshot = is_cut or len(results) > len(client_results)
        else:
            take_history = self._resources.config.take_history
            messages, new_ids = follow_list(session, changed, results, take_history=take_history)
            # The runner has sent the list itself, but not the results that the runtime adds to it.
            shown_ids = {message["id"] for message in changed.messages}
            needs_snapshot = any(result in messages and result["id"] not in shown_ids for result in results)
        messages = await self._apply_middleware(session, stored_session, messages, new_ids)
        call_ids = Session(session.id, messages).call_ids()
        checkpoint = await self._sessions.save(
            session, outcome=None, client_input=self._client_input,
            decided_interrupts=find_withdrawn(session, call_ids),
            checkpoint={"step": "after_user_input", "turn": 0, "run_id": self._input.run_id},
            **await self._sessions.plan_messages(session, messages),
        )  # fmt: skip
        return TurnStart(session, checkpoint, needs_snapshot)

    async def _read_changed_list(self, session: Session) -> ChangedList | None:
        """Return the messages that the run starts from, `None` if it only adds to the session's.

        The run's client may have changed them, or that of an earlier run which the session has no part in: another
        agent's, or one whose process died.
        """
        store, claim = self._sessions.store, self._sessions.claim
        if claim is None:
            return None
        run = current_run()
        if run.changed is not None:
            trusted = {message["id"]: message for message in run.changed.trusted}
            messages = with_agent_ids([trusted.get(each["id"], each) for each in run.changed.shown])
            seen_ids = await find_stored(store, claim, session.messages)
            return ChangedList(messages, await read_messages(store, claim), seen_ids)
        sent_ids = {message["id"] for message in self._messages}
        if not await self._find_left_behind([each for each in session.messages if each["id"] not in sent_ids]):
            return None
        thread = await read_messages(store, claim)
        thread_ids = {message["id"] for message in thread}
        new = [message for message in await run.messages() if message["id"] not in thread_ids]
        seen_ids = await find_stored(store, claim, session.messages)
        # Without the thread's copies of user messages: those may be edited ones.
        return ChangedList([*thread, *new], [each for each in thread if each["role"] != "user"], seen_ids)

    async def _find_left_behind(self, messages: list[dict[str, Any]]) -> set[str]:
        """Return the ids of those of the session's messages that the thread had and has no longer."""
        store, claim = self._sessions.store, self._sessions.claim
        spoken = [message for message in messages if message["role"] in SAID]
        if claim is None or not spoken or not await was_replaced(store, claim):
            return set()
        thread_ids = {message["id"] for message in await read_messages(store, claim)}
        return await find_stored(store, claim, [message for message in spoken if message["id"] not in thread_ids])

    async def _check_interrupts(self, session: Session, changed: ChangedList | None) -> None:
        """Raise `InterruptsOpen` if the session waits for decisions on calls that it keeps."""
        outcome = session.outcome
        if not isinstance(outcome, Interrupted) or (changed is not None and changed.is_left_behind(session, outcome)):
            return
        if not await self._are_interrupts_closed(outcome):
            ids = ", ".join(sorted(interrupt["id"] for interrupt in outcome.interrupts))
            raise InterruptsOpen(
                f"thread '{session.id}' has open interrupts, which the run's resume must decide: {ids}"
            )

    async def _append_messages(
        self, session: Session, results: list[dict[str, Any]], *, has_results: bool
    ) -> tuple[list[dict[str, Any]], set[str], bool]:
        """Return the session's messages with the run's new ones.

        Also return the ids of the user's new ones, and whether the session's end is cut off: it is if the run brings
        nothing new and wants its last user message answered again.
        """
        take_history = self._resources.config.take_history
        history = await self._read_history(session) if take_history else self._messages
        new_messages = select_new_messages(session, history, take_history=take_history)
        if not new_messages and not has_results:
            count = find_regeneration_point(session, self._messages)
            if count is not None:
                return session.messages[:count], set(), True
        user_ids = {message["id"] for message in new_messages if message["role"] == "user"}
        return [*session.messages, *results, *new_messages], user_ids, False

    async def _apply_middleware(
        self, session: Session, stored_session: Session | None, messages: list[dict[str, Any]], ids: set[str]
    ) -> list[dict[str, Any]]:
        """Return the messages after middleware has changed those of the user with these ids."""
        context = TurnContext(session.id, self._input.run_id, 0, stored_session)
        changed_messages = []
        for message in messages:
            if message["id"] in ids and message["role"] == "user":
                for middleware in self._resources.middlewares:
                    try:
                        changed = await middleware.on_user_message(context, message)
                    except Exception:
                        refuse_run(self._input.run_id)
                        raise
                    # Keep the id: the client sends the message again with each run, and the session recognizes it by
                    # its id.
                    message = {**changed, "id": message["id"]} if changed is not None else message
            changed_messages.append(message)
        return changed_messages

    async def _read_history(self, session: Session) -> list[dict[str, Any]]:
        """Return the input's messages, with the thread's own copies of all but the user's."""
        known_ids = {message["id"] for message in session.messages}
        is_other = any(each["role"] == "assistant" and each["id"] not in known_ids for each in self._messages)
        # Without a claim there is no thread, and the messages are the application's.
        if not is_other or self._sessions.claim is None:
            return self._messages
        own = find_copies(message for message in await current_run().messages() if message["role"] != "user")
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
        if session is None or not decided_ids <= await self._find_interrupts(session):
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

    async def _find_interrupts(self, session: Session) -> set[str]:
        """Return the ids of a session's interrupts, open and decided, that were not left behind."""
        with_calls = [message for message in session.messages if message.get("toolCalls")]
        left_behind = await self._find_left_behind(with_calls)
        kept = Session(session.id, [message for message in with_calls if message["id"] not in left_behind])
        return {make_interrupt_id(call_id) for call_id in kept.call_ids()}

    @staticmethod
    def _are_decided_now(session: Session, interrupt_ids: set[str]) -> bool:
        """Return whether the interrupts are of the calls since the last user message."""
        messages = session.messages
        starts = [number for number, message in enumerate(messages) if message["role"] == "user"]
        latest = Session(session.id, messages[starts[-1] if starts else 0 :])
        return interrupt_ids <= {make_interrupt_id(call_id) for call_id in latest.call_ids()}
