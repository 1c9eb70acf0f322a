"""The interface between the runtime and any model: a request, and a stream of events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

FinishReason: TypeAlias = Literal["stop", "tool_calls", "length", "other"]
"""Why a response ended.

The model was done, it wants to call tools, it hit a limit, or the provider has another reason. If the provider
withholds a response, the client raises `LlmRefused` instead.
"""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """The description of a tool that the model receives."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})
    """JSON Schema of type object that the arguments must match."""


@dataclass(frozen=True, slots=True)
class LlmRequest:
    """One request to a model."""

    messages: list[dict[str, Any]]
    """Messages in AG-UI's wire form.

    A message has `role`, `content` (text, or a list of parts), `toolCalls`, `toolCallId`, `error` and so on. A client
    skips `activity` messages, which are for people, and `reasoning` messages that its model cannot take back.
    """
    tools: list[ToolSpec] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings such as `temperature` and `max_tokens`, under the names of the client's provider or library."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the response's text."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of the model's reasoning, if its provider shows it."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningSealed:
    """Data the provider wants back with the preceding reasoning, or instead of it.

    It becomes the reasoning message's `encryptedValue`. Only the client that yielded it can read it.
    """

    value: str


@dataclass(frozen=True, slots=True)
class ToolCallStart:
    """The beginning of a tool call.

    The id is unique in the response. If the provider sent none, the client has made one up.
    """

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallArgs:
    """More of a tool call's arguments, as JSON text.

    Calls may be interleaved. The client does not check that the text is valid JSON.
    """

    id: str
    delta: str


@dataclass(frozen=True, slots=True)
class ToolCallSealed:
    """Data the provider wants back with a tool call, such as a signature.

    It becomes the call's `encryptedValue`. Only the client that yielded it can read it.
    """

    id: str
    value: str


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens a request has used so far; the last `Usage` of a response counts."""

    input_tokens: int = 0
    output_tokens: int = 0
    """Tokens of the response, including its reasoning."""
    cached_tokens: int = 0
    """Input tokens that the provider read from its cache."""
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of a complete response: yielded once, as the last event.

    If a stream ends without it, or raises, the response is incomplete.
    """

    reason: FinishReason


LlmEvent: TypeAlias = (
    TextDelta | ReasoningDelta | ReasoningSealed | ToolCallStart | ToolCallArgs | ToolCallSealed | Usage | Finish
)


class LlmClient(Protocol):
    """A model the runtime can ask. Several requests may be under way at once.

    Example:
        class Echo:
            async def stream(self, request):
                yield TextDelta(request.messages[-1]["content"])
                yield Finish("stop")
    """

    def stream(self, request: LlmRequest, /) -> AsyncIterator[LlmEvent]:
        """Send a request and iterate over the response as it arrives.

        This is an async generator; closing or cancelling it ends the request.

        Args:
            request: The messages, tools and settings to send.

        Returns:
            The events of the response; `Finish` is the last one.

        Raises:
            LlmError: If there is no complete response. After an error before the first event, send the request again
                if the error is `retryable`; the client has used up its own retries by then. Events that were yielded
                stay valid: a caller that sends the request again starts from the beginning.
        """
        ...
