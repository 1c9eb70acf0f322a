"""Texts and codes for an error: what the readers of a run see, and what the log needs."""

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
"""Beginning of the text for an exception whose own text is not shown."""
ID_ATTRIBUTE = "agentrunner_error_id"


def get_error_id(error: BaseException) -> str:
    """Return the id that names an error in the log; the same error always has the same id."""
    name: str | None = getattr(error, ID_ATTRIBUTE, None)
    if name is None:
        name = secrets.token_hex(ERROR_ID_BYTES)
        setattr(error, ID_ATTRIBUTE, name)
    return name


def get_error_text(error: BaseException) -> str:
    """Return an error's own text, or the name of its type if it has none."""
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - the `__str__` of a user's class may fail in any way
        return type(error).__name__


def get_public_text(error: BaseException, *, shows_errors: bool = False) -> str:
    """Return the text that the readers of a run may see for an error.

    This package's errors are written for readers, except those of stores, which may contain addresses. The text of any
    other exception may contain secrets, such as a password in a URL, so it is shown only if `shows_errors` is true.
    """
    if isinstance(error, StoreError):
        return f"The store could not be read or written; look up error id {get_error_id(error)} in the server's log"
    if shows_errors or isinstance(error, AgentRunnerError):
        return get_error_text(error)
    return f"{AGENT_FAILED}internal error; look up error id {get_error_id(error)} in the server's log"


def get_error_code(error: BaseException) -> str | None:
    """Return the code of the `RUN_ERROR` for an error; `None` for the default code."""
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
    """Return whether the log needs the traceback of an error besides its text."""
    return not isinstance(error, (AgentError, InvalidEvent, InvalidEventSequence, LeaseLost, RunRefused))
