"""Invalid events, inputs, cursors, bytes and requests for one runner and one server."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from campaigns import Campaign, Outcome, children

if TYPE_CHECKING:
    from campaigns import Context

WARM = 100
"""Rounds before which memory growth means nothing."""
HEAVY = 5
"""One of so many rounds sends large input."""
MIB = 1 << 20
FLAT = 16 * MIB


def run(context: Context) -> Outcome:
    outcome = Outcome({"inputs sent": 0, "refused": 0, "frames": 0})
    questions = [{"heavy": number % HEAVY == 0} for number in range(context.rounds)]
    answers = children.ask(context, "campaigns.attacked", questions, context.folder / "attacked")
    for number, answer in enumerate(answers):
        if "died" in answer:
            outcome.fail(f"round {number}: the process died or hung: {answer['died']}")
            continue
        for what in ("inputs sent", "refused", "frames"):
            outcome.count(what, answer[what])
        for wrong in answer["wrong"]:
            outcome.fail(f"round {number}: {wrong}")
    resident = [answer["resident"] for answer in answers if "resident" in answer]
    if len(resident) > WARM:
        # Stored threads have limits, which are reached in the first rounds.
        quarter = len(resident) // 4
        grown = statistics.median(resident[-quarter:]) - statistics.median(resident[quarter : 2 * quarter])
        outcome.figures["largest memory, MiB"] = round(max(resident) / MIB, 1)
        outcome.figures["memory grown, MiB"] = round(grown / MIB, 1)
        if grown > FLAT:
            outcome.fail(f"memory has grown by {grown / MIB:.0f} MiB")
    return outcome


CAMPAIGN = Campaign(
    name="hostile",
    promise="hostile input",
    bar="0 panics, 0 extra frames, only 4xx and our errors; memory: the medians of the second and the last quarter are "
    "at most 16 MiB apart",
    backends=("sqlite",),
    small=6,
    full={"sqlite": 2000},
    run=run,
    mutations={
        "line_breaks_as_they_are": "line breaks in an agent's JSON do not reach the frames",
        "bodies_without_limit": "a request's body has a size limit",
    },
)
