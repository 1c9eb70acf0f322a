"""A run's events as they can be asked for later: its life from the record, its deltas from the thread."""

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
PIECE = 1 << 20


async def stored_segment(store: Store, record: RunRecord, segment: Attempt) -> StoredRun | None:
    """Give the finished AG-UI run of a segment, if the thread has it still."""
    for run in await store.runs(record.thread_id, segment.first_seq - 1, 1):
        if run.run_id == segment.run_id:
            return run
    return None


async def segment_events(store: Store, record: RunRecord, segment: Attempt) -> list[dict[str, Any]]:
    """Give a segment's AG-UI events: compacted where it has ended, as they came while it is live."""
    run = await stored_segment(store, record, segment)
    if run is not None:
        events: list[dict[str, Any]] = decode(run.events)
        return events
    live = [claim for claim, _ in await store.live(record.thread_id) if claim.run_id == segment.run_id]
    found: list[dict[str, Any]] = []
    after = segment.first_seq - 1
    if not live and (run := await stored_segment(store, record, segment)) is not None:
        # It has ended between the two looks.
        return list(decode(run.events))
    while live:
        page = await store.journal(record.thread_id, after, None, PIECE)
        frames = page.frames.events()
        if not frames or frames[-1].seq is None:
            break
        found += [event.to_dict() for event in frames]
        after = frames[-1].seq
    return found


async def replay(store: Store, record: RunRecord, after: int) -> list[HarnessEvent]:
    """Give a run's events behind a sequence number. Compacted deltas have the first numbers of their gap."""
    events = [event for event in record.events if event.seq > after]
    bounds = [event.seq for event in record.events]
    for segment in record.attempt_runs:
        seq = segment.after
        end = next((bound for bound in bounds if bound > seq), None)
        if end is not None and end - 1 <= max(seq, after):
            # None were counted, or all have been seen.
            continue
        for event in await segment_events(store, record, segment):
            kind = _DELTAS.get(event["type"])
            if kind is None or (end is not None and seq + 1 >= end):
                continue
            seq += 1
            if seq > after:
                data = {"text": event["delta"], "message_id": event.get("messageId")}
                events.append(
                    HarnessEvent(kind, record.run_id, record.thread_id, seq, record.updated_at, data)  # type: ignore[arg-type]
                )
    return sorted(events, key=lambda event: event.seq)


async def said(store: Store, record: RunRecord) -> str:
    """Give what the agent said in the run's last segment; if it said nothing and tools failed, what those said."""
    if not record.attempt_runs:
        return ""
    events = await segment_events(store, record, record.attempt_runs[-1])
    text = "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")
    if text:
        return text
    results = [event for event in events if event["type"] == "TOOL_CALL_RESULT"]
    return "\n".join(error for error in map(tool_error, results) if error is not None)
