"""Each write, sync and read fails, once or for ever, in a new process; then a power cut."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle, islice, zip_longest
from typing import TYPE_CHECKING, Any

from campaigns import Campaign, Outcome, children, disk

if TYPE_CHECKING:
    from pathlib import Path

    from campaigns import Context

SECOND = 1.0
KINDS = {disk.WRITE: "write", disk.SYNC: "sync", disk.READ: "read"}


def run(context: Context) -> Outcome:
    outcome = Outcome({"faults": 0})
    none = {"kind": disk.WRITE, "after": 0, "times": 0, "close": 1}
    quiet = replace(context, tick=lambda: None)
    [measured] = children.ask(quiet, "campaigns.faulty", [none], context.folder / "measured", bad_disk)
    calls = {kind: measured["calls"][str(kind)] for kind in KINDS}
    longest = 0.0
    for fault, told in children.ask_several(context, "campaigns.faulty", chosen(context, calls), bad_disk):
        what = describe(fault)
        outcome.count("faults")
        if "died" in told:
            outcome.fail(f"{what}: the process died or hung: {told['died']}")
            continue
        outcome.count("calls failed", told["failures"])
        outcome.count("typed errors", told["errors"])
        outcome.count("runs ended for their readers", told["ended"])
        outcome.recovery_seconds.append(told["recovery"])
        longest = max(longest, told["longest"])
        for wrong in told["wrong"]:
            outcome.fail(f"{what}: {wrong}")
        if told["longest"] > SECOND * context.patience:
            outcome.fail(f"{what}: a call took {told['longest']:.1f} s")
    outcome.figures["longest call, s"] = longest
    outcome.figures |= {f"{name}s in a life": calls[kind] for kind, name in KINDS.items()}
    return outcome


def bad_disk(folder: Path) -> dict[str, str]:
    return disk.behind(folder / "watched", log=folder / "log", control=folder / "control")


def chosen(context: Context, calls: dict[int, int]) -> list[dict[str, int]]:
    """Choose one fault per round, each kind in turn, and repeat if there are more rounds."""
    kinds = []
    for kind in KINDS:
        faults = [
            {"kind": kind, "after": after, "times": times, "close": close}
            for after in range(calls[kind])
            for times in (1, disk.FOR_EVER)
            for close in (0, 1)
        ]
        context.random.shuffle(faults)
        kinds.append(faults)
    in_turn = [fault for group in zip_longest(*kinds) for fault in group if fault is not None]
    return list(islice(cycle(in_turn), context.rounds))


def describe(fault: dict[str, Any]) -> str:
    length = "once" if fault["times"] == 1 else "for ever"
    close = ", also at the close" if fault["close"] else ""
    return f"{KINDS[fault['kind']]} {fault['after'] + 1} failing {length}{close}"


CAMPAIGN = Campaign(
    name="io_faults",
    promise="disk faults",
    bar="every write, sync and read fails, once and permanently: a typed error within 1 s, no hang; readers see the "
    "run end; the database is sound and has all events shown, even after a power cut",
    backends=("sqlite",),
    small=18,
    full={"sqlite": 3200},
    run=run,
    mutations={"errors_are_success": "a failed append is treated as a failure"},
)
