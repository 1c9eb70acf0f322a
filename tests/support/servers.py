"""Server processes of tests: `programs/served.py`, started on a store's location."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Self

from support.paths import child_environment

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


class Server:
    """A server process, killed at the end of `async with Server(location) as server`.

    `options` are those of `programs/served.py`; `log` is where it writes what it logs; `mutation`: the guard it drops.
    """

    def __init__(self, location: str, log: Path, *, mutation: str | None = None, **options: float | Path) -> None:
        self.log = log
        self._command = [sys.executable, "-m", "support.programs.served", location]
        for name, value in options.items():
            self._command += [f"--{name.replace('_', '-')}", str(value)]
        environment = {name: value for name, value in child_environment().items() if name != "AGENTRUNNER_MUTATION"}
        if mutation is not None:
            environment["AGENTRUNNER_MUTATION"] = mutation
        self._environment = environment
        self._child: asyncio.subprocess.Process | None = None
        self.port = 0

    @property
    def child(self) -> asyncio.subprocess.Process:
        assert self._child is not None, "it was not started"
        return self._child

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.returncode is None

    async def start(self) -> Self:
        """Start the server and wait until it accepts requests.

        Raises `AssertionError` with its log if it does not come up.
        """
        with self.log.open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                *self._command, env=self._environment, stdout=subprocess.PIPE, stderr=log
            )
        self.port = (await self._line())["port"]
        return self

    async def figures(self) -> dict[str, int]:
        """Return what the server holds: `resident` bytes, `descriptors`, `tasks`, `connections`."""
        self.child.send_signal(signal.SIGUSR1)
        return await self._line()

    async def _line(self) -> dict[str, Any]:
        assert self.child.stdout is not None
        line = await self.child.stdout.readline()
        assert line, f"the server has ended: {self.log.read_text(encoding='utf-8')[-4000:]}"
        content: dict[str, Any] = json.loads(line)
        return content

    async def end(self) -> int:
        """Tell the server to end, wait for it, and return its exit status."""
        self.child.terminate()
        return await self.child.wait()

    async def kill(self) -> None:
        """Kill the server with SIGKILL."""
        if self.running:
            self.child.kill()
            await self.child.wait()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()
