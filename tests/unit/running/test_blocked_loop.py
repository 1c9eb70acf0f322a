"""Runs whose agent blocks the event loop for longer than a lease lasts."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentRunner, MemoryStore, SqliteAgentRunner, StoreError
from support.events import event_types
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from agentrunner._core import Claim

TTL = 0.2

pytestmark = pytest.mark.fault("A6")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentrunner.running.maintenance.RECOVERY_POLL_SECONDS", 0.01)
    monkeypatch.setattr("agentrunner.running.maintenance.STOP_POLL_SECONDS", 0.01)
    monkeypatch.setattr("agentrunner.running.loop_watch.TICK_SECONDS", 0.01)


async def block(run_input: Any) -> AsyncIterator[dict[str, Any]]:
    """Block the event loop, and then wait until other tasks have seen that."""
    yield {"type": "CUSTOM", "name": "before", "value": 1}
    await asyncio.sleep(0.05)
    time.sleep(2.5 * TTL)
    await asyncio.sleep(0.1)
    yield {"type": "CUSTOM", "name": "after", "value": 1}


async def test_a_run_that_blocks_the_loop_is_not_lost(sqlite_factory: Callable[..., SqliteAgentRunner]) -> None:
    runner, other = sqlite_factory(lease_ttl=TTL), sqlite_factory(lease_ttl=TTL)
    await other.open()
    is_over = asyncio.Event()

    async def wait(run_input: Any) -> AsyncIterator[dict[str, Any]]:
        yield {"type": "CUSTOM", "name": "before", "value": 1}
        await is_over.wait()

    beside = await runner.run(wait, make_input("beside", "r2"))
    events = await collect(await runner.run(block, make_input("t", "r")))
    is_over.set()
    assert event_types(events)[-2:] == ["CUSTOM", "RUN_FINISHED"]
    assert event_types(await collect(beside))[-1] == "RUN_FINISHED"
    assert (runner.stats.recoveries, other.stats.recoveries, runner.stats.lease_losses) == (0, 0, 0)


async def test_one_warning_names_the_run_that_blocked_the_loop(
    sqlite_factory: Callable[..., SqliteAgentRunner], caplog: pytest.LogCaptureFixture
) -> None:
    await collect(await sqlite_factory(lease_ttl=TTL * 2).run(block, make_input("t", "r")))
    (warning,) = [text for text in caplog.messages if "was blocked for" in text and "run r of thread t" in text]
    assert __file__ in warning
    assert "(block)" in warning


async def test_a_store_that_counts_time_alone_gives_no_run_back_to_its_own_process() -> None:
    class Timed(MemoryStore):
        """A user's store, which extends no lease by itself."""

        shared, lease_ttl = True, TTL
        renewed_at = 0.0
        release = property()

        async def claim(self, *arguments: Any) -> Any:
            self.renewed_at = time.monotonic()
            return await super().claim(*arguments)

        async def renew(self, claims: list[Claim]) -> list[bool]:
            self.renewed_at = time.monotonic()
            return await super().renew(claims)

        async def append(self, *arguments: Any) -> None:
            self.renewed_at = time.monotonic()
            await super().append(*arguments)

        async def recover(self, thread_id: str | None = None) -> list[Claim]:
            if time.monotonic() - self.renewed_at > TTL:
                await self.abandon()
            return await super().recover(thread_id)

    async with AgentRunner(Timed()) as runner:
        assert event_types(await collect(await runner.run(block, make_input("t", "r"))))[-1] == "RUN_FINISHED"


async def test_a_run_ends_when_its_lease_cannot_be_renewed(
    sqlite_factory: Callable[..., SqliteAgentRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = sqlite_factory(lease_ttl=TTL)
    await runner.open()

    async def refuse(claims: list[Claim]) -> list[bool]:
        raise StoreError("the store is away")

    async def wait(run_input: Any) -> AsyncIterator[dict[str, Any]]:
        yield {"type": "CUSTOM", "name": "before", "value": 1}
        await asyncio.Event().wait()

    monkeypatch.setattr(runner._store, "renew", refuse)
    events = await collect(await runner.run(wait, make_input("t", "r")))
    assert events[-1]["code"] == "LEASE_LOST"
    # The lease is not held any more, so that the run can be recovered.
    while not runner.stats.recoveries:
        await asyncio.sleep(0.01)


async def test_a_closed_runner_leaves_no_thread(sqlite_factory: Callable[..., SqliteAgentRunner]) -> None:
    before = set(threading.enumerate())
    runner = sqlite_factory(lease_ttl=TTL)
    await collect(await runner.run(block, make_input("t", "r")))
    await runner.aclose()
    assert {
        thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("agentrunner")
    } == set()


def test_the_runs_of_a_closed_loop_can_be_recovered(tmp_path: Path) -> None:
    runner = SqliteAgentRunner(tmp_path / "threads.db", lease_ttl=TTL)

    async def wait(run_input: Any) -> AsyncIterator[dict[str, Any]]:
        yield {"type": "CUSTOM", "name": "before", "value": 1}
        await asyncio.Event().wait()

    async def begin() -> None:
        await anext(await runner.run(wait, make_input("t", "r")))

    asyncio.run(begin())

    async def take_over() -> list[str]:
        async with SqliteAgentRunner(tmp_path / "threads.db", on_concurrent_run="enqueue", lease_ttl=TTL) as other:
            await collect(await other.run(block, make_input("t", "r2")))
            return [event.to_dict().get("code") for event in await other.threads.events("t")]

    assert "INTERRUPTED" in asyncio.run(take_over())
    asyncio.run(runner._store.aclose())
    runner._is_closed = True
