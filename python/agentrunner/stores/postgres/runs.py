"""The methods that write runs: claim, append, renew, finish, stop, recover."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from agentrunner import _core
from agentrunner._core import Batch, Claim
from agentrunner.errors import StoreClosed, StoreError, ThreadAlreadyRunning
from agentrunner.stores._errors import make_lease_lost, make_run_already_exists, make_thread_not_found
from agentrunner.stores._held_leases import draw_call_number
from agentrunner.stores._run_events import check_run_size, compact_run, list_message_ids
from agentrunner.stores.postgres.client import LARGE_BYTES
from agentrunner.stores.postgres.guard import IS_MEANT, encode_guard
from agentrunner.stores.postgres.history import PostgresHistory, can_replay
from agentrunner.stores.postgres.text import check_texts, encode_message_id, is_storable, match_known_ids

if TYPE_CHECKING:
    from agentrunner._core import Owner, Recorder
    from agentrunner.stores._group_commit import GroupCommit
    from agentrunner.stores._held_leases import HeldLeases
    from agentrunner.stores.postgres.listener import PostgresListener
    from agentrunner.stores.types import ThreadGuard

    Append: TypeAlias = tuple[Claim, Batch]

LARGE_COMMIT_BYTES = 8 * LARGE_BYTES
"""Size in bytes above which a commit needs a connection for large values."""
TRIMMED_ROWS = 10_000
"""The greatest number of expired journal rows that one call of `recover` deletes."""

CLAIM_RUN = """SELECT * FROM "agentrunner".claim_run(%(thread_id)s::text, %(run_id)s::text, %(input)s::text,
  %(agent_id)s::text, %(scope)s::text, %(owner)s::text, %(call)s::bigint, make_interval(secs => %(ttl)s),
  %(ids)b::bytea[])"""

# Arrays are sent in binary (`%b`). As text, which is psycopg's default for them, they cost twenty times as much.
APPEND_BATCHES = """SELECT "agentrunner".append(%(threads)b::text[], %(tokens)b::bigint[], %(firsts)b::bigint[],
  %(lasts)b::bigint[], %(frames)b::bytea[], make_interval(secs => %(ttl)s))"""

# Most commits have a single batch, and this is faster for it.
APPEND_BATCH = """SELECT "agentrunner".append_one(%(thread)s::text, %(token)s::bigint, %(first)s::bigint,
  %(last)s::bigint, %(frames)s::bytea, make_interval(secs => %(ttl)s))"""
KEPT, KEPT_AND_FOLLOWED, LEASE_LOST, MISFIT = range(4)
"""Outcomes of an append.

`KEPT_AND_FOLLOWED`: another process must be notified. `MISFIT`: the batch does not follow the run's last frames.
"""

# Locks rows in the same order as appends do, so that the two never wait for each other.
RENEW_LEASES = """WITH held AS (
  SELECT l.thread_id, l.token FROM "agentrunner".live_runs l
    JOIN unnest(%(threads)b::text[], %(tokens)b::bigint[]) AS given (thread_id, token) USING (thread_id, token)
    ORDER BY l.thread_id FOR UPDATE OF l)
UPDATE "agentrunner".live_runs l SET expires_at = clock_timestamp() + make_interval(secs => %(ttl)s)
  FROM held WHERE l.thread_id = held.thread_id AND l.token = held.token RETURNING l.thread_id, l.token"""

# While the event loop is blocked, leases of runs that were asked to stop are not extended: if their process hangs,
# their threads become free only when these leases expire. It may not know the token of a new claim yet.
EXTEND_LEASES = """WITH held AS (
  SELECT l.thread_id, l.token FROM "agentrunner".live_runs l
    JOIN unnest(%(threads)b::text[], %(keys)b::bigint[]) AS given (thread_id, key)
      ON l.thread_id = given.thread_id AND given.key IN (l.token, l.call)
    WHERE l.stop_call IS NULL ORDER BY l.thread_id FOR UPDATE OF l)
UPDATE "agentrunner".live_runs l SET expires_at = clock_timestamp() + make_interval(secs => %(ttl)s)
  FROM held WHERE l.thread_id = held.thread_id AND l.token = held.token"""

FINISH_RUN = """SELECT "agentrunner".finish(%(thread_id)s::text, %(run_id)s::text, %(token)s::bigint, %(stored)s,
  %(last_seq)s::bigint, %(events)s::bytea, %(ids)b::bytea[], make_interval(secs => %(resume)s), %(is_retry)s)"""

CUT_JOURNAL = """WITH held AS (
  UPDATE "agentrunner".live_runs SET last_seq = %(seq)s::bigint - 1
    WHERE thread_id = %(thread_id)s::text AND token = %(token)s::bigint AND last_seq >= %(seq)s::bigint - 1
    RETURNING thread_id),
cut AS (DELETE FROM "agentrunner".journal j USING held
  WHERE j.thread_id = held.thread_id AND j.last_seq >= %(seq)s::bigint)
SELECT 1 FROM held"""

REQUEST_STOP = f"""UPDATE "agentrunner".live_runs SET stop_call = %(call)s::bigint
  WHERE thread_id = %(thread_id)s::text AND run_id = coalesce(%(run_id)s::text, run_id)
    AND (stop_call IS NULL OR stop_call = %(call)s::bigint) AND {IS_MEANT} RETURNING 1"""  # noqa: S608

LIST_STOPS = 'SELECT token FROM "agentrunner".live_runs WHERE stop_call IS NOT NULL'

LIST_LIVE_RUNS = """SELECT l.thread_id, l.run_id, l.token, l.first_seq, r.input, r.agent_id, coalesce(t.incarnation, 0),
    l.stop_call IS NOT NULL
  FROM "agentrunner".live_runs l JOIN "agentrunner".runs r USING (thread_id, run_id)
    LEFT JOIN "agentrunner".threads t USING (thread_id)"""

# Each owner, and whether one of its leases has expired. The row without an owner shows whether frames have expired.
LIST_OWNERS = """SELECT owner, bool_or(expires_at < clock_timestamp()) FROM "agentrunner".live_runs
  WHERE %(thread_id)s::text IS NULL OR thread_id = %(thread_id)s::text GROUP BY owner
UNION ALL SELECT NULL, EXISTS (SELECT FROM "agentrunner".journal_expiry WHERE expires_at < now())"""

# Skip locked rows: those runs are being renewed, ended or taken over. Return also the runs that an earlier attempt of
# this call has taken over. An owner that is alive on this machine keeps an expired lease.
TAKE_OVER_RUNS = """WITH dead AS (
  SELECT thread_id FROM "agentrunner".live_runs
    WHERE (%(thread_id)s::text IS NULL OR thread_id = %(thread_id)s::text)
      AND (owner = ANY (%(gone)b::text[]) OR call = %(call)s::bigint
        OR expires_at < clock_timestamp() AND token <> ALL (%(held)b::bigint[]) AND call <> ALL (%(held)b::bigint[])
          AND (owner <> ALL (%(running)b::text[]) OR stop_call IS NOT NULL))
    FOR UPDATE SKIP LOCKED)
UPDATE "agentrunner".live_runs l SET token = nextval('"agentrunner".tokens'), owner = %(owner)s,
    call = %(call)s::bigint, expires_at = clock_timestamp() + make_interval(secs => %(ttl)s)
  FROM dead JOIN "agentrunner".live_runs USING (thread_id) JOIN "agentrunner".runs r USING (thread_id, run_id)
    LEFT JOIN "agentrunner".threads t USING (thread_id)
  WHERE l.thread_id = dead.thread_id
  RETURNING l.thread_id, l.run_id, l.token, l.first_seq, r.input, r.agent_id, coalesce(t.incarnation, 0)"""

TRIM_JOURNAL = 'SELECT "agentrunner".trim_journal(%(rows)s)'
TRIM_LEFTOVERS = """DELETE FROM "agentrunner".leftovers l WHERE NOT EXISTS (
  SELECT FROM "agentrunner".journal_expiry e WHERE e.thread_id = l.thread_id) RETURNING 1"""


class PostgresRuns(PostgresHistory):
    """The store's methods that write runs."""

    lease_ttl: float
    max_run_bytes: int
    _resume_window: float
    _listener: PostgresListener
    _owner: Owner | None
    _leases: HeldLeases | None
    _appends: GroupCommit[Append]

    async def claim(
        self,
        thread_id: str,
        run_id: str,
        input: str,
        agent_id: str | None,
        message_ids: list[str],
        scope: str | None,
    ) -> tuple[Claim, dict[str, int]]:
        check_texts(thread_id=thread_id, run_id=run_id, input=input, agent_id=agent_id, scope=scope)
        with self._require_leases().expect(thread_id) as call:
            [(outcome, token, first_seq, incarnation, known, known_seqs)] = await self._client.fetch(
                CLAIM_RUN,
                thread_id=thread_id,
                run_id=run_id,
                input=input,
                agent_id=agent_id,
                scope=scope,
                owner=str(self._owner),
                call=call,
                ttl=self.lease_ttl,
                ids=[encode_message_id(message_id) for message_id in message_ids],
            )
            match outcome:
                case "ThreadNotFound":
                    raise make_thread_not_found(thread_id)
                case "ThreadAlreadyRunning":
                    raise ThreadAlreadyRunning
                case "RunAlreadyExists":
                    raise make_run_already_exists(run_id)
            claim = Claim(thread_id, run_id, token, first_seq, input, agent_id, incarnation)
            self._hold(claim)
        return claim, match_known_ids(message_ids, zip(known, known_seqs, strict=True))

    async def append(self, claim: Claim, batch: Batch, barrier: bool) -> None:
        try:
            await self._appends.add((claim, batch))
        except _MisfitError:
            if not await self._cut(claim, batch.first_seq):
                raise
            await self._appends.add((claim, batch))
        self._note_extension(claim)

    async def _cut(self, claim: Claim, seq: int) -> bool:
        """Delete a live run's frames from `seq` on if they cannot be read.

        Return whether they were deleted. The owner that has recovered such a run continues it before those frames.
        """
        page = await self.journal(claim.thread_id, seq - 1, None, 1)
        if page.live_token != claim.token or can_replay(claim, seq, page.frames):
            return False
        return bool(await self._client.fetch(CUT_JOURNAL, thread_id=claim.thread_id, token=claim.token, seq=seq))

    async def _commit_appends(self, appends: list[Append]) -> list[Exception | None]:
        """Commit batches of many runs in one statement, and return an outcome for each."""
        codes = [await self._append_batch(*appends[0])] if len(appends) == 1 else await self._append_batches(appends)
        outcomes: list[Exception | None] = []
        for (claim, batch), code in zip(appends, codes, strict=True):
            if code == KEPT_AND_FOLLOWED:
                self._listener.notify(claim.thread_id)
            if code == LEASE_LOST:
                outcomes.append(make_lease_lost(claim))
            elif code == MISFIT:
                outcomes.append(_make_misfit(claim, batch))
            else:
                outcomes.append(None)
        return outcomes

    async def _append_batch(self, claim: Claim, batch: Batch) -> int:
        values = {
            "thread": claim.thread_id,
            "token": claim.token,
            "first": batch.first_seq,
            "last": batch.last_seq,
            "frames": bytes(batch),
            "ttl": self.lease_ttl,
        }
        [(code,)] = await self._client.fetch_prepared(APPEND_BATCH, values)
        return int(code)

    async def _append_batches(self, appends: list[Append]) -> list[int]:
        # All processes lock rows in the same order, so that no two of them wait for each other.
        order = sorted(range(len(appends)), key=lambda n: (appends[n][0].thread_id, appends[n][1].first_seq))
        claims, batches = [appends[n][0] for n in order], [appends[n][1] for n in order]
        frames = [bytes(batch) for batch in batches]
        values = {
            "threads": [claim.thread_id for claim in claims],
            "tokens": [claim.token for claim in claims],
            "firsts": [batch.first_seq for batch in batches],
            "lasts": [batch.last_seq for batch in batches],
            "frames": frames,
            "ttl": self.lease_ttl,
        }
        if sum(map(len, frames)) > LARGE_COMMIT_BYTES:
            rows = await self._client.fetch(APPEND_BATCHES, large=True, **values)
        else:
            rows = await self._client.fetch_prepared(APPEND_BATCHES, values)
        codes = [KEPT] * len(appends)
        for n, (code,) in zip(order, rows, strict=True):
            codes[n] = code
        return codes

    async def renew(self, claims: list[Claim]) -> list[bool]:
        held = await self._client.fetch(
            RENEW_LEASES,
            threads=[claim.thread_id for claim in claims],
            tokens=[claim.token for claim in claims],
            ttl=self.lease_ttl,
        )
        for claim in claims:
            self._note_extension(claim)
        return [(claim.thread_id, claim.token) in held for claim in claims]

    def _require_leases(self) -> HeldLeases:
        self._client.require_pool()
        if self._leases is None:
            raise StoreClosed("the store is closed")
        return self._leases

    def _hold(self, claim: Claim) -> None:
        if self._leases is not None:
            self._leases.hold(claim)

    def _note_extension(self, claim: Claim) -> None:
        if self._leases is not None:
            self._leases.note_extension(claim)

    async def release(self, claim: Claim) -> None:
        if self._leases is not None:
            self._leases.release(claim)

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        if stored:
            check_run_size(claim, recorder, self.max_run_bytes)
        try:
            is_done = await self._finish(claim, recorder, stored)
        finally:
            # Even after a failure, because the caller may not try again.
            await self.release(claim)
        if not is_done:
            raise make_lease_lost(claim)
        self._listener.notify(claim.thread_id)

    async def _finish(self, claim: Claim, recorder: Recorder, stored: bool) -> bool:
        """End a run; return false if the claim is not the thread's newest."""
        events = await compact_run(recorder) if stored else None
        ids = await list_message_ids(recorder) if stored else []
        [(is_done,)] = await self._client.fetch(
            FINISH_RUN,
            large=events is not None and len(events) > LARGE_BYTES,
            thread_id=claim.thread_id,
            run_id=claim.run_id,
            token=claim.token,
            stored=stored,
            last_seq=recorder.last_seq,
            events=events,
            ids=[encode_message_id(message_id) for message_id in ids],
            resume=self._resume_window,
        )
        return bool(is_done)

    async def request_stop(self, thread_id: str, run_id: str | None, *, guard: ThreadGuard | None = None) -> bool:
        if not is_storable(thread_id) or not is_storable(run_id or ""):
            return False
        rows = await self._client.fetch(
            REQUEST_STOP, thread_id=thread_id, run_id=run_id, call=draw_call_number(), **encode_guard(guard)
        )
        return bool(rows)

    async def live(self, thread_id: str | None = None) -> list[tuple[Claim, bool]]:
        if thread_id is None:
            rows = await self._client.fetch(LIST_LIVE_RUNS)
        elif is_storable(thread_id):
            rows = await self._client.fetch(
                f"{LIST_LIVE_RUNS} WHERE l.thread_id = %(thread_id)s::text", thread_id=thread_id
            )
        else:
            rows = []
        return [(Claim(*row), is_stopping) for *row, is_stopping in rows]

    async def stops(self) -> list[int]:
        return [token for (token,) in await self._client.fetch(LIST_STOPS)]

    async def recover(self, thread_id: str | None = None) -> list[Claim]:
        if thread_id is not None and not is_storable(thread_id):
            return []
        has_ended_lease = dict(await self._client.fetch(LIST_OWNERS, thread_id=thread_id))
        has_expired_frames = has_ended_lease.pop(None)
        owners: dict[str, list[str]] = {"gone": [], "here": [], "running": [], "unknown": []}
        for owner in has_ended_lease:
            owners[_core.Owner.liveness(owner)].append(owner)
        claims = []
        if owners["gone"] or any(has_ended_lease.values()):
            rows = await self._client.fetch(
                TAKE_OVER_RUNS,
                thread_id=thread_id,
                call=draw_call_number(),
                gone=owners["gone"],
                held=[token for owner in owners["here"] for token in _core.Owner.held_tokens(owner)],
                running=owners["running"],
                owner=str(self._owner),
                ttl=self.lease_ttl,
            )
            claims = [Claim(*row) for row in rows]
            for claim in claims:
                self._hold(claim)
                self._listener.notify(claim.thread_id)
        if has_expired_frames:
            await self._client.fetch(TRIM_JOURNAL, rows=TRIMMED_ROWS)
            await self._client.fetch(TRIM_LEFTOVERS)
        return claims


class _MisfitError(StoreError):
    """Raised when a batch does not follow the run's last frames in the database."""


def _make_misfit(claim: Claim, batch: Batch) -> _MisfitError:
    return _MisfitError(
        f"events {batch.first_seq} to {batch.last_seq} of run '{claim.run_id}' do not follow the last ones kept of "
        f"thread '{claim.thread_id}'; nothing was written"
    )
