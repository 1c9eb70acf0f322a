"""Only the raw events of runs in Redis, and all else in another store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio
from redis.exceptions import ResponseError

from agentrunner import (
    LeaseLost,
    MemoryStore,
    SqliteStore,
    StoreError,
)
from agentrunner.stores.urls import store_from_url
from agentrunner.testing import StoreConformance
from agentrunner.testing.writer import Writer, begin, claim, fall_silent, history, text
from support import backends
from support.redis_server import keys, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agentrunner import Store
    from agentrunner._core import Claim


class OverAnother(StoreConformance):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> Iterator[None]:
        self.folder = tmp_path
        with backends.place("redis", tmp_path) as self.location:
            yield

    # The raw events of a run that is removed go when their window ends.
    test_prune_removes_a_runs_raw_frames_and_message_ids = None  # type: ignore[assignment]


class TestOverSqlite(OverAnother):
    def make_store(self, **options: Any) -> Store:
        return store_from_url(self.location, history=SqliteStore(self.folder / "threads.db", **options), **options)


class TestOverMemory(OverAnother):
    durable = False

    def make_store(self, **options: Any) -> Store:
        return store_from_url(self.location, history=MemoryStore(**options), **options)


async def test_only_journals_are_in_redis(location: str, client: redis.asyncio.Redis, tmp_path: Path) -> None:
    async with client, opened(store_from_url(location, history=SqliteStore(tmp_path / "threads.db"))) as store:
        writer = await begin(store, "t", "r", ["u"], scope="s")
        await writer.write(*text("m"))
        names = {key.removeprefix(store.prefix.encode()) for key in await keys(client, store.prefix)}
        assert names == {b":journal:1:t", b":journals:t", b":open"}
        await writer.end()
        assert 0 < await client.pttl(f"{store.prefix}:journal:1:t") <= 300_000
        await store.delete("t")
        assert await keys(client, store.prefix) == set()


async def test_marks_in_the_journal_fence_runs_of_another_store(
    location: str, client: redis.asyncio.Redis, tmp_path: Path
) -> None:
    def make() -> Store:
        return store_from_url(location, history=SqliteStore(tmp_path / "threads.db", lease_ttl=0.2))

    async with client, opened(make()) as store, opened(make()) as other:
        writer = await begin(store, "t", "r")
        await writer.write(*text("m"))
        await fall_silent(store, writer.claim)
        taken: list[Claim] = []
        while not taken:
            taken = await other.recover("t")
        with pytest.raises(ResponseError, match="equal or smaller"):
            await client.xadd(f"{store.prefix}:journal:1:t", {"after": 0}, id=f"{writer.claim.token}-1000")
        with pytest.raises(LeaseLost):
            await writer.write(*text("late"))
        successor = await Writer(other, taken[0]).replay()
        assert successor.recorder.last_seq == writer.recorder.published
        await successor.end()


async def test_a_crash_after_the_other_store_has_finished_a_run(
    location: str, client: redis.asyncio.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> Any:
        return store_from_url(location, history=SqliteStore(tmp_path / "threads.db", lease_ttl=0.2))

    async with client, opened(make()) as other:
        async with opened(make()) as store:
            writer = await begin(store, "t", "r")
            await writer.write(*text("m"))

            async def crash(*_: Any) -> None:
                raise asyncio.CancelledError

            monkeypatch.setattr(store._runs, "_close_journal", crash)
            with pytest.raises(asyncio.CancelledError):
                await writer.end()
        assert await client.pttl(f"{other.prefix}:journal:1:t") == -1
        page = await other.journal("t", writer.recorder.last_seq, None, 1 << 20)
        assert page.live_token is None
        assert (await other.locate("t", (2, None))).last_seq == writer.recorder.last_seq
        again = await begin(other, "t", "r2")
        await again.write(*text("m2"))
        await again.end()
        assert [event.type for event in await history(other, "t")].count("RUN_STARTED") == 2
        assert await client.pttl(f"{other.prefix}:journal:{again.claim.first_seq}:t") > 0


async def test_recover_closes_a_journal_that_was_left_open(
    location: str, client: redis.asyncio.Redis, tmp_path: Path
) -> None:
    async with client, opened(store_from_url(location, history=SqliteStore(tmp_path / "threads.db"))) as store:
        live = await begin(store, "live", "r1")
        writer = await begin(store, "t", "r2")
        await writer.append()
        # As after a crash between the two.
        await store._base.finish(writer.claim, writer.recorder, True)
        await client.zadd(f"{store.prefix}:open", {"t": 0, "live": 0})
        assert await store.recover() == []
        assert await client.pttl(f"{store.prefix}:journal:1:t") > 0
        assert await client.pttl(f"{store.prefix}:journal:1:live") == -1
        assert await client.zscore(f"{store.prefix}:open", "t") is None
        await live.end()


async def test_a_claim_without_a_journal_is_released(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(store_from_url(location, history=MemoryStore())) as store:
        run = store._client.run_script

        async def fail(name: str, *arguments: Any) -> Any:
            if name == "begin":
                raise StoreError("the server is away")
            return await run(name, *arguments)

        monkeypatch.setattr(store._client, "run_script", fail)
        with pytest.raises(StoreError):
            await claim(store, "t", "r")
        monkeypatch.undo()
        await (await begin(store, "t", "r")).end()


async def test_a_run_continues_while_the_other_store_is_unreachable(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slow = SqliteStore(tmp_path / "threads.db", lease_ttl=0.3)
    async with opened(store_from_url(location, history=slow)) as store:
        writer = await begin(store, "t", "r")

        async def away(claims: list[Claim]) -> list[bool]:
            raise StoreError("it is away")

        monkeypatch.setattr(slow, "renew", away)
        for n in range(3):
            # As long after the last time as that is done again.
            store._runs._extended_at.clear()
            await writer.write(*text(f"m{n}"))
        await store._runs.wait_until_idle()
        assert caplog.messages[-3:] == ["the lease of run r could not be extended: it is away"] * 3
        monkeypatch.undo()
        await writer.end()
        assert (await store.thread("t")).runs == 1


async def test_an_owner_that_learns_of_its_lost_lease_writes_no_more(location: str, tmp_path: Path) -> None:
    other = SqliteStore(tmp_path / "threads.db", lease_ttl=0.2)
    async with opened(store_from_url(location, history=SqliteStore(tmp_path / "threads.db"))) as store, opened(other):
        writer = await begin(store, "t", "r")
        await store._runs.wait_until_idle()
        # Taken over there, but not marked here.
        await other.finish(writer.claim, writer.recorder, False)
        store._runs._extended_at.clear()
        await writer.write(*text("m"))
        await store._runs.wait_until_idle()
        with pytest.raises(LeaseLost):
            await writer.write(*text("n"))


pytestmark = pytest.mark.redis
