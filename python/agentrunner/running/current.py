"""The run that the calling code belongs to."""

from __future__ import annotations

import contextvars
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentrunner._failures import get_public_text
from agentrunner.running.client_messages import is_claimed, read_messages, with_agent_ids

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from ag_ui.core import RunAgentInput

    from agentrunner._core import Claim
    from agentrunner.running.client_messages import ChangedMessages
    from agentrunner.stores import Store


@dataclass(frozen=True, slots=True)
class Run:
    """The run that the calling code belongs to, as `current_run()` returns it."""

    thread_id: str
    run_id: str
    input: RunAgentInput
    """The input as the agent received it."""
    scope: str | None = None
    """Owner of the thread, if the caller of `AgentRunner.run` named one."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Request headers that were forwarded to the agent; their names are in lower case."""
    store: Store | None = field(default=None, repr=False, compare=False)
    """Store that keeps the run."""
    claim: Claim | None = field(default=None, repr=False, compare=False)
    """Claim with which the run holds its thread; once it is lost, `store.write(changes, claim)` writes nothing."""
    agent_id: str | None = None
    """Name of the agent in the thread list, if it has one."""
    describe_error: Callable[[BaseException], str] = field(default=get_public_text, repr=False, compare=False)
    """Function that returns the text about an exception that the run's readers may see."""
    accepted_ids: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    """Ids of the new messages that a client may send: the user's, results of open calls, a greeting."""
    changed: ChangedMessages | None = field(default=None, repr=False, compare=False)
    """Messages that the run starts from, if its client has changed those of the thread."""

    async def messages(self) -> list[dict[str, Any]]:
        """Return the conversation: what the thread had, then what its client may add to it.

        Unlike `input.messages`, it leaves out messages that a client attributes to an agent, a tool or the system
        although the thread never had them.

        Returns:
            AG-UI messages as dicts with the wire's field names.

        Example::

            async def agent(input):
                response = await ask(await current_run().messages())

        """
        if self.store is None or self.claim is None:
            return []
        if self.changed is not None:
            return with_agent_ids(self.changed.trusted)
        thread_messages = await read_messages(self.store, self.claim)
        accepted_ids = {message["id"] for message in with_agent_ids([{"id": each} for each in self.accepted_ids])}
        new_messages = [message for message in self.input.messages if message.id in accepted_ids]
        thread_messages = [message for message in thread_messages if not is_claimed(message)]
        return [*thread_messages, *(message.model_dump(mode="json", by_alias=True) for message in new_messages)]


@dataclass(eq=False, slots=True)
class LiveMark:
    """A mark in the context of a run's agent that shows whether the run is over."""

    thread_id: str
    run_id: str
    is_over: bool = False
    is_refused: bool = False
    """Whether the run was refused before it did anything, so that nothing of it is stored."""


_current: contextvars.ContextVar[Run] = contextvars.ContextVar("agentrunner_current_run")
_lineage: contextvars.ContextVar[tuple[LiveMark, ...]] = contextvars.ContextVar("agentrunner_lineage", default=())


def current_run() -> Run:
    """Return the run that the calling code belongs to.

    Returns:
        The run's ids, input, scope and headers; also in a tool or a task that the agent started.

    Raises:
        LookupError: The calling code does not belong to a run.

    Example::

        async def agent(input):
            user = current_run().headers.get("x-user")

    """
    return _current.get()


def set_current_run(run: Run) -> None:
    """Set the run that `current_run()` returns in this context and in tasks started from it."""
    _current.set(run)


def enter_run(run: Run) -> LiveMark:
    """Make a run the current one of this context, and return its mark."""
    mark = LiveMark(run.thread_id, run.run_id)
    # Keep only live runs: otherwise the context would keep growing if each run starts the next one.
    _lineage.set((*live_lineage(), mark))
    _current.set(run)
    return mark


def refuse_run(run_id: str) -> None:
    """Store nothing of the current run, if it has this id and ends without an event."""
    lineage = _lineage.get()
    if lineage and lineage[-1].run_id == run_id:
        lineage[-1].is_refused = True


def live_lineage() -> tuple[LiveMark, ...]:
    """Return the live runs that the calling code belongs to, the outermost first."""
    return tuple(mark for mark in _lineage.get() if not mark.is_over)


def run_of_task(task: asyncio.Task[Any]) -> Run | None:
    """Return the run that a task belongs to; `None` if unknown, as always on Python 3.11."""
    get_context = getattr(task, "get_context", None)
    return get_context().get(_current) if get_context is not None else None
