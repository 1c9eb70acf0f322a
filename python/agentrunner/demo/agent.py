"""The tour's agent: pydantic-ai with a tool and an offline model."""

from __future__ import annotations

import asyncio
import os
import uuid
from typing import TYPE_CHECKING, Any

from pydantic_ai import Agent
from pydantic_ai.models.function import DeltaToolCall, FunctionModel
from pydantic_ai.ui.ag_ui import AGUIAdapter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import BaseEvent, RunAgentInput
    from pydantic_ai.messages import ModelMessage
    from pydantic_ai.models.function import AgentInfo, DeltaToolCalls

# On a terminal pydantic-ai prints a banner before its first run, which would break up the tour's output.
os.environ.setdefault("PYDANTIC_AI_NO_BANNER", "1")

DELTA_SECONDS = 0.004
"""Seconds between two deltas."""
DELTA_CHARACTERS = 4
"""Characters of one delta, about as many as a model's token has."""

ANSWER = """\
It will be sunny all day, so stay outside. Begin at eight on the Praça do Comércio, while the square still belongs to \
the gulls and the river is flat as a plate. Walk up through Baixa before the shops open; the pavement is polished \
limestone, so wear shoes that hold. At nine have a coffee and a custard tart standing at a counter, as everyone else \
does, and pay in coins. Then take the stairs to Alfama rather than the tram: the tram is full, the stairs are not, \
and half way up there is a fountain with cold water. From the terrace at Santa Luzia you see the roofs, the cranes on \
the far bank and, on a clear day like this one, the bridge. Have lunch late and sit in the shade: grilled sardines, \
tomatoes, bread, nothing that needs a menu. Keep the hot hours for the tile museum, which is cool, quiet and further \
away than it looks; the bus by the river takes a quarter of an hour. Come back on foot along the water. Towards six \
the light turns yellow and the whole town walks to the nearest hill, so choose yours early: Graça has the pine trees, \
Senhora do Monte has the view, São Pedro has the benches. Dinner is after nine and takes as long as it takes. If \
somebody starts to sing, stop talking; it is rude to go on. Walk home downhill, with the river in front of you."""


async def _model(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
    """Call the weather tool first, then answer with its result."""
    has_result = any(part.part_kind == "tool-return" for part in messages[-1].parts)
    text = ANSWER if has_result else "Let me look at the weather first."
    for start in range(0, len(text), DELTA_CHARACTERS):
        yield text[start : start + DELTA_CHARACTERS]
        await asyncio.sleep(DELTA_SECONDS)
    if not has_result:
        yield {0: DeltaToolCall(name="weather", json_args='{"city": ', tool_call_id=f"call-{uuid.uuid4().hex[:8]}")}
        for delta in ('"Lis', 'bon"}'):
            yield {0: DeltaToolCall(json_args=delta)}


_agent = Agent(FunctionModel(stream_function=_model))


@_agent.tool_plain
def weather(city: str) -> str:
    """Return the weather in a city."""
    return f"Sunny in {city}, 24 degrees, a light wind from the river"


async def agent(input: RunAgentInput) -> AsyncIterator[BaseEvent]:
    """Look up the weather in Lisbon and plan a day there (pydantic-ai with a tool)."""
    # This loop is all that a runner needs of a pydantic-ai agent.
    async for event in AGUIAdapter(agent=_agent, run_input=input).run_stream():
        yield event


def make_request(thread_id: str, run_id: str, history: list[dict[str, Any]], question: str) -> dict[str, Any]:
    """Return what a client sends: all the messages it has, and the new one."""
    message = {"id": f"{run_id}-question", "role": "user", "content": question}
    return {
        "threadId": thread_id,
        "runId": run_id,
        "messages": [*history, message],
        "tools": [],
        "context": [],
        "state": {},
        "forwardedProps": {},
    }
