"""The scene in which a tool waits for approval while its server is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Self

from agentrunner.demo.agent import make_request
from agentrunner.demo.desk import BOOKED
from agentrunner.demo.screen import Reader, Row, read_stored_runs

if TYPE_CHECKING:
    from pathlib import Path

    from agentrunner.demo.screen import Screen
    from agentrunner.runners import SqliteAgentRunner


THREAD = "table"


async def play_approval(path: Path, runner: SqliteAgentRunner, screen: Screen) -> list[Row]:
    """Kill a server whose agent waits for an approval, restart it, and approve."""
    screen.start_scene("A tool call waits for approval; its server is killed and started again")
    asking, approving, late = Reader("asking run"), Reader("approving run"), Reader("late approval")
    async with _Server(path) as server:
        with screen.show_readers(asking):
            await server.run(make_request(THREAD, "run-4", [], "A table for tonight?"), asking)
        code = await server.kill()
    interrupts = _interrupts(asking)
    interrupt = interrupts[0] if interrupts else {}
    screen.check_promise(
        f'the run ends with a question, "{interrupt.get("message")}", and nothing is booked',
        len(interrupts) == 1 and not server.bookings,
    )
    screen.check_promise(f"process {server.pid} died of SIGKILL while the question was open", code == -9)
    answer = {"interruptId": interrupt.get("id", ""), "status": "resolved"}
    async with _Server(path) as restarted:
        with screen.show_readers(approving):
            await restarted.run(_answer_input("run-5", answer | {"payload": {"approved": True}}), approving)
        await restarted.run(_answer_input("run-6", answer | {"payload": {"approved": False}}), late)
    screen.check_promise(
        f"process {restarted.pid} takes the approval, and the run completes",
        _last_event(approving).get("type") == "RUN_FINISHED" and not _interrupts(approving),
    )
    refusal = _last_event(late).get("code")
    screen.check_promise(f"another answer comes too late: {refusal}", refusal == "ALREADY_DECIDED")
    bookings = server.bookings + restarted.bookings
    screen.check_promise(f"the tool ran once: {', '.join(bookings)}", len(bookings) == 1)
    stored = await read_stored_runs(runner, THREAD)
    return [
        Row(run_id, reader.events, stored.get(run_id, []), f"{reader.name} {len(reader.events)}")
        for run_id, reader in (("run-4", asking), ("run-5", approving))
    ]


class _Server:
    """A child process that runs `desk.py`; leaving the block kills it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.bookings: list[str] = []
        """Bookings that the server's tool has made."""

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
        """Send the server a run's input and read the run to its end."""
        assert self._child.stdin is not None  # noqa: S101 - `__aenter__` requests pipes, here and below
        assert self._child.stdout is not None  # noqa: S101
        self._child.stdin.write(json.dumps(input).encode() + b"\n")
        async for line in self._child.stdout:
            first, _, second = line.rstrip(b"\n").partition(b"\t")
            if not second:
                return
            if first == BOOKED.encode():
                self.bookings.append(second.decode())
            else:
                reader.see(first.decode(), second)

    async def kill(self) -> int:
        """Kill the process and return its exit code."""
        os.kill(self.pid, signal.SIGKILL)
        return await self._child.wait()


def _answer_input(run_id: str, answer: dict[str, Any]) -> dict[str, Any]:
    return {"threadId": THREAD, "runId": run_id, "messages": [], "resume": [answer]}


def _last_event(reader: Reader) -> dict[str, Any]:
    """Return the last event that a reader has seen."""
    event: dict[str, Any] = json.loads(reader.events[-1]) if reader.events else {}
    return event


def _interrupts(reader: Reader) -> list[dict[str, Any]]:
    """Return the interrupts with which a run has ended."""
    interrupts: list[dict[str, Any]] = (_last_event(reader).get("outcome") or {}).get("interrupts", [])
    return interrupts
