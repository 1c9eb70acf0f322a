"""PostgreSQL sessions killed during live runs, and PgBouncer in front of the server."""

from __future__ import annotations

import asyncio
import random
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import agentrunner
from agentrunner import AgentRunner
from agentrunner.stores import Change
from agentrunner.stores.urls import store_from_url
from campaigns import NotRun
from support import backends
from support.agents import Gate, agent_with
from support.databases import PgBouncer
from support.events import event_types, text_message, tool_call
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ag_ui.core import RunAgentInput

KILLS = 100


@pytest.fixture
def location(tmp_path: Path) -> Iterator[str]:
    with backends.place("postgres", tmp_path) as location:
        yield location


async def talkative(run_input: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
    """Yield enough different events for many commits."""
    yield {"type": "RUN_STARTED", "threadId": run_input.thread_id, "runId": run_input.run_id}
    for n in range(20):
        for event in [
            *text_message(f"{run_input.run_id}-{n}", "a", "b"),
            *tool_call(f"{run_input.run_id}-c{n}", "look", result="ok"),
        ]:
            yield event
        await asyncio.sleep(0.001)
    yield {"type": "RUN_FINISHED", "threadId": run_input.thread_id, "runId": run_input.run_id}


async def test_sessions_killed_in_the_middle_of_anything(location: str) -> None:
    name = f"killed-{uuid.uuid4().hex[:8]}"
    named = f"{location}&application_name={name}"
    chance = random.Random(7)  # noqa: S311 - to be the same each time
    begun: dict[tuple[str, str], list[agentrunner.Event]] = {}
    over = asyncio.Event()

    async def ask(runner: AgentRunner, other: AgentRunner, thread: str) -> None:
        """Run after run, read here and there."""
        while not over.is_set():
            run = f"{thread}-{len(begun)}"
            begun[thread, run] = []
            stream = await runner.run(talkative, make_input(thread, run, [f"said in {run}"]))
            following = asyncio.create_task(collect(await other.connect(thread)))
            begun[thread, run] = [event async for event in stream]
            assert event_types(await following)[-1] == "RUN_FINISHED"

    async def kill() -> None:
        async with await psycopg.AsyncConnection.connect(backends.POSTGRES, autocommit=True) as connection:
            killed = 0
            while killed < KILLS:
                await asyncio.sleep(chance.uniform(0, 0.05))
                cursor = await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
                    " ORDER BY random() LIMIT %s",
                    [name, chance.choice([1, 1, 1, 20])],
                )
                killed += len(await cursor.fetchall())
        over.set()

    async with (
        AgentRunner(store_from_url(named)) as one,
        AgentRunner(store_from_url(named)) as two,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(kill())
        for n in range(4):
            group.create_task(ask(*((one, two) if n % 2 else (two, one)), f"t{n}"))

    # All there was is there, once, as its reader saw it.
    async with AgentRunner(store_from_url(location)) as runner:
        for thread in {thread for thread, _ in begun}:
            stored = await runner._store.runs(thread, 0, 1 << 30)
            assert [run.run_id for run in stored] == [run for (of, run) in begun if of == thread]
            assert [run.parent_run_id for run in stored] == [None, *(run.run_id for run in stored[:-1])]
            seen = [event for (of, _), events in begun.items() if of == thread for event in events]
            assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
            assert agentrunner.fold(seen) == agentrunner.fold(await runner.threads.events(thread))
        assert (await runner._store.inspect(False)).is_sound


@contextmanager
def pgbouncer() -> Iterator[PgBouncer]:
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as name:
        Path(name).chmod(0o755)
        server = PgBouncer(Path(name), backends.POSTGRES)
        try:
            server.command()
        except NotRun as why:
            pytest.skip(f"not run: {why}")
        try:
            yield server
        finally:
            server.kill()


async def test_behind_pgbouncer(location: str) -> None:
    schema = location.rpartition("=")[2]
    with pgbouncer() as server:
        await server.start()
        at = f"{server.location}?schema={schema}"
        async with AgentRunner(store_from_url(at)) as here, AgentRunner(store_from_url(at, lease_ttl=5)) as there:
            gates = [Gate(text_message(f"m{n}", "a"), text_message(f"n{n}", "b")) for n in range(12)]
            for n, gate in enumerate(gates):
                await there.run(gate, make_input(f"t{n}", f"r{n}"))
                await gate.reached.wait()
            with pytest.raises(agentrunner.ThreadAlreadyRunning):
                await here.run(agent_with(), make_input("t0", "another"))
            reading = [asyncio.create_task(collect(await here.connect(f"t{n}"))) for n in range(len(gates))]
            for gate in gates[1:]:
                gate.open()
            for seen in await asyncio.gather(*reading[1:]):
                assert event_types(seen)[-2:] == ["TEXT_MESSAGE_END", "RUN_FINISHED"]
            assert await here.stop("t0")
            assert event_types(await reading[0])[-1] == "RUN_FINISHED"
            assert gates[0].cancelled

            # Sessions change hands: PgBouncer and the server's sessions behind it are lost in the middle of runs.
            tasks = [
                asyncio.create_task(collect(await there.run(talkative, make_input(f"t{n}", f"x{n}")))) for n in range(6)
            ]
            server.kill()
            await server.start()
            for seen in await asyncio.gather(*tasks):
                assert event_types(seen)[-1] == "RUN_FINISHED"
            for store in (here._store, there._store):
                async with store._client._pool.connection() as connection:  # type: ignore[attr-defined]
                    assert connection.prepare_threshold is None
                assert not store._listener.is_listening  # type: ignore[attr-defined]
            assert (await here._store.inspect(False)).is_sound


async def test_records_behind_pgbouncer(location: str) -> None:
    schema = location.rpartition("=")[2]
    with pgbouncer() as server:
        await server.start()
        store = store_from_url(f"{server.location}?schema={schema}")
        await store.open()
        versions = [0]

        async def count() -> None:
            # Each on the version before it: an answer lost with the sessions must not come back as a conflict.
            for n in range(200):
                versions.extend(await store.write([Change("kind", "a", "t", b"%d" % n, versions[-1])]))

        counting = asyncio.create_task(count())
        for after in (50, 120):
            while len(versions) < after and not counting.done():
                await asyncio.sleep(0.001)
            server.kill()
            await server.start()
        await counting
        kept = await store.record("kind", "a")
        assert kept is not None
        assert (kept.value, kept.version) == (b"199", max(versions))
        await store.aclose()
