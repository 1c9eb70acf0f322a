"""Write a run's input as JSON, in slices between which other tasks get their turn."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentrunner._codec import dump, dump_model, encode, encode_fields
from agentrunner.errors import InvalidEvent
from agentrunner.running.offload import run_in_thread

if TYPE_CHECKING:
    from ag_ui.core import RunAgentInput

SLICE_ITEMS = 250
"""Messages and parts of messages that are worked on at once, which takes about a millisecond."""
SLICE_VALUES = 1000
"""Values of a wide field that are written at once."""
PART_LISTS = ("content", "toolCalls", "tool_calls")
"""Fields of a message that may be lists."""
ANY_FIELDS = {"state": b"state", "forwarded_props": b"forwardedProps", "metadata": b"metadata"}
"""Fields of an input and of a message that hold any JSON, and their names in JSON."""


def slice_messages(messages: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield slices of messages, each with about `SLICE_ITEMS` messages and parts."""
    start = weight = 0
    for end, message in enumerate(messages, 1):
        weight += 1
        for name in PART_LISTS:
            items = message.get(name) if isinstance(message, Mapping) else getattr(message, name, None)
            if isinstance(items, (list, tuple)):
                weight += len(items)
        if weight >= SLICE_ITEMS:
            yield messages[start:end]
            start, weight = end, 0
    if start < len(messages):
        yield messages[start:]


async def encode_input(model: RunAgentInput) -> bytes:
    """Return the JSON of an input. Raises `InvalidEvent`."""
    slices = slice_messages(model.messages)
    first_slice = next(slices, ())
    if len(first_slice) == len(model.messages) and not any(map(_find_wide_fields, (model, *first_slice))):
        return await _encode_part(model, set())
    head = (await _encode_part(model, {"messages"}))[:-1]
    written = []
    for messages_slice in itertools.chain([first_slice], slices) if first_slice else ():
        await asyncio.sleep(0)
        written.append(await _encode_messages(messages_slice))
    return b'%b,"messages":[%b]}' % (head, b",".join(written))


async def _encode_part(model: Any, exclude: set[str]) -> bytes:
    """Return the JSON of an input or a message without some of its fields."""
    wide_fields = _find_wide_fields(model)
    try:
        data = bytearray(dump_model(model, exclude | wide_fields.keys()))
        for name, value in wide_fields.items():
            data[-1:] = b',"%b":%b}' % (ANY_FIELDS[name], await _encode_wide(value))
    except (TypeError, ValueError, InvalidEvent):
        # Values that pydantic cannot write, such as lone surrogates, take a slower way.
        return await run_in_thread(encode_fields, model, exclude)
    return bytes(data)


async def _encode_messages(messages: Sequence[Any]) -> bytes:
    if any(map(_find_wide_fields, messages)):
        return b",".join([await _encode_part(message, set()) for message in messages])
    try:
        return b",".join(map(dump_model, messages))
    except (TypeError, ValueError, AttributeError):
        return await run_in_thread(lambda: b",".join(map(encode, messages)))


def _find_wide_fields(model: Any) -> dict[str, Any]:
    """Return the fields that hold so many values that pydantic would take long."""
    # pydantic's models keep their fields there, and asking for one that a model lacks would take longer.
    fields = model.__dict__
    return {name: fields[name] for name in ANY_FIELDS if name in fields and _is_wide(fields[name])}


def _is_wide(value: object) -> bool:
    """Return whether there are more than `SLICE_VALUES` values in a value."""
    stack, count = [value], 0
    while stack:
        part = stack.pop()
        if isinstance(part, (dict, list)):
            count += len(part)
            if count > SLICE_VALUES:
                return True
            stack.extend(part.values() if isinstance(part, dict) else part)
    return False


async def _encode_wide(value: dict[Any, Any] | list[Any]) -> bytes:
    """Return the JSON of a dict or list, written some items at a time."""
    items: list[Any] = list(value.items()) if isinstance(value, dict) else value
    slices = []
    for start in range(0, len(items), SLICE_VALUES):
        await asyncio.sleep(0)
        part = items[start : start + SLICE_VALUES]
        slices.append(dump(dict(part) if isinstance(value, dict) else part)[1:-1])
    return (b"{%b}" if isinstance(value, dict) else b"[%b]") % b",".join(slices)
