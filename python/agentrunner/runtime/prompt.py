"""Model requests: how they are built from a session and stored in a checkpoint."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from agentrunner.runtime.llm import LlmRequest, ToolSpec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from agentrunner.runtime.config import RuntimeConfig
    from agentrunner.runtime.session import Session
    from agentrunner.runtime.skills import SkillPrompter
    from agentrunner.runtime.tools import Tool


SYSTEM_MESSAGE_ID = "system"
"""Id of the system message, by which a stored request refers to it."""


class ContextManager(Protocol):
    """Trims a conversation to what a model takes; `ContextWindowManager` is one.

    Example:
        class LastTen:
            def trim(self, messages, tools):
                return messages[-10:]
    """

    def trim(
        self, messages: list[dict[str, Any]], tools: Sequence[ToolSpec], /
    ) -> list[dict[str, Any]] | Awaitable[list[dict[str, Any]]]:
        """Return the messages to send.

        A sync `trim` runs in a thread.

        Args:
            messages: The conversation in AG-UI's wire form.
            tools: The tools of the same request.

        Returns:
            The messages to send, or an awaitable of them.
        """
        ...


def render_message(message: dict[str, Any]) -> dict[str, Any] | None:
    """Return a session's message as the model receives it, `None` to leave it out."""
    if message.get("role") == "activity":
        return None
    metadata = message.get("metadata") or {}
    if message.get("role") != "tool":
        return message
    if "error" in metadata:
        message = {"error": metadata["error"], **message}
    if "editedArgs" in metadata:
        # The model's own message shows the arguments it chose, so the result must tell it which ones were used.
        note = f"(The arguments were changed by the user: {orjson.dumps(metadata['editedArgs']).decode()})"
        message = message | {"content": f"{note}\n{message['content']}"}
    return message


def list_client_tools(session: Session, own_names: Iterable[str]) -> list[ToolSpec]:
    """Return the client's tools, except those with the name of one of the runtime's."""
    names = set(own_names)
    specs = []
    for tool in session.client_input.get("tools") or []:
        if tool["name"] not in names:
            # A tool without a schema takes no arguments.
            schema = tool.get("parameters") or {"type": "object", "properties": {}}
            specs.append(ToolSpec(tool["name"], tool.get("description") or "", schema))
    return specs


class Prompter:
    """Builds the model requests of a runtime."""

    def __init__(
        self,
        config: RuntimeConfig,
        own_tools: Sequence[Tool],
        all_tools: Mapping[str, Tool],
        skills: SkillPrompter,
        context_manager: ContextManager | None,
    ) -> None:
        """Build requests that always offer `own_tools`; `all_tools` also has the skills' tools."""
        self._config = config
        self._own_tools = own_tools
        self._all_tools = all_tools
        self._skills = skills
        self._context_manager = context_manager

    async def build_request(self, session: Session) -> LlmRequest:
        """Return the next request for a session. Raises what the context manager raises."""
        history = self._render_history(session)
        skills = self._skills.find_active(session.skills, history)
        tools = [tool.spec for tool in [*self._own_tools, *self._skills.tools(skills)]]
        tools += list_client_tools(session, self._all_tools)
        messages = await self._trim(self._build_system_message(session, skills) + history, tools)
        return LlmRequest(messages, tools, self._config.settings)

    async def _trim(self, messages: list[dict[str, Any]], tools: list[ToolSpec]) -> list[dict[str, Any]]:
        if self._context_manager is None:
            return messages
        trim: Callable[..., Any] = self._context_manager.trim
        if inspect.iscoroutinefunction(trim):
            trimmed: list[dict[str, Any]] = await trim(messages, tools)
            return trimmed
        # In a thread: counting the tokens of a long conversation would block the event loop.
        return await asyncio.to_thread(trim, messages, tools)

    @staticmethod
    def _render_history(session: Session) -> list[dict[str, Any]]:
        return [rendered for message in session.messages if (rendered := render_message(message)) is not None]

    def _build_system_message(self, session: Session, skills: Iterable[str]) -> list[dict[str, Any]]:
        """Return a list with the system message, empty if there is nothing to write in it."""
        context = session.client_input.get("context") or []
        parts = [self._config.system_prompt, self._skills.prompt(skills)]
        if context:
            parts.append("Context:\n" + "\n".join(f"- {entry['description']}: {entry['value']}" for entry in context))
        text = "\n\n".join(part for part in parts if part)
        return [{"id": SYSTEM_MESSAGE_ID, "role": "system", "content": text}] if text else []

    def _find_references(self, session: Session) -> tuple[list[dict[str, Any]], dict[str, ToolSpec]]:
        """Return the system message and the tools by name, which a stored request need not repeat."""
        skills = self._skills.find_active(session.skills, self._render_history(session))
        specs = [tool.spec for tool in self._all_tools.values()] + list_client_tools(session, self._all_tools)
        return self._build_system_message(session, skills), {spec.name: spec for spec in specs}

    def pack(self, request: LlmRequest, session: Session) -> dict[str, Any]:
        """Return a request in the short form that a checkpoint stores.

        What the session or the runtime has already is stored as a reference. Messages of the session are stored as
        ranges `[from, to]` of their numbers, the system message as its id, and tools as their names. Settings that
        equal the runtime's are not stored.
        """
        system, tools = self._find_references(session)
        numbers = {message["id"]: number for number, message in enumerate(session.messages)}
        messages: list[Any] = []
        for message in request.messages:
            number = numbers.get(message.get("id", ""))
            if number is None or render_message(session.messages[number]) != message:
                messages.append(SYSTEM_MESSAGE_ID if message in system else message)
            elif messages and isinstance(messages[-1], list) and messages[-1][1] == number:
                messages[-1][1] += 1
            else:
                messages.append([number, number + 1])
        return {
            "messages": messages,
            "tools": [spec.name if tools.get(spec.name) == spec else asdict(spec) for spec in request.tools],
            "settings": None if request.settings == self._config.settings else dict(request.settings),
        }

    def unpack(self, packed: dict[str, Any], session: Session) -> LlmRequest:
        """Return the request that a checkpoint stores, without tools that no longer exist."""
        system, tools = self._find_references(session)
        messages: list[dict[str, Any]] = []
        for entry in packed["messages"]:
            if entry == SYSTEM_MESSAGE_ID:
                messages += system
            elif isinstance(entry, list):
                rendered = map(render_message, session.messages[slice(*entry)])
                messages += [message for message in rendered if message is not None]
            else:
                messages.append(entry)
        specs = [tools.get(entry) if isinstance(entry, str) else ToolSpec(**entry) for entry in packed["tools"]]
        settings = self._config.settings if packed["settings"] is None else packed["settings"]
        return LlmRequest(messages, [spec for spec in specs if spec is not None], settings)
