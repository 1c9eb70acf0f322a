"""The agent runtime: a loop of model turns and tool calls that is an agent."""

from __future__ import annotations

from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, Self, cast

from agentrunner.errors import SessionNotFound, ThreadAlreadyRunning
from agentrunner.records import kinds
from agentrunner.running.current import current_run
from agentrunner.runtime.approvals import read_decision
from agentrunner.runtime.bus import EventBus, RuntimeEvent, Subscription
from agentrunner.runtime.config import RuntimeConfig, ToolErrorRecovery
from agentrunner.runtime.model_response import new_id
from agentrunner.runtime.outcome import Completed, Failed, Interrupted, TurnResult, WaitingForClient
from agentrunner.runtime.prompt import Prompter
from agentrunner.runtime.session import Session, Sessions
from agentrunner.runtime.skills import SkillPrompter
from agentrunner.runtime.tools import toolbox
from agentrunner.runtime.turn import Turn, TurnResources
from agentrunner.runtime.turn_start import TurnStarter
from agentrunner.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from ag_ui.core import ResumeEntry, RunAgentInput

    from agentrunner.runtime.approvals import ApprovalHandler, ToolPolicy
    from agentrunner.runtime.llm import LlmClient, Usage
    from agentrunner.runtime.middleware import Middleware
    from agentrunner.runtime.outcome import Outcome
    from agentrunner.runtime.prompt import ContextManager
    from agentrunner.runtime.skills import Skill
    from agentrunner.runtime.tools import Tool
    from agentrunner.runtime.turn_start import TurnStart
    from agentrunner.stores import Store

    Events = AsyncGenerator[dict[str, Any], None]


class AgentRuntime:
    """An agent of a model and tools. Give it to a runner, or use it by itself.

    In a run its sessions are kept where the run is, one for each thread, and written only while the run holds its
    thread. By itself (`run_turn` and the other verbs over sessions) it keeps them in `session_store`, which is opened
    and closed by `async with`; without one they are in memory.

    `tools`: functions, or `Tool`s. `tool_policy` says what calls may run; `approval_handler` decides those that are to
    be asked for, else the run is interrupted for its client to decide. Raises `TypeError`, `ToolNameClash`,
    `SkillInvalid` for tools and skills that cannot be.
    """

    def __init__(
        self,
        llm: LlmClient,
        *,
        tools: Sequence[Tool | Callable[..., Any]] = (),
        config: RuntimeConfig | None = None,
        middlewares: Sequence[Middleware] = (),
        approval_handler: ApprovalHandler | None = None,
        tool_policy: ToolPolicy | None = None,
        context_manager: ContextManager | None = None,
        session_store: Store | None = None,
        skills: Iterable[Skill] = (),
        error_recovery: ToolErrorRecovery | None = None,
        agent_id: str | None = None,
    ) -> None:
        self.agent_id = agent_id
        self._store: Store = session_store if session_store is not None else MemoryStore()
        self._bus = EventBus()
        self._busy: set[tuple[int, str]] = set()
        own = list(toolbox(tools).values())
        skilled = SkillPrompter(skills)
        known = skilled.toolbox(own)
        config = config or RuntimeConfig()
        self._resources = TurnResources(
            llm=llm,
            prompter=Prompter(config, own, known, skilled, context_manager),
            tools=known,
            config=config,
            middlewares=tuple(middlewares),
            approval_handler=approval_handler,
            tool_policy=tool_policy,
            recovery=error_recovery or ToolErrorRecovery(),
        )

    async def __aenter__(self) -> Self:
        await self._store.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the subscriptions and close the session store."""
        self._bus.close()
        await self._store.aclose()

    # In a run

    def run(self, input: RunAgentInput) -> Events:
        """Yield a run's events: one user's turn, or with `input.resume` what is left of it.

        What is new in the messages is taken into the session; beside `resume` only results of the client's tools are.
        Raises before the first event, changing nothing: `InterruptsOpen`, `ApprovalNotFound`, `ApprovalExpired`,
        `InvalidInput`, `ThreadAlreadyRunning`, what an `on_user_message` raises, `RecordDamaged`, `StoreError`.
        """
        return self._stream(input, self._here(input.thread_id), "run")

    def resume(self, input: RunAgentInput) -> Events:
        """Yield the events of a run that goes on where a process died: from the session's last checkpoint.

        What the session was not told yet is told; of one that has its outcome that is repeated. Raises as `run`.
        """
        return self._stream(input, self._here(input.thread_id), "resume")

    async def check_answers(self, thread_id: str, entries: Sequence[ResumeEntry], store: Store) -> None:
        """Look at answers to a session's open interrupts, not all of them perhaps, before they count: for a harness.

        Raises `InvalidInput` for one that could not be acted upon, `ApprovalExpired`; changes nothing.
        """
        sessions = Sessions(store)
        session = await sessions.find(thread_id)
        if session is None or not isinstance(session.outcome, Interrupted):
            return
        opened = {one["id"]: one for one in session.outcome.interrupts}
        calls = {call.id: call for call in (await sessions.checkpoint(session)).calls}
        for entry in entries:
            if (one := opened.get(entry.interrupt_id)) is not None:
                read_decision(entry, one, self._resources.tools.get(calls[one["toolCallId"]].name))

    def subscribe_events(self) -> Subscription:
        """Listen to what happens in all sessions from now on; a slow listener is told how much it missed."""
        return self._bus.subscribe()

    # By itself

    async def create_session(
        self,
        session_id: str | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] = (),
        metadata: Mapping[str, Any] | None = None,
        skills: Sequence[str] | None = None,
    ) -> Session:
        """Make a session, with messages in AG-UI's wire form, and `skills` in use; without these all of the runtime's.

        Raises `SessionAlreadyExists`.
        """
        session = Session(session_id if session_id is not None else new_id(), metadata=dict(metadata or {}))
        session.skills = list(skills) if skills is not None else None
        given = [{"id": new_id(), **message} for message in messages]
        await self._own().save(session, messages=given)
        return session

    async def restore_session(self, session_id: str) -> Session:
        """Give a session as it is kept. Raises `SessionNotFound`, `RecordDamaged`, `RecordTooNew`."""
        return await self._own().load(session_id)

    async def run_turn(
        self,
        session_id: str,
        message: str | Mapping[str, Any] | None = None,
        *,
        resume: Sequence[ResumeEntry | Mapping[str, Any]] | None = None,
    ) -> TurnResult:
        """Run a user's turn to its outcome: a new message, or with `resume` what was decided of the open interrupts.

        Raises as `run`, and `SessionNotFound`.
        """
        return await self._result(self._asked(session_id, message, resume), "run")

    def run_turn_stream(
        self,
        session_id: str,
        message: str | Mapping[str, Any] | None = None,
        *,
        resume: Sequence[ResumeEntry | Mapping[str, Any]] | None = None,
    ) -> Events:
        """Run a user's turn and yield its events, as `run` does."""
        return self._stream(self._asked(session_id, message, resume), self._own(), "run", known=True)

    async def resume_from_checkpoint(self, session_id: str, number: int | None = None) -> TurnResult:
        """Go on from a checkpoint, by default the last, to the turn's outcome.

        With a `number` what came after it is taken back first; without one a turn that failed is tried again, and one
        that has another outcome keeps it. Raises `SessionNotFound`, `RecordDamaged`, `RecordTooNew`, `StoreError`.
        """
        return await self._result(self._asked(session_id, None, None), "checkpoint", number)

    # The way of a run

    def _here(self, thread_id: str) -> Sessions:
        try:
            run = current_run()
        except LookupError:
            return self._own()
        # An agent may be used within another's run: for a thread of its own.
        if run.thread_id != thread_id or run.store is None:
            return self._own()
        return Sessions(run.store, run.claim, self._bus)

    def _own(self) -> Sessions:
        return Sessions(self._store, None, self._bus)

    def _asked(
        self,
        session_id: str,
        message: str | Mapping[str, Any] | None,
        resume: Sequence[ResumeEntry | Mapping[str, Any]] | None,
    ) -> RunAgentInput:
        from ag_ui.core import RunAgentInput

        said = {"role": "user", "content": message} if isinstance(message, str) else message
        given = {
            "threadId": session_id, "runId": new_id(), "protocolVersion": "1.0", "resume": resume,
            "messages": [{"id": new_id(), **said}] if said is not None else [],
        }  # fmt: skip
        return RunAgentInput.model_validate(given)

    async def _result(self, input: RunAgentInput, how: str, number: int | None = None) -> TurnResult:
        last: dict[str, Any] = {}
        stream = self._stream(input, self._own(), how, number=number, known=True)
        async for event in stream:
            last = event
        session = await self.restore_session(input.thread_id)
        return TurnResult(session, cast("Outcome", session.outcome), last.get("usage", []))

    @contextmanager
    def _alone(self, sessions: Sessions, session_id: str) -> Iterator[None]:
        name = (id(sessions.store), session_id)
        if name in self._busy:
            raise ThreadAlreadyRunning
        self._busy.add(name)
        try:
            yield
        finally:
            self._busy.discard(name)

    async def _stream(
        self, input: RunAgentInput, sessions: Sessions, how: str, *, number: int | None = None, known: bool = False
    ) -> Events:
        with self._alone(sessions, input.thread_id):
            if known and await kinds.SESSION.find(sessions.store, input.thread_id) is None:
                raise SessionNotFound(f"there is no session '{input.thread_id}'")
            beginning = TurnStarter(self._resources, sessions, input)
            begins: dict[str, Callable[[], Awaitable[TurnStart]]] = {
                "run": beginning.run, "resume": beginning.resume, "checkpoint": lambda: beginning.checkpoint(number),
            }  # fmt: skip
            begun = await begins[how]()
            async with aclosing(self._told(input, sessions, begun)) as told:
                async for event in told:
                    self._bus.publish(RuntimeEvent(input.thread_id, input.run_id, event))
                    yield event

    async def _told(self, input: RunAgentInput, sessions: Sessions, begun: TurnStart) -> Events:
        session = begun.session
        started = {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
        if input.parent_run_id is not None:
            started["parentRunId"] = input.parent_run_id
        if input.protocol_version is not None:
            started["protocolVersion"] = "1.0"
        yield started
        if begun.retold:
            for event in _retold(session):
                yield event
        usage: list[Usage] = []
        if begun.at is not None:
            turn = Turn(self._resources, sessions, session, begun.at, input.run_id)
            usage = turn.usage
            async with aclosing(turn.events()) as events:
                async for event in events:
                    yield event
        for event in _ended(session, input, _counted(usage)):
            yield event


def _messages(session: Session) -> dict[str, Any]:
    return {"type": "MESSAGES_SNAPSHOT", "messages": list(session.messages)}


def _retold(session: Session) -> Iterator[dict[str, Any]]:
    """Tell all messages anew; an answer that is all there is still to be told, as an answer."""
    last = session.messages[-1] if session.messages else {}
    if not isinstance(session.outcome, Completed) or last.get("role") != "assistant" or not last.get("content"):
        yield _messages(session)
        return
    yield {"type": "MESSAGES_SNAPSHOT", "messages": session.messages[:-1]}
    yield {"type": "TEXT_MESSAGE_START", "messageId": last["id"], "role": "assistant"}
    yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": last["id"], "delta": last["content"]}
    yield {"type": "TEXT_MESSAGE_END", "messageId": last["id"]}


def _ended(session: Session, input: RunAgentInput, usage: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    spent = {"usage": usage} if usage else {}
    finished: dict[str, Any] = {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id, **spent}
    match session.outcome:
        case Failed(error):
            yield {"type": "RUN_ERROR", "message": error, **spent}
        case Interrupted(interrupts):
            # Who comes back to answer is to find all that the question is about.
            if session.given.get("state") is not None:
                yield {"type": "STATE_SNAPSHOT", "snapshot": session.given["state"]}
            yield _messages(session)
            yield finished | {"outcome": {"type": "interrupt", "interrupts": interrupts}}
        case WaitingForClient(calls) if input.protocol_version is not None:
            # Older peers know no such field, and find the calls in the stream.
            yield finished | {"outcome": {"type": "success", "pendingToolCallIds": calls}}
        case Completed() | WaitingForClient():
            yield finished


def _counted(usage: Sequence[Usage]) -> list[dict[str, Any]]:
    """Give the cost of all questions together, as AG-UI's token usage."""
    if not usage:
        return []
    sums = {
        "inputTokens": sum(one.input_tokens for one in usage),
        "outputTokens": sum(one.output_tokens for one in usage),
        "cachedInputTokens": sum(one.cached_tokens for one in usage),
        "reasoningTokens": sum(one.reasoning_tokens for one in usage),
    }
    sums["totalTokens"] = sums["inputTokens"] + sums["outputTokens"]
    return [{name: count for name, count in sums.items() if count}]
