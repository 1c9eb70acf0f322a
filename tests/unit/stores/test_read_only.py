"""A store that is opened with `read_only` reads everything and writes nothing."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentRunner, StoreError, StoreReadOnly
from agentrunner._core import Claim
from agentrunner.stores import Change
from agentrunner.stores.urls import store_from_url
from agentrunner.types import ANY_SCOPE, ThreadSummary
from support import backends
from support.agents import agent_with
from support.events import event_types, text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agentrunner import Store

pytestmark = pytest.mark.fault("D16")


async def fill(location: str) -> None:
    """Store a thread `t` with two runs and a record."""
    async with AgentRunner.from_url(location) as runner:
        for run in ("r1", "r2"):
            await collect(await runner.run(agent_with(*text_message(run, "hello")), make_input("t", run)))
        store = await runner.open()
        await store.write([Change("kind", "a", "t", b"value")])


@asynccontextmanager
async def opened(location: str, **options: Any) -> AsyncIterator[Store]:
    store = store_from_url(location, **options)
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


async def read_all(store: Store) -> list[object]:
    """Return what every method that reads returns, and the keys of the records."""
    runs = await store.runs("t", 0, 1 << 20)
    return [
        await store.threads(10, None, True, None, ANY_SCOPE),
        await store.thread("t"),
        bytes((await store.history("t", (0, None), None, 1 << 20)).frames),
        runs,
        bytes((await store.journal("t", 0, None, 1 << 20)).frames),
        await store.locate("t", (runs[0].last_seq, None)),
        await store.known_ids("t", ["r1", "m9"]),
        await store.live(),
        await store.stops(),
        await store.record("kind", "a"),
        await store.records(None, None, None, 10),
        await store.inspect(fix=False),
    ]


async def test_all_that_reads_reads_the_same(location: str) -> None:
    await fill(location)
    async with opened(location) as store:
        expected = await read_all(store)
    async with opened(location, read_only=True) as store:
        assert await read_all(store) == expected


async def test_no_method_writes(location: str) -> None:
    await fill(location)
    claim = Claim("t", "r9", 1, 1, "{}", None)
    thread = ThreadSummary("t", None, None, False, False, 1, 1, 1, None)
    async with opened(location, read_only=True) as store:
        before = await read_all(store)
        for call in (
            store.claim("t9", "r9", "{}", None, [], None),
            store.renew([claim]),
            store.request_stop("t", None),
            store.recover(),
            store.rename("t", "name"),
            store.archive("t", True),
            store.delete("t"),
            store.move("t", "scope"),
            store.clear(ANY_SCOPE),
            store.put(thread, []),
            store.prune(1, None, 10),
            store.write([Change("kind", "a", "t", b"value")]),
            store.inspect(fix=True),
        ):
            with pytest.raises(StoreReadOnly, match="read_only"):
                await call
        assert await read_all(store) == before


async def test_a_runner_reads_and_does_not_run(location: str) -> None:
    await fill(location)
    async with AgentRunner.from_url(location, read_only=True) as runner:
        assert [thread.thread_id for thread in await runner.threads.list()] == ["t"]
        assert event_types([event async for event in runner.connect("t")])[-1] == "RUN_FINISHED"
        with pytest.raises(StoreReadOnly):
            await runner.run(agent_with(), make_input("t", "r9"))


async def test_postgres_refuses_a_write_by_its_transaction(tmp_path: Path) -> None:
    with backends.place("postgres", tmp_path) as location:
        await fill(location)
        # A write that a server refuses is tried again for two thirds of this time, in case that it was a standby.
        async with opened(location, read_only=True, lease_ttl=0.3) as store:
            for large in (False, True):
                with pytest.raises(StoreReadOnly, match="read-only transaction"):
                    await store._client.fetch('DELETE FROM "agentrunner".threads RETURNING 1', large=large)  # type: ignore[attr-defined]


async def test_a_postgres_schema_is_neither_created_nor_brought_up_to_date(tmp_path: Path) -> None:
    with backends.place("postgres", tmp_path) as location:
        missing = store_from_url(location + "-none", read_only=True)
        with pytest.raises(StoreError, match="there is no agentrunner schema"):
            await missing.open()
        assert not await missing.has_schema()  # type: ignore[attr-defined]
        await fill(location)
        async with opened(location) as store:
            fetch = store._client.fetch  # type: ignore[attr-defined]
            change = 'UPDATE "agentrunner".schema_version SET version = version - %(by)s RETURNING version'
            ((version,),) = await fetch(change, by=1)
            try:
                with pytest.raises(StoreError, match=f"has version {version}, .* open it once with a runner"):
                    await store_from_url(location, read_only=True).open()
                assert await fetch('SELECT version FROM "agentrunner".schema_version') == [(version,)]
            finally:
                await fetch(change, by=-1)


async def test_redis_refuses_a_script_that_writes(tmp_path: Path) -> None:
    with backends.place("redis", tmp_path) as location:
        await fill(location)
        async with opened(location, read_only=True) as store:
            if store._client._run_word != "EVALSHA_RO":  # type: ignore[attr-defined]
                pytest.skip("not run: EVALSHA_RO needs Redis 7")
            with pytest.raises(StoreError, match="Write commands are not allowed"):
                await store._client.run_script("drop", b"t")  # type: ignore[attr-defined]
