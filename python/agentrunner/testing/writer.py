"""Runs that a test writes and reads itself, method by method, without a runner."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

import orjson

from agentrunner import _core
from agentrunner.testing.checks import check

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentrunner._core import Claim, Event
    from agentrunner.stores import Cursor, Store

READ_BYTES = 1 << 20
RECORDER_LIMITS: dict[str, Any] = {
    "event_bytes": 64 << 20,
    "id_bytes": 1 << 20,
    "window_bytes": 1 << 20,
    "pending_bytes": 64 << 20,
}


def text(message_id: str, *deltas: str) -> list[dict[str, Any]]:
    """Return the events of a text message."""
    return [
        {"type": "TEXT_MESSAGE_START", "messageId": message_id, "role": "assistant"},
        *({"type": "TEXT_MESSAGE_CONTENT", "messageId": message_id, "delta": delta} for delta in deltas),
        {"type": "TEXT_MESSAGE_END", "messageId": message_id},
    ]


def make_run_input(thread_id: str, run_id: str, message_ids: Iterable[str] = ()) -> dict[str, Any]:
    """Return a run's input with one user message for each id."""
    messages = [{"id": message_id, "role": "user", "content": "said"} for message_id in message_ids]
    return {"threadId": thread_id, "runId": run_id, "messages": messages, "tools": [], "context": []}


async def claim(
    store: Store,
    thread_id: str,
    run_id: str,
    message_ids: Iterable[str] = (),
    *,
    agent_id: str | None = None,
    scope: str | None = None,
) -> tuple[Claim, dict[str, int]]:
    """Claim a thread for a run whose input has these messages."""
    ids = list(message_ids)
    run_input = orjson.dumps(make_run_input(thread_id, run_id, ids)).decode()
    return await store.claim(thread_id, run_id, run_input, agent_id, ids, scope)


class Writer:
    """A run that a test writes under its claim; each method returns when the store has it."""

    def __init__(self, store: Store, claim: Claim, known: Iterable[str] = ()) -> None:
        self.store = store
        self.claim = claim
        self.recorder = _core.Recorder(
            claim.thread_id, claim.run_id, claim.input, set(known), claim.first_seq, **RECORDER_LIMITS
        )

    async def write(self, *events: dict[str, Any]) -> None:
        """Append events in one batch."""
        for event in events:
            self.recorder.accept(orjson.dumps(event))
        await self.append()

    async def append(self) -> None:
        """Append the recorded events that are pending."""
        taken = self.recorder.take()
        if taken is not None:
            await self.store.append(self.claim, *taken)
            self.recorder.publish()

    async def end(self, *, stored: bool = True) -> None:
        """End the run in order, closing what is open, and finish it."""
        if not self.recorder.ended:
            self.recorder.finalize(stop_requested=True)
        await self.append()
        await self.finish(stored=stored)

    async def finish(self, *, stored: bool = True) -> None:
        """Finish the run, whose events have all been appended."""
        await self.store.finish(self.claim, self.recorder, stored)

    async def replay(self) -> Self:
        """Replay the journal of a run that was taken over."""
        while True:
            page = await self.store.journal(self.claim.thread_id, self.recorder.last_seq, None, READ_BYTES)
            if not len(page.frames):
                return self
            self.recorder.replay(page.frames)


async def begin(store: Store, thread_id: str, run_id: str, message_ids: Iterable[str] = (), **who: Any) -> Writer:
    """Claim a thread and write the run's RUN_STARTED."""
    writer = Writer(store, *await claim(store, thread_id, run_id, message_ids, **who))
    await writer.write({"type": "RUN_STARTED", "threadId": thread_id, "runId": run_id})
    return writer


async def store_run(store: Store, thread_id: str, run_id: str, message_ids: Iterable[str] = (), **who: Any) -> Writer:
    """Store a whole run of five events with one assistant message, `m-<run id>`."""
    writer = await begin(store, thread_id, run_id, message_ids, **who)
    await writer.write(*text(f"m-{run_id}", "word"), {"type": "RUN_FINISHED", "threadId": thread_id, "runId": run_id})
    await writer.finish()
    return writer


async def fall_silent(store: Store, claim: Claim) -> None:
    """Stop extending the lease of a claim, as if its process were stopped."""
    # A store that extends no lease by itself need not have this method.
    if hasattr(store, "release"):
        await store.release(claim)


async def wait_and_recover(store: Store, thread_id: str | None = None) -> list[Claim]:
    """Call `recover` until it returns a run, at the latest when its lease has ended."""
    while not (claims := await store.recover(thread_id)):  # noqa: ASYNC110 - nothing tells when a lease ends
        await asyncio.sleep(0.02)
    return claims


async def read_journal(
    store: Store, thread_id: str, after: int = 0, until: int | None = None, limit: int = READ_BYTES
) -> list[Event]:
    """Read the journal page by page."""
    all_events: list[Event] = []
    while True:
        events = (await store.journal(thread_id, after, until, limit)).frames.events()
        if not events:
            return all_events
        last = events[-1].seq
        check(last is not None and last > after, "return only raw frames after `after`")
        all_events += events
        after = last or after


async def history(
    store: Store, thread_id: str, after: Cursor = (0, None), until: int | None = None, limit: int = READ_BYTES
) -> list[Event]:
    """Read the stored runs page by page."""
    all_events: list[Event] = []
    position: Cursor | None = after
    while position is not None:
        page = await store.history(thread_id, position, until, limit)
        all_events += page.frames.events()
        check(page.next is None or page.next > position, "`next` must be after the page's last run")
        position = page.next
    return all_events


def lines(events: Iterable[Event]) -> list[tuple[str | None, bytes]]:
    """Return the cursor and the JSON of each event, for comparisons."""
    return [(event.cursor, bytes(event)) for event in events]
