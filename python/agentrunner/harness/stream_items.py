"""The items of `Harness.stream_events`: AG-UI and harness events in one order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentrunner.harness.event_kinds import result_text
from agentrunner.harness.listeners import ListenerSubscription
from agentrunner.harness.types import ItemKind, ItemListener, Listeners, StreamItem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentrunner._core import Event
    from agentrunner.harness.supervised_run import SupervisedRun
    from agentrunner.reading.stream import EventStream

ITEM_KINDS: dict[str, ItemKind] = {
    "TEXT_MESSAGE_CONTENT": "content",
    "REASONING_MESSAGE_CONTENT": "reasoning",
    "STEP_STARTED": "step",
    "STEP_FINISHED": "step",
    "TOOL_CALL_RESULT": "tool_result",
}
LISTENER_GRACE_SECONDS = 1.0
"""Seconds that a run's own listeners get for the last items after the run is over."""


async def iterate_items(attempt: SupervisedRun, stream: EventStream) -> AsyncIterator[StreamItem]:
    """Yield the items of an attempt in the order in which they become durable."""
    yielded = 0

    def lifecycle_items(until: int | None) -> list[StreamItem]:
        nonlocal yielded
        if attempt.writer is None:
            return []
        events = [event for event in attempt.writer.events[yielded:] if until is None or event.seq <= until]
        yielded += len(events)
        return [StreamItem("lifecycle", event.run_id, "", event) for event in events]

    reading = asyncio.ensure_future(_next(stream))
    try:
        while not reading.done():
            has_news = attempt.writer.has_news if attempt.writer is not None else attempt.admitted
            if attempt.writer is not None:
                has_news.clear()
            for item in lifecycle_items(attempt.first_output_after):
                yield item
            waiting = asyncio.ensure_future(has_news.wait())
            await asyncio.wait([reading, waiting], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        for item in lifecycle_items(attempt.first_output_after):
            yield item
        event = await reading
        while event is not None:
            if (kind := ITEM_KINDS.get(event.type)) is not None:
                yield _item(attempt, kind, event.to_dict())
            event = await _next(stream)
    finally:
        reading.cancel()
    if attempt.has_begun:
        await attempt.done.wait()
    for item in lifecycle_items(None):
        yield item


async def _next(stream: EventStream) -> Event | None:
    return await anext(stream, None)


def _item(attempt: SupervisedRun, kind: ItemKind, event: dict[str, Any]) -> StreamItem:
    if kind == "step":
        text = event.get("stepName", "")
    elif kind == "tool_result":
        text = result_text(event)
    else:
        text = event["delta"]
    return StreamItem(kind, attempt.record.run_id if attempt.record is not None else attempt.run_id, text, event)


async def dispatch(stream: AsyncIterator[StreamItem], listeners: Listeners) -> None:
    """Call each listener with the items of its kind, and wait briefly for the last calls."""
    by_kind: dict[str, list[ListenerSubscription[StreamItem]]] = {}
    for kind, value in listeners.items():
        of_kind: list[ItemListener] = list(value) if isinstance(value, (list, tuple)) else [value]  # type: ignore[list-item]
        by_kind[kind] = [ListenerSubscription(listener) for listener in of_kind]
    async for item in stream:
        for subscription in by_kind.get(item.kind, ()):
            subscription.offer(item)
    draining = [asyncio.ensure_future(each.drain()) for of_kind in by_kind.values() for each in of_kind]
    if draining:
        await asyncio.wait(draining, timeout=LISTENER_GRACE_SECONDS)
        for each in draining:
            each.cancel()
