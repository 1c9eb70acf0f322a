"""Models that say what they are told to, and what the runtime's tests look at."""

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

Answer = list[Any]


def says(*deltas: str) -> Answer:
    """Give an answer of text."""
    return [*(TextDelta(delta) for delta in deltas), Finish("stop")]


def calls(*made: tuple[str, str, Any], text: str = "") -> Answer:
    """Give an answer that calls tools, each an id, a name and arguments: an object, or a text that is to be JSON."""
    answer: Answer = [TextDelta(text)] if text else []
    for name, tool, args in made:
        given = args if isinstance(args, str) else json.dumps(args)
        answer += [ToolCallStart(name, tool), *(ToolCallArgs(name, part) for part in (given[:3], given[3:]) if part)]
    return [*answer, Finish("tool_calls")]


class Script:
    """A model that gives these answers one after the other. An exception in one is raised there."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.requests: list[LlmRequest] = []

    async def stream(self, request: LlmRequest, /) -> AsyncIterator[LlmEvent]:
        self.requests.append(request)
        for event in self._answers.pop(0):
            if isinstance(event, BaseException):
                raise event
            yield event


class Model:
    """A model whose answer follows from what it is asked: the first of these to a history without an answer, and so on.

    So that it says the same to the same question, whichever process asks.
    """

    def __init__(self, *answers: Answer) -> None:
        self._answers = answers
        self.requests: list[LlmRequest] = []

    async def stream(self, request: LlmRequest, /) -> AsyncIterator[LlmEvent]:
        self.requests.append(request)
        for event in self._answers[sum(message["role"] == "assistant" for message in request.messages)]:
            yield event


class Crash(BaseException):
    """What ends a process that is only played."""


class Dying:
    """The store of a process that dies with its nth write of records, before that is done or just after it.

    Every write after it fails as well: a dead process writes nothing. After `survive()` it is the next process's.
    """

    def __init__(self, store: Store | None = None, *, at: int | None = None, after: bool = False) -> None:
        self._store = store or MemoryStore()
        self.log: list[list[str]] = []
        """What kinds of records each write changed; a checkpoint's is its step."""
        self.survive()
        self.die(at, after)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def die(self, at: int | None, after: bool = False) -> None:
        """Die with the write of this number from now on."""
        self._left, self._after = at, after

    def survive(self) -> None:
        self._left, self._after = None, False

    @property
    def died(self) -> bool:
        return self._left is not None and self._left <= 0

    async def write(self, changes: Any, claim: Any = None) -> list[int]:
        if self._left is not None:
            self._left -= 1
            if self._left < 0 or (self._left == 0 and not self._after):
                raise Crash
        written: list[int] = await self._store.write(changes, claim)
        self.log.append([kind_of(change) for change in changes])
        if self.died:
            raise Crash
        return written


def kind_of(change: Any) -> str:
    if change.kind != "checkpoint" or change.value is None:
        return str(change.kind)
    return str(json.loads(change.value)["value"]["step"])


def steps(log: list[list[str]]) -> list[str]:
    """Give the checkpoints of a log, in order."""
    return [kind for kinds in log for kind in kinds if kind.startswith(("after_", "before_"))]


async def session_in(store: Store, session_id: str = "t1") -> Session:
    return await Sessions(store).load(session_id)


def told(session: Session) -> list[dict[str, Any]]:
    """Give a session's messages but for the ids no two runs have alike."""
    messages = [dict(message) for message in session.messages]
    for message in messages:
        if message["role"] != "tool":
            del message["id"]
    return messages


async def run(runner: AgentRunner, agent: Any, input: dict[str, Any]) -> list[dict[str, Any]]:
    """Run to the end and give the events, as dicts; the runner has refused any that are out of order."""
    return [event.to_dict() async for event in await runner.run(agent, input)]


def shown(events: list[dict[str, Any]]) -> list[str]:
    """Give the kinds of events, and of errors the text."""
    return [event["type"] if event["type"] != "RUN_ERROR" else event["message"] for event in events]


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail
