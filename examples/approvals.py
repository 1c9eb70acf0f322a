"""An agent that asks before it acts, and waits for the decision across restarts.

The agent is a runtime whose tool needs approval. Its harness stores approvals and decisions in `threads.db`. Any AG-UI
client shows the question and answers it, and so does the app's own route below. It needs no API key: the model is an
offline stand-in.

    uvicorn approvals:app --app-dir examples
"""

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator
from typing import Any, Literal

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from agentrunner import SqliteAgentRunner
from agentrunner.errors import ApprovalNotFound, RunRefused
from agentrunner.harness import Harness
from agentrunner.runtime import (
    AgentRuntime,
    Finish,
    LlmEvent,
    LlmRequest,
    TextDelta,
    ToolCallArgs,
    ToolCallStart,
    ToolContext,
    tool,
)
from agentrunner.server import create_app

ordered: dict[str, str] = {}


@tool(policy="ask")
async def order(items: list[str], context: ToolContext) -> str:
    """Order groceries, which costs money."""
    # Pass the key to a real shop: it is the same when the tool runs again after a crash, so the shop orders once.
    ordered[context.idempotency_key] = " and ".join(items)
    return f"I have ordered {' and '.join(items)}."


class Offline:
    """Stands in for a model: calls the tool with what the user wants, then reports its result."""

    async def stream(self, request: LlmRequest, /) -> AsyncIterator[LlmEvent]:
        """Yield the model's events for one request."""
        last = request.messages[-1]
        if last["role"] == "tool":
            text = "Nothing was ordered." if last.get("error") else last["content"].splitlines()[-1]
            for word in re.findall(r"\S+\s*", text):
                yield TextDelta(word)
                await asyncio.sleep(0.03)
            yield Finish("stop")
        else:
            call = f"call-{uuid.uuid4()}"
            yield ToolCallStart(call, "order")
            yield ToolCallArgs(call, json.dumps({"items": re.split(r",\s*|\s+and\s+", last["content"].strip(" ."))}))
            yield Finish("tool_calls")


# For a real model, use `OpenAIClient("gpt-5-mini")` from `agentrunner.runtime.openai`, or any model of pydantic-ai:
# `PydanticAIClient("anthropic:claude-sonnet-4-5")` from `agentrunner.runtime.pydantic_ai`.
shopping = AgentRuntime(Offline(), tools=[order])

runner = SqliteAgentRunner("threads.db")
harness = Harness(runner, {"default": shopping}, max_concurrent_runs=8)
# The app starts the harness, which continues the runs that a killed process left behind.
agents = create_app(runner, harness)

app = FastAPI(lifespan=agents.lifespan)
app.mount("/copilotkit", agents)


class Decision(BaseModel):
    """A person's decision on an approval."""

    decision: Literal["approve", "reject", "edit"]
    items: list[str] | None = None
    reason: str | None = None


@app.get("/approvals")
async def approvals() -> Any:
    """List the approvals of all threads that wait for a decision."""
    return [
        {"id": each.approval_id, "thread": each.thread_id, "tool": each.tool, "input": each.input}
        for each in await harness.approvals()
    ]


@app.post("/approvals/{approval_id:path}")
async def decide(approval_id: str, body: Decision) -> Any:
    """Decide on an approval and return the agent's next output; open pages show it too."""
    edited = {"items": body.items} if body.decision == "edit" else None
    try:
        result = await harness.decide(approval_id, body.decision, edited_input=edited, reason=body.reason)
    except ApprovalNotFound as error:
        raise HTTPException(404, str(error)) from error
    except RunRefused as error:
        # Another person has decided already, or the approval has expired.
        raise HTTPException(409, str(error)) from error
    return {"state": result.state, "content": result.content}
