"""The example of a custom store follows the protocol and survives kills."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import agentrunner
from agentrunner import AgentRunner, StoreError
from agentrunner.testing import StoreConformance
from support.agents import agent_with
from support.inputs import make_input
from support.paths import ROOT
from support.streams import collect

EXAMPLES = ROOT / "examples"

sys.path.insert(0, str(EXAMPLES))
from custom_store import LogStore  # noqa: E402 - `examples` is not a package

if TYPE_CHECKING:
    from agentrunner import Store


class TestLogStore(StoreConformance):
    @pytest.fixture(autouse=True)
    def _backing(self, tmp_path: Path) -> None:
        self.path = tmp_path / "threads.log"

    def make_store(self, resume_window: float = 300.0, **_: Any) -> Store:
        return LogStore(self.path, resume_window=resume_window)


def test_readme_links_the_store_and_its_suite() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert "[examples/custom_store.py](examples/custom_store.py)" in readme
    assert "class TestLogStore(StoreConformance):" in readme


CHILD = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from agentrunner import AgentRunner
from custom_store import LogStore  # noqa: E402 - `examples` is not a package

async def agent(input):
    yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
    yield {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
    n = 0
    while True:
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": f"{n} "}
        n += 1
        await asyncio.sleep(0)

async def main():
    async with AgentRunner(LogStore(sys.argv[2])) as runner:
        async for event in await runner.run(agent, {"threadId": "t", "runId": sys.argv[3], "messages": []}):
            print(event.seq, flush=True)

asyncio.run(main())
"""


async def test_kill_loses_nothing_that_was_shown(tmp_path: Path) -> None:
    path = tmp_path / "threads.log"
    for n in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, EXAMPLES, path, f"r{n}"], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        shown = 0
        while shown < 100 * (n + 1):
            shown = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        rest, _ = child.communicate()
        # The kill may have cut the last line.
        shown = max([shown, *(int(line) for line in rest.split("\n")[:-1])])
        async with AgentRunner(LogStore(path)) as runner:
            raw = (await runner._store.journal("t", 0, None, 1 << 24)).frames.events()
            assert [event.seq for event in raw] == list(range(1, len(raw) + 1))
            assert len(raw) > shown
            assert raw[-1].to_dict()["code"] == "INTERRUPTED"
            assert (await runner.threads.get("t")).runs == n + 1
            agentrunner.verify(await runner.threads.events("t"))


async def test_incomplete_last_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "threads.log"
    async with AgentRunner(LogStore(path)) as runner:
        await collect(await runner.run(agent_with(), make_input("t", "r1")))
    whole = path.read_bytes()
    path.write_bytes(whole + b'["claim", "t", "r')
    for run in ("r2", "r3"):
        async with AgentRunner(LogStore(path)) as runner:
            await collect(await runner.run(agent_with(), make_input("t", run)))
    async with AgentRunner(LogStore(path)) as runner:
        assert (await runner.threads.get("t")).runs == 3


async def test_second_process_cannot_open_it(tmp_path: Path) -> None:
    async with AgentRunner(LogStore(tmp_path / "threads.log")) as runner:
        with pytest.raises(StoreError, match="open elsewhere"):
            await LogStore(tmp_path / "threads.log").open()
        await collect(await runner.run(agent_with(), make_input("t", "r1")))


async def test_log_that_cannot_be_written_closes_the_store(tmp_path: Path) -> None:
    async with AgentRunner(LogStore(tmp_path / "threads.log")) as runner:
        await collect(await runner.run(agent_with(), make_input("t", "r1")))
        with Path("/dev/full").open("ab", buffering=0) as full, runner._store._log as _:
            runner._store._log = full
            with pytest.raises(StoreError, match="cannot be written"):
                await runner.run(agent_with(), make_input("t", "r2"))
            with pytest.raises(StoreError, match="closed"):
                await runner.threads.list()
    async with AgentRunner(LogStore(tmp_path / "threads.log")) as runner:
        assert [thread.runs for thread in await runner.threads.list()] == [1]
