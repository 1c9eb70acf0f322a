"""Messages and tools as chat completions want them."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from agentrunner.errors import LlmRequestInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentrunner.runtime.llm import ToolSpec

_AUDIO = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


def chat_messages(messages: Iterable[dict[str, Any]], reasoning_field: str | None = None) -> list[dict[str, Any]]:
    """Give messages of AG-UI as those of chat completions.

    `reasoning_field` is where the service wants an answer's reasoning handed back, as `reasoning_content`; it is left
    out where that is `None`. Raises `LlmRequestInvalid` for a part these services have no form for.
    """
    chat: list[dict[str, Any]] = []
    thoughts: list[str] = []
    # A tool's result is text there; what else a tool gave follows behind the results, as the user's.
    shown: list[dict[str, Any]] = []
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if role == "reasoning":
            thoughts.append(str(content or ""))
            continue
        if role == "activity":
            continue
        if role == "tool":
            text, media = _result(message)
            chat.append({"role": "tool", "tool_call_id": message["toolCallId"], "content": text})
            shown += media
            continue
        if shown:
            chat.append({"role": "user", "content": shown})
            shown = []
        if role == "assistant":
            if answer := _answer(message):
                if reasoning_field is not None and thoughts:
                    answer[reasoning_field] = "".join(thoughts)
                chat.append(answer)
        elif role == "user":
            chat.append({"role": "user", "content": _content(content)})
        elif role in ("system", "developer"):
            # Every service knows `system`; those that tell the two apart take it for the developer's.
            chat.append({"role": "system", "content": _content(content)})
        else:
            raise LlmRequestInvalid(f"chat completions have no messages of the role {role!r}")
        thoughts = []
    if shown:
        chat.append({"role": "user", "content": shown})
    return chat


def chat_tools(tools: Iterable[ToolSpec]) -> list[dict[str, Any]]:
    """Give tools as chat completions name them."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
        }
        for tool in tools
    ]


def _answer(message: dict[str, Any]) -> dict[str, Any] | None:
    content = message.get("content") or None
    calls = [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["function"]["name"], "arguments": _arguments(call["function"]["arguments"])},
        }
        for call in message.get("toolCalls") or ()
    ]
    if calls:
        return {"role": "assistant", "content": content, "tool_calls": calls}
    # A message that says nothing is refused by most.
    return {"role": "assistant", "content": content} if content is not None else None


def _arguments(text: str) -> str:
    """Give a call's arguments as a JSON object: services that parse them refuse the whole history otherwise."""
    try:
        if isinstance(json.loads(text), dict):
            return text
    except ValueError:
        pass
    return json.dumps({"invalid_json": text}) if text.strip() else "{}"


def _result(message: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    content = message.get("content") or message.get("error") or ""
    if isinstance(content, str):
        return content, []
    texts = [str(part.get("text", "")) for part in content if part.get("type") == "text"]
    media = [_part(part) for part in content if part.get("type") != "text"]
    if not media:
        return "\n".join(texts), []
    texts.append("See below for what else it returned.")
    called = {"type": "text", "text": f"Returned by the tool call {message['toolCallId']}:"}
    return "\n".join(texts), [called, *media]


def _content(content: Any) -> str | list[dict[str, Any]]:
    if content is None or isinstance(content, str):
        return content or ""
    parts = [_part(part) for part in content]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _part(part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind == "text":
        return {"type": "text", "text": str(part.get("text", ""))}
    source = part.get("source") or {}
    of, value, mime = source.get("type"), source.get("value"), source.get("mimeType") or ""
    if not isinstance(value, str):
        raise LlmRequestInvalid(f"chat completions have no form for a part of the type {kind!r}")
    data = f"data:{mime};base64,{value}" if of == "data" else None
    if of == "file" and kind in ("image", "document"):
        return {"type": "file", "file": {"file_id": value}}
    if kind in ("image", "video") and of in ("data", "url"):
        return {"type": f"{kind}_url", f"{kind}_url": {"url": data or value}}
    if kind == "audio" and data is not None and mime in _AUDIO:
        return {"type": "input_audio", "input_audio": {"data": value, "format": _AUDIO[mime]}}
    if kind == "document" and data is not None:
        if mime.startswith("text/"):
            return {"type": "text", "text": _text(value)}
        name = (part.get("metadata") or {}).get("filename") or "document"
        return {"type": "file", "file": {"filename": str(name), "file_data": data}}
    said = f"{kind} of {mime}" if mime else kind
    raise LlmRequestInvalid(f"chat completions have no form for a part that is {said}, given as {of}")


def _text(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise LlmRequestInvalid("a text document is not base64 of UTF-8") from error
