"""The input of an agent: what the caller passed, and the thread's messages and state."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ag_ui.core import RunAgentInput
from pydantic import BaseModel, ValidationError

from agentrunner.errors import InvalidInput

if TYPE_CHECKING:
    from agentrunner.runner import AgentRunner

logger = logging.getLogger("agentrunner.harness")

HarnessInput: TypeAlias = str | Sequence[Any] | RunAgentInput | Mapping[str, Any]
"""A user's words, new messages, or a `RunAgentInput` or its dict."""


def read_input(input: HarnessInput, thread_id: str | None, run_id: str | None) -> RunAgentInput:
    """Return the input of a new run, with new ids where it has none. Raises `InvalidInput`."""
    fields: dict[str, Any] = {"state": {}, "tools": [], "context": [], "forwardedProps": {}}
    if isinstance(input, str):
        fields["messages"] = [{"id": str(uuid.uuid4()), "role": "user", "content": input}]
    elif isinstance(input, RunAgentInput):
        fields |= input.model_dump(mode="json", by_alias=True, exclude_none=True)
    elif isinstance(input, Mapping):
        fields |= input
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
        return RunAgentInput.model_validate(fields)
    except ValidationError as error:
        raise InvalidInput(
            f"the input of run '{fields['runId']}' on thread '{fields['threadId']}' is refused: {error}"
        ) from error


def _dump_message(message: Any) -> Any:
    return (
        message.model_dump(mode="json", by_alias=True, exclude_none=True) if isinstance(message, BaseModel) else message
    )


async def with_history(runner: AgentRunner, input: RunAgentInput) -> dict[str, Any]:
    """Return the thread's messages and then the input's, and the state of either.

    The thread's state is taken only if the input has none.
    """
    folded = await runner.threads.fold(input.thread_id)
    known = {message["id"] for message in folded.messages}
    try:
        earlier = RunAgentInput.model_validate({"threadId": "", "runId": "", "messages": folded.messages}).messages
    except ValidationError:
        # AG-UI's own types refuse them, so that no client could send them either.
        logger.warning("thread %s: its messages cannot be passed to the agent", input.thread_id, exc_info=True)
        earlier = []
    return {
        "messages": [*earlier, *(message for message in input.messages if message.id not in known)],
        "state": folded.state if input.state in (None, {}) else input.state,
    }
