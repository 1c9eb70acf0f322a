"""A LangGraph agent that asks before it acts, in a FastAPI app of one's own, for the stock CopilotKit clients.

It orders groceries once somebody has agreed: the tool calls `interrupt()`, the page shows the question, the answer
resumes the graph where it stands. It needs no key: the model is an offline stand-in.

    uvicorn fastapi_langgraph:app --app-dir examples

What is kept where: `threads.db` keeps what was seen, each run's events, and from them come the thread list, messages
and state. LangGraph's checkpointer keeps where the graph stands, with its own messages and the question that is open.
Both go by the thread's id; neither reads the other:

- A checkpointer in memory, as here, forgets with the process: take `AsyncSqliteSaver` or `AsyncPostgresSaver`. Without
  one the thread is still shown, and the next request brings its messages and state, but an open question is lost.
- A stopped run leaves the graph at its last whole step. The half answer is in `threads.db`, and the next request
  brings it into the graph.
- Who deletes a thread here has not deleted its checkpoints: `await graph.checkpointer.adelete_thread(thread_id)`.
- While a question is open the graph takes nothing else: a message sent then is met with the same question again.
"""

import json
import re
import time
import uuid
from collections.abc import Iterator
from typing import Any, NotRequired

from ag_ui_langgraph import LangGraphAgent
from fastapi import FastAPI
from langchain.agents import AgentState, create_agent
from langchain.tools import ToolRuntime, tool
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

from agentrunner import SqliteAgentRunner
from agentrunner.server import create_app


class Offline(BaseChatModel):
    """Stand in for a model: order whatever is asked for, then say what came of it."""

    @property
    def _llm_type(self) -> str:
        return "offline"

    def bind_tools(self, *_: Any, **__: Any) -> BaseChatModel:
        """Take the tools: it knows them."""
        return self

    def _stream(self, messages: list[BaseMessage], *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        last = messages[-1]
        for word in re.findall(r"\S+\s*", last.text if isinstance(last, ToolMessage) else "I ask before I order."):
            yield ChatGenerationChunk(message=AIMessageChunk(word))
            time.sleep(0.03)
        if not isinstance(last, ToolMessage):
            wanted = json.dumps({"items": re.split(r",\s*|\s+and\s+", last.text.strip(" ."))})
            call = tool_call_chunk(name="order", args=wanted, id=f"call-{uuid.uuid4()}", index=0)
            yield ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=[call]))

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return generate_from_stream(self._stream(messages))


class Shop(AgentState[Any]):
    """What the graph and the page share, beside the messages."""

    items: NotRequired[list[str]]


@tool
def order(items: list[str], runtime: ToolRuntime[Any, Shop]) -> Command[Any]:
    """Order groceries. Somebody is asked first."""
    # The run ends here; the one that brings the answer begins this tool anew, and then this gives the answer.
    answer = interrupt({"message": f"Order {' and '.join(items)}?"})
    agreed = answer.get("approved") is True
    said = f"{' and '.join(items)}: ordered." if agreed else "Nothing was ordered."
    ordered = [*runtime.state.get("items", []), *(items if agreed else [])]
    # With an id the result shown while it runs and the one in the graph's messages are the same message.
    result = ToolMessage(said, tool_call_id=runtime.tool_call_id, id=runtime.tool_call_id)
    return Command(update={"items": ordered, "messages": [result]})


# A real model: `model = "anthropic:claude-sonnet-4-5"`, or any other that LangChain knows.
model = Offline()

graph = create_agent(model, [order], state_schema=Shop, checkpointer=InMemorySaver())

# With the outcome of AG-UI 1.0 the question is kept with its run; raw events would be kept as well, and twice the size.
shop = LangGraphAgent(
    name="shop", graph=graph, emit_interrupt_outcome=True, enable_legacy_on_interrupt_event=False, emit_raw_events=False
)

runner = SqliteAgentRunner("threads.db")
# Everybody sees all threads; `authenticate=` says who asks, and then everybody sees their own.
agents = create_app(runner, {"default": shop})

# The agents' lifespan opens the file and, at the end, lets live runs finish.
app = FastAPI(lifespan=agents.lifespan)
app.mount("/copilotkit", agents)


@app.get("/lists/{thread_id}")
async def shopping_list(thread_id: str) -> Any:
    """Give what was ordered in a thread: a route of the app's own, beside the agents'."""
    state = await runner.threads.state(thread_id)
    return {"items": state.get("items", [])}
