"""Fences, leases and journals on Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest
import redis.asyncio
from redis.exceptions import ResponseError

import agentrunner
from agentrunner import (
    CursorExpired,
    LeaseLost,
    StoreError,
)
from agentrunner.stores import Change
from agentrunner.stores.urls import store_from_url
from agentrunner.testing.writer import Writer, begin, claim, fall_silent, history, text
from support.redis_server import keys, opened

if TYPE_CHECKING:
    pass
pytestmark = pytest.mark.redis


async def test_redis_refuses_the_writes_of_a_process_that_was_taken_over(
    location: str, client: redis.asyncio.Redis
) -> None:
    async with client, opened(store_from_url(location)) as store:
        writer = await begin(store, "t", "r")
        await writer.write(*text("m", "a"))
        stream = f"{store.prefix}:journal:1:t"
        token, last = writer.claim.token, writer.recorder.last_seq
        # Unfenced it would be taken.
        assert await client.xadd(stream, {"after": last, "frames": ""}, id=f"{token}-{last + 1}")
        await client.xdel(stream, f"{token}-{last + 1}")
        await client.delete(f"{store.prefix}:lock:t")
        await fall_silent(store, writer.claim)
        (taken,) = await store.recover("t")
        assert taken.token > token
        for seq in (last, last + 1, last + 1000):
            with pytest.raises(ResponseError, match="equal or smaller"):
                await client.xadd(stream, {"after": last, "frames": "stale"}, id=f"{token}-{seq}")
        with pytest.raises(LeaseLost):
            await writer.write(*text("late"))
        assert (await Writer(store, taken).replay()).recorder.last_seq == last


async def test_an_append_sent_twice_is_there_once(location: str) -> None:
    async with opened(store_from_url(location)) as store:
        writer = await begin(store, "t", "r")
        for name in ("m1", "m2"):
            for event in text(name, "a", "b"):
                writer.recorder.accept(orjson.dumps(event))
            batch, barrier = writer.recorder.take()
            for _ in range(3):
                await store.append(writer.claim, batch, barrier)
            writer.recorder.publish()
        page = await store.journal("t", 0, None, 1 << 20)
        assert [event.seq for event in page.frames.events()] == list(range(1, writer.recorder.last_seq + 1))


async def test_every_epoch_of_a_run_is_read_by_number(location: str, client: redis.asyncio.Redis) -> None:
    async with client, opened(store_from_url(location)) as store:
        writer = await begin(store, "t", "r")
        for n in range(5):
            for k in range(n):
                await writer.write(*text(f"m{n}.{k}", "a", "b"))
            await client.delete(f"{store.prefix}:lock:t")
            await fall_silent(store, writer.claim)
            (taken,) = await store.recover("t")
            writer = await Writer(store, taken).replay()
        await writer.write(*text("last"))
        head = writer.recorder.last_seq
        for after in range(head + 1):
            for limit in (1, 500, 1 << 20):
                seqs = []
                at = after
                while events := (await store.journal("t", at, None, limit)).frames.events():
                    seqs += [event.seq for event in events]
                    at = seqs[-1]
                assert seqs == list(range(after + 1, head + 1)), (after, limit)
        await writer.end()
        assert (await store.locate("t", (1, None))).last_seq == writer.recorder.last_seq


async def test_events_the_server_lost_are_missed(location: str, client: redis.asyncio.Redis) -> None:
    async with client, opened(store_from_url(location)) as store:
        writer = await begin(store, "t", "r")
        await writer.write(*text("m1"))
        last = writer.recorder.last_seq
        await writer.write(*text("m2"))
        # What a replica lacks that takes over.
        await client.xdel(f"{store.prefix}:journal:1:t", f"{writer.claim.token}-{writer.recorder.last_seq}")
        await client.set(f"{store.prefix}:lock:t", f"{writer.claim.token}-{last}", px=10_000)
        with pytest.raises(StoreError, match="lost events of run 'r'"):
            await writer.write(*text("m3"))


@pytest.mark.fault("D14")
@pytest.mark.parametrize(
    ("removed", "error"), [("journal:1:t", StoreError), ("live:t", LeaseLost), ("thread:t", LeaseLost)]
)
async def test_nothing_is_appended_to_a_run_whose_keys_are_gone(
    location: str, client: redis.asyncio.Redis, removed: str, error: type[Exception]
) -> None:
    async with client, opened(store_from_url(location)) as store:
        writer = await begin(store, "t", "r")
        await writer.write(*text("m1"))
        await client.delete(f"{store.prefix}:{removed}")
        with pytest.raises(error):
            await writer.write(*text("m2"))


# Leases


async def test_appending_and_renewing_extend_the_lock(location: str, client: redis.asyncio.Redis) -> None:
    async with client, opened(store_from_url(location, lease_ttl=30)) as store:
        writer = await begin(store, "t", "r")
        lock = f"{store.prefix}:lock:t"
        assert 25_000 < await client.pttl(lock) <= 30_000
        for extend in (lambda: writer.write(*text("m")), lambda: store.renew([writer.claim])):
            await client.pexpire(lock, 5000)
            await extend()
            assert 25_000 < await client.pttl(lock) <= 30_000
            # The lock expired, though no other process took over.
            await client.delete(lock)
            await extend()
            assert 25_000 < await client.pttl(lock) <= 30_000
            await writer.write(*text(f"m{await client.pttl(lock)}"))
        stale = agentrunner._core.Claim("t", "r", writer.claim.token - 1, 1, "{}")
        await client.pexpire(lock, 5000)
        assert await store.renew([stale, writer.claim]) == [False, True]


async def test_an_extended_lease_is_looked_at_again(location: str, client: redis.asyncio.Redis) -> None:
    async with client, opened(store_from_url(location)) as store, opened(store_from_url(location)) as other:
        writer = await begin(store, "t", "r")
        leases = f"{store.prefix}:leases"
        # As if looked at when it was to have ended.
        await client.zadd(leases, {"t": 0})
        assert await other.recover() == []
        assert await client.zscore(leases, "t") > 0
        await client.zadd(leases, {"t": 0})
        await client.delete(f"{store.prefix}:lock:t")
        assert await other.recover() == [], "its owner is alive"
        assert await client.zscore(leases, "t") > 0
        await client.zadd(leases, {"t": 0})
        await fall_silent(store, writer.claim)
        assert [taken.run_id for taken in await other.recover()] == ["r"]
        assert await store.renew([writer.claim]) == [False]


async def test_the_runs_of_an_owner_that_is_gone_are_taken_over_at_once(
    location: str, client: redis.asyncio.Redis
) -> None:
    async with client, opened(store_from_url(location, lease_ttl=3600)) as store:
        async with opened(store_from_url(location, lease_ttl=3600)) as other:
            for n in range(20):
                await begin(other, f"t{n}", f"r{n}")
            assert await store.recover() == []
        assert sorted(taken.run_id for taken in await store.recover()) == sorted(f"r{n}" for n in range(20))
        assert await store.recover() == []
        assert await client.smembers(f"{store.prefix}:owners") == {str(store._runs._owner).encode()}


async def test_tokens_grow_though_a_replica_takes_over(location: str, client: redis.asyncio.Redis) -> None:
    async with client, opened(store_from_url(location)) as store:
        tokens = [(await claim(store, f"t{n}", f"r{n}"))[0].token for n in range(100)]
        # It has not heard of them.
        await client.delete(f"{store.prefix}:tokens")
        tokens.append((await claim(store, "t", "r"))[0].token)
        # Its clock is behind.
        await client.set(f"{store.prefix}:tokens", 2 * tokens[-1])
        tokens += [(await claim(store, f"u{n}", f"s{n}"))[0].token for n in range(2)]
        assert tokens == sorted(set(tokens))


async def test_versions_grow_though_a_replica_takes_over(location: str, client: redis.asyncio.Redis) -> None:
    async with client, opened(store_from_url(location)) as store:
        changes = [Change("k", f"{n}", "t", b"") for n in range(100)]
        versions = await store.write(changes)
        # It has not heard of them.
        await client.delete(f"{store.prefix}:versions")
        versions += await store.write(changes)
        # Its clock is behind.
        await client.set(f"{store.prefix}:versions", 2 * versions[-1])
        versions += await store.write(changes)
        assert versions == sorted(set(versions))


# What is kept for readers that resume


async def test_a_journal_ends_with_its_resume_window(location: str, client: redis.asyncio.Redis) -> None:
    async with client, opened(store_from_url(location, resume_window=100)) as store:
        writer = await begin(store, "t", "r")
        await writer.write(*text("m"))
        stream = f"{store.prefix}:journal:1:t"
        assert await client.pttl(stream) == -1
        await writer.end()
        assert 90_000 < await client.pttl(stream) <= 100_000
        assert (await store.locate("t", (2, None))).kind == "journal"
        await client.pexpire(stream, 0)
        with pytest.raises(CursorExpired):
            await store.locate("t", (2, None))
        assert not len((await store.journal("t", 0, None, 1 << 20)).frames)
        # The next run's goes on behind it, and forgets it.
        await (await begin(store, "t", "r2")).end()
        first = writer.recorder.last_seq + 1
        assert await client.zrange(f"{store.prefix}:journals:t", 0, -1) == [b"%d" % first]


async def test_only_the_damaged_row_is_lost(location: str, client: redis.asyncio.Redis) -> None:
    async with client, opened(store_from_url(location)) as store:
        for n in range(6):
            writer = await begin(store, "t", f"r{n}")
            await writer.write(*text(f"m{n}"))
            await writer.end()
        row = f"{store.prefix}:run:r"
        await client.hset(f"{row}1", "events", b"\xff not json")
        await client.hdel(f"{row}2", "events")
        await client.unlink(f"{row}3")
        await client.set(f"{row}4", "not even a hash")
        ids = [
            event.to_dict()["messageId"] for event in await history(store, "t") if event.type == "TEXT_MESSAGE_START"
        ]
        assert ids == ["m0", "m5"]
        assert [run.run_id for run in await store.runs("t", 0, 1)] == ["r0"]
        assert [run.run_id for run in await store.runs("t", 5, 1)] == ["r5"]
        report = await store.inspect(False)
        assert report.corrupt == [("t", f"r{n}") for n in (1, 2, 3, 4)]
        await (await begin(store, "t", "r6")).end()
        assert await store.prune(6, None, 100) == 1
        now = (await store.runs("t", 0, 1))[0].created_at
        assert await store.prune(None, now, 100) == 4
        assert [run.run_id for run in await store.runs("t", 0, 1 << 20)] == ["r5", "r6"]
        await store.delete("t")
        assert await keys(client, store.prefix) == {f"{store.prefix}:{name}".encode() for name in ("tokens", "floors")}
