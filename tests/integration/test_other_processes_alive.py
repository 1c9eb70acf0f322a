"""Processes that are alive keep their runs; those of a killed container are free at once."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from agentrunner import AgentRunner
from agentrunner.stores.urls import store_from_url
from agentrunner.testing.writer import wait_and_recover
from support.agents import agent_with
from support.events import event_types
from support.inputs import make_input
from support.processes import process
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agentrunner import Store

TTL = 0.3
LONG = 600.0
"""Seconds of a lease that no test waits for."""
BEGUN = ["RUN_STARTED", "TEXT_MESSAGE_START"]
CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@asynccontextmanager
async def opened(location: str, lease_ttl: float) -> AsyncIterator[Store]:
    store = store_from_url(location, lease_ttl=lease_ttl)
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


@pytest.mark.fault("A6")
@pytest.mark.parametrize("how", ["sleep", "gil"])
async def test_a_process_that_blocks_keeps_its_run_until_it_is_asked_to_stop(
    location: str, tmp_path: Path, how: str
) -> None:
    arguments = ("support.programs.blocker", location, TTL, tmp_path / "payments", "held")
    async with process(*arguments) as blocker, opened(location, TTL) as store:
        assert await blocker.answer() == ["ready"]
        assert await blocker.request("run", "t", 3 * TTL, how) == ["blocking", "t"]
        ending = asyncio.create_task(blocker.answer())
        while not ending.done():
            assert await store.recover() == []
            await asyncio.sleep(0.02)
        assert ending.result()[:4] == ["ended", "t", "RUN_FINISHED", "RUN_FINISHED"]
        # A process that hangs for ever: an operator asks for a stop, and the lease ends.
        assert await blocker.request("run", "hung", LONG, how) == ["blocking", "hung"]
        assert await store.request_stop("hung", None)
        assert [claim.thread_id for claim in await wait_and_recover(store, "hung")] == ["hung"]


def needs_containers(*options: str) -> tuple[str, ...]:
    """Return the command that starts a process as in a container, or skip the test."""
    command = (*CONTAINER, *options)
    try:
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
            pytest.skip("not run: no process may have a pid namespace of its own here")
    except FileNotFoundError:
        pytest.skip("not run: there is no unshare here")
    return command


@pytest.mark.fault("D9")
async def test_the_thread_of_a_container_that_was_killed_is_free_at_once(location: str) -> None:
    # With SQLite, as if both had a network of their own.
    command = needs_containers(*([] if "://" in location else ["--net"]))
    async with process("support.programs.peer", "runs", location, LONG, before=command) as peer:
        assert await peer.request("run", "t", "r") == BEGUN
        async with opened(location, LONG) as store:
            assert await store.recover() == [], "it is alive, in another pid namespace"
            assert await peer.request("say", "word") == ["TEXT_MESSAGE_CONTENT"]
        peer.kill()
    async with AgentRunner(store_from_url(location, lease_ttl=LONG), on_concurrent_run="enqueue") as runner:
        events = await collect(await runner.run(agent_with(), make_input("t", "next")))
        assert event_types(events) == ["RUN_STARTED", "RUN_FINISHED"]
