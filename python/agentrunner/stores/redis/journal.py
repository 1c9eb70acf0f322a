"""The journals: a stream a run, fenced by the ids of its entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agentrunner._core import Batch, Frames
from agentrunner.errors import LeaseLost, StoreError
from agentrunner.stores._group_commit import GroupCommit
from agentrunner.stores.redis.scripts import optional

if TYPE_CHECKING:
    from agentrunner._core import Claim
    from agentrunner.stores.redis.client import RedisClient


class RedisJournalPage(NamedTuple):
    """Raw frames, and who may write more."""

    frames: Frames
    live_token: int | None
    """The token of the thread's live run, where its lease is kept here too."""
    writer: int | None
    """The token under which the thread's newest journal is written; `None` once that has ended."""


class RedisJournals:
    """Appends, grouped over all runs of the process, and reads. `lease_ms`: what an append extends the lease to."""

    def __init__(self, client: RedisClient, lease_ms: int) -> None:
        self._client = client
        self._lease_ms = lease_ms
        # While the server is at one group, the other is made ready.
        self._groups: list[GroupCommit[tuple[Claim, Batch]]] = [GroupCommit(self._commit) for _ in range(2)]

    async def append(self, claim: Claim, batch: Batch) -> None:
        """Keep a batch. Raises `LeaseLost`."""
        await self._groups[claim.token % len(self._groups)].add((claim, batch))

    async def wait_until_idle(self) -> None:
        """Wait until nothing is to be appended any more."""
        for group in self._groups:
            await group.wait_until_idle()

    async def _commit(self, items: list[tuple[Claim, Batch]]) -> list[Exception | None]:
        calls = [
            (
                claim.thread_id.encode(), claim.first_seq, claim.token,
                batch.first_seq - 1, batch.last_seq, bytes(batch), self._lease_ms,
            )
            for claim, batch in items
        ]  # fmt: skip
        answers = await self._client.run_each("append", calls)
        return [_outcome(claim, answer) for (claim, _), answer in zip(items, answers, strict=True)]

    async def read(self, thread_id: str, after: int, until: int | None, limit: int) -> RedisJournalPage:
        """Give raw frames behind a sequence number, about `limit` bytes; of no run that begins after `until`."""
        upto = None if until is None else str(until)
        live, writer, entries = await self._client.run("journal", thread_id.encode(), after, optional(upto), limit)
        data = bytearray()
        for before, last, frames in entries:
            if len(data) >= limit:
                break
            batch = Batch(frames, int(before) + 1, int(last) - int(before))
            data += batch.after(after, limit - len(data))
        return RedisJournalPage(
            Frames(bytes(data)), None if live is None else int(live), None if writer is None else int(writer)
        )  # fmt: skip


def lost(claim: Claim) -> LeaseLost:
    """Give the error for who no longer holds a thread."""
    return LeaseLost(
        f"run '{claim.run_id}' no longer holds thread '{claim.thread_id}': its lease ended and another owner took "
        "over; nothing was written"
    )


def _outcome(claim: Claim, answer: bytes | Exception) -> Exception | None:
    if isinstance(answer, Exception):
        return answer
    if answer == b"lost":
        return lost(claim)
    if answer == b"gap":
        return StoreError(
            f"the server has lost events of run '{claim.run_id}' that it had acknowledged: it was restarted without "
            "what was not yet on disk, or another took its place without having them all"
        )
    return None
