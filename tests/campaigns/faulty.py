"""The child of `io_faults`: use a store on a disk with a fault, then cut the power."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import ag_ui.core  # noqa: F401 - so that no first run waits for this import

from campaigns import Outcome, children, disk, mutations
from campaigns.lives import Life
from campaigns.power import Disk
from campaigns.power_loss import examine
from support.events import text_message, tool_call

if TYPE_CHECKING:
    from agentrunner import SqliteAgentRunner

    Calls: TypeAlias = dict[str, int]


async def work(life: Life) -> SqliteAgentRunner | None:
    """Run two runs side by side, a large run and the thread verbs; return the open runner."""
    runner = life.runner()
    if await life.verb("open", runner.open()) is None:
        return None
    call = tool_call("c1", "look", "{}", result="seen")
    await asyncio.gather(
        life.run(runner, "a", "a1", *text_message("m1", "one", "two", "three"), *call, *text_message("m2", "four")),
        life.run(runner, "b", "b1", *text_message("m1", "one", "two"), *call),
    )
    await life.run(runner, "a", "a2", *text_message("m3", *("x" * 20_000 for _ in range(4))))
    await life.verb("rename", runner.threads.rename("a", "a name"))
    await life.verb("list", runner.threads.list())
    await life.verb("replay", life.replay(runner, "a"))
    await life.run(runner, "gone", "g1", *text_message("m4", "five"))
    # If this fails, whether the thread is gone is unknown.
    life.shown.pop("gone", None)
    await life.verb("delete", runner.threads.delete("gone"))
    return runner


async def live(life: Life, control: disk.Control, fault: dict[str, int]) -> tuple[SqliteAgentRunner | None, Calls]:
    """Use a store with a fault; return its runner, if still open, and the calls of each kind."""
    before = {kind: control.count_calls(kind) for kind in disk.SEEN}
    control.fail(fault["kind"], fault["after"], fault["times"])
    runner = await work(life)
    # A fault may also occur while the store closes, or end while the same runner continues.
    if runner is not None and fault["close"]:
        await life.verb("close", runner.aclose())
        runner = None
    calls = {str(kind): control.count_calls(kind) - seen for kind, seen in before.items()}
    control.clear()
    return runner, calls


async def live_on(life: Life, runner: SqliteAgentRunner | None, log: Path, chance: random.Random) -> None:
    """Use the store on the repaired disk: nothing is lost by a power cut or by closing."""
    async with runner or life.runner() as runner:
        await life.go_on(runner)
        await life.look_over(runner)
        await cut(life, log, chance)
    async with life.runner() as runner:
        await life.look_over(runner)


async def cut(life: Life, log: Path, chance: random.Random) -> None:
    """Check that all shown events survive a power cut now.

    A failed sync must not count as a sync.
    """
    replayed = Disk(chance)
    for record in disk.records(log):
        replayed.replay(record)
    folder = life.path.parent / "cut"
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    replayed.cut(folder)
    outcome = Outcome()
    await examine(folder / life.path.name, life.shown, record, True, "after a power cut", outcome)
    life.told.wrong += outcome.failures


async def main(path: str, seed: str) -> None:
    folder = Path(path)
    control = disk.Control(folder / "control")
    log = folder / "log"

    async def answer(number: int, fault: dict[str, int]) -> dict[str, Any]:
        life = Life(folder / f"watched-{number}.db", lambda: control.failed_at)
        failures = control.failures
        os.truncate(log, 0)
        chance = random.Random(f"{seed}/{number}")  # noqa: S311 - the same faults each time
        calls = {}
        try:
            runner, calls = await live(life, control, fault)
            await live_on(life, runner, log, chance)
        except Exception as error:  # noqa: BLE001 - any exception is a failure
            life.told.wrong.append(f"after the fault: {type(error).__name__}: {error}")
        control.clear()
        for left in folder.glob(f"{life.path.name}*"):
            left.unlink()
        return {**asdict(life.told), "failures": control.failures - failures, "calls": calls}

    await children.serve(answer)


if __name__ == "__main__":
    mutations.apply()
    asyncio.run(main(*sys.argv[1:]))
