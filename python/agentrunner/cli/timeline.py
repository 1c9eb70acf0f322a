"""A thread's events as labelled lines, for people to read."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from agentrunner.cli.terminal import clean, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from agentrunner._core import Event

VALUE_CHARACTERS = 400
"""Most characters shown of arguments, results and state; messages are shown in full."""
STYLES = {"user": "bold cyan", "assistant": "bold green", "tool": "yellow", "error": "bold red", "interrupt": "magenta"}


@dataclass(slots=True)
class TimelineEntry:
    """One labelled entry of the timeline; a run's heading has an empty label."""

    label: str
    text: str = ""
    result: str | None = None
    """Result of a tool call, once there is one."""


def timeline(events: Iterable[Event]) -> RenderableType:
    """Return the events, compacted or not, as a renderable for rich."""
    reader = _TimelineReader()
    for event in events:
        reader.read(event.type, event.to_dict())
    blocks: list[RenderableType] = []
    table: Table | None = None
    for entry in reader.entries:
        if not entry.label:
            blocks.append(Text(("\n" if blocks else "") + clean(entry.text), style="bold"))
            table = None
            continue
        if table is None:
            table = Table.grid(padding=(0, 2, 0, 0))
            table.add_column(width=11, overflow="fold")
            table.add_column(overflow="fold")
            blocks.append(table)
        text = Text(clean(entry.text).strip())
        if entry.result is not None:
            text.append(f"\n→ {shorten(entry.result, VALUE_CHARACTERS)}", style="dim")
        table.add_row(Text("  " + shorten(entry.label, 9), style=STYLES.get(entry.label, "dim")), text)
    return Group(*blocks)


class _TimelineReader:
    """Turns events into timeline entries, one event at a time."""

    def __init__(self) -> None:
        self.entries: list[TimelineEntry] = []
        self._messages: dict[str, TimelineEntry] = {}
        self._calls: dict[str, TimelineEntry] = {}
        self._shown: set[str] = set()

    def read(self, kind: str, event: dict[str, Any]) -> None:
        """Add an event; an event of an unknown kind or shape is shown as its JSON."""
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
        self._add(kind.lower().replace("_", " "), _format_value(rest))

    def _add(self, label: str, text: str) -> TimelineEntry:
        entry = TimelineEntry(label, text)
        self.entries.append(entry)
        return entry

    def on_run_started(self, event: dict[str, Any]) -> None:
        when = event.get("timestamp")
        start = (
            time.strftime("  %Y-%m-%d %H:%M:%S", time.localtime(when / 1000)) if isinstance(when, (int, float)) else ""
        )
        self._add("", f"run {event.get('runId')}{start}")
        # Another run may use the same message ids. Tool calls stay: a result may come in a later run than its call.
        self._messages.clear()
        run_input = event.get("input") or {}
        self._show_messages(run_input.get("messages") or [])
        for answer in run_input.get("resume") or []:
            self._add("answer", _format_value(answer))

    def on_run_finished(self, event: dict[str, Any]) -> None:
        outcome = event.get("outcome") or {}
        for interrupt in outcome.get("interrupts") or []:
            texts = [str(interrupt[key]) for key in ("reason", "message") if interrupt.get(key)]
            self._add("interrupt", ": ".join(texts) or _format_value(interrupt))
        if outcome.get("type") == "cancelled":
            self._add("cancelled", "the run was cancelled")
        if event.get("result") is not None:
            self._add("result", _format_value(event["result"]))

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
        # A message that only carries tool calls has no text to show.
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
            entry.text = shorten(entry.text, VALUE_CHARACTERS)

    def on_tool_call_result(self, event: dict[str, Any]) -> None:
        self._shown.add(str(event.get("messageId")))
        self._set_result(str(event.get("toolCallId")), _format_content(event.get("content")))

    def _set_result(self, call: str, result: str) -> None:
        entry = self._calls.get(call)
        if entry is None or entry.result is not None:
            entry = self._calls[call] = self._add("tool", "an earlier call")
        entry.result = result

    def on_state_snapshot(self, event: dict[str, Any]) -> None:
        self._add("state", _format_value(event.get("snapshot")))

    def on_state_delta(self, event: dict[str, Any]) -> None:
        self._add("state", "patch " + _format_value(event.get("delta")))

    def on_messages_snapshot(self, event: dict[str, Any]) -> None:
        messages = event.get("messages") or []
        self._add("snapshot", f"replaces all messages with {len(messages)}" if messages else "removes all messages")
        self._show_messages(messages)

    def _show_messages(self, messages: list[dict[str, Any]]) -> None:
        """Show complete messages, each id once."""
        for message in messages:
            if (message_id := str(message.get("id"))) in self._shown:
                continue
            self._shown.add(message_id)
            text, role = _format_content(message.get("content")), str(message.get("role"))
            if role == "tool":
                self._set_result(str(message.get("toolCallId")), text)
                continue
            if text.strip():
                self._add(role, text)
            for call in message.get("toolCalls") or []:
                function = call.get("function") or {}
                text = shorten(f"{function.get('name', '?')} {function.get('arguments', '')}", VALUE_CHARACTERS)
                self._calls[str(call.get("id"))] = self._add("tool", text)

    def on_step_started(self, event: dict[str, Any]) -> None:
        self._add("step", f"{event.get('stepName')} starts")

    def on_step_finished(self, event: dict[str, Any]) -> None:
        self._add("step", f"{event.get('stepName')} finishes")

    def on_activity_snapshot(self, event: dict[str, Any]) -> None:
        self._add("activity", f"{event.get('activityType')} {_format_value(event.get('content'))}")

    def on_activity_delta(self, event: dict[str, Any]) -> None:
        self._add("activity", f"{event.get('activityType')} patch {_format_value(event.get('patch'))}")

    def on_custom(self, event: dict[str, Any]) -> None:
        self._add("custom", f"{event.get('name')} {_format_value(event.get('value'))}")


def _format_value(value: object) -> str:
    return shorten(json.dumps(value, ensure_ascii=False), VALUE_CHARACTERS)


def _format_content(content: object) -> str:
    """Return a message's text; a part that is not text is shown as its type."""
    if isinstance(content, list):
        parts = [part if isinstance(part, dict) else {"type": str(part)} for part in content]
        return "\n".join(str(part.get("text", f"[{part.get('type')}]")) for part in parts)
    return content if isinstance(content, str) else _format_value(content) if content is not None else ""
