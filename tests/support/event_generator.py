"""Random events of every kind: valid in AG-UI 1.0, and with damaged fields."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

RUN_KINDS = ("RUN_STARTED", "RUN_FINISHED", "RUN_ERROR")


class EventGenerator:
    """Random values of the shapes 1.0 has."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311 - to be the same each time
        self.kinds: dict[str, Callable[[], dict[str, Any]]] = {
            name.removeprefix("on_").upper(): getattr(self, name) for name in dir(self) if name.startswith("on_")
        }

    def event(self, kind: str | None = None) -> dict[str, Any]:
        kind = kind or self.random.choice(sorted(self.kinds))
        shared = self.some(timestamp=1700000000123, rawEvent={"a": None}, metadata=self.value({}))
        event = {"type": kind, **self.kinds[kind](), **shared}
        if kind not in (*RUN_KINDS, "MESSAGES_SNAPSHOT") and "subagentRunId" not in event:
            event |= self.some(subagentRunId=self.text())
        return event

    def text(self) -> str:
        return self.random.choice(
            ["", "m1", "grüße 🙂", 'say "hi"\\', "a\nb", "\ud83d", "\x00 ", "null", '"}\n\ndata: ']
        )

    def value(self, kind: Any = None) -> Any:
        small = [None, True, 0, -1.5, 10**20, "x", [], {}, [{"a": None}], {"type": "text", "text": 1}]
        return {"a": self.random.choice(small)} if kind == {} else self.random.choice(small)

    def some(self, **fields: Any) -> dict[str, Any]:
        """Any of these optional fields."""
        return {key: value for key, value in fields.items() if self.random.random() < 0.4}

    def few(self, make: Callable[[], Any], least: int = 0) -> list[Any]:
        return [make() for _ in range(self.random.randint(least, 3))]

    def part(self) -> dict[str, Any]:
        kind = self.random.choice(["text", "text", "image", "audio", "video", "document"])
        if kind == "text":
            return {"type": kind, "text": self.text(), **self.some(id="p", metadata=[1])}
        source: dict[str, Any] = {"type": self.random.choice(["data", "url", "file"]), "value": self.text()}
        if source["type"] == "data":
            source["mimeType"] = "image/png"
        if source["type"] == "file":
            source |= self.some(provider="openai")
        return {
            "type": kind,
            "source": source | self.some(mimeType="image/png"),
            **self.some(id="p", metadata={"n": 1}),
        }

    def content(self) -> Any:
        return self.random.choice([self.text(), self.few(self.part), [{"type": "text", "text": self.text()}] * 2])

    def call(self) -> dict[str, Any]:
        function = {"name": self.text(), "arguments": '{"q":1}'}
        return {
            "id": self.text(),
            "type": "function",
            "function": function,
            **self.some(encryptedValue="e", metadata={}),
        }

    def message(self) -> dict[str, Any]:
        role = self.random.choice(["developer", "system", "assistant", "user", "tool", "activity", "reasoning"])
        message = {"id": self.text(), "role": role, **self.some(metadata=self.value({}), subagentRunId="s")}
        if role == "activity":
            return message | {"activityType": "PLAN", "content": self.value({})}
        message |= self.some(encryptedValue="e")
        if role == "tool":
            return message | {"toolCallId": "c", "content": self.content()} | self.some(error="no")
        if role != "reasoning":
            message |= self.some(name="n")
        if role == "assistant":
            return message | self.some(content=self.text(), toolCalls=self.few(self.call))
        return message | {"content": self.content() if role == "user" else self.text()}

    def usage(self) -> dict[str, Any]:
        counts = {"inputTokens": 1, "outputTokens": 2.0, "totalTokens": 3, "reasoningTokens": 0, "cachedInputTokens": 4}
        return self.some(provider="p", model="m", **counts, cacheWriteInputTokens=5)

    def run_input(self) -> dict[str, Any]:
        tool = {"name": "t", "description": "d"}
        required = {"threadId": "t", "runId": "r", "messages": self.few(self.message)}
        return required | self.some(
            protocolVersion="1.0",
            parentRunId="p",
            state=self.value(),
            tools=self.few(lambda: tool | self.some(parameters={}, metadata={})),
            context=self.few(lambda: {"description": "d", "value": "v"}),
            forwardedProps={},
            resume=self.few(lambda: {"interruptId": "i", "status": "cancelled", **self.some(payload=1, metadata={})}),
        )

    def on_run_started(self) -> dict[str, Any]:
        required = {"threadId": "t", "runId": "r"}
        return required | self.some(protocolVersion="1.0", parentRunId="p", input=self.run_input())

    def details_of_interrupt(self) -> dict[str, Any]:
        texts = {"message": "m", "toolCallId": "c", "expiresAt": "2030-01-01T00:00:00Z", "subagentRunId": "s"}
        return self.some(**texts, responseSchema={}, metadata={}, new=1)

    def on_run_finished(self) -> dict[str, Any]:
        interrupt = {"id": "i", "reason": "confirmation"}
        outcome = self.random.choice(
            [
                {"type": "success"},
                {"type": "success", "pendingToolCallIds": ["c"]},
                {"type": "cancelled"},
                {
                    "type": "interrupt",
                    "interrupts": self.few(lambda: interrupt | self.details_of_interrupt(), least=1),
                    **self.some(new=1),
                },
            ]
        )
        required = {"threadId": "t", "runId": "r"}
        return required | self.some(result={"a": 1}, outcome=outcome, usage=self.few(self.usage))

    def on_run_error(self) -> dict[str, Any]:
        return {"message": self.text()} | self.some(code="c", usage=self.few(self.usage))

    def on_messages_snapshot(self) -> dict[str, Any]:
        return {"messages": self.few(self.message)}

    def on_text_message_start(self) -> dict[str, Any]:
        return {"messageId": self.text()} | self.some(role="user", name="n")

    def on_text_message_content(self) -> dict[str, Any]:
        return {"messageId": self.text(), "delta": self.text()}

    on_reasoning_message_content = on_text_message_content

    def on_text_message_end(self) -> dict[str, Any]:
        return {"messageId": self.text()}

    on_reasoning_start = on_reasoning_end = on_reasoning_message_end = on_text_message_end

    def on_text_message_chunk(self) -> dict[str, Any]:
        return self.some(messageId="m", role="developer", delta=self.text(), name="n")

    def on_reasoning_message_start(self) -> dict[str, Any]:
        return {"messageId": "m", "role": "reasoning"}

    def on_reasoning_message_chunk(self) -> dict[str, Any]:
        return self.some(messageId="m", delta=self.text())

    def on_reasoning_encrypted_value(self) -> dict[str, Any]:
        return {"subtype": self.random.choice(["tool-call", "message"]), "entityId": "m", "encryptedValue": "e"}

    def on_tool_call_start(self) -> dict[str, Any]:
        return {"toolCallId": "c", "toolCallName": "n"} | self.some(parentMessageId="m")

    def on_tool_call_args(self) -> dict[str, Any]:
        return {"toolCallId": "c", "delta": self.text()}

    def on_tool_call_end(self) -> dict[str, Any]:
        return {"toolCallId": "c"}

    def on_tool_call_chunk(self) -> dict[str, Any]:
        return self.some(toolCallId="c", toolCallName="n", parentMessageId="m", delta=self.text())

    def on_tool_call_result(self) -> dict[str, Any]:
        return {"messageId": "m", "toolCallId": "c", "content": self.content()} | self.some(role="tool")

    def on_state_snapshot(self) -> dict[str, Any]:
        return {"snapshot": self.value()}

    def operation(self) -> dict[str, Any]:
        op = self.random.choice(["add", "replace", "test", "remove", "move", "copy"])
        more = {"value": self.value()} if op in ("add", "replace", "test") else {}
        return {"op": op, "path": self.random.choice(["", "/a", "/a~1b/0"]), "from": "/c~0", **more}

    def on_state_delta(self) -> dict[str, Any]:
        return {"delta": self.few(self.operation)}

    def on_activity_snapshot(self) -> dict[str, Any]:
        return {"messageId": "a", "activityType": "PLAN", "content": self.value({})} | self.some(replace=False)

    def on_activity_delta(self) -> dict[str, Any]:
        return {"messageId": "a", "activityType": "PLAN", "patch": self.few(self.operation)}

    def on_raw(self) -> dict[str, Any]:
        return {"event": self.value()} | self.some(source="s")

    def on_custom(self) -> dict[str, Any]:
        return {"name": "n", "value": self.value()}

    def on_step_started(self) -> dict[str, Any]:
        return {"stepName": "s"}

    on_step_finished = on_step_started

    def on_subagent_started(self) -> dict[str, Any]:
        required = {"subagentRunId": "s", "name": "n"}
        return required | self.some(description="d", parentSubagentRunId="p", parentToolCallId="c", parentMessageId="m")

    def on_subagent_finished(self) -> dict[str, Any]:
        outcome = self.random.choice(
            [{"type": "success"}, {"type": "suspended", "interruptIds": ["i"]}, {"type": "suspended", "new": 1}]
        )
        return {"subagentRunId": "s"} | self.some(result=1, outcome=outcome)

    def on_subagent_error(self) -> dict[str, Any]:
        return {"subagentRunId": "s", "message": "m"} | self.some(code="c")

    def broken(self) -> dict[str, Any]:
        """A valid event with up to four values replaced, taken away or added, at any depth."""
        event = self.event()
        if self.random.random() < 0.05:
            # A part that 1.0 no longer has.
            binary = {"type": "binary", "mimeType": "image/png"} | self.some(id="i", url="", data="d", filename="f")
            event = {"type": "MESSAGES_SNAPSHOT", "messages": [{"id": "u", "role": "user", "content": [binary]}]}
        wrong = [None, None, True, -1, 1.5, 1e400, 7, "x", "tool", [], [None], {}, {"type": "text", "text": "t"}]
        for _ in range(self.random.randint(1, 4)):
            # Itself is always a place, unless nothing is left of it.
            place = self.random.choice([place for place in objects(event) if place] or [{"type": 1}])
            keys = list(place) if isinstance(place, dict) else range(len(place))
            key = self.random.choice(keys)
            if isinstance(place, dict) and self.random.random() < 0.3:
                place[self.random.choice(["new", "subagentRunId", "metadata", "name", "content", "outcome"])] = None
            elif self.random.random() < 0.2:
                del place[key]
            else:
                place[key] = copy.deepcopy(self.random.choice(wrong))
        if self.random.random() < 0.05:
            event["type"] = self.random.choice(["NEW_KIND", "", "run_started", "TOOL_CALL", "THINKING_START"])
        return event

    def render(self, value: Any) -> str:
        """As JSON; here and there with a key twice, escaped, or with white space."""
        if isinstance(value, list):
            return "[" + ",".join(self.render(item) for item in value) + "]"
        if not isinstance(value, dict):
            # How a number too large is written; `json` would write Infinity, which no JSON has.
            return "1e400" if value == float("inf") else json.dumps(value, ensure_ascii=self.random.random() < 0.5)
        members = []
        for key, item in value.items():
            name = json.dumps(key)
            if self.random.random() < 0.02:
                name = f'"\\u{ord(key[0]):04x}{key[1:]}"'
            if self.random.random() < 0.02:
                members.append(f'"{key}":{json.dumps(self.value())}')
            space = " " if self.random.random() < 0.02 else ""
            members.append(f"{name}:{space}{self.render(item)}")
        return "{" + ",".join(members) + "}"


def objects(value: Any) -> list[Any]:
    """All objects and arrays in a value, itself first."""
    items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [value, *(inner for item in items if isinstance(item, dict | list) for inner in objects(item))]
