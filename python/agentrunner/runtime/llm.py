"""What a model's service is asked, and what it says: the seam between the runtime's loop and any client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

FinishReason: TypeAlias = Literal["stop", "tool_calls", "length", "other"]
"""Why an answer ended: the model was done; it wants its tools run; it was cut off by a limit; the service's own reason.

An answer withheld by the service, for what was asked or what would have been said, is `LlmRefused`.
"""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model is told of it."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})
    """A JSON Schema of type object."""


@dataclass(frozen=True, slots=True)
class LlmRequest:
    """One question to a model."""

    messages: list[dict[str, Any]]
    """In AG-UI's wire form: `role`, `content` (text, or a list of parts), `toolCalls`, `toolCallId`, `error` …

    `activity` messages are for people and left out, as are `reasoning` ones a client cannot hand back to its model.
    """
    tools: list[ToolSpec] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """`temperature`, `max_tokens` …: passed on under the names the client's service or library has for them."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of what the model thinks, where its service shows that."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningSealed:
    """What the service wants back with the reasoning just said, or in place of it: the message's `encryptedValue`.

    It means something only to the client it is from.
    """

    value: str


@dataclass(frozen=True, slots=True)
class ToolCallStart:
    """A tool call begins. Its id is unique in the answer, made up by the client where the service gave none."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallArgs:
    """More of a begun call's arguments, as JSON text. Calls may be interleaved; whether it parses is not checked."""

    id: str
    delta: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What the question cost so far, in tokens; the last one of an answer counts."""

    input_tokens: int = 0
    output_tokens: int = 0
    """Those spent on reasoning included."""
    cached_tokens: int = 0
    """Those of the input that were read from the service's cache."""
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Finish:
    """The answer is whole: said once, and last. A stream that ends without it, or raises, gave a part of one."""

    reason: FinishReason


LlmEvent: TypeAlias = TextDelta | ReasoningDelta | ReasoningSealed | ToolCallStart | ToolCallArgs | Usage | Finish


class LlmClient(Protocol):
    """A model somewhere, asked one question at a time; several may be under way at once."""

    def stream(self, request: LlmRequest, /) -> AsyncIterator[LlmEvent]:
        """Ask, and yield the answer as it comes. An async generator: closing it, or cancelling, ends the question.

        Raises an `LlmError`; one raised before the first event is worth a new try if it is `retryable`, and the client
        has made its own tries by then. What was yielded is not taken back: a caller that asks again begins anew.
        """
        ...
