"""Claim threads for new runs, first in, first out, by the policy for busy threads."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import weakref
from typing import TYPE_CHECKING, NamedTuple, get_args

from agentrunner.errors import AgentRunnerError, RunnerClosed, ThreadAlreadyRunning, TooManyWaiting
from agentrunner.running.client_messages import sort_messages
from agentrunner.running.ending import EndingChecks, EndingRun
from agentrunner.running.inputs import input_for_agent
from agentrunner.running.maintenance import STOP_POLL_SECONDS
from agentrunner.running.waiting import WaitingPlace
from agentrunner.running.waits import ThreadWaits, check_thread
from agentrunner.stores.types import ThreadGuard
from agentrunner.types import ClientMessages, OnConcurrentRun

if TYPE_CHECKING:
    from ag_ui.core import RunAgentInput

    from agentrunner._core import Claim, Recorder
    from agentrunner.running.client_messages import ChangedMessages
    from agentrunner.running.inputs import CheckedInput
    from agentrunner.running.maintenance import Maintenance
    from agentrunner.running.recording import RecordingLimits
    from agentrunner.running.table import RunTable
    from agentrunner.running.waiting import WaitingLine
    from agentrunner.stores import Store


class NewRun(NamedTuple):
    """The arguments of `Store.claim`."""

    thread_id: str
    run_id: str
    input: str
    agent_id: str | None
    message_ids: list[str]
    scope: str | None


class ClaimedRun(NamedTuple):
    """A run that holds its thread and can start."""

    claim: Claim
    recorder: Recorder
    input: RunAgentInput
    """The input as its agent gets it."""
    accepted_ids: frozenset[str]
    """Ids of the new messages that a client may send; see `SortedInput`."""
    has_new_messages: bool
    """Whether the input has messages that the thread does not have, or changes those that it has."""
    changed: ChangedMessages | None
    """Messages that the run starts from, if its client has changed those of the thread."""


class Claiming:
    """Claims threads for new runs of this process."""

    def __init__(
        self,
        store: Store,
        table: RunTable,
        maintenance: Maintenance,
        limits: RecordingLimits,
        on_concurrent_run: OnConcurrentRun,
        client_messages: ClientMessages,
        line: WaitingLine,
    ) -> None:
        policies = get_args(OnConcurrentRun)
        if on_concurrent_run not in policies:
            raise ValueError(f"on_concurrent_run must be one of {policies}, not {on_concurrent_run!r}")
        self._store = store
        self._table = table
        self._maintenance = maintenance
        self._limits = limits
        choices = get_args(ClientMessages)
        if client_messages not in choices:
            raise ValueError(f"client_messages must be one of {choices}, not {client_messages!r}")
        self._on_concurrent_run = on_concurrent_run
        self._refuses_claimed_messages = client_messages == "refuse"
        self._turns: weakref.WeakValueDictionary[tuple[str, str | None], asyncio.Lock] = weakref.WeakValueDictionary()
        self._waits = ThreadWaits()
        self._ending_checks = EndingChecks()
        self._line = line
        self.is_refusing = False
        """Whether new runs are refused, because the runner is draining or closed."""

    @property
    def has_waiting_runs(self) -> bool:
        """Whether a run is waiting for its thread."""
        return any(turn.locked() for turn in self._turns.values())

    async def claim(self, new_run: NewRun, checked: CheckedInput) -> ClaimedRun:
        """Claim the thread of a new run, which may mean waiting until the thread is free.

        With the policy `reject`, the new run waits only for a run that is ending.

        Raises the errors of `Store.claim`, `CircularWait`, `TooManyWaiting`, `InvalidInput` if the client may not send
        one of the messages, and `RunnerClosed` if new runs are refused.
        """
        # Check before waiting for the turn: the run that holds it may be waiting for the caller's own run.
        await check_thread(self._store, new_run.thread_id, new_run.run_id)
        thread = (new_run.thread_id, new_run.scope)
        with (
            self._waits.wait(new_run.thread_id, new_run.run_id),
            WaitingPlace(self._line, thread, sys.getsizeof(new_run.input)) as place,
        ):
            try:
                claim, known_ids, unseen_from = await self._claim(new_run, place)
            except TooManyWaiting:
                # With `reject`, runs wait only briefly, and the reason for the refusal is the busy thread.
                if self._on_concurrent_run == "reject":
                    raise ThreadAlreadyRunning from None
                raise
        try:
            claimed = await self._prepare(claim, known_ids, checked, unseen_from)
        except BaseException:
            await asyncio.shield(self._table.spawn(self._free(claim)))
            raise
        if self.is_refusing:
            # As in `_claim`: the runner started to drain or close while the run was prepared.
            await self._free(claim)
            raise _make_closed(new_run.thread_id)
        return claimed

    async def _prepare(
        self, claim: Claim, known_ids: dict[str, int], checked: CheckedInput, unseen_from: int | None
    ) -> ClaimedRun:
        """Do what takes long for a large input, so that the run can start at once."""
        refuses = self._refuses_claimed_messages
        sorted_input = await sort_messages(
            self._store, claim, checked, known_ids, refuses=refuses, unseen_from=unseen_from
        )
        recorder = await self._limits.new_recorder(claim, known_ids, sorted_input.json)
        sorted_input.join(recorder)
        return ClaimedRun(
            claim,
            recorder,
            await input_for_agent(sorted_input.model, sorted_input.json),
            sorted_input.accepted_ids,
            sorted_input.has_new_messages,
            sorted_input.changed,
        )

    async def _claim(self, new_run: NewRun, place: WaitingPlace) -> tuple[Claim, dict[str, int], int | None]:
        """Claim the thread when it is free.

        Return the claim, the known ids, and the first sequence number of the run that it waited for.
        """
        unseen_from: int | None = None
        ending = EndingRun(self._store, self._table, new_run.thread_id, self._ending_checks)
        turn = self._get_turn(new_run.thread_id, new_run.scope)
        if turn.locked():
            place.take()
        async with turn:
            while not self.is_refusing:
                claiming = asyncio.ensure_future(self._store.claim(*new_run))
                try:
                    claimed = await asyncio.shield(claiming)
                except asyncio.CancelledError:
                    # Without this, the next run in line, or the caller's next attempt, would find the thread busy.
                    await asyncio.shield(self._table.spawn(self._give_back(claiming)))
                    raise
                except ThreadAlreadyRunning:
                    # The client sent its messages while this run was live, so it has not left out what the run says.
                    if unseen_from is None:
                        unseen_from = await self._find_first_seq(new_run.thread_id)
                    if await self._maintenance.recover(new_run.thread_id):
                        continue
                    if (error := self._table.unfinished_error(new_run.thread_id)) is not None:
                        raise error from None
                    place.take()
                    if self._on_concurrent_run == "reject":
                        if not await ending.wait():
                            raise
                        continue
                else:
                    if not self.is_refusing:
                        return *claimed, unseen_from
                    # `drain` or `aclose` has already listed the runs to wait for, so this one must not start.
                    await self._give_back(claiming)
                    break
                await self._wait_for_thread(new_run.thread_id, new_run.scope)
        raise _make_closed(new_run.thread_id)

    async def _find_first_seq(self, thread_id: str) -> int | None:
        """Return the first sequence number of a thread's live run, or `None` if it has just ended."""
        return next((claim.first_seq for claim, _ in await self._store.live(thread_id)), None)

    async def _wait_for_thread(self, thread_id: str, scope: str | None) -> None:
        """Wait until the thread may be free; with the policy `supersede`, first stop its run."""
        # The thread may have been deleted meanwhile, and another scope may have created it again.
        driver = self._table.driver_in_scope(thread_id, scope)
        if self._on_concurrent_run == "supersede":
            if driver is not None:
                await driver.stop()
            else:
                await self._store.request_stop(thread_id, None, guard=ThreadGuard(scope))
        driver = self._table.driver_in_scope(thread_id, scope)
        if driver is not None:
            await driver.wait_until_ended()
        else:
            await asyncio.sleep(STOP_POLL_SECONDS)

    async def _give_back(self, claiming: asyncio.Future[tuple[Claim, dict[str, int]]]) -> None:
        """Free the thread of a claim whose run will not start."""
        with contextlib.suppress(AgentRunnerError):
            claim, _ = await claiming
            await self._free(claim)

    async def _free(self, claim: Claim) -> None:
        """Free a thread whose run will not start."""
        with contextlib.suppress(AgentRunnerError):
            await self._store.finish(claim, self._limits.new_empty_recorder(claim), False)

    def _get_turn(self, thread_id: str, scope: str | None) -> asyncio.Lock:
        """Return the lock that makes runs of one thread wait in line."""
        # The tasks that hold the lock or wait for it keep it alive. The scope is part of the key: otherwise a run could
        # be made to wait for a thread of another tenant, and its caller would learn that the thread exists.
        return self._turns.setdefault((thread_id, scope), asyncio.Lock())


def _make_closed(thread_id: str) -> RunnerClosed:
    return RunnerClosed(f"the runner was closed before thread '{thread_id}' was free for the new run")
