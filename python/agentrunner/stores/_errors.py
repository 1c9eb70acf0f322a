"""Errors that several stores raise, each with the same text in all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrunner.errors import CursorAhead, CursorExpired, LeaseLost, RunAlreadyExists, ThreadNotFound

if TYPE_CHECKING:
    from agentrunner._core import Claim


def make_thread_not_found(thread_id: str) -> ThreadNotFound:
    """Return the error for a thread that the store does not have."""
    return ThreadNotFound(f"there is no thread '{thread_id}'")


def make_run_already_exists(run_id: str) -> RunAlreadyExists:
    """Return the error for a claim with a run id that was used before."""
    return RunAlreadyExists(
        f"run '{run_id}' already exists; a run id can be used only once in a thread, so retry with a new one"
    )


def make_lease_lost(claim: Claim) -> LeaseLost:
    """Return the error for a claim that is not its thread's newest."""
    return LeaseLost(
        f"run '{claim.run_id}' no longer holds thread '{claim.thread_id}': it has ended, or its lease has ended and "
        "another owner took over; nothing was written"
    )


def make_cursor_ahead(thread_id: str, seq: int) -> CursorAhead:
    """Return the error for a cursor after everything that the thread ever had."""
    return CursorAhead(f"cursor {seq} is ahead of thread '{thread_id}'; connect without a cursor")


def make_cursor_of_deleted_thread(thread_id: str, seq: int) -> CursorExpired:
    """Return the error for a cursor of an earlier incarnation of a thread."""
    return CursorExpired(
        f"cursor {seq} belongs to a deleted thread with the id '{thread_id}'; connect without a cursor"
    )


def make_cursor_expired(thread_id: str, seq: int) -> CursorExpired:
    """Return the error for a cursor inside a finished run whose raw events are gone."""
    return CursorExpired(
        f"cursor {seq} of thread '{thread_id}' is inside a finished run whose raw events are no longer kept; "
        "connect without a cursor to get the whole thread"
    )
