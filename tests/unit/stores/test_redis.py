"""What is special about the store on Redis; what holds for every store is in `conformance/`."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import redis.asyncio
from redis.exceptions import ResponseError

import agentrunner
from agentrunner import (
    CursorExpired,
    LeaseLost,
    MemoryStore,
    RecordConflict,
    RedisAgentRunner,
    StoreClosed,
    StoreError,
    StoreForked,
    ThreadAlreadyRunning,
    ThreadNotFound,
)
from agentrunner.stores import Change
from agentrunner.stores.redis import RedisStore, watcher
from agentrunner.stores.redis import client as redis_client
from agentrunner.stores.urls import store_from_url
from agentrunner.testing.writer import Writer, begin, claim, history, text
from agentrunner.types import ANY_SCOPE
from support import backends
from support.redis_server import keys, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


ODD = [" ", "a", "a:b", "b:a", "{a}", "}{", "a\0b", "\0", "ü\U0001f600", "*", "[a-z]?", "\r\n", "1:a", "=", "x" * 5000]
"""Ids that could be taken for something else."""


@pytest.fixture
def location(tmp_path: Path) -> Iterator[str]:
    with backends.place("redis", tmp_path) as location:
        yield location


@pytest.fixture
def client(location: str) -> redis.asyncio.Redis:
    """A connection of the test's own, that looks at what the store wrote."""
    return redis.asyncio.Redis.from_url(backends.REDIS)


# The fence


async def test_redis_itself_refuses_who_was_taken_over(location: str, client: redis.asyncio.Redis) -> None:
    async with client, opened(store_from_url(location)) as store:
        writer = await begin(store, "t", "r")
        await writer.write(*text("m", "a"))
        stream = f"{store.prefix}:journal:1:t"
        token, last = writer.claim.token, writer.recorder.last_seq
        # Unfenced it would be taken.
        assert await client.xadd(stream, {"after": last, "frames": ""}, id=f"{token}-{last + 1}")
        await client.xdel(stream, f"{token}-{last + 1}")
        await client.delete(f"{store.prefix}:lock:t")
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
            (taken,) = await store.recover("t")
            writer = await Writer(store, taken).replay()
        await writer.write(*text("last"))
        head = writer.recorder.last_seq
        for after in range(head + 1):
            for limit in (1, 500, 1 << 20):
                seqs = []
                at = after
                while found := (await store.journal("t", at, None, limit)).frames.events():
                    seqs += [event.seq for event in found]
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
            # Ended, though nobody has taken over.
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


# Keys


@pytest.mark.parametrize("remove", ["delete", "clear", "prune"])
async def test_what_is_removed_leaves_no_key(location: str, client: redis.asyncio.Redis, remove: str) -> None:
    async with client, opened(store_from_url(location)) as store:
        await (await begin(store, "other", "r", ["u"], scope="b")).end()
        await store.write([Change("k", "other", "other", b"")])
        before = await keys(client, store.prefix)
        for n in range(3):
            writer = await begin(store, "t", f"r{n}", [f"u{n}"], scope="a", agent_id="agent")
            await writer.write(*text(f"m{n}"))
            await store.request_stop("t", None)
            await writer.end()
        await store.rename("t", "name")
        await store.write([Change("k", "a", "t", b""), Change("k", "b", "t", b"")])
        assert len(await keys(client, store.prefix) - before) == 14
        if remove == "delete":
            await store.delete("t")
        elif remove == "clear":
            await store.clear("a")
        else:
            assert await store.prune(0, None, 100) == 4
            [calls] = [key for key in before if b":writes:" in key]
            before = {f"{store.prefix}:tokens".encode(), f"{store.prefix}:versions".encode(), calls}
        assert await keys(client, store.prefix) == before


async def test_ids_are_any_text(location: str) -> None:
    async with opened(store_from_url(location)) as store:
        for n, thread in enumerate(ODD):
            writer = await begin(store, thread, f"run {thread}", [f"u{n}", thread], scope=thread, agent_id=thread)
            await writer.write(*text(f"m{n}", thread))
            assert [claim.thread_id for claim, _ in await store.live(thread)] == [thread]
            assert await store.request_stop(thread, f"run {thread}")
            assert await store.stops() == [writer.claim.token]
            await writer.end()
            await store.rename(thread, thread)
        for n, thread in enumerate(ODD):
            (summary,) = await store.threads(10, None, True, None, thread)
            assert (summary.thread_id, summary.name, summary.agent_id) == (thread, thread, thread)
            again, known = await claim(
                store, thread, f"again {thread}", [f"u{(n + 1) % len(ODD)}", f"u{n}", thread], scope=thread
            )
            assert known == [f"u{n}", thread]
            await Writer(store, again).end(stored=False)
        listed = [summary.thread_id for summary in await store.threads(100, None, True, None, ANY_SCOPE)]
        assert sorted(listed) == sorted(ODD)
        for thread in ODD:
            assert (await store.runs(thread, 0, 1 << 20))[0].run_id == f"run {thread}"
            await store.delete(thread)
        assert await store.threads(100, None, True, None, ANY_SCOPE) == []


async def test_a_page_ends_within_a_millisecond(location: str, client: redis.asyncio.Redis) -> None:
    async with client, opened(store_from_url(location)) as store:
        names = sorted(
            (f"t{thread}" for thread in ["", "a", "A", "b", "ä", "\0", "\U0001f600", "aa", "Z"]), reverse=True
        )
        for n, thread in enumerate(names):
            await (await begin(store, thread, f"r{n}")).end()
            await client.hset(f"{store.prefix}:thread:{thread}", "updated", 5)
            for index in ("threads", "unscoped"):
                await client.zadd(f"{store.prefix}:{index}", {thread: 5})
        for size in (1, 2, 4, 100):
            seen: list[str] = []
            before = None
            while page := await store.threads(size, before, True, None, None):
                assert len(page) <= size
                seen += [summary.thread_id for summary in page]
                before = (page[-1].updated_at, page[-1].thread_id)
            assert seen == names


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


async def test_a_row_that_is_damaged_costs_that_row(location: str, client: redis.asyncio.Redis) -> None:
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
        assert await keys(client, store.prefix) == {f"{store.prefix}:tokens".encode()}


# Answers that are lost


class Lossy:
    """Lets every command be done, and loses the first answer to each script."""

    def __init__(self, store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lost = 0
        self._seen: set[Any] = set()
        ask = store._client._send

        async def lossy(commands: list[tuple[Any, ...]]) -> list[Any]:
            answers = await ask(commands)
            if repr(commands) in self._seen:
                return answers
            self._seen.add(repr(commands))
            self.lost += 1
            raise redis.exceptions.ConnectionError("the answer is lost")

        monkeypatch.setattr(store._client, "_send", lossy)
        monkeypatch.setattr(redis_client, "FIRST_PAUSE_SECONDS", 0.0)


async def test_a_lost_answer_changes_nothing(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(store_from_url(location)) as store, opened(store_from_url(location)) as calm:
        for thread in ("dead", "copied"):
            writer = await begin(calm, thread, f"run of {thread}")
            if thread == "copied":
                await writer.end()
        copy, copied = await calm.thread("copied"), await calm.runs("copied", 0, 1 << 20)
        await calm.delete("copied")
        lossy = Lossy(store, monkeypatch)

        mine, known = await claim(store, "t", "r", ["u"])
        assert (known, (await calm.live("t"))[0][0].token) == ([], mine.token)
        writer = Writer(store, mine)
        await writer.write({"type": "RUN_STARTED", "threadId": "t", "runId": "r"}, *text("m", "a"))
        assert await store.renew([mine]) == [True]
        assert await store.request_stop("t", None)
        assert not await store.request_stop("t", None)
        assert await store.stops() == [mine.token]
        await writer.end()
        assert (await calm.thread("t")).runs == 1
        with pytest.raises(LeaseLost):
            await store.finish(mine, writer.recorder, True)

        other = await begin(store, "t", "r2")
        await other.end(stored=False)
        assert (await calm.thread("t")).runs == 1
        first = await begin(store, "new", "r3")
        await first.end(stored=False)
        with pytest.raises(ThreadNotFound):
            await calm.thread("new")

        await store.rename("t", "name")
        await store.archive("t", True)
        await store.put(copy, copied)
        assert await calm.runs("copied", 0, 1 << 20) == copied
        await store.delete("copied")
        await store.clear(ANY_SCOPE)
        assert [thread.thread_id for thread in await calm.threads(9, None, True, None, ANY_SCOPE)] == ["dead"]
        assert lossy.lost > 15


async def test_a_write_whose_answer_was_lost_is_known_again(
    location: str, client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client, opened(store_from_url(location)) as store, opened(store_from_url(location)) as calm:
        Lossy(store, monkeypatch)
        [b, a] = await store.write([Change("k", "b", "t", b"1", 0), Change("k", "a", "", b"2")])
        assert [record.version for record in await calm.records("k", None, None, 9)] == [a, b]
        assert await store.write([Change("k", "b", "t", None, b)]) == [0]
        with pytest.raises(RecordConflict, match="'a'"):
            await store.write([Change("k", "b", "t", b"x"), Change("k", "a", "", None, a - 1)])

        # Done over by another before it is asked again, and its claim is gone.
        writer = await begin(store, "t", "r")
        run = store._client.run_script_once

        async def meanwhile(name: str, *arguments: Any) -> Any:
            try:
                return await run(name, *arguments)
            except redis.exceptions.ConnectionError:
                monkeypatch.setattr(store._client, "run_script_once", run)
                await writer.end()
                await calm.write([Change("k", "a", "", b"other's")])
                raise

        monkeypatch.setattr(store._client, "run_script_once", meanwhile)
        [version] = await store.write([Change("k", "a", "", b"ours", a)], writer.claim)
        [kept] = await calm.records("k", None, None, 9)
        assert (kept.value, kept.version > version) == (b"other's", True)
        # What was answered is not remembered.
        for _ in range(100):
            await store.write([Change("k", "a", "", b"")])
        remembered = [key for key in await keys(client, store.prefix) if b":writes:" in key]
        assert [await client.hlen(key) <= 2 for key in remembered] == [True] * 2


async def test_long_pages_are_read_in_parts(location: str) -> None:
    async with opened(store_from_url(location)) as store:
        await store.write([Change("k", f"{n:04}", "t", b"") for n in range(1000)])
        await store.write([Change("large", f"{n}", "t", bytes(3 << 20)) for n in range(4)])
        for limit in (199, 200, 201, 2000):
            found = await store.records(None, None, None, limit)
            assert len(found) == min(limit, 1004)
        assert [record.key for record in await store.records("large", "t", None, 9)] == ["0", "1", "2", "3"]
        assert len(await store.records("large", "t", None, 3)) == 3


async def test_runs_taken_over_are_not_forgotten_with_the_answer(
    location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(store_from_url(location)) as store:
        async with opened(store_from_url(location)) as dead:
            for n in range(3):
                await begin(dead, f"t{n}", f"r{n}")
        mine = await begin(store, "mine", "mine")
        Lossy(store, monkeypatch)
        taken = await store.recover()
        assert sorted(one.run_id for one in taken) == ["r0", "r1", "r2"]
        assert await store.renew([*taken, mine.claim]) == [True] * 4


async def test_who_is_cancelled_leaves_no_answer_behind(location: str) -> None:
    async with opened(store_from_url(location)) as store:
        for n in range(20):
            writer = await begin(store, f"t{n}", f"r{n}")
            await writer.write(*text(f"m{n}"))
            await writer.end()

        async def look(n: int) -> None:
            assert (await store.thread(f"t{n}")).thread_id == f"t{n}"
            assert (await store.runs(f"t{n}", 0, 1))[0].run_id == f"r{n}"

        for steps in range(40):
            tasks = [asyncio.ensure_future(look(n)) for n in range(20)]
            for _ in range(steps % 8):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
            assert outcomes[1::2] == [None] * 10


async def test_a_change_wakes_who_waits(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "LONGEST_WAIT_SECONDS", 3600)
    async with opened(store_from_url(location)) as store, opened(store_from_url(location)) as other:
        writer = await begin(store, "t", "r")
        while not other._watcher._watched or not next(iter(other._watcher._watched.values())).is_subscribed:
            await other.changed("t", 1)
        for change in (lambda: writer.write(*text("m")), lambda: store.request_stop("t", None), writer.end):
            waiting = [asyncio.ensure_future(other.changed("t", writer.recorder.last_seq)) for _ in range(5)]
            await asyncio.sleep(0)
            await change()
            await asyncio.gather(*waiting)
        # It may have come after the caller had looked, and before it waits.
        while not other._watcher._watched[f"{store.prefix}:changed:t".encode()].changed_at:
            await asyncio.sleep(0)
        await other.changed("t", writer.recorder.last_seq)


async def test_a_server_that_is_too_old(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_client, "MIN_VERSION", (99, 0))
    with pytest.raises(StoreError, match="or newer is needed"):
        await store_from_url(location).open()


async def test_an_address_cannot_spoil_the_answers(location: str) -> None:
    odd = store_from_url(f"{location}&decode_responses=true&protocol=3&socket_timeout=0.001")
    async with opened(odd) as store:
        await (await begin(store, "t\0", "r")).end()
        assert (await store.runs("t\0", 0, 1))[0].events.startswith(b"[")


async def test_closed_and_forked(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_from_url(location)
    with pytest.raises(StoreClosed):
        await store.thread("t")
    async with opened(store):
        child = os.getpid() + 1
        monkeypatch.setattr(os, "getpid", lambda: child)
        for use in (store.thread("t"), store.changed("t", 0), store.claim("t", "r", "{}", None, [], None)):
            with pytest.raises(StoreForked):
                await use
        monkeypatch.undo()
        await begin(store, "t", "r")
    for use in (store.thread("t"), store.changed("t", 0), store.stops()):
        with pytest.raises(StoreClosed):
            await use
    async with opened(store):
        assert [taken.run_id for taken in await store.recover()] == ["r"]


async def test_the_runner_says_what_it_is_on(location: str) -> None:
    async with RedisAgentRunner(backends.REDIS, prefix="{nobody's}", history=MemoryStore()) as runner:
        assert repr(runner) == 'RedisAgentRunner(prefix="{nobody\'s}")'
    with pytest.raises(ValueError, match="at least one character"):
        RedisStore(backends.REDIS, prefix="")
    with pytest.raises(ValueError, match="Redis URL"):
        RedisStore("nowhere")


async def test_of_two_processes_one_has_the_thread(location: str) -> None:
    async with opened(store_from_url(location)) as store, opened(store_from_url(location)) as other:
        for n in range(50):
            outcomes = await asyncio.gather(
                *(claim(each, f"t{n}", f"r{n}.{k}") for k, each in enumerate([store, other] * 3)),
                return_exceptions=True,
            )
            won = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
            assert len(won) == 1
            assert {type(lost) for lost in outcomes if isinstance(lost, BaseException)} == {ThreadAlreadyRunning}


pytestmark = pytest.mark.redis
