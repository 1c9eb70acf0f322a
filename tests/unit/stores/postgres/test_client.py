"""`PostgresClient` after failures, cancellation and forks."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest

from agentrunner import (
    LeaseLost,
    StoreClosed,
    StoreError,
    StoreFull,
    StoreReadOnly,
    ThreadAlreadyRunning,
    ThreadNotFound,
    ThreadSummary,
)
from agentrunner.stores.postgres import PostgresStore
from agentrunner.stores.urls import store_from_url
from agentrunner.testing.writer import Writer, begin, claim, fall_silent, read_journal, store_run, text
from agentrunner.testing.writer import history as stored
from support import backends
from support.postgres import Lost, database, opened, until

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.postgres


async def test_a_lost_answer_changes_nothing(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Lost(monkeypatch)
    async with opened(location, lease_ttl=3) as store, opened(location) as other, database(store) as execute:
        claimed, _ = await lost.of('".claim_run(', store.claim("t", "r1", "{}", None, [], None))
        assert await execute('SELECT token FROM "agentrunner".live_runs') == [(claimed.token,)]
        # The same asked again by itself is no retry.
        with pytest.raises(ThreadAlreadyRunning):
            await store.claim("t", "r1", "{}", None, [], None)

        writer = Writer(store, claimed)
        started = {"type": "RUN_STARTED", "threadId": "t", "runId": "r1"}
        await lost.of('".append_one(', writer.write(started))
        await writer.write(*text("m", "word"))
        assert [event.seq for event in await read_journal(store, "t")] == [1, 2, 3, 4]
        assert await lost.of("stop_call =", other.request_stop("t", None)) is True
        assert await other.request_stop("t", None) is False
        writer.recorder.finalize(stop_requested=True)
        await writer.append()
        await lost.of('".finish(', writer.finish())
        with pytest.raises(LeaseLost):
            await writer.finish()
        assert (await store.thread("t")).runs == 1

        nothing = Writer(store, *await claim(store, "empty", "r2"))
        await lost.of('".finish(', nothing.finish(stored=False))
        with pytest.raises(LeaseLost):
            await nothing.finish(stored=False)

        await fall_silent(store, (await begin(store, "left", "r3")).claim)
        await execute("UPDATE \"agentrunner\".live_runs SET expires_at = now() - interval '1s'")
        [taken] = await lost.of("SKIP LOCKED", other.recover())
        assert await other.renew([taken]) == [True]
        assert await other.recover() == []

        await store_run(store, "t", "r4")
        assert await lost.of('".prune_thread(', store.prune(1, None, 10)) == 0
        [left] = await store.runs("t", 0, 1)
        assert (left.run_id, left.parent_run_id) == ("r4", None)
        await lost.of('".put(', store.put(ThreadSummary("copy", None, None, False, False, 1, 1, 1), [
            left._replace(run_id="r5", first_seq=1, last_seq=5)]))  # fmt: skip
        assert (await store.thread("copy")).runs == 1
        await lost.of('".delete_thread(', store.delete("copy"))
        with pytest.raises(ThreadNotFound):
            await store.delete("copy")


@pytest.mark.parametrize("state", ["25006", "57P01", "57P03", "40P01", "40001", "53300", "08006"])
async def test_temporary_failures_are_retried(fresh: str, state: str) -> None:
    async with opened(fresh) as store, database(store) as execute:
        await failing(execute, state, times=3)
        await begin(store, "t", "r")
        assert len(await read_journal(store, "t")) == 1


async def failing(execute: Callable[..., Any], state: str, times: int = 1_000_000) -> None:
    """Make the next `times` writes of the journal fail with this SQLSTATE."""
    await execute('CREATE SEQUENCE "agentrunner".failures')
    await execute(
        'CREATE FUNCTION "agentrunner".fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN'
        f" IF nextval('\"agentrunner\".failures') <= {times} THEN"
        f" RAISE EXCEPTION 'no more room' USING ERRCODE = '{state}'; END IF; RETURN NEW; END $$"
    )
    await execute('CREATE TRIGGER fail BEFORE INSERT ON "agentrunner".journal EXECUTE FUNCTION "agentrunner".fail()')


@pytest.mark.parametrize(("state", "kind"), [("53100", StoreFull), ("XX000", StoreError), ("42501", StoreError)])
async def test_permanent_failures_are_raised_at_once(fresh: str, state: str, kind: type[StoreError]) -> None:
    async with opened(fresh) as store, database(store) as execute:
        await failing(execute, state)
        writer = Writer(store, *await claim(store, "t", "r"))
        with pytest.raises(kind, match="no more room") as raised:
            await writer.write({"type": "RUN_STARTED", "threadId": "t", "runId": "r"})
        assert type(raised.value) is kind
        assert await execute('SELECT last_value FROM "agentrunner".failures') == [(1,)]
        assert await read_journal(store, "t") == []


async def test_a_session_that_may_not_write(fresh: str) -> None:
    reading = f"{fresh}&options={quote('-c default_transaction_read_only=on')}"
    with pytest.raises(StoreReadOnly):
        await store_from_url(reading, lease_ttl=0.1).open()
    async with opened(fresh), opened(reading, lease_ttl=0.1) as store:
        assert await store.threads(9, None, True, None, None) == []
        with pytest.raises(StoreReadOnly):
            await claim(store, "t", "r")


async def test_repeatable_read_sessions_are_refused(location: str) -> None:
    options = quote("-c default_transaction_isolation=repeatable\\ read")
    with pytest.raises(StoreError, match="read committed"):
        await store_from_url(f"{location}&options={options}").open()


async def test_a_server_that_is_not_there() -> None:
    store = PostgresStore("postgresql://postgres@127.0.0.1:1/test", lease_ttl=0.1)
    with pytest.raises(StoreError, match="refused"):
        await store.open()
    with pytest.raises(StoreClosed):
        await store.stops()
    await store.aclose()


async def test_cancelled_calls_leave_no_trace(location: str) -> None:
    async with opened(location, pool_size=2) as store, database(store) as execute:
        writer = await store_run(store, "t", "r")
        for n in range(40):
            calls = [
                asyncio.ensure_future(call)
                for call in (
                    stored(store, "t"), read_journal(store, "t"),
                    store.threads(9, None, True, None, None), store.recover(),
                    store.claim(f"t{n}", f"r{n}", "{}", None, [], None), store.renew([writer.claim]),
                )
            ]  # fmt: skip
            await asyncio.sleep(n * 0.00015)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        # More of them at once than there are connections.
        assert await asyncio.gather(*(store.stops() for _ in range(6))) == [[]] * 6

        async def idle() -> bool:
            sessions = await execute(
                "SELECT state FROM pg_stat_activity WHERE query LIKE %s AND pid <> pg_backend_pid()",
                f"%{store.schema}%",
            )
            return {state for (state,) in sessions} == {"idle"}

        await until(idle)


async def test_a_write_continues_after_its_caller_is_cancelled(location: str) -> None:
    async with opened(location) as store, database(store) as execute:
        await store_run(store, "t", "r")
        async with await psycopg.AsyncConnection.connect(backends.POSTGRES) as other:
            await other.execute(f'SELECT 1 FROM "{store.schema}".threads FOR UPDATE')  # noqa: S608
            renaming = asyncio.create_task(store.rename("t", "named"))

            async def waits() -> bool:
                return bool(
                    await execute(
                        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s",
                        f"%{store.schema}%",
                    )
                )

            await until(waits)
            renaming.cancel()
            with pytest.raises(asyncio.CancelledError):
                await renaming
            assert await waits()

        async def is_renamed() -> bool:
            return (await store.thread("t")).name == "named"

        await until(is_renamed)


FORKS = """
import asyncio, os, sys
from agentrunner import StoreForked, ThreadSummary
from agentrunner.stores.urls import store_from_url

async def child(store):
    for verb in (lambda: store.stops(), lambda: store.claim("t", "r", "{}", None, [], None)):
        try:
            await verb()
        except StoreForked:
            continue
        return 9
    await store.aclose()
    return 7

async def parent(store):
    await store.claim("t", "r", "{}", None, [], None)
    assert await store.stops() == []
    await store.aclose()

loop = asyncio.new_event_loop()
store = store_from_url(sys.argv[1])
loop.run_until_complete(store.open())
if (pid := os.fork()) == 0:
    # An orderly exit would close the loop, and its epoll object is the parent's too: the parent would never wake again.
    os._exit(asyncio.run(child(store)))
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
loop.run_until_complete(parent(store))
loop.close()
sys.exit(code)
"""


def test_a_forked_child_is_refused_and_the_parent_goes_on(location: str) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS, location]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 7, done.stderr
