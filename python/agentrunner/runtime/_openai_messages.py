"""Conversion of messages and tools to the chat completions protocol."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from agentrunner.errors import LlmRequestInvalid
from agentrunner.runtime._openai_calls import read_extras

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentrunner.runtime.llm import ToolSpec

_AUDIO = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


def to_chat_messages(messages: Iterable[dict[str, Any]], reasoning_field: str | None = None) -> list[dict[str, Any]]:
    """Convert AG-UI messages to chat completion messages.

    `reasoning_field` is the field in which the provider wants a response's reasoning back; `None` drops the reasoning.
    Raises `LlmRequestInvalid` for a part that chat completions cannot express.
    """
    chat: list[dict[str, Any]] = []
    reasoning: list[str] = []
    # A tool message of chat completions holds only text, so media that a tool returned follow in a user message.
    media: list[dict[str, Any]] = []
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if role == "reasoning":
            reasoning.append(str(content or ""))
            continue
        if role == "activity":
            continue
        if role == "tool":
            text, parts = _split_result(message)
            chat.append({"role": "tool", "tool_call_id": message["toolCallId"], "content": text})
            media += parts
            continue
        if media:
            chat.append({"role": "user", "content": media})
            media = []
        if role == "assistant":
            if assistant := _convert_assistant(message):
                # DeepSeek refuses a tool call without the field, even if there was no reasoning.
                if reasoning_field and (reasoning or "tool_calls" in assistant):
                    assistant[reasoning_field] = "".join(reasoning)
                chat.append(assistant)
        elif role == "user":
            chat.append({"role": "user", "content": _convert_content(content)})
        elif role in ("system", "developer"):
            # Every provider accepts `system`, and providers that know both roles treat them alike.
            chat.append({"role": "system", "content": _convert_content(content)})
        else:
            raise LlmRequestInvalid(f"chat completions have no message role {role!r}")
        reasoning = []
    if media:
        chat.append({"role": "user", "content": media})
    return chat


def to_chat_tools(tools: Iterable[ToolSpec]) -> list[dict[str, Any]]:
    """Convert tools to chat completion tools."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
        }
        for tool in tools
    ]


def _convert_assistant(message: dict[str, Any]) -> dict[str, Any] | None:
    content = message.get("content") or None
    if isinstance(content, str) and not content.strip():
        content = None
    calls = [_convert_call(call) for call in message.get("toolCalls") or ()]
    if calls:
        return {"role": "assistant", "content": content, "tool_calls": calls}
    # Most providers refuse a message without content.
    return {"role": "assistant", "content": content} if content is not None else None


def _convert_call(call: dict[str, Any]) -> dict[str, Any]:
    function = {"name": call["function"]["name"], "arguments": _fix_arguments(call["function"]["arguments"])}
    extras = read_extras(call)
    in_function = extras.pop("function", None)
    if isinstance(in_function, dict):
        function = in_function | function
    return extras | {"id": call["id"], "type": "function", "function": function}


def _fix_arguments(text: str) -> str:
    """Return a call's arguments as a JSON object.

    A provider that parses the arguments would refuse the whole history because of one invalid call.
    """
    try:
        if isinstance(json.loads(text), dict):
            return text
    except ValueError:
        pass
    return json.dumps({"invalid_json": text}) if text.strip() else "{}"


def _split_result(message: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """Return a tool's result as text and as the parts that are not text."""
    content = message.get("content") or message.get("error") or ""
    if isinstance(content, str):
        return content, []
    texts = [str(part.get("text", "")) for part in content if part.get("type") == "text"]
    media = [_convert_part(part) for part in content if part.get("type") != "text"]
    if not media:
        return "\n".join(texts), []
    texts.append("See below for what else it returned.")
    heading = {"type": "text", "text": f"Returned by the tool call {message['toolCallId']}:"}
    return "\n".join(texts), [heading, *media]


def _convert_content(content: Any) -> str | list[dict[str, Any]]:
    if content is None or isinstance(content, str):
        return content or ""
    parts = [_convert_part(part) for part in content]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _convert_part(part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind == "text":
        return {"type": "text", "text": str(part.get("text", ""))}
    source = part.get("source") or {}
    source_type, value, mime = source.get("type"), source.get("value"), source.get("mimeType") or ""
    if not isinstance(value, str):
        raise LlmRequestInvalid(f"chat completions cannot express a message part of type {kind!r}")
    data = f"data:{mime};base64,{value}" if source_type == "data" else None
    if source_type == "file" and kind in ("image", "document"):
        return {"type": "file", "file": {"file_id": value}}
    if kind in ("image", "video") and source_type in ("data", "url"):
        return {"type": f"{kind}_url", f"{kind}_url": {"url": data or value}}
    if kind == "audio" and data is not None and mime in _AUDIO:
        return {"type": "input_audio", "input_audio": {"data": value, "format": _AUDIO[mime]}}
    if kind == "document" and data is not None:
        if mime.startswith("text/"):
            return {"type": "text", "text": _decode_text(value)}
        name = (part.get("metadata") or {}).get("filename") or "document"
        return {"type": "file", "file": {"filename": str(name), "file_data": data}}
    described = f"{kind} ({mime})" if mime else kind
    raise LlmRequestInvalid(f"chat completions cannot express a message part of type {described} from {source_type}")


def _decode_text(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise LlmRequestInvalid("a text document in a message is not base64 of UTF-8 text") from error
