"""The shared stores: ingest, claims, and readers in another process."""

import asyncio
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from agentrunner import AgentRunner, Store
from agentrunner._core import Batch, Claim, Recorder
from agentrunner.stores.urls import store_from_url
from benches.common import ANCHORS, Helper, Row, in_turn_async, progress, run_started

REDIS = os.environ.get("AGENTRUNNER_TEST_REDIS", "redis://127.0.0.1:6379/0")
POSTGRES = os.environ.get("AGENTRUNNER_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")
LIMITS = {"event_bytes": 1 << 22, "id_bytes": 1024, "window_bytes": 1 << 20, "pending_bytes": 1 << 20}

COMMITS = 300
EVENTS_PER_COMMIT = 20
RUNS = 50
CLAIMS = 500
PACED_EVENTS = 300
READERS = 1000


def delta(message: str, index: int) -> bytes:
    return b'{"type":"TEXT_MESSAGE_CONTENT","messageId":"%s","delta":"token number %d "}' % (message.encode(), index)


def recorder_of(claim: Claim) -> Recorder:
    return Recorder(claim.thread_id, claim.run_id, claim.input, set(), claim.first_seq, **LIMITS)


@asynccontextmanager
async def open_store(location: str) -> AsyncIterator[Store]:
    store = store_from_url(location)
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


async def start_run(store: Store) -> tuple[Claim, Recorder]:
    thread, run = str(uuid.uuid4()), str(uuid.uuid4())
    claim, _ = await store.claim(thread, run, "{}", None, [], None)
    recorder = recorder_of(claim)
    recorder.accept(run_started(thread, run))
    recorder.accept(b'{"type":"TEXT_MESSAGE_START","messageId":"m","role":"assistant"}')
    await commit(store, claim, recorder)
    return claim, recorder


async def commit(store: Store, claim: Claim, recorder: Recorder) -> None:
    taken = recorder.take()
    assert taken is not None
    await store.append(claim, *taken)
    recorder.publish()


async def ingest(store: Store, runs: int) -> float:
    """Return the events per second of `runs` concurrent runs, in commits of 20 events."""
    recorded = [await start_run(store) for _ in range(runs)]

    async def drive(claim: Claim, recorder: Recorder) -> None:
        for n in range(COMMITS):
            for k in range(EVENTS_PER_COMMIT):
                recorder.accept(delta("m", n * EVENTS_PER_COMMIT + k))
            await commit(store, claim, recorder)

    began = time.perf_counter()
    await asyncio.gather(*(drive(*pair) for pair in recorded))
    taken = time.perf_counter() - began
    for claim, recorder in recorded:
        recorder.finalize()
        await commit(store, claim, recorder)
        await store.finish(claim, recorder, True)
    return runs * COMMITS * EVENTS_PER_COMMIT / taken


def batches() -> list[bytes]:
    """Return the batches that one run of `ingest` commits."""
    recorder = Recorder("t", "r", "{}", set(), 1, **LIMITS)
    recorder.accept(run_started("t", "r"))
    recorder.accept(b'{"type":"TEXT_MESSAGE_START","messageId":"m","role":"assistant"}')
    batches_of_run: list[Batch] = []
    for n in range(COMMITS):
        for k in range(EVENTS_PER_COMMIT):
            recorder.accept(delta("m", n * EVENTS_PER_COMMIT + k))
        taken = recorder.take()
        assert taken is not None
        batches_of_run.append(taken[0])
        recorder.publish()
    return [bytes(batch) for batch in batches_of_run]


async def bare_redis(data: list[bytes]) -> float:
    from redis.asyncio import Redis

    key = f"bench-{uuid.uuid4()}"
    async with Redis.from_url(REDIS) as client:
        await client.ping()
        began = time.perf_counter()
        for batch in data:
            await client.xadd(key, {b"f": batch})
        taken = time.perf_counter() - began
        await client.delete(key)
    return len(data) * EVENTS_PER_COMMIT / taken


async def bare_postgres(data: list[bytes]) -> float:
    from psycopg import AsyncConnection
    from psycopg.sql import SQL, Identifier

    table = Identifier(f"bench-{uuid.uuid4()}")
    insert = SQL("INSERT INTO {} VALUES (%s, %s)").format(table)
    async with await AsyncConnection.connect(POSTGRES, autocommit=True) as db:
        await db.execute(SQL("CREATE TABLE {} (seq BIGINT PRIMARY KEY, frames BYTEA NOT NULL)").format(table))
        began = time.perf_counter()
        for n, batch in enumerate(data):
            await db.execute(insert, (n, batch))
        taken = time.perf_counter() - began
        await db.execute(SQL("DROP TABLE {}").format(table))
    return len(data) * EVENTS_PER_COMMIT / taken


async def ingest_rows(name: str, location: str, bare: Callable[[list[bytes]], Awaitable[float]]) -> list[Row]:
    data = batches()
    async with open_store(location) as store:
        rate = await in_turn_async(
            {"one": lambda: ingest(store, 1), "bare": lambda: bare(data), "many": lambda: ingest(store, RUNS)}
        )
    ratio, gain = rate["one"] / rate["bare"], rate["many"] / rate["one"]
    return [
        Row(
            f"{name}: one run in durable commits of {EVENTS_PER_COMMIT} events",
            f"{rate['one']:,.0f}/s",
            f"the same batches by the bare client: {rate['bare']:,.0f}/s",
            f"{ratio:.2f}x",
            ">= 0.8x",
            ratio >= 0.8,
        ),
        Row(
            f"{name}: {RUNS} such runs at once",
            f"{rate['many']:,.0f}/s",
            f"one run: {rate['one']:,.0f}/s",
            f"{gain:.1f}x",
            ">= 5x",
            gain >= 5,
        ),
    ]


async def claim_row(name: str, location: str) -> Row:
    """Measure claims one after the other, each on a new thread that `finish` then frees."""
    taken = []
    async with open_store(location) as store:
        for n in range(CLAIMS):
            began = time.perf_counter()
            claim, _ = await store.claim(str(uuid.uuid4()), str(uuid.uuid4()), "{}", None, [f"m{n}"], None)
            taken.append((time.perf_counter() - began) * 1000)
            await store.finish(claim, recorder_of(claim), False)
    p99 = statistics.quantiles(taken, n=100)[98]
    return Row(
        f"{name}: a claim, p50, p99",
        f"{statistics.median(taken):.1f} ms, {p99:.1f} ms",
        "-",
        "-",
        "p99 <= 20 ms",
        p99 <= 20,
    )


async def measure_readers(location: str, readers: int) -> tuple[float, float, int]:
    """Return the delays of events from another process, and how often the store was read.

    The other process emits 50 events a second. The delays are p50 and p99, in milliseconds from the agent's event to
    the first reader.
    """
    thread = str(uuid.uuid4())
    async with AsyncExitStack() as stack:
        store = store_from_url(location)
        reads = 0
        journal = store.journal

        async def count_reads(*arguments: object) -> object:
            nonlocal reads
            reads += 1
            return await journal(*arguments)  # type: ignore[arg-type]

        store.journal = count_reads  # type: ignore[method-assign,assignment]
        runner = await stack.enter_async_context(AgentRunner(store))
        with Helper(sys.executable, ANCHORS / "driver.py") as helper:
            helper.ask(verb="start", location=location, thread=thread)
            streams = [await runner.connect(thread) for _ in range(readers)]
            delays: list[float] = []
            read_by = [0] * readers

            async def read(number: int) -> None:
                async for event in streams[number]:
                    read_by[number] += 1
                    if number == 0 and event.type == "CUSTOM":
                        delays.append((time.monotonic() - event.to_dict()["value"]) * 1000)

            reading = asyncio.gather(*(read(number) for number in range(readers)))
            await asyncio.to_thread(helper.ask, verb="go", count=PACED_EVENTS)
            await reading
    assert len(delays) == PACED_EVENTS
    assert len(set(read_by)) == 1
    return statistics.median(delays), statistics.quantiles(delays, n=100)[98], reads


async def readers_rows(name: str, location: str, target: float) -> list[Row]:
    p50, p99, _ = await measure_readers(location, 1)
    many50, many99, reads = await measure_readers(location, READERS)
    return [
        Row(
            f"{name}: 50 events/s to a reader in another process, p50, p99",
            f"{p50:.1f} ms, {p99:.1f} ms",
            f"with {READERS - 1:,} other readers: {many50:.1f} ms, {many99:.1f} ms",
            "-",
            f"p50 <= {target:.0f} ms",
            p50 <= target,
        ),
        Row(
            f"{name}: reads of the store per event, for {READERS:,} readers there",
            f"{reads / PACED_EVENTS:.1f}",
            f"each reader by itself: {READERS:,}",
            "-",
            "one reader",
            reads <= 5 * PACED_EVENTS,
        ),
    ]


def rows() -> Iterator[Row]:
    key = uuid.uuid4().hex
    redis = f"{REDIS}?prefix={{bench-{key}}}"
    postgres = f"{POSTGRES}?schema=bench_{key}"
    with tempfile.TemporaryDirectory() as folder:
        sqlite = str(Path(folder) / "threads.db")
        for name, location, bare, target in (
            ("Redis", redis, bare_redis, 10),
            ("PostgreSQL", postgres, bare_postgres, 10),
            ("SQLite", sqlite, None, 30),
        ):
            progress(f"stores: {name}")
            try:
                if bare is not None:
                    yield from asyncio.run(ingest_rows(name, location, bare))
                yield asyncio.run(claim_row(name, location))
                yield from asyncio.run(readers_rows(name, location, target))
            finally:
                asyncio.run(remove_data(location))


async def remove_data(location: str) -> None:
    """Remove from a server what this has written."""
    if location.startswith("redis"):
        from redis.asyncio import Redis

        prefix = location.partition("prefix=")[2]
        async with Redis.from_url(REDIS) as client:
            async for key in client.scan_iter(match=f"{prefix}*", count=1000):
                await client.delete(key)
    elif location.startswith("postgres"):
        from psycopg import AsyncConnection
        from psycopg.sql import SQL, Identifier

        schema = Identifier(location.partition("schema=")[2])
        async with await AsyncConnection.connect(POSTGRES, autocommit=True) as db:
            await db.execute(SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(schema))
