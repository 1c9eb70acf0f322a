"""The verbs of runs, leases and all in Redis."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from typing import TYPE_CHECKING, Any

from agentrunner import _core
from agentrunner._core import Claim
from agentrunner.errors import (
    CursorAhead,
    CursorExpired,
    RunAlreadyExists,
    ThreadAlreadyRunning,
    ThreadNotFound,
)
from agentrunner.stores.redis.journal import RedisJournals, lost
from agentrunner.stores.redis.scripts import maybe, optional, text, whose
from agentrunner.stores.types import CursorLocation, JournalPage

if TYPE_CHECKING:
    from agentrunner._core import Batch, Recorder
    from agentrunner.stores.redis.client import RedisClient
    from agentrunner.stores.types import Cursor
    from agentrunner.types import AnyScope

LONG = 10_000
"""Events of a run that is written out on another thread."""
AT_ONCE = 1000
"""Leases looked at in one step: the server does nothing else meanwhile."""


class RedisRuns:
    """Runs under leases that go by the server's clock."""

    def __init__(self, client: RedisClient, lease_ms: int, resume_ms: int) -> None:
        self._client = client
        self._lease_ms = lease_ms
        self._resume_ms = resume_ms
        self._journals = RedisJournals(client, lease_ms)
        self._owner = _core.Owner()
        # By these the server tells a call that is tried again from another one.
        self._nonce = uuid.uuid4().hex
        self._calls = itertools.count()

    def _call(self) -> str:
        return f"{self._nonce}.{next(self._calls)}"

    async def wait_until_idle(self) -> None:
        """Wait until nothing is to be written any more."""
        await self._journals.wait_until_idle()

    async def claim(
        self,
        thread_id: str,
        run_id: str,
        input: str,
        agent_id: str | None,
        message_ids: list[str],
        scope: str | None,
    ) -> tuple[Claim, list[str]]:
        outcome, *found = await self._client.run(
            "claim", thread_id.encode(), run_id.encode(), input.encode(), optional(agent_id), optional(scope),
            str(self._owner), self._lease_ms, self._call(), *[known.encode() for known in message_ids],
        )  # fmt: skip
        if outcome == b"not found":
            raise not_found(thread_id)
        if outcome == b"running":
            raise ThreadAlreadyRunning
        if outcome == b"exists":
            raise RunAlreadyExists(
                f"run '{run_id}' exists already; a run id is used once, start the retry under a new one"
            )
        token, first_seq, known = found
        return Claim(thread_id, run_id, token, first_seq, input, agent_id), [text(one) for one in known]

    async def append(self, claim: Claim, batch: Batch, barrier: bool) -> None:
        await self._journals.append(claim, batch)

    async def renew(self, claims: list[Claim]) -> list[bool]:
        held: list[bool] = []
        for some in (claims[i : i + AT_ONCE] for i in range(0, len(claims), AT_ONCE)):
            pairs = [part for claim in some for part in (claim.thread_id.encode(), claim.token)]
            held += [bool(still) for still in await self._client.run("renew", self._lease_ms, *pairs)]
        return held

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        events = b""
        if stored:
            # Off the loop where it takes longer than other tasks should wait.
            long = recorder.recorded > LONG
            events = await asyncio.to_thread(recorder.compacted) if long else recorder.compacted()
        ids = [known.encode() for known in recorder.message_ids] if stored else []

        async def end(tried: int) -> Any:
            return await self._client.try_once(
                "finish", claim.thread_id.encode(), claim.run_id.encode(), claim.token, recorder.last_seq, int(stored),
                events, self._resume_ms, int(tried > 0), *ids,
            )  # fmt: skip

        outcome = await self._client.patiently(end)
        if outcome == b"lost":
            raise lost(claim)

    async def request_stop(self, thread_id: str, run_id: str | None) -> bool:
        asked = await self._client.run("request_stop", thread_id.encode(), optional(run_id), self._call())
        return bool(asked)

    async def live(self, thread_id: str | None = None) -> list[tuple[Claim, bool]]:
        found = await self._client.run("live", optional(thread_id))
        return [(_claim(held[:6]), bool(held[6])) for held in found]

    async def stops(self) -> list[int]:
        return [int(token) for token in await self._client.run("stops")]

    async def recover(self, thread_id: str | None = None) -> list[Claim]:
        claims: list[Claim] = []
        while True:
            owners = [text(owner) for owner in await self._client.run("owners")]
            gone = [owner for owner in owners if _core.Owner.is_gone(owner)]
            call = self._call()

            async def take_over(tried: int, gone: list[str] = gone, call: str = call) -> Any:
                return await self._client.try_once(
                    "recover", optional(thread_id), str(self._owner), self._lease_ms, call, int(tried > 0), AT_ONCE,
                    *gone,
                )  # fmt: skip

            found = await self._client.patiently(take_over)
            claims += [_claim(held) for held in found]
            if len(found) < AT_ONCE:
                return claims

    async def journal(self, thread_id: str, after: int, until: int | None, limit: int) -> JournalPage:
        page = await self._journals.read(thread_id, after, until, limit)
        return JournalPage(page.frames, page.live_token)

    async def locate(self, thread_id: str, cursor: Cursor) -> CursorLocation:
        seq = cursor[0]
        kind, first_seq, last_seq = await self._client.run("locate", thread_id.encode(), seq)
        if kind == b"ahead":
            raise CursorAhead(f"cursor {seq} is ahead of thread '{thread_id}'; connect without a cursor")
        if kind == b"expired":
            raise CursorExpired(
                f"cursor {seq} of thread '{thread_id}' is inside a finished run whose raw events are no longer kept; "
                "connect without a cursor for the whole thread"
            )
        if kind == b"journal":
            return CursorLocation("journal", first_seq, last_seq)
        return CursorLocation("live" if kind == b"live" else "stored", 0, 0)

    async def delete(self, thread_id: str) -> None:
        async def remove(tried: int) -> Any:
            outcome = await self._client.try_once("delete", thread_id.encode())
            return b"done" if tried and outcome == b"not found" else outcome

        outcome = await self._client.patiently(remove)
        if outcome == b"not found":
            raise not_found(thread_id)
        if outcome == b"running":
            raise ThreadAlreadyRunning

    async def clear(self, scope: str | AnyScope | None) -> None:
        looked, passed = 1, 0
        while looked:
            looked, kept = await self._client.run("clear", whose(scope), passed)
            passed += kept


def not_found(thread_id: str) -> ThreadNotFound:
    """Give the error for a thread that is not there."""
    return ThreadNotFound(f"there is no thread '{thread_id}'")


def _claim(held: list[Any]) -> Claim:
    thread_id, run_id, token, first_seq, given, agent_id = held
    return Claim(text(thread_id), text(run_id), int(token), int(first_seq), text(given), maybe(agent_id))
