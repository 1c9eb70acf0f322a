"""Child processes of campaigns: they execute lines of stdin and answer on stdout."""

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
    """A running child process."""

    def __init__(self, child: subprocess.Popen[bytes], answers: asyncio.StreamReader) -> None:
        self.child = child
        self._answers = answers

    @property
    def pid(self) -> int:
        return self.child.pid

    def ask(self, *words: object) -> None:
        """Send a line; a process that has ended gives no answer."""
        assert self.child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.write(" ".join(map(str, words)).encode() + b"\n")
            self.child.stdin.flush()

    async def answer(self) -> list[str]:
        """Return the words of the next line it prints, or none after its end."""
        return (await self._answers.readline()).decode().split()

    async def request(self, *words: object) -> list[str]:
        """Send a line and return the answer."""
        self.ask(*words)
        return await self.answer()

    def stop(self) -> None:
        """Stop the process with SIGSTOP and wait until it is stopped."""
        self.child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def go_on(self) -> None:
        """Continue the process after a stop."""
        self.child.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process with SIGKILL and wait for its end."""
        self.child.kill()
        self.child.wait()

    async def end(self) -> int:
        """Close its stdin, wait until it ends, and return its exit status."""
        assert self.child.stdin is not None
        # If it has died, what it was not sent yet cannot be flushed.
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.close()
        return await asyncio.to_thread(self.child.wait)


@contextlib.asynccontextmanager
async def process(
    module: str,
    *arguments: object,
    mutation: str | None = None,
    env: dict[str, str] | None = None,
    before: tuple[str, ...] = (),
) -> AsyncIterator[Process]:
    """Start `python -m <module> <arguments>`, and kill it when the block ends.

    `before` is a command that starts it.
    """
    child = start(
        module,
        *arguments,
        mutation=mutation,
        env=env or {},
        before=before,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
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
        # The process may have ended without reading all lines.
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
