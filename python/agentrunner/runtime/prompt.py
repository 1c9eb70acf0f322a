"""The question a model is asked: what of a session it is shown, and how that is kept in a checkpoint."""

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


SYSTEM = "system"
"""The id of the message before all others."""


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


def client_tools(session: Session, own: Mapping[str, object]) -> list[ToolSpec]:
    """Give the tools the client has brought, but for those whose names the runtime's own have."""
    specs = []
    for given in session.given.get("tools") or []:
        if given["name"] not in own:
            # No parameters mean none.
            schema = given.get("parameters") or {"type": "object", "properties": {}}
            specs.append(ToolSpec(given["name"], given.get("description") or "", schema))
    return specs


class Prompter:
    """Makes the questions of a runtime."""

    def __init__(
        self,
        config: RuntimeConfig,
        own: Sequence[Tool],
        tools: Mapping[str, Tool],
        skills: SkillPrompter,
        manager: ContextManager | None,
    ) -> None:
        self._config = config
        self._own = own
        """The runtime's own tools, which the model is always told of."""
        self._tools = tools
        """Those and the skills'."""
        self._skills = skills
        self._manager = manager

    async def question(self, session: Session) -> LlmRequest:
        """Give what the model is asked now. Raises what the context manager raises."""
        history = [view for message in session.messages if (view := shown(message)) is not None]
        skills = self._skills.active(session.skills, history)
        tools = [tool.spec for tool in [*self._own, *self._skills.tools(skills)]]
        tools += client_tools(session, self._tools)
        messages = await self._trimmed(self._system(session, skills) + history, tools)
        return LlmRequest(messages, tools, self._config.settings)

    async def _trimmed(self, messages: list[dict[str, Any]], tools: list[ToolSpec]) -> list[dict[str, Any]]:
        if self._manager is None:
            return messages
        trim: Callable[..., Any] = self._manager.trim
        if inspect.iscoroutinefunction(trim):
            kept: list[dict[str, Any]] = await trim(messages, tools)
            return kept
        # Off the loop: counting the tokens of a long conversation takes longer than other tasks should wait.
        return await asyncio.to_thread(trim, messages, tools)

    def _system(self, session: Session, skills: Iterable[str]) -> list[dict[str, Any]]:
        """Give the message before all others, if there is anything to say in it."""
        context = session.given.get("context") or []
        parts = [self._config.system_prompt, self._skills.prompt(skills)]
        if context:
            parts.append("Context:\n" + "\n".join(f"- {one['description']}: {one['value']}" for one in context))
        text = "\n\n".join(part for part in parts if part)
        return [{"id": SYSTEM, "role": "system", "content": text}] if text else []

    def _known(self, session: Session) -> tuple[list[dict[str, Any]], dict[str, ToolSpec]]:
        """Give the system message and the tools there are: what a checkpoint need not repeat."""
        history = [view for message in session.messages if (view := shown(message)) is not None]
        system = self._system(session, self._skills.active(session.skills, history))
        specs = [tool.spec for tool in self._tools.values()] + client_tools(session, self._tools)
        return system, {spec.name: spec for spec in specs}

    def pack(self, request: LlmRequest, session: Session) -> dict[str, Any]:
        """Give a question as a checkpoint keeps it: what is known otherwise only by name.

        Of messages that are the session's their numbers, as `[from, to]`; the system message as its id; tools as their
        names; settings that are the runtime's not at all.
        """
        system, tools = self._known(session)
        places = {message["id"]: number for number, message in enumerate(session.messages)}
        messages: list[Any] = []
        for message in request.messages:
            number = places.get(message.get("id", ""))
            if number is None or shown(session.messages[number]) != message:
                messages.append(SYSTEM if message in system else message)
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
        """Give a question that was kept; a tool that is no more is left out of it."""
        system, known = self._known(session)
        messages: list[dict[str, Any]] = []
        for one in packed["messages"]:
            if one == SYSTEM:
                messages += system
            elif isinstance(one, list):
                messages += [view for message in session.messages[slice(*one)] if (view := shown(message)) is not None]
            else:
                messages.append(one)
        tools = [known.get(one) if isinstance(one, str) else ToolSpec(**one) for one in packed["tools"]]
        settings = self._config.settings if packed["settings"] is None else packed["settings"]
        return LlmRequest(messages, [spec for spec in tools if spec is not None], settings)
