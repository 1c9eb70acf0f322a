"""A client for models of any provider that speaks the chat completions protocol."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any, Self

try:
    import openai
except ImportError as error:
    raise ImportError("OpenAIClient needs the openai package: pip install 'agentrunner[openai]'") from error

from openai.resources.chat.completions import AsyncCompletions

from agentrunner.errors import LlmRefused, LlmRequestInvalid, LlmResponseInvalid, LlmUnauthorized, LlmUnreachable
from agentrunner.runtime._openai_calls import ToolCallAssembler
from agentrunner.runtime._openai_errors import CONNECTION_ERRORS, translate_error
from agentrunner.runtime._openai_messages import to_chat_messages, to_chat_tools
from agentrunner.runtime._openai_order import alternate_roles as order_messages
from agentrunner.runtime._provider_errors import add_advice, mask_keys
from agentrunner.runtime.llm import Finish, FinishReason, ReasoningDelta, TextDelta, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

    from agentrunner.runtime.llm import LlmEvent, LlmRequest

_RESERVED = frozenset({"messages", "tools", "stream", "stream_options", "n"})
"""Parameters the client sets itself, so they cannot be settings."""
_LENIENT_HOSTS = ("api.openai.com", ".openai.azure.com")
"""Hosts that take messages in any order."""
_REASONING_FIELDS = {
    "api.deepseek.com": "reasoning_content", "api.moonshot.ai": "reasoning_content",
    "api.moonshot.cn": "reasoning_content",
}  # fmt: skip
"""Fields in which providers want reasoning back, by host."""
_PARAMETERS = frozenset(inspect.signature(AsyncCompletions.create).parameters) - {"self"}
_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop", "tool_calls": "tool_calls", "function_call": "tool_calls", "length": "length",
}  # fmt: skip


class OpenAIClient:
    """Sends requests to a model over chat completions and streams its responses.

    Use a client in one event loop only, and close it with `aclose` or `async with`.

    Args:
        model: The model's name at its provider.
        base_url: URL of the provider, such as `http://localhost:11434/v1`. By default it is OpenAI's.
        api_key: The provider's key. By default it is `OPENAI_API_KEY` of the environment if there is no `base_url`;
            that key is never sent to another provider.
        timeout: Seconds to wait for the next part of a response.
        max_retries: Number of times to repeat a request that failed before its first event, for example because the
            provider was overloaded. The client waits as long as the provider asks, up to two minutes.
        headers: HTTP headers to add to every request.
        settings: Defaults for the settings of every request, such as `temperature`, under the provider's names.
            Settings that the `openai` package does not know are sent unchanged.
        reasoning_field: Field in which the provider wants a response's reasoning back, such as `reasoning_content`. By
            default it is set for DeepSeek and Moonshot; pass "" to send none back.
        alternate_roles: Whether to send one system message first, and then user and assistant messages in turn, for
            which messages are merged, moved or added. On by default unless the provider is OpenAI.
        usage: Whether to ask for token usage. Pass false if the provider refuses requests that ask for it.
        client: A client of the `openai` package to use, such as Azure's. The caller closes it.

    Raises:
        LlmUnauthorized: If there is no key.
        ValueError: If an option is not valid.

    Example:
        async with OpenAIClient("gpt-5-mini") as llm:
            agent = AgentRuntime(llm, tools=[weather])
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 600.0,
        max_retries: int = 2,
        headers: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        reasoning_field: str | None = None,
        alternate_roles: bool | None = None,
        usage: bool = True,
        client: openai.AsyncOpenAI | None = None,
    ) -> None:
        if not (timeout > 0 and math.isfinite(timeout)):
            raise ValueError(f"timeout must be a positive number of seconds, not {timeout!r}")
        if isinstance(max_retries, bool) or not isinstance(max_retries, int) or max_retries < 0:
            raise ValueError(f"max_retries must be 0 or a positive integer, not {max_retries!r}")
        if client is not None and (base_url is not None or api_key is not None or headers is not None):
            raise ValueError("pass base_url, api_key and headers to your own client, not together with it")
        self.model = model
        self._settings = dict(settings or {})
        self._asks_for_usage = usage
        self._owns_client = client is None
        if client is None:
            if api_key is None and base_url is not None:
                # The package requires a key, and providers without keys ignore it.
                api_key = "none"
            try:
                client = openai.AsyncOpenAI(
                    api_key=api_key,
                    base_url=base_url,
                    timeout=timeout,
                    max_retries=max_retries,
                    default_headers=headers,
                )
            except openai.OpenAIError as error:
                raise LlmUnauthorized("there is no API key: pass api_key or set OPENAI_API_KEY") from error
        self._client = client
        host = client.base_url.host
        self._reasoning_field = _REASONING_FIELDS.get(host) if reasoning_field is None else reasoning_field
        self._alternates_roles = not host.endswith(_LENIENT_HOSTS) if alternate_roles is None else alternate_roles

    async def aclose(self) -> None:
        """Close the connections, unless the caller passed its own client."""
        if self._owns_client:
            await self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def stream(self, request: LlmRequest, /) -> AsyncIterator[LlmEvent]:
        """Send a request and iterate over the response as it arrives.

        Closing or cancelling the iterator closes the connection.

        Args:
            request: The messages, tools and settings to send.

        Yields:
            The events of the response.

        Raises:
            LlmError: If there is no complete response.
        """
        parameters, response = self._build_parameters(request), _StreamedResponse(self.model)
        try:
            async with await self._client.chat.completions.create(**parameters) as chunks:
                async for chunk in chunks:
                    for event in response.read(chunk):
                        yield event
        except (openai.OpenAIError, *CONNECTION_ERRORS) as error:
            # Some providers close the connection right after the last chunk, which the package reports as an error.
            if not (response.reason and isinstance(error, CONNECTION_ERRORS)):
                # The traceback shows only the cause: the text of the package's own error may contain the key.
                raise translate_error(error, self.model) from error.__cause__
        except (ValueError, TypeError, AttributeError) as error:
            # The package does not wrap its own parsing errors: text that is not JSON or UTF-8, or undocumented types.
            raise LlmResponseInvalid(
                f"the provider of the model '{self.model}' sent a response that is not chat completions"
            ) from error
        for event in response.finish():
            yield event

    def _build_parameters(self, request: LlmRequest) -> dict[str, Any]:
        settings = {**self._settings, **request.settings}
        if reserved := _RESERVED & settings.keys():
            raise LlmRequestInvalid(f"'{min(reserved)}' cannot be a setting, because the client sets it itself")
        extra = {name: settings.pop(name) for name in settings.keys() - _PARAMETERS}
        parameters: dict[str, Any] = {"model": self.model, **settings, "stream": True}
        if extra:
            parameters["extra_body"] = {**(parameters.get("extra_body") or {}), **extra}
        messages = to_chat_messages(request.messages, self._reasoning_field)
        parameters["messages"] = order_messages(messages) if self._alternates_roles else messages
        if request.tools:
            parameters["tools"] = to_chat_tools(request.tools)
        if self._asks_for_usage:
            parameters["stream_options"] = {"include_usage": True}
        return parameters


class _StreamedResponse:
    """The response to one request, assembled from the chunks of its stream."""

    def __init__(self, model: str) -> None:
        self.reason: str | None = None
        self._model = model
        self._calls = ToolCallAssembler()
        self._refusal: list[str] = []
        self._usage: Usage | None = None

    def read(self, chunk: Any) -> list[LlmEvent]:
        """Return the events of one chunk."""
        events: list[LlmEvent] = []
        if (usage := getattr(chunk, "usage", None)) is not None:
            self._usage = _read_usage(usage)
        for choice in getattr(chunk, "choices", None) or ():
            if getattr(choice, "index", None):
                continue
            delta = getattr(choice, "delta", None)
            # Providers use one of two names. A provider that uses both sends the same text twice, so one is enough.
            reasoning = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
            if isinstance(reasoning, str) and reasoning:
                events.append(ReasoningDelta(reasoning))
            if text := getattr(delta, "content", None):
                events.append(TextDelta(text))
            if refusal := getattr(delta, "refusal", None):
                self._refusal.append(refusal)
            for call_delta in getattr(delta, "tool_calls", None) or ():
                events += self._calls.read(call_delta)
            self.reason = getattr(choice, "finish_reason", None) or self.reason
        return events

    def finish(self) -> list[LlmEvent]:
        """Return the last events. Raises `LlmUnreachable`, `LlmRefused` and `LlmResponseInvalid`."""
        if self.reason is None:
            text = f"the response of the model '{self._model}' ended before it was complete"
            raise LlmUnreachable(add_advice(LlmUnreachable, text))
        if self.reason == "content_filter" or self._refusal:
            raise LlmRefused(
                f"the provider of the model '{self._model}' withheld the response",
                detail=mask_keys("".join(self._refusal)),
            )
        events: list[LlmEvent] = list(self._calls.finish())
        if self._usage is not None:
            events.append(self._usage)
        reason = _FINISH_REASONS.get(self.reason, "other")
        # Some providers send `stop` even if the model wants its tools run.
        events.append(Finish("tool_calls" if self._calls and reason in ("stop", "other") else reason))
        return events


def _read_usage(usage: Any) -> Usage:
    def count(details: Any, name: str) -> int:
        value = getattr(details, name, None)
        return value if isinstance(value, int) else 0

    return Usage(
        count(usage, "prompt_tokens"),
        count(usage, "completion_tokens"),
        count(getattr(usage, "prompt_tokens_details", None), "cached_tokens"),
        count(getattr(usage, "completion_tokens_details", None), "reasoning_tokens"),
    )
