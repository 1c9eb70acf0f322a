"""The agents of server processes; their events follow from run id and `forwardedProps`."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from ag_ui.core import RunAgentInput

Event = dict[str, Any] | bytes

KIB = 1024


def start_event(input: RunAgentInput) -> Event:
    return {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}


def finish_event(input: RunAgentInput, **fields: Any) -> Event:
    return {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id, **fields}


def turn(run: str, number: int, parts: int = 3) -> Iterator[Event]:
    """Yield text, a tool call at the same time, and a change of state.

    Compaction moves their frames.
    """
    message, call = f"{run}-m{number}", f"{run}-c{number}"
    yield {"type": "TEXT_MESSAGE_START", "messageId": message, "role": "assistant"}
    yield {"type": "TOOL_CALL_START", "toolCallId": call, "toolCallName": "look"}
    for part in range(parts):
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": f"{number}.{part} "}
        yield {"type": "TOOL_CALL_ARGS", "toolCallId": call, "delta": f"[{part}]"}
    yield {"type": "STATE_DELTA", "delta": [{"op": "replace", "path": "/n", "value": number}]}
    yield {"type": "TOOL_CALL_END", "toolCallId": call}
    yield {"type": "TOOL_CALL_RESULT", "toolCallId": call, "messageId": f"{call}-r", "content": "ok"}
    yield {"type": "TEXT_MESSAGE_END", "messageId": message}


async def talk(input: RunAgentInput) -> AsyncIterator[Event]:
    """Take `turns` turns (by default until it is stopped), `pause` seconds before each."""
    properties = input.forwarded_props
    yield start_event(input)
    yield {"type": "STATE_SNAPSHOT", "snapshot": {"n": 0}}
    numbers: Iterable[int] = range(properties["turns"]) if "turns" in properties else itertools.count()
    for number in numbers:
        await asyncio.sleep(properties.get("pause", 0))
        for event in turn(input.run_id, number):
            yield event
    yield finish_event(input)


async def asking(input: RunAgentInput) -> AsyncIterator[Event]:
    """Ask for a decision and end; when run again, report the decision."""
    yield start_event(input)
    if input.resume:
        (answer,) = input.resume
        message = f"{input.run_id}-answer"
        yield {"type": "TEXT_MESSAGE_START", "messageId": message, "role": "assistant"}
        for word in (answer.interrupt_id, " ", answer.status):
            yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": word}
        yield {"type": "TEXT_MESSAGE_END", "messageId": message}
        yield finish_event(input)
    else:
        question = {"id": f"{input.run_id}-question", "reason": "confirmation"}
        yield finish_event(input, outcome={"type": "interrupt", "interrupts": [question]})


async def ticking(input: RunAgentInput) -> AsyncIterator[Event]:
    """Yield `rate` events of `size` bytes a second with the shared clock's nanoseconds."""
    rate, padding = input.forwarded_props["rate"], b"x" * input.forwarded_props["size"]
    yield start_event(input)
    began = time.monotonic()
    for number in itertools.count():
        await asyncio.sleep(began + number / rate - time.monotonic())
        yield b'{"type":"CUSTOM","name":"tick","value":"%d~%s"}' % (time.monotonic_ns(), padding)


async def bulky(input: RunAgentInput) -> AsyncIterator[Event]:
    """Yield messages of 10 KiB up to `kibibytes`; then end, or with `wait` stay until stopped."""
    yield start_event(input)
    for number in range(input.forwarded_props["kibibytes"] // 10):
        message = f"{input.run_id}-m{number}"
        yield {"type": "TEXT_MESSAGE_START", "messageId": message, "role": "assistant"}
        for _ in range(10):
            yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": "x" * KIB}
        yield {"type": "TEXT_MESSAGE_END", "messageId": message}
    yield {"type": "CUSTOM", "name": "said", "value": None}
    if input.forwarded_props.get("wait"):
        await asyncio.Event().wait()
    yield finish_event(input)


AGENTS = {"default": talk, "asking": asking, "ticking": ticking, "bulky": bulky}
