"""Two scopes, and runs in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import (
    AgentRunner,
    ThreadNotFound,
)
from support.agents import agent_with
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable

    Factory = Callable[..., AgentRunner]


ALICE, BOB = "alice", "bob"


async def run_whole(runner: AgentRunner, thread: str, run: str, scope: str | None = None) -> None:
    await collect(await runner.run(agent_with(), make_input(thread, run), scope=scope))


async def names(runner: AgentRunner, **chosen: Any) -> set[str]:
    return {thread.thread_id for thread in await runner.threads.list(**chosen)}


async def check_refused(runner: AgentRunner, thread: str, run: str, scope: str | None) -> None:
    """Check that the run is refused with the error text of an unknown thread."""
    with pytest.raises(ThreadNotFound) as missing:
        await runner.threads.rename("nowhere", "name")
    with pytest.raises(ThreadNotFound) as error:
        await runner.run(agent_with(), make_input(thread, run), scope=scope)
    assert str(error.value) == str(missing.value).replace("nowhere", thread)
