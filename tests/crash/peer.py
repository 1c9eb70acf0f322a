"""The other process of test_two_processes: it does what the lines of its stdin say, one line back for each."""

import asyncio
import sys

import agentrunner
from agentrunner import LeaseLost, RunAlreadyExists, SqliteAgentRunner, SqliteStore, ThreadAlreadyRunning


def say(*words: object) -> None:
    print(*words, flush=True)


async def lines():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line.decode().split()


async def claims(path: str, name: str) -> None:
    """`<thread>`: try to claim it. `finish`: let go of what was won."""
    store = SqliteStore(path)
    await store.open()
    claim = None
    async for (word,) in lines():
        if word == "finish":
            if claim is not None:
                await store.finish(claim, recorder(claim), False)
            claim = None
            say("finished")
            continue
        try:
            claim, _ = await store.claim(word, f"{name}-{word}", "{}", None, [], None)
            say("won", claim.token)
        except (ThreadAlreadyRunning, RunAlreadyExists) as error:
            say(type(error).__name__)
    await store.aclose()


def recorder(claim):
    limits = {"event_bytes": 1 << 20, "id_bytes": 1024, "window_bytes": 1 << 20, "pending_bytes": 1 << 20}
    return agentrunner._core.Recorder(
        claim.thread_id, claim.run_id, claim.input, set(), claim.first_seq, **limits
    )  # fmt: skip


class Steered:
    """An agent that says a delta for each word it is sent, until `end`; `abort_run` tells that it was called."""

    def __init__(self) -> None:
        self.words: asyncio.Queue[str] = asyncio.Queue()

    def abort_run(self) -> None:
        say("aborted")

    async def run(self, given):
        yield {"type": "RUN_STARTED", "threadId": given.thread_id, "runId": given.run_id}
        yield {"type": "TEXT_MESSAGE_START", "messageId": f"m-{given.run_id}", "role": "assistant"}
        while (word := await self.words.get()) != "end":
            yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": f"m-{given.run_id}", "delta": word}
        yield {"type": "TEXT_MESSAGE_END", "messageId": f"m-{given.run_id}"}
        yield {"type": "RUN_FINISHED", "threadId": given.thread_id, "runId": given.run_id}


async def runs(path: str, lease_ttl: float, scope: str | None = None) -> None:
    """`run <thread> <run>`; `say <word>`: the agent yields it, the answer comes once shown; `wait`: for the end."""
    async with SqliteAgentRunner(path, lease_ttl=lease_ttl) as runner:
        agent = Steered()
        stream = None
        async for word, *rest in lines():
            if word == "run":
                given = {"threadId": rest[0], "runId": rest[1], "messages": []}
                stream = await runner.run(agent, given, scope=scope)
                say(*[(await anext(stream)).type for _ in range(2)])
            elif word == "say":
                agent.words.put_nowait(rest[0])
                say((await anext(stream)).type)
            elif word == "blind":
                agent.words.put_nowait(rest[0])
                say("put")
            elif word == "wait":
                ending = [event.to_dict() async for event in stream]
                say(ending[-1]["type"], ending[-1].get("code", "-"))


async def stale(path: str) -> None:
    """Claim, tell, and go on writing when told: what a process does that slept over its lease."""
    store = SqliteStore(path, lease_ttl=0.3)
    await store.open()
    claim, _ = await store.claim("stale", "stale-run", "{}", None, [], None)
    mine = recorder(claim)
    mine.accept(b'{"type":"RUN_STARTED","threadId":"stale","runId":"stale-run"}')
    await store.append(claim, *mine.take())
    mine.publish()
    say("ready")
    async for _ in lines():
        mine.accept(b'{"type":"CUSTOM","name":"late","value":1}')
        outcomes = []
        for attempt in (store.append(claim, *mine.take()), store.finish(claim, mine, True)):
            try:
                await attempt
                outcomes.append("written")
            except LeaseLost as error:
                outcomes.append(type(error).__name__)
        outcomes.append((await store.renew([claim]))[0])
        say(*outcomes)
    await store.aclose()


if __name__ == "__main__":
    mode, path, *rest = sys.argv[1:]
    if mode == "claims":
        asyncio.run(claims(path, rest[0]))
    elif mode == "runs":
        asyncio.run(runs(path, float(rest[0]), *rest[1:]))
    else:
        asyncio.run(stale(path))
