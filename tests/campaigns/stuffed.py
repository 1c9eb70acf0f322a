"""The child of `bodies`: post a body to an app in this process, and time its event loop."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import time
from typing import TYPE_CHECKING, Any

from agentrunner import InMemoryAgentRunner
from agentrunner.server import create_app
from campaigns import children, mutations
from support.inputs import make_input
from support.programs.served import resident
from support.wire import client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

LARGEST = 8 << 20
PATHS = ("/agent/default/run", "/agent/default/connect", "/agent/default/suggest", "/", "/agent/default/stop/t")
LISTS = ("messages", "tools", "context", "resume", "state", "forwardedProps", "unknown")
ITEMS = (
    "{}", "0", "null", '""', "[]", "1.5e300", '{"a":[{}]}', '{"type":"text","text":"x"}',
    '{"name":"f","description":""}',
    '{"value":"v","description":"d"}', '{"interruptId":"i","status":"resolved"}', '{"id":"u","role":"user"}',
    '{"id":"u%d","role":"user","content":"x"}', '{"id":"a%d","role":"assistant","toolCalls":[{}]}', '{"k%d":%d}',
    '{"id":"u%d","role":"user","content":[{"type":"text","text":"x"},{"type":"binary","mimeType":"image/png","data":"x"}]}',
)  # fmt: skip
TEXTS = ("x", "\\n", "\\u0000", "é", "\\ud83d\\ude00", "[{,:", "data: ")
NUMBERS = ("9", "0.1", "1e", "-")


class Stuffing(random.Random):
    """Random source of bodies of up to the limit."""

    def size(self) -> int:
        if self.random() < 0.25:
            return LARGEST // 2
        return int(1024 * (LARGEST / 1024) ** self.random())

    def repeat(self, item: str, size: int) -> str:
        count = self.choice([size // (len(item) + 4) + 1, min(size // len(item) + 1, self.choice([900, 9_000]))])
        return ",".join(item.replace("%d", str(number)) for number in range(count))

    def in_input(self, name: str, value: str) -> str:
        """Return an input with one field of this JSON."""
        fields = {key: json.dumps(each) for key, each in make_input(f"t{self.random()}", f"r{self.random()}").items()}
        return "{" + ",".join(f'"{key}":{each}' for key, each in (fields | {name: value}).items()) + "}"

    def many(self, size: int) -> str:
        return self.in_input(self.choice(LISTS), f"[{self.repeat(self.choice(ITEMS), size)}]")

    def parts(self, size: int) -> str:
        field = self.choice(["content", "toolCalls"])
        message = '{"id":"u","role":"%s","%s":[%s]}'
        return self.in_input(
            "messages",
            f"[{message % (self.choice(['user', 'assistant']), field, self.repeat(self.choice(ITEMS), size))}]",
        )

    def deep(self, size: int) -> str:
        left, right = self.choice([("[", "]"), ('{"a":', "}"), ("[[],", "]")])
        depth = self.choice([size // len(left + right), 100, 127, 1000])
        return self.in_input(self.choice(LISTS), left * depth + "0" + right * depth)

    def wide(self, size: int) -> str:
        return self.in_input(self.choice(LISTS), "{" + self.repeat('"key%d":0', size) + "}")

    def text(self, size: int) -> str:
        text = self.choice(TEXTS)
        return self.in_input(self.choice(LISTS), f'"{text * (size // len(text.encode()))}"')

    def number(self, size: int) -> str:
        return self.in_input(self.choice(LISTS), "1" + self.choice(NUMBERS) * size)

    def message(self, size: int) -> str:
        text = self.choice(TEXTS)
        content = text * (size // len(text.encode()))
        return self.in_input("messages", f'[{{"id":"u","role":"user","content":"{content}"}}]')

    def blank(self, size: int) -> str:
        return self.in_input("state", " " * size + "{}")

    def envelope(self, size: int) -> str:
        return f'{{"method":"agent/run","params":{{"agentId":"default"}},"body":{self.many(size)}}}'

    def broken(self, size: int) -> str:
        body = self.many(size)
        return body[: self.randrange(len(body))]


KINDS = ("many", "parts", "deep", "wide", "text", "number", "message", "blank", "envelope", "broken")


class LoopWatch:
    """Measures the most processor time that passes between two turns of the event loop."""

    def __init__(self) -> None:
        self.blocked = 0.0

    async def watch(self) -> None:
        last = time.process_time()
        while True:
            await asyncio.sleep(0)
            now = time.process_time()
            self.blocked = max(self.blocked, now - last)
            last = now


async def quiet(run_input: Any) -> AsyncIterator[Any]:
    yield {"type": "RUN_STARTED", "threadId": run_input.thread_id, "runId": run_input.run_id}
    yield {"type": "RUN_FINISHED", "threadId": run_input.thread_id, "runId": run_input.run_id}


async def main(seed: str) -> None:
    app = create_app(InMemoryAgentRunner(max_threads=20), {"default": quiet}, mode="both")
    async with client(app, **{"content-type": "application/json"}) as http:
        # What the first run imports would count as time of the loop.
        await http.post(PATHS[0], json=make_input())
        # As `serve` does it.
        gc.collect()
        gc.freeze()

        async def answer(number: int, question: dict[str, Any]) -> dict[str, Any]:
            dice = Stuffing(f"{seed}/{question['number']}")
            kind = dice.choice(KINDS)
            make: Callable[[int], str] = getattr(dice, kind)
            body = make(dice.size()).encode()[:LARGEST]
            watch = LoopWatch()
            watching = asyncio.ensure_future(watch.watch())
            response = await http.post(dice.choice(PATHS), content=body)
            watching.cancel()
            return {
                "kind": kind, "bytes": len(body), "status": response.status_code, "blocked": watch.blocked,
                "answer bytes": len(response.content), "resident": resident(),
            }  # fmt: skip

        await children.serve(answer)


if __name__ == "__main__":
    mutations.apply()
    asyncio.run(main(sys.argv[2]))
