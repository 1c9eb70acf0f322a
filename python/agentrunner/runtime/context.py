"""Which of a session's messages a model is shown, where it cannot take them all."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentrunner.errors import ContextWindowExceeded
from agentrunner.runtime.tokens import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agentrunner.runtime.llm import ToolSpec

_OVERHEAD = 4
"""Tokens a message or a tool costs beside its texts."""
_PINNED = ("system", "developer")


@dataclass(slots=True)
class _Unit:
    """Messages that are kept or left out together: a call of tools with its results, and what was thought before it."""

    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def role(self) -> str:
        return str(self.messages[-1].get("role")) if len(self.messages) == 1 else "assistant"


class ContextWindowManager:
    """Keeps a conversation within what a model takes, by leaving its oldest messages out.

    `max_tokens` are those of the messages and tools together, so less than the model's window by what its answer may
    take; `max_messages` is how many messages are shown. At least one of the two is given.

    `count` says how many tokens a text is. The built-in one needs no tokenizer and is on the high side; the true one
    of OpenAI's models is `lambda text: len(encoding.encode_ordinary(text))` with tiktoken's `encoding =
    tiktoken.get_encoding("o200k_base")`, which fetches its table from the network when it is first used, and that of an
    open model `lambda text: len(tokenizer.encode(text).ids)` with tokenizers' `tokenizer =
    Tokenizer.from_file("tokenizer.json")`. `media_tokens` is what a picture or another part that is no text is taken
    to cost. Raises `ValueError`.
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
            raise ValueError("one of max_tokens and max_messages is needed")
        for name, value in (("max_tokens", max_tokens), ("max_messages", max_messages)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} is a positive integer, not {value!r}")
        self.max_tokens = max_tokens
        self.max_messages = max_messages
        self._count = count
        self._media_tokens = media_tokens

    def trim(self, messages: Sequence[dict[str, Any]], tools: Sequence[ToolSpec] = (), /) -> list[dict[str, Any]]:
        """Give those of the messages that fit, in their order: a valid history. Nothing that is given is changed.

        Kept whatever they cost are the prompts (`system`, `developer`), the newest message of the user, and what came
        last; then the newest of the others, without a gap, from a message of the user on. A call of tools stands with
        all its results behind it, or not at all: results without their call, calls that have no result, and `activity`
        messages are left out even where there is room. Raises `ContextWindowExceeded` where what must be kept is more
        than fits.
        """
        units = list(_units(messages))
        chosen = self._always(units)
        tokens, number = self._tools(tools) if self.max_tokens is not None else 0, 0
        for place in chosen:
            tokens, number = tokens + self._cost(units[place]), number + len(units[place].messages)
        if not self._fits(tokens, number):
            raise ContextWindowExceeded(self._exceeded(tokens, number))
        gap = None
        for place in range(len(units) - 1, -1, -1):
            if place in chosen:
                continue
            tokens, number = tokens + self._cost(units[place]), number + len(units[place].messages)
            if not self._fits(tokens, number):
                gap = place
                break
            chosen.add(place)
        users = [place for place, unit in enumerate(units) if unit.role == "user"]
        if gap is not None and users and users[-1] > gap:
            # Behind what is left out the conversation begins anew, and a user begins it.
            first = next(place for place in users if place > gap)
            chosen = {place for place in chosen if place >= first or units[place].role in _PINNED}
        return [message for place in sorted(chosen) for message in units[place].messages]

    def tokens(self, messages: Iterable[dict[str, Any]], tools: Iterable[ToolSpec] = (), /) -> int:
        """Give how many tokens messages and tools are taken to be."""
        return self._tools(tools) + sum(self._message(message) for message in messages)

    def _always(self, units: Sequence[_Unit]) -> set[int]:
        """Give the places of what must be kept."""
        always = {place for place, unit in enumerate(units) if unit.role in _PINNED}
        users = [place for place, unit in enumerate(units) if unit.role == "user"]
        others = [place for place in range(len(units)) if place not in always]
        return always | set(users[-1:]) | set(others[-1:])

    def _fits(self, tokens: int, number: int) -> bool:
        if self.max_tokens is not None and tokens > self.max_tokens:
            return False
        return self.max_messages is None or number <= self.max_messages

    def _exceeded(self, tokens: int, number: int) -> str:
        needed = []
        if self.max_tokens is not None and tokens > self.max_tokens:
            needed.append(f"{tokens} tokens, where {self.max_tokens} fit")
        if self.max_messages is not None and number > self.max_messages:
            needed.append(f"{number} messages, where {self.max_messages} fit")
        return f"the prompts, the tools, the user's newest message and what came last are {' and '.join(needed)}"

    def _cost(self, unit: _Unit) -> int:
        return sum(map(self._message, unit.messages)) if self.max_tokens is not None else 0

    def _message(self, message: dict[str, Any]) -> int:
        tokens = _OVERHEAD + self._content(message.get("content"))
        if message.get("error"):
            tokens += self._count(str(message["error"]))
        # What a service sealed is the reasoning it stands for, in base64, and no text to its model.
        tokens += len(message.get("encryptedValue") or "") // 4
        for call in message.get("toolCalls") or ():
            function = call["function"]
            tokens += _OVERHEAD + self._count(function["name"]) + self._count(function["arguments"])
        return tokens

    def _content(self, content: Any) -> int:
        if content is None or isinstance(content, str):
            return self._count(content) if content else 0
        return sum(
            self._count(str(part.get("text", ""))) if part.get("type") == "text" else self._media_tokens
            for part in content
        )

    def _tools(self, tools: Iterable[ToolSpec]) -> int:
        said = (f"{tool.name} {tool.description} {json.dumps(dict(tool.parameters))}" for tool in tools)
        return sum(_OVERHEAD + self._count(text) for text in said)


def _units(messages: Sequence[dict[str, Any]]) -> list[_Unit]:
    results: dict[str, dict[str, Any]] = {}
    for message in messages:
        if message.get("role") == "tool":
            results[message["toolCallId"]] = message
    units: list[_Unit] = []
    thoughts: list[dict[str, Any]] = []
    seen: set[str] = set()
    for message in messages:
        role = message.get("role")
        if role in ("tool", "activity"):
            continue
        if role == "reasoning":
            thoughts.append(message)
            continue
        if role == "assistant":
            if (answered := _answered(message, results, seen)) is not None:
                units.append(_Unit([*thoughts, *answered]))
        else:
            units += (_Unit([thought]) for thought in thoughts)
            units.append(_Unit([message]))
        thoughts = []
    units += (_Unit([thought]) for thought in thoughts)
    return units


def _answered(
    message: dict[str, Any], results: dict[str, dict[str, Any]], seen: set[str]
) -> list[dict[str, Any]] | None:
    """Give an assistant's message with the results of its calls; `None` if it was nothing but calls without any."""
    calls = message.get("toolCalls") or []
    kept = []
    for call in calls:
        # An id stands for its first call.
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
