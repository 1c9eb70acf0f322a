"""`agentrunner serve` when it is stopped or killed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from agentrunner import SqliteAgentRunner
from support.events import event_types
from support.inputs import make_input
from support.loops import run_async
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


AGENTS = """
import asyncio, pathlib

def started(input):
    return {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}

def finished(input):
    return {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}

async def quick(input):
    yield started(input)
    yield finished(input)

async def counting(input):
    # Ends when a file with the name of its thread exists.
    yield started(input)
    yield {"type": "TEXT_MESSAGE_START", "messageId": input.run_id, "role": "assistant"}
    number = 0
    while not pathlib.Path(input.thread_id).exists():
        number += 1
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": input.run_id, "delta": f"{number} "}
        await asyncio.sleep(0.005)
    yield {"type": "TEXT_MESSAGE_END", "messageId": input.run_id}
    yield finished(input)

async def bulky(input):
    yield started(input)
    for number in range(160):
        yield {"type": "CUSTOM", "name": str(number), "value": "x" * 50_000}
    while not pathlib.Path(input.thread_id).exists():
        await asyncio.sleep(0.005)
    yield finished(input)

async def deaf(input):
    yield started(input)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

agents = {"default": quick, "counting": counting, "bulky": bulky}
"""


class Process:
    """`agentrunner serve` in a folder, with its log in a file there."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.log = folder / f"log-{time.monotonic_ns()}"
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                [
                    sys.executable, "-m", "agentrunner", "serve", "mine:agents", "--db", "threads.db", "--port", "0",
                    "--log-format", "json", *options,
                ],
                cwd=folder, stderr=log, stdout=log,
            )  # fmt: skip
        wait(lambda: self.child.poll() is not None or b"running on http" in self.log.read_bytes())
        match = re.search(r"running on (http://[\d.:]+)", self.log.read_text())
        assert match, self.log.read_text()
        self.http = httpx.Client(base_url=match[1], timeout=30)

    def read_log(self) -> list[dict[str, Any]]:
        """Return all lines of the log, each a JSON object."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        assert all({"asctime", "levelname", "name", "message"} <= line.keys() for line in lines)
        return lines


def wait(condition: Callable[[], Any], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it has not come about"
        time.sleep(0.005)


class Reader(threading.Thread):
    """A client that reads a stream to its end, once it is allowed to."""

    def __init__(
        self, process: Process, agent: str, verb: str, thread: str, run: str = "look", after: str = ""
    ) -> None:
        super().__init__(name=f"{verb} {thread}")
        self.data = b""
        self.status = 0
        self.failure: Exception | None = None
        self.may_read = threading.Event()
        self._ask: Any = (f"/agent/{agent}/{verb}", make_input(thread, run, protocolVersion="1.0"), after)
        self._http = process.http
        self.start()

    def run(self) -> None:
        path, body, after = self._ask
        headers = {"last-event-id": after} if after else {}
        try:
            with self._http.stream("POST", path, json=body, headers=headers) as answer:
                self.status = answer.status_code
                for piece in answer.iter_bytes():
                    self.data += piece
                    self.may_read.wait()
        except httpx.HTTPError as error:
            self.failure = error

    def frames(self) -> list[tuple[str, dict[str, Any]]]:
        assert self.failure is None, self.failure
        frames = []
        for frame in self.data.decode().split("\n\n")[:-1]:
            cursor, data = frame.split("\n")
            frames.append((cursor.removeprefix("id: "), json.loads(data.removeprefix("data: "))))
        return frames

    def events(self) -> list[dict[str, Any]]:
        return [event for _, event in self.frames()]


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")


def read_stored_events(folder: Path, *threads: str) -> dict[str, list[dict[str, Any]]]:
    """Reopen the file and return the events of each thread."""

    async def read() -> dict[str, list[dict[str, Any]]]:
        async with SqliteAgentRunner(folder / "threads.db") as runner:
            assert not any(thread.running for thread in await runner.threads.list())
            return {thread: await collect(await runner.connect(thread)) for thread in threads}

    return run_async(read())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(AGENTS)
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Process]]:
    """Return a function that starts servers in the folder; those left are killed at the end."""
    processes: list[Process] = []

    def begin(*options: str) -> Process:
        processes.append(Process(folder, *options))
        return processes[-1]

    yield begin
    for process in processes:
        process.http.close()
        process.child.kill()
        process.child.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopping_server_lets_runs_end_and_tells_their_readers(
    number: signal.Signals, folder: Path, start: Callable[..., Process]
) -> None:
    server = start("--shutdown-seconds", "1.5")
    readers = {
        "finishing": Reader(server, "counting", "run", "finishing", "r1"),
        "endless": Reader(server, "counting", "run", "endless", "r2"),
        "bulky": Reader(server, "bulky", "run", "bulky", "r3"),
    }
    for name, reader in readers.items():
        if name != "bulky":
            reader.may_read.set()
        wait(lambda reader=reader: len(reader.data) > 500)
    wait(lambda: json.loads(server.http.get("/threads/bulky/events").content)["events"][-1].get("name") == "159")
    late = {name: Reader(server, "counting", "connect", name) for name in ("finishing", "endless")}
    for reader in late.values():
        reader.may_read.set()
        wait(lambda reader=reader: len(reader.data) > 500)
    assert server.http.get("/readyz").status_code == 200

    told_at = time.monotonic()
    server.child.send_signal(number)
    wait(lambda: server.http.get("/readyz").status_code == 503)
    assert server.http.get("/healthz").status_code == 200
    for verb in ("run", "suggest"):
        refused = server.http.post(f"/agent/default/{verb}", json=make_input("new", "new"))
        assert (refused.status_code, refused.json()) == (503, {"error": "Shutting down"})
        assert int(refused.headers["retry-after"]) > 0
    (folder / "finishing").touch()
    (folder / "bulky").touch()
    # A slow reader can read what has been sent already: its stream is not cut in the middle.
    readers["endless"].join()
    readers["bulky"].may_read.set()
    for reader in [*readers.values(), *late.values()]:
        reader.join()
    assert server.child.wait() == 0
    # The grace of the runs and of the connections, and what a busy machine adds.
    assert time.monotonic() - told_at < 1.5 + 5 + 30

    ends = {name: reader.events() for name, reader in readers.items()}
    assert event_types(ends["finishing"])[-2:] == ["TEXT_MESSAGE_END", "RUN_FINISHED"]
    assert event_types(ends["endless"])[-2:] == ["TEXT_MESSAGE_END", "RUN_ERROR"]
    assert ends["endless"][-1]["code"] == "INTERRUPTED"
    assert [event.get("name") for event in ends["bulky"]] == [None, *map(str, range(160)), None]
    for name, reader in readers.items():
        assert [cursor for cursor, _ in reader.frames()] == [str(n + 1) for n in range(len(reader.frames()))], name
    again = read_stored_events(folder, *readers)
    for name, events in again.items():
        assert text_of(events) == text_of(ends[name])
        assert event_types(events)[-1] == event_types(ends[name])[-1]
    for name, reader in late.items():
        assert text_of(reader.events()) == text_of(ends[name])
        assert reader.events()[-1] == ends[name][-1]
    assert not [line for line in server.read_log() if line["levelname"] in ("ERROR", "CRITICAL")]


def test_a_second_interrupt_ends_the_server_at_once(folder: Path, start: Callable[..., Process]) -> None:
    server = start("--shutdown-seconds", "600")
    reader = Reader(server, "counting", "run", "endless", "r1")
    reader.may_read.set()
    wait(lambda: len(reader.data) > 500)
    server.child.send_signal(signal.SIGINT)
    wait(lambda: server.http.get("/readyz").status_code == 503)
    server.child.send_signal(signal.SIGINT)
    assert server.child.wait(timeout=120) == 0
    reader.join()
    events = read_stored_events(folder, "endless")["endless"]
    assert (events[-1]["type"], events[-1]["code"]) == ("RUN_ERROR", "INTERRUPTED")
    assert text_of(events) == text_of(reader.events())
    assert not [line for line in server.read_log() if line["levelname"] in ("ERROR", "CRITICAL")]


def test_a_killed_server_is_repaired_when_it_is_started_again(folder: Path, start: Callable[..., Process]) -> None:
    server = start()
    done = Reader(server, "counting", "run", "done", "r0")
    (folder / "done").touch()
    done.may_read.set()
    done.join()
    readers = []
    for verb in ("run", "connect"):
        reader = Reader(server, "counting", verb, "cut", "r1")
        readers.append(reader)
        reader.may_read.set()
        wait(lambda reader=reader: len(reader.data) > 500)
    server.child.kill()
    server.child.wait()
    for reader in readers:
        reader.join()
        assert isinstance(reader.failure, httpx.RemoteProtocolError)
        # The last frame may have been cut in the middle.
        reader.data, reader.failure = reader.data[: reader.data.rfind(b"\n\n") + 2], None

    again = start()
    listed = again.http.get("/threads").json()["threads"]
    assert {thread["id"]: thread["running"] for thread in listed} == {"cut": False, "done": False}
    events = again.http.get("/threads/cut/events").json()["events"]
    assert (events[-1]["type"], events[-1]["code"]) == ("RUN_ERROR", "INTERRUPTED")
    for reader in readers:
        # No reader has seen an event that is not stored.
        assert text_of(events).startswith(text_of(reader.events()))
    # A reader resumes after its last cursor.
    seen = readers[0].frames()
    rest = Reader(again, "counting", "connect", "cut", after=seen[-1][0])
    rest.may_read.set()
    rest.join()
    assert rest.status == 200
    assert text_of(readers[0].events() + rest.events()) == text_of(events)
    assert rest.events()[-1] == events[-1]
    assert [cursor for cursor, _ in seen + rest.frames()] == [str(n + 1) for n in range(len(seen) + len(rest.frames()))]
    # The thread accepts another run.
    (folder / "cut").touch()
    more = Reader(again, "counting", "run", "cut", "r2")
    more.may_read.set()
    more.join()
    assert event_types(more.events())[-1] == "RUN_FINISHED"
    server.read_log()
    again.read_log()
