"""Build an agent's input from the caller's input and the thread's messages and state."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ag_ui.core import RunAgentInput
from pydantic import BaseModel

from agentrunner.errors import InvalidInput
from agentrunner.running.inputs import UNLIMITED, validate_input

if TYPE_CHECKING:
    from agentrunner.runner import AgentRunner
    from agentrunner.running.client_messages import ChangedMessages

logger = logging.getLogger("agentrunner.harness")

HarnessInput: TypeAlias = str | Sequence[Any] | RunAgentInput | Mapping[str, Any]
"""A user's text, a list of new messages, or a `RunAgentInput` or its dict."""


async def read_input(input: HarnessInput, thread_id: str | None, run_id: str | None) -> RunAgentInput:
    """Return the input of a new run, with new ids if it has none. Raises `InvalidInput`."""
    fields: dict[str, Any] = {"state": {}, "tools": [], "context": [], "forwardedProps": {}}
    if isinstance(input, str):
        fields["messages"] = [{"id": str(uuid.uuid4()), "role": "user", "content": input}]
    elif isinstance(input, RunAgentInput):
        fields |= input.model_dump(mode="json", by_alias=True, exclude_none=True)
    elif isinstance(input, Mapping):
        fields |= input
    elif isinstance(input, (bytes, bytearray, BaseModel)) or not isinstance(input, Iterable):
        # A model is iterable too: over its fields, not over messages.
        raise InvalidInput(
            "the input must be a string, a list of messages, or a RunAgentInput or its dict, "
            f"not {type(input).__name__}"
        )
    else:
        fields["messages"] = [_dump_message(message) for message in input]
    for name, value in (("threadId", thread_id), ("runId", run_id)):
        if value is not None and fields.get(name, value) != value:
            raise InvalidInput(
                f"the input has the {name} {fields[name]!r}, but the call has {value!r}: pass one of them"
            )
        if fields.get(name) is None:
            fields[name] = value or str(uuid.uuid4())
    try:
        return await validate_input(fields)
    except InvalidInput as error:
        raise type(error)(
            f"run '{fields['runId']}' on thread '{fields['threadId']}' was not started: {error}", error.issues
        ) from error


def _dump_message(message: Any) -> Any:
    return (
        message.model_dump(mode="json", by_alias=True, exclude_none=True) if isinstance(message, BaseModel) else message
    )


async def with_history(runner: AgentRunner, input: RunAgentInput, changed: ChangedMessages | None) -> dict[str, Any]:
    """Return the input's messages after those of the thread, and the state for the agent.

    If the client has changed the thread's messages, the run starts from the `changed` ones instead. The thread's state
    is used only if the input has none.
    """
    folded = await runner.threads.fold(input.thread_id)
    thread_messages = folded.messages if changed is None else changed.shown
    thread_ids = {message["id"] for message in thread_messages}
    try:
        thread_input = await validate_input({"threadId": "", "runId": "", "messages": thread_messages}, UNLIMITED)
        earlier_messages = thread_input.messages
    except InvalidInput:
        # AG-UI's own types refuse them, so no client could send them to the agent either.
        logger.warning("thread %s: its messages cannot be passed to the agent", input.thread_id, exc_info=True)
        earlier_messages = []
    return {
        "messages": [*earlier_messages, *(message for message in input.messages if message.id not in thread_ids)],
        "state": folded.state if input.state in (None, {}) else input.state,
    }


def unanswered_calls(messages: Iterable[Any]) -> list[str] | None:
    """Return the ids of the tool calls after the last prompt without a result, or `None`."""
    calls: dict[str, None] = {}
    for message in messages:
        if message.role == "user":
            calls.clear()
        calls.update((call.id, None) for call in getattr(message, "tool_calls", None) or ())
        calls.pop(getattr(message, "tool_call_id", ""), None)
    return list(calls) or None
