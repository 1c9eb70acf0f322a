"""Compaction of random valid streams, and every function on bytes that are no events.

The streams have many messages and calls open at once.
"""

import contextlib
import json
from random import Random
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agentrunner
from agentrunner import AgentRunnerError, _core

pytestmark = pytest.mark.slow

SETTINGS = settings(max_examples=300, deadline=None, derandomize=True)


class Dice(Random):
    """Draws small values, from a seed that hypothesis draws.

    Drawing each value with hypothesis takes a hundred times longer.
    """

    def text(self) -> str:
        return "".join(self.choices('ab "\\\n\u0000\u2028é🙂</', k=self.randrange(6)))

    def value(self, depth: int = 0):
        kind = self.randrange(4 if depth > 1 else 6)
        if kind == 4:
            return [self.value(depth + 1) for _ in range(self.randrange(4))]
        if kind == 5:
            return {self.choice("abc"): self.value(depth + 1) for _ in range(self.randrange(4))}
        return [None, self.random() < 0.5, self.randint(-3, 3), self.text()][kind]

    def pointer(self) -> str:
        return "".join(f"/{part}" for part in self.choices(["a", "b", "c", "0", "1", "-", "a~1b"], k=self.randrange(4)))

    def operation(self) -> dict:
        name = self.choice(["add", "add", "replace", "test", "remove", "move", "copy"])
        fields = {"from": self.pointer()} if name in {"move", "copy"} else {"value": self.value()}
        return {"op": name, "path": self.pointer()} | ({} if name == "remove" else fields)

    def extras(self) -> dict:
        fields = {
            "metadata": {self.choice("xyz"): self.value() for _ in range(self.randrange(3))},
            "timestamp": self.randrange(10),
            "rawEvent": self.value(),
            "extension": self.value(),
        }
        return {name: value for name, value in fields.items() if not self.randrange(4)}

    def some(self) -> str:
        return str(self.randrange(5))


class Stream:
    """Draws one valid event after another; keeps what is open."""

    FAMILIES: ClassVar = {
        "text": ("TEXT_MESSAGE", "messageId", "CONTENT", {"role": "assistant"}),
        "tool": ("TOOL_CALL", "toolCallId", "ARGS", {"toolCallName": "look"}),
        "reasoning": ("REASONING_MESSAGE", "messageId", "CONTENT", {"role": "reasoning"}),
    }

    def __init__(self, dice: Dice, run: int) -> None:
        self.dice = dice
        self.run = run
        self.events: list[dict] = []
        self.open: dict[str, dict[str, str | None]] = {family: {} for family in self.FAMILIES}
        self.owners: dict[tuple[str, str], str | None] = {}
        self.steps: set[tuple[str | None, str]] = set()
        self.agents: list[str] = []
        self.dead: set[str] = set()

    def put(self, kind: str, tag: str | None = None, **fields) -> None:
        event = {"type": kind, **fields} | ({"subagentRunId": tag} if tag else {})
        self.events.append(event | self.dice.extras())

    def some_agent(self) -> str | None:
        return self.dice.choice([None, *self.agents])

    def stream(self, family: str) -> None:
        prefix, field, delta, more = self.FAMILIES[family]
        running = self.open[family]
        key = f"{family[:2]}{self.dice.some()}"
        if key not in running:
            owner = self.owners.setdefault((family, key), self.some_agent())
            if owner in self.dead:
                return
            running[key] = owner
            self.put(f"{prefix}_START", owner, **{field: key}, **more)
        elif self.dice.randrange(4):
            self.put(f"{prefix}_{delta}", running[key], **{field: key}, delta=self.dice.text())
        else:
            self.put(f"{prefix}_END", running.pop(key), **{field: key})

    def subagent(self) -> None:
        if self.agents and self.dice.randrange(2):
            gone = self.dice.choice(self.agents)
            if any(gone in running.values() for running in self.open.values()) or any(
                gone == tag for tag, _ in self.steps
            ):
                return
            self.agents.remove(gone)
            self.dead.add(gone)
            self.put("SUBAGENT_FINISHED", subagentRunId=gone)
        else:
            name = f"s{len(self.agents) + len(self.dead)}"
            self.agents.append(name)
            self.put("SUBAGENT_STARTED", subagentRunId=name, name="helper")

    def step(self) -> None:
        key = (self.some_agent(), self.dice.some())
        self.put("STEP_FINISHED" if key in self.steps else "STEP_STARTED", key[0], stepName=key[1])
        self.steps ^= {key}

    def single(self) -> None:
        dice = self.dice
        kind = dice.choice(["SNAPSHOT", "DELTA", "DELTA", "CUSTOM", "UNKNOWN", "MESSAGES", "RESULT", "ACTIVITY"])
        if kind == "SNAPSHOT":
            self.put("STATE_SNAPSHOT", snapshot=dice.value())
        elif kind == "DELTA":
            self.put("STATE_DELTA", delta=[dice.operation() for _ in range(dice.randrange(4))])
        elif kind == "CUSTOM":
            self.put("CUSTOM", name="n", value=dice.value())
        elif kind == "UNKNOWN":
            self.put("FUTURE_KIND", messageId="te0", delta=dice.text(), value=dice.value())
        elif kind == "MESSAGES" and not dice.randrange(4):
            messages = [{"id": f"old{n}", "role": "user", "content": dice.text()} for n in range(dice.randrange(3))]
            self.put("MESSAGES_SNAPSHOT", messages=messages)
        elif kind == "RESULT":
            self.put(
                "TOOL_CALL_RESULT", toolCallId=f"to{dice.some()}", messageId=f"out{dice.some()}", content=dice.text()
            )
        elif kind == "ACTIVITY":
            self.put(
                "ACTIVITY_SNAPSHOT", messageId=f"ac{dice.some()}", activityType="plan", content={"a": dice.value()}
            )

    def whole(self, size: int) -> list[dict]:
        run = f"r{self.run}"
        self.put("RUN_STARTED", threadId="t", runId=run)
        moves = ["text", "text", "tool", "tool", "reasoning", "single", "single", "step", "subagent"]
        for move in self.dice.choices(moves, k=size):
            if move in self.open:
                self.stream(move)
            else:
                getattr(self, move)()
        if self.dice.randrange(2):
            self.put("RUN_ERROR", message="gone", code="X")
            return self.events
        for family, running in self.open.items():
            prefix, field, *_ = self.FAMILIES[family]
            for key, owner in running.items():
                self.put(f"{prefix}_END", owner, **{field: key})
        for tag, name in sorted(self.steps, key=repr):
            self.put("STEP_FINISHED", tag, stepName=name)
        for name in self.agents:
            self.put("SUBAGENT_FINISHED", subagentRunId=name)
        self.put("RUN_FINISHED", threadId="t", runId=run)
        return self.events


def runs(seed: int, count: int = 1) -> list[list[dict]]:
    dice = Dice(seed)
    return [Stream(dice, n).whole(dice.randrange(60)) for n in range(dice.randint(1, count))]


SEEDS = st.integers(0, 2**40)


def texts(events) -> list[bytes]:
    return [bytes(event) for event in events]


@SETTINGS
@given(SEEDS)
def test_compaction_keeps_the_contract(seed):
    stream = runs(seed, 3)
    events = [event for run in stream for event in run]
    agentrunner.verify(events)
    shorter = agentrunner.compact(events)
    assert agentrunner.fold(shorter) == agentrunner.fold(events)
    agentrunner.verify(shorter)
    assert texts(agentrunner.compact(shorter)) == texts(shorter)
    apart = [event for run in stream for event in agentrunner.compact(run)]
    assert texts(apart) == texts(shorter)
    assert len(shorter) <= len(events)
    unknown = [event for event in events if event["type"] == "FUTURE_KIND"]
    assert [event.to_dict() for event in shorter if event.type == "FUTURE_KIND"] == unknown
    for event in shorter:
        json.loads(bytes(event))


def recorder() -> _core.Recorder:
    run_input = '{"threadId":"t","runId":"r0","messages":[],"tools":[],"context":[]}'
    limits = {"event_bytes": 1 << 20, "id_bytes": 1024, "window_bytes": 1 << 20, "pending_bytes": 1 << 20}
    return _core.Recorder("t", "r0", run_input, set(), 1, **limits)


@SETTINGS
@given(SEEDS)
def test_a_prefix_and_the_raw_rest_are_the_whole(seed):
    (events,) = runs(seed)
    dice = Dice(~seed)
    cuts = {dice.randint(0, len(events)) for _ in range(3)}
    live = recorder()
    prefixes = []
    for count, event in enumerate(events):
        if count in cuts:
            prefixes.append(live.prefix(0))
        live.accept(json.dumps(event).encode())
    prefixes.append(live.prefix(0))
    batch, barrier = live.take()
    assert barrier
    live.publish()
    raw = _core.Frames(bytes(batch)).events()
    # The recorder may have added results of calls that have none.
    assert len(raw) >= len(events)
    assert [event.seq for event in raw] == list(range(1, len(raw) + 1))
    whole = agentrunner.fold(raw)
    for frames, seq in prefixes:
        prefix = frames.events()
        assert [event.cursor for event in prefix] == [f"{seq}.{n}" for n in range(len(prefix))]
        assert agentrunner.fold([*prefix, *raw[seq:]]) == whole
        agentrunner.verify([*prefix, *raw[seq:]])
        for skip in range(len(prefix) + 1):
            again = _core.recompact([_core.Frames(bytes(batch))], seq, skip).events()
            assert texts(again) == texts(prefix[skip:])
    assert agentrunner.fold(json.loads(live.compacted())) == whole


@SETTINGS
@given(SEEDS)
def test_a_run_that_is_cut_short_ends_validly(seed):
    (events,) = runs(seed)
    dice = Dice(~seed)
    kept = events[: dice.randint(1, len(events))]
    stopped = dice.random() < 0.5
    ended = [*kept, *agentrunner.finalize(kept, stop_requested=stopped)]
    agentrunner.verify(ended)
    assert (
        sum(1 for event in ended if (event["type"] if isinstance(event, dict) else event.type).startswith("RUN_")) == 2
    )
    agentrunner.verify(agentrunner.compact(ended))
    live = recorder()
    for event in kept:
        live.accept(json.dumps(event).encode())
    live.finalize(stop_requested=stopped, message=None, code=None)
    agentrunner.verify(json.loads(live.compacted()))


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KINDS = st.sampled_from(
    [
        "RUN_STARTED",
        "RUN_FINISHED",
        "RUN_ERROR",
        "STEP_STARTED",
        "STEP_FINISHED",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "TEXT_MESSAGE_CHUNK",
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "TOOL_CALL_CHUNK",
        "TOOL_CALL_RESULT",
        "STATE_SNAPSHOT",
        "STATE_DELTA",
        "MESSAGES_SNAPSHOT",
        "ACTIVITY_SNAPSHOT",
        "ACTIVITY_DELTA",
        "REASONING_START",
        "REASONING_END",
        "REASONING_MESSAGE_START",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_END",
        "REASONING_MESSAGE_CHUNK",
        "REASONING_ENCRYPTED_VALUE",
        "RAW",
        "CUSTOM",
        "SUBAGENT_STARTED",
        "SUBAGENT_FINISHED",
        "SUBAGENT_ERROR",
        "OTHER",
    ]
)
FIELDS = st.sampled_from(
    [
        "messageId",
        "toolCallId",
        "delta",
        "snapshot",
        "messages",
        "metadata",
        "subagentRunId",
        "stepName",
        "role",
        "content",
        "input",
        "threadId",
        "runId",
        "patch",
        "entityId",
        "subtype",
        "encryptedValue",
        "replace",
        "activityType",
        "parentMessageId",
        "toolCallName",
        "name",
    ]
)
NEARLY = st.builds(
    lambda kind, fields: {**fields, "type": kind},
    KINDS,
    st.dictionaries(FIELDS, st.sampled_from("01234") | ANY_JSON, max_size=6),
)


def spoilt(parts) -> bytes:
    data, at, byte = parts
    data = bytearray(data)
    if data:
        data[at % len(data)] = byte
    return bytes(data)


HOSTILE = st.one_of(
    NEARLY.map(lambda event: json.dumps(event).encode()),
    ANY_JSON.map(lambda value: json.dumps(value).encode()),
    st.tuples(NEARLY.map(lambda event: json.dumps(event).encode()), st.integers(0, 500), st.integers(0, 255)).map(
        spoilt
    ),
    st.binary(max_size=20),
)


@settings(SETTINGS, max_examples=500)
@given(st.lists(HOSTILE, max_size=6))
def test_hostile_bytes_raise_our_errors_only(events):
    for function in (
        agentrunner.compact,
        agentrunner.fold,
        agentrunner.verify,
        agentrunner.expand,
        agentrunner.finalize,
    ):
        with contextlib.suppress(AgentRunnerError):
            result = function(events)
            for event in result if isinstance(result, list) else []:
                json.loads(bytes(event))
    live = recorder()
    for event in events:
        with contextlib.suppress(AgentRunnerError):
            live.accept(event)
    live.finalize(stop_requested=False, message="cut", code=None)
    recorded = json.loads(live.compacted())
    agentrunner.verify([json.dumps(event) for event in recorded])
