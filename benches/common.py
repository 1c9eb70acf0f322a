"""What the benches share: a row of the table, sides in turn, helper processes."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

ANCHORS = Path(__file__).parent / "anchors"
NODE = Path(__file__).parent.parent / "tests" / "node"
ROUNDS = 5


class Row(NamedTuple):
    case: str
    ours: str
    baseline: str
    ratio: str
    target: str
    is_met: bool = True


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def in_turn(sides: dict[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, float]:
    """Run each side once in every round; return the median of what each side measured."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            taken[name].append(side())
    return {name: statistics.median(values) for name, values in taken.items()}


async def in_turn_async(sides: dict[str, Callable[[], Awaitable[float]]], rounds: int = ROUNDS) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            taken[name].append(await side())
    return {name: statistics.median(values) for name, values in taken.items()}


def time_call(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class Helper:
    """A helper process that answers JSON lines with what it measured."""

    def __init__(self, *command: str | Path) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **question: object) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def __enter__(self) -> "Helper":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def run_input(thread_id: str, run_id: str, *texts: str) -> dict[str, object]:
    messages = [{"id": f"{run_id}-{index}", "role": "user", "content": text} for index, text in enumerate(texts)]
    fields = {"threadId": thread_id, "runId": run_id, "messages": messages, "tools": [], "context": []}
    return fields | {"state": {}, "forwardedProps": {}}


def run_started(thread_id: str, run_id: str) -> bytes:
    return b'{"type":"RUN_STARTED","threadId":"%s","runId":"%s"}' % (thread_id.encode(), run_id.encode())


def run_finished(thread_id: str, run_id: str) -> bytes:
    return b'{"type":"RUN_FINISHED","threadId":"%s","runId":"%s"}' % (thread_id.encode(), run_id.encode())


def resident(field: str) -> int:
    """Return this process's memory in bytes: `VmRSS` is now, `VmHWM` the peak so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)
