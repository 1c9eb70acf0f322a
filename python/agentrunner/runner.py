"""The runner: start, store, read, stop and recover runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner._checks import check_option_type, check_optional_text
from agentrunner._codec import read_cursor
from agentrunner.reading.compacted_cache import CompactedCache
from agentrunner.reading.opening import StreamOpener
from agentrunner.reading.plan import ReadingPlan
from agentrunner.reading.stream import EventStream, opens_stream
from agentrunner.running.claiming import Claiming, NewRun
from agentrunner.running.current import Run
from agentrunner.running.driver import Driver
from agentrunner.running.inputs import (
    check_ids,
    check_known_messages,
    check_options,
    check_scope_filter,
    read_input,
)
from agentrunner.running.lifecycle import RunnerLifecycle
from agentrunner.running.maintenance import Maintenance
from agentrunner.running.recording import RecordingLimits
from agentrunner.running.stats import Stats
from agentrunner.running.table import RunTable
from agentrunner.running.timeouts import RunTimeouts
from agentrunner.running.waiting import WaitingLine
from agentrunner.stores.guards import with_guards
from agentrunner.stores.urls import store_from_url
from agentrunner.threads import Threads
from agentrunner.types import ANY_SCOPE, MIB, RunnerOptions

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from typing import Unpack

    from ag_ui.core import RunAgentInput

    from agentrunner.stores import Store
    from agentrunner.stores.backends import UrlOptions
    from agentrunner.types import Agent, AnyScope, ClientMessages, OnConcurrentRun, Retention


class AgentRunner(RunnerLifecycle):
    """Runs agents in one event loop, and stores their events.

    Use it with `async with`, or call `open()` and `aclose()`; the first call of any other method opens it too.

    Args:
        store: The store that keeps the threads; `from_url` and the four subclasses make one.
        on_concurrent_run: The policy for a new run of a thread that has a live one. `reject` raises
            `ThreadAlreadyRunning`, unless the live run is being stopped or its agent has yielded its end: then the new
            run waits for it, at most 30 s. `supersede` stops the live run, keeps its events so far, and then starts
            the new one. `enqueue` waits until the thread is free, first in, first out.
        client_messages: What happens if a client sends messages as an agent, tool or system, although the thread never
            had them. `mark` stores them with `"agentrunner.source": "client"` in `metadata`. `refuse` raises
            `InvalidInput`.
        retention: How long finished runs are kept; `None` keeps them forever.
        max_event_bytes: Greatest size of one event in bytes.
        max_id_bytes: Greatest size of one id in bytes.
        live_window_bytes: Bytes of a live run's newest frames kept in memory; older ones are read from the store.
        max_pending_bytes: Bytes that may wait for a commit before the agent has to wait.
        max_waiting: Greatest number of runs that wait for one thread in this process; further ones are refused with
            `TooManyWaiting`.
        max_waiting_bytes: Greatest total size of the inputs of all runs that wait, in bytes.
        run_timeout: Seconds that a run may take. A run that takes longer ends with a `RUN_ERROR` (code `TIMEOUT`), and
            its events up to then are kept. Time during which the event loop was blocked or the process was stopped
            does not count, except for its first second. `None` sets no limit.
        silence_timeout: Seconds that a run's agent may be silent before the run ends in the same way. A run that waits
            for an approval has ended, so it does not count as silent. `None` sets no limit.
        show_agent_errors: Whether a `RUN_ERROR` shows the text of the exception that an agent raised, which may contain
            secrets. By default it shows an error id to look up in the log. An `AgentError` always shows its text.
        keep_raw_events: Whether `RAW` events and `rawEvent` fields, which may contain prompts, are recorded and shown.
        max_state_bytes: Greatest size of a run's state in bytes; a larger one ends the run (`STATE_TOO_LARGE`).
        max_run_bytes: Greatest size of a run's compacted events in bytes; more end it (`RUN_TOO_LARGE`).

    Raises:
        TypeError: `store` is not a store.
        ValueError: An option is not valid.

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
        client_messages: ClientMessages = "mark",
        retention: Retention | None = None,
        max_event_bytes: int = 4 * MIB,
        max_id_bytes: int = 1024,
        live_window_bytes: int = MIB,
        max_pending_bytes: int = MIB,
        max_waiting: int = 16,
        max_waiting_bytes: int = 64 * MIB,
        run_timeout: float | None = None,
        silence_timeout: float | None = None,
        show_agent_errors: bool = False,
        keep_raw_events: bool = False,
        max_state_bytes: int = 16 * MIB,
        max_run_bytes: int = 256 * MIB,
    ) -> None:
        store = with_guards(store)
        sizes = (max_event_bytes, max_id_bytes, live_window_bytes, max_pending_bytes, max_state_bytes, max_run_bytes)
        self._limits = RecordingLimits(*sizes, keep_raw_events=keep_raw_events).fit(store)
        check_option_type("show_agent_errors", show_agent_errors, bool)
        self._shows_errors = show_agent_errors
        self.run_options: RunnerOptions = {
            "run_timeout": run_timeout, "silence_timeout": silence_timeout, "show_agent_errors": show_agent_errors,
        }  # fmt: skip
        """Options that also apply to the runs of `suggest`, which are not stored."""
        self._timeouts = RunTimeouts(run_timeout, silence_timeout)
        self._table = RunTable(store, self._limits)
        self._cache = CompactedCache()
        self._opener = StreamOpener(self._table, self._cache)
        self.stats = Stats(self._table.live_runs)
        """Counters of runs, events, commits, recoveries and lost leases."""
        snapshot = lambda thread_id, scope: self.snapshot(thread_id, scope=scope)  # noqa: E731
        self.threads = Threads(self.ensure_open, snapshot, max_id_bytes)
        """Methods for threads: list, get, events, fold, messages, state, rename, archive, delete, move, clear."""
        self._maintenance = Maintenance(store, self._table, self.stats, self._limits, client_messages, retention)
        line = WaitingLine(max_waiting, max_waiting_bytes)
        self._claiming = Claiming(
            store, self._table, self._maintenance, self._limits, on_concurrent_run, client_messages, line
        )
        super().__init__(store, self._table, self._maintenance, self._claiming)

    @staticmethod
    def from_url(url: str | os.PathLike[str], **options: Unpack[UrlOptions]) -> AgentRunner:
        """Return a runner for the store at a URL.

        Args:
            url: `memory:`, the path of a SQLite file (`str` or `Path`) or `sqlite:///path`, `redis://…`, `rediss://…`,
                `postgresql://…`, or `postgres://…`.
            **options: Options of `AgentRunner` and of the store, such as `retention` and `lease_ttl`.

        Returns:
            The runner, which is not open yet.

        Raises:
            ImportError: The store's client library is not installed; the message has the command that installs it.
            TypeError: Neither the runner nor the store has such an option, or `url` is neither a `str` nor a path.
            ValueError: The scheme is unknown, or an option is not valid.

        Example::

            async with AgentRunner.from_url("postgresql://app@db/app", lease_ttl=20.0) as runner:
                print(await runner.threads.list())

        """
        store_options: dict[str, Any] = {**options}
        names = RunnerOptions.__annotations__.keys() & store_options.keys()
        runner_options: dict[str, Any] = {name: store_options.pop(name) for name in names}
        return AgentRunner(store_from_url(url, **store_options), **runner_options)

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
        """Start a run, which continues even if its stream is not read.

        The runner adds `RUN_STARTED` and `RUN_FINISHED` if the agent leaves them out.

        Args:
            agent: An object with `run(input)`, or a function of the input, that returns an async iterator of events.
            input: A `RunAgentInput`, or its dict.
            agent_id: The agent's name in the thread list; by default the `agent_id` of the agent, if it has one.
            scope: The owner of the thread, a user for example. A new thread belongs to it; a thread of another scope
                is not found.
            headers: Request headers for the agent, which reads them from `current_run()`.

        Returns:
            The run's events. Iterate over it, enter it with `async with`, or await it, which starts the run.

        Raises:
            ThreadAlreadyRunning: The thread has a live run that is not ending, and the policy is `reject`.
            CircularWait: The thread's live run is waiting for this one.
            TooManyWaiting: Too many runs are waiting already, or their inputs are too large.
            RunAlreadyExists: The thread already had a run with this id.
            ThreadNotFound: The thread belongs to another scope.
            InvalidInput: The agent, the input or an option was refused; nothing was started.
            RunnerClosed: The runner is draining or closed.
            StoreError: The store could not be read or written.

        Example::

            async for event in runner.run(agent, {"threadId": "t1", "runId": "r1", "messages": []}):
                print(event.to_dict())
        """
        name = check_options(agent, agent_id, scope, headers, self._limits.id_bytes)
        checked = await read_input(input, self._limits.id_bytes)
        thread_id, run_id = checked.thread_id, checked.run_id
        store = await self.ensure_open()
        new_run = NewRun(thread_id, run_id, checked.json, name, checked.entries, scope)
        claimed = await self._claiming.claim(new_run, checked)
        claim = claimed.claim
        driver = Driver(
            claim, claimed.recorder, store, self.stats, self._timeouts,
            has_new_messages=claimed.has_new_messages, shows_errors=self._shows_errors,
        )  # fmt: skip
        plan = ReadingPlan(store, self._cache, thread_id, driver, driver.guard)
        stream = EventStream(plan.live_run(driver, claim.first_seq - 1), driver)
        run = Run(
            thread_id, run_id, claimed.input, scope, headers or {}, store, claim, name, driver.describe_error,
            claimed.accepted_ids, claimed.changed,
        )  # fmt: skip
        self._table.start(driver, agent, run, self.stats)
        return stream

    async def is_running(self, thread_id: str, *, scope: str | AnyScope | None = ANY_SCOPE) -> bool:
        """Return whether a thread has a live run, in any process, that is not being stopped.

        Args:
            thread_id: The thread.
            scope: The scope it must belong to; by default any.

        Example::

            if await runner.is_running("t1"):
                await runner.stop("t1")
        """
        check_ids(thread_id)
        check_scope_filter(scope)
        await self.ensure_open()
        return await self._table.is_running(thread_id, scope)

    async def stop(
        self, thread_id: str, run_id: str | None = None, *, scope: str | AnyScope | None = ANY_SCOPE
    ) -> bool:
        """Stop a thread's live run, even if another process runs it.

        Args:
            thread_id: The thread.
            run_id: Stop only this run; `None` stops the run that is live now. Pass it if the stop may arrive late, for
                example over a network: the thread may have a later run by then.
            scope: The scope that the thread must belong to; by default any.

        Returns:
            True if this call stops the run. False if there is no such run, if it is already stopping, or if the agent's
            `abort_run()` failed.

        Raises:
            StoreError: The store could not be read or written.

        Example::

            await runner.stop("t1")
        """
        check_ids(thread_id, run_id)
        check_scope_filter(scope)
        await self.ensure_open()
        return await self._table.stop(thread_id, run_id, scope)

    def driver(self, thread_id: str) -> Driver | None:
        """Return the driver of a thread's live run, or `None` if this process does not run it."""
        return self._table.driver(thread_id)

    async def recover(self, thread_id: str | None = None) -> bool:
        """End the runs whose process is gone, and return whether there were any.

        Runs that another call recovers at the same time count too. The runner does this automatically every second.

        Args:
            thread_id: Recover only this thread's run; `None` recovers all.
        """
        check_optional_text("thread_id", thread_id)
        await self.ensure_open()
        return await self._maintenance.recover(thread_id)

    # Reading threads

    @opens_stream
    async def connect(
        self,
        thread_id: str,
        after: str | None = None,
        *,
        known: Sequence[Mapping[str, Any]] | None = None,
        scope: str | AnyScope | None = ANY_SCOPE,
    ) -> EventStream:
        """Read a thread: first its stored runs, compacted, then its live run until that ends.

        Only the last run ends in a `RUN_ERROR` if it failed. Stored runs before it end in a `RUN_FINISHED` instead, so
        that a client does not report old failures again; `snapshot` returns them as they are stored.

        Args:
            thread_id: The thread. An unknown one has no events.
            after: The cursor of the last event that the reader has seen; the stream resumes right after it.
            known: The messages that the reader has, if it has no cursor. The stream then begins with one
                `MESSAGES_SNAPSHOT` and one `STATE_SNAPSHOT` of everything so far, so that no message appears twice.
                Messages that only the reader has keep their places.
            scope: The scope that the thread must belong to; by default any. A thread of another scope counts as
                unknown.

        Returns:
            The stream of events, which ends when the thread is deleted. Iterate over it, enter it with `async with`, or
            await it.

        Raises:
            InvalidCursor: `after` is not a cursor.
            InvalidInput: The thread id or `known` was refused.
            CursorExpired: The events after the cursor are no longer kept, or the cursor belongs to a deleted thread
                that had the same id; connect again without a cursor.
            CursorAhead: The cursor is beyond the thread's end; connect again without a cursor.
            StoreError: The store could not be read.

        Example::

            async for event in runner.connect("t1", after=last_cursor):
                print(event.to_dict())

        """
        check_ids(thread_id)
        cursor = read_cursor(after) if after is not None else None
        check_known_messages(known)
        check_scope_filter(scope)
        store = await self.ensure_open()
        return await self._opener.connect(store, thread_id, scope, cursor, known)

    @opens_stream
    async def snapshot(self, thread_id: str, *, scope: str | AnyScope | None = ANY_SCOPE) -> EventStream:
        """Read a thread as it is now, compacted, without following a live run.

        Args:
            thread_id: The thread. An unknown one has no events.
            scope: The scope that the thread must belong to; by default any.

        Returns:
            The stream of events. Iterate over it, enter it with `async with`, or await it.

        Raises:
            InvalidInput: The thread id is not valid text.
            StoreError: The store could not be read.

        Example::

            events = [event async for event in runner.snapshot("t1")]

        """
        check_ids(thread_id)
        check_scope_filter(scope)
        store = await self.ensure_open()
        return await self._opener.snapshot(store, thread_id, scope)
