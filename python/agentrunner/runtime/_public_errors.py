"""Texts about the errors of turns and tools that users may see."""

from __future__ import annotations

from agentrunner._failures import get_error_text
from agentrunner.running.current import current_run


def is_current_run(thread_id: str, run_id: str) -> bool:
    """Return whether the calling code belongs to this run, whose failure the runner logs."""
    try:
        run = current_run()
    except LookupError:
        return False
    return (run.thread_id, run.run_id) == (thread_id, run_id)


def describe_error(error: Exception) -> str:
    """Return the text about an error that is stored in the session.

    Within a run, its readers see the text, so the runner decides about it. Without one, only the caller does.
    """
    try:
        run = current_run()
    except LookupError:
        return get_error_text(error)
    return run.describe_error(error)
