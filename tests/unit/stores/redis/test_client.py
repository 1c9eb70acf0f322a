"""`RedisClient` when an answer is lost or a caller is cancelled, and addresses it refuses."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio

from agentrunner import (
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
from agentrunner.testing.writer import Writer, begin, claim, text
from agentrunner.types import ANY_SCOPE
from support import backends
from support.redis_server import keys, opened

if TYPE_CHECKING:
    pass
pytestmark = pytest.mark.redis


class Lossy:
    """Executes every command, but loses the first response to each script."""

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
        assert (known, (await calm.live("t"))[0][0].token) == ({}, mine.token)
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
            stored_records = await store.records(None, None, None, limit)
            assert len(stored_records) == min(limit, 1004)
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


async def test_a_cancelled_call_leaves_no_response_behind(location: str) -> None:
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


async def test_a_change_wakes_waiting_readers(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_a_store_is_unusable_after_closing_or_a_fork(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_the_repr_of_a_runner_names_its_store(location: str) -> None:
    async with RedisAgentRunner(backends.REDIS, prefix="{nobody's}", history=MemoryStore()) as runner:
        assert repr(runner) == 'RedisAgentRunner(prefix="{nobody\'s}")'
    with pytest.raises(ValueError, match="at least one character"):
        RedisStore(backends.REDIS, prefix="")
    with pytest.raises(ValueError, match="Redis URL"):
        RedisStore("nowhere")


async def test_one_of_two_processes_holds_the_thread(location: str) -> None:
    async with opened(store_from_url(location)) as store, opened(store_from_url(location)) as other:
        for n in range(50):
            outcomes = await asyncio.gather(
                *(claim(each, f"t{n}", f"r{n}.{k}") for k, each in enumerate([store, other] * 3)),
                return_exceptions=True,
            )
            won = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
            assert len(won) == 1
            assert {type(lost) for lost in outcomes if isinstance(lost, BaseException)} == {ThreadAlreadyRunning}
