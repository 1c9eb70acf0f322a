"""The limits of the reference's bounded thread store that `MemoryStore` keeps."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import MemoryStore, ThreadAlreadyRunning
from support.agents import Gate, agent_with
from support.events import text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner, InMemoryAgentRunner

    Factory = Callable[..., InMemoryAgentRunner]

LIMITS = ("max_threads", "max_runs_per_thread", "max_bytes")

pytestmark = pytest.mark.filterwarnings("ignore:the in-memory store is at a limit:UserWarning")


async def ran(runner: AgentRunner, thread: str, run: str, content: str = "x") -> None:
    await collect(await runner.run(agent_with(*text_message(f"m-{run}", content)), make_input(thread, run)))


async def list_thread_ids(runner: AgentRunner) -> set[str]:
    return {thread.thread_id for thread in await runner.threads.list()}


def count_warnings(caught: list[warnings.WarningMessage]) -> int:
    return sum("at a limit" in str(warning.message) for warning in caught)


# Limits


def test_the_defaults() -> None:
    store = MemoryStore()
    assert [getattr(store, name) for name in LIMITS] == [1000, 100, 512 * 1024 * 1024]


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [-1, 0, float("nan"), 2.5, float("-inf"), float("inf"), True, "5", None])
def test_an_invalid_limit_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        MemoryStore(**{name: value})


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [1, 2**63])
def test_a_valid_limit_is_taken_in_silence(name: str, value: int) -> None:
    assert getattr(MemoryStore(**{name: value}), name) == value


# Threads


async def test_a_thread_is_used_again(memory_factory: Factory) -> None:
    runner = memory_factory(max_threads=1)
    await ran(runner, "a", "r1")
    await ran(runner, "a", "r2")
    assert [(thread.thread_id, thread.runs) for thread in await runner.threads.list()] == [("a", 2)]


async def test_the_least_recently_used_thread_goes(memory_factory: Factory) -> None:
    runner = memory_factory(max_threads=2)
    for thread in ("a", "b", "c"):
        await ran(runner, thread, f"r-{thread}")
    assert await list_thread_ids(runner) == {"b", "c"}
    assert await collect(await runner.connect("a")) == []


@pytest.mark.parametrize("use", ["run", "connect"])
async def test_use_rescues_a_thread(memory_factory: Factory, use: str) -> None:
    runner = memory_factory(max_threads=2)
    await ran(runner, "a", "r1")
    await ran(runner, "b", "r2")
    if use == "run":
        await ran(runner, "a", "r3")
    else:
        await collect(await runner.connect("a"))
    await ran(runner, "c", "r4")
    assert await list_thread_ids(runner) == {"a", "c"}


async def test_a_look_does_not_rescue_a_thread(memory_factory: Factory) -> None:
    runner = memory_factory(max_threads=2)
    await ran(runner, "a", "r1")
    await ran(runner, "b", "r2")
    await runner.is_running("a")
    await runner.stop("a")
    await runner.threads.list()
    await ran(runner, "c", "r3")
    assert await list_thread_ids(runner) == {"b", "c"}


async def test_a_running_thread_never_goes_even_over_the_limit(memory_factory: Factory) -> None:
    runner = memory_factory(max_threads=1)
    gates = [Gate(), Gate()]
    streams = [await runner.run(gate, make_input(f"t{n}", f"r{n}")) for n, gate in enumerate(gates)]
    for gate in gates:
        await gate.reached.wait()
        gate.open()
    ended = [await collect(stream) for stream in streams]
    assert [event["type"] for event in ended[0]] == [event["type"] for event in ended[1]]
    assert len(await list_thread_ids(runner)) == 1


async def test_a_stopped_thread_does_not_go_before_its_run_has_ended(memory_factory: Factory) -> None:
    runner = memory_factory(max_threads=1)
    gate = Gate(text_message("m1", "kept"))
    stream = await runner.run(gate, make_input("a", "r1"))
    await gate.reached.wait()
    assert await runner.stop("a")
    other = await runner.run(agent_with(), make_input("b", "r2"))
    events = await collect(stream)
    assert events[-1]["type"] == "RUN_FINISHED"
    assert "m1" in str(events)
    await collect(other)


async def test_clear_drops_all_but_running_threads(memory_factory: Factory) -> None:
    runner = memory_factory()
    await ran(runner, "a", "r1")
    gate = Gate()
    stream = await runner.run(gate, make_input("b", "r2"))
    await runner.threads.clear()
    assert await list_thread_ids(runner) == {"b"}
    with pytest.raises(ThreadAlreadyRunning):
        await runner.run(agent_with(), make_input("b", "r3"))
    gate.open()
    await collect(stream)
    assert await list_thread_ids(runner) == {"b"}
    await ran(runner, "a", "r1")


# Runs


async def test_the_oldest_runs_go_first_and_created_at_stays(memory_factory: Factory) -> None:
    runner = memory_factory(max_runs_per_thread=2)
    await ran(runner, "a", "r0")
    created = (await runner.threads.list())[0].created_at
    for n in (1, 2, 3):
        await ran(runner, "a", f"r{n}")
    (thread,) = await runner.threads.list()
    assert (thread.runs, thread.created_at) == (2, created)
    assert [message["id"] for message in await runner.threads.messages("a")] == ["m-r2", "m-r3"]


# Bytes


async def test_over_max_bytes_other_threads_go(memory_factory: Factory) -> None:
    runner = memory_factory(max_bytes=5000)
    await ran(runner, "a", "r1", "x" * 2000)
    await ran(runner, "b", "r2", "x" * 2000)
    assert await list_thread_ids(runner) == {"a", "b"}
    await ran(runner, "c", "r3", "x" * 2000)
    assert await list_thread_ids(runner) == {"b", "c"}


async def test_the_thread_just_written_stays_though_it_is_over_max_bytes(memory_factory: Factory) -> None:
    runner = memory_factory(max_bytes=1000)
    await ran(runner, "a", "r1")
    await ran(runner, "b", "r2", "x" * 5000)
    assert await list_thread_ids(runner) == {"b"}
    await ran(runner, "c", "r3")
    assert await list_thread_ids(runner) == {"c"}


@pytest.mark.parametrize("how", ["delete", "clear", "runs", "threads"])
async def test_what_is_dropped_no_longer_counts(memory_factory: Factory, how: str) -> None:
    limits: dict[str, Any] = {"runs": {"max_runs_per_thread": 1}, "threads": {"max_threads": 1}}.get(how, {})
    runner = memory_factory(max_bytes=8000, **limits)
    for n in range(6):
        await ran(runner, f"big{n if how == 'threads' else ''}", f"r{n}", "x" * 3000)
        if how == "delete":
            await runner.threads.delete("big")
        elif how == "clear":
            await runner.threads.clear()
    if how in ("delete", "clear"):
        assert runner._store._threads.size == 0
    # Had the dropped ones counted, this would push out all others.
    if how != "threads":
        await ran(runner, "small", "r-small")
        await ran(runner, "other", "r-other")
        assert {"small", "other"} <= await list_thread_ids(runner)
    assert runner._store._threads.size == sum(thread.size for thread in runner._store._threads.values()) < 8000


# The warning


async def test_warns_once_and_again_after_clear(memory_factory: Factory) -> None:
    runner = memory_factory(max_threads=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await ran(runner, "a", "r1")
        assert count_warnings(caught) == 0
        for n in range(5):
            await ran(runner, f"b{n}", f"r-b{n}")
        assert count_warnings(caught) == 1
        await runner.threads.clear()
        await ran(runner, "a", "r1")
        assert count_warnings(caught) == 1
        await ran(runner, "b", "r2")
        assert count_warnings(caught) == 2


async def test_warns_when_runs_are_dropped(memory_factory: Factory) -> None:
    runner = memory_factory(max_runs_per_thread=1)
    await ran(runner, "a", "r1")
    with pytest.warns(UserWarning, match="max_runs_per_thread=1"):
        await ran(runner, "a", "r2")


async def test_warns_of_nothing_when_nothing_is_dropped(memory_factory: Factory) -> None:
    runner = memory_factory(max_threads=2, max_runs_per_thread=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in range(4):
            await ran(runner, f"t{n % 2}", f"r{n}")
    assert count_warnings(caught) == 0


@pytest.mark.parametrize("limit", ["max_threads", "max_runs_per_thread", "max_bytes"])
async def test_where_warnings_are_errors_no_run_fails_of_it(
    memory_factory: Factory, caplog: pytest.LogCaptureFixture, limit: str
) -> None:
    runner = memory_factory(**{limit: 1})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in range(3):
            thread = "a" if limit == "max_runs_per_thread" else f"t{n}"
            stream = await runner.run(agent_with(*text_message("m", "x")), make_input(thread, f"r{n}"))
            assert (await collect(stream))[-1]["type"] == "RUN_FINISHED"
    assert [thread.runs for thread in await runner.threads.list()] == [1]
    assert [record.message.split(" (")[0] for record in caplog.records] == ["the in-memory store is at a limit"]
