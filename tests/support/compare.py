"""Comparison of what readers were shown with what is stored."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, NamedTuple

import agentrunner
from agentrunner import _core
from campaigns import complete_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from agentrunner import AgentRunner, Event
    from campaigns import Outcome

MIB = 1 << 20


class Shown(NamedTuple):
    """An event as a reader saw it."""

    cursor: str
    event: bytes
    at: float = 0.0
    """When, on the clock all processes share, in seconds."""


def readers(log: Path) -> dict[tuple[str, str], list[Shown]]:
    """Return what each reader logged, by its kind and thread."""
    logs = collections.defaultdict(list)
    for line in complete_lines(log):
        kind, thread, cursor, at, event = line.split(b"\t", 4)
        logs[kind.decode(), thread.decode()].append(Shown(cursor.decode(), event, int(at) / 1e9))
    return logs


def list_shown(events: Iterable[Event]) -> list[Shown]:
    """Return what a reader in this process saw."""
    return [Shown(event.cursor or "", bytes(event)) for event in events]


async def journal(runner: AgentRunner, thread: str) -> list[Event]:
    """Return the raw events of all runs of a thread."""
    store = await runner.open()
    events: list[Event] = []
    while page := (await store.journal(thread, events[-1].seq or 0 if events else 0, None, MIB)).frames.events():
        events += page
    return events


def dense(outcome: Outcome, thread: str, raw: Sequence[Event]) -> None:
    """Check that a thread's raw events are numbered without a gap."""
    if [event.seq for event in raw] != list(range(1, len(raw) + 1)):
        outcome.fail(f"{thread}: the journal is numbered {[event.seq for event in raw][:50]}")
        outcome.count("gaps")


def compare(outcome: Outcome, who: str, told: Sequence[Shown], raw: Sequence[Event]) -> None:
    """Check that a first run's reader saw the start of what is stored, each event once.

    `raw`: the run's raw events. The reader may have started with the compacted events of what there was at that time.
    """
    if told and told[-1].event.endswith((b'"code":"LEASE_LOST"}', b'"code":"STORE_ERROR"}')):
        # The last event for readers of a run whose lease or store is lost is in no store.
        told = told[:-1]
    compacted = [each for each in told if "." in each.cursor]
    upto = int(compacted[0].cursor.partition(".")[0]) if compacted else 0
    form = _form(raw, upto) if compacted else []
    if len(told) > len(compacted):
        # A reader gets raw events only after all compacted ones.
        compacted += [Shown("(missing)", b"")] * (len(form) - len(compacted))
    expected = [*form[: len(compacted)], *list_shown(raw[upto : upto + len(told) - len(compacted)])]
    outcome.count("events shown", len(told))
    if len(expected) == len(told) and all(a[:2] == b[:2] for a, b in zip(told, expected, strict=True)):
        return
    stored = set(list_shown(raw)) | set(form)
    lost = sum(each._replace(at=0.0) not in stored for each in told)
    doubled = len(told) - len({each.cursor for each in told})
    outcome.count("lost", lost)
    outcome.count("doubled", doubled)
    outcome.count("gaps", not lost and not doubled)
    first = next((n for n, (a, b) in enumerate(zip(told, expected, strict=False)) if a[:2] != b[:2]), len(expected))
    outcome.fail(
        f"{who}: shown {len(told)}, stored {len(raw)}, lost {lost}, doubled {doubled}; they differ from {first} on: "
        f"{[each[:2] for each in told[first : first + 2]]} and {[each[:2] for each in expected[first : first + 2]]}"
    )


def _form(raw: Sequence[Event], upto: int) -> list[Shown]:
    """Return a run compacted up to a sequence number."""
    frames = b"".join(b"id: %d\ndata: %s\n\n" % (event.seq, bytes(event)) for event in raw[:upto])
    return list_shown(_core.recompact([_core.Frames(frames)], upto, 0).events())


async def same_folded(outcome: Outcome, runner: AgentRunner, thread: str, raw: Sequence[Event]) -> None:
    """Check that what a late reader gets is valid and has the same meaning as the raw events."""
    history = await runner.threads.events(thread)
    try:
        agentrunner.verify(history)
    except agentrunner.InvalidEventSequence as error:
        outcome.fail(f"{thread}: what is stored cannot be replayed: {error}")
    if agentrunner.fold(history) != agentrunner.fold(raw):
        outcome.fail(f"{thread}: compacted it does not mean what the raw events do")


def is_interrupted(event: Event) -> bool:
    """Whether a run ends with this event if its process was killed."""
    return event.type == "RUN_ERROR" and event.to_dict().get("code") == "INTERRUPTED"
