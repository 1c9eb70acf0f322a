"""Child processes of campaigns, which do what the lines of their stdin say and answer in lines of their stdout."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING

from campaigns import start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Process:
    """A running child."""

    def __init__(self, child: subprocess.Popen[bytes], answers: asyncio.StreamReader) -> None:
        self.child = child
        self._answers = answers

    @property
    def pid(self) -> int:
        return self.child.pid

    def ask(self, *words: object) -> None:
        """Send a line; one that has ended gives no answer."""
        assert self.child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.write(" ".join(map(str, words)).encode() + b"\n")
            self.child.stdin.flush()

    async def answer(self) -> list[str]:
        """Return the words of the next line it prints, and no words after its end."""
        return (await self._answers.readline()).decode().split()

    async def request(self, *words: object) -> list[str]:
        """Send a line and give the answer."""
        self.ask(*words)
        return await self.answer()

    def stop(self) -> None:
        """Stop it with SIGSTOP and wait until it does nothing any more."""
        self.child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def go_on(self) -> None:
        """Continue the process after a stop."""
        self.child.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it with -9 and wait until it is gone."""
        self.child.kill()
        self.child.wait()

    async def end(self) -> int:
        """Close its stdin, wait until it has ended what it does, and give its exit status."""
        assert self.child.stdin is not None
        self.child.stdin.close()
        return await asyncio.to_thread(self.child.wait)


@contextlib.asynccontextmanager
async def process(
    module: str, *arguments: object, mutation: str | None = None, env: dict[str, str] | None = None
) -> AsyncIterator[Process]:
    """Start `python -m <module> <arguments>`; leaving kills it."""
    child = start(module, *arguments, mutation=mutation, env=env or {}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    answers = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(answers), child.stdout
    )
    try:
        yield Process(child, answers)
    finally:
        transport.close()
        child.kill()
        child.wait()
        # What was not read by it any more is nobody's loss.
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
