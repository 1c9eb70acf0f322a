"""The agents that `make serve` serves; all of them work offline."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from agentrunner.demo.agent import agent as guide
from agentrunner.demo.booking import Booking
from agentrunner.harness import Harness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import RunAgentInput

    from agentrunner.runner import AgentRunner


async def burst(input: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
    """Emit 10,000 events as fast as they can be stored."""
    yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
    for number in range(100):
        message_id = f"message-{uuid.uuid4()}"
        yield {"type": "TEXT_MESSAGE_START", "messageId": message_id, "role": "assistant"}
        for word in range(97):
            yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message_id, "delta": f"{number}.{word} "}
        yield {"type": "TEXT_MESSAGE_END", "messageId": message_id}
    yield {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}


def agents(runner: AgentRunner) -> Harness:
    """Return a harness over the runner, with a guide, an agent that asks, and a burst.

    An approval that the second agent asks for outlives the server, and its tool runs once.
    """
    return Harness(runner, {"default": guide, "approval": Booking(), "burst": burst})
