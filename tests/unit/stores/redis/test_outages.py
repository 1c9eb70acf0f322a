"""Redis servers that fail, return, are replaced or refuse; stored keys and warnings."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio
from redis.exceptions import ResponseError

import agentrunner
from agentrunner import (
    MemoryStore,
    RedisAgentRunner,
    StoreError,
    StoreFull,
)
from agentrunner.stores.redis import RedisStore, watcher
from agentrunner.stores.redis import client as redis_client
from agentrunner.testing.writer import Writer, begin, claim, text
from support.agents import Gate, agent_with
from support.events import text_message as message
from support.inputs import make_input
from support.redis_server import Server, keys, opened
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from agentrunner import EventStream


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    try:
        yield server
    finally:
        server.stop()


# Away and back


async def test_scripts_the_server_forgot_are_sent_again(server: Server) -> None:
    server.start()
    async with await server.client() as client, opened(RedisStore(server.url)) as store:
        writer = await begin(store, "t", "r")
        for n in range(3):
            await client.script_flush()
            await writer.write(*text(f"m{n}"))
            await client.script_flush()
            assert await store.renew([writer.claim]) == [True]
        await client.script_flush()
        await writer.end()
        assert (await store.thread("t")).runs == 1


async def test_a_server_killed_under_a_run(server: Server) -> None:
    server.start("--save", "", "--appendonly", "yes", "--appendfsync", "always")
    await (await server.client()).aclose()
    async with RedisAgentRunner(server.url) as runner, RedisAgentRunner(server.url) as other:
        steps = [Gate() for _ in range(3)]

        async def agent(run_input: Any) -> AsyncIterator[Any]:
            yield {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
            for n, step in enumerate(steps):
                for event in message(f"m{n}", *("word " * 200).split()):
                    yield event
                    await asyncio.sleep(0)
                step.reached.set()
                await step._opened.wait()
            yield {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}

        stream = await runner.run(agent, make_input("t", "r"))
        seen = [(await anext(stream)).to_dict()]
        early = asyncio.create_task(collect(stream))
        far = asyncio.create_task(collect(await other.connect("t", after="1")))
        for step in steps:
            await step.reached.wait()
            server.kill()
            step.open()
            await asyncio.sleep(0.05)
            server.start()
        seen += await early
        assert seen[-1]["type"] == "RUN_FINISHED"
        assert len(seen) == 2 + 3 * 202
        assert await far == seen[1:]
        assert agentrunner.fold(seen) == await runner.threads.fold("t") == await other.threads.fold("t")


async def test_one_try_is_lost_however_many_connections_are(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.start()
    async with await server.client() as client, opened(RedisStore(server.url)) as store:
        tries: list[int] = []
        patiently = store._client.retry

        async def retry_and_count(work: Any) -> Any:
            async def one(tried: int) -> Any:
                tries.append(tried)
                return await work(tried)

            return await patiently(one)

        await asyncio.gather(*(begin(store, f"t{n}", f"r{n}") for n in range(50)))
        assert len(store._client._idle) == redis_client.CONNECTIONS
        await store.thread("t0")
        monkeypatch.setattr(store._client, "retry", retry_and_count)
        await client.client_kill_filter(_type="normal", skipme=True)
        assert (await store.thread("t0")).running
        assert tries == [0, 1]


async def test_a_server_that_is_stopped(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.start()
    await (await server.client()).aclose()
    async with opened(RedisStore(server.url, lease_ttl=3)) as store:
        writer = await begin(store, "t", "r")
        server.signal(signal.SIGSTOP)
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(StoreError, match="could not be reached for 2"):
            await store.thread("t")
        assert loop.time() - began >= 1.0
        server.signal(signal.SIGCONT)
        assert await store.renew([writer.claim]) == [True]
        assert (await store.thread("t")).running


async def test_a_server_busy_with_a_script(server: Server) -> None:
    server.start("--save", "", "--busy-reply-threshold", "10")
    async with await server.client() as client, opened(RedisStore(server.url)) as store:
        writer = await begin(store, "t", "r")
        spinning = asyncio.ensure_future(client.eval("while true do end", 0))
        async with redis.asyncio.Redis.from_url(server.url) as judge:
            while True:
                try:
                    await judge.ping()
                except ResponseError:
                    break
            both = asyncio.gather(writer.write(*text("m")), store.thread("t"))
            await asyncio.sleep(0.05)
            await judge.execute_command("SCRIPT", "KILL")
        await both
        with pytest.raises(ResponseError):
            await spinning


async def test_a_server_that_became_a_replica(server: Server) -> None:
    server.start()
    async with await server.client() as client, opened(RedisStore(server.url)) as store:
        writer = await begin(store, "t", "r")
        await client.replicaof("127.0.0.1", 1)
        writing = asyncio.ensure_future(writer.write(*text("m")))
        renewing = asyncio.ensure_future(store.renew([writer.claim]))
        await asyncio.wait([writing, renewing], timeout=0.1)
        assert not writing.done()
        await client.replicaof("NO", "ONE")
        await writing
        assert await renewing == [True]


async def test_a_server_without_memory_left(server: Server) -> None:
    server.start()
    async with await server.client() as client, opened(RedisStore(server.url)) as store:
        writer = await begin(store, "t", "r")
        await client.config_set("maxmemory", 1)
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(StoreFull):
            await writer.write(*text("m"))
        with pytest.raises(StoreFull):
            await claim(store, "t2", "r2")
        with pytest.raises(StoreFull):
            await writer.finish()
        # A run holds what it has, and is there to be written once there is room.
        assert await store.renew([writer.claim]) == [True]
        assert loop.time() - began < redis_client.FIRST_PAUSE_SECONDS * 50
        await client.config_set("maxmemory", 0)
        writer = await Writer(store, writer.claim).replay()
        await writer.write(*text("m"))
        await writer.end()
        assert (await store.thread("t")).runs == 1


async def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(StoreError, match=f"127.0.0.1:{port}") as raised:
        await RedisStore(f"redis://user:secret@127.0.0.1:{port}/0", lease_ttl=0.1).open()
    assert "secret" not in str(raised.value)


async def test_a_wrong_password_is_an_error_at_once(server: Server) -> None:
    server.start("--save", "", "--requirepass", "right")
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", server.port)).close()
            break
        await asyncio.sleep(0.01)
    wrong = RedisStore(f"redis://:wrong@127.0.0.1:{server.port}/0", lease_ttl=3600)
    with pytest.raises(StoreError):
        await wrong.open()
    async with opened(RedisStore(f"redis://:right@127.0.0.1:{server.port}/0")) as store:
        await begin(store, "t", "r")


@pytest.mark.parametrize(
    ("options", "expected_warnings"),
    [
        (
            ("--save", "", "--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru", "--appendonly", "yes"),
            ["removes keys"],
        ),
        (("--save", "", "--appendonly", "no"), ["keeps nothing on disk"]),
        (("--save", "", "--appendonly", "yes"), []),
        (("--save", "60 1"), []),
    ],
)
async def test_what_the_operator_must_know(
    server: Server, caplog: pytest.LogCaptureFixture, options: tuple[str, ...], expected_warnings: list[str]
) -> None:
    server.start(*options)
    await (await server.client()).aclose()
    with caplog.at_level(logging.WARNING, "agentrunner"):
        for _ in range(2):
            async with opened(RedisStore(server.url)):
                pass
    assert len(caplog.messages) == len(expected_warnings)
    assert all(word in line for word, line in zip(expected_warnings, caplog.messages, strict=True))


async def test_a_server_that_does_not_tell(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.start("--save", "", "--rename-command", "CONFIG", "")
    await (await server.client()).aclose()
    async with opened(RedisStore(server.url)) as store:
        await begin(store, "t", "r")
    assert caplog.messages == []


# Keys


async def test_all_keys_are_under_the_prefix(server: Server) -> None:
    server.start()
    async with await server.client() as client:
        for options in ({}, {"history": MemoryStore()}):
            async with opened(RedisStore(server.url, prefix="{mine}", **options)) as store:
                writer = await begin(store, "t", "r", ["u"], scope="s")
                await store.request_stop("t", None)
                for key in await keys(client, ""):
                    assert key.startswith(b"{mine}" + b":")
                await writer.end()
                assert all(key.startswith(b"{mine}" + b":") for key in await keys(client, ""))


async def test_one_slot_of_a_cluster(server: Server) -> None:
    server.start("--save", "", "--cluster-enabled", "yes")
    async with await server.client() as client:
        await client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        while b"cluster_state:ok" not in await client.execute_command("CLUSTER", "INFO"):
            await asyncio.sleep(0.01)
        async with RedisAgentRunner(server.url) as runner:
            await collect(await runner.run(agent_with(*message("m", "a")), make_input("{t}", "{r}")))
            assert [m["id"] for m in await runner.threads.messages("{t}")] == ["m"]
            await runner.threads.delete("{t}")
        slots = {await client.execute_command("CLUSTER", "KEYSLOT", key) for key in await keys(client, "")}
        assert len(slots) == 1


# Changes


async def subscribers(client: redis.asyncio.Redis) -> list[dict[str, str]]:
    return [one for one in await client.client_list() if int(one["sub"])]


async def test_one_subscription_for_any_number_of_readers(server: Server) -> None:
    server.start()
    async with (
        await server.client() as client,
        RedisAgentRunner(server.url) as runner,
        RedisAgentRunner(server.url) as other,
    ):
        gates = [Gate(message(f"m{n}", "a"), message(f"n{n}", "b")) for n in range(3)]
        for n, gate in enumerate(gates):
            await runner.run(gate, make_input(f"t{n}", f"r{n}"))
            await gate.reached.wait()
        readers = [asyncio.create_task(collect(await other.connect(f"t{n % 3}"))) for n in range(1000)]
        while len(await client.pubsub_channels()) < 3:
            await asyncio.sleep(0.01)
        (subscriber,) = await subscribers(client)
        assert subscriber["sub"] == "3"
        for gate in gates:
            gate.open()
        for n, events in enumerate(await asyncio.gather(*readers)):
            assert (events[-1]["type"], events[-1]["runId"]) == ("RUN_FINISHED", f"r{n % 3}")


async def test_a_thread_without_readers_is_unsubscribed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "UNUSED_SECONDS", 0.1)
    monkeypatch.setattr(watcher, "LONGEST_WAIT_SECONDS", 0.05)
    server.start()
    async with await server.client() as client, opened(RedisStore(server.url)) as store:
        for thread in ("a", "b", "a"):
            await store.changed(thread, 0)
            while not await client.pubsub_channels():
                await store.changed(thread, 0)
            while await subscribers(client):
                await asyncio.sleep(0.01)


async def test_a_follower_whose_subscription_is_killed_misses_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "LONGEST_WAIT_SECONDS", 3600)
    server.start()
    async with (
        await server.client() as client,
        RedisAgentRunner(server.url) as runner,
        RedisAgentRunner(server.url) as other,
    ):
        words: asyncio.Queue[str] = asyncio.Queue()

        async def agent(run_input: Any) -> AsyncIterator[Any]:
            yield {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
            while word := await words.get():
                for event in message(word, word):
                    yield event
            yield {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}

        early = asyncio.create_task(collect(await runner.run(agent, make_input("t", "r"))))
        words.put_nowait("begin")
        far: list[bytes] = []

        async def follow(stream: EventStream) -> None:
            async for frames in stream.frames():
                far.append(frames)  # noqa: PERF401 - looked at as it grows

        following = asyncio.create_task(follow(await other.connect("t")))
        for n in range(10):
            while not await subscribers(client):
                await asyncio.sleep(0.001)
            await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            words.put_nowait(f"w{n}")
            while f'"delta":"w{n}"'.encode() not in b"".join(far):
                await asyncio.sleep(0.001)
        words.put_nowait("")
        await following
        assert re.findall(rb'"delta":"(\w+)"', b"".join(far)) == [b"begin", *(b"w%d" % n for n in range(10))]
        assert (await early)[-1]["type"] == "RUN_FINISHED"


pytestmark = pytest.mark.redis
