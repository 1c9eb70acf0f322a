"""Runs that are copied and pruned: SQLite and the store in memory do the same."""

import random

import pytest

import agentrunner
from agentrunner import InMemoryAgentRunner, MemoryStore, SqliteAgentRunner, SqliteStore, StoreError
from agentrunner.stores import StoredRun
from agentrunner.types import ANY_SCOPE, ThreadSummary
from support.agents import Gate, agent_with
from support.events import text_message
from support.inputs import make_input
from support.streams import collect
from support.typescript_file import CHAIN, add_row, elsewhere

ALL = 1 << 30


def run_of(name: str, first: int, last: int, at: int, *ids: str, parent: str | None = None) -> StoredRun:
    messages = ",".join(f'{{"type":"TEXT_MESSAGE_CONTENT","messageId":"{key}","delta":"x"}}' for key in ids)
    return StoredRun(name, parent, first, last, b"[" + messages.encode() + b"]", "{}", at)


def summary(thread: str, at: int = 0, **changed) -> ThreadSummary:
    fields = {"name": None, "agent_id": None, "archived": False, "running": False, "runs": 0, "scope": None}
    return ThreadSummary(thread_id=thread, created_at=at, updated_at=at, **(fields | changed))


async def dump(store) -> dict:
    listed = await store.threads(1000, None, True, None, ANY_SCOPE)
    ids = [f"m{n}" for n in range(12)]
    contents = {}
    for thread in listed:
        runs = await store.runs(thread.thread_id, 0, ALL)
        page = await store.history(thread.thread_id, (0, None), None, ALL)
        claim, known = await store.claim(thread.thread_id, "probe", "{}", None, ids, thread.scope)
        recorder = agentrunner._core.Recorder(
            thread.thread_id, "probe", "{}", set(), claim.first_seq,
            event_bytes=1 << 20, id_bytes=1024, window_bytes=1 << 20, pending_bytes=1 << 20,
        )  # fmt: skip
        await store.finish(claim, recorder, False)
        await store.recover()
        contents[thread.thread_id] = (thread, runs, bytes(page.frames), known, claim.first_seq)
    return contents


async def attempt(verb, *arguments):
    try:
        return await verb(*arguments)
    except agentrunner.AgentRunnerError as error:
        return type(error)


@pytest.mark.parametrize("seed", range(30))
async def test_sqlite_and_memory_do_the_same(tmp_path, seed):
    chance = random.Random(seed)  # noqa: S311 - to be the same each time
    stores = [MemoryStore(resume_window=0), SqliteStore(tmp_path / "threads.db", resume_window=0)]
    for store in stores:
        await store.open()
    ends: dict[str, tuple[int, int]] = {}
    for step in range(40):
        if chance.random() < 0.7:
            thread = f"t{chance.randrange(5)}"
            seq, at = ends.get(thread, (0, 0))
            runs = []
            for n in range(chance.randrange(4)):
                first = seq + chance.choice([1, 1, 1, 1, 3, 0])
                seq, at = first + chance.randrange(5), at + chance.randrange(10)
                name = chance.choice([f"{thread}-{step}-{n}"] * 30 + [f"t0-{chance.randrange(step + 1)}-{n}"])
                ids = [f"m{chance.randrange(12)}" for _ in range(chance.randrange(4))]
                runs.append(run_of(name, first, seq, at, *ids))
            thread_summary = summary(thread, at, name=chance.choice([None, "named"]), scope=chance.choice([None, "a"]))
            outcomes = [await attempt(store.put, thread_summary, runs) for store in stores]
            if outcomes[0] is None:
                ends[thread] = (seq, at)
        else:
            kept = (chance.choice([None, 1, 3, 5]), chance.choice([None, 5, 20, 60]), chance.choice([1, 3, 1000]))
            # Which threads are first is the store's own affair: what counts is where it ends.
            outcomes = []
            for store in stores:
                total = 0
                while removed := await store.prune(*kept):
                    assert removed <= kept[2]
                    total += removed
                outcomes.append(total)
        assert outcomes[0] == outcomes[1], step
        memory, sqlite = [await dump(store) for store in stores]
        assert memory == sqlite, step
        # A thread that has none begins anew.
        ends = {thread: end for thread, end in ends.items() if thread in sqlite}
    for store in stores:
        await store.aclose()


async def five_runs(path) -> None:
    async with SqliteAgentRunner(path) as runner:
        for n in range(5):
            agent = agent_with(*text_message(f"m{n}", "word "))
            messages = [f"u{n}"] if n else ["u0", "more"]
            await collect(await runner.run(agent, make_input(run=f"r{n}", messages=messages)))


async def test_a_pruned_thread_is_a_complete_chain_for_either_runner(tmp_path):
    path = tmp_path / "threads.db"
    await five_runs(path)
    async with SqliteAgentRunner(path) as runner:
        before = await collect(await runner.connect("t1"))
        assert await runner._store.prune(2, None, 1) == 1
        assert await runner._store.prune(2, None, 100) == 2
        assert await runner._store.prune(2, None, 100) == 0
        left = await collect(await runner.connect("t1"))
        assert left == before[-len(left) :]
        assert [event["runId"] for event in left if event["type"] == "RUN_STARTED"] == ["r3", "r4"]
        assert (await runner.threads.get("t1")).runs == 2
        assert len(elsewhere(path, CHAIN, "t1")) == 2
        # Messages only the removed runs had may come again.
        again = make_input(run="r5", messages=["u0", "u3", "u4", "more"])
        started = (await collect(await runner.run(agent_with(), again)))[0]
        assert [message["id"] for message in started["input"]["messages"]] == ["u0", "more"]
        assert [run.parent_run_id for run in await runner._store.runs("t1", 0, ALL)] == [None, "r3", "r4"]
        assert (await runner._store.inspect(fix=False)).is_sound


async def test_nothing_stays_of_a_thread_without_runs(tmp_path):
    path = tmp_path / "threads.db"
    await five_runs(path)
    async with SqliteAgentRunner(path) as runner:
        assert await runner._store.prune(None, 1 << 50, 100) == 5
        assert await runner.threads.list() == []
    tables = ("agent_runs", "run_state", "journal", "journal_expiry", "entries", "run_index", "threads")
    counts = "SELECT " + ", ".join(f"(SELECT count(*) FROM {table})" for table in tables)  # noqa: S608
    assert elsewhere(path, counts) == [[0] * len(tables)]


async def test_a_live_run_continues_and_keeps_its_thread(tmp_path):
    path = tmp_path / "threads.db"
    await five_runs(path)
    async with SqliteAgentRunner(path) as runner:
        gate = Gate(before=text_message("more", "a"), after=text_message("most", "b"))
        stream = await runner.run(gate, make_input(run="r5"))
        await gate.reached.wait()
        assert await runner._store.prune(0, None, 100) == 5
        assert (await runner.threads.get("t1")).runs == 0
        gate.open()
        events = await collect(stream)
        assert events[-1]["type"] == "RUN_FINISHED"
        (only,) = await runner._store.runs("t1", 0, ALL)
        assert (only.run_id, only.parent_run_id, only.first_seq) == ("r5", None, 26)
        assert (await runner.threads.get("t1")).created_at == only.created_at


async def test_runs_and_a_replay_have_the_same_events(tmp_path):
    path = tmp_path / "threads.db"
    async with SqliteAgentRunner(path) as runner:
        await collect(await runner.run(agent_with(*text_message("m", "a")), make_input(run="r1")))
        stopped = '[{"type":"RUN_STARTED","threadId":"t1","runId":"ts"}, {"type":"RUN_FINISHED"} ]'
        add_row(path, "t1", "ts", "r1", stopped)
        add_row(path, "t1", "broken", "ts", '[{"type":')
        await collect(await runner.run(agent_with(), make_input(run="r2")))
        runs = await runner._store.runs("t1", 0, ALL)
        assert [run.run_id for run in runs] == ["r1", "ts", "r2"]
        frames = b"".join(bytes(agentrunner._core.run_frames(run.events, run.last_seq, 0)) for run in runs)
        assert frames == bytes((await runner._store.history("t1", (0, None), None, ALL)).frames)
        assert runs[1].events == stopped.replace('FINISHED"', 'FINISHED","threadId":"t1","runId":"ts"').encode()
        # A page at a time, at least one run each.
        after, paged = 0, []
        while page := await runner._store.runs("t1", after, 1):
            paged += page
            after = page[-1].last_seq
            assert len(page) == 1
        assert paged == runs
    async with InMemoryAgentRunner() as memory:
        await memory._store.put(summary("t1"), runs)
        assert [run.events for run in await memory._store.runs("t1", 0, ALL)] == [run.events for run in runs]


async def test_copied_runs_are_read_by_either_runner(tmp_path):
    path = tmp_path / "threads.db"
    runs = [run_of("a", 1, 3, 500, "m1"), run_of("b", 4, 4, 400), run_of("c", 9, 12, 600)]
    async with SqliteAgentRunner(path) as runner:
        await runner._store.put(summary("t", 500, name="given", archived=True, scope="s"), runs)
        assert len(elsewhere(path, CHAIN, "t")) == 3
        assert elsewhere(path, "SELECT created_at FROM agent_runs ORDER BY id") == [[500], [500], [600]]
        assert elsewhere(path, "SELECT typeof(events) FROM agent_runs") == [["text"]] * 3
        thread = await runner.threads.get("t")
        assert thread == summary("t", 500, name="given", archived=True, scope="s", runs=3)
        with pytest.raises(StoreError, match="run 'd' cannot be read"):
            await runner._store.put(summary("t"), [StoredRun("d", None, 20, 21, b"[1,", "{}", 0)])
        assert await runner.threads.get("t") == thread
        report = await runner._store.inspect(fix=False)
        assert (report.is_sound, report.foreign_runs) == (True, 0)
