"""Models of pydantic-ai, any of them, as the runtime's."""

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
from agentrunner.runtime._secrets import masked
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

_MESSAGES: TypeAdapter[list[Message]] = TypeAdapter(list[Message])
_REASONS: dict[str | None, FinishReason] = {"stop": "stop", "length": "length", "tool_call": "tool_calls"}
# The narrower come first.
_ERRORS: tuple[tuple[type[Exception], type[errors.LlmError], str], ...] = (
    (exceptions.ModelRateLimitError, errors.LlmRateLimited, "takes no more questions for now"),
    (exceptions.ModelQuotaExceededError, errors.LlmQuotaExhausted, "says that the account is used up"),
    (exceptions.ModelConnectionError, errors.LlmUnreachable, "cannot be reached, or broke the connection off"),
    (exceptions.ModelRequestTimeout, errors.LlmUnreachable, "did not answer in time"),
    (exceptions.ModelAuthenticationError, errors.LlmUnauthorized, "does not take the key"),
    (exceptions.ModelContextWindowExceededError, errors.LlmContextTooLong, "takes no conversation of this length"),
    (exceptions.ModelRequestRejectedError, errors.LlmRequestInvalid, "does not take the question as it is"),
    (exceptions.ContentFilterError, errors.LlmRefused, "withheld the answer"),
    (exceptions.UnexpectedModelBehavior, errors.LlmResponseInvalid, "does not speak its protocol"),
    (exceptions.ModelAPIError, errors.LlmOverloaded, "is overloaded or has failed"),
    (exceptions.AgentRunError, errors.LlmRequestInvalid, "cannot be asked this"),
    (exceptions.UserError, errors.LlmRequestInvalid, "cannot be asked this"),
)


class PydanticAIClient:
    """A model of pydantic-ai, or the name of one (`anthropic:claude-sonnet-4-5`), asked by its low-level streaming API.

    `settings` are the defaults of every question's, under the names of pydantic-ai's `ModelSettings`. Tries, timeouts
    and the key are the model's own. Raises what pydantic-ai raises for a name it does not know.
    """

    def __init__(self, model: Model | str, *, settings: Mapping[str, Any] | None = None) -> None:
        self._model = infer_model(model)
        self._settings = dict(settings or {})

    @property
    def model(self) -> str:
        """The model's name."""
        return self._model.model_name

    async def stream(self, request: LlmRequest, /) -> AsyncIterator[LlmEvent]:
        """Ask, and yield the answer as it comes; closing or cancelling ends the question. Raises `LlmError`s."""
        history = self._history(request)
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
                async for event in response:
                    for said in _events(event, calls):
                        yield said
                for said in self._end(response, calls):
                    yield said
        except exceptions.FallbackExceptionGroup as error:
            raise self._mapped(_last(error)) from error
        except (exceptions.AgentRunError, exceptions.UserError) as error:
            raise self._mapped(error) from error.__cause__

    def _history(self, request: LlmRequest) -> list[messages.ModelMessage]:
        told = [_plain(message) for message in request.messages if message.get("role") != "activity"]
        try:
            return AGUIAdapter.load_messages(_MESSAGES.validate_python(told))
        except ValidationError as error:
            where = error.errors(include_input=False, include_url=False)[0]
            raise errors.LlmRequestInvalid(f"message {where['loc'][0]} is none of AG-UI: {where['msg']}") from None
        except ValueError as error:
            raise errors.LlmRequestInvalid(f"the messages are no history: {error}") from error

    def _end(self, response: StreamedResponse, calls: _CallIds) -> Iterator[LlmEvent]:
        if response.finish_reason == "content_filter":
            raise errors.LlmRefused(f"the service of the model '{self.model}' withheld the answer")
        if response.finish_reason == "error":
            raise errors.LlmOverloaded(f"the service of the model '{self.model}' has failed")
        whole = response.get()
        if whole.state == "incomplete":
            raise errors.LlmUnreachable(f"the answer of the model '{self.model}' broke off")
        for index, name in calls.unsaid():
            # Arguments that came as an object, or not at all. A part's end is not theirs: calls may be interleaved.
            part = whole.parts[index]
            yield ToolCallArgs(name, part.args_as_json_str() if isinstance(part, messages.ToolCallPart) else "{}")
        usage = response.usage
        if usage.has_values():
            thought = usage.details.get("reasoning_tokens", 0)
            yield Usage(usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, thought)
        # Some models of pydantic-ai do not say why they ended; a stream that broke off has raised by now.
        reason = _REASONS.get(response.finish_reason, "stop" if response.finish_reason is None else "other")
        yield Finish("tool_calls" if calls and reason == "stop" else reason)

    def _mapped(self, error: BaseException) -> errors.LlmError:
        status = getattr(error, "status_code", None)
        retry_after = getattr(error, "retry_after", None)
        kind, words = next((ours, words) for theirs, ours, words in _ERRORS if isinstance(error, theirs))
        text = f"the service of the model '{self.model}' {words}{f' ({status})' if status else ''}"
        return kind(text, status=status, retry_after=retry_after, detail=masked(str(error)))


class _CallIds:
    """The ids of an answer's tool calls by the index of their part, and whose arguments have been said."""

    def __init__(self) -> None:
        self._ids: dict[int, str] = {}
        self._said: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._ids)

    def begin(self, index: int, given: str) -> str:
        self._ids[index] = given if given and given not in self._ids.values() else f"call-{uuid.uuid4().hex}"
        return self._ids[index]

    def say(self, index: int, args: str) -> ToolCallArgs:
        self._said.add(index)
        return ToolCallArgs(self._ids[index], args)

    def unsaid(self) -> list[tuple[int, str]]:
        return [(index, name) for index, name in self._ids.items() if index not in self._said]


def _events(event: messages.ModelResponseStreamEvent, calls: _CallIds) -> Iterator[LlmEvent]:
    match event:
        case messages.PartStartEvent(part=messages.TextPart(content=text)) if text:
            yield TextDelta(text)
        case messages.PartStartEvent(part=messages.ThinkingPart(content=text)) if text:
            yield ReasoningDelta(text)
        case messages.PartStartEvent(index=index, part=messages.ToolCallPart() as part):
            yield ToolCallStart(calls.begin(index, part.tool_call_id), part.tool_name)
            if isinstance(part.args, str) and part.args:
                yield calls.say(index, part.args)
        case messages.PartEndEvent(part=messages.ThinkingPart(signature=str()) as part):
            yield ReasoningSealed(_sealed(part))
        case messages.PartDeltaEvent(delta=messages.TextPartDelta(content_delta=text)) if text:
            yield TextDelta(text)
        case messages.PartDeltaEvent(delta=messages.ThinkingPartDelta(content_delta=text)) if text:
            yield ReasoningDelta(text)
        case messages.PartDeltaEvent(index=index, delta=messages.ToolCallPartDelta(args_delta=str() as args)) if args:
            yield calls.say(index, args)


def _sealed(part: messages.ThinkingPart) -> str:
    """Give what `AGUIAdapter.load_messages` reads from a reasoning message's `encryptedValue`."""
    kept = {
        "id": part.id, "signature": part.signature,
        "provider_name": part.provider_name, "provider_details": part.provider_details,
    }  # fmt: skip
    return to_json({name: value for name, value in kept.items() if value is not None}).decode()


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """Give a message without what pydantic-ai would believe of itself: anyone may have written that in a thread."""
    plain = {"id": "", **message}
    if message.get("role") != "reasoning":
        plain.pop("encryptedValue", None)
    if message.get("toolCalls"):
        plain["toolCalls"] = [
            {name: value for name, value in call.items() if name != "encryptedValue"} for call in message["toolCalls"]
        ]
    return plain


def _last(group: BaseExceptionGroup[Any]) -> BaseException:
    """Give what the last of several models raised."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[-1]
    return error
