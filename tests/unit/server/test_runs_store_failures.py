"""A store that fails: clients learn that it fails, but not where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import StoreError
from support.agents import Gate, agent_with
from support.asgi import client_of
from support.events import text_message
from support.inputs import make_input

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner

PLACE = "/somewhere/threads.db"
RUN, CONNECT, STOP = "/agent/default/run", "/agent/default/connect", "/agent/default/stop/t1"


async def failing(*_: Any, **__: Any) -> Any:
    raise StoreError(f"{PLACE}: disk I/O error")


@pytest.mark.parametrize(
    ("verb", "path", "error"),
    [
        ("claim", RUN, "Failed to run agent"),
        ("locate", CONNECT, "Failed to connect"),
        ("live", STOP, "Failed to stop agent"),
    ],
)
async def test_a_failing_verb_is_answered_in_general_words(
    runner: AgentRunner,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    verb: str,
    path: str,
    error: str,
) -> None:
    client = client_of(runner, {"default": agent_with()})
    monkeypatch.setattr(await runner.open(), verb, failing)
    answer = await client.post(path, make_input() if path != STOP else {})
    assert answer.status == 500
    assert answer.json() == {"error": error, "message": "The store cannot be read or written"}
    assert PLACE in caplog.text


async def test_a_failing_stream_is_cut_off_without_its_end(
    runner: AgentRunner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(runner, {"default": agent_with(*text_message("m", "hello"))})
    await client.post(RUN, make_input())
    monkeypatch.setattr(await runner.open(), "history", failing)
    async with client.open("POST", CONNECT, make_input(run="c")) as exchange:
        # A client would take the end of the response for the end of the run.
        with pytest.raises(AssertionError, match="cut off"):
            await exchange.answer()
    assert PLACE in caplog.text


async def test_a_client_that_leaves_before_its_turn_gives_it_up(runner_factory: Callable[..., AgentRunner]) -> None:
    runner = runner_factory(on_concurrent_run="enqueue")
    gate = Gate()
    client = client_of(runner, {"default": agent_with(), "gate": gate})
    stream = await runner.run(gate, make_input("t1", "r1"))
    await gate.reached.wait()
    async with client.open("POST", RUN, make_input("t1", "r2")) as exchange:
        exchange.leave()
        await exchange.wait_until_dropped()
    gate.open()
    async for _ in stream:
        pass
    runs = [event.to_dict() for event in await runner.threads.events("t1")]
    assert [event["runId"] for event in runs if event["type"] == "RUN_STARTED"] == ["r1"]
