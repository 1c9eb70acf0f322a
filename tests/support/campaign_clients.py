"""Clients that run agents, connect late, stop, approve and list threads, and check it all."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from support.http_clients import CutOff, event_of, request_json
from support.retrying_clients import PAUSE, GivenUp, Reading, Visitor
from support.thread_log import ThreadLog

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from agentrunner.stores import Store
    from campaigns import Outcome

LONGEST = 0.4
"""Seconds that a run takes to end by itself."""


class Client:
    """A client with its own thread; any server may handle each of its actions."""

    def __init__(self, port: int, thread: str, outcome: Outcome, dice: random.Random) -> None:
        self.visitor = Visitor(port, thread, outcome)
        self.outcome = outcome
        self.ends: dict[str, str] = {}
        """The end of each started run, as its client saw it."""
        self._port = port
        self._dice = dice
        self._runs = 0

    async def act(self) -> None:
        """Perform a random action. Raises `GivenUp`."""
        acts: dict[Callable[[], Awaitable[None]], int] = {self.talk: 5, self.stop: 2, self.approve: 2, self.look: 1}
        (act,) = self._dice.choices(list(acts), list(acts.values()))
        await act()
        self.outcome.count(act.__name__)

    async def talk(self) -> None:
        """Run the agent, and read the run at another server as well."""
        await self._both("default", {"turns": self._dice.randint(1, 20), "pause": LONGEST / 20})

    async def say_much(self) -> None:
        """Run the agent with many events."""
        await self._both("bulky", {"kibibytes": 400})

    async def _both(self, agent: str, props: dict[str, Any]) -> None:
        run = self._next()
        async with asyncio.TaskGroup() as both:
            running = both.create_task(self.visitor.run(agent, run, forwardedProps=props))
            if self._dice.random() < 0.5:
                both.create_task(self.visitor.follow(run))
        self.note_end(run, running.result())

    async def stop(self) -> None:
        """Start a run that does not end by itself, and stop it at another server."""
        run = self._next()
        running = asyncio.create_task(self.visitor.run("default", run, forwardedProps={"pause": 0.01}))
        await asyncio.sleep(self._dice.uniform(0, LONGEST))
        while not running.done():
            await self.ask("POST", f"/agent/default/stop/{self.visitor.thread}", {"runId": run})
            await asyncio.wait([running], timeout=PAUSE)
        self.note_end(run, await running)

    async def approve(self) -> None:
        """Interrupt a run at one server, and answer at another."""
        run = self._next()
        asking = await self.visitor.run("asking", run)
        self.note_end(run, asking)
        outcome = (asking.end or {}).get("outcome")
        if outcome is None:
            return
        (question,) = outcome["interrupts"]
        answer = {"interruptId": question["id"], "status": "resolved", "payload": {}}
        # Use the id of the run that asked, as the stock client does.
        answered = await self.visitor.run("asking", run, resume=[answer])
        self.note_end(event_of(answered.frames[0])["runId"], answered)
        text = "".join(event_of(frame).get("delta", "") for frame in answered.frames)
        if (answered.end or {})["type"] == "RUN_FINISHED" and text != f"{question['id']} resolved":
            self.outcome.fail(f"{run}: the answer came as {text!r}")

    async def look(self) -> None:
        """Look for the thread in the list of all threads."""
        listed = await self.ask("GET", "/threads?limit=100")
        if self.ends and self.visitor.thread not in {thread["id"] for thread in listed["threads"]}:
            # Runs that were stopped before their agents' first event are stored nowhere.
            status, answer = await request_json(self._port, "GET", f"/threads/{self.visitor.thread}/events", None)
            if status != 404:
                self.outcome.fail(f"{self.visitor.thread} is not in the list of threads, and has {answer}"[:200])
            else:
                self.outcome.count("threads with nothing said in them")

    def _next(self) -> str:
        self._runs += 1
        return f"{self.visitor.thread}-{self._runs}"

    def note_end(self, run: str, reading: Reading) -> None:
        """Note a run's end."""
        end = reading.end or {}
        self.ends[run] = how = end.get("code", end["type"])
        self.outcome.count(f"ended by {how}")
        if reading.cuts and how == "INTERRUPTED":
            self.outcome.recovery_seconds.append(time.monotonic() - reading.cuts[0])

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request until a server responds. Raises `GivenUp`."""
        while True:
            with contextlib.suppress(CutOff):
                status, answer = await request_json(self._port, method, path, body)
                if status == 200:
                    return answer
                if status != 503:
                    raise GivenUp(f"{method} {path}: {status} {answer}")
            await asyncio.sleep(PAUSE)

    async def check(self, store: Store) -> None:
        """Compare what the client knows of its thread with what is stored."""
        log = await ThreadLog.read(store, self.visitor.thread)
        self.visitor.check(log)
        there: dict[str, str] = {}
        stored: set[str] = set()
        for run in log.runs:
            name = event_of(log.raw(run.first, run.first)[0]).get("runId")
            if name is None:
                # Its server was killed before its agent's first event, so the client sent it again.
                continue
            if run.stored and name in stored:
                self.outcome.fail(f"{name} is there twice")
            if run.stored:
                stored.add(name)
            end = event_of(log.raw(run.last, run.last)[0])
            there[name] = end.get("code", end["type"])
        for name, how in self.ends.items():
            if there.get(name) != how:
                self.outcome.fail(f"{name} has ended by {how} for its client, is there as {there.get(name)}")
        if unknown := there.keys() - self.ends.keys():
            self.outcome.fail(f"nobody asked for {sorted(unknown)}")
        self.outcome.count("runs", len(log.runs))
        self.outcome.count("events", len(log.frames))
