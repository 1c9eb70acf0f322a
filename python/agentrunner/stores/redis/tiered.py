"""The verbs of runs where only the raw events of live runs are in Redis, and all else is in another store."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from agentrunner import _core
from agentrunner.errors import AgentRunnerError, CursorExpired, StoreError, ThreadNotFound
from agentrunner.stores.redis.journal import RedisJournals, lost
from agentrunner.stores.types import CursorLocation, JournalPage

if TYPE_CHECKING:
    from agentrunner._core import Batch, Claim, Recorder
    from agentrunner.stores.protocol import Store
    from agentrunner.stores.redis.client import RedisClient
    from agentrunner.stores.types import Cursor
    from agentrunner.types import AnyScope

logger = logging.getLogger("agentrunner")

EXTEND_EVERY = 0.2
"""After which part of a lease an append extends it."""
AT_ONCE = 100
"""Journals and threads looked at in one step."""


class TieredRuns:
    """Runs whose leases and ends are the other store's.

    It is the journals' ids that fence here: who takes a run over marks its journal before it reads it, and from then on
    Redis refuses what the owner before still appends. So an append need not wait for the lease it extends: while it is
    let through nobody else has begun to write, even if the other store cannot be reached.
    """

    def __init__(self, client: RedisClient, history: Store, resume_ms: int) -> None:
        self._client = client
        self._history = history
        self._lease_ms = int(history.lease_ttl * 1000)
        self._resume_ms = resume_ms
        self._journals = RedisJournals(client, 0)
        self._extended: dict[int, float] = {}
        """When the lease of a token was last extended by an append."""
        self._lost: set[int] = set()
        self._extending: set[asyncio.Task[None]] = set()
        self.request_stop = history.request_stop
        self.live = history.live
        self.stops = history.stops
        self.renew = history.renew

    async def wait_until_idle(self) -> None:
        """Wait until nothing is to be written any more."""
        await self._journals.wait_until_idle()
        if self._extending:
            await asyncio.wait(self._extending)

    async def claim(
        self,
        thread_id: str,
        run_id: str,
        input: str,
        agent_id: str | None,
        message_ids: list[str],
        scope: str | None,
    ) -> tuple[Claim, list[str]]:
        claim, known = await self._history.claim(thread_id, run_id, input, agent_id, message_ids, scope)
        try:
            await self._client.run("begin", thread_id.encode(), claim.first_seq, claim.token, self._lease_ms)
        except StoreError:
            # Not to be held, by a run that cannot begin, until its lease ends.
            with contextlib.suppress(AgentRunnerError):
                await self._history.finish(claim, _nothing(claim), False)
            raise
        return claim, known

    async def append(self, claim: Claim, batch: Batch, barrier: bool) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._extended.setdefault(claim.token, 0.0) > self._history.lease_ttl * EXTEND_EVERY:
            self._extended[claim.token] = loop.time()
            task = loop.create_task(self._extend(claim))
            self._extending.add(task)
            task.add_done_callback(self._extending.discard)
        if claim.token in self._lost:
            raise lost(claim)
        await self._journals.append(claim, batch)

    async def _extend(self, claim: Claim) -> None:
        try:
            (held,) = await self._history.renew([claim])
        except StoreError as error:
            logger.warning("the lease of run %s could not be extended: %s", claim.run_id, error)
        else:
            if not held and claim.token in self._extended:
                self._lost.add(claim.token)

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        self._extended.pop(claim.token, None)
        self._lost.discard(claim.token)
        await self._history.finish(claim, recorder, stored)
        # A crash before this leaves a journal that is open and a thread that is free; `recover` closes it.
        await self._end(claim.thread_id, claim.first_seq)

    async def _end(self, thread_id: str, first_seq: int) -> None:
        await self._client.run("end", thread_id.encode(), first_seq, self._resume_ms)

    async def recover(self, thread_id: str | None = None) -> list[Claim]:
        claims = await self._history.recover(thread_id)
        for claim in claims:
            await self._client.run("mark", claim.thread_id.encode(), claim.first_seq, claim.token, self._lease_ms)
        if thread_id is None:
            await self._close_left_open()
        return claims

    async def _close_left_open(self) -> None:
        for thread, first in await self._client.run("open", self._lease_ms, AT_ONCE):
            thread_id, first_seq = thread.decode(), int(first)
            if all(claim.first_seq != first_seq for claim, _ in await self._history.live(thread_id)):
                await self._end(thread_id, first_seq)

    async def journal(self, thread_id: str, after: int, until: int | None, limit: int) -> JournalPage:
        page = await self._journals.read(thread_id, after, until, limit)
        if len(page.frames) and page.writer is not None:
            # Of who writes the newest journal, and of nobody after them.
            return JournalPage(page.frames, page.writer)
        live = await self._history.live(thread_id)
        return JournalPage(page.frames, live[0][0].token if live else None)

    async def locate(self, thread_id: str, cursor: Cursor) -> CursorLocation:
        with contextlib.suppress(CursorExpired):
            place = await self._history.locate(thread_id, cursor)
            if place.kind != "journal":
                return place
        # In a finished run: it is here whose raw frames are kept, and for how long.
        span = await self._client.run("span", thread_id.encode(), cursor[0])
        if span is None:
            raise CursorExpired(
                f"cursor {cursor[0]} of thread '{thread_id}' is inside a finished run whose raw events are no longer "
                "kept; connect without a cursor for the whole thread"
            )
        return CursorLocation("journal", *span)

    async def delete(self, thread_id: str) -> None:
        await self._history.delete(thread_id)
        await self._client.run("drop", thread_id.encode())

    async def clear(self, scope: str | AnyScope | None) -> None:
        names: list[str] = []
        before: tuple[int, str] | None = None
        while page := await self._history.threads(AT_ONCE, before, True, None, scope):
            names += [thread.thread_id for thread in page]
            before = (page[-1].updated_at, page[-1].thread_id)
        await self._history.clear(scope)
        for name in names:
            try:
                await self._history.thread(name)
            except ThreadNotFound:
                await self._client.run("drop", name.encode())


def _nothing(claim: Claim) -> Recorder:
    """Give the record of a run in which nothing has happened."""
    return _core.Recorder(
        claim.thread_id, claim.run_id, claim.input, set(), claim.first_seq,
        event_bytes=1, id_bytes=1, window_bytes=1, pending_bytes=1,
    )  # fmt: skip
