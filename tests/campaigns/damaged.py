"""The child of `corruption`: open a damaged file, and use everything in it.

`make` writes the file: threads of finished runs, and one whose last run was cut short.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import agentrunner
from agentrunner import AgentRunnerError, SqliteAgentRunner
from campaigns import HERE, children, mutations
from support.agents import agent_with
from support.events import text_message, tool_call
from support.inputs import make_input
from support.paths import child_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

WHOLE, CUT_SHORT = ("whole", "other"), "cut-short"
RUNS = 4
HANG = 20.0


def make_events(run: str) -> list[dict[str, Any]]:
    call = tool_call(f"{run}-call", "look", '{"a":', "1}", result="seen")
    return [*text_message(f"{run}-m", *(f"word {n} " for n in range(300))), *call, *text_message(f"{run}-n", "done")]


async def make(path: str) -> None:
    """Write threads of some runs each, and die in the middle of another run."""

    async def cut_short(run_input: Any) -> AsyncIterator[Any]:
        async for event in agent_with(*make_events(run_input.run_id))(run_input):
            if event["type"] == "RUN_FINISHED":
                os._exit(0)
            yield event
            await asyncio.sleep(0.0005)

    runner = SqliteAgentRunner(path, resume_window=1e6)
    for thread in (*WHOLE, CUT_SHORT):
        for n in range(RUNS):
            async for _ in await runner.run(
                agent_with(*make_events(f"{thread}-{n}")), make_input(thread, f"{thread}-{n}")
            ):
                pass
    async for _ in await runner.run(cut_short, make_input(CUT_SHORT, f"{CUT_SHORT}-live")):
        pass


class Patient:
    """A damaged file, and the verbs called on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wrong: list[str] = []
        self.refused = 0
        """How many verbs raised an error of the package."""
        self.corrupt: list[tuple[str, str]] = []
        """The damage's name in the report."""
        self.integrity = ""
        self.seconds = 0.0

    async def verb(self, name: str, answer: Awaitable[Any]) -> Any:
        try:
            async with asyncio.timeout(HANG):
                return await answer
        except AgentRunnerError:
            self.refused += 1
        except TimeoutError:
            self.wrong.append(f"{name} hangs")
        except BaseException as error:  # noqa: BLE001 - a panic is not an `Exception`
            self.wrong.append(f"{name}: {type(error).__name__}: {error}")
        return None

    async def examine(self) -> dict[str, Any]:
        """Open the file and use it; return what every thread contains."""
        runner = SqliteAgentRunner(self.path, resume_window=1e6)
        answers: dict[str, Any] = {}
        began = time.monotonic()
        if await self.verb("open", runner.open()) is not None:
            for thread in (*WHOLE, CUT_SHORT):
                # One unreadable thread must not affect the others.
                answers[thread] = await self.verb("connect", self.read(runner, thread))
                for verb in (runner.threads.messages, runner.threads.state, runner.threads.get):
                    await self.verb(verb.__name__, verb(thread))
                went_on = await self.verb("run", self.go_on(runner, thread))
                answers[thread] = (answers[thread], went_on)
            await self.verb("list", runner.threads.list())
            report = await self.verb("inspect", runner._store.inspect(fix=False))
            if report is not None:
                self.integrity, self.corrupt = report.integrity, report.corrupt
        await self.verb("close", runner.aclose())
        self.seconds = time.monotonic() - began
        return answers

    async def read(self, runner: SqliteAgentRunner, thread: str) -> list[str]:
        """Read a thread's stored events, and return its runs in order."""
        events = [event async for event in await runner.snapshot(thread)]
        agentrunner.verify(events)
        return [event.to_dict()["runId"] for event in events if event.type == "RUN_STARTED"]

    async def go_on(self, runner: SqliteAgentRunner, thread: str) -> list[str]:
        stream = await runner.run(agent_with(), make_input(thread, f"{thread}-after"))
        return [event.type async for event in stream]


def damage(path: Path, question: dict[str, Any]) -> None:
    if "sql" in question:
        edit = json.dumps({"path": str(path), "sql": question["sql"], "value": question["value"]})
        subprocess.run([sys.executable, HERE / "edit.py"], input=edit.encode(), check=True)
        return
    with path.open("r+b") as file:
        for offset, data in question["bytes"]:
            file.seek(offset)
            file.write(bytes.fromhex(data))
        if question["size"] is not None:
            file.truncate(question["size"])


async def main(place: str, seed: str) -> None:
    folder = Path(place)
    whole = folder / "whole.db"
    if not whole.exists():
        # Another process makes the file and dies; what it left in the log goes into the file.
        subprocess.run([sys.executable, "-m", "campaigns.damaged", "make", whole], check=True, env=child_environment())
        damage(whole, {"sql": "UPDATE counters SET value = value + ?", "value": 0})

    async def answer(number: int, question: dict[str, Any]) -> dict[str, Any]:
        patient = Patient(folder / f"{number}.db")
        shutil.copy(whole, patient.path)
        damage(patient.path, question)
        answers = await patient.examine()
        for left in folder.glob(f"{number}.db*"):
            left.unlink()
        return {
            "wrong": patient.wrong, "refused": patient.refused, "corrupt": patient.corrupt,
            "integrity": patient.integrity, "seconds": patient.seconds, "found": answers,
        }  # fmt: skip

    await children.serve(answer)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        asyncio.run(make(sys.argv[2]))
    else:
        mutations.apply()
        asyncio.run(main(*sys.argv[1:]))
