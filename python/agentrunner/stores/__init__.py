"""The store protocol: what an `AgentRunner` needs of the place where threads are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from agentrunner._core import Batch, Claim, Frames, Recorder
    from agentrunner.types import AnyScope, ThreadSummary

    Cursor: TypeAlias = tuple[int, int | None]
    """`(seq, None)`: behind a raw event; `(seq, index)`: behind that frame of the form compacted up to `seq`."""


class HistoryPage(NamedTuple):
    """Stored runs as compacted frames."""

    frames: Frames
    next: Cursor | None
    """Where to read on; `None` when there is no more."""


class JournalPage(NamedTuple):
    """Raw frames."""

    frames: Frames
    live_token: int | None
    """The fencing token of the thread's live run at the moment the frames were read."""


class Place(NamedTuple):
    """Where a cursor is."""

    kind: Literal["stored", "journal", "live"]
    """`stored`: between runs, or in a stored form; `journal`: in a finished run whose raw frames are kept; `live`."""
    first_seq: int
    """With `journal`: the run's first sequence number."""
    last_seq: int
    """With `journal`: the run's last sequence number."""


class Store(Protocol):
    """Keeps threads. Every method may raise `StoreError`; `StoreClosed` after `aclose`.

    A thread's live run is held under a lease by the one `Claim` whose fencing token is the newest; `append` and
    `finish` of any other raise `LeaseLost` and write nothing. What a method has returned from is durable.
    """

    lease_ttl: float
    """Seconds after which a silent owner loses its threads."""
    shared: bool
    """Whether other processes may use the same threads."""

    async def open(self) -> None:
        """Bind to the running event loop and make ready."""

    async def aclose(self) -> None:
        """Write what is queued and let go of everything. May be called twice."""

    async def claim(
        self,
        thread_id: str,
        run_id: str,
        input: str,
        agent_id: str | None,
        message_ids: list[str],
        scope: str | None,
    ) -> tuple[Claim, list[str]]:
        """Take the thread for a run, atomically; give the claim and those of `message_ids` the thread knows.

        A new thread is the scope's from its first claim on. Raises, changing nothing: `ThreadNotFound` for a thread of
        another scope, before anything else; `ThreadAlreadyRunning`; `RunAlreadyExists` for a run id used before in any
        thread.
        """
        ...

    async def append(self, claim: Claim, batch: Batch, barrier: bool) -> None:
        """Keep a batch of frames, all or none, and extend the lease. A barrier must outlive a power cut."""

    async def renew(self, claims: list[Claim]) -> list[bool]:
        """Extend leases; false for each that is no longer held."""
        ...

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        """End the run in one step: its compacted events and message ids kept (if `stored`), its lease gone."""

    async def request_stop(self, thread_id: str, run_id: str | None) -> bool:
        """Mark the live run (only that one, with `run_id`) as to be stopped by its owner; false if there is none."""
        ...

    async def live(self, thread_id: str | None = None) -> list[tuple[Claim, bool]]:
        """Give the live runs, each with whether a stop is asked for."""
        ...

    async def stops(self) -> list[int]:
        """Give the fencing tokens of live runs that are asked to stop; asked for ten times a second."""
        ...

    async def recover(self, thread_id: str | None = None) -> list[Claim]:
        """Take over, under new tokens, live runs whose owner is gone or whose lease has ended."""
        ...

    async def journal(self, thread_id: str, after: int, until: int | None, limit: int) -> JournalPage:
        """Give raw frames behind a sequence number, about `limit` bytes; of no run that begins after `until`."""
        ...

    async def history(self, thread_id: str, after: Cursor, until: int | None, limit: int) -> HistoryPage:
        """Give stored runs' frames behind a cursor, of runs that begin before `until`: whole runs, about `limit` bytes.

        A run that cannot be read is left out.
        """
        ...

    async def locate(self, thread_id: str, cursor: Cursor) -> Place:
        """Say where a cursor is. Raises `CursorExpired`, `CursorAhead`."""
        ...

    async def threads(
        self,
        limit: int,
        before: tuple[int, str] | None,
        include_archived: bool,
        agent_id: str | None,
        scope: str | AnyScope | None,
    ) -> list[ThreadSummary]:
        """List threads with a stored or live run, newest first, behind `(updated_at, thread_id)` of the page before."""
        ...

    async def thread(self, thread_id: str) -> ThreadSummary:
        """Give a thread that has a stored run or a live one. Raises `ThreadNotFound`."""
        ...

    async def rename(self, thread_id: str, name: str | None) -> None:
        """Name a thread. Raises `ThreadNotFound`."""

    async def archive(self, thread_id: str, archived: bool) -> None:
        """Mark a thread as archived or not. Raises `ThreadNotFound`."""

    async def delete(self, thread_id: str) -> None:
        """Remove a thread and all it has. Raises `ThreadNotFound`, `ThreadAlreadyRunning`."""

    async def clear(self, scope: str | AnyScope | None) -> None:
        """Remove every thread of the scope that has no live run."""
