"""Bodies of any shape up to the limit: none holds up the event loop or is answered long."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from campaigns import Campaign, Outcome, children

if TYPE_CHECKING:
    from campaigns import Context

LOOP_SECONDS = 0.05
ANSWER_BYTES = 64 * 1024
WARM = 100
"""Rounds before which memory growth means nothing."""
MIB = 1 << 20
FLAT = 16 * MIB


def run(context: Context) -> Outcome:
    outcome = Outcome({"bodies": 0, "refused": 0, "MiB sent": 0})
    questions = [{"number": number} for number in range(context.rounds)]
    answers = children.ask(context, "campaigns.stuffed", questions, context.folder / "stuffed")
    blocked, longest, resident = [0.0], 0, []
    for number, answer in enumerate(answers):
        if "died" in answer:
            outcome.fail(f"round {number}: the process died or hung: {answer['died']}")
            continue
        what = f"round {number}, {answer['kind']} of {answer['bytes']} bytes"
        outcome.count("bodies")
        outcome.count("refused", answer["status"] >= 400)
        outcome.count("MiB sent", answer["bytes"] / MIB)
        blocked.append(answer["blocked"])
        resident.append(answer["resident"])
        if answer["status"] >= 500:
            outcome.fail(f"{what} is answered with {answer['status']}")
        if answer["status"] >= 400:
            longest = max(longest, answer["answer bytes"])
            if answer["answer bytes"] > ANSWER_BYTES:
                outcome.fail(f"{what} is answered with {answer['answer bytes']} bytes")
        if answer["blocked"] > LOOP_SECONDS * context.patience:
            outcome.fail(f"{what} keeps the loop for {answer['blocked'] * 1000:.0f} ms")
    outcome.figures["MiB sent"] = round(float(outcome.figures["MiB sent"]))
    outcome.figures["longest wait of the loop, ms"] = round(max(blocked) * 1000, 1)
    outcome.figures["longest refusal, bytes"] = longest
    if len(resident) > WARM:
        quarter = len(resident) // 4
        grown = statistics.median(resident[-quarter:]) - statistics.median(resident[quarter : 2 * quarter])
        outcome.figures["memory grown, MiB"] = round(grown / MIB, 1)
        if grown > FLAT:
            outcome.fail(f"memory has grown by {grown / MIB:.0f} MiB")
    return outcome


CAMPAIGN = Campaign(
    name="bodies",
    promise="hostile bodies",
    bar="no body keeps the loop for more than 50 ms of processor time; no refusal over 64 KiB; no 5xx; memory: the "
    "medians of the second and the last quarter are at most 16 MiB apart",
    backends=("sqlite",),
    small=40,
    full={"sqlite": 10_000},
    run=run,
    mutations={"bodies_of_any_number_of_values": "the values of a body are counted before it is parsed"},
)
