"""Texts about an error: for the readers of a run, and for the log."""

from __future__ import annotations

import secrets

from agentrunner.errors import (
    AgentError,
    AgentRunnerError,
    InvalidEvent,
    InvalidEventSequence,
    LeaseLost,
    RunRefused,
    StoreError,
)

ERROR_ID_BYTES = 6
AGENT_FAILED = "The agent failed: "
"""Beginning of the text about an exception that is not shown."""
ID_ATTRIBUTE = "agentrunner_error_id"


def error_id(error: BaseException) -> str:
    """Return the id under which the log has an error, the same each time."""
    name: str | None = getattr(error, ID_ATTRIBUTE, None)
    if name is None:
        name = secrets.token_hex(ERROR_ID_BYTES)
        setattr(error, ID_ATTRIBUTE, name)
    return name


def error_text(error: BaseException) -> str:
    """Return an error's own text, or the name of its type if it has none."""
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - the `__str__` of a user's class may fail in any way
        return type(error).__name__


def public_text(error: BaseException, *, shows_errors: bool = False) -> str:
    """Return the text about an error that the readers of a run may see.

    The texts of this package's errors are written for readers, except those of stores, which may contain addresses. Any
    other exception's text may contain anything, such as a password in a URL, unless the application `shows_errors`.
    """
    if isinstance(error, StoreError):
        return f"The store could not be read or written; the server's log has the error under the id {error_id(error)}"
    if shows_errors or isinstance(error, AgentRunnerError):
        return error_text(error)
    return f"{AGENT_FAILED}internal error, which the server's log has under the id {error_id(error)}"


def error_code(error: BaseException) -> str | None:
    """Return the code of the `RUN_ERROR` for an error, or `None` for the default code."""
    if isinstance(error, InvalidEventSequence):
        return "INVALID_EVENT_SEQUENCE"
    if isinstance(error, InvalidEvent):
        return error.code
    if isinstance(error, LeaseLost):
        return "LEASE_LOST"
    if isinstance(error, StoreError):
        return "STORE_ERROR"
    return error.code if isinstance(error, (RunRefused, AgentError)) else None


def needs_traceback(error: BaseException) -> bool:
    """Return whether an error's text does not tell all that the log needs."""
    return not isinstance(error, (AgentError, InvalidEvent, InvalidEventSequence, LeaseLost, RunRefused))
