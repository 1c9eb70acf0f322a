"""Guards dropped on purpose: a campaign must notice each; one function per mutation.

A child calls `apply()` first of all; `AGENTRUNNER_MUTATION` names the mutation.
"""

from __future__ import annotations

import asyncio
import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campaigns import MUTATION, NOT_APPLIED

if TYPE_CHECKING:
    from collections.abc import Callable

MUTATIONS: dict[str, Callable[[], None]] = {}


def mutation(function: Callable[[], None]) -> Callable[[], None]:
    """Register a mutation by its function's name."""
    MUTATIONS[function.__name__] = function
    return function


def apply() -> None:
    """Drop the guard that the environment names.

    Whatever prevents it is written to the file `NOT_APPLIED`: a child that dies here must not pass for a fault found.
    """
    if name := os.environ.get(MUTATION):
        try:
            MUTATIONS[name]()
        except Exception:
            Path(os.environ[NOT_APPLIED]).write_text(traceback.format_exc(), "utf-8")
            raise


@mutation
def nothing_is_a_barrier() -> None:
    """Never require the SQLite store to make an append or a finish survive a power cut."""
    from agentrunner.stores.sqlite import SqliteStore

    append = SqliteStore.append

    async def weak(self: SqliteStore, claim: Any, batch: Any, barrier: bool) -> None:
        await append(self, claim, batch, False)

    SqliteStore.append = weak  # type: ignore[method-assign]


@mutation
def errors_are_success() -> None:
    """Treat a failed append as a success."""
    import contextlib

    from agentrunner import StoreError
    from agentrunner.stores.sqlite import SqliteStore

    append = SqliteStore.append

    async def hopeful(self: SqliteStore, claim: Any, batch: Any, barrier: bool) -> None:
        with contextlib.suppress(StoreError):
            await append(self, claim, batch, barrier)

    SqliteStore.append = hopeful  # type: ignore[method-assign]


@mutation
def doctor_sees_no_rows() -> None:
    """Report no unreadable row."""
    from agentrunner.stores.sqlite import SqliteStore

    inspect = SqliteStore.inspect

    async def blind(self: SqliteStore, fix: bool) -> Any:
        return (await inspect(self, fix))._replace(corrupt=[])

    SqliteStore.inspect = blind  # type: ignore[method-assign]


@mutation
def line_breaks_as_they_are() -> None:
    """Write line breaks of an agent's text into the stream unescaped."""
    from agentrunner._core import Frames
    from agentrunner.reading.stream import EventStream

    frames, pages = EventStream.frames, EventStream.pages

    async def broken_frames(self: EventStream, **options: Any) -> Any:
        async for data in frames(self, **options):
            yield data.replace(b"\\n", b"\n")

    async def broken_pages(self: EventStream) -> Any:
        async for page in pages(self):
            yield Frames(bytes(page).replace(b"\\n", b"\n"))

    EventStream.frames = broken_frames  # type: ignore[method-assign, assignment]
    EventStream.pages = broken_pages  # type: ignore[method-assign, assignment]


@mutation
def bodies_of_any_number_of_values() -> None:
    """Do not count the values of a body before it is parsed."""
    from agentrunner.server import requests

    requests.limit_values = lambda *_: asyncio.sleep(0)  # type: ignore[assignment]


@mutation
def bodies_without_limit() -> None:
    """Read a request's body whatever its size."""
    from agentrunner.server import requests

    async def read_body(request: Any, limits: Any) -> bytes:
        return b"".join([piece async for piece in request.stream()])

    requests.read_body = read_body


@mutation
def publish_before_commit() -> None:
    """Show events to readers when they are recorded, not when they are durable."""
    from agentrunner.running.commits import Commits

    append = Commits._append

    async def early(self: Commits, batch: Any, barrier: bool) -> None:
        self._live.recorder.publish()
        self._live.wake()
        # A kill has to fall between the two, by chance.
        await asyncio.sleep(0.02)
        await append(self, batch, barrier)

    Commits._append = early  # type: ignore[method-assign]


@mutation
def skip_a_frame_on_reconnect() -> None:
    """Resume a reader of a live run one event too late."""
    from agentrunner.reading.plan import ReadingPlan

    live_run = ReadingPlan.live_run

    def skipping(self: ReadingPlan, live: Any, after: int) -> Any:
        return live_run(self, live, min(after + 1, live.recorder.published))

    ReadingPlan.live_run = skipping  # type: ignore[method-assign]


@mutation
def take_a_form_for_the_run() -> None:
    """Resume after the last raw event of a compacted run, wherever in it the reader was."""
    from agentrunner.reading.stream import opens_stream
    from agentrunner.runner import AgentRunner

    connect = AgentRunner.connect

    @opens_stream
    async def blunt(self: AgentRunner, thread_id: str, after: str | None = None, **options: Any) -> Any:
        return await connect(self, thread_id, after.partition(".")[0] if after else after, **options)

    AgentRunner.connect = blunt  # type: ignore[method-assign]


@mutation
def deliver_before_commit() -> None:
    """Show events to readers a while before they are durable."""
    from agentrunner.running.commits import Commits

    append = Commits._append

    async def early(self: Commits, batch: Any, barrier: bool) -> None:
        self._live.recorder.publish()
        self._live.wake()
        await asyncio.sleep(0.02)
        await append(self, batch, barrier)

    Commits._append = early  # type: ignore[method-assign]


@mutation
def let_stalled_clients_stay() -> None:
    """Never drop a client, however little it reads."""
    from agentrunner.server.sse import StreamWriter

    StreamWriter._drop_client = lambda self: None  # type: ignore[method-assign]


@mutation
def queue_for_each_reader() -> None:
    """Read ahead for every client, into a queue of its own."""
    from agentrunner._core import Frames
    from agentrunner.reading.stream import EventStream

    pages = EventStream.pages

    async def read_ahead(self: EventStream) -> Any:
        queue: asyncio.Queue[Frames | None] = asyncio.Queue()

        async def fill() -> None:
            async for page in pages(self):
                # A copy, as if each reader had its own.
                queue.put_nowait(Frames(bytes(bytearray(bytes(page)))))
            queue.put_nowait(None)

        filling = asyncio.ensure_future(fill())
        try:
            while (page := await queue.get()) is not None:
                yield page
        finally:
            filling.cancel()

    EventStream.pages = read_ahead  # type: ignore[method-assign, assignment]


@mutation
def nothing_is_recovered() -> None:
    """Recover no run from SQLite."""
    from agentrunner.stores.sqlite import SqliteStore

    async def nothing(self: SqliteStore, thread_id: str | None = None) -> list[Any]:
        return []

    SqliteStore.recover = nothing  # type: ignore[method-assign]


@mutation
def claim_what_is_taken() -> None:
    """Claim a thread on SQLite although it has a live run."""
    from agentrunner import ThreadAlreadyRunning
    from agentrunner.stores.sqlite import SqliteStore

    claim = SqliteStore.claim

    async def claim_anyway(self: SqliteStore, thread_id: str, *rest: Any) -> Any:
        try:
            return await claim(self, thread_id, *rest)
        except ThreadAlreadyRunning:
            for live, _ in await self.live(thread_id):
                return live, []
            raise

    SqliteStore.claim = claim_anyway  # type: ignore[method-assign]


@mutation
def write_under_any_token() -> None:
    """Write into SQLite under the thread's current token, whichever process holds it."""
    from agentrunner._core import Claim
    from agentrunner.stores.sqlite import SqliteStore

    append, finish, renew = SqliteStore.append, SqliteStore.finish, SqliteStore.renew

    async def newest(self: SqliteStore, old: Claim) -> Claim:
        for live, _ in await self.live(old.thread_id):
            return Claim(old.thread_id, old.run_id, live.token, old.first_seq, old.input, old.agent_id)
        return old

    async def append_newest(self: SqliteStore, claim: Claim, *rest: Any) -> None:
        await append(self, await newest(self, claim), *rest)

    async def finish_newest(self: SqliteStore, claim: Claim, *rest: Any) -> None:
        await finish(self, await newest(self, claim), *rest)

    async def renew_newest(self: SqliteStore, claims: list[Claim]) -> list[bool]:
        return await renew(self, [await newest(self, claim) for claim in claims])

    SqliteStore.append = append_newest  # type: ignore[method-assign]
    SqliteStore.finish = finish_newest  # type: ignore[method-assign]
    SqliteStore.renew = renew_newest  # type: ignore[method-assign]


@mutation
def leave_a_task_with_each_stream() -> None:
    """Start a task with each stream that does not end with it."""
    from agentrunner.server.sse import StreamWriter

    write, kept = StreamWriter.write, set()

    async def leaving(self: StreamWriter) -> None:
        kept.add(asyncio.ensure_future(asyncio.Event().wait()))
        await write(self)

    StreamWriter.write = leaving  # type: ignore[method-assign]


@mutation
def end_runs_with_their_clients() -> None:
    """Stop a run when a client that reads it disconnects."""
    from agentrunner.server.sse import StreamWriter

    leave = StreamWriter._cancel_write

    def leaving(self: StreamWriter) -> None:
        runner = self._scope["app"].context.runner
        for driver in runner._table.drivers():
            driver.fail(RuntimeError("its reader has disconnected"))
        leave(self)

    StreamWriter._cancel_write = leaving  # type: ignore[method-assign]


@mutation
def stay_on_a_standby() -> None:
    """Use the first session that can be opened on PostgreSQL, even if it may only read."""
    from agentrunner.stores.postgres import client, sessions

    init = sessions.PostgresServers.__init__

    def take_any(self: sessions.PostgresServers, options: dict[str, Any]) -> None:
        init(self, {"target_session_attrs": "any", **options})

    sessions.PostgresServers.__init__ = take_any  # type: ignore[method-assign]
    client.TRANSIENT_STATES -= {"25006"}


@mutation
def give_up_at_once() -> None:
    """Retry on Redis for a moment only."""
    from agentrunner.stores.redis.client import RedisClient

    init = RedisClient.__init__

    def impatient(self: RedisClient, url: str, prefix: str, retry_seconds: float, **options: Any) -> None:
        init(self, url, prefix, 0.05, **options)

    RedisClient.__init__ = impatient  # type: ignore[method-assign]


@mutation
def leases_by_the_wall_clock() -> None:
    """Also recover runs from SQLite that are live for over a minute by the wall clock."""
    import time

    from agentrunner.stores.sqlite import SqliteStore

    recover, claim_it = SqliteStore.recover, SqliteStore.claim
    since: dict[int, float] = {}

    async def claim_by_wall(self: SqliteStore, *arguments: Any) -> Any:
        claim = await claim_it(self, *arguments)
        since[claim.token] = time.time()
        return claim

    async def recover_by_wall(self: SqliteStore, thread_id: str | None = None) -> list[Any]:
        claims = await recover(self, thread_id)
        return claims + [
            claim for claim, _ in await self.live(thread_id) if time.time() > since.get(claim.token, time.time()) + 60
        ]

    SqliteStore.claim = claim_by_wall  # type: ignore[method-assign]
    SqliteStore.recover = recover_by_wall  # type: ignore[method-assign]


@mutation
def end_without_draining() -> None:
    """End at once when told to end."""
    import os

    from agentrunner.server.uvicorn_server import UvicornServer

    async def at_once(self: UvicornServer, sockets: Any = None) -> None:
        os._exit(0)

    UvicornServer.shutdown = at_once  # type: ignore[method-assign]


@mutation
def do_twice_what_is_asked_again() -> None:
    """Treat a batch that is sent to Redis again, after a lost response, as another batch."""
    from agentrunner.stores.redis import scripts

    read = scripts._read

    def forgetful(name: str) -> str:
        known = "is_repeated = seq == last"
        text = read(name)
        assert name != "append" or known in text
        return text.replace(known, "is_repeated = false")

    scripts._read = forgetful


@mutation
def forget_cursors() -> None:
    """Send the whole stream to a reader that resumes."""
    from agentrunner.runner import AgentRunner

    connect = AgentRunner.connect

    async def forgetful(self: AgentRunner, thread_id: str, after: str | None = None, **options: Any) -> Any:
        return await connect(self, thread_id, None, **options)

    AgentRunner.connect = forgetful  # type: ignore[method-assign]
