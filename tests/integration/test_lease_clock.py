"""Leases on SQLite use a clock that cannot step.

Steps of the wall clock never take a thread from a live process, and never lock one.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import agentrunner
from agentrunner import SqliteAgentRunner, SqliteStore
from campaigns import NotRun
from campaigns.clock import HOUR, Clock
from support.agents import agent_with
from support.events import event_types, text_message
from support.inputs import make_input
from support.processes import process
from support.streams import collect
from support.typescript_file import elsewhere as on_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BEGUN = ["RUN_STARTED", "TEXT_MESSAGE_START"]
TTL = 1.0
LONG = 60.0
"""Seconds of a lease that no test waits for."""
FAR = 1 << 62
ANOTHER = "5a0cd3a2-0000-4000-8000-000000000000"
"""No boot of this machine."""

pytestmark = pytest.mark.skipif(
    not Path("/proc/sys/kernel/random/boot_id").exists(), reason="not run: the system does not say which boot this is"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "threads.db"


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    try:
        return Clock(tmp_path)
    except NotRun as error:
        pytest.skip(f"not run: {error}")


async def test_a_run_whose_clock_steps_is_followed_to_its_end(path: Path, clock: Clock) -> None:
    async with (
        process("support.programs.peer", "runs", path, LONG, env=clock.env) as stepped,
        SqliteAgentRunner(path) as runner,
    ):
        for n, steps in enumerate([(HOUR,), (-HOUR,), (HOUR, -HOUR, 0)]):
            clock.step(0)
            assert await stepped.request("run", f"t{n}", f"r{n}") == BEGUN
            following = asyncio.create_task(collect(await runner.connect(f"t{n}")))
            for step in steps:
                clock.step(step)
                assert await runner._store.recover() == []
                assert await stepped.request("say", f"{step:+}") == ["TEXT_MESSAGE_CONTENT"]
                assert await runner._store.recover() == []
                assert await runner.is_running(f"t{n}")
            assert await stepped.request("blind", "end") == ["put"]
            assert await stepped.request("wait") == ["RUN_FINISHED", "-"]
            followed = await following
            deltas = "".join(event.get("delta", "") for event in followed)
            assert (deltas, event_types(followed)[-1]) == ("".join(f"{step:+}" for step in steps), "RUN_FINISHED")
            # A reader can still resume from its raw events, whichever clock it ended by.
            await runner._store.recover()
            assert (await runner._store.locate(f"t{n}", (2, None))).kind == "journal"


async def test_a_process_whose_clock_steps_takes_over_no_live_run(path: Path, clock: Clock) -> None:
    arguments = ("support.programs.peer", "runs", path, LONG)
    async with process(*arguments, env=clock.env) as stepped, process(*arguments) as peer:
        assert await peer.request("run", "t", "r") == BEGUN
        for step in (HOUR, -HOUR, 0):
            clock.step(step)
            assert await stepped.request("recover") == ["0"]
            assert await peer.request("say", "word") == ["TEXT_MESSAGE_CONTENT"]
        assert await peer.request("blind", "end") == ["put"]
        assert await peer.request("wait") == ["RUN_FINISHED", "-"]


async def test_a_run_of_a_process_whose_clock_is_ahead_is_taken_over_in_time(path: Path, clock: Clock) -> None:
    clock.step(HOUR)
    async with process(
        "support.programs.elsewhere", "support.programs.peer", "runs", path, TTL, env=clock.env
    ) as silent:
        if await silent.request("run", "t", "r") != BEGUN:
            pytest.skip("not run: no process may be as if on another machine here")
        silent.stop()
        async with SqliteAgentRunner(path, on_concurrent_run="enqueue", lease_ttl=TTL) as runner:
            events = await collect(await runner.run(agent_with(), make_input("t", "next")))
            assert event_types(events) == ["RUN_STARTED", "RUN_FINISHED"]
            codes = [event.to_dict().get("code") for event in await runner.threads.events("t")]
            assert codes.count("INTERRUPTED") == 1


@asynccontextmanager
async def left_behind(path: Path, owner: dict[str, str], expires_at: int | None = None) -> AsyncIterator[SqliteStore]:
    """Yield a store with a live run under a lease of `owner` that no process renews."""
    async with process("support.programs.peer", "runs", path, TTL) as peer:
        assert await peer.request("run", "t", "r") == BEGUN
        peer.stop()
        ((text,),) = on_file(path, "SELECT owner FROM live_runs")
        place, *rest = text.split("|")
        # The namespaces of the process's pid, clock and network, and what shows that it is alive.
        names = ("host", "boot", "pids", "clocks", "network", "mark")
        parts = dict(zip(names, place.split("/"), strict=True)) | owner
        # The first version wrote only three of them.
        changed = "|".join(["/".join(list(parts.values())[: 6 if parts["clocks"] else 3]), *rest])
        on_file(path, "UPDATE live_runs SET owner = ?1, expires_at = coalesce(?2, expires_at)", changed, expires_at)
        store = SqliteStore(path, lease_ttl=TTL)
        await store.open()
        try:
            yield store
        finally:
            await store.aclose()


async def test_leases_from_before_this_hosts_boot_are_taken_over_at_once(path: Path) -> None:
    async with left_behind(path, {"boot": ANOTHER}, FAR) as store:
        assert (await store.inspect(fix=False)).dead == [("t", "r")]
        assert [claim.run_id for claim in await store.recover()] == ["r"]


@pytest.mark.parametrize("expires_at", [0, FAR])
async def test_the_lease_of_a_silent_machine_ends_after_its_ttl(path: Path, expires_at: int) -> None:
    async with left_behind(path, {"host": "another", "boot": ANOTHER}, expires_at) as store:
        began = time.monotonic()
        assert (await store.inspect(fix=False)).dead == [], "it may have been written just now"
        while not (claims := await store.recover()):
            await asyncio.sleep(0.01)
        assert [claim.run_id for claim in claims] == ["r"]
        assert time.monotonic() - began >= TTL


async def test_a_run_of_the_first_version_is_left_to_it_while_it_renews(path: Path) -> None:
    # It wrote the wall clock's time and said nothing of clocks.
    async with left_behind(path, {"clocks": ""}, 0) as store:
        for n in range(5):
            assert await store.recover() == []
            on_file(path, "UPDATE live_runs SET expires_at = ?1", n + 1)
        while not await store.recover():
            await asyncio.sleep(0.01)


async def test_a_run_of_the_first_version_whose_process_is_gone_is_taken_over_at_once(path: Path) -> None:
    async with process("support.programs.peer", "runs", path, LONG) as peer:
        assert await peer.request("run", "t", "r") == BEGUN
        peer.kill()
        ((text,),) = on_file(path, "SELECT owner FROM live_runs")
        place, *rest = text.split("|")
        first = "|".join(["/".join(place.split("/")[:3]), *rest])
        on_file(path, "UPDATE live_runs SET owner = ?1, expires_at = ?2", first, int(time.time() * 1000) + 3_600_000)
    store = SqliteStore(path)
    await store.open()
    assert [claim.run_id for claim in await store.recover()] == ["r"]
    await store.aclose()


@pytest.mark.parametrize("expires_at", [0, FAR, 1_700_000_000_000])
async def test_after_a_boot_raw_events_are_kept_for_a_whole_window(path: Path, expires_at: int) -> None:
    async with SqliteAgentRunner(path) as runner:
        await collect(await runner.run(agent_with(*text_message("m", "a")), make_input("t", "r")))
    on_file(path, "UPDATE boot SET id = ?1", ANOTHER)
    on_file(path, "UPDATE journal_expiry SET expires_at = ?1", expires_at)
    async with SqliteAgentRunner(path) as runner:
        await runner._store.recover()
        assert (await runner._store.locate("t", (2, None))).kind == "journal"
        ((until,),) = on_file(path, "SELECT expires_at - (1 << 60) FROM journal_expiry")
        assert 290_000 < until - time.monotonic() * 1000 < 310_000
    on_file(path, "UPDATE boot SET id = ?1", ANOTHER)
    async with SqliteAgentRunner(path, resume_window=0) as runner:
        while on_file(path, "SELECT count(*) FROM journal") != [[0]]:
            await runner._store.recover()
        with pytest.raises(agentrunner.CursorExpired):
            await runner.connect("t", after="2")
