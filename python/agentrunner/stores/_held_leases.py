"""Extend leases in a thread, because an agent can block the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Protocol

from agentrunner._core import Owner

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner._core import Claim

logger = logging.getLogger("agentrunner")

CHECK_FRACTION = 0.1
"""Fraction of a lease's time between two checks of the thread."""
DUE_FRACTION = 0.4
"""Fraction of a lease's time after which the thread extends it; the event loop does so before, unless it is blocked."""


class LeaseConnection(Protocol):
    """A connection of the thread's own to the store's server."""

    def extend(self, claims: list[Claim]) -> None:
        """Extend the leases of these claims, except those of runs that were asked to stop."""

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
        """Time at which each token's lease was last extended, on the monotonic clock."""
        self._claims: dict[int, Claim] = {}
        self._wake = threading.Event()
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def hold(self, claim: Claim) -> None:
        """Extend a claim's lease from now on, until it is released."""
        with self._lock:
            self._claims[claim.token] = claim
            self._extended_at[claim.token] = time.monotonic()
            is_first = len(self._claims) == 1
        self._owner.hold(claim.token)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="agentrunner-leases", daemon=True)
            self._thread.start()
        elif is_first:
            self._wake.set()

    def note_extension(self, claim: Claim) -> None:
        """Note that the event loop has extended a claim's lease."""
        if claim.token in self._extended_at:
            self._extended_at[claim.token] = time.monotonic()

    def release(self, claim: Claim) -> None:
        """Stop extending a claim's lease."""
        with self._lock:
            self._claims.pop(claim.token, None)
            self._extended_at.pop(claim.token, None)
        self._owner.release(claim.token)

    async def aclose(self) -> None:
        """End the thread and its connection."""
        self._is_closing = True
        self._wake.set()
        if (thread := self._thread) is not None:
            await asyncio.to_thread(thread.join)

    def _work(self) -> None:
        connection: LeaseConnection | None = None
        while not self._is_closing:
            self._wake.wait(self._check_seconds if self._claims else None)
            self._wake.clear()
            due = self._list_due()
            if connection is not None and not self._claims:
                _close(connection)
                connection = None
            if not due or self._is_closing:
                continue
            try:
                connection = connection or self._connect()
                connection.extend(due)
            except Exception as error:  # noqa: BLE001 - whatever the client library raises, the next check tries again
                logger.warning("the leases of %s runs could not be extended: %s", len(due), type(error).__name__)
                _close(connection)
                connection = None
            else:
                for claim in due:
                    self.note_extension(claim)
        _close(connection)

    def _list_due(self) -> list[Claim]:
        due_at = time.monotonic() - self._due_seconds
        with self._lock:
            return [claim for token, claim in self._claims.items() if self._extended_at[token] <= due_at]


def is_dead(owner: str, has_ended: bool) -> bool:
    """Return whether another process may take over a lease, which has ended or not."""
    liveness = Owner.liveness(owner)
    return liveness == "gone" or (has_ended and liveness == "unknown")


def _close(connection: LeaseConnection | None) -> None:
    if connection is not None:
        with contextlib.suppress(Exception):
            connection.close()
