"""The scene in which a tool waits for approval, and its server does not live to see it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Self

from agentrunner.demo.agent import request
from agentrunner.demo.desk import BOOKED
from agentrunner.demo.screen import Reader, Row, stored_runs

if TYPE_CHECKING:
    from pathlib import Path

    from agentrunner.demo.screen import Screen
    from agentrunner.runners import SqliteAgentRunner

THREAD = "table"


async def approval(path: Path, runner: SqliteAgentRunner, screen: Screen) -> list[Row]:
    """Let a server ask, kill it, start it again, and answer that one."""
    screen.scene("A tool call waits for approval; its server is killed, and started again")
    asked, answered, late = Reader("who asks"), Reader("who approves"), Reader("who comes late")
    async with _Server(path) as server:
        with screen.reading(asked):
            await server.run(request(THREAD, "run-4", [], "A table for tonight?"), asked)
        code = await server.kill()
    interrupts = _interrupts(asked)
    interrupt = interrupts[0] if interrupts else {}
    screen.promise(
        f'the run ends with a question, "{interrupt.get("message")}", and nothing is booked',
        len(interrupts) == 1 and not server.booked,
    )
    screen.promise(f"process {server.pid} died of SIGKILL while the question was open", code == -9)
    answer = {"interruptId": interrupt.get("id", ""), "status": "resolved"}
    async with _Server(path) as again:
        with screen.reading(answered):
            await again.run(_resume("run-5", answer | {"payload": {"approved": True}}), answered)
        await again.run(_resume("run-6", answer | {"payload": {"approved": False}}), late)
    screen.promise(
        f"process {again.pid} takes the approval, and the run completes",
        _end(answered).get("type") == "RUN_FINISHED" and not _interrupts(answered),
    )
    refusal = _end(late).get("code")
    screen.promise(f"another answer comes too late: {refusal}", refusal == "ALREADY_DECIDED")
    booked = server.booked + again.booked
    screen.promise(f"the tool ran once: {', '.join(booked)}", len(booked) == 1)
    stored = await stored_runs(runner, THREAD)
    return [
        Row(run_id, reader.events, stored.get(run_id, []), f"{reader.name} {len(reader.events)}")
        for run_id, reader in (("run-4", asked), ("run-5", answered))
    ]


class _Server:
    """A process of `desk.py`, as long as it is used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.booked: list[str] = []
        """What its tool has done."""

    _child: asyncio.subprocess.Process

    @property
    def pid(self) -> int:
        return self._child.pid

    async def __aenter__(self) -> Self:
        self._child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agentrunner.demo.desk", str(self._path),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 20,
        )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._child.returncode is None:
            await self.kill()

    async def run(self, input: dict[str, Any], reader: Reader) -> None:
        """Have it run, and read to the end."""
        assert self._child.stdin is not None  # noqa: S101 - pipes were asked for, here and below
        assert self._child.stdout is not None  # noqa: S101
        self._child.stdin.write(json.dumps(input).encode() + b"\n")
        async for line in self._child.stdout:
            first, _, second = line.rstrip(b"\n").partition(b"\t")
            if not second:
                return
            if first == BOOKED.encode():
                self.booked.append(second.decode())
            else:
                reader.see(first.decode(), second)

    async def kill(self) -> int:
        """Kill it, and give how it died."""
        os.kill(self.pid, signal.SIGKILL)
        return await self._child.wait()


def _resume(run_id: str, answer: dict[str, Any]) -> dict[str, Any]:
    return {"threadId": THREAD, "runId": run_id, "messages": [], "resume": [answer]}


def _end(reader: Reader) -> dict[str, Any]:
    """Give the last event a reader has seen."""
    event: dict[str, Any] = json.loads(reader.events[-1]) if reader.events else {}
    return event


def _interrupts(reader: Reader) -> list[dict[str, Any]]:
    """Give what a run has ended by asking."""
    interrupts: list[dict[str, Any]] = (_end(reader).get("outcome") or {}).get("interrupts", [])
    return interrupts
