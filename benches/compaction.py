"""Compaction of 10,000 events, from JSON to JSON."""

import json
import random
import shutil
import subprocess
from collections.abc import Iterator

from agentrunner import compact
from benches.anchors import compact_orjson
from benches.common import ANCHORS, NODE, Helper, Row, in_turn, progress, time_call

# The table's figures depend on this text: other words make another stream.
TEXT = """An agent answers in pieces of a few words, and every piece is an event of its own. What a front end draws is
the text so far; what a store keeps is the whole of it, once. So the pieces are joined in the place where the message
began — whatever came between them — and the café's "special" is still on the menu when someone comes back to read it:

- the first line of a list\n- the second line of it\n\nand a last sentence, which ends the message. 🙂"""
WORDS = TEXT.split(" ")


def stream(count: int) -> list[bytes]:
    """Return one run as agents emit it: mostly text, tool calls, some state, a step per turn."""
    rng = random.Random(7)  # noqa: S311 - the same events every time
    events: list[dict[str, object]] = [{"type": "RUN_STARTED", "threadId": "thread", "runId": "run"}]
    events.append({"type": "STATE_SNAPSHOT", "snapshot": {"step": 0, "items": []}})
    turn = 0
    while len(events) < count - 1:
        turn += 1
        message, call = f"msg-{rng.getrandbits(64):016x}", f"call-{rng.getrandbits(64):016x}"
        events.append({"type": "STEP_STARTED", "stepName": f"step {turn}"})
        events.append({"type": "TEXT_MESSAGE_START", "messageId": message, "role": "assistant"})
        for _ in range(rng.randint(20, 100)):
            text = " ".join(rng.choices(WORDS, k=9))[:40]
            events.append({"type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": text})
        events.append({"type": "TEXT_MESSAGE_END", "messageId": message})
        events.append(
            {"type": "TOOL_CALL_START", "toolCallId": call, "toolCallName": "search", "parentMessageId": message}
        )
        deltas = [f'"query":"{word}",' for word in rng.choices(WORDS, k=rng.randint(5, 20))]
        events += ({"type": "TOOL_CALL_ARGS", "toolCallId": call, "delta": delta} for delta in deltas)
        events.append({"type": "TOOL_CALL_END", "toolCallId": call})
        result = {"type": "TOOL_CALL_RESULT", "messageId": f"{call}-result", "toolCallId": call, "content": "found"}
        events.append(result)
        change = [{"op": "replace", "path": "/step", "value": turn}, {"op": "add", "path": "/items/-", "value": call}]
        events.append({"type": "STATE_DELTA", "delta": change})
        events.append({"type": "STEP_FINISHED", "stepName": f"step {turn}"})
    del events[count - 1 :]
    events.append({"type": "RUN_FINISHED", "threadId": "thread", "runId": "run"})
    return [json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() for event in events]


def rows() -> Iterator[Row]:
    lines = stream(10_000)
    ours = [bytes(event) for event in compact(lines)]
    assert [json.loads(line) for line in ours] == [json.loads(line) for line in compact_orjson.compact(lines)]
    sides = {
        "ours": lambda: time_call(lambda: [bytes(event) for event in compact(lines)]),
        "orjson": lambda: time_call(lambda: compact_orjson.compact(lines)),
    }
    case = f"compact 10,000 events into {len(ours):,}, JSON to JSON"
    node = shutil.which("node")
    if node is None:
        taken = in_turn(sides, 61)
        yield _row(case, taken, "orjson", "orjson + dict", 5)
        yield Row(case, "", "compactEvents: node is not installed, not run", "", ">= 4x")
        return
    if not (NODE / "node_modules" / "@ag-ui" / "client").is_dir():
        flags = ["--legacy-peer-deps", "--ignore-scripts", "--no-package-lock"]
        subprocess.run(["npm", "install", "--prefix", NODE, *flags], check=True, stdout=subprocess.DEVNULL)
    progress("compaction: 10,000 events, three ways")
    with Helper(node, ANCHORS / "compact.mjs") as helper:
        helper.ask(lines=[line.decode() for line in lines])
        taken = in_turn({**sides, "node": helper.ask}, 61)
    yield _row(case, taken, "orjson", "orjson + dict", 5)
    yield _row(case, taken, "node", "`compactEvents`, node", 4)


def _row(case: str, taken: dict[str, float], side: str, name: str, target: float) -> Row:
    ratio = taken[side] / taken["ours"]
    return Row(
        case,
        f"{taken['ours'] * 1000:.2f} ms",
        f"{name}: {taken[side] * 1000:.1f} ms",
        f"{ratio:.1f}x faster",
        f">= {target}x",
        ratio >= target,
    )
