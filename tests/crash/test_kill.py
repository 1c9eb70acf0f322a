"""kill -9 at random moments: nothing a reader saw is lost, nothing is doubled, no thread stays locked."""

import asyncio
import collections
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import agentrunner

CHILD = Path(__file__).parent / "child.py"
KILLS = 100
THREADS = 3


def start(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, CHILD, *map(str, arguments)], stdout=subprocess.PIPE)


def kill_soon(child: subprocess.Popen[bytes], delay: float) -> None:
    """Kill a child that has shown its first event, somewhere in the middle of its work."""
    assert child.stdout is not None
    assert os.read(child.stdout.fileno(), 1) == b"."
    time.sleep(delay)  # the random moment itself, not a wait for anything
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()


def seen(log: Path) -> dict[tuple[str, str], list[tuple[str, bytes]]]:
    """What each reader told: whole lines only, the kill may have cut the last."""
    found = collections.defaultdict(list)
    for line in log.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            kind, thread, cursor, event = line[:-1].split(b"\t", 3)
            found[kind.decode(), thread.decode()].append((cursor.decode(), event))
    return found


async def successor(given):
    yield {"type": "RUN_STARTED", "threadId": given.thread_id, "runId": given.run_id}
    yield {"type": "RUN_FINISHED", "threadId": given.thread_id, "runId": given.run_id}


async def journal(runner: agentrunner.AgentRunner, thread: str) -> list[agentrunner.Event]:
    events: list[agentrunner.Event] = []
    while page := (await runner._store.journal(thread, len(events), None, 1 << 20)).frames.events():
        events += page
    return events


async def check(path: Path, log: Path, threads: list[str], killed_at: float) -> int:
    async with agentrunner.SqliteAgentRunner(path) as runner:
        claimed = [
            await runner.run(successor, {"threadId": thread, "runId": f"{thread}-next", "messages": []})
            for thread in threads
            if (await runner._store.journal(thread, 0, None, 1)).frames
        ]
        assert time.monotonic() - killed_at < 1
        for stream in claimed:
            assert [event.type async for event in stream] == ["RUN_STARTED", "RUN_FINISHED"]
        shown = 0
        for (kind, thread), told in seen(log).items():
            shown += len(told)
            raw = await journal(runner, thread)
            assert [event.seq for event in raw] == list(range(1, len(raw) + 1))
            interrupted = raw[:-2]
            if kind == "early":
                assert told == [(event.cursor, bytes(event)) for event in raw[: len(told)]]
            else:
                by_cursor = {event.cursor: bytes(event) for event in raw}
                tail = [(cursor, event) for cursor, event in told if "." not in cursor]
                assert tail == [(cursor, by_cursor[cursor]) for cursor, _ in tail]
                prefix = [cursor for cursor, _ in told if "." in cursor]
                upto = int(prefix[0].split(".")[0]) if prefix else 0
                assert [int(cursor) for cursor, _ in tail] == list(range(upto + 1, upto + 1 + len(tail)))
            assert len(told) < len(raw)
            assert sum(event.type in {"RUN_FINISHED", "RUN_ERROR"} for event in interrupted) == 1
            end = interrupted[-1].to_dict()
            assert (end["type"], end["code"]) == ("RUN_ERROR", "INTERRUPTED")
            history = await runner.threads.events(thread)
            agentrunner.verify(history)
            assert agentrunner.fold(history) == agentrunner.fold(raw)
            resumed = [event async for event in await runner.connect(thread, after="0")]
            assert [bytes(event) for event in resumed] == [bytes(event) for event in history]
        return shown


def test_kill(tmp_path):
    moments = random.Random(20260)  # noqa: S311 - to be the same each time
    path = tmp_path / "threads.db"
    shown = 0
    jobs = [([f"t{n}-{k}" for k in range(THREADS)], tmp_path / f"log{n}") for n in range(KILLS)]
    for threads, log in jobs:
        child = start(path, log, *threads)
        kill_soon(child, moments.uniform(0, 0.06))
        shown += asyncio.run(check(path, log, threads, time.monotonic()))
    assert shown > KILLS * 10
    assert asyncio.run(integrity(path)) == "ok"


async def integrity(path: Path) -> str:
    async with agentrunner.SqliteAgentRunner(path) as runner:
        report = await runner._store.inspect(fix=False)
    assert report[4:] == ([], [], [], [])
    return report[0]
