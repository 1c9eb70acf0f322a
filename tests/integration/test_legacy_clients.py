"""Frames for legacy clients, checked with the real schemas of both generations."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner._core import Frames
from support.agents import agent_with
from support.inputs import make_input
from support.nodejs import ask, install, needs_node
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner

RUN_KINDS = ("RUN_STARTED", "RUN_FINISHED", "RUN_ERROR")


# Events valid in 1.0


class EventGenerator:
    """Random values of the shapes 1.0 has."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311 - to be the same each time
        self.kinds: dict[str, Callable[[], dict[str, Any]]] = {
            name.removeprefix("on_").upper(): getattr(self, name) for name in dir(self) if name.startswith("on_")
        }

    def event(self, kind: str | None = None) -> dict[str, Any]:
        kind = kind or self.random.choice(sorted(self.kinds))
        event = {"type": kind, **self.kinds[kind](), **self.some(timestamp=1700000000123, metadata=self.value({}))}
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
            return {"type": kind, "text": self.text(), **self.some(id="p", metadata={})}
        source: dict[str, Any] = {"type": self.random.choice(["data", "url", "file"]), "value": self.text()}
        if source["type"] == "data":
            source["mimeType"] = "image/png"
        if source["type"] == "file":
            source |= self.some(provider="openai")
        return {"type": kind, "source": source | self.some(mimeType="image/png"), **self.some(metadata={"n": 1})}

    def content(self) -> Any:
        return self.random.choice([self.text(), self.few(self.part), [{"type": "text", "text": self.text()}] * 2])

    def call(self) -> dict[str, Any]:
        function = {"name": self.text(), "arguments": '{"q":1}'}
        return {"id": self.text(), "type": "function", "function": function, **self.some(encryptedValue="e")}

    def message(self) -> dict[str, Any]:
        role = self.random.choice(["developer", "system", "assistant", "user", "tool", "activity", "reasoning"])
        message = {"id": self.text(), "role": role, **self.some(metadata=self.value({}), subagentRunId="s")}
        if role == "assistant":
            return message | self.some(content=self.text(), toolCalls=self.few(self.call), name="n")
        if role == "activity":
            return message | {"activityType": "PLAN", "content": self.value({})}
        if role == "tool":
            return message | {"toolCallId": "c", "content": self.content()} | self.some(error="no")
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
            resume=self.few(lambda: {"interruptId": "i", "status": "cancelled", **self.some(payload=1)}),
        )

    def on_run_started(self) -> dict[str, Any]:
        required = {"threadId": "t", "runId": "r"}
        return required | self.some(protocolVersion="1.0", parentRunId="p", input=self.run_input())

    def on_run_finished(self) -> dict[str, Any]:
        interrupt = {"id": "i", "reason": "confirmation"}
        outcome = self.random.choice(
            [
                {"type": "success"},
                {"type": "success", "pendingToolCallIds": ["c"]},
                {"type": "cancelled"},
                {
                    "type": "interrupt",
                    "interrupts": self.few(
                        lambda: interrupt | self.some(message="m", responseSchema={}, new=1), least=1
                    ),
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

    def on_state_delta(self) -> dict[str, Any]:
        return {"delta": self.few(lambda: {"op": "add", "path": "/a", "value": self.value()})}

    def on_activity_snapshot(self) -> dict[str, Any]:
        return {"messageId": "a", "activityType": "PLAN", "content": self.value({})} | self.some(replace=False)

    def on_activity_delta(self) -> dict[str, Any]:
        return {"messageId": "a", "activityType": "PLAN", "patch": [{"op": "remove", "path": "/a"}]}

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


THINKING = [
    {"type": "THINKING_START", "title": "t", "subagentRunId": None},
    {"type": "THINKING_START", "title": 1},
    {"type": "THINKING_TEXT_MESSAGE_START"},
    {"type": "THINKING_TEXT_MESSAGE_CONTENT", "delta": "d"},
    {"type": "THINKING_TEXT_MESSAGE_CONTENT"},
    {"type": "THINKING_TEXT_MESSAGE_END"},
    {"type": "THINKING_END", "metadata": None},
]


def make_frames(events: list[bytes]) -> bytes:
    return b"".join(b"id: %d\ndata: %s\n\n" % (at, event) for at, event in enumerate(events, 1))


def read(frames: bytes) -> dict[int, bytes]:
    """The events of frames by their cursors."""
    read = {}
    for frame in frames.split(b"\n\n")[:-1]:
        cursor, data = frame.split(b"\n")
        read[int(cursor.removeprefix(b"id: "))] = data.removeprefix(b"data: ")
    assert list(read) == sorted(read)
    return read


def check_schemas(events: list[bytes]) -> tuple[list[bool], list[bool]]:
    """Check which events 0.0.59 accepts, and 1.0.0."""
    (answer,) = ask("schemas.mjs", [b'{"events":[' + b",".join(events) + b"]}"])
    return answer["old"], answer["new"]


@needs_node
@pytest.mark.parametrize("seed", range(3))
def test_every_event_that_comes_out_is_read(seed: int) -> None:
    install()
    generator = EventGenerator(seed)
    values = [generator.event(kind) for kind in sorted(generator.kinds) for _ in range(40)]
    values += [generator.broken() for _ in range(4000)] + THINKING
    events = [generator.render(value).encode(errors="surrogatepass") for value in values]
    # A lone surrogate is written escaped or not at all.
    events = [event for event in events if b"\xed\xa0" not in event]
    old, new = check_schemas(events)
    assert (all(old), any(old), all(new), any(new)) == (False, True, False, True)
    got = read(Frames(make_frames(events)).for_legacy_clients())
    after, _ = check_schemas(list(got.values()))
    unread = [data for data, fine in zip(got.values(), after, strict=True) if not fine]
    assert unread == []
    for cursor, (event, was_read, accepted) in enumerate(zip(events, old, new, strict=True), 1):
        if was_read:
            assert got.get(cursor) == event
        elif accepted or json.loads(event).get("type") in RUN_KINDS:
            assert cursor in got, event


def translate_by_hand(event: dict[str, Any]) -> dict[str, Any]:
    """A valid 1.0 event in the words of 0.0.59, by hand."""
    event = copy.deepcopy(event)
    for place in objects(event):
        if isinstance(place, dict) and (place.get("role") == "tool" or place.get("type") == "TOOL_CALL_RESULT"):
            content = place.get("content")
            if isinstance(content, list):
                texts = [part["text"] for part in content if part["type"] == "text"]
                compact = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
                place["content"] = "".join(texts) if len(texts) == len(content) else compact
        elif isinstance(place, dict) and place.get("role") == "user" and isinstance(place.get("content"), list):
            for at, part in enumerate(place["content"]):
                if part.get("source", {}).get("type") == "file":
                    compact = json.dumps(part, separators=(",", ":"), ensure_ascii=False)
                    place["content"][at] = {"type": "text", "text": compact}
    if "input" in event:
        event["input"].setdefault("tools", [])
        event["input"].setdefault("context", [])
    outcome = event.get("outcome", {})
    if outcome.get("type") == "cancelled":
        del event["outcome"]
    for key in ("pendingToolCallIds", "new"):
        outcome.pop(key, None)
    return event


def test_events_that_1_0_accepts_keep_their_meaning() -> None:
    generator = EventGenerator(7)
    values = [generator.event(kind) for kind in sorted(generator.kinds) for _ in range(60)]
    events = [json.dumps(value, separators=(",", ":"), ensure_ascii=False) for value in values]
    kept = [(value, event.encode()) for value, event in zip(values, events, strict=True) if "\ud83d" not in event]
    assert len(kept) > 1000
    got = read(Frames(make_frames([event for _, event in kept])).for_legacy_clients())
    changed = 0
    for (value, event), data in zip(kept, got.values(), strict=True):
        assert json.loads(data) == translate_by_hand(value)
        changed += data != event
    assert changed > 50


# Frames


def test_frames_it_reads_are_the_same_object() -> None:
    frames = Frames(make_frames([b'{"type":"STEP_STARTED","stepName":"s"}'] * 3))
    assert frames.for_legacy_clients() is bytes(frames)


def test_it_is_made_once() -> None:
    frames = Frames(make_frames([b'{"type":"STEP_STARTED","stepName":"s"}', b'{"type":"NEW"}']))
    assert frames.for_legacy_clients() is frames.for_legacy_clients()
    assert frames.for_legacy_clients() == make_frames([b'{"type":"STEP_STARTED","stepName":"s"}'])


async def test_a_stream_contains_only_what_a_legacy_client_reads(runner: AgentRunner) -> None:
    events = [
        {"type": "NEW_KIND", "delta": "x"},
        {"type": "TOOL_CALL_RESULT", "messageId": "r", "toolCallId": "c", "content": [{"type": "text", "text": "t"}]},
    ]
    finished = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r", "outcome": {"type": "cancelled"}}
    await collect(await runner.run(agent_with(*events, finished), make_input("t", "r")))
    pieces = [piece async for piece in (await runner.connect("t")).frames(legacy=True)]
    assert all(pieces)
    read = [json.loads(line[6:]) for line in b"".join(pieces).split(b"\n") if line.startswith(b"data: ")]
    assert [event["type"] for event in read] == ["RUN_STARTED", "TOOL_CALL_RESULT", "RUN_FINISHED"]
    assert read[1]["content"] == "t"
    assert "outcome" not in read[2]
    assert read[2]["runId"] == "r"
