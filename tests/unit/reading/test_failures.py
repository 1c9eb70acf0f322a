"""In a replay only the last run ends in RUN_ERROR; the failures before it are over."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentRunner, _core, fold, verify
from agentrunner.reading.failures import ASKED_BY
from agentrunner.reading.interrupts import hide_answered_interrupts
from agentrunner.stores import StoredRun
from agentrunner.types import ThreadSummary
from support.agents import Gate, agent_with, scripted_agent
from support.asgi import frames_of
from support.backends import embedded
from support.events import event_types, run_finished, run_started, text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentrunner import EventStream

ERROR = {"type": "RUN_ERROR", "message": "no luck", "code": "LUCK"}
STEP = {"type": "STEP_STARTED", "stepName": "s"}
ASKING = {"type": "interrupt", "interrupts": [{"id": "i1", "reason": "input_required"}]}


async def run(runner: AgentRunner, run_id: str, *events: Any) -> None:
    """Run an agent that yields these events after its RUN_STARTED."""
    agent = scripted_agent([run_started("t1", run_id), *events])
    await collect(await runner.run(agent, make_input("t1", run_id, [f"u-{run_id}"])))


async def fail(runner: AgentRunner, run_id: str, *events: Any) -> None:
    """Run an agent that yields these events and then fails."""
    await run(runner, run_id, *events, ERROR)


async def read(stream: EventStream) -> list[tuple[str | None, dict[str, Any]]]:
    """Return the cursors and events of a stream."""
    return [(event.cursor, event.to_dict()) for event in [each async for each in stream]]


def ends(events: Sequence[dict[str, Any]]) -> list[str]:
    """Return the types of the events that end runs."""
    return [event["type"] for event in events if event["type"] in ("RUN_FINISHED", "RUN_ERROR")]


async def test_only_the_last_of_many_failures_is_shown_as_one(runner: AgentRunner) -> None:
    for number in range(4):
        await fail(runner, f"r{number}", *text_message(f"m{number}", "half"))
    events = await collect(await runner.connect("t1"))
    verify(events)
    assert ends(events) == ["RUN_FINISHED"] * 3 + ["RUN_ERROR"]
    assert events[-1] == ERROR
    finished = [event for event in events if event["type"] == "RUN_FINISHED"]
    assert finished == [run_finished("t1", f"r{number}") for number in range(3)]
    # The stored events keep their errors.
    stored = await runner.threads.events("t1")
    assert ends([event.to_dict() for event in stored]) == ["RUN_ERROR"] * 4
    shown = [event async for event in await runner.connect("t1")]
    assert [event.cursor for event in shown] == [event.cursor for event in stored]
    assert fold(shown) == fold(stored)


async def test_a_failure_before_a_live_run_is_over(runner: AgentRunner) -> None:
    await fail(runner, "r1")
    gate = Gate(text_message("m2", "x"))
    live = await runner.run(gate, make_input("t1", "r2"))
    await gate.reached.wait()
    late = await runner.connect("t1")
    gate.open()
    assert ends(await collect(late)) == ["RUN_FINISHED", "RUN_FINISHED"]
    await collect(live)


async def test_a_live_run_that_fails_shows_its_error(runner: AgentRunner) -> None:
    await fail(runner, "r1")
    gate = Gate([STEP], [ERROR])
    live = await runner.run(gate, make_input("t1", "r2"))
    await gate.reached.wait()
    late = await runner.connect("t1")
    gate.open()
    assert ends(await collect(live)) == ["RUN_ERROR"]
    assert ends(await collect(late)) == ["RUN_FINISHED", "RUN_ERROR"]


@pytest.mark.parametrize(
    ("left_open", "closing"),
    [
        ([STEP, {"type": "STEP_STARTED", "stepName": "t"}], ["STEP_FINISHED", "STEP_FINISHED"]),
        ([{"type": "SUBAGENT_STARTED", "subagentRunId": "s", "name": "n"}], ["SUBAGENT_FINISHED"]),
        (text_message("m1", "half")[:2], []),
    ],
)
async def test_what_a_failed_run_left_open_is_closed(
    runner: AgentRunner, left_open: list[Any], closing: list[str]
) -> None:
    await fail(runner, "r1", *left_open)
    await run(runner, "r2", run_finished("t1", "r2"))
    events = await collect(await runner.connect("t1"))
    verify(events)
    stored = [event.to_dict() for event in await runner.threads.events("t1")]
    at = ends(stored).index("RUN_ERROR") + event_types(stored).index("RUN_ERROR")
    assert event_types(events)[: at + len(closing) + 1] == [*event_types(stored)[:at], *closing, "RUN_FINISHED"]


@pytest.mark.parametrize("follower", ["stored", "live"])
async def test_every_cursor_continues_in_the_same_run(runner: AgentRunner, follower: str) -> None:
    await fail(runner, "r1", STEP, *text_message("m1", "a", "b"))
    await fail(runner, "r2", STEP, *text_message("m2", "c", "d"))
    gate = Gate()
    if follower == "stored":
        await run(runner, "r3", run_finished("t1", "r3"))
    else:
        live = await runner.run(gate, make_input("t1", "r3"))
        await gate.reached.wait()
        gate.open()
        await collect(live)
    whole = await read(await runner.connect("t1"))
    assert ends([event for _, event in whole]) == ["RUN_FINISHED"] * 3
    for place, (cursor, _) in enumerate(whole):
        if cursor is not None:
            assert await read(await runner.connect("t1", after=cursor)) == whole[place + 1 :], cursor
    # A raw cursor gets the raw rest of its run.
    for seq in range(1, 8):
        events = await collect(await runner.connect("t1", after=str(seq)))
        assert "RUN_ERROR" not in event_types(events), seq
    last_raw = await read(await runner.connect("t1", after="6"))
    assert [event["type"] for _, event in last_raw[:2]] == ["STEP_FINISHED", "RUN_FINISHED"]
    assert last_raw[1][0] == "7"


@embedded
async def test_a_long_failed_run_is_over_in_whichever_slice_it_ends(runner: AgentRunner) -> None:
    long = [event for number in range(40) for event in text_message(f"m{number}", "x" * 10_000)]
    await fail(runner, "r1", STEP, *long)
    await fail(runner, "r2")
    events = await collect(await runner.connect("t1"))
    verify(events)
    assert ends(events) == ["RUN_FINISHED", "RUN_ERROR"]
    pages = [page async for page in (await runner.connect("t1")).pages()]
    assert len(pages) > 4
    stream = await runner.connect("t1", after=pages[3].events()[0].cursor)
    assert [event.cursor async for event in stream] == [
        event.cursor for page in pages[3:] for event in page.events()
    ][1:]  # fmt: skip


async def test_an_open_interrupt_stays_open(runner: AgentRunner) -> None:
    await run(runner, "r1", run_finished("t1", "r1", outcome=ASKING))
    await fail(runner, "r2")
    cursor = [event.cursor async for event in await runner.connect("t1")][1]
    await fail(runner, "r3")
    for after in (None, cursor):
        events = await collect(await runner.connect("t1", after=after))
        (finished,) = [event for event in events if event["type"] == "RUN_FINISHED" and event["runId"] == "r2"]
        assert finished["outcome"] == ASKING
        assert finished["metadata"] == {ASKED_BY: "r1"}
    events = await connect_over_http(runner)
    assert [event.get("outcome") for event in events if event["type"] == "RUN_FINISHED"] == [None, ASKING]


async def test_an_answered_interrupt_is_not_offered_after_a_failed_answer(runner: AgentRunner) -> None:
    await run(runner, "r1", run_finished("t1", "r1", outcome=ASKING))
    await fail(runner, "r2")
    await run(runner, "r3", run_finished("t1", "r3"))
    await fail(runner, "r4")
    await fail(runner, "r5")
    events = await connect_over_http(runner)
    assert ends(events) == ["RUN_FINISHED"] * 4 + ["RUN_ERROR"]
    assert not any("outcome" in event for event in events)


async def connect_over_http(runner: AgentRunner) -> list[dict[str, Any]]:
    """Return what a client of the server gets."""
    pages = hide_answered_interrupts(await runner.connect("t1"), await runner.open(), partial(runner.connect, "t1"))
    return [event for _, event in frames_of(b"".join([bytes(page) async for page in pages]))]


@pytest.mark.parametrize(
    ("events", "types"),
    [
        ([ERROR], []),
        ([run_started("t1", "r1"), run_finished("t1", "r1"), ERROR], ["RUN_STARTED", "RUN_FINISHED"]),
        (
            [run_started("t1", "r1"), ERROR, run_started("t1", "r1"), run_finished("t1", "r1")],
            ["RUN_STARTED", "RUN_FINISHED"] * 2,
        ),
        (
            [run_started("t1", "r1"), *text_message("m1", "half")[:2], ERROR],
            ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED"],
        ),
    ],
)
async def test_odd_runs_of_other_writers_replay_in_order(
    runner: AgentRunner, events: list[dict[str, Any]], types: list[str]
) -> None:
    store = await runner.open()
    stored = _core.compact(events)
    await store.put(
        ThreadSummary("t1", None, None, False, False, 1, 1, 1),
        [StoredRun("r1", None, 1, len(events), b"[" + b",".join(map(bytes, stored)) + b"]", "{}", 1)],
    )
    await collect(await runner.run(agent_with(), make_input("t1", "r2")))
    shown = await collect(await runner.connect("t1"))
    verify(shown)
    assert event_types(shown) == [*types, "RUN_STARTED", "RUN_FINISHED"]


async def test_words_about_failures_change_nothing(runner_factory: Callable[..., AgentRunner]) -> None:
    runner = runner_factory()
    custom = {"type": "CUSTOM", "name": "RUN_ERROR", "value": ["RUN_FINISHED", "interrupt", 'a "RUN_ERROR"']}
    await collect(await runner.run(agent_with(custom), make_input("t1", "r1")))
    await collect(await runner.run(agent_with(custom), make_input("t1", "r2")))
    stored = [(event.cursor, event.to_dict()) for event in await runner.threads.events("t1")]
    assert await read(await runner.connect("t1")) == stored
