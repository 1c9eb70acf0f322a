"""Keys on Redis: what is removed leaves none, ids hold any text, pages are short."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis.asyncio

from agentrunner.stores import Change
from agentrunner.stores.urls import store_from_url
from agentrunner.testing.writer import Writer, begin, claim, text
from agentrunner.types import ANY_SCOPE
from support.redis_server import keys, opened

if TYPE_CHECKING:
    pass
pytestmark = pytest.mark.redis


ODD = [" ", "a", "a:b", "b:a", "{a}", "}{", "a\0b", "\0", "ü\U0001f600", "*", "[a-z]?", "\r\n", "1:a", "=", "x" * 5000]
"""Ids that could be taken for something else."""


# Keys


@pytest.mark.parametrize("remove", ["delete", "clear", "prune"])
async def test_removed_threads_leave_no_key(location: str, client: redis.asyncio.Redis, remove: str) -> None:
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
        # One number stays for all deleted threads whose ids have the same hash.
        assert await keys(client, store.prefix) == before | {f"{store.prefix}:floors".encode()}


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
            assert list(known) == [f"u{n}", thread]
            await Writer(store, again).end(stored=False)
        listed = [summary.thread_id for summary in await store.threads(100, None, True, None, ANY_SCOPE)]
        assert sorted(listed) == sorted(ODD)
        for thread in ODD:
            assert (await store.runs(thread, 0, 1 << 20))[0].run_id == f"run {thread}"
            await store.delete(thread)
        assert await store.threads(100, None, True, None, ANY_SCOPE) == []


async def test_a_damaged_number_counts_as_unknown(location: str, client: redis.asyncio.Redis) -> None:
    async with client, opened(store_from_url(location)) as store:
        await (await begin(store, "t", "r1", ["u1", "u2"])).end()
        known_ids = await store.known_ids("t", ["u1", "u2"])
        await client.hset(f"{store.prefix}:ids:t", "u1", "text")
        _, known = await claim(store, "t", "r2", ["u1", "u2"])
        assert known == known_ids | {"u1": 0}
        assert await store.known_ids("t", ["u1", "u2"]) == known


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
