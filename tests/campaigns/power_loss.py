"""Power cuts at many places of recorded runs, with every unsynced write in doubt."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import agentrunner
from agentrunner import SqliteAgentRunner, SqliteStore
from campaigns import Campaign, Context, Outcome, disk, start
from campaigns.power import Disk
from campaigns.recorded import THREADS, build_records
from support.agents import agent_with

if TYPE_CHECKING:
    from pathlib import Path

    from agentrunner import AgentRunner, Event
    from campaigns.disk import Record

BARRIERS = {"RUN_STARTED", "TOOL_CALL_RESULT", "RUN_FINISHED", "RUN_ERROR"}
CUTS = 200
"""How many cuts are made of one recording."""
LOST_MS = 250
"""Milliseconds of a live run's events that `balanced` may lose."""
DEAF = "syncs_are_not_seen"
LATE_MS = 250
"""Milliseconds by which a busy machine may delay a thread or a sync."""


@dataclass(frozen=True)
class Shown:
    """An event a reader saw."""

    seq: int
    data: bytes
    at: int
    """Nanoseconds of the monotonic clock."""
    barrier: bool

    def __str__(self) -> str:
        return f"{self.seq}, {self.data[:60].decode(errors='replace')}…"


def run(context: Context) -> Outcome:
    outcome = Outcome({"cuts": 0, "corrupt": 0, "shown and lost, strict": 0, "barriers lost, balanced": 0})
    recordings = max(2, -(-context.rounds // CUTS))
    oldest = 0.0
    for number in range(recordings):
        strict = number % 2 == 0
        durability = "strict" if strict else "balanced"
        cuts = context.rounds // recordings + (number < context.rounds % recordings)
        records = record(context, durability)
        replayed = Disk(context.random, deaf=context.mutation == DEAF)
        shown: dict[str, list[Shown]] = {}
        done, written = 0, -1
        for cut in chosen(context, records, cuts):
            for each in records[done:cut]:
                replayed.replay(each)
                if each.kind == disk.SHOWN and each.file == THREADS:
                    written = each.offset
                elif each.kind == disk.SHOWN:
                    kind = json.loads(each.data)["type"]
                    seen = Shown(each.offset, each.data, each.nanoseconds, kind in BARRIERS)
                    shown.setdefault(f"t{each.file}", []).append(seen)
            done = cut
            folder = context.folder / "cut"
            folder.mkdir()
            replayed.cut(folder)
            what = f"{durability} recording {number}, cut at {cut} of {len(records)}"
            age = asyncio.run(examine(folder / "threads.db", shown, records[cut - 1], strict, what, outcome))
            oldest = max(oldest, age)
            asyncio.run(examine_records(folder / "threads.db", written, strict, what, outcome))
            shutil.rmtree(folder)
            outcome.count("cuts")
            context.tick()
    outcome.figures["oldest lost, balanced, ms"] = round(oldest)
    return outcome


def record(context: Context, durability: str) -> list[Record]:
    """Record a child's runs, and check that replaying the record gives the actual files."""
    folder = context.folder / "recorded"
    folder.mkdir()
    path, log = folder / "threads.db", context.folder / "disk.log"
    environment = disk.behind(path, log=log)
    # A short recording has one checkpoint, at its end; a long one has more.
    runs = 5 if context.rounds >= CUTS else 2
    arguments = (path, log, durability, runs, context.random.random())
    mutation = context.mutation if context.mutation != DEAF else None
    child = start("campaigns.recorded", *arguments, mutation=mutation, env=environment)
    if child.wait():
        raise RuntimeError(f"the recorded child ended with {child.returncode}")
    recording = list(disk.records(log))
    whole = Disk(context.random)
    for each in recording:
        whole.replay(each)
    for file in whole.now.values():
        file.sync()
    here = {file.name: file.read_bytes() for file in folder.iterdir()}
    if here != {name: bytes(file.synced) for name, file in whole.now.items()}:
        raise RuntimeError("the recording is not all that was written")
    shutil.rmtree(folder)
    log.unlink()
    return recording


def chosen(context: Context, records: list[Record], cuts: int) -> list[int]:
    """Choose where to cut: anywhere, around checkpoints, or while the file is created."""
    openings = [(each.file, each.data.endswith(b".db")) for each in records if each.kind == disk.OPENED]
    of_main = {file for file, main in openings if main}
    checkpoints = [n for n, each in enumerate(records) if each.kind != disk.SHOWN and each.file in of_main]
    places = []
    for _ in range(cuts):
        way = context.random.random()
        if way < 0.5:
            place = context.random.randrange(len(records))
        elif way < 0.9:
            place = context.random.choice(checkpoints) + context.random.randrange(-5, 30)
        else:
            place = context.random.randrange(80)
        places.append(min(max(place, 1), len(records)))
    return sorted(places)


async def examine(
    path: Path, shown: dict[str, list[Shown]], last: Record, strict: bool, what: str, outcome: Outcome
) -> float:
    """Open what a cut left, count its faults, and return the oldest lost event's age in ms."""
    began = time.monotonic()
    oldest = 0.0
    try:
        async with asyncio.timeout(60), SqliteAgentRunner(path) as runner:
            for thread in shown:
                next_input = {"threadId": thread, "runId": f"{thread}-after", "messages": []}
                ended = [event.type async for event in await runner.run(agent_with(), next_input)]
                if ended != ["RUN_STARTED", "RUN_FINISHED"]:
                    outcome.fail(f"{what}: thread {thread} takes no run: {ended}")
            outcome.recovery_seconds.append(time.monotonic() - began)
            report = await runner._store.inspect(fix=False)
            if not report.is_sound:
                outcome.count("corrupt")
                outcome.fail(f"{what}: {report}")
            for thread, events in shown.items():
                raw = {event.seq: bytes(event) for event in await journal(runner, thread)}
                history = await runner.threads.events(thread)
                agentrunner.verify(history)
                if agentrunner.fold(history) != agentrunner.fold(list(raw.values())):
                    outcome.count("corrupt")
                    outcome.fail(f"{what}: the stored events of thread {thread} differ from the recorded ones")
                lost = next((n for n, event in enumerate(events) if raw.get(event.seq) != event.data), len(events))
                if lost == len(events):
                    continue
                oldest = max(oldest, (last.nanoseconds - events[lost].at) / 1e6)
                barriers = sum(event.barrier for event in events[lost:])
                first = events[lost]
                if strict:
                    outcome.count("shown and lost, strict", len(events) - lost)
                    outcome.fail(f"{what}: {len(events) - lost} events of {thread} from {first} on were shown but lost")
                elif barriers:
                    outcome.count("barriers lost, balanced", barriers)
                    outcome.fail(f"{what}: {barriers} barriers of {thread}, from {first} on, were shown but lost")
    except (agentrunner.AgentRunnerError, TimeoutError) as error:
        outcome.count("corrupt")
        outcome.fail(f"{what}: {type(error).__name__}: {error}")
    if oldest > LOST_MS + LATE_MS:
        outcome.fail(f"{what}: an event shown {oldest:.0f} ms before the cut is lost")
    return oldest


async def examine_records(path: Path, written: int, strict: bool, what: str, outcome: Outcome) -> None:
    """Check that the records are those of the last write that returned, or of a later one."""
    store = SqliteStore(path)
    try:
        await store.open()
        stored = {record.key: record.value for record in await store.records(None, None, None, 100)}
    except agentrunner.StoreError as error:
        outcome.count("corrupt")
        outcome.fail(f"{what}: {type(error).__name__}: {error}")
        return
    finally:
        await store.aclose()
    last = int(stored.get("last", b"-1"))
    if last < written:
        outcome.count("shown and lost, strict" if strict else "barriers lost, balanced", written - last)
        outcome.fail(f"{what}: records were written up to {written}, but only those up to {last} are there")
    if stored != (build_records(last) if last >= 0 else {}):
        outcome.count("corrupt")
        outcome.fail(f"{what}: only some changes of write {last} are there: {stored}")


async def journal(runner: AgentRunner, thread: str) -> list[Event]:
    """Return a thread's raw events."""
    events: list[Event] = []
    while page := (await runner._store.journal(thread, len(events), None, 1 << 20)).frames.events():
        events += page
    return events


CAMPAIGN = Campaign(
    name="power_loss",
    promise="power loss",
    bar="0 corrupt; strict: 0 lost; balanced: 0 barriers lost, and at most 250 ms of a live run",
    backends=("sqlite",),
    small=16,
    full={"sqlite": 2000},
    run=run,
    mutations={
        DEAF: "fsync puts writes on the disk",
        "publish_before_commit": "readers see events only when they are durable",
        "nothing_is_a_barrier": "barriers must survive a power cut",
    },
)
