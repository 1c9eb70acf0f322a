"""How a run begins: what of its input is new, and from which checkpoint the turn goes on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agentrunner.errors import ApprovalNotFound, InterruptsOpen
from agentrunner.records.approvals import has_accepted_answers, is_every_interrupt_closed
from agentrunner.running.current import current_run
from agentrunner.runtime.approvals import action_key, interrupt_id, read_decisions
from agentrunner.runtime.history import asked_again, client_results, fresh, settled, unanswered
from agentrunner.runtime.ledger import Ledger
from agentrunner.runtime.middleware import TurnContext
from agentrunner.runtime.outcome import Failed, Interrupted, WaitingForClient
from agentrunner.runtime.session import Session, now_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ag_ui.core import RunAgentInput

    from agentrunner.runtime.checkpoints import Checkpoint
    from agentrunner.runtime.session import Sessions
    from agentrunner.runtime.tools import ToolCall
    from agentrunner.runtime.turn import TurnResources


@dataclass(frozen=True, slots=True)
class TurnStart:
    """A turn that can go on."""

    session: Session
    at: Checkpoint | None
    """`None`: the session has its outcome already."""
    retold: bool
    """Whether clients are to be told all messages anew: what they were shown is not all that the session has."""


class TurnStarter:
    """Brings one run's input into its session."""

    def __init__(self, resources: TurnResources, sessions: Sessions, input: RunAgentInput) -> None:
        self._resources = resources
        self._sessions = sessions
        self._input = input
        self._messages = [message.model_dump(mode="json", by_alias=True) for message in input.messages]
        self._given = {
            "tools": [tool.model_dump(mode="json", by_alias=True) for tool in input.tools or []],
            "context": [one.model_dump(mode="json", by_alias=True) for one in input.context or []],
            "state": input.state,
        }

    async def run(self) -> TurnStart:
        """Begin with new messages, or with what was decided. Raises, changing nothing, as `AgentRuntime.run`."""
        session = await self._sessions.find(self._input.thread_id)
        if self._input.resume:
            return await self._decided(session)
        return await self._anew(session)

    async def resume(self) -> TurnStart:
        """Go on where the session was left; begin anew with what it has not been told. Raises as `run`."""
        session = await self._sessions.find(self._input.thread_id)
        if self._input.resume:
            return await self._decided(session, again=True)
        if session is None or await self._untold(session):
            return await self._anew(session)
        return await self._left(session)

    async def checkpoint(self, number: int | None) -> TurnStart:
        """Go on from a checkpoint, by default the last; what came after it is taken back.

        Raises `SessionNotFound`, `RecordDamaged`, `RecordTooNew`.
        """
        session = await self._sessions.load(self._input.thread_id)
        at = await self._sessions.checkpoint(session, number)
        if number is not None or isinstance(session.outcome, Failed):
            await self._sessions.rewind(session, at)
        if session.outcome is None and at.step == "after_tool_calls" and (pending := unanswered(session)):
            await self._sessions.save(session, outcome=WaitingForClient(pending))
        return TurnStart(session, at if session.outcome is None else None, True)

    async def _untold(self, session: Session) -> bool:
        """Say whether the run was to begin with something that its process did not come to write down."""
        if session.checkpoints == 0:
            return True
        known = {message["id"] for message in session.messages}
        # What a session does not know that stands before what it knows was said to others.
        for message in reversed(self._messages):
            if message["id"] in known:
                break
            if message["role"] == "user":
                return True
        return isinstance(session.outcome, WaitingForClient) and bool(
            client_results(session, await self._calls(session), self._messages)
        )

    async def _calls(self, session: Session) -> Sequence[ToolCall]:
        """Give the calls at the session's end that have no result."""
        if not unanswered(session):
            return ()
        return (await self._sessions.checkpoint(session)).calls

    async def _left(self, session: Session) -> TurnStart:
        at = await self._sessions.checkpoint(session) if session.outcome is None else None
        return TurnStart(session, at, True)

    async def _anew(self, found: Session | None) -> TurnStart:
        run_id = self._input.run_id
        session = found or Session(self._input.thread_id)
        if isinstance(session.outcome, Interrupted) and not await self._withdrawn(session.outcome):
            names = ", ".join(sorted(one["id"] for one in session.outcome.interrupts))
            raise InterruptsOpen(f"interrupts are open on this thread, which the run's resume must answer: {names}")
        calls = await self._calls(session)
        brought = client_results(session, calls, self._messages)
        begun = await Ledger(self._sessions, session.id).look(call for call in calls if not call.client)
        ends = settled(session, calls, brought, begun)
        taken = fresh(session, self._messages, history=self._resources.config.take_history)
        context = TurnContext(session.id, run_id, 0, found)
        for number, message in enumerate(taken):
            if message["role"] == "user":
                for middleware in self._resources.middlewares:
                    changed = await middleware.on_user_message(context, message)
                    # By its id a message is known again when the client sends it with the next run.
                    message = {**changed, "id": message["id"]} if changed is not None else message
                taken[number] = message
        again = None if taken or brought else asked_again(session, self._messages)
        cut = await self._sessions.cut(session, again) if again is not None else {}
        at = await self._sessions.save(
            session, messages=[] if cut else [*ends, *taken], outcome=None, given=self._given,
            checkpoint={"step": "after_user_input", "turn": 0, "run_id": run_id}, **cut,
        )  # fmt: skip
        return TurnStart(session, at, again is not None or len(ends) > len(brought))

    async def _withdrawn(self, waiting: Interrupted) -> bool:
        """Say whether a harness has closed the questions: by its records, where there are any."""
        interrupt_ids = [one["id"] for one in waiting.interrupts]
        return await is_every_interrupt_closed(self._sessions.store, self._input.thread_id, interrupt_ids)

    def _in_time(self) -> bool:
        """Say whether a harness has seen to it that the answers came in time: acted upon they may be later."""
        try:
            run = current_run()
        except LookupError:
            return False
        return run.thread_id == self._input.thread_id and has_accepted_answers(run.run_id)

    async def _decided(self, session: Session | None, *, again: bool = False) -> TurnStart:
        entries = self._input.resume or []
        answered = {entry.interrupt_id for entry in entries}
        if session is None or not answered <= {interrupt_id(call) for call in session.call_ids()}:
            raise ApprovalNotFound(f"no such interrupts are open on this thread: {', '.join(sorted(answered))}")
        waiting = session.outcome
        if not isinstance(waiting, Interrupted) or (
            again and answered.isdisjoint(one["id"] for one in waiting.interrupts)
        ):
            # Decided before, by the same run in a process that has died or by a client that asks twice.
            return await self._left(session)
        at = await self._sessions.checkpoint(session)
        decisions = read_decisions(entries, waiting, at.calls, self._resources.tools, in_time=self._in_time())
        brought = client_results(session, at.calls, self._messages)
        calls = []
        approvals = dict(session.approvals)
        for call in at.calls:
            decision = decisions.get(call.id)
            if decision is not None:
                call = replace(call, decision=decision.kept())
                tool = self._resources.tools.get(call.name)
                if decision.lasting and tool is not None:
                    approvals[action_key(tool, call.arguments)] = now_ms() + int(
                        self._resources.config.approval_ttl * 1000
                    )
            calls.append(replace(call, result=brought.get(call.id, call.result)))
        made = await self._sessions.save(
            session, outcome=None, given=self._given, approvals=approvals,
            checkpoint={
                "step": "before_tool_calls", "turn": at.turn, "run_id": self._input.run_id,
                "calls": tuple(calls), "empty": at.empty, "failures": at.failures,
            },
        )  # fmt: skip
        return TurnStart(session, made, False)
