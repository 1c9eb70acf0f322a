"""What a run's agent is given: the caller's input, and what was said before."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ag_ui.core import RunAgentInput
from pydantic import BaseModel, ValidationError

from agentrunner.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentrunner.runner import AgentRunner

logger = logging.getLogger("agentrunner.harness")


def read_input(
    given: str | Sequence[Any] | RunAgentInput | Mapping[str, Any], thread_id: str | None, run_id: str | None
) -> RunAgentInput:
    """Give a run's input, with new ids where it has none. Raises `InvalidInput`."""
    if isinstance(given, str):
        given = [{"id": str(uuid.uuid4()), "role": "user", "content": given}]
    if isinstance(given, RunAgentInput):
        given = given.model_dump(mode="json", by_alias=True, exclude_none=True)
    elif not isinstance(given, Mapping):
        given = {"messages": [_dumped(each) for each in given]}
    fields = {"state": {}, "tools": [], "context": [], "forwardedProps": {}, **given}
    for name, value in (("threadId", thread_id), ("runId", run_id)):
        if value is not None and fields.get(name, value) != value:
            raise InvalidInput(f"the input says another {name} than the call")
        if fields.get(name) is None:
            fields[name] = value or str(uuid.uuid4())
    try:
        return RunAgentInput.model_validate(fields)
    except ValidationError as error:
        raise InvalidInput(f"a run's input is refused: {error}") from error


def _dumped(message: Any) -> Any:
    return (
        message.model_dump(mode="json", by_alias=True, exclude_none=True) if isinstance(message, BaseModel) else message
    )


async def with_history(runner: AgentRunner, given: RunAgentInput) -> dict[str, Any]:
    """Give an input's `messages` behind those of its thread, and the thread's `state` if it has none of its own."""
    folded = await runner.threads.folded(given.thread_id)
    told = {message["id"] for message in folded.messages}
    try:
        before = RunAgentInput.model_validate({"threadId": "", "runId": "", "messages": folded.messages}).messages
    except ValidationError:
        # What no agent could be given by a client either.
        logger.warning("thread %s: its messages cannot be given to the agent", given.thread_id, exc_info=True)
        before = []
    return {
        "messages": [*before, *(message for message in given.messages if message.id not in told)],
        "state": folded.state if given.state in (None, {}) else given.state,
    }
