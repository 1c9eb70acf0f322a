"""Check the arguments of runs and readers before anything is started.

Large inputs are checked in slices, so that other tasks of the event loop get their turn in between.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from agentrunner import _core
from agentrunner._checks import check_optional_text, check_stored_text, check_text
from agentrunner._protocol import build_input
from agentrunner.errors import InputTooLarge, InvalidEvent, InvalidInput
from agentrunner.running.agent_checks import find_problem
from agentrunner.running.input_encoding import PART_LISTS, encode_input, slice_messages
from agentrunner.running.legacy_content import upgrade_message
from agentrunner.running.offload import run_by_size
from agentrunner.types import AnyScope

if TYPE_CHECKING:
    from ag_ui.core import RunAgentInput
    from pydantic import TypeAdapter, ValidationError

MAX_ISSUES = 10
"""Most issues that an error lists."""
MAX_ISSUE_CHARS = 200
"""Most characters of an issue's message, and of a name in its path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputLimits:
    """How many items the lists of a run's input may have."""

    messages: int = 100_000
    message_parts: int = 10_000
    """Content parts, and tool calls, of one message."""
    tools: int = 10_000
    context: int = 10_000
    resume: int = 10_000


UNLIMITED = InputLimits(
    messages=sys.maxsize, message_parts=sys.maxsize, tools=sys.maxsize, context=sys.maxsize, resume=sys.maxsize
)
"""Limits for what a thread has stored already."""


class CheckedInput(NamedTuple):
    """A valid input of a run, as a model and as JSON, with its ids."""

    model: RunAgentInput
    json: str
    thread_id: str
    run_id: str
    message_ids: list[str]
    asked_entries: list[str]
    """Entries that tell whether its messages are those of the thread."""

    @property
    def entries(self) -> list[str]:
        """The entries that a run with this input looks up in its thread."""
        return [*self.message_ids, *self.asked_entries, _core.CLAIMED_ENTRY]


async def read_input(input: RunAgentInput | Mapping[str, Any], max_id_bytes: int) -> CheckedInput:
    """Check a run's input. Raises `InvalidInput`."""
    # Imported when the first run starts, because it takes longer to load than the rest of the package.
    from ag_ui.core import RunAgentInput

    try:
        model = input if isinstance(input, RunAgentInput) else await validate_input(input)
        data = await encode_input(model)
    except InvalidEvent as error:
        raise InvalidInput(f"the run's input is refused, and nothing was started: {error}") from error
    checked = CheckedInput(model, *await run_by_size(len(data), _core.check_input, data, max_id_bytes))
    check_stored_text("the thread id", checked.thread_id)
    check_stored_text("the run id", checked.run_id)
    return checked


async def input_for_agent(model: RunAgentInput, json: str) -> RunAgentInput:
    """Return an input with the agent's own ids in place of those that clients see.

    `json` is the input's JSON.
    """
    return await run_by_size(len(json), _restore_ids, model, json)


def _restore_ids(model: RunAgentInput, json: str) -> RunAgentInput:
    if _core.input_for_agent(json) is None:
        return model
    messages = []
    for message in model.messages:
        ids: dict[str, Any] = {"id": _core.agents_call_id(message.id)}
        if message.role == "tool":
            ids["tool_call_id"] = _core.agents_call_id(message.tool_call_id)
        if message.role == "assistant" and message.tool_calls:
            ids["tool_calls"] = [
                call.model_copy(update={"id": _core.agents_call_id(call.id)}) for call in message.tool_calls
            ]
        messages.append(message.model_copy(update=ids))
    return model.model_copy(update={"messages": messages})


async def validate_input(content: Any, limits: InputLimits | None = None) -> RunAgentInput:
    """Return the `RunAgentInput` of a dict. Raises `InvalidInput` with the first issues."""
    from pydantic import ValidationError

    start: int | None = None
    messages = content.get("messages") if isinstance(content, Mapping) else None
    if not isinstance(messages, (list, tuple)):
        messages = ()
    try:
        if isinstance(content, Mapping):
            _check_counts(content, limits or InputLimits())
        slices = slice_messages(messages)
        first_slice = next(slices, ())
        if len(first_slice) == len(messages):
            if messages:
                content = {**content, "messages": [upgrade_message(message) for message in messages]}
            return build_input(content)
        model = build_input({**content, "messages": []})
        model.messages = []
        start = 0
        for messages_slice in itertools.chain([first_slice], slices):
            await asyncio.sleep(0)
            upgraded = [upgrade_message(message) for message in messages_slice]
            model.messages += _message_list().validate_python(upgraded)
            start += len(messages_slice)
    except ValidationError as error:
        issues = _list_issues(error, start)
        fields = "; ".join(f"{'.'.join(map(str, issue['path']))}: {issue['message']}" for issue in issues)
        raise InvalidInput(f"the run's input is refused, and nothing was started: {fields}", issues) from None
    return model


def _list_issues(error: ValidationError, start: int | None) -> list[dict[str, Any]]:
    """Return the first issues, cut short; `start` is the index of a slice's first message."""
    issues = []
    for issue in error.errors(include_url=False, include_context=False, include_input=False)[:MAX_ISSUES]:
        path = issue["loc"] if start is None else ("messages", start + int(issue["loc"][0]), *issue["loc"][1:])
        short_path = [name[:MAX_ISSUE_CHARS] if isinstance(name, str) else name for name in path[:MAX_ISSUES]]
        issues.append({"code": issue["type"], "path": short_path, "message": issue["msg"][:MAX_ISSUE_CHARS]})
    return issues


def _check_counts(content: Mapping[str, Any], limits: InputLimits) -> None:
    """Raise `InputTooLarge` if a list of an input has too many items."""
    for name in ("messages", "tools", "context", "resume"):
        items = content.get(name)
        if isinstance(items, Sized):
            _check_count(name, len(items), getattr(limits, name))
    for message in content["messages"] if isinstance(content.get("messages"), (list, tuple)) else ():
        if isinstance(message, Mapping):
            for name in PART_LISTS:
                items = message.get(name)
                if isinstance(items, (list, tuple)):
                    _check_count(f"{name} of a message", len(items), limits.message_parts)


def _check_count(name: str, count: int, limit: int) -> None:
    if count > limit:
        raise InputTooLarge(f"the run's input has {count} {name}, over the limit of {limit}; nothing was started")


@cache
def _message_list() -> TypeAdapter[list[Any]]:
    from ag_ui.core import Message
    from pydantic import TypeAdapter

    return TypeAdapter(list[Message])


def check_scope(scope: str, max_id_bytes: int) -> None:
    """Check that a scope may be stored. Raises `InvalidInput`."""
    check_stored_text("scope", scope)
    size = len(scope.encode())
    if not 0 < size <= max_id_bytes:
        raise InvalidInput(f"a scope must have from 1 to {max_id_bytes} bytes, not {size}")


def check_scope_filter(scope: object) -> None:
    """Check that an argument is a scope, `None` or `ANY_SCOPE`. Raises `InvalidInput`."""
    if not isinstance(scope, AnyScope):
        check_optional_text("scope", scope)


def check_options(
    agent: object, agent_id: str | None, scope: str | None, headers: Mapping[str, str] | None, max_id_bytes: int
) -> str | None:
    """Check a run's agent and options, and return the agent's name. Raises `InvalidInput`."""
    if (problem := find_problem(agent)) is not None:
        raise InvalidInput(f"the agent {problem}")
    if headers is not None and not isinstance(headers, Mapping):
        raise InvalidInput(f"headers must be a mapping, not {type(headers).__name__}")
    if scope is not None:
        check_scope(scope, max_id_bytes)
    name: str | None = agent_id if agent_id is not None else getattr(agent, "agent_id", None)
    if name is not None:
        check_stored_text("agent_id", name)
    return name


def check_ids(thread_id: str, run_id: str | None = None) -> None:
    """Check that the ids of a thread and a run are text. Raises `InvalidInput`."""
    check_text("thread_id", thread_id)
    check_optional_text("run_id", run_id)


def check_known_messages(messages: Sequence[Mapping[str, Any]] | None) -> None:
    """Check that a reader's messages are AG-UI messages as dicts. Raises `InvalidInput`."""
    if messages is None:
        return
    if isinstance(messages, (str, bytes)) or not isinstance(messages, Sequence):
        raise InvalidInput(f"known must be a list of messages, not {type(messages).__name__}")
    for message in messages:
        if not isinstance(message, Mapping):
            raise InvalidInput(f"each message of known must be a dict, not {type(message).__name__}")
        if not isinstance(message.get("id"), str | None):
            raise InvalidInput(f"the id of a message of known must be a str, not {type(message['id']).__name__}")
