"""Models behind the chat completions protocol: OpenAI's own, and whatever else speaks it."""

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
from agentrunner.runtime._openai_errors import mapped
from agentrunner.runtime._openai_messages import chat_messages, chat_tools
from agentrunner.runtime._secrets import masked
from agentrunner.runtime.llm import Finish, FinishReason, ReasoningDelta, TextDelta, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

    from agentrunner.runtime.llm import LlmEvent, LlmRequest

_OURS = frozenset({"messages", "tools", "stream", "stream_options", "n"})
"""Settings that are no matter of settings."""
_KNOWN = frozenset(inspect.signature(AsyncCompletions.create).parameters) - {"self"}
_REASONS: dict[str, FinishReason] = {
    "stop": "stop", "tool_calls": "tool_calls", "function_call": "tool_calls", "length": "length",
}  # fmt: skip


class OpenAIClient:
    """A model asked over chat completions, streamed. Use it within one event loop, and close it, or `async with` it.

    `base_url` is that of any service that speaks the protocol, as `http://localhost:11434/v1`. Without one it is
    OpenAI, and without an `api_key` that of the environment (`OPENAI_API_KEY`); that key is sent to no other service.
    `timeout` is the seconds to wait for the next piece of an answer. `max_retries` is how often a question that was not
    taken, or met an overloaded service, is asked again; it waits as long as the service says, up to two minutes.
    `settings` are the defaults of every question's: `temperature`, `max_completion_tokens` … as the service names them;
    names the `openai` package does not know are sent as they are. `reasoning_field`: where an answer's reasoning is
    handed back to services that want it, as `reasoning_content`. `usage=False`: for services that refuse to be asked
    what a question cost. `client` is one of the package's own instead (Azure's, say), which the caller closes.
    Raises `LlmUnauthorized` where there is no key, `ValueError`.
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
        usage: bool = True,
        client: openai.AsyncOpenAI | None = None,
    ) -> None:
        if not (timeout > 0 and math.isfinite(timeout)):
            raise ValueError(f"timeout is a positive number of seconds, not {timeout!r}")
        if isinstance(max_retries, bool) or not isinstance(max_retries, int) or max_retries < 0:
            raise ValueError(f"max_retries is a number of tries, not {max_retries!r}")
        if client is not None and (base_url is not None or api_key is not None or headers is not None):
            raise ValueError("base_url, api_key and headers are the client's own, where one is given")
        self.model = model
        self._settings = dict(settings or {})
        self._reasoning_field = reasoning_field
        self._usage = usage
        self._owned = client is None
        if client is None:
            if api_key is None and base_url is not None:
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
                raise LlmUnauthorized("there is no key: give api_key, or set OPENAI_API_KEY") from error
        self._client = client

    async def aclose(self) -> None:
        """Close the connections."""
        if self._owned:
            await self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def stream(self, request: LlmRequest, /) -> AsyncIterator[LlmEvent]:
        """Ask, and yield the answer as it comes; closing or cancelling closes the connection. Raises `LlmError`s."""
        question, answer = self._question(request), _StreamedResponse(self.model)
        try:
            async with await self._client.chat.completions.create(**question) as chunks:
                async for chunk in chunks:
                    for event in answer.take(chunk):
                        yield event
        except openai.OpenAIError as error:
            # Some close the connection at once when they have said all.
            if not (answer.reason and isinstance(error, openai.APIConnectionError)):
                # Of what it raised only the cause is shown: its own text may hold the key.
                raise mapped(error, self.model) from error.__cause__
        except (ValueError, TypeError, AttributeError) as error:
            # The package hands on what it cannot read: no JSON, no UTF-8, other types than documented.
            raise LlmResponseInvalid(f"the service of the model '{self.model}' does not speak the protocol") from error
        for event in answer.end():
            yield event

    def _question(self, request: LlmRequest) -> dict[str, Any]:
        settings = {**self._settings, **request.settings}
        if wrong := _OURS & settings.keys():
            raise LlmRequestInvalid(f"'{min(wrong)}' is not a setting")
        extra = {name: settings.pop(name) for name in settings.keys() - _KNOWN}
        question: dict[str, Any] = {"model": self.model, **settings, "stream": True}
        if extra:
            question["extra_body"] = {**(question.get("extra_body") or {}), **extra}
        question["messages"] = chat_messages(request.messages, self._reasoning_field)
        if request.tools:
            question["tools"] = chat_tools(request.tools)
        if self._usage:
            question["stream_options"] = {"include_usage": True}
        return question


class _StreamedResponse:
    """One answer, put together from the chunks of its stream."""

    def __init__(self, model: str) -> None:
        self.reason: str | None = None
        self._model = model
        self._calls = ToolCallAssembler()
        self._refusal: list[str] = []
        self._usage: Usage | None = None

    def take(self, chunk: Any) -> list[LlmEvent]:
        events: list[LlmEvent] = []
        if (usage := getattr(chunk, "usage", None)) is not None:
            self._usage = _usage(usage)
        for choice in getattr(chunk, "choices", None) or ():
            if getattr(choice, "index", None):
                continue
            delta = getattr(choice, "delta", None)
            # One of the two names; services that send both say the same in them.
            thought = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
            if isinstance(thought, str) and thought:
                events.append(ReasoningDelta(thought))
            if text := getattr(delta, "content", None):
                events.append(TextDelta(text))
            if refusal := getattr(delta, "refusal", None):
                self._refusal.append(refusal)
            for piece in getattr(delta, "tool_calls", None) or ():
                events += self._calls.take(piece)
            self.reason = getattr(choice, "finish_reason", None) or self.reason
        return events

    def end(self) -> list[LlmEvent]:
        """Give what is said last. Raises `LlmUnreachable`, `LlmRefused`, `LlmResponseInvalid`."""
        if self.reason is None:
            raise LlmUnreachable(f"the answer of the model '{self._model}' broke off")
        if self.reason == "content_filter" or self._refusal:
            raise LlmRefused(
                f"the service of the model '{self._model}' withheld the answer", detail=masked("".join(self._refusal))
            )
        events: list[LlmEvent] = list(self._calls.end())
        if self._usage is not None:
            events.append(self._usage)
        reason = _REASONS.get(self.reason, "other")
        # Some say `stop` also where they want tools run.
        events.append(Finish("tool_calls" if self._calls and reason in ("stop", "other") else reason))
        return events


def _usage(usage: Any) -> Usage:
    def count(of: Any, name: str) -> int:
        value = getattr(of, name, None)
        return value if isinstance(value, int) else 0

    given, made = getattr(usage, "prompt_tokens_details", None), getattr(usage, "completion_tokens_details", None)
    return Usage(
        count(usage, "prompt_tokens"),
        count(usage, "completion_tokens"),
        count(given, "cached_tokens"),
        count(made, "reasoning_tokens"),
    )
