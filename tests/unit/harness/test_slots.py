"""Run slots: first in, first out, given back once, shared between processes."""

from __future__ import annotations

import asyncio

from agentrunner import AgentRunner, _core
from agentrunner.harness import Harness
from agentrunner.harness.liveness import Liveness
from agentrunner.harness.slots import LocalSlots, SharedSlots
from agentrunner.records import kinds
from agentrunner.stores.urls import store_from_url
from support.agents import Gate, agent_with
from support.events import text_message
from support.harness import drain_listeners, listen, states, until

hello = agent_with(*text_message("m", "hello"))


class Gates:
    """An agent with a gate for each run id; `began` is the order in which the runs began."""

    def __init__(self) -> None:
        self.gates: dict[str, Gate] = {}
        self.began: list[str] = []

    async def run(self, input):
        gate = self.gates.setdefault(input.run_id, Gate())
        self.began.append(input.run_id)
        async for event in gate.run(input):
            yield event

    def open(self, run):
        self.gates.setdefault(run, Gate()).open()


async def start_queued(harness, run_id):
    """Start a run and wait until it has a record."""
    running = asyncio.ensure_future(harness.run("hi", run_id=run_id))
    while run_id not in [run.run_id for run in await harness.runs()]:
        await asyncio.sleep(0.001)
    return running


async def test_runs_wait_for_their_turn_first_in_first_out(runner):
    agent = Gates()
    async with Harness(runner, {"a": agent}, max_concurrent_runs=2) as harness:
        seen = listen(harness)
        running = [await start_queued(harness, f"r{n}") for n in range(6)]
        await until(lambda: len(agent.began) == 2)
        assert [run.run_id for run in await harness.runs(state="running")] == ["r0", "r1"]
        assert [run.run_id for run in await harness.runs(state="queued")] == ["r2", "r3", "r4", "r5"]
        for ended, n in enumerate((1, 0, 2, 3, 4, 5), 1):
            agent.open(f"r{n}")
            await running[n]
            # The next one begins a few writes after it gets its slot; two that have slots may overtake each other.
            await until(lambda ended=ended: len(agent.began) == min(6, ended + 2))
        assert agent.began == [f"r{n}" for n in range(6)]
        await drain_listeners(harness)
        assert states(seen, "r5") == ["running", "completed"]
        created = {e.run_id: e for e in seen if e.type == "run.created"}
        assert created["r5"].seq == 1


async def test_queued_run_is_cancelled_before_it_begins(runner):
    agent = Gates()
    async with Harness(runner, {"a": agent}, max_concurrent_runs=1) as harness:
        first, second, third = [await start_queued(harness, f"r{n}") for n in range(3)]
        assert await harness.cancel("r1")
        assert (await second).state == "cancelled"
        agent.open("r0")
        agent.open("r2")
        assert (await first).state == (await third).state == "completed"
        assert agent.began == ["r0", "r2"]
        assert (await harness.run_record("r1")).state == "cancelled"


async def test_slot_is_free_however_the_run_ends(runner):
    async def stubborn(input):
        yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            yield {"type": "TEXT_MESSAGE_END", "messageId": "of nothing"}

    async def broken(input):
        raise RuntimeError("broken")
        yield

    async def rude(input):
        yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
        yield {"no": "event"}

    agents = {"stubborn": stubborn, "broken": broken, "rude": rude, "hello": hello, "none": lambda _: 5}
    async with Harness(runner, agents, max_concurrent_runs=1, policy=lambda request: None) as harness:
        for count in range(2):
            for name in ("broken", "rude", "none"):
                assert (await harness.run("hi", agent=name)).state == "failed"
            running = asyncio.ensure_future(harness.run("hi", agent="stubborn", run_id=f"s{count}"))
            while not (await harness.runs(state="running")):
                await asyncio.sleep(0.001)
            assert await harness.cancel(f"s{count}")
            assert (await running).state == "cancelled"
        assert (await harness.run("hi", agent="hello")).state == "completed"


async def test_two_harnesses_share_slots(location):
    stores = store_from_url(location), store_from_url(location)
    agent = Gates()
    async with AgentRunner(stores[0]) as one, AgentRunner(stores[1]) as two:  # noqa: SIM117 - they end in this order
        async with (
            Harness(one, {"a": agent}, max_concurrent_runs=2) as first,
            Harness(two, {"a": agent}, max_concurrent_runs=2) as second,
            Harness(two, {"a": agent}, max_concurrent_runs=1, name="another") as apart,
        ):
            running = [await start_queued((first, second)[n % 2], f"r{n}") for n in range(5)]
            await until(lambda: len(agent.began) == 2)
            other = await start_queued(apart, "other")
            await until(lambda: "other" in agent.began)
            agent.open("other")
            await other
            # A run of one process is cancelled from the other.
            assert await first.cancel("r3")
            assert (await running[3]).state == "cancelled"
            for n, following in ((1, "r2"), (0, "r4"), (2, "r4"), (4, "r4")):
                agent.open(f"r{n}")
                assert (await running[n]).state == "completed"
                await until(lambda following=following: following in agent.began)
            assert [run for run in agent.began if run != "other"] == ["r0", "r1", "r2", "r4"]
            record = await stores[0].record("slots", "default")
            assert kinds.SLOTS.decode(record)["held"] == kinds.SLOTS.decode(record)["line"] == []


async def test_slots_of_dead_owners_are_free(runner):
    store = await runner.open()
    gone, mine = str(_core.Owner()), Liveness(store)
    held = {"held": [["a", gone], ["b", mine.owner_id]], "line": [["c", gone]]}
    await store.write([kinds.SLOTS.change("default", "", held)])
    slots = SharedSlots(store, mine, "default", 2)
    assert await slots.enter("d")
    assert not await slots.enter("e")
    await slots.leave("b")
    await slots.wait_for_turn("e")
    await slots.leave("e")
    await slots.leave("e")
    await slots.leave("d")
    assert kinds.SLOTS.decode(await kinds.SLOTS.find(store, "default"))["held"] == []


async def test_freed_slot_goes_to_the_next_in_line_at_once(runner):
    store = await runner.open()
    owners = Liveness(store)
    slots = SharedSlots(store, owners, "s", 1)
    assert await slots.enter("a")
    assert not await slots.enter("b")
    assert not await slots.enter("c")
    await slots.leave("a")
    # `b` does not know it yet, and `c` must not overtake it.
    assert not await slots.enter("d")
    assert [run for run, _ in kinds.SLOTS.decode(await kinds.SLOTS.find(store, "s"))["held"]] == ["b"]
    assert [run for run, _ in kinds.SLOTS.decode(await kinds.SLOTS.find(store, "s"))["line"]] == ["c", "d"]


async def test_no_departure_is_missed_while_the_slots_are_read(memory_factory, monkeypatch):
    class SlowStore:
        """A store that holds back the reads of one task."""

        def __init__(self, store):
            self.store = store
            self.slow_task = None
            self.gate = asyncio.Event()

        def __getattr__(self, name):
            return getattr(self.store, name)

        async def record(self, kind, key):
            record = await self.store.record(kind, key)
            if asyncio.current_task() is self.slow_task:
                await self.gate.wait()
            return record

    monkeypatch.setattr("agentrunner.harness.slots.SLOT_POLL_SECONDS", 3600.0)
    store = SlowStore(await memory_factory().open())
    slots = SharedSlots(store, Liveness(store), "s", 1)
    for run in "abcd":
        await slots.enter(run)
    waiting = {run: asyncio.ensure_future(slots.wait_for_turn(run)) for run in "bcd"}
    store.slow_task = waiting["c"]
    await slots.leave("a")
    await waiting["b"]
    await slots.leave("b")
    # All others have seen both departures by now; the reader that was slow must still see the second.
    for _ in range(20):
        await asyncio.sleep(0)
    store.gate.set()
    await waiting["c"]
    await slots.leave("c")
    await waiting["d"]


async def test_local_slot_is_given_back_once():
    slots = LocalSlots(1)
    assert await slots.enter("a")
    assert not await slots.enter("b")
    assert not await slots.enter("c")
    await slots.leave("b")
    await slots.leave("b")
    waiting = asyncio.ensure_future(slots.wait_for_turn("c"))
    await asyncio.sleep(0)
    assert not waiting.done()
    await slots.leave("a")
    await slots.leave("a")
    await waiting
    assert not await slots.enter("d")
    await slots.leave("c")
    await slots.wait_for_turn("d")
