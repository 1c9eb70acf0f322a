"""Worst cases of patches, metadata and chunks, by CPU time and instructions."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import orjson

from agentrunner import _core
from agentrunner.errors import InvalidEvent
from campaigns import Campaign, Outcome
from support.paths import child_environment

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from campaigns import Context

FULL_BYTES = 4 << 20
COUNTED_BYTES = 128 << 10
"""Size of the input whose instructions are counted, and doubled."""
MOST_SECONDS = 0.2
MOST_GROWTH = 2.2
"""Factor by which the instructions may grow with doubled input."""
LIMITS = {"event_bytes": FULL_BYTES + 4096, "id_bytes": 1 << 20, "window_bytes": 1 << 20, "pending_bytes": 1 << 30}
MUTATED_WORK = 40
"""Times that a campaign with a dropped guard repeats each operation."""

Operation = dict[str, Any]


def _wide(count: int, key: str = "k") -> dict[str, int]:
    return {f"{key}{number}": number for number in range(count)}


def _fill(size: int, operation: Callable[[int], Operation]) -> list[Operation]:
    """Return as many operations as have about `size` bytes."""
    operations: list[Operation] = []
    while size > 0:
        operations.append(operation(len(operations)))
        size -= len(orjson.dumps(operations[-1])) + 1
    return operations


def _deep(levels: int, leaf: Any) -> Any:
    for _ in range(levels):
        leaf = {"d": leaf}
    return leaf


def add_keys(size: int, dice: random.Random) -> tuple[Any, list[Operation]]:
    key = dice.choice(("k", "ü", 'q"', "~1", "\\"))
    return {}, _fill(size, lambda n: {"op": "add", "path": f"/{key}{n}", "value": n})


def remove_keys(size: int, dice: random.Random) -> tuple[Any, list[Operation]]:
    count = size // 40
    order = list(range(count))
    if dice.random() < 0.5:
        dice.shuffle(order)
    return _wide(count), [{"op": "remove", "path": f"/k{n}"} for n in order]


def replace_in_wide(size: int, dice: random.Random) -> tuple[Any, list[Operation]]:
    count = size // 20
    return _wide(count), _fill(size, lambda n: {"op": "replace", "path": f"/k{dice.randrange(count)}", "value": n})


def insert_at(size: int, dice: random.Random) -> tuple[Any, list[Operation]]:
    where = dice.choice((lambda n: 0, lambda n: n // 2, lambda n: dice.randint(0, n)))
    return [], _fill(size, lambda n: {"op": "add", "path": f"/{where(n)}", "value": n})


def append(size: int, dice: random.Random) -> tuple[Any, list[Operation]]:
    return {"a": []}, _fill(size, lambda n: {"op": "add", "path": "/a/-", "value": n})


def remove_first(size: int, dice: random.Random) -> tuple[Any, list[Operation]]:
    count = size // 30
    return [0] * count, [{"op": "remove", "path": "/0"} for _ in range(count)]


def move_large(size: int, dice: random.Random) -> tuple[Any, list[Operation]]:
    large = _wide(size // 32)
    deeper = dice.randrange(3)
    paths = ("/a", "/b/c", _pointer(deeper))
    return {"a": large, "b": {}, **_deep(deeper, {})}, _fill(
        size // 2, lambda n: {"op": "move", "from": paths[n % 2], "path": paths[(n + 1) % 2]}
    )


def _pointer(levels: int) -> str:
    return "/d" * levels + "/x"


def move_in_array(size: int, dice: random.Random) -> tuple[Any, list[Operation]]:
    count = size // 8
    return list(range(count)), _fill(
        size, lambda n: {"op": "move", "from": f"/{dice.randrange(count)}", "path": f"/{dice.randrange(count)}"}
    )


def compare_large(size: int, dice: random.Random) -> tuple[Any, list[Operation]]:
    value = _wide(size // 40)
    return {"a": value}, [
        {"op": "test", "path": "/a", "value": value},
        *_fill(size // 2, lambda n: {"op": "test", "path": "/a/k1", "value": 1}),
    ]


def compare_long_text(size: int, dice: random.Random) -> tuple[Any, list[Operation]]:
    text = "\\" * (size // 4)
    passing = {"op": "test", "path": "/a", "value": text}
    return {"a": text, "b": {}}, [passing, *_fill(size // 8, lambda n: {"op": "test", "path": "/b", "value": {}})]


def copy_doubling(size: int, dice: random.Random) -> tuple[Any, list[Operation]]:
    return {"a": "x" * (size // 64)}, _fill(size // 1000, lambda n: {"op": "copy", "from": "", "path": f"/c{n}"})


def deep_pointers(size: int, dice: random.Random) -> tuple[Any, list[Operation]]:
    path = "/d" * 100
    return _deep(101, 0), _fill(size, lambda n: {"op": "replace", "path": path, "value": {"d": n}})


def many_values(size: int, dice: random.Random) -> tuple[Any, list[Operation]]:
    value = dice.choice((0, [], {}, "", {"a": 0}, [[]]))
    count = size // (len(orjson.dumps(value)) + 1) - 40
    return {}, [{"op": "add", "path": "/a", "value": [value] * count}]


SHAPES = (
    add_keys, remove_keys, replace_in_wide, insert_at, append, remove_first, move_large, move_in_array, compare_large,
    compare_long_text, copy_doubling, deep_pointers, many_values,
)  # fmt: skip


def events_of(shape: int, size: int, dice: random.Random) -> Iterator[bytes]:
    """Yield a shape's snapshot and patch, or its many events with metadata or chunks."""
    if shape < len(SHAPES):
        document, operations = SHAPES[shape](size, dice)
        yield orjson.dumps({"type": "STATE_SNAPSHOT", "snapshot": document})
        yield orjson.dumps({"type": "STATE_DELTA", "delta": operations})
    elif shape == len(SHAPES):
        yield orjson.dumps({"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"})
        for number in range(size // 100):
            event = {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "x", "metadata": {f"k{number}": 0}}
            yield orjson.dumps(event)
    else:
        for number in range(size // 100):
            ids = {"messageId": f"m{number}", "subagentRunId": f"s{number}"}
            yield orjson.dumps({"type": "TEXT_MESSAGE_CHUNK", **ids, "delta": "x"})


ALL_SHAPES = len(SHAPES) + 2


def record(events: list[bytes]) -> tuple[float, bool]:
    """Record events; return the CPU seconds that it took, and whether one was refused."""
    recorder = _core.Recorder("t", "r", "{}", set(), 1, **LIMITS)
    recorder.accept(b'{"type":"RUN_STARTED","threadId":"t","runId":"r"}')
    began = time.process_time()
    is_refused = False
    for event in events:
        try:
            recorder.accept(event)
        except InvalidEvent:
            is_refused = True
            break
    return time.process_time() - began, is_refused


def run(context: Context) -> Outcome:
    outcome = Outcome({"inputs of 4 MiB": 0, "refused as too much": 0, "most CPU ms": 0})
    most_seconds = MOST_SECONDS * context.patience
    first_shape = context.random.randrange(ALL_SHAPES)
    for number in range(context.rounds):
        # A small campaign takes other shapes with each seed.
        shape = (number + first_shape) % ALL_SHAPES
        events = list(events_of(shape, FULL_BYTES - 4096, context.random))
        repeats = MUTATED_WORK if context.mutation else 1
        seconds, is_refused = 0.0, False
        for _ in range(repeats):
            spent, is_refused = record(events)
            seconds += spent
            if seconds > most_seconds:
                break
        outcome.count("inputs of 4 MiB")
        outcome.count("refused as too much", is_refused)
        outcome.figures["most CPU ms"] = max(outcome.figures["most CPU ms"], round(seconds * 1000))  # type: ignore[type-var]
        if seconds > most_seconds:
            outcome.fail(f"round {number}: shape {_name(shape)} took {seconds:.3f} s")
        context.tick()
    if context.rounds >= ALL_SHAPES * 2 and context.mutation is None:
        count_instructions(outcome, context.random.randrange(1 << 30))
    return outcome


def count_instructions(outcome: Outcome, seed: int) -> None:
    """Count the instructions of each shape at two sizes, if valgrind is installed."""
    if shutil.which("valgrind") is None:
        outcome.figures["most growth for doubled input"] = "not counted: valgrind is not installed"
        return
    most_growth = 0.0
    for shape in range(ALL_SHAPES):
        nothing, once, twice = (_instructions(shape, size, seed) for size in (1024, COUNTED_BYTES, 2 * COUNTED_BYTES))
        growth = (twice - nothing) / max(once - nothing, 1)
        most_growth = max(most_growth, growth)
        if growth > MOST_GROWTH:
            outcome.fail(f"shape {_name(shape)}: {growth:.2f} times the instructions for doubled input")
    outcome.figures["most growth for doubled input"] = round(most_growth, 2)


def _instructions(shape: int, size: int, seed: int) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-m", __name__]
    command += [str(shape), str(size), str(seed)]
    result = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=True)
    counts = re.search(r"Collected : (\d+)", result.stderr)
    assert counts, result.stderr
    return int(counts[1])


def _name(shape: int) -> str:
    return SHAPES[shape].__name__ if shape < len(SHAPES) else ("metadata", "chunks")[shape - len(SHAPES)]


CAMPAIGN = Campaign(
    name="patches",
    promise="worst cases of patches",
    bar="each input of 4 MiB is recorded or refused within 200 ms of CPU time; doubled input, at most doubled work",
    backends=("sqlite",),
    small=4,
    full={"sqlite": 1000},
    run=run,
    mutations={"recorded_many_times": "an event is read a fixed number of times"},
)

if __name__ == "__main__":
    import random as random_module

    shape, size, seed = map(int, sys.argv[1:])
    record(list(events_of(shape, size, random_module.Random(seed))))  # noqa: S311 - it only makes test input
