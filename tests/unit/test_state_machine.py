"""Random actions on a thread are compared with a small model of it, on both stores."""

import asyncio
import logging
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import agentrunner
from agentrunner import AgentRunner, InMemoryAgentRunner, SqliteAgentRunner, ThreadAlreadyRunning

SETTINGS = settings(
    max_examples=60, stateful_step_count=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)

pytestmark = pytest.mark.slow


class Agent:
    """An agent that yields what it is given, and raises an exception that it is given."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue = asyncio.Queue()

    async def run(self, about):
        yield {"type": "RUN_STARTED", "threadId": about.thread_id, "runId": about.run_id}
        while (event := await self.queue.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event
        yield {"type": "RUN_FINISHED", "threadId": about.thread_id, "runId": about.run_id}


class Reader:
    """Collects a stream that began right after `behind` raw events, or anywhere if `None`."""

    def __init__(self, stream: agentrunner.EventStream, behind: int | None) -> None:
        self.events: list[agentrunner.Event] = []
        self.behind = behind
        self.task = asyncio.ensure_future(self.read(stream))

    async def read(self, stream: agentrunner.EventStream) -> None:
        async for event in stream:
            self.events.append(event)


class Thread(RuleBasedStateMachine):
    sqlite: ClassVar[bool]
    directory: ClassVar
    machine_count: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.raw: list[bytes] = []
        """The model: every event an early reader was shown, of all runs."""
        self.runs = 0
        self.ids: set[str] = set()
        self.open = 0
        self.agent: Agent | None = None
        self.early: agentrunner.EventStream | None = None
        self.readers: list[Reader] = []
        self.expected_end = ""

    def go(self, coroutine):
        return self.loop.run(asyncio.wait_for(coroutine, 10))

    def make(self) -> AgentRunner:
        return SqliteAgentRunner(self.path) if self.sqlite else InMemoryAgentRunner()

    @initialize()
    def begin(self) -> None:
        type(self).machine_count += 1
        self.path = self.directory / f"{self.machine_count}.db"
        self.runner = self.make()
        self.go(self.runner.open())

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.go(self.runner.aclose())
        self.loop.close()

    async def see(self, count: int) -> None:
        for _ in range(count):
            event = await anext(self.early)
            self.raw.append(bytes(event))
            assert event.cursor == str(len(self.raw))

    async def see_end(self) -> None:
        """Check that the run ends for every reader with the events the early reader got."""
        rest = [event async for event in self.early]
        self.raw += [bytes(event) for event in rest]
        assert rest[-1].seq == len(self.raw)
        assert rest[-1].to_dict().get("code", rest[-1].type) == self.expected_end
        self.agent = self.early = None
        self.runs += 1
        await asyncio.gather(*[reader.task for reader in self.readers])
        whole = agentrunner.fold(self.raw)
        for reader in self.readers:
            if reader.behind is None:
                assert agentrunner.fold(reader.events) == whole
            else:
                assert [bytes(event) for event in reader.events] == self.raw[reader.behind :]
        self.readers = []
        agentrunner.verify(self.raw)

    # Actions

    @precondition(lambda self: self.agent is None)
    @rule(news=st.integers(0, 2))
    def run(self, news: int) -> None:
        async def work() -> None:
            new_ids = [f"u{len(self.ids) + n}" for n in range(news)]
            new_messages = [{"id": name, "role": "user", "content": name} for name in new_ids]
            messages = [*agentrunner.fold(self.raw).messages, *new_messages]
            self.agent = Agent()
            run_input = {"threadId": "t", "runId": f"r{self.runs}", "messages": messages}
            self.early = await self.runner.run(self.agent, run_input)
            await self.see(1)
            fresh = [message["id"] for message in agentrunner.compact(self.raw[-1:])[0].to_dict()["input"]["messages"]]
            assert fresh == new_ids
            self.ids |= set(new_ids)
            self.open = 0

        self.go(work())

    @precondition(lambda self: self.agent is not None)
    @rule(kind=st.sampled_from(["text", "delta", "state", "custom"]))
    def emit(self, kind: str) -> None:
        name = f"m{self.runs}.{self.open}"
        if kind == "text" or not self.open:
            self.open += 1
            name = f"m{self.runs}.{self.open}"
            self.ids.add(name)
            event = {"type": "TEXT_MESSAGE_START", "messageId": name, "role": "assistant"}
        elif kind == "delta":
            event = {"type": "TEXT_MESSAGE_CONTENT", "messageId": name, "delta": f"{len(self.raw)} "}
        elif kind == "state":
            event = {"type": "STATE_SNAPSHOT", "snapshot": {"n": len(self.raw)}}
        else:
            event = {"type": "FUTURE_KIND", "n": len(self.raw)}
        self.agent.queue.put_nowait(event)
        self.go(self.see(1))

    @rule()
    def connect(self) -> None:
        self.join(None, None)

    @precondition(lambda self: self.raw)
    @rule(data=st.data())
    def resume(self, data) -> None:
        behind = data.draw(st.integers(1, len(self.raw)))
        self.join(str(behind), behind)

    def join(self, after: str | None, behind: int | None) -> None:
        async def work() -> None:
            reader = Reader(await self.runner.connect("t", after), behind)
            if self.agent is not None:
                self.readers.append(reader)
                return
            await reader.task
            if behind is None:
                assert agentrunner.fold(reader.events) == agentrunner.fold(self.raw)
                await self.resume_compacted(reader.events)
            else:
                assert agentrunner.fold([*self.raw[:behind], *reader.events]) == agentrunner.fold(self.raw)

        if self.agent is None and behind is not None:
            self.readers = []
        elif behind is not None and behind < self.first_live():
            behind = None
            after = None
        self.go(work())

    def first_live(self) -> int:
        starts = [n for n, event in enumerate(self.raw, 1) if b'"RUN_STARTED"' in event]
        return starts[-1]

    async def resume_compacted(self, whole: list[agentrunner.Event]) -> None:
        for n, event in enumerate(whole, 1):
            rest = [bytes(one) async for one in await self.runner.connect("t", event.cursor)]
            assert rest == [bytes(one) for one in whole[n:]], event.cursor

    @precondition(lambda self: self.agent is not None)
    @rule(how=st.sampled_from(["stop", "error", "crash", "close"]))
    def end(self, how: str) -> None:
        async def work() -> None:
            if how == "stop":
                assert await self.runner.stop("t")
                self.expected_end = "RUN_FINISHED"
            elif how == "error":
                self.agent.queue.put_nowait(RuntimeError("broken"))
                self.expected_end = "INCOMPLETE_STREAM"
            elif how == "close" or not self.sqlite:
                for number in range(self.open):
                    name = f"m{self.runs}.{number + 1}"
                    self.agent.queue.put_nowait({"type": "TEXT_MESSAGE_END", "messageId": name})
                self.agent.queue.put_nowait(None)
                self.expected_end = "RUN_FINISHED"
            else:
                await self.crash()
                self.expected_end = "INTERRUPTED"
            await self.see_end()

        self.go(work())

    async def crash(self) -> None:
        """Drop the runner without closing it; read the events it did not show from another."""
        old = self.runner
        core = old._store._core
        for task in [*old._table._tasks, *[reader.task for reader in self.readers]]:
            task.cancel()
        await asyncio.gather(*old._table._tasks, *[reader.task for reader in self.readers], return_exceptions=True)
        self.readers = []
        await asyncio.to_thread(core.close)
        await old._store.aclose()
        old._is_closed = True
        self.runner = self.make()
        self.early = await self.runner.connect("t", str(len(self.raw)))

    # Invariants

    @precondition(lambda self: self.agent is not None)
    @rule()
    def second_run_is_refused(self) -> None:
        async def work() -> None:
            with pytest.raises(ThreadAlreadyRunning):
                await self.runner.run(Agent(), {"threadId": "t", "runId": "another", "messages": []})

        self.go(work())

    @invariant()
    def the_list_is_right(self) -> None:
        if not hasattr(self, "runner"):
            return

        async def work() -> None:
            assert await self.runner.is_running("t") == (self.agent is not None)
            listed = await self.runner.threads.list()
            assert [(one.thread_id, one.runs, one.running) for one in listed] == (
                [("t", self.runs, self.agent is not None)] if self.runs or self.agent is not None else []
            )
            assert await self.runner.threads.fold("t") == agentrunner.fold(self.raw)

        self.go(work())


@pytest.mark.parametrize("store", ["sqlite", "memory"])
def test_a_threads_life(store, tmp_path):
    logging.disable(logging.CRITICAL)
    machine = type("Machine", (Thread,), {"sqlite": store == "sqlite", "directory": tmp_path})
    try:
        run_state_machine_as_test(machine, settings=SETTINGS)
    finally:
        logging.disable(logging.NOTSET)
