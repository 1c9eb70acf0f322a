"""The methods for runs, with leases and stored runs in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner import _core
from agentrunner._core import Claim
from agentrunner.errors import ThreadAlreadyRunning
from agentrunner.stores._errors import (
    make_cursor_ahead,
    make_cursor_expired,
    make_cursor_of_deleted_thread,
    make_lease_lost,
    make_run_already_exists,
    make_thread_not_found,
)
from agentrunner.stores._held_leases import HeldLeases, draw_call_number
from agentrunner.stores._run_events import compact_run, list_message_ids
from agentrunner.stores.redis.journal import RedisJournals
from agentrunner.stores.redis.lease_connection import RedisLeaseConnection
from agentrunner.stores.redis.scripts import (
    decode_known_ids,
    decode_optional,
    encode_guard,
    encode_optional,
    encode_scope,
)
from agentrunner.stores.types import CursorLocation, JournalPage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentrunner._core import Batch, Recorder
    from agentrunner.stores.redis.client import RedisClient
    from agentrunner.stores.types import Cursor, ThreadGuard
    from agentrunner.types import AnyScope

LEASES_PER_CALL = 1000
"""The greatest number of leases that one script handles.

The server does nothing else while a script runs.
"""


class RedisRuns:
    """Runs whose leases are in Redis and end by the server's clock."""

    def __init__(self, client: RedisClient, lease_ms: int, resume_ms: int) -> None:
        self._client = client
        self._lease_ms = lease_ms
        self._resume_ms = resume_ms
        self._journals = RedisJournals(client, lease_ms)
        self._owner = _core.Owner()
        self._leases = HeldLeases(
            self._owner, lease_ms / 1000, lambda: RedisLeaseConnection(client.url, client.prefix, lease_ms)
        )

    async def wait_until_idle(self) -> None:
        """Wait until no batch is left to store, and extend no lease from then on."""
        await self._journals.wait_until_idle()
        await self._leases.aclose()

    async def claim(
        self,
        thread_id: str,
        run_id: str,
        input: str,
        agent_id: str | None,
        message_ids: list[str],
        scope: str | None,
    ) -> tuple[Claim, dict[str, int]]:
        with self._leases.expect(thread_id) as call:
            outcome, *detail = await self._client.run_script(
                "claim", thread_id.encode(), run_id.encode(), input.encode(), encode_optional(agent_id),
                encode_optional(scope), str(self._owner), self._lease_ms, call,
                *[message_id.encode() for message_id in message_ids],
            )  # fmt: skip
            if outcome == b"not found":
                raise make_thread_not_found(thread_id)
            if outcome == b"running":
                raise ThreadAlreadyRunning
            if outcome == b"exists":
                raise make_run_already_exists(run_id)
            token, first_seq, known_ids, incarnation = detail
            claim = Claim(thread_id, run_id, token, first_seq, input, agent_id, int(incarnation))
            self._leases.hold(claim)
        return claim, decode_known_ids(known_ids)

    async def known_ids(self, thread_id: str, ids: list[str], *, guard: ThreadGuard | None = None) -> dict[str, int]:
        encoded_ids = [each.encode() for each in ids]
        known_ids = await self._client.run_script("known_ids", thread_id.encode(), *encode_guard(guard), *encoded_ids)
        return decode_known_ids(known_ids)

    async def append(self, claim: Claim, batch: Batch, barrier: bool) -> None:
        await self._journals.append(claim, batch)
        self._leases.note_extension(claim)

    async def renew(self, claims: list[Claim]) -> list[bool]:
        is_held: list[bool] = []
        for part in (claims[n : n + LEASES_PER_CALL] for n in range(0, len(claims), LEASES_PER_CALL)):
            arguments = [value for claim in part for value in (claim.thread_id.encode(), claim.token)]
            is_held += map(bool, await self._client.run_script("renew", self._lease_ms, *arguments))
            for claim in part:
                self._leases.note_extension(claim)
        return is_held

    async def release(self, claim: Claim) -> None:
        self._leases.release(claim)

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        events = await compact_run(recorder) if stored else b""
        message_ids = [message_id.encode() for message_id in await list_message_ids(recorder)] if stored else []

        async def attempt(attempts: int) -> Any:
            return await self._client.run_script_once(
                "finish", claim.thread_id.encode(), claim.run_id.encode(), claim.token, recorder.last_seq, int(stored),
                events, self._resume_ms, int(attempts > 0), *message_ids,
            )  # fmt: skip

        try:
            outcome = await self._client.retry(attempt)
        finally:
            # Even after a failure, because the caller may not try again.
            self._leases.release(claim)
        if outcome == b"lost":
            raise make_lease_lost(claim)

    async def request_stop(self, thread_id: str, run_id: str | None, *, guard: ThreadGuard | None = None) -> bool:
        return bool(
            await self._client.run_script(
                "request_stop", thread_id.encode(), encode_optional(run_id), draw_call_number(), *encode_guard(guard)
            )
        )

    async def live(self, thread_id: str | None = None) -> list[tuple[Claim, bool]]:
        rows = await self._client.run_script("live", encode_optional(thread_id))
        return [(_make_claim([*row[:6], row[9]]), bool(row[6])) for row in rows]

    async def stops(self) -> list[int]:
        return [int(token) for token in await self._client.run_script("stops")]

    async def recover(self, thread_id: str | None = None) -> list[Claim]:
        claims: list[Claim] = []
        while True:
            owners: dict[str, list[str]] = {"gone": [], "here": [], "running": [], "unknown": []}
            for owner in await self._client.run_script("owners"):
                owners[_core.Owner.liveness(owner.decode())].append(owner.decode())
            rows, late = await self._take_over(thread_id, **owners)
            for thread, token, call, owner in late:
                # The late leases of this process itself are taken over only if no caller uses them any more.
                if {int(token), int(call)}.isdisjoint(_core.Owner.held_tokens(owner.decode())):
                    rows += (await self._take_over(thread.decode()))[0]
            claims += map(_make_claim, rows)
            if len(rows) < LEASES_PER_CALL:
                break
        for claim in claims:
            self._leases.hold(claim)
        return claims

    async def _take_over(
        self,
        thread_id: str | None,
        *,
        gone: Sequence[str] = (),
        here: Sequence[str] = (),
        running: Sequence[str] = (),
        unknown: Sequence[str] = (),
    ) -> tuple[list[Any], list[Any]]:
        """Take over the runs of owners that are gone, and those whose lease has ended.

        Return them, and thread, token, call number and owner of each lease that has ended although its owner is `here`.
        Owners that are running keep theirs too, unless the run was asked to stop.
        """
        call = draw_call_number()

        async def attempt(attempts: int) -> Any:
            return await self._client.run_script_once(
                "recover", encode_optional(thread_id), str(self._owner), self._lease_ms, call, int(attempts > 0),
                LEASES_PER_CALL, len(gone), *gone, len(here), *here, *running,
            )  # fmt: skip

        rows, late = await self._client.retry(attempt)
        return rows, late

    async def journal(
        self, thread_id: str, after: int, until: int | None, limit: int, *, guard: ThreadGuard | None = None
    ) -> JournalPage:
        page = await self._journals.read(thread_id, after, until, limit, guard)
        return JournalPage(page.frames, page.live_token)

    async def locate(self, thread_id: str, cursor: Cursor, *, guard: ThreadGuard | None = None) -> CursorLocation:
        seq = cursor[0]
        kind, first_seq, last_seq = await self._client.run_script(
            "locate", thread_id.encode(), seq, *encode_guard(guard)
        )
        if kind == b"ahead":
            raise make_cursor_ahead(thread_id, seq)
        if kind == b"deleted":
            raise make_cursor_of_deleted_thread(thread_id, seq)
        if kind == b"expired":
            raise make_cursor_expired(thread_id, seq)
        if kind == b"journal":
            return CursorLocation("journal", first_seq, last_seq)
        return CursorLocation("live" if kind == b"live" else "stored", 0, 0)

    async def delete(self, thread_id: str, *, guard: ThreadGuard | None = None) -> None:
        async def attempt(attempts: int) -> Any:
            outcome = await self._client.run_script_once("delete", thread_id.encode(), *encode_guard(guard))
            # If the reply to the first attempt was lost, that attempt has deleted the thread.
            return b"done" if attempts and outcome == b"not found" else outcome

        outcome = await self._client.retry(attempt)
        if outcome == b"not found":
            raise make_thread_not_found(thread_id)
        if outcome == b"running":
            raise ThreadAlreadyRunning

    async def clear(self, scope: str | AnyScope | None) -> None:
        page_size, skipped = 1, 0
        while page_size:
            page_size, running = await self._client.run_script("clear", encode_scope(scope), skipped)
            skipped += running


def _make_claim(row: list[Any]) -> Claim:
    thread_id, run_id, token, first_seq, run_input, agent_id, incarnation = row
    return Claim(
        thread_id.decode(), run_id.decode(), int(token), int(first_seq), run_input.decode(), decode_optional(agent_id),
        int(incarnation),
    )  # fmt: skip
