"""Processes that are alive keep their runs; those of a killed container are free at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from agentrunner import AgentRunner
from agentrunner.stores.urls import store_from_url
from agentrunner.testing.writer import wait_and_recover
from support import backends
from support.agents import agent_with
from support.events import event_types
from support.inputs import make_input
from support.paths import child_environment
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


@pytest.mark.fault("A6")
async def test_a_process_that_was_stopped_continues_its_run_if_no_other_has_taken_it_over(location: str) -> None:
    async with process("support.programs.peer", "runs", location, TTL) as peer, opened(location, TTL) as store:
        assert await peer.request("run", "t", "r") == BEGUN
        peer.stop()
        while not (await store.inspect(False)).dead:
            await asyncio.sleep(0.02)
        peer.go_on()
        assert await peer.request("say", "word") == ["TEXT_MESSAGE_CONTENT"]
        assert await peer.request("blind", "end") == ["put"]
        assert await peer.request("wait") == ["RUN_FINISHED", "-"]
        assert (await store.thread("t")).runs == 1


# A process that is stopped can hold SQLite's lock on its file.
@pytest.mark.fault("A6")
@pytest.mark.parametrize("location", backends.SERVERS, indirect=True)
async def test_a_process_that_lost_its_lease_in_earnest_runs_no_tool_again(location: str, tmp_path: Path) -> None:
    needs_elsewhere()
    payments = tmp_path / "payments"
    arguments = ("support.programs.blocker", location, TTL, payments, "held")
    async with process("support.programs.elsewhere", *arguments) as blocker:
        assert await blocker.answer() == ["ready"]
        assert await blocker.request("approve", "t", TTL, "wait") == ["blocking", "t"]
        blocker.stop()
        async with AgentRunner(store_from_url(location, lease_ttl=TTL)) as runner:
            while await runner.is_running("t"):
                await runner.recover("t")
                await asyncio.sleep(0.02)
        blocker.go_on()
        assert (await blocker.answer())[:3] == ["ended", "t", "failed/1"]
        # Its harness recovers nothing of this run.
        assert await blocker.request("run", "next", 0, "sleep") == ["blocking", "next"]
        assert (await blocker.answer())[:3] == ["ended", "next", "RUN_FINISHED"]
    assert payments.read_text() == "t\n"


def needs_elsewhere() -> None:
    """Skip the test if no process can be as on another machine."""
    command = [sys.executable, "-m", "support.programs.elsewhere", "support.lines"]
    if subprocess.run(command, env=child_environment(), capture_output=True, check=False).returncode:
        pytest.skip("not run: this system does not let a process have its own host name")


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
