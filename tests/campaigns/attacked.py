"""The child of `hostile`: send a runner and a server all kinds of bad input."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agentrunner import AgentRunnerError, InMemoryAgentRunner, SqliteAgentRunner, _core
from agentrunner.server import create_app
from campaigns import children, mutations
from campaigns.nasty import ARRAYS, DEEP, OBJECTS, Nasty
from support.events import run_finished, run_started
from support.inputs import make_input
from support.programs.served import resident
from support.random_events import parse_frames
from support.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from agentrunner import EventStream

HANG = 60.0
PROMPT = 3.0
"""Seconds within which the server must refuse a body without reading it."""
REFUSALS = (AgentRunnerError, ValueError, TypeError, OverflowError)
NUMBERS = (0, 1, 2**32, 2**63 - 1, 2**63, 2**64, -1)
FUNCTIONS: tuple[Callable[[bytes, int], Any], ...] = (
    lambda data, _: _core.compact([data, data]),
    lambda data, _: _core.expand([data]),
    lambda data, _: _core.verify([data]),
    lambda data, _: _core.finalize([data], False, None),
    lambda data, _: _core.fold([data, data]),
    lambda data, number: _core.check_input(data, number),
    lambda data, _: _core.parse_cursor(data.decode("utf-8", "replace")),
    lambda data, number: _core.run_frames(data, number, number),
    lambda data, _: _core.run_message_ids(data),
    lambda data, _: _core.Frames(data).events(),
    lambda data, _: _core.Frames(data).for_legacy_clients(),
    lambda data, number: _core.recompact([_core.Frames(data)], number, number),
    lambda data, _: _core.snapshot([_core.Frames(data)]),
    lambda data, number: _core.Batch(data, number, number).after(number, number),
)
JSON = {"Content-Type": "application/json"}
RUN = "/agent/default/run"
PIECE = 1 << 16
ENDLESS = 64 << 20
"""Bytes of a body by which the server must have closed the connection."""


class Attack:
    """The hostile input for one runner and one server."""

    def __init__(self, runner: SqliteAgentRunner, url: str, seed: str) -> None:
        self.runner = runner
        self.address = urlsplit(url)
        self.dice = Nasty(seed)
        self.seed = seed
        self.wrong: list[str] = []
        self.thrown = 0
        self.refused = 0
        self.frames = 0

    async def all(self, heavy: bool) -> None:
        """Send some input of every kind; with `heavy` also large input."""
        attacks = [self.events(heavy), self.inputs(), self.cursors(), self.functions(), self.requests()]
        if heavy:
            attacks += [self.deep_requests(), self.large_bodies()]
        for attack in attacks:
            try:
                async with asyncio.timeout(HANG):
                    await attack
            except TimeoutError:
                self.wrong.append("an answer is waited for in vain")

    # By Python's own API

    async def events(self, heavy: bool) -> None:
        """Yield events that look like frames, and an invalid event at the end."""
        good = self.dice.events(200)
        bad = self.dice.large_event() if heavy else self.dice.no_event()
        thread, run = f"t{self.seed}\n\ndata: {{}}", f"r{self.seed}"

        async def agent(run_input: Any) -> AsyncIterator[Any]:
            yield run_started(run_input.thread_id, run_input.run_id)
            for event in good:
                yield self.dice.encode_event(event)
            yield bad
            yield run_finished(run_input.thread_id, run_input.run_id)

        stream = await self.runner.run(agent, make_input(thread, run))
        try:
            frames = parse_frames(b"".join([data async for data in stream.frames()]))
        except AssertionError as error:
            self.wrong.append(f"a stream that is none: {error}")
            return
        self.thrown += len(good) + 1
        self.frames += len(frames)
        received = [json.loads(data) for _, data in frames]
        if received[1 : 1 + len(good)] != good:
            self.wrong.append(f"{len(good)} events arrive as {len(frames) - 2} others")
        if len(frames) not in (len(good) + 2, len(good) + 3) or received[-1]["type"] not in (
            "RUN_ERROR",
            "RUN_FINISHED",
        ):
            self.wrong.append(f"behind an event that is none come {received[1 + len(good) :]}"[:200])

    async def inputs(self) -> None:
        """Start runs with invalid inputs."""
        for number in range(20):
            bad_input = self.dice.no_input(f"i{self.seed}-{number}")
            await self.drain("run", self.runner.run(quiet, bad_input))

    async def cursors(self) -> None:
        """Connect at invalid cursors."""
        for _ in range(20):
            await self.drain("connect", self.runner.connect(f"t{self.seed}", after=self.dice.no_cursor()))

    async def drain(self, name: str, answer: Awaitable[EventStream]) -> None:
        """Read the stream that a verb returns, or count its refusal."""
        self.thrown += 1
        try:
            async for _ in await answer:
                pass
        except AgentRunnerError:
            self.refused += 1
        except Exception as error:  # noqa: BLE001 - any error that is not the package's own is a failure
            self.wrong.append(f"{name}: {type(error).__name__}: {error}")

    async def functions(self) -> None:
        """Call the core's functions with bytes of every kind."""
        for _ in range(100):
            data, number = self.dice.make_mangled(), self.dice.choice(NUMBERS)
            for function in FUNCTIONS:
                self.thrown += 1
                try:
                    function(data, number)
                except REFUSALS:
                    self.refused += 1
                except BaseException as error:  # noqa: BLE001 - a panic is not an `Exception`
                    self.wrong.append(f"{type(error).__name__}: {error} for {data[:80]!r}, {number}")

    # By HTTP

    async def requests(self) -> None:
        """Send requests with invalid bodies, paths and headers."""
        for number in range(20):
            await self.request(*self.dice.request(f"h{self.seed}-{number}"))

    async def deep_requests(self) -> None:
        """Send inputs with a million levels, and with invalid JSON."""
        good_body = json.dumps(make_input(f"d{self.seed}", f"d{self.seed}")).encode()
        for value in (ARRAYS, OBJECTS, b"[" * DEEP, b"NaN", b'"\xff"'):
            body = good_body.replace(b'"state": {}', b'"state": ' + value)
            status = await self.request("POST", RUN, JSON, body)
            if status != 400:
                self.wrong.append(f"a state of {value[:10]!r}… is answered with {status}")

    async def large_bodies(self) -> None:
        """Send a body that declares 1 GiB, and a chunked body that never ends."""
        self.thrown += 2
        reader, writer = await self.send("POST", RUN, JSON | {"Content-Length": str(1 << 30)}, b" ")
        try:
            async with asyncio.timeout(PROMPT):
                answer = await reader.read(12)
        except TimeoutError:
            answer = b"nothing"
        writer.close()
        if answer[9:] != b"413":
            self.wrong.append(f"a body of 1 GiB is answered with {answer.decode()}")
        reader, writer = await self.send("POST", RUN, JSON | {"Transfer-Encoding": "chunked"})
        sent = 0
        # The server responds and closes. Sending may fail before the response is read.
        with contextlib.suppress(OSError):
            while sent < ENDLESS and not reader.at_eof():
                writer.write(b"%x\r\n%s\r\n" % (PIECE, b" " * PIECE))
                await writer.drain()
                sent += PIECE
        writer.close()
        if sent >= ENDLESS:
            self.wrong.append(f"{sent >> 20} MiB of a body are taken, and more would be")

    async def request(self, method: str, path: str, headers: dict[str, str], body: bytes) -> int:
        """Send a request, check that the response is valid, and return its status."""
        self.thrown += 1
        reader, writer = await self.send(method, path, headers | {"Content-Length": str(len(body))}, body)
        data = await reader.read()
        writer.close()
        head, _, rest = data.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 "):
            self.wrong.append(f"{method} {path} is answered with {data[:80]!r}")
            return 0
        status = int(head[9:12])
        self.refused += 400 <= status < 500
        if status >= 500:
            self.wrong.append(f"{method} {path} {body[:80]!r} is answered with {status}")
        if b"text/event-stream" in head:
            try:
                self.frames += len(parse_frames(decode_chunks(rest) if b"chunked" in head.lower() else rest))
            except AssertionError as error:
                self.wrong.append(f"{method} {path}: a stream that is none: {error}")
        return status

    async def send(
        self, method: str, path: str, headers: dict[str, str], body: bytes = b""
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self.address.hostname, self.address.port)
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: x",
            "Connection: close",
            *(f"{k}: {v}" for k, v in headers.items()),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return reader, writer


async def quiet(run_input: Any) -> AsyncIterator[Any]:
    yield run_started(run_input.thread_id, run_input.run_id)
    yield run_finished(run_input.thread_id, run_input.run_id)


def decode_chunks(data: bytes) -> bytes:
    body = bytearray()
    while data:
        size, _, data = data.partition(b"\r\n")
        body += data[: int(size, 16)]
        data = data[int(size, 16) + 2 :]
    return bytes(body)


async def main(place: str, seed: str) -> None:
    async with SqliteAgentRunner(Path(place) / "threads.db", keep_raw_events=True) as runner:
        # The server has a runner of its own because it runs on another loop.
        with serving(create_app(InMemoryAgentRunner(max_threads=100), {"default": quiet})) as url:

            async def answer(number: int, question: dict[str, Any]) -> dict[str, Any]:
                attack = Attack(runner, url, f"{seed}/{number}")
                await attack.all(question["heavy"])
                return {
                    "wrong": attack.wrong, "inputs sent": attack.thrown, "refused": attack.refused,
                    "frames": attack.frames, "resident": resident(),
                }  # fmt: skip

            await children.serve(answer)


if __name__ == "__main__":
    mutations.apply()
    asyncio.run(main(*sys.argv[1:]))
