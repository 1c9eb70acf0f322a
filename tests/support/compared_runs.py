"""Runs of one thread, as a page sees them live and as a late reader does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner import events as functions
from support.agents import agent_with
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentrunner import AgentRunner


def calls_of(messages: Sequence[dict[str, Any]]) -> list[tuple[str, str, str | None]]:
    """Return each call's tool, arguments and result."""
    results: dict[str, str] = {}
    for message in messages:
        if message["role"] == "tool":
            assert message["toolCallId"] not in results
            results[message["toolCallId"]] = message["content"]
    calls = [call for message in messages for call in message.get("toolCalls") or ()]
    assert len({call["id"] for call in calls}) == len(calls)
    return [(call["function"]["name"], call["function"]["arguments"], results.get(call["id"])) for call in calls]


async def run_all(
    runner: AgentRunner, *runs: Sequence[dict[str, Any]], **fields: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run agents that yield these events, one after the other.

    Returns the events that a page saw live, and the messages.
    """
    live: list[dict[str, Any]] = []
    for number, events in enumerate(runs):
        run_input = make_input(run=f"r{number}", messages=[f"u{number}"], **fields)
        live += await collect(await runner.run(agent_with(*events), run_input))
        assert live[-1]["type"] == "RUN_FINISHED"
    replay = await collect(await runner.connect("t1"))
    functions.verify(live)
    functions.verify(replay)
    messages = functions.fold(live).messages
    assert functions.fold(replay).messages == messages
    assert await runner.threads.messages("t1") == messages
    ids = [message["id"] for message in messages]
    assert len(set(ids)) == len(ids)
    return live, messages
