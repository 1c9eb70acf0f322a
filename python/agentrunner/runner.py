"""The runner, which starts, keeps, streams, stops and recovers runs."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from typing import TYPE_CHECKING, Any, Self, get_args

from agentrunner._codec import read_cursor
from agentrunner.errors import RunnerClosed
from agentrunner.reading.compacted_cache import CompactedCache
from agentrunner.reading.plan import START, ReadingPlan
from agentrunner.reading.stream import EventStream, opens_stream
from agentrunner.running.claiming import Claiming, NewRun
from agentrunner.running.current import Run
from agentrunner.running.driver import Driver
from agentrunner.running.inputs import check_scope, read_input
from agentrunner.running.maintenance import Maintenance
from agentrunner.running.recording import RecordingLimits
from agentrunner.running.stats import Stats
from agentrunner.running.table import RunTable
from agentrunner.stores.urls import store_from_url
from agentrunner.threads import Threads
from agentrunner.types import OnConcurrentRun, Retention, RunnerOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Unpack

    from ag_ui.core import RunAgentInput

    from agentrunner.stores import Store
    from agentrunner.stores.backends import StoreOptions
    from agentrunner.types import Agent

    class UrlOptions(RunnerOptions, StoreOptions, total=False):
        """The options of the runner, and those of the store that the URL names."""


MIB = 1 << 20


class AgentRunner:
    """Runs agents over a store. It belongs to one event loop.

    Use it with `async with`, or call `open()` and `aclose()`; the first call of any verb opens it too.

    Args:
        store: The store that keeps the threads; `from_url` and the four subclasses make it for you.
        on_concurrent_run: What happens to a new run of a thread that has a live one. `reject` raises
            `ThreadAlreadyRunning`. `supersede` stops the live run, which is kept as far as it got, and then starts the
            new one. `enqueue` waits, first in, first out.
        retention: How long finished runs are kept; `None` keeps them for ever.
        max_event_bytes: Size limit of one event.
        max_id_bytes: Size limit of one id.
        live_window_bytes: How much of a live run's newest frames stays in memory; older ones are read from the store.
        max_pending_bytes: How much may wait for a commit before the agent has to wait.

    Raises:
        ValueError: `on_concurrent_run` is none of the three.

    Example::

        async with AgentRunner.from_url("threads.db") as runner:
            async for event in runner.run(agent, {"threadId": "t1", "runId": "r1", "messages": []}):
                print(event.to_dict())

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
        policies = get_args(OnConcurrentRun)
        if on_concurrent_run not in policies:
            raise ValueError(f"on_concurrent_run must be one of {policies}, not {on_concurrent_run!r}")
        self._store = store
        self._limits = RecordingLimits(max_event_bytes, max_id_bytes, live_window_bytes, max_pending_bytes)
        self._table = RunTable(store, self._limits)
        self._cache = CompactedCache()
        self.stats = Stats(self._table.live_runs)
        """Counters of what the runner has done."""
        self.threads = Threads(self.open, self.snapshot)
        """Verbs for threads: list, get, messages, events, state, rename, archive, delete, clear."""
        self._maintenance = Maintenance(store, self._table, self.stats, self._limits, retention)
        self._claiming = Claiming(store, self._table, self._maintenance, self._limits, on_concurrent_run)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: asyncio.Future[None] | None = None
        self._is_closed = False
        self._is_draining = False

    @staticmethod
    def from_url(url: str, **options: Unpack[UrlOptions]) -> AgentRunner:
        """Make a runner for the store that a URL names.

        Args:
            url: `memory:`, the path of a SQLite file or `sqlite:///path`, `redis://…`, `rediss://…`,
                `postgresql://…`, or `postgres://…`.
            **options: Options of `AgentRunner` and of the store, such as `retention` and `lease_ttl`.

        Returns:
            The runner, which is not open yet.

        Raises:
            ImportError: The store's client library is not installed; the text has the command that installs it.
            TypeError: Neither the runner nor the store has such an option.
            ValueError: The scheme is unknown, or an option is not valid.

        Example::

            async with AgentRunner.from_url("postgresql://app@db/app", lease_ttl=20.0) as runner:
                print(await runner.threads.list())

        """
        store_options: dict[str, Any] = {**options}
        names = RunnerOptions.__annotations__.keys() & store_options.keys()
        runner_options: dict[str, Any] = {name: store_options.pop(name) for name in names}
        return AgentRunner(store_from_url(url, **store_options), **runner_options)

    # Opening and closing

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # A constructor that raised has left no `_loop`.
        if getattr(self, "_loop", None) is not None and not self._is_closed:
            warnings.warn(f"unclosed {self!r}: use `async with` or `await aclose()`", ResourceWarning, stacklevel=2)

    @property
    def is_closed(self) -> bool:
        """Whether `aclose()` was called."""
        return self._is_closed

    @property
    def is_draining(self) -> bool:
        """Whether new runs are refused because the runner is about to close."""
        return self._is_draining

    @property
    def draining(self) -> bool:
        """Whether the runner is draining; the older name of `is_draining`."""
        return self._is_draining

    async def open(self) -> Store:
        """Open the store, unless it is open, and recover the runs of dead processes.

        Returns:
            The open store.

        Raises:
            RunnerClosed: `aclose()` was called, or the runner belongs to another event loop.
            StoreError: The store could not be opened.
        """
        loop = asyncio.get_running_loop()
        if self._is_closed:
            raise RunnerClosed("the runner is closed; make a new one")
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
            self._maintenance.start()
            self._opening.set_result(None)
        elif self._loop is not loop:
            raise RunnerClosed("the runner belongs to another event loop; make one runner for each loop")
        elif self._opening is not None and not self._opening.done():
            await asyncio.shield(self._opening)
        return self._store

    async def opened(self) -> Store:
        """Open the store and return it; the older name of `open`."""
        return await self.open()

    async def drain(self, seconds: float) -> None:
        """Refuse new runs from now on, wait for the live ones, and end those that take too long.

        Threads can be read until `aclose()`.

        Args:
            seconds: Time the live runs have to end by themselves.

        Example::

            await runner.drain(20.0)
            await runner.aclose()

        """
        self._is_draining = self._claiming.is_refusing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for driver in self._table.drivers():
                    await driver.wait_until_ended()
        await self._table.interrupt_all()

    async def aclose(self) -> None:
        """End this process's live runs, write everything and close the store.

        The runs end with `RUN_ERROR`, code `INTERRUPTED`. It may be called twice.
        """
        if self._is_closed:
            return
        self._is_closed = self._claiming.is_refusing = True
        await self._table.interrupt_all()
        await self._table.cancel_tasks()
        await self._store.aclose()

    # Starting and stopping runs

    @opens_stream
    async def run(
        self,
        agent: Agent,
        input: RunAgentInput | Mapping[str, Any],
        *,
        agent_id: str | None = None,
        scope: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> EventStream:
        """Start a run. It continues whether or not its stream is read.

        An agent that leaves out `RUN_STARTED` or `RUN_FINISHED` gets them.

        Args:
            agent: An object with `run(input)`, or a function of the input, that returns an async iterator of events.
            input: A `RunAgentInput`, or its dict.
            agent_id: The agent's name in the thread list; otherwise the agent's own `agent_id`.
            scope: The owner of the thread, a user for example. A new thread belongs to it; a thread of another scope
                is not found.
            headers: Request headers for the agent, which reads them from `current_run()`.

        Returns:
            The run's events. Iterate over it, enter it with `async with`, or await it: the run starts then.

        Raises:
            ThreadAlreadyRunning: The thread has a live run, and the policy is `reject`.
            RunAlreadyExists: The run id was used before, in any thread.
            ThreadNotFound: The thread belongs to another scope.
            InvalidInput: The input or the scope was refused.
            RunnerClosed: The runner is draining or closed.
            StoreError: The store could not be read or written.

        Example::

            async for event in runner.run(agent, {"threadId": "t1", "runId": "r1", "messages": []}):
                print(event.to_dict())

        """
        if scope is not None:
            check_scope(scope, self._limits.id_bytes)
        checked = read_input(input, self._limits.id_bytes)
        thread_id, run_id = checked.thread_id, checked.run_id
        store = await self.open()
        name = agent_id if agent_id is not None else getattr(agent, "agent_id", None)
        new_run = NewRun(thread_id, run_id, checked.json, name, checked.message_ids, scope)
        claim, known_message_ids = await self._claiming.claim(new_run)
        driver = Driver(claim, self._limits.new_recorder(claim, known_message_ids), store, self.stats)
        plan = ReadingPlan(store, self._cache, thread_id, driver)
        stream = EventStream(plan.live_run(driver, claim.first_seq - 1), driver)
        run = Run(thread_id, run_id, checked.model, scope, headers or {}, store, claim)
        self._table.start(driver, agent, run, self.stats)
        return stream

    async def is_running(self, thread_id: str) -> bool:
        """Return whether the thread has a live run, in any process, that is not stopping.

        Example::

            if await runner.is_running("t1"):
                await runner.stop("t1")

        """
        store = await self.open()
        driver = self._table.driver(thread_id)
        if driver is not None:
            return not driver.is_stopping
        return any(not is_stopping for _, is_stopping in await store.live(thread_id))

    async def stop(self, thread_id: str, run_id: str | None = None) -> bool:
        """Stop the thread's live run, in whatever process it is.

        Args:
            thread_id: The thread.
            run_id: Stop only this run; `None` stops whichever is live.

        Returns:
            False if there is no such run, if it is stopping already, or if the agent's `abort_run()` failed.

        Raises:
            StoreError: The store could not be read or written.

        Example::

            await runner.stop("t1")

        """
        store = await self.open()
        driver = self._table.driver(thread_id)
        if driver is None:
            return await store.request_stop(thread_id, run_id)
        return run_id in (None, driver.claim.run_id) and await driver.stop()

    def driver(self, thread_id: str) -> Driver | None:
        """Return the driver of the thread's live run, or `None` if it is not in this process."""
        return self._table.driver(thread_id)

    async def recover(self, thread_id: str | None = None) -> bool:
        """End the runs whose process is gone; return whether there were any.

        The runner does it once a second by itself.
        """
        await self.open()
        return await self._maintenance.recover(thread_id)

    # Reading threads

    @opens_stream
    async def connect(
        self, thread_id: str, after: str | None = None, *, known: Sequence[Mapping[str, Any]] | None = None
    ) -> EventStream:
        """Read a thread: its stored runs compacted, then what a live run has, then what follows.

        Args:
            thread_id: The thread. An unknown one has no events.
            after: The cursor of the last event the reader has seen; the stream resumes right after it.
            known: The messages of a reader that has some but no cursor. It gets one `MESSAGES_SNAPSHOT` and one
                `STATE_SNAPSHOT` for all there is, so that nothing appears twice. Messages of its own that the thread
                does not know keep their places.

        Returns:
            The events. Iterate over it, enter it with `async with`, or await it.

        Raises:
            InvalidCursor: `after` is not a cursor.
            CursorExpired: The events after the cursor are no longer kept; connect again without a cursor.
            CursorAhead: The thread was never as far as the cursor; connect again without a cursor.
            StoreError: The store could not be read.

        Example::

            async for event in runner.connect("t1", after=last_cursor):
                print(event.to_dict())

        """
        store = await self.open()
        cursor = read_cursor(after) if after is not None else None
        while True:
            async with self._table.hold(thread_id) as live:
                plan = ReadingPlan(store, self._cache, thread_id, live)
                if cursor is not None:
                    sources = await plan.after_cursor(cursor)
                elif known:
                    sources = await plan.after_messages(known)
                else:
                    # From the start as well: a store that cannot be read must fail here, not in the stream.
                    sources = await plan.after_cursor(START)
                if sources is not None:
                    return EventStream(sources, live)
            await asyncio.sleep(0)

    @opens_stream
    async def snapshot(self, thread_id: str) -> EventStream:
        """Read a thread as it is now, compacted, without following a live run.

        Args:
            thread_id: The thread. An unknown one has no events.

        Returns:
            The events. Iterate over it, enter it with `async with`, or await it.

        Raises:
            StoreError: The store could not be read.

        Example::

            events = [event async for event in runner.snapshot("t1")]

        """
        store = await self.open()
        async with self._table.hold(thread_id) as live:
            return EventStream(await ReadingPlan(store, self._cache, thread_id, live).as_of_now())
