"""Texts and codes for an error: what the readers of a run see, and what the log needs."""

from __future__ import annotations

import secrets

from agentrunner._text import replace_halves
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
    # Not with `getattr` and `setattr`, which the class of an error may forbid, as a frozen dataclass does.
    name: str = error.__dict__.setdefault(ID_ATTRIBUTE, secrets.token_hex(ERROR_ID_BYTES))
    return name


def get_error_text(error: BaseException) -> str:
    """Return an error's own text, or the name of its type if it has none.

    U+FFFD replaces each lone surrogate, because the text becomes part of an event.
    """
    try:
        return replace_halves(str(error)) or type(error).__name__
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
    if not isinstance(error, (RunRefused, AgentError)) or error.code is None:
        return None
    return replace_halves(str(error.code))


def needs_traceback(error: BaseException) -> bool:
    """Return whether the log needs the traceback of an error besides its text."""
    if isinstance(error, InvalidEvent):
        # Only the log has the text of an exception of a value's own serializer. A `TypeError` names the value's type.
        return error.__cause__ is not None and not isinstance(error.__cause__, (AgentRunnerError, TypeError))
    return not isinstance(error, (AgentError, InvalidEventSequence, LeaseLost, RunRefused))
