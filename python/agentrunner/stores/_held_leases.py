"""Extend leases in a thread, because an agent can block the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from agentrunner._core import Owner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agentrunner._core import Claim

logger = logging.getLogger("agentrunner")

CHECK_FRACTION = 0.1
"""Fraction of a lease's duration between two checks by the thread."""
DUE_FRACTION = 0.4
"""Fraction of a lease's duration after which the thread extends it; an unblocked event loop does so earlier."""

JOIN_SECONDS = 5.0
"""Seconds that closing waits for the thread, which may be waiting for a server that does not respond."""


class HeldLease(NamedTuple):
    """A lease that this process uses."""

    thread_id: str
    key: int
    """Fencing token of its claim, or the number of the call that may get the claim."""


class LeaseConnection(Protocol):
    """A connection of the thread's own to the store's server."""

    def extend(self, leases: list[HeldLease]) -> None:
        """Extend these leases, except those of runs that were asked to stop."""

    def close(self) -> None:
        """Close the connection."""


class HeldLeases:
    """The claims that a store's callers use, whose leases last as long as this process runs.

    The thread starts with the first claim, and connects only when the event loop is late. `aclose` ends both.
    """

    def __init__(self, owner: Owner, lease_ttl: float, connect: Callable[[], LeaseConnection]) -> None:
        self._owner = owner
        self._check_seconds = max(lease_ttl * CHECK_FRACTION, 0.005)
        self._due_seconds = lease_ttl * DUE_FRACTION
        self._connect = connect
        self._lock = threading.Lock()
        self._extended_at: dict[int, float] = {}
        """Time at which each lease was last extended, by its key, on the monotonic clock."""
        self._leases: dict[int, HeldLease] = {}
        self._wake = threading.Event()
        self._is_closing = False
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def expect(self, thread_id: str) -> Iterator[int]:
        """Extend the lease that a call may get, whose reply may wait for the event loop.

        Yield a number for the call, under which the store must write the lease.
        """
        call = draw_call_number()
        self._add(HeldLease(thread_id, call))
        try:
            yield call
        finally:
            self._remove(call)

    def hold(self, claim: Claim) -> None:
        """Extend a claim's lease from now on, until it is released."""
        self._add(HeldLease(claim.thread_id, claim.token))

    def note_extension(self, claim: Claim) -> None:
        """Note that the event loop has extended a claim's lease."""
        if claim.token in self._extended_at:
            self._extended_at[claim.token] = time.monotonic()

    def release(self, claim: Claim) -> None:
        """Stop extending a claim's lease."""
        self._remove(claim.token)

    def _add(self, lease: HeldLease) -> None:
        with self._lock:
            self._leases[lease.key] = lease
            self._extended_at[lease.key] = time.monotonic()
            is_first = len(self._leases) == 1
        self._owner.hold(lease.key)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="agentrunner-leases", daemon=True)
            self._thread.start()
        elif is_first:
            self._wake.set()

    def _remove(self, key: int) -> None:
        with self._lock:
            self._leases.pop(key, None)
            self._extended_at.pop(key, None)
        self._owner.release(key)

    async def aclose(self) -> None:
        """End the thread and its connection; the thread ends later if its server does not respond."""
        self._is_closing = True
        self._wake.set()
        if (thread := self._thread) is not None:
            # With a limit, because the interpreter waits at its exit for the thread that joins.
            await asyncio.to_thread(thread.join, JOIN_SECONDS)

    def _work(self) -> None:
        connection: LeaseConnection | None = None
        while not self._is_closing:
            self._wake.wait(self._check_seconds if self._leases else None)
            self._wake.clear()
            due = self._list_due()
            if connection is not None and not self._leases:
                _close(connection)
                connection = None
            if not due or self._is_closing:
                continue
            try:
                connection = connection or self._connect()
                connection.extend(due)
            except Exception as error:  # noqa: BLE001 - the client library may raise anything; the next check tries again
                logger.warning("the leases of %s runs could not be extended: %s", len(due), type(error).__name__)
                _close(connection)
                connection = None
            else:
                self._note_extensions(due)
        _close(connection)

    def _list_due(self) -> list[HeldLease]:
        due_at = time.monotonic() - self._due_seconds
        with self._lock:
            return [lease for key, lease in self._leases.items() if self._extended_at[key] <= due_at]

    def _note_extensions(self, leases: list[HeldLease]) -> None:
        now = time.monotonic()
        with self._lock:
            self._extended_at.update((lease.key, now) for lease in leases if lease.key in self._leases)


def draw_call_number() -> int:
    """Return a random number by which a server recognizes a call that is sent again."""
    return secrets.randbits(63)


def is_dead(owner: str, has_ended: bool) -> bool:
    """Return whether another process may take over a lease, given whether it has expired."""
    liveness = Owner.liveness(owner)
    return liveness == "gone" or (has_ended and liveness == "unknown")


def _close(connection: LeaseConnection | None) -> None:
    if connection is not None:
        with contextlib.suppress(Exception):
            connection.close()
