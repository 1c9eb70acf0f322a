"""The question a model is asked: what of a session it is shown, and how that is kept in a checkpoint."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from agentrunner.runtime.llm import LlmRequest, ToolSpec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from agentrunner.runtime.config import RuntimeConfig
    from agentrunner.runtime.session import Session


class ContextManager(Protocol):
    """Keeps a question within what a model takes; `ContextWindowManager` is one."""

    def trim(
        self, messages: list[dict[str, Any]], tools: Sequence[ToolSpec], /
    ) -> list[dict[str, Any]] | Awaitable[list[dict[str, Any]]]:
        """Give those of the messages that are to be sent."""
        ...


def shown(message: dict[str, Any]) -> dict[str, Any] | None:
    """Give a session's message as the model is shown it; `None`: not at all."""
    if message.get("role") == "activity":
        return None
    known = message.get("metadata") or {}
    if message.get("role") != "tool":
        return message
    if "error" in known:
        message = {"error": known["error"], **message}
    if "editedArgs" in known:
        # What the model said it called the tool with is not what the tool was called with.
        note = f"(The arguments were changed by the user: {orjson.dumps(known['editedArgs']).decode()})"
        message = message | {"content": f"{note}\n{message['content']}"}
    return message


def system_message(config: RuntimeConfig, instructions: str, session: Session) -> list[dict[str, Any]]:
    """Give the message before all others, if there is anything to say in it."""
    context = session.given.get("context") or []
    parts = [config.system_prompt, instructions]
    if context:
        parts.append("Context:\n" + "\n".join(f"- {one['description']}: {one['value']}" for one in context))
    text = "\n\n".join(part for part in parts if part)
    return [{"id": "system", "role": "system", "content": text}] if text else []


def client_tools(session: Session, own: Mapping[str, object]) -> list[ToolSpec]:
    """Give the tools the client has brought, but for those whose names the runtime's own have."""
    specs = []
    for given in session.given.get("tools") or []:
        if given["name"] not in own:
            # No parameters mean none.
            schema = given.get("parameters") or {"type": "object", "properties": {}}
            specs.append(ToolSpec(given["name"], given.get("description") or "", schema))
    return specs


async def trimmed(
    manager: ContextManager | None, messages: list[dict[str, Any]], tools: list[ToolSpec]
) -> list[dict[str, Any]]:
    """Give the messages that are to be sent."""
    if manager is None:
        return messages
    trim: Callable[..., Any] = manager.trim
    if inspect.iscoroutinefunction(trim):
        kept: list[dict[str, Any]] = await trim(messages, tools)
        return kept
    # Off the loop: counting the tokens of a long conversation takes longer than other tasks should wait.
    return await asyncio.to_thread(trim, messages, tools)


def pack(request: LlmRequest, session: Session) -> dict[str, Any]:
    """Give a question as a checkpoint keeps it: of messages that are the session's their numbers, as `[from, to]`."""
    places = {message["id"]: number for number, message in enumerate(session.messages)}
    messages: list[Any] = []
    for message in request.messages:
        number = places.get(message.get("id", ""))
        if number is None or shown(session.messages[number]) != message:
            messages.append(message)
        elif messages and isinstance(messages[-1], list) and messages[-1][1] == number:
            messages[-1][1] += 1
        else:
            messages.append([number, number + 1])
    return {
        "messages": messages,
        "tools": [asdict(spec) for spec in request.tools],
        "settings": dict(request.settings),
    }


def unpack(packed: dict[str, Any], session: Session) -> LlmRequest:
    """Give a question that was kept."""
    messages: list[dict[str, Any]] = []
    for one in packed["messages"]:
        if isinstance(one, list):
            messages += [view for message in session.messages[slice(*one)] if (view := shown(message)) is not None]
        else:
            messages.append(one)
    return LlmRequest(messages, [ToolSpec(**spec) for spec in packed["tools"]], packed["settings"])
