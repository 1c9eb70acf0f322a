"""The order of roles that many services with chat completions require."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

FIRST_USER_TEXT = "Hello."
"""Text of the user message before a conversation that begins with the assistant's."""
AFTER_TOOLS_TEXT = "The tools have run."
"""Text of the assistant message between tool results and a user message."""
LAST_USER_TEXT = "Continue."
"""Text of the user message after a conversation that ends with the assistant's."""


def alternate_roles(chat: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages with one system message first, and then user and assistant in turn.

    Messages of the same role in a row are merged. An assistant message is added between results and a user message, and
    the last message is the user's or a tool's.
    """
    system: dict[str, Any] | None = None
    ordered: list[dict[str, Any]] = []
    for message in chat:
        role, last_role = message["role"], ordered[-1]["role"] if ordered else None
        if role == "system":
            system = _merge(system, message) if system is not None else message
        elif role == last_role != "tool" and not ordered[-1].get("tool_calls"):
            ordered[-1] = _merge(ordered[-1], message)
        else:
            if role == "assistant" and last_role is None:
                ordered.append({"role": "user", "content": FIRST_USER_TEXT})
            elif role == "user" and last_role == "tool":
                ordered.append({"role": "assistant", "content": AFTER_TOOLS_TEXT})
            ordered.append(message)
    if ordered and ordered[-1]["role"] == "assistant":
        ordered.append({"role": "user", "content": LAST_USER_TEXT})
    return ordered if system is None else [system, *ordered]


def _merge(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return two messages of one role as one; fields that are text in both are joined."""
    merged = {**one, **other}
    for name in one.keys() & other.keys() - {"role"}:
        if isinstance(one[name], str) and isinstance(other[name], str):
            merged[name] = "\n\n".join(text for text in (one[name], other[name]) if text)
        elif name == "content":
            parts = [*_list_parts(one[name]), *_list_parts(other[name])]
            is_text = all(part["type"] == "text" for part in parts)
            merged[name] = "\n\n".join(part["text"] for part in parts) or None if is_text else parts
    return merged


def _list_parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return list(content or ())
