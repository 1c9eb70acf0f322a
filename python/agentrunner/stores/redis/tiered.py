"""The methods for runs whose raw events are in Redis, and the rest in another store."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from agentrunner import _core
from agentrunner._core import Frames
from agentrunner.errors import AgentRunnerError, CursorExpired, StoreError, ThreadNotFound
from agentrunner.stores._errors import make_cursor_expired, make_lease_lost
from agentrunner.stores.redis.journal import RedisJournals
from agentrunner.stores.redis.scripts import encode_guard
from agentrunner.stores.types import CursorLocation, JournalPage, ThreadGuard
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from agentrunner._core import Batch, Claim, Recorder
    from agentrunner.stores.protocol import Store
    from agentrunner.stores.redis.client import RedisClient
    from agentrunner.stores.types import Cursor
    from agentrunner.types import AnyScope

logger = logging.getLogger("agentrunner")

EXTEND_FRACTION = 0.2
"""Fraction of a lease's time after which an append extends it."""
THREADS_PER_STEP = 100
"""Number of threads that are read at once."""


class TieredRuns:
    """Runs whose leases and stored events are in another store, the base store.

    The entry ids of the journals fence writers here: a new owner marks the run's journal before it reads it, and from
    then on Redis refuses what the former owner still appends. So an append need not wait until the lease is extended.
    As long as Redis accepts it, no other owner has begun to write, even if the base store cannot be reached.
    """

    def __init__(self, client: RedisClient, base: Store, resume_ms: int) -> None:
        self._client = client
        self._base = base
        self._lease_ms = int(base.lease_ttl * 1000)
        self._resume_ms = resume_ms
        self._journals = RedisJournals(client, 0)
        self._extended_at: dict[int, float] = {}
        """Times when an append last extended the lease of a token."""
        self._lost_tokens: set[int] = set()
        self._extend_tasks: set[asyncio.Task[None]] = set()
        self.request_stop = base.request_stop
        self.live = base.live
        self.known_ids = base.known_ids
        self.stops = base.stops
        self.renew = base.renew

    async def wait_until_idle(self) -> None:
        """Wait until no batch is left to store and no lease to extend."""
        await self._journals.wait_until_idle()
        if self._extend_tasks:
            await asyncio.wait(self._extend_tasks)

    async def claim(
        self,
        thread_id: str,
        run_id: str,
        input: str,
        agent_id: str | None,
        message_ids: list[str],
        scope: str | None,
    ) -> tuple[Claim, dict[str, int]]:
        claim, known_ids = await self._base.claim(thread_id, run_id, input, agent_id, message_ids, scope)
        try:
            await self._client.run_script(
                "begin", thread_id.encode(), claim.first_seq, claim.token, self._lease_ms, claim.incarnation
            )
        except StoreError:
            # The run cannot start. Without this, it would hold the thread until its lease expires.
            with contextlib.suppress(AgentRunnerError):
                await self._base.finish(claim, _make_empty_recorder(claim), False)
            raise
        return claim, known_ids

    async def append(self, claim: Claim, batch: Batch, barrier: bool) -> None:
        loop = asyncio.get_running_loop()
        extended_at = self._extended_at.setdefault(claim.token, 0.0)
        if loop.time() - extended_at > self._base.lease_ttl * EXTEND_FRACTION:
            self._extended_at[claim.token] = loop.time()
            task = loop.create_task(self._extend(claim))
            self._extend_tasks.add(task)
            task.add_done_callback(self._extend_tasks.discard)
        if claim.token in self._lost_tokens:
            raise make_lease_lost(claim)
        await self._journals.append(claim, batch)

    async def _extend(self, claim: Claim) -> None:
        try:
            (is_held,) = await self._base.renew([claim])
        except StoreError as error:
            logger.warning("the lease of run %s could not be extended: %s", claim.run_id, error)
        else:
            if not is_held and claim.token in self._extended_at:
                self._lost_tokens.add(claim.token)

    async def release(self, claim: Claim) -> None:
        self._extended_at.pop(claim.token, None)
        self._lost_tokens.discard(claim.token)
        if hasattr(self._base, "release"):
            await self._base.release(claim)

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        self._extended_at.pop(claim.token, None)
        self._lost_tokens.discard(claim.token)
        await self._base.finish(claim, recorder, stored)
        # A crash right here leaves an open journal of a free thread; `recover` closes it.
        await self._close_journal(claim.thread_id, claim.first_seq)

    async def _close_journal(self, thread_id: str, first_seq: int) -> None:
        await self._client.run_script("end", thread_id.encode(), first_seq, self._resume_ms)

    async def recover(self, thread_id: str | None = None) -> list[Claim]:
        claims = await self._base.recover(thread_id)
        for claim in claims:
            await self._client.run_script(
                "mark", claim.thread_id.encode(), claim.first_seq, claim.token, self._lease_ms,
                claim.incarnation,
            )  # fmt: skip
        if thread_id is None:
            await self._close_abandoned_journals()
        return claims

    async def _close_abandoned_journals(self) -> None:
        for thread, first in await self._client.run_script("open", self._lease_ms, THREADS_PER_STEP):
            thread_id, first_seq = thread.decode(), int(first)
            if all(claim.first_seq != first_seq for claim, _ in await self._base.live(thread_id)):
                await self._close_journal(thread_id, first_seq)

    async def journal(
        self, thread_id: str, after: int, until: int | None, limit: int, *, guard: ThreadGuard | None = None
    ) -> JournalPage:
        incarnation = guard.incarnation if guard is not None else None
        # Each journal has its incarnation; the thread's scope is in the base store.
        page = await self._journals.read(thread_id, after, until, limit, ThreadGuard(incarnation=incarnation))
        if guard is not None and guard.scope is not ANY_SCOPE and not await self._is_meant(thread_id, guard):
            return JournalPage(Frames(b""), None)
        if len(page.frames) and page.writer_token is not None:
            # The frames are the writer's or of an earlier run, and it was the writer when they were read.
            return JournalPage(page.frames, page.writer_token)
        live_runs = await self._base.live(thread_id)
        tokens = [claim.token for claim, _ in live_runs if incarnation in (None, claim.incarnation)]
        return JournalPage(page.frames, tokens[0] if tokens else None)

    async def _is_meant(self, thread_id: str, guard: ThreadGuard) -> bool:
        try:
            await self._base.thread(thread_id, guard=guard)
        except ThreadNotFound:
            if guard.incarnation is None:
                return False
            # The base store forgets a thread whose first run was not stored; its incarnation has only had one scope.
            with contextlib.suppress(ThreadNotFound):
                await self._base.thread(thread_id)
                return False
        return True

    async def locate(self, thread_id: str, cursor: Cursor, *, guard: ThreadGuard | None = None) -> CursorLocation:
        with contextlib.suppress(CursorExpired):
            location = await self._base.locate(thread_id, cursor, guard=guard)
            if location.kind != "journal":
                return location
        # The cursor is inside a finished run, whose raw frames are in Redis, for as long as Redis keeps them.
        span = await self._client.run_script("span", thread_id.encode(), cursor[0], encode_guard(guard)[1])
        if span is None:
            raise make_cursor_expired(thread_id, cursor[0])
        return CursorLocation("journal", *span)

    async def delete(self, thread_id: str, *, guard: ThreadGuard | None = None) -> None:
        await self._base.delete(thread_id, guard=guard)
        await self._client.run_script("drop", thread_id.encode())

    async def clear(self, scope: str | AnyScope | None) -> None:
        thread_ids: list[str] = []
        before: tuple[int, str] | None = None
        while page := await self._base.threads(THREADS_PER_STEP, before, True, None, scope):
            thread_ids += [thread.thread_id for thread in page]
            before = (page[-1].updated_at, page[-1].thread_id)
        await self._base.clear(scope)
        for thread_id in thread_ids:
            try:
                await self._base.thread(thread_id)
            except ThreadNotFound:
                await self._client.run_script("drop", thread_id.encode())


def _make_empty_recorder(claim: Claim) -> Recorder:
    """Return the recorder of a run without events."""
    return _core.Recorder(
        claim.thread_id, claim.run_id, claim.input, set(), claim.first_seq,
        event_bytes=1, id_bytes=1, window_bytes=1, pending_bytes=1,
    )  # fmt: skip
