"""A client for the models of pydantic-ai."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

try:
    from pydantic_ai import exceptions, messages
    from pydantic_ai.direct import model_request_stream
    from pydantic_ai.models import ModelRequestParameters, infer_model
    from pydantic_ai.tools import ToolDefinition
    from pydantic_ai.ui.ag_ui import AGUIAdapter
except ImportError as error:
    raise ImportError("PydanticAIClient needs pydantic-ai: pip install 'pydantic-ai-slim[ag-ui]'") from error

from ag_ui.core import Message

from agentrunner import errors
from agentrunner.runtime._provider_errors import add_advice, mask_keys
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

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from pydantic_ai.models import Model, StreamedResponse
    from pydantic_ai.settings import ModelSettings

    from agentrunner.runtime.llm import LlmEvent, LlmRequest

_MESSAGE_LIST: TypeAdapter[list[Message]] = TypeAdapter(list[Message])
_FINISH_REASONS: dict[str | None, FinishReason] = {"stop": "stop", "length": "length", "tool_call": "tool_calls"}
# The first match counts, so subclasses come before their base classes.
_ERRORS: tuple[tuple[type[Exception], type[errors.LlmError], str], ...] = (
    (exceptions.ModelRateLimitError, errors.LlmRateLimited, "accepts no more requests for now"),
    (exceptions.ModelQuotaExceededError, errors.LlmQuotaExhausted, "says that the account has no credit left"),
    (exceptions.ModelConnectionError, errors.LlmUnreachable, "cannot be reached or closed the connection"),
    (exceptions.ModelRequestTimeout, errors.LlmUnreachable, "did not respond in time"),
    (exceptions.ModelAuthenticationError, errors.LlmUnauthorized, "does not accept the API key"),
    (exceptions.ModelContextWindowExceededError, errors.LlmContextTooLong, "says that the conversation is too long"),
    (exceptions.ModelRequestRejectedError, errors.LlmRequestInvalid, "rejected the request"),
    (exceptions.ContentFilterError, errors.LlmRefused, "withheld the response"),
    (exceptions.UnexpectedModelBehavior, errors.LlmResponseInvalid, "sent a response that pydantic-ai cannot read"),
    (exceptions.ModelAPIError, errors.LlmOverloaded, "is overloaded or has failed"),
    (exceptions.AgentRunError, errors.LlmRequestInvalid, "cannot be sent this request"),
    (exceptions.UserError, errors.LlmRequestInvalid, "cannot be sent this request"),
)


class PydanticAIClient:
    """Sends requests to a model of pydantic-ai through its low-level streaming API.

    Retries, timeouts and the API key are options of pydantic-ai's model.

    Args:
        model: The model, or its name, such as `anthropic:claude-sonnet-4-5`.
        settings: Defaults for the settings of every request, under the names of pydantic-ai's `ModelSettings`.

    Raises:
        Exception: As pydantic-ai does, if it does not know the name.

    Example:
        agent = AgentRuntime(PydanticAIClient("anthropic:claude-sonnet-4-5"), tools=[weather])
    """

    def __init__(self, model: Model | str, *, settings: Mapping[str, Any] | None = None) -> None:
        self._model = infer_model(model)
        self._settings = dict(settings or {})

    @property
    def model(self) -> str:
        """The model's name at its provider."""
        return self._model.model_name

    async def stream(self, request: LlmRequest, /) -> AsyncIterator[LlmEvent]:
        """Send a request and iterate over the response as it arrives.

        Closing or cancelling the iterator ends the request.

        Args:
            request: The messages, tools and settings to send.

        Yields:
            The events of the response.

        Raises:
            LlmError: If there is no complete response.
        """
        history = self._load_history(request)
        tools = [
            ToolDefinition(name=tool.name, description=tool.description, parameters_json_schema=dict(tool.parameters))
            for tool in request.tools
        ]
        settings = cast("ModelSettings", {**self._settings, **request.settings})
        try:
            async with model_request_stream(
                self._model,
                history,
                model_settings=settings,
                model_request_parameters=ModelRequestParameters(function_tools=tools),
            ) as response:
                calls = _CallIds()
                async for part in response:
                    for event in _convert_event(part, calls):
                        yield event
                for event in self._finish(response, calls):
                    yield event
        except exceptions.FallbackExceptionGroup as error:
            raise self._translate_error(_find_last_error(error)) from error
        except (exceptions.AgentRunError, exceptions.UserError) as error:
            raise self._translate_error(error) from error.__cause__

    def _load_history(self, request: LlmRequest) -> list[messages.ModelMessage]:
        trusted = [_strip_untrusted(message) for message in request.messages if message.get("role") != "activity"]
        try:
            return AGUIAdapter.load_messages(_MESSAGE_LIST.validate_python(trusted))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            raise errors.LlmRequestInvalid(
                f"message {first['loc'][0]} is not an AG-UI message: {first['msg']}"
            ) from None
        except ValueError as error:
            raise errors.LlmRequestInvalid(f"pydantic-ai does not accept the messages as a history: {error}") from error

    def _finish(self, response: StreamedResponse, calls: _CallIds) -> Iterator[LlmEvent]:
        if response.finish_reason == "content_filter":
            raise errors.LlmRefused(f"the provider of the model '{self.model}' withheld the response")
        if response.finish_reason == "error":
            raise errors.LlmOverloaded(f"the provider of the model '{self.model}' has failed")
        complete = response.get()
        if complete.state == "incomplete":
            text = f"the response of the model '{self.model}' ended before it was complete"
            raise errors.LlmUnreachable(add_advice(errors.LlmUnreachable, text))
        for index, call_id in calls.list_without_arguments():
            # Arguments that arrived as an object or not at all. They cannot be yielded at the end of their part: calls
            # may be interleaved, so that part may get more deltas.
            part = complete.parts[index]
            yield ToolCallArgs(call_id, part.args_as_json_str() if isinstance(part, messages.ToolCallPart) else "{}")
        usage = response.usage
        if usage.has_values():
            reasoning_tokens = usage.details.get("reasoning_tokens", 0)
            yield Usage(usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, reasoning_tokens)
        # Some models of pydantic-ai report no finish reason; an incomplete stream has raised above.
        reason = _FINISH_REASONS.get(response.finish_reason, "stop" if response.finish_reason is None else "other")
        yield Finish("tool_calls" if calls and reason == "stop" else reason)

    def _translate_error(self, error: BaseException) -> errors.LlmError:
        status = getattr(error, "status_code", None)
        retry_after = getattr(error, "retry_after", None)
        error_class, words = next((ours, words) for theirs, ours, words in _ERRORS if isinstance(error, theirs))
        text = f"the provider of the model '{self.model}' {words}{f' ({status})' if status else ''}"
        return error_class(
            add_advice(error_class, text), status=status, retry_after=retry_after, detail=mask_keys(str(error))
        )


class _CallIds:
    """The ids of a response's tool calls by the index of their part."""

    def __init__(self) -> None:
        self._ids: dict[int, str] = {}
        self._with_arguments: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._ids)

    def start(self, index: int, sent_id: str) -> str:
        """Return the id of a new call: the model's, or a new one if another call has that."""
        is_usable = sent_id and sent_id not in self._ids.values()
        self._ids[index] = sent_id if is_usable else f"call-{uuid.uuid4().hex}"
        return self._ids[index]

    def add_arguments(self, index: int, args: str) -> ToolCallArgs:
        """Return the event for more arguments of a call."""
        self._with_arguments.add(index)
        return ToolCallArgs(self._ids[index], args)

    def list_without_arguments(self) -> list[tuple[int, str]]:
        """Return the index and id of each call that has no arguments yet."""
        return [(index, call_id) for index, call_id in self._ids.items() if index not in self._with_arguments]


def _convert_event(event: messages.ModelResponseStreamEvent, calls: _CallIds) -> Iterator[LlmEvent]:
    match event:
        case messages.PartStartEvent(part=messages.TextPart(content=text)) if text:
            yield TextDelta(text)
        case messages.PartStartEvent(part=messages.ThinkingPart(content=text)) if text:
            yield ReasoningDelta(text)
        case messages.PartStartEvent(index=index, part=messages.ToolCallPart() as part):
            yield ToolCallStart(calls.start(index, part.tool_call_id), part.tool_name)
            if isinstance(part.args, str) and part.args:
                yield calls.add_arguments(index, part.args)
        case messages.PartEndEvent(part=messages.ThinkingPart(signature=str()) as part):
            yield ReasoningSealed(_pack_signature(part))
        case messages.PartDeltaEvent(delta=messages.TextPartDelta(content_delta=text)) if text:
            yield TextDelta(text)
        case messages.PartDeltaEvent(delta=messages.ThinkingPartDelta(content_delta=text)) if text:
            yield ReasoningDelta(text)
        case messages.PartDeltaEvent(index=index, delta=messages.ToolCallPartDelta(args_delta=str() as args)) if args:
            yield calls.add_arguments(index, args)


def _pack_signature(part: messages.ThinkingPart) -> str:
    """Return the `encryptedValue` from which `AGUIAdapter` restores the signature."""
    signature = {
        "id": part.id, "signature": part.signature,
        "provider_name": part.provider_name, "provider_details": part.provider_details,
    }  # fmt: skip
    return to_json({name: value for name, value in signature.items() if value is not None}).decode()


def _strip_untrusted(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message without the fields that pydantic-ai would trust as its own.

    Any client can have written such fields. Only the runtime itself stores reasoning messages, so their
    `encryptedValue` stays.
    """
    stripped = {"id": "", **message}
    if message.get("role") != "reasoning":
        stripped.pop("encryptedValue", None)
    if message.get("toolCalls"):
        stripped["toolCalls"] = [
            {name: value for name, value in call.items() if name != "encryptedValue"} for call in message["toolCalls"]
        ]
    return stripped


def _find_last_error(group: BaseExceptionGroup[Any]) -> BaseException:
    """Return the exception of the last of several models that were tried in turn."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[-1]
    return error
