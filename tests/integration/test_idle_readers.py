"""Readers that stop reading or vanish: other readers and the runs do not notice.

`benches/idle_readers.py` measures the same at full size.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import sys
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
import uvicorn
from uvicorn.server import ServerState

from agentrunner._core import Frames
from agentrunner.server import Limits, create_app
from agentrunner.server.sse import ABORT_EXTENSION, UNSENT_BYTES_EXTENSION, EventStreamResponse
from agentrunner.server.uvicorn_server import AbortableProtocol
from support.agents import agent_with
from support.events import event_types, run_finished, run_started, text_message
from support.inputs import make_input
from support.wire import Wire, open_wire, request, serve_app, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agentrunner import AgentRunner

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc, sets Linux' buffers")

READERS, IDLE = 200, 20
BURSTS, BURST = 6, 40
PADDING = "x" * 1000
LOOK = make_input("t", "look", protocolVersion="1.0")
ALL = ["1.0", *(str(n) for n in range(2, 2 + BURSTS * BURST))]
"""Cursors of a reader that connected when the run had its first event."""
SMALL = 4096
"""Bytes of the kernel's buffers: so few that a reader that does not read is noticed soon."""


class Bursts:
    """An agent that sends its next events when the test says so, and ends likewise."""

    def __init__(self) -> None:
        self._said: asyncio.Queue[list[dict[str, Any]] | None] = asyncio.Queue()

    def say(self, events: list[dict[str, Any]]) -> None:
        self._said.put_nowait(events)

    def end(self) -> None:
        self._said.put_nowait(None)

    async def run(self, input: Any) -> AsyncIterator[dict[str, Any]]:
        yield run_started(input.thread_id, input.run_id)
        while (events := await self._said.get()) is not None:
            for event in events:
                yield event
        yield run_finished(input.thread_id, input.run_id)


def number_events(first: int, count: int, padding: str = PADDING) -> list[dict[str, Any]]:
    return [{"type": "CUSTOM", "name": str(n), "value": padding} for n in range(first, first + count)]


@pytest.fixture
def runner(memory_factory: Callable[..., AgentRunner]) -> AgentRunner:
    return memory_factory()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - pathlib would open one more


def left() -> tuple[int, int]:
    """Return the number of tasks and of descriptors."""
    gc.collect()
    return len(asyncio.all_tasks()), descriptors()


def cursors(data: bytes) -> list[str]:
    """Return the cursors of the whole frames that a reader has seen."""
    return [frame.split(b"\n", 1)[0][4:].decode() for frame in data.split(b"\n\n")[:-1]]


async def reader(wires: contextlib.AsyncExitStack, address: Any, *, idle: bool = False) -> Wire:
    wire = await wires.enter_async_context(open_wire(address, receive_buffer=SMALL if idle else None))
    await wire.ask("POST", "/agent/default/connect", LOOK)
    assert (await wire.head()).status == 200
    await wire.until_seen(b"\n\n")
    if idle:
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    return wire


async def test_readers_that_stop_reading_do_not_slow_down_others_and_may_resume(
    runner: AgentRunner, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agentrunner.server")
    agent = Bursts()
    app = create_app(runner, {"default": agent}, limits=Limits(stalled_seconds=2))
    async with serve_app(app, send_buffer=SMALL) as address:
        stream = await runner.run(agent, make_input("t", "r"))
        await anext(stream)
        before = left()
        async with contextlib.AsyncExitStack() as wires:
            reading = [await reader(wires, address) for _ in range(READERS - IDLE)]
            idle = [await reader(wires, address, idle=True) for _ in range(IDLE)]
            held: list[int] = []
            for burst in range(BURSTS):
                agent.say(number_events(burst * BURST, BURST))
                # The idle readers hold up none: the next burst is sent when all others have this one.
                last = b'"name":"%d"' % ((burst + 1) * BURST - 1)
                await asyncio.gather(*(wire.until_seen(last) for wire in reading))
                held.extend(one.transport.get_write_buffer_size() for one in app.state.connections)
            for wire in reading:
                assert cursors(wire.seen) == ALL
            # The server holds less than a chunk more than the amount that makes it wait.
            assert 64 * 1024 <= max(held) <= 160 * 1024
            await until(lambda: len(app.state.connections) == READERS - IDLE)
            assert sum("read nothing" in record.message for record in caplog.records) == IDLE
            # The idle clients still have their ends open, unread: only those are left here.
            assert descriptors() == before[1] + 2 * (READERS - IDLE) + IDLE
            await until(lambda: len(asyncio.all_tasks()) - before[0] == TASKS * (READERS - IDLE))
            await asyncio.gather(*(resumes(wires, address, wire) for wire in idle[: IDLE // 2]))
            agent.say(number_events(BURSTS * BURST, BURST))
            agent.end()
            for wire in reading:
                assert (await wire.rest()).count(b"RUN_FINISHED") == 1
        await until(lambda: left()[1] == before[1])
        rest = [event.to_dict() async for event in stream]
        assert [event.get("name") for event in rest[:-1]] == [str(n) for n in range((BURSTS + 1) * BURST)]
        await until(lambda: left()[0] <= before[0])


async def resumes(wires: contextlib.AsyncExitStack, address: Any, wire: Wire) -> None:
    """Read what arrived before the connection was cut, and resume on another one."""
    wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        await wire.rest()
    seen = cursors(wire.seen)
    again = await wires.enter_async_context(open_wire(address))
    await again.ask("POST", "/agent/default/connect", LOOK, last_event_id=seen[-1])
    assert (await again.head()).status == 200
    await again.until_seen(b'"name":"%d"' % (BURSTS * BURST - 1))
    assert seen + cursors(again.seen) == ALL
    assert len(seen) < len(ALL)


TASKS = 3
"""Tasks of a streaming connection: the writer, the disconnect watcher and the timer."""


async def test_a_client_that_never_reads_the_end_of_its_response_is_cut_off(runner: AgentRunner) -> None:
    app = create_app(runner, {"default": agent_with(*number_events(0, 200))}, limits=Limits(stalled_seconds=0.2))
    async with serve_app(app, send_buffer=SMALL) as address:
        ends = []
        before = descriptors()
        async with contextlib.AsyncExitStack() as wires:
            for number, closing in enumerate(("close", "keep-alive")):
                for method, path in (("POST", "/agent/default/run"), ("GET", "/threads/t0/events")):
                    wire = await wires.enter_async_context(open_wire(address, receive_buffer=SMALL))
                    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
                    request_bytes = make_input(f"t{number}", f"r{number}", protocolVersion="1.0")
                    await wire.ask(method, path, request_bytes if method == "POST" else None, connection=closing)
                    ends.append(wire)
                    await until(lambda: app.state.connections)
                    await until(lambda: not app.state.connections)
            # The clients' ends are still open: they can read the rest, and then see that the connection was cut.
            assert descriptors() == before + len(ends)
            for wire in ends:
                wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await wire.answer()
        assert [thread.runs for thread in await runner.threads.list()] == [1, 1]


@pytest.mark.parametrize("closing", [False, True])
def test_a_slow_client_gets_the_end_of_its_response(closing: bool) -> None:
    """Drive the protocol by hand, with the unread bytes at each of its checks."""

    class Transport:
        aborted = False

        def get_write_buffer_size(self) -> int:
            return left.pop(0)

        def is_closing(self) -> bool:
            return closing

        def abort(self) -> None:
            self.aborted = True

    for left, aborted in (
        ([900, 800, 1, 0], False), ([0], False), ([900, 900], True), ([900, 800, 800], True), ([9, 8, 9, 9], True),
    ):  # fmt: skip
        loop = Mock(spec=asyncio.AbstractEventLoop)
        connection = AbortableProtocol(
            uvicorn.Config(lambda: None, log_config=None, ws="none"), ServerState(), {}, loop
        )
        connection.transport = transport = Transport()  # type: ignore[assignment]
        connection.flow = Mock()
        connection.on_response_complete()
        looks = [call.args for call in loop.call_later.call_args_list if len(call.args) > 2]
        while looks:
            seconds, look, *size = looks.pop()
            assert seconds == AbortableProtocol.stalled_seconds
            loop.call_later.reset_mock()
            look(*size)
            looks = [call.args for call in loop.call_later.call_args_list]
        assert (transport.aborted, left) == (aborted, [])


class Held:
    """An ASGI server that takes some messages, and then waits as for a stalled client."""

    def __init__(self, takes: int) -> None:
        self.takes = takes
        self.sent: list[dict[str, Any]] = []
        self.aborted = asyncio.Event()
        self.scope: Any = {"type": "http", "http_version": "1.1", "extensions": {ABORT_EXTENSION: self.aborted.set}}

    async def send(self, message: Any) -> None:
        if len(self.sent) == self.takes:
            await asyncio.Event().wait()
        self.sent.append(message)

    async def receive(self) -> dict[str, str]:
        # Uvicorn reports a disconnect one turn of the loop later; here both tasks are cancelled in the same turn.
        await self.aborted.wait()
        return {"type": "http.disconnect"}


@pytest.mark.parametrize("takes", [1, 2, 3])
async def test_a_stalled_client_is_dropped_at_an_event_at_a_comment_and_at_the_end(takes: int) -> None:
    over, closed = asyncio.Event(), False
    if takes == 3:
        over.set()

    async def pieces() -> AsyncIterator[Frames]:
        nonlocal closed
        try:
            yield Frames(b"id: 1\ndata: {}\n\n")
            await over.wait()
            yield Frames(b"id: 2\ndata: {}\n\n")
        finally:
            closed = True

    server = Held(takes)
    limits = Limits(keep_alive_seconds=0.05, stalled_seconds=0.1)
    response = EventStreamResponse(pieces(), limits)  # type: ignore[arg-type]
    # The response ends by itself, and its task does not count as cancelled.
    await response(server.scope, server.receive, server.send)  # type: ignore[arg-type]
    assert server.aborted.is_set()
    assert closed
    assert len(server.sent) == takes
    assert not asyncio.current_task().cancelling()  # type: ignore[union-attr]


async def test_a_slow_client_is_dropped_only_when_it_stops_reading() -> None:
    async def pieces() -> AsyncIterator[Frames]:
        yield Frames(b"id: 1\ndata: {}\n\n")

    server, looks = Held(1), 0

    def left() -> int:
        nonlocal looks
        looks += 1
        return max(1000 - looks, 980)

    server.scope["extensions"][UNSENT_BYTES_EXTENSION] = left
    response = EventStreamResponse(pieces(), Limits(stalled_seconds=0.1))  # type: ignore[arg-type]
    await response(server.scope, server.receive, server.send)  # type: ignore[arg-type]
    assert server.aborted.is_set()
    # As long as the unread bytes became fewer, the client was not dropped.
    assert looks > 20


async def test_a_response_that_the_server_cancels_stays_cancelled() -> None:
    async def pieces() -> AsyncIterator[Frames]:
        yield Frames(b"id: 1\ndata: {}\n\n")
        await asyncio.Event().wait()

    server = Held(99)
    response = EventStreamResponse(pieces(), Limits())  # type: ignore[arg-type]
    task = asyncio.ensure_future(response(server.scope, server.receive, server.send))  # type: ignore[arg-type]
    await until(lambda: len(server.sent) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("verb", ["run", "connect"])
async def test_clients_that_vanish_at_any_byte_leave_only_their_runs(
    verb: str, runner: AgentRunner, caplog: pytest.LogCaptureFixture
) -> None:
    clients, events, dice = 200, 30, random.Random(7)  # noqa: S311

    async def agent(input: Any) -> AsyncIterator[Any]:
        async for event in agent_with(*number_events(0, events, "x" * 100))(input):
            yield event
            await asyncio.sleep(0)

    app = create_app(runner, {"default": agent})
    async with serve_app(app) as address:
        before = left()

        async def one(number: int) -> None:
            thread = f"t{number}" if verb == "run" else f"t{number % 10}"
            if verb == "connect" and number < 10:
                await runner.run(agent, make_input(thread, f"r{number}"))
            request_bytes = request_of(verb, thread, f"r{number}")
            # Somewhere from the first byte of the request to the last of the response.
            at = dice.randrange(1, len(request_bytes) + 5000)
            async with open_wire(address) as wire:
                await wire.send(request_bytes[:at])
                with contextlib.suppress(asyncio.IncompleteReadError):
                    await wire.reader.readexactly(max(0, at - len(request_bytes)))
                wire.vanish()

        await asyncio.gather(*(one(number) for number in range(clients)))
        await until(lambda: not app.state.connections and not runner._table.live_runs)
        await until(lambda: left() <= before)
        threads = await runner.threads.list(limit=1000)
        assert len(threads) > (clients * 0.8 if verb == "run" else 9)
        for thread in threads:
            assert not thread.running
            stored = await runner.threads.events(thread.thread_id)
            assert [event.type for event in stored] == ["RUN_STARTED", *["CUSTOM"] * events, "RUN_FINISHED"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def request_of(verb: str, thread: str, run: str) -> bytes:
    return request("POST", f"/agent/default/{verb}", make_input(thread, run, protocolVersion="1.0"))


async def test_a_client_that_leaves_before_its_runs_turn_cancels_the_run(
    memory_factory: Callable[..., AgentRunner],
) -> None:
    runner, agent = memory_factory(on_concurrent_run="enqueue"), Bursts()
    app = create_app(runner, {"default": agent})
    async with serve_app(app) as address, open_wire(address) as first:
        before = len(asyncio.all_tasks())
        await first.send(request_of("run", "t", "first"))
        await first.head()
        async with open_wire(address) as second:
            await second.send(request_of("run", "t", "second"))
            await until(lambda: runner._claiming.has_waiting_runs)
        await until(lambda: not runner._claiming.has_waiting_runs)
        agent.end()
        assert (await first.rest()).count(b"RUN_FINISHED") == 1
        first.vanish()
        await until(lambda: len(asyncio.all_tasks()) <= before)
        events = await runner.threads.events("t")
    assert event_types(events) == ["RUN_STARTED", "RUN_FINISHED"]
    assert not any(b"second" in bytes(event) for event in events)


async def test_a_suggestion_ends_with_its_client(runner: AgentRunner) -> None:
    ended = asyncio.Event()

    async def agent(input: Any) -> AsyncIterator[Any]:
        try:
            async for event in agent_with(*text_message("m", "hello"))(input):
                yield event
                if event["type"] == "TEXT_MESSAGE_END":
                    await asyncio.Event().wait()
        finally:
            ended.set()

    app = create_app(runner, {"default": agent})
    async with serve_app(app) as address:
        before = left()
        async with open_wire(address) as wire:
            await wire.send(request_of("suggest", "t", "r"))
            await wire.head()
            await wire.until_seen(b"TEXT_MESSAGE_END")
            wire.vanish()
            await ended.wait()
        await until(lambda: left() <= before)
        assert await runner.threads.list() == []
