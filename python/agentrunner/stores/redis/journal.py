"""The journals: one Redis stream for each run, fenced by the ids of its entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agentrunner._core import Batch, Frames
from agentrunner.errors import StoreError
from agentrunner.stores._errors import make_lease_lost
from agentrunner.stores._group_commit import GroupCommit
from agentrunner.stores.redis.scripts import encode_guard, encode_optional_number

if TYPE_CHECKING:
    from agentrunner._core import Claim
    from agentrunner.stores.redis.client import RedisClient
    from agentrunner.stores.types import ThreadGuard


class RedisJournalPage(NamedTuple):
    """Raw frames, and the tokens of the run that may append more."""

    frames: Frames
    live_token: int | None
    """Token of the thread's live run, if its lease is in Redis too."""
    writer_token: int | None
    """Token under which the thread's newest journal is written; `None` after its end."""


class RedisJournals:
    """Appends, with one commit for many runs of this process, and reads.

    An append extends the run's lease to `lease_ms`; 0 means that the lease is in another store.
    """

    def __init__(self, client: RedisClient, lease_ms: int) -> None:
        self._client = client
        self._lease_ms = lease_ms
        # While the server works on one commit, the other is prepared.
        self._commits: list[GroupCommit[tuple[Claim, Batch]]] = [GroupCommit(self._commit) for _ in range(2)]

    async def append(self, claim: Claim, batch: Batch) -> None:
        """Store a batch. Raises `LeaseLost`."""
        await self._commits[claim.token % len(self._commits)].add((claim, batch))

    async def wait_until_idle(self) -> None:
        """Wait until no batch is left to store."""
        for commit in self._commits:
            await commit.wait_until_idle()

    async def _commit(self, appends: list[tuple[Claim, Batch]]) -> list[Exception | None]:
        calls = [
            (
                claim.thread_id.encode(), claim.first_seq, claim.token,
                batch.first_seq - 1, batch.last_seq, bytes(batch), self._lease_ms,
            )
            for claim, batch in appends
        ]  # fmt: skip
        replies = await self._client.run_script_for_each("append", calls)
        return [_read_outcome(claim, reply) for (claim, _), reply in zip(appends, replies, strict=True)]

    async def read(
        self, thread_id: str, after: int, until: int | None, limit: int, guard: ThreadGuard | None
    ) -> RedisJournalPage:
        """Return about `limit` bytes of raw frames, as `Store.journal` does."""
        live_token, writer_token, entries = await self._client.run_script(
            "journal", thread_id.encode(), after, encode_optional_number(until), limit, *encode_guard(guard)
        )
        data = bytearray()
        for before, last, frames in entries:
            if len(data) >= limit:
                break
            batch = Batch(frames, int(before) + 1, int(last) - int(before))
            data += batch.after(after, limit - len(data))
        return RedisJournalPage(
            Frames(bytes(data)),
            None if live_token is None else int(live_token),
            None if writer_token is None else int(writer_token),
        )


def _read_outcome(claim: Claim, reply: bytes | Exception) -> Exception | None:
    if isinstance(reply, Exception):
        return reply
    if reply == b"lost":
        return make_lease_lost(claim)
    if reply == b"gap":
        return StoreError(
            f"the Redis server has lost events of run '{claim.run_id}' of thread '{claim.thread_id}' that it had "
            "acknowledged: it was restarted before it had written them to disk, it was replaced by a replica that did "
            "not have all of them, or they were evicted or deleted; set appendonly yes and maxmemory-policy noeviction"
        )
    return None
