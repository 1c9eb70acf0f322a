"""A server for `benches/served.py`: `ours` (everything durable in SQLite) or `bare` (Starlette that only forwards)."""

import asyncio
import json
import socket
import sys
import time

import uvicorn
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

from agentrunner import SqliteAgentRunner
from agentrunner.server import create_app
from agentrunner.server.uvicorn_server import AbortableProtocol

CONTENT = b'{"type":"TEXT_MESSAGE_CONTENT","messageId":"msg-1234567890","delta":"%d~"}'
go = asyncio.Event()


async def events(run_id, thread_id, props):
    """`count` events as fast as they are taken, or `rate` a second, each with the time it was made."""
    yield b'{"type":"RUN_STARTED","threadId":"%s","runId":"%s"}' % (thread_id, run_id)
    yield b'{"type":"TEXT_MESSAGE_START","messageId":"msg-1234567890","role":"assistant"}'
    if props.get("gated"):
        await go.wait()
        go.clear()
    rate, began = props.get("rate"), time.monotonic()
    for number in range(props["count"]):
        if rate:
            await asyncio.sleep(began + number / rate - time.monotonic())
        yield CONTENT % time.monotonic_ns()
    yield b'{"type":"TEXT_MESSAGE_END","messageId":"msg-1234567890"}'
    yield b'{"type":"RUN_FINISHED","threadId":"%s","runId":"%s"}' % (thread_id, run_id)


async def agent(run):
    async for event in events(run.run_id.encode(), run.thread_id.encode(), run.forwarded_props):
        yield event


async def opener(run):
    go.set()
    async for event in events(run.run_id.encode(), run.thread_id.encode(), {"count": 1}):
        yield event


def joined(records, size):
    async def pieces():
        piece = []
        async for record in records:
            piece.append(record)
            if len(piece) == size:
                yield b"".join(piece)
                piece.clear()
        yield b"".join(piece)

    return pieces()


async def forward(request):
    given = json.loads(await request.body())
    props = given["forwardedProps"]

    async def framed():
        async for event in events(given["runId"].encode(), given["threadId"].encode(), props):
            yield b"data: %s\n\n" % event

    pieces = joined(framed(), props["join"]) if props.get("join") else framed()
    return StreamingResponse(pieces, media_type="text/event-stream")


def main() -> None:
    kind, *rest = sys.argv[1:]
    if kind == "ours":
        app = create_app(SqliteAgentRunner(rest[0]), {"default": agent, "opener": opener})
        protocol = AbortableProtocol
    else:
        app = Starlette(routes=[Route("/agent/default/run", forward, methods=["POST"])])
        protocol = "httptools"
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(listening.getsockname()[1], flush=True)
    config = uvicorn.Config(app, http=protocol, loop="uvloop", access_log=False, log_level="error")
    uvicorn.Server(config).run(sockets=[listening])


main()
