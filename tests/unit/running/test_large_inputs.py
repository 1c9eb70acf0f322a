"""Large inputs are worked on in other threads, and their runs may end meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentRunner, InMemoryAgentRunner, _core
from agentrunner.errors import InvalidInput, RunnerClosed
from agentrunner.running import input_encoding, inputs, offload
from agentrunner.running.recording import RecordingLimits
from support.agents import Gate, agent_with
from support.events import event_types, text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.fault("A1")
LARGE = "\n" * offload.SHORT_TEXT_BYTES


def large_input(thread_id: str, run_id: str) -> dict[str, Any]:
    return make_input(thread_id, run_id) | {"state": LARGE}


def note_threads(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[bool]:
    """Return a list that gets, for each call of a function, whether it is in the main thread."""
    calls: list[bool] = []
    function = getattr(owner, name)

    def call(*arguments: Any, **options: Any) -> Any:
        calls.append(threading.current_thread() is threading.main_thread())
        return function(*arguments, **options)

    monkeypatch.setattr(owner, name, call)
    return calls


async def test_only_a_large_input_is_looked_through_in_another_thread(
    memory_factory: Callable[..., InMemoryAgentRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = memory_factory()
    calls = note_threads(monkeypatch, RecordingLimits, "_make_recorder")
    checks = note_threads(monkeypatch, _core, "check_input")
    await collect(await runner.run(agent_with(*text_message("m", "hello")), make_input("t1", "r1")))
    assert calls == checks == [True]
    await collect(await runner.run(agent_with(*text_message("m2", "hello")), large_input("t1", "r2")))
    assert calls == checks == [True, False]


@pytest.fixture
def without_preemption() -> Iterator[None]:
    """Switch threads only where one waits, or where the core releases the interpreter."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(3600)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("without_preemption")
def test_a_recorder_is_made_without_holding_up_other_threads() -> None:
    json = '{"messages":[],"state":"' + "\\n" * (1 << 20) + '"}'
    limits = dict.fromkeys(("event_bytes", "id_bytes", "window_bytes", "pending_bytes"), 1)
    is_over, turns = threading.Event(), 0

    def count_turns() -> None:
        nonlocal turns
        while not is_over.is_set():
            turns += 1
            time.sleep(0)

    counting = threading.Thread(target=count_turns)
    counting.start()
    counted = 0
    # A busy machine may need some attempts until it runs the other thread.
    for _ in range(100):
        before = turns
        _core.Recorder("t", "r", json, set(), 1, **limits)
        counted = turns - before
        if counted:
            break
    is_over.set()
    counting.join()
    assert counted


async def test_halves_of_surrogates_are_encoded_in_another_thread(
    memory_factory: Callable[..., InMemoryAgentRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = memory_factory()
    fields = note_threads(monkeypatch, input_encoding, "encode_fields")
    messages = note_threads(monkeypatch, input_encoding, "encode")
    many = [
        {"id": f"u{number}", "role": "user", "content": "x\ud83d"} for number in range(input_encoding.SLICE_ITEMS * 2)
    ]
    for number, changes in enumerate([{"state": {"\ud83d": "\udc00"}}, {"messages": many}]):
        stream = await runner.run(agent_with(), make_input("t1", f"r{number}") | changes)
        assert event_types([event async for event in stream])[-1] == "RUN_FINISHED"
    assert fields == [False]
    assert len(messages) == len(many)
    assert not any(messages)
    assert [message["content"] for message in await runner.threads.messages("t1")] == ["x\ud83d"] * len(many)


async def test_wide_fields_are_written_in_slices_and_like_others(
    memory_factory: Callable[..., InMemoryAgentRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    dump = input_encoding.dump

    def note_dump(value: Any) -> bytes:
        written.append(len(value))
        return dump(value)

    monkeypatch.setattr(input_encoding, "dump", note_dump)
    values = {f"\ud83dk{number}" if number == 7 else f"k{number}": [number, {}] for number in range(1500)}
    changes = {
        "state": values,
        "forwardedProps": list(values.values()),
        "messages": [{"id": "u", "role": "user", "content": "x", "metadata": values}],
    }
    runner = memory_factory()
    await collect(await runner.run(agent_with(), make_input("t1", "r1") | changes))
    started = (await runner.threads.events("t1"))[0].to_dict()["input"]
    received = [started["state"], started["forwardedProps"], started["messages"][0]["metadata"]]
    assert received == [values, list(values.values()), values]
    assert written == [1000, 500] * 3
    stream = await runner.run(agent_with(), make_input("t1", "r2") | {"state": [0] * 500})
    assert event_types([event async for event in stream])[-1] == "RUN_FINISHED"
    assert len(written) == 6
    without_messages = make_input("t1", "r3") | {"state": [0] * 1500, "messages": []}
    stream = await runner.run(agent_with(), without_messages)
    assert event_types([event async for event in stream])[-1] == "RUN_FINISHED"
    assert len(written) == 8
    with pytest.raises(InvalidInput, match=r"`state\.k3`: .*object"):
        await runner.run(agent_with(), make_input("t1", "r4") | {"state": {**values, "k3": object()}})


async def test_ids_are_restored_in_another_thread_if_the_input_is_large(
    memory_factory: Callable[..., InMemoryAgentRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = note_threads(monkeypatch, inputs, "_restore_ids")
    received: list[Any] = []

    async def agent(run_input: Any) -> Any:
        received.append(run_input)
        yield {"type": "RUN_FINISHED", "threadId": run_input.thread_id, "runId": run_input.run_id}

    call = {"id": "c--own2", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"id": "m--own-text", "role": "assistant", "toolCalls": [call]},
        {"id": "c--own2--own-result", "role": "tool", "toolCallId": "c--own2", "content": "done"},
        {"id": "u", "role": "user", "content": "hello"},
    ]
    runner = memory_factory()
    await collect(await runner.run(agent, large_input("t1", "r1") | {"messages": messages}))
    await collect(await runner.run(agent, make_input("t2", "r2") | {"messages": messages}))
    await collect(await runner.run(agent, make_input("t3", "r3")))
    assert calls == [False, True, True]
    for run_input in received[:2]:
        first, second, third = run_input.messages
        assert (first.id, first.tool_calls[0].id) == ("m", "c")
        assert (second.id, second.tool_call_id, third.id) == ("c--own2", "c", "u")


@dataclass
class HeldRecorders:
    began: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def hold_recorders(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldRecorders]:
    """Hold up each recorder that is made in another thread until `go_on` is set."""
    held, loop, make_recorder = HeldRecorders(), asyncio.get_running_loop(), RecordingLimits._make_recorder

    def make(*arguments: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            loop.call_soon_threadsafe(held.began.set)
            held.go_on.wait()
        return make_recorder(*arguments)

    monkeypatch.setattr(RecordingLimits, "_make_recorder", make)
    try:
        yield held
    finally:
        held.go_on.set()


async def test_a_run_that_is_cancelled_while_it_is_prepared_frees_its_thread(
    memory_factory: Callable[..., InMemoryAgentRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = memory_factory()
    with hold_recorders(monkeypatch) as held:
        starting = asyncio.ensure_future(runner.run(agent_with(), large_input("t1", "r1")))
        await held.began.wait()
        assert await runner.is_running("t1")
        starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not await runner.is_running("t1")
    stream = await runner.run(agent_with(), make_input("t1", "r2"))
    assert event_types([event async for event in stream])[-1] == "RUN_FINISHED"


async def test_a_run_does_not_start_if_the_runner_is_drained_while_it_is_prepared(
    memory_factory: Callable[..., InMemoryAgentRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = memory_factory()
    with hold_recorders(monkeypatch) as held:
        starting = asyncio.ensure_future(runner.run(agent_with(), large_input("t1", "r1")))
        await held.began.wait()
        await runner.drain(0)
    with pytest.raises(RunnerClosed, match="before thread 't1' was free"):
        await starting
    assert not await runner.is_running("t1")


@pytest.mark.parametrize("factory", ["memory_factory", "sqlite_factory"])
async def test_a_run_can_be_stopped_while_it_is_prepared(
    factory: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner: AgentRunner = request.getfixturevalue(factory)()
    agent = Gate()
    with hold_recorders(monkeypatch) as held:
        starting = asyncio.ensure_future(runner.run(agent.run, large_input("t1", "r1")))
        await held.began.wait()
        assert await runner.stop("t1")
    async with asyncio.timeout(20):
        events = event_types([event async for event in await starting])
    assert events == ["RUN_STARTED", "RUN_FINISHED"]
    assert agent.reached.is_set() is (factory == "sqlite_factory")
