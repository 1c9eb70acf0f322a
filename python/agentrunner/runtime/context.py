"""Context trimming: the messages a model receives when it cannot take them all."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentrunner.errors import ContextWindowExceeded
from agentrunner.runtime.tokens import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agentrunner.runtime.llm import ToolSpec

_OVERHEAD_TOKENS = 4
"""Tokens of a message or tool in addition to those of its texts."""
_PROMPT_ROLES = ("system", "developer")


@dataclass(slots=True)
class _Unit:
    """Messages that are kept or dropped together: tool calls, their results and reasoning."""

    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def role(self) -> str:
        return str(self.messages[-1].get("role")) if len(self.messages) == 1 else "assistant"


class ContextWindowManager:
    """Keeps a conversation within a model's limits by dropping its oldest messages.

    `count` may be exact. For OpenAI's models, tiktoken counts with `lambda text: len(encoding.encode_ordinary(text))`
    and `encoding = tiktoken.get_encoding("o200k_base")`, which downloads its table when it is first used. For an open
    model, tokenizers counts with `lambda text: len(tokenizer.encode(text).ids)` and `tokenizer =
    Tokenizer.from_file("tokenizer.json")`.

    Args:
        max_tokens: Largest number of tokens in messages and tools together: the model's window minus the tokens its
            response may need.
        max_messages: Largest number of messages. At least one of the two limits is required.
        count: Returns the number of tokens in a text. The default needs no tokenizer and rather overestimates.
        media_tokens: Tokens of a picture, or of another part that is not text.

    Raises:
        ValueError: If there is no limit, or a limit is not a positive integer.

    Example:
        agent = AgentRuntime(llm, context_manager=ContextWindowManager(max_tokens=100_000))
    """

    def __init__(
        self,
        *,
        max_tokens: int | None = None,
        max_messages: int | None = None,
        count: Callable[[str], int] = estimate_tokens,
        media_tokens: int = 1500,
    ) -> None:
        if max_tokens is None and max_messages is None:
            raise ValueError("pass max_tokens, max_messages or both")
        for name, value in (("max_tokens", max_tokens), ("max_messages", max_messages)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be a positive integer, not {value!r}")
        self.max_tokens = max_tokens
        self.max_messages = max_messages
        self._count = count
        self._media_tokens = media_tokens

    def trim(self, messages: Sequence[dict[str, Any]], tools: Sequence[ToolSpec] = (), /) -> list[dict[str, Any]]:
        """Return the messages that fit, in their order, as a history that every model accepts.

        The prompts (`system`, `developer`), the newest user message and the last message are always kept. The newest
        other messages are kept without a gap, starting with a user message. Tool calls are kept with all their results
        or not at all: results without their call, calls without a result, and `activity` messages are dropped even if
        there is room for them.

        Args:
            messages: The conversation in AG-UI's wire form; it is not changed.
            tools: The tools of the same request.

        Returns:
            The messages to send.

        Raises:
            ContextWindowExceeded: If the messages that are always kept do not fit.

        Example:
            ContextWindowManager(max_messages=20).trim(session.messages)
        """
        units = _group_messages(messages)
        kept = self._find_required(units)
        tokens, number = self._count_tools(tools) if self.max_tokens is not None else 0, 0
        for index in kept:
            tokens, number = tokens + self._count_unit(units[index]), number + len(units[index].messages)
        if not self._fits(tokens, number):
            raise ContextWindowExceeded(self._describe_excess(tokens, number))
        first_dropped = None
        for index in range(len(units) - 1, -1, -1):
            if index in kept:
                continue
            tokens, number = tokens + self._count_unit(units[index]), number + len(units[index].messages)
            if not self._fits(tokens, number):
                first_dropped = index
                break
            kept.add(index)
        users = [index for index, unit in enumerate(units) if unit.role == "user"]
        if first_dropped is not None and users and users[-1] > first_dropped:
            # Models expect a conversation to start with a user message, so the messages between the gap and the next
            # user message are dropped too.
            start = next(index for index in users if index > first_dropped)
            kept = {index for index in kept if index >= start or units[index].role in _PROMPT_ROLES}
        return [message for index in sorted(kept) for message in units[index].messages]

    def tokens(self, messages: Iterable[dict[str, Any]], tools: Iterable[ToolSpec] = (), /) -> int:
        """Return the number of tokens in messages and tools, as this manager counts them.

        Args:
            messages: Messages in AG-UI's wire form.
            tools: Tools of the same request.

        Returns:
            The number of tokens, by the `count` option.
        """
        return self._count_tools(tools) + sum(self._count_message(message) for message in messages)

    def _find_required(self, units: Sequence[_Unit]) -> set[int]:
        """Return the indexes of the units that are always kept."""
        prompts = {index for index, unit in enumerate(units) if unit.role in _PROMPT_ROLES}
        users = [index for index, unit in enumerate(units) if unit.role == "user"]
        others = [index for index in range(len(units)) if index not in prompts]
        return prompts | set(users[-1:]) | set(others[-1:])

    def _fits(self, tokens: int, number: int) -> bool:
        if self.max_tokens is not None and tokens > self.max_tokens:
            return False
        return self.max_messages is None or number <= self.max_messages

    def _describe_excess(self, tokens: int, number: int) -> str:
        excess = []
        if self.max_tokens is not None and tokens > self.max_tokens:
            excess.append(f"{tokens} tokens (max_tokens is {self.max_tokens})")
        if self.max_messages is not None and number > self.max_messages:
            excess.append(f"{number} messages (max_messages is {self.max_messages})")
        return (
            "the conversation cannot be trimmed to fit: its prompts, its tools, the user's newest message and the last"
            f" message are {' and '.join(excess)}"
        )

    def _count_unit(self, unit: _Unit) -> int:
        return sum(map(self._count_message, unit.messages)) if self.max_tokens is not None else 0

    def _count_message(self, message: dict[str, Any]) -> int:
        tokens = _OVERHEAD_TOKENS + self._count_content(message.get("content"))
        if message.get("error"):
            tokens += self._count(str(message["error"]))
        # The encrypted value is the reasoning in base64. The model receives the reasoning, not this text, so its
        # tokens are not those of the text.
        tokens += len(message.get("encryptedValue") or "") // 4
        for call in message.get("toolCalls") or ():
            function = call["function"]
            tokens += _OVERHEAD_TOKENS + self._count(function["name"]) + self._count(function["arguments"])
        return tokens

    def _count_content(self, content: Any) -> int:
        if content is None or isinstance(content, str):
            return self._count(content) if content else 0
        return sum(
            self._count(str(part.get("text", ""))) if part.get("type") == "text" else self._media_tokens
            for part in content
        )

    def _count_tools(self, tools: Iterable[ToolSpec]) -> int:
        texts = (f"{tool.name} {tool.description} {json.dumps(dict(tool.parameters))}" for tool in tools)
        return sum(_OVERHEAD_TOKENS + self._count(text) for text in texts)


def _group_messages(messages: Sequence[dict[str, Any]]) -> list[_Unit]:
    results: dict[str, dict[str, Any]] = {}
    for message in messages:
        if message.get("role") == "tool":
            results[message["toolCallId"]] = message
    units: list[_Unit] = []
    reasoning: list[dict[str, Any]] = []
    seen: set[str] = set()
    for message in messages:
        role = message.get("role")
        if role in ("tool", "activity"):
            continue
        if role == "reasoning":
            reasoning.append(message)
            continue
        if role == "assistant":
            if (with_results := _join_results(message, results, seen)) is not None:
                units.append(_Unit([*reasoning, *with_results]))
        else:
            units += (_Unit([thought]) for thought in reasoning)
            units.append(_Unit([message]))
        reasoning = []
    units += (_Unit([thought]) for thought in reasoning)
    return units


def _join_results(
    message: dict[str, Any], results: dict[str, dict[str, Any]], seen: set[str]
) -> list[dict[str, Any]] | None:
    """Return an assistant message and its calls' results; `None` if nothing of it remains.

    Calls without a result are removed from the message.
    """
    calls = message.get("toolCalls") or []
    kept = []
    for call in calls:
        # If two calls have the same id, the result belongs to the first.
        if call["id"] in results and call["id"] not in seen:
            seen.add(call["id"])
            kept.append(call)
    if len(kept) < len(calls):
        message = {name: value for name, value in message.items() if name != "toolCalls"}
        if kept:
            message["toolCalls"] = kept
        elif not message.get("content"):
            return None
    return [message, *(results[call["id"]] for call in kept)]
