"""Real clients of both generations reconnect with the messages they hold.

They end with the same messages and state as a fresh client.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentrunner import compact
from agentrunner._core import Frames, fold, snapshot
from support.fixtures import fixture_lines
from support.nodejs import ask, install, needs_node

pytestmark = needs_node


@pytest.fixture(scope="module", autouse=True)
def _packages():
    install()


def make_frames(events: list[bytes]) -> Frames:
    return Frames(b"".join(b"id: %d\ndata: %s\n\n" % (at, event) for at, event in enumerate(events, 1)))


def runs(events: list[Any]) -> list[list[bytes]]:
    """Return each run's events as they are sent."""
    runs: list[list[bytes]] = []
    for event in events:
        if not runs or event["type"] == "RUN_STARTED":
            runs.append([])
        runs[-1].append(json.dumps(event).encode())
    return runs


def make_snapshot_events(before: list[list[bytes]], live: list[bytes]) -> list[bytes]:
    """Return a reconnecting reader's first events: the stored runs, and the live run so far."""
    parts = snapshot([make_frames([bytes(event) for event in compact(run)]) for run in [*before, live]])
    assert parts is not None
    started, before, messages, state, events = parts
    shared = [b'{"type":"STATE_SNAPSHOT","snapshot":%s}' % state] if state is not None else []
    return [started, *before, b'{"type":"MESSAGES_SNAPSHOT","messages":%s}' % messages, *shared, *events]


def question(client: str, held: list[bytes], sent: list[bytes]) -> bytes:
    def read(events: list[bytes]) -> bytes:
        frames = make_frames(events)
        data = frames.for_legacy_clients() if client == "old" else bytes(frames)
        return b",".join(line[6:] for line in data.split(b"\n") if line.startswith(b"data: "))

    return b'{"client":"%s","held":[%s],"sent":[%s]}' % (client.encode(), read(held), read(sent))


REFUSED = "fold-31-198"
"""A stream in which a tool call reuses the id of a subagent's open message that was removed.

A snapshot assigns the message another owner.
"""


@pytest.mark.parametrize("client", ["old", "new"])
@pytest.mark.parametrize("name", ["fold", "interleaved"])
def test_a_client_that_holds_any_beginning_ends_with_the_whole(name: str, client: str) -> None:
    fresh, wanted, returning = [], [], []
    for at, case in enumerate(case for case in fixture_lines(name) if case["name"] != REFUSED):
        all_runs = runs(case["events"])
        last = at % len(all_runs)
        before, run = all_runs[:last], all_runs[last]
        whole = [event for run in [*before, run] for event in run]
        fresh.append(question(client, whole, []))
        wanted.append([json.loads(part) for part in fold([json.loads(event) for event in whole])])
        # At every 29th event, each time from another one on; and where the run has ended.
        for cut in {*range(1 + at % 29, len(run), 29), len(run)}:
            sent = make_snapshot_events(before, run[:cut]) + run[cut:]
            there = len(whole) - len(run) + cut
            for held in {0, there, there * (at % 10) // 10}:
                title = f"{case['name']}, run {last} cut at {cut}, {held} held"
                returning.append((at, title, question(client, whole[:held], sent)))
    answers = ask("reconnect.mjs", [*fresh, *(request for *_, request in returning)])
    # The older client reads some streams otherwise than the newer: a reasoning's id that a snapshot gives to an answer
    # stays reasoning, and a state that is `null`, `0`, `""` or `false` is not noticed. There, nothing is compared.
    same = [
        (answer["messages"] == messages, answer["state"] == state)
        for answer, (messages, state) in zip(answers, wanted, strict=False)
    ]
    assert sum(all(one) for one in same) > len(same) * (0.7 if client == "old" else 0.999)
    wrong = []
    for (at, title, _), answer in zip(returning, answers[len(fresh) :], strict=True):
        (messages, state), (same_messages, same_state) = wanted[at], same[at]
        if "refused" in answer:
            wrong.append((title, answer["refused"]))
        elif same_messages and answer["messages"] != messages:
            wrong.append((title, answer["messages"], messages))
        elif same_state and answer["state"] != state:
            wrong.append((title, answer["state"], state))
    assert len(returning) > 700
    assert wrong == []


@pytest.mark.parametrize("client", ["old", "new"])
def test_a_plain_replay_doubles_what_is_held(client: str) -> None:
    """Check that the snapshot is needed, and that these clients notice a wrong one."""
    text = [
        {"type": "RUN_STARTED", "threadId": "t", "runId": "r"},
        {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "Hello"},
    ]
    (run,) = runs(text)
    plain, taken = ask(
        "reconnect.mjs", [question(client, run, run), question(client, run, make_snapshot_events([], run))]
    )
    assert plain["messages"] == [{"id": "m", "role": "assistant", "content": "HelloHello"}]
    assert taken["messages"] == [{"id": "m", "role": "assistant", "content": "Hello"}]
