"""The readable form of a thread: its events as labelled lines."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from agentrunner.cli.common import clean, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from agentrunner._core import Event

VALUE = 400
"""Characters shown of arguments, results and state; messages are shown whole."""
STYLES = {"user": "bold cyan", "assistant": "bold green", "tool": "yellow", "error": "bold red", "interrupt": "magenta"}


@dataclass(slots=True)
class Entry:
    """One labelled piece of the timeline; of a run's heading the label is empty."""

    label: str
    text: str = ""
    result: str | None = None
    """What a tool call came to."""


def timeline(events: Iterable[Event]) -> RenderableType:
    """Give events, compacted or not, as something rich can print."""
    reader = _Reader()
    for event in events:
        reader.read(event.type, event.to_dict())
    parts: list[RenderableType] = []
    table: Table | None = None
    for entry in reader.entries:
        if not entry.label:
            parts.append(Text(("\n" if parts else "") + clean(entry.text), style="bold"))
            table = None
            continue
        if table is None:
            table = Table.grid(padding=(0, 2, 0, 0))
            table.add_column(width=11, overflow="fold")
            table.add_column(overflow="fold")
            parts.append(table)
        text = Text(clean(entry.text).strip())
        if entry.result is not None:
            text.append(f"\n→ {shorten(entry.result, VALUE)}", style="dim")
        table.add_row(Text("  " + shorten(entry.label, 9), style=STYLES.get(entry.label, "dim")), text)
    return Group(*parts)


class _Reader:
    """What the events read so far make."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._messages: dict[str, Entry] = {}
        self._calls: dict[str, Entry] = {}
        self._shown: set[str] = set()

    def read(self, kind: str, event: dict[str, Any]) -> None:
        """Take in an event. One of a kind or shape this version does not know is shown as it is."""
        if kind.startswith(("REASONING_", "THINKING_")) and kind.endswith(("_START", "_END", "_ENCRYPTED_VALUE")):
            return
        handler = getattr(self, "on_" + kind.lower(), None)
        try:
            if handler is not None:
                handler(event)
                return
        except (AttributeError, TypeError, ValueError):
            pass
        rest = {key: value for key, value in event.items() if key not in ("type", "timestamp")}
        self._add(kind.lower().replace("_", " "), _value(rest))

    def _add(self, label: str, text: str) -> Entry:
        entry = Entry(label, text)
        self.entries.append(entry)
        return entry

    def on_run_started(self, event: dict[str, Any]) -> None:
        when = event.get("timestamp")
        said = (
            time.strftime("  %Y-%m-%d %H:%M:%S", time.localtime(when / 1000)) if isinstance(when, (int, float)) else ""
        )
        self._add("", f"run {event.get('runId')}{said}")
        # Ids may come again in another run; a late result still belongs to its call.
        self._messages.clear()
        given = event.get("input") or {}
        self._show_messages(given.get("messages") or [])
        for answer in given.get("resume") or []:
            self._add("resume", _value(answer))

    def on_run_finished(self, event: dict[str, Any]) -> None:
        outcome = event.get("outcome") or {}
        for interrupt in outcome.get("interrupts") or []:
            said = [str(interrupt[key]) for key in ("reason", "message") if interrupt.get(key)]
            self._add("interrupt", ": ".join(said) or _value(interrupt))
        if outcome.get("type") == "cancelled":
            self._add("cancelled", "the run was cancelled")
        if event.get("result") is not None:
            self._add("result", _value(event["result"]))

    def on_run_error(self, event: dict[str, Any]) -> None:
        code = f" ({event['code']})" if event.get("code") else ""
        self._add("error", f"{event.get('message', '')}{code}")

    def on_text_message_start(self, event: dict[str, Any]) -> None:
        message = str(event.get("messageId"))
        self._shown.add(message)
        self._messages[message] = self._add(str(event.get("role") or "assistant"), "")

    def on_text_message_content(self, event: dict[str, Any]) -> None:
        if (message := str(event.get("messageId"))) not in self._messages:
            self.on_text_message_start(event)
        self._messages[message].text += str(event.get("delta") or "")

    on_text_message_chunk = on_text_message_content

    def on_text_message_end(self, event: dict[str, Any]) -> None:
        # A message that only carries tool calls says nothing by itself.
        entry = self._messages.get(str(event.get("messageId")))
        if entry is not None and not entry.text.strip() and entry in self.entries:
            self.entries.remove(entry)

    def on_reasoning_message_content(self, event: dict[str, Any]) -> None:
        key = f"reasoning {event.get('messageId')}"
        if key not in self._messages:
            self._messages[key] = self._add("reasoning", "")
        self._messages[key].text += str(event.get("delta") or "")

    on_reasoning_message_chunk = on_reasoning_message_content
    on_thinking_text_message_content = on_reasoning_message_content

    def on_tool_call_start(self, event: dict[str, Any]) -> None:
        self._calls[str(event.get("toolCallId"))] = self._add("tool", f"{event.get('toolCallName', '?')} ")

    def on_tool_call_args(self, event: dict[str, Any]) -> None:
        if (call := str(event.get("toolCallId"))) not in self._calls:
            self.on_tool_call_start(event)
        self._calls[call].text += str(event.get("delta") or "")

    on_tool_call_chunk = on_tool_call_args

    def on_tool_call_end(self, event: dict[str, Any]) -> None:
        entry = self._calls.get(str(event.get("toolCallId")))
        if entry is not None:
            entry.text = shorten(entry.text, VALUE)

    def on_tool_call_result(self, event: dict[str, Any]) -> None:
        self._shown.add(str(event.get("messageId")))
        self._result(str(event.get("toolCallId")), _content(event.get("content")))

    def _result(self, call: str, result: str) -> None:
        entry = self._calls.get(call)
        if entry is None or entry.result is not None:
            entry = self._calls[call] = self._add("tool", "an earlier call")
        entry.result = result

    def on_state_snapshot(self, event: dict[str, Any]) -> None:
        self._add("state", _value(event.get("snapshot")))

    def on_state_delta(self, event: dict[str, Any]) -> None:
        self._add("state", "patch " + _value(event.get("delta")))

    def on_messages_snapshot(self, event: dict[str, Any]) -> None:
        messages = event.get("messages") or []
        self._add("snapshot", f"the thread's messages are now these {len(messages)}" if messages else "no messages")
        self._show_messages(messages)

    def _show_messages(self, messages: list[dict[str, Any]]) -> None:
        """Show whole messages, each id once."""
        for message in messages:
            if (known := str(message.get("id"))) in self._shown:
                continue
            self._shown.add(known)
            text, role = _content(message.get("content")), str(message.get("role"))
            if role == "tool":
                self._result(str(message.get("toolCallId")), text)
                continue
            if text.strip():
                self._add(role, text)
            for call in message.get("toolCalls") or []:
                function = call.get("function") or {}
                said = shorten(f"{function.get('name', '?')} {function.get('arguments', '')}", VALUE)
                self._calls[str(call.get("id"))] = self._add("tool", said)

    def on_step_started(self, event: dict[str, Any]) -> None:
        self._add("step", f"{event.get('stepName')} begins")

    def on_step_finished(self, event: dict[str, Any]) -> None:
        self._add("step", f"{event.get('stepName')} ends")

    def on_activity_snapshot(self, event: dict[str, Any]) -> None:
        self._add("activity", f"{event.get('activityType')} {_value(event.get('content'))}")

    def on_activity_delta(self, event: dict[str, Any]) -> None:
        self._add("activity", f"{event.get('activityType')} patch {_value(event.get('patch'))}")

    def on_custom(self, event: dict[str, Any]) -> None:
        self._add("custom", f"{event.get('name')} {_value(event.get('value'))}")


def _value(value: object) -> str:
    return shorten(json.dumps(value, ensure_ascii=False), VALUE)


def _content(content: object) -> str:
    """Give a message's text; of a part that is no text, its kind."""
    if isinstance(content, list):
        parts = [part if isinstance(part, dict) else {"type": str(part)} for part in content]
        return "\n".join(str(part.get("text", f"[{part.get('type')}]")) for part in parts)
    return content if isinstance(content, str) else _value(content) if content is not None else ""
