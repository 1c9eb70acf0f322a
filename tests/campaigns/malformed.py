"""Runs with one damaged field, read by real clients of both generations, early and late."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from campaigns import Campaign, NotRun, Outcome, children
from support.damage import VALUES, damage, places
from support.nodejs import ask, install
from support.whole_run import whole_run

if TYPE_CHECKING:
    from random import Random

    from campaigns import Context

STREAMS_AT_ONCE = 100
"""Streams that one node process reads."""


def run(context: Context) -> Outcome:
    if shutil.which("node") is None:
        raise NotRun("node is not installed")
    install()
    verdicts = ("recorded as they are", "mended", "ended by INVALID_EVENT")
    outcome = Outcome(dict.fromkeys(("streams", *verdicts, "readings"), 0))
    questions = list(make_questions(context.random, context.rounds))
    answers = children.ask(context, "campaigns.malformed_runs", questions, context.folder / "malformed")
    whole = []
    for question, answer in zip(questions, answers, strict=True):
        outcome.count("streams")
        for wrong in answer.get("wrong", ()):
            outcome.fail(f"{question['what']}: {wrong}")
        if "died" in answer:
            outcome.fail(f"{question['what']}: the process died or hung: {answer['died']}")
        if "verdict" in answer:
            outcome.count(answer["verdict"])
            whole.append((question["what"], answer))
    for first in range(0, len(whole), STREAMS_AT_ONCE):
        part = whole[first : first + STREAMS_AT_ONCE]
        lines = [json.dumps(answer["bodies"]).encode() for _, answer in part]
        for (what, _), readings in zip(part, ask("read_streams.mjs", lines), strict=True):
            compare(outcome, what, readings)
    return outcome


def compare(outcome: Outcome, what: str, readings: dict[str, Any]) -> None:
    """Note a client that has refused a stream, or holds something else late than early."""
    for client, (live, replay) in readings.items():
        for when, reading in (("live", live), ("in a replay", replay)):
            outcome.count("readings")
            if "refused" in reading:
                outcome.fail(f"{what}: the {client} client refuses it {when}: {reading['refused'][:300]}")
        early, late = (view(reading) for reading in (live, replay))
        if "refused" not in live and "refused" not in replay and early != late:
            held = f"{json.dumps(late)[:500]} late, {json.dumps(early)[:500]} early"
            outcome.fail(f"{what}: the {client} client holds {held}")


def view(reading: dict[str, Any]) -> Any:
    return [reading.get("messages"), reading.get("state"), reading.get("failure")]


def make_questions(random: Random, count: int) -> Any:
    """Yield questions: each the seed of a run, and the damage to one of its events."""
    for number in range(count):
        seed = random.random()
        events = whole_run("t", "r", seed)
        # Each kind gets its turn, so that kinds with few fields are not tried less.
        by_kind = sorted({event["type"] for event in events})
        kind = by_kind[number % len(by_kind)]
        index = random.choice([index for index, event in enumerate(events) if event["type"] == kind])
        path = random.choice([path for path in places(events[index]) if path != ("type",)])
        value = random.randrange(len(VALUES))
        name = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
        damaged = damage(events[index], path, VALUES[value])
        yield {
            "seed": seed,
            "index": index,
            "event": damaged,
            "harness": number % 4 == 0,
            "what": f"{kind}{name} of {json.dumps(damaged)[:300]}",
        }


CAMPAIGN = Campaign(
    name="malformed",
    promise="damaged fields",
    bar="0 streams that a client of 1.0.0 or 0.0.59 refuses, live or in a replay; late equals early; 0 exceptions",
    backends=("sqlite",),
    small=240,
    full={"sqlite": 5000},
    run=run,
    mutations={"fields_are_not_checked": "the fields of known events are checked before they are recorded"},
)
