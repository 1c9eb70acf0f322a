"""What the `openai` package raises, as errors of ours."""

from __future__ import annotations

import math
import re
from typing import Any

import openai

from agentrunner.errors import (
    LlmContextTooLong,
    LlmError,
    LlmOverloaded,
    LlmQuotaExhausted,
    LlmRateLimited,
    LlmRefused,
    LlmRequestInvalid,
    LlmUnauthorized,
    LlmUnreachable,
)
from agentrunner.runtime._secrets import masked

# Services say it in a code of their own, or in words only.
_TOO_LONG = re.compile(
    r"context.?(length|window|size)|maximum.{0,20}(prompt|input) length|(prompt|input|request).{0,20} too (long|large)"
    r"|too many (input )?tokens|reduce the length",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"content.?(filter|policy|management)|ResponsibleAI|moderation|flagged", re.IGNORECASE)
_QUOTA = re.compile(r"insufficient.?(quota|balance|funds|credit)|quota.?exceeded|billing|payment", re.IGNORECASE)


def mapped(error: openai.OpenAIError, model: str) -> LlmError:
    """Give what the package raised as an error of ours, worded for whoever waits for the answer.

    The service's own words are its `detail`, without what looks like a key: they may hold what was asked.
    """
    if isinstance(error, openai.APITimeoutError):
        return LlmUnreachable(f"the service of the model '{model}' did not answer in time")
    if isinstance(error, openai.APIConnectionError):
        return LlmUnreachable(f"the service of the model '{model}' cannot be reached, or broke the connection off")
    if not isinstance(error, openai.APIError):
        return LlmRequestInvalid(f"the model '{model}' cannot be asked", detail=masked(str(error)))
    code = " ".join(str(said) for said in (error.code, error.type) if said)
    status = error.status_code if isinstance(error, openai.APIStatusError) else _status(error.code, error.type)
    retry_after = _retry_after(error)
    kind, words = _kind(status, code, f"{code} {error.message}", waits=retry_after is not None)
    about = ", ".join(str(said) for said in (status, error.code or error.type, error.param) if said)
    text = words.format(model=model) + (f" ({about})" if about else "")
    return kind(masked(text), status=status, retry_after=retry_after, detail=masked(error.message))


def _kind(status: int | None, code: str, said: str, *, waits: bool) -> tuple[type[LlmError], str]:
    too_long, refused = _TOO_LONG.search(said), _REFUSED.search(said)
    if status in (401, 403) and not refused:
        return LlmUnauthorized, "the service of the model '{model}' does not take the key"
    if status == 402 or _QUOTA.search(code) or (status == 429 and not waits and _QUOTA.search(said)):
        return LlmQuotaExhausted, "the account at the service of the model '{model}' is used up"
    if status == 429 or "rate_limit" in code:
        return LlmRateLimited, "the service of the model '{model}' takes no more questions for now"
    # An error within a stream has no status.
    vague = status is None and not (too_long or refused or "invalid_request" in code)
    if vague or status in (408, 409) or (status or 0) >= 500:
        return LlmOverloaded, "the service of the model '{model}' is overloaded or has failed"
    if status == 413 or too_long:
        return LlmContextTooLong, "the conversation is longer than the model '{model}' takes"
    if refused:
        return LlmRefused, "the service of the model '{model}' withheld the answer"
    return LlmRequestInvalid, "the service of the model '{model}' does not take the question as it is"


def _status(*said: object) -> int | None:
    """Give the status an error within a stream names for itself."""
    for value in said:
        if str(value).isdigit() and 400 <= int(str(value)) <= 599:
            return int(str(value))
    return None


def _retry_after(error: openai.APIError) -> float | None:
    headers: Any = error.response.headers if isinstance(error, openai.APIStatusError) else {}
    for header, divisor in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers[header]) / divisor
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None
