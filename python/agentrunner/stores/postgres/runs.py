"""The verbs for runs: claim, append, renew, finish, stop, recover."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, TypeAlias

from agentrunner import _core
from agentrunner._core import Batch, Claim
from agentrunner.errors import LeaseLost, RunAlreadyExists, StoreError, ThreadAlreadyRunning, ThreadNotFound
from agentrunner.stores._group_commit import GroupCommit
from agentrunner.stores.postgres.client import LARGE
from agentrunner.stores.postgres.history import PostgresHistory, replayable
from agentrunner.stores.postgres.text import checked, keepable, octets

if TYPE_CHECKING:
    from agentrunner._core import Owner, Recorder
    from agentrunner.stores.postgres.listener import PostgresListener

    Item: TypeAlias = tuple[Claim, Batch]

LONG = 10_000
"""Events of a run that is written out on another thread."""
MUCH = 8 * LARGE
"""Bytes of a group of appends that is sent as a large value is."""
TRIMMED_AT_ONCE = 10_000
"""Rows of journals past their resume window that go in one call of `recover`."""

CLAIM = """SELECT * FROM "agentrunner".claim(%(thread_id)s::text, %(run_id)s::text, %(input)s::text, %(agent_id)s::text,
  %(scope)s::text, %(owner)s::text, %(call)s::bigint, make_interval(secs => %(ttl)s), %(ids)b::bytea[])"""

# Arrays are sent in binary (`%b`): as text, which psycopg else takes for them, they cost twenty times as much.
APPEND = """SELECT "agentrunner".append(%(threads)b::text[], %(tokens)b::bigint[], %(firsts)b::bigint[],
  %(lasts)b::bigint[], %(frames)b::bytea[], make_interval(secs => %(ttl)s))"""

# What most groups are.
APPEND_ONE = """SELECT "agentrunner".append_one(%(thread)s::text, %(token)s::bigint, %(first)s::bigint,
  %(last)s::bigint, %(frames)s::bytea, make_interval(secs => %(ttl)s))"""
KEPT, FOLLOWED, LOST, MISFIT = range(4)
"""What becomes of a batch; `FOLLOWED`: kept, and another process is to be told."""

# In the order in which appends lock them, so that neither waits for the other in a circle.
RENEW = """WITH held AS (
  SELECT l.thread_id, l.token FROM "agentrunner".live_runs l
    JOIN unnest(%(threads)b::text[], %(tokens)b::bigint[]) AS given (thread_id, token) USING (thread_id, token)
    ORDER BY l.thread_id FOR UPDATE OF l)
UPDATE "agentrunner".live_runs l SET expires_at = clock_timestamp() + make_interval(secs => %(ttl)s)
  FROM held WHERE l.thread_id = held.thread_id AND l.token = held.token RETURNING l.thread_id, l.token"""

FINISH = """SELECT "agentrunner".finish(%(thread_id)s::text, %(run_id)s::text, %(token)s::bigint, %(stored)s,
  %(last_seq)s::bigint, %(events)s::bytea, %(ids)b::bytea[], make_interval(secs => %(resume)s), %(again)s)"""

CUT = """WITH held AS (
  UPDATE "agentrunner".live_runs SET last_seq = %(seq)s::bigint - 1
    WHERE thread_id = %(thread_id)s::text AND token = %(token)s::bigint AND last_seq >= %(seq)s::bigint - 1
    RETURNING thread_id),
cut AS (DELETE FROM "agentrunner".journal j USING held
  WHERE j.thread_id = held.thread_id AND j.last_seq >= %(seq)s::bigint)
SELECT 1 FROM held"""

STOP = """UPDATE "agentrunner".live_runs SET stop_call = %(call)s::bigint
  WHERE thread_id = %(thread_id)s::text AND run_id = coalesce(%(run_id)s::text, run_id)
    AND (stop_call IS NULL OR stop_call = %(call)s::bigint) RETURNING 1"""

STOPS = 'SELECT token FROM "agentrunner".live_runs WHERE stop_call IS NOT NULL'

LIVE = """SELECT l.thread_id, l.run_id, l.token, l.first_seq, r.input, r.agent_id, l.stop_call IS NOT NULL
  FROM "agentrunner".live_runs l JOIN "agentrunner".runs r USING (run_id)"""

# Each owner, and whether a lease of it has ended; without an owner: frames have.
LOOK = """SELECT owner, bool_or(expires_at < clock_timestamp()) FROM "agentrunner".live_runs
  WHERE %(thread_id)s::text IS NULL OR thread_id = %(thread_id)s::text GROUP BY owner
UNION ALL SELECT NULL, EXISTS (SELECT FROM "agentrunner".journal_expiry WHERE expires_at < now())"""

# A row that is locked is being renewed, ended or taken over. What an earlier try took over is given again.
TAKE_OVER = """WITH dead AS (
  SELECT thread_id FROM "agentrunner".live_runs
    WHERE (%(thread_id)s::text IS NULL OR thread_id = %(thread_id)s::text)
      AND (expires_at < clock_timestamp() OR owner = ANY (%(gone)b::text[]) OR call = %(call)s::bigint)
    FOR UPDATE SKIP LOCKED)
UPDATE "agentrunner".live_runs l SET token = nextval('"agentrunner".tokens'), owner = %(owner)s,
    call = %(call)s::bigint, expires_at = clock_timestamp() + make_interval(secs => %(ttl)s)
  FROM dead JOIN "agentrunner".live_runs USING (thread_id) JOIN "agentrunner".runs r USING (run_id)
  WHERE l.thread_id = dead.thread_id
  RETURNING l.thread_id, l.run_id, l.token, l.first_seq, r.input, r.agent_id"""

TRIM = 'SELECT "agentrunner".trim_journal(%(rows)s)'


class PostgresRuns(PostgresHistory):
    """The store's verbs for runs."""

    lease_ttl: float
    _resume_window: float
    _listener: PostgresListener
    _owner: Owner | None
    _appends: GroupCommit[Item]

    async def claim(
        self,
        thread_id: str,
        run_id: str,
        input: str,
        agent_id: str | None,
        message_ids: list[str],
        scope: str | None,
    ) -> tuple[Claim, list[str]]:
        checked(thread_id=thread_id, run_id=run_id, input=input, agent_id=agent_id, scope=scope)
        [(outcome, token, first_seq, known)] = await self._client.rows(
            CLAIM,
            thread_id=thread_id,
            run_id=run_id,
            input=input,
            agent_id=agent_id,
            scope=scope,
            owner=str(self._owner),
            call=call_number(),
            ttl=self.lease_ttl,
            ids=[octets(message_id) for message_id in message_ids],
        )
        match outcome:
            case "ThreadNotFound":
                raise not_found(thread_id)
            case "ThreadAlreadyRunning":
                raise ThreadAlreadyRunning
            case "RunAlreadyExists":
                raise RunAlreadyExists(
                    f"run '{run_id}' exists already; a run id is used once, start the retry under a new one"
                )
        kept = set(known)
        claim = Claim(thread_id, run_id, token, first_seq, input, agent_id)
        return claim, [message_id for message_id in message_ids if octets(message_id) in kept]

    async def append(self, claim: Claim, batch: Batch, barrier: bool) -> None:
        try:
            await self._appends.add((claim, batch))
        except _Misfit:
            if not await self._cut(claim, batch.first_seq):
                raise
            await self._appends.add((claim, batch))

    async def _cut(self, claim: Claim, seq: int) -> bool:
        """Drop the frames of a live run from one on that cannot be read, if so: its new owner goes on before them."""
        page = await self.journal(claim.thread_id, seq - 1, None, 1)
        if page.live_token != claim.token or replayable(claim, seq, page.frames):
            return False
        return bool(await self._client.rows(CUT, thread_id=claim.thread_id, token=claim.token, seq=seq))

    async def _append(self, group: list[Item]) -> list[Exception | None]:
        """Commit batches of many runs in one statement."""
        codes = [await self._append_one(*group[0])] if len(group) == 1 else await self._append_all(group)
        outcomes: list[Exception | None] = [None] * len(group)
        for n, code in enumerate(codes):
            claim, batch = group[n]
            if code == FOLLOWED:
                self._listener.tell(claim.thread_id)
            elif code != KEPT:
                outcomes[n] = lost(claim) if code == LOST else _misfit(claim, batch)
        return outcomes

    async def _append_one(self, claim: Claim, batch: Batch) -> int:
        values = {
            "thread": claim.thread_id,
            "token": claim.token,
            "first": batch.first_seq,
            "last": batch.last_seq,
            "frames": bytes(batch),
            "ttl": self.lease_ttl,
        }
        [(code,)] = await self._client.steady(APPEND_ONE, values)
        return int(code)

    async def _append_all(self, group: list[Item]) -> list[int]:
        # Locked in one order by everyone.
        order = sorted(range(len(group)), key=lambda n: (group[n][0].thread_id, group[n][1].first_seq))
        claims, batches = [group[n][0] for n in order], [group[n][1] for n in order]
        frames = [bytes(batch) for batch in batches]
        values = {
            "threads": [claim.thread_id for claim in claims],
            "tokens": [claim.token for claim in claims],
            "firsts": [batch.first_seq for batch in batches],
            "lasts": [batch.last_seq for batch in batches],
            "frames": frames,
            "ttl": self.lease_ttl,
        }
        if sum(map(len, frames)) > MUCH:
            rows = await self._client.rows(APPEND, large=True, **values)
        else:
            rows = await self._client.steady(APPEND, values)
        codes = [KEPT] * len(group)
        for n, (code,) in zip(order, rows, strict=True):
            codes[n] = code
        return codes

    async def renew(self, claims: list[Claim]) -> list[bool]:
        held = await self._client.rows(
            RENEW,
            threads=[claim.thread_id for claim in claims],
            tokens=[claim.token for claim in claims],
            ttl=self.lease_ttl,
        )
        return [(claim.thread_id, claim.token) in held for claim in claims]

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        events = None
        if stored:
            # Off the loop where it takes longer than other tasks should wait.
            long = recorder.recorded > LONG
            events = await asyncio.to_thread(recorder.compacted) if long else recorder.compacted()
        [(done,)] = await self._client.rows(
            FINISH,
            large=events is not None and len(events) > LARGE,
            thread_id=claim.thread_id,
            run_id=claim.run_id,
            token=claim.token,
            stored=stored,
            last_seq=recorder.last_seq,
            events=events,
            ids=[octets(message_id) for message_id in recorder.message_ids] if stored else [],
            resume=self._resume_window,
        )
        if not done:
            raise lost(claim)
        self._listener.tell(claim.thread_id)

    async def request_stop(self, thread_id: str, run_id: str | None) -> bool:
        if not keepable(thread_id) or not keepable(run_id or ""):
            return False
        return bool(await self._client.rows(STOP, thread_id=thread_id, run_id=run_id, call=call_number()))

    async def live(self, thread_id: str | None = None) -> list[tuple[Claim, bool]]:
        if thread_id is None:
            rows = await self._client.rows(LIVE)
        elif keepable(thread_id):
            rows = await self._client.rows(f"{LIVE} WHERE l.thread_id = %(thread_id)s::text", thread_id=thread_id)
        else:
            rows = []
        return [(_claim(*row), asked) for *row, asked in rows]

    async def stops(self) -> list[int]:
        return [token for (token,) in await self._client.rows(STOPS)]

    async def recover(self, thread_id: str | None = None) -> list[Claim]:
        if thread_id is not None and not keepable(thread_id):
            return []
        ended = dict(await self._client.rows(LOOK, thread_id=thread_id))
        to_trim = ended.pop(None)
        gone = [owner for owner in ended if _core.Owner.is_gone(owner)]
        claims = []
        if gone or any(ended.values()):
            rows = await self._client.rows(
                TAKE_OVER,
                thread_id=thread_id,
                call=call_number(),
                gone=gone,
                owner=str(self._owner),
                ttl=self.lease_ttl,
            )
            claims = [_claim(*row) for row in rows]
            for claim in claims:
                self._listener.tell(claim.thread_id)
        if to_trim:
            await self._client.rows(TRIM, rows=TRIMMED_AT_ONCE)
        return claims


def _claim(thread_id: str, run_id: str, token: int, first_seq: int, input: str, agent_id: str | None) -> Claim:
    return Claim(thread_id, run_id, token, first_seq, input, agent_id)


def call_number() -> int:
    """Give a number by which a verb that is tried again is known."""
    return secrets.randbits(63)


def lost(claim: Claim) -> LeaseLost:
    """Give the error of a claim whose thread another holds."""
    return LeaseLost(
        f"run '{claim.run_id}' no longer holds thread '{claim.thread_id}': its lease ended and another owner took "
        "over; nothing was written"
    )


def not_found(thread_id: str) -> ThreadNotFound:
    """Give the error of a thread that is not there."""
    return ThreadNotFound(f"there is no thread '{thread_id}'")


class _Misfit(StoreError):
    """Raised when a batch does not follow what is kept of its run."""


def _misfit(claim: Claim, batch: Batch) -> _Misfit:
    return _Misfit(
        f"events {batch.first_seq} to {batch.last_seq} of run '{claim.run_id}' do not follow those kept of thread "
        f"'{claim.thread_id}'; nothing was written"
    )
