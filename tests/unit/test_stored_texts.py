"""Texts that one store cannot keep are refused by all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import InvalidInput
from support.agents import agent_with
from support.asgi import client_of
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from agentrunner import AgentRunner

pytestmark = pytest.mark.fault("B13")

NAMES = ["\0", "a\0b", "\ud800", "a\udfffb"]


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_that_some_store_cannot_keep_is_refused(runner: AgentRunner, name: str) -> None:
    await collect(await runner.run(agent_with(), make_input("t1", "r1")))
    await runner.threads.rename("t1", "before")
    with pytest.raises(InvalidInput):
        await runner.threads.rename("t1", name)
    client = client_of(runner, {"default": agent_with()})
    answer = await client.send("PATCH", "/threads/t1", {"name": name})
    assert answer.status == 400
    assert (await runner.threads.get("t1")).name == "before"


@pytest.mark.parametrize("name", NAMES)
async def test_ids_scopes_and_agents_that_some_store_cannot_keep_are_refused(runner: AgentRunner, name: str) -> None:
    attempts: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (make_input(name, "r"), {}), (make_input("t", name), {}),
        (make_input("t", "r"), {"scope": name}), (make_input("t", "r"), {"agent_id": name}),
    ]  # fmt: skip
    for run_input, options in attempts:
        with pytest.raises(InvalidInput):
            await runner.run(agent_with(), run_input, **options)
    assert await runner.threads.list() == []
