"""Real clients of both generations read threads with failed runs."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner.reading.interrupts import hide_answered_interrupts
from support.agents import agent_with, failing_at_once, scripted_agent
from support.backends import embedded
from support.events import run_finished, run_started, text_message
from support.inputs import make_input
from support.nodejs import ask, install, needs_node
from support.streams import collect

if TYPE_CHECKING:
    from agentrunner import AgentRunner

pytestmark = needs_node

ASKING = {"type": "interrupt", "interrupts": [{"id": "i1", "reason": "input_required"}]}
CLIENTS = [(generation, how) for generation in ("new", "old") for how in ("connectAgent", "runAgent")]


@pytest.fixture(scope="module", autouse=True)
def _packages() -> None:
    install()


async def fail(runner: AgentRunner, number: int) -> None:
    """Run an agent that fails in the middle of two steps and a message."""
    steps = [{"type": "STEP_STARTED", "stepName": name} for name in ("outer", "inner")]
    error = {"type": "RUN_ERROR", "message": f"failure {number}"}
    half = text_message(f"m{number}", "half")[:2]
    agent = scripted_agent([run_started("t1", f"r{number}"), *steps, *half, error])
    await collect(await runner.run(agent, make_input("t1", f"r{number}", [f"u{number}"])))


async def read(runner: AgentRunner, *, stored: bool = False) -> dict[str, Any]:
    """Return what the real clients make of the thread's replay, or of what is stored."""
    bodies = {}
    for generation in ("new", "old"):
        source = await (runner.snapshot("t1") if stored else runner.connect("t1"))
        pages = hide_answered_interrupts(source, await runner.open(), partial(runner.connect, "t1"))
        data = [page.for_legacy_clients() if generation == "old" else bytes(page) async for page in pages]
        bodies[generation] = b"".join(data).decode()
    (answer,) = ask("replay_errors.mjs", [json.dumps(bodies).encode()])
    result: dict[str, Any] = answer
    return result


@embedded
async def test_clients_report_only_the_last_failure(runner: AgentRunner) -> None:
    for number in range(3):
        await fail(runner, number)
    seen = await read(runner)
    for generation, how in CLIENTS:
        client = seen[generation][how]
        assert client["refused"] is None, (generation, how)
        assert client["errors"] == ["failure 2"], (generation, how)
        assert client["finished"] == ["r0", "r1"], (generation, how)
        assert client["messages"] == ["u0", "m0", "u1", "m1", "u2", "m2"], (generation, how)
    # Without this, each reload reports every failure that the thread ever had.
    assert (await read(runner, stored=True))["new"]["connectAgent"]["errors"] == [f"failure {n}" for n in range(3)]


@embedded
async def test_a_failure_before_a_finished_run_is_not_reported(runner: AgentRunner) -> None:
    await fail(runner, 0)
    await collect(await runner.run(failing_at_once, make_input("t1", "r1", ["u1"])))
    await collect(await runner.run(agent_with(), make_input("t1", "r2", ["u2"])))
    seen = await read(runner)
    for generation, how in CLIENTS:
        client = seen[generation][how]
        assert (client["refused"], client["errors"]) == (None, []), (generation, how)
        # The message of the run that failed before its first event is there.
        assert client["messages"] == ["u0", "m0", "u1", "u2"], (generation, how)


@embedded
async def test_a_message_is_kept_if_its_agent_fails_at_once(runner: AgentRunner) -> None:
    live = await collect(await runner.run(failing_at_once, make_input("t1", "r1", ["u1"])))
    assert [event["type"] for event in live] == ["RUN_STARTED", "RUN_ERROR"]
    seen = await read(runner)
    for generation, how in CLIENTS:
        client = seen[generation][how]
        assert client["refused"] is None, (generation, how)
        assert client["errors"] == [live[-1]["message"]], (generation, how)
        assert client["messages"] == ["u1"], (generation, how)


@embedded
async def test_an_interrupt_is_still_open_after_two_failed_answers(runner: AgentRunner) -> None:
    asking = scripted_agent([run_started("t1", "r0"), run_finished("t1", "r0", outcome=ASKING)])
    await collect(await runner.run(asking, make_input("t1", "r0", ["u0"])))
    await fail(runner, 1)
    await fail(runner, 2)
    seen = await read(runner)
    for generation, how in CLIENTS:
        client = seen[generation][how]
        assert client["refused"] is None, (generation, how)
        assert (client["errors"], client["interrupts"]) == (["failure 2"], ["i1"]), (generation, how)
