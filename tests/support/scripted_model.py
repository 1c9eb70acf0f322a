"""Scripted models, a store that crashes, and what tests of the runtime look at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agentrunner.runtime import Finish, LlmRequest, TextDelta, ToolCallArgs, ToolCallStart
from agentrunner.runtime.session import Session, Sessions
from agentrunner.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agentrunner import AgentRunner, Store
    from agentrunner.runtime import LlmEvent

Response = list[Any]


def reply(*deltas: str) -> Response:
    """Return a response of text."""
    return [*(TextDelta(delta) for delta in deltas), Finish("stop")]


def call_tools(*tool_calls: tuple[str, str, Any], text: str = "") -> Response:
    """Return a response that calls tools: (id, name, arguments) each.

    Arguments are an object or JSON text.
    """
    response: Response = [TextDelta(text)] if text else []
    for call_id, tool, arguments in tool_calls:
        json_text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        deltas = [delta for delta in (json_text[:3], json_text[3:]) if delta]
        response += [ToolCallStart(call_id, tool), *(ToolCallArgs(call_id, delta) for delta in deltas)]
    return [*response, Finish("tool_calls")]


class ScriptedModel:
    """A model that returns these responses in turn, and raises the exceptions in them."""

    def __init__(self, *responses: Response) -> None:
        self._responses = list(responses)
        self.requests: list[LlmRequest] = []

    async def stream(self, request: LlmRequest, /) -> AsyncIterator[LlmEvent]:
        self.requests.append(request)
        for event in self._responses.pop(0):
            if isinstance(event, BaseException):
                raise event
            yield event


class StatelessModel:
    """A model that chooses its response by the number of assistant messages in the request.

    It returns the same response to the same request, whichever process asks.
    """

    def __init__(self, *responses: Response) -> None:
        self._responses = responses
        self.requests: list[LlmRequest] = []

    async def stream(self, request: LlmRequest, /) -> AsyncIterator[LlmEvent]:
        self.requests.append(request)
        for event in self._responses[sum(message["role"] == "assistant" for message in request.messages)]:
            yield event


class SimulatedCrash(BaseException):
    """Ends a process that exists only in the test."""


class CrashingStore:
    """The store of a process that dies at its nth write of records, before or after it.

    Every later write fails too, because a dead process writes nothing. After `revive()` it is the next process's store.
    """

    def __init__(self, store: Store | None = None, *, at: int | None = None, after: bool = False) -> None:
        self._store = store or MemoryStore()
        self.log: list[list[str]] = []
        """The kinds of records each write changed; for a checkpoint, its step."""
        self.revive()
        self.crash_at(at, after)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def crash_at(self, at: int | None, after: bool = False) -> None:
        """Crash at the write of this number, counted from now on."""
        self._left, self._after = at, after

    def revive(self) -> None:
        self._left, self._after = None, False

    @property
    def has_crashed(self) -> bool:
        return self._left is not None and self._left <= 0

    async def write(self, changes: Any, claim: Any = None) -> list[int]:
        if self._left is not None:
            self._left -= 1
            if self._left < 0 or (self._left == 0 and not self._after):
                raise SimulatedCrash
        versions: list[int] = await self._store.write(changes, claim)
        self.log.append([name_change(change) for change in changes])
        if self.has_crashed:
            raise SimulatedCrash
        return versions


def name_change(change: Any) -> str:
    """Return a written checkpoint's step, or the record kind of any other change."""
    if change.kind != "checkpoint" or change.value is None:
        return str(change.kind)
    return str(json.loads(change.value)["value"]["step"])


def list_steps(log: list[list[str]]) -> list[str]:
    """Return the steps of the checkpoints in a store's log, in order."""
    return [name for names in log for name in names if name.startswith(("after_", "before_"))]


async def load_session(store: Store, session_id: str = "t1") -> Session:
    return await Sessions(store).load(session_id)


def messages_without_ids(session: Session) -> list[dict[str, Any]]:
    """Return a session's messages without the ids that differ from run to run."""
    messages = [dict(message) for message in session.messages]
    for message in messages:
        if message["role"] != "tool":
            del message["id"]
    return messages


async def collect_run(runner: AgentRunner, agent: Any, input: dict[str, Any]) -> list[dict[str, Any]]:
    """Run an agent to its end, and return the events as dicts.

    The runner refuses events that are out of order.
    """
    return [event.to_dict() async for event in await runner.run(agent, input)]


def summarize(events: list[dict[str, Any]]) -> list[str]:
    """Return the types of events, and the text of an error."""
    return [event["type"] if event["type"] != "RUN_ERROR" else event["message"] for event in events]


def raise_when_called(error: Exception) -> Callable[..., Any]:
    """Return a function that raises an error."""

    def fail(*_: Any) -> Any:
        raise error

    return fail
