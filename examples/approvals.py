"""An agent that asks before it acts: its run waits for a yes for as long as it takes, also through a restart.

A runtime with a tool that needs approval, under a harness that keeps what was asked and decided in `threads.db`. Any
AG-UI client shows the question and answers it; so does the app's own route below. It needs no key: the model is an
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
    # A real shop is told the key: whatever happens in between, under one key it delivers once.
    ordered[context.idempotency_key] = " and ".join(items)
    return f"I have ordered {' and '.join(items)}."


class Offline:
    """Stand in for a model: call the tool with whatever is asked for, then say what became of it."""

    async def stream(self, request: LlmRequest, /) -> AsyncIterator[LlmEvent]:
        """Answer."""
        last = request.messages[-1]
        if last["role"] == "tool":
            said = "Nothing was ordered." if last.get("error") else last["content"].splitlines()[-1]
            for word in re.findall(r"\S+\s*", said):
                yield TextDelta(word)
                await asyncio.sleep(0.03)
            yield Finish("stop")
        else:
            call = f"call-{uuid.uuid4()}"
            yield ToolCallStart(call, "order")
            yield ToolCallArgs(call, json.dumps({"items": re.split(r",\s*|\s+and\s+", last["content"].strip(" ."))}))
            yield Finish("tool_calls")


# A real model: `OpenAIClient("gpt-5-mini")` from `agentrunner.runtime.openai`, or any other that pydantic-ai knows:
# `PydanticAIClient("anthropic:claude-sonnet-4-5")` from `agentrunner.runtime.pydantic_ai`.
shopping = AgentRuntime(Offline(), tools=[order])

runner = SqliteAgentRunner("threads.db")
harness = Harness(runner, {"default": shopping}, max_concurrent_runs=8)
# With the app the harness starts, and goes on with the runs a killed process has left.
agents = create_app(runner, harness)

app = FastAPI(lifespan=agents.lifespan)
app.mount("/copilotkit", agents)


class Decision(BaseModel):
    """What somebody decides."""

    decision: Literal["approve", "reject", "edit"]
    items: list[str] | None = None
    reason: str | None = None


@app.get("/approvals")
async def approvals() -> Any:
    """Give what waits for a decision, on all threads: for the page of whoever decides."""
    return [
        {"id": each.approval_id, "thread": each.thread_id, "tool": each.tool, "input": each.input}
        for each in await harness.approvals()
    ]


@app.post("/approvals/{approval_id:path}")
async def decide(approval_id: str, given: Decision) -> Any:
    """Decide, and give what the agent says to that. Whoever has the thread open sees it, too."""
    edited = {"items": given.items} if given.decision == "edit" else None
    try:
        result = await harness.resume(
            approval_id=approval_id, decision=given.decision, edited_input=edited, reason=given.reason
        )
    except ApprovalNotFound as error:
        raise HTTPException(404, str(error)) from error
    except RunRefused as error:
        # Somebody else was faster, or it has expired.
        raise HTTPException(409, str(error)) from error
    return {"state": result.state, "said": result.content}
