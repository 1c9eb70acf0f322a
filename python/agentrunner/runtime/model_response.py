"""A model's response: AG-UI events while it arrives, messages once it is complete."""

from __future__ import annotations

import uuid
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from agentrunner.errors import LlmResponseInvalid
from agentrunner.runtime.llm import (
    Finish,
    FinishReason,
    ReasoningDelta,
    ReasoningSealed,
    TextDelta,
    ToolCallArgs,
    ToolCallSealed,
    ToolCallStart,
    Usage,
)
from agentrunner.runtime.tools import ToolCall

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Iterator, Mapping

    from agentrunner.runtime.llm import LlmClient, LlmEvent, LlmRequest

    Events: TypeAlias = AsyncGenerator[dict[str, Any], None]


def new_id() -> str:
    """Return a random id."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class ModelResponse:
    """A complete response of a model."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    reasoning: tuple[tuple[str, str], ...] = ()
    """Message id and text of each part of the reasoning."""
    sealed: Mapping[str, str] = field(default_factory=dict)
    """Data the provider wants back with the reasoning, by the reasoning's message id."""
    usage: Usage | None = None
    finish: FinishReason = "stop"
    message_id: str = field(default_factory=new_id)

    @property
    def empty(self) -> bool:
        """Whether the response has neither text nor a tool call."""
        return not self.calls and not self.text.strip()

    def messages(self) -> list[dict[str, Any]]:
        """Return the response as messages in AG-UI's wire form.

        Returns:
            The reasoning messages, then the assistant message unless the response is empty.
        """
        messages: list[dict[str, Any]] = [
            {"id": message_id, "role": "reasoning", "content": text}
            | ({"encryptedValue": self.sealed[message_id]} if message_id in self.sealed else {})
            for message_id, text in self.reasoning
        ]
        if self.empty:
            return messages
        answer: dict[str, Any] = {"id": self.message_id, "role": "assistant"}
        if self.text:
            answer["content"] = self.text
        if self.calls:
            answer["toolCalls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                | ({"encryptedValue": call.sealed} if call.sealed is not None else {})
                for call in self.calls
            ]
        return [*messages, answer]


class ResponseReader:
    """Reads one model response as it arrives; `response` is complete after the last event."""

    def __init__(self, used_call_ids: Collection[str]) -> None:
        # Some models number their calls from 1 in every response; ids must be unique in the session.
        self._used_call_ids = set(used_call_ids)
        self._message_id = new_id()
        self._text: list[str] = []
        self._has_text = False
        self._is_text_open = False
        self._reasoning: dict[str, list[str]] = {}
        self._open_reasoning: str | None = None
        """Message id of the reasoning the model is writing; `None` while it writes something else."""
        self._sealed: dict[str, str] = {}
        self._call_ids: dict[str, str] = {}
        """Each call's id in the session, by its id in the model's response."""
        self._calls: dict[str, tuple[str, list[str]]] = {}
        """Each call's tool and arguments, by its id in the session."""
        self._sealed_calls: dict[str, str] = {}
        """Data the provider wants back, by the call's id in the session."""
        self._finish: FinishReason | None = None
        self.usage: Usage | None = None
        self.response = ModelResponse()

    async def events(self, client: LlmClient, request: LlmRequest) -> Events:
        """Send a request and iterate over its response as AG-UI events.

        Raises what the client raises, and `LlmResponseInvalid` for an incomplete response.
        """
        stream = cast("AsyncGenerator[LlmEvent, None]", client.stream(request))
        async with aclosing(stream):
            async for part in stream:
                if self._is_text_open and type(part) is TextDelta:
                    # Most events are text, so they skip the match below.
                    self._text.append(part.text)
                    yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": self._message_id, "delta": part.text}
                    continue
                for event in self._read(part):
                    yield event
        if self._finish is None:
            raise LlmResponseInvalid("the model's response ended before it was complete; run the turn again")
        for event in self._end():
            yield event
        calls = tuple(
            ToolCall(call_id, tool, "".join(args), sealed=self._sealed_calls.get(call_id))
            for call_id, (tool, args) in self._calls.items()
        )
        reasoning = tuple((message_id, "".join(parts)) for message_id, parts in self._reasoning.items())
        text = "".join(self._text) if self._has_text else ""
        self.response = ModelResponse(text, calls, reasoning, self._sealed, self.usage, self._finish, self._message_id)

    def _read(self, part: LlmEvent) -> Iterator[dict[str, Any]]:
        match part:
            case TextDelta(text):
                yield from self._add_text(text)
            case ReasoningDelta(text):
                yield from self._add_reasoning(text)
            case ReasoningSealed(value):
                yield from self._seal_reasoning(value)
            case ToolCallStart(model_id, tool):
                yield from self._start_call(model_id, tool)
            case ToolCallArgs(model_id, delta):
                yield from self._add_arguments(model_id, delta)
            case ToolCallSealed(model_id, value):
                yield from self._seal_call(model_id, value)
            case Usage():
                self.usage = part
            case Finish(reason):
                self._finish = reason

    def _add_text(self, text: str) -> Iterator[dict[str, Any]]:
        if not text:
            return
        self._text.append(text)
        if not self._is_text_open:
            # White space alone is not a message: wait for the first visible character.
            if not self._has_text and not text.strip():
                return
            yield from self._end_reasoning()
            if not self._has_text:
                text = "".join(self._text)
            self._is_text_open = self._has_text = True
            yield {"type": "TEXT_MESSAGE_START", "messageId": self._message_id, "role": "assistant"}
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": self._message_id, "delta": text}

    def _end_text(self) -> Iterator[dict[str, Any]]:
        if self._is_text_open:
            self._is_text_open = False
            yield {"type": "TEXT_MESSAGE_END", "messageId": self._message_id}

    def _add_reasoning(self, text: str) -> Iterator[dict[str, Any]]:
        if not text:
            return
        message_id = self._open_reasoning or new_id()
        yield from self._start_reasoning(message_id)
        self._reasoning[message_id].append(text)
        yield {"type": "REASONING_MESSAGE_CONTENT", "messageId": message_id, "delta": text}

    def _seal_reasoning(self, value: str) -> Iterator[dict[str, Any]]:
        # If the model showed no reasoning, the sealed data gets a message of its own.
        message_id = self._open_reasoning or new_id()
        yield from self._start_reasoning(message_id)
        self._sealed[message_id] = value
        yield {
            "type": "REASONING_ENCRYPTED_VALUE", "subtype": "message", "entityId": message_id, "encryptedValue": value,
        }  # fmt: skip
        yield from self._end_reasoning()

    def _start_reasoning(self, message_id: str) -> Iterator[dict[str, Any]]:
        if self._open_reasoning is None:
            yield from self._end_text()
            self._open_reasoning = message_id
            self._reasoning[message_id] = []
            yield {"type": "REASONING_START", "messageId": message_id}
            yield {"type": "REASONING_MESSAGE_START", "messageId": message_id, "role": "reasoning"}

    def _end_reasoning(self) -> Iterator[dict[str, Any]]:
        if self._open_reasoning is not None:
            yield {"type": "REASONING_MESSAGE_END", "messageId": self._open_reasoning}
            yield {"type": "REASONING_END", "messageId": self._open_reasoning}
            self._open_reasoning = None

    def _start_call(self, model_id: str, tool: str) -> Iterator[dict[str, Any]]:
        if model_id in self._call_ids:
            raise LlmResponseInvalid("the model's response starts the same tool call twice")
        yield from self._end_reasoning()
        yield from self._end_text()
        call_id, number = model_id or new_id(), 1
        while call_id in self._used_call_ids:
            number += 1
            call_id = f"{model_id}-{number}"
        self._used_call_ids.add(call_id)
        self._call_ids[model_id] = call_id
        self._calls[call_id] = (tool, [])
        yield {
            "type": "TOOL_CALL_START", "toolCallId": call_id, "toolCallName": tool, "parentMessageId": self._message_id,
        }  # fmt: skip

    def _add_arguments(self, model_id: str, delta: str) -> Iterator[dict[str, Any]]:
        if model_id not in self._call_ids:
            raise LlmResponseInvalid("the model's response has arguments for a tool call that it has not started")
        if delta:
            call_id = self._call_ids[model_id]
            self._calls[call_id][1].append(delta)
            yield {"type": "TOOL_CALL_ARGS", "toolCallId": call_id, "delta": delta}

    def _seal_call(self, model_id: str, value: str) -> Iterator[dict[str, Any]]:
        if model_id not in self._call_ids:
            raise LlmResponseInvalid("the model's response has data for a tool call that it has not started")
        call_id = self._call_ids[model_id]
        self._sealed_calls[call_id] = value
        yield {
            "type": "REASONING_ENCRYPTED_VALUE", "subtype": "tool-call", "entityId": call_id, "encryptedValue": value,
        }  # fmt: skip

    def _end(self) -> Iterator[dict[str, Any]]:
        yield from self._end_reasoning()
        yield from self._end_text()
        for call_id, (_, args) in self._calls.items():
            if not args:
                # Clients parse the arguments as JSON, and empty text is not JSON.
                args.append("{}")
                yield {"type": "TOOL_CALL_ARGS", "toolCallId": call_id, "delta": "{}"}
            yield {"type": "TOOL_CALL_END", "toolCallId": call_id}
