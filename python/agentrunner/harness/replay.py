"""Read a harness run's events from its record, and its deltas from the thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner._codec import decode
from agentrunner.harness.event_kinds import tool_error
from agentrunner.records.harness_runs import HarnessEvent

if TYPE_CHECKING:
    from agentrunner.records.harness_runs import Attempt, RunRecord
    from agentrunner.stores import Store, StoredRun

_DELTAS = {
    "TEXT_MESSAGE_CONTENT": "output.delta",
    "REASONING_MESSAGE_CONTENT": "reasoning.delta",
}
JOURNAL_PAGE_BYTES = 1 << 20


async def find_stored_attempt(store: Store, record: RunRecord, attempt: Attempt) -> StoredRun | None:
    """Return the finished AG-UI run of an attempt; `None` if the thread does not have it."""
    for run in await store.runs(record.thread_id, attempt.first_seq - 1, 1):
        if run.run_id == attempt.run_id:
            return run
    return None


async def read_attempt(store: Store, record: RunRecord, attempt: Attempt) -> list[dict[str, Any]]:
    """Return an attempt's AG-UI events, compacted if it has ended."""
    run = await find_stored_attempt(store, record, attempt)
    if run is not None:
        return list(decode(run.events))
    is_live = any(claim.run_id == attempt.run_id for claim, _ in await store.live(record.thread_id))
    if not is_live and (run := await find_stored_attempt(store, record, attempt)) is not None:
        # It has ended between the two reads.
        return list(decode(run.events))
    events: list[dict[str, Any]] = []
    after = attempt.first_seq - 1
    while is_live:
        page = await store.journal(record.thread_id, after, None, JOURNAL_PAGE_BYTES)
        frames = page.frames.events()
        if not frames or frames[-1].seq is None:
            break
        events += [event.to_dict() for event in frames]
        after = frames[-1].seq
    return events


async def replay(store: Store, record: RunRecord, after: int) -> list[HarnessEvent]:
    """Return a harness run's events after a number, deltas included.

    Compacted deltas have the first numbers of the gap that they fill.
    """
    events = record.events_after(after)
    numbers = [event.seq for event in record.events]
    for attempt in record.attempt_runs:
        seq = attempt.after
        end = next((number for number in numbers if number > seq), None)
        if end is not None and end - 1 <= max(seq, after):
            # The attempt has no deltas, or the caller has them all.
            continue
        for event in await read_attempt(store, record, attempt):
            event_type = _DELTAS.get(event["type"])
            if event_type is None or (end is not None and seq + 1 >= end):
                continue
            seq += 1
            if seq > after:
                data = {"text": event["delta"], "message_id": event.get("messageId")}
                events.append(
                    HarnessEvent(event_type, record.run_id, record.thread_id, seq, record.updated_at, data)  # type: ignore[arg-type]
                )
    return sorted(events, key=lambda event: event.seq)


async def read_text(store: Store, record: RunRecord) -> str:
    """Return the text of the last attempt, or its tools' errors if it has no text."""
    if not record.attempt_runs:
        return ""
    events = await read_attempt(store, record, record.attempt_runs[-1])
    text = "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")
    if text:
        return text
    results = [event for event in events if event["type"] == "TOOL_CALL_RESULT"]
    return "\n".join(error for error in map(tool_error, results) if error is not None)
