"""The agent runtime: an agent that is a loop of model requests and tool calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, cast

from agentrunner._protocol import build_input
from agentrunner.running.current import current_run
from agentrunner.runtime._namesakes import hash_tools, warn_of_namesake
from agentrunner.runtime.approvals import read_decision
from agentrunner.runtime.bus import EventBus, Subscription
from agentrunner.runtime.config import RuntimeConfig, ToolErrorRecovery
from agentrunner.runtime.model_response import new_id
from agentrunner.runtime.outcome import Interrupted
from agentrunner.runtime.prompt import Prompter
from agentrunner.runtime.session import Session, Sessions
from agentrunner.runtime.skills import SkillPrompter
from agentrunner.runtime.tools import tools_by_name
from agentrunner.runtime.turn import TurnResources
from agentrunner.runtime.turn_result import TurnResult
from agentrunner.runtime.turn_runner import TurnRunner
from agentrunner.runtime.turn_start import TurnStarter
from agentrunner.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from ag_ui.core import ResumeEntry, RunAgentInput

    from agentrunner._core import Claim
    from agentrunner.runtime.approvals import ApprovalHandler, ToolPolicy
    from agentrunner.runtime.llm import LlmClient
    from agentrunner.runtime.middleware import Middleware
    from agentrunner.runtime.model_response import Events
    from agentrunner.runtime.outcome import Outcome
    from agentrunner.runtime.prompt import ContextManager
    from agentrunner.runtime.skills import Skill
    from agentrunner.runtime.tools import Tool
    from agentrunner.runtime.turn_runner import Start
    from agentrunner.stores import Store


class AgentRuntime:
    """An agent that asks a model and runs its tool calls.

    Pass it to a runner, or use it without one. Within a runner, each thread has one session, which is stored in the
    runner's store and written only while the run holds the thread's lease. Without a runner (`create_session`,
    `run_turn` and the other methods for sessions), the sessions are in `session_store`, which `async with` opens and
    closes.

    Args:
        llm: The client of the model.
        tools: Functions or `Tool`s the model can call.
        config: Limits, settings and waiting times.
        middlewares: Hooks that see and change each step of a turn, called in this order.
        approval_handler: Decides calls that need an approval. Without one, the run is interrupted and its client
            decides.
        tool_policy: Decides which calls run, which need an approval and which are refused: a mapping by tool name, or
            a function of the call and its session.
        context_manager: Trims the conversation to what the model takes, such as `ContextWindowManager`.
        session_store: Store of the sessions without a runner; by default in memory.
        skills: Skills the model can use.
        error_recovery: What a turn does after one of its tools failed.
        agent_id: Name of the agent in thread lists. Agents on one thread share its session, but an agent continues
            only its own turns, and approvals apply to one agent only. Without this name, the run's `agent_id` is used.
            Without either, all such agents on a thread count as one.

    Raises:
        TypeError: If a function cannot be a tool.
        ToolNameClash: If two tools have the same name.
        SkillInvalid: If two skills have the same name.

    Example:
        agent = AgentRuntime(OpenAIClient("gpt-5-mini"), tools=[weather])
        async with SqliteAgentRunner("threads.db") as runner:
            async for event in runner.run(agent, input):
                print(event)
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
        own_tools = list(tools_by_name(tools).values())
        skill_prompter = SkillPrompter(skills)
        all_tools = skill_prompter.toolbox(own_tools)
        config = config or RuntimeConfig()
        resources = TurnResources(
            llm=llm,
            prompter=Prompter(config, own_tools, all_tools, skill_prompter, context_manager),
            tools=all_tools,
            config=config,
            middlewares=tuple(middlewares),
            approval_handler=approval_handler,
            tool_policy=tool_policy,
            recovery=error_recovery or ToolErrorRecovery(),
        )
        self._turns = TurnRunner(resources, self._bus)
        self._tools_hash = hash_tools(all_tools)

    async def __aenter__(self) -> Self:
        await self._store.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End all subscriptions and close the session store."""
        self._bus.close()
        await self._store.aclose()

    # Within a runner

    def run(self, input: RunAgentInput) -> Events:
        """Run one user's turn and iterate over its events; the runner calls this.

        New messages of the input are added to the session. With `input.resume`, the turn continues after its
        interrupts were decided, and only results of the client's tools are added.

        Args:
            input: The run's input.

        Returns:
            The AG-UI events of the run.

        Raises:
            InterruptsOpen: If the run does not decide all open interrupts of the thread.
            ApprovalNotFound: If it decides an interrupt that is not open.
            ApprovalExpired: If it approves a call too late.
            InvalidInput: If a decision cannot be read.
            ThreadAlreadyRunning: If the session already has a turn.
            RecordDamaged: If the session is damaged.
            StoreError: If the store cannot be read or written.
            Exception: If middleware refuses the user's message. All exceptions come before the first event, and the
                session is unchanged.

        Example:
            async for event in runner.run(agent, input):
                print(event)
        """
        return self._turns.run(input, self._find_sessions(input.thread_id), TurnStarter.start_run)

    def resume(self, input: RunAgentInput) -> Events:
        """Continue a run whose process died, from the session's last checkpoint.

        The harness calls this. Input that the session does not have yet is added first. If the turn already has its
        outcome, the events repeat it.

        Args:
            input: The input of the run that is continued.

        Returns:
            The AG-UI events of the run.

        Raises:
            Exception: As `run` does.

        Example:
            async for event in agent.resume(input):
                print(event)
        """
        return self._turns.run(input, self._find_sessions(input.thread_id), TurnStarter.resume_run)

    async def check_answers(self, thread_id: str, entries: Sequence[ResumeEntry], store: Store) -> None:
        """Check decisions on a session's open interrupts before they take effect.

        The harness calls this. The decisions need not cover all open interrupts. The check changes nothing.

        Args:
            thread_id: Id of the thread, which is the session's.
            entries: The decisions, as in a run's `resume`.
            store: The store that has the session.

        Raises:
            InvalidInput: If a decision cannot be applied.
            ApprovalExpired: If a call is approved too late.
        """
        sessions = Sessions(store)
        session = await sessions.find(thread_id)
        if session is None or not isinstance(session.outcome, Interrupted):
            return
        open_interrupts = {interrupt["id"]: interrupt for interrupt in session.outcome.interrupts}
        calls = {call.id: call for call in (await sessions.load_checkpoint(session)).calls}
        for entry in entries:
            if (interrupt := open_interrupts.get(entry.interrupt_id)) is not None:
                tool = self._turns.resources.tools.get(calls[interrupt["toolCallId"]].name)
                read_decision(entry, interrupt, tool)

    def subscribe_events(self) -> Subscription:
        """Subscribe to the events of all sessions from now on.

        Returns:
            A subscription to iterate over. It yields `Missed` in place of events it was too slow for.

        Example:
            async for event in agent.subscribe_events():
                print(event)
        """
        return self._bus.subscribe()

    # Without a runner

    async def create_session(
        self,
        session_id: str | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] = (),
        metadata: Mapping[str, Any] | None = None,
        skills: Sequence[str] | None = None,
    ) -> Session:
        """Create a session.

        Args:
            session_id: Id of the session; by default a new one.
            messages: Messages the session starts with, in AG-UI's wire form.
            metadata: Data of the application to store with the session.
            skills: Names of the active skills; by default all of the runtime's.

        Returns:
            The new session.

        Raises:
            SessionAlreadyExists: If there is a session with this id.

        Example:
            session = await agent.create_session(metadata={"customer": "c-17"})
        """
        session = Session(session_id if session_id is not None else new_id(), metadata=dict(metadata or {}))
        session.skills = list(skills) if skills is not None else None
        messages_with_ids = [{"id": new_id(), **message} for message in messages]
        await self._own_sessions(session.id).save(session, messages=messages_with_ids)
        return session

    async def restore_session(self, session_id: str) -> Session:
        """Load a session from the store.

        Args:
            session_id: Id of the session.

        Returns:
            The session as it is stored.

        Raises:
            SessionNotFound: If there is no such session.
            RecordDamaged: If the session is damaged.
            RecordTooNew: If a newer version of this package has written it.

        Example:
            session = await agent.restore_session("s1")
        """
        return await self._own_sessions(session_id).load(session_id)

    async def run_turn(
        self,
        session_id: str,
        message: str | Mapping[str, Any] | None = None,
        *,
        resume: Sequence[ResumeEntry | Mapping[str, Any]] | None = None,
    ) -> TurnResult:
        """Run one user's turn to its outcome.

        Args:
            session_id: Id of the session.
            message: The user's message, as text or in AG-UI's wire form.
            resume: Decisions on the session's open interrupts, instead of a message.

        Returns:
            The session, the outcome and the token usage.

        Raises:
            SessionNotFound: If there is no such session.
            Exception: As `run` does.

        Example:
            result = await agent.run_turn(session.id, "What is the weather in Oslo?")
            print(result.text)
        """
        return await self._collect(self._build_input(session_id, message, resume), TurnStarter.start_run)

    def run_turn_stream(
        self,
        session_id: str,
        message: str | Mapping[str, Any] | None = None,
        *,
        resume: Sequence[ResumeEntry | Mapping[str, Any]] | None = None,
    ) -> Events:
        """Run one user's turn and iterate over its events.

        Args:
            session_id: Id of the session.
            message: The user's message, as text or in AG-UI's wire form.
            resume: Decisions on the session's open interrupts, instead of a message.

        Returns:
            The AG-UI events of the turn.

        Raises:
            Exception: As `run_turn` does.

        Example:
            async for event in agent.run_turn_stream(session.id, "What is the weather in Oslo?"):
                print(event)
        """
        turn_input = self._build_input(session_id, message, resume)
        return self._turns.run(turn_input, self._own_sessions(session_id), TurnStarter.start_run, must_exist=True)

    async def resume_from_checkpoint(self, session_id: str, number: int | None = None) -> TurnResult:
        """Continue a turn from a checkpoint to its outcome.

        Args:
            session_id: Id of the session.
            number: Number of the checkpoint; everything after it is removed from the session first. By default it is
                the last one: a turn that failed is tried again, and any other outcome stays.

        Returns:
            The session, the outcome and the token usage.

        Raises:
            SessionNotFound: If there is no such session or checkpoint.
            RecordDamaged: If the session or the checkpoint is damaged.
            RecordTooNew: If a newer version of this package has written it.
            StoreError: If the store cannot be read or written.

        Example:
            result = await agent.resume_from_checkpoint("s1")
        """
        turn_input = self._build_input(session_id, None, None)
        return await self._collect(turn_input, lambda starter: starter.start_from_checkpoint(number))

    # Sessions and inputs

    def _find_sessions(self, thread_id: str) -> Sessions:
        """Return the sessions of the current run's store, or the runtime's own outside of a run."""
        try:
            run = current_run()
        except LookupError:
            return self._own_sessions(thread_id)
        # Another agent's run may use this agent for a separate thread, which the run's claim does not cover.
        if run.thread_id != thread_id or run.store is None:
            return self._own_sessions(thread_id)
        agent_id = self.agent_id if self.agent_id is not None else run.agent_id
        return self._make_sessions(thread_id, run.store, run.claim, agent_id)

    def _own_sessions(self, thread_id: str) -> Sessions:
        return self._make_sessions(thread_id, self._store, None, self.agent_id)

    def _make_sessions(self, thread_id: str, store: Store, claim: Claim | None, agent_id: str | None) -> Sessions:
        if not agent_id:
            warn_of_namesake(store, thread_id, self._tools_hash)
        return Sessions(store, claim, self._bus, agent_id)

    def _build_input(
        self,
        session_id: str,
        message: str | Mapping[str, Any] | None,
        resume: Sequence[ResumeEntry | Mapping[str, Any]] | None,
    ) -> RunAgentInput:
        fields = {"role": "user", "content": message} if isinstance(message, str) else message
        messages = [{"id": new_id(), **fields}] if fields is not None else []
        return build_input({
            "threadId": session_id, "runId": new_id(), "protocolVersion": "1.0", "resume": resume,
            "messages": messages,
        })  # fmt: skip

    async def _collect(self, input: RunAgentInput, start: Start) -> TurnResult:
        last: dict[str, Any] = {}
        async for event in self._turns.run(input, self._own_sessions(input.thread_id), start, must_exist=True):
            last = event
        session = await self.restore_session(input.thread_id)
        return TurnResult(session, cast("Outcome", session.outcome), last.get("usage", []))
