"""A pydantic-ai agent in a FastAPI app, for CopilotKit and AG-UI clients.

It keeps a shopping list: a tool fills it, the page shows it while it grows, and `threads.db` stores it. It needs no API
key: the model is an offline stand-in.

    uvicorn fastapi_pydantic_ai:app --app-dir examples
"""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from typing import Any

from ag_ui.core import BaseEvent, RunAgentInput, StateSnapshotEvent
from fastapi import FastAPI
from pydantic import BaseModel
from pydantic_ai import Agent, RunContext, ToolReturn
from pydantic_ai.messages import ModelMessage, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel
from pydantic_ai.ui import StateDeps
from pydantic_ai.ui.ag_ui import AGUIAdapter

from agentrunner import SqliteAgentRunner
from agentrunner.server import create_app


class ShoppingList(BaseModel):
    """The state that agent and page share."""

    items: list[str] = []


async def offline(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
    """Stand in for a model: call the tool with what the user wants, then report it."""
    last = messages[-1].parts[-1]
    if isinstance(last, ToolReturnPart):
        for word in re.findall(r"\S+\s*", f"{last.content} Anything else?"):
            yield word
            await asyncio.sleep(0.03)
    elif isinstance(last, UserPromptPart):
        items = re.split(r",\s*|\s+and\s+", str(last.content).strip(" ."))
        call = DeltaToolCall(name="add", json_args={"items": items}, tool_call_id=f"call-{uuid.uuid4()}")
        yield {0: call}


# For a real model, set `model = "anthropic:claude-sonnet-4-5"`, or any other that pydantic-ai has.
model = FunctionModel(stream_function=offline)

agent = Agent(model, deps_type=StateDeps[ShoppingList], instructions="Keep the user's shopping list.")


@agent.tool
def add(context: RunContext[StateDeps[ShoppingList]], items: list[str]) -> ToolReturn:
    """Put items on the list."""
    shared = context.deps.state
    shared.items += [item for item in items if item not in shared.items]
    # The events in the metadata go to the page; the model sees only the text.
    text = f"I have put {' and '.join(items)} on the list."
    return ToolReturn(text, metadata=[StateSnapshotEvent(snapshot=shared.model_dump())])


def shopping(input: RunAgentInput) -> AsyncIterator[BaseEvent]:
    """Run the agent; the request brings the list, which the page may have changed."""
    return AGUIAdapter(agent, input).run_stream(deps=StateDeps(ShoppingList()))


runner = SqliteAgentRunner("threads.db")
# Every user sees all threads. With `authenticate=`, users see only their own.
agents = create_app(runner, {"default": shopping})

# The lifespan opens the file and, at shutdown, waits for live runs to finish.
app = FastAPI(lifespan=agents.lifespan)
app.mount("/copilotkit", agents)


@app.get("/lists/{thread_id}")
async def shopping_list(thread_id: str) -> Any:
    """Return a thread's list: a route of the app, next to the agents'."""
    return await runner.threads.state(thread_id)
