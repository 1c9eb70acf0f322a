"""A server in this process for the published clients, and what they show of its events."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentRunner
from agentrunner.server import create_app
from support.copilotkit import KINDS, Stage
from support.events import text_message, tool_call
from support.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator


each_kind = pytest.mark.parametrize("kind", KINDS)


class Spy:
    """An app that records the requests it gets."""

    def __init__(self, app: Any) -> None:
        self.context = app.context
        self._app = app
        self._asked: list[tuple[str, str, Any]] = []
        self._more = threading.Condition()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""

        async def heard() -> Any:
            nonlocal body
            message = await receive()
            if message["type"] == "http.request":
                body += message.get("body", b"")
                if not message.get("more_body"):
                    with self._more:
                        path = scope["raw_path"].decode()
                        self._asked.append((scope["method"], path, json.loads(body) if body else None))
                        self._more.notify_all()
            return message

        await self._app(scope, heard, send)

    def bodies(self, part: str) -> list[Any]:
        """Return the posted bodies whose path or content contains a text."""
        return [body for _, path, body in self._asked if part in path or part in json.dumps(body)]

    def wait(self, part: str, count: int) -> None:
        """Wait until so many such bodies were posted."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.bodies(part)) >= count, 20)


class Served:
    """A server under test, and its agent."""

    def __init__(self, url: str, stage: Stage, spy: Spy) -> None:
        self.url, self.stage, self.spy = url, stage, spy


@contextlib.contextmanager
def served_by(runner: AgentRunner, mode: Any = "both", **agents: Any) -> Iterator[Served]:
    stage = Stage()
    spy = Spy(create_app(runner, {"default": stage, **agents}, mode=mode, shutdown_seconds=0.1))
    with serving(spy) as url:
        yield Served(url, stage, spy)


def reasoning(message: str, *deltas: str) -> list[dict[str, Any]]:
    return [
        {"type": "REASONING_START", "messageId": message},
        {"type": "REASONING_MESSAGE_START", "messageId": message, "role": "reasoning"},
        *({"type": "REASONING_MESSAGE_CONTENT", "messageId": message, "delta": delta} for delta in deltas),
        {"type": "REASONING_MESSAGE_END", "messageId": message},
        {"type": "REASONING_END", "messageId": message},
    ]


def everything(n: int) -> list[dict[str, Any]]:
    """Return an event of each kind that clients read; `n` keeps the ids of runs apart."""
    return [
        {"type": "STEP_STARTED", "stepName": "plan"},
        *reasoning(f"think{n}", "let me ", "see"),
        {"type": "STEP_FINISHED", "stepName": "plan"},
        *text_message(f"say{n}", "Hel", "lo"),
        *tool_call(f"call{n}", "book", '{"n":', "1}", result="booked"),
        {"type": "STATE_SNAPSHOT", "snapshot": {"run": n, "seats": [1]}},
        {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/seats/-", "value": 2}]},
        {"type": "ACTIVITY_SNAPSHOT", "messageId": f"act{n}", "activityType": "PLAN", "content": {"done": 0}},
        {
            "type": "ACTIVITY_DELTA", "messageId": f"act{n}", "activityType": "PLAN",
            "patch": [{"op": "replace", "path": "/done", "value": 1}],
        },
        {"type": "CUSTOM", "name": "note", "value": {"any": None}},
        *text_message(f"end{n}", "Good", "bye"),
    ]  # fmt: skip


def expected_messages(n: int) -> list[dict[str, Any]]:
    """Return the messages that `everything(n)` leaves in a client."""
    call = {"id": f"call{n}", "type": "function", "function": {"name": "book", "arguments": '{"n":1}'}}
    return [
        {"id": f"think{n}", "role": "reasoning", "content": "let me see"},
        {"id": f"say{n}", "role": "assistant", "content": "Hello"},
        {"id": f"call{n}", "role": "assistant", "toolCalls": [call]},
        {"id": f"call{n}-result", "role": "tool", "toolCallId": f"call{n}", "content": "booked"},
        {"id": f"act{n}", "role": "activity", "activityType": "PLAN", "content": {"done": 1}},
        {"id": f"end{n}", "role": "assistant", "content": "Goodbye"},
    ]


def user(message: str) -> dict[str, Any]:
    return {"id": message, "role": "user", "content": message}


def without_ids(*messages: dict[str, Any]) -> list[Any]:
    """Return messages without their ids."""
    return [message.get("content") or message["toolCalls"][0]["function"] for message in messages]


# Interrupts


ASKED = {"id": "i1", "reason": "confirmation", "message": "Book it?", "metadata": {"seats": 2}}


ANSWER = [{"interruptId": "i1", "status": "resolved", "payload": {"approved": True}}]


ASKING = (
    *text_message("ask", "May I?"),
    {"type": "RUN_FINISHED", "outcome": {"type": "interrupt", "interrupts": [ASKED]}},
)
