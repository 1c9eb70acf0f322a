"""The runner: starts runs, keeps them, lets any number of readers follow, stops them, recovers them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import warnings
import weakref
from typing import TYPE_CHECKING, Any, Self, get_args

from agentrunner import _core
from agentrunner._codec import encode, read_cursor
from agentrunner.errors import (
    AgentRunnerError,
    CursorAhead,
    InvalidEvent,
    InvalidInput,
    RunnerClosed,
    ThreadAlreadyRunning,
)
from agentrunner.reading.compacted_cache import CompactedCache
from agentrunner.reading.snapshot import snapshot_frames
from agentrunner.reading.stream import EventStream
from agentrunner.running.current import Run
from agentrunner.running.driver import Driver
from agentrunner.running.follower import Follower
from agentrunner.running.maintenance import STOP_POLL_SECONDS, Maintenance
from agentrunner.running.stats import Stats
from agentrunner.threads import Threads
from agentrunner.types import OnConcurrentRun, Retention

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence
    from types import TracebackType

    from ag_ui.core import RunAgentInput

    from agentrunner._core import Claim, Recorder
    from agentrunner.running.live_run import LiveRun
    from agentrunner.stores import Cursor, Store
    from agentrunner.types import Agent

logger = logging.getLogger("agentrunner")

MIB = 1 << 20


class AgentRunner:
    """Runs agents over a store. Use it with `async with`, or call `aclose()`; it belongs to one event loop.

    `on_concurrent_run`, for a thread that has a run: `reject` raises `ThreadAlreadyRunning`; `supersede` stops the run
    that is there, which is kept as far as it got, and starts the new one; `enqueue` waits its turn, first in first out.
    `retention`: how long finished runs are kept; without it, for ever.

    Limits: `max_event_bytes` of one event; `max_id_bytes` of one id; `live_window_bytes` of a live run's newest frames
    in memory (older ones are read from the store); `max_pending_bytes` that wait for a commit before the agent waits.
    """

    def __init__(
        self,
        store: Store,
        *,
        on_concurrent_run: OnConcurrentRun = "reject",
        retention: Retention | None = None,
        max_event_bytes: int = 4 * MIB,
        max_id_bytes: int = 1024,
        live_window_bytes: int = MIB,
        max_pending_bytes: int = MIB,
    ) -> None:
        if on_concurrent_run not in get_args(OnConcurrentRun):
            raise ValueError(f"on_concurrent_run is one of {get_args(OnConcurrentRun)}, not {on_concurrent_run!r}")
        self._store = store
        self._on_concurrent_run = on_concurrent_run
        self._max_id_bytes = max_id_bytes
        self._limits = {
            "event_bytes": max_event_bytes,
            "id_bytes": max_id_bytes,
            "window_bytes": live_window_bytes,
            "pending_bytes": max_pending_bytes,
        }
        self.threads = Threads(self)
        """The verbs over threads: list, get, messages, events, state, rename, archive, delete, clear."""
        self._live: dict[str, LiveRun] = {}
        self.stats = Stats(self._live)
        """What the runner has done, in figures."""
        self._turns: weakref.WeakValueDictionary[tuple[str, str | None], asyncio.Lock] = weakref.WeakValueDictionary()
        self._maintenance = Maintenance(store, self._live, self.stats, self._recorder, retention)
        self._cache = CompactedCache()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._opening: asyncio.Future[None] | None = None

    _loop: asyncio.AbstractEventLoop | None = None
    _closed = False
    _draining = False

    @property
    def is_closed(self) -> bool:
        """Whether `aclose()` was called."""
        return self._closed

    @property
    def is_draining(self) -> bool:
        """Whether new runs are refused because the runner is about to close."""
        return self._draining

    @property
    def draining(self) -> bool:
        """The same as `is_draining`."""
        return self._draining

    # Opening and closing

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._loop is not None and not self._closed:
            warnings.warn(f"unclosed {self!r}: use `async with` or `await aclose()`", ResourceWarning, stacklevel=2)

    async def open(self) -> Store:
        """Open the store, unless it is open already, recover the runs of dead processes, and return the store.

        Raises `RunnerClosed` after `aclose()` or on another event loop.
        """
        loop = asyncio.get_running_loop()
        if self._closed:
            raise RunnerClosed("the runner is closed")
        if self._loop is None:
            self._loop = loop
            self._opening = loop.create_future()
            try:
                await self._store.open()
                await self._maintenance.recover()
            except BaseException:
                self._loop = None
                await self._store.aclose()
                self._opening.cancel()
                raise
            # Two tasks: what there is to recover may be much, and leases do not wait.
            self._spawn(self._maintenance.hold())
            self._spawn(self._maintenance.tidy())
            self._opening.set_result(None)
        elif self._loop is not loop:
            raise RunnerClosed("the runner belongs to another event loop")
        elif self._opening is not None and not self._opening.done():
            await asyncio.shield(self._opening)
        return self._store

    async def opened(self) -> Store:
        """Open the store and return it; the older name of `open`."""
        return await self.open()

    async def drain(self, seconds: float) -> None:
        """Refuse new runs (`RunnerClosed`) from now on, give the live ones so many seconds to end, and end the rest.

        What is there can be read until `aclose()`.
        """
        self._draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for live in list(self._live.values()):
                    if isinstance(live, Driver):
                        await live.ended()
        await self._interrupt()

    async def aclose(self) -> None:
        """End this process's live runs (`RUN_ERROR`, code `INTERRUPTED`), write everything, close the store."""
        if self._closed:
            return
        self._closed = True
        await self._interrupt()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._store.aclose()

    async def _interrupt(self) -> None:
        drivers = [live for live in self._live.values() if isinstance(live, Driver)]
        for driver in drivers:
            driver.interrupt("The runner was closed before the run had ended", "INTERRUPTED")
        for driver in drivers:
            await driver.ended()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a task of %r failed", self, exc_info=error)

    # The four verbs

    async def run(
        self,
        agent: Agent,
        input: RunAgentInput | Mapping[str, Any],
        *,
        agent_id: str | None = None,
        scope: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> EventStream:
        """Start a run and give its events. The run goes on whether or not anyone reads.

        `input`: a `RunAgentInput` or its dict. `agent_id`: for the thread list, else the agent's own `agent_id`.
        `scope`: whose thread it is, a user's for one; a new thread is the scope's, another scope's is not found.
        `headers`: of the request, for the agent, which gets them from `current_run()`. Raises before anything starts:
        `ThreadAlreadyRunning`, `RunAlreadyExists`, `ThreadNotFound`, `InvalidInput`, `StoreError`.
        """
        if scope is not None:
            self._check_scope(scope)
        model, text, thread_id, run_id, message_ids = self._read_input(input)
        store = await self.open()
        name = agent_id if agent_id is not None else getattr(agent, "agent_id", None)
        claim, known = await self._claim(store, thread_id, run_id, text, name, message_ids, scope)
        driver = Driver(claim, self._recorder(claim, known), store, self.stats)
        self.stats.runs_started += 1
        self._live[thread_id] = driver
        stream = EventStream(store, self._cache, thread_id, live=driver, after=claim.first_seq - 1)
        self._spawn(self._drive(driver, agent, Run(thread_id, run_id, model, scope, headers or {}, store, claim)))
        return stream

    async def connect(
        self, thread_id: str, after: str | None = None, *, known: Sequence[Mapping[str, Any]] | None = None
    ) -> EventStream:
        """Give the thread's events: its stored runs compacted, then of a live run what it has and what follows.

        `after`: the cursor of the last event seen, to go on exactly behind it. `known`: the messages of a reader that
        has some without a cursor; it gets one `MESSAGES_SNAPSHOT` and `STATE_SNAPSHOT` for all there is, so that
        nothing doubles, with its own messages that the thread does not know left in their places. An unknown thread has
        no events. Raises `InvalidCursor`, `CursorExpired`, `CursorAhead`, `StoreError`.
        """
        store = await self.open()
        if after is None and known:
            return await self._caught_up(store, thread_id, known)
        cursor: Cursor = read_cursor(after) if after is not None else (0, None)
        while True:
            live = await self._live_run(thread_id)
            # A run of another process is followed while it has readers: until the real one is made, this is one.
            _held = EventStream(store, self._cache, thread_id, live=live)
            place = await store.locate(thread_id, cursor)
            in_live = live if live is not None and cursor[0] >= live.claim.first_seq else None
            if place.kind != "live" and in_live is None:
                break
            if place.kind == "live" and in_live is not None and await self._reaches(store, in_live, cursor[0]):
                return self._resume_live(store, thread_id, cursor, in_live)
            # It started, or ended, since: look again.
            await asyncio.sleep(0)
        if place.kind == "journal":
            return self._resume_finished(store, thread_id, cursor, place.first_seq, place.last_seq, live)
        return EventStream(store, self._cache, thread_id, stored=cursor, live=live)

    def _resume_finished(
        self, store: Store, thread_id: str, cursor: Cursor, first: int, last: int, live: LiveRun | None
    ) -> EventStream:
        seq, index = cursor
        if index is None:
            return EventStream(store, self._cache, thread_id, journal=(seq, last), stored=(last, None), live=live)
        stream = EventStream(store, self._cache, thread_id, stored=(last, None), live=live)
        stream.resume(first, last, seq, index + 1)
        return stream

    def _resume_live(self, store: Store, thread_id: str, cursor: Cursor, live: LiveRun) -> EventStream:
        seq, index = cursor
        stream = EventStream(store, self._cache, thread_id, live=live, after=seq)
        if index is not None:
            stream.resume(live.claim.first_seq, seq, seq, index + 1)
        return stream

    async def _reaches(self, store: Store, live: LiveRun, seq: int) -> bool:
        """Wait until readers here may see that event; false if the run has ended before it. Raises `CursorAhead`."""
        thread_id, known = live.claim.thread_id, live.recorder.last_seq
        if (
            seq > known
            and isinstance(live, Follower)
            and len((await store.journal(thread_id, seq - 1, None, 1)).frames)
        ):
            # Shown by its own process, and on its way here: a reader has come from there.
            known = seq
        await live.published(min(seq, known))
        if seq > live.recorder.published and not live.closed:
            raise CursorAhead(
                f"cursor {seq} is ahead of thread '{thread_id}', which is at {live.recorder.published}; "
                "connect without a cursor"
            )
        return seq <= live.recorder.published

    async def _caught_up(self, store: Store, thread_id: str, known: Sequence[Mapping[str, Any]]) -> EventStream:
        while True:
            live = await self._live_run(thread_id)
            _held = EventStream(store, self._cache, thread_id, live=live)
            until = live.claim.first_seq if live is not None else None
            history = [
                piece
                async for piece in EventStream(store, self._cache, thread_id, stored=(0, None), until=until).pieces()
            ]
            if live is None:
                seq = None
                break
            prefix, seq = live.recorder.prefix(0)
            await live.published(seq)
            if live.recorder.published >= seq:
                history.append(prefix)
                break
        # Off the loop: a long thread takes longer than other tasks should wait.
        snapshot = await asyncio.to_thread(snapshot_frames, history, known, seq)
        return EventStream(store, self._cache, thread_id, first=snapshot, live=live, after=seq)

    def driver(self, thread_id: str) -> Driver | None:
        """Return what drives the thread's live run, or `None` if no run of the thread is driven by this runner."""
        live = self._live.get(thread_id)
        return live if isinstance(live, Driver) else None

    async def recover(self, thread_id: str | None = None) -> bool:
        """End the runs of the thread, or of all threads, whose process is gone. Return whether there were any."""
        await self.open()
        return await self._maintenance.recover(thread_id)

    async def is_running(self, thread_id: str) -> bool:
        """Say whether the thread has a live run that was not asked to stop, in this process or another."""
        store = await self.open()
        live = self._live.get(thread_id)
        if isinstance(live, Driver):
            return not live.stopping
        return any(not stopping for _, stopping in await store.live(thread_id))

    async def stop(self, thread_id: str, run_id: str | None = None) -> bool:
        """Stop the thread's live run, in whatever process it is; with `run_id` only that one.

        False if there is none, it is stopping already, or the agent's `abort_run()` failed.
        """
        store = await self.open()
        live = self._live.get(thread_id)
        if isinstance(live, Driver):
            if run_id is not None and run_id != live.claim.run_id:
                return False
            return await live.stop()
        return await store.request_stop(thread_id, run_id)

    async def snapshot(self, thread_id: str) -> EventStream:
        """Give the thread's events as they are now, compacted, without following a live run."""
        store = await self.open()
        live = await self._live_run(thread_id)
        if live is None:
            return EventStream(store, self._cache, thread_id, stored=(0, None))
        frames, seq = live.recorder.prefix(0)
        await live.published(seq)
        return EventStream(
            store,
            self._cache,
            thread_id,
            stored=(0, None),
            until=live.claim.first_seq,
            last=frames if len(frames) else None,
        )

    # Starting

    def _read_input(self, given: RunAgentInput | Mapping[str, Any]) -> tuple[RunAgentInput, str, str, str, list[str]]:
        from ag_ui.core import RunAgentInput

        try:
            model = given if isinstance(given, RunAgentInput) else RunAgentInput.model_validate(given)
            data = encode(model)
        except (ValueError, InvalidEvent) as error:
            raise InvalidInput(f"a run's input is refused: {error}") from error
        return (model, *_core.check_input(data, self._max_id_bytes))

    def _check_scope(self, scope: str) -> None:
        try:
            size = len(scope.encode())
        except UnicodeEncodeError as error:
            raise InvalidInput(f"a scope is text: {error}") from error
        if not 0 < size <= self._max_id_bytes:
            raise InvalidInput(f"a scope has from 1 to {self._max_id_bytes} bytes, not {size}")

    async def _claim(
        self,
        store: Store,
        thread_id: str,
        run_id: str,
        text: str,
        agent_id: str | None,
        message_ids: list[str],
        scope: str | None,
    ) -> tuple[Claim, list[str]]:
        async with self._turn(thread_id, scope):
            while not (self._closed or self._draining):
                claiming = asyncio.ensure_future(store.claim(thread_id, run_id, text, agent_id, message_ids, scope))
                try:
                    claimed = await asyncio.shield(claiming)
                except asyncio.CancelledError:
                    # The next in turn, or the caller's next try, is to find the thread free.
                    await asyncio.shield(self._spawn(self._give_back(claiming)))
                    raise
                except ThreadAlreadyRunning:
                    if await self._maintenance.recover(thread_id):
                        continue
                    if (error := self._maintenance.unfinished(thread_id)) is not None:
                        raise error from None
                    if self._on_concurrent_run == "reject":
                        raise
                else:
                    if not (self._closed or self._draining):
                        return claimed
                    # The runs that are waited for have been counted since.
                    await self._give_back(claiming)
                    break
                if self._on_concurrent_run == "supersede":
                    await self.stop(thread_id)
                live = self._live.get(thread_id)
                if isinstance(live, Driver):
                    await live.ended()
                else:
                    await asyncio.sleep(STOP_POLL_SECONDS)
        raise RunnerClosed("the runner was closed before the run's turn came")

    async def _give_back(self, claiming: asyncio.Future[tuple[Claim, list[str]]]) -> None:
        """Free the thread of a claim that nobody wants any more."""
        with contextlib.suppress(AgentRunnerError):
            claim, _ = await claiming
            await self._store.finish(claim, self._recorder(claim, []), False)

    def _turn(self, thread_id: str, scope: str | None) -> asyncio.Lock:
        """Give the lock by which runs of a thread that wait are served first in, first out."""
        # Kept alive by those who hold it or wait for it. A scope of its own: for another's thread nobody waits.
        return self._turns.setdefault((thread_id, scope), asyncio.Lock())

    def _recorder(self, claim: Claim, known: list[str]) -> Recorder:
        return _core.Recorder(claim.thread_id, claim.run_id, claim.input, set(known), claim.first_seq, **self._limits)

    async def _drive(self, driver: Driver, agent: Agent, run: Run) -> None:
        try:
            await driver.drive(agent, run)
        finally:
            driver.close()
            self.stats.runs_ended[driver.how] += 1
            self._maintenance.note(driver)
            if self._live.get(run.thread_id) is driver:
                del self._live[run.thread_id]

    # Runs of other processes

    async def _live_run(self, thread_id: str) -> LiveRun | None:
        """Give the thread's live run: driven here, or followed if it lives elsewhere."""
        live = self._live.get(thread_id)
        if live is not None and not live.closed:
            return live
        for claim, _ in await self._store.live(thread_id):
            live = self._live.get(thread_id)
            if live is not None and not live.closed and live.claim.run_id == claim.run_id:
                return live
            follower = Follower(claim, self._recorder(claim, []), self._store)
            await follower.catch_up()
            if (error := self._maintenance.unfinished(thread_id, claim.run_id)) is not None:
                # It ended here, and the store could not be told: readers are not to wait until it can.
                follower.give_up(error)
                return follower
            self._live[thread_id] = follower
            self._spawn(self._follow(follower))
            return follower
        return None

    async def _follow(self, follower: Follower) -> None:
        # The reader it is for is made in the same turn of the loop.
        await asyncio.sleep(0)
        try:
            await follower.follow()
        finally:
            follower.close()
            if self._live.get(follower.claim.thread_id) is follower:
                del self._live[follower.claim.thread_id]
