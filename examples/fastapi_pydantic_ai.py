"""A pydantic-ai agent in a FastAPI app of one's own, for the stock CopilotKit and AG-UI clients.

It keeps a shopping list: a tool fills it, the page shows it while it grows, `threads.db` holds it. It needs no key:
the model is an offline stand-in.

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
    """What the agent and the page share."""

    items: list[str] = []


async def offline(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
    """Stand in for a model: call the tool with whatever is asked for, then say so."""
    last = messages[-1].parts[-1]
    if isinstance(last, ToolReturnPart):
        for word in re.findall(r"\S+\s*", f"{last.content} Anything else?"):
            yield word
            await asyncio.sleep(0.03)
    elif isinstance(last, UserPromptPart):
        wanted = re.split(r",\s*|\s+and\s+", str(last.content).strip(" ."))
        call = DeltaToolCall(name="add", json_args={"items": wanted}, tool_call_id=f"call-{uuid.uuid4()}")
        yield {0: call}


# A real model: `model = "anthropic:claude-sonnet-4-5"`, or any other that pydantic-ai knows.
model = FunctionModel(stream_function=offline)

agent = Agent(model, deps_type=StateDeps[ShoppingList], instructions="Keep the user's shopping list.")


@agent.tool
def add(context: RunContext[StateDeps[ShoppingList]], items: list[str]) -> ToolReturn:
    """Put items on the list."""
    shared = context.deps.state
    shared.items += [item for item in items if item not in shared.items]
    # What stands in the metadata goes to the page as it is; the model sees only the words.
    said = f"I have put {' and '.join(items)} on the list."
    return ToolReturn(said, metadata=[StateSnapshotEvent(snapshot=shared.model_dump())])


def shopping(input: RunAgentInput) -> AsyncIterator[BaseEvent]:
    """Run the agent: the list comes with the request, since the page may have changed it."""
    return AGUIAdapter(agent, input).run_stream(deps=StateDeps(ShoppingList()))


runner = SqliteAgentRunner("threads.db")
# Everybody sees all threads; `authenticate=` says who asks, and then everybody sees their own.
agents = create_app(runner, {"default": shopping})

# The agents' lifespan opens the file and, at the end, lets live runs finish.
app = FastAPI(lifespan=agents.lifespan)
app.mount("/copilotkit", agents)


@app.get("/lists/{thread_id}")
async def shopping_list(thread_id: str) -> Any:
    """Give a thread's list: a route of the app's own, beside the agents'."""
    return await runner.threads.state(thread_id)
