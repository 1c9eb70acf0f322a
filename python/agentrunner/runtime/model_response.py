"""A model's answer, as AG-UI events while it comes and as messages once it is whole."""

from __future__ import annotations

import uuid
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from agentrunner.errors import LlmResponseInvalid
from agentrunner.runtime.llm import (
    Finish,
    FinishReason,
    ReasoningDelta,
    ReasoningSealed,
    TextDelta,
    ToolCallArgs,
    ToolCallStart,
    Usage,
)
from agentrunner.runtime.tools import ToolCall

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Iterator, Mapping

    from agentrunner.runtime.llm import LlmClient, LlmRequest

    Events = AsyncGenerator[dict[str, Any], None]


def new_id() -> str:
    """Give an id nothing else has."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class ModelResponse:
    """What a model said."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    reasoning: tuple[tuple[str, str], ...] = ()
    """Of each stretch of it the message's id and its text."""
    sealed: Mapping[str, str] = field(default_factory=dict)
    """By the message's id, what the model's service wants back with that reasoning."""
    usage: Usage | None = None
    finish: FinishReason = "stop"
    message_id: str = field(default_factory=new_id)

    @property
    def empty(self) -> bool:
        """Whether there is neither text nor a call."""
        return not self.calls and not self.text.strip()

    def messages(self) -> list[dict[str, Any]]:
        """Give it as messages in AG-UI's wire form: the reasoning, then the answer if there is one."""
        made: list[dict[str, Any]] = [
            {"id": name, "role": "reasoning", "content": text}
            | ({"encryptedValue": self.sealed[name]} if name in self.sealed else {})
            for name, text in self.reasoning
        ]
        if self.empty:
            return made
        message: dict[str, Any] = {"id": self.message_id, "role": "assistant"}
        if self.text:
            message["content"] = self.text
        if self.calls:
            message["toolCalls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in self.calls
            ]
        return [*made, message]


class ResponseReader:
    """An answer that is coming in. `answer` once it is whole."""

    def __init__(self, used: Collection[str]) -> None:
        self._used = set(used)
        """Call ids the session has already: some models begin to count anew with each answer."""
        self._id = new_id()
        self._text: list[str] = []
        self._speaking = False
        self._reasoning: dict[str, list[str]] = {}
        self._thinking: str | None = None
        self._sealed: dict[str, str] = {}
        self._names: dict[str, str] = {}
        """Of each call, by the model's id of it, ours."""
        self._calls: dict[str, tuple[str, list[str]]] = {}
        self.usage: Usage | None = None
        self.answer = ModelResponse()

    async def events(self, client: LlmClient, request: LlmRequest) -> Events:
        """Ask, and yield events. Raises what the client raises, `LlmResponseInvalid` for half an answer."""
        finish: FinishReason | None = None
        stream = client.stream(request)
        async with aclosing(cast("AsyncGenerator[Any, None]", stream)) as said:
            async for one in said:
                if self._speaking and type(one) is TextDelta:
                    # Most of what there is, by the shortest way.
                    self._text.append(one.text)
                    yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": self._id, "delta": one.text}
                    continue
                match one:
                    case TextDelta(text):
                        for event in self._say(text):
                            yield event
                    case ReasoningDelta(text):
                        for event in self._think(text):
                            yield event
                    case ReasoningSealed(value):
                        for event in self._seal(value):
                            yield event
                    case ToolCallStart(name, tool):
                        for event in self._begin(name, tool):
                            yield event
                    case ToolCallArgs(name, delta):
                        if name not in self._names:
                            raise LlmResponseInvalid(
                                "the model's answer has arguments for a tool call that was not begun"
                            )
                        if delta:
                            self._calls[self._names[name]][1].append(delta)
                            yield {"type": "TOOL_CALL_ARGS", "toolCallId": self._names[name], "delta": delta}
                    case Usage():
                        self.usage = one
                    case Finish(reason):
                        finish = reason
        if finish is None:
            raise LlmResponseInvalid("the model's answer broke off")
        for event in self._end():
            yield event
        calls = tuple(ToolCall(name, tool, "".join(args)) for name, (tool, args) in self._calls.items())
        reasoning = tuple((name, "".join(parts)) for name, parts in self._reasoning.items())
        text = "".join(self._text) if self._speaking_begun else ""
        self.answer = ModelResponse(text, calls, reasoning, self._sealed, self.usage, finish, self._id)

    _speaking_begun = False

    def _say(self, text: str) -> Iterator[dict[str, Any]]:
        if not text:
            return
        self._text.append(text)
        if not self._speaking:
            # A message of nothing but white space is none.
            if not self._speaking_begun and not text.strip():
                return
            yield from self._stop_thinking()
            if not self._speaking_begun:
                text = "".join(self._text)
            self._speaking = self._speaking_begun = True
            yield {"type": "TEXT_MESSAGE_START", "messageId": self._id, "role": "assistant"}
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": self._id, "delta": text}

    def _stop_speaking(self) -> Iterator[dict[str, Any]]:
        if self._speaking:
            self._speaking = False
            yield {"type": "TEXT_MESSAGE_END", "messageId": self._id}

    def _think(self, text: str) -> Iterator[dict[str, Any]]:
        if not text:
            return
        name = self._thinking or new_id()
        yield from self._begin_thinking(name)
        self._reasoning[name].append(text)
        yield {"type": "REASONING_MESSAGE_CONTENT", "messageId": name, "delta": text}

    def _seal(self, value: str) -> Iterator[dict[str, Any]]:
        # Where nothing was thought aloud the seal has a message of its own.
        name = self._thinking or new_id()
        yield from self._begin_thinking(name)
        self._sealed[name] = value
        yield {"type": "REASONING_ENCRYPTED_VALUE", "subtype": "message", "entityId": name, "encryptedValue": value}
        yield from self._stop_thinking()

    def _begin_thinking(self, name: str) -> Iterator[dict[str, Any]]:
        if self._thinking is None:
            yield from self._stop_speaking()
            self._thinking = name
            self._reasoning[name] = []
            yield {"type": "REASONING_START", "messageId": name}
            yield {"type": "REASONING_MESSAGE_START", "messageId": name, "role": "reasoning"}

    def _stop_thinking(self) -> Iterator[dict[str, Any]]:
        if self._thinking is not None:
            yield {"type": "REASONING_MESSAGE_END", "messageId": self._thinking}
            yield {"type": "REASONING_END", "messageId": self._thinking}
            self._thinking = None

    def _begin(self, model_id: str, tool: str) -> Iterator[dict[str, Any]]:
        if model_id in self._names:
            raise LlmResponseInvalid("the model's answer begins a tool call twice")
        yield from self._stop_thinking()
        yield from self._stop_speaking()
        name, number = model_id or new_id(), 1
        while name in self._used:
            number += 1
            name = f"{model_id}-{number}"
        self._used.add(name)
        self._names[model_id] = name
        self._calls[name] = (tool, [])
        yield {"type": "TOOL_CALL_START", "toolCallId": name, "toolCallName": tool, "parentMessageId": self._id}

    def _end(self) -> Iterator[dict[str, Any]]:
        yield from self._stop_thinking()
        yield from self._stop_speaking()
        for name, (_, args) in self._calls.items():
            if not args:
                # What reads the arguments as JSON is not to stumble over a call without any.
                args.append("{}")
                yield {"type": "TOOL_CALL_ARGS", "toolCallId": name, "delta": "{}"}
            yield {"type": "TOOL_CALL_END", "toolCallId": name}
