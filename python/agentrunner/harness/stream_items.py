"""A run as `stream_events` yields it: AG-UI's events and the harness's in one order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentrunner.harness.event_kinds import result_text
from agentrunner.harness.listeners import Subscription
from agentrunner.harness.types import ItemKind, ItemListener, Listeners, StreamItem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentrunner._core import Event
    from agentrunner.harness.supervised_run import SupervisedRun
    from agentrunner.reading.stream import EventStream

KINDS: dict[str, ItemKind] = {
    "TEXT_MESSAGE_CONTENT": "content",
    "REASONING_MESSAGE_CONTENT": "reasoning",
    "STEP_STARTED": "step",
    "STEP_FINISHED": "step",
    "TOOL_CALL_RESULT": "tool_result",
}
GRACE = 1.0
"""Seconds a run's own listeners have to take in the rest when it is over."""


async def items(segment: SupervisedRun, stream: EventStream) -> AsyncIterator[StreamItem]:
    """Yield what happens in a run, as it becomes durable: first how it begins, then what it says, then how it ends."""
    told = 0

    def life(until: int | None) -> list[StreamItem]:
        nonlocal told
        if segment.life is None:
            return []
        new = [event for event in segment.life.events[told:] if until is None or event.seq <= until]
        told += len(new)
        return [StreamItem("lifecycle", event.run_id, "", event) for event in new]

    reading = asyncio.ensure_future(_next(stream))
    try:
        while not reading.done():
            news = segment.life.news if segment.life is not None else segment.admitted
            if segment.life is not None:
                news.clear()
            for item in life(segment.first_said):
                yield item
            changed = asyncio.ensure_future(news.wait())
            await asyncio.wait([reading, changed], return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
        for item in life(segment.first_said):
            yield item
        event = await reading
        while event is not None:
            if (kind := KINDS.get(event.type)) is not None:
                yield _item(segment, kind, event.to_dict())
            event = await _next(stream)
    finally:
        reading.cancel()
    if segment.began:
        await segment.done.wait()
    for item in life(None):
        yield item


async def _next(stream: EventStream) -> Event | None:
    return await anext(stream, None)


def _item(segment: SupervisedRun, kind: ItemKind, event: dict[str, Any]) -> StreamItem:
    if kind == "step":
        text = event.get("stepName", "")
    elif kind == "tool_result":
        text = result_text(event)
    else:
        text = event["delta"]
    return StreamItem(kind, segment.record.run_id if segment.record is not None else segment.run_id, text, event)


async def dispatch(stream: AsyncIterator[StreamItem], listeners: Listeners) -> None:
    """Tell each listener the items of its kind; at the end they have a moment to take in the rest."""
    told: dict[str, list[Subscription[StreamItem]]] = {}
    for kind, given in listeners.items():
        of_kind: list[ItemListener] = list(given) if isinstance(given, (list, tuple)) else [given]  # type: ignore[list-item]
        told[kind] = [Subscription(listener) for listener in of_kind]
    async for item in stream:
        for subscription in told.get(item.kind, ()):
            subscription.offer(item)
    waiting = [asyncio.ensure_future(each.told()) for of_kind in told.values() for each in of_kind]
    if waiting:
        await asyncio.wait(waiting, timeout=GRACE)
        for each in waiting:
            each.cancel()
