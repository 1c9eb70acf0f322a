"""A PostgreSQL standby that is promoted: live runs pause, and nothing is lost."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentRunner, StoreReadOnly
from agentrunner.stores.postgres.sessions import PostgresSession
from agentrunner.stores.urls import store_from_url
from campaigns import NotRun
from support.agents import Gate, agent_with
from support.balancer import Balancer
from support.databases import PgBouncer
from support.events import event_types, text_message
from support.inputs import make_input
from support.replication import Replication, change_setting
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.fault("D13"), pytest.mark.processes, pytest.mark.postgres]

TTL = 60.0
"""Seconds of a lease: the servers are away for less than two thirds of them, however busy the machine is."""
WHOLE = ["RUN_STARTED", *["TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END"] * 2, "RUN_FINISHED"]


@pytest.fixture(scope="module")
def servers() -> Iterator[Replication]:
    with public_folder() as name:
        both = Replication(Path(name))
        try:
            asyncio.run(both.start())
            yield both
        except NotRun as why:
            pytest.skip(f"not run: {why}")
        finally:
            both.kill()


@contextmanager
def public_folder() -> Iterator[str]:
    """Yield a folder for a server, which may run as another user."""
    with tempfile.TemporaryDirectory(prefix="replicated-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield name


async def test_runs_pause_until_the_standby_is_promoted(servers: Replication, monkeypatch: pytest.MonkeyPatch) -> None:
    former, standby = servers.primary, servers.standby
    refused = note_standbys(monkeypatch)
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Balancer())
        proxy.ports = [former.port]
        # What this one passes on to new clients about the standby will soon be out of date.
        bouncer = PgBouncer(Path(stack.enter_context(public_folder())), standby.location)
        stack.callback(bouncer.kill)
        one, two, three = [
            AgentRunner(store_from_url(location, lease_ttl=TTL))
            for location in (servers.location, with_port(proxy.port), bouncer.location)
        ]
        for runner in (one, two, three):
            stack.push_async_callback(runner.aclose)
        gates = [Gate(text_message("m1", "before"), text_message("m2", "after")) for _ in range(2)]
        streams = [
            await one.run(gates[0], make_input("t0", "r")),
            await two.run(gates[1], make_input("t1", "r")),
            await two.connect("t0"),
            await one.connect("t1"),
        ]
        reading = [asyncio.create_task(collect(stream)) for stream in streams]
        for gate in gates:
            await gate.reached.wait()
        former.kill()
        proxy.ports = [standby.port]
        await bouncer.start()
        for gate in gates:
            gate.open()
        beginning = [
            asyncio.ensure_future(runner.run(agent_with(), make_input(f"new{n}", "r")))
            for n, runner in enumerate((one, two, three))
        ]
        while not {standby.port, proxy.port, bouncer.port} <= refused:
            await asyncio.sleep(0.01)
        assert not any(task.done() for task in (*reading, *beginning))

        await servers.promote()
        for events in await asyncio.gather(*reading):
            assert event_types(events) == WHOLE
        for stream in await asyncio.gather(*beginning):
            assert event_types(await collect(stream)) == ["RUN_STARTED", "RUN_FINISHED"]
        for runner, thread in ((one, "t1"), (two, "t0")):
            assert event_types(await runner.threads.events(thread)) == WHOLE
            assert (runner.stats.lease_losses, runner.stats.recoveries) == (0, 0)
        assert (await one._store.inspect(False)).is_sound


def with_port(port: int) -> str:
    return f"postgresql://postgres@127.0.0.1:{port}/postgres"


def note_standbys(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Return a set that gets the port of each session on a standby."""
    ports: set[int] = set()
    open_session = PostgresSession.open

    async def noting(options: dict[str, Any]) -> PostgresSession:
        session = await open_session(options)
        if session.is_standby:
            ports.add(session.info.port)
        return session

    monkeypatch.setattr(PostgresSession, "open", noting)
    return ports


async def test_the_primary_is_found_behind_a_standby_that_is_named_first(servers: Replication) -> None:
    if servers.primary is servers.servers[0]:
        servers.primary.kill()
        await servers.promote()
    await servers.attach_standby()
    async with AgentRunner(store_from_url(servers.location, lease_ttl=TTL)) as runner:
        await collect(await runner.run(agent_with(), make_input("found", "r")))
    standby = servers.standby.location
    with pytest.raises(StoreReadOnly, match="target_session_attrs=any"):
        await store_from_url(standby, lease_ttl=0.3).open()
    for store in (store_from_url(f"{standby}?target_session_attrs=any"), store_from_url(standby, read_only=True)):
        async with AgentRunner(store) as reader:
            assert event_types(await reader.threads.events("found")) == ["RUN_STARTED", "RUN_FINISHED"]


async def test_a_run_pauses_while_its_sessions_may_only_read(servers: Replication) -> None:
    location = servers.primary.location
    async with AgentRunner(store_from_url(location, lease_ttl=TTL)) as runner:
        gate = Gate(text_message("m1", "before"), text_message("m2", "after"))
        stream = await runner.run(gate, make_input("demoted", "r"))
        await gate.reached.wait()
        await change_setting(servers.primary, "default_transaction_read_only", "on")
        gate.open()
        reading = asyncio.create_task(collect(stream))
        async with AgentRunner(store_from_url(location, lease_ttl=0.3)) as impatient:
            with pytest.raises(StoreReadOnly):
                await impatient.run(agent_with(), make_input("refused", "r"))
        assert not reading.done()
        await change_setting(servers.primary, "default_transaction_read_only", "off")
        assert event_types(await reading) == WHOLE
