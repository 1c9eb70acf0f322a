"""A LangGraph agent that asks before it acts, in a FastAPI app, for CopilotKit clients.

It orders groceries once the user agrees: the tool calls `interrupt()`, the page shows the question, and the answer
resumes the graph where it stopped. It needs no API key: the model is an offline stand-in.

    uvicorn fastapi_langgraph:app --app-dir examples

`threads.db` stores what users have seen: the events of each run, from which the thread list, messages and state are
made. LangGraph's checkpointer stores where the graph stopped, with its own messages and the open question. Both use the
thread's id; neither reads the other:

- A checkpointer in memory, as here, is lost with its process: use `AsyncSqliteSaver` or `AsyncPostgresSaver`. Without
  its checkpoints the thread is still shown, and the next request brings its messages and state, but an open question
  is lost.
- A stopped run leaves the graph at its last complete step. The partial answer is in `threads.db`, and the next request
  brings it into the graph.
- Deleting a thread here does not delete its checkpoints; call `await graph.checkpointer.adelete_thread(thread_id)`.
- While a question is open the graph accepts nothing else: it answers a message with the same question.
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
    """Stands in for a model: orders what the user wants, then reports the result."""

    @property
    def _llm_type(self) -> str:
        return "offline"

    def bind_tools(self, *_: Any, **__: Any) -> BaseChatModel:
        """Return the model itself: its one tool is fixed."""
        return self

    def _stream(self, messages: list[BaseMessage], *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        last = messages[-1]
        for word in re.findall(r"\S+\s*", last.text if isinstance(last, ToolMessage) else "I ask before I order."):
            yield ChatGenerationChunk(message=AIMessageChunk(word))
            time.sleep(0.03)
        if not isinstance(last, ToolMessage):
            arguments = json.dumps({"items": re.split(r",\s*|\s+and\s+", last.text.strip(" ."))})
            call = tool_call_chunk(name="order", args=arguments, id=f"call-{uuid.uuid4()}", index=0)
            yield ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=[call]))

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return generate_from_stream(self._stream(messages))


class Shop(AgentState[Any]):
    """The state that graph and page share, apart from the messages."""

    items: NotRequired[list[str]]


@tool
def order(items: list[str], runtime: ToolRuntime[Any, Shop]) -> Command[Any]:
    """Order groceries, after the user has agreed."""
    # The run ends here. The run that brings the answer starts this tool again, and then `interrupt` returns it.
    answer = interrupt({"message": f"Order {' and '.join(items)}?"})
    has_agreed = answer.get("approved") is True
    text = f"{' and '.join(items)}: ordered." if has_agreed else "Nothing was ordered."
    ordered = [*runtime.state.get("items", []), *(items if has_agreed else [])]
    # With the same id, clients show the result in the stream and the one in the graph's messages as one message.
    result = ToolMessage(text, tool_call_id=runtime.tool_call_id, id=runtime.tool_call_id)
    return Command(update={"items": ordered, "messages": [result]})


# For a real model, set `model = "anthropic:claude-sonnet-4-5"`, or any other that LangChain has.
model = Offline()

graph = create_agent(model, [order], state_schema=Shop, checkpointer=InMemorySaver())

# With AG-UI 1.0's outcome the question is stored with its run. Raw events would double the size of what is stored.
shop = LangGraphAgent(
    name="shop", graph=graph, emit_interrupt_outcome=True, enable_legacy_on_interrupt_event=False, emit_raw_events=False
)

runner = SqliteAgentRunner("threads.db")
# Every user sees all threads. With `authenticate=`, users see only their own.
agents = create_app(runner, {"default": shop})

# The lifespan opens the file and, at shutdown, waits for live runs to finish.
app = FastAPI(lifespan=agents.lifespan)
app.mount("/copilotkit", agents)


@app.get("/lists/{thread_id}")
async def shopping_list(thread_id: str) -> Any:
    """Return what was ordered in a thread: a route of the app, next to the agents'."""
    state = await runner.threads.state(thread_id)
    return {"items": state.get("items", [])}
