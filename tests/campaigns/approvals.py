"""Two processes decide one approval, with kills: one decision, at most one tool start."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from agentrunner import AgentRunner
from agentrunner.records.approvals import find_approval
from agentrunner.records.harness_runs import find_run
from agentrunner.stores.urls import store_from_url
from campaigns import Campaign, Outcome, complete_lines
from support.processes import process

if TYPE_CHECKING:
    from agentrunner.harness import Approval, RunRecord
    from campaigns import Context
    from support.processes import Process

LONGEST = 0.1
"""Maximum seconds that a process lives after it was told to decide."""
PATIENCE = 20.0
DECISIONS = ("approve", "reject", "edit")
DECIDED = {"ok", "refused"}


class Racing:
    """Two processes, and the outcome of their decisions."""

    def __init__(
        self, context: Context, outcome: Outcome, runner: AgentRunner, stack: contextlib.AsyncExitStack
    ) -> None:
        self.context = context
        self.outcome = outcome
        self.runner = runner
        self.notes = context.folder / "payments"
        self._stack = stack
        self._deciders: list[Process] = []

    async def start(self) -> Process:
        """Start a process, which recovers the runs of dead processes."""
        child = process("support.programs.decider", self.context.location, self.notes, mutation=self.context.mutation)
        decider = await self._stack.enter_async_context(child)
        if await decider.answer() != ["ready"]:
            self.outcome.fail("a process did not start")
        return decider

    async def round(self, number: int) -> None:
        """Request an approval that both processes decide at once, and perhaps kill one of them."""
        dice, thread, run = self.context.random, f"t{number}", f"r{number}"
        while len(self._deciders) < 2:
            self._deciders.append(await self.start())
        if (answer := await dice.choice(self._deciders).request("ask", thread, run)) != ["ok", "waiting_for_approval"]:
            self.outcome.fail(f"{thread}: the approval was not requested; the response was {answer}")
            return
        decisions = [dice.choice(DECISIONS) for _ in self._deciders]
        for n, (decider, decision) in enumerate(zip(self._deciders, decisions, strict=True)):
            if dice.random() < 0.5:
                decider.ask("decide", f"{run}/may-i", decision, n + 2)
            else:
                decider.ask("answer", thread, f"{run}-{n}", "may-i", decision, n + 2)
        answering = [asyncio.ensure_future(decider.answer()) for decider in self._deciders]
        await self.kill(thread, answering)
        answers = [await each for each in answering]
        self.bury(thread)
        while len(self._deciders) < 2:
            self._deciders.append(await self.start())
        record, approval = await self.wait_until_ended(thread, run)
        if record is None or approval is None:
            return
        for n, (decision, answer) in enumerate(zip(decisions, answers, strict=True)):
            self.check_answer(thread, n, decision, answer, approval)
        self.check(thread, record, approval)

    async def kill(self, thread: str, answering: list[asyncio.Future[list[str]]]) -> None:
        """Kill one of the two processes at any moment or while it pays, or kill neither."""
        dice = self.context.random
        chance, moment, which = dice.random(), dice.uniform(0, LONGEST), dice.randrange(2)
        if chance < 0.3:
            await asyncio.sleep(moment)
        elif chance < 0.6:
            while not (payments := self.payments(thread)) and not all(each.done() for each in answering):
                await asyncio.sleep(0.002)
            pids = [decider.pid for decider in self._deciders]
            if not payments or payments[0][1] not in pids:
                return
            which = pids.index(payments[0][1])
            self.outcome.count("kills during the payment")
        else:
            return
        self._deciders.pop(which).kill()
        self.outcome.count("kills")

    def bury(self, thread: str) -> None:
        """Drop the processes that ended without being killed, and report them."""
        dead = [decider for decider in self._deciders if decider.child.poll() is not None]
        for decider in dead:
            self.outcome.fail(f"{thread}: a process ended by itself")
            self._deciders.remove(decider)

    def payments(self, thread: str) -> list[tuple[int, int]]:
        """Return the payments for a thread: the amount and the process of each."""
        lines = [line.split() for line in complete_lines(self.notes)]
        return [(int(amount), int(pid)) for name, amount, pid in lines if name == thread.encode()]

    async def wait_until_ended(self, thread: str, run: str) -> tuple[RunRecord | None, Approval | None]:
        """Wait until a run has ended, and reject its approval if no process could decide it."""
        store = await self.runner.open()
        until = time.monotonic() + PATIENCE * self.context.patience
        while time.monotonic() < until:
            record, approval = await find_run(store, thread, run), await find_approval(store, thread, f"{run}/may-i")
            if record is not None and approval is not None and record.ended:
                return record, approval
            if record is not None and record.state == "waiting_for_approval":
                self.outcome.count("decided afterwards")
                await self._deciders[0].request("decide", f"{run}/may-i", "reject", 0)
            await asyncio.sleep(0.01)
        self.outcome.fail(f"{run} has not ended: {record}")
        return None, None

    def check_answer(self, thread: str, n: int, decision: str, answer: list[str], approval: Approval) -> None:
        """Check a process's answer against the stored decision."""
        theirs = {"approve": {"approved": True}, "edit": {"approved": True, "editedArgs": {"sum": n + 2}}}
        same = approval.decision == decision and (decision == "reject" or approval.payload == theirs[decision])
        if answer[:1] == ["ok"]:
            self.outcome.count("decisions accepted")
            if not same:
                self.outcome.fail(
                    f"{thread}: decision {decision} got {answer}, but the approval is {approval.decision}"
                )
        elif answer[:1] == ["refused"]:
            self.outcome.count("decisions refused")
        elif answer:
            self.outcome.fail(f"{thread}: the response was {answer}")

    def check(self, thread: str, record: RunRecord, approval: Approval) -> None:
        """Check that the approval was decided once, and paid at most once, as decided."""
        self.outcome.count(f"decisions: {approval.decision}")
        resolved = [event for event in record.events if event.type == "approval.resolved"]
        if [event.data["decision"] for event in resolved] != [approval.decision]:
            self.outcome.fail(f"{thread}: it was decided {len(resolved)} times: {resolved}")
        seqs = [event.seq for event in record.events]
        if seqs != sorted(set(seqs)):
            self.outcome.fail(f"{thread}: its events are numbered {seqs}")
        if record.state != "completed":
            self.outcome.fail(f"{thread}: the run is {record.state}: {record.error}")
        sums = [amount for amount, _ in self.payments(thread)]
        self.outcome.count("payments", len(sums))
        allowed = {"approve": 1, "edit": approval.payload.get("editedArgs", {}).get("sum")}
        if len(sums) > 1 or any(each != allowed.get(str(approval.decision)) for each in sums):
            self.outcome.fail(f"{thread}: it was {approval.decision}, {approval.payload}, but the payments were {sums}")
        if record.attempts == 1 and approval.decision != "reject" and not sums:
            self.outcome.fail(f"{thread}: decided {approval.decision} at the first attempt, but nothing was paid")
        self.outcome.count("retried", record.attempts > 1)


async def campaign(context: Context) -> Outcome:
    outcome = Outcome({"kills": 0, "retried": 0, "payments": 0, "decisions accepted": 0})
    async with contextlib.AsyncExitStack() as stack:
        runner = await stack.enter_async_context(AgentRunner(store_from_url(context.location)))
        racing = Racing(context, outcome, runner, stack)
        for number in range(context.rounds):
            await racing.round(number)
            context.tick()
    return outcome


CAMPAIGN = Campaign(
    name="approvals",
    promise="one decision",
    bar="two processes race to decide: one decision counts, even if a process is killed; the tool starts at most once",
    backends=("sqlite", "redis", "postgres"),
    small=24,
    full={"sqlite": 1000, "redis": 1000, "postgres": 1000},
    run=lambda context: asyncio.run(campaign(context)),
    mutations={
        "decide_without_comparing": "a decision is compared with the state of its approval and run",
        "start_what_has_started": "a tool is started only if the ledger allows it",
    },
)
