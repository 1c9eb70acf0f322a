"""Ask the policy whether a run is admitted."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

from agentrunner.errors import RunRefused

if TYPE_CHECKING:
    from agentrunner.harness.types import Policy, RunRequest

logger = logging.getLogger("agentrunner.harness")

ALLOWED_ANSWERS = (
    "True, None or an empty list to admit the run, or False, a reason, or a list or tuple of reasons to refuse it; "
    "a reason is a string with text"
)


async def ask_policy(policy: Policy | None, request: RunRequest) -> None:
    """Raise `RunRefused` if the policy refuses the run, fails, or returns no valid answer."""
    if policy is None:
        return
    try:
        answer = policy(request)
        if inspect.isawaitable(answer):
            answer = await answer
    except RunRefused:
        raise
    except Exception as error:
        logger.exception("the policy failed; run '%s' is refused", request.run_id)
        raise _refusal("the policy failed") from error
    if answer is True or answer is None:
        return
    reasons = _reasons(answer)
    if reasons is None:
        logger.error("the policy returned %r; run '%s' is refused", answer, request.run_id)
        raise _refusal(f"the policy returned {type(answer).__name__}, but it must return {ALLOWED_ANSWERS}")
    if reasons:
        raise _refusal(*reasons)


def _reasons(answer: Any) -> tuple[str, ...] | None:
    """Return the reasons to refuse a run, if any; `None` if the policy's answer is invalid."""
    if answer is False:
        return ("the policy refused it",)
    reasons = (answer,) if isinstance(answer, str) else answer
    # Only these: an empty value of another type, such as `{}` or `b""`, would admit the run by mistake.
    if not isinstance(reasons, (list, tuple)):
        return None
    return tuple(reasons) if all(isinstance(reason, str) and reason.strip() for reason in reasons) else None


def _refusal(*reasons: str) -> RunRefused:
    return RunRefused(f"the run is refused: {'; '.join(reasons)}", reasons)
