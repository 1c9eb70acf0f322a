"""Disks that fill up at any byte, recorded or real, and then have space again."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from campaigns import Campaign, Outcome, children, disk

if TYPE_CHECKING:
    from pathlib import Path

    from campaigns import Context

SECOND = 1.0
ROOM = 400_000
"""Maximum free bytes when a disk begins to fill."""
OWN = ("unshare", "--map-root-user", "--mount")
"""The command that lets a process mount its own file systems."""


def run(context: Context) -> Outcome:
    outcome = Outcome({"disks filled": 0})
    real = context.rounds // 5 if mountable() else 0
    if not real:
        outcome.figures["on a real file system"] = "not run: none can be mounted here"
    rooms = [{"room": context.random.randrange(ROOM)} for _ in range(context.rounds)]
    told = children.ask_several(context, "campaigns.filled", rooms[real:], full_disk)
    if real:
        folder = context.folder / "mounted"
        answers = children.ask(context, "campaigns.filled", rooms[:real], folder, arguments=("mounted",), before=OWN)
        told += zip(rooms, answers, strict=False)
        outcome.figures["on a real file system"] = real
    longest = 0.0
    for question, answer in told:
        what = f"with room for {question['room']} bytes"
        outcome.count("disks filled")
        if "died" in answer:
            outcome.fail(f"{what}: the process died or hung: {answer['died']}")
            continue
        outcome.count("typed errors", answer["errors"])
        outcome.count("runs ended for their readers", answer["ended"])
        outcome.recovery_seconds.append(answer["recovery"])
        longest = max(longest, answer["longest"])
        for wrong in answer["wrong"]:
            outcome.fail(f"{what}: {wrong}")
        if answer["longest"] > SECOND * context.patience:
            outcome.fail(f"{what}: a call took {answer['longest']:.1f} s")
    outcome.figures["longest call, s"] = longest
    return outcome


def full_disk(folder: Path) -> dict[str, str]:
    return disk.behind(folder / "disk" / "", control=folder / "control")


def mountable() -> bool:
    """Return whether a process may mount a file system here."""
    mount = "mount -t tmpfs -o size=1m tmpfs /tmp && mount -o remount,size=2m /tmp"
    tried = shutil.which("unshare") and subprocess.run([*OWN, "sh", "-c", mount], capture_output=True, check=False)
    return bool(tried) and tried.returncode == 0


CAMPAIGN = Campaign(
    name="disk_full",
    promise="disk faults",
    bar="disks that fill up at any byte: a typed error within 1 s that says so; readers see the run end; the database "
    "is sound and has all events shown; with space again work resumes",
    backends=("sqlite",),
    small=6,
    full={"sqlite": 300},
    run=run,
    mutations={"publish_before_commit": "durable before delivered: readers see only events that the disk has"},
)
