"""The second process of a test: it executes lines of stdin and prints one line for each."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import TYPE_CHECKING, Any

from agentrunner import AgentRunner, AgentRunnerError, RunAlreadyExists, ThreadAlreadyRunning, _core
from agentrunner.stores.urls import store_from_url
from campaigns import mutations
from support.lines import read_commands, say

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from ag_ui.core import RunAgentInput

    from agentrunner._core import Claim, Recorder
    from agentrunner.stores import Store

LIMITS = {"event_bytes": 1 << 20, "id_bytes": 1024, "window_bytes": 1 << 20, "pending_bytes": 1 << 20}


def recorder(claim: Claim) -> Recorder:
    return _core.Recorder(claim.thread_id, claim.run_id, claim.input, set(), claim.first_seq, **LIMITS)


async def opened(location: str, **options: Any) -> Store:
    store = store_from_url(location, **options)
    await store.open()
    return store


async def claims(location: str) -> None:
    """Execute `claim <thread> <run>`, `finish`, and `race <thread> <run> <count>`.

    `finish` releases the claim; `race` claims and finishes many times.
    """
    store = await opened(location)
    claim = None
    async for verb, *words in read_commands():
        if verb == "finish":
            assert claim is not None
            say(await outcome(store.finish(claim, recorder(claim), False)))
        elif verb == "claim":
            began = time.perf_counter()
            claim, what = await try_claim(store, *words)
            say(what, claim.token if claim else 0, (time.perf_counter() - began) * 1000)
        elif verb == "race":
            await race(store, *words)
            say("raced")
    await store.aclose()


async def try_claim(store: Store, thread: str, run: str) -> tuple[Claim | None, str]:
    try:
        return (await store.claim(thread, run, "{}", None, [], None))[0], "won"
    except (ThreadAlreadyRunning, RunAlreadyExists) as error:
        return None, type(error).__name__


async def race(store: Store, thread: str, run: str, count: str) -> None:
    """Claim and finish the thread repeatedly.

    It prints from when to when it held each claim, on the clock that all processes share.
    """
    for n in range(int(count)):
        claim, _ = await try_claim(store, thread, f"{run}-{n}")
        if claim is not None:
            since = time.monotonic_ns()
            await asyncio.sleep(0)
            until = time.monotonic_ns()
            await outcome(store.finish(claim, recorder(claim), False))
            say("held", claim.token, since, until)


class Steered:
    """An agent that yields a delta for each word it is sent, until `end`.

    `abort_run` tells that it was called.
    """

    def __init__(self) -> None:
        self.words: asyncio.Queue[str] = asyncio.Queue()

    def abort_run(self) -> None:
        say("aborted")

    async def run(self, run_input: RunAgentInput) -> AsyncIterator[dict[str, str]]:
        yield {"type": "RUN_STARTED", "threadId": run_input.thread_id, "runId": run_input.run_id}
        yield {"type": "TEXT_MESSAGE_START", "messageId": f"m-{run_input.run_id}", "role": "assistant"}
        while (word := await self.words.get()) != "end":
            yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": f"m-{run_input.run_id}", "delta": word}
        yield {"type": "TEXT_MESSAGE_END", "messageId": f"m-{run_input.run_id}"}
        yield {"type": "RUN_FINISHED", "threadId": run_input.thread_id, "runId": run_input.run_id}


async def runs(location: str, lease_ttl: str, scope: str | None = None) -> None:
    """Execute the commands `run <thread> <run>`, `say`, `blind`, `recover` and `wait`.

    `say <word>`: the agent yields the word, and the answer comes once it is shown. `blind <word>`: the agent yields
    it, and the answer comes at once. `recover`: recover the runs of dead processes, and answer how many they were.
    `wait`: read to the run's end.
    """
    store = store_from_url(location, lease_ttl=float(lease_ttl))
    async with AgentRunner(store, on_concurrent_run="enqueue") as runner:
        agent = Steered()
        stream = None
        async for verb, *words in read_commands():
            if verb == "run":
                # A new agent: words that came too late for the last run must not appear in this one.
                agent = Steered()
                run_input = {"threadId": words[0], "runId": words[1], "messages": []}
                stream = await runner.run(agent, run_input, scope=scope)
                say(*[(await anext(stream)).type for _ in range(2)])
            elif verb == "say":
                assert stream is not None
                agent.words.put_nowait(words[0])
                say((await anext(stream)).type)
            elif verb == "blind":
                agent.words.put_nowait(words[0])
                say("put")
            elif verb == "recover":
                say(len(await store.recover()))
            elif verb == "wait":
                assert stream is not None
                ending = [event.to_dict() async for event in stream]
                say(ending[-1]["type"], ending[-1].get("code", "-"))


async def stale(location: str) -> None:
    """Claim a thread and write when told, like a process that slept past its lease."""
    store = await opened(location, lease_ttl=0.3)
    writer = Writer(store, (await store.claim("stale", "stale-run", "{}", None, [], None))[0])
    await writer.append(b'{"type":"RUN_STARTED","threadId":"stale","runId":"stale-run"}')
    say("ready")
    async for _ in read_commands():
        say(*await writer.last_words())
    await store.aclose()


async def writes(location: str, lease_ttl: str) -> None:
    """Execute `write <thread> <run>`: claim it, append until refused, then try all verbs."""
    store = await opened(location, lease_ttl=float(lease_ttl))
    async for _, thread, run in read_commands():
        writer = Writer(store, (await store.claim(thread, run, "{}", None, [], None))[0])
        await writer.append(b'{"type":"RUN_STARTED","threadId":"%s","runId":"%s"}' % (thread.encode(), run.encode()))
        say("begun", thread)
        while await outcome(writer.append(b'{"type":"CUSTOM","name":"early","value":1}')) == "done":
            pass
        say(*await writer.last_words())
    await store.aclose()


class Writer:
    """Writes a run into a store, whatever the store answers."""

    def __init__(self, store: Store, claim: Claim) -> None:
        self._store = store
        self._claim = claim
        self._recorder = recorder(claim)

    async def append(self, event: bytes) -> None:
        self._recorder.accept(event)
        taken = self._recorder.take()
        assert taken is not None
        await self._store.append(self._claim, *taken)
        self._recorder.publish()

    async def last_words(self) -> list[str]:
        """Append, finish and renew regardless, and return the result of each."""
        # As if the refused append had succeeded.
        self._recorder.publish()
        return [
            await outcome(self.append(b'{"type":"CUSTOM","name":"late","value":1}')),
            await outcome(self._store.finish(self._claim, self._recorder, True)),
            str((await self._store.renew([self._claim]))[0]),
        ]


async def outcome(attempt: Awaitable[None]) -> str:
    try:
        await attempt
    except AgentRunnerError as error:
        return type(error).__name__
    return "done"


MODES = {"claims": claims, "runs": runs, "stale": stale, "writes": writes}

if __name__ == "__main__":
    # The faults are intended, so their log lines are noise.
    logging.disable()
    mutations.apply()
    asyncio.run(MODES[sys.argv[1]](*sys.argv[2:]))
