"""The servers of `benches/served.py`.

`ours` makes every event durable in SQLite; `bare` is a Starlette app that only forwards.
"""

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
    """Yield `count` events at full speed, or `rate` a second, each with its time."""
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


def join_records(records, size):
    async def groups():
        group = []
        async for record in records:
            group.append(record)
            if len(group) == size:
                yield b"".join(group)
                group.clear()
        yield b"".join(group)

    return groups()


async def forward(request):
    body = json.loads(await request.body())
    props = body["forwardedProps"]

    async def frames():
        async for event in events(body["runId"].encode(), body["threadId"].encode(), props):
            yield b"data: %s\n\n" % event

    data = join_records(frames(), props["join"]) if props.get("join") else frames()
    return StreamingResponse(data, media_type="text/event-stream")


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
