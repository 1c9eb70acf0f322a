"""One file, two writers: this runner and the TypeScript runner replay each other's runs.

Python's own sqlite3 looks at the file in other processes only: two copies of SQLite in one process break its locks.
"""

import json
import shutil
from pathlib import Path

import pytest

import agentrunner
from agentrunner import SqliteAgentRunner
from support.paths import TYPESCRIPT_SAMPLE as SAMPLE
from support.typescript_file import CHAIN, add_row, elsewhere


async def agent(about):
    call = f"call-{about.run_id}"
    yield {"type": "RUN_STARTED", "threadId": about.thread_id, "runId": about.run_id}
    yield {"type": "TEXT_MESSAGE_START", "messageId": f"m-{about.run_id}", "role": "assistant"}
    for delta in ("one ", "two ", "\U0001f642"):
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": f"m-{about.run_id}", "delta": delta}
    yield {"type": "TOOL_CALL_START", "toolCallId": call, "toolCallName": "look"}
    yield {"type": "TOOL_CALL_END", "toolCallId": call}
    yield {"type": "TOOL_CALL_RESULT", "toolCallId": call, "messageId": f"{call}-r", "content": "ok"}
    yield {"type": "TEXT_MESSAGE_END", "messageId": f"m-{about.run_id}"}
    yield {"type": "RUN_FINISHED", "threadId": about.thread_id, "runId": about.run_id}


def make_run_input(thread: str, run: str, *ids: str) -> dict:
    messages = [{"id": name, "role": "user", "content": name} for name in ids]
    return {"threadId": thread, "runId": run, "messages": messages}


async def collect(stream) -> list[agentrunner.Event]:
    return [event async for event in stream]


@pytest.fixture
def sample(tmp_path):
    return Path(shutil.copy(SAMPLE, tmp_path / "sample.db"))


async def test_this_runner_replays_what_the_typescript_runner_wrote(sample):
    rows = elsewhere(sample, "SELECT thread_id, run_id, events FROM agent_runs ORDER BY id")
    threads: dict[str, list] = {}
    for thread, run, events in rows:
        for event in json.loads(events):
            if event == {"type": "RUN_FINISHED"}:  # a stopped run's, which clients refuse bare
                event |= {"threadId": thread, "runId": run}
            threads.setdefault(thread, []).append(event)
    assert threads
    async with SqliteAgentRunner(sample) as runner:
        for thread, events in threads.items():
            replayed = await collect(await runner.connect(thread))
            assert [event.to_dict() for event in replayed] == events
            behind = await collect(await runner.connect(thread, after=replayed[0].cursor))
            assert [event.to_dict() for event in behind] == events[1:]
        assert {one.thread_id for one in await runner.threads.list()} == set(threads)
        assert (await runner._store.inspect(fix=False)).integrity == "ok"


async def test_stuck_threads_of_the_typescript_runner_are_freed(sample):
    stuck = [row[0] for row in elsewhere(sample, "SELECT thread_id FROM run_state WHERE is_running <> 0")]
    assert len(stuck) == 2
    async with SqliteAgentRunner(sample) as runner:
        for n, thread in enumerate(stuck):
            assert not await runner.is_running(thread)
            assert len(await collect(await runner.run(agent, make_run_input(thread, f"after-{n}")))) == 10
    assert elsewhere(sample, "SELECT count(*) FROM run_state WHERE is_running <> 0") == [[0]]


async def test_the_typescript_runner_replays_what_this_runner_wrote(tmp_path):
    path = tmp_path / "threads.db"
    async with SqliteAgentRunner(path) as runner:
        for n in range(6):
            await collect(await runner.run(agent, make_run_input("t", f"r{n}", f"u{n}")))
            await collect(await runner.run(agent, make_run_input("other", f"o{n}")))
        history = await collect(await runner.connect("t"))
        # While it is open here too.
        rows = elsewhere(path, CHAIN, "t")
        replayed = [event for (events,) in rows for event in json.loads(events)]
        assert len(rows) == 6
        assert replayed == [event.to_dict() for event in history]
        running = "SELECT is_running, current_run_id FROM run_state WHERE thread_id = 't'"
        assert elsewhere(path, running) == [[0, None]]
        assert elsewhere(path, "SELECT max(version) FROM schema_version") == [[1]]


async def test_a_row_added_meanwhile_is_shown_and_its_ids_are_known(tmp_path):
    path = tmp_path / "threads.db"
    theirs = [
        {
            "type": "RUN_STARTED",
            "threadId": "t",
            "runId": "ts",
            "input": {"threadId": "t", "runId": "ts", "messages": [{"id": "said", "role": "user", "content": "hello"}]},
        },
        {"type": "TEXT_MESSAGE_START", "messageId": "answered", "role": "assistant"},
        {"type": "TEXT_MESSAGE_END", "messageId": "answered"},
        {"type": "RUN_FINISHED", "threadId": "t", "runId": "ts"},
    ]
    async with SqliteAgentRunner(path) as runner:
        await collect(await runner.run(agent, make_run_input("t", "r1", "first")))
        before = await collect(await runner.connect("t"))
        add_row(path, "t", "ts", "r1", json.dumps(theirs))
        shown = await collect(await runner.connect("t"))
        assert [event.to_dict() for event in shown[len(before) :]] == theirs
        behind = await collect(await runner.connect("t", after=before[-1].cursor))
        assert [event.to_dict() for event in behind] == theirs
        started = (
            await collect(await runner.run(agent, make_run_input("t", "r2", "first", "said", "answered", "new")))
        )[0]
        assert [message["id"] for message in started.to_dict()["input"]["messages"]] == ["new"]
        with pytest.raises(agentrunner.RunAlreadyExists):
            await runner.run(agent, make_run_input("t", "ts"))


@pytest.mark.parametrize("events", ["", "null", "{}", "[1,", '[{"type":', "not json", '[{"type":"A"}]x'])
async def test_only_the_corrupt_row_is_lost(tmp_path, events):
    path = tmp_path / "threads.db"
    async with SqliteAgentRunner(path) as runner:
        first = await collect(await runner.run(agent, make_run_input("t", "r1")))
        add_row(path, "t", "broken", "r1", events)
        await collect(await runner.run(agent, make_run_input("t", "r2")))
        history = await collect(await runner.connect("t"))
        agentrunner.verify(history)
        runs = [event.to_dict()["runId"] for event in history if event.type == "RUN_STARTED"]
        assert runs == ["r1", "r2"]
        behind = await collect(await runner.connect("t", after=first[-1].cursor))
        assert [event.to_dict()["runId"] for event in behind if event.type == "RUN_STARTED"] == ["r2"]
        assert (await runner._store.inspect(fix=False)).corrupt == [("t", "broken")]
