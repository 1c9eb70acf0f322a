"""Agents of real frameworks, offline: pydantic-ai, and LangGraph with an approval."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from ag_ui_langgraph import LangGraphAgent
from langchain.agents import create_agent
from langchain.tools import ToolRuntime, tool
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from pydantic_ai import Agent
from pydantic_ai.models.function import DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.ui.ag_ui import AGUIAdapter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ag_ui.core import BaseEvent, RunAgentInput
    from pydantic_ai.messages import ModelMessage
    from pydantic_ai.models.function import AgentInfo, DeltaToolCalls

os.environ.setdefault("PYDANTIC_AI_NO_BANNER", "1")


async def _script(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
    """Call the tool with the requested city, then repeat the tool's result."""
    last = messages[-1].parts[-1]
    if last.part_kind == "tool-return":
        for word in ("It is ", str(last.content)):
            yield word
        return
    number = sum(message.kind == "request" for message in messages)
    yield {0: DeltaToolCall(name="weather", json_args='{"city": ', tool_call_id=f"weather-{number}")}
    yield {0: DeltaToolCall(json_args=f'"{last.content}"}}')}


def _pydantic(model: Any) -> Any:
    agent = Agent(model)

    @agent.tool_plain
    def weather(city: str) -> str:
        return f"sunny in {city}"

    async def run(input: RunAgentInput) -> AsyncIterator[BaseEvent]:
        async for event in AGUIAdapter(agent=agent, run_input=input).run_stream():
            yield event

    return run


class Offline(BaseChatModel):
    """Stands in for a model: orders what the user wants, then reports the result."""

    @property
    def _llm_type(self) -> str:
        return "offline"

    def bind_tools(self, *_: Any, **__: Any) -> BaseChatModel:
        return self

    def _stream(self, messages: list[BaseMessage], *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        last = messages[-1]
        words = ("Done: ", last.text) if isinstance(last, ToolMessage) else ("I ask ", "first.")
        for word in words:
            yield ChatGenerationChunk(message=AIMessageChunk(word))
        if not isinstance(last, ToolMessage):
            for part in (json.dumps({"item": last.text})[:8], json.dumps({"item": last.text})[8:]):
                first = part.startswith("{")
                named = {"name": "order", "id": f"order-{len(messages)}"} if first else {"name": None, "id": None}
                call = tool_call_chunk(args=part, index=0, **named)
                yield ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=[call]))

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return generate_from_stream(self._stream(messages))


@tool
def order(item: str, runtime: ToolRuntime[Any, Any]) -> Command[Any]:
    """Order something after an approval."""
    answer = interrupt({"message": f"Order {item}?"})
    outcome = f"{item} ordered" if answer["approved"] else "nothing ordered"
    # Without an id the result is shown under one id and kept under another, behind what followed it.
    result = ToolMessage(outcome, tool_call_id=runtime.tool_call_id, id=runtime.tool_call_id)
    return Command(update={"messages": [result]})


def langgraph() -> LangGraphAgent:
    """Return the agent, which keeps a run's state on itself, so that each run needs a clone."""
    graph = create_agent(Offline(), [order], checkpointer=InMemorySaver())
    return LangGraphAgent(
        name="shop", graph=graph, emit_interrupt_outcome=True, enable_legacy_on_interrupt_event=False,
        emit_raw_events=False,
    )  # fmt: skip


def agents() -> dict[str, Any]:
    """Return all agents by the id they are served under."""
    return {
        "scripted": _pydantic(FunctionModel(stream_function=_script)),
        "test-model": _pydantic(TestModel()),
        "langgraph": langgraph(),
    }
