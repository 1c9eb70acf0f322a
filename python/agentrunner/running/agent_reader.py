"""Read an agent's events, record them, and close the agent's generator in its own task."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from typing import TYPE_CHECKING, Any

from agentrunner._codec import encode
from agentrunner._generators import CancelledEvents, close_events, needs_closing
from agentrunner.errors import AgentError, InvalidEvent, InvalidEventSequence
from agentrunner.running.boundaries import is_end, is_run_event, is_start_missing, make_finish, make_start
from agentrunner.running.offload import run_in_thread
from agentrunner.running.tracing import span_of
from agentrunner.stores.types import ThreadGuard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from agentrunner._core import Claim, Recorder
    from agentrunner.running.commits import Commits
    from agentrunner.running.current import Run
    from agentrunner.stores import Store
    from agentrunner.types import Agent

logger = logging.getLogger("agentrunner")

AGENT_SLICE_SECONDS = 0.001
"""Seconds that an agent may run without waiting before other tasks get their turn."""
MUST_WAIT = 2
"""Result of `Recorder.accept` when the agent must wait for a commit; 1: a commit is due, 0: none is."""
MUST_LOOK_UP = 3
"""Result of `Recorder.accept` when it must first know which ids the thread has."""
TAKES_LONG = 4
"""Result of `Recorder.accept_briefly` for an event that must be recorded in another thread."""
MAX_DROPPED_EVENTS = 1000
"""Number of unwanted events that an agent may yield at or after its run's end before it is closed."""


class AgentReader:
    """Reads the events of a run's agent and records them, encoding each once."""

    def __init__(
        self,
        claim: Claim,
        recorder: Recorder,
        recorder_lock: asyncio.Lock,
        store: Store,
        commits: Commits,
        on_closing: Callable[[], None],
        *,
        has_new_messages: bool = False,
    ) -> None:
        self._claim = claim
        self._store = store
        self._recorder = recorder
        self._recorder_lock = recorder_lock
        self._commits = commits
        self._on_closing = on_closing
        self._has_new_messages = has_new_messages
        self.error: BaseException | None = None
        """Error that the agent raised or its events caused; `None` if it returned or has not ended."""
        self.adds_finish = True
        """Whether a `RUN_FINISHED` is added if the agent returns without one."""
        self._is_paused = False
        """Whether the agent waits at a `yield` while its task waits for something else."""
        self._must_check = False
        self._is_deaf = False
        self._drops_endings = False
        self._dropped = 0

    def end_recording(self) -> None:
        """Record nothing more: the run has ended without its agent, or its store has failed."""
        self._must_check = self._is_deaf = True

    def drop_endings(self) -> None:
        """Record everything that the agent still yields, except an event that ends its run."""
        self._must_check = self._drops_endings = True

    async def start_run(self) -> None:
        """Record the `RUN_STARTED` of a run without an event."""
        await self._accept(make_start(self._claim))

    async def read(self, agent: Agent, run: Run) -> None:
        """Record the agent's events until it ends, or until its events must not be recorded."""
        with span_of(run):
            try:
                events = await _start_agent(agent, run)
                try:
                    await self._record_all(events)
                except BaseException as error:
                    self.error = error
                    raise
                finally:
                    await self._close(events)
                if self.adds_finish and not (self._recorder.ended or self._is_deaf):
                    if self._recorder.recorded == 0:
                        await self.start_run()
                    await self._accept(make_finish(self._claim))
            except BaseException as error:
                # A cancellation while the generator is closed must not hide why it is closed.
                self.error = self.error or error
                # `sys.exit()` in an agent ends its run. In a task it would end the process with everyone's runs.
                if not isinstance(error, SystemExit):
                    raise

    async def _close(self, events: AsyncIterator[Any]) -> None:
        """Close the agent's generator, within the time that `on_closing` allows."""
        if not needs_closing(events):
            return
        self._on_closing()
        try:
            await close_events(events)
        except Exception:
            logger.exception(
                "thread %s: the agent of run %s failed when it was closed", self._claim.thread_id, self._claim.run_id
            )

    async def _record_all(self, events: AsyncIterator[Any]) -> None:
        """Record all events, and pass a cancellation on to an agent that waits at a `yield`."""
        source, record = events, self._record_from_first
        while True:
            try:
                await record(source)
            except asyncio.CancelledError as error:
                if not self._is_paused or self._is_deaf:
                    raise
                self._is_paused = False
                source, record = CancelledEvents(events, error), self._record_rest
            else:
                return

    async def _record_from_first(self, events: AsyncIterator[Any]) -> None:
        # The first event has its own loop, so that only this event's type is checked.
        async for event in events:
            if not (self._must_check and self._is_unwanted(event)):
                data = encode(event)
                # A run may begin with its `RUN_ERROR`, but only its `RUN_STARTED` has the messages that it brought.
                if is_start_missing(data) or (self._has_new_messages and is_end(data)):
                    await self.start_run()
                try:
                    pressure = await self._accept(data)
                except InvalidEvent as error:
                    if is_run_event(data) and self._recorder.recorded == 0:
                        # The run has begun: without a start it would not be stored, and late readers would miss it.
                        await self.start_run()
                    self._refuse(event, error)
                self._commits.start()
                if pressure == MUST_WAIT:
                    await self._pause(self._commits.wait())
            break
        await self._record_rest(events)

    async def _record_rest(self, events: AsyncIterator[Any]) -> None:
        accept, is_busy = self._recorder.accept_briefly, self._recorder_lock.locked
        turn_began = time.perf_counter()
        count = 0
        async for event in events:
            if self._must_check and self._is_unwanted(event):
                if self._is_deaf or self._dropped > MAX_DROPPED_EVENTS:
                    return
                continue
            data = event if type(event) is bytes else encode(event)
            try:
                pressure = TAKES_LONG if is_busy() else accept(data)
                if pressure > MUST_WAIT:
                    pressure = await self._accept_slowly(data, pressure)
            except (InvalidEvent, InvalidEventSequence) as error:
                self._refuse(event, error)
                continue
            if pressure:
                self._commits.start()
                if pressure == MUST_WAIT:
                    await self._pause(self._commits.wait())
            count += 1
            if not count & 63 and time.perf_counter() - turn_began > AGENT_SLICE_SECONDS:
                await self._pause(asyncio.sleep(0))
                turn_began = time.perf_counter()

    async def _accept(self, data: bytes) -> int:
        """Record an event, in another thread if that takes long."""
        pressure = TAKES_LONG if self._recorder_lock.locked() else self._recorder.accept_briefly(data)
        return pressure if pressure <= MUST_WAIT else await self._accept_slowly(data, pressure)

    async def _accept_slowly(self, data: bytes, pressure: int) -> int:
        """Record an event that could not be recorded at once, even if the caller is cancelled."""
        recording = asyncio.ensure_future(self._accept_later(data, pressure))
        cancellation: asyncio.CancelledError | None = None
        while not recording.done():
            try:
                await asyncio.wait([recording])
            except asyncio.CancelledError as error:
                # The agent has yielded the event before it was told to end, so the event is recorded.
                cancellation = error
        pressure = recording.result()
        if cancellation is not None:
            self._is_paused = True
            raise cancellation
        return pressure

    async def _accept_later(self, data: bytes, pressure: int) -> int:
        """Record an event in another thread, or once the ids that it needs are looked up."""
        while pressure > MUST_WAIT:
            if pressure == MUST_LOOK_UP:
                wanted, guard = self._recorder.wanted, ThreadGuard.of(self._claim)
                known_ids = await self._store.known_ids(self._claim.thread_id, wanted, guard=guard)
                async with self._recorder_lock:
                    self._recorder.learn(set(known_ids))
            async with self._recorder_lock:
                pressure = self._recorder.accept_briefly(data)
                if pressure == TAKES_LONG:
                    pressure = await run_in_thread(self._recorder.accept, data)
        return pressure

    async def _pause(self, work: Awaitable[object]) -> None:
        """Wait for something while the agent waits at a `yield`."""
        self._is_paused = True
        await work
        self._is_paused = False

    def _is_unwanted(self, event: Any) -> bool:
        """Return whether an event must not be recorded."""
        if self._is_deaf:
            return True
        is_unwanted = (self._dropped > 0 and self._recorder.ended) or (self._drops_endings and is_end(encode(event)))
        self._dropped += is_unwanted
        return is_unwanted

    def _refuse(self, event: object, error: InvalidEvent | InvalidEventSequence) -> None:
        """Raise the error of a refused event, or drop the event if the run has ended."""
        if isinstance(error, InvalidEventSequence) and self._recorder.ended:
            logger.warning(
                "thread %s: run %s has ended; the events its agent still yields are dropped",
                self._claim.thread_id, self._claim.run_id,
            )  # fmt: skip
            self._dropped = 1
            self._must_check = True
            return
        text = event.decode(errors="replace") if isinstance(event, (bytes, bytearray)) else event
        if isinstance(text, str) and text.startswith(("data:", "event:")):
            raise InvalidEvent(
                f"an agent must yield events, not frames of SSE: yield the event itself, without an encoder ({error})"
            ) from error
        if isinstance(event, str) and not event.lstrip().startswith("{"):
            raise InvalidEvent(
                f"an agent must yield events, not text; to yield text, decorate it with `text_agent` ({error})"
            ) from error
        raise error


async def _start_agent(agent: Agent, run: Run) -> AsyncIterator[Any]:
    function: Any = getattr(agent, "run", agent)
    events = function(run.input)
    if inspect.isawaitable(events):
        events = await events
    if not hasattr(events, "__aiter__"):
        raise AgentError(f"an agent must return an async iterator of events, not {type(events).__name__}")
    return aiter(events)
